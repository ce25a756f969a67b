package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"magent/server/admin"
	"magent/upstream/dial"
	"magent/upstream/health"
	"magent/upstream/inspect"
	"magent/upstream/memnode"
)

func (s *Server) diffs(t *testing.T, q admin.DiffQuestion) admin.Diff {
	t.Helper()
	d, err := s.Diff(t.Context(), q, func(admin.DiffProgress) {})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// copies is how many copies differ, by kind.
func copies(d admin.Diff) map[string]uint64 {
	all := map[string]uint64{}
	for _, k := range d.Kinds {
		all[k.Kind] = k.Copies
		if len(k.Examples) == 0 || len(k.Examples) > diffExamples {
			all["examples of "+k.Kind] = uint64(len(k.Examples))
		}
	}
	return all
}

// spoiled is a pool of two copies with n keys, some of whose copies were changed past
// the proxy.
func spoiled(t *testing.T, n int) (*Server, []*memnode.Node, map[string]uint64) {
	s, nodes := proxied(t, 2, 1)
	s.fill(t, n)
	c := s.caller(t)
	c.wants("ms YSBi 1 b\r\na", "HD")
	c.wants("set ttl 0 100 1\r\na", "STORED")
	c.wants("set stale 0 0 1\r\na", "STORED")
	c.wants("md stale I", "HD")
	backup := nodes[2]
	leads := func(key string) *memnode.Node { return nodes[s.pools[0].pool.Replica(0, []byte(key))] }
	past(t, backup, "delete "+mix(1))
	past(t, leads(mix(2)), "delete "+mix(2))
	past(t, leads(mix(3)), "delete "+mix(3))
	past(t, backup, "set "+mix(4)+" 0 0 5\r\nwrong")
	past(t, backup, "set "+mix(6)+" 9 0 7\r\nv"+mix(6)[4:]+"x")
	past(t, backup, "touch ttl 50")
	past(t, backup, "ms YSBi 1 b F3\r\na")
	for _, n := range nodes[:2] { // one of which is no replica of it
		past(t, n, "set stray 0 0 1\r\nx")
	}
	return s, nodes, map[string]uint64{"missing": 2, "extra": 2, "value": 2, "flags": 1, "ttl": 1}
}

func TestDiff(t *testing.T) {
	const n = 600
	for name, sample := range map[string]int{"all": 0, "sample": 10 * n} {
		t.Run(name, func(t *testing.T) {
			s, nodes, want := spoiled(t, n)
			var phases []string
			q := admin.DiffQuestion{Sample: sample, Pause: 1}
			d, err := s.Diff(t.Context(), q, func(p admin.DiffProgress) {
				if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
					phases = append(phases, p.Phase)
				}
			})
			if err != nil || !maps.Equal(copies(d), want) || d.Compared != n+4 || d.Different != 8 || d.Mended != 0 || len(d.Nodes) != 0 || len(d.Left) != 1 || d.Left[leftStray] != 1 {
				t.Errorf("%+v, %v; want %v", d, err, want)
			}
			if text := strings.Join(phases, ", "); !strings.HasPrefix(text, "listing "+nodes[0].Addr()) || !strings.HasSuffix(text, "comparing, looking again") {
				t.Errorf("it was at %s", text)
			}
			q.Repair = true
			if d := s.diffs(t, q); d.Different != 8 || d.Mended != 8 {
				t.Errorf("repaired: %+v", d)
			}
			if d := s.diffs(t, q); d.Different != 0 || len(d.Kinds) != 0 {
				t.Errorf("after that: %+v", d)
			}
			if item, ok := nodes[2].Get(mix(2)); ok {
				t.Errorf("what the lead has not is there yet: %+v", item)
			}
			for key, flags := range map[string]uint32{mix(1): 0, mix(4): 0, "a b": 0} {
				item, _ := nodes[2].Get(key)
				lead, _ := nodes[s.pools[0].pool.Replica(0, []byte(key))].Get(key)
				if string(item.Value) != string(lead.Value) || item.Flags != flags || len(item.Value) == 0 {
					t.Errorf("%s is %+v, and at the lead %+v", key, item, lead)
				}
			}
		})
	}
}

// Keys that are written while they are compared are no difference, however often that is.
func TestDiffUnderWrites(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	const n = 50
	s.fill(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan struct{})
	c := s.caller(t)
	go func() {
		defer close(stopped)
		for i := 0; ctx.Err() == nil; i++ {
			c.line(fmt.Sprintf("set %s 0 0 7\r\n%07d", mix(i%n), i))
		}
	}()
	for range 5 {
		// A write takes as long as a busy machine has it, and for longer than the pause if it
		// must be: that it seems to rest then is no fault.
		d := admin.Diff{Different: 1}
		for pause := 50; d.Different > 0 && pause < 5000; pause *= 4 {
			d = s.diffs(t, admin.DiffQuestion{Pause: pause})
		}
		if d.Different > 0 {
			t.Errorf("%+v", d)
		}
	}
	cancel()
	<-stopped
}

// One that is always different, and always another, is being written, and not called
// different.
func TestDiffOfWhatNeverRests(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	s.caller(t).wants("set k 0 0 1\r\na", "STORED")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	written, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ctx.Err() == nil; i++ {
			past(t, nodes[1], fmt.Sprintf("set k 0 0 7\r\n%07d", i))
			if i == 0 {
				close(written)
			}
		}
	}()
	<-written
	d := admin.Diff{}
	for pause := 50; d.Left[leftBusy] == 0 && pause < 20_000; pause *= 4 { // until it is written in each
		d = s.diffs(t, admin.DiffQuestion{Pause: pause})
	}
	if d.Different != 0 || d.Left[leftBusy] != 1 || d.Compared != 0 {
		t.Errorf("%+v", d)
	}
	cancel()
	<-stopped
}

// A node that is away is not asked, and that is said; one that fails midway likewise.
func TestDiffWithoutANode(t *testing.T) {
	s, nodes := proxied(t, 2, 1, 1)
	s.fill(t, 100)
	nodes[0].Kill()
	s.caller(t).line("get " + mix(0) + " " + mix(1) + " " + mix(2) + " " + mix(3))
	s.awaits(t, 0, health.Down)
	for _, sample := range []int{0, 1000} {
		if d := s.diffs(t, admin.DiffQuestion{Sample: sample}); d.Compared != 100 || d.Different != 0 || len(d.Nodes) != 1 || d.Nodes[0] != nodes[0].Addr()+" is down" {
			t.Errorf("%+v", d)
		}
	}
	if err := nodes[2].SetFault(`(on lru_crawler (close))`); err != nil {
		t.Fatal(err)
	}
	if d := s.diffs(t, admin.DiffQuestion{}); len(d.Nodes) != 2 || !strings.Contains(d.Nodes[1], nodes[2].Addr()+" failed: no list of keys") || d.Different != 0 {
		t.Errorf("%+v", d)
	}
}

// Keys that one that fails midway holds are not compared from then on.
func TestDiffOfANodeThatFails(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	s.fill(t, 200)
	d := s.pools[0].newComparison(admin.DiffQuestion{Keys: 1000}, func(admin.DiffProgress) {})
	defer d.close()
	gone := startNode(t, memnode.Config{})
	gone.Kill()
	d.nodes[1] = inspect.New(inspect.Target{Target: dial.Target{Network: "tcp", Address: gone.Addr(), Connect: lookPatience}, Silence: lookPatience})
	if err := d.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := d.result()
	if r.Left[leftFailed] != 100 || r.Left[leftAlone] != 100 || r.Compared != 0 || len(r.Nodes) != 1 || r.Nodes[0] != nodes[1].Addr()+" failed: connection refused" {
		t.Errorf("%+v", r)
	}
}

// Of copies that cannot be looked at again it is not known whether they differ, nor, after
// a repair, whether they do yet.
func TestDiffOfANodeThatFailsBeforeTheNextLook(t *testing.T) {
	const n, missing = 20, 3
	for _, c := range []struct {
		phase string
		want  admin.Diff
	}{
		{"looking again", admin.Diff{Compared: n - missing, Left: map[string]int{leftFailed: missing}}},
		{"repairing", admin.Diff{Compared: n, Different: missing, Left: map[string]int{}}},
	} {
		s, nodes := proxied(t, 1, 1)
		s.fill(t, n)
		for i := range missing {
			past(t, nodes[1], "delete "+mix(i))
		}
		gone := startNode(t, memnode.Config{})
		gone.Kill()
		var d *comparison
		d = s.pools[0].newComparison(admin.DiffQuestion{Pause: 1, Repair: true}, func(p admin.DiffProgress) {
			if p.Phase == c.phase {
				d.nodes[1].Close()
				d.nodes[1] = inspect.New(inspect.Target{Target: dial.Target{Network: "tcp", Address: gone.Addr(), Connect: lookPatience}, Silence: lookPatience})
			}
		})
		defer d.close()
		if err := d.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := d.result(); r.Compared != c.want.Compared || r.Different != c.want.Different || r.Mended != 0 || !maps.Equal(r.Left, c.want.Left) {
			t.Errorf("it fails before %s: %+v, want %+v", c.phase, r, c.want)
		}
	}
}

func TestDiffIsRefused(t *testing.T) {
	alone, _ := proxied(t, 2)
	if _, err := alone.Diff(t.Context(), admin.DiffQuestion{}, nil); err == nil || !strings.Contains(err.Error(), "one copy of each key") {
		t.Errorf("a pool of one copy: %v", err)
	}
	s, nodes := proxied(t, 1, 1)
	s.fill(t, 100)
	slow := admin.DiffQuestion{Keys: 10}
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan error)
	go func() {
		begun := false
		_, err := s.Diff(ctx, slow, func(admin.DiffProgress) {
			if !begun {
				begun = true
				close(began)
			}
		})
		ended <- err
	}()
	<-began
	if _, err := s.Diff(t.Context(), slow, nil); err == nil || err.Error() != "another comparison is under way" {
		t.Errorf("beside another: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended by its caller: %v", err)
	}
	s.becomes(t, 1, health.Warming)
	if _, err := s.Diff(t.Context(), slow, nil); err == nil || err.Error() != "there are no two copies to compare: "+nodes[1].Addr()+" is warming" {
		t.Errorf("beside a warming one: %v", err)
	}
}

func TestPaced(t *testing.T) {
	d := &comparison{q: admin.DiffQuestion{Keys: 10}}
	began := time.Now()
	d.paced(5, nil)
	d.paced(5, nil)
	if took := d.due.Sub(began); took < time.Second || took > 2*time.Second {
		t.Errorf("ten keys at ten a second take %v", took)
	}
}
