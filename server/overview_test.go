package server

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"magent/server/admin"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/latency"
)

// The overview has what clients have asked for, and each node in each copy that it is in.
func TestOverview(t *testing.T) {
	s, nodes := proxied(t, 2, 1)
	c := s.caller(t)
	c.wants("set k 0 0 1\r\nv", "STORED")
	c.wants("get k", "VALUE k 0 1")
	c.wants("get none", "END")
	o := s.Overview()
	if len(o.Pools) != 1 || len(o.Pools[0].Copies) != 2 || o.Loops != len(s.loops) || o.Silent != 0 || o.Clients.Connected < 1 || o.Clients.Received == 0 {
		t.Fatalf("%+v", o)
	}
	if c := o.Clients; c.Requests < 3 || c.Hits != 1 || c.Misses != 1 || c.Errors != 0 || c.Reads.Count != 2 || c.Writes.Count != 1 || c.Reads.Sum <= 0 {
		t.Errorf("%+v", c)
	}
	p := o.Pools[0]
	if p.Name != s.pools[0].conf.Name || p.Hits != 1 || p.Misses != 1 || p.Debt != 0 {
		t.Errorf("%+v", p)
	}
	var n uint64
	for _, b := range p.Took.Buckets {
		n += uint64(b[1])
	}
	if n != p.Took.Count || n < 4 { // a set at two nodes, and two gets
		t.Errorf("%d requests in %+v", n, p.Took)
	}
	for i, want := range [][]int{{0, 1}, {2}} {
		c := p.Copies[i]
		if c.Number != i || len(c.Nodes) != len(want) {
			t.Fatalf("copy %d: %+v", i, c)
		}
		for j, node := range want {
			if m := c.Nodes[j]; m.Name != s.pools[0].pool.Nodes[node].Name || m.State != health.Up.String() || m.Copy != i || m.Connections == 0 {
				t.Errorf("node %d of copy %d: %+v", j, i, m)
			}
		}
	}
	if a, b := p.Copies[0].Nodes[0], p.Copies[0].Nodes[1]; a.Hits+b.Hits != 1 || a.Misses+b.Misses != 1 {
		t.Errorf("the nodes that lead: %+v, %+v", a, b)
	}
	if m := p.Copies[1].Nodes[0]; m.Hits+m.Misses > 0 || m.Took.Count == 0 || m.Sent == 0 || m.Received == 0 {
		t.Errorf("the follower of all: %+v", m)
	}
	nodes[2].Kill()
	s.awaits(t, 2, health.Down)
	if m := s.Overview().Pools[0].Copies[1].Nodes[0]; m.State != "down" || m.Cause == "" || m.Epoch != 1 {
		t.Errorf("the follower is dead: %+v", m)
	}
}

// Whoever was turned away counts, whatever for.
func TestOverviewOfThoseTurnedAway(t *testing.T) {
	if got := clientsOf(&Snapshot{Refused: 1, Barred: 20, Crowded: 300}).Refused; got != 321 {
		t.Errorf("%d were turned away, want 321", got)
	}
}

// Each pool has its own nodes, and what these were asked for.
func TestOverviewOfTwoPools(t *testing.T) {
	at := twoPools(t)
	s := at.magent()
	c := s.caller(t)
	c.wants("set s:k 0 0 1\r\nv", "STORED")
	c.wants("get s:k", "VALUE s:k 0 1")
	c.wants("get none", "END")
	o := s.Overview()
	if len(o.Pools) != 2 || o.Clients.Hits != 1 || o.Clients.Misses != 1 {
		t.Fatalf("%+v", o)
	}
	for i, want := range []admin.Pool{{Name: "main", Misses: 1}, {Name: "sessions", Hits: 1}} {
		p := o.Pools[i]
		if p.Name != want.Name || p.Hits != want.Hits || p.Misses != want.Misses || len(p.Copies) != 2 {
			t.Errorf("%+v, want %+v", p, want)
		}
		for copy, c := range p.Copies {
			if len(c.Nodes) != 1 || c.Nodes[0].Name != at.nodes[2*i+copy].Addr() || c.Nodes[0].Pool != want.Name {
				t.Errorf("copy %d of %s: %+v", copy, p.Name, c)
			}
		}
	}
}

// What the falls of nodes came to is told once, for all that fell.
func TestMovedIsTold(t *testing.T) {
	w := newWorld(t, nil, 1)
	srv := w.loop.srv
	p := srv.pools[0]
	srv.loops, p.keepers = []*loop{w.loop}, []*keeper{newKeeper(p, p.pool.Nodes[0])}
	var log bytes.Buffer
	srv.log = slog.New(slog.NewTextHandler(&log, nil))
	tell := func(nodes ...string) string {
		w.loop.any.told.Store(w.loop.part())
		srv.moves.nodes = nodes
		log.Reset()
		srv.tellMoves()
		return log.String()
	}
	if got := tell("a"); got != "" {
		t.Errorf("nothing was moved: %s", got)
	}
	w.loop.count.Failovers[upstream.CauseReset], w.loop.count.Failovers[upstream.CauseTimeout] = 3, 4
	got := tell("b", "a", "b")
	for _, want := range []string{` msg="requests were moved" node="a, b" requests=7 cause="`, "timeout 4", "connection reset 3"} {
		if !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("it says %s without %s", got, want)
		}
	}
	w.loop.count.Failovers[upstream.CauseReset]++
	if got := tell("a"); !strings.Contains(got, ` node=a requests=1 cause="connection reset 1"`) {
		t.Errorf("of one more it says %s", got)
	}
}

// BenchmarkOverview is what a look at the status page costs the loop, which copies its
// counters, and who asks, who makes JSON of them.
func BenchmarkOverview(b *testing.B) {
	w := newWorld(b, nil, 2, 2)
	p := w.loop.srv.pools[0]
	spread := func(h *latency.Histogram) {
		for d := 20 * time.Microsecond; d < 20*time.Millisecond; d += d / 12 {
			h.Record(d, 1000)
		}
	}
	spread(&w.loop.count.Reads)
	spread(&w.loop.count.Writes)
	for i := range p.pool.Nodes {
		spread(&w.loop.lanes[0].group.Traffic(i).Took)
	}
	b.Run("loop", func(b *testing.B) {
		for b.Loop() {
			w.loop.part()
		}
	})
	b.Run("json", func(b *testing.B) {
		part := w.loop.part()
		for b.Loop() {
			snap := Snapshot{Nodes: make([]NodeSnapshot, len(p.pool.Nodes))}
			snap.take(part)
			text, err := json.Marshal(admin.Overview{Clients: clientsOf(&snap), Pools: []admin.Pool{p.overview(snap.Nodes)}})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(text)), "bytes")
		}
	})
}
