package load

import (
	"math/rand/v2"

	"magent/bench/keys"
	"magent/bench/wire"
)

// source chooses the requests of one worker.
type source struct {
	enc        wire.Encoder
	rng        rand.PCG
	get        wire.Op
	sets, both uint64 // weights: sets of sets+gets
	multi      int
	size, run  uint32
	writes     uint32
	// inOrder makes it write every key once, in order, from next: a preload.
	inOrder bool
	next    uint32
}

func newSource(s *keys.Space, c Config, worker int) *source {
	src := &source{
		enc: wire.Encoder{Space: s}, rng: *rand.NewPCG(c.Seed, uint64(worker)),
		sets: uint64(c.Mix[wire.Set]), both: uint64(c.Mix[wire.Set] + c.Mix[wire.Get] + c.Mix[wire.Gets]), multi: c.MultiGet, size: uint32(c.Values.Max()),
	}
	if c.Mix[wire.Gets] > 0 {
		src.get = wire.Gets
	}
	return src
}

func (s *source) request() wire.Request {
	if s.inOrder {
		s.next++
		return s.set(s.next - 1)
	}
	r := s.rng.Uint64()
	n := s.enc.Space.Len()
	key := uint32(uint64(uint32(r)) * uint64(n) >> 32)
	if (r>>32)*s.both>>32 < s.sets {
		return s.set(key)
	}
	if s.multi == 1 {
		return wire.Request{Op: s.get, Keys: 1, Key: key}
	}
	steps := uint64(n / s.multi)
	return wire.Request{Op: s.get, Keys: uint8(s.multi), Key: key, Step: 1 + uint32(s.rng.Uint64()>>32*steps>>32)}
}

func (s *source) set(key uint32) wire.Request {
	s.writes++
	return wire.Request{Op: wire.Set, Keys: 1, Key: key, Size: s.size, Mark: keys.Mark{Run: s.run, Seq: s.writes}}
}
