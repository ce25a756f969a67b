package memnode

import "encoding/base64"

// decodeKey decodes a base64 key in place, as leniently as memcached: characters
// outside the alphabet are skipped, the rest must come in fours, and a group
// with padding ends the key.
func decodeKey(b []byte) ([]byte, bool) {
	n := 0
	for _, c := range b {
		if c == '=' || sextet(c) >= 0 {
			n++
		}
	}
	if n == 0 || n%4 != 0 {
		return nil, false
	}
	out := b[:0]
	var group uint32
	n, pad := 0, 0
	for _, c := range b {
		v := sextet(c)
		if c == '=' {
			v, pad = 0, pad+1
		}
		if v < 0 {
			continue
		}
		group = group<<6 | uint32(v)
		if n++; n < 4 {
			continue
		}
		if pad > 2 {
			return nil, false
		}
		three := [3]byte{byte(group >> 16), byte(group >> 8), byte(group)}
		out = append(out, three[:3-pad]...)
		if pad > 0 {
			break
		}
		group, n = 0, 0
	}
	return out, true
}

// sextet is the value of a base64 character, -1 if it is none.
func sextet(c byte) int {
	switch {
	case c >= 'A' && c <= 'Z':
		return int(c - 'A')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 26
	case c >= '0' && c <= '9':
		return int(c-'0') + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return -1
}

// appendKey appends a key as a meta reply shows it.
func appendKey(b []byte, key string, binary bool) []byte {
	b = append(b, ' ', 'k')
	if !binary {
		return append(b, key...)
	}
	b = base64.StdEncoding.AppendEncode(b, []byte(key))
	return append(b, " b"...)
}
