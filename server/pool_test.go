package server

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/health"
	"magent/upstream/memnode"
)

// TestRoutes has keys go by the longest prefix of them.
func TestRoutes(t *testing.T) {
	var lanes []*lane
	for _, name := range []string{"a", "b", "c"} {
		lanes = append(lanes, &lane{conf: &config.Pool{Name: name}})
	}
	all := newRoutes(lanes, []config.Route{{Prefix: "s", Pool: "b"}, {Prefix: "s:big:", Pool: "c"}, {Prefix: "s:", Pool: "a"}, {Prefix: "t", Pool: "c"}, {Pool: "b"}})
	some := newRoutes(lanes, []config.Route{{Prefix: "s:", Pool: "c"}})
	for key, want := range map[string]string{"": "b,-", "s": "b,-", "sx": "b,-", "s:": "a,c", "s:big": "a,c", "s:big:1": "c,c", "t": "c,-", "\xff": "b,-"} {
		var got []string
		for _, r := range []*routes{all, some} {
			name := "-"
			if l := r.lane([]byte(key)); l != nil {
				name = l.conf.Name
			}
			got = append(got, name)
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%q goes to %q, want %s", key, got, want)
		}
	}
	if !slices.Equal(all.lanes, []*lane{lanes[1], lanes[2], lanes[0]}) || len(some.lanes) != 1 {
		t.Error("not each pool is there once")
	}
	for _, one := range [][]config.Route{nil, {{Pool: "a"}}, {{Pool: "a"}, {Prefix: "x", Pool: "a"}}} {
		if r := newRoutes(lanes, one); r.only != lanes[0] || len(r.lanes) != 1 {
			t.Errorf("%v looks at keys", one)
		}
	}
}

// addPool starts the nodes of one more pool.
func (at *site) addPool(name string, copies ...int) *config.Pool {
	at.t.Helper()
	p := at.cfg.Pools[0]
	p.Name, p.Copies = name, make([][]config.Node, len(copies))
	for i, n := range copies {
		for range n {
			m := startNode(at.t, memnode.Config{})
			at.nodes = append(at.nodes, m)
			p.Copies[i] = append(p.Copies[i], nodeAt(at.t, m.Addr()))
		}
	}
	at.cfg.Pools = append(at.cfg.Pools, p)
	return &at.cfg.Pools[len(at.cfg.Pools)-1]
}

// twoPools is a site of the pools main, of two copies with the nodes 0 and 1, and sessions, of
// two copies with the nodes 2 and 3. Its listeners are for both, by prefix; for sessions
// alone; and for a part of sessions.
func twoPools(t *testing.T) *site {
	t.Helper()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Name = "main"
	at.addPool("sessions", 1, 1)
	on := func(routes ...config.Route) config.Listen {
		return config.Listen{Network: "tcp", Address: "127.0.0.1:0", Routes: routes}
	}
	at.cfg.Listen = []config.Listen{
		on(config.Route{Pool: "main"}, config.Route{Prefix: "s:", Pool: "sessions"}, config.Route{Prefix: "s:not:", Pool: "main"}),
		on(config.Route{Pool: "sessions"}),
		on(config.Route{Prefix: "s:", Pool: "sessions"}),
	}
	return at
}

// callerAt is a client of the listener numbered door.
func (s *Server) callerAt(t *testing.T, door int) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addrs()[door].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t, conn, bufio.NewReader(conn)}
}

// says wants exactly this answer.
func (c *caller) says(request, want string) {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c.conn, request); err != nil {
		c.t.Fatal(err)
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
		c.t.Fatalf("%.200q is answered with %.200q, %v, want %.200q", request, got[:n], err, want)
	}
}

// where is which of the site's nodes have key.
func (at *site) where(key string) (nodes []int) {
	for i, n := range at.nodes {
		if _, there := n.Get(key); there {
			nodes = append(nodes, i)
		}
	}
	return nodes
}

// Each key is served by its pool, whatever asks for it, and answers come in order.
func TestKeysGoToTheirPools(t *testing.T) {
	t.Parallel()
	at := twoPools(t)
	s := at.magent()
	trusted(t, s)
	big := strings.Repeat("b", 200_000)
	c := s.callerAt(t, 0)
	c.says("set a 0 0 1\r\n1\r\nset s:a 0 0 1\r\n2\r\nset s:not:a 0 0 1\r\n3\r\nms s:m 1\r\n4\r\nms czpi 1 b\r\n5\r\n", "STORED\r\nSTORED\r\nSTORED\r\nHD\r\nHD\r\n")
	c.says("set s:big 0 0 200000\r\n"+big+"\r\n", "STORED\r\n")
	for key, want := range map[string][]int{"a": {0, 1}, "s:a": {2, 3}, "s:not:a": {0, 1}, "s:m": {2, 3}, "s:b": {2, 3}, "s:big": {2, 3}} {
		if got := at.where(key); !slices.Equal(got, want) {
			t.Errorf("%s is at the nodes %v, want %v", key, got, want)
		}
	}
	c.says("get s:a a nothing s:not:a s:nothing s:m\r\n",
		"VALUE s:a 0 1\r\n2\r\nVALUE a 0 1\r\n1\r\nVALUE s:not:a 0 1\r\n3\r\nVALUE s:m 0 1\r\n4\r\nEND\r\n")
	c.says("get s:big a\r\nmg a v\r\nincr s:a 5\r\ndelete a\r\n", "VALUE s:big 0 200000\r\n"+big+"\r\nVALUE a 0 1\r\n1\r\nEND\r\nVA 1\r\n1\r\n7\r\nDELETED\r\n")
	packet := func(op byte, extras, key, value string) string {
		var b bytes.Buffer
		b.Write([]byte{0x80, op, 0, byte(len(key)), byte(len(extras)), 0, 0, 0})
		binary.Write(&b, binary.BigEndian, uint32(len(extras)+len(key)+len(value)))
		b.WriteString(strings.Repeat("\x00", 12) + extras + key + value)
		return b.String()
	}
	speaks := s.callerAt(t, 0)
	speaks.conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(speaks.conn, packet(1, strings.Repeat("\x00", 8), "s:bin", "x")+packet(0, "", "s:bin", "")+packet(0, "", "s:not:a", ""))
	for _, want := range []string{"", "x", "3"} {
		head := make([]byte, 24)
		if _, err := io.ReadFull(speaks.in, head); err != nil || head[7] != 0 {
			t.Fatalf("%v, status %d", err, head[7])
		}
		body := make([]byte, binary.BigEndian.Uint32(head[8:]))
		if io.ReadFull(speaks.in, body); !strings.HasSuffix(string(body), want) {
			t.Errorf("%q, want %q", body, want)
		}
	}
	if got := at.where("s:bin"); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("what came in binary is at the nodes %v", got)
	}
}

// A key of no pool is refused, with its value, and what follows is served.
func TestNoPool(t *testing.T) {
	t.Parallel()
	at := twoPools(t)
	s := at.magent()
	trusted(t, s)
	c := s.callerAt(t, 2)
	const no = "SERVER_ERROR no pool for this key\r\n"
	c.says("set a 0 0 2\r\nmn\r\nset a 0 0 1 noreply\r\n1\r\nset s:a 0 0 1\r\n1\r\n", no+"STORED\r\n")
	c.says("get s:a\r\nget a\r\nget s:a a s:a\r\nmg a v\r\nmg a q v\r\n", "VALUE s:a 0 1\r\n1\r\nEND\r\n"+no+"VALUE s:a 0 1\r\n1\r\n"+no+no+no)
	c.says("delete a\r\nincr a 1\r\ntouch a 1\r\nms a 1 q\r\n1\r\nmn\r\n", no+no+no+no+"MN\r\n")
	c.says("set a 0 0 200000\r\n"+strings.Repeat("x", 200_000)+"\r\nmn\r\n", no+"MN\r\n")
	if got := at.where("a"); got != nil {
		t.Errorf("it was stored all the same, at the nodes %v", got)
	}
}

// What concerns all keys concerns those that the client can reach.
func TestWhatConcernsAllKeys(t *testing.T) {
	t.Parallel()
	at := twoPools(t)
	s := at.magent()
	trusted(t, s)
	both, sessions := s.callerAt(t, 0), s.callerAt(t, 1)
	items := func(c *caller) int {
		c.conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c.conn, "stats\r\n")
		for n := 0; ; {
			line, err := c.in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			fmt.Sscanf(line, "STAT curr_items %d", &n)
			if line == "END\r\n" {
				return n
			}
		}
	}
	for i := range 100 {
		both.says(fmt.Sprintf("set b%d 0 0 1\r\n1\r\nset s:b%d 0 0 1\r\n1\r\nset c%d 0 0 1\r\n1\r\n", i, i, i), "STORED\r\nSTORED\r\nSTORED\r\n")
	}
	const few = 50 // more than magents keep there
	if a, s := items(both), items(sessions); a < 300 || a > 300+2*few || s < 100 || s > 100+few {
		t.Errorf("there are %d and %d keys, want 300 and 100, and those of magents", a, s)
	}
	both.says("set a 0 0 1\r\n1\r\nset s:a 0 0 1\r\n1\r\n", "STORED\r\nSTORED\r\n")
	sessions.says("flush_all\r\n", "OK\r\n")
	both.says("get a s:a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\n")
	both.says("flush_all\r\nget a b s:a\r\n", "OK\r\nEND\r\n")
	var names []string
	for _, n := range s.Snapshot().Nodes {
		names = append(names, n.Pool+"/"+n.Name)
	}
	if len(names) != 4 || names[2] != "sessions/"+at.nodes[2].Addr() {
		t.Errorf("the nodes are %q", names)
	}
	for name, want := range map[string]int{at.nodes[3].Addr(): 3, "sessions/" + at.nodes[2].Addr(): 2, "main/" + at.nodes[2].Addr(): -1} {
		k, err := s.named(name)
		if (err == nil) != (want >= 0) || k != nil && k.node.Address != at.nodes[want].Addr() {
			t.Errorf("%s is %v, %v", name, k, err)
		}
	}
	if err := s.Resync(at.nodes[0].Addr(), at.nodes[2].Addr()); err == nil || !strings.Contains(err.Error(), "in another pool") {
		t.Errorf("refilled from another pool: %v", err)
	}
}

// What befalls the nodes of one pool is nothing to another, whose settings are its own.
func TestAPoolFailsAlone(t *testing.T) {
	t.Parallel()
	at := twoPools(t)
	at.cfg.Pools[1].Timeout, at.cfg.Pools[1].Ack = 100*time.Millisecond, config.AckLead
	s := at.magent()
	trusted(t, s)
	c := s.callerAt(t, 0)
	c.says("set a 0 0 1\r\n1\r\nset s:a 0 0 1\r\n2\r\n", "STORED\r\nSTORED\r\n")
	eventually(t, "the follower has it", func() bool { return len(at.where("s:a")) == 2 })
	at.nodes[2].Freeze()
	began := time.Now()
	c.says("get a\r\nget s:a\r\nget a s:a\r\n", "VALUE a 0 1\r\n1\r\nEND\r\nVALUE s:a 0 1\r\n2\r\nEND\r\nVALUE a 0 1\r\n1\r\nVALUE s:a 0 1\r\n2\r\nEND\r\n")
	if took := time.Since(began); took > at.cfg.Pools[0].Timeout {
		t.Errorf("a node that hangs was waited for for %v, where the pool says %v", took, at.cfg.Pools[1].Timeout)
	}
	at.nodes[2].Kill()
	at.nodes[3].Kill()
	eventually(t, "both are down", func() bool {
		h := s.pools[1].pool.Health
		return h.Load(0).State() == health.Down && h.Load(1).State() == health.Down
	})
	before := s.pools[0].pool.Health.Changes()
	c.says("set a 0 0 1\r\n3\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\n3\r\nEND\r\n")
	if got := c.line("get s:a"); !strings.HasPrefix(got, "SERVER_ERROR node "+at.nodes[2].Addr()) {
		t.Errorf("a key whose nodes are dead: %q", got)
	}
	if s.pools[0].pool.Health.Changes() != before {
		t.Error("a node of the other pool has changed its state")
	}
	if ready := s.Ready(); ready.Ready || !strings.Contains(ready.Why(false), "pool sessions: no node can be read that has any key") {
		t.Errorf("it is ready: %v, %s", ready.Ready, ready.Why(false))
	}
}

// Clients that are given to a successor are still those of their listeners.
func TestClientsKeepTheirListener(t *testing.T) {
	t.Parallel()
	at := twoPools(t)
	old := at.magent()
	trusted(t, old)
	clients := []*caller{old.callerAt(t, 0), old.callerAt(t, 1), old.callerAt(t, 2)}
	at.cfg.Listen = slices.Clone(at.cfg.Listen)
	for i, addr := range old.Addrs() {
		at.cfg.Listen[i].Address = addr.String()
	}
	for i, c := range clients {
		c.says(fmt.Sprintf("set s:%d 0 0 1\r\n%d\r\n", i, i), "STORED\r\n")
	}
	at.cfg.Listen[0], at.cfg.Listen[1] = at.cfg.Listen[1], at.cfg.Listen[0] // they go by their addresses
	s, ours, theirs := at.successor(old)
	if err := <-at.handsOver(old, s, ours, theirs); err != nil {
		t.Fatal(err)
	}
	for i, c := range clients {
		want := []string{"STORED", "STORED", "SERVER_ERROR no pool for this key"}[i]
		c.wants(fmt.Sprintf("set k:%d 0 0 1\r\n%d", i, i), want)
	}
	for key, want := range map[string][]int{"k:0": {0, 1}, "k:1": {2, 3}, "k:2": nil} {
		if got := at.where(key); !slices.Equal(got, want) {
			t.Errorf("%s is at the nodes %v, want %v", key, got, want)
		}
	}
}
