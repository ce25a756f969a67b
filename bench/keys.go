package bench

import (
	"bytes"
	"math/rand/v2"
	"strconv"
)

// fillerShifts is how many different bodies the values of a space have.
const fillerShifts = 4096

type op uint8

const (
	opGet op = iota
	opSet
)

// request is one request in flight. A get asks for n keys: first, first+step,
// first+2*step … modulo the key space; chosen so, they all differ, and a key
// that comes back is looked up by arithmetic.
type request struct {
	sent        int64 // ns on the worker's clock
	first, step uint32
	n           uint8
	op          op
}

// space is the key space and what every key in it must hold: flags made from
// the key's number, and a value that begins with the key and goes on with a
// stretch of random bytes at an offset made from that number. So every value
// names its key, can be checked whole while it streams past, and costs no
// memory of its own. Read-only once made; shared by all workers.
type space struct {
	keys, keySize, valueSize int
	prefix                   string
	verb                     string // "get " or, if values come with their version, "gets "
	cas                      bool
	gets                     []byte // verb, key and line end of every key, one after another
	filler                   []byte
}

const crlf = "\r\n"

func newSpace(c Config) *space {
	s := &space{keys: c.Keys, keySize: c.KeySize, valueSize: c.ValueSize, prefix: c.KeyPrefix, verb: "get ", cas: c.CAS}
	if s.cas {
		s.verb = "gets "
	}
	s.gets = make([]byte, 0, c.Keys*s.stride())
	for k := range c.Keys {
		s.gets = append(s.gets, s.verb...)
		s.gets = append(s.gets, s.prefix...)
		digits := strconv.Itoa(k)
		s.gets = append(s.gets, bytes.Repeat([]byte{'0'}, c.KeySize-len(s.prefix)-len(digits))...)
		s.gets = append(s.gets, digits...)
		s.gets = append(s.gets, crlf...)
	}
	// All 256 byte values, line ends among them: whoever looks for END instead
	// of counting bytes will show.
	r := rand.New(rand.NewPCG(1, 2))
	s.filler = make([]byte, c.ValueSize-c.KeySize+fillerShifts)
	for i := range s.filler {
		s.filler[i] = byte(r.Uint32())
	}
	return s
}

func (s *space) stride() int { return len(s.verb) + s.keySize + len(crlf) }

// key returns the name of key k. It aliases the space.
func (s *space) key(k int) []byte {
	at := k*s.stride() + len(s.verb)
	return s.gets[at : at+s.keySize : at+s.keySize]
}

// index is the inverse of key; false for a name outside the space.
func (s *space) index(name []byte) (int, bool) {
	if len(name) != s.keySize || string(name[:len(s.prefix)]) != s.prefix {
		return 0, false
	}
	k := 0
	for _, c := range name[len(s.prefix):] {
		if c < '0' || c > '9' || k >= s.keys {
			return 0, false
		}
		k = k*10 + int(c-'0')
	}
	return k, k < s.keys
}

func (s *space) flags(k int) int { return k & 0xffff }

// body is the part of key k's value that follows the key.
func (s *space) body(k int) []byte {
	at := int(uint32(k) * 2654435761 % fillerShifts)
	return s.filler[at : at+s.valueSize-s.keySize]
}

// matches reports whether b is the stretch of key k's value that begins at off.
func (s *space) matches(k, off int, b []byte) bool {
	if off < s.keySize {
		n := min(s.keySize-off, len(b))
		if !bytes.Equal(b[:n], s.key(k)[off:off+n]) {
			return false
		}
		if b = b[n:]; len(b) == 0 {
			return true
		}
		off = s.keySize
	}
	off -= s.keySize
	return bytes.Equal(b, s.body(k)[off:off+len(b)])
}

// appendRequest appends r as the text protocol has it.
func (s *space) appendRequest(dst []byte, r request) []byte {
	k := int(r.first)
	if r.op == opSet {
		dst = append(dst, "set "...)
		dst = append(dst, s.key(k)...)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, int64(s.flags(k)), 10)
		dst = append(dst, " 0 "...)
		dst = strconv.AppendInt(dst, int64(s.valueSize), 10)
		dst = append(dst, crlf...)
		dst = append(dst, s.key(k)...)
		dst = append(dst, s.body(k)...)
		return append(dst, crlf...)
	}
	if r.n == 1 {
		return append(dst, s.gets[k*s.stride():(k+1)*s.stride()]...)
	}
	dst = append(dst, s.verb[:len(s.verb)-1]...)
	for i := range int(r.n) {
		dst = append(dst, ' ')
		dst = append(dst, s.key((k+i*int(r.step))%s.keys)...)
	}
	return append(dst, crlf...)
}

// asked finds name among the keys r asks for: the key's number, and which of
// r's keys it is, counted from 0.
func (s *space) asked(r request, name []byte) (k, i int, ok bool) {
	if r.n == 1 {
		k = int(r.first)
		return k, 0, bytes.Equal(name, s.key(k))
	}
	if k, ok = s.index(name); !ok {
		return 0, 0, false
	}
	d := k - int(r.first)
	if d < 0 {
		d += s.keys
	}
	i = d / int(r.step)
	return k, i, d%int(r.step) == 0 && i < int(r.n)
}

// source chooses the requests of one worker.
type source struct {
	space      *space
	rng        rand.PCG
	sets, both uint64 // weights: sets of sets+gets
	multi      int
	// inOrder makes it write every key once, in order, from next: a preload.
	inOrder bool
	next    uint32
}

func newSource(s *space, c Config, worker int) *source {
	return &source{
		space: s, rng: *rand.NewPCG(c.Seed, uint64(worker)),
		sets: uint64(c.Sets), both: uint64(c.Sets + c.Gets), multi: c.MultiGet,
	}
}

func (s *source) request() request {
	if s.inOrder {
		s.next++
		return request{op: opSet, n: 1, first: s.next - 1}
	}
	r := s.rng.Uint64()
	key := uint32(uint64(uint32(r)) * uint64(s.space.keys) >> 32)
	if (r>>32)*s.both>>32 < s.sets {
		return request{op: opSet, n: 1, first: key}
	}
	if s.multi == 1 {
		return request{op: opGet, n: 1, first: key}
	}
	steps := uint64(s.space.keys / s.multi)
	return request{op: opGet, n: uint8(s.multi), first: key, step: 1 + uint32(s.rng.Uint64()>>32*steps>>32)}
}
