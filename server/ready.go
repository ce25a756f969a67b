package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"magent/server/admin"
	"magent/upstream"
	"magent/upstream/health"
)

// Readiness is whether clients should be sent here. Who moves an address between machines
// asks for it several times a second, so it is found out beside: for as long as somebody
// asks, a client of our own (knock.go) makes a request each beat, through a listener, a
// loop and a node. Who asks is told how that went of late; whether the loops turn, what
// can be read, and that nothing is being given up, is looked at when asked. So an answer
// costs some loads of memory, and is as old as this:
//
//	the process has died                          at once: nobody answers
//	it is being left; all nodes of a key failed   at once
//	requests are answered by errors               readyErrors beats
//	an event loop stands still                    stall, once somebody has asked
//	requests are not answered                     a beat and Server.readyPatience
const (
	readyBeat = 100 * time.Millisecond
	// readyInterest is for how long the requests go on after somebody has asked.
	readyInterest = 10 * time.Second
	// readyFirst is how long the first to ask waits for the first request to be answered.
	readyFirst = 100 * time.Millisecond
	// readyErrors is how many requests in a row are to fail: one may have met a node
	// that was just dying.
	readyErrors = 2
	// stall is how long an event loop may stand still.
	stall = 500 * time.Millisecond
)

// readyPatience is how long a request of our own may take: as long as one of a client's,
// for which every copy may be asked in turn, and a stall beside. Of clients that wait longer
// for a replica that is late, and the last, nobody would say that they are served.
func (s *Server) readyPatience() time.Duration {
	longest := time.Duration(0)
	for _, p := range s.pools {
		longest = max(longest, time.Duration(len(p.pool.Copies))*p.conf.Timeout)
	}
	return longest + stall
}

// readiness is what is known. Any goroutine may ask.
type readiness struct {
	srv     *Server
	own     knocker
	pulse   *Pulse
	wanted  chan struct{}             // has one when somebody asks after nobody did
	asked   atomic.Int64              // when somebody asked last, as elapsed says
	sent    atomic.Int64              // when the request that is not answered was made; 0: there is none
	outcome atomic.Pointer[outcome]   // of the requests so far; nil: none is answered
	given   atomic.Pointer[surrender] // of the addresses; nil: they are not given up

	mu      sync.Mutex // of what follows
	changes uint64     // of the states of nodes, when unread was found out
	known   bool       // it was
	unread  string     // see Server.unread
	said    bool       // the log has been told
	was     bool       // ready, then
}

// outcome is what became of the last requests.
type outcome struct {
	failures int   // in a row
	err      error // of the last
}

func newReadiness(s *Server) *readiness {
	return &readiness{srv: s, own: knocker{srv: s}, pulse: s.Pulse(), wanted: make(chan struct{}, 1)}
}

// elapsed is the time since the server was made; never 0.
func (s *Server) elapsed() time.Duration { return max(1, time.Since(s.started)) }

// watch makes requests for as long as somebody asks, until the server is shut down.
func (r *readiness) watch() {
	beat := time.NewTicker(readyBeat)
	defer beat.Stop()
	for {
		if r.srv.elapsed()-time.Duration(r.asked.Load()) > readyInterest {
			r.own.hangUp()
			r.outcome.Store(nil)
			select {
			case <-r.srv.stopping:
				return
			case <-r.wanted:
			}
			continue
		}
		r.knock()
		select {
		case <-r.srv.stopping:
			r.own.hangUp()
			return
		case <-beat.C:
		}
	}
}

// knock makes one request and notes what became of it.
func (r *readiness) knock() {
	r.sent.Store(int64(r.srv.elapsed()))
	err := r.own.knock(r.srv.readyPatience())
	o := outcome{err: err}
	if last := r.outcome.Load(); err != nil {
		o.failures = 1
		if last != nil {
			o.failures += last.failures
		}
	}
	r.outcome.Store(&o)
	r.sent.Store(0)
}

// Ready says whether clients should be sent here.
func (s *Server) Ready() admin.Ready {
	r := s.readiness
	r.asked.Store(int64(s.elapsed()))
	select {
	case r.wanted <- struct{}{}:
	default:
	}
	if r.outcome.Load() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, readyFirst)
		_ = poll(ctx, time.Millisecond, func() bool { return r.outcome.Load() != nil })
		cancel()
	}
	r.pulse.ask()
	if g := r.given.Load(); g != nil {
		g.tells()
	}
	var ready admin.Ready
	ready.Reasons, ready.OnlyNodes = r.against()
	ready.Ready = len(ready.Reasons) == 0
	for _, k := range s.keepers() {
		if state := k.srv.pool.Health.Load(k.node.Index).State(); state > health.Slow {
			ready.Cold = append(ready.Cold, fmt.Sprintf("%s is %s", k.node.Name, state))
		}
	}
	ready.Warm = ready.Ready && ready.Cold == nil
	r.tell(ready)
	return ready
}

// against is what is against being ready, and whether that comes of the nodes alone.
func (r *readiness) against() (all []string, nodes bool) {
	add := func(why string) {
		if why != "" {
			all = append(all, why)
		}
	}
	if g := r.given.Load(); g != nil {
		add(g.why)
	}
	add(r.pulse.standstill())
	own := len(all) > 0
	add(r.unanswered())
	own = own || len(all) > 0 && !r.refused()
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.srv.changes(); !r.known || c != r.changes {
		r.unread, r.changes, r.known = r.srv.unread(), c, true
	}
	add(r.unread)
	return all, r.unread != "" && !own
}

// unanswered says that requests of our own are not answered as they should be; "" if
// they are.
func (r *readiness) unanswered() string {
	if age := r.overdue(); age > 0 {
		return fmt.Sprintf("a request of its own has waited for its answer for %v", age.Round(time.Millisecond))
	}
	switch o := r.outcome.Load(); {
	case o == nil:
		return "no request of its own has been answered yet"
	case o.failures >= readyErrors:
		return "its own requests fail: " + o.err.Error()
	}
	return ""
}

// overdue is for how long a request of our own has waited, if that is too long; else 0.
func (r *readiness) overdue() time.Duration {
	sent := time.Duration(r.sent.Load())
	if age := r.srv.elapsed() - sent; sent != 0 && age > r.srv.readyPatience() {
		return age
	}
	return 0
}

// refused reports whether requests of our own are answered, by errors.
func (r *readiness) refused() bool {
	o := r.outcome.Load()
	return r.overdue() == 0 && o != nil && errors.As(o.err, new(answerError))
}

// tell logs a change.
func (r *readiness) tell(ready admin.Ready) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said && r.was == ready.Ready {
		return
	}
	r.said, r.was = true, ready.Ready
	if ready.Ready {
		r.srv.log.Info("ready")
	} else {
		r.srv.log.Warn("not ready", "cause", ready.Why(false))
	}
}

// unreadSample is of how many keys unread finds out whether they can be read.
const unreadSample = 1 << 14

// unread says what unread of each pool does.
func (s *Server) unread() string {
	var all []string
	for _, p := range s.pools {
		if why := p.unread(); why != "" {
			all = append(all, s.cfg.Of(p.conf)+why)
		}
	}
	return strings.Join(all, "; ")
}

// unread says how many of the keys have no replica that is read, and which nodes are the
// cause; "" if none is found. As in reads, one that is Warming will do if there is no
// better, and one that is Stale will not. What part of the keys two nodes share that are
// not in one copy only placement can tell, so it is asked for a sample.
func (s *poolServer) unread() string {
	lacks := func(n int) bool { return !s.pool.Health.Readable(n) }
	if slices.ContainsFunc(s.pool.Copies, func(pl upstream.Placement) bool { return !slices.ContainsFunc(pl.Nodes, lacks) }) {
		return ""
	}
	lost := 0
	for i := range unreadSample {
		key := strconv.AppendInt([]byte("key:"), int64(i), 10)
		readable := false
		for c := range s.pool.Copies {
			readable = readable || !lacks(s.pool.Replica(c, key))
		}
		if !readable {
			lost++
		}
	}
	if lost == 0 {
		return ""
	}
	var causes []string
	for i, n := range s.pool.Nodes {
		if lacks(i) {
			causes = append(causes, fmt.Sprintf("%s is %s", n.Name, s.pool.Health.Load(i).State()))
		}
	}
	part := "any key"
	if lost < unreadSample {
		part = fmt.Sprintf("some %d %% of the keys", max(1, 100*lost/unreadSample))
	}
	return fmt.Sprintf("no node can be read that has %s: %s", part, strings.Join(causes, ", "))
}

// Healthy is nil if every event loop turns within a stall.
func (s *Server) Healthy() error {
	p := s.readiness.pulse
	p.ask()
	ctx, cancel := context.WithTimeout(s.ctx, stall)
	defer cancel()
	if poll(ctx, time.Millisecond, p.rests) == nil {
		return nil
	}
	if why := p.standstill(); why != "" {
		return errors.New(why)
	}
	return s.Err()
}

// Pulse finds out whether the event loops turn, by a task for each.
type Pulse struct {
	srv   *Server
	asked []atomic.Int64 // by loop: when it was given the task that it has not run yet; 0: there is none
}

// Pulse makes one. Any goroutine may use it.
func (s *Server) Pulse() *Pulse { return &Pulse{srv: s, asked: make([]atomic.Int64, len(s.loops))} }

// Turned reports whether each loop has turned since the last call, which of one that has
// ended is false for ever.
func (p *Pulse) Turned() bool {
	turned := p.rests()
	p.ask()
	return turned
}

// rests reports whether no loop owes anything.
func (p *Pulse) rests() bool {
	for i := range p.asked {
		if p.asked[i].Load() != 0 {
			return false
		}
	}
	return true
}

// ask gives a task to each loop that has none.
func (p *Pulse) ask() {
	if !p.srv.running.Load() {
		return
	}
	for i, l := range p.srv.loops {
		if asked := &p.asked[i]; asked.CompareAndSwap(0, int64(p.srv.elapsed())) {
			_ = l.do(func() { asked.Store(0) }) // a loop that has ended owes it for ever
		}
	}
}

// standstill says which loop has not turned for longer than it may; "" if none.
func (p *Pulse) standstill() string {
	for i := range p.asked {
		asked := time.Duration(p.asked[i].Load())
		if late := p.srv.elapsed() - asked; asked != 0 && late > stall {
			return fmt.Sprintf("event loop %d has stood still for %v", i, late.Round(time.Millisecond))
		}
	}
	return ""
}
