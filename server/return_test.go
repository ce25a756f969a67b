package server

import (
	"bufio"
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/health"
	"magent/upstream/memnode"
)

// proxied starts a proxy that has copies[i] nodes in copy i. Those that are not down are
// not probed: the test says what becomes of them.
func proxied(t *testing.T, copies ...int) (*Server, []*memnode.Node) {
	t.Helper()
	at := newSite(t, copies...)
	was := config.DefaultPool()
	at.cfg.Pools[0].ProbeInterval, at.cfg.Pools[0].Timeout, at.cfg.Pools[0].ConnectTimeout, at.times = 0, was.Timeout, was.ConnectTimeout, defaultTimes
	return at.magent(), at.nodes
}

func nodeAt(t *testing.T, addr string) config.Node {
	t.Helper()
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return config.Node{Host: at.Addr().String(), Port: int(at.Port())}
}

// becomes has node i be what it is said to be, if it is not by now, without the
// monitor's doing.
func (s *Server) becomes(t *testing.T, i int, state health.State) health.Word {
	t.Helper()
	for range 10 {
		seen := s.pools[0].pool.Health.Load(i)
		if seen.State() == state {
			return seen
		}
		if w, ok := s.pools[0].pool.Health.Move(i, seen, state); ok {
			return w
		}
	}
	t.Fatalf("%s does not become %s", s.pools[0].pool.Nodes[i].Name, state)
	return 0
}

func (s *Server) owed(t *testing.T, note func(*loop)) {
	t.Helper()
	if err := s.onLoops(t.Context(), note); err != nil {
		t.Fatal(err)
	}
}

// A node is not healed for ever. A key that nobody leads is given up in the end, though
// others are led. What no journal can tell, as when a flush_all has come while the node
// arrived, has it arrive anew.
func TestHealEnds(t *testing.T) {
	for name, c := range map[string]struct {
		note func(*loop)
		want string
	}{
		"a key that nobody leads": {func(l *loop) { l.lanes[0].debts[0].Note([]byte("k"), false) }, "up: its debt is paid"},
		"more than can be told":   {func(l *loop) { l.lanes[0].debts[0].Forfeit() }, "down: it missed more than can be told"},
	} {
		t.Run(name, func(t *testing.T) {
			s, nodes := proxied(t, 1, 2)
			s.pools[0].pool.Monitor.Close() // the test heals
			lead := s.pools[0].pool.Replica(1, []byte("k"))
			nodes[lead].Kill()
			s.becomes(t, lead, health.Down)
			seen := s.becomes(t, 0, health.Stale)
			s.owed(t, c.note)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			state, got, err := s.pools[0].keepers[0].heal(ctx, seen)
			if err != nil {
				got = err.Error()
			}
			if got = state.String() + ": " + got; !strings.HasPrefix(got, c.want) {
				t.Errorf("heal says %q, want %q", got, c.want)
			}
			s.pools[0].keepers[0].openGates()
		})
	}
}

// caller is a client of a proxy that is really there.
type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (s *Server) caller(t *testing.T) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t, conn, bufio.NewReader(conn)}
}

// line asks for what is answered with lines, and returns the first.
func (c *caller) line(request string) string {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := c.conn.Write([]byte(request + "\r\nmn\r\n"))
	if err != nil {
		c.t.Fatal(err)
	}
	first := ""
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if line == "MN\r\n" {
			return first
		}
		first = cmp.Or(first, strings.TrimSuffix(line, "\r\n"))
	}
}

// awaits waits until node i is in one of states.
func (s *Server) awaits(t *testing.T, i int, states ...health.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if waitFor(ctx, func() bool { return slices.Contains(states, s.pools[0].pool.Health.Load(i).State()) }) != nil {
		t.Fatalf("%s is %s, and does not become %v", s.pools[0].pool.Nodes[i].Name, s.pools[0].pool.Health.Load(i).State(), states)
	}
}

// A node that comes back empty is no better than one that is away, or that is just being
// repaired: that has its items yet.
func TestEmptyBesideOneThatIsAway(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	if got := c.line("set k 0 0 1\r\nv"); got != "STORED" {
		t.Fatal(got)
	}
	nodes[1].Freeze()
	if got := c.line("set other 0 0 1\r\nv"); got != "STORED" {
		t.Fatal(got)
	}
	s.awaits(t, 1, health.Down)
	nodes[0].Kill()
	s.awaits(t, 0, health.Down)
	if err := nodes[0].Restart(); err != nil {
		t.Fatal(err)
	}
	s.awaits(t, 0, health.Up, health.Warming)
	if got := c.line("get k"); got != "END" {
		t.Fatalf("the only node is empty and answers %q", got)
	}
	nodes[1].Thaw()
	s.awaits(t, 1, health.Up)
	if got := c.line("get k"); got != "VALUE k 0 1" {
		t.Errorf("%q, although %s has the key; %s is %s", got, s.pools[0].pool.Nodes[1].Name, s.pools[0].pool.Nodes[0].Name, s.pools[0].pool.Health.Load(0).State())
	}
}

// Of two nodes that have come back empty one is up; a third is promoted only if no node
// that is there has more.
func TestEmpty(t *testing.T) {
	s, _ := proxied(t, 2, 2)
	s.pools[0].pool.Monitor.Close()
	const p1, p2, b1, b2 = 0, 1, 2, 3
	s.becomes(t, p1, health.Warming)
	if !s.pools[0].outdone(p1) {
		t.Error("p1 is outdone by nobody, though b1 and b2 are up")
	}
	s.becomes(t, b2, health.Down)
	s.becomes(t, p2, health.Down)
	s.pools[0].keepers[p2].cold.Store(true)
	if got := s.pools[0].keepers[b2].empty(t.Context()); got != health.Warming {
		t.Errorf("beside p1, which is warming, b2 is %s", got)
	}
	if !s.pools[0].outdone(p1) {
		t.Error("p1 is outdone by nobody, though b1 is up")
	}
	s.becomes(t, p1, health.Down)
	s.pools[0].keepers[p1].cold.Store(true)
	if got := s.pools[0].keepers[b2].empty(t.Context()); got != health.Up {
		t.Errorf("beside two that are away and empty b2 is %s", got)
	}
	s.becomes(t, p1, health.Stale)
	s.pools[0].keepers[p1].cold.Store(false)
	if got := s.pools[0].keepers[b2].empty(t.Context()); got != health.Warming {
		t.Errorf("beside p1, which is being repaired, b2 is %s", got)
	}
}

// A node that answers again may have a write of before in a connection that was given
// up: here it is still at it. It is not healed before that is done, lest the old write
// undo the repair.
func TestOldWritesAreWaitedFor(t *testing.T) {
	s, nodes := proxied(t, 1, 1)
	c := s.caller(t)
	if got := c.line("get k"); got != "END" { // the connections are there
		t.Fatal(got)
	}
	if err := nodes[0].SetFault("(on ms key \"k\" (times 1 stall 600ms))"); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"v1", "v2"} { // the first moves when it times out
		if got := c.line("set k 0 0 2\r\n" + value); got != "STORED" {
			t.Fatal(got)
		}
	}
	s.awaits(t, 0, health.Up)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const kept = 5 // connections of the two loops, the prober, attend, and the ledger of the peer
	if err := waitFor(ctx, func() bool { return nodes[0].Stats().Conns <= kept }); err != nil {
		t.Fatalf("%d connections are open", nodes[0].Stats().Conns)
	}
	if item, _ := nodes[0].Get("k"); string(item.Value) != "v2" {
		t.Errorf("the node that is up holds %q", item.Value)
	}
}

// With one copy, too, an old write does not come after a new one: until it is done the node is
// not back.
func TestOldWritesAreWaitedForWithOneCopy(t *testing.T) {
	s, nodes := proxied(t, 1)
	c := s.caller(t)
	if got := c.line("get k"); got != "END" {
		t.Fatal(got)
	}
	if err := nodes[0].SetFault("(on set key \"k\" (times 1 stall 600ms))"); err != nil {
		t.Fatal(err)
	}
	if got := c.line("set k 0 0 2\r\nv1"); !strings.HasPrefix(got, "SERVER_ERROR") {
		t.Fatal(got)
	}
	s.awaits(t, 0, health.Up)
	if got := c.line("set k 0 0 2\r\nv2"); got != "STORED" {
		t.Fatal(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	const kept = 3 // connections of the two loops, and the prober
	if err := waitFor(ctx, func() bool { return nodes[0].Stats().Conns <= kept }); err != nil {
		t.Fatalf("%d connections are open", nodes[0].Stats().Conns)
	}
	if item, _ := nodes[0].Get("k"); string(item.Value) != "v2" {
		t.Errorf("the node that is up holds %q", item.Value)
	}
}

// A connection that the node does not know by any name of ours is waited for all the same.
func TestUnnamedConnectionsAreWaitedFor(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	k := s.pools[0].keepers[0]
	k.node.Left("")
	began := time.Now()
	if err := k.drained(t.Context()); err != nil || time.Since(began) < lastWords {
		t.Errorf("%v, after %v", err, time.Since(began))
	}
	k.node.Left("")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.drained(over); err == nil || !k.unnamed {
		t.Errorf("%v, and it is to be waited for: %v", err, k.unnamed)
	}
}

// A node of a pool of one copy comes back though it does not say whom it is connected to.
func TestAloneThoughItDoesNotList(t *testing.T) {
	s, nodes := proxied(t, 1)
	if err := nodes[0].SetFault("(on stats (close))"); err != nil {
		t.Fatal(err)
	}
	k := s.pools[0].keepers[0]
	k.node.Left("127.0.0.1:1")
	if state, _, err := k.arrive(t.Context()); err != nil || state != health.Up || !k.clear() {
		t.Errorf("it is %s, %v", state, err)
	}
}
