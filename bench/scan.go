package bench

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxLine bounds a reply line: VALUE, a key of 250 bytes and three numbers, or
// an error with its text.
const maxLine = 2048

// maxValue bounds the length a VALUE line may claim: past it the line is not
// believed.
const maxValue = 1 << 30

// outcome is what one reply said.
type outcome struct {
	hits, misses, wrong uint8
	failed              bool // an error line, or a set that was not stored
}

// scanner reads the replies on one connection, in whatever pieces they come.
// It knows nothing of sockets: the worker hands it bytes and the request they
// should answer.
type scanner struct {
	space *space
	carry []byte // a line cut off by the end of a read
	// A value under way: left counts its bytes still to come, line end
	// included; key is whose it should be, -1 when it is known to be wrong.
	left, size, key int
	seen            uint64 // bit i: the request's key i was answered
	out             outcome
	errLine         string // the first error line met
}

// next consumes b up to the end of the reply to r.
//
//	n, true, nil    the reply ended at b[:n]; the outcome is its account
//	n, false, nil   n is len(b): more bytes are needed
//	_, _, err       the stream is out of step and cannot be followed
//
// It keeps no reference to b.
func (s *scanner) next(b []byte, r request) (n int, out outcome, done bool, err error) {
	for n < len(b) {
		if s.left > 0 {
			m, err := s.value(b[n:])
			if err != nil {
				return n, outcome{}, false, err
			}
			n += m
			continue
		}
		end := bytes.IndexByte(b[n:], '\n')
		if end < 0 {
			s.carry = append(s.carry, b[n:]...)
			if len(s.carry) > maxLine {
				return n, outcome{}, false, fmt.Errorf("bench: reply line of more than %d bytes: %.40q…", maxLine, s.carry)
			}
			return len(b), outcome{}, false, nil
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
			s.out, s.seen = outcome{}, 0
			return n, out, done, err
		}
	}
	return n, outcome{}, false, nil
}

// line takes one reply line, line end included, and says whether it ends the
// reply to r.
func (s *scanner) line(line []byte, r request) (done bool, err error) {
	if len(line) > maxLine || !bytes.HasSuffix(line, []byte(crlf)) {
		return false, outOfStep(line, r)
	}
	text := line[:len(line)-len(crlf)]
	switch {
	case r.op == opGet && bytes.HasPrefix(text, []byte("VALUE ")):
		if !s.header(text[len("VALUE "):], r) {
			return false, outOfStep(line, r)
		}
		return false, nil
	case r.op == opGet && string(text) == "END":
		s.out.misses = r.n - min(r.n, s.out.hits+s.out.wrong)
		return true, nil
	case r.op == opSet && string(text) == "STORED":
		return true, nil
	case isError(text), r.op == opSet && string(text) == "NOT_STORED":
		s.out.failed = true
		if s.errLine == "" {
			s.errLine = string(text)
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

func outOfStep(line []byte, r request) error {
	verb := "get"
	if r.op == opSet {
		verb = "set"
	}
	return fmt.Errorf("bench: stream out of step: a %s was answered %.80q", verb, line)
}

// header takes what follows "VALUE ": key, flags, length, and the version if it
// was asked for. It returns false if the line is of another form; any other
// fault makes the value wrong, and the value is skipped.
func (s *scanner) header(text []byte, r request) bool {
	sp := bytes.IndexByte(text, ' ')
	if sp < 0 {
		return false
	}
	flags, rest, ok := number(text[sp+1:])
	if !ok || len(rest) == 0 || rest[0] != ' ' {
		return false
	}
	size, rest, ok := number(rest[1:])
	if !ok || size > maxValue || !s.versioned(rest) {
		return false
	}
	s.size, s.left, s.key = size, size+len(crlf), -1
	k, i, ok := s.space.asked(r, text[:sp])
	if ok && s.seen&(1<<i) == 0 && flags == s.space.flags(k) && size == s.space.valueSize {
		s.seen |= 1 << i
		s.key = k
	}
	return true
}

// versioned says whether a VALUE line may end in rest: a blank and a version of
// 64 bits after a gets, nothing after a get.
func (s *scanner) versioned(rest []byte) bool {
	if !s.space.cas || len(rest) == 0 || rest[0] != ' ' {
		return !s.space.cas && len(rest) == 0
	}
	_, err := strconv.ParseUint(string(rest[1:]), 10, 64)
	return err == nil
}

// value takes the next bytes of the value under way and returns how many.
func (s *scanner) value(b []byte) (int, error) {
	n := min(len(b), s.left)
	off := s.size + len(crlf) - s.left // of b[0] in the value and its line end
	cut := max(0, min(n, s.size-off))  // b[:cut] is value, b[cut:n] line end
	if s.key >= 0 && cut > 0 && !s.space.matches(s.key, off, b[:cut]) {
		s.key = -1
	}
	if cut < n {
		at := off + cut - s.size
		if string(b[cut:n]) != crlf[at:at+n-cut] {
			return 0, fmt.Errorf("bench: value of %d bytes ends in %q, not in a line end", s.size, b[cut:n])
		}
	}
	if s.left -= n; s.left == 0 {
		s.account()
	}
	return n, nil
}

// account books the value that just ended. The counts saturate: a reply can
// carry more wrong values than it was asked for keys.
func (s *scanner) account() {
	if s.key >= 0 {
		s.out.hits++
	} else if s.out.wrong < 255 {
		s.out.wrong++
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
