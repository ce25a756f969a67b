package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/server/e2e/model"
)

var soakFlag = flag.Duration("soak", 0, "how long the robustness test tries new seeds; 0 is a short run of a few")

// A setting is what a history is made on.
type setting struct {
	name    string
	node    func(*testing.T) *target
	counts  []int // of nodes, by copy
	proxies int
	flags   []string
}

var settings = []setting{
	{"memcached", memcachedTarget, []int{1, 1}, 1, nil},
	{"memnode", memnodeTarget, []int{1, 1}, 1, nil},
	{"memcached/nodes=2,3", memcachedTarget, []int{2, 3}, 1, []string{"--loops", "2"}},
	{"memnode/copies=3", memnodeTarget, []int{1, 1, 1}, 1, nil},
	{"memnode/nodes=2/copies=3", memnodeTarget, []int{2, 2, 2}, 1, []string{"--loops", "2"}},
	{"memcached/copies=3", memcachedTarget, []int{1, 1, 1}, 1, []string{"--loops", "2"}},
	{"memnode/hedge=1ms", memnodeTarget, []int{1, 1}, 1, []string{"--loops", "2", "--hedge", "1ms"}},
	{"memcached/proxies=2", memcachedTarget, []int{1, 1}, 2, nil},
	{"memcached/nodes=2,3/proxies=2", memcachedTarget, []int{2, 3}, 2, nil},
	{"memnode/copies=3/proxies=2", memnodeTarget, []int{1, 1, 1}, 2, nil},
	{"memcached/hedge=auto", memcachedTarget, []int{1, 1}, 1, []string{"--hedge", "auto"}},
}

const (
	historians = 16
	// A node may take so long to answer. Some are frozen for longer, some are not.
	historyTimeout = 300 * time.Millisecond
)

// TestOneReplicaIsEnough strikes nodes at random while clients write and read, but leaves
// one replica of each key alone, and waits until all that were struck are trusted again
// before it strikes others: those that were restarted are refilled by then. No client gets
// an error, a miss, a wrong value, or an older one than was acknowledged, and in the end
// the copies are equal. What is struck when follows from a seed, which is
// printed; what the clients then see is not quite the same every time.
func TestOneReplicaIsEnough(t *testing.T) {
	if *soakFlag > 0 {
		began := time.Now()
		for seed := *seedFlag; time.Since(began) < *soakFlag && !t.Failed(); seed++ {
			historyOf(t, &settings[seed%uint64(len(settings))], seed, 8*time.Second)
		}
		return
	}
	few := settings
	if testing.Short() {
		few = settings[:2]
	}
	for i := range few {
		historyOf(t, &few[i], *seedFlag+uint64(i), time.Duration(amount(1, 1, 4))*time.Second)
	}
}

// historyOf makes one history and judges it.
func historyOf(t *testing.T, s *setting, seed uint64, length time.Duration) {
	t.Run(fmt.Sprintf("%s/seed=%d", s.name, seed), func(t *testing.T) {
		e := &episode{
			cluster: newCluster(t, s.node, s.counts, s.proxyFlags()...),
			rng:     rand.New(rand.NewPCG(seed, 0)),
			began:   time.Now(),
		}
		for range s.proxies - 1 {
			e.join(t, s.proxyFlags()...)
		}
		e.invite(t, seed)
		e.run(t, length)
		e.judge(t)
	})
}

// proxyFlags is of each proxy.
func (s *setting) proxyFlags() []string {
	return append([]string{"--timeout", historyTimeout.String()}, s.flags...)
}

// An episode is one history in the making.
type episode struct {
	*cluster
	rng     *rand.Rand
	began   time.Time
	clients []*historian // the last one is alone before and after
	marks   []model.Mark
	strikes int
}

// invite has clients come, to the proxies by turns.
func (e *episode) invite(t *testing.T, seed uint64) {
	t.Helper()
	proxies := e.all()
	for id := range historians + 1 {
		h := newHistorian(proxies[id%len(proxies)].addr, id, e.began, seed)
		h.c = dial(t, h.addr)
		e.clients = append(e.clients, h)
	}
}

// A blow is what is done to a node at some moment of a phase.
type blow struct {
	at   time.Duration
	node *target
	what string
	do   func()
}

// run strikes nodes for about length, and in two phases at least.
func (e *episode) run(t *testing.T, length time.Duration) {
	t.Helper()
	e.during(t, func() {
		for phases := 0; phases < 2 || time.Since(e.began) < length; phases++ {
			e.strike(e.plan())
			e.healed(t)
		}
	})
}

// during has the clients at work while strike is at it.
func (e *episode) during(t *testing.T, strike func()) {
	t.Helper()
	alone := e.clients[historians]
	if err := alone.prepare(); err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	var all sync.WaitGroup
	defer func() {
		over.Store(true)
		all.Wait()
	}()
	for _, h := range e.clients[:historians] {
		all.Go(func() {
			for !over.Load() {
				if err := h.step(); err != nil {
					t.Errorf("client %d: %v", h.id, err)
					return
				}
				// A client's pause for thought, which nothing is awaited by: without it
				// the clients alone fill the machine, and nodes time out for that.
				time.Sleep(time.Duration(h.rng.IntN(int(time.Millisecond))))
			}
		})
	}
	strike()
	over.Store(true)
	all.Wait()
	e.repaired(t)
	e.healed(t)
	if err := alone.conclude(); err != nil {
		t.Error(err)
	}
}

// strike carries a plan out.
func (e *episode) strike(plan []blow) {
	slices.SortStableFunc(plan, func(a, b blow) int { return cmp.Compare(a.at, b.at) })
	start := time.Now()
	for _, b := range plan {
		<-time.After(time.Until(start.Add(b.at)))
		e.marks = append(e.marks, model.Mark{At: time.Since(e.began), Text: b.what + " " + b.node.String()})
		b.do()
	}
}

// plan picks a copy that survives, and gives some nodes of the others a blow.
func (e *episode) plan() (plan []blow) {
	survivor := e.rng.IntN(e.copies())
	others := slices.DeleteFunc(slices.Clone(e.nodes), func(n *target) bool { return n.copy == survivor })
	e.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for _, n := range others[:1+e.rng.IntN(len(others))] {
		plan = append(plan, e.blows(n)...)
		e.strikes++
	}
	return plan
}

// between draws a duration in milliseconds.
func (e *episode) between(lo, hi int) time.Duration {
	return time.Duration(lo+e.rng.IntN(hi-lo)) * time.Millisecond
}

// blows gives n a fault and takes it away again.
func (e *episode) blows(n *target) []blow {
	at := e.between(0, 60)
	switch kind := e.rng.IntN(8); {
	case kind < 2:
		return []blow{{at, n, "kill", n.kill}, {at + e.between(5, 500), n, "restart", n.restart}}
	case kind < 4 || n.script == nil || len(e.all()) > 1:
		// A script may be one proxy's connection's alone, which then leads elsewhere before the others
		// have heard of it: see "What is not promised" in OPERATIONS.md.
		return []blow{{at, n, "freeze", n.freeze}, {at + e.between(20, 900), n, "thaw", n.thaw}}
	}
	faults := fmt.Sprintf("(seed %d) ", e.rng.Uint32()) + strings.ReplaceAll(historyFaults[e.rng.IntN(len(historyFaults))], "N", fmt.Sprint(e.rng.IntN(300)))
	return []blow{
		{at, n, faults, func() { n.script(faults) }},
		{at + e.between(100, 600), n, "no more faults", func() { n.script("") }},
	}
}

// historyFaults are what a memnode is told. Each takes it down a few times at most: a
// node that fails often is held back for long.
var historyFaults = []string{
	"(always (after N times 1 reset))",
	"(always (after N times 1 close))",
	"(always (times 1 reset)) (always (times 1 refuse 50ms))",
	"(every 100ms (times 1 reset))",
	"(on accept (times 2 close)) (always (after N times 1 reset 20))",
	"(always (times 1 stall 600ms))",
	"(on get (times 3 stall 100ms..400ms))",
	"(always (slow 2ms..30ms))",
	"(always (slow pareto 100us 1.5))",
	"(always (chunk 7)) (always (after N times 1 reset))",
	"(on mg (times 1 truncate 9)) (on get (after N times 1 truncate 60))",
	"(on ms (after N times 1 truncate 1))",
	"(on get (after N times 1 wrongkey))",
	"(on get (after N times 1 lie 3))",
}

// judge holds what the clients saw against the model, and the copies against each
// other.
func (e *episode) judge(t *testing.T) {
	t.Helper()
	var history []model.Op
	for _, h := range e.clients {
		history = append(history, h.ops...)
	}
	faults := model.Check(history)
	if len(faults) > 0 {
		t.Errorf("%d faults in a history that began at %s", len(faults), e.began.Format(time.RFC3339Nano))
	}
	shown := slices.CompactFunc(slices.Clone(faults), func(a, b model.Fault) bool { return a.Op.Key == b.Op.Key })
	for i := range shown[:min(len(shown), 3)] {
		t.Error(model.Explain(&shown[i], history, e.marks))
	}
	if diffs := e.differences(t, historyKeys()); len(diffs) > 0 {
		t.Errorf("the copies differ in %d keys:\n%s", len(diffs), strings.Join(diffs[:min(5, len(diffs))], "\n"))
	}
	doubts, slowest := 0, &history[0]
	for i := range history {
		o := &history[i]
		if o.Outcome == model.Doubt {
			doubts++
		}
		if o.End-o.Start > slowest.End-slowest.Start {
			slowest = o
		}
	}
	t.Logf("%d requests, %d strikes, %d increments in doubt, in %v; the slowest took %s at %v", len(history), e.strikes, doubts,
		time.Since(e.began).Round(time.Millisecond), millis(slowest.End-slowest.Start), slowest.Start.Round(time.Millisecond))
	if doubts > e.strikes*historians {
		t.Errorf("%d increments are in doubt after %d strikes", doubts, e.strikes)
	}
	if len(history) < 200 {
		t.Errorf("%d requests prove little", len(history))
	}
}
