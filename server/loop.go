package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"

	"magent/codec"
	"magent/codec/text"
	"magent/server/config"
	"magent/upstream"
	"magent/upstream/dial"
	"magent/upstream/token"
)

// loop is the world of one event loop. Its fields are its goroutine's alone, but
// for those of the last group.
type loop struct {
	srv   *Server
	index int // its place among the server's
	cfg   *config.Config
	lanes []*lane   // by pool
	ways  []*routes // by listener
	all   *routes   // of our own client
	el    gnet.EventLoop
	poll  poller

	sessions  map[*session]struct{}
	dirty     []*session        // with replies to be written
	waiting   []*session        // with input held back
	ready     []*session        // of these, those that may go on
	leavings  []leaving         // that close when all is sent
	partings  []parting         // that close at their next boundary
	lingers   []*linger         // half-closed clients with replies to come
	guests    []*guest          // refills that take their turns here
	watched   []*session        // that have stopped in the middle of a command
	sinceLook int               // ticks since the last look at these
	silence   int               // looks that one of them may be silent for
	parts     [3][]byte         // of join
	key       [text.MaxKey]byte // of route
	sentKey   [text.MaxKey]byte // of routeSent
	movedKey  [text.MaxKey]byte // of moved
	scratch   []byte            // where requests and answers are put together
	opened    []byte            // where what came with TLS is put; nil: none has
	asText    []byte            // where binary requests are put as lines
	touch     []byte            // of touched
	rings     slotRings
	carries   *carry // spare ones, as are those below
	inquiries *inquiry
	source    token.Source
	buffers   [][]byte
	spare     int // bytes in buffers
	held      heldBuffers
	count     Counters
	ownCount  Counters // of our own client
	closed    int      // gates of lanes that are
	converges bool     // writes do in a lane
	migrating int      // lanes whose keys were elsewhere
	draining  bool
	hushed    []netip.Addr  // see Server.hush
	away      *giver        // has sessions at rest; nil: they stay
	sinceTick time.Duration // the beats since the last tick
	deferred  bool          // Run is to come
	batch     uint32        // when what it is to flush began to come, as of upstream.Group.Micros
	waits     waits
	census    *census // nil: nobody wants to know
	rules     rules
	witness   *witness // nil: nobody wants to know
	looks     uint32   // at idle clients

	// streamAbove is the size in bytes of a reply above which it goes to the
	// client as it comes. A smaller one that came in two reads goes in one write:
	// copying it costs less than a system call, and while the client has none of it
	// another node can be asked for it.
	streamAbove int
	lastID      uint32
	far         net.Conn // the other end of the anchor

	any struct {
		busy    atomic.Bool          // ticks are wanted
		ticking atomic.Bool          // a tick is on its way
		clients atomic.Int64         // sessions, those on their way in included
		parting atomic.Int64         // of these, those that part
		told    atomic.Pointer[part] // what it told of itself last; nil: nothing yet
	}
}

func newLoop(srv *Server) *loop {
	l := &loop{srv: srv, cfg: &srv.cfg, sessions: map[*session]struct{}{}}
	l.streamAbove = defaultStreamAbove
	l.rules = newRules(l.cfg)
	l.witness = newWitness(l.cfg)
	l.scratch = make([]byte, 0, scratchSize)
	l.asText = make([]byte, 0, asTextRoom)
	l.source = token.NewSource(rand.IntN(token.Sources))
	l.silence = looks(l.cfg.ClientTimeout)
	for _, p := range srv.pools {
		lane := newLane(l, p)
		l.lanes, l.converges = append(l.lanes, lane), l.converges || lane.converges
	}
	for i := range l.cfg.Listen {
		l.ways = append(l.ways, newRoutes(l.lanes, l.cfg.Listen[i].Routes))
	}
	l.all = &routes{lanes: l.lanes, spread: true}
	return l
}

// defaultStreamAbove is half of what a read takes at most.
const defaultStreamAbove = 64 << 10

// tick is how often a loop looks at what waits. One that hedges looks at its requests
// more often, at each beat: most of what nodes answer late they answer within a tick.
const (
	tick      = 5 * time.Millisecond
	hedgeBeat = time.Millisecond
)

// beat is how often the loop's requests are looked at, in all pools alike.
func (l *loop) beat() time.Duration {
	for i := range l.cfg.Pools {
		if !l.cfg.Pools[i].Hedge.Off() {
			return hedgeBeat
		}
	}
	return tick
}

// beats is d in beats, rounded up.
func (l *loop) beats(d time.Duration) uint32 { return uint32((d + l.beat() - 1) / l.beat()) }

// Run is the task that Defer asks for: it comes after a batch of events.
func (l *loop) Run(context.Context) error {
	l.deferred = false
	l.flush()
	l.settle()
	l.entertain()
	return nil
}

// flush writes what nodes are to be asked.
func (l *loop) flush() {
	for _, lane := range l.lanes {
		lane.group.Flush()
		if f := lane.previous(); f != nil {
			f.group.Flush()
		}
	}
}

// Defer asks gnet for Run. A task queued while serving events runs after the
// batch that follows, so that the write takes that batch's requests along.
func (l *loop) Defer() {
	l.busy()
	l.deferred = true
	l.el.Execute(context.Background(), l)
}

// settle writes the replies that have come, and lets sessions go on that waited
// for room. Every entry from the event loop ends with it.
func (l *loop) settle() {
	for _, lane := range l.lanes {
		lane.mend()
	}
	for len(l.dirty) > 0 || len(l.ready) > 0 {
		// A write that fails closes its session and may finish others' slots.
		for i := 0; i < len(l.dirty); i++ {
			l.dirty[i].flush()
		}
		clear(l.dirty)
		l.dirty = l.dirty[:0]
		for i := 0; i < len(l.ready); i++ {
			s := l.ready[i]
			s.ready = false
			s.waiting = s.waiting && !s.resume()
		}
		clear(l.ready)
		l.ready = l.ready[:0]
	}
}

// close fails what is in flight, for good, and what that leads to: the moves of what
// failed, the repairs that wait, the input of clients that was held back.
func (l *loop) close() {
	for more := true; more; {
		for _, lane := range l.lanes {
			lane.forget()
			lane.group.Close()
		}
		l.settle()
		more = slices.ContainsFunc(l.lanes, func(lane *lane) bool { return lane.group.Pending() > 0 })
	}
}

// wait notes that s has input that waits for slots or for its client to read.
func (l *loop) wait(s *session) {
	s.waiting = true
	if !s.listed {
		s.listed = true
		l.waiting = append(l.waiting, s)
		l.busy()
	}
}

// mayResume has s go on when the event at hand has been served.
func (l *loop) mayResume(s *session) {
	if !s.ready {
		s.ready = true
		l.ready = append(l.ready, s)
	}
}

// waitingTick lets sessions go on whose clients have read, which nobody tells.
func (l *loop) waitingTick() {
	kept := l.waiting[:0]
	for _, s := range l.waiting {
		if s.waiting = s.waiting && !s.resume(); s.waiting {
			kept = append(kept, s)
		} else {
			s.listed = false
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
}

// busy asks for ticks. The clock sleeps while no loop wants any.
func (l *loop) busy() {
	if l.any.busy.Load() {
		return
	}
	l.any.busy.Store(true)
	select {
	case l.srv.wake <- struct{}{}:
	default:
	}
}

// tickTask is a loop as the runnable of its clock.
type tickTask struct{ l *loop }

func (t tickTask) Run(context.Context) error {
	l := t.l
	l.any.ticking.Store(false)
	for _, lane := range l.lanes {
		lane.group.Tick()
		if f := lane.previous(); f != nil {
			f.group.Tick()
		}
	}
	if l.sinceTick += l.beat(); l.sinceTick >= tick {
		l.sinceTick = 0
		l.lingerTick()
		l.leavingTick()
		l.partingTick()
		l.stoppedTick()
		l.waitingTick()
		l.passTick()
	}
	l.flush()
	l.settle()
	l.entertain()
	if !l.working() && len(l.guests) == 0 && len(l.watched) == 0 && (l.away == nil || l.any.clients.Load() == 0) {
		l.any.busy.Store(false)
	}
	return nil
}

// working reports whether something is under way that a client or a node waits for.
func (l *loop) working() bool {
	return slices.ContainsFunc(l.lanes, (*lane).underWay) || len(l.waiting)+len(l.lingers)+len(l.leavings)+len(l.partings) > 0
}

// do runs f on the loop.
func (l *loop) do(f func()) error {
	return l.el.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		f()
		l.settle()
		return nil
	}))
}

// join is those of three parts that are not empty. It is good until the next call.
func (l *loop) join(parts ...[]byte) [][]byte {
	joined := l.parts[:0]
	for _, b := range parts {
		if len(b) > 0 {
			joined = append(joined, b)
		}
	}
	return joined
}

// route is the key of req, a client's command, as placement sees it. The view is good
// until the next command.
func (l *loop) route(line []byte, req *codec.Request) []byte {
	return text.RouteKey(req.Key.In(line), req.Meta, l.key[:])
}

// routeSent is route for a request that was parsed from what a node was sent. The
// view is good until the next call.
func (l *loop) routeSent(line []byte, req *codec.Request) []byte {
	return text.RouteKey(req.Key.In(line), req.Meta, l.sentKey[:])
}

// routeKey is routeSent for a request that has not been parsed.
func (l *loop) routeKey(p *upstream.Pending) []byte { return p.Route(l.sentKey[:]) }

// enroll gives nc to the loop and waits until it has it.
func (l *loop) enroll(ctx any, nc net.Conn) error {
	result, err := l.el.Enroll(gnet.NewContext(context.Background(), ctx), nc)
	if err != nil {
		nc.Close()
		return err
	}
	return (<-result).Err
}

// dialCause tells what this process is short of from what the node does.
func dialCause(err error) upstream.Cause {
	for _, shortage := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, shortage) {
			return upstream.CauseLocal
		}
	}
	if _, refused := errors.AsType[dial.Refused](err); refused {
		return upstream.CauseStranger
	}
	// Of the two errors of a dial that was too slow net gives the one that it comes by first.
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return upstream.CauseSlowDial
	}
	return upstream.CauseRefused
}

const (
	bufferSize  = 1 << 10 // bytes of a reply buffer when new
	bufferKeep  = 1 << 20 // bytes above which a reply buffer is not kept
	keepBuffers = 8 << 20 // bytes of reply buffers that a loop keeps to spare
)

func (l *loop) takeBuffer() []byte {
	if n := len(l.buffers); n > 0 {
		b := l.buffers[n-1]
		l.buffers = l.buffers[:n-1]
		l.spare -= cap(b)
		return b
	}
	return make([]byte, 0, bufferSize)
}

func (l *loop) giveBuffer(b []byte) {
	if cap(b) <= bufferKeep && l.spare+cap(b) <= keepBuffers {
		l.spare += cap(b)
		l.buffers = append(l.buffers, b[:0])
	}
}
