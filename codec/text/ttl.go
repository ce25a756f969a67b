package text

import (
	"math"
	"strconv"

	"magent/codec"
)

// maxDelta is the largest exptime, in seconds, that counts from now; a larger one is a
// Unix time. (REALTIME_MAXDELTA of memcached)
const maxDelta = 60 * 60 * 24 * 30

// Timed reports whether a request of op may have an exptime in it.
func Timed(op codec.Op) bool {
	switch op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpCas, codec.OpTouch, codec.OpGat, codec.OpGats,
		codec.OpMetaGet, codec.OpMetaSet, codec.OpMetaDelete, codec.OpMetaArith:
		return true
	}
	return false
}

// AppendLowered appends the line of req with every exptime in it that lets an item live
// for longer than most, in seconds and above 0, lowered to that. now is the Unix time. It
// reports false, and appends nothing, if there is none. line is what req was parsed from;
// what is appended is to be parsed anew.
//
// An item that would live for ever is one that lives too long: so an ms without a T gets
// one. What is no number stays, for the node to refuse.
func AppendLowered(dst, line []byte, req *codec.Request, most, now int64) ([]byte, bool) {
	switch req.Op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpCas:
		return appendLowered(dst, line, req.Expiry, most, now)
	case codec.OpTouch, codec.OpGat, codec.OpGats:
		return appendLowered(dst, line, req.Arg, most, now)
	case codec.OpMetaGet, codec.OpMetaSet, codec.OpMetaDelete, codec.OpMetaArith:
		return appendLoweredMeta(dst, line, req, most, now)
	}
	return dst, false
}

// appendLowered is for a line that has its exptime at s.
func appendLowered(dst, line []byte, s codec.Span, most, now int64) ([]byte, bool) {
	n, ok := lowered(s.In(line), most, now)
	if !ok {
		return dst, false
	}
	dst = strconv.AppendInt(append(dst, line[:s.Off]...), n, 10)
	return append(dst, line[s.End():]...), true
}

// appendLoweredMeta is for the commands that have theirs behind T, and N for an item
// that is made as there is none.
func appendLoweredMeta(dst, line []byte, req *codec.Request, most, now int64) ([]byte, bool) {
	adds := req.Op == codec.OpMetaSet && !req.Meta.Has('T') && req.Mode|0x20 != 'a' && req.Mode|0x20 != 'p'
	if !adds && !req.Meta.Any(codec.Letter('T')|codec.Letter('N')) {
		return dst, false
	}
	words := trim(line)
	from, at, span := len(dst), uint32(0), codec.Span{Len: uint32(len(words))}
	changed := false
	for i := 0; ; i++ {
		tok, ok := NextKey(words, span, &at)
		if !ok {
			break
		}
		word := tok.In(words)
		if i > 0 {
			dst = append(dst, ' ')
		}
		if i >= 2 && (word[0] == 'T' || word[0] == 'N') {
			if n, low := lowered(word[1:], most, now); low {
				dst, changed = strconv.AppendInt(append(dst, word[0]), n, 10), true
				continue
			}
		}
		dst = append(dst, word...)
	}
	if adds {
		// With as many words as there may be it has a flag that no node knows, and is refused.
		dst, changed = strconv.AppendInt(append(dst, " T"...), limit(most, now), 10), true
	}
	if !changed {
		return dst[:from], false
	}
	return append(dst, crlf...), true
}

// lowered is what an exptime becomes; false if it stays. Nodes keep 32 bits of it, in which
// a large number may mean anything: it is taken for what it says.
func lowered(exptime []byte, most, now int64) (n int64, ok bool) {
	n, ok = Int(exptime)
	switch {
	case !ok:
		return 0, false
	case n < math.MinInt32:
		return -1, true
	case n < 0:
		return 0, false
	case n > math.MaxInt32, n == 0, n <= maxDelta && n > most, n > maxDelta && n-now > most:
		return limit(most, now), true
	}
	return 0, false
}

// limit is the exptime of an item that lives for most.
func limit(most, now int64) int64 {
	if most > maxDelta {
		return min(now+most, math.MaxInt32)
	}
	return most
}
