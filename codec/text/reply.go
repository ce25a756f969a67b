package text

import (
	"bytes"
	"errors"

	"magent/codec"
)

// ErrShort says that the frame is not whole yet: ask again with more bytes.
var ErrShort = errors.New("text: the line is not complete")

// ErrReply says that the bytes are no answer a memcached gives: the connection
// is out of step and must be closed.
var ErrReply = errors.New("text: not a memcached reply")

// MaxReplyLine bounds the line of a reply. A node's longest is a meta line with
// a key in base64 and an opaque, or a STAT.
const MaxReplyLine = 8 << 10

// ParseReply reads one frame of a node's answer to an op of shape s from the
// front of buf. Only the line must be there; a value may still be under way.
//
//	nil       r is filled; the frame has r.Size() bytes
//	ErrShort  no newline in buf yet
//	ErrReply  the node is out of step
func ParseReply(buf []byte, s codec.Shape, r *codec.Reply) error {
	n := bytes.IndexByte(buf, '\n')
	if n < 1 {
		if n < 0 && len(buf) <= MaxReplyLine {
			return ErrShort
		}
		return ErrReply
	}
	if buf[n-1] != '\r' || n > MaxReplyLine {
		return ErrReply
	}
	*r = codec.Reply{Line: uint32(n + 1)}
	line := buf[:n-1]
	switch s {
	case codec.ShapeValues:
		return parseValues(line, r)
	case codec.ShapeMeta:
		return parseMeta(line, r)
	case codec.ShapeStats:
		return parseStats(line, r)
	}
	return parseLine(line, r)
}

// parseLine reads an answer of one line. Nothing but memcached's own words and
// numbers is taken: anything else belongs to another request.
func parseLine(line []byte, r *codec.Reply) error {
	switch string(line) {
	case "STORED", "NOT_STORED", "EXISTS", "NOT_FOUND", "DELETED", "TOUCHED", "OK":
		return nil
	}
	switch {
	case len(line) > 0 && line[0] >= '0' && line[0] <= '9', bytes.HasPrefix(line, []byte("VERSION ")):
	case isError(line):
		r.Kind = codec.KindError
	default:
		return ErrReply
	}
	return nil
}

// parseValues reads "VALUE key flags bytes [cas]" or END.
func parseValues(line []byte, r *codec.Reply) error {
	if len(line) > 6 && string(line[:6]) == "VALUE " {
		key := bytes.IndexByte(line[6:], ' ')
		if key < 1 || key > MaxKey {
			return ErrReply
		}
		r.Key = codec.Span{Off: 6, Len: uint32(key)}
		rest := line[6+key+1:]
		flags := bytes.IndexByte(rest, ' ')
		if flags < 1 {
			return ErrReply
		}
		return valueSize(rest[flags+1:], r)
	}
	switch {
	case string(line) == "END":
		r.Kind = codec.KindEnd
	case isError(line):
		r.Kind = codec.KindError
	default:
		return ErrReply
	}
	return nil
}

// valueSize reads the number of bytes at the front of b, a space or the end behind it.
func valueSize(b []byte, r *codec.Reply) error {
	n := bytes.IndexByte(b, ' ')
	if n < 0 {
		n = len(b)
	}
	var v uint64
	for _, c := range b[:n] {
		if c < '0' || c > '9' {
			return ErrReply
		}
		v = v*10 + uint64(c-'0')
	}
	if n == 0 || n > 10 || v > 1<<31-3 {
		return ErrReply
	}
	r.Kind, r.Value = codec.KindValue, uint32(v)
	return nil
}

// parseMeta reads "VA bytes flags…", or a line of a two-letter code and flags.
func parseMeta(line []byte, r *codec.Reply) error {
	if len(line) < 2 || !isUpper(line[0]) || !isUpper(line[1]) {
		return ErrReply
	}
	switch {
	case line[0] == 'V' && line[1] == 'A':
		if len(line) < 4 || line[2] != ' ' {
			return ErrReply
		}
		if err := valueSize(line[3:], r); err != nil {
			return err
		}
	case line[0] == 'E' && line[1] == 'N' && (len(line) == 2 || line[2] == ' '):
		r.Kind = codec.KindMiss
	case isError(line):
		r.Kind = codec.KindError
		return nil
	case len(line) > 2 && line[2] != ' ':
		return ErrReply
	}
	if line[0] != 'M' || line[1] != 'E' { // which begins with its key, that may look like anything
		parseFlags(line, r)
	}
	return nil
}

// parseFlags looks for the flags that say what a meta line is about. Most have a version at
// most, and are short.
func parseFlags(line []byte, r *codec.Reply) {
	for i := len("HD"); i+1 < len(line); i++ {
		switch {
		case line[i] != ' ':
		case line[i+1] == 'O':
			r.Echo = true
		case line[i+1] == 'k' && r.Key.Off == 0:
			off := i + len(" k")
			n := bytes.IndexByte(line[off:], ' ')
			if n < 0 {
				n = len(line) - off
			}
			r.Key = codec.Span{Off: uint32(off), Len: uint32(n)}
			rest := line[off+n:]
			r.Coded = len(rest) >= 2 && rest[1] == 'b' && (len(rest) == 2 || rest[2] == ' ')
			i = off + n - 1
		}
	}
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// parseStats reads what the many forms of stats answer: ITEM is of cachedump and
// PREFIX of detail dump.
func parseStats(line []byte, r *codec.Reply) error {
	switch {
	case bytes.HasPrefix(line, []byte("STAT ")),
		bytes.HasPrefix(line, []byte("ITEM ")), bytes.HasPrefix(line, []byte("PREFIX ")):
		r.Kind = codec.KindStat
	case string(line) == "END":
		r.Kind = codec.KindEnd
	case isError(line):
		r.Kind = codec.KindError
	case string(line) == "RESET", string(line) == "OK":
		r.Kind = codec.KindLine
	default:
		return ErrReply
	}
	return nil
}

// isError reports whether line is one of memcached's three error answers.
func isError(line []byte) bool {
	return len(line) >= 5 && (line[0] == 'E' && bytes.HasPrefix(line, []byte("ERROR")) ||
		line[0] == 'C' && bytes.HasPrefix(line, []byte("CLIENT_ERROR ")) ||
		line[0] == 'S' && bytes.HasPrefix(line, []byte("SERVER_ERROR")))
}
