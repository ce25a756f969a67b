package server

import (
	"bufio"
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/health"
)

// awaitsReady waits until s is ready, or until it is not and has such a reason.
func (s *Server) awaitsReady(t *testing.T, reason string) {
	t.Helper()
	eventually(t, "ready, or: "+reason, func() bool {
		r := s.Ready()
		return reason == "" && r.Ready || reason != "" && !r.Ready && strings.Contains(r.Why(false), reason)
	})
}

// A magent is ready as long as every key can be read, whatever state its nodes are in; and
// warm if there is nothing the matter with any.
func TestReadyAsLongAsKeysCanBeRead(t *testing.T) {
	at := newSite(t, 2, 2)
	at.cfg.Pools[0].Timeout, at.cfg.Pools[0].ConnectTimeout = 250*time.Millisecond, 250*time.Millisecond
	var log bytes.Buffer
	s := at.build(at.cfg)
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	at.serve(s)
	s.awaitsReady(t, "")
	trusted(t, s)
	eventually(t, "it is warm", func() bool { return s.Ready().Warm })

	at.nodes[0].Kill()
	s.awaits(t, 0, health.Down)
	s.awaitsReady(t, "")
	if r := s.Ready(); r.Warm || !slices.Equal(r.Cold, []string{at.nodes[0].Addr() + " is down"}) {
		t.Errorf("beside a node that is down: %+v", r)
	}
	at.nodes[3].Kill() // it has none of the keys that the first has
	s.awaits(t, 3, health.Down)
	s.awaitsReady(t, "")
	at.nodes[2].Kill()
	s.awaits(t, 2, health.Down)
	s.awaitsReady(t, "no node can be read that has some ")
	why := s.Ready().Why(false)
	for _, i := range []int{0, 2, 3} {
		if !strings.Contains(why, at.nodes[i].Addr()+" is down") {
			t.Errorf("%q does not name node %d", why, i)
		}
	}
	at.nodes[1].Kill()
	s.awaits(t, 1, health.Down)
	s.awaitsReady(t, "no node can be read that has any key")
	for _, i := range []int{0, 1} {
		if err := at.nodes[i].Restart(); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitsReady(t, "") // though one of them may be warming, or both
	at.shutDown(s)
	changes := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "msg=ready") || strings.Contains(line, `msg="not ready" cause="`) {
			changes++
		}
	}
	if changes != 3 {
		t.Errorf("%d changes are told, want 3:\n%s", changes, &log)
	}
}

// What Warming and Stale mean for reads, they mean for readiness.
func TestReadinessAndStates(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	move := func(i int, to health.State) {
		for w := s.pools[0].pool.Health.Load(i); w.State() != to; w = s.pools[0].pool.Health.Load(i) {
			s.pools[0].pool.Health.Move(i, w, to)
		}
	}
	s.pools[0].pool.Monitor.Close()
	for _, c := range []struct {
		a, b health.State
		want bool
	}{
		{health.Up, health.Up, true}, {health.Down, health.Up, true}, {health.Down, health.Slow, true},
		{health.Down, health.Warming, true}, {health.Warming, health.Warming, true}, {health.Stale, health.Warming, true},
		{health.Down, health.Stale, false}, {health.Stale, health.Stale, false}, {health.Down, health.Down, false},
	} {
		move(0, c.a)
		move(1, c.b)
		if why := s.pools[0].unread(); (why == "") != c.want {
			t.Errorf("%s and %s: %q", c.a, c.b, why)
		}
	}
}

// An event loop that stands still is found out whether our own client is on it or not.
func TestLoopThatStandsStill(t *testing.T) {
	at := newSite(t, 1)
	s := at.magent()
	s.awaitsReady(t, "")
	watchdog := s.Pulse()
	eventually(t, "all loops turn", watchdog.Turned)
	for i, l := range s.loops {
		goOn := make(chan struct{})
		l.do(func() { <-goOn })
		s.awaitsReady(t, "event loop "+string(rune('0'+i))+" has stood still for ")
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "stood still") {
			t.Errorf("it is healthy: %v", err)
		}
		watchdog.Turned() // asks
		for range 3 {
			if watchdog.Turned() {
				t.Error("the watchdog is told that all loops turn")
			}
		}
		close(goOn)
		s.awaitsReady(t, "")
		eventually(t, "all loops turn", watchdog.Turned)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
	}
}

// Our own client gets in where there is no room for others, and does not show: neither in
// statistics, nor as a client that a shutdown waits for. Others are none of ours.
func TestOwnClientDoesNotCount(t *testing.T) {
	at := newSite(t, 1)
	at.cfg.MaxClients = 1
	s := at.magent()
	c := s.caller(t)
	if got := c.line("get k"); got != "END" {
		t.Fatal(got)
	}
	before := s.Snapshot()
	s.awaitsReady(t, "")
	for _, anew := range []bool{false, true} {
		seen := s.readiness.outcome.Load()
		if anew {
			s.loops[0].do(func() { closeOwn(s.loops[0]) })
			s.loops[1].do(func() { closeOwn(s.loops[1]) })
		}
		eventually(t, "it asks again", func() bool { return s.Ready().Ready && s.readiness.outcome.Load() != seen })
	}
	after := s.Snapshot()
	if after.Counters != before.Counters || after.Sessions != 1 || after.Accepted != 1 || after.Refused != 0 {
		t.Errorf("%+v\nbecame\n%+v", before, after)
	}
	second := s.caller(t)
	if line, err := second.in.ReadString('\n'); line != lineFull {
		t.Errorf("a second client is told %q, %v", line, err)
	}
}

func closeOwn(l *loop) {
	for s := range l.sessions {
		if s.own() {
			s.close()
		}
	}
}

// Nobody is asked while nobody wants to know.
func TestNobodyAsks(t *testing.T) {
	at := newSite(t, 1)
	s := at.magent()
	s.awaitsReady(t, "")
	s.readiness.asked.Store(int64(s.elapsed() - 2*readyInterest)) // it has been quiet for long
	eventually(t, "it has hung up", func() bool { return s.readiness.outcome.Load() == nil && s.readiness.own.ends.Load() == nil })
	s.awaitsReady(t, "")
}

// Where the server is asked: at the first address that is here.
func TestDoors(t *testing.T) {
	for _, c := range []struct {
		listen []string
		here   string
		want   string
	}{
		{[]string{"0.0.0.0:0"}, "", "127.0.0.1"},
		{[]string{"[::]:0"}, "", "127.0.0.1"},
		{[]string{"127.0.0.2:0"}, "", "127.0.0.2"},
		{[]string{"[::1]:0"}, "", "::1"},
		{[]string{"192.0.2.1:0", "192.0.2.2:0"}, "192.0.2.2", "192.0.2.2"},
		{[]string{"192.0.2.1:0", "127.0.0.1:0"}, "", "127.0.0.1"},
		{[]string{"192.0.2.1:0"}, "", ""},
		{nil, "", "unix"},
	} {
		at := newSite(t, 1)
		at.cfg.Listen = nil
		for _, a := range c.listen {
			at.cfg.Listen = append(at.cfg.Listen, config.Listen{Network: "tcp", Address: a})
		}
		if c.listen == nil {
			at.cfg.Listen = []config.Listen{{Network: "unix", Address: filepath.Join(t.TempDir(), "s")}}
		}
		s := at.build(at.cfg)
		s.here = onlyHere(c.here)
		at.serve(s)
		door := s.door()
		switch {
		case door == nil && c.want == "", c.want == "unix" && door.Network() == "unix":
		case door == nil || c.want != door.(*net.TCPAddr).IP.String():
			t.Errorf("%v: %v, want %s", c.listen, door, c.want)
		}
		if door == nil || door.Network() == "unix" || door.(*net.TCPAddr).IP.IsLoopback() { // others are really elsewhere
			s.awaitsReady(t, "")
		}
	}
}

// Whoever is on this machine can see from which port our own client has come, and can have
// that port at another of its addresses. He is a client like any other all the same.
func TestOwnPortAtAnotherAddress(t *testing.T) {
	at := newSite(t, 1)
	at.cfg.Listen = []config.Listen{{Network: "tcp", Address: "0.0.0.0:0"}}
	at.cfg.MaxClients = 1
	s := at.magent()
	s.caller(t).wants("get k", "END") // there is no room for a second one
	_, port, _ := net.SplitHostPort(s.Addrs()[0].String())
	const other = "127.0.0.2"
	var c *caller
	eventually(t, "it has the port of our own client", func() bool {
		s.Ready() // has it come
		own := s.readiness.own.ends.Load()
		if own == nil {
			return false
		}
		from := net.TCPAddr{IP: net.ParseIP(other), Port: int(netip.MustParseAddrPort(own.near).Port())}
		conn, err := (&net.Dialer{LocalAddr: &from}).Dial("tcp", net.JoinHostPort(other, port))
		if err != nil {
			return false // it is taken there
		}
		t.Cleanup(func() { conn.Close() })
		c = &caller{t, conn, bufio.NewReader(conn)}
		return s.readiness.own.ends.Load() == own
	})
	c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if line, err := c.in.ReadString('\n'); line != lineFull {
		t.Errorf("it is told %q, %v", line, err)
	}
}

// When the address of a connection has left, nothing is heard on it any more.
func TestDoorThatMoves(t *testing.T) {
	at := newSite(t, 1)
	at.cfg.Listen = []config.Listen{{Network: "tcp", Address: "192.0.2.1:0"}}
	s := at.build(at.cfg)
	s.here = onlyHere("")
	at.serve(s)
	k := &knocker{srv: s}
	defer k.hangUp()
	var conns []net.Conn
	for _, door := range []string{"", "", s.Addrs()[0].String()} {
		if k.conn != nil {
			k.door = door
		}
		if err := k.knock(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, k.conn)
	}
	if conns[0] != conns[1] || conns[1] == conns[2] {
		t.Errorf("the connections are %v", conns)
	}
}

// An answer that comes of another process is none of ours.
func TestAnotherBehindTheDoor(t *testing.T) {
	at := newSite(t, 1)
	other := at.magent()
	s := at.build(at.cfg)
	s.listeners[0].Close()
	s.listeners[0] = other.listeners[0]
	k := &knocker{srv: s}
	if err := k.knock(time.Second); err == nil || err.Error() != "another process answers at its address" {
		t.Error(err)
	}
}

// Requests that nobody accepts are found out, and errors, which may be one node's.
func TestOwnRequestsFail(t *testing.T) {
	at := newSite(t, 1)
	at.cfg.Pools[0].Timeout = 50 * time.Millisecond
	s := at.build(at.cfg)
	r := s.readiness
	r.knock() // nobody has started it: so the connection is in the backlog
	if why := r.unanswered(); why != "" {
		t.Errorf("after one: %s", why)
	}
	r.knock()
	if why := r.unanswered(); why != "its own requests fail: there was no answer in time" {
		t.Error(why)
	}
	r.sent.Store(int64(s.elapsed() - s.readyPatience() - time.Second))
	if why := r.unanswered(); !strings.HasPrefix(why, "a request of its own has waited for its answer for 1.") {
		t.Error(why)
	}
	r.own.hangUp()
	s.closeListeners()
	r.knock()
	if why := r.unanswered(); !strings.HasPrefix(why, "its own requests fail: cannot connect to 127.0.0.1:") {
		t.Error(why)
	}
}
