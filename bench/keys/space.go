// Package keys says which keys a load asks for and what each must hold: the key space,
// how keys are drawn from it, how large values are, and what is in them.
//
// A value names its key, the run that wrote it, which write of that run it was, and a
// CRC-32C of all of it, so that a reader who knows nothing else can tell a good value
// from a wrong one, and a fresh one from a stale one.
//
// A Space is read-only once made and shared by all workers; a Draw and a Check belong
// to one goroutine. The package imports the standard library only.
package keys

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// MaxKey is the longest key memcached takes, in bytes.
const MaxKey = 250

// counterInfix is what a counter's name has between prefix and number.
const counterInfix = "counter:"

// MaxValue is the largest value a Space makes, in bytes: memcached's own limit of -I.
const MaxValue = 1 << 30

// Config describes a key space. The zero value of a field means its default.
type Config struct {
	// Prefix begins every key. Default "key:".
	Prefix string
	// Min and Max bound the keys' numbers, both included. Default 0 and 9999.
	Min, Max int
	// Size is the length of every key in bytes, to which its number is padded with
	// zeros. Default 0: as long as it comes out.
	Size int
	// MaxValue is the length of the largest value that will be asked for, in bytes.
	// Default 100.
	MaxValue int
}

// WithDefaults is c with its zero fields filled in.
func (c Config) WithDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "key:"
	}
	if c.Max == 0 {
		c.Max = max(c.Min, 9999)
	}
	if c.MaxValue == 0 {
		c.MaxValue = 100
	}
	return c
}

// Validate reports every fault of c at once. It does not fill in defaults.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("keys: "+format, args...))
		}
	}
	longest := len(c.Prefix) + len(strconv.Itoa(c.Max))
	check(c.Min >= 0 && c.Max >= c.Min && c.Max < math.MaxInt32, "numbers %d to %d are not in 0..%d", c.Min, c.Max, math.MaxInt32-1)
	check(longest+len(counterInfix) <= MaxKey, "prefix, %q and number have %d bytes, and %d at most", counterInfix, longest+len(counterInfix), MaxKey)
	check(c.Size == 0 || c.Size <= MaxKey && c.Size >= longest, "key size (%d) must hold prefix and number (%d) and be at most %d", c.Size, longest, MaxKey)
	check(c.MaxValue >= 0 && c.MaxValue <= MaxValue, "value size (%d) must be in 0..%d", c.MaxValue, MaxValue)
	for _, b := range []byte(c.Prefix) {
		if b <= ' ' || b == 0x7f {
			check(false, "prefix %q has a blank or a control byte in it", c.Prefix)
			break
		}
	}
	return errors.Join(errs...)
}

// Space is the keys there are, counted from 0 whatever their numbers are, and the
// bytes that values are made of.
type Space struct {
	prefix   string
	blank    string // prefix, and zeros for the longest name
	first, n int
	size     int
	filler   []byte
}

// NewSpace makes the space of c, which must be valid.
func NewSpace(c Config) *Space {
	c = c.WithDefaults()
	s := &Space{prefix: c.Prefix, first: c.Min, n: c.Max - c.Min + 1, size: c.Size}
	s.blank = c.Prefix + strings.Repeat("0", MaxKey-len(c.Prefix))
	// All 256 byte values, line ends among them: whoever looks for END instead
	// of counting bytes will show.
	r := rand.New(rand.NewPCG(1, 2))
	s.filler = make([]byte, c.MaxValue+fillerShifts)
	for i := range s.filler {
		s.filler[i] = byte(r.Uint32())
	}
	return s
}

// Len is how many keys there are.
func (s *Space) Len() int { return s.n }

// AppendKey appends the name of key k.
func (s *Space) AppendKey(dst []byte, k int) []byte {
	number := uint64(s.first + k)
	size := s.size
	if size == 0 {
		size = len(s.prefix) + digits(number)
	}
	dst = append(dst, s.blank[:size]...)
	for at := len(dst) - 1; number > 0; at-- {
		dst[at] = '0' + byte(number%10)
		number /= 10
	}
	return dst
}

// digits is how many digits n has.
func digits(n uint64) int {
	d := 1
	for p := uint64(10); n >= p; p *= 10 {
		d++
	}
	return d
}

// Index is the inverse of AppendKey; false for a name outside the space.
func (s *Space) Index(name []byte) (k int, ok bool) {
	if len(name) <= len(s.prefix) || len(name) > MaxKey || string(name[:len(s.prefix)]) != s.prefix {
		return 0, false
	}
	number := name[len(s.prefix):]
	for _, c := range number {
		if c < '0' || c > '9' || k > math.MaxInt32 {
			return 0, false
		}
		k = k*10 + int(c-'0')
	}
	if s.size > 0 && len(name) != s.size || s.size == 0 && len(number) != digits(uint64(k)) {
		return 0, false
	}
	k -= s.first
	return k, k >= 0 && k < s.n
}

// AppendCounter appends the name of counter c, of as many as there are keys: no key of
// the space has it.
func (s *Space) AppendCounter(dst []byte, c int) []byte {
	dst = append(append(dst, s.prefix...), counterInfix...)
	return strconv.AppendUint(dst, uint64(s.first+c), 10)
}

// Flags are the flags that key k is stored with.
func (s *Space) Flags(k int) uint32 { return uint32(k) & 0xffff }
