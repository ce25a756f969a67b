// Package debt remembers what a node has missed: a Journal is the set of the keys
// whose writes one node did not get, or may not have got, as one loop knows them.
//
// A Journal belongs to its loop. The package imports std only.
package debt

import (
	"encoding/binary"
	"hash/maphash"
)

// Journal is a set of keys in the order in which they came, bounded in number and
// size. It is not safe for concurrent use.
//
// One of many keys takes its own length and 13 to 24 bytes, a million of 50 bytes some
// 69 MB, in pieces of 64 KiB without a pointer in them; a single one takes 9 KiB. The
// pieces grow one at a time: the most that a Note does is to move the 3072 slots of
// one shard, on the way to a million. Next gives pieces back as it goes, and
// everything with the last key.
//
//	blocks  the keys, each behind two bytes with its length and whether it is in base64
//	shards  hash tables of the places of the keys in the blocks, one for each first
//	        byte of a hash
type Journal struct {
	maxKeys, maxBytes int
	seed              maphash.Seed
	overflowed        bool

	n, bytes int         // the keys, and their length
	shards   *[256]shard // nil: there have been no keys since the last Clear
	blocks   [][]byte    // the oldest first
	base     uint16      // the number of blocks[0]
	head     int         // where in blocks[0] the oldest key is
}

// place is where a key is: the number of a block, and the offset there in the lower
// 16 bits.
type place uint32

const (
	begin      = 1       // where the first key of a block is: place 0 is nobody's
	firstBlock = 1 << 10 // the size of the first one, until it is full: most journals stay small
	blockSize  = 1 << 16
	maxBlocks  = 1 << 16
	header     = 2
	maxKey     = 1<<15 - 1
)

// NewJournal makes an empty Journal, which takes maxKeys keys with maxBytes bytes
// together at most.
func NewJournal(maxKeys, maxBytes int) *Journal {
	return &Journal{maxKeys: maxKeys, maxBytes: maxBytes, seed: maphash.MakeSeed()}
}

// Note takes a copy of key, which is as it was written: base64 says that this is in
// base64, and makes another key of it. A key that is there already stays where it is.
// With one too many the Journal overflows: it drops all its keys, and takes no more
// until it is cleared.
func (j *Journal) Note(key []byte, base64 bool) {
	if j.overflowed {
		return
	}
	if j.shards == nil {
		j.shards = new([256]shard)
	}
	h := j.hash(key, base64)
	s := &j.shards[h>>56]
	if j.has(s, h, key, base64) {
		return
	}
	if j.n == j.maxKeys || j.bytes+len(key) > j.maxBytes || len(key) > maxKey || !j.room(header+len(key)) {
		j.Forfeit()
		return
	}
	s.grow()
	s.insert(newSlot(h, j.put(key, base64)))
	j.n++
	j.bytes += len(key)
}

// Has reports whether key, which is as it was written, is in the Journal. One that has
// overflowed has none.
func (j *Journal) Has(key []byte, base64 bool) bool {
	if j.n == 0 {
		return false
	}
	h := j.hash(key, base64)
	return j.has(&j.shards[h>>56], h, key, base64)
}

// Forfeit says that the node has missed what cannot be told in keys, such as a
// flush_all: the Journal is as if it had overflowed.
func (j *Journal) Forfeit() {
	j.Clear()
	j.overflowed = true
}

// Overflowed reports that the node has missed more than the Journal can tell.
func (j *Journal) Overflowed() bool { return j.overflowed }

// Next takes the oldest key out. ok is false if there is none. key must not be
// written to; it stays good, and while it is held so are the 64 KiB around it.
func (j *Journal) Next() (key []byte, base64, ok bool) {
	if j.n == 0 {
		return nil, false, false
	}
	oldest := place(j.base)<<16 | place(j.head)
	key, base64 = j.at(oldest)
	if j.n == 1 {
		j.Clear()
		return key, base64, true
	}
	h := j.hash(key, base64)
	j.shards[h>>56].remove(newSlot(h, oldest))
	j.n--
	j.bytes -= len(key)
	if j.head += header + len(key); j.head == len(j.blocks[0]) {
		j.blocks[0] = nil
		j.blocks = j.blocks[1:]
		j.base++
		j.head = begin
	}
	return key, base64, true
}

// Len is the number of keys.
func (j *Journal) Len() int { return j.n }

// Bytes is how long the keys are together.
func (j *Journal) Bytes() int { return j.bytes }

// Clear forgets all keys, and that there were too many.
func (j *Journal) Clear() {
	*j = Journal{maxKeys: j.maxKeys, maxBytes: j.maxBytes, seed: j.seed}
}

func (j *Journal) hash(key []byte, base64 bool) uint64 {
	h := maphash.Bytes(j.seed, key)
	if base64 {
		return ^h
	}
	return h
}

// has reports whether key, whose hash is h, is in s.
func (j *Journal) has(s *shard, h uint64, key []byte, base64 bool) bool {
	if s.n == 0 {
		return false
	}
	for i := s.home(uint32(h)); s.slots[i] != free; i = s.next(i) {
		if s.slots[i].hash() != uint32(h) {
			continue
		}
		if k, b := j.at(s.slots[i].place()); b == base64 && string(k) == string(key) {
			return true
		}
	}
	return false
}

// at is the key at p.
func (j *Journal) at(p place) (key []byte, base64 bool) {
	b := j.blocks[uint16(p>>16)-j.base][uint16(p):]
	h := binary.LittleEndian.Uint16(b)
	end := header + int(h>>1)
	return b[header:end:end], h&1 != 0
}

// room makes the last block have room for n bytes. It reports false if there are too
// many blocks to number another.
func (j *Journal) room(n int) bool {
	if len(j.blocks) == 0 {
		j.blocks = [][]byte{make([]byte, begin, firstBlock)}
		j.head = begin
	}
	last := &j.blocks[len(j.blocks)-1]
	switch need := len(*last) + n; {
	case need <= cap(*last):
	case need <= blockSize:
		*last = append(make([]byte, 0, blockSize), *last...)
	case len(j.blocks) < maxBlocks:
		j.blocks = append(j.blocks, make([]byte, begin, blockSize))
	default:
		return false
	}
	return true
}

// put appends a key to the last block, which has room for it.
func (j *Journal) put(key []byte, base64 bool) place {
	i := len(j.blocks) - 1
	p := place(j.base+uint16(i))<<16 | place(len(j.blocks[i]))
	h := uint16(len(key)) << 1
	if base64 {
		h |= 1
	}
	j.blocks[i] = append(binary.LittleEndian.AppendUint16(j.blocks[i], h), key...)
	return p
}
