package wire

import (
	"bytes"
	"fmt"
	"strconv"

	"magent/bench/keys"
)

// maxLine bounds a reply line: VALUE, a key of 250 bytes and three numbers, or
// an error with its text.
const maxLine = 2048

// Reply is what one reply said.
type Reply struct {
	// Hits, Misses and Wrong count keys. A value is wrong if it is not what its key
	// must hold, or if nobody asked for it.
	Hits, Misses, Wrong uint8
	// Failed says that it was an error line, or that a Set was not stored.
	Failed bool
}

// Scanner reads the replies on one connection, in whatever pieces they come. It knows
// nothing of sockets: the caller hands it bytes and the request they should answer.
// Space must be set; the other fields are answers.
type Scanner struct {
	Space *keys.Space
	// Marks are the marks of the values in the last reply, by the place of their key
	// in the request; bit i of Seen says whether there was one.
	Marks [MaxKeys]keys.Mark
	Seen  uint64
	// ErrLine is the first error line met.
	ErrLine string

	carry []byte // a line cut off by the end of a read
	fresh bool   // the reply has not begun
	// A value under way: left counts its bytes still to come, line end included;
	// slot is the place of its key in the request, -1 when it is known to be wrong.
	left, size, slot int
	check            keys.Check
	out              Reply
}

// Next consumes b up to the end of the reply to r.
//
//	n, true, nil    the reply ended at b[:n]; the outcome is its account
//	n, false, nil   n is len(b): more bytes are needed
//	_, _, err       the stream is out of step and cannot be followed
//
// It keeps no reference to b.
func (s *Scanner) Next(b []byte, r *Request) (n int, out Reply, done bool, err error) {
	if s.fresh {
		s.Seen, s.fresh = 0, false
	}
	for n < len(b) {
		if s.left > 0 {
			m, err := s.value(b[n:])
			if err != nil {
				return n, Reply{}, false, err
			}
			n += m
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
		done, err := s.line(line, r)
		if done || err != nil {
			out = s.out
			s.out, s.fresh = Reply{}, true
			return n, out, done, err
		}
	}
	return n, Reply{}, false, nil
}

// line takes one reply line, line end included, and says whether it ends the
// reply to r.
func (s *Scanner) line(line []byte, r *Request) (done bool, err error) {
	if len(line) > maxLine || !bytes.HasSuffix(line, []byte(crlf)) {
		return false, outOfStep(line, r)
	}
	text := line[:len(line)-len(crlf)]
	switch {
	case r.Op != Set && bytes.HasPrefix(text, []byte("VALUE ")):
		if !s.header(text[len("VALUE "):], r) {
			return false, outOfStep(line, r)
		}
		return false, nil
	case r.Op != Set && string(text) == "END":
		s.out.Misses = r.Keys - min(r.Keys, s.out.Hits+s.out.Wrong)
		return true, nil
	case r.Op == Set && string(text) == "STORED":
		return true, nil
	case isError(text), r.Op == Set && string(text) == "NOT_STORED":
		s.out.Failed = true
		if s.ErrLine == "" {
			s.ErrLine = string(text)
		}
		return true, nil
	}
	return false, outOfStep(line, r)
}

func isError(text []byte) bool {
	return string(text) == "ERROR" ||
		bytes.HasPrefix(text, []byte("ERROR ")) ||
		bytes.HasPrefix(text, []byte("CLIENT_ERROR")) ||
		bytes.HasPrefix(text, []byte("SERVER_ERROR"))
}

func outOfStep(line []byte, r *Request) error {
	verb := "get"
	if r.Op == Set {
		verb = "set"
	}
	return fmt.Errorf("wire: stream out of step: a %s was answered %.80q", verb, line)
}

// header takes what follows "VALUE ": key, flags, length, and the version if it
// was asked for. It returns false if the line is of another form; any other
// fault makes the value wrong, and the value is skipped.
func (s *Scanner) header(text []byte, r *Request) bool {
	sp := bytes.IndexByte(text, ' ')
	if sp < 0 {
		return false
	}
	flags, rest, ok := number(text[sp+1:])
	if !ok || len(rest) == 0 || rest[0] != ' ' {
		return false
	}
	size, rest, ok := number(rest[1:])
	if !ok || size > keys.MaxValue || !versioned(r, rest) {
		return false
	}
	s.size, s.left, s.slot = size, size+len(crlf), -1
	k, ok := s.Space.Index(text[:sp])
	if !ok {
		return true
	}
	i, ok := r.asked(k, s.Space.Len())
	if ok && s.Seen&(1<<i) == 0 && uint32(flags) == s.Space.Flags(k) {
		s.Seen |= 1 << i
		s.slot = i
		s.check.Begin(s.Space, k, size)
	}
	return true
}

// versioned says whether a VALUE line may end in rest: a blank and a version of
// 64 bits after a gets, nothing after a get.
func versioned(r *Request, rest []byte) bool {
	if r.Op != Gets || len(rest) == 0 || rest[0] != ' ' {
		return r.Op != Gets && len(rest) == 0
	}
	_, err := strconv.ParseUint(string(rest[1:]), 10, 64)
	return err == nil
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

// account books the value that just ended. The counts saturate: a reply can
// carry more wrong values than it was asked for keys.
func (s *Scanner) account() {
	if s.slot >= 0 {
		if m, ok := s.check.End(); ok {
			s.Marks[s.slot] = m
			s.out.Hits++
			return
		}
		s.Seen &^= 1 << s.slot
	}
	if s.out.Wrong < 255 {
		s.out.Wrong++
	}
}

// number reads a decimal from the front of b.
func number(b []byte) (v int, rest []byte, ok bool) {
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		if v = v*10 + int(b[i]-'0'); v > 1<<40 {
			return 0, nil, false
		}
		i++
	}
	return v, b[i:], i > 0
}
