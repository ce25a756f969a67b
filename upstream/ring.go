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
	value bool // its VALUE has come, its END has not
	key   codec.Span
	req   codec.Span
	chunk *Chunk
}

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

// names reports whether the key that the meta reply r in b names is p's.
func (p *Pending) names(r *codec.Reply, b []byte) bool {
	key := r.Key.In(b)
	if !r.Coded && bytes.Equal(key, p.Key()) {
		return true
	}
	var req codec.Request
	text.Parse(p.Request(), &req)
	return text.SameKey(key, r.Coded, p.Key(), req.Meta.Has('b'))
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

func (r *ring) grow() {
	next := make([]Pending, max(16, 2*len(r.slot)))
	n := r.len()
	for i := range n {
		next[i] = *r.at(i)
	}
	r.slot, r.tail, r.head = next, 0, uint32(n)
}
