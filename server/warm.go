package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"magent/upstream"
	"magent/upstream/fleet"
	"magent/upstream/health"
	"magent/upstream/probe"
)

// A node that came back empty is refilled by one of the magents in front of it, and all
// of them trust it at one moment. What they agree on lies in keys on the nodes: see
// package fleet. It is on three goroutines of each node: its prober's, that of attend,
// which may wait for other nodes, and while the node is Warming and cold that of warm.
//
//	survey                          at the start: which nodes are cold already
//	arrive → changed → warm         refill, or wait for another's → trust
//	roundTrip → attend → confer     while it is trusted: does everybody trust it?
//
// Who owes a node writes stands in a ledger on a peer of it, from its fall until that is
// paid: nobody trusts the node before all have paid.

const (
	// hush is for how long before the moment at which a node is trusted writes wait, and after
	// it where it is not known that those of all magents do: the clocks of machines may differ by
	// twice that without two magents leading writes at two nodes at once.
	hush = 3 * time.Millisecond
	// rollCall is how often it is asked whether they all do.
	rollCall = time.Millisecond
	// settling is how often the ledger is looked at by who waits for it, and waiting how
	// often when that has taken a second.
	settling = 20 * time.Millisecond
	waiting  = 200 * time.Millisecond
	// beforehand is how long before the moment all is looked at for the last time.
	beforehand = 20 * time.Millisecond
)

// times is what the return of a node goes by that is no operator's business. Tests have
// no time for the defaults.
type times struct {
	fleet   fleet.Times
	debtor  time.Duration // a magent that owes a node writes, and has not said so for so long, has died
	settled time.Duration // from when the last has paid to the moment at which all read the node
	silence time.Duration // how long a node may leave its part of a refill unanswered
	linger  time.Duration // from when keys may move to another place to when those do that nobody asks for
	hush    time.Duration // how long new clients are kept waiting while an address moves
	shaking time.Duration // how long a client may take to shake hands; it counts as one meanwhile
}

var defaultTimes = times{fleet: fleet.DefaultTimes, debtor: 5 * time.Second, settled: 300 * time.Millisecond, silence: 5 * time.Second, linger: time.Second, hush: hushMost, shaking: 5 * time.Second}

// alive is how often this magent says in ledgers that it is.
func (t *times) alive() time.Duration { return t.debtor / 5 }

// account is a node's ledger, which its goroutines share.
type account struct {
	entered atomic.Bool // this magent is to stand in it
	mu      sync.Mutex  // held while peers are asked
	ledger  *fleet.Ledger
}

// targetOf is a node as it is asked beside the traffic.
func (s *poolServer) targetOf(n *upstream.Node) probe.Target {
	return probe.Target{Target: s.entry.target(n), Timeout: s.conf.Timeout}
}

// newProber is for asking node something now and then; it is to be forgotten.
func (s *poolServer) newProber(node int) *probe.Prober {
	return probe.New(s.targetOf(s.pool.Nodes[node]), "", false)
}

// sourcesOf is the peers of node, as all magents of its pool order them.
func (s *poolServer) sourcesOf(node int) (sources []probe.Target) {
	for _, peer := range s.pool.Peers(node) {
		sources = append(sources, s.targetOf(s.pool.Nodes[peer]))
	}
	return sources
}

func (s *poolServer) newAccount(node int) *account {
	return &account{ledger: fleet.NewLedger(fleet.LedgerConfig{Address: s.pool.Nodes[node].Address, Sources: s.sourcesOf(node), ID: s.id,
		Lead: s.times.settled, Patience: s.times.debtor})}
}

// enter has this magent stand in the ledger from the next renew on. It waits for nothing.
func (a *account) enter() { a.entered.Store(true) }

// renew says there that it is alive, if it has entered and not left.
func (a *account) renew(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entered.Load() {
		_ = a.ledger.Enter(ctx, time.Now()) // the next one makes up for one that fails
	}
}

// leave takes it out, unless it has a reason to stay. Who enters meanwhile enters anew.
func (a *account) leave(ctx context.Context, stays func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := stays(); err != nil {
		return err
	}
	entered := a.entered.Swap(false)
	err := a.ledger.Leave(ctx)
	if err != nil && entered {
		a.entered.Store(true)
	}
	return err
}

// join says there that this magent's writes are to wait before the node is trusted.
func (a *account) join(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Join(ctx)
}

// shut says that they wait, or need not.
func (a *account) shut(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Close(ctx)
}

// look says who stands there.
func (a *account) look(ctx context.Context) fleet.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Settled(ctx, time.Now())
}

// bury takes those out who have died there.
func (a *account) bury(ctx context.Context, ids []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ledger.Bury(ctx, ids)
}

// close ends its connections.
func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger.Forget()
}

// leave has this magent leave the node's ledger. Who has found the node down has to enter:
// that may be the prober, while another goroutine is about to leave.
func (k *keeper) leave(ctx context.Context) error {
	return k.debtors.leave(ctx, func() error {
		if !k.srv.pool.Health.Writable(k.node.Index) {
			return errFell
		}
		return nil
	})
}

var errFell = errors.New("the node has fallen")

// shares reports whether magents may have to agree on the node: it has peers.
func (k *keeper) shares() bool { return len(k.srv.pool.Peers(k.node.Index)) > 0 }

// convene begins to take part in what magents agree on.
func (s *poolServer) convene() {
	s.survey(s.ctx)
	for _, k := range s.keepers {
		if !k.shares() {
			continue
		}
		k.attended = make(chan struct{})
		go func() {
			defer close(k.attended)
			k.attend(s.ctx)
		}()
	}
}

// survey finds out, before any client is served, which nodes others owe writes, are
// refilling, or have yet to: a node without a marker beside one that has one, unless it is one
// that the process before this one read. Where there
// is no marker at all nobody has been here before, and the nodes are taken as they are.
func (s *poolServer) survey(ctx context.Context) {
	marks, same := make([]fleet.Mark, len(s.pool.Nodes)), make([]bool, len(s.pool.Nodes))
	var asked sync.WaitGroup
	for i, k := range s.keepers {
		asked.Go(func() {
			mark, err := fleet.Look(ctx, k.prober)
			if err != nil {
				if k.shares() && k.debtors.look(ctx).Owed() { // it may answer again before it is found down
					s.pool.Monitor.Trip(i, s.pool.Health.Load(i), "it does not answer, and others owe it writes")
				}
				return
			}
			before, _ := k.node.Life()
			k.node.SetLife(mark.Life)
			marks[i], same[i] = mark, k.trusted && mark.Life == before
			switch st := k.debtors.look(ctx); {
			case !k.shares():
			case st.Owed():
				s.pool.Monitor.Distrust(i, s.pool.Health.Load(i), health.Stale, owed)
			case st.At.After(time.Now()), mark.At.After(time.Now()):
				s.pool.Monitor.Distrust(i, s.pool.Health.Load(i), health.Stale, "the moment from which others trust it has not come")
			}
		})
	}
	asked.Wait()
	if !s.conf.Resync {
		return
	}
	warm := func(i int) bool { return marks[i].Standing == fleet.Warm }
	for i, k := range s.keepers {
		begun, overlooked := marks[i].Standing == fleet.Begun, !same[i] && slices.ContainsFunc(s.pool.Peers(i), warm)
		if marks[i].Life == 0 || warm(i) || !begun && !overlooked {
			continue
		}
		k.cold.Store(true)
		cause := "it was not refilled yet when this magent was started"
		s.pool.Monitor.Distrust(i, s.pool.Health.Load(i), health.Warming, cause)
	}
}

// owed is why a node is Stale that this magent has not found down.
const owed = "another magent found it down, and owes it writes"

// attend runs for as long as the server does. It looks at what other magents know of the
// node, after each probe of it and each change of its state, and keeps this one's part of
// that true.
func (k *keeper) attend(ctx context.Context) {
	s, i := k.srv, k.node.Index
	p := s.newProber(i)
	defer p.Forget()
	beat := time.NewTicker(s.times.alive())
	defer beat.Stop()
	for unmarked := false; ; {
		nudged := false
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		case <-k.nudged:
			nudged = true
		}
		if !slices.ContainsFunc(s.pool.Peers(i), s.pool.Health.Writable) {
			continue
		}
		switch state := s.pool.Health.Load(i).State(); {
		case state > health.Slow:
			k.debtors.renew(ctx)
			if state == health.Warming { // who dies owing it writes is to be noticed before all is copied
				k.debtors.look(ctx)
			}
		case k.leave(ctx) != nil:
			continue
		default:
			_ = k.debtors.shut(ctx) // it is tried again
		}
		if nudged {
			k.observe()
			unmarked = k.confer(ctx, p, unmarked)
		}
	}
}

// nudge has attend look, soon.
func (k *keeper) nudge() {
	select {
	case k.nudged <- struct{}{}:
	default:
	}
}

// confer looks whether everybody trusts the node, which it asks by p, if this magent does.
// One that others are refilling, or owe writes, is not to be read. One that nobody has
// marked is marked: if it was unmarked the last time, too, as one that was just flushed by
// another magent is marked by that. It reports whether the node is unmarked.
func (k *keeper) confer(ctx context.Context, p *probe.Prober, unmarked bool) bool {
	s, i := k.srv, k.node.Index
	seen := s.pool.Health.Load(i)
	if seen.State() > health.Slow || !s.pool.Covered(i, health.Slow) {
		return false // whatever others think of it, nobody is better
	}
	if k.debtors.look(ctx).Owed() {
		k.distrust(ctx, seen, health.Stale, owed)
		return false
	}
	if !s.conf.Resync {
		return false
	}
	mark, err := fleet.Look(ctx, p)
	life, met := k.node.Life()
	if err != nil || !met || mark.Life != life {
		return false // its connections will notice
	}
	switch {
	case mark.Standing == fleet.Begun:
		k.distrust(ctx, seen, health.Warming, "another magent refills it")
	case mark.Standing == fleet.Unmarked && unmarked:
		if err := fleet.Vouch(ctx, p, life, s.id); err != nil {
			s.log.Debug("a node's marker could not be written", "node", k.node.Name, "cause", err.Error())
		}
	}
	return mark.Standing == fleet.Unmarked
}

// distrust has this magent read the node no more, and wait with the others for the moment from
// which all do again.
func (k *keeper) distrust(ctx context.Context, seen health.Word, to health.State, cause string) {
	_ = k.debtors.join(ctx) // before others can do without it; it is tried again before the node is trusted
	if !k.depose(ctx, seen, to, cause) {
		_ = k.debtors.shut(ctx)
	}
}

// depose moves the lead away from the node behind the gate, as a drain does, if the
// writes under way come to their ends soon. One that is to be Warming is cold.
func (k *keeper) depose(ctx context.Context, seen health.Word, to health.State, cause string) (done bool) {
	s := k.srv
	s.operator.Lock()
	defer s.operator.Unlock()
	bound, cancel := context.WithTimeout(ctx, 2*s.conf.Timeout)
	defer cancel()
	if open, err := s.handOver(bound, shortly); err == nil {
		defer open()
	}
	before := k.cold.Load()
	if to == health.Warming {
		k.cold.Store(true)
	}
	if !s.pool.Monitor.Distrust(k.node.Index, seen, to, cause) {
		k.cold.Store(before)
		return false
	}
	return true
}

// follow does what a change of the node's state calls for: it ends what is done for one
// that is warming, and begins it.
func (k *keeper) follow(ctx context.Context, c health.Change) {
	if !k.shares() {
		return
	}
	if k.stopWarm != nil {
		k.stopWarm()
		k.stopWarm = nil
	}
	defer k.nudge()
	switch {
	case c.To == health.Down:
		k.debtors.enter()
	case c.To == health.Warming && k.cold.Load() && k.refills():
		k.startWarm(ctx, k.srv.pool.Health.Load(k.node.Index))
	}
}

// refills reports whether the node is to be refilled if it is cold. One whose stats do not
// tell its life cannot be: nobody could say which life it is that is warm.
func (k *keeper) refills() bool {
	_, met := k.node.Life()
	return met && (k.srv.conf.Resync || k.byHand.Load() != nil)
}

// whole notes that the node holds all that there is to hold, for all that is known.
func (k *keeper) whole() {
	k.byHand.Store(nil)
	k.cold.Store(false)
}

// startWarm runs warm, once what ran before has ended.
func (k *keeper) startWarm(ctx context.Context, seen health.Word) {
	k.debtors.enter() // what a refill may leave that breaks off is known here alone
	ctx, k.stopWarm = context.WithCancel(ctx)
	before := k.warmed
	k.warmed = make(chan struct{})
	go func(over chan<- struct{}) {
		defer close(over)
		if before != nil {
			<-before
		}
		k.warm(ctx, seen)
	}(k.warmed)
}

// warm brings a cold node, which became Warming with the word seen, to be trusted. It
// returns when that is done or ctx has ended, as it does when the node's state changes.
func (k *keeper) warm(ctx context.Context, seen health.Word) {
	s := k.srv
	k.trouble, k.holder = "", ""
	if k.byHand.Load() != nil {
		if err := k.emptyByHand(ctx); err != nil {
			s.log.Warn("a node is not refilled by hand", "node", k.node.Name, "cause", err.Error())
		}
	}
	for ctx.Err() == nil && s.pool.Health.Load(k.node.Index) == seen {
		m := fleet.NewMember(fleet.Config{
			ID: s.id, Target: s.targetOf(k.node), Sources: s.sourcesOf(k.node.Index), Times: s.times.fleet,
			Refill: func(ctx context.Context, _ uint64) error { return k.refill(ctx) },
			Notify: k.heard,
		})
		life, at, err := m.Run(ctx)
		if err != nil {
			return
		}
		if known, met := k.node.Life(); met && known != life {
			pause(ctx, time.Second) // it has been restarted, as its connections will notice
			continue
		}
		if err := k.trust(ctx, seen, at); err == nil || ctx.Err() != nil {
			return
		} else {
			s.log.Warn("a node that was refilled is not trusted yet", "node", k.node.Name, "cause", err.Error())
		}
		pause(ctx, time.Second)
	}
}

// emptyByHand empties a node that all magents hold for complete. It stands in the ledger
// first, for as long as it takes all of them to look there, and not to read the node.
func (k *keeper) emptyByHand(ctx context.Context) error {
	k.debtors.enter()
	k.debtors.renew(ctx)
	pause(ctx, 2*k.srv.conf.ProbeInterval)
	return k.forsake(ctx, nil)
}

// rest waits until what is done about the node has ended, as its context has.
func (k *keeper) rest() {
	for _, ended := range []chan struct{}{k.attended, k.warmed} {
		if ended != nil {
			<-ended
		}
	}
}

// close leaves the node's ledger if it may, once rest has returned.
func (k *keeper) close() {
	ctx, cancel := context.WithTimeout(context.Background(), k.srv.conf.ConnectTimeout+k.srv.conf.Timeout)
	defer cancel()
	if k.debtors.entered.Load() && k.owesNothing() {
		_ = k.debtors.leave(ctx, func() error { return nil }) // else the others would take it for dead
	}
	_ = k.debtors.shut(ctx) // else they would wait for it
	k.debtors.close()
	k.prober.Forget()
}

// owesNothing reports whether this magent, which writes no more, has made up for all that
// the node has missed from it.
func (k *keeper) owesNothing() bool {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	var owes atomic.Bool
	err := k.srv.onLanes(ctx, func(l *lane) {
		if j := l.debts[k.node.Index]; j.Len() > 0 || j.Overflowed() {
			owes.Store(true)
		}
	})
	return err == nil && !owes.Load()
}

// heard logs what is new about who refills the node, and why nobody does.
func (k *keeper) heard(n fleet.News) {
	log := k.srv.log.With("node", k.node.Name)
	switch {
	case n.Verdict != fleet.Wait:
	case n.Trouble != "" && n.Trouble != k.trouble:
		k.trouble = n.Trouble
		log.Warn("a node is not refilled now", "cause", n.Trouble)
	case n.Holder != "" && n.Holder != k.srv.id && n.Holder != k.holder:
		k.holder = n.Holder
		log.Info("another magent refills a node", "magent", n.Holder)
	}
}

// trust has a refilled node trusted at the moment at, or later: when this magent has
// made good what the node missed from it on its way back, and so have all others.
func (k *keeper) trust(ctx context.Context, seen health.Word, at time.Time) error {
	if err := k.drained(ctx); err != nil { // a refill that broke off may have left it something
		return err
	}
	known, err := k.known(ctx)
	switch {
	case err != nil:
		return err
	case !known:
		return errors.Join(errUntold, k.flush(ctx))
	}
	if err := k.repay(ctx, seen); err != nil {
		return err
	}
	at, dead, cold, err := k.agreed(ctx, at)
	switch {
	case err != nil:
		return err
	case len(dead) > 0:
		return errors.Join(errDied, k.forsake(ctx, dead))
	case cold:
		return errEmptied
	}
	open, err := k.handOverAt(ctx, at)
	if err != nil {
		return err
	}
	defer open()
	k.whole()
	if k.drain.Load() {
		return nil // it will be Up when it is drained no longer
	}
	if !k.srv.pool.Monitor.Promote(k.node.Index, seen, "it is refilled") {
		k.cold.Store(true)
	}
	return nil
}

// Why a node is emptied once more, and refilled.
var (
	errDied    = errors.New("a magent that owed it writes has died, so it was flushed")
	errUntold  = errors.New("it missed more than can be told, so it was flushed")
	errEmptied = errors.New("another magent has flushed it")
)

// agreed returns the moment from which all magents trust the node, which is not before at,
// shortly before it comes: whatever is found out until then still counts. If some have died
// owing it writes, or another has emptied it, there is none.
func (k *keeper) agreed(ctx context.Context, at time.Time) (moment time.Time, dead []string, cold bool, err error) {
	for {
		if at.After(time.Now()) {
			pause(ctx, time.Until(at)-beforehand)
		}
		settled, dead, err := k.settled(ctx)
		if err != nil || len(dead) > 0 {
			return at, dead, false, err
		}
		mark := k.mark(ctx)
		if mark.Standing == fleet.Begun {
			return at, nil, true, nil
		}
		moment := at
		for _, later := range []time.Time{settled, mark.At} {
			if later.After(moment) {
				moment = later
			}
		}
		if time.Until(moment) <= 2*beforehand {
			return moment, nil, false, nil
		}
		at = moment
	}
}

// mark is what the node's marker says; nothing if it does not answer. A moment that is
// further off than any that was written now is of a clock that is wrong.
func (k *keeper) mark(ctx context.Context) fleet.Mark {
	p := k.srv.newProber(k.node.Index)
	defer p.Forget()
	mark, err := fleet.Look(ctx, p)
	if err != nil {
		return fleet.Mark{}
	}
	if last := time.Now().Add(k.srv.times.fleet.Lead); mark.At.After(last) {
		mark.At = last
	}
	return mark
}

// settled takes this magent out of the node's ledger, once it is known there that its writes are
// to wait for the moment, waits until no other stands in it, and returns the moment from which all trust the node, shortly before that comes, for
// another may enter until then. dead are those that have died owing it writes which nobody
// knows. Nobody is waited for while the node is needed, or while no peer is there to ask.
func (k *keeper) settled(ctx context.Context) (at time.Time, dead []string, err error) {
	s, i := k.srv, k.node.Index
	for began, wait := time.Now(), settling; ; {
		_ = k.debtors.join(ctx) // where that cannot be told, all go by the moment alone
		err := k.leave(ctx)
		st := k.debtors.look(ctx)
		if wait == settling && time.Since(began) > time.Second {
			wait = waiting
			s.log.Info("a node is not trusted yet", "node", k.node.Name, "cause", whyWait(st, err))
		}
		switch {
		case ctx.Err() != nil:
			return at, nil, ctx.Err()
		case !slices.ContainsFunc(s.pool.Peers(i), s.pool.Health.Writable), s.needed(i):
			return at, nil, nil
		case err != nil || st.Err != nil:
		case st.Settled && time.Until(st.At) > beforehand:
			pause(ctx, time.Until(st.At)-beforehand)
			continue
		case st.Settled:
			return st.At, nil, nil
		case len(st.Waiting) == 0 && len(st.Dead) > 0:
			return at, st.Dead, nil
		}
		pause(ctx, wait)
	}
}

// whyWait says what keeps a node from being trusted whose ledger says st.
func whyWait(st fleet.State, err error) string {
	switch err = errors.Join(err, st.Err); {
	case err != nil:
		return err.Error()
	case len(st.Waiting)+len(st.Dead) == 0:
		return "the list of who owes it writes was lost, so all are given time to say so again"
	}
	return "owed writes by " + strings.Join(append(st.Waiting, st.Dead...), ", ")
}

// forsake empties the node, as it may hold old values that nobody can name, and says so
// to the other magents. dead are those on whose account that is. That another magent has
// had the node emptied is no reason not to: it may have been before they skipped a write.
func (k *keeper) forsake(ctx context.Context, dead []string) error {
	life, _ := k.node.Life()
	p := k.srv.newProber(k.node.Index)
	defer p.Forget()
	if err := fleet.Forsake(ctx, p, life, k.srv.id); err != nil {
		return err
	}
	k.cold.Store(true)
	if len(dead) == 0 {
		return nil
	}
	return k.debtors.bury(ctx, dead)
}

// handOverAt is handOver for the moment at, around which writes wait; if that has passed,
// for now. Gates that are closed before a moment stay so, as long as a node may take to answer:
// to write on where others lead no more is worse than to wait. There is a P more, so that
// they are closed in time.
func (k *keeper) handOverAt(ctx context.Context, at time.Time) (open func(), err error) {
	defer takeSpareP()()
	bound := k.srv.conf.Timeout
	if now := time.Now(); at.Before(now) {
		at, bound = now, shortly
	}
	pause(ctx, time.Until(at)-k.srv.quietBefore())
	release, err := k.srv.handOver(ctx, bound)
	if err != nil {
		return nil, err
	}
	all := k.allWait(ctx, at)
	pause(ctx, time.Until(at))
	return func() {
		if !all {
			pause(context.Background(), time.Until(at)+hush)
		}
		release()
	}, nil
}

// allWait tells the other magents that the writes of this one wait, and waits until those of
// all that are to hand the lead over do: one that is held up, or has a slow write under way,
// does so later than the moment says. It reports whether they do; one that does not say so within
// what a node may take to answer is waited for no longer, nor is anybody while the node is needed.
func (k *keeper) allWait(ctx context.Context, at time.Time) bool {
	if k.srv.needed(k.node.Index) { // nor is anybody asked: peers are away, or cold
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, max(0, time.Until(at))+k.srv.conf.Timeout)
	defer cancel()
	if err := k.debtors.shut(ctx); err != nil {
		return false
	}
	for ctx.Err() == nil && !k.srv.needed(k.node.Index) {
		if st := k.debtors.look(ctx); st.Err != nil || len(st.Open) == 0 {
			return st.Err == nil
		}
		pause(ctx, rollCall)
	}
	return false
}

// quietBefore is for how long before a moment writes wait: where they take long, for longer, so that
// those under way are done by then.
func (s *poolServer) quietBefore() time.Duration {
	slowest := time.Duration(0)
	for i := range s.pool.Nodes {
		slowest = max(slowest, s.p99(i))
	}
	return min(max(hush, 2*slowest), beforehand)
}
