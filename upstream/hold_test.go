package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/invariants"
)

var keyOfDelete = codec.Span{Off: 7, Len: 1}

func holdLine(c *Conn, o Owner, seq uint32, line string) Pending {
	return c.Hold(append(c.Room(len(line)), line...), Pending{Owner: o, Seq: seq, Op: codec.OpDelete}, keyOfDelete)
}

// A held request leaves when it is sent, where it is sent, as often as it is sent.
func TestHeldIsSentOnDemand(t *testing.T) {
	r := newRig(2)
	a, wa := r.open(t, 0)
	b, wb := r.open(t, 1)
	wa.taken()
	wb.taken()
	var e ear
	send(a, &e, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
	a.Get(Pending{Owner: &e, Seq: 2, Op: codec.OpGet}, nil, []byte("b"))
	p := holdLine(a, &e, 3, "delete c\r\n")
	a.Get(Pending{Owner: &e, Seq: 4, Op: codec.OpGet}, nil, []byte("d"))
	if string(p.Key()) != "c" || string(p.Request()) != "delete c\r\n" {
		t.Errorf("held is %q with key %q", p.Request(), p.Key())
	}
	r.group.Flush()
	if got := wa.taken(); got != "delete a\r\nget b\r\nget d\r\n" {
		t.Errorf("sent %q", got)
	}
	for _, c := range []*Conn{b, a, b} {
		if !c.Resend(&p) {
			t.Fatal("not taken")
		}
	}
	r.group.Flush()
	if got, want := wb.taken(), "delete c\r\ndelete c\r\n"; got != want {
		t.Errorf("the other node was sent %q", got)
	}
	if got := wa.taken(); got != "delete c\r\n" {
		t.Errorf("then sent %q", got)
	}
	a.Feed([]byte("DELETED\r\nEND\r\nEND\r\nNOT_FOUND\r\n"))
	b.Feed([]byte("DELETED\r\nNOT_FOUND\r\n"))
	want := []string{`1 "a" line:"DELETED\r\n" `, `2 "b" end:"END\r\n" `, `4 "d" end:"END\r\n" `, `3 "c" line:"NOT_FOUND\r\n" `,
		`3 "c" line:"DELETED\r\n" `, `3 "c" line:"NOT_FOUND\r\n" `}
	if !slices.Equal(e.heard, want) {
		t.Errorf("got  %q\nwant %q", e.heard, want)
	}
	r.group.Drop(&p)
	r.group.Drop(&p)
	if p.Request() != nil || p.Key() != nil {
		t.Error("a dropped request is still there")
	}
	if a.tail.refs != 1 {
		t.Errorf("the chunk has %d references, not its Conn's alone", a.tail.refs)
	}
}

// Requests that stand side by side leave as one stretch, whether held or not.
func TestHeldJoinsItsNeighbours(t *testing.T) {
	r := newRig(2)
	c, w := r.open(t, 0)
	w.taken()
	var e ear
	send(c, &e, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
	p := holdLine(c, &e, 2, "delete b\r\n")
	c.Resend(&p)
	send(c, &e, 3, codec.OpDelete, "delete c\r\n", keyOfDelete)
	if len(c.out) != 1 {
		t.Errorf("%d stretches", len(c.out))
	}
	r.group.Flush()
	if got := w.taken(); got != "delete a\r\ndelete b\r\ndelete c\r\n" {
		t.Errorf("sent %q", got)
	}
	c.Feed([]byte("DELETED\r\nDELETED\r\nDELETED\r\n"))
	r.group.Drop(&p)
	if len(e.heard) != 3 || c.tail.refs != 1 {
		t.Errorf("heard %q, %d references left", e.heard, c.tail.refs)
	}

	// What stands behind in other memory is no neighbour.
	far, _ := r.open(t, 1)
	holdLine(far, &e, 4, "delete d\r\n")
	p = holdLine(far, &e, 5, "delete e\r\n")
	send(c, &e, 6, codec.OpDelete, "delete f\r\n", keyOfDelete)
	c.Resend(&p)
	r.group.Flush()
	if got := w.taken(); got != "delete f\r\ndelete e\r\n" {
		t.Errorf("sent %q", got)
	}
}

// What is held outlives the traffic around it, the connection it was held on and the
// requests made of it; what is retained outlives its Pending.
func TestHeldMemoryStays(t *testing.T) {
	r := newRig(2)
	g := r.group
	a, wa := r.open(t, 0)
	b, _ := r.open(t, 1)
	traffic := func(c *Conn) {
		var e ear
		for range 5 {
			for range chunkSize / 100 {
				send(c, &e, 9, codec.OpDelete, "delete "+strings.Repeat("x", 200)+"\r\n", codec.Span{})
			}
			g.Flush()
			c.Feed([]byte(strings.Repeat("DELETED\r\n", c.ring.len())))
		}
	}
	var e ear
	held := []Pending{holdLine(a, &e, 1, "delete h\r\n")}
	send(a, &e, 2, codec.OpDelete, "delete s\r\n", keyOfDelete)
	held = append(held, g.Retain(a.ring.front()), g.Retain(&held[0]))
	g.Flush()
	a.Feed([]byte("DELETED\r\n"))
	traffic(a)
	a.Lost(wa, true)
	traffic(b)
	big := g.Gather(2 * chunkSize)
	big.Buf = append(append(big.Buf, "delete b\r\n"...), make([]byte, chunkSize)...)[:10]
	held = append(held, g.HoldChunk(big, 0, Pending{Owner: &e, Seq: 4, Op: codec.OpDelete}, keyOfDelete))
	g.Drop(&held[0])
	traffic(b)
	for i, want := range []string{"", "delete s\r\n", "delete h\r\n", "delete b\r\n"} {
		if got := string(held[i].Request()); got != want {
			t.Errorf("%d: held %q, want %q", i, got, want)
		}
		if got := string(held[i].Key()); want != "" && got != want[7:8] {
			t.Errorf("%d: key %q", i, got)
		}
	}
	small := held[1].chunk
	for i := range held {
		g.Drop(&held[i])
	}
	if small.refs != 0 || big.refs != 0 || !slices.Contains(g.chunks.free, small) || !slices.Contains(g.chunks.large, big) {
		t.Errorf("%d and %d references left; chunks to spare: %d, %d", small.refs, big.refs, len(g.chunks.free), len(g.chunks.large))
	}
	if invariants.Enabled && small.Buf[:1][0] != 0xDB {
		t.Error("memory that was given back can still be read")
	}
}

// A request made of a held one fails: the held one can be sent again, also from the
// call that says so.
func TestHeldOutlivesAFailure(t *testing.T) {
	r := newRig(2)
	a, wa := r.open(t, 0)
	b, wb := r.open(t, 1)
	wb.taken()
	var held Pending
	e := ear{fail: func(_ *Conn, _ *Pending, _ Cause, _ bool) { b.Resend(&held) }}
	held = holdLine(a, &e, 1, "delete h\r\n")
	a.Resend(&held)
	r.group.Flush()
	a.Lost(wa, true)
	r.group.Flush()
	if got := wb.taken(); got != "delete h\r\n" {
		t.Errorf("sent %q", got)
	}
	ck := held.chunk
	r.group.Drop(&held)
	b.Feed([]byte("DELETED\r\n"))
	if want := []string{"1 fail connection reset sent=true", `1 "h" line:"DELETED\r\n" `}; !slices.Equal(e.heard, want) {
		t.Errorf("heard %q", e.heard)
	}
	if ck.refs != 0 {
		t.Errorf("%d references left", ck.refs)
	}
}

// A request in memory of its own need not begin at its first byte, sent or held.
func TestChunkFromWithin(t *testing.T) {
	r := newRig(2)
	c, w := r.open(t, 0)
	w.taken()
	var e ear
	gather := func() *Chunk {
		ck := r.group.Gather(100)
		ck.Buf = append(ck.Buf, "set old 0 0 1\r\nset k 0 0 1\r\nx\r\n"...)
		return ck
	}
	from, key := len("set old 0 0 1\r\n"), codec.Span{Off: 4, Len: 1}
	ck := gather()
	if !c.SendChunk(ck, from, Pending{Owner: &e, Seq: 1, Op: codec.OpSet}, key) {
		t.Fatal("not taken")
	}
	p := r.group.HoldChunk(gather(), from, Pending{Owner: &e, Seq: 2, Op: codec.OpSet}, key)
	for _, p := range []*Pending{c.ring.front(), &p} {
		if string(p.Request()) != "set k 0 0 1\r\nx\r\n" || string(p.Key()) != "k" {
			t.Errorf("%q with key %q", p.Request(), p.Key())
		}
	}
	held := p.chunk
	c.Resend(&p)
	r.group.Drop(&p)
	r.group.Flush()
	if got, want := w.taken(), strings.Repeat("set k 0 0 1\r\nx\r\n", 2); got != want {
		t.Errorf("sent %q", got)
	}
	c.Feed([]byte("STORED\r\nSTORED\r\n"))
	if len(e.heard) != 2 || ck.refs != 0 || held.refs != 0 {
		t.Errorf("heard %q, %d and %d references left", e.heard, ck.refs, held.refs)
	}
}

// A request whose value was shared is not sent again without it.
func TestSharedValueIsNotSentAgain(t *testing.T) {
	r := newRig(2)
	a, _ := r.open(t, 0)
	b, _ := r.open(t, 1)
	var e ear
	for _, size := range []int{shareAbove, shareAbove + 1} {
		line := fmt.Sprintf("set k 0 0 %d\r\n", size-2)
		ck := r.group.Gather(len(line) + size)
		ck.Buf = append(append(append(ck.Buf, line...), make([]byte, size-2)...), "\r\n"...)
		p := r.group.HoldChunk(ck, 0, Pending{Owner: &e, Op: codec.OpSet}, codec.Span{Off: 4, Len: 1})
		value := codec.Span{Off: uint32(len(line)), Len: uint32(size)}
		a.SendValue(append(a.Room(len(line)+size), line...), &p, value, Pending{Owner: &e, Op: codec.OpSet})
		sent := a.ring.at(a.ring.len() - 1)
		want := size > shareAbove && invariants.Enabled
		if got := panics(func() { b.Resend(sent) }); got != want {
			t.Errorf("a value of %d: resending panicked %v", size, got)
		}
		if got := panics(func() {
			again := r.group.Retain(sent)
			r.group.Drop(&again)
		}); got != want {
			t.Errorf("a value of %d: retaining panicked %v", size, got)
		}
		r.group.Drop(&p)
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}
