package health

import (
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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

// Probe asks node i for one round trip on the path of stores, and says how long it
// took.
type Probe func(ctx context.Context, i int) (rtt time.Duration, err error)

// Watch is what a Monitor needs of whoever knows the nodes. All of it is called on
// the prober's goroutine of node i, one call at a time. ctx ends with the Monitor,
// and when the node falls.
type Watch struct {
	Probe Probe
	// Arrive says what a Down node that answers comes back as: Up, Warming or Stale.
	// If it fails, the node stays Down and is asked again, like after a bad probe.
	Arrive func(ctx context.Context, i int) (to State, cause string, err error)
	// Heal pays the debt of a node that became Stale with the word seen, and returns
	// when that is done: the node is then Up or Warming. If it fails the node goes
	// Down with the error's text as the cause. It is not probed meanwhile.
	Heal func(ctx context.Context, i int, seen Word) (to State, cause string, err error)
	// Needed reports whether node i holds keys of which no other replica is readable.
	Needed func(i int) bool
	// Last reports whether a Probe of node i that failed with err may have been answered
	// late, and node i holds keys of which no other replica is as good; nil: never.
	Last func(i int, err error) bool
	// Notify hears of every change, in order per node.
	Notify func(Change)
}

// Report is what has become of a node.
type Report struct {
	Last      Change            // the latest; the start is one, in epoch 0
	Falls     map[string]uint64 // by cause, see maxCauses; the reader's own
	Flaps     int               // falls that damping still counts
	HeldUntil time.Time         // damping holds it back till then; zero: it does not
	Probes    uint64            // whose outcome counted
	ProbesBad uint64            // of these
	Err       string            // why the latest probe, or the return that it led to, failed; empty: it did not
	RTT       time.Duration     // of the latest good probe; 0: there was none
}

// Falls are counted under the cause that Trip was given, or these. Beyond maxCauses
// distinct ones they are counted under causeOther.
const (
	maxCauses  = 32
	causeProbe = "probe"
	causeHeal  = "heal"
	causeOther = "other"
)

// Monitor moves the words of a Table.
type Monitor struct {
	table   *Table
	watch   Watch
	nodes   []*node
	started time.Time
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	late    sync.Mutex // held by TripUnless
}

// node is what the Monitor knows of one. Whoever holds mu may move its word.
type node struct {
	index int
	wake  chan struct{} // something has happened that the prober should look at
	alarm atomic.Bool   // another node fell
	rtt   atomic.Int64

	mu      sync.Mutex
	machine machine
	last    Change
	untold  []Change // not notified yet
	falls   map[string]uint64
	probes  uint64
	bad     uint64
	err     string
	fell    context.CancelFunc // ends the call to Watch that is under way
}

// NewMonitor watches over table, whose words nobody else moves from now on. It
// starts nothing: evidence counts at once, but no node is probed or comes back, and
// nobody is notified, before Start.
func NewMonitor(table *Table, w Watch, limits Limits) *Monitor {
	m := &Monitor{table: table, watch: w, started: time.Now()}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	for i := range table.words {
		s := table.Load(i)
		m.nodes = append(m.nodes, &node{index: i, wake: make(chan struct{}, 1), falls: map[string]uint64{}, fell: func() {},
			machine: newMachine(s.State(), limits, rand.Float64),
			last:    Change{Node: i, From: s.State(), To: s.State(), Cause: "start", At: m.started, Epoch: s.Epoch()}})
	}
	return m
}

// Start starts the probers. It is called once.
func (m *Monitor) Start() {
	for _, n := range m.nodes {
		m.wg.Go(func() { m.run(n) })
	}
}

// Close ends the probers and waits for them. Afterwards nobody is notified.
func (m *Monitor) Close() {
	m.cancel()
	m.wg.Wait()
}

// Trip takes node i down, for the reason cause, if it is still in the term that the
// caller saw when it began to gather evidence. It reports whether this call was the
// one that did. Any goroutine may call it; it waits for no I/O and for no Notify.
func (m *Monitor) Trip(i int, seen Word, cause string) bool {
	if !counts(m.table.Load(i), seen) {
		return false // mostly: when a node fails, many find out
	}
	n := m.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if !counts(m.table.Load(i), seen) {
		return false
	}
	changed, _ := m.step(n, event{kind: tripped}, cause, cause)
	return changed
}

// TripUnless is Trip unless spare says that the node is to be spared, which it reports.
// Those that are called at one moment are carried out one after the other: each knows what
// became of the node of the one before.
func (m *Monitor) TripUnless(i int, seen Word, cause string, spare func() bool) (spared bool) {
	m.late.Lock()
	defer m.late.Unlock()
	if spare() {
		return true
	}
	m.Trip(i, seen, cause)
	return false
}

// counts reports whether evidence from when the word was seen counts against a node
// whose word is w.
func counts(w, seen Word) bool { return w.Term() == seen.Term() && w.State() != Down }

// Demote makes node i Slow if it is Up, with the word that the caller saw. It
// reports whether it did. Any goroutine may call it.
func (m *Monitor) Demote(i int, seen Word, cause string) bool {
	return m.move(i, seen, event{kind: demoted}, cause)
}

// Promote makes node i Up if it is Warming, with the word that the caller saw. It
// reports whether it did. Any goroutine may call it.
func (m *Monitor) Promote(i int, seen Word, cause string) bool {
	return m.move(i, seen, event{kind: promoted}, cause)
}

// Distrust makes node i Warming or Stale, if it is trusted with more, with the word that
// the caller saw: it has turned out to hold less than it was believed to. It reports
// whether it did. Any goroutine may call it.
func (m *Monitor) Distrust(i int, seen Word, to State, cause string) bool {
	return m.move(i, seen, event{kind: distrusted, to: to}, cause)
}

// move tells node i's machine of ev, if the node's word is still seen.
func (m *Monitor) move(i int, seen Word, ev event, cause string) bool {
	n := m.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.table.Load(i) != seen {
		return false
	}
	changed, _ := m.step(n, ev, cause, "")
	return changed
}

// RTT is how long the latest good probe of node i took; 0 before the first.
func (m *Monitor) RTT(i int) time.Duration { return time.Duration(m.nodes[i].rtt.Load()) }

// Report returns what has become of node i.
func (m *Monitor) Report(i int) Report {
	n := m.nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	now := m.now()
	r := Report{Last: n.last, Falls: maps.Clone(n.falls), Flaps: n.machine.falls.count(now),
		Probes: n.probes, ProbesBad: n.bad, Err: n.err, RTT: m.RTT(i)}
	if n.machine.until > now {
		r.HeldUntil = m.started.Add(n.machine.until)
	}
	return r
}

// now is the machines' time.
func (m *Monitor) now() time.Duration { return time.Since(m.started) }

// step tells n's machine of ev. If that changes the node's state it moves its word
// and has the prober tell of it; a fall counts under kind. It reports whether it did,
// and whether the node is to arrive. n.mu is held.
func (m *Monitor) step(n *node, ev event, cause, kind string) (changed, arrive bool) {
	v := n.machine.step(m.now(), ev)
	was := m.table.Load(n.index)
	w, changed := m.table.Move(n.index, was, v.state)
	if !changed {
		return false, v.arrive
	}
	n.last = Change{Node: n.index, From: was.State(), To: v.state, Cause: cause, At: time.Now(), Epoch: w.Epoch()}
	n.untold = append(n.untold, n.last)
	n.poke()
	if v.state == Down {
		if _, known := n.falls[kind]; !known && len(n.falls) >= maxCauses-1 {
			kind = causeOther
		}
		n.falls[kind]++
		n.fell()
		m.sound(n)
	}
	return true, v.arrive
}

// sound has the probers of the other Down nodes look whether these are needed, now
// that n has fallen.
func (m *Monitor) sound(n *node) {
	for _, o := range m.nodes {
		if o != n && !m.table.Writable(o.index) {
			o.alarm.Store(true)
			o.poke()
		}
	}
}

// poke wakes the prober.
func (n *node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}
