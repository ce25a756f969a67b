package server

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/binary"
	"magent/codec/text"
	"magent/server/config"
	"magent/upstream"
)

// exchange is a conversation that can be had again and again: verbs_test.go has them
// all. Versions in it are named as in transcripts.
type exchange struct {
	copies    []int
	requests  int // commands of the client in it
	steps     []step
	reply     string // all that the client gets
	set       func(*config.Config)
	version   string // of the nodes
	what      string // is special about it, after its name
	allocates bool   // and nobody minds
}

// step is one arrival of bytes.
type step struct {
	who  string // client, or the name of a node; or clock, which brings a tick
	data string
}

// String is the name of e, for benchstat to pivot on. All but the end of it is read
// off the bytes, so that it cannot say what is not so.
func (e exchange) String() string {
	req, reply := e.first()
	proto, op := "text", req.Op.String()
	switch {
	case isBinary(e.client()):
		proto = "binary"
		op = opcodeNames[packets(nil, e.steps[0].data)[1]]
	case req.Op.Meta():
		proto = "meta"
	}
	name := fmt.Sprintf("proto=%s/op=%s/copies=%d", proto, op, len(e.copies))
	if n := max(req.Value, reply.Value); n > 0 {
		name += fmt.Sprintf("/value=%d", n)
	}
	name += fmt.Sprintf("/pipeline=%d", e.requests)
	if n := keysOf(e.steps[0].data, &req); n > 1 && proto != "binary" {
		name += fmt.Sprintf("/keys=%d", n)
	}
	if e.copies[0] > 1 {
		name += fmt.Sprintf("/nodes=%d", e.copies[0])
	}
	return name + e.what
}

// client is who asks.
func (e exchange) client() string { return e.steps[0].who }

// first is the first command, and the first part of its answer, if it has any. For a
// version that has a name any number will do.
func (e exchange) first() (req codec.Request, reply codec.Reply) {
	if isBinary(e.client()) {
		var r binary.Request
		b := packets(nil, e.steps[0].data)
		_ = binary.Parse(b, &r)
		binary.AppendLine(nil, b, &r, &req)
		return req, codec.Reply{}
	}
	var sent string
	for _, s := range e.steps {
		if s.who == "client" {
			sent += s.data
		}
	}
	line, _, _ := strings.Cut(versionName.ReplaceAllString(sent, "1"), "\n")
	text.Parse([]byte(line+"\n"), &req)
	if text.ParseReply(versionName.ReplaceAll([]byte(e.reply), []byte("1")), req.Op.Shape(), &reply) != nil {
		reply = codec.Reply{}
	}
	return req, reply
}

// keysOf is how many keys req, whose line data begins with, gives.
func keysOf(data string, req *codec.Request) int {
	if !req.Op.MultiKey() {
		return 1
	}
	return len(bytes.Fields(req.Rest.In([]byte(data))))
}

// rig is an exchange ready to be had.
type rig struct {
	world    *world
	exchange exchange
	conns    []*fakeConn
	data     [][]byte
}

// newRig has the exchange some times, until buffers have the size that it needs, and
// sees at the first and at the end of t that the client gets what it should: that each
// time in between was the same.
func newRig(t testing.TB, e exchange) *rig {
	w := newWorld(t, func(c *config.Config) {
		c.Pools[0].RepairRate = 0
		if e.set != nil {
			e.set(c)
		}
	}, e.copies...)
	w.lane.group = upstream.NewGroup(w.lane.pool, w, w.lane.limits()) // measured, as in a server
	w.lane.hedges = budget{share: 1, burst: 1, tokens: 1}
	for _, n := range w.nodes {
		n.version = e.version
	}
	w.start()
	w.meet()
	r := &rig{world: w, exchange: e}
	for _, s := range e.steps {
		var c *fakeConn // nil for the clock
		switch s.who {
		case "clock":
		case e.client():
			c = w.client(s.who)
		default:
			c = w.node(s.who).conn
		}
		data := []byte(w.names.meant(s.data))
		if isBinary(s.who) {
			data = packets(t, string(data))
		}
		r.conns, r.data = append(r.conns, c), append(r.data, data)
	}
	r.check(t)
	t.Cleanup(func() { r.check(t) })
	for range 200 {
		r.run()
	}
	return r
}

// check has the exchange once and looks at all that is written.
func (r *rig) check(t testing.TB) {
	t.Helper()
	w := r.world
	for _, c := range w.wires() {
		c.sink = false
	}
	r.run()
	got, want := w.client(r.exchange.client()).sent(), w.names.meant(r.exchange.reply)
	if isBinary(r.exchange.client()) {
		got = packetText([]byte(got))
	}
	if got != want {
		t.Fatalf("%s: the client got %.200q, want %.200q", r.exchange, got, want)
	}
	for _, n := range w.nodes {
		if n.conn.closed {
			t.Fatalf("%s: %s was closed", r.exchange, n.name)
		}
		n.conn.take()
	}
	w.finish()
	for _, c := range w.wires() {
		c.sink = true
	}
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

// simple is an exchange of one request to one node.
func simple(request, reply string) exchange {
	return exchange{copies: []int{1}, requests: 1, reply: reply, steps: []step{{"client", request}, {"p1", reply}}}
}

// duo is one request in a pool of two copies, and what their nodes say, in turn.
func duo(request, reply string, answers ...string) exchange {
	e := exchange{copies: []int{1, 1}, requests: 1, steps: []step{{"client", request}}, reply: reply}
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
func stores(request, reply string) exchange {
	return duo(request, reply, "p1> HD c5\r\n", followed, looked)
}

// steps is a relative write in two copies, to which the lead says lead.
func steps(request, lead string) exchange {
	return duo(request, lead, has, "p1> "+lead, read, followed, looked)
}

// deep is e n times in one arrival, each of its answers too.
func (e exchange) deep(n int) exchange {
	e.requests *= n
	e.reply = strings.Repeat(e.reply, n)
	e.steps = slices.Clone(e.steps)
	for i := range e.steps {
		e.steps[i].data = strings.Repeat(e.steps[i].data, n)
	}
	return e
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

// as is e with this in its name, as key=value.
func (e exchange) as(what string) exchange {
	if what != "" {
		e.what += "/" + what
	}
	return e
}

// with is e in a proxy of another kind.
func (e exchange) with(kind string, set func(*config.Config)) exchange {
	e.set = set
	return e.as(kind)
}

func hedging(c *config.Config)  { c.Pools[0].Hedge.After = hedgeBeat }
func parallel(c *config.Config) { c.Pools[0].Writes = config.WritesParallel }
func ackLead(c *config.Config)  { c.Pools[0].Ack = config.AckLead }

// explicit is e with nodes that take their versions from the proxy.
func (e exchange) explicit() exchange {
	e.version = newVersion
	return e.as("versions=given")
}

// quiet is e for a client that gets no answer.
func (e exchange) quiet() exchange {
	e.reply = ""
	return e
}

// mayAllocate is e for people, who ask it now and then.
func (e exchange) mayAllocate() exchange {
	e.allocates = true
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
	e := exchange{copies: []int{3}, requests: 1, reply: reply.String() + "END\r\n",
		steps: []step{{"client", "get" + line.String() + "\r\n"}}}
	for node := 3; node > 0; node-- {
		e.steps = append(e.steps, step{fmt.Sprint("p", node), values[node] + "END\r\n"})
	}
	return e
}
