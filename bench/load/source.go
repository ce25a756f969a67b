package load

import (
	"math/bits"
	"math/rand/v2"

	"magent/bench/keys"
	"magent/bench/wire"
)

// source chooses the requests of one connection.
type source struct {
	*shared
	no          uint32 // the connection's number over all workers
	part        uint32 // of writers
	rng         rand.PCG
	read, write keys.Draw
	mix         Mix
	total       uint64 // of its weights
	wrote       uint32 // writes, where there is no ledger to number them; keys of a preload
	// follow are the cases to come: each key has a version that a gets told.
	follow []wire.Request
}

func newSource(s *shared, no int) source {
	src := source{shared: s, no: uint32(no), rng: *rand.NewPCG(s.cfg.Seed, uint64(no)), mix: s.cfg.Mix}
	n := s.space.Len()
	readers, writers := s.cfg.parts()
	if no < readers {
		src.read = s.cfg.ReadKeys.Draw(n, no, readers)
	}
	if part := no - (s.cfg.Conns - writers); part >= 0 {
		src.part = uint32(part)
		src.write = s.cfg.WriteKeys.Draw(n, part, writers)
	}
	if s.cfg.Writers > 0 {
		reads, writes := s.cfg.Mix.split()
		if src.mix = reads; no >= readers {
			src.mix = writes
		}
	}
	for _, weight := range src.mix {
		src.total += uint64(weight)
	}
	return src
}

// next makes f the next request.
func (s *source) next(f *flight) {
	f.forCAS = false
	if n := len(s.follow); n > 0 {
		f.Request = s.follow[n-1]
		s.follow = s.follow[:n-1]
		s.sign(&f.Request)
		return
	}
	if s.fill {
		s.preload(&f.Request)
		return
	}
	switch op := s.pick(); op {
	case wire.Get, wire.Gets:
		f.Request = wire.Request{Op: op, Keys: uint8(s.cfg.MultiGet), Key: uint32(s.read.Next(&s.rng))}
		if f.Keys > 1 {
			steps := uint64(s.space.Len() / int(f.Keys))
			f.Step = 1 + uint32(s.below(steps))
		}
	case wire.CAS:
		f.Request = wire.Request{Op: wire.Gets, Keys: 1, Key: s.own()}
		f.forCAS = true
	case wire.Incr:
		f.Request = wire.Request{Op: op, Keys: 1, Key: s.no}
	case wire.Touch:
		f.Request = wire.Request{Op: op, Keys: 1, Key: s.own(), TTL: s.cfg.TTLs.Next(&s.rng)}
	default:
		f.Request = wire.Request{Op: op, Keys: 1, Key: s.own()}
		s.sign(&f.Request)
	}
}

// pick draws an operation.
func (s *source) pick() wire.Op {
	at := s.below(s.total)
	for op, weight := range s.mix {
		if at < uint64(weight) {
			return wire.Op(op)
		}
		at -= uint64(weight)
	}
	return wire.Get
}

// below draws from 0 to n-1; it needs no draw for one of one.
func (s *source) below(n uint64) uint64 {
	if n == 1 {
		return 0
	}
	hi, _ := bits.Mul64(s.rng.Uint64(), n)
	return hi
}

// own draws a key that this connection may write.
func (s *source) own() uint32 {
	k := uint32(s.write.Next(&s.rng))
	if s.ledger == nil || s.cfg.WriteKeys.Kind == keys.Parallel {
		return k
	}
	_, parts := s.cfg.parts()
	writers := uint32(parts)
	k += (s.part + writers - k%writers) % writers
	if k >= uint32(s.space.Len()) {
		return s.part
	}
	return k
}

// sign numbers a write, and says what it writes.
func (s *source) sign(r *wire.Request) {
	r.Mark.Run = s.mark
	if s.ledger != nil {
		r.Mark.Seq = s.ledger.issue(r.Key)
	} else {
		s.wrote++
		r.Mark.Seq = s.wrote
	}
	if r.Op != wire.Delete {
		r.Size, r.TTL = uint32(s.cfg.Values.Next(&s.rng)), s.cfg.TTLs.Next(&s.rng)
	}
}

// preload makes r the next of all keys and counters.
func (s *source) preload(r *wire.Request) {
	n := uint32(s.space.Len())
	if s.wrote >= n {
		*r = wire.Request{Op: wire.SetCounter, Keys: 1, Key: s.wrote - n}
		s.wrote++
		return
	}
	*r = wire.Request{Op: wire.Set, Keys: 1, Key: s.wrote}
	s.sign(r)
	r.Mark.Seq = 1
}
