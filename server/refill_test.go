package server

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/fleet"
	"magent/upstream/health"
	"magent/upstream/memnode"
	"magent/upstream/refill"
)

// slowly has refills beside clients begin with n keys a second.
func (at *site) slowly(n int) *site {
	at.cfg.Pools[0].ResyncRate = config.ResyncRate{Keys: int(float64(n) / refill.Floor)}
	return at
}

// refilling is a magent that has refilled a part of node 0, which has restarted.
func (at *site) refilling(t *testing.T) *Server {
	t.Helper()
	s := at.magent()
	s.fill(t, 2000)
	at.restart(0, s)
	s.midway(t, 0)
	return s
}

// since wants node i to have changed its state n times since it had the word before.
func (s *Server) since(t *testing.T, i int, before health.Word, n uint64) {
	t.Helper()
	if got := s.pools[0].pool.Health.Load(i).Epoch() - before.Epoch(); got != n {
		t.Errorf("%s has changed its state %d times, not %d: %+v", s.pools[0].pool.Nodes[i].Name, got, n, s.pools[0].pool.Monitor.Report(i).Last)
	}
}

// A node that missed more than the journals hold is flushed once and refilled.
func TestDebtOverflows(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].DebtLimit, at.cfg.Pools[0].Timeout = 1<<10, 250*time.Millisecond
	s := at.magent()
	s.fill(t, 2000)
	c := s.caller(t)
	at.nodes[0].Freeze()
	other := map[int]string{}
	for i := range 300 {
		if other[i] = fmt.Sprint("new ", i); i%3 == 0 {
			other[i] = ""
			c.wants("delete "+mix(i), "DELETED")
		} else {
			c.wants(fmt.Sprintf("set %s 0 0 %d\r\n%s", mix(i), len(other[i]), other[i]), "STORED")
		}
	}
	s.awaits(t, 0, health.Down)
	at.nodes[0].Thaw()
	trusted(t, s)
	at.holds(s, 2000, other)
	if n := at.nodes[0].Stats().Commands["flush_all"]; n != 1 {
		t.Errorf("the node was flushed %d times", n)
	}
}

// The target dies again, midway: it is refilled from the beginning, and trusted once.
func TestTargetDiesMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(1000)
	s := at.refilling(t)
	at.nodes[0].Kill()
	s.awaits(t, 0, health.Down)
	before := s.pools[0].pool.Health.Load(0)
	if err := at.nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)
	s.since(t, 0, before, 2) // by way of Warming
	at.holds(s, 2000, nil)
}

// The target stands still midway, while keys that are being copied are deleted. What was
// added and not verified is not there when it is trusted.
func TestTargetStandsStillMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(1000)
	at.cfg.Pools[0].Timeout, at.times.silence = 250*time.Millisecond, 400*time.Millisecond
	s := at.magent()
	s.fill(t, 2000)
	c := s.caller(t)
	at.restart(0, s)
	s.midway(t, 0)
	at.nodes[0].Freeze()
	other := map[int]string{}
	for i := 0; i < 2000; i += 7 {
		other[i] = ""
		c.wants("delete "+mix(i), "DELETED")
	}
	s.awaits(t, 0, health.Down)
	eventually(t, "the refill has given up", func() bool { return s.pools[0].keepers[0].progress.Load() == nil })
	at.nodes[0].Thaw()
	trusted(t, s)
	at.holds(s, 2000, other)
}

// The target holds back one add until it was given up, its key deleted, and the rest
// refilled: it comes too late to be believed.
func TestAddComesLate(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.times.silence = 200 * time.Millisecond
	s := at.magent()
	s.fill(t, 200)
	c := s.caller(t)
	at.restart(0, s)
	if err := at.nodes[0].SetFault(fmt.Sprintf("(on ms key %q (times 1 stall 900ms))", mix(100))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the add is held back", func() bool { return at.nodes[0].Stats().Faults > 0 })
	held := time.Now()
	c.wants("delete "+mix(100), "DELETED")
	trusted(t, s)
	if items := at.nodes[0].Stats().Commands; items["flush_all"] > 0 {
		t.Errorf("it was flushed: %v", items)
	}
	eventually(t, "the add has been carried out", func() bool { return time.Since(held) > time.Second })
	at.holds(s, 200, map[int]string{100: ""})
}

// The source stands still midway, and comes back with its memory. Nobody has trusted the
// node that was being refilled for more than it is; what was deleted meanwhile stays so.
func TestSourceStandsStillMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(1000)
	at.cfg.Pools[0].Timeout = 250 * time.Millisecond
	s := at.magent()
	s.fill(t, 2000)
	c := s.caller(t)
	at.restart(0, s)
	s.midway(t, 0)
	at.nodes[1].Freeze()
	other := map[int]string{}
	for i := 0; i < 2000; i += 5 { // the empty one leads now
		if got := c.line("delete " + mix(i)); got != "DELETED" && got != "NOT_FOUND" {
			t.Fatal(got)
		}
		if other[i] = ""; i%2 == 0 {
			other[i] = "again"
			c.wants(fmt.Sprintf("set %s 0 0 5\r\nagain", mix(i)), "STORED")
		}
	}
	s.awaits(t, 1, health.Down)
	eventually(t, "the refill has ended", func() bool { return s.pools[0].keepers[0].progress.Load() == nil })
	if state := s.pools[0].pool.Health.Load(0).State(); state != health.Warming {
		t.Errorf("half refilled it is %s", state)
	}
	at.nodes[1].Thaw()
	trusted(t, s)
	at.holds(s, 2000, other)
}

// The source is taken for dead midway, and goes on to answer the refill. What it says is
// of the past: the empty one leads.
func TestSourceIsTakenForDeadMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(1000)
	s := at.magent()
	s.fill(t, 2000)
	c := s.caller(t)
	at.restart(0, s)
	s.midway(t, 0)
	if err := at.nodes[1].SetFault("(on set (stall 1h))"); err != nil { // which is of probes alone
		t.Fatal(err)
	}
	if !s.pools[0].pool.Monitor.Trip(1, s.pools[0].pool.Health.Load(1), "the test says so") {
		t.Fatal("it is down already")
	}
	other := map[int]string{}
	for i := range 2000 {
		other[i] = ""
		if got := c.line("delete " + mix(i)); got != "DELETED" && got != "NOT_FOUND" {
			t.Fatal(got)
		}
	}
	eventually(t, "the refill has ended", func() bool { return s.pools[0].keepers[0].progress.Load() == nil })
	if err := at.nodes[1].SetFault(""); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)
	at.holds(s, 2000, other)
}

// The source of a node of three copies loses the lead while it holds an add back, and its
// key is deleted where it is led now: the source, which does not know, is not believed.
func TestSourceLosesTheLeadMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1, 1)
	at.cfg.Pools[0].Timeout = 500 * time.Millisecond
	s := at.magent()
	s.fill(t, 10)
	c := s.caller(t)
	at.nodes[0].Kill()
	s.awaits(t, 0, health.Down)
	if err := at.nodes[0].SetFault(fmt.Sprintf("(on ms key %q (times 1 stall 300ms))", mix(3))); err != nil {
		t.Fatal(err)
	}
	if err := at.nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the add is held back", func() bool { return at.nodes[0].Stats().Faults > 0 })
	if err := at.nodes[1].SetFault("(on set (stall 1h))"); err != nil { // which is of probes alone
		t.Fatal(err)
	}
	if !s.pools[0].pool.Monitor.Trip(1, s.pools[0].pool.Health.Load(1), "the test says so") {
		t.Fatal("it is down already")
	}
	c.wants("delete "+mix(3), "DELETED")
	if _, there := at.nodes[1].Get(mix(3)); !there {
		t.Error("the source has heard of it")
	}
	s.awaits(t, 0, health.Up)
	for _, i := range []int{0, 2} {
		if item, there := at.nodes[i].Get(mix(3)); there {
			t.Errorf("node %d holds %q, which was deleted", i, item.Value)
		}
	}
	if err := at.nodes[1].SetFault(""); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)
	at.holds(s, 10, map[int]string{3: ""})
}

// The source dies midway, and comes back empty. What was refilled by then is all there is:
// it is trusted, and the source refilled from it.
func TestSourceDiesMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(1000)
	s := at.refilling(t)
	at.nodes[1].Kill()
	s.awaits(t, 1, health.Down)
	c := s.caller(t)
	c.wants("set later 0 0 1\r\nv", "STORED")
	if state := s.pools[0].pool.Health.Load(0).State(); state != health.Warming {
		t.Errorf("half refilled it is %s", state)
	}
	if err := at.nodes[1].Restart(); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)
	saved := 0
	for i := range 2000 {
		one, is := at.nodes[0].Get(mix(i))
		two, too := at.nodes[1].Get(mix(i))
		if is != too || string(one.Value) != string(two.Value) {
			t.Fatalf("%s is %q and %q", mix(i), one.Value, two.Value)
		}
		if is {
			saved++
		}
	}
	if saved < 200 {
		t.Errorf("%d keys are left of what was refilled", saved)
	}
	c.wants("get later", "VALUE later 0 1")
	if at.mark(0).Standing != fleet.Warm {
		t.Error("what was refilled in part, and is the best there is, is to be refilled again")
	}
}

// A source that was slow, and is asked for nothing any more, has nobody who suffers.
func TestNobodySuffers(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	s := at.magent()
	s.fill(t, 10)
	c := s.caller(t)
	eventually(t, "it is known how long it takes", func() bool {
		c.line("get " + mix(1))
		return s.pools[0].keepers[0].usual.Load() > 0
	})
	if err := at.nodes[0].SetFault("(on get (times 1 slow 100ms))"); err != nil {
		t.Fatal(err)
	}
	c.line("get " + mix(1))
	r := &refillRun{keeper: s.pools[0].keepers[1]}
	if !r.suffers(0) {
		t.Errorf("p99 is %v, and nobody suffers", s.pools[0].p99(0))
	}
	eventually(t, "nobody suffers", func() bool { return !r.suffers(0) })
}

// A node of three copies, in lists of different length, is refilled from all nodes that
// lead its keys. While one that may have some of them is away, and none in its place, it is
// not trusted; one that is away and known to be empty is not waited for.
func TestRefillFromAllWhoLead(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2, 3)
	s := at.magent()
	s.fill(t, 2000)
	at.restart(0, s)
	trusted(t, s)
	at.holds(s, 2000, nil)
	at.restart(3, s)
	trusted(t, s)
	at.holds(s, 2000, nil)

	at.nodes[2].Kill()
	s.awaits(t, 2, health.Down)
	at.restart(0, s)
	s.awaits(t, 0, health.Warming)
	if _, err := s.pools[0].sources(0); err == nil || !strings.Contains(err.Error(), s.pools[0].pool.Nodes[2].Name) {
		t.Errorf("beside one that is away: %v", err)
	}
	eventually(t, "a refill was tried", func() bool { return at.nodes[0].Stats().Commands["mg"] > 10 })
	if state := s.pools[0].pool.Health.Load(0).State(); state != health.Warming {
		t.Errorf("beside one that is away it is %s", state)
	}
	if err := at.nodes[2].Restart(); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)

	three := newSite(t, 1, 1, 1)
	s = three.magent()
	s.fill(t, 1000)
	three.nodes[1].Kill()
	s.awaits(t, 1, health.Down)
	three.restart(0, s) // the third stands in for both
	s.awaits(t, 0, health.Up)
	three.restart(2, s) // and the first for it
	s.awaits(t, 2, health.Up)
	if err := three.nodes[1].Restart(); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)
	three.holds(s, 1000, nil)
}

// A node that is too small for its keys, and evicts its own marker, is trusted in the end.
func TestRefillOfASmallNode(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	small := startNode(t, memnode.Config{MaxBytes: 64 << 10})
	at.cfg.Pools[0].Copies[0] = []config.Node{nodeAt(t, small.Addr())}
	at.nodes[0] = small
	s := at.magent()
	s.fill(t, 4000)
	at.restart(0, s)
	trusted(t, s)
	if n := small.Stats(); n.Evictions == 0 {
		t.Errorf("nothing was evicted of %d items", n.Items)
	}
}

// Nothing is left over of many refills.
func TestRefillsLeaveNothing(t *testing.T) {
	at := newSite(t, 1, 1)
	at.times.fleet.Lead = 50 * time.Millisecond
	s := at.magent()
	s.fill(t, 200)
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	once := func() {
		at.restart(0, s)
		trusted(t, s)
		at.holds(s, 200, nil)
	}
	once()
	procs := runtime.GOMAXPROCS(0)
	goroutines, files := runtime.NumGoroutine(), descriptors()
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		once()
	}
	eventually(t, "all that was begun has ended", func() bool {
		return runtime.NumGoroutine() <= goroutines+2 && descriptors() <= files+2
	})
	if runtime.GOMAXPROCS(0) != procs {
		t.Errorf("%d threads are left, of %d", runtime.GOMAXPROCS(0), procs)
	}
}

// Shutdown in the middle of a refill returns at once, whichever node stands still, and
// gives the lease back.
func TestShutdownMidway(t *testing.T) {
	t.Parallel()
	for name, still := range map[string]int{"nobody": -1, "the target": 0, "the source": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1).slowly(1000)
			at.cfg.Pools[0].Timeout = 250 * time.Millisecond
			s := at.magent()
			s.fill(t, 2000)
			at.restart(0, s)
			s.midway(t, 0)
			if still >= 0 {
				at.nodes[still].Freeze()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			for _, n := range at.nodes {
				n.Thaw()
			}
			if still < 0 && at.leased() {
				t.Error("the lease is still there")
			}
			trusted(t, at.magent())
			at.holds(s, 2000, nil)
		})
	}
}

// A value is changed in every way while one step of its copy is held back: the copies end
// equal, and what was deleted is gone.
func TestValueChangesDuringItsCopy(t *testing.T) {
	t.Parallel()
	points := map[string]struct {
		node  int // that is held back
		fault string
	}{
		"the read":   {1, "(on mg key %q (times 1 slow 150ms))"},
		"the add":    {0, "(on ms key %q (times 1 stall 150ms))"},
		"its answer": {0, "(on ms key %q (times 1 slow 150ms))"},
		"the look":   {1, "(on mg key %q (after 1 times 1 stall 150ms))"},
	}
	changes := map[string][]string{
		"delete":      {"delete %s"},
		"set anew":    {"delete %s", "set %s 7 0 1\r\n9"},
		"set twice":   {"set %s 7 100 1\r\n8", "delete %s", "set %s 8 200 1\r\n9"},
		"incr":        {"incr %s 3", "incr %s 4"},
		"touch":       {"touch %s 1000"},
		"append":      {"append %s 0 0 1\r\n1"},
		"get, and go": {"gat 500 %s", "delete %s", "add %s 0 600 1\r\n4"},
	}
	for where, p := range points { // each with all the changes
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			s := at.magent()
			c, held := s.caller(t), uint64(0)
			for what, requests := range changes {
				key := strings.NewReplacer(" ", "_", ",", "_").Replace(what)
				c.wants("set "+key+" 1 3000 1\r\n5", "STORED")
				if err := at.nodes[p.node].SetFault(""); err != nil {
					t.Fatal(err)
				}
				at.restart(0, s)
				if err := at.nodes[p.node].SetFault(fmt.Sprintf(p.fault, key)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "a step is held back, or all is over", func() bool {
					return at.nodes[p.node].Stats().Faults > 0 || s.pools[0].pool.Health.Load(0).State() == health.Up
				})
				held += at.nodes[p.node].Stats().Faults
				for _, r := range requests {
					c.line(fmt.Sprintf(r, key))
				}
				trusted(t, s)
				one, is := at.nodes[0].Get(key)
				two, too := at.nodes[1].Get(key)
				if is != too || is == (what == "delete") || string(one.Value) != string(two.Value) || one.Flags != two.Flags ||
					one.Exptime.Sub(two.Exptime).Abs() > time.Second {
					t.Errorf("%s: %q, %d, %v at the node, %q, %d, %v at its peer", what, one.Value, one.Flags, one.Exptime, two.Value, two.Flags, two.Exptime)
				}
			}
			if held == 0 {
				t.Error("no step was held back")
			}
		})
	}
}
