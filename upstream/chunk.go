package upstream

import (
	"slices"

	"magent/codec/invariants"
)

// chunkSize is the room of a chunk that many small requests share.
const chunkSize = 16 << 10

// shareAbove is the size in bytes from which a value is sent to a second node
// from the memory it was gathered in, instead of being copied.
const shareAbove = 4 << 10

// Chunk is memory that requests are sent from. It lives until the last of them
// is answered, and those that are held are dropped, so that an answer's key can be
// checked and a request be asked of another node, with no second copy kept for that.
type Chunk struct {
	Buf  []byte
	refs int
}

// empty makes room: nobody needs what is in c any more.
func (c *Chunk) empty() {
	invariants.Poison(c.Buf)
	c.Buf = c.Buf[:0]
}

// chunks is a loop's supply of chunks: those of chunkSize, and larger ones, each
// made to the size of one request and used again for others not much smaller.
// Without them values of some size would keep the garbage collector busy.
type chunks struct {
	free  []*Chunk
	large []*Chunk // least recently used first
	bytes int      // in large
	out   int      // those that somebody has
}

// What a loop keeps to spare.
const (
	keepChunks     = 64 // chunks of chunkSize
	keepLarge      = 64 // larger ones
	keepLargeBytes = 8 << 20
)

func (s *chunks) get(size int) *Chunk {
	s.out++
	if size > chunkSize {
		return s.getLarge(size)
	}
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	return &Chunk{Buf: make([]byte, 0, chunkSize)}
}

// getLarge takes a spare chunk that is not more than twice too large, or makes one
// of exactly size.
func (s *chunks) getLarge(size int) *Chunk {
	for i := len(s.large) - 1; i >= 0; i-- {
		if c := s.large[i]; cap(c.Buf) >= size && cap(c.Buf)/2 <= size {
			s.large = slices.Delete(s.large, i, i+1)
			s.bytes -= cap(c.Buf)
			return c
		}
	}
	return &Chunk{Buf: make([]byte, 0, size)}
}

// putLarge keeps c, in place of those that nobody wanted for longest.
func (s *chunks) putLarge(c *Chunk) {
	s.large = append(s.large, c)
	s.bytes += cap(c.Buf)
	for len(s.large) > keepLarge || s.bytes > keepLargeBytes {
		s.bytes -= cap(s.large[0].Buf)
		s.large = slices.Delete(s.large, 0, 1)
	}
}

func (s *chunks) drop(c *Chunk) {
	if c == nil {
		return
	}
	if c.refs--; c.refs > 0 {
		return
	}
	if c.refs < 0 {
		panic("upstream: a chunk was dropped once too often")
	}
	s.out--
	size := cap(c.Buf)
	c.empty()
	switch {
	case size == chunkSize && len(s.free) < keepChunks:
		s.free = append(s.free, c)
	case size > chunkSize:
		s.putLarge(c)
	}
}
