package health

import (
	"context"
	"time"
)

// What follows runs on the prober's goroutine of one node, and calls Watch.

// run is the prober of n. Nothing is begun before what has changed is told.
func (m *Monitor) run(n *node) {
	for {
		changes, seen, wait := m.look(n)
		for _, c := range changes {
			m.watch.Notify(c)
		}
		switch {
		case len(changes) > 0: // there may be more by now
		case m.ctx.Err() != nil:
			return
		case seen.State() == Stale:
			m.heal(n, seen)
		case wait > 0:
			m.rest(n, wait)
		default:
			m.probe(n, seen)
		}
	}
}

// look takes the changes that are to be told, and returns the node's word and how
// long its next probe is away.
func (m *Monitor) look(n *node) ([]Change, Word, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := m.now()
	if n.alarm.Swap(false) {
		n.machine.step(now, event{kind: alarmed})
	}
	wait := never
	if n.machine.probe != never {
		wait = n.machine.probe - now
	}
	changes := n.untold
	n.untold = nil
	return changes, m.table.Load(n.index), wait
}

// rest waits for d, or until something happens.
func (m *Monitor) rest(n *node, d time.Duration) {
	var over <-chan time.Time
	if d != never {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-m.ctx.Done():
	case <-n.wake:
	case <-over:
	}
}

// begin returns a context for a call to Watch, which ends when the node falls. If
// the node's word is not seen any more the call is not to be made.
func (m *Monitor) begin(n *node, seen Word) (_ context.Context, _ context.CancelFunc, ok bool) {
	ctx, cancel := context.WithCancel(m.ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fell = cancel
	return ctx, cancel, m.table.Load(n.index) == seen
}

// probe asks the node for a round trip, and has it arrive if that is due.
func (m *Monitor) probe(n *node, seen Word) {
	ctx, cancel, ok := m.begin(n, seen)
	defer cancel()
	if !ok {
		return
	}
	rtt, err := m.watch.Probe(ctx, n.index)
	ev := event{kind: probeBad, last: err != nil && m.watch.Last != nil && m.watch.Last(n.index, err)}
	if err == nil {
		ev = event{kind: probeGood, rtt: rtt, peer: m.best(n), needed: seen.State() == Down && m.watch.Needed(n.index)}
	}
	if m.probed(n, seen, ev, err) {
		m.arrive(ctx, n)
	}
}

// best is the least RTT of the nodes beside n that are not Down; 0 if none is known.
func (m *Monitor) best(n *node) (best time.Duration) {
	for _, o := range m.nodes {
		if rtt := m.RTT(o.index); o != n && rtt > 0 && m.table.Writable(o.index) && (best == 0 || rtt < best) {
			best = rtt
		}
	}
	return best
}

// probed takes the outcome of a probe that began when the node's word was seen, and
// reports whether the node is to arrive. One from another term says nothing of this
// one: what was cut short because the node fell least of all.
func (m *Monitor) probed(n *node, seen Word, ev event, err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.ctx.Err() != nil || m.table.Load(n.index).Term() != seen.Term() {
		return false
	}
	n.probes++
	if err != nil {
		n.bad++
		n.err = err.Error()
		m.step(n, ev, "probe: "+n.err, causeProbe)
		return false
	}
	n.err = ""
	n.rtt.Store(int64(ev.rtt))
	_, arrive := m.step(n, ev, "as fast as its peers", "")
	return arrive
}

// arrive brings a Down node back as what it is.
func (m *Monitor) arrive(ctx context.Context, n *node) {
	to, cause, err := m.watch.Arrive(ctx, n.index)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case m.ctx.Err() != nil:
	case err != nil:
		n.err = err.Error()
		m.step(n, event{kind: probeBad}, "", "")
	default:
		m.step(n, event{kind: arrived, to: to}, cause, "")
	}
}

// heal has the debt of a Stale node paid.
func (m *Monitor) heal(n *node, seen Word) {
	ctx, cancel, ok := m.begin(n, seen)
	defer cancel()
	if !ok {
		return
	}
	to, cause, err := m.watch.Heal(ctx, n.index, seen)
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case m.ctx.Err() != nil || m.table.Load(n.index) != seen:
	case err != nil:
		m.step(n, event{kind: tripped}, err.Error(), causeHeal)
	default:
		m.step(n, event{kind: arrived, to: to}, cause, "")
	}
}
