package repair

import "bytes"

var crlf = []byte("\r\n")

// Code is the status of a meta reply.
type Code uint8

// The codes, as memcached's doc/protocol.txt names them. CodeError stands for
// ERROR, CLIENT_ERROR, SERVER_ERROR and whatever else is no answer to a meta command.
const (
	CodeError Code = iota
	CodeHD         // done
	CodeVA         // done, a value follows
	CodeEN         // mg: there is no item
	CodeNS         // ms: not stored, a condition does not hold
	CodeEX         // the version is another one
	CodeNF         // there is no item
)

// Marks are the letters that a node adds to an item by itself.
type Marks uint8

const (
	MarkWon   Marks = 1 << iota // W: whoever asked shall make the item anew
	MarkStale                   // X: the item was invalidated and not made anew yet
	MarkSent                    // Z: somebody has been given the W
)

// Forever is the TTL of an item that does not expire.
const Forever int64 = -1

// Reply is what a meta reply line says. A flag that the line lacks is zero.
type Reply struct {
	Code  Code
	Marks Marks
	Size  uint32 // VA: bytes of the value, without its CRLF
	Cas   uint64 // c
	Flags uint64 // f
	TTL   int64  // t: seconds that remain, Forever, or 0 for an item that has just expired
}

// Has reports whether all of m are set.
func (r *Reply) Has(m Marks) bool { return r.Marks&m == m }

// ParseReply reads a meta reply line, its line end may be missing. Spaces alone end
// a word: a key, or an opaque, may have a CR in it.
func ParseReply(line []byte) (r Reply) {
	line = bytes.TrimSuffix(line, crlf)
	word, rest := cut(line)
	if len(word) != 2 {
		return Reply{}
	}
	switch string(word) {
	case "HD":
		r.Code = CodeHD
	case "VA":
		word, rest = cut(rest)
		size, ok := number(word)
		if !ok || size > 1<<31-3 {
			return Reply{}
		}
		r.Code, r.Size = CodeVA, uint32(size)
	case "EN":
		r.Code = CodeEN
	case "NS":
		r.Code = CodeNS
	case "EX":
		r.Code = CodeEX
	case "NF":
		r.Code = CodeNF
	default:
		return Reply{}
	}
	for len(rest) > 0 {
		if word, rest = cut(rest); len(word) > 0 && !r.flag(word[0], word[1:]) {
			return Reply{}
		}
	}
	return r
}

// flag takes one flag of a reply, and reports false if its argument is unfit.
func (r *Reply) flag(c byte, arg []byte) (ok bool) {
	switch c {
	case 'c':
		r.Cas, ok = number(arg)
		return ok
	case 'f':
		r.Flags, ok = number(arg)
		return ok
	case 't':
		if string(arg) == "-1" {
			r.TTL = Forever
			return true
		}
		ttl, ok := number(arg)
		// The node subtracts without looking: an item that expires while it is
		// being read has a TTL just below 2^32.
		if ttl > 1<<31 {
			ttl = 0
		}
		r.TTL = int64(ttl)
		return ok
	case 'W':
		r.Marks |= MarkWon
	case 'X':
		r.Marks |= MarkStale
	case 'Z':
		r.Marks |= MarkSent
	}
	return true
}

// cut splits b behind its first word.
func cut(b []byte) (word, rest []byte) {
	i := 0
	for i < len(b) && b[i] != ' ' {
		i++
	}
	word = b[:i]
	for i < len(b) && b[i] == ' ' {
		i++
	}
	return word, b[i:]
}

// number reads digits alone that fit 64 bits.
func number(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || v > (1<<64-1-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, len(b) > 0
}
