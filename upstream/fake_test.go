package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"testing"

	"magent/codec"
)

// rig is a Group whose dials and wires the test has in hand.
type rig struct {
	group  *Group
	dials  []dial
	defers int
}

type dial struct {
	conn    *Conn
	attempt uint32
}

func (r *rig) Dial(c *Conn, attempt uint32) { r.dials = append(r.dials, dial{c, attempt}) }
func (r *rig) Defer()                       { r.defers++ }

type first struct{}

func (first) Pick([]byte) int { return 0 }

// newRig makes a group of n nodes, each of which is a copy of its own.
func newRig(n int) *rig { return newRigOf(n, Limits{Timeout: 10, Dial: 10}) }

func newRigOf(n int, limits Limits) *rig {
	var nodes []*Node
	var copies []Placement
	for i := range n {
		nodes = append(nodes, NewNode(fmt.Sprint("n", i), "tcp", ""))
		copies = append(copies, Placement{Nodes: []int{i}, Pick: first{}})
	}
	r := &rig{}
	r.group = NewGroup(NewPool(nodes, copies), r, limits)
	return r
}

// open connects node i and has it greet.
func (r *rig) open(t testing.TB, i int) (*Conn, *wire) {
	t.Helper()
	r.group.Connect(i)
	c, w := r.accept(t)
	c.Feed([]byte(r.greeting()))
	return c, w
}

// aloneGreeting is what a node answers to the greeting in a pool of one copy.
const aloneGreeting = "VERSION 1.6.18\r\n"

// greeting is what a node of r answers to the greeting.
func (r *rig) greeting() string {
	if r.group.pool.Alone() {
		return aloneGreeting
	}
	return aloneGreeting + stats("4711", "1700000100", "40")
}

// stats is a node's answer to stats, abridged.
func stats(pid, time, uptime string) string {
	return "STAT pid " + pid + "\r\nSTAT uptime " + uptime + "\r\nSTAT time " + time + "\r\nSTAT version 1.6.18\r\nSTAT libevent 2.1.12-stable\r\nEND\r\n"
}

// accept lets the last dial succeed.
func (r *rig) accept(t testing.TB) (*Conn, *wire) {
	t.Helper()
	d := r.dials[len(r.dials)-1]
	r.dials = r.dials[:len(r.dials)-1]
	w := &wire{}
	w.lost = func() { d.conn.Lost(w, true) }
	if !d.conn.Opened(w, d.attempt) {
		t.Fatal("the connection is not wanted")
	}
	return d.conn, w
}

var errBroken = errors.New("broken")

// wire keeps what is written. A broken one ends its connection inside the write, as
// gnet does.
type wire struct {
	out    bytes.Buffer
	writes int
	broken bool
	closed bool
	lost   func()
	local  net.Addr
}

func (w *wire) Write(b []byte) (int, error) { return w.Writev([][]byte{b}) }

func (w *wire) Writev(bs [][]byte) (int, error) {
	if w.broken {
		w.closed = true
		w.lost()
		return 0, errBroken
	}
	w.writes++
	n := 0
	for _, b := range bs {
		n += len(b)
		w.out.Write(b)
	}
	return n, nil
}

func (w *wire) Close() error {
	w.closed = true
	return nil
}

func (w *wire) LocalAddr() net.Addr { return w.local }

// taken returns what has been written since the last call.
func (w *wire) taken() string {
	s := w.out.String()
	w.out.Reset()
	return s
}

// ear is an owner that writes down what it hears, a line per request that ended.
type ear struct {
	heard []string // "3 miss", "4 value k 0 1|x end", "5 fail reset sent"
	open  map[uint32]string
	fail  func(c *Conn, p *Pending, cause Cause, sent bool) // called on a Fail, if set
	late  func(c *Conn, p *Pending)                         // called on a Late, if set
}

func (e *ear) Reply(_ *Conn, p *Pending, r *codec.Reply, b []byte) {
	if e.open == nil {
		e.open = map[uint32]string{}
	}
	e.open[p.Seq] += fmt.Sprintf("%s:%q ", [...]string{"line", "value", "end", "miss", "stat", "error"}[r.Kind], b[:min(len(b), int(r.Line))])
	switch r.Kind {
	case codec.KindValue:
		e.open[p.Seq] += string(b[r.Line:])
		return
	case codec.KindStat:
		return
	}
	e.heard = append(e.heard, fmt.Sprintf("%d %q %s", p.Seq, p.Key(), e.open[p.Seq]))
	delete(e.open, p.Seq)
}

func (e *ear) Body(_ *Conn, p *Pending, b []byte, rest int) {
	e.open[p.Seq] += string(b)
}

func (e *ear) Fail(c *Conn, p *Pending, cause Cause, sent bool) {
	delete(e.open, p.Seq)
	e.heard = append(e.heard, fmt.Sprintf("%d fail %v sent=%v", p.Seq, cause, sent))
	if e.fail != nil {
		e.fail(c, p, cause, sent)
	}
}

func (e *ear) Late(c *Conn, p *Pending) {
	e.heard = append(e.heard, fmt.Sprintf("%d %q late", p.Seq, p.Key()))
	if e.late != nil {
		e.late(c, p)
	}
}

// send sends a request of one line.
func send(c *Conn, o Owner, seq uint32, op codec.Op, line string, key codec.Span) bool {
	return c.Send(append(c.Room(len(line)), line...), Pending{Owner: o, Seq: seq, Op: op}, key)
}
