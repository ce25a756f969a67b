package server

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"magent/server/admin"
	"magent/server/config"
	"magent/upstream/health"
	"magent/upstream/memnode"
)

// past says request to node i itself, past the proxy, and returns the first line of the
// answer.
func past(t *testing.T, n *memnode.Node, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return (&caller{t: t, conn: conn, in: bufio.NewReader(conn)}).line(request)
}

func (s *Server) explains(t *testing.T, key string) admin.Explanation {
	t.Helper()
	e, err := s.Explain(t.Context(), admin.Question{Key: []byte(key), Value: true})
	if err != nil {
		t.Fatalf("%q: %v", key, err)
	}
	return e
}

func TestExplain(t *testing.T) {
	s, nodes := proxied(t, 2, 1)
	c := s.caller(t)
	c.wants("set foo 5 100 5\r\nhello", "STORED")
	e := s.explains(t, "foo")
	for i := range e.Replicas {
		e.Replicas[i].Since = time.Time{}
	}
	sum := sha256.Sum256([]byte("hello"))
	hash := uint64(193491849) // 1 of 2
	item := func(r *admin.Replica) *admin.Item {
		if r.Item == nil || r.Item.Version == 0 || r.Item.TTL < 90 || r.Item.TTL > 100 {
			t.Fatalf("%+v", r.Item)
		}
		return &admin.Item{Size: 5, SHA256: hex.EncodeToString(sum[:]), Flags: 5, TTL: r.Item.TTL, Version: r.Item.Version, Idle: r.Item.Idle,
			Fetched: r.Item.Fetched, Front: []byte("hello")}
	}
	want := admin.Explanation{Key: "foo", KeyBytes: []byte("foo"), Pool: "default", Placement: admin.Placement{Distribution: "magent-modulo", Value: &hash},
		Lead: nodes[1].Addr(), Why: "it is up, and the first in copy order", Verdict: admin.Agree, Replicas: []admin.Replica{
			{Copy: 0, Place: 2, Of: 2, Node: nodes[1].Addr(), State: "up", Cause: "start", Debt: admin.NoDebt, Item: item(&e.Replicas[0])},
			{Copy: 1, Place: 1, Of: 1, Node: nodes[2].Addr(), State: "up", Cause: "start", Debt: admin.NoDebt, Item: item(&e.Replicas[1])},
		}}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got\n%+v\nwant\n%+v", e, want)
	}

	for _, key := range []string{"\x00 binary\r\n\xff", strings.Repeat("k", 250), "nothing"} {
		if e := s.explains(t, key); e.Verdict != admin.Agree || string(e.KeyBytes) != key || e.Replicas[0].Item != nil {
			t.Errorf("%q: %+v", key, e)
		}
	}
	if e := s.explains(t, "magent:warm"); e.Note == "" {
		t.Error("of a key of its own it says nothing")
	}
	for key, fault := range map[string]string{strings.Repeat("k", 251): "250 bytes at most", "": "a byte at least"} {
		if _, err := s.Explain(t.Context(), admin.Question{Key: []byte(key)}); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%.5q: %v, want %q", key, err, fault)
		}
	}
}

// What is stale at the lead its followers are not to have, and it is for a client to make
// anew, whoever looks at it.
func TestExplainStale(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	c.wants("set k 0 0 1\r\na", "STORED")
	c.wants("md k I", "HD")
	e := s.explains(t, "k")
	if it := e.Replicas[0].Item; it == nil || !it.Stale || e.Replicas[1].Item != nil || e.Verdict != admin.Agree {
		t.Errorf("%+v", e)
	}
	if got := past(t, nodes[0], "mg k"); !strings.Contains(got, " W") {
		t.Errorf("the first client to read it is told %q", got)
	}
}

func TestExplainDiffering(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	for _, key := range []string{"value", "missing", "extra", "flags", "ttl"} {
		c.wants("set "+key+" 0 100 1\r\na", "STORED")
	}
	past(t, nodes[1], "set value 0 100 1\r\nb")
	past(t, nodes[1], "delete missing")
	past(t, nodes[0], "delete extra")
	past(t, nodes[1], "set flags 1 100 1\r\na")
	past(t, nodes[1], "touch ttl 0")
	for _, kind := range []string{"value", "missing", "extra", "flags", "ttl"} {
		if e := s.explains(t, kind); e.Verdict != admin.Differ || e.Replicas[0].Differ != "" || e.Replicas[1].Differ != kind {
			t.Errorf("%s: %+v", kind, e)
		}
	}
}

// A node that is down is not asked, what it misses is said, and who leads instead.
func TestExplainWithoutANode(t *testing.T) {
	s, nodes := proxied(t, 1, 1, 1)
	c := s.caller(t)
	nodes[0].Kill()
	c.wants("set k 0 0 1\r\na", "STORED")
	c.wants("ms YSBi 1 b\r\na", "HD")
	s.awaits(t, 0, health.Down)
	for _, key := range []string{"k", "a b"} {
		e := s.explains(t, key)
		if e.Lead != nodes[1].Addr() || e.Why != "it is up, and "+nodes[0].Addr()+" is down" || e.Verdict != admin.Unknown ||
			e.Replicas[0].Debt != admin.Owed || e.Replicas[1].Debt != admin.NoDebt || !strings.HasPrefix(e.Replicas[0].Error, "it is down: ") {
			t.Errorf("%s: %+v", key, e)
		}
	}
	if e := s.explains(t, "other"); e.Replicas[0].Debt != admin.NoDebt {
		t.Errorf("another key: %+v", e)
	}
	s.owed(t, func(l *loop) { l.lanes[0].debts[0].Forfeit() })
	if e := s.explains(t, "k"); e.Replicas[0].Debt != admin.SomeDebt {
		t.Errorf("too much: %+v", e)
	}
	nodes[1].Freeze()
	defer nodes[1].Thaw()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := s.Explain(ctx, admin.Question{Key: []byte("k")}); err == nil {
		t.Error("it outlives who asked")
	}
}

// Of several pools the one is asked that serves the key, or that is named.
func TestExplainInPools(t *testing.T) {
	at := newSite(t, 1, 1)
	other := at.cfg.Pools[0]
	node := startNode(t, memnode.Config{})
	other.Name, other.Copies = "other", [][]config.Node{{nodeAt(t, node.Addr())}}
	at.cfg.Pools = append(at.cfg.Pools, other)
	mine := at.cfg.Pools[0].Name
	at.cfg.Listen[0].Routes = []config.Route{{Prefix: "o:", Pool: "other"}, {Prefix: "m:", Pool: mine}, {Prefix: "x:", Pool: "other"}}
	at.cfg.Listen = append(at.cfg.Listen, config.Listen{Network: "tcp", Address: "127.0.0.1:0", Routes: []config.Route{{Prefix: "x:", Pool: mine}}})
	s := at.magent()
	for _, c := range []struct{ key, pool, want, fault string }{
		{"o:1", "", "other", ""},
		{"m:1", "", mine, ""},
		{"x:1", "other", "other", ""},
		{"x:1", mine, mine, ""},
		{"x:1", "", "", "which pool serves it: say which of other, " + mine},
		{"y:1", "", "", "no pool serves keys that begin like this"},
		{"y:1", "none", "", "there is no pool none: there are " + mine + ", other"},
	} {
		e, err := s.Explain(t.Context(), admin.Question{Key: []byte(c.key), Pool: c.pool})
		if e.Pool != c.want || err == nil && c.fault != "" || err != nil && (c.fault == "" || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s in %q: %+v, %v", c.key, c.pool, e, err)
		}
		if c.want == "other" && (e.Verdict != admin.Alone || e.Replicas[0].Node != node.Addr() || e.Replicas[0].Debt != "") {
			t.Errorf("%s: %+v", c.key, e)
		}
	}
	for pool, fault := range map[string]string{"": "say which pool: there are " + mine + ", other", "none": "there is no pool none", "other": "one copy of each key", mine: ""} {
		d, err := s.Diff(t.Context(), admin.DiffQuestion{Pool: pool}, func(admin.DiffProgress) {})
		if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) || err == nil && d.Pool != mine {
			t.Errorf("a diff of %q: %+v, %v", pool, d, err)
		}
	}
}

// The lead is that of the loops, whatever states the replicas are in, and so is who is read,
// whenever a write is answered.
func TestLeading(t *testing.T) {
	for _, ack := range []config.Ack{config.AckAll, config.AckLead} {
		at := newSite(t, 1, 1, 1)
		at.cfg.Pools[0].Ack = ack
		s := at.magent()
		s.pools[0].pool.Monitor.Close()
		key := []byte("k")
		var states [3]health.State
		for n := range 125 {
			states[0], states[1], states[2] = health.State(n%5), health.State(n/5%5), health.State(n/25)
			for i, state := range states {
				s.becomes(t, i, state)
			}
			led, read := -1, -1
			if err := s.onLoops(t.Context(), func(l *loop) {
				if l.index > 0 {
					return
				}
				if conn, copy := l.lanes[0].leader(key, 0, 0); conn != nil {
					led = int(copy)
				}
				if conn, copy := newSession(l, 0).reader(l.lanes[0], key, 0); conn != nil {
					read = int(copy)
				}
			}); err != nil {
				t.Fatal(err)
			}
			k := &keyed{of: s.pools[0], pool: s.pools[0].pool, nodes: []int{0, 1, 2}, states: states[:], lead: leading(states[:])}
			if k.lead != led || k.reads() != read {
				t.Errorf("ack=%s, %v: %d leads, %d is read; want %d, %d", ack, states, k.lead, k.reads(), led, read)
			}
			if why := k.why(); (led < 0) != strings.HasPrefix(why, "nobody leads it") || why == "" {
				t.Errorf("%v: %s", states, why)
			}
		}
	}
	k := &keyed{nodes: []int{0, 1}, states: []health.State{health.Warming, health.Down}, lead: 0}
	if got := k.why(); got != "it is warming, and no replica is better" {
		t.Error(got)
	}
}
