package upstream

import (
	"bytes"

	"magent/codec"
	"magent/codec/text"
)

// Leg says what a request is to its owner: which part of the whole it carries.
// The values are the owner's; a Conn only keeps them.
type Leg uint8

// Pending is one request written, or about to be, to one node: what is needed to
// tell whom the answer is for, whether it is the right one, and how to ask
// another node instead.
type Pending struct {
	Owner Owner
	Seq   uint32 // the owner's name for it
	Leg   Leg
	Op    codec.Op
	// More: this key shares its command with the next Pending, or may yet: a get
	// of three keys is one command and three Pendings, the first two with More.
	More  bool
	Mark  Mark
	at    uint32 // tick at which it was pushed
	left  uint32 // when it was flushed, as of Group.Micros; 0: it was not, or nobody measures
	key   codec.Span
	req   codec.Span
	chunk *Chunk
}

// Mark is what is known of a Pending beside its request.
type Mark uint8

const (
	// Bare: an ms or md that asks for neither its key nor an opaque. Its owner may say so.
	Bare   Mark = 1 << iota
	valued      // its VALUE has come, its END has not
)

// has reports whether m is set.
func (p *Pending) has(m Mark) bool { return p.Mark&m != 0 }

// Key is the key that was asked for, as written; empty if there is none to check.
// It is good until the Owner's method returns, as are the other views.
func (p *Pending) Key() []byte {
	if p.chunk == nil {
		return nil
	}
	return p.key.In(p.chunk.Buf)
}

// Request is the request as it was sent. For one that Get made it is what stands
// before the keys.
func (p *Pending) Request() []byte {
	if p.chunk == nil {
		return nil
	}
	return p.req.In(p.chunk.Buf)
}

// place says that the request is what ck holds behind its first from bytes, its key
// counted from there.
func (p *Pending) place(ck *Chunk, from int, key codec.Span) {
	p.req = codec.Span{Off: uint32(from), Len: uint32(len(ck.Buf) - from)}
	p.key = codec.Span{Off: uint32(from) + key.Off, Len: key.Len}
	p.chunk = ck
}

// whole reports whether the value of p, if it has one, is in Request.
func (p *Pending) whole() bool {
	return p.Op.Class() != codec.ClassStore || len(p.Line()) < len(p.Request())
}

// Route is the key as placement sees it, maybe in buf, which must hold text.MaxKey bytes.
func (p *Pending) Route(buf []byte) []byte {
	if !p.Op.Meta() {
		return p.Key()
	}
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	return text.RouteKey(req.Key.In(line), req.Meta, buf)
}

// Line is the first line of the request, without the value that may follow: what a
// client stores may look like anything.
func (p *Pending) Line() []byte {
	b := p.Request()
	return b[:bytes.IndexByte(b, '\n')+1]
}

// names reports whether the meta reply r, whose line is in b, answers p, as far as
// it says: by the key that it names and the opaque that it echoes. One that says
// that it was done must say both, if it was asked to, and have the value, but for
// an mg C, whose client may have that.
func (p *Pending) names(r *codec.Reply, b []byte) bool {
	if p.Op == codec.OpMetaDebug {
		return true // an ME begins with its key, which may look like anything
	}
	if p.has(Bare) && !r.Echo && r.Key.Len == 0 {
		return true
	}
	line := p.Line()
	flags := flagsOf(line)
	done := b[0] == 'H' || b[0] == 'V'
	if b[0] == 'H' && p.Op != codec.OpMetaSet && bytes.Contains(flags, valueFlag) && !bytes.Contains(flags, versionFlag) {
		return false
	}
	if tok, ok := opaque(b[:r.Line]); ok && !bytes.Contains(line, tok) || !ok && done && bytes.Contains(flags, opaqueFlag) {
		return false
	}
	key := r.Key.In(b)
	if len(key) == 0 {
		return !done || !bytes.Contains(flags, keyFlag)
	}
	if !r.Coded && bytes.Equal(key, p.Key()) {
		return true
	}
	var req codec.Request
	text.Parse(line, &req)
	return text.SameKey(key, r.Coded, req.Key.In(line), req.Meta.Has('b'))
}

var keyFlag, opaqueFlag, valueFlag, versionFlag = []byte(" k"), []byte(" O"), []byte(" v"), []byte(" C")

// flagsOf is what follows the key in the line of a meta request, with the space
// before it.
func flagsOf(line []byte) []byte {
	for range 2 {
		i := bytes.IndexByte(line[min(1, len(line)):], ' ')
		if i < 0 {
			return nil
		}
		line = line[i+1:]
	}
	return line
}

// opaque is the O flag of a meta reply line, with the space before it.
func opaque(line []byte) ([]byte, bool) {
	i := bytes.Index(line, []byte(" O"))
	if i < 0 {
		return nil, false
	}
	tok := line[i:]
	if n := bytes.IndexAny(tok[1:], " \r"); n >= 0 {
		tok = tok[:n+1]
	}
	return tok, true
}

// ring is the requests of one Conn that are not answered yet, oldest first: a
// node answers in order, so the front is next.
//
// Invariants: len(slot) is 0 or a power of two; head-tail <= len(slot); slots
// outside [tail, head) are zero, so a ring keeps nothing alive.
type ring struct {
	slot       []Pending
	head, tail uint32 // free-running
}

func (r *ring) len() int { return int(r.head - r.tail) }

// front is the oldest request; calling it on an empty ring is a mistake.
func (r *ring) front() *Pending { return r.at(0) }

// at is the i-th oldest request.
func (r *ring) at(i int) *Pending { return &r.slot[(r.tail+uint32(i))&uint32(len(r.slot)-1)] }

func (r *ring) push(p Pending) {
	if r.len() == len(r.slot) {
		r.grow()
	}
	r.slot[r.head&uint32(len(r.slot)-1)] = p
	r.head++
}

// pushFront puts p before all others: the greeting on a fresh connection.
func (r *ring) pushFront(p Pending) {
	if r.len() == len(r.slot) {
		r.grow()
	}
	r.tail--
	*r.front() = p
}

func (r *ring) pop() {
	*r.front() = Pending{}
	r.tail++
}

// grow moves the queue to a ring of twice the size. The counts go on: what has been
// sent is told by them.
func (r *ring) grow() {
	next := ring{slot: make([]Pending, max(16, 2*len(r.slot))), head: r.head, tail: r.tail}
	for i := range r.len() {
		*next.at(i) = *r.at(i)
	}
	*r = next
}
