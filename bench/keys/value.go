package keys

import (
	"bytes"
	"hash/crc32"
)

// The form of a value of n bytes:
//
//	n >= len(key)+28   KEY RRRRRRRR SSSSSSSS CCCCCCCC filler
//	shorter            CCCCCCCC KEY filler, cut off at n bytes
//
// R is the run, S the number of the write in it, C the CRC-32C (RFC 3720, appendix
// B.4) of the value's other bytes, or, of a short one, of the key; each eight
// hexadecimal digits. A short value names no write: it can be told from another key's,
// and not from a stale one. Below eight bytes it cannot always be told from another
// key's: n bytes are by chance the same for one key in 16^n.

const (
	// fillerShifts is how many different fillers the values of a space have.
	fillerShifts = 4096
	// markSize is " RRRRRRRR SSSSSSSS", sumSize " CCCCCCCC ".
	markSize, sumSize = 18, 10
	// Overhead is what a value must have beyond its key to name the write.
	Overhead = markSize + sumSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Mark names a write: which run of a load generator it belongs to, and which write
// of its key it was there, counted from 1. The zero Mark names none.
type Mark struct{ Run, Seq uint32 }

// AppendValue appends the value of size bytes that write m gives key k. size must not
// be above the Config's MaxValue.
func (s *Space) AppendValue(dst []byte, k int, m Mark, size int) []byte {
	start := len(dst)
	dst = s.AppendKey(dst, k)
	name := len(dst) - start
	if size < name+Overhead {
		return s.appendShort(dst[:start], k, size)
	}
	dst = appendHex(append(dst, ' '), m.Run)
	dst = appendHex(append(dst, ' '), m.Seq)
	sumAt := len(dst)
	dst = append(dst, " 00000000 "...)
	dst = append(dst, s.stretch(uint32(k)+m.Seq*2654435761, size-name-Overhead)...)
	sum := crc32.Update(crc32.Checksum(dst[start:sumAt], castagnoli), castagnoli, dst[sumAt+sumSize:])
	appendHex(dst[:sumAt+1], sum)
	return dst
}

func (s *Space) appendShort(dst []byte, k, size int) []byte {
	start := len(dst)
	dst = append(dst, "00000000 "...)
	at := len(dst)
	dst = s.AppendKey(dst, k)
	appendHex(dst[:start], crc32.Checksum(dst[at:], castagnoli))
	dst = append(dst, ' ')
	if rest := size - (len(dst) - start); rest > 0 {
		dst = append(dst, s.stretch(uint32(k), rest)...)
	}
	return dst[:start+size]
}

// stretch is n bytes of filler, others for other seeds.
func (s *Space) stretch(seed uint32, n int) []byte {
	at := int(seed % fillerShifts)
	return s.filler[at : at+n]
}

const hexDigits = "0123456789abcdef"

func appendHex(dst []byte, v uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[v>>shift&15])
	}
	return dst
}

// hexValues is what each byte is as a hexadecimal digit, and 0xff for one that is none.
// The digits of checksums come in no order that a processor could learn, so branches
// would cost more than the table.
var hexValues = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for v, c := range []byte(hexDigits) {
		t[c] = byte(v)
	}
	return t
}()

// hex reads eight lower-case hexadecimal digits.
func hex(b []byte) (v uint32, ok bool) {
	var all byte
	for _, c := range b[:8] {
		d := hexValues[c]
		all |= d
		v = v<<4 | uint32(d&15)
	}
	return v, all < 16
}

// Check checks one value while it streams past, in whatever pieces it comes. Begin
// makes it ready for the next; the zero value is ready for Begin.
type Check struct {
	size  int // of the value
	front int // how much of it is kept in head
	n     int // how much has come
	sum   uint32
	head  [MaxKey + Overhead]byte
	// want[:known] is what head must begin with: the key, or all of a short value.
	known int
	want  [MaxKey + Overhead]byte
}

// Begin starts on a value of size bytes that should be key k's.
func (c *Check) Begin(s *Space, k, size int) {
	c.size, c.n, c.sum = size, 0, 0
	c.known = len(s.AppendKey(c.want[:0], k))
	c.front = min(c.known+Overhead, size)
	if c.short() {
		s.appendShort(c.want[:0], k, size)
		c.known = size
	}
}

// short says whether the value names no write.
func (c *Check) short() bool { return c.size < c.known+Overhead }

// Feed takes the next bytes of the value, of which there must not be more than size
// in all.
func (c *Check) Feed(b []byte) {
	if c.n < c.front {
		n := copy(c.head[c.n:c.front], b)
		c.n += n
		if b = b[n:]; c.n < c.front || c.short() {
			return
		}
		c.sum = crc32.Checksum(c.head[:c.front-sumSize], castagnoli)
	}
	c.sum = crc32.Update(c.sum, castagnoli, b)
	c.n += len(b)
}

// End says whether the value was whole and key k's, and which write it is of: none
// if it is too short to say.
func (c *Check) End() (m Mark, ok bool) {
	if c.n != c.size || !bytes.Equal(c.head[:c.known], c.want[:c.known]) {
		return Mark{}, false
	}
	if c.short() {
		return Mark{}, true
	}
	h := c.head[c.known:c.front]
	run, ok1 := hex(h[1:])
	seq, ok2 := hex(h[10:])
	sum, ok3 := hex(h[markSize+1:])
	ok = ok1 && ok2 && ok3 && sum == c.sum &&
		h[0] == ' ' && h[9] == ' ' && h[markSize] == ' ' && h[Overhead-1] == ' '
	return Mark{Run: run, Seq: seq}, ok
}
