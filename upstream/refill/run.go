package refill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what is to be copied, from where to where, and how fast.
type Config struct {
	Source, Target func(ctx context.Context) (net.Conn, error) // dial a socket
	Keys           func() (k Key, ok bool)                     // must not wait; a key need not stay as it is when the next is asked for, which it is not once ok was false
	Limits         Limits
	Rate           Rate
	Factor         float64                        // the part of the rate to begin with; see Pace. default 1
	Lead           func() error                   // why Source does not lead the keys any more; nil: it does. Called with all that it answers, and must not wait; may be nil
	Suffers        func() bool                    // live traffic does; nil: it never does. Called some times a second
	Progress       func(c Counts, factor float64) // how far it is, and Pace.Factor; called some times a second, and at the end; may be nil
	Thread         func()                         // called first by the goroutine of Run's own; may be nil
	Host           Host                           // where Run may be a guest; may be nil
	Silence        time.Duration                  // how long a node may leave a request without a byte of its answer; default 5s
}

// Host is a goroutine that serves others, and that may have a refill do its turns there: one
// beside it would be in its way, where it has no processor of its own. Run's own goroutine
// waits meanwhile, and all of Config's functions but Thread and those that dial are called by
// the host's; they must not wait there.
type Host interface {
	// Busy reports whether it serves anybody. It is called some times a second, by the
	// goroutine that Run is on then.
	Busy() bool
	// Visit has the host call turn: at once, and again when what it returned has passed, or
	// some milliseconds later, until turn returns a negative duration. Then Visit returns,
	// or with an error if the host calls it no more because it has ended.
	Visit(turn func() time.Duration) error
}

const (
	defaultSilence = 5 * time.Second
	haste          = time.Second           // for a node to answer when the caller wants an end
	glance         = 10 * time.Millisecond // is waited for nodes before it looks whether it is to end, or to report
	stride         = quantum / 4           // from one turn of a guest to the next: its keys go to a node in one burst, behind which clients wait
	gather         = quantum / 4           // is let pass while many keys are under way: each answer would else wake the thread, which costs the node that wakes it, too
	many           = defaultKeys / 2       // keys; where large ones take the room there are fewer
	reportEvery    = 200 * time.Millisecond
	readSize       = 64 << 10
	backlog        = 4 // windows of bytes that may wait for the target before the source is left unread
)

// Error is why Run ended before its time.
type Error struct {
	Side Side  // who failed, if Err is not the context's
	Err  error // what happened there
	Counts
	Rest  []Key // were begun and have no outcome: they, and what Keys has not given, are to be copied again
	Doubt []Key // those of Rest that the target may hold though the source had lost them: they are debt of the target
}

func (e *Error) Error() string {
	who := sides[e.Side]
	if errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
		who = "given up"
	}
	return fmt.Sprintf("refill: %s: %v, after %d keys, with %d under way and %d in doubt", who, e.Err, e.Keys(), len(e.Rest), len(e.Doubt))
}

func (e *Error) Unwrap() error { return e.Err }

// Run copies keys until there are none, a node fails or ctx ends. It returns when its
// connections are closed and its goroutine is over. The error is an *Error, or that
// of dialing. When ctx ends, the keys under way are brought to their ends first, unless
// a node is silent for a second, or the source does not lead them any more: then what was
// not verified is taken back.
func Run(ctx context.Context, cfg Config) (Counts, error) {
	if cfg.Silence <= 0 {
		cfg.Silence = defaultSilence
	}
	if cfg.Factor == 0 {
		cfg.Factor = 1
	}
	now := time.Now()
	r := &run{cfg: cfg, ctx: ctx, copier: NewCopier(cfg.Limits), pace: NewPace(cfg.Rate, cfg.Factor, now), now: now, silence: cfg.Silence}
	r.limit = backlog * r.copier.limits.Bytes
	r.buf = make([]byte, readSize)
	for side, dial := range [2]func(context.Context) (net.Conn, error){Source: cfg.Source, Target: cfg.Target} {
		l, err := newLink(ctx, dial)
		if err != nil {
			return Counts{}, fmt.Errorf("refill: %s: %w", sides[side], err)
		}
		r.links[side] = l
		defer r.links[side].close()
	}
	var served sync.WaitGroup
	served.Go(func() {
		if cfg.Thread != nil {
			cfg.Thread()
		}
		r.copy()
	})
	served.Wait()
	return r.result()
}

// run is one Run. Its goroutine does one thing after the other, in turns:
//
//	Keys ─▶ Copier ─▶ write ─▶ nodes ─▶ ppoll ─▶ read ─▶ Copier
//
// It waits in ppoll, and not as goroutines do: where it has a thread of its own, each wait
// would be handed to another thread, and that costs more than what is done between two.
// While its host serves others, it does not wait at all, but is called when its time has come.
type run struct {
	cfg      Config
	ctx      context.Context
	copier   *Copier
	pace     *Pace
	links    [2]link
	polled   [2]unix.PollFd
	buf      []byte    // what is read
	now      time.Time // at the last turn
	complete bool      // there are no more keys
	visits   bool      // the host calls
	limit    int       // bytes that may wait for the target
	spent    uint64    // bytes that the pace knows of
	reported time.Time
	silence  time.Duration // as of Config, until it is to end
	ending   bool
	failed   *Error // the first failure
}

// copy copies all keys and brings those under way to their ends.
func (r *run) copy() {
	for !r.done() {
		rest, wait := r.offer()
		if rest > 0 { // answers gather: who has to wait for its pace wakes up once for all of them
			poll(nil, rest)
		}
		r.take(poll(r.interests(), wait))
		if r.visits {
			r.visit()
		}
	}
	r.report(true)
}

// done reports whether nothing is left to be done.
func (r *run) done() bool { return (r.complete || r.over()) && r.copier.InFlight() == 0 }

// visit has the host take turns, until all is done or it has nobody to serve.
func (r *run) visit() {
	err := r.cfg.Host.Visit(func() time.Duration {
		if r.take(poll(r.interests(), 0)); r.done() || !r.visits {
			return -1
		}
		r.offer()
		return stride
	})
	if r.visits = false; err != nil {
		r.cfg.Host = nil
	}
}

// offer adds keys as the pace allows and there is room for, and writes what there is to
// write. Then it is time to rest, and after that to wait, for at most a while, until a node has
// something.
func (r *run) offer() (rest, wait time.Duration) {
	r.now = time.Now()
	r.copier.Wake(r.now)
	rest, wait = r.add()
	for side := range r.links {
		r.write(Side(side))
	}
	return rest, wait
}

// add adds keys, until the pace has it rest, or there is no more room or no more keys.
func (r *run) add() (rest, wait time.Duration) {
	for !r.complete && !r.over() {
		bytes := r.copier.Counts().Bytes
		r.pace.Spend(0, bytes-r.spent)
		r.spent = bytes
		pause := r.pace.Wait(r.now)
		switch {
		case pause > 0 && r.copier.InFlight() > 0:
			return min(pause, quantum), 0
		case pause > 0:
			return 0, min(pause, glance)
		case !r.copier.Room():
			return r.gathers(), glance
		}
		k, ok := r.cfg.Keys()
		if r.complete = !ok; ok {
			r.copier.Add(k, r.now)
			r.pace.Spend(1, 0)
		}
	}
	return 0, glance
}

// gathers is how long answers gather where there is room for no more keys. Large ones, which
// are few, are not let wait.
func (r *run) gathers() time.Duration {
	if r.copier.InFlight() < many {
		return 0
	}
	return gather
}

// over reports whether no key is to be added.
func (r *run) over() bool {
	if r.ctx.Err() != nil {
		r.end()
	}
	return r.ending
}

// take takes what nodes have sent. known says that it is known who has something.
func (r *run) take(known bool) {
	r.now = time.Now()
	for side := range r.links {
		if known && !r.links[side].lost {
			r.serve(Side(side))
		}
	}
	r.over()
	r.report(false)
}

// poll waits for what fds are to be polled for, and reports whether it is known what came:
// a signal to the thread, as the runtime sends them, ends it before its time.
func poll(fds []unix.PollFd, wait time.Duration) (known bool) {
	t := unix.NsecToTimespec(int64(wait))
	_, err := unix.Ppoll(fds, &t, nil)
	return err == nil
}

// interests is what the links are to be polled for. The source is left unread while much
// waits for the target.
func (r *run) interests() []unix.PollFd {
	for side := range r.links {
		l, p := &r.links[side], &r.polled[side]
		l.owes = r.copier.Owes(Side(side)) || l.unsent() > 0
		*p = unix.PollFd{Fd: -1}
		if l.lost {
			continue
		}
		if Side(side) == Target || r.copier.Backlog(Target)+r.links[Target].unsent() <= r.limit {
			p.Events |= unix.POLLIN
		}
		if l.full {
			p.Events |= unix.POLLOUT
		}
		if p.Events != 0 { // else it would be told of a connection that is closed
			p.Fd = int32(l.fd)
		}
	}
	return r.polled[:]
}

// serve takes what came of polling a side.
func (r *run) serve(side Side) {
	l, p := &r.links[side], &r.polled[side]
	if p.Revents&^unix.POLLIN != 0 {
		l.full, l.heard = false, r.now
	}
	reads := p.Events&unix.POLLIN != 0
	switch {
	case reads && p.Revents&^unix.POLLOUT != 0:
		r.read(side)
	case !reads || !l.owes:
		l.heard = r.now
	case r.now.Sub(l.heard) >= r.silence:
		r.lose(side, fmt.Errorf("no answer within %v", r.silence))
	}
}

// write sends a side requests, as many as it takes.
func (r *run) write(side Side) {
	for l := &r.links[side]; !l.lost && !l.full; {
		if l.unsent() == 0 {
			if !r.copier.Ready(side) {
				return
			}
			l.out, l.sent = r.copier.Requests(side, l.out), 0
		}
		l.heard = r.now
		if err := l.write(); err != nil {
			r.lose(side, err)
		}
	}
}

// read takes a side's answers.
func (r *run) read(side Side) {
	if side == Source && !r.led() {
		return
	}
	l := &r.links[side]
	n, err := l.read(r.buf)
	if n > 0 {
		l.heard = r.now
		err = r.copier.Answer(side, r.buf[:n], r.now)
	}
	if err != nil {
		r.lose(side, err)
	}
}

// report tells how far it is when it is time to.
func (r *run) report(last bool) {
	if !last && r.now.Sub(r.reported) < reportEvery {
		return
	}
	r.reported = r.now
	if r.cfg.Suffers != nil && r.cfg.Suffers() {
		r.pace.Suffers(r.now)
	}
	if r.cfg.Progress != nil {
		r.cfg.Progress(*r.copier.Counts(), r.pace.Factor())
	}
	r.visits = !last && r.cfg.Host != nil && r.cfg.Host.Busy()
}

// led reports whether the source is still who leads the keys. One that is not any more is
// as good as lost: whoever leads them now may have deleted what it has yet.
func (r *run) led() bool {
	if r.cfg.Lead == nil {
		return true
	}
	err := r.cfg.Lead()
	if err != nil {
		r.lose(Source, err)
	}
	return err == nil
}

// end has no more keys added, and nodes that are silent keep it from its end for no
// longer than haste.
func (r *run) end() {
	if r.ending {
		return
	}
	r.ending = true
	r.copier.Hurry()
	r.led()
	r.silence = min(r.silence, haste)
	now := time.Now()
	for side := range r.links {
		r.links[side].heard = now
	}
}

// lose ends the use of a side.
func (r *run) lose(side Side, err error) {
	if r.failed == nil {
		r.failed = &Error{Side: side, Err: err}
	}
	r.copier.Lose(side, r.now)
	r.links[side].close()
	r.end()
}

// result is what Run returns.
func (r *run) result() (Counts, error) {
	counts := *r.copier.Counts()
	rest, doubt := r.copier.Unfinished()
	err := r.failed
	switch {
	case err != nil:
	case len(doubt) > 0:
		err = &Error{Side: Target, Err: errors.New("refused to delete a key")}
	case !r.complete || len(rest) > 0:
		err = &Error{Err: r.ctx.Err()}
	default:
		return counts, nil
	}
	err.Counts, err.Rest, err.Doubt = counts, rest, doubt
	return counts, err
}
