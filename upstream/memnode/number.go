package memnode

import (
	"bytes"
	"math"
)

// Numbers are read as memcached reads them, with C's strtoul family: leading
// white space and a sign are allowed, what follows the digits must be white
// space or nothing, a negative number wraps around, and a type of 32 bits takes
// the low bits of the 64 that were read.

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// digits reads sign and magnitude. Overflow of 64 bits is not ok.
func digits(b []byte) (v uint64, neg, ok bool) {
	i := 0
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		neg = b[i] == '-'
		i++
	}
	first := i
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		if v > (math.MaxUint64-d)/10 {
			return 0, neg, false
		}
		v = v*10 + d
	}
	return v, neg, i > first && (i == len(b) || b[i] == 0 || isSpace(b[i]))
}

func parseU64(b []byte) (uint64, bool) {
	v, neg, ok := digits(b)
	if !ok {
		return 0, false
	}
	if neg {
		v = -v
	}
	// memcached looks for a sign anywhere, but only in numbers of 64 bits.
	if int64(v) < 0 && bytes.IndexByte(cstring(b), '-') >= 0 {
		return 0, false
	}
	return v, true
}

func parseU32(b []byte) (uint32, bool) {
	v, ok := parseU64(b)
	return uint32(v), ok
}

func parseI32(b []byte) (int32, bool) {
	v, neg, ok := digits(b)
	switch {
	case !ok, neg && v > 1<<63, !neg && v > math.MaxInt64:
		return 0, false
	case neg:
		return int32(-v), true
	}
	return int32(v), true
}

// cstring cuts b at its first NUL, where C sees its end.
func cstring(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}
