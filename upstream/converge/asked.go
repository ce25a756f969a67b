package converge

import (
	"strconv"

	"magent/codec"
)

// AskedVersion is the version that req wants its item to have, as the client
// wrote it: that of cas, or the argument of C. It reports false if req has none,
// or what stands there is no number.
func AskedVersion(line []byte, req *codec.Request) (uint64, bool) {
	switch {
	case req.Op == codec.OpCas:
		return parseVersion(req.Arg.In(line))
	case req.Op.Meta() && req.Meta.Has('C'):
		return parseVersion(argOf(line, req, 'C'))
	}
	return 0, false
}

// parseVersion reads a number as memcached does, which takes a plus before it.
func parseVersion(b []byte) (uint64, bool) {
	if len(b) > 1 && b[0] == '+' {
		b = b[1:]
	}
	v, err := strconv.ParseUint(string(b), 10, 64)
	return v, err == nil
}

// isVersion reports whether b is a version; what is none is left for the node to
// refuse.
func isVersion(b []byte) bool {
	_, ok := parseVersion(b)
	return ok
}
