package upstream

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"magent/codec"
	"magent/upstream/health"
)

func TestNodeSaysWhyItIsDown(t *testing.T) {
	n := NewNode("cache-1", "tcp", "")
	if got, want := string(n.Down()), "SERVER_ERROR node cache-1: down\r\n"; got != want || got != string(n.Error(CauseDown)) {
		t.Errorf("before anybody has said why: %q, want %q", got, want)
	}
	n.Fell("timeout")
	n.Fell("connection refused")
	if got, want := string(n.Down()), "SERVER_ERROR node cache-1: down (connection refused)\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := testing.AllocsPerRun(100, func() { n.Down() }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestLeftIsBounded(t *testing.T) {
	n := NewNode("n", "tcp", "")
	if got := n.TakeLeft(); len(got) != 0 {
		t.Errorf("left at a new node: %q", got)
	}
	var want []string
	for i := range maxLeft + 10 {
		addr := fmt.Sprint("10.0.0.1:", i)
		n.Left(addr)
		want = append(want, addr)
	}
	if got := n.TakeLeft(); !slices.Equal(got, want[10:]) {
		t.Errorf("left are %d, from %s to %s", len(got), got[0], got[len(got)-1])
	}
	if got := n.TakeLeft(); len(got) != 0 {
		t.Errorf("taken twice: %q", got)
	}
}

// Connections that end with something unanswered in them are remembered.
func TestLeftConnections(t *testing.T) {
	tcp := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}
	ask := func(r *rig, c *Conn) {
		send(c, &ear{}, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
		r.group.Flush()
	}
	for name, tc := range map[string]struct {
		local net.Addr
		end   func(*rig, *Conn, *wire)
		want  []string
	}{
		"timeout":   {tcp, func(r *rig, c *Conn, _ *wire) { ask(r, c); r.ticks(11) }, []string{"127.0.0.1:4711"}},
		"lost":      {tcp, func(r *rig, c *Conn, w *wire) { ask(r, c); c.Lost(w, false) }, []string{"127.0.0.1:4711"}},
		"reset":     {tcp, func(r *rig, c *Conn, w *wire) { ask(r, c); c.Lost(w, true) }, nil},
		"abandoned": {tcp, func(r *rig, c *Conn, _ *wire) { ask(r, c); r.group.Abandon(0) }, []string{"127.0.0.1:4711"}},
		"IPv6": {&net.TCPAddr{IP: net.IPv6loopback, Port: 1}, func(r *rig, c *Conn, w *wire) { ask(r, c); c.Lost(w, false) },
			[]string{"[::1]:1"}},
		"a unix socket": {&net.UnixAddr{Net: "unix"}, func(r *rig, c *Conn, w *wire) { ask(r, c); c.Lost(w, false) }, []string{""}},
		"idle":          {tcp, func(r *rig, _ *Conn, _ *wire) { r.group.Abandon(0) }, nil},
		"answered": {tcp, func(r *rig, c *Conn, _ *wire) {
			ask(r, c)
			c.Feed([]byte("DELETED\r\n"))
			r.group.Abandon(0)
		}, nil},
		"not sent": {tcp, func(r *rig, c *Conn, _ *wire) {
			send(c, &ear{}, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
			r.group.Abandon(0)
		}, nil},
		"a greeting": {tcp, func(r *rig, c *Conn, w *wire) {
			c.Lost(w, false)
			_, again := r.accept(t)
			again.local = tcp
			send(c, &ear{}, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
			r.ticks(11)
		}, nil},
		"no connection": {tcp, func(r *rig, c *Conn, w *wire) {
			c.Lost(w, true)
			ask(r, c)
			c.Refused(c.attempt, CauseRefused)
		}, nil},
	} {
		r := newRig(2)
		c, w := r.open(t, 0)
		w.local = tc.local
		tc.end(r, c, w)
		if got := c.node.TakeLeft(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: left are %q, want %q", name, got, tc.want)
		}
	}
}

// The first greeting tells the node's life; what another process answers is nobody's.
func TestRestartIsFoundOutByTheGreeting(t *testing.T) {
	in := newRig(2).greeting() + "DELETED\r\n"
	for cut := range in {
		r, e := newRig(2), &ear{}
		c := r.group.Conn(0, 0)
		c.node.SetLife(1)
		r.watch()
		send(c, e, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
		_, w := r.accept(t)
		r.group.Flush()
		c.Feed([]byte(in[:cut]))
		c.Feed([]byte(in[cut:]))
		e.want(t, fmt.Sprint("cut at ", cut), "1 fail restarted sent=true")
		if !w.closed || c.On(w) {
			t.Errorf("cut at %d: the connection is still there", cut)
		}
		if last := r.group.pool.Monitor.Report(0).Last; last.To != health.Down || last.Cause != "restarted" {
			t.Errorf("cut at %d: the node's latest change is %+v", cut, last)
		}
		if life, ok := c.node.Life(); life != 1 || !ok {
			t.Errorf("cut at %d: the node's life is %d", cut, life)
		}
	}
	r := newRig(2)
	n := r.group.pool.Nodes[0]
	if life, ok := n.Life(); ok {
		t.Errorf("before any greeting the life is %x", life)
	}
	c, w := r.open(t, 0)
	born, _ := c.Life()
	if life, ok := n.Life(); !ok || life != born {
		t.Errorf("the node's life is %x, its connection's %x", life, born)
	}
	c.Lost(w, true)
	_, w = r.accept(t)
	c.Feed([]byte(r.greeting()))
	if !c.On(w) {
		t.Error("the same process is not taken")
	}
	n.SetLife(0)
	if _, ok := n.Life(); ok {
		t.Error("0 is a life")
	}

	// A node that does not say who it is cannot be told from another.
	n.SetLife(born + 1)
	c.Lost(w, true)
	_, w = r.accept(t)
	c.Feed([]byte(aloneGreeting + "END\r\n"))
	if !c.On(w) {
		t.Error("a node without a life is not taken")
	}
}

// A node's clock is that of one process.
func TestAheadIsOfALife(t *testing.T) {
	n := NewNode("n", "tcp", "")
	now := time.Unix(1_700_000_000, 0)
	n.SetLife(1)
	n.SawTime(now.Unix()+9, now)
	n.SawTime(now.Unix()+7, now)
	if n.SetLife(1); n.Ahead() != 9*time.Second {
		t.Errorf("%v ahead, want 9 s", n.Ahead())
	}
	if n.SetLife(2); n.Ahead() != 0 {
		t.Errorf("another process is %v ahead", n.Ahead())
	}
	if n.SawTime(now.Unix()-3, now); n.Ahead() != -3*time.Second {
		t.Errorf("it is %v ahead, want -3 s", n.Ahead())
	}
}
