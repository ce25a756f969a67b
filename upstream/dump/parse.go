package dump

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"

	"magent/codec/text"
)

// Entry is what the list says of one item. Times are Unix times by the node's clock, in
// seconds.
type Entry struct {
	Key        []byte // as it is, not as it is listed; a view, until the Parser's next call
	Exp        int64  // when it expires; -1: never
	LastAccess int64  // memcached notes only an access that comes a minute after the last noted
	CAS        uint64
	Fetched    bool
	Class      int    // of slabs
	Size       int    // in bytes, with key and header
	Flags      uint64 // what the client stored with it; listed from 1.6.24 on, else 0
}

// Base64 reports whether the key can be named in base64 only (the meta flag b): it holds
// a byte that ends a key, or a line, of the text protocol. Any other is named as it is,
// in classic and meta commands, even if a client wrote it in base64: to memcached both
// are one key. It may be too long for the other form.
func (e *Entry) Base64() bool {
	for _, c := range e.Key {
		if c == ' ' || c == '\n' || c == 0 { // 1.6.18 reads a line as a C string
			return true
		}
	}
	return false
}

// maxLine bounds a line of the list, in bytes without its end. The longest that
// memcached writes has a key of text.MaxKey bytes, each of them escaped, and some 200
// bytes of fields.
const maxLine = 2048

// Refused is the line that a node answers when it does not list its keys.
type Refused string

func (r Refused) Error() string { return fmt.Sprintf("the node answered %.80q", string(r)) }

// Busy reports whether the node may list its keys later: the crawler is at work for
// somebody else, or for the node itself, or the hash table is growing.
func (r Refused) Busy() bool {
	return strings.HasPrefix(string(r), "BUSY") || strings.HasPrefix(string(r), "ERROR locked")
}

// refusals are the first words of a Refused.
var refusals = []string{"BUSY", "ERROR", "CLIENT_ERROR", "SERVER_ERROR", "BADCLASS", "NOTSTARTED"}

// Malformed is a line, or the beginning of one, that is none of a list.
type Malformed string

func (m Malformed) Error() string { return fmt.Sprintf("no line of a list of keys: %.80q", string(m)) }

// Parser reads the answer to metadump. The zero value is at its beginning.
//
// The answer is, since memcached 1.6.43, a line OK; then a line for each item, with a bare
// LF; then END (crawler_metadump_eval in crawler.c):
//
//	key=a%20b exp=-1 la=1795403088 cas=1 fetch=no cls=1 size=67 flags=0
//
// In the key, all bytes but letters, digits and -._~ are escaped (uriencode in util.c),
// whichever way the client wrote it. Fields of other names are passed over.
type Parser struct {
	begun bool
	key   [text.MaxKey]byte
}

// Next reads the answer's next bytes up to the end of an item's line, and no further. It
// returns how many bytes are done with, and ok if e is the item. Without ok and an
// error, the rest of in is the beginning of a line, to be given again with more behind
// it. The error is io.EOF behind END, a Refused, or a Malformed.
func (p *Parser) Next(in []byte, e *Entry) (n int, ok bool, err error) {
	for {
		i := bytes.IndexByte(in[n:], '\n')
		whole := i >= 0
		if !whole {
			i = len(in) - n
		}
		if i > maxLine {
			return n, false, Malformed(in[n : n+maxLine])
		}
		if !whole {
			return n, false, nil
		}
		line := bytes.TrimSuffix(in[n:n+i], []byte("\r"))
		n += i + 1
		first := !p.begun
		p.begun = true
		switch {
		case bytes.HasPrefix(line, []byte("key=")):
			if !p.entry(line, e) {
				return n, false, Malformed(line)
			}
			return n, true, nil
		case first && string(line) == "OK":
		case string(line) == "END":
			return n, false, io.EOF
		default:
			return n, false, refusal(line)
		}
	}
}

// refusal is the error of a line that is no item's.
func refusal(line []byte) error {
	word, _, _ := bytes.Cut(line, []byte(" "))
	for _, r := range refusals {
		if string(word) == r {
			return Refused(line)
		}
	}
	return Malformed(line)
}

// entry reads the line of an item.
func (p *Parser) entry(line []byte, e *Entry) (ok bool) {
	*e = Entry{Exp: -1}
	for rest := line; len(rest) > 0; {
		field := rest
		if i := bytes.IndexByte(rest, ' '); i >= 0 {
			field, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		i := bytes.IndexByte(field, '=')
		if i < 0 {
			continue
		}
		value := field[i+1:]
		var v uint64
		ok := true
		switch string(field[:i]) {
		case "key":
			e.Key, ok = p.unescape(value)
		case "exp":
			e.Exp, ok = signed(value)
		case "la":
			e.LastAccess, ok = signed(value)
		case "cas":
			e.CAS, ok = number(value)
		case "fetch":
			e.Fetched = string(value) == "yes"
		case "cls":
			v, ok = number(value)
			e.Class, ok = int(v), ok && v <= math.MaxInt32
		case "size":
			v, ok = number(value)
			e.Size, ok = int(v), ok && v <= math.MaxInt32
		case "flags":
			e.Flags, ok = number(value)
		}
		if !ok {
			return false
		}
	}
	return true
}

// unescape returns the key that is listed as src: a view of src if nothing in it is
// escaped, else of p.
func (p *Parser) unescape(src []byte) (key []byte, ok bool) {
	if bytes.IndexByte(src, '%') < 0 {
		return src, len(src) > 0 && len(src) <= text.MaxKey
	}
	key = p.key[:0]
	for i := 0; i < len(src); i++ {
		c := src[i]
		if c == '%' {
			if len(src)-i < 3 {
				return nil, false
			}
			high, low := hex[src[i+1]], hex[src[i+2]]
			if high|low > 15 {
				return nil, false
			}
			c = high<<4 | low
			i += 2
		}
		if len(key) == text.MaxKey {
			return nil, false
		}
		key = append(key, c)
	}
	return key, true
}

// hex is the value of a hexadecimal digit, 255 of any other byte.
var hex = func() (t [256]byte) {
	for c := range t {
		t[c] = 255
		if i := strings.IndexByte("0123456789abcdef", byte(c)|' '); i >= 0 && c != i {
			t[c] = byte(i)
		}
	}
	return t
}()

// number reads a number that is nothing but digits.
func number(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || v > (math.MaxUint64-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, len(b) > 0
}

// signed reads a number that may have a minus sign.
func signed(b []byte) (int64, bool) {
	digits := bytes.TrimPrefix(b, []byte("-"))
	v, ok := number(digits)
	if !ok || v > math.MaxInt64 {
		return 0, false
	}
	if len(digits) < len(b) {
		return -int64(v), true
	}
	return int64(v), true
}
