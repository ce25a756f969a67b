package text

import (
	"strconv"

	"magent/codec"
)

const crlf = "\r\n"

// AppendLine appends the command line of req as a node gets it, CRLF included:
// without noreply and q, so that every request has a reply, with single spaces,
// and with the value's size in plain digits. A value is not appended. line is
// what req was parsed from. It is not for the commands of many keys.
func AppendLine(dst, line []byte, req *codec.Request) []byte {
	if req.Flags&codec.FlagClean != 0 {
		return append(dst, line...)
	}
	if req.Op.Meta() {
		keep := ^codec.Letters(0)
		if req.Quiet() {
			keep = ^codec.Letter('q')
		}
		return appendMeta(dst, line, req, keep)
	}
	dst = append(dst, req.Op.String()...)
	switch req.Op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpAppend, codec.OpPrepend, codec.OpCas:
		dst = appendStore(dst, line, req)
		if req.Op == codec.OpCas {
			dst = appendWord(dst, req.Arg.In(line))
		}
	case codec.OpIncr, codec.OpDecr, codec.OpTouch:
		dst = appendWord(dst, req.Key.In(line))
		dst = appendWord(dst, req.Arg.In(line))
	case codec.OpDelete:
		dst = appendWord(dst, req.Key.In(line))
	case codec.OpFlushAll, codec.OpVerbosity, codec.OpStats:
		for at := req.Arg.Off; ; {
			word, ok := NextKey(line, req.Arg, &at)
			if !ok {
				break
			}
			dst = appendWord(dst, word.In(line))
		}
	}
	return append(dst, crlf...)
}

// appendStore appends " key flags exptime bytes".
func appendStore(dst, line []byte, req *codec.Request) []byte {
	dst = appendWord(dst, req.Key.In(line))
	dst = appendWord(dst, req.Client.In(line))
	dst = appendWord(dst, req.Expiry.In(line))
	dst = append(dst, ' ')
	return strconv.AppendUint(dst, uint64(req.Value), 10)
}

func appendWord(dst, word []byte) []byte {
	dst = append(dst, ' ')
	return append(dst, word...)
}

// appendMeta writes the words of a meta command. What begins with no letter is no
// flag, and stays for the node to refuse.
func appendMeta(dst, line []byte, req *codec.Request, keep codec.Letters) []byte {
	words := trim(line)
	start := len(dst)
	at, span := uint32(0), codec.Span{Len: uint32(len(words))}
	for i := 0; i < maxTokens; i++ {
		tok, ok := NextKey(words, span, &at)
		if !ok {
			break
		}
		word := tok.In(words)
		switch {
		case i < 2:
		case i == 2 && req.Op == codec.OpMetaSet:
			dst = append(dst, ' ')
			dst = strconv.AppendUint(dst, uint64(req.Value), 10)
			continue
		case isLetter(word[0]) && !keep.Has(word[0]):
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(dst, word...)
	}
	return append(dst, crlf...)
}

// AppendKeyed appends "word key" and CRLF.
func AppendKeyed(dst []byte, word string, key []byte) []byte {
	dst = append(dst, word...)
	dst = appendWord(dst, key)
	return append(dst, crlf...)
}
