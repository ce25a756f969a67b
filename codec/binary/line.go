package binary

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"magent/codec"
	"magent/codec/text"
)

// AppendLine puts r, which was parsed from buf and has no fault, as a line of the text
// protocol: one that asks for all that the answer to r must say. The line is appended to
// dst, and returned without what was there before. Two kinds of request need none: of a
// get with a plain key, line is the key where it lies in buf; noop, version and quit,
// which no node is asked about, have none. req is what text.Parse makes of the line, or
// as good as that. The value is not in it, and has no CRLF behind it in r.
//
// A key with control characters or blanks goes in base64. For these, reads ask for an
// opaque that is the end of the key: see repair.AppendGet for what that is good for.
func AppendLine(dst, buf []byte, r *Request, req *codec.Request) (line []byte) {
	f, from := &forms[r.Opcode], len(dst)
	switch f.op {
	case codec.OpGets:
		if r.Plain {
			key := r.Key.In(buf)
			all := codec.Span{Len: r.Key.Len}
			*req = codec.Request{Op: codec.OpGets, Line: r.Key.Len, Key: all, Rest: all}
			return key
		}
		dst = appendGet(dst, buf, r, " v f c")
	case codec.OpGats:
		if !r.Plain {
			dst = appendGet(dst, buf, r, " v f c T")
			break
		}
		dst = strconv.AppendUint(append(dst, "gats "...), exptime(buf[HeaderSize:]), 10)
		dst = append(append(dst, ' '), r.Key.In(buf)...)
	case codec.OpMetaGet:
		dst = appendGet(dst, buf, r, " f c T")
	case codec.OpMetaSet:
		*req = codec.Request{Op: codec.OpMetaSet, Flags: codec.FlagClean, Value: r.Value}
		line = append(appendSet(dst, buf, r, req), "\r\n"...)[from:]
		req.Line = uint32(len(line))
		return line
	case codec.OpMetaArith:
		dst = appendStep(dst, buf, r)
	case codec.OpMetaDelete:
		dst = appendCas(appendKey(append(dst, "md "...), buf, r), r)
	case codec.OpFlushAll:
		dst = append(dst, "flush_all"...)
		if r.Extras > 0 {
			dst = strconv.AppendUint(append(dst, ' '), exptime(buf[HeaderSize:]), 10)
		}
	case codec.OpStats:
		dst = appendStat(dst, buf, r)
	default:
		*req = codec.Request{Op: f.op}
		return nil
	}
	line = append(dst, "\r\n"...)[from:]
	text.Parse(line, req)
	return line
}

// Room is more than a line is longer than the key that is in it.
const Room = 128 + text.MaxKey/3

// exptime is the exptime at the front of b. One that is beyond what nodes can be told
// in text, where it has 31 bits, becomes the last that they can: in the year 2038.
func exptime(b []byte) uint64 {
	return min(uint64(binary.BigEndian.Uint32(b)), math.MaxInt32)
}

func appendKey(dst, buf []byte, r *Request) []byte {
	key := r.Key.In(buf)
	if r.Plain {
		return append(dst, key...)
	}
	return append(base64.StdEncoding.AppendEncode(dst, key), " b"...)
}

// appendGet appends an mg with flags, and the exptime in the extras if these end with T.
func appendGet(dst, buf []byte, r *Request, flags string) []byte {
	dst = append(dst, "mg "...)
	from := len(dst)
	dst = appendKey(dst, buf, r)
	key := dst[from:]
	dst = append(dst, flags...)
	if flags[len(flags)-1] == 'T' {
		dst = strconv.AppendUint(dst, exptime(buf[HeaderSize:]), 10)
	}
	if r.Plain {
		return append(dst, " k"...)
	}
	key = key[:len(key)-len(" b")]
	return append(append(dst, " O"...), key[max(0, len(key)-maxOpaque):]...)
}

// maxOpaque is the longest opaque, its O aside, that nodes take.
const maxOpaque = 31

// appendSet appends the ms that stores what r does, and notes in req what is in it: the
// line is what the proxy would write, and need not be read again. With a version,
// memcached makes a cas of a set, an add and a replace.
func appendSet(dst, buf []byte, r *Request, req *codec.Request) []byte {
	dst = append(dst, "ms "...)
	from := len(dst)
	key := r.Key.In(buf)
	if r.Plain {
		dst = append(dst, key...)
	} else {
		dst = base64.StdEncoding.AppendEncode(dst, key)
	}
	req.Key = codec.Span{Off: uint32(len("ms ")), Len: uint32(len(dst) - from)}
	dst = strconv.AppendUint(append(dst, ' '), uint64(r.Value), 10)
	if !r.Plain {
		dst = append(dst, " b"...)
		req.Meta = codec.Letter('b')
	}
	if r.Extras > 0 { // of which 0 need not be said
		if flags := binary.BigEndian.Uint32(buf[HeaderSize:]); flags != 0 {
			dst = strconv.AppendUint(append(dst, " F"...), uint64(flags), 10)
			req.Meta |= codec.Letter('F')
		}
		if exptime := exptime(buf[HeaderSize+4:]); exptime != 0 {
			dst = strconv.AppendUint(append(dst, " T"...), exptime, 10)
			req.Meta |= codec.Letter('T')
		}
	}
	if req.Mode = modeOf(r); req.Mode != 0 {
		dst = append(dst, ' ', 'M', req.Mode)
		req.Meta |= codec.Letter('M')
	}
	if r.Cas != 0 {
		dst = appendCas(dst, r)
		req.Meta |= codec.Letter('C')
	}
	if !r.Opcode.Quiet() {
		dst = append(dst, " c"...)
		req.Meta |= codec.Letter('c')
	}
	return dst
}

// modeOf is the mode of the ms that stores what r does, 0 for the usual one.
func modeOf(r *Request) byte {
	switch loud := r.Opcode.Loud(); {
	case loud == Append:
		return 'A'
	case loud == Prepend:
		return 'P'
	case loud == Add && r.Cas == 0:
		return 'E'
	case loud == Replace && r.Cas == 0:
		return 'R'
	}
	return 0
}

// never is the exptime by which an increment or decrement says that it makes no item.
const never = math.MaxUint32

// appendStep appends the ma that counts as r does.
func appendStep(dst, buf []byte, r *Request) []byte {
	extras := buf[HeaderSize:]
	dst = appendKey(append(dst, "ma "...), buf, r)
	if binary.BigEndian.Uint32(extras[16:]) != never {
		dst = strconv.AppendUint(append(dst, " N"...), exptime(extras[16:]), 10)
		dst = strconv.AppendUint(append(dst, " J"...), binary.BigEndian.Uint64(extras[8:]), 10)
	}
	dst = strconv.AppendUint(append(dst, " D"...), binary.BigEndian.Uint64(extras), 10)
	if r.Opcode.Loud() == Decrement {
		dst = append(dst, " MD"...)
	}
	dst = appendCas(dst, r)
	if !r.Opcode.Quiet() {
		dst = append(dst, " v c"...)
	}
	return dst
}

func appendCas(dst []byte, r *Request) []byte {
	if r.Cas == 0 {
		return dst
	}
	return strconv.AppendUint(append(dst, " C"...), r.Cas, 10)
}

// appendStat appends a stats. A name that no line can say is put as one that nobody has.
func appendStat(dst, buf []byte, r *Request) []byte {
	dst = append(dst, "stats"...)
	switch {
	case r.Key.Len == 0:
		return dst
	case !r.Plain:
		return append(dst, " ?"...)
	}
	return append(append(dst, ' '), r.Key.In(buf)...)
}
