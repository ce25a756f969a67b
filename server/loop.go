package server

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"

	"magent/codec"
	"magent/codec/text"
	"magent/server/config"
	"magent/upstream"
	"magent/upstream/debt"
	"magent/upstream/health"
	"magent/upstream/repair"
	"magent/upstream/token"
)

// loop is the world of one event loop. Its fields are its goroutine's alone, but
// for those of the last group.
type loop struct {
	srv   *Server
	index int // its place among the server's
	cfg   *config.Config
	of    *config.Pool
	pool  *upstream.Pool
	group *upstream.Group
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
	parts     [3][]byte         // of join
	key       [text.MaxKey]byte // of route
	sentKey   [text.MaxKey]byte // of routeSent
	scratch   []byte            // where requests and answers are put together
	asText    []byte            // where binary requests are put as lines
	touch     []byte            // of touched
	rings     slotRings
	carries   *carry // spare ones, as are those below
	inquiries *inquiry
	repairs   *repair.Queue
	debts     []*debt.Journal // by node
	gate      gate
	retries   budget
	hedges    budget
	source    token.Source
	buffers   [][]byte
	spare     int // bytes in buffers
	held      heldBuffers
	count     Counters
	ownCount  Counters // of our own client
	greeting  string   // the node version that versions tells
	versions  []byte   // the answer to version
	draining  bool
	hushed    []netip.Addr  // see Server.hush
	away      *giver        // has sessions at rest; nil: they stay
	sinceTick time.Duration // the beats since the last tick
	deferred  bool          // Run is to come
	batch     uint32        // when what it is to flush began to come, as of upstream.Group.Micros
	waits     waits

	converges bool // writes go to the lead first, and it is looked at again
	parallel  bool // writes go to all replicas at once
	ackLead   bool // a write is answered as soon as the lead has it

	// streamAbove is the size in bytes of a reply above which it goes to the
	// client as it comes. A smaller one that came in two reads goes in one write:
	// copying it costs less than a system call, and while the client has none of it
	// another node can be asked for it.
	streamAbove int
	lastID      uint32
	far         *os.File // the other end of the anchor

	any struct {
		busy    atomic.Bool          // ticks are wanted
		ticking atomic.Bool          // a tick is on its way
		clients atomic.Int64         // sessions, those on their way in included
		parting atomic.Int64         // of these, those that part
		told    atomic.Pointer[part] // what it told of itself last; nil: nothing yet
	}
}

func newLoop(srv *Server) *loop {
	l := &loop{srv: srv, cfg: &srv.cfg, of: srv.of, pool: srv.pool, sessions: map[*session]struct{}{}}
	l.streamAbove = defaultStreamAbove
	l.scratch = make([]byte, 0, scratchSize)
	l.asText = make([]byte, 0, asTextRoom)
	l.repairs = repair.NewQueue(repair.Limits{Rate: float64(l.of.RepairRate) / float64(max(1, l.cfg.Loops))})
	l.source = token.NewSource(rand.IntN(token.Sources))
	l.parallel = !l.pool.Alone() && l.of.Writes == config.WritesParallel
	l.converges = !l.pool.Alone() && !l.parallel
	l.ackLead = l.of.Ack == config.AckLead
	l.retries = budget{share: retryShare, burst: upstream.DefaultPending, tokens: upstream.DefaultPending}
	l.hedges = budget{share: hedgeShare, burst: hedgeBurst, tokens: hedgeBurst}
	for range l.pool.Nodes {
		l.debts = append(l.debts, l.newJournal())
	}
	l.group = upstream.NewGroup(srv.pool, l, l.limits())
	return l
}

func (l *loop) limits() upstream.Limits {
	return upstream.Limits{
		Conns:     l.of.ConnsPerNode,
		Timeout:   l.beats(l.of.Timeout),
		Dial:      l.beats(l.of.ConnectTimeout + time.Second),
		Hedge:     l.beats(l.of.Hedge.After),
		HedgeAuto: l.of.Hedge.Auto,
		Tick:      l.beat(),
		Slow:      limitsOf(l.of).Slow,
		Clock:     func() time.Duration { return time.Since(l.srv.started) },
	}
}

// defaultStreamAbove is half of what a read takes at most.
const defaultStreamAbove = 64 << 10

// tick is how often a loop looks at what waits. One that hedges looks at its requests
// more often, at each beat: most of what nodes answer late they answer within a tick.
const (
	tick      = 5 * time.Millisecond
	hedgeBeat = time.Millisecond
)

// beat is how often the loop's requests are looked at.
func (l *loop) beat() time.Duration {
	if !l.of.Hedge.Off() {
		return hedgeBeat
	}
	return tick
}

// beats is d in beats, rounded up.
func (l *loop) beats(d time.Duration) uint32 { return uint32((d + l.beat() - 1) / l.beat()) }

// Run is the task that Defer asks for: it comes after a batch of events.
func (l *loop) Run(context.Context) error {
	l.deferred = false
	l.group.Flush()
	l.settle()
	l.entertain()
	return nil
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
	l.mend()
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

// mend begins the repairs that may begin. Those that wait for the rate have ticks
// come.
func (l *loop) mend() {
	if waiting, _ := l.repairs.Len(); waiting > 0 && l.repairs.Run(time.Since(l.srv.started)) > 0 {
		l.busy()
	}
}

// close fails what is in flight, for good, and what that leads to: the moves of what
// failed, the repairs that wait, the input of clients that was held back.
func (l *loop) close() {
	for more := true; more; more = l.group.Pending() > 0 {
		l.group.Close()
		l.settle()
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
	l.group.Tick()
	if l.sinceTick += l.beat(); l.sinceTick >= tick {
		l.sinceTick = 0
		l.lingerTick()
		l.leavingTick()
		l.partingTick()
		l.waitingTick()
		l.passTick()
	}
	l.group.Flush()
	l.settle()
	l.entertain()
	if waiting, _ := l.repairs.Len(); waiting == 0 && l.group.Idle() && len(l.guests) == 0 && len(l.waiting) == 0 && len(l.lingers) == 0 && len(l.leavings) == 0 && len(l.partings) == 0 &&
		(l.away == nil || l.any.clients.Load() == 0) {
		l.any.busy.Store(false)
	}
	return nil
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

// leader is the connection to the replica that leads key, but for those tried, and
// its copy; nil if none is left. One that is slow leads on: what another proxy, which
// may not find it slow, writes there must meet what is written here.
func (l *loop) leader(key []byte, tried uint8, salt uint32) (*upstream.Conn, uint8) {
	return l.choose(key, tried, salt, health.Slow)
}

// choose is the first replica of key, in copy order and without those tried, that is
// in the state enough or a better one; if there is none, the best that may be read.
// What this loop still awaits from one that is passed over because another loop has
// found it dead moves on first: it was asked before.
func (l *loop) choose(key []byte, tried uint8, salt uint32, enough health.State) (*upstream.Conn, uint8) {
	best, chosen, copy := health.Stale, 0, 0
	for c := range l.pool.Copies {
		node, state := l.pool.State(c, key)
		if state == health.Down && l.group.Awaits(node) {
			key = bytes.Clone(key) // it may lie where those that move on are routed
			l.group.Abandon(node)
		}
		if state < best && tried&(1<<c) == 0 {
			best, chosen, copy = state, node, c
			if state <= enough {
				break
			}
		}
	}
	if best == health.Stale {
		return nil, 0
	}
	return l.group.Conn(chosen, salt), uint8(copy)
}

// replicas is the node of each copy of key.
func (l *loop) replicas(key []byte) (nodes [upstream.MaxCopies]int) {
	for i := range l.pool.Copies {
		nodes[i] = l.pool.Replica(i, key)
	}
	return nodes
}

// mayAskAgain reports whether the only replica may be asked a second time: once,
// when a connection was lost, which says little about the node.
func (l *loop) mayAskAgain(sl *slot, cause upstream.Cause) bool {
	return l.pool.Alone() && cause == upstream.CauseReset && !sl.is(slotAgain) && !l.draining
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
func (l *loop) routeKey(p *upstream.Pending) []byte {
	if !p.Op.Meta() {
		return p.Key()
	}
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	return l.routeSent(line, &req)
}

// ask sends a read that another node did not answer to c, as leg.
func (l *loop) ask(c *upstream.Conn, p *upstream.Pending, leg upstream.Leg) bool {
	again := *p
	again.Leg = leg
	if p.Op.Meta() {
		return l.resend(c, &again)
	}
	var arg []byte
	if p.Op == codec.OpGat || p.Op == codec.OpGats {
		arg = gatTime(p.Request())
	}
	return c.Get(upstream.Pending{Owner: p.Owner, Seq: p.Seq, Leg: leg, Op: p.Op}, arg, p.Key())
}

// oldestVersion is told until a node has named its version: the oldest that the
// proxy's requests are made for.
const oldestVersion = "1.6.10"

// version is the answer to version: that of the first node that has told it.
func (l *loop) version() []byte {
	v := oldestVersion
	for _, n := range l.pool.Nodes {
		if got := n.Version(); got != "" {
			v = got
			break
		}
	}
	if v != l.greeting {
		l.greeting, l.versions = v, []byte("VERSION "+v+"\r\n")
	}
	return l.versions
}

// Dial connects c away from the loop.
func (l *loop) Dial(c *upstream.Conn, attempt uint32) {
	l.busy()
	go func() {
		d := net.Dialer{Timeout: l.of.ConnectTimeout}
		n := c.Node()
		nc, err := d.Dial(n.Network, n.Address)
		if err == nil {
			err = l.enroll(&link{l, c, attempt}, nc)
		}
		if err == nil {
			l.srv.log.Debug("node connected", "node", n.Name)
		} else {
			l.do(func() {
				c.Refused(attempt, dialCause(err))
				l.group.Flush()
			})
		}
	}()
}

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
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
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
