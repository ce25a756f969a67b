package upstream

// chunkSize is the room of a chunk that many small requests share.
const chunkSize = 16 << 10

// shareAbove is the size in bytes from which a value is sent to a second node
// from the memory it was gathered in, instead of being copied.
const shareAbove = 4 << 10

// Chunk is memory that requests are sent from. It lives until the last of them
// is answered, so that an answer's key can be checked and a request be asked of
// another node, with no second copy kept for that.
type Chunk struct {
	Buf  []byte
	refs int
}

// chunks is a loop's supply of chunks of chunkSize.
type chunks struct{ free []*Chunk }

// keepChunks bounds the spare memory of a loop.
const keepChunks = 64

func (s *chunks) get(size int) *Chunk {
	if size > chunkSize {
		return &Chunk{Buf: make([]byte, 0, size)}
	}
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	return &Chunk{Buf: make([]byte, 0, chunkSize)}
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
	if cap(c.Buf) == chunkSize && len(s.free) < keepChunks {
		c.Buf = c.Buf[:0]
		s.free = append(s.free, c)
	}
}
