package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/dial"
	"magent/upstream/fleet"
	"magent/upstream/health"
	"magent/upstream/probe"
)

// prober asks a node for what the tests want to know, or to have.
func (at *site) prober(node int) *probe.Prober {
	p := probe.New(at.target(node), "", false)
	at.t.Cleanup(p.Forget)
	return p
}

func (at *site) target(node int) probe.Target {
	return probe.Target{Target: dial.Target{Network: "tcp", Address: at.nodes[node].Addr(), Connect: time.Second}, Timeout: time.Second}
}

// mark is what a node's marker says.
func (at *site) mark(node int) fleet.Mark {
	at.t.Helper()
	mark, err := fleet.Look(at.t.Context(), at.prober(node))
	if err != nil {
		at.t.Fatal(err)
	}
	return mark
}

// tell sends a node one line, for which it answers another.
func (at *site) tell(node int, request, answer string) {
	at.t.Helper()
	err := at.prober(node).Ask(at.t.Context(), "what it is told", request+"\r\n", func(line []byte) (last, ok bool) {
		return true, string(line) == answer
	})
	if err != nil {
		at.t.Fatal(err)
	}
}

// vouched waits until the marker of every node says that it is warm.
func (at *site) vouched() {
	at.t.Helper()
	eventually(at.t, "all nodes are marked", func() bool {
		for i := range at.nodes {
			if at.mark(i).Standing != fleet.Warm {
				return false
			}
		}
		return true
	})
}

// vouchFor has a node marked warm.
func (at *site) vouchFor(node int) {
	at.t.Helper()
	if err := fleet.Vouch(at.t.Context(), at.prober(node), at.mark(node).Life, fleet.NewID()); err != nil {
		at.t.Fatal(err)
	}
}

// Whoever starts in front of nodes that nobody has marked takes them as they are, and
// marks them. A client that flushes one has its marker put back.
func TestNodesAreVouchedFor(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	s := at.magent()
	s.fill(t, 10)
	trusted(t, s)
	at.vouched()
	before := s.pools[0].pool.Health.Load(0)
	at.tell(0, "flush_all", "OK")
	at.vouched()
	s.since(t, 0, before, 0)
	s.caller(t).wants("get "+mix(1), "END") // which is the client's business
}

// A magent that starts while a node is refilled, or has yet to be, does not read it before
// all the others do.
func TestStartBesideARefill(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(500)
	one := at.magent()
	one.fill(t, 1000)
	at.vouched()
	at.restart(0, one)
	one.midway(t, 0)
	two := at.magent()
	if state := two.pools[0].pool.Health.Load(0).State(); state <= health.Slow {
		t.Errorf("while another magent refills it, the node is %s", state)
	}
	c := two.caller(t)
	for i := range 1000 {
		c.wants("get "+mix(i), fmt.Sprintf("VALUE %s 0 %d", mix(i), len(fmt.Sprint(i))))
	}
	trusted(t, one, two)
	at.holds(one, 1000, nil)

	at.nodes[0].Kill() // and nobody has found out
	if err := at.nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	three := at.magent()
	if state := three.pools[0].pool.Health.Load(0).State(); state <= health.Slow {
		t.Errorf("without a marker, beside a peer that has one, the node is %s", state)
	}
	trusted(t, one, two, three)
	at.holds(three, 1000, nil)
}

// A node that stood still before anybody had marked it has no marker when it goes on, though its
// peer has one; but it has old values. Whoever has not met it repairs what it missed.
func TestUnmarkedAndNotEmpty(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Timeout = 250 * time.Millisecond
	const n = 100
	for i := range n {
		for node := range at.nodes {
			at.tell(node, fmt.Sprintf("set %s 0 0 %d\r\n%d", mix(i), len(fmt.Sprint(i)), i), "STORED")
		}
	}
	at.vouchFor(1)
	at.nodes[0].Freeze()
	s := at.magent()
	c, other := s.caller(t), map[int]string{}
	for i := 0; i < n; i += 2 {
		other[i] = fmt.Sprint("new ", i)
		c.wants(fmt.Sprintf("set %s 0 0 %d\r\n%s", mix(i), len(other[i]), other[i]), "STORED")
	}
	s.awaits(t, 0, health.Down)
	at.nodes[0].Thaw()
	eventually(t, "the node is up", func() bool {
		for i := range n {
			want := max(len(fmt.Sprint(i)), len(other[i]))
			c.wants("get "+mix(i), fmt.Sprintf("VALUE %s 0 %d", mix(i), want))
		}
		return s.pools[0].pool.Health.Load(0).State() == health.Up
	})
	at.holds(s, n, other)
}

// Whoever has begun a refill dies, and leaves a lease, a marker, and a copy that nobody
// has verified. Another takes over when the lease has ended, empties the node, and refills
// it.
func TestHolderDies(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	s := at.magent()
	s.fill(t, 500)
	at.vouched()
	at.nodes[0].Kill()
	s.awaits(t, 0, health.Down)
	if err := at.nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	life := at.mark(0).Life // s, which has yet to probe it, is later, or finds out as it marks it
	dead := fleet.NewID()
	lease := fmt.Sprintf("%srefill:%s:%016x", fleet.Prefix, at.nodes[0].Addr(), life)
	at.tell(1, fmt.Sprintf("ms %s %d T2\r\n%s", lease, len(dead), dead), "HD")
	if err := fleet.Forsake(t.Context(), at.prober(0), life, dead); err != nil {
		t.Fatal(err)
	}
	at.tell(0, "set "+mix(7)+" 0 0 3\r\nold", "STORED")
	at.tell(0, "set gone 0 0 3\r\nold", "STORED")
	crowd := newCrowd(t, 50)
	for i := range 50 {
		crowd.write(s.caller(t), i)
	}
	crowd.visit(s)
	trusted(t, s)
	crowd.leave()
	at.holds(s, 500, nil)
	if item, there := at.nodes[0].Get("gone"); there {
		t.Errorf("what the dead one has left is there: %q", item.Value)
	}
}

// One magent alone is cut off from a node, and writes on. The other stops reading the node
// soon, and reads it again when the first has made up for what it has skipped.
func TestOneMagentIsCutOff(t *testing.T) {
	t.Parallel()
	for _, resync := range []bool{true, false} {
		at := newSite(t, 1, 1)
		at.cfg.Pools[0].Resync = resync
		one, way := at.around(0)
		two := at.magent()
		crowd := newCrowd(t, 40)
		c := one.caller(t)
		for i := range 40 {
			crowd.write(c, i)
		}
		crowd.visit(one, two)
		if resync {
			at.vouched()
		}
		way.sever(true)
		one.awaits(t, 0, health.Down)
		two.awaits(t, 0, health.Stale)
		for i := range 40 {
			for range 1 + i%2 {
				crowd.write(c, i)
			}
		}
		if state := two.pools[0].pool.Health.Load(0).State(); state != health.Stale {
			t.Errorf("the node, which the other owes writes, is %s", state)
		}
		three := at.magent()
		if state := three.pools[0].pool.Health.Load(0).State(); state != health.Stale {
			t.Errorf("to one that starts, the node is %s", state)
		}
		crowd.visit(three)
		way.sever(false)
		trusted(t, one, two, three)
		for i := range 40 {
			crowd.write(c, i)
		}
		crowd.leave()
		if n := at.nodes[0].Stats().Commands["flush_all"]; n != 0 {
			t.Errorf("the node was flushed %d times", n)
		}
	}
}

// mutual has two nodes be each other's backup.
func (at *site) mutual() *site {
	one, two := at.cfg.Pools[0].Copies[0][0], at.cfg.Pools[0].Copies[1][0]
	at.cfg.Pools[0].Copies = [][]config.Node{{one, two}, {two, one}}
	return at
}

// Of two nodes that are each other's backup the one can stand in for the other, unless it
// is away.
func TestCoveredByABackup(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).mutual()
	s := at.magent()
	s.pools[0].pool.Monitor.Close()
	if !s.pools[0].pool.Covered(0, health.Slow) || s.pools[0].needed(0) || s.pools[0].lacking(0) != nil {
		t.Errorf("beside its backup: covered %v, needed %v, lacking %q", s.pools[0].pool.Covered(0, health.Slow), s.pools[0].needed(0), s.pools[0].lacking(0))
	}
	s.becomes(t, 1, health.Warming)
	if s.pools[0].pool.Covered(0, health.Slow) || s.pools[0].needed(0) || len(s.pools[0].lacking(0)) != 1 {
		t.Errorf("beside one that is warming: covered %v, needed %v, lacking %q", s.pools[0].pool.Covered(0, health.Slow), s.pools[0].needed(0), s.pools[0].lacking(0))
	}
	s.becomes(t, 1, health.Down)
	if s.pools[0].pool.Covered(0, health.Warming) || !s.pools[0].needed(0) {
		t.Errorf("alone: covered %v, needed %v", s.pools[0].pool.Covered(0, health.Warming), s.pools[0].needed(0))
	}
}

// The same cut between one magent and one of two nodes that are each other's backup.
func TestOneMagentIsCutOffFromABackup(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).mutual()
	one, way := at.around(0)
	two := at.magent()
	crowd := newCrowd(t, 40)
	c := one.caller(t)
	for i := range 40 {
		crowd.write(c, i)
	}
	crowd.visit(one, two)
	at.vouched()
	way.sever(true)
	one.awaits(t, 0, health.Down)
	two.awaits(t, 0, health.Stale)
	for i := range 40 {
		crowd.write(c, i)
		crowd.write(c, i)
	}
	if state := two.pools[0].pool.Health.Load(0).State(); state != health.Stale {
		t.Errorf("the node, which the other owes writes, is %s", state)
	}
	way.sever(false)
	trusted(t, one, two)
	crowd.leave()
	two.fill(t, 200)
	at.restart(1, one, two)
	trusted(t, one, two)
	at.holds(two, 200, nil)
	if n := at.nodes[0].Stats().Commands["flush_all"]; n != 0 {
		t.Errorf("the node was flushed %d times", n)
	}
}

// The magent that is cut off dies before it has made up for what it has skipped. The
// others give it up, and have the node flushed and refilled.
func TestDebtorDies(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	one, way := at.around(0)
	two, three := at.magent(), at.magent()
	two.fill(t, 500)
	crowd := newCrowd(t, 40)
	c := one.caller(t)
	for i := range 40 {
		crowd.write(c, i)
	}
	way.sever(true)
	one.awaits(t, 0, health.Down)
	two.awaits(t, 0, health.Stale)
	three.awaits(t, 0, health.Stale)
	crowd.visit(two, three)
	for i := range 40 {
		crowd.write(c, i)
	}
	at.shutDown(one) // which takes what it owes with it
	trusted(t, two, three)
	crowd.leave()
	at.holds(two, 500, nil)
	if n := at.nodes[0].Stats().Commands["flush_all"]; n < 1 || n > 3 {
		t.Errorf("the node was flushed %d times", n)
	}
}

// A magent that owes nothing leaves the list when it is shut down: nobody has to do
// anything about it.
func TestShutdownWithoutDebt(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	one, way := at.around(0)
	two := at.magent()
	two.fill(t, 10)
	way.sever(true)
	one.caller(t).line("get " + mix(1))
	one.awaits(t, 0, health.Down)
	two.awaits(t, 0, health.Stale)
	at.shutDown(one)
	trusted(t, two)
	if n := at.nodes[0].Stats().Commands["flush_all"]; n != 0 {
		t.Errorf("the node was flushed %d times", n)
	}
}

// late is the ledger of a node's for a magent that the test plays, which is to hand over the lead.
func (at *site) late(node, peer int) *fleet.Ledger {
	at.t.Helper()
	l := fleet.NewLedger(fleet.LedgerConfig{Address: at.nodes[node].Addr(), Sources: []probe.Target{at.target(peer)}, ID: fleet.NewID(),
		Lead: at.times.settled, Patience: time.Minute})
	at.t.Cleanup(l.Forget)
	ctx := at.t.Context()
	if err := errors.Join(l.Enter(ctx, time.Now()), l.Join(ctx)); err != nil {
		at.t.Fatal(err)
	}
	return l
}

// held waits until writes wait at s, and at all others who have joined the ledger of l.
func (s *Server) held(t *testing.T, l *fleet.Ledger) {
	t.Helper()
	eventually(t, "nobody but one lets writes go on", func() bool {
		st := l.Settled(t.Context(), time.Now())
		return st.Settled && len(st.Open) == 0
	})
	closed := make(chan bool, len(s.loops))
	if err := s.pools[0].onLanes(t.Context(), func(l *lane) { closed <- l.gate.closed > 0 }); err != nil {
		t.Fatal(err)
	}
	for range s.loops {
		if !<-closed {
			t.Error("it lets writes go on")
		}
	}
}

// However late one of the magents is to hand over the lead, no other has it with another node
// meanwhile: its writes wait. One that is too late is waited for no longer.
func TestLateForTheMoment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what    string
		timeout time.Duration
		strike  func(at *site, magents ...*Server)
	}{
		{"restarted", 20 * time.Second, func(at *site, magents ...*Server) { at.restart(0, magents...) }},
		{"owed writes", 20 * time.Second, func(at *site, magents ...*Server) {
			for _, s := range magents {
				s.awaits(at.t, 0, health.Stale)
			}
		}},
		{"too late", 250 * time.Millisecond, func(at *site, magents ...*Server) { at.restart(0, magents...) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			at.cfg.Pools[0].Timeout = c.timeout
			one, two := at.magent(), at.magent()
			one.fill(t, 10)
			at.vouched()
			l := at.late(0, 1)
			c.strike(at, one, two)
			if err := l.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			if c.timeout > time.Second {
				one.held(t, l)
				if state := one.pools[0].pool.Health.Load(0).State(); state <= health.Slow {
					t.Errorf("the node is %s", state)
				}
				if err := l.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			trusted(t, one, two)
			one.caller(t).wants("set k 0 0 1\r\nx", "STORED")
		})
	}
}

// A magent that pays for longer than the others wait for a sign of life from it is not
// taken for dead.
func TestPayingTakesTime(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	one, way := at.around(0)
	two := at.magent()
	c := one.caller(t)
	c.wants("set k 0 0 1\r\na", "STORED")
	way.sever(true)
	one.awaits(t, 0, health.Down)
	c.wants("set k 0 0 1\r\nb", "STORED")
	two.awaits(t, 0, health.Stale)
	if err := at.nodes[0].SetFault(`(on ms key "k" (times 1 stall 1800ms))`); err != nil {
		t.Fatal(err)
	}
	way.sever(false)
	trusted(t, one, two)
	if n := at.nodes[0].Stats().Commands["flush_all"]; n != 0 {
		t.Errorf("the node was flushed %d times", n)
	}
	if item, _ := at.nodes[0].Get("k"); string(item.Value) != "b" {
		t.Errorf("it holds %q", item.Value)
	}
}

// A node is emptied and refilled by hand while clients of two magents read. They miss
// nothing.
func TestResyncByHand(t *testing.T) {
	t.Parallel()
	for _, resync := range []bool{true, false} {
		at := newSite(t, 1, 1).slowly(1000)
		at.cfg.Pools[0].Resync = resync
		one, two := at.magent(), at.magent()
		one.fill(t, 1000)
		crowd := newCrowd(t, 100)
		c := one.caller(t)
		for i := range 100 {
			crowd.write(c, i)
		}
		crowd.visit(one, two)
		node := 0
		if !resync { // what came back empty, and was trusted at once, can be made whole so
			node = 1
			at.restart(node, one, two)
			trusted(t, one, two)
		}
		a, b := one.pools[0].pool.Nodes[node].Name, one.pools[0].pool.Nodes[1-node].Name
		before := one.pools[0].pool.Health.Load(node)
		if err := one.Resync(a, b); err != nil {
			t.Fatal(err)
		}
		if err := one.Resync(a, b); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("once more: %v", err)
		}
		if err := one.Resync(b, a); err == nil {
			t.Error("its source is emptied, too")
		}
		for i := range 100 {
			crowd.write(c, i)
			crowd.write(c, i)
		}
		eventually(t, "it is up again", func() bool { return one.pools[0].pool.Health.Load(node).Epoch() >= before.Epoch()+2 })
		trusted(t, one, two)
		crowd.leave()
		at.holds(one, 1000, nil)
	}
}

// With --no-resync a node that comes back empty is trusted as soon as it has what it
// missed while it was away: others may have given it what is older.
func TestNoResync(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Resync = false
	s := at.magent()
	s.fill(t, 10)
	at.nodes[0].Kill()
	s.awaits(t, 0, health.Down)
	before := s.pools[0].pool.Health.Load(0)
	c := s.caller(t)
	c.wants("set "+mix(2)+" 0 0 3\r\nnew", "STORED")
	if err := at.nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	trusted(t, s)
	c.wants("get "+mix(2), "VALUE "+mix(2)+" 0 3")
	s.since(t, 0, before, 2) // by way of Stale, for what it missed
	c.wants("get "+mix(1), "END")
	s.drains(t, 0, true)
	s.drains(t, 0, false)
	s.isDrained(t, 0, false, health.Up)
}

// A node stands still under writes and deletes through two magents. Nobody reads anything
// old, and what has to be repaired is what was written, not what is stored.
func TestStandsStillUnderWrites(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Timeout = 500 * time.Millisecond
	one, two := at.magent(), at.magent()
	one.fill(t, 20_000)
	crowd := newCrowd(t, 400)
	writers := []*caller{one.caller(t), two.caller(t)}
	for i := range 400 {
		crowd.write(writers[i%2], i)
	}
	for _, s := range []*Server{one, two} {
		s.caller(t).wants("get "+mix(0), "VALUE "+mix(0)+" 0 1")
	}
	crowd.visit(one, two)
	trusted(t, one, two)
	before := one.repairsOfDebt() + two.repairsOfDebt()
	at.nodes[0].Freeze()
	for i := range 400 {
		crowd.write(writers[i%2], i)
		if i%3 == 0 {
			crowd.write(writers[i%2], i)
		}
	}
	at.nodes[0].Thaw()
	trusted(t, one, two)
	crowd.leave()
	at.holds(one, 20_000, nil)
	repairs := one.repairsOfDebt() + two.repairsOfDebt() - before
	if repairs < 400 || repairs > 2*400 { // a repair may have to be done again
		t.Errorf("%d repairs for the debt of 400 keys", repairs)
	}
}

// Three magents, in front of a node that is restarted again as soon as it is trusted:
// none of them reads it too early.
func TestRestartsUnderThreeMagents(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].ResyncRate = config.ResyncRate{Keys: 5000}
	magents := []*Server{at.magent(), at.magent(), at.magent()}
	magents[0].fill(t, 500)
	crowd := newCrowd(t, 100)
	c := magents[0].caller(t)
	for i := range 100 {
		crowd.write(c, i)
	}
	crowd.visit(magents...)
	for range 3 {
		at.restart(0, magents...)
		for i := range 100 {
			crowd.write(c, i)
			crowd.write(c, i)
		}
		trusted(t, magents...)
	}
	crowd.leave()
	at.holds(magents[0], 500, nil)
}

// A node that another magent has emptied, since its refill was complete, is not trusted.
func TestEmptiedAfterItsRefill(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	s := at.magent()
	s.pools[0].pool.Monitor.Close()
	seen := s.becomes(t, 0, health.Warming)
	if err := fleet.Forsake(t.Context(), at.prober(0), at.mark(0).Life, "another"); err != nil {
		t.Fatal(err)
	}
	if err := s.pools[0].keepers[0].trust(t.Context(), seen, time.Now()); err != errEmptied || s.pools[0].pool.Health.Load(0) != seen {
		t.Errorf("%v, and it is %s", err, s.pools[0].pool.Health.Load(0).State())
	}
}

// Of the magents that see that a node has come back empty, the first one's debt comes with
// the refill. The others' does not: the first may have given the node what is older.
func TestDebtOfAnEmptyNode(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	life := at.mark(0).Life
	for i, want := range []int{0, 1, 1} {
		s := at.magent()
		s.pools[0].pool.Monitor.Close()
		s.pools[0].keepers[0].node.SetLife(life)
		s.owed(t, func(l *loop) {
			if l.index == 0 {
				l.lanes[0].debts[0].Note([]byte("k"), false)
			}
		})
		if err := s.pools[0].keepers[0].emptied(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		s.owed(t, func(l *loop) {
			if got := l.lanes[0].debts[0].Len(); l.index == 0 && got != want {
				t.Errorf("magent %d owes %d keys, want %d", i, got, want)
			}
		})
	}
}

// Nodes whose stats do not tell their lives are not refilled, as nobody could say which life
// of them is warm. They are trusted all the same: what they missed is repaired, or, if that
// cannot be told, they are flushed.
func TestNodesThatTellNoLife(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit   int
		flushes uint64
	}{"little": {1 << 20, 0}, "too much": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			at.cfg.Pools[0].Timeout, at.cfg.Pools[0].DebtLimit = 250*time.Millisecond, c.limit
			for _, n := range at.nodes {
				if err := n.SetFault(`(on stats (reply "END"))`); err != nil {
					t.Fatal(err)
				}
			}
			s := at.magent()
			s.fill(t, 10)
			w := s.caller(t)
			at.nodes[0].Freeze()
			w.wants("set "+mix(1)+" 0 0 3\r\nnew", "STORED")
			s.awaits(t, 0, health.Down)
			at.nodes[0].Thaw()
			trusted(t, s)
			item, there := at.nodes[0].Get(mix(1))
			if there != (c.flushes == 0) || there && string(item.Value) != "new" {
				t.Errorf("what it missed is %q there (%v)", item.Value, there)
			}
			if n := at.nodes[0].Stats().Commands["flush_all"]; n != c.flushes {
				t.Errorf("it was flushed %d times, want %d", n, c.flushes)
			}
			at.restart(0, s)
			trusted(t, s)
		})
	}
}
