package codectest

import (
	"regexp"
	"strconv"
	"strings"

	"magent/codec"
)

// Frame is one frame of a node's answer, in copies.
type Frame struct {
	Kind  codec.Kind
	Key   string
	Line  int // bytes of the line, with its CRLF
	Value int // bytes of the value
	Echo  bool
}

// The answers of memcached, by the shape that the request calls for. A number of
// more than ten digits is no size; flags and cas are not looked into.
var (
	failure = regexp.MustCompile(`^(ERROR|CLIENT_ERROR |SERVER_ERROR)(?s:.*)$`)
	oneLine = regexp.MustCompile(`^(STORED|NOT_STORED|EXISTS|NOT_FOUND|DELETED|TOUCHED|OK|VERSION (?s:.*)|[0-9](?s:.*))$`)
	value   = regexp.MustCompile(`^VALUE ([^ ]+) [^ ]+ ([0-9]{1,10})( (?s:.*))?$`)
	metaHit = regexp.MustCompile(`^VA ([0-9]{1,10})( (?s:.*))?$`)
	metaRow = regexp.MustCompile(`^[A-Z][A-Z]( (?s:.*))?$`)
	statRow = regexp.MustCompile(`^(STAT|ITEM|PREFIX) (?s:.*)$`)
	statEnd = regexp.MustCompile(`^(RESET|OK)$`)
)

const maxValue = 1<<31 - 3

// Reply reads one frame from the front of buf. It is not ok if buf is no answer to
// a request of shape s, or too short to tell.
func Reply(buf []byte, s codec.Shape, maxLine int) (f Frame, short, ok bool) {
	line, _, whole := strings.Cut(string(buf), "\n")
	if len(line) > maxLine {
		return Frame{}, false, false
	}
	if !whole {
		return Frame{}, true, false
	}
	if !strings.HasSuffix(line, "\r") {
		return Frame{}, false, false
	}
	f = Frame{Line: len(line) + 1}
	line = strings.TrimSuffix(line, "\r")
	if failure.MatchString(line) {
		f.Kind = codec.KindError
		return f, false, true
	}
	switch s {
	case codec.ShapeValues:
		return values(line, f)
	case codec.ShapeMeta:
		return metaLine(line, f)
	case codec.ShapeStats:
		return stats(line, f)
	}
	return f, false, oneLine.MatchString(line)
}

func values(line string, f Frame) (Frame, bool, bool) {
	if line == "END" {
		f.Kind = codec.KindEnd
		return f, false, true
	}
	m := value.FindStringSubmatch(line)
	if m == nil || len(m[1]) > maxKey {
		return Frame{}, false, false
	}
	f.Kind, f.Key = codec.KindValue, m[1]
	f.Value, _ = strconv.Atoi(m[2])
	return f, false, f.Value <= maxValue
}

func metaLine(line string, f Frame) (Frame, bool, bool) {
	switch m := metaHit.FindStringSubmatch(line); {
	case m != nil:
		f.Kind = codec.KindValue
		f.Value, _ = strconv.Atoi(m[1])
		if f.Value > maxValue {
			return Frame{}, false, false
		}
	case strings.HasPrefix(line, "VA"), !metaRow.MatchString(line):
		return Frame{}, false, false
	case line == "EN", strings.HasPrefix(line, "EN "):
		f.Kind = codec.KindMiss
	}
	if named := false; !strings.HasPrefix(line, "ME") {
		for _, w := range strings.Split(line, " ")[1:] {
			f.Echo = f.Echo || strings.HasPrefix(w, "O")
			if strings.HasPrefix(w, "k") && !named {
				f.Key, named = w[1:], true
			}
		}
	}
	return f, false, true
}

func stats(line string, f Frame) (Frame, bool, bool) {
	switch {
	case line == "END":
		f.Kind = codec.KindEnd
	case statRow.MatchString(line):
		f.Kind = codec.KindStat
	case !statEnd.MatchString(line):
		return Frame{}, false, false
	}
	return f, false, true
}
