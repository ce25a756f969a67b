package text

import "bytes"

// A client that is to say who it is says so by a set, whose key, flags and exptime are
// not looked at, and whose value is a user and a password with a space between. (That,
// and what else is taken, as try_read_command_asciiauth of memcached 1.6.18 has it; a
// size that it would count modulo 2^32 is none here.)

// LoginSize reads the line of such a set, and returns how many bytes of value it says,
// without the CRLF behind them. ok is false of any other line.
func LoginSize(line []byte) (size int, ok bool) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	var word []byte
	for i := range 5 {
		if word, line = nextWord(line); len(word) == 0 || i == 0 && string(word) != "set" {
			return 0, false
		}
	}
	digits := bytes.TrimRight(word, "\r\t\v\f")
	if len(digits) == 0 || len(digits) > len("4294967295") {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		size = size*10 + int(c-'0')
	}
	return size, size <= 1<<32-1
}

// Login reads the value of such a set, without the CRLF behind it. ok is false if no two
// words are in it. They are views of value.
func Login(value []byte) (name, password []byte, ok bool) {
	name, value = nextWord(value)
	password, _ = nextWord(value)
	return name, password, len(password) > 0
}

// nextWord cuts the first word off b: blanks are spaces and nothing else.
func nextWord(b []byte) (word, rest []byte) {
	b = bytes.TrimLeft(b, " ")
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}
