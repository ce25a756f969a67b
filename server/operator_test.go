package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"magent/upstream/health"
)

// drains has node i drained, or no longer.
func (s *Server) drains(t *testing.T, i int, on bool) {
	t.Helper()
	if err := s.Drain(s.pools[0].pool.Nodes[i].Name, on); err != nil {
		t.Fatal(err)
	}
}

// isDrained wants the flag and the state of node i, and that status says the same.
func (s *Server) isDrained(t *testing.T, i int, drained bool, state health.State) {
	t.Helper()
	n := s.Status().Nodes[i]
	if got := s.pools[0].keepers[i].drain.Load(); got != drained || n.Drain != drained || n.State != state.String() {
		t.Errorf("%s: drained %v, and the status %+v; want %v, %s", n.Name, got, n, drained, state)
	}
}

func (c *caller) wants(request, answer string) {
	c.t.Helper()
	if got := c.line(request); got != answer {
		c.t.Errorf("%q: %q, want %q", request, got, answer)
	}
}

// A drained node is written and not read. Twice is as good as once, either way.
func TestDrain(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	c.wants("set k 0 0 1\r\na", "STORED")
	s.drains(t, 0, true)
	s.drains(t, 0, true)
	s.isDrained(t, 0, true, health.Warming)
	reads := nodes[0].Stats().Commands["get"]
	c.wants("get k", "VALUE k 0 1")
	if got := nodes[0].Stats().Commands["get"]; got != reads {
		t.Errorf("the drained node was sent %d gets", got-reads)
	}
	c.wants("set k 0 0 1\r\nb", "STORED")
	for i, n := range nodes {
		if item, _ := n.Get("k"); string(item.Value) != "b" {
			t.Errorf("node %d holds %q", i, item.Value)
		}
	}
	s.drains(t, 0, false)
	s.drains(t, 0, false)
	s.isDrained(t, 0, false, health.Up)
	if cause := s.Status().Nodes[0].Cause; cause != undrained {
		t.Errorf("it is up because %s", cause)
	}
	s.drains(t, 1, true) // which leads nothing
	s.isDrained(t, 1, true, health.Warming)
}

func TestDrainIsRefused(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	refused := func(name string, words ...string) {
		t.Helper()
		err := s.Drain(name, true)
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("drain %s: %v, want %q", name, err, w)
			}
		}
	}
	a, b := s.pools[0].pool.Nodes[0].Name, s.pools[0].pool.Nodes[1].Name
	refused("c", "there is no node c: there are "+a+", "+b)
	if err := s.Drain("c", false); err == nil {
		t.Error("an unknown node is drained no longer")
	}
	s.drains(t, 0, true)
	refused(b, b+" cannot be drained", "no replica that is up: "+a+" is warming")
	s.isDrained(t, 1, false, health.Up)
	s.drains(t, 0, false)
	nodes[0].Kill()
	s.caller(t).line("get k")
	s.awaits(t, 0, health.Down)
	refused(a, a+" cannot be drained", "it is down")
	refused(b, a+" is down")
	s.isDrained(t, 0, false, health.Down)

	alone, _ := proxied(t, 2)
	if err := alone.Drain(alone.pools[0].pool.Nodes[0].Name, true); err == nil || !strings.Contains(err.Error(), "one copy of each key") {
		t.Errorf("a pool of one copy: %v", err)
	}
	for from, want := range map[string]string{b: "it is down", a: "it holds no key of that", "c": "there is no node c"} {
		if err := s.Resync(a, from); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("resync %s from %s: %v, want %q", a, from, err, want)
		}
	}
}

// Only the copies of a node's own keys count, and only those that are whole.
func TestLacking(t *testing.T) {
	s, _ := proxied(t, 2, 2, 2)
	s.pools[0].pool.Monitor.Close()
	const p1, b1, c1 = 0, 2, 4
	s.becomes(t, b1, health.Slow)
	if got := s.pools[0].lacking(p1); got != nil {
		t.Errorf("beside a slow one: %q", got)
	}
	s.becomes(t, b1, health.Warming)
	if got := s.pools[0].lacking(p1); got != nil {
		t.Errorf("beside a whole copy: %q", got)
	}
	s.becomes(t, c1, health.Stale)
	if got := s.pools[0].lacking(p1); len(got) != 2 {
		t.Errorf("beside two that are not whole: %q", got)
	}
}

// The drain is over when the node comes back in another life.
func TestDrainEndsWithTheLife(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	c.wants("set k 0 0 1\r\na", "STORED")
	s.drains(t, 0, true)
	nodes[0].Kill()
	c.wants("set k 0 0 1\r\nb", "STORED") // nobody else would find out: it is not probed
	s.awaits(t, 0, health.Down)
	c.wants("get k", "VALUE k 0 1")
	s.isDrained(t, 0, true, health.Down)
	if err := nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, 0, health.Up)
	s.isDrained(t, 0, false, health.Up)
	if got := s.Snapshot().Counters; got.FailedOver()+got.Retries+got.Errors+got.Misses > 0 {
		t.Errorf("clients were concerned: %+v", got)
	}
}

// A cold node is not read as it is: the drain, and its end, are no more than a word.
func TestDrainOfAColdNode(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	s.pools[0].pool.Monitor.Close() // nobody refills it
	s.pools[0].keepers[0].cold.Store(true)
	seen := s.becomes(t, 0, health.Warming)
	for _, on := range []bool{true, false} {
		s.drains(t, 0, on)
		if drained := s.pools[0].keepers[0].drain.Load(); drained != on || s.pools[0].pool.Health.Load(0) != seen {
			t.Errorf("drained: %v, want %v; it is %s", drained, on, s.pools[0].pool.Health.Load(0).State())
		}
	}
}

// It is not when the connections alone are lost: the node is told what it missed, and is
// still drained.
func TestDrainSurvivesSilence(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	s.drains(t, 0, true)
	nodes[0].Freeze()
	c.wants("set k 0 0 1\r\na", "STORED")
	s.awaits(t, 0, health.Down)
	nodes[0].Thaw()
	s.awaits(t, 0, health.Warming, health.Up)
	s.isDrained(t, 0, true, health.Warming)
	if item, _ := nodes[0].Get("k"); string(item.Value) != "a" {
		t.Errorf("it holds %q", item.Value)
	}
	s.drains(t, 0, false)
	s.isDrained(t, 0, false, health.Up)
}

// Whoever is drained is read, and leads, when nobody else is left. When the other one is
// back and empty it is needed: the drain is over.
func TestDrainedNodeIsReadAtNeed(t *testing.T) {
	for drained := range 2 { // the lead, and the follower
		s, nodes := proxied(t, 1, 1)
		other := 1 - drained
		c := s.caller(t)
		c.wants("set k 0 0 1\r\na", "STORED")
		s.drains(t, drained, true)
		nodes[other].Kill()
		c.wants("get k", "VALUE k 0 1")
		c.wants("set k 0 0 2\r\nab", "STORED")
		s.isDrained(t, drained, true, health.Warming)
		if err := nodes[other].Restart(); err != nil {
			t.Fatal(err)
		}
		s.awaits(t, drained, health.Up)
		s.isDrained(t, drained, false, health.Up)
		c.wants("get k", "VALUE k 0 2")
		s.awaits(t, other, health.Up)
		c.wants("get k", "VALUE k 0 2")
	}
}

// With a third copy it need not be over.
func TestDrainLastsWhileACopyIsWhole(t *testing.T) {
	s, nodes := proxied(t, 1, 1, 1)
	c := s.caller(t)
	c.wants("set k 0 0 1\r\na", "STORED")
	s.drains(t, 2, true)
	s.becomes(t, 0, health.Warming) // and nobody refills it
	s.pools[0].keepers[0].cold.Store(true)
	s.pools[0].settleDrains(0)
	s.isDrained(t, 2, true, health.Warming)
	nodes[1].Kill() // the empty one is read before the drained one, until that is up
	c.line("get k")
	s.awaits(t, 2, health.Up)
	s.isDrained(t, 2, false, health.Up)
	c.wants("get k", "VALUE k 0 1")
}

// Who makes a node Up and has not seen that it is drained is set right.
func TestDrainedNodeIsNotUp(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	s.drains(t, 0, true)
	seen := s.pools[0].pool.Health.Load(0)
	if !s.pools[0].pool.Monitor.Promote(0, seen, "refilled") {
		t.Fatal("it is not promoted")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	back := func() bool { w := s.pools[0].pool.Health.Load(0); return w != seen && w.State() == health.Warming }
	if waitFor(ctx, back) != nil {
		t.Fatal("it stays up")
	}
	s.isDrained(t, 0, true, health.Warming)
}

// Who makes a node Warming because it is drained, and has not seen that it is no longer, is
// set right, too.
func TestNodeIsNotDrainedForEver(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	s.pools[0].pool.Monitor.Close()
	k := s.pools[0].keepers[0]
	for _, c := range []struct {
		drained, cold bool
		want          health.State
	}{{true, false, health.Warming}, {false, true, health.Warming}, {false, false, health.Up}} {
		k.drain.Store(c.drained)
		k.cold.Store(c.cold)
		s.becomes(t, 0, health.Warming)
		s.pools[0].settleDrains(0)
		if got := s.pools[0].pool.Health.Load(0).State(); got != c.want {
			t.Errorf("drained %v, cold %v: it is %s, want %s", c.drained, c.cold, got, c.want)
		}
	}
}

// What a node that is being healed is still to be given keeps no other from being drained:
// that may be much, and here it does not end.
func TestDrainWhileAnotherIsHealed(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2, 2)
	at.cfg.Pools[0].Timeout, at.cfg.Pools[0].RepairRate = 30*time.Second, 1000
	s := at.magent()
	s.fill(t, 1000)
	s.pools[0].pool.Monitor.Close()
	if err := s.pools[0].underGate(t.Context(), func() error { return nil }); err != nil { // these writes are over
		t.Fatal(err)
	}
	seen := s.becomes(t, 1, health.Stale)
	s.owed(t, func(l *loop) {
		for i := range 1000 {
			if s.pools[0].pool.Replica(0, []byte(mix(i))) == 1 {
				l.lanes[0].debts[1].Note([]byte(mix(i)), false)
			}
		}
	})
	at.nodes[1].Freeze()
	defer at.nodes[1].Thaw()
	healed := make(chan error, 1)
	go func() { healed <- s.pools[0].keepers[1].repay(t.Context(), seen) }()
	eventually(t, "repairs are under way", func() bool { return s.repairsOfDebt() > 10 })
	s.drains(t, 0, true)
	s.isDrained(t, 0, true, health.Warming)
	select {
	case err := <-healed:
		t.Errorf("it was healed before that: %v", err)
	default:
	}
	at.nodes[1].Thaw()
	if err := <-healed; err != nil {
		t.Error(err)
	}
}

// A write that does not end keeps the lead where it is, and the node what it was.
func TestDrainWaitsForWrites(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	writing := func(n int) { s.owed(t, func(l *loop) { l.lanes[0].gate.writing += n }) }
	late, cancel := context.WithCancel(t.Context())
	cancel()
	fails := func(err error, words string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), "did not come to an end") {
			t.Errorf("%v, want %q", err, words)
		}
	}
	writing(1)
	fails(s.pools[0].withdraw(late, 0), "cannot be drained")
	s.isDrained(t, 0, false, health.Up)
	writing(-1)
	s.drains(t, 0, true)
	writing(1)
	fails(s.pools[0].reinstate(late, 0), "is still drained")
	s.isDrained(t, 0, true, health.Warming)
	writing(-1)
}
