package converge

import (
	"bytes"
	"strconv"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream/repair"
)

// Lead says how a request is put to its lead.
type Lead struct {
	Cas      uint64 // what the request's C, or the cas, asks for, as the lead numbers it
	Explicit uint64 // the version to be made, 0 to leave it to the node (the E flag)
}

// maxMetaWords is the most words of a meta command, command and key included.
const maxMetaWords = 19

// AppendLead appends the line of req as its lead gets it: stores become an ms that
// asks for the version it makes, the versions of C and cas are the lead's, and
// noreply and q are gone. Everything else is as text.AppendLine has it. A value is
// not appended. line is what req was parsed from; it may be an mg with a C, too.
func AppendLead(dst, line []byte, req *codec.Request, l Lead) []byte {
	switch req.Op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpCas:
		dst = appendStore(dst, line, req)
		switch req.Op {
		case codec.OpAdd:
			dst = append(dst, " ME"...)
		case codec.OpReplace:
			dst = append(dst, " MR"...)
		case codec.OpCas:
			dst = appendNumber(dst, " C", l.Cas)
		}
		if l.Explicit != 0 {
			dst = appendNumber(dst, " E", l.Explicit)
		}
		return append(dst, " c\r\n"...)
	case codec.OpMetaSet, codec.OpMetaArith, codec.OpMetaDelete, codec.OpMetaGet:
		return appendMeta(dst, line, req, l)
	case codec.OpAppend, codec.OpPrepend:
		if l.Explicit != 0 {
			dst = appendStep(dst, line, req)
			return append(appendNumber(dst, " E", l.Explicit), "\r\n"...)
		}
	}
	return text.AppendLine(dst, line, req)
}

// appendStep appends the classic relative req in its meta form, without line end.
func appendStep(dst, line []byte, req *codec.Request) []byte {
	key := req.Key.In(line)
	switch req.Op {
	case codec.OpAppend, codec.OpPrepend:
		dst = appendNumber(append(append(dst, "ms "...), key...), " ", uint64(req.Value))
		if req.Op == codec.OpPrepend {
			return append(dst, " MP"...)
		}
		return append(dst, " MA"...)
	}
	dst = append(append(append(append(dst, "ma "...), key...), " v D"...), req.Arg.In(line)...)
	if req.Op == codec.OpDecr {
		return append(dst, " MD"...)
	}
	return append(dst, " MI"...)
}

// appendStore appends the ms that stores what the classic req does.
func appendStore(dst, line []byte, req *codec.Request) []byte {
	dst = append(append(dst, "ms "...), req.Key.In(line)...)
	dst = appendNumber(dst, " ", uint64(req.Value))
	dst = append(append(dst, " F"...), req.Client.In(line)...)
	return append(append(dst, " T"...), req.Expiry.In(line)...)
}

// appendMeta writes a meta command's words with the lead's version behind C, and
// adds what makes it name, or take, the version of its item.
func appendMeta(dst, line []byte, req *codec.Request, l Lead) []byte {
	if req.Meta.Any(codec.Letter('C')|codec.Letter('q')) || l.Explicit != 0 || req.Op == codec.OpMetaSet && !req.Meta.Has('c') {
		dst, words := appendWords(dst, line, req, l)
		if l.Explicit != 0 && !req.Meta.Has('E') && words < maxMetaWords && makesVersion(req) {
			dst, words = appendNumber(dst, " E", l.Explicit), words+1
		}
		if req.Op == codec.OpMetaSet && !req.Meta.Has('c') && words < maxMetaWords {
			dst = append(dst, " c"...)
		}
		return append(dst, "\r\n"...)
	}
	return text.AppendLine(dst, line, req)
}

// makesVersion reports whether req leaves an item behind that has E's version. A
// counter may not: memcached (1.6.45) tells E's in its answer, and when it makes the
// item anew, as for one that gets a digit more or that somebody reads, gives it one of
// its own.
func makesVersion(req *codec.Request) bool {
	return req.Op == codec.OpMetaSet || req.Op == codec.OpMetaDelete && (req.Meta.Has('I') || req.Meta.Has('x'))
}

// appendWords appends the words of a meta command but for q, and counts them.
func appendWords(dst, line []byte, req *codec.Request, l Lead) ([]byte, int) {
	end := len(line) - 1
	if end > 1 && line[end-1] == '\r' {
		end--
	}
	if nul := bytes.IndexByte(line[:end], 0); nul >= 0 {
		end = nul // where the line ends for a node, and for text.Parse
	}
	at, span, words, guarded := uint32(0), codec.Span{Len: uint32(end)}, 0, false
	for {
		tok, ok := text.NextKey(line, span, &at)
		if !ok {
			return dst, words
		}
		word := tok.In(line)
		if words >= 2 && word[0] == 'q' && req.Quiet() {
			continue
		}
		if words > 0 {
			dst = append(dst, ' ')
		}
		switch {
		case words >= 2 && word[0] == 'C' && isVersion(word[1:]) && !guarded:
			guarded = true // a second C the node refuses; the room for the line is for one
			dst = appendNumber(dst, "C", l.Cas)
		case words == 2 && req.Op == codec.OpMetaSet:
			dst = strconv.AppendUint(dst, uint64(req.Value), 10)
		default:
			dst = append(dst, word...)
		}
		words++
	}
}

// AppendReply appends line, the lead's reply line to what AppendLead made of req,
// as the client expects it: in the classic form if it asked so, without a version
// it did not ask for, and with token for one that it did. What follows a
// line that begins with VA follows it unchanged: the classic form of the answer to
// an incr is the value alone.
func AppendReply(dst, line []byte, req *codec.Request, token uint64) []byte {
	switch req.Op {
	case codec.OpMetaSet, codec.OpMetaArith, codec.OpMetaGet:
	case codec.OpMetaDelete:
		return append(dst, line...)
	default:
		return appendClassic(dst, line)
	}
	if !isMeta(line) {
		return append(dst, line...)
	}
	end := len(line) - len("\r\n") // a key, or an opaque, may have a CR in it
	for i := 0; i < end; {
		n := i + 1
		for n < end && line[n] != ' ' {
			n++
		}
		switch word := line[i:n]; {
		case i < 2 || len(word) < 2 || word[1] != 'c':
			dst = append(dst, word...)
		case req.Meta.Has('c'):
			dst = appendNumber(dst, " c", token)
		}
		i = n
	}
	return append(dst, line[end:]...)
}

// isMeta reports whether line begins with a meta code, and so has flags.
func isMeta(line []byte) bool {
	return len(line) >= 2 && (len(line) == 2 || line[2] == ' ' || line[2] == '\r')
}

// appendClassic appends a reply line in the words of the classic protocol.
func appendClassic(dst, line []byte) []byte {
	if isMeta(line) {
		switch string(line[:2]) {
		case "VA":
			return dst
		case "HD":
			return append(dst, "STORED\r\n"...)
		case "NS":
			return append(dst, "NOT_STORED\r\n"...)
		case "EX":
			return append(dst, "EXISTS\r\n"...)
		case "NF":
			return append(dst, "NOT_FOUND\r\n"...)
		}
	}
	return append(dst, line...)
}

// AppendGuarded appends the line of a relative request with the condition that
// the item still has version: what a node may be sent that has perhaps been given
// the request's outcome already, if version was its version before the request
// went to its lead. It reports false, and appends nothing, if req is no such
// request, or has a condition of its own, or version is 0: there was no item, and
// that cannot be a condition. A value is not appended.
func AppendGuarded(dst, line []byte, req *codec.Request, version uint64) ([]byte, bool) {
	if version == 0 || !Relative(req) || Conditional(req) {
		return dst, false
	}
	if req.Op.Meta() {
		dst, _ = appendWords(dst, line, req, Lead{})
	} else {
		dst = appendStep(dst, line, req)
	}
	return append(appendNumber(dst, " C", version), "\r\n"...), true
}

// Relative reports whether what req does depends on the item that is there, so
// that doing it twice is not as good as once.
func Relative(req *codec.Request) bool {
	switch req.Op {
	case codec.OpAppend, codec.OpPrepend, codec.OpIncr, codec.OpDecr, codec.OpMetaArith:
		return true
	case codec.OpMetaSet:
		m := req.Mode | 0x20
		return m == 'a' || m == 'p'
	}
	return false
}

// Conditional reports whether req is carried out only if its item has a version that
// it names.
func Conditional(req *codec.Request) bool {
	switch req.Op {
	case codec.OpCas:
		return true
	case codec.OpMetaSet, codec.OpMetaDelete, codec.OpMetaArith:
		return req.Meta.Has('C')
	}
	return false
}

// adds reports whether req stores an item only if there is none.
func adds(req *codec.Request) bool {
	return req.Op == codec.OpAdd || req.Op == codec.OpMetaSet && req.Mode|0x20 == 'e'
}

// exptimeOf is the exptime that req gives its item, as written; empty for none.
func exptimeOf(line []byte, req *codec.Request) []byte {
	switch req.Op {
	case codec.OpTouch, codec.OpGat, codec.OpGats:
		return req.Arg.In(line)
	case codec.OpMetaSet, codec.OpMetaGet:
		return argOf(line, req, 'T')
	}
	return req.Expiry.In(line)
}

// argOf is the argument of the flag c in the meta command line, empty if it has none.
func argOf(line []byte, req *codec.Request, c byte) []byte {
	rest := line[req.Key.End():]
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == ' ' && rest[i+1] == c {
			arg := rest[i+2:]
			if n := bytes.IndexAny(arg, " \x00\r\n"); n >= 0 {
				arg = arg[:n]
			}
			return arg
		}
	}
	return nil
}

// versionOf is the version that a meta reply line names, 0 if it names none.
func versionOf(answer []byte) uint64 {
	line, _, _ := bytes.Cut(answer, []byte("\r\n"))
	r := repair.ParseReply(line)
	return r.Cas
}

func appendNumber(dst []byte, before string, n uint64) []byte {
	return strconv.AppendUint(append(dst, before...), n, 10)
}
