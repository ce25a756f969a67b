package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"magent/upstream/health"
	"magent/upstream/memnode"
	"magent/upstream/probe"
)

// stand has nodes stand still for a while, all at once, as those of a machine that is busy
// do. It returns when they go on.
func stand(t *testing.T, d time.Duration, nodes ...*memnode.Node) {
	t.Helper()
	for _, n := range nodes {
		n.Freeze()
	}
	began := time.Now()
	eventually(t, "they go on", func() bool { return time.Since(began) > d })
	for _, n := range nodes {
		n.Thaw()
	}
}

// Both replicas are late at once, by more than is waited for one that another can stand in
// for. The last is waited for longer: no client is told an error, and none misses anything.
func TestBothAreLate(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Timeout = 500 * time.Millisecond
	s := at.magent()
	c := newCrowd(t, 100)
	w := s.caller(t)
	for i := range 100 {
		c.write(w, i)
	}
	c.visit(s, s, s, s)
	for round := range 2 {
		late := make(chan struct{})
		go func() {
			defer close(late)
			stand(t, 1200*time.Millisecond, at.nodes...)
		}()
		before := c.reads.Load()
		for i := range 100 { // some of them while both stand still
			c.write(w, i)
		}
		<-late
		if c.reads.Load() == before {
			t.Errorf("round %d: nobody has read anything", round)
		}
		trusted(t, s)
	}
	c.leave()
	falls := 0
	for i := range at.nodes {
		falls += int(s.pools[0].pool.Monitor.Report(i).Falls["timeout"])
	}
	if falls == 0 {
		t.Error("none was found late")
	}
}

// The source of a refill is late, by more than is waited for one that another can stand in
// for: the empty one cannot. What it lacks yet is no miss.
func TestSourceIsLateMidway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(1000)
	at.cfg.Pools[0].Timeout = 300 * time.Millisecond
	s := at.magent()
	s.fill(t, 2000)
	at.restart(0, s)
	s.midway(t, 0)
	late := make(chan struct{})
	go func() {
		defer close(late)
		stand(t, 600*time.Millisecond, at.nodes[1])
	}()
	c := s.caller(t)
	for i := range 2000 {
		if got := c.line("get " + mix(i)); !strings.HasPrefix(got, "VALUE ") {
			t.Fatalf("%s: %q", mix(i), got)
		}
	}
	<-late
	trusted(t, s)
	at.holds(s, 2000, nil)
}

// Both replicas stand still for good. Clients are told so when one has had its time, and the
// last some times as long.
func TestBothStandStill(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Timeout = 100 * time.Millisecond
	s := at.magent()
	c := s.caller(t)
	c.wants("set k 0 0 1\r\nv", "STORED")
	for _, n := range at.nodes {
		n.Freeze()
	}
	began := time.Now()
	if got := c.line("get k"); !strings.HasPrefix(got, "SERVER_ERROR ") {
		t.Errorf("it is answered %q", got)
	}
	if took := time.Since(began); took < health.LastPatience*at.cfg.Pools[0].Timeout || took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for i, n := range at.nodes {
		s.awaits(t, i, health.Down)
		n.Thaw()
	}
	trusted(t, s)
	c.wants("get k", "VALUE k 0 1")
}

// A probe that is not answered in time says less of a node that is the last: of no other,
// and no other failure.
func TestLateProbes(t *testing.T) {
	t.Parallel()
	s, _ := proxied(t, 1, 1)
	last := s.pools[0].watch().Last
	late := fmt.Errorf("a probe: %w", probe.ErrLate)
	if last(1, late) {
		t.Error("it is the last, beside one that is up")
	}
	s.becomes(t, 0, health.Warming)
	if !last(1, late) || last(1, errors.New("connection refused")) {
		t.Error("beside one that may lack keys it is not the last, or whatever its failure")
	}
	alone, _ := proxied(t, 2)
	if alone.pools[0].watch().Last(0, late) {
		t.Error("of a pool of one copy it is the last")
	}
}
