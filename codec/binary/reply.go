package binary

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"

	"magent/codec/text"
)

// Status is how a request ended.
type Status uint16

// What memcached answers with, and StatusInternal, which stands for what it cannot
// meet with: the nodes do not answer.
const (
	StatusOK        Status = 0x00
	StatusNotFound  Status = 0x01
	StatusExists    Status = 0x02
	StatusTooLarge  Status = 0x03
	StatusInvalid   Status = 0x04
	StatusNotStored Status = 0x05
	StatusNoNumber  Status = 0x06
	StatusNotKnown  Status = 0x20 // authentication: no, or not yet
	StatusContinue  Status = 0x21 // the same: a step is to follow
	StatusUnknown   Status = 0x81
	StatusNoMemory  Status = 0x82
	StatusInternal  Status = 0x84
)

// words is the body of an error, by its status. (write_bin_error of memcached)
func (s Status) words() string {
	switch s {
	case StatusNotFound:
		return "Not found"
	case StatusExists:
		return "Data exists for key."
	case StatusTooLarge:
		return "Too large."
	case StatusInvalid:
		return "Invalid arguments"
	case StatusNotStored:
		return "Not stored."
	case StatusNoNumber:
		return "Non-numeric server-side value for incr or decr"
	case StatusNotKnown:
		return "Auth failure."
	case StatusUnknown:
		return "Unknown command"
	case StatusNoMemory:
		return "Out of memory"
	}
	return ""
}

// NoValue says that no value follows what AppendReply has appended.
const NoValue = -1

// Asked is what an answer must repeat of its request.
type Asked struct {
	Opcode Opcode
	Opaque uint32
}

// AppendReply puts the line that b begins with, a part of the answer to what AppendLine
// made of a request, as a response: dst grows by all of it but a value. n is how much
// of b that was; behind it stand a value of the given length, which is to follow what
// was appended, and its CRLF; or nothing of this line, if value is NoValue.
//
// Nothing is appended where a quiet command keeps the answer to itself. The count that
// an ma answers with must be in b as a whole. An answer to a command that says the key
// has it behind a k, in base64 if a b follows: see AppendKey.
func AppendReply(dst, b []byte, asked Asked) (out []byte, n, value int) {
	op := asked.Opcode
	if cas, n := stored(b); n > 0 && op != Touch {
		return appendStored(dst, cas, asked), n, NoValue
	}
	n = bytes.IndexByte(b, '\n') + 1
	line := b[:n-len(crlf)]
	word, rest := cut(line)
	switch string(word) {
	case "VALUE":
		out, value = appendHit(dst, rest, asked)
		return out, n, value
	case "VA":
		w := readWords(rest, true)
		if loud := op.Loud(); loud == Increment || loud == Decrement {
			count := number(b[n : n+int(w.size)])
			return appendCount(dst, count, w.cas, asked), n + int(w.size) + len(crlf), NoValue
		}
		return appendValue(dst, &w, asked), n, int(w.size)
	case "STAT":
		name, what := cut(rest)
		dst = appendHeader(dst, asked, StatusOK, header{key: len(name), body: len(name) + len(what)})
		return append(append(dst, name...), what...), n, NoValue
	case "END":
		return appendHeader(dst, asked, StatusOK, header{}), n, NoValue
	case "VERSION":
		return append(appendHeader(dst, asked, StatusOK, header{body: len(rest)}), rest...), n, NoValue
	case "SASL":
		return appendSASL(dst, rest, asked), n, NoValue
	case "EN":
		return appendMiss(dst, rest, asked), n, NoValue
	case "HD", "OK", "MN", "RESET":
		return appendDone(dst, rest, asked), n, NoValue
	}
	return appendError(dst, line, word, asked), n, NoValue
}

var crlf = []byte("\r\n")

// stored reads the line of most answers to writes: HD and a version, or HD alone. n is how
// long it is, 0 if b begins with another.
func stored(b []byte) (cas uint64, n int) {
	if len(b) < len("HD\r\n") || b[0] != 'H' || b[1] != 'D' {
		return 0, 0
	}
	at := len("HD")
	if b[at] == ' ' {
		const most = 19 // digits that no number outgrows
		if b[at+1] != 'c' {
			return 0, 0
		}
		digits := b[len("HD c"):]
		for i, c := range digits[:min(most, len(digits))] {
			d := c - '0'
			if d > 9 {
				break
			}
			cas, at = cas*10+uint64(d), len("HD c")+i+1
		}
	}
	if at+len(crlf) > len(b) || b[at] != '\r' {
		return 0, 0
	}
	return cas, at + len(crlf)
}

// appendStored puts that a write was done, and the version that it made.
func appendStored(dst []byte, cas uint64, asked Asked) []byte {
	if asked.Opcode.Quiet() {
		return dst
	}
	return appendHeader(dst, asked, StatusOK, header{cas: cas})
}

// header is the lengths and the version in the header of a response.
type header struct {
	extras, key, body int // body has the others in it
	cas               uint64
}

func appendHeader(dst []byte, asked Asked, s Status, h header) []byte {
	dst = binary.BigEndian.AppendUint64(dst, magicReply<<56|uint64(asked.Opcode)<<48|uint64(uint16(h.key))<<32|uint64(uint8(h.extras))<<24|uint64(s))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.body)<<32|uint64(asked.Opaque))
	return binary.BigEndian.AppendUint64(dst, h.cas)
}

// Hit is what a VALUE line says.
type Hit struct {
	Key   []byte
	Flags uint32
	Size  uint32
	Cas   uint64
}

// Parse reads what follows the key in a VALUE line: flags, size and version.
func (h *Hit) Parse(rest []byte) {
	var n uint64
	n, rest = digits(rest)
	h.Flags = uint32(n)
	n, rest = digits(rest)
	h.Size = uint32(n)
	h.Cas = number(rest)
}

// AppendHit puts h as a response without its value, which is to follow.
func AppendHit(dst []byte, h *Hit, asked Asked) []byte {
	w := words{size: h.Size, flags: h.Flags, cas: h.Cas, key: h.Key}
	return appendValue(dst, &w, asked)
}

// appendHit puts what follows VALUE.
func appendHit(dst, rest []byte, asked Asked) ([]byte, int) {
	var h Hit
	h.Key, rest = cut(rest)
	h.Parse(rest)
	return AppendHit(dst, &h, asked), int(h.Size)
}

// appendValue puts all of a hit but its value.
func appendValue(dst []byte, w *words, asked Asked) []byte {
	key := 0
	if asked.Opcode.Named() {
		key = w.keyLen()
	}
	dst = appendHeader(dst, asked, StatusOK, header{extras: 4, key: key, body: 4 + key + int(w.size), cas: w.cas})
	dst = binary.BigEndian.AppendUint32(dst, w.flags)
	if key > 0 {
		dst = w.appendKey(dst)
	}
	return dst
}

func appendCount(dst []byte, count, cas uint64, asked Asked) []byte {
	if asked.Opcode.Quiet() {
		return dst
	}
	dst = appendHeader(dst, asked, StatusOK, header{body: 8, cas: cas})
	return binary.BigEndian.AppendUint64(dst, count)
}

// appendMiss puts that there is no item; rest is the key, if the answer must say it.
func appendMiss(dst, rest []byte, asked Asked) []byte {
	switch {
	case asked.Opcode.Quiet():
		return dst
	case !asked.Opcode.Named():
		return appendFailure(dst, StatusNotFound, StatusNotFound.words(), asked)
	}
	w := readWords(rest, false)
	n := w.keyLen()
	return w.appendKey(appendHeader(dst, asked, StatusNotFound, header{key: n, body: n}))
}

// appendDone puts that something was done. A touch says the item's flags.
func appendDone(dst, rest []byte, asked Asked) []byte {
	w := readWords(rest, false)
	if asked.Opcode != Touch {
		return appendStored(dst, w.cas, asked)
	}
	dst = appendHeader(dst, asked, StatusOK, header{extras: 4, body: 4, cas: w.cas})
	return binary.BigEndian.AppendUint32(dst, w.flags)
}

// appendSASL puts words that a client that says who it is is told; none asks it to go on.
func appendSASL(dst, words []byte, asked Asked) []byte {
	if len(words) == 0 {
		return appendHeader(dst, asked, StatusContinue, header{})
	}
	return append(appendHeader(dst, asked, StatusOK, header{body: len(words)}), words...)
}

func appendFailure[S string | []byte](dst []byte, s Status, words S, asked Asked) []byte {
	return append(appendHeader(dst, asked, s, header{body: len(words)}), words...)
}

// appendError puts that something was not done, and why. (complete_update_bin,
// process_bin_delete, complete_incr_bin, process_bin_flush and out_of_memory of memcached)
func appendError(dst, line, word []byte, asked Asked) []byte {
	loud := asked.Opcode.Loud()
	s := StatusInternal
	switch string(word) {
	case "NS":
		s = StatusNotStored
		switch loud {
		case Add:
			s = StatusExists
		case Replace:
			s = StatusNotFound
		}
	case "EX":
		s = StatusExists
	case "NF":
		s = StatusNotFound
	case "ERROR":
		s = StatusUnknown
		if loud == Stat {
			s = StatusNotFound
		}
	case "CLIENT_ERROR":
		s = StatusInvalid
		switch {
		case bytes.HasSuffix(line, noNumber):
			s = StatusNoNumber
		case bytes.HasSuffix(line, notKnown), bytes.HasSuffix(line, notAllowed):
			s = StatusNotKnown
		}
	case "SERVER_ERROR":
		why := line[min(len(line), len("SERVER_ERROR ")):]
		switch {
		case bytes.HasPrefix(why, tooLarge):
			s = StatusTooLarge
		case bytes.HasPrefix(why, noMemory):
			return appendFailure(dst, StatusNoMemory, outOfMemory(loud), asked)
		default:
			return appendFailure(dst, s, why, asked)
		}
	}
	return appendFailure(dst, s, s.words(), asked)
}

var (
	noNumber   = []byte("non-numeric value")
	notKnown   = []byte(lineNotKnownTail)
	notAllowed = []byte("flush_all not allowed")
	tooLarge   = []byte("object too large")
	noMemory   = []byte("out of memory")
)

// outOfMemory is what memcached says when it has no room, by what it needs it for.
func outOfMemory(loud Opcode) string {
	switch loud {
	case Set, Add, Replace, Append, Prepend:
		return "Out of memory allocating item"
	case Increment, Decrement:
		return "Out of memory incrementing value"
	}
	return StatusNoMemory.words()
}

// AppendKey appends to dst, which is a line of an answer, without its line end, the key
// that was asked for, in base64 if coded is set, and the line end: so that AppendReply
// can say it.
func AppendKey(dst, key []byte, coded bool) []byte {
	dst = append(append(dst, " k"...), key...)
	if coded {
		dst = append(dst, " b"...)
	}
	return append(dst, crlf...)
}

// words is what a reply line says.
type words struct {
	size, flags uint32
	cas         uint64
	key         []byte
	coded       bool
}

// readWords reads the flags of a meta reply, behind the size if there is one.
func readWords(rest []byte, sized bool) (w words) {
	var word []byte
	if sized {
		word, rest = cut(rest)
		w.size = uint32(number(word))
	}
	for len(rest) > 0 {
		if word, rest = cut(rest); len(word) == 0 {
			continue
		}
		switch arg := word[1:]; word[0] {
		case 'f':
			w.flags = uint32(number(arg))
		case 'c':
			w.cas = number(arg)
		case 'k':
			w.key = arg
		case 'b':
			w.coded = len(arg) == 0
		}
	}
	return w
}

// keyLen is the length of the key itself.
func (w *words) keyLen() int {
	if !w.coded {
		return len(w.key)
	}
	return len(w.key)/4*3 - (len(w.key) - len(bytes.TrimRight(w.key, "=")))
}

func (w *words) appendKey(dst []byte) []byte {
	if !w.coded {
		return append(dst, w.key...)
	}
	var key [text.MaxKey]byte
	n, _ := base64.StdEncoding.Decode(key[:], w.key) // it is what AppendLine wrote
	return append(dst, key[:n]...)
}

// cut splits b at its first space.
func cut(b []byte) (word, rest []byte) {
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// number reads the digits that b begins with.
func number(b []byte) uint64 {
	v, _ := digits(b)
	return v
}

// digits is number, and what stands behind the byte that ends the digits.
func digits(b []byte) (v uint64, rest []byte) {
	for i, c := range b {
		d := c - '0'
		if d > 9 || v > math.MaxUint64/10 {
			return v, b[i+1:]
		}
		v = v*10 + uint64(d)
	}
	return v, nil
}
