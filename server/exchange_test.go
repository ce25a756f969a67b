package server

import (
	"fmt"
	"strings"
	"testing"
)

// exchange is a conversation that can be had again and again: what alloc_test.go
// counts and bench_test.go times.
type exchange struct {
	name     string
	copies   []int
	requests int // commands of the client in it
	steps    []step
	reply    string // all that the client gets
}

// step is one arrival of bytes.
type step struct {
	who  string // client, or the name of a node
	data string
}

// rig is an exchange ready to be had.
type rig struct {
	world *world
	conns []*fakeConn
	data  [][]byte
}

// newRig has the exchange once, to see that the client gets what it should, and then
// some times more, until buffers have the size that the exchange needs.
func newRig(t testing.TB, e exchange) *rig {
	w := newWorld(t, nil, e.copies...)
	w.start()
	r := &rig{world: w}
	for _, s := range e.steps {
		c := w.client("client")
		if s.who != "client" {
			c = w.node(s.who).conn
		}
		r.conns, r.data = append(r.conns, c), append(r.data, []byte(s.data))
	}
	r.run()
	if got := w.client("client").sent(); got != e.reply {
		t.Fatalf("%s: the client got %.200q, want %.200q", e.name, got, e.reply)
	}
	for _, n := range w.nodes {
		n.conn.take()
	}
	w.finish()
	for _, c := range w.wires() {
		c.sink = true
	}
	for range 200 {
		r.run()
	}
	return r
}

// run has the exchange once. After each arrival the tasks run, as they do in gnet
// when a batch of events is served.
func (r *rig) run() {
	for i, c := range r.conns {
		c.in = r.data[i]
		handler{}.OnTraffic(c)
		r.world.tasks.run()
	}
}

// value is what a node answers to a get of key.
func value(key string, size int, cas string) string {
	return fmt.Sprintf("VALUE %s 0 %d%s\r\n%s\r\n", key, size, cas, strings.Repeat("v", size))
}

// simple is an exchange of one request to one node, n times in one arrival.
func simple(name, request, reply string, n int) exchange {
	return exchange{name, []int{1}, n, []step{{"client", strings.Repeat(request, n)}, {"p1", strings.Repeat(reply, n)}}, strings.Repeat(reply, n)}
}

// written is one write to two copies: the lead's answer, then the follower's.
func written(name, request, lead, follower string) exchange {
	return exchange{name, []int{1, 1}, 1, []step{{"client", request}, {"p1", lead}, {"b1", follower}}, lead}
}

// quietly is e for a client that gets no answer.
func quietly(e exchange) exchange {
	e.reply = ""
	return e
}

// multiGet is a get of n keys over three nodes, whose answers come in reverse.
func multiGet(n, size int) exchange {
	var keys, values [4]string
	var line, reply strings.Builder
	for i := range n {
		node := i%3 + 1
		key := fmt.Sprintf("key-%c%d", 'a'+i, node)
		line.WriteString(" " + key)
		keys[node] += " " + key
		values[node] += value(key, size, "")
		reply.WriteString(value(key, size, ""))
	}
	e := exchange{fmt.Sprintf("get of %d", n), []int{3}, 1, []step{{"client", "get" + line.String() + "\r\n"}}, reply.String() + "END\r\n"}
	for node := 3; node > 0; node-- {
		e.steps = append(e.steps, step{fmt.Sprint("p", node), values[node] + "END\r\n"})
	}
	return e
}
