package wire

import (
	"bytes"
	"fmt"
	"math"

	"magent/bench/keys"
)

// The way of a reply, functions in the order it takes:
//
//	Next → lines → line → textLine → textHeader ↘
//	     ↘              ↘ metaLine → metaHeader → begin → start → value → account
//	      packets       ↘ refuse
//	      (binary.go)

// maxLine bounds a reply line: VALUE, a key of 250 bytes and three numbers, or
// an error with its text.
const maxLine = 2048

// Status is how a request ended.
type Status uint8

// The ways. A get that finds nothing is OK and counts Misses.
const (
	OK       Status = iota
	Failed          // an error line, or not stored
	Exists          // a CAS of a version that is no more
	NotFound        // a CAS, Incr, Delete or Touch of what is not there
)

var statusNames = [...]string{"ok", "failed", "exists", "not found"}

func (s Status) String() string { return statusNames[s] }

// Reply is what one reply said.
type Reply struct {
	// Hits, Misses and Wrong count the keys of a Get. A value is wrong if it is not
	// what its key must hold, or if nobody asked for it. A key whose answer was an
	// error is none of them.
	Hits, Misses, Wrong int
	Status              Status
	// Number is what an Incr made of its counter.
	Number uint64
	// Version is that of the good value that a Gets of one key brought; else 0.
	Version uint64
}

// Scanner reads the replies on one connection, in whatever pieces they come. It knows
// nothing of sockets: the caller hands it bytes and the request they should answer.
// Space and Dialect must be set; the other fields are answers. Once the stream is out
// of step nothing more can be read with it.
type Scanner struct {
	Space   *keys.Space
	Dialect Dialect
	// Marks are those of the good values in the last reply, by the place of their key
	// in the request, zero for one too short to name its write; bit i of Seen says
	// whether there was one.
	Marks [MaxKeys]keys.Mark
	Seen  uint64
	// ErrLine is the first line met that said that a request Failed.
	ErrLine string

	carry []byte // a line cut off by the end of a read
	fresh bool   // the reply has not begun
	out   Reply
	// refused counts the error lines in the answer to a meta Get of several keys.
	refused int
	// digits is the length of the number that the next line must be; 0: it need not.
	digits int
	// A value under way: left counts its bytes still to come, line end included;
	// slot is the place of its key in the request, -1 when it is known to be wrong.
	left, size, slot int
	version          uint64
	check            keys.Check
}

// Next consumes b up to the end of the reply to r.
//
//	n, reply, true, nil   the reply ended at b[:n]
//	n, _, false, nil      n is len(b): more bytes are needed
//	_, _, _, err          the stream is out of step and cannot be followed
//
// It keeps no reference to b, and allocates only for a line cut in two, once, and for
// ErrLine.
func (s *Scanner) Next(b []byte, r *Request) (n int, out Reply, done bool, err error) {
	if s.fresh {
		s.Seen, s.fresh = 0, false
	}
	if s.Dialect == Binary {
		n, done, err = s.packets(b, r)
	} else {
		n, done, err = s.lines(b, r)
	}
	if done {
		out = s.out
		s.out, s.refused, s.fresh = Reply{}, 0, true
	}
	return n, out, done, err
}

// lines is Next up to the end of a reply in lines.
func (s *Scanner) lines(b []byte, r *Request) (n int, done bool, err error) {
	for n < len(b) && !done {
		if s.left > 0 {
			var m int
			if m, err = s.value(b[n:], r); err != nil {
				return n, false, err
			}
			n += m
			done = s.left == 0 && s.Dialect == Meta && r.Keys == 1
			continue
		}
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			s.carry = append(s.carry, b[n:]...)
			if len(s.carry) > maxLine {
				return n, false, fmt.Errorf("reply line of more than %d bytes: %.40q…", maxLine, s.carry)
			}
			return len(b), false, nil
		}
		line := b[n : n+end+1]
		n += end + 1
		if len(s.carry) > 0 {
			s.carry = append(s.carry, line...)
			line = s.carry
			s.carry = s.carry[:0]
		}
		if done, err = s.line(line, r); err != nil {
			return n, false, err
		}
	}
	return n, done, nil
}

// line takes one reply line, line end included, and says whether it ends the
// reply to r.
func (s *Scanner) line(line []byte, r *Request) (done bool, err error) {
	if len(line) > maxLine || !bytes.HasSuffix(line, []byte(crlf)) {
		return false, outOfStep(line, r)
	}
	text := line[:len(line)-len(crlf)]
	var ok bool
	if s.digits > 0 {
		done, ok = true, len(text) == s.digits && s.counted(text)
		s.digits = 0
	} else {
		if s.Dialect == Meta {
			done, ok = s.metaLine(text, r)
		} else {
			done, ok = s.textLine(text, r)
		}
		if !ok {
			done, ok = s.refuse(text, r)
		}
	}
	if !ok {
		return false, outOfStep(line, r)
	}
	return done, nil
}

func outOfStep(line []byte, r *Request) error {
	return fmt.Errorf("stream out of step: a %s was answered %.80q", r.Op, line)
}

// ending is a line that ends a reply, and what it means.
type ending struct {
	text string
	is   Status
}

// endings are what each operation may be answered with besides an error, a value and
// a number.
var endings = [2][Ops][]ending{
	Text: {
		Get:        {{"END", OK}},
		Gets:       {{"END", OK}},
		Set:        {{"STORED", OK}, {"NOT_STORED", Failed}},
		CAS:        {{"STORED", OK}, {"EXISTS", Exists}, {"NOT_FOUND", NotFound}, {"NOT_STORED", Failed}},
		Incr:       {{"NOT_FOUND", NotFound}},
		Delete:     {{"DELETED", OK}, {"NOT_FOUND", NotFound}},
		Touch:      {{"TOUCHED", OK}, {"NOT_FOUND", NotFound}},
		SetCounter: {{"STORED", OK}, {"NOT_STORED", Failed}},
	},
	Meta: {
		Get:        {{"EN", OK}},
		Gets:       {{"EN", OK}},
		Set:        {{"HD", OK}, {"NS", Failed}},
		CAS:        {{"HD", OK}, {"EX", Exists}, {"NF", NotFound}, {"NS", Failed}},
		Incr:       {{"NF", NotFound}, {"NS", Failed}},
		Delete:     {{"HD", OK}, {"NF", NotFound}},
		Touch:      {{"HD", OK}, {"EN", NotFound}},
		SetCounter: {{"HD", OK}, {"NS", Failed}},
	},
}

// closing ends a meta Get of several keys.
var closing = []ending{{"MN", OK}}

// end takes text if it is one of the endings of r.
func (s *Scanner) end(text []byte, of []ending, r *Request) bool {
	for _, e := range of {
		if string(text) != e.text {
			continue
		}
		if e.is != OK {
			s.out.Status = e.is
		}
		if e.is == Failed {
			s.keep(text)
		}
		if r.Op == Get || r.Op == Gets {
			s.out.Misses = max(0, int(r.Keys)-s.out.Hits-s.out.Wrong-s.refused)
		}
		return true
	}
	return false
}

func (s *Scanner) keep(text []byte) {
	if s.ErrLine == "" {
		s.ErrLine = string(text)
	}
}

// refuse takes text if it is an error. It ends the reply, but for a meta Get of
// several keys: each is a command of its own, and mn has yet to be answered.
func (s *Scanner) refuse(text []byte, r *Request) (done, ok bool) {
	word, _, _ := bytes.Cut(text, blank)
	switch string(word) {
	case "ERROR", "CLIENT_ERROR", "SERVER_ERROR":
	default:
		return false, false
	}
	s.out.Status = Failed
	s.keep(text)
	if s.Dialect == Text || r.Keys == 1 {
		return true, true
	}
	s.refused++
	return false, s.refused <= int(r.Keys)
}

// textLine takes a line of the text protocol that is no error.
func (s *Scanner) textLine(text []byte, r *Request) (done, ok bool) {
	if s.end(text, endings[Text][r.Op], r) {
		return true, true
	}
	switch r.Op {
	case Get, Gets:
		rest, ok := bytes.CutPrefix(text, []byte("VALUE "))
		return false, ok && s.textHeader(rest, r)
	case Incr:
		return true, s.counted(text)
	}
	return false, false
}

var blank = []byte(" ")

// textHeader takes what follows "VALUE ": key, flags, length, and the version if it
// was asked for.
func (s *Scanner) textHeader(text []byte, r *Request) bool {
	name, text, ok1 := bytes.Cut(text, blank)
	flags, text, ok2 := bytes.Cut(text, blank)
	size, version, versioned := bytes.Cut(text, blank)
	return ok1 && ok2 && versioned == (r.Op == Gets) && s.begin(name, flags, size, version, r)
}

// metaLine takes a line of the meta protocol that is no error.
func (s *Scanner) metaLine(text []byte, r *Request) (done, ok bool) {
	of := endings[Meta][r.Op]
	if r.Keys > 1 {
		of = closing
	}
	if s.end(s.unnamed(text, r), of, r) {
		return true, true
	}
	rest, ok := bytes.CutPrefix(text, []byte("VA "))
	if !ok {
		return false, false
	}
	switch r.Op {
	case Get, Gets:
		return false, s.metaHeader(rest, r)
	case Incr:
		size, ok := number(rest)
		if !ok || size == 0 || size > maxDigits {
			return false, false
		}
		s.digits = int(size)
		return false, true
	}
	return false, false
}

// unnamed is text without the key, if it names the one that was asked for and is not
// there. memcached does that where k is asked for; its doc/protocol.txt has EN alone.
func (s *Scanner) unnamed(text []byte, r *Request) []byte {
	name, ok := bytes.CutPrefix(text, []byte("EN k"))
	if !ok || r.Op != Get && r.Op != Gets {
		return text
	}
	if k, ok := s.Space.Index(name); ok && k == int(r.Key) {
		return text[:len("EN")]
	}
	return text
}

// maxDigits is how long a number of 64 bits is.
const maxDigits = 20

// metaHeader takes what follows "VA ": length, and the flags that were asked for: k,
// f, and of a Gets c, each once, in any order.
func (s *Scanner) metaHeader(text []byte, r *Request) bool {
	var name, flags, version []byte // nil until it comes
	size, text, more := bytes.Cut(text, blank)
	for more {
		var field []byte
		if field, text, more = bytes.Cut(text, blank); len(field) == 0 {
			return false
		}
		var to *[]byte
		switch field[0] {
		case 'k':
			to = &name
		case 'f':
			to = &flags
		case 'c':
			to = &version
		}
		if to == nil || *to != nil {
			return false
		}
		*to = field[1:]
	}
	return name != nil && flags != nil && (version != nil) == (r.Op == Gets) && s.begin(name, flags, size, version, r)
}

// begin starts on the value that a header announced. It returns false if the header is
// of another form; any other fault makes the value wrong, and the value is skipped.
func (s *Scanner) begin(name, flags, size, version []byte, r *Request) bool {
	f, ok1 := number(flags)
	n, ok2 := number(size)
	v, ok3 := number(version)
	if !ok1 || !ok2 || n > keys.MaxValue || r.Op == Gets && !ok3 {
		return false
	}
	k, known := s.Space.Index(name)
	s.start(k, known, f, int(n), v, r)
	return true
}

// start is begin for a value of key k, if that is known, with flags f and version v.
func (s *Scanner) start(k int, known bool, f uint64, size int, v uint64, r *Request) {
	s.size, s.left, s.slot = size, size+len(s.valueEnd()), -1
	if !known {
		return
	}
	i, ok := r.asked(k, s.Space.Len())
	if ok && s.Seen&(1<<i) == 0 && f == uint64(s.Space.Flags(k)) {
		s.Seen |= 1 << i
		s.slot, s.version = i, v
		s.check.Begin(s.Space, k, s.size)
	}
}

// valueEnd is what follows a value.
func (s *Scanner) valueEnd() string {
	if s.Dialect == Binary {
		return ""
	}
	return crlf
}

// value takes the next bytes of the value under way and returns how many.
func (s *Scanner) value(b []byte, r *Request) (int, error) {
	n := min(len(b), s.left)
	off := s.size + len(s.valueEnd()) - s.left // of b[0] in the value and its line end
	cut := max(0, min(n, s.size-off))          // b[:cut] is value, b[cut:n] line end
	if s.slot >= 0 {
		s.check.Feed(b[:cut])
	}
	if cut < n {
		at := off + cut - s.size
		if string(b[cut:n]) != crlf[at:at+n-cut] {
			return 0, fmt.Errorf("value of %d bytes ends in %q, not in a line end", s.size, b[cut:n])
		}
	}
	if s.left -= n; s.left == 0 {
		s.account(r)
	}
	return n, nil
}

// account books the value that just ended.
func (s *Scanner) account(r *Request) {
	if s.slot >= 0 {
		if m, ok := s.check.End(); ok {
			s.Marks[s.slot] = m
			s.out.Hits++
			if r.Keys == 1 {
				s.out.Version = s.version
			}
			return
		}
		s.Seen &^= 1 << s.slot
	}
	s.out.Wrong++
}

// counted takes text as the number that an Incr made.
func (s *Scanner) counted(text []byte) (ok bool) {
	s.out.Number, ok = number(text)
	return ok
}

// number reads all of b as a decimal of 64 bits. It is 0 if it cannot.
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
