package health

import (
	"context"
	"sync"
	"time"
)

// Change is one move of one node: what logs, metrics and tests hang on.
type Change struct {
	Node     int
	From, To State
	Cause    string    // in words, for people
	At       time.Time // when
	Epoch    uint64    // the epoch that begins
}

// Probe asks node i for a round trip; nil says that it answered.
type Probe func(ctx context.Context, i int) error

// Monitor moves the words of a Table. Loops report what they saw with Trip; a
// goroutine per Down node probes it and brings it back.
type Monitor struct {
	table  *Table
	probe  Probe
	limits Limits
	notify func(Change)
	wait   func(context.Context, time.Duration) // between probes; a test's own
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex // guards what follows
	last []Change   // the latest change of each node
}

// NewMonitor watches over table. notify hears of every change of a node
// on a goroutine of the monitor's own: a log that nobody reads holds up no loop.
func NewMonitor(table *Table, probe Probe, limits Limits, notify func(Change)) *Monitor {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Monitor{table: table, probe: probe, limits: limits, notify: notify, wait: wait, ctx: ctx, cancel: cancel,
		last: make([]Change, len(table.words))}
	now := time.Now()
	for i := range m.last {
		m.last[i] = Change{Node: i, To: Up, At: now, Cause: "start"}
	}
	return m
}

// Trip takes node i down, for the reason cause, if it is still in the epoch that
// the caller saw. It reports whether this call was the one that did.
func (m *Monitor) Trip(i int, seen Word, cause string) bool {
	next, ok := m.table.Move(i, seen, Down)
	if !ok {
		return false
	}
	c := Change{Node: i, From: seen.State(), To: Down, Cause: cause, At: time.Now(), Epoch: next.Epoch()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(c)
	if m.ctx.Err() == nil {
		m.wg.Add(1)
		go m.recover(c, next)
	}
	return true
}

// recover tells of the change c, which took a node down with the word seen, and
// probes that node until it is back.
func (m *Monitor) recover(c Change, seen Word) {
	defer m.wg.Done()
	m.notify(c)
	i, node := c.Node, machine{state: Down}
	for {
		err := m.probe(m.ctx, i)
		ev := probeOK
		if err != nil {
			ev = probeBad
		}
		if node.step(ev, m.limits) == Up {
			if next, ok := m.table.Move(i, seen, Up); ok {
				c := Change{Node: i, From: Down, To: Up, Cause: "probe answered", At: time.Now(), Epoch: next.Epoch()}
				m.mu.Lock()
				m.note(c)
				m.mu.Unlock()
				m.notify(c)
			}
			return
		}
		if m.wait(m.ctx, node.wait); m.ctx.Err() != nil {
			return
		}
	}
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// note keeps c as the latest change of its node, unless a later one has overtaken
// it. m.mu is held.
func (m *Monitor) note(c Change) {
	if c.Epoch >= m.last[c.Node].Epoch {
		m.last[c.Node] = c
	}
}

// Last returns the latest change of node i.
func (m *Monitor) Last(i int) Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[i]
}

// Close ends the probers and waits for them.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.wg.Wait()
}
