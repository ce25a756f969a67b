package wire

import (
	"bytes"
	"fmt"
	"math"

	"magent/bench/keys"
)

// The way of a reply, functions in the order it takes:
//
//	Next → line → textLine, metaLine → header, metaHeader → value → account

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
// Space and Dialect must be set; the other fields are answers.
type Scanner struct {
	Space   *keys.Space
	Dialect Dialect
	// Marks are the marks of the values in the last reply, by the place of their key
	// in the request; bit i of Seen says whether there was one.
	Marks [MaxKeys]keys.Mark
	Seen  uint64
	// ErrLine is the first error line met.
	ErrLine string

	carry []byte // a line cut off by the end of a read
	fresh bool   // the reply has not begun
	out   Reply
	// refused counts the error lines in the answer to a meta Get of several keys.
	refused int
	// digits is the length of the number that the next line must be; 0: no number.
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
// It keeps no reference to b.
func (s *Scanner) Next(b []byte, r *Request) (n int, out Reply, done bool, err error) {
	if s.fresh {
		s.Seen, s.fresh = 0, false
	}
	for n < len(b) && !done {
		if s.left > 0 {
			var m int
			if m, err = s.value(b[n:]); err != nil {
				return n, Reply{}, false, err
			}
			n += m
			done = s.left == 0 && s.Dialect == Meta && r.Keys == 1
			continue
		}
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			s.carry = append(s.carry, b[n:]...)
			if len(s.carry) > maxLine {
				return n, Reply{}, false, fmt.Errorf("wire: reply line of more than %d bytes: %.40q…", maxLine, s.carry)
			}
			return len(b), Reply{}, false, nil
		}
		line := b[n : n+end+1]
		n += end + 1
		if len(s.carry) > 0 {
			s.carry = append(s.carry, line...)
			line = s.carry
			s.carry = s.carry[:0]
		}
		if done, err = s.line(line, r); err != nil {
			return n, Reply{}, false, err
		}
	}
	if done {
		out = s.out
		s.out, s.refused, s.fresh = Reply{}, 0, true
	}
	return n, out, done, nil
}

// line takes one reply line, line end included, and says whether it ends the
// reply to r.
func (s *Scanner) line(line []byte, r *Request) (done bool, err error) {
	if len(line) > maxLine || !bytes.HasSuffix(line, []byte(crlf)) {
		return false, outOfStep(line, r)
	}
	text := line[:len(line)-len(crlf)]
	var ok bool
	switch {
	case s.digits > 0:
		done, ok = true, len(text) == s.digits && s.counted(text)
		s.digits = 0
	case isError(text):
		done, ok = s.refuse(text, r)
	case s.Dialect == Meta:
		done, ok = s.metaLine(text, r)
	default:
		done, ok = s.textLine(text, r)
	}
	if !ok {
		return false, outOfStep(line, r)
	}
	return done, nil
}

func isError(text []byte) bool {
	word, _, _ := bytes.Cut(text, []byte(" "))
	return string(word) == "ERROR" || string(word) == "CLIENT_ERROR" || string(word) == "SERVER_ERROR"
}

// refuse books an error line. It ends the reply, but for a meta Get of several
// keys: each is a command of its own, and mn has yet to be answered.
func (s *Scanner) refuse(text []byte, r *Request) (done, ok bool) {
	s.out.Status = Failed
	if s.ErrLine == "" {
		s.ErrLine = string(text)
	}
	if s.Dialect == Text || r.Keys == 1 {
		return true, true
	}
	s.refused++
	return false, s.refused <= int(r.Keys)
}

// ends is what the reply to each operation may end with besides an error, a value or
// a number, and what that means.
type ending struct {
	text string
	is   Status
}

var ends = [2][Ops][]ending{
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
		Incr:       {{"NF", NotFound}},
		Delete:     {{"HD", OK}, {"NF", NotFound}},
		Touch:      {{"HD", OK}, {"EN", NotFound}},
		SetCounter: {{"HD", OK}, {"NS", Failed}},
	},
}

// closing is what ends a meta Get of several keys.
var closing = []ending{{"MN", OK}}

// end takes text as one of them.
func (s *Scanner) end(text []byte, r *Request, of []ending) (done, ok bool) {
	for i := range of {
		if string(text) != of[i].text {
			continue
		}
		if of[i].is != OK {
			s.out.Status = of[i].is
		}
		if of[i].is == Failed && s.ErrLine == "" {
			s.ErrLine = string(text)
		}
		if r.Op == Get || r.Op == Gets {
			s.out.Misses = max(0, int(r.Keys)-s.out.Hits-s.out.Wrong-s.refused)
		}
		return true, true
	}
	return false, false
}

func (s *Scanner) textLine(text []byte, r *Request) (done, ok bool) {
	if done, ok = s.end(text, r, ends[Text][r.Op]); ok {
		return done, ok
	}
	switch r.Op {
	case Get, Gets:
		rest, found := bytes.CutPrefix(text, []byte("VALUE "))
		return false, found && s.header(rest, r)
	case Incr:
		return true, s.counted(text)
	}
	return false, false
}

// counted takes all of text as the number that an Incr made.
func (s *Scanner) counted(text []byte) bool {
	n, rest, ok := number(text)
	s.out.Number = n
	return ok && len(rest) == 0
}

// header takes what follows "VALUE ": key, flags, length, and the version if it
// was asked for. It returns false if the line is of another form; any other
// fault makes the value wrong, and the value is skipped.
func (s *Scanner) header(text []byte, r *Request) bool {
	name, text, ok1 := bytes.Cut(text, []byte(" "))
	flags, text, ok2 := number(text)
	size, text, ok3 := blankNumber(text)
	version, ok4 := uint64(0), true
	if r.Op == Gets {
		version, text, ok4 = blankNumber(text)
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || len(text) > 0 || size > keys.MaxValue {
		return false
	}
	s.begin(name, flags, size, version, r)
	return true
}

// metaLine takes a line of the meta protocol that is no error.
func (s *Scanner) metaLine(text []byte, r *Request) (done, ok bool) {
	of := ends[Meta][r.Op]
	if r.Keys > 1 {
		of = closing
	}
	if done, ok = s.end(text, r, of); ok {
		return done, ok
	}
	rest, found := bytes.CutPrefix(text, []byte("VA "))
	if !found {
		return false, false
	}
	switch r.Op {
	case Get, Gets:
		return false, s.metaHeader(rest, r)
	case Incr:
		size, rest, ok := number(rest)
		s.digits = int(min(size, maxDigits+1))
		return false, ok && len(rest) == 0 && size > 0 && size <= maxDigits
	}
	return false, false
}

// maxDigits is how long a number of 64 bits is.
const maxDigits = 20

// metaHeader takes what follows "VA ": length, and the flags that were asked for: k,
// f, and c of a Gets, each once, in any order.
func (s *Scanner) metaHeader(text []byte, r *Request) bool {
	size, text, ok := number(text)
	if !ok || size > keys.MaxValue {
		return false
	}
	var name []byte
	var flags, version uint64
	var seen, want uint8 = 0, 1 | 2
	if r.Op == Gets {
		want |= 4
	}
	for len(text) > 1 && text[0] == ' ' {
		var field []byte
		if field, text = text[1:], nil; bytes.IndexByte(field, ' ') >= 0 {
			at := bytes.IndexByte(field, ' ')
			field, text = field[:at], field[at:]
		}
		if len(field) == 0 {
			return false
		}
		var bit uint8
		rest := []byte(nil)
		switch field[0] {
		case 'k':
			bit, name = 1, field[1:]
		case 'f':
			bit = 2
			flags, rest, ok = number(field[1:])
		case 'c':
			bit = 4
			version, rest, ok = number(field[1:])
		}
		if !ok || len(rest) > 0 || want&bit == 0 || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
	if len(text) > 0 || seen != want {
		return false
	}
	s.begin(name, flags, size, version, r)
	return true
}

// begin starts on a value.
func (s *Scanner) begin(name []byte, flags, size, version uint64, r *Request) {
	s.size, s.left, s.slot = int(size), int(size)+len(crlf), -1
	k, ok := s.Space.Index(name)
	if !ok {
		return
	}
	i, ok := r.asked(k, s.Space.Len())
	if ok && s.Seen&(1<<i) == 0 && flags == uint64(s.Space.Flags(k)) {
		s.Seen |= 1 << i
		s.slot = i
		s.version = 0
		if r.Keys == 1 {
			s.version = version
		}
		s.check.Begin(s.Space, k, int(size))
	}
}

// value takes the next bytes of the value under way and returns how many.
func (s *Scanner) value(b []byte) (int, error) {
	n := min(len(b), s.left)
	off := s.size + len(crlf) - s.left // of b[0] in the value and its line end
	cut := max(0, min(n, s.size-off))  // b[:cut] is value, b[cut:n] line end
	if s.slot >= 0 {
		s.check.Feed(b[:cut])
	}
	if cut < n {
		at := off + cut - s.size
		if string(b[cut:n]) != crlf[at:at+n-cut] {
			return 0, fmt.Errorf("wire: value of %d bytes ends in %q, not in a line end", s.size, b[cut:n])
		}
	}
	if s.left -= n; s.left == 0 {
		s.account()
	}
	return n, nil
}

// account books the value that just ended.
func (s *Scanner) account() {
	if s.slot >= 0 {
		if m, ok := s.check.End(); ok {
			s.Marks[s.slot] = m
			s.out.Hits++
			s.out.Version = s.version
			return
		}
		s.Seen &^= 1 << s.slot
	}
	s.out.Wrong++
}

// number reads a decimal of 64 bits from the front of b.
func number(b []byte) (v uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		d := uint64(b[i] - '0')
		if v > (math.MaxUint64-d)/10 {
			return 0, nil, false
		}
		v = v*10 + d
	}
	return v, b[i:], i > 0
}

// blankNumber reads a blank and a number.
func blankNumber(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != ' ' {
		return 0, nil, false
	}
	return number(b[1:])
}

func outOfStep(line []byte, r *Request) error {
	return fmt.Errorf("wire: stream out of step: a %s was answered %.80q", r.Op, line)
}
