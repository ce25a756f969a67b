package upstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"magent/codec"
	"magent/upstream/health"
)

// Requests from several owners leave in one write per flush, gets of one kind in
// one command, in the order they were sent.
func TestFlushIsOneWrite(t *testing.T) {
	r := newRig(1)
	c, w := r.open(t, 0)
	w.taken()
	w.writes, r.defers = 0, 0
	var e ear
	c.Get(Pending{Owner: &e, Seq: 1, Op: codec.OpGet}, nil, []byte("a"))
	c.Get(Pending{Owner: &e, Seq: 2, Op: codec.OpGet}, nil, []byte("b"))
	c.Get(Pending{Owner: &e, Seq: 3, Op: codec.OpGat}, []byte("10"), []byte("c"))
	c.Get(Pending{Owner: &e, Seq: 4, Op: codec.OpGat}, []byte("10"), []byte("d"))
	c.Get(Pending{Owner: &e, Seq: 5, Op: codec.OpGat}, []byte("20"), []byte("e"))
	send(c, &e, 6, codec.OpDelete, "delete f\r\n", codec.Span{Off: 7, Len: 1})
	r.group.Flush()
	if got, want := w.taken(), "get a b\r\ngat 10 c d\r\ngat 20 e\r\ndelete f\r\n"; got != want || w.writes != 1 || r.defers != 1 {
		t.Errorf("%d writes after %d calls of Defer: %q, want %q", w.writes, r.defers, got, want)
	}
	c.Feed([]byte("VALUE b 0 1\r\nx\r\nEND\r\nEND\r\nEND\r\nDELETED\r\n"))
	want := []string{`1 "a" end:"" `, `2 "b" value:"VALUE b 0 1\r\n" x` + "\r\n" + `end:"END\r\n" `, `3 "c" end:"END\r\n" `,
		`4 "d" end:"END\r\n" `, `5 "e" end:"END\r\n" `, `6 "f" line:"DELETED\r\n" `}
	if !slices.Equal(e.heard, want) {
		t.Errorf("got  %q\nwant %q", e.heard, want)
	}
	if r.group.Pending() != 0 {
		t.Errorf("%d requests in flight", r.group.Pending())
	}
}

// A write that fails comes back through Lost before it returns, and the owners send
// to other connections, and to the same, meanwhile.
func TestFlushBearsALostConnection(t *testing.T) {
	r := newRig(2)
	a, wa := r.open(t, 0)
	b, wb := r.open(t, 1)
	wb.taken()
	e := ear{fail: func(c *Conn, p *Pending, _ Cause, sent bool) {
		if !sent {
			t.Errorf("%d counts as not sent, though it was being written", p.Seq)
		}
		if p.Seq == 1 {
			b.Resend(p)
		} else {
			c.Resend(p)
		}
	}}
	wa.broken = true
	for seq := range uint32(3) {
		send(a, &e, seq+1, codec.OpIncr, fmt.Sprintf("incr k%d 1\r\n", seq+1), codec.Span{Off: 5, Len: 2})
	}
	r.group.Flush()
	if got := wb.taken(); got != "incr k1 1\r\n" {
		t.Errorf("the other node was sent %q", got)
	}
	e.fail = nil
	_, wa = r.accept(t)
	r.group.Flush()
	if got := wa.taken(); got != "version\r\nstats\r\nincr k2 1\r\nincr k3 1\r\n" {
		t.Errorf("the new connection was sent %q", got)
	}
	a.Feed([]byte(r.greeting() + "2\r\n3\r\n"))
	b.Feed([]byte("1\r\n"))
	want := []string{"1 fail connection reset sent=true", "2 fail connection reset sent=true", "3 fail connection reset sent=true",
		`2 "k2" line:"2\r\n" `, `3 "k3" line:"3\r\n" `, `1 "k1" line:"1\r\n" `}
	if !slices.Equal(e.heard, want) {
		t.Errorf("got  %q\nwant %q", e.heard, want)
	}
}

// What was handed over but not flushed has not been sent.
func TestFailSaysWhatWasSent(t *testing.T) {
	r := newRig(1)
	c, w := r.open(t, 0)
	var e ear
	key := codec.Span{Off: 7, Len: 1}
	send(c, &e, 1, codec.OpDelete, "delete a\r\n", key)
	r.group.Flush()
	send(c, &e, 2, codec.OpDelete, "delete b\r\n", key)
	c.Lost(w, true)
	send(c, &e, 3, codec.OpDelete, "delete c\r\n", key)
	c.Refused(c.attempt, CauseRefused)
	send(c, &e, 4, codec.OpDelete, "delete d\r\n", key)
	for range 11 {
		r.group.Tick()
	}
	want := []string{"1 fail connection reset sent=true", "2 fail connection reset sent=false",
		"3 fail connection refused sent=false", "4 fail connect timeout sent=false"}
	if !slices.Equal(e.heard, want) {
		t.Errorf("got  %q\nwant %q", e.heard, want)
	}
}

// Late news of an old dial or an old connection concerns nobody.
func TestLateNews(t *testing.T) {
	r := newRig(1)
	c, old := r.open(t, 0)
	r.group.Connect(0)
	if len(r.dials) != 0 {
		t.Error("dialled although connected")
	}
	c.Lost(old, true)
	if len(r.dials) != 1 {
		t.Fatal("an idle connection that was lost is not made again")
	}
	late := r.dials[0].attempt
	r.dials = nil
	c.Refused(late, CauseRefused)
	if c.Opened(&wire{}, late) {
		t.Error("a dial that was given up is taken")
	}
	r.group.Connect(0)
	c, w := r.accept(t)
	c.Lost(old, true)
	c.Refused(late, CauseRefused)
	if !c.On(w) {
		t.Error("late news has ended the connection")
	}
	r.group.Close()
	if !w.closed || c.On(w) {
		t.Error("open after Close")
	}
	r.group.Connect(0)
	if len(r.dials) != 0 {
		t.Error("dialled after Close")
	}
}

// A connection that outlived its node's absence is evidence of the time after it.
func TestEvidenceOfANodeThatIsBack(t *testing.T) {
	r := newRig(2)
	table := r.group.pool.Health
	c, _ := r.open(t, 0)
	away(table, 0)
	r.watch()
	r.group.Connect(0)
	send(c, &ear{}, 1, codec.OpGet, "get a\r\n", codec.Span{Off: 4, Len: 1})
	r.group.Flush()
	for range 12 {
		r.group.Tick()
	}
	if table.Up(0) {
		t.Error("a request that went unanswered does not take the node down")
	}
}

// So is one that was dialled during the absence, and made after it.
func TestEvidenceOfALateConnection(t *testing.T) {
	r := newRig(2)
	table := r.group.pool.Health
	send(r.group.Conn(0, 0), &ear{}, 1, codec.OpGet, "get a\r\n", codec.Span{Off: 4, Len: 1})
	away(table, 0)
	r.watch()
	c, w := r.accept(t)
	c.Lost(w, true)
	if table.Up(0) {
		t.Error("a request that went unanswered does not take the node down")
	}
}

// What was learnt before a node was away does not take it down again.
func TestEvidenceIsLate(t *testing.T) {
	r := newRig(2)
	table := r.group.pool.Health
	c, _ := r.open(t, 0)
	send(c, &ear{}, 1, codec.OpGet, "get a\r\n", codec.Span{Off: 4, Len: 1})
	r.group.Flush()
	away(table, 0)
	r.watch()
	r.group.Connect(0)
	r.ticks(12)
	if c.wire != nil || !table.Up(0) {
		t.Errorf("after a timeout: connected %v, the node is %v", c.wire != nil, table.Load(0).State())
	}
}

// That a node has become slow or warming meanwhile makes evidence no less true.
func TestEvidenceBearsOtherChanges(t *testing.T) {
	r := newRig(2)
	table := r.group.pool.Health
	c, _ := r.open(t, 0)
	table.Move(0, table.Load(0), health.Slow)
	r.watch()
	send(c, &ear{}, 1, codec.OpGet, "get a\r\n", codec.Span{Off: 4, Len: 1})
	r.group.Flush()
	r.ticks(12)
	if table.Load(0).State() != health.Down {
		t.Errorf("after a timeout the node is %v", table.Load(0).State())
	}
}

// away takes a node down and brings it back.
func away(table *health.Table, node int) {
	down, _ := table.Move(node, table.Load(node), health.Down)
	table.Move(node, down, health.Up)
}

// watch gives r's pool a Monitor that takes evidence, and starts no prober.
func (r *rig) watch() {
	pool := r.group.pool
	pool.Monitor = health.NewMonitor(pool.Health, health.Watch{}, health.DefaultLimits)
}

// The greeting is answered before anything else has been sent, while requests come
// in that make the ring grow: it is an answer to what was sent all the same.
func TestGreetingWhileTheRingGrows(t *testing.T) {
	for queued := range 80 {
		r := newRig(1 + queued%2)
		e := &ear{}
		r.group.Connect(0)
		c := r.group.Conn(0, 0)
		ask := func() { send(c, e, 1, codec.OpDelete, "delete a\r\n", codec.Span{Off: 7, Len: 1}) }
		for range queued {
			ask()
		}
		_, w := r.accept(t)
		for range 40 {
			ask()
		}
		c.Feed([]byte(r.greeting()))
		if !c.On(w) {
			t.Fatalf("the connection ended with %d requests queued", queued)
		}
		r.group.Flush()
		c.Feed([]byte(strings.Repeat("DELETED\r\n", queued+40)))
		if !c.On(w) || c.ring.len() != 0 {
			t.Fatalf("%d requests are left of %d", c.ring.len(), queued+40)
		}
	}
}

// What comes before anything was sent answers nothing.
func TestAnswersBeforeTheQuestion(t *testing.T) {
	for _, early := range []string{"END\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n", "VALUE b 0 1\r\nx\r\nEND\r\n", "STORED\r\n"} {
		r := newRig(1)
		c, w := r.open(t, 0)
		e := &ear{}
		c.Get(Pending{Owner: e, Op: codec.OpGet}, nil, []byte("a"))
		c.Get(Pending{Owner: e, Op: codec.OpGet}, nil, []byte("b"))
		c.Feed([]byte(early))
		if !w.closed || c.On(w) {
			t.Errorf("%q: the connection is still there", early)
		}
	}
}

// A Conn holds no more requests than its limit, of any kind.
func TestFull(t *testing.T) {
	r := newRig(1)
	r.group.limits.Pending = 1
	c, _ := r.open(t, 0)
	var e ear
	if !send(c, &e, 1, codec.OpDelete, "delete a\r\n", codec.Span{Off: 7, Len: 1}) {
		t.Fatal("the first is not taken")
	}
	p := Pending{Owner: &e, Seq: 2, Op: codec.OpGet}
	ck := r.group.Gather(100)
	from := c.ring.front()
	for name, taken := range map[string]bool{
		"Send":      send(c, &e, 2, codec.OpDelete, "delete b\r\n", codec.Span{}),
		"Get":       c.Get(p, nil, []byte("k")),
		"SendChunk": c.SendChunk(ck, 0, p, codec.Span{}),
		"SendValue": c.SendValue(c.Room(10), from, codec.Span{}, p),
		"Resend":    c.Resend(from),
	} {
		if taken {
			t.Errorf("%s is taken", name)
		}
	}
	r.group.Release(ck)
}

// TestChunksComeBack drives connections at random and demands that no chunk is held
// once everything is settled, and that none was given back while it was needed.
func TestChunksComeBack(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		d := &driver{t: t, rng: rng, rig: lateRig(2), seen: map[*Chunk]bool{}}
		for range 200 {
			d.step()
			d.note()
		}
		d.rig.group.Close()
		for i := range d.held {
			d.check(&d.held[i])
			d.rig.group.Drop(&d.held[i])
		}
		for c := range d.seen {
			if c.refs != 0 {
				t.Fatalf("seed %d: a chunk of %d bytes has %d references left", seed, cap(c.Buf), c.refs)
			}
		}
		if n := d.rig.group.Pending(); n != 0 {
			t.Fatalf("seed %d: %d requests in flight", seed, n)
		}
	}
}

// driver does random things to two connections. The owner of its requests sends
// them on, in part, when they fail; their key is checked whenever they are seen.
type driver struct {
	t     *testing.T
	rng   *rand.Rand
	rig   *rig
	wires [2]*wire
	seen  map[*Chunk]bool
	held  []Pending
}

// note remembers every chunk that is held somewhere.
func (d *driver) note() {
	for _, cs := range d.rig.group.conns {
		for _, c := range cs {
			if c.tail != nil {
				d.seen[c.tail] = true
			}
			for i := range c.ring.len() {
				if ck := c.ring.at(i).chunk; ck != nil {
					d.seen[ck] = true
				}
			}
		}
	}
	for i := range d.held {
		d.seen[d.held[i].chunk] = true
	}
}

func (d *driver) step() {
	i := d.rng.IntN(2)
	c := d.rig.group.conns[i][0]
	seq := d.rng.Uint32()
	key := fmt.Sprintf("key-%d", seq)
	p := Pending{Owner: d, Seq: seq, Op: codec.OpDelete}
	switch d.rng.IntN(16) {
	case 0, 1, 2:
		line := "delete " + key + "\r\n"
		c.Send(append(c.Room(len(line)), line...), p, codec.Span{Off: 7, Len: uint32(len(key))})
	case 3, 4:
		p.Op = codec.OpGet
		c.Get(p, nil, []byte(key))
	case 5, 6:
		p.Op = codec.OpSet
		size := d.rng.IntN(3 * chunkSize)
		line := fmt.Sprintf("set %s 0 0 %d\r\n", key, size)
		ck := d.rig.group.Gather(len(line) + size + 2)
		ck.Buf = fmt.Appendf(ck.Buf, "%s%s\r\n", line, strings.Repeat("v", size))
		if at := (codec.Span{Off: 4, Len: uint32(len(key))}); d.rng.IntN(3) == 0 {
			d.held = append(d.held, d.rig.group.HoldChunk(ck, 0, p, at))
		} else {
			c.SendChunk(ck, 0, p, at)
		}
	case 7:
		d.rig.group.Release(d.rig.group.Gather(d.rng.IntN(2 * chunkSize)))
	case 8, 9:
		d.rig.group.Flush()
	case 10:
		d.answer(c)
	case 11:
		d.disturb(i, c)
	case 12:
		line := "delete " + key + "\r\n"
		d.held = append(d.held, c.Hold(append(c.Room(len(line)), line...), p, codec.Span{Off: 7, Len: uint32(len(key))}))
	case 13, 14:
		d.useHeld(c)
	case 15:
		d.rig.group.Tick()
	}
}

// useHeld sends a request that is held, drops it, or holds it twice.
func (d *driver) useHeld(c *Conn) {
	if len(d.held) == 0 {
		return
	}
	p := &d.held[d.rng.IntN(len(d.held))]
	d.check(p)
	switch d.rng.IntN(4) {
	case 0:
		d.held = append(d.held, d.rig.group.Retain(p))
	case 1:
		c.Resend(p)
	default:
		d.rig.group.Drop(p)
		*p = d.held[len(d.held)-1]
		d.held = d.held[:len(d.held)-1]
	}
}

// disturb changes the state of c's connection.
func (d *driver) disturb(i int, c *Conn) {
	w := d.wires[i]
	switch {
	case c.dialing && d.rng.IntN(3) == 0:
		c.Refused(c.attempt, CauseRefused)
	case c.dialing:
		w = &wire{broken: d.rng.IntN(8) == 0}
		w.lost = func() { c.Lost(w, true) }
		d.wires[i] = w
		c.Opened(w, c.attempt)
	case w != nil && d.rng.IntN(3) == 0:
		w.broken = true
	case w != nil:
		c.Lost(w, true)
	}
}

// answer has the node answer some of what it was sent.
func (d *driver) answer(c *Conn) {
	for range 8 {
		if c.wire == nil || c.ring.len() == 0 || int32(c.sent-c.ring.tail) <= 0 {
			return
		}
		switch p := c.ring.front(); p.Op {
		case codec.OpVersion:
			c.Feed([]byte(aloneGreeting))
		case codec.OpStats:
			c.Feed([]byte("STAT pid 1\r\nEND\r\n"))
		case codec.OpGet:
			c.Feed([]byte("END\r\n"))
		case codec.OpDelete:
			c.Feed([]byte("DELETED\r\n"))
		default:
			c.Feed([]byte("STORED\r\n"))
		}
	}
}

func (d *driver) check(p *Pending) {
	if want := fmt.Sprintf("key-%d", p.Seq); len(p.Key()) > 0 && string(p.Key()) != want {
		d.t.Fatalf("a request for %s has become one for %q", want, p.Key())
	}
}

// Reply sends the value of a set on to the other connection.
func (d *driver) Reply(c *Conn, p *Pending, r *codec.Reply, _ []byte) {
	d.check(p)
	if p.Op != codec.OpSet || len(p.Key()) == 0 {
		return
	}
	other := d.rig.group.conns[1-c.node.Index][0]
	n := uint32(strings.IndexByte(string(p.Request()), '\n') + 1)
	line := fmt.Sprintf("set key-%d 0 0 0\r\n", p.Seq)
	other.SendValue(append(other.Room(len(line)+shareAbove), line...), p, codec.Span{Off: n, Len: uint32(len(p.Request())) - n},
		Pending{Owner: d, Seq: p.Seq, Op: codec.OpSet})
	d.note()
}

func (d *driver) Body(*Conn, *Pending, []byte, int) {}

// Late asks the other connection, too.
func (d *driver) Late(c *Conn, p *Pending) {
	d.check(p)
	other := d.rig.group.conns[1-c.node.Index][0]
	other.Get(Pending{Owner: d, Seq: p.Seq, Op: p.Op}, nil, p.Key())
	d.note()
}

func (d *driver) Fail(c *Conn, p *Pending, _ Cause, _ bool) {
	d.check(p)
	next := d.rig.group.conns[d.rng.IntN(2)][0]
	switch {
	case d.rng.IntN(3) == 0 || d.rig.group.closed:
	case p.Op == codec.OpGet:
		next.Get(Pending{Owner: d, Seq: p.Seq, Op: p.Op}, nil, p.Key())
	case len(p.Key()) > 0 && d.rng.IntN(2) == 0:
		next.Resend(p)
	case len(p.Key()) > 0:
		d.held = append(d.held, d.rig.group.Retain(p))
	}
	d.note()
}
