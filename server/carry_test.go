package server

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream"
	"magent/upstream/repair"
)

// answer has the nodes called names, or all, answer what they have been sent as
// memcached would, until nothing is asked of them.
func (w *world) answer(names ...string) {
	w.t.Helper()
	if len(names) == 0 {
		for _, n := range w.nodes {
			names = append(names, n.name)
		}
	}
	for busy := true; busy; {
		busy = false
		for _, name := range names {
			n := w.node(name)
			if ask := n.conn.sent(); ask != "" {
				busy = true
				n.conn.traffic(n.honest(w.t).answer([]byte(ask)))
				w.settle()
			}
		}
	}
}

// does has memcached do what another proxy asks of it in place of the node.
func (w *world) does(node, ask string) { w.node(node).honest(w.t).answer([]byte(ask + "\r\n")) }

// item is the value of key at a node, "" if there is none.
func (w *world) item(node, key string) string {
	it, _ := w.node(node).honest(w.t).node.Get(key)
	return string(it.Value)
}

func (w *world) demand(client, want string) {
	w.t.Helper()
	if got := w.client(client).sent(); got != want {
		w.t.Errorf("%s got %q, want %q", client, got, want)
	}
}

// Sixteen clients count one counter at the same time: one repair runs, one more
// stands for all the others.
func TestRepairsOfOneKeyAreJoined(t *testing.T) {
	const clients = 16
	w := newWorld(t, nil, 1, 1)
	w.start()
	for _, n := range w.nodes {
		w.does(n.name, "set k1 0 0 1\r\n0")
	}
	name := func(i int) string { return fmt.Sprint("client", i) }
	w.client(name(0)).traffic([]byte("incr k1 1\r\n"))
	w.settle()
	for _, step := range []string{"b1", "p1", "p1"} { // up to the write of the first repair
		n := w.node(step)
		n.conn.traffic(n.honest(t).answer([]byte(n.conn.sent())))
		w.settle()
	}
	for i := 1; i < clients; i++ {
		w.client(name(i)).traffic([]byte("incr k1 1\r\n"))
	}
	w.settle()
	w.answer()
	seen := map[string]bool{}
	for i := range clients {
		seen[w.client(name(i)).sent()] = true
	}
	for i := range clients {
		if !seen[fmt.Sprint(i+1, "\r\n")] {
			t.Errorf("nobody was told %d", i+1)
		}
	}
	if got := w.item("b1", "k1"); got != strconv.Itoa(clients) {
		t.Errorf("the follower has %q", got)
	}
	n := w.lane.repairs.Counts()
	if n.Asked[repair.CauseRelative] != clients || n.Ended[repair.Copied] != 2 || n.Joined != clients-2 {
		t.Errorf("%s: want 2 runs", w.repairs())
	}
	w.finish()
}

// A TTL of more than 30 days is copied as a time, which is what a node takes a number
// that large for.
func TestRepairOfALongTTL(t *testing.T) {
	const days = 40 * 24 * 3600
	w := newWorld(t, nil, 1, 1)
	w.start()
	c := w.client("client")
	c.traffic([]byte("set k1 0 0 1\r\na\r\n"))
	w.settle()
	w.answer("p1")
	w.does("p1", fmt.Sprintf("set k1 9 %d 1\r\nb", standing.Unix()+days))
	w.answer()
	w.demand("client", "STORED\r\n")
	lead, _ := w.node("p1").honest(t).node.Get("k1")
	copied, ok := w.node("b1").honest(t).node.Get("k1")
	if !ok || string(copied.Value) != "b" || copied.Flags != 9 || copied.Exptime.Sub(lead.Exptime).Abs() > ttlSlack+time.Since(standing) {
		t.Errorf("the follower has %q until %v, the lead %q until %v", copied.Value, copied.Exptime, lead.Value, lead.Exptime)
	}
	w.finish()
}

// full makes a world whose Conns hold few requests.
func full(t *testing.T, pending int, set func(*config.Config), copies ...int) *world {
	w := newWorld(t, set, copies...)
	limits := w.lane.limits()
	limits.Pending = pending
	w.regroup(limits)
	w.start()
	return w
}

// A follower that takes no more requests has missed a write: it is read no more. Who
// waits for it is answered.
func TestFullFollower(t *testing.T) {
	for _, mode := range []config.Writes{config.WritesConverge, config.WritesParallel} {
		w := full(t, 3, func(c *config.Config) { c.Pools[0].Writes = mode }, 1, 1)
		c := w.client("client")
		for i := range 4 {
			c.traffic(fmt.Appendf(nil, "set %c1 0 0 1\r\nx\r\n", 'a'+i))
			w.settle()
			w.answer("p1")
		}
		w.answer("p1")
		w.demand("client", strings.Repeat("STORED\r\n", 4))
		if w.lane.pool.Health.Up(1) {
			t.Errorf("%s: the follower is still up", mode)
		}
	}
}

// It is full when a repair is to write to it, or to ask it something.
func TestFullFollowerOfARepair(t *testing.T) {
	for _, effect := range []string{"HD c1\r\n", "SERVER_ERROR out of memory storing object\r\n"} {
		w := full(t, 3, nil, 1, 1)
		w.client("client").traffic([]byte("set k1 0 0 1\r\nx\r\n"))
		w.settle()
		w.answer("p1")
		w.does("p1", "set k1 0 0 1\r\ny")
		b1 := w.node("b1")
		b1.conn.sent()
		w.client("other").traffic([]byte("delete i1\r\ndelete j1\r\n"))
		w.settle()
		p1 := w.node("p1")
		p1.conn.traffic([]byte("DELETED\r\nDELETED\r\n"))
		w.settle()
		p1.conn.sent()
		b1.conn.sent()
		w.client("other").traffic([]byte("delete h1\r\n"))
		w.settle()
		p1.conn.sent()
		// In one batch: b1's answer to the set makes room for one, which is taken.
		p1.conn.traffic([]byte("DELETED\r\n"))
		w.settle()
		b1.conn.traffic([]byte(effect))
		w.settle()
		w.answer("p1")
		if w.lane.pool.Health.Up(1) {
			t.Errorf("%q: the follower is still up", effect)
		}
		w.demand("client", "STORED\r\n")
		w.demand("other", "DELETED\r\nDELETED\r\nDELETED\r\n")
	}
}

// An heir that takes no more requests is not asked.
func TestFullHeir(t *testing.T) {
	w := full(t, 1, nil, 1, 1)
	w.does("p1", "set k1 0 0 1\r\n5")
	w.client("client1").traffic([]byte("set j1 0 0 1\r\nx\r\n"))
	w.settle()
	w.answer("p1")
	w.client("client2").traffic([]byte("incr k1 1\r\n"))
	w.settle()
	if got := w.node("p1").conn.sent(); got != "incr k1 1\r\n" {
		t.Fatalf("the lead was sent %q", got)
	}
	w.node("p1").conn.traffic([]byte("6\r\n"))
	w.settle()
	w.demand("client2", "6\r\n")
	w.demand("client1", "STORED\r\n")
	if w.lane.pool.Health.Up(1) {
		t.Error("the heir has missed the outcome, and is still up")
	}
}

// A lead that is full when it is looked at is not dead; nor is one that has no room for
// what an inquiry was about.
func TestFullLead(t *testing.T) {
	w := full(t, 1, nil, 1, 1)
	c := w.client("client")
	c.traffic([]byte("set k1 0 0 1\r\nx\r\n"))
	w.settle()
	w.answer("p1")
	c.traffic([]byte("get j1\r\n"))
	w.settle()
	w.answer("b1")
	w.answer("p1")
	w.demand("client", "STORED\r\nEND\r\n")

	c.traffic([]byte("incr k1 1\r\nget j1\r\n"))
	w.settle()
	w.answer("b1")
	w.answer("p1")
	w.demand("client", "SERVER_ERROR node p1: too many requests in flight\r\nEND\r\n")
	if !w.lane.pool.Health.Up(0) || !w.lane.pool.Health.Up(1) {
		t.Error("a node is down")
	}
	w.finish()
}

// Of three copies the second is full: what fails with its connection, an inquiry about
// another key in base64, must not turn what goes to the third copy astray.
func TestFullFollowerOfThree(t *testing.T) {
	for mode, second := range map[config.Writes]string{config.WritesConverge: "ma azI= b\r\n", config.WritesParallel: "ms azI= 1 b\r\nz\r\n"} {
		w := full(t, 2, func(c *config.Config) { c.Pools[0].Writes = mode }, 2, 1, 2)
		w.client("client1").traffic([]byte("set k2 0 0 1\r\nx\r\n"))
		w.settle()
		w.answer("p2")
		w.client("client2").traffic([]byte(second)) // k2
		w.settle()
		w.client("client3").traffic([]byte("ms azE= 1 b\r\ny\r\n")) // k1
		w.settle()
		w.answer("p1")
		if w.lane.pool.Health.Up(2) {
			t.Errorf("%s: b1 is still up", mode)
		}
		w.answer("p1", "p2", "c1", "c2")
		if got := w.item("c1", "k1"); got != "y" {
			t.Errorf("%s: the third copy of k1 is %q", mode, got)
		}
		w.demand("client3", "HD\r\n")
	}
}

// Two copies that share a node for some keys: such a key has one replica, and no
// follower nor heir.
func TestCopiesThatShareANode(t *testing.T) {
	w := newWorld(t, nil, 2, 2)
	pool := w.lane.pool
	pool.Copies[1].Nodes = []int{0, 2} // p1 b1
	w.start()
	w.does("p1", "set k1 0 0 1\r\n5")
	c := w.client("client")
	c.traffic([]byte("incr k1 1\r\nset k1 0 0 1\r\n7\r\ngat 100 k1\r\n"))
	w.settle()
	w.answer("p1")
	w.demand("client", "6\r\nSTORED\r\nVALUE k1 0 1\r\n7\r\nEND\r\n")
	c.traffic([]byte("set k2 0 0 1\r\n7\r\nincr k2 1\r\n"))
	w.settle()
	w.answer("p2", "b1")
	w.demand("client", "STORED\r\n8\r\n")
	if got := w.item("b1", "k2"); got != "8" {
		t.Errorf("the follower has %q", got)
	}
	w.finish()
}

// A client whose replies wait for followers and are too many is closed. What it wrote
// is carried on.
func TestAnswersThatWaitAreUnread(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.ClientBuffer = 100 }, 1, 1)
	w.start()
	c := w.client("client")
	for i := range 30 {
		c.traffic(fmt.Appendf(nil, "ms %c1 1 k Oabcdefgh\r\nx\r\n", 'A'+i))
	}
	w.settle()
	w.answer("p1")
	if !c.closed {
		t.Error("the client is still there")
	}
	w.answer()
	if got := w.item("b1", "A1"); got != "x" {
		t.Errorf("the follower has %q", got)
	}
	w.finish()
}

// The node that a write was moved to is full, or is it that a rescue is sent to.
func TestFullNextLead(t *testing.T) {
	for ask, want := range map[string]string{
		"set k1 0 0 1\r\nx\r\n": "SERVER_ERROR node b1: too many requests in flight\r\n",
		"get k1\r\n":            "SERVER_ERROR node b1: too many requests in flight\r\n",
		"incr k1 1\r\n":         "SERVER_ERROR node p1: " + upstream.CauseFate.String() + "\r\n",
	} {
		w := full(t, 1, nil, 1, 1)
		w.does("b1", "set k1 0 0 1\r\n5")
		w.client("client").traffic([]byte(ask))
		w.settle()
		if strings.HasPrefix(ask, "incr") {
			w.answer("b1")
		}
		// Something is in flight to b1.
		w.client("other").traffic([]byte("incr j1 1\r\n"))
		w.settle()
		w.node("p1").conn.end(errLost)
		w.settle()
		w.demand("client", want)
		w.answer("b1")
	}
}

// A lead that has no room turns a write away, whatever way it would have gone; no
// follower has it then.
func TestFullLeadOfAWrite(t *testing.T) {
	for _, mode := range []config.Writes{config.WritesConverge, config.WritesParallel} {
		for _, ask := range []string{"set k1 0 0 1\r\nx\r\n", "delete k1\r\n", "incr k1 1\r\n"} {
			w := full(t, 1, func(c *config.Config) { c.Pools[0].Writes = mode }, 1, 1)
			w.client("other").traffic([]byte("get j1\r\n"))
			w.settle()
			w.client("client").traffic([]byte(ask))
			w.settle()
			w.answer("b1")
			w.demand("client", "SERVER_ERROR node p1: too many requests in flight\r\n")
			w.answer("p1")
			w.demand("other", "END\r\n")
			w.finish()
		}
	}
	// A value that came in pieces is given back.
	for _, mode := range []config.Writes{config.WritesConverge, config.WritesParallel} {
		w := full(t, 1, func(c *config.Config) { c.Pools[0].Writes = mode }, 1, 1)
		w.client("other").traffic([]byte("get j1\r\n"))
		w.client("client").traffic([]byte("set k1 0 0 20000\r\n"))
		w.client("client").traffic([]byte(strings.Repeat("x", 20000) + "\r\n"))
		w.settle()
		w.demand("client", "SERVER_ERROR node p1: too many requests in flight\r\n")
		w.answer("p1")
		w.demand("other", "END\r\n")
		w.finish()
	}
}
