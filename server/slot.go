package server

import (
	"math/bits"

	"github.com/valyala/bytebufferpool"

	"magent/codec"
	"magent/codec/binary"
	"magent/upstream"
)

// slot is one command of a client, or one key of its multi-get, from the moment
// it is read until its reply has left in its turn.
type slot struct {
	op    codec.Op
	fault codec.Fault
	flags slotFlags
	copy  uint8 // the copy that was asked last: the lead, for a write
	tried uint8 // a bit for each copy that was asked
	// left counts what a write still waits for: 1 for the lead, from its answer on, or
	// from the start if the write went everywhere, and 1 for each follower; or all nodes
	// that were told.
	left   uint16
	heir   uint8          // of a relative or conditional write: the copy that was asked for its version; of a hedged read: the other one
	died   uint8          // of one given to its heir after all: the copy that led
	race   race           // of a hedged read
	result Result         // what it came to; it counts when the slot is done
	moved  upstream.Cause // why the node that was asked before did not answer
	hash   uint32         // of a write: hashKey of its key
	began  uint32         // when its command came, as of upstream.Group.Micros; 0: no node is asked
	waited uint32         // for how many µs it had been held back then; where there is a witness
	led    uint32         // of a write to several copies: when its lead had answered; the same
	asked  binary.Asked   // of a binary session: what the answer repeats
	// out is a reply that may not leave yet: it is not this slot's turn, or
	// followers have not answered.
	out     *bytebufferpool.ByteBuffer
	lane    *lane  // of the pool that is asked; nil: all that the client may reach are, or none
	version uint64 // what the heir answered, as a token: it may be restarted since; 0 for no item
}

type slotFlags uint16

const (
	slotDone       slotFlags = 1 << iota // nothing more will come for it
	slotQuiet                            // the client wants no reply, or only news
	slotKey                              // a key of a get: no END of its own
	slotLast                             // the last key: its END closes the command
	slotBroken                           // failed: what follows of its command is withheld
	slotPartial                          // part of a value has gone to the client
	slotAgain                            // was asked twice of the only replica
	slotHit                              // a value was found
	slotVersion                          // the client asked for the item's version
	slotMutates                          // a read that changes its item
	slotWrites                           // one key is written
	slotAsking                           // the heir has been asked, and the lead has not been sent the write
	slotAsked                            // the heir has said what version it has
	slotLost                             // the lead died before a follower had what became of the write
	slotEverywhere                       // a write that went to all replicas at once
	slotWaits                            // what is held waits for other nodes, not for its turn
)

func (s *slot) is(f slotFlags) bool { return s.flags&f != 0 }

// hold keeps b to be sent later.
func (s *slot) hold(l *loop, b []byte) {
	if s.out == nil {
		s.out = l.held.get()
	}
	s.out.B = append(s.out.B, b...)
}

// release gives up what was held.
func (s *slot) release(l *loop) {
	l.held.put(s.out)
	s.out = nil
}

// heldBuffers is a loop's supply of buffers for replies that wait. It is a stack of
// its own and not the pool that comes with the buffers: that one drops what is
// larger than most, so that a command of ten keys would allocate for its largest.
type heldBuffers struct {
	free []*bytebufferpool.ByteBuffer
	size int // bytes in free
}

// keepHeld bounds the spare memory of held replies of a loop, in bytes.
const keepHeld = 4 << 20

func (h *heldBuffers) get() *bytebufferpool.ByteBuffer {
	n := len(h.free)
	if n == 0 {
		return new(bytebufferpool.ByteBuffer)
	}
	b := h.free[n-1]
	h.free = h.free[:n-1]
	h.size -= cap(b.B)
	return b
}

// put takes b back, which may be nil.
func (h *heldBuffers) put(b *bytebufferpool.ByteBuffer) {
	if b == nil || h.size+cap(b.B) > keepHeld {
		return
	}
	b.Reset()
	h.size += cap(b.B)
	h.free = append(h.free, b)
}

// slots is the commands of one session that are not answered yet, oldest first:
// a queue on a ring. A slot's number is its place in the whole life of the
// session, so that it stays the slot's name while others come and go.
//
// Invariants: len(ring) is 0 or a power of two; head-tail <= len(ring); slots
// outside [tail, head) are zero.
type slots struct {
	ring       []slot
	head, tail uint32 // free-running
}

func (q *slots) len() int { return int(q.head - q.tail) }

// at is the slot numbered seq, which must be in the queue.
func (q *slots) at(seq uint32) *slot { return &q.ring[seq&uint32(len(q.ring)-1)] }

// holds reports whether seq is in the queue.
func (q *slots) holds(seq uint32) bool { return seq-q.tail < q.head-q.tail }

// first reports whether seq is the oldest: its reply may leave at once.
func (q *slots) first(seq uint32) bool { return seq == q.tail }

func (q *slots) push(s slot) uint32 {
	seq := q.head
	*q.at(seq) = s
	q.head++
	return seq
}

func (q *slots) pop() {
	*q.at(q.tail) = slot{}
	q.tail++
}

// has reports whether a command is in flight that has one of flags and is about a key
// with this hash.
func (q *slots) has(flags slotFlags, hash uint32) bool {
	for seq := q.tail; seq != q.head; seq++ {
		if sl := q.at(seq); sl.hash == hash && sl.is(flags) && !sl.is(slotDone) {
			return true
		}
	}
	return false
}

// changing reports whether a command is in flight that may change what a key with this
// hash is at its lead, before its followers know.
func (q *slots) changing(hash uint32) bool {
	for seq := q.tail; seq != q.head; seq++ {
		sl := q.at(seq)
		if sl.is(slotDone) {
			continue
		}
		if sl.is(slotMutates) || sl.op.Class() == codec.ClassBroadcast || sl.is(slotWrites) && sl.hash == hash {
			return true
		}
	}
	return false
}

// grow moves the queue to ring, which is larger, and returns the one it was on.
func (q *slots) grow(ring []slot) (old []slot) {
	next := slots{ring: ring, head: q.head, tail: q.tail}
	for seq := q.tail; seq != q.head; seq++ {
		*next.at(seq) = *q.at(seq)
	}
	old = q.ring
	clear(old)
	*q = next
	return old
}

// slotRings is a loop's supply of rings, by size: ringSize, twice that, and so on to
// windowLarge. The larger they are, the fewer are kept.
type slotRings [7][][]slot

const (
	ringSize  = windowLarge >> (len(slotRings{}) - 1) // slots of a session that begins to work
	keepRings = 4096                                  // spare rings of ringSize
)

// class is the place of rings of n slots.
func (*slotRings) class(n int) int { return bits.Len(uint(n)/ringSize) - 1 }

// get returns a ring of n slots, all zero.
func (r *slotRings) get(n int) []slot {
	if c := r.class(n); c < len(r) && len(r[c]) > 0 {
		last := len(r[c]) - 1
		ring := r[c][last]
		r[c] = r[c][:last]
		return ring
	}
	return make([]slot, n)
}

// put takes back a ring whose slots are all zero.
func (r *slotRings) put(ring []slot) {
	if c := r.class(len(ring)); c < len(r) && len(r[c]) < keepRings>>c {
		r[c] = append(r[c], ring)
	}
}
