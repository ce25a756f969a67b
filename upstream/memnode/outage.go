package memnode

import (
	"sync"
	"time"
)

// outage is a fault of the whole node. The goroutines that serve cannot carry it out,
// for it stops them; goroutines of the script do, one at a time:
//
//	a command or a new connection ── begin ──▶ a task: carryOut
//	                              ◀── held ───
//	a rule of time: keepTime ─────── strike ─▶ carryOut
//
// When the script is replaced or the node closed, an outage ends at once: the node
// thaws, listens or comes back.
type outage struct {
	name string // freeze, refuse, restart, kill, or reset for all connections
	last time.Duration
}

const (
	leastPeriod = time.Millisecond      // of a rule of time
	bindPause   = 10 * time.Millisecond // before a taken port is tried again
)

// outage draws what a firing rule does. Under the mutex of its faults.
func (r *ruleState) outage() outage { return outage{r.Name, r.Delay.draw(r.draw)} }

// start sets the rules of time going. A nil f has none.
func (f *faults) start() {
	if f == nil {
		return
	}
	for _, r := range f.rules {
		if r.place() == aTime {
			f.task(func() { f.keepTime(r) })
		}
	}
}

// stop ends every outage and every task, and returns when they have.
func (f *faults) stop() {
	if f == nil {
		return
	}
	f.mu.Lock()
	if !f.over {
		f.over = true
		close(f.ended)
	}
	f.mu.Unlock()
	f.tasks.Wait()
}

// task runs do unless the script has ended.
func (f *faults) task(do func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.tasks.Go(do)
	}
	return !f.over
}

// keepTime strikes by a rule of time until the script ends. Times are counted from
// when the last one was due, so that what it did does not shift the next.
func (f *faults) keepTime(r *ruleState) {
	for due := f.began; ; {
		f.mu.Lock()
		due = due.Add(max(r.Every.draw(r.draw), leastPeriod))
		f.mu.Unlock()
		if now := time.Now(); due.Before(now) {
			due = now
		}
		if !f.rest(time.Until(due), nil) {
			return
		}
		f.strike(r)
	}
}

// strike lets a rule of time fire, unless the node is dead.
func (f *faults) strike(r *ruleState) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.node.current.Load().dead() {
		return
	}
	f.mu.Lock()
	fires := f.strikes(r, time.Since(f.began))
	var o outage
	if fires {
		o = r.outage()
	}
	f.mu.Unlock()
	if fires {
		f.carryOut(o, func() {})
	}
}

// begin carries out an outage when its turn comes. The channel is closed as soon as
// it has hold of the node, or is not to be.
func (f *faults) begin(o outage) <-chan struct{} {
	held := make(chan struct{})
	hold := sync.OnceFunc(func() { close(held) })
	if !f.task(func() {
		defer hold()
		f.turn.Lock()
		defer f.turn.Unlock()
		f.carryOut(o, hold)
	}) {
		hold()
	}
	return held
}

// carryOut returns when the outage is over. It holds the turn.
func (f *faults) carryOut(o outage, hold func()) {
	n := f.node
	p := n.current.Load()
	if over(f.ended) || p.dead() {
		return
	}
	switch o.name {
	case "reset":
		p.resetAll()
	case "kill":
		n.Kill()
	case "freeze":
		n.locked(func() { p.freeze(byFault) })
		hold()
		f.rest(o.last, p.done)
		n.locked(func() { p.thaw(byFault) })
	case "refuse":
		p.deafen()
		hold()
		f.rest(o.last, p.done)
		f.bind(func() error { return n.hear(p) })
	case "restart":
		n.locked(func() { p.stop(true) })
		f.rest(o.last, nil)
		f.bind(func() error { return n.revive(p) })
	}
}

// bind tries until it succeeds or the script ends: somebody may hold the port.
func (f *faults) bind(try func() error) {
	for try() != nil && f.rest(bindPause, nil) {
	}
}

// rest waits for d. It reports false if the script or, unless it is nil, done has ended.
func (f *faults) rest(d time.Duration, done <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.ended:
	case <-done:
	case <-t.C:
		return true
	}
	return false
}
