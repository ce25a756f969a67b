package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"magent/server/config"
	"magent/upstream"
	"magent/upstream/debt"
	"magent/upstream/fleet"
	"magent/upstream/health"
	"magent/upstream/probe"
)

// What a node that was down comes back as, and what is done before it is read again.
// It is on the goroutine of the node's prober, in the order of the functions:
//
//	roundTrip … arrive → heal → handOver
//
// What the goroutine of warm calls, too (known, drained, flush, repay), asks the node over
// connections of its own, and not by the prober.
//
// A node that has lived through it (same process id, same start) was cut off or stood
// still. It may hold old values of every key in its debt, so it comes back Stale, and
// Up when the loops have repaired those, and those of other magents theirs. One that was
// restarted is empty, and comes back Warming: a replica that has the keys is read as
// long as there is one, and warm.go has it refilled. So is one that is flushed because
// its debt cannot be told.

// keeper is what a node's goroutines know of it: its prober's, attend's and warm's.
type keeper struct {
	srv      *poolServer
	node     *upstream.Node
	prober   *probe.Prober
	debtors  *account
	trips    uint                   // round trips, of the prober alone
	trusted  bool                   // the process before this one read it; does not change once this one serves
	open     func()                 // opens the gates that are closed for it; nil: none are
	nudged   chan struct{}          // has one when attend has something to look at
	cold     atomic.Bool            // it came back empty, and has not been refilled; a peer's prober may promote it
	drain    atomic.Bool            // an operator drains it: it is not to be Up
	byHand   atomic.Pointer[int]    // an operator wants it emptied, and refilled from this node first
	trouble  string                 // why it is not refilled, as logged last; of warm, as is the next
	holder   string                 // who refills it, as logged last
	usual    atomic.Int64           // what its p99 is when nothing is refilled, in ns; 0: it was not asked anything
	attended chan struct{}          // closed when attend has ended; nil: it was not begun
	stopWarm context.CancelFunc     // ends warm; nil: it was not begun
	warmed   chan struct{}          // closed when the latest warm has ended; nil: there was none
	progress atomic.Pointer[Refill] // nil: this magent does not refill it

	leaving sync.Mutex       // held by who waits for what is left
	left    []netip.AddrPort // connections that were closed on it with requests unanswered
	unnamed bool             // there are more, by no name that the node knows: it is interpreted
}

func newKeeper(s *poolServer, n *upstream.Node) *keeper {
	key := fmt.Sprintf("%sprobe:%016x", fleet.Prefix, rand.Uint64())
	return &keeper{srv: s, node: n, debtors: s.newAccount(n.Index), nudged: make(chan struct{}, 1),
		prober: probe.New(s.targetOf(n), key, s.conf.Probe == config.ProbeWrite)}
}

// watch is what the monitor needs of the server.
func (s *poolServer) watch() health.Watch {
	return health.Watch{
		Probe:  func(ctx context.Context, i int) (time.Duration, error) { return s.keepers[i].roundTrip(ctx) },
		Arrive: func(ctx context.Context, i int) (health.State, string, error) { return s.keepers[i].arrive(ctx) },
		Heal: func(ctx context.Context, i int, seen health.Word) (health.State, string, error) {
			return s.keepers[i].heal(ctx, seen)
		},
		Needed: s.needed,
		Last: func(i int, err error) bool {
			return errors.Is(err, probe.ErrLate) && !s.pool.Alone() && !s.pool.Covered(i, health.Slow)
		},
		Notify: s.changed,
	}
}

func limitsOf(cfg *config.Pool) health.Limits {
	l := health.DefaultLimits
	l.Interval, l.Ceiling, l.Rise, l.Fall = cfg.ProbeInterval, cfg.RetryTimeout, cfg.Rise, cfg.Fall
	l.Backoff = min(l.Backoff, l.Ceiling)
	return l
}

// roundTrip probes the node, and has attend look at what others know of it.
func (k *keeper) roundTrip(ctx context.Context) (time.Duration, error) {
	rtt, err := k.prober.RoundTrip(ctx)
	if k.trips++; err == nil && k.trips%clockEvery == 1 && !k.srv.pool.Alone() {
		k.askTime(ctx)
	}
	k.nudge()
	return rtt, err
}

// clockEvery is how many round trips there are to one look at the node's clock.
const clockEvery = 8

// askTime finds out how far the node's clock is ahead. What fails says nothing: the next
// round trip will tell.
func (k *keeper) askTime(ctx context.Context) {
	id, err := k.prober.Identity(ctx)
	known, _ := k.node.Life()
	life, ok := id.Life()
	if at, told := id.Time(); err == nil && told && ok && life == known {
		k.node.SawTime(at, time.Now())
	}
}

// needed reports whether some keys of node i may have no other replica that is read.
func (s *poolServer) needed(i int) bool { return !s.pool.Covered(i, health.Warming) }

// arrive says what a node that answers again comes back as.
func (k *keeper) arrive(ctx context.Context) (health.State, string, error) {
	s := k.srv
	if s.pool.Alone() && k.clear() {
		return health.Up, "it answers", nil
	}
	if err := s.onLanes(ctx, func(l *lane) { l.group.Abandon(k.node.Index) }); err != nil {
		return health.Down, "", err
	}
	if s.pool.Alone() {
		return health.Up, "it answers", k.drained(ctx)
	}
	restarted, certain, err := k.restarted(ctx)
	if err != nil {
		return health.Down, "", err
	}
	if restarted {
		k.drain.Store(false)
		k.byHand.Store(nil)
		if err := k.emptied(ctx, certain); err != nil {
			return health.Down, "", err
		}
		return k.bare(ctx, "it was restarted")
	}
	known, err := k.known(ctx)
	switch {
	case err != nil:
		return health.Down, "", err
	case !known:
		if err := k.flush(ctx); err != nil {
			return health.Down, "", err
		}
		return k.bare(ctx, "it missed more than can be told, and was flushed")
	}
	return health.Stale, "it has missed writes", k.drained(ctx)
}

// emptied sees to the journals of a node that has lost everything. If that is certain, and
// this magent is the first that has seen so, what the node had missed by then comes with the
// refill. Else it may hold what it held before, or what another has written by now, or copied,
// before it was changed: that is still to be repaired; if it cannot be told, the refill has to
// begin anew.
func (k *keeper) emptied(ctx context.Context, certain bool) error {
	aside, err := k.setAside(ctx)
	if err != nil {
		return err
	}
	if k.refills() {
		life, _ := k.node.Life()
		var first bool
		if first, err = fleet.Expect(ctx, k.prober, life, k.srv.id); first && certain {
			return nil
		}
	}
	if back := k.putBack(aside); back != nil || err != nil {
		return errors.Join(err, back)
	}
	known, err := k.known(ctx)
	if err != nil || known {
		return err
	}
	return k.flush(ctx)
}

// known reports whether every key that the node missed is in the loops' journals.
func (k *keeper) known(ctx context.Context) (known bool, err error) {
	overflowed := make(chan bool, len(k.srv.loops))
	err = k.srv.onLanes(ctx, func(l *lane) { overflowed <- l.debts[k.node.Index].Overflowed() })
	if err != nil {
		return false, err
	}
	known = true
	for range k.srv.loops {
		known = !<-overflowed && known
	}
	return known, nil
}

// restarted reports whether the node's process is another than before, and remembers
// it; and whether that is certain. If this proxy has not met it, it counts as restarted if it is
// younger than its absence, or has not been refilled, of which the latter is no more than likely:
// who stood still has no marker either. It does not count at all if its stats do not tell: its
// debt is paid in any case.
func (k *keeper) restarted(ctx context.Context) (again, certain bool, err error) {
	id, err := k.prober.Identity(ctx)
	if err != nil {
		return false, false, err
	}
	life, ok := id.Life()
	if !ok {
		return false, false, nil
	}
	before, met := k.node.Life()
	if again = life != before; !met {
		if again, err = k.young(ctx, id); err != nil {
			return false, false, err
		}
	}
	certain = again
	k.node.SetLife(life) // not before all has been found out: if this fails, it is not met the next time
	if at, ok := id.Time(); ok {
		k.node.SawTime(at, time.Now())
	}
	again = again || !met && k.unwarmed(ctx)
	if again {
		k.cold.Store(true)
	}
	return again, certain, nil
}

const (
	// tickPatience is how long a node's clock, which counts seconds, may take to tick.
	tickPatience = 3 * time.Second
	// tickLook is how often it is looked at meanwhile.
	tickLook = 50 * time.Millisecond
)

// young reports whether the node, of which id is, has lived for less than it was away. A process
// that stood still says how old it was then, until its clock ticks: so one that seems to be
// young is asked until that has happened. It may hold what it held when it was cut off.
func (k *keeper) young(ctx context.Context, id probe.Identity) (bool, error) {
	fell, said := k.srv.pool.Monitor.Report(k.node.Index).Last.At, id.Uptime()
	if said > time.Since(fell) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tickPatience)
	defer cancel()
	var err error
	late := poll(ctx, tickLook, func() bool {
		id, err = k.prober.Identity(ctx)
		return err != nil || id.Uptime() != said
	})
	return id.Uptime() <= time.Since(fell), cmp.Or(err, late)
}

// unwarmed reports whether the node's marker says that it is being refilled, or it has
// none while a peer that is trusted has one.
func (k *keeper) unwarmed(ctx context.Context) bool {
	s := k.srv
	if !s.conf.Resync {
		return false
	}
	mark, err := fleet.Look(ctx, k.prober)
	if err != nil || mark.Standing != fleet.Unmarked {
		return err == nil && mark.Standing == fleet.Begun
	}
	return slices.ContainsFunc(s.pool.Peers(k.node.Index), func(peer int) bool {
		if s.pool.Health.Load(peer).State() > health.Slow {
			return false
		}
		p := s.newProber(peer)
		defer p.Forget()
		mark, err := fleet.Look(ctx, p)
		return err == nil && mark.Standing == fleet.Warm
	})
}

// bare is what a node comes back as that has lost everything. One that is not to be
// refilled is as good as any when what it missed is repaired.
func (k *keeper) bare(ctx context.Context, cause string) (health.State, string, error) {
	if k.refills() {
		return k.empty(ctx), cause, nil
	}
	k.whole()
	return health.Stale, cause, nil
}

// empty is the state of a node that holds nothing: Warming, if a peer may hold more,
// else Up. Peers that are Warming, and have no peer that may hold more, are the warmest
// there is.
func (k *keeper) empty(ctx context.Context) health.State {
	s := k.srv
	k.cold.Store(true) // before the others are looked at: they may come back empty, too
	s.settleDrains(k.node.Index)
	if s.outdone(k.node.Index) {
		return health.Warming
	}
	state := health.Up
	for _, peer := range s.pool.Peers(k.node.Index) {
		seen := s.pool.Health.Load(peer)
		if seen.State() != health.Warming {
			continue
		}
		state = health.Warming
		if !s.outdone(peer) && s.pool.Monitor.Promote(peer, seen, "its peer "+k.node.Name+" came back empty") {
			s.keepers[peer].whole()
			s.keepers[peer].accept(ctx)
		}
	}
	if state == health.Up {
		k.whole()
		k.accept(ctx)
	}
	return state
}

// accept has the node's marker say that it is warm, although its refill was not
// completed: nobody has more.
func (k *keeper) accept(ctx context.Context) {
	life, _ := k.node.Life()
	p := k.srv.newProber(k.node.Index)
	defer p.Forget()
	if err := fleet.Accept(ctx, p, life, k.srv.id); err != nil {
		k.srv.log.Debug("a node's marker could not be written", "node", k.node.Name, "cause", err.Error())
	}
}

// outdone reports whether a peer of node i may hold what that has lost. One that is not
// read may do so, too, and be read again soon.
func (s *poolServer) outdone(i int) bool {
	return slices.ContainsFunc(s.pool.Peers(i), func(peer int) bool {
		switch s.pool.Health.Load(peer).State() {
		case health.Up, health.Slow:
			return true
		case health.Stale, health.Down:
			return !s.keepers[peer].cold.Load()
		}
		return false
	})
}

// clear reports whether nothing was left at the node that it may carry out yet.
func (k *keeper) clear() bool {
	k.leaving.Lock()
	defer k.leaving.Unlock()
	k.takeLeft(k.node.TakeLeft())
	return len(k.left) == 0 && !k.unnamed
}

// takeLeft notes connections that were closed on the node with requests unanswered, as
// upstream.Node has them. k.leaving is held.
func (k *keeper) takeLeft(addrs []string) {
	for _, text := range addrs {
		if addr, err := netip.ParseAddrPort(text); err == nil {
			k.left = append(k.left, addr)
		} else {
			k.unnamed = true
		}
	}
}

// drained waits until the node has read the connections that were closed on it to
// their end: it carries out the writes in them first. One that does not say what it
// is connected to, or keeps what has been cut off on its way, is given patience.
func (k *keeper) drained(ctx context.Context) error {
	k.leaving.Lock()
	defer k.leaving.Unlock()
	k.takeLeft(k.node.TakeLeft())
	var err error
	switch {
	case k.unnamed:
		pause(ctx, lastWords) // nothing but time tells
	case len(k.left) > 0:
		err = k.unlisted(ctx)
	}
	if err = cmp.Or(err, ctx.Err()); err == nil {
		k.left, k.unnamed = nil, false
	}
	return err
}

// unlisted waits until the node lists none of k.left among its connections, or has had the time
// that it is given.
func (k *keeper) unlisted(ctx context.Context) error {
	until := time.Now().Add(lastWords)
	bound, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	p := k.srv.newProber(k.node.Index)
	defer p.Forget()
	var failed error
	gone := 0 // looks in a row that found none of them: between being accepted and being served one is not listed
	_ = waitFor(bound, func() bool {
		clients, err := p.Clients(bound)
		listed := func(addr netip.AddrPort) bool { return clients.Has(net.TCPAddrFromAddrPort(addr)) }
		switch gone++; {
		case errors.Is(err, probe.ErrUnnamed), err != nil && k.srv.pool.Alone():
			pause(bound, lastWords) // it does not list any, or nobody is there but it
			return true
		case err != nil:
			failed = err
			return true
		case slices.ContainsFunc(k.left, listed):
			gone = 0
		}
		return gone == 2
	})
	if failed != nil && time.Now().Before(until) { // what fails at the end may do so before bound has ended
		return failed
	}
	return nil
}

// flush empties the node, and the journals of what it missed before that.
func (k *keeper) flush(ctx context.Context) error {
	if err := k.drained(ctx); err != nil {
		return err
	}
	aside, err := k.setAside(ctx)
	switch {
	case err != nil:
		return err
	case k.refills():
		err = k.forsake(ctx, nil)
	default:
		p := k.srv.newProber(k.node.Index)
		defer p.Forget()
		err = p.FlushAll(ctx)
	}
	if err != nil {
		return errors.Join(err, k.putBack(aside))
	}
	return nil
}

// setAside takes the journals of what the node missed until now, and begins others.
func (k *keeper) setAside(ctx context.Context) ([]*debt.Journal, error) {
	aside := make([]*debt.Journal, len(k.srv.loops))
	err := k.srv.onLanes(ctx, func(l *lane) { aside[l.index] = l.setAside(k.node.Index) })
	return aside, err
}

// putBack has the journals be as if they had not been set aside, whatever ends meanwhile:
// else old values would pass for paid.
func (k *keeper) putBack(aside []*debt.Journal) error {
	return k.srv.onLanes(k.srv.ctx, func(l *lane) { l.putBack(k.node.Index, aside[l.index]) })
}

// heal has every loop repair what the node missed, waits until other magents have done
// that, and hands the lead over to it. The gates that this closes are opened when the
// state has changed.
func (k *keeper) heal(ctx context.Context, seen health.Word) (health.State, string, error) {
	if err := k.repay(ctx, seen); err != nil {
		return health.Down, "", err
	}
	at, dead, cold, err := k.agreed(ctx, time.Time{})
	if err != nil {
		return health.Down, "", err
	}
	cause := "its debt is paid"
	if len(dead) > 0 {
		if err := k.forsake(ctx, dead); err != nil {
			return health.Down, "", err
		}
		cause = "a magent that owed it writes has died, so it was flushed"
	}
	if cold {
		k.cold.Store(true)
	}
	if k.cold.Load() && k.refills() {
		return health.Warming, cause + ", and it is not refilled", nil
	}
	open, err := k.handOverAt(ctx, at)
	if err != nil {
		return health.Down, "", err
	}
	k.whole()
	k.open = open
	if k.drain.Load() {
		return health.Warming, cause + ", and it is drained", nil
	}
	return health.Up, cause, nil
}

// openGates opens the gates that heal has left closed, if it has.
func (k *keeper) openGates() {
	if k.open != nil {
		k.open()
		k.open = nil
	}
}

// patience is how long a node that came back waits for others that the last of what it
// missed could be repaired from. Then that is given up.
const patience = 500 * time.Millisecond

// repay pays the node's debt. Keys that nobody leads hold it up for patience, whoever
// leads others. What was missed beyond the journals' bounds, or a flush_all, while the
// node arrived, cannot be paid: the node has to arrive anew.
func (k *keeper) repay(ctx context.Context, seen health.Word) error {
	var stuck time.Time // since when
	for {
		paid, err := k.pay(ctx, seen, !stuck.IsZero() && time.Since(stuck) > patience)
		if paid || err != nil {
			return err
		}
		known, err := k.known(ctx)
		if err != nil {
			return err
		}
		if !known {
			return errors.New("it missed more than can be told")
		}
		if stuck.IsZero() {
			stuck = time.Now()
		}
		pause(ctx, tick)
	}
}

// pay has every loop repair the keys in its journal, and reports whether all are; with
// giveUp those that nobody leads are deleted at the node.
func (k *keeper) pay(ctx context.Context, seen health.Word, giveUp bool) (paid bool, err error) {
	s := k.srv
	done := make(chan bool, len(s.loops))
	for _, l := range s.lanes() {
		if err := l.do(func() { l.heal(k.node.Index, seen, giveUp, done) }); err != nil {
			return false, err
		}
	}
	paid = true
	for range s.loops {
		select {
		case ok := <-done:
			paid = paid && ok
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if s.pool.Health.Load(k.node.Index) != seen {
		return false, errors.New("it failed while it was repaired")
	}
	return paid, nil
}

// onLoops runs f on every loop and waits for all of them.
func (s *Server) onLoops(ctx context.Context, f func(*loop)) error {
	ran := make(chan struct{}, len(s.loops))
	for _, l := range s.loops {
		if err := l.do(func() { f(l); ran <- struct{}{} }); err != nil {
			return err
		}
	}
	for range s.loops {
		select {
		case <-ran:
		case <-s.died:
			return s.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
