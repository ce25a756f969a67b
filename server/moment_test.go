package server

import (
	"context"
	"fmt"
	"testing"
	"time"

	"magent/upstream/fleet"
	"magent/upstream/health"
)

// What magents agree on is a moment before which none of them has the node lead. These
// tests look at when each came to trust it, as its monitor knows, and hold it against what
// the marker and the ledger say.

// stamp has a node's marker say that it is warm from a moment on, which magents in front of
// it learn as from another one.
func (at *site) stamp(node int, moment time.Time) {
	at.t.Helper()
	value := fmt.Sprintf("%016x warm at %d by another", at.mark(node).Life, moment.UnixMilli())
	at.tell(node, fmt.Sprintf("ms %swarm %d\r\n%s", fleet.Prefix, len(value), value), "HD")
}

// settle has the ledger of node, which is kept on its peer, say that nobody owes it
// writes from a moment on.
func (at *site) settle(node, peer int, moment time.Time) {
	at.t.Helper()
	value := fmt.Sprintf("settled at %d", moment.UnixMilli())
	at.tell(peer, fmt.Sprintf("ms %sdebt:%s %d\r\n%s", fleet.Prefix, at.nodes[node].Addr(), len(value), value), "HD")
}

// debtor stands in the ledger of node 0 for another magent beside s.
func (at *site) debtor(s *Server) *fleet.Ledger {
	at.t.Helper()
	l := fleet.NewLedger(fleet.LedgerConfig{Address: at.nodes[0].Addr(), Sources: s.pools[0].sourcesOf(0), ID: fleet.NewID(),
		Lead: at.times.settled, Patience: at.times.debtor})
	at.t.Cleanup(l.Forget)
	if err := l.Enter(at.t.Context(), time.Now()); err != nil {
		at.t.Fatal(err)
	}
	return l
}

// notBefore wants s to have come to trust node i at the moment, or after it.
func (s *Server) notBefore(t *testing.T, i int, moment time.Time) {
	t.Helper()
	last := s.pools[0].pool.Monitor.Report(i).Last
	if last.To != health.Up || last.At.Before(moment) {
		t.Errorf("%s is %s, since %v before the moment", s.pools[0].pool.Nodes[i].Name, last.To, moment.Sub(last.At))
	}
}

// One magent refills a node, the other owes it writes, or was owed. Neither trusts it before
// the moment that they agree on.
func TestMomentOfTwo(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(at *site, one, two *Server){
		"refilled by hand": func(at *site, one, two *Server) {
			if err := one.Resync(one.pools[0].pool.Nodes[0].Name, one.pools[0].pool.Nodes[1].Name); err != nil {
				at.t.Fatal(err)
			}
			two.awaits(at.t, 0, health.Stale, health.Warming)
		},
		"one debt cannot be told": func(at *site, one, two *Server) {
			at.nodes[0].Freeze()
			one.owed(at.t, func(l *loop) { l.lanes[0].debts[0].Forfeit() })
			two.caller(at.t).wants("set k 0 0 1\r\nb", "STORED")
			one.awaits(at.t, 0, health.Down)
			two.awaits(at.t, 0, health.Down)
			eventually(at.t, "both have entered", func() bool { return len(two.pools[0].keepers[0].debtors.look(at.t.Context()).Waiting) == 2 })
			at.nodes[0].Thaw()
			one.awaits(at.t, 0, health.Warming)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			at.cfg.Pools[0].Timeout, at.times.fleet.Lead = 250*time.Millisecond, 500*time.Millisecond
			one, two := at.magent(), at.magent()
			one.fill(t, 10)
			at.vouched()
			begin(at, one, two)
			trusted(t, one, two)
			moment := at.mark(0).At
			if settled := one.pools[0].keepers[0].debtors.look(t.Context()).At; settled.After(moment) {
				moment = settled
			}
			one.notBefore(t, 0, moment)
			two.notBefore(t, 0, moment)
		})
	}
}

// Whoever heals a node that another has marked meanwhile hands over at the marker's moment.
func TestHealedAtTheMarkersMoment(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.times.fleet.Lead = 500 * time.Millisecond
	s := at.magent()
	s.pools[0].pool.Monitor.Close() // the test heals
	for name, to := range map[string]struct {
		state health.State
		back  func(k *keeper, seen health.Word) error
	}{
		"healed": {health.Stale, func(k *keeper, seen health.Word) error {
			_, _, err := k.heal(t.Context(), seen)
			k.openGates()
			return err
		}},
		"refilled": {health.Warming, func(k *keeper, seen health.Word) error { return k.trust(t.Context(), seen, time.Time{}) }},
	} {
		seen := s.becomes(t, 0, to.state)
		moment := time.Now().Add(at.times.fleet.Lead / 2).Truncate(time.Millisecond)
		at.stamp(0, moment)
		if err := to.back(s.pools[0].keepers[0], seen); err != nil {
			t.Fatal(err)
		}
		if early := time.Until(moment); early > 0 {
			t.Errorf("%s, it is handed over %v before the moment", name, early)
		}
	}
}

// A magent that starts between the mark, or the last leave of the ledger, and the moment
// that it tells does not have the node lead before that.
func TestStartBeforeTheMoment(t *testing.T) {
	t.Parallel()
	const lead = 700 * time.Millisecond
	for name, mark := range map[string]func(at *site, moment time.Time){
		"of the marker": func(at *site, moment time.Time) {
			at.stamp(0, moment)
			at.stamp(1, time.Now())
		},
		"of the ledger": func(at *site, moment time.Time) { at.settle(0, 1, moment) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			at.times.fleet.Lead, at.times.settled = lead, lead
			moment := time.Now().Add(lead).Truncate(time.Millisecond)
			mark(at, moment)
			s := at.magent()
			c := s.caller(t)
			c.line("get k")
			c.line("set k 0 0 1\r\na")
			if n := at.nodes[0].Stats().Commands["get"]; n > 0 && time.Now().Before(moment) {
				t.Errorf("the node is sent %d gets before the moment", n)
			}
			trusted(t, s)
			s.notBefore(t, 0, moment)
			for i, n := range at.nodes {
				if item, _ := n.Get("k"); string(item.Value) != "a" {
					t.Errorf("node %d holds %q", i, item.Value)
				}
			}
		})
	}
}

// A node that others owe writes, or refill, loses the lead behind the gate: not while a
// write is under way at it.
func TestDistrustWaitsForWrites(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		finds func(at *site, s *Server)
		want  health.State
	}{
		"owed writes": {func(at *site, s *Server) { at.debtor(s) }, health.Stale},
		"refilled": {func(at *site, _ *Server) {
			if err := fleet.Forsake(at.t.Context(), at.prober(0), at.mark(0).Life, "another"); err != nil {
				at.t.Fatal(err)
			}
		}, health.Warming},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			at.cfg.Pools[0].Timeout = 20 * time.Second // within which that write might end
			s := at.magent()
			at.vouched()
			before := s.pools[0].pool.Health.Load(0)
			s.owed(t, func(l *loop) { l.lanes[0].gate.writing++ })
			c.finds(at, s)
			eventually(t, "a gate is closed, or the lead moves without", func() bool {
				closed := 0
				s.owed(t, func(l *loop) {
					if l.index == 0 {
						closed = l.lanes[0].gate.closed
					}
				})
				return closed > 0 || s.pools[0].pool.Health.Load(0) != before
			})
			if now := s.pools[0].pool.Health.Load(0); now != before {
				t.Errorf("while a write is under way it becomes %s", now.State())
			}
			s.owed(t, func(l *loop) { l.lanes[0].gate.writing-- })
			s.awaits(t, 0, c.want)
		})
	}
}

// While a magent finds out again and again that another owes the node writes, no two of its
// own clients are told the same number.
func TestCountersWhileTheLeadMoves(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	s := at.magent()
	s.caller(t).wants("set n 0 0 1\r\n0", "STORED")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := make(chan []string)
	const clients = 8
	for range clients {
		c := s.caller(t)
		go func() {
			var mine []string
			defer func() { told <- mine }()
			for ctx.Err() == nil {
				mine = append(mine, c.line("incr n 1"))
			}
		}()
	}
	for range 4 {
		l := at.debtor(s)
		s.awaits(t, 0, health.Stale)
		if err := l.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.awaits(t, 0, health.Up)
	}
	stop()
	seen := map[string]bool{}
	for range clients {
		for _, n := range <-told {
			if seen[n] {
				t.Errorf("%s is told twice", n)
			}
			seen[n] = true
		}
	}
}
