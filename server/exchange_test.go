package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/server/config"
)

// exchange is a conversation that can be had again and again: what alloc_test.go
// counts and bench_test.go times. Versions in it are named as in transcripts.
type exchange struct {
	name     string
	copies   []int
	requests int // commands of the client in it
	steps    []step
	reply    string // all that the client gets
	set      func(*config.Config)
	version  string // of the nodes
}

// step is one arrival of bytes.
type step struct {
	who  string // client, or the name of a node; or clock, which brings a tick
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
	w := newWorld(t, e.set, e.copies...)
	w.loop.hedges = budget{share: 1, burst: 1, tokens: 1}
	for _, n := range w.nodes {
		n.version = e.version
	}
	w.start()
	w.meet()
	r := &rig{world: w}
	for _, s := range e.steps {
		var c *fakeConn // nil for the clock
		switch s.who {
		case "clock":
		case "client":
			c = w.client("client")
		default:
			c = w.node(s.who).conn
		}
		r.conns, r.data = append(r.conns, c), append(r.data, []byte(w.names.meant(s.data)))
	}
	r.run()
	if got, want := w.client("client").sent(), w.names.meant(e.reply); got != want {
		t.Fatalf("%s: the client got %.200q, want %.200q", e.name, got, want)
	}
	for _, n := range w.nodes {
		if n.conn.closed {
			t.Fatalf("%s: %s was closed", e.name, n.name)
		}
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
		if c == nil {
			_ = tickTask{r.world.loop}.Run(context.Background()) // it has no error to tell
		} else {
			c.in = r.data[i]
			handler{}.OnTraffic(c)
		}
		r.world.tasks.run()
	}
}

// value is what a node answers to a get of key.
func value(key string, size int, cas string) string {
	return fmt.Sprintf("VALUE %s 0 %d%s\r\n%s\r\n", key, size, cas, strings.Repeat("v", size))
}

// simple is an exchange of one request to one node, n times in one arrival.
func simple(name, request, reply string, n int) exchange {
	return exchange{name: name, copies: []int{1}, requests: n, reply: strings.Repeat(reply, n),
		steps: []step{{"client", strings.Repeat(request, n)}, {"p1", strings.Repeat(reply, n)}}}
}

// duo is one request in a pool of two copies, and what their nodes say, in turn.
func duo(name, request, reply string, answers ...string) exchange {
	e := exchange{name: name, copies: []int{1, 1}, requests: 1, steps: []step{{"client", request}}, reply: reply}
	for _, a := range answers {
		who, data, _ := strings.Cut(a, "> ")
		e.steps = append(e.steps, step{who, data})
	}
	return e
}

// What nodes say to what follows the lead's answer, version 5, to a write of key-1.
const (
	asked  = "HD c4 kkey-1\r\n"
	seen   = "HD c5 t-1 kkey-1\r\n"
	result = "VA 2 f0 t-1 c5 h0 kkey-1\r\n12\r\n"

	has      = "b1> " + asked
	followed = "b1> HD c6\r\n"            // the effect
	looked   = "p1> " + seen              // the second look
	moved    = "p1> HD c8 t-1 kkey-1\r\n" // the same, and another write has come
	none     = "p1> EN kkey-1\r\n"        // the same, and there is no item
	read     = "p1> " + result
	reread   = "p1> VA 2 f0 t-1 c8 h0 kkey-1\r\n12\r\n"
)

// stores is a store in two copies.
func stores(name, request, reply string) exchange {
	return duo(name, request, reply, "p1> HD c5\r\n", followed, looked)
}

// steps is a relative write in two copies, to which the lead says lead.
func steps(name, request, lead string) exchange {
	return duo(name, request, lead, has, "p1> "+lead, read, followed, looked)
}

// of is e with this answer of the lead to the write itself.
func (e exchange) of(lead string) exchange {
	e.steps = slices.Clone(e.steps)
	for i, s := range e.steps {
		if s.who == "p1" {
			e.steps[i].data = lead
			return e
		}
	}
	return e
}

// says is of, and the client gets reply.
func (e exchange) says(lead, reply string) exchange {
	e.reply = reply
	return e.of(lead)
}

// with is e in a proxy of another kind.
func (e exchange) with(kind string, set func(*config.Config)) exchange {
	e.set = set
	if kind != "" {
		e.name += ", " + kind
	}
	return e
}

func hedging(c *config.Config)  { c.Hedge.After = hedgeBeat }
func parallel(c *config.Config) { c.Writes = config.WritesParallel }
func ackLead(c *config.Config)  { c.Ack = config.AckLead }

// explicit is e with nodes that take their versions from the proxy.
func (e exchange) explicit() exchange {
	e.name += ", E"
	e.version = newVersion
	return e
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
	e := exchange{name: fmt.Sprintf("get of %d", n), copies: []int{3}, requests: 1, reply: reply.String() + "END\r\n",
		steps: []step{{"client", "get" + line.String() + "\r\n"}}}
	for node := 3; node > 0; node-- {
		e.steps = append(e.steps, step{fmt.Sprint("p", node), values[node] + "END\r\n"})
	}
	return e
}
