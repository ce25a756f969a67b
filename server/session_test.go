package server

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"magent/server/config"
)

// serve lets every node answer what it was sent, until nothing more comes. A node
// has every key; its value is the key.
func (w *world) serve() {
	for busy := true; busy; {
		busy = false
		for _, n := range w.nodes {
			for _, line := range strings.SplitAfter(n.conn.sent(), "\r\n") {
				if line != "" {
					busy = true
					n.conn.traffic([]byte(answer(line)))
				}
			}
		}
		w.settle()
	}
}

// answer is what a node that has every key says to a get, a delete and the like.
func answer(line string) string {
	f := strings.Fields(line)
	var out strings.Builder
	switch f[0] {
	case "get":
		for _, key := range f[1:] {
			fmt.Fprintf(&out, "VALUE %s 0 %d\r\n%s\r\n", key, len(key), key)
		}
		out.WriteString("END\r\n")
	case "delete":
		out.WriteString("DELETED\r\n")
	default:
		out.WriteString("OK\r\n")
	}
	return out.String()
}

func keys(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("key-%d", i)
	}
	return all
}

func valuesOf(keys []string) string {
	line := "get " + strings.Join(keys, " ") + "\r\n"
	return answer(line)
}

// A multi-get of more keys than a session has slots is served in turns, and reads
// as one reply.
func TestManyKeys(t *testing.T) {
	w := newWorld(t, nil, 3)
	w.start()
	all := keys(5000)
	c := w.client("client")
	c.traffic([]byte("get " + strings.Join(all, " ") + "\r\nget key-1\r\n"))
	if s := c.ctx.(*session); s.slots.len() > windowLarge {
		t.Errorf("%d slots, at most %d are allowed", s.slots.len(), windowLarge)
	}
	w.settle()
	w.serve()
	if got, want := c.sent(), valuesOf(all)+valuesOf(all[1:2]); got != want {
		t.Errorf("got %d bytes, want %d; first difference at %d", len(got), len(want), firstDifference(got, want))
	}
	w.finish()
}

// More commands than there are slots, from a client that has shut its sending side
// before they are served: all are answered.
func TestHalfClosedWithHeldInput(t *testing.T) {
	w := newWorld(t, nil, 3)
	w.start()
	var in, want strings.Builder
	for _, key := range keys(3000) {
		fmt.Fprintf(&in, "get %s\r\n", key)
		want.WriteString(valuesOf([]string{key}))
	}
	c := w.client("client")
	c.traffic([]byte(in.String()))
	c.end(io.EOF)
	w.settle()
	w.serve()
	var got strings.Builder
	ended := false
	for range 3 {
		writes, end := c.take()
		got.Write(bytes.Join(writes, nil))
		ended = ended || end
		w.tick()
	}
	if got.String() != want.String() {
		t.Errorf("got %d bytes, want %d", got.Len(), want.Len())
	}
	if !ended {
		t.Error("the connection is still open")
	}
	w.finish()
}

// Draining while a long multi-get is under way: all of it is answered, what the client
// sends behind it too, and then it is closed.
func TestDrainFinishesHeldKeys(t *testing.T) {
	w := newWorld(t, nil, 3)
	w.start()
	all := keys(5000)
	c := w.client("client")
	c.traffic([]byte("get " + strings.Join(all, " ") + "\r\n"))
	w.loop.drain()
	c.traffic([]byte("version\r\n"))
	w.settle()
	w.serve()
	writes, ended := c.take()
	if got, want := string(bytes.Join(writes, nil)), valuesOf(all)+"VERSION 1.6.18\r\n"; got != want {
		t.Errorf("got %d bytes, want %d; first difference at %d", len(got), len(want), firstDifference(got, want))
	}
	if !ended {
		t.Error("the connection is still open")
	}
	w.finish()
}

// A client that stores big values has few of them on the way at a time.
func TestBigStoresAreFewAtATime(t *testing.T) {
	w := newWorld(t, nil, 1)
	w.start()
	one := fmt.Sprintf("set k1 0 0 %d\r\n%s\r\n", bigValue, strings.Repeat("v", bigValue))
	c := w.client("client")
	c.traffic([]byte(strings.Repeat(one, 100)))
	if n := c.ctx.(*session).slots.len(); n > windowSmall {
		t.Errorf("%d are on the way, at most %d are allowed", n, windowSmall)
	}
	w.settle()
	replies := 0
	for range 100 {
		stored := strings.Count(w.nodes[0].conn.sent(), "set k1 ")
		if stored == 0 {
			break
		}
		w.nodes[0].conn.traffic([]byte(strings.Repeat("STORED\r\n", stored)))
		w.settle()
		replies += strings.Count(c.sent(), "STORED\r\n")
	}
	if replies != 100 {
		t.Errorf("%d of 100 are answered", replies)
	}
	w.finish()
}

// Values that are held until it is their turn, relayed when it is, and too big to
// be copied.
func TestBigValuesInOrder(t *testing.T) {
	w := newWorld(t, nil, 2)
	w.start()
	value := strings.Repeat("v", 3*bigValue)
	c := w.client("client")
	c.traffic([]byte("get k2 k1\r\n"))
	w.settle()
	w.node("p1").conn.traffic(fmt.Appendf(nil, "VALUE k1 0 %d\r\n%s\r\nEND\r\n", len(value), value))
	w.node("p2").conn.traffic(fmt.Appendf(nil, "VALUE k2 0 %d\r\n%s\r\nEND\r\n", len(value), value))
	w.settle()
	want := fmt.Sprintf("VALUE k2 0 %d\r\n%s\r\nVALUE k1 0 %d\r\n%s\r\nEND\r\n", len(value), value, len(value), value)
	if got := c.sent(); got != want {
		t.Errorf("got %d bytes, want %d; first difference at %d", len(got), len(want), firstDifference(got, want))
	}
	if got := w.loop.count.BytesOut; got != uint64(len(want)) {
		t.Errorf("%d bytes are counted, %d were sent", got, len(want))
	}
	for range 2 {
		w.node("p1").conn.take()
		w.node("p2").conn.take()
	}
	w.finish()
}

func firstDifference(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// A pool may have more nodes than fit eight bits: all are waited for.
func TestBroadcastToManyNodes(t *testing.T) {
	w := newWorld(t, nil, 256)
	w.start()
	c := w.client("client")
	c.traffic([]byte("flush_all\r\n"))
	w.settle()
	for _, n := range w.nodes[:255] {
		n.conn.sent()
		n.conn.traffic([]byte("OK\r\n"))
	}
	w.settle()
	if got := c.sent(); got != "" {
		t.Errorf("answered %q before all nodes had", got)
	}
	w.nodes[255].conn.sent()
	w.nodes[255].conn.traffic([]byte("OK\r\n"))
	w.settle()
	if got := c.sent(); got != "OK\r\n" {
		t.Errorf("got %q", got)
	}
	w.finish()
}

// A client whose input cannot be paused is closed when too much of it waits.
func TestFloodIsClosed(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.ClientBuffer = 8 }, 1)
	w.start()
	c := w.client("client")
	c.deaf = true
	c.traffic([]byte("version\r\n"))
	w.settle()
	flood := bytes.Repeat([]byte("version\r\n"), 1<<20)
	for range maxHeld/len(flood) + 2 {
		c.traffic(flood)
		w.settle()
	}
	if !c.closed {
		t.Error("still open")
	}
	if n := len(w.loop.sessions); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// A dial whose end is never told is given up, though nothing waited for it when it
// began: the clock goes on as long as there is a dial.
func TestClockRunsWhileDialling(t *testing.T) {
	w := newWorld(t, nil, 1, 1)
	w.node("p1").silent = true
	w.start()
	limit := int(w.lane.limits().Dial)
	ticks := 0
	for ; w.loop.any.busy.Load() && ticks <= 2*limit; ticks++ {
		w.tick()
	}
	if ticks <= limit || ticks > limit+2 {
		t.Errorf("the clock stopped after %d ticks, the dial may take %d", ticks, limit)
	}
	if w.lane.pool.Health.Up(0) {
		t.Error("the node is still up")
	}
}

// A node whose Conn is full turns requests away; the connection lives.
func TestFullConn(t *testing.T) {
	w := newWorld(t, nil, 1)
	limits := w.lane.limits()
	limits.Pending = 2
	w.regroup(limits)
	w.start()
	c := w.client("client")
	c.traffic([]byte("get k1\r\nget k1\r\nget k1\r\nset k1 0 0 1\r\nx\r\nmg k1\r\nincr k1 1\r\nstats\r\nflush_all\r\nmn\r\n"))
	w.settle()
	w.serve()
	full := "SERVER_ERROR node p1: too many requests in flight\r\n"
	hit := "VALUE k1 0 2\r\nk1\r\nEND\r\n"
	if got, want := c.sent(), hit+hit+strings.Repeat(full, 6)+"MN\r\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	w.finish()
}
