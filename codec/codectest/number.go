package codectest

import (
	"encoding/base64"
	"math"
	"math/big"
	"regexp"
	"strings"
)

// number is what strtol(3) takes in base ten, with white space or nothing behind
// it, as safe_strtol demands.
var number = regexp.MustCompile(`^[ \t\n\v\f\r]*([+-]?)([0-9]+)(?s:[ \t\n\v\f\r].*)?$`)

func parts(s string) (negative bool, magnitude *big.Int, ok bool) {
	m := number.FindStringSubmatch(s)
	if m == nil {
		return false, nil, false
	}
	magnitude, ok = new(big.Int).SetString(m[2], 10)
	return m[1] == "-", magnitude, ok
}

// Int reads s as memcached's safe_strtol does, before it cuts it down to 32 bits.
func Int(s string) (int64, bool) {
	negative, n, ok := parts(s)
	if !ok {
		return 0, false
	}
	if negative {
		n.Neg(n)
	}
	return n.Int64(), n.IsInt64()
}

// Uint reads s as memcached's safe_strtoull does: strtoull negates in 64 bits, and
// what then has the top bit is refused if there is a minus anywhere.
func Uint(s string) (uint64, bool) {
	negative, n, ok := parts(s)
	if !ok || !n.IsUint64() {
		return 0, false
	}
	u := n.Uint64()
	if negative {
		u = -u
	}
	if u > math.MaxInt64 && strings.Contains(s, "-") {
		return 0, false
	}
	return u, true
}

// Size reads the number of bytes of a value: an Int of which 32 bits are kept and
// which, with its CRLF, must not overflow them.
func Size(s string) (uint32, bool) {
	n, ok := Int(s)
	size := int32(n)
	if !ok || size < 0 || size > math.MaxInt32-2 {
		return 0, false
	}
	return uint32(size), true
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// Decode reads base64 as memcached's base64_decode does: other characters are
// skipped, what is left must come in fours, and the first four with a = in it are
// the last that count. It is false for what memcached does not take.
func Decode(s string) (string, bool) {
	var clean strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(alphabet, c) >= 0 {
			clean.WriteByte(c)
		}
	}
	s = clean.String()
	if s == "" || len(s)%4 != 0 {
		return "", false
	}
	var out strings.Builder
	for ; s != ""; s = s[4:] {
		quad := s[:4]
		pad := strings.Count(quad, "=")
		if pad > 2 {
			return "", false
		}
		// A = counts as no bits wherever it stands, which is what A means.
		three, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(quad, "=", "A"))
		if err != nil {
			return "", false
		}
		out.Write(three[:3-pad])
		if pad > 0 {
			break
		}
	}
	return out.String(), true
}
