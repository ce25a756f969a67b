package dump

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"

	"magent/codec/text"
)

// Limits bound what a Hottest holds. It takes all of its memory at once, Bytes and 28
// for each of Keys, and never any more.
type Limits struct {
	Keys  int // keys at a time
	Bytes int // their bytes, with one more for each; below 4 GiB
}

// Hottest takes the keys of one node in passes, each a list of all of them: first those
// that were accessed last, as many as it may hold, then the colder ones.
//
//	for more := true; more; more = h.Next(l.Began) {
//		l, err := Crawl(ctx, node, h.Add)   // if it fails: h.Again()
//		h.Sort()
//		for i := range h.Len() { … h.At(i) … }
//	}
//
// Keys have a rank, by which the passes go:
//
//	first  what was last accessed before the first pass began, the latest access first
//	then   what was accessed since, in an order that stays
//
// Many keys have the same last access, of which memcached keeps no more than seconds: they
// are told apart by a hash, and by their bytes. A pass takes what ranks behind the one
// before, up to where its memory ends. The rank of a key grows if it is accessed between
// the passes, and changes in no other way. So no pass leaves a key behind that a later
// one would have to go back for: each key that stays on the node has its turn, once, or
// twice if it was accessed meanwhile. And as each pass comes farther, they end. The first
// pass cannot know when it began before it ends; there all keys are of the first kind,
// which is a rank that is smaller still.
//
// A full Hottest lets a quarter of its keys go, or about that, the coldest. It is not safe
// for concurrent use.
type Hottest struct {
	seed   maphash.Seed
	slots  []slot
	keys   []byte   // in the order of slots; each behind its length
	order  []uint32 // of slots, since Sort
	sorted bool

	since int64 // an access at or after it was since the first pass began
	floor rank  // the last that the passes before took
	edge  rank  // the last that this pass takes
}

type slot struct {
	la   int64
	hash uint64
	at   uint32 // in keys
	size uint32
}

// rank is a place in the order of the passes. The zero value is nobody's.
type rank struct {
	set   bool
	again bool // accessed since the first pass began
	la    int64
	hash  uint64
	key   []byte
}

func (r *rank) compare(s *rank) int {
	switch {
	case r.again != s.again:
		if s.again {
			return -1
		}
		return 1
	case r.la != s.la:
		return cmp.Compare(s.la, r.la)
	case r.hash != s.hash:
		return cmp.Compare(r.hash, s.hash)
	}
	return bytes.Compare(r.key, s.key)
}

// Hot is a key of a pass.
type Hot struct {
	Key        []byte // a view, until Next or Again
	LastAccess int64
	Size       int
}

// NewHottest makes a Hottest for its first pass. Whatever l says, it holds two keys.
func NewHottest(l Limits) *Hottest {
	return &Hottest{
		seed:  maphash.MakeSeed(),
		slots: make([]slot, 0, max(2, l.Keys)),
		order: make([]uint32, 0, max(2, l.Keys)),
		keys:  make([]byte, 0, min(max(2*(1+text.MaxKey), l.Bytes), math.MaxUint32)),
		since: math.MaxInt64,
	}
}

// Add takes a copy of e's key if it is of this pass. It must not be called after Sort.
func (h *Hottest) Add(e Entry) {
	if h.sorted {
		panic("dump: Add after Sort")
	}
	hash := maphash.Bytes(h.seed, e.Key)
	r := h.rank(e.LastAccess, hash, e.Key)
	if h.floor.set && r.compare(&h.floor) <= 0 {
		return
	}
	for {
		if h.edge.set && r.compare(&h.edge) >= 0 {
			return
		}
		if len(h.slots) < cap(h.slots) && len(h.keys)+1+len(e.Key) <= cap(h.keys) {
			break
		}
		h.letGo()
	}
	h.slots = append(h.slots, slot{la: e.LastAccess, hash: hash, at: uint32(len(h.keys)), size: uint32(e.Size)})
	h.keys = append(append(h.keys, byte(len(e.Key))), e.Key...)
}

// Sort ends the taking of a pass: At has the keys in order then, the hottest first. The ages
// of their last accesses, beside the latest of the pass, are told apart by powers of two, in
// seconds, and no finer. Those of one age stay as they were listed: in the order of the
// node's hash table, in which it finds them with the least effort, and a node that they are
// copied to makes room for them. Of two passes the rank alone decides.
func (h *Hottest) Sort() {
	h.sorted = true
	latest := int64(math.MinInt64)
	for i := range h.slots {
		latest = max(latest, h.slots[i].la)
	}
	var next [ages + 1]int // where the next of an age goes
	for i := range h.slots {
		next[h.slots[i].age(latest)+1]++
	}
	for age := range ages {
		next[age+1] += next[age]
	}
	h.order = h.order[:len(h.slots)]
	for i := range h.slots {
		at := &next[h.slots[i].age(latest)]
		h.order[*at] = uint32(i)
		*at++
	}
}

// ages is how many a key may have.
const ages = 65

// age is 0 for what was accessed in the latest second, and n for what was from 2^(n-1)
// seconds before it on, and less than 2^n.
func (s *slot) age(latest int64) int { return bits.Len64(uint64(latest - s.la)) }

// Len is the number of keys of this pass.
func (h *Hottest) Len() int { return len(h.slots) }

// At is the key number i, from 0.
func (h *Hottest) At(i int) Hot {
	s := &h.slots[h.order[i]]
	return Hot{Key: h.key(s), LastAccess: s.la, Size: int(s.size)}
}

// Bound is the last access of the last key that this pass has taken, when it had to let
// others go: colder ones, and some that were last accessed in that very second. all is
// true if it had to let none go.
func (h *Hottest) Bound() (la int64, all bool) { return h.edge.la, !h.edge.set }

// Next ends a pass, and forgets its keys. began is Listing.Began of its list. more
// reports whether keys were let go, and it takes another pass for them.
func (h *Hottest) Next(began int64) (more bool) {
	more = h.edge.set
	if more {
		h.floor, h.edge = h.edge, h.floor // each has a buffer for its key
		if h.since == math.MaxInt64 {
			h.since = began
		}
	}
	h.Again()
	return more
}

// Again forgets the keys of a pass whose list broke off, and takes them anew.
func (h *Hottest) Again() {
	h.slots, h.keys, h.order, h.sorted, h.edge.set = h.slots[:0], h.keys[:0], h.order[:0], false, false
}

func (h *Hottest) rank(la int64, hash uint64, key []byte) rank {
	if la >= h.since {
		return rank{again: true, la: h.since, hash: hash, key: key}
	}
	return rank{la: la, hash: hash, key: key}
}

func (h *Hottest) rankOf(s *slot) rank { return h.rank(s.la, s.hash, h.key(s)) }

func (h *Hottest) key(s *slot) []byte {
	at := int(s.at) + 1
	return h.keys[at : at+int(h.keys[s.at])]
}

// samples is of how many keys letGo guesses where their coldest quarter begins.
const samples = 256

// letGo moves the edge to a key with about three quarters of the others before it, and
// lets go what ranks behind that, one key at least.
func (h *Hottest) letGo() {
	var room [samples]uint32
	sample := room[:min(samples, len(h.slots))]
	for i := range sample {
		sample[i] = uint32(i)
		if len(h.slots) > samples { // multiples of the golden ratio fall evenly, and on no rhythm
			at, _ := bits.Mul64(uint64(i)*0x9e3779b97f4a7c15, uint64(len(h.slots)))
			sample[i] = uint32(at)
		}
	}
	slices.SortFunc(sample, func(a, b uint32) int {
		r, s := h.rankOf(&h.slots[a]), h.rankOf(&h.slots[b])
		return r.compare(&s)
	})
	edge := h.rankOf(&h.slots[sample[(len(sample)-1)*3/4]])
	key := append(h.edge.key[:0], edge.key...) // edge.key is about to move
	h.edge = edge
	h.edge.set, h.edge.key = true, key

	kept, end, met := 0, 0, false
	for i := range h.slots {
		s := h.slots[i]
		r := h.rankOf(&s)
		order := r.compare(&h.edge)
		if order > 0 || order == 0 && met { // a key that is listed twice stays once
			continue
		}
		met = met || order == 0
		size := copy(h.keys[end:], h.keys[s.at:int(s.at)+1+len(r.key)])
		s.at = uint32(end)
		h.slots[kept] = s
		end += size
		kept++
	}
	h.slots, h.keys = h.slots[:kept], h.keys[:end]
}
