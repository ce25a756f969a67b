package refill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"sync"
	"time"
)

// Config says what is to be copied, from where to where, and how fast.
type Config struct {
	Source, Target func(ctx context.Context) (net.Conn, error) // dial
	Keys           iter.Seq[Key]                               // a key need not stay as it is when the next is asked for
	Limits         Limits
	Rate           Rate
	Factor         float64                        // the part of the rate to begin with; see Pace. default 1
	Lead           func() error                   // why Source does not lead the keys any more; nil: it does. Called with all that it answers, and must not wait; may be nil
	Suffers        func() bool                    // live traffic does; nil: it never does. Called some times a second
	Progress       func(c Counts, factor float64) // how far it is, and Pace.Factor; called some times a second, and at the end; may be nil
	Thread         func()                         // called first by each goroutine of Run's own; may be nil
	Silence        time.Duration                  // how long a node may leave a request without a byte of its answer; default 5s
}

const (
	defaultSilence = 5 * time.Second
	haste          = time.Second // for a node to answer when the caller wants an end
	reportEvery    = 200 * time.Millisecond
	readSize       = 64 << 10
	writeSize      = 256 << 10 // at once, under one deadline
	backlog        = 4         // windows of bytes that may wait for the target before the source is left unread
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
// connections are closed and its goroutines are over. The error is an *Error, or that
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{cfg: cfg, ctx: ctx, cancel: cancel, copier: NewCopier(cfg.Limits), pace: NewPace(cfg.Rate, cfg.Factor, time.Now())}
	r.silence = cfg.Silence
	r.limit = backlog * r.copier.limits.Bytes
	r.moved.L = &r.mu
	for side, dial := range [2]func(context.Context) (net.Conn, error){Source: cfg.Source, Target: cfg.Target} {
		r.more[side].L = &r.mu
		conn, err := dial(ctx)
		if err != nil {
			return Counts{}, fmt.Errorf("refill: %s: %w", sides[side], err)
		}
		defer conn.Close()
		r.conns[side] = conn
	}
	defer context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.led()
		r.hurry()
		r.moved.Broadcast()
	})()
	var served sync.WaitGroup
	over := make(chan struct{})
	served.Go(func() { r.beat(over) })
	if cfg.Thread == nil {
		cfg.Thread = func() {}
	}
	for side := range r.conns {
		served.Go(func() { cfg.Thread(); r.write(Side(side)) })
		served.Go(func() { cfg.Thread(); r.read(Side(side)) })
	}
	complete := r.feed()
	r.drain()
	close(over)
	served.Wait()
	return r.result(complete)
}

// run is one Run. Its goroutines are the caller's, which feeds it with keys, and for
// each side one that writes requests and one that reads answers.
//
//	feed ─▶ Copier ─▶ write ─▶ node ─▶ read ─▶ Copier
type run struct {
	cfg    Config
	ctx    context.Context // ends with the caller's, or when a node fails
	cancel func()
	limit  int // bytes that may wait for the target
	conns  [2]net.Conn

	pace     *Pace // of the goroutine that feeds, as are the next two
	spent    uint64
	reported time.Time

	mu      sync.Mutex // guards the rest
	copier  *Copier
	silence time.Duration // as of Config, until it is to end
	more    [2]sync.Cond  // there are requests to write, or it is over
	moved   sync.Cond     // answers were taken, requests were written, or it is to end
	over    bool          // nothing is under way and nothing will be
	failed  *Error        // the first failure
}

// feed adds keys until there are none, which it reports, or it is to end.
func (r *run) feed() (complete bool) {
	for k := range r.cfg.Keys {
		if !r.add(k) {
			return false
		}
	}
	return true
}

// add adds a key when the pace allows it and there is room. It reports whether there
// may be another.
func (r *run) add(k Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		now := time.Now()
		r.report(now, false)
		if r.ctx.Err() != nil {
			return false
		}
		bytes := r.copier.Counts().Bytes
		r.pace.Spend(0, bytes-r.spent)
		r.spent = bytes
		if wait := r.pace.Wait(now); wait > 0 {
			r.rest(wait)
			continue
		}
		if r.copier.Room() {
			r.copier.Add(k, now)
			r.pace.Spend(1, 0)
			r.wake()
			return true
		}
		r.moved.Wait()
	}
}

// rest gives the lock up for a while, less if it is to end.
func (r *run) rest(d time.Duration) {
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}

// report tells how far it is, with the lock given up, when it is time to.
func (r *run) report(now time.Time, last bool) {
	if !last && now.Sub(r.reported) < reportEvery {
		return
	}
	r.reported = now
	counts := *r.copier.Counts()
	r.mu.Unlock()
	defer r.mu.Lock()
	if r.cfg.Suffers != nil && r.cfg.Suffers() {
		r.pace.Suffers(now)
	}
	if r.cfg.Progress != nil {
		r.cfg.Progress(counts, r.pace.Factor())
	}
}

// beat has whoever waits for a node look around now and then, until over.
func (r *run) beat(over <-chan struct{}) {
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for {
		select {
		case <-over:
			return
		case <-t.C:
			r.mu.Lock()
			r.moved.Broadcast()
			r.mu.Unlock()
		}
	}
}

// drain waits for what is under way.
func (r *run) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.copier.InFlight() > 0 {
		r.moved.Wait()
		r.report(time.Now(), false)
	}
	r.report(time.Now(), true)
	r.over = true
	for i := range r.conns {
		r.more[i].Signal()
		r.conns[i].Close() // who reads hears of it so
	}
	r.moved.Broadcast()
}

// wake has those write that have something to.
func (r *run) wake() {
	for side := range r.more {
		if r.copier.Ready(Side(side)) {
			r.more[side].Signal()
		}
	}
}

// write sends a side its requests.
func (r *run) write(side Side) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for spare := []byte(nil); ; {
		for !r.copier.Ready(side) && !r.over {
			r.more[side].Wait()
		}
		if r.over {
			return
		}
		out, silence := r.copier.Requests(side, spare), r.silence
		r.mu.Unlock()
		err := r.send(side, out, silence)
		r.mu.Lock()
		if err != nil {
			r.lose(side, err)
			return
		}
		r.arm(side)
		r.moved.Broadcast()
		spare = out
	}
}

func (r *run) send(side Side, b []byte, silence time.Duration) error {
	for len(b) > 0 {
		n := min(len(b), writeSize)
		r.conns[side].SetWriteDeadline(time.Now().Add(silence))
		if _, err := r.conns[side].Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// read takes a side's answers.
func (r *run) read(side Side) {
	buf := make([]byte, readSize)
	for {
		n, err := r.conns[side].Read(buf)
		if !r.take(side, buf[:n], err) {
			return
		}
	}
}

// take takes what was read, and reports whether there is more to read.
func (r *run) take(side Side, b []byte, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	if side == Source && !r.led() {
		return false
	}
	if unfit := r.copier.Answer(side, b, time.Now()); unfit != nil {
		err = unfit
	}
	if err != nil {
		r.lose(side, err)
		return false
	}
	r.wake()
	r.moved.Broadcast()
	for side == Source && r.copier.Backlog(Target) > r.limit && !r.over {
		r.moved.Wait()
	}
	r.arm(side)
	return true
}

// led reports whether the source is still who leads the keys. One that is not any more is
// as good as lost: whoever leads them now may have deleted what it has yet.
func (r *run) led() bool {
	if r.cfg.Lead == nil || r.over {
		return true
	}
	err := r.cfg.Lead()
	if err != nil {
		r.lose(Source, err)
	}
	return err == nil
}

// arm has a side's silence count from now on if it owes anything.
func (r *run) arm(side Side) {
	var end time.Time
	if r.copier.Owes(side) {
		end = time.Now().Add(r.silence)
	}
	r.conns[side].SetReadDeadline(end)
}

// hurry has nodes that are silent keep it from its end for no longer than haste.
func (r *run) hurry() {
	if r.over {
		return
	}
	r.silence = min(r.silence, haste)
	for side := range r.conns {
		r.conns[side].SetWriteDeadline(time.Now().Add(r.silence))
		r.arm(Side(side))
	}
}

// lose ends the use of a side.
func (r *run) lose(side Side, err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("no answer within %v", r.silence)
	case errors.Is(err, io.EOF):
		err = errors.New("closed the connection")
	}
	if r.failed == nil {
		r.failed = &Error{Side: side, Err: err}
	}
	r.copier.Lose(side, time.Now())
	r.conns[side].Close()
	r.cancel()
	r.wake()
	r.moved.Broadcast()
}

// result is what Run returns, when all goroutines are over.
func (r *run) result(complete bool) (Counts, error) {
	counts := *r.copier.Counts()
	rest, doubt := r.copier.Unfinished()
	err := r.failed
	switch {
	case err != nil:
	case len(rest) > 0:
		err = &Error{Side: Target, Err: errors.New("refused to delete a key")}
	case !complete:
		err = &Error{Err: r.ctx.Err()}
	default:
		return counts, nil
	}
	err.Counts, err.Rest, err.Doubt = counts, rest, doubt
	return counts, err
}
