package text

import (
	"bytes"

	"magent/codec"
)

// meta reads the meta command m<c>. Only what decides the framing, the key and
// who must be asked is looked at; flags are judged by the node, whose version
// knows which ones it has.
func (p *parser) meta(c byte) {
	switch c {
	case 'g':
		p.metaCommand(codec.OpMetaGet, 2, codec.FaultFlagsTooLong)
	case 's':
		p.metaCommand(codec.OpMetaSet, 3, codec.FaultOptionsTooLong)
	case 'd':
		p.metaCommand(codec.OpMetaDelete, 2, codec.FaultOptionsTooLong)
	case 'a':
		p.metaCommand(codec.OpMetaArith, 2, codec.FaultOptionsTooLong)
	case 'e':
		p.metaDebug()
	case 'n':
		p.req.Op = codec.OpMetaNoop
	default:
		p.fault(codec.FaultError)
	}
}

// metaCommand reads a command whose flags begin at token flagsAt.
func (p *parser) metaCommand(op codec.Op, flagsAt int, tooMany codec.Fault) {
	p.req.Op = op
	switch {
	case p.n < 2:
		p.fault(codec.FaultError)
		return
	case !p.key(1), op == codec.OpMetaSet && p.n == 2:
		p.fault(codec.FaultFormat)
		return
	case p.n > maxMetaTokens:
		p.fault(tooMany)
		return
	}
	if op == codec.OpMetaSet && !p.size(2) {
		p.fault(codec.FaultFormat)
		return
	}
	p.flags(flagsAt)
}

// flags notes which flags stand from token at on. A q that stands alone is taken
// off on the way to the node, and so is honoured here.
func (p *parser) flags(at int) {
	quiet := 0
	for i := at; i < p.n; i++ {
		t := p.text(i)
		switch c := t[0]; {
		case c == 'q':
			quiet++
		case c == 'M' && len(t) > 1: // memcached 1.6.45 looks at no further letter, 1.6.18 refuses one
			p.req.Mode = t[1]
		}
		if isLetter(t[0]) {
			p.req.Meta |= codec.Letter(t[0])
		}
	}
	// Two of them are the client's mistake, which the node is left to name.
	if quiet == 1 {
		p.req.Flags |= codec.FlagQuiet
	}
}

func (p *parser) metaDebug() {
	p.req.Op = codec.OpMetaDebug
	if p.n < 2 || !p.key(1) {
		p.fault(codec.FaultFormat)
		return
	}
	if p.n >= 3 && string(p.text(2)) == "b" {
		p.req.Meta |= codec.Letter('b')
	}
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// RouteKey returns the bytes that decide where the key lives: the key itself, or
// what its base64 stands for, decoded into buf, which must hold MaxKey bytes. A
// key in base64 and the same key written plainly are one key to memcached. What is
// not base64 gives no bytes: any node may be asked, because all refuse it.
func RouteKey(key []byte, meta codec.Letters, buf []byte) []byte {
	if !meta.Has('b') {
		return key
	}
	return decode(key, buf[:0])
}

// SameKey reports whether a key that a node names is the key that a client wrote,
// each in base64 or not: a node names a key in the form it was stored in, which
// need not be the one it was asked for in.
func SameKey(named []byte, namedCoded bool, written []byte, writtenCoded bool) bool {
	if namedCoded == writtenCoded && bytes.Equal(named, written) {
		return true
	}
	var a, b [MaxKey]byte
	if namedCoded && len(named) <= len(a)*4/3+4 {
		named = decode(named, a[:0])
	}
	if writtenCoded {
		written = decode(written, b[:0])
	}
	return len(named) > 0 && bytes.Equal(named, written)
}

// letters64 maps a base64 character to its value, 0x80 for any other.
var letters64 = func() (t [256]byte) {
	for i := range t {
		t[i] = 0x80
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['='] = 0
	return t
}()

// decode appends what src stands for to dst, as memcached's base64_decode does:
// characters outside the alphabet are skipped, and what remains must come in
// fours, padded at the end. It returns dst unchanged if src is not base64.
func decode(src, dst []byte) []byte {
	start := dst
	var quad [4]byte
	n, pad := 0, 0
	count := 0
	for _, c := range src {
		if letters64[c] != 0x80 {
			count++
		}
	}
	if count == 0 || count%4 != 0 {
		return start
	}
	for _, c := range src {
		v := letters64[c]
		if v == 0x80 {
			continue
		}
		if c == '=' {
			pad++
		}
		quad[n] = v
		if n++; n < 4 {
			continue
		}
		n = 0
		dst = append(dst, quad[0]<<2|quad[1]>>4, quad[1]<<4|quad[2]>>2, quad[2]<<6|quad[3])
		if pad > 2 {
			return start
		}
		if pad > 0 {
			return dst[:len(dst)-pad]
		}
	}
	return dst
}

// maxValue is the largest value that memcached's arithmetic has room for.
const maxValue = 1<<31 - 3

// size takes token i as the number of bytes of the value, false if it is none. Of
// a number beyond 32 bits memcached keeps the low ones. A size that is not written
// the way the proxy would is a riddle to other versions: the line is not sent on.
func (p *parser) size(i int) bool {
	b := p.text(i)
	v, plain := plainDigits(b)
	if !plain {
		n, ok := Int(b)
		if !ok {
			return false
		}
		v = uint64(n)
	}
	n := int32(v)
	if n < 0 || n > maxValue {
		return false
	}
	p.req.Value = uint32(n)
	p.clean = p.clean && plain && v == uint64(n) && (b[0] != '0' || len(b) == 1)
	return true
}

// plainDigits reads a number as nearly all are written: digits only, and so few
// that they cannot overflow.
func plainDigits(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		d := c - '0'
		if d > 9 {
			return 0, false
		}
		v = v*10 + uint64(d)
	}
	return v, true
}

// Int reads a decimal as C's strtol(3) does for memcached's safe_strtol:
// leading white space and a sign are taken, white space or the token's end must
// follow, and what does not fit 64 bits fails.
func Int(b []byte) (int64, bool) {
	if v, ok := plainDigits(b); ok {
		return int64(v), true
	}
	b, neg := signed(b)
	v, ok := digits(b)
	switch {
	case !ok:
		return 0, false
	case neg && v <= 1<<63:
		return -int64(v), true
	case !neg && v < 1<<63:
		return int64(v), true
	}
	return 0, false
}

// Uint reads a decimal as C's strtoul(3) does for memcached's safe_strtoul:
// a negative number wraps, and is refused if it is then still negative when seen
// as a signed one.
func Uint(b []byte) (uint64, bool) {
	if v, ok := plainDigits(b); ok {
		return v, true
	}
	rest, neg := signed(b)
	v, ok := digits(rest)
	if !ok {
		return 0, false
	}
	if neg {
		v = -v
	}
	if int64(v) < 0 && bytes.IndexByte(b, '-') >= 0 {
		return 0, false
	}
	return v, true
}

func signed(b []byte) ([]byte, bool) {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		return b[1:], b[0] == '-'
	}
	return b, false
}

func digits(b []byte) (v uint64, ok bool) {
	for i, c := range b {
		if c < '0' || c > '9' {
			return v, i > 0 && isSpace(c)
		}
		d := uint64(c - '0')
		if v > (1<<64-1-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, len(b) > 0
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
