package upstream

import (
	"bytes"
	"net"

	"magent/codec"
	"magent/codec/invariants"
	"magent/codec/text"
	"magent/upstream/health"
	"magent/upstream/probe"
)

// The life of a request on a Conn, in the order of the functions below:
//
//	Get | Room, Send → flush → …the node… → Feed → frame → settle
//	                       └──────── fail ────────┘
//
// A Conn is idle until its first request, then dialling, then open. Requests are
// taken in every state and leave when it is open. Any failure returns it to idle
// and hands every request back to its owner, oldest first.
type Conn struct {
	node    *Node
	group   *Group
	wire    Wire // nil unless open
	dialing bool
	attempt uint32         // numbers the dials, so that a late one is known
	epoch   health.Word    // the node's word that counts for what happens here: of when the dial began, or later
	met     probe.Identity // what the greeting has told so far
	life    uint64         // what it told; 0: not known

	ring  ring
	out   []segment // what the next flush writes
	tail  *Chunk    // where small requests are appended
	dirty bool
	sent  uint32 // ring.head at the last flush: what is behind it has not left

	left []byte // a reply line that has not come whole
	body int    // bytes of a value still to come
	last byte   // the byte before them

	// The command at the end of tail may take more keys, if open is not OpNone.
	open  codec.Op
	head  codec.Span  // in tail: what stands before its keys
	cur   Pending     // the request being settled: out of the ring, its memory still held
	reply codec.Reply // the frame being served; here, as a view of it goes to owners
	stamp uint32      // Group.counts when the front request became so, or its last byte came
	told  uint32      // what is before it, counted as in ring, late has looked at
	timer timer
	alike alike
}

// segment is a stretch of a chunk to be written.
type segment struct {
	chunk    *Chunk
	from, to int
}

// Node is the node at the other end.
func (c *Conn) Node() *Node { return c.node }

// connect starts a dial if there is neither a connection nor a dial.
func (c *Conn) connect() {
	if c.wire != nil || c.dialing || c.group.closed {
		return
	}
	c.dialing = true
	c.attempt++
	c.epoch = c.group.pool.Health.Load(c.node.Index)
	c.stamp = c.group.counts
	c.group.reactor.Dial(c, c.attempt)
}

// Opened gives c the connection that its dial number attempt made. It reports
// false, and takes nothing, if nobody waits for that one any more.
func (c *Conn) Opened(w Wire, attempt uint32) bool {
	if !c.dialing || attempt != c.attempt || c.group.closed {
		return false
	}
	c.dialing, c.wire = false, w
	c.stamp = c.group.counts
	if w := c.group.pool.Health.Load(c.node.Index); w.State() != health.Down {
		c.epoch = w // the dial may be older than the node's return, and nothing has been asked yet
	}
	if c.greet() == nil {
		c.mark()
	}
	return true
}

// Refused tells c that its dial number attempt failed. One that was too slow is made anew
// for as long as the node is spared, or nobody waits for it: it may be us who were held up.
func (c *Conn) Refused(attempt uint32, cause Cause) {
	g := c.group
	switch {
	case !c.dialing || attempt != c.attempt:
	case cause == CauseSlowDial && g.counts-c.stamp <= g.limits.Last && (c.ring.len() == 0 || c.spared(cause)):
		c.attempt++
		g.reactor.Dial(c, c.attempt)
	default:
		c.fail(cause)
	}
}

// Room returns the buffer that the next request is appended to. At least n bytes
// are free behind its length.
func (c *Conn) Room(n int) []byte {
	c.seal()
	t := c.tail
	if t != nil && t.refs == 1 {
		t.empty() // all that was sent from it is settled, and nothing is held
	}
	if t == nil || cap(t.Buf)-len(t.Buf) < n {
		c.group.chunks.drop(t)
		t = c.group.chunks.get(n)
		t.refs = 1
		c.tail = t
	}
	return t.Buf
}

// Send takes the request by which buf, from Room, has grown. key is where its
// key stands, counted from the request's first byte. It reports false, and takes
// nothing, if c is full.
func (c *Conn) Send(buf []byte, p Pending, key codec.Span) bool {
	if c.full() {
		return false
	}
	p.place(c.tail, c.grow(buf), key)
	c.push(p)
	return true
}

// SendChunk takes a whole request in memory of its own, from Gather: what stands in
// it behind the first from bytes. key is counted from there.
func (c *Conn) SendChunk(ck *Chunk, from int, p Pending, key codec.Span) bool {
	if c.full() {
		return false
	}
	c.seal()
	p.place(ck, from, key)
	c.segment(ck, from, len(ck.Buf))
	c.push(p)
	c.group.chunks.drop(ck) // what Gather counted: segment and ring hold it now
	return true
}

// SendValue takes the line by which buf, from Room, has grown, followed by value,
// which is a part of what from sent: it is copied if it is short, else shared. What
// was shared is not in Pending.Request, which then is the line alone: such a request
// is neither sent again nor retained.
func (c *Conn) SendValue(buf []byte, from *Pending, value codec.Span, p Pending) bool {
	if c.full() {
		return false
	}
	if value.Len <= shareAbove {
		return c.Send(append(buf, value.In(from.Request())...), p, codec.Span{})
	}
	p.place(c.tail, c.grow(buf), codec.Span{})
	at := int(from.req.Off + value.Off)
	c.segment(from.chunk, at, at+int(value.Len))
	c.push(p)
	return true
}

// maxKeys bounds the line of a command of several keys, in bytes: memcached
// closes a connection that sends a longer gat in more than one piece.
const maxKeys = 1900

// Get asks for one key with get, gets, gat or gats; arg is the exptime of the
// latter two. Keys asked for one after the other travel in one command, whoever
// asks: the node then answers them with one write, and looks at them in the same
// order. Each still has a Pending and an end of its own.
func (c *Conn) Get(p Pending, arg, key []byte) bool {
	if c.full() {
		return false
	}
	if c.open != p.Op || len(c.tail.Buf)-int(c.head.Off)+len(key) > maxKeys || !c.sameArg(arg) {
		buf := append(c.Room(maxKeys+text.MaxKey+len(arg)+16), p.Op.String()...)
		if len(arg) > 0 {
			buf = append(append(buf, ' '), arg...)
		}
		start := c.grow(buf)
		c.open, c.head = p.Op, codec.Span{Off: uint32(start), Len: uint32(len(buf) - start)}
	}
	start := len(c.tail.Buf)
	buf := append(c.tail.Buf, ' ')
	c.grow(append(buf, key...))
	p.key = codec.Span{Off: uint32(start + 1), Len: uint32(len(key))}
	p.req, p.chunk, p.More = c.head, c.tail, true
	c.push(p)
	return true
}

// sameArg reports whether the open command has this argument before its keys.
func (c *Conn) sameArg(arg []byte) bool {
	word := len(c.open.String())
	if len(arg) == 0 {
		return int(c.head.Len) == word
	}
	return int(c.head.Len) == word+1+len(arg) && bytes.Equal(arg, c.head.In(c.tail.Buf)[word+1:])
}

// seal ends the command that was open for more keys.
func (c *Conn) seal() {
	if c.open == codec.OpNone {
		return
	}
	c.open = codec.OpNone
	c.grow(append(c.tail.Buf, "\r\n"...))
	c.ring.at(c.ring.len() - 1).More = false
}

// Resend sends a request from the memory it is in: one that another Conn failed to
// get answered, or one that is held. What p holds it goes on holding. It is not for
// a key of a multi-get, nor for a request whose value SendValue shared.
func (c *Conn) Resend(p *Pending) bool {
	if c.full() {
		return false
	}
	invariants.Check(p.whole(), "upstream: a request is sent again without its value")
	c.seal()
	again := *p
	again.Mark &^= valued
	c.segment(p.chunk, int(p.req.Off), int(p.req.End()))
	c.push(again)
	return true
}

// full reports whether c takes no more requests.
func (c *Conn) full() bool { return c.ring.len() >= c.group.limits.Pending }

// grow takes buf, which is the tail's with more behind it, and has the new part
// written at the next flush. It returns where the new part begins.
func (c *Conn) grow(buf []byte) int {
	start := len(c.tail.Buf)
	c.tail.Buf = buf
	c.segment(c.tail, start, len(buf))
	return start
}

// segment has a stretch of ck written at the next flush.
func (c *Conn) segment(ck *Chunk, from, to int) {
	if n := len(c.out); n > 0 && c.out[n-1].chunk == ck && c.out[n-1].to == from {
		c.out[n-1].to = to
		return
	}
	ck.refs++
	c.out = append(c.out, segment{ck, from, to})
}

func (c *Conn) push(p Pending) {
	if p.chunk != nil {
		p.chunk.refs++
	}
	p.at = c.group.tick
	if c.ring.len() == 0 {
		c.stamp = c.group.counts
	}
	c.ring.push(p)
	c.group.pending++
	c.mark()
}

// mark puts c on the list of the next flush, and connects it if need be.
func (c *Conn) mark() {
	if c.wire == nil {
		c.connect()
		return
	}
	if c.dirty || len(c.out) == 0 {
		return
	}
	c.dirty = true
	if g := c.group; len(g.dirty) == 0 {
		g.reactor.Defer()
	}
	c.group.dirty = append(c.group.dirty, c)
}

// maxIov keeps a Writev below the kernel's IOV_MAX of 1024.
const maxIov = 512

// flush writes everything that has been sent. Wire.Write may come back through
// Lost, so nothing of c is relied on after it but what is read again.
func (c *Conn) flush() {
	c.dirty = false
	if c.wire == nil || len(c.out) == 0 {
		return
	}
	c.seal()
	g := c.group
	before := c.sent
	c.sent = c.ring.head
	c.begin(before)
	traffic := &g.traffic[c.node.Index]
	segs := c.out
	c.out = g.segs[:0]
	for i := 0; i < len(segs) && c.wire != nil; i += maxIov {
		g.iov = g.iov[:0]
		for _, s := range segs[i:min(i+maxIov, len(segs))] {
			g.iov = append(g.iov, s.chunk.Buf[s.from:s.to])
			traffic.Sent += uint64(s.to - s.from)
		}
		if len(g.iov) == 1 {
			c.wire.Write(g.iov[0])
		} else {
			c.wire.Writev(g.iov)
		}
	}
	for _, s := range segs {
		g.chunks.drop(s.chunk)
	}
	clear(segs)
	g.segs = segs[:0]
	clear(g.iov)
}

// Feed takes bytes that the node sent. They are not kept, but for a line that is
// not whole.
func (c *Conn) Feed(data []byte) {
	c.stamp = c.group.counts
	c.group.traffic[c.node.Index].Received += uint64(len(data))
	c.hears()
	for len(data) > 0 && c.wire != nil {
		switch {
		case c.body > 0:
			n := min(c.body, len(data))
			c.more(data[:n])
			data = data[n:]
		case int32(c.sent-c.ring.tail) <= 0:
			c.fail(CauseDesync) // nothing that was asked is unanswered
		case len(c.left) > 0:
			data = c.join(data)
		default:
			data = c.next(data)
		}
	}
	c.heard()
}

// join completes the line that an earlier Feed left, and serves it.
func (c *Conn) join(data []byte) []byte {
	n := bytes.IndexByte(data, '\n') + 1
	if n == 0 {
		n = len(data)
	}
	c.left = append(c.left, data[:n]...)
	switch text.ParseReply(c.left, c.ring.front().Op.Shape(), &c.reply) {
	case nil:
		line := c.left
		c.left = c.left[:0] // frame does not append to it: the view stays whole
		c.frame(line, &c.reply)
	case text.ErrReply:
		c.fail(CauseDesync)
	}
	return data[n:]
}

// next serves the frame at the front of data and returns what is behind it.
func (c *Conn) next(data []byte) []byte {
	switch text.ParseReply(data, c.ring.front().Op.Shape(), &c.reply) {
	case nil:
		n := min(c.reply.Size(), len(data))
		c.frame(data[:n], &c.reply)
		return data[n:]
	case text.ErrShort:
		c.left = append(c.left[:0], data...)
	default:
		c.fail(CauseDesync)
	}
	return nil
}

// frame serves one frame: its line, and as much of its value as is in b.
func (c *Conn) frame(b []byte, r *codec.Reply) {
	p := c.ring.front()
	switch {
	case p.Op == codec.OpVersion && p.chunk == nil:
		c.greeted(b)
	case !fits(p.Op, r.Kind, b):
		c.fail(CauseDesync)
	case r.Kind == codec.KindValue:
		c.value(p, b, r)
	case r.Kind == codec.KindStat:
		p.Owner.Reply(c, p, r, b)
	case p.Op.Shape() == codec.ShapeMeta && r.Kind != codec.KindError && !p.names(r, b):
		c.fail(CauseDesync)
	case p.has(valued) && r.Kind != codec.KindEnd:
		c.fail(CauseDesync) // an error in place of the END that was due
	default:
		for c.settle(r, b) && c.wire != nil {
		}
	}
}

// end is the frame that closes a request whose END is not on the wire.
var end = codec.Reply{Kind: codec.KindEnd}

// value serves a VALUE or VA frame. The key it names, if it does, must be one of
// those that the command at the front asked for; keys before it were missed.
func (c *Conn) value(p *Pending, b []byte, r *codec.Reply) {
	switch {
	case p.Op.Shape() == codec.ShapeMeta && r.Kind != codec.KindError && !p.names(r, b):
		c.fail(CauseDesync)
		return
	case p.Op.Shape() == codec.ShapeValues:
		skip, ok := c.find(r.Key.In(b))
		if !ok {
			c.fail(CauseDesync)
			return
		}
		for ; skip > 0 && c.wire != nil; skip-- {
			c.settle(&end, nil)
		}
		if c.wire == nil {
			return // an owner has abandoned the node
		}
		p = c.ring.front()
	}
	if len(b) == r.Size() && (b[len(b)-2] != '\r' || b[len(b)-1] != '\n') {
		c.fail(CauseDesync)
		return
	}
	p.Mark |= valued
	c.body, c.last = r.Size()-len(b), b[len(b)-1]
	p.Owner.Reply(c, p, r, b)
	if c.body == 0 && c.wire != nil {
		c.valued()
	}
}

// find looks for key among those of the command at the front, and returns how
// many stand before it.
func (c *Conn) find(key []byte) (skip int, ok bool) {
	for i := 0; i < c.ring.len(); i++ {
		p := c.ring.at(i)
		if !p.has(valued) && bytes.Equal(key, p.Key()) {
			return i, true
		}
		if p.has(valued) || !p.More {
			break
		}
	}
	return 0, false
}

// more serves a further part of the value at the front.
func (c *Conn) more(b []byte) {
	c.body -= len(b)
	if c.body == 0 && (b[len(b)-1] != '\n' || len(b) > 1 && b[len(b)-2] != '\r' || len(b) == 1 && c.last != '\r') {
		c.fail(CauseDesync)
		return
	}
	c.last = b[len(b)-1]
	p := c.ring.front()
	p.Owner.Body(c, p, b, c.body)
	if c.body == 0 && c.wire != nil {
		c.valued()
	}
}

// valued ends a request whose value is the whole answer. One that an END must
// follow waits for it.
func (c *Conn) valued() {
	if p := c.ring.front(); p.More || p.Op.Shape() == codec.ShapeMeta {
		c.settle(&end, nil)
	}
}

// settle takes the front request out and tells its owner how it ended. It
// reports whether the reply ends the next one too: they were one command.
func (c *Conn) settle(r *codec.Reply, b []byte) (again bool) {
	c.measure()
	c.cur = *c.ring.front()
	c.ring.pop()
	c.group.pending--
	c.cur.Owner.Reply(c, &c.cur, r, b)
	c.group.chunks.drop(c.cur.chunk)
	again = c.cur.More && len(b) > 0
	c.cur = Pending{}
	return again
}

// check fails c if its front request, or its dial, has waited too long.
func (c *Conn) check() {
	g := c.group
	waited := g.counts - c.stamp
	switch {
	case c.dialing && waited > g.limits.Dial:
		c.fail(CauseSlowDial)
	case !c.dialing && c.ring.len() > 0 && waited > g.limits.Timeout && (waited > g.limits.Last || !c.spared(CauseTimeout)):
		c.fail(CauseTimeout)
	}
}

// spared reports whether c's node, which is late, is not to be given up for it yet, as it
// is the last: a late answer is better than none. Else it is down when this returns, if it
// is to be. So of two that are found late at one moment, on two loops, one is spared.
func (c *Conn) spared(cause Cause) bool {
	m := c.group.pool.Monitor
	return m != nil && !c.group.pool.Alone() && m.TripUnless(c.node.Index, c.epoch, cause.String(), c.needed)
}

// needed reports whether nobody is as good for what c was asked first, of what it has not
// answered: no other replica of its key may be read, or only one that may lack it. If it
// was asked for no key, as one is that is only greeted, it is needed if it is for some key.
func (c *Conn) needed() bool {
	pool := c.group.pool
	own := pool.Health.Load(c.node.Index).State()
	if own > health.Warming {
		return false // nobody reads it
	}
	enough := max(own, health.Slow)
	for i := range min(c.ring.len(), mostKeyless) {
		p := c.ring.at(i)
		if len(p.Key()) == 0 {
			continue
		}
		var buf [text.MaxKey]byte
		key := p.Route(buf[:])
		for copy := range pool.Copies {
			if node, state := pool.State(copy, key); node != c.node.Index && state <= enough {
				return false
			}
		}
		return true
	}
	return !pool.Covered(c.node.Index, enough)
}

// mostKeyless is how many requests may stand before one with a key: a greeting, and an mn.
const mostKeyless = 8

// Overflow ends c because it takes no more requests: a node that misses a write
// must not be read.
func (c *Conn) Overflow() { c.fail(CauseFull) }

// On reports whether c lives on the connection w. It does not once it has failed:
// what still comes from w then concerns nobody.
func (c *Conn) On(w Wire) bool { return c.wire == w }

// Lost tells c that its connection has ended. With nothing in flight that is no
// evidence against the node, which may close idle connections: connect again. byPeer
// says that the node has ended it: then it carries out nothing more that came there.
func (c *Conn) Lost(w Wire, byPeer bool) {
	if c.wire != w {
		return
	}
	if c.ring.len() == 0 {
		c.wire = nil
		c.reset()
		c.connect()
		return
	}
	if !byPeer {
		c.leave()
	}
	c.wire = nil // fail is not to close it
	c.fail(CauseReset)
}

// leave notes at the node the connection that is about to be given up, if something
// that was sent there is unanswered. A greeting does not count: it comes first, and
// has no memory of its own.
func (c *Conn) leave() {
	unanswered := int(int32(c.sent - c.ring.tail))
	if c.wire == nil || unanswered <= 0 || c.ring.at(unanswered-1).chunk == nil {
		return
	}
	name := ""
	if a, ok := c.wire.LocalAddr().(*net.TCPAddr); ok {
		name = a.String()
	}
	c.node.Left(name)
}

// fail ends the connection and hands every request back.
func (c *Conn) fail(cause Cause) {
	w, wasDialing := c.wire, c.dialing
	if w == nil && !wasDialing && c.ring.len() == 0 {
		return
	}
	c.leave() // before trip: who then asks whether the node is back takes these
	c.wire, c.dialing = nil, false
	r, sent := c.ring, c.sent
	if wasDialing {
		sent = r.tail
	}
	c.ring = ring{}
	c.reset()
	c.group.trip(c, cause)
	if w != nil {
		w.Close()
	}
	for ; r.len() > 0; r.pop() {
		p := r.front()
		c.group.pending--
		p.Owner.Fail(c, p, cause, int32(sent-r.tail) > 0)
		c.group.chunks.drop(p.chunk)
	}
}

// reset forgets what belonged to the connection that ended.
func (c *Conn) reset() {
	for _, s := range c.out {
		c.group.chunks.drop(s.chunk)
	}
	clear(c.out)
	c.out, c.left, c.body, c.sent, c.open = c.out[:0], nil, 0, c.ring.head, codec.OpNone
	c.group.chunks.drop(c.tail)
	c.tail, c.met, c.life, c.told, c.timer = nil, probe.Identity{}, 0, c.ring.tail, timer{}
}
