package binary

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"

	"magent/codec"
	"magent/codec/text"
)

// ErrResponse says that the bytes are no response of this protocol, or none to what was asked.
var ErrResponse = errors.New("binary: not a response")

// Response is the header of one response.
type Response struct {
	Opcode Opcode
	Status Status
	Extras uint8  // bytes of extras, which follow the header
	Key    uint16 // bytes of the key, which follows them
	Value  uint32 // bytes of the value, which follows the key
	Opaque uint32
	Cas    uint64
}

// ParseResponse reads the header of a response from the front of buf, which must hold
// HeaderSize bytes. The error is ErrResponse.
func ParseResponse(buf []byte) (r Response, err error) {
	r = Response{Opcode: Opcode(buf[1]), Status: Status(binary.BigEndian.Uint16(buf[6:])), Extras: buf[4],
		Key: binary.BigEndian.Uint16(buf[2:]), Opaque: binary.BigEndian.Uint32(buf[12:]), Cas: binary.BigEndian.Uint64(buf[16:])}
	before, body := uint32(r.Extras)+uint32(r.Key), binary.BigEndian.Uint32(buf[8:])
	if buf[0] != magicReply || body < before {
		return r, ErrResponse
	}
	r.Value = body - before
	return r, nil
}

// Reads reports whether the value of r is an item's, which may be large, and may not be
// wanted: AppendAnswer says so. Any other value it takes itself.
func (r *Response) Reads() bool {
	loud := r.Opcode.Loud()
	return r.Status == StatusOK && (loud == Get || loud == GAT)
}

// Last reports whether no further response follows to the command that r is to.
func (r *Response) Last() bool {
	switch r.Opcode {
	case GetKQ, GATKQ:
		return false
	case Stat:
		return r.Status != StatusOK || r.Key == 0
	}
	return true
}

// AppendAnswer puts a response to what AppendRequest made of line and req, which is sent, as
// what a node that speaks text answers, or a part of that: dst grows by it. head is r's extras
// and key, value is its value unless r.Reads. If follows is set, that value and a CRLF are to
// follow what was appended, and behind them end; else there is no end.
//
// What no node says to that is ErrResponse: the response is another's then.
func AppendAnswer(dst, line []byte, req *codec.Request, sent *Sent, r *Response, head, value []byte) (out []byte, follows bool, end string, err error) {
	switch {
	case !sent.hears(r.Opcode) || !fits(r, head, value):
		return dst, false, "", ErrResponse
	case sent.Refused != "":
		return append(dst, sent.Refused...), false, "", nil
	case r.Reads() && req.Op.MultiKey():
		dst = appendValueLine(dst, req, r, head)
		if r.Last() {
			end = sent.end()
		}
		return dst, true, end, nil
	case !r.Last() && r.Status != StatusOK: // text says it where the last key's turn is
		sent.fault = string(appendFault(nil, req, r))
		return dst, false, "", nil
	case r.Status == StatusNotFound && req.Op.MultiKey():
		return append(dst, sent.end()...), false, "", nil
	case r.Reads() && req.Meta.Has('v'):
		dst = strconv.AppendUint(append(dst, "VA "...), uint64(r.Value), 10)
		return appendReturns(dst, line, req, r, head), true, "", nil
	case r.Status == StatusOK:
		return appendOK(dst, line, req, r, head, value), false, "", nil
	case req.Op.Meta():
		return appendMetaFailure(dst, line, req, r), false, "", nil
	}
	return appendClassicFailure(dst, req, r), false, "", nil
}

// hears reports whether a response of opcode may come.
func (s *Sent) hears(opcode Opcode) bool {
	return opcode == s.opcode || s.opcode.Quiet() && opcode == loudKeyed[s.opcode]
}

// end is what a read of keys ends with.
func (s *Sent) end() string {
	if s.fault != "" {
		return s.fault
	}
	return wordEnd
}

const wordEnd = "END\r\n"

// fits reports whether r has the parts that such a response must have, which fit a line of
// text. That there is nothing is not said to a quiet read.
func fits(r *Response, head, value []byte) bool {
	if len(head) != int(r.Extras)+int(r.Key) || !r.Reads() && len(value) != int(r.Value) {
		return false
	}
	name := head[r.Extras:]
	switch loud := r.Opcode.Loud(); {
	case r.Status != StatusOK:
		return r.Status != StatusNotFound || !r.Opcode.Quiet()
	case loud == Get, loud == GAT:
		return r.Extras == 4 && r.Value <= maxValue && (!r.Opcode.Named() || r.Key > 0 && r.Key <= text.MaxKey && text.Printable(name))
	case loud == Touch:
		return r.Extras == 4
	case loud == Increment, loud == Decrement:
		return r.Value == 8
	case loud == Stat:
		return text.Printable(name) && inLine(value)
	case loud == Version:
		return inLine(value)
	}
	return true
}

// inLine reports whether words may stand in a line.
func inLine(words []byte) bool { return !bytes.ContainsAny(words, "\r\n") }

// appendValueLine appends the VALUE line of a hit.
func appendValueLine(dst []byte, req *codec.Request, r *Response, head []byte) []byte {
	dst = append(append(dst, "VALUE "...), head[r.Extras:]...)
	dst = strconv.AppendUint(append(dst, ' '), uint64(binary.BigEndian.Uint32(head)), 10)
	dst = strconv.AppendUint(append(dst, ' '), uint64(r.Value), 10)
	if req.Op == codec.OpGets || req.Op == codec.OpGats {
		dst = strconv.AppendUint(append(dst, ' '), r.Cas, 10)
	}
	return append(dst, crlf...)
}

// done is what nodes say of commands that were carried out, and have no more to tell.
var done = [codec.NumOps]string{
	codec.OpSet: "STORED\r\n", codec.OpAdd: "STORED\r\n", codec.OpReplace: "STORED\r\n",
	codec.OpAppend: "STORED\r\n", codec.OpPrepend: "STORED\r\n", codec.OpCas: "STORED\r\n",
	codec.OpDelete: "DELETED\r\n", codec.OpTouch: "TOUCHED\r\n",
	codec.OpFlushAll: "OK\r\n", codec.OpMetaNoop: "MN\r\n",
}

// appendOK appends what there is to say of r, whose status is StatusOK and which has no
// value for a client.
func appendOK(dst, line []byte, req *codec.Request, r *Response, head, value []byte) []byte {
	switch req.Op {
	case codec.OpIncr, codec.OpDecr:
		return append(strconv.AppendUint(dst, binary.BigEndian.Uint64(value), 10), crlf...)
	case codec.OpVersion:
		return append(append(append(dst, "VERSION "...), value...), crlf...)
	case codec.OpStats:
		return appendStatLine(dst, line, req, r, head, value)
	case codec.OpMetaArith:
		return appendCounted(dst, line, req, r, head, value)
	case codec.OpMetaGet, codec.OpMetaSet, codec.OpMetaDelete:
		return appendReturns(append(dst, "HD"...), line, req, r, head)
	}
	return append(dst, done[req.Op]...)
}

func appendStatLine(dst, line []byte, req *codec.Request, r *Response, head, value []byte) []byte {
	switch {
	case r.Key > 0:
		dst = append(append(dst, "STAT "...), head[r.Extras:]...)
		return append(append(append(dst, ' '), value...), crlf...)
	case string(req.Arg.In(line)) == "reset":
		return append(dst, "RESET\r\n"...)
	}
	return append(dst, wordEnd...)
}

// appendCounted appends what an ma answers.
func appendCounted(dst, line []byte, req *codec.Request, r *Response, head, value []byte) []byte {
	if !req.Meta.Has('v') {
		return appendReturns(append(dst, "HD"...), line, req, r, head)
	}
	var digits [20]byte
	count := strconv.AppendUint(digits[:0], binary.BigEndian.Uint64(value), 10)
	dst = strconv.AppendUint(append(dst, "VA "...), uint64(len(count)), 10)
	dst = appendReturns(dst, line, req, r, head)
	return append(append(dst, count...), crlf...)
}

// appendReturns appends what a meta command has asked to be told, and the line end.
func appendReturns(dst, line []byte, req *codec.Request, r *Response, head []byte) []byte {
	metaFlags(line, req, func(word []byte) bool {
		switch word[0] {
		case 'O', 'k':
			dst = appendEcho(dst, line, req, word)
		case 'f':
			var flags uint32
			if r.Extras == 4 {
				flags = binary.BigEndian.Uint32(head)
			}
			dst = strconv.AppendUint(append(dst, " f"...), uint64(flags), 10)
		case 's':
			dst = strconv.AppendUint(append(dst, " s"...), uint64(r.Value), 10)
		case 'c':
			dst = strconv.AppendUint(append(dst, " c"...), r.Cas, 10)
		}
		return true
	})
	return append(dst, crlf...)
}

// appendEcho appends word, an O or a k, as an answer has it.
func appendEcho(dst, line []byte, req *codec.Request, word []byte) []byte {
	if word[0] == 'O' {
		return append(append(dst, ' '), word...)
	}
	dst = append(append(dst, " k"...), req.Key.In(line)...)
	if req.Meta.Has('b') {
		dst = append(dst, " b"...)
	}
	return dst
}

// appendMetaFailure appends what a meta command answers that was not carried out.
func appendMetaFailure(dst, line []byte, req *codec.Request, r *Response) []byte {
	word := ""
	compares := req.Op != codec.OpMetaSet || req.Meta.Has('C') && req.Mode != 'E'
	switch {
	case r.Status == StatusNotFound && req.Op == codec.OpMetaGet:
		word = "EN"
	case r.Status == StatusExists && compares:
		word = "EX"
	case r.Status == StatusNotFound && compares:
		word = "NF"
	case r.Status == StatusNotStored, r.Status == StatusExists, r.Status == StatusNotFound:
		word = "NS"
	default:
		return appendFault(dst, req, r)
	}
	dst = append(dst, word...)
	metaFlags(line, req, func(word []byte) bool {
		switch word[0] {
		case 'O', 'k':
			dst = appendEcho(dst, line, req, word)
		case 'c':
			if req.Op == codec.OpMetaSet {
				dst = append(dst, " c0"...)
			}
		}
		return true
	})
	return append(dst, crlf...)
}

// appendClassicFailure is that for the classic commands.
func appendClassicFailure(dst []byte, req *codec.Request, r *Response) []byte {
	switch class := req.Op.Class(); {
	case req.Op == codec.OpStats:
		if r.Status == StatusNotFound {
			return append(dst, "ERROR\r\n"...)
		}
	case class == codec.ClassStore && req.Op != codec.OpCas:
		if r.Status == StatusNotStored || r.Status == StatusExists || r.Status == StatusNotFound {
			return append(dst, "NOT_STORED\r\n"...)
		}
	case class == codec.ClassStore, class == codec.ClassWrite:
		switch r.Status {
		case StatusExists:
			return append(dst, "EXISTS\r\n"...)
		case StatusNotFound:
			return append(dst, "NOT_FOUND\r\n"...)
		}
	}
	return appendFault(dst, req, r)
}

// appendFault appends why nothing could be done.
func appendFault(dst []byte, req *codec.Request, r *Response) []byte {
	switch r.Status {
	case StatusTooLarge:
		return append(dst, "SERVER_ERROR object too large for cache\r\n"...)
	case StatusInvalid:
		return append(dst, codec.FaultFormat.Line()...)
	case StatusNoNumber:
		return append(dst, "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"...)
	case StatusNotKnown:
		return append(dst, "CLIENT_ERROR unauthenticated\r\n"...)
	case StatusUnknown:
		return append(dst, "ERROR\r\n"...)
	case StatusNoMemory:
		dst = append(dst, "SERVER_ERROR out of memory "...)
		if req.Op.Class() == codec.ClassStore {
			return append(dst, "storing object\r\n"...)
		}
		return append(dst, "writing get response\r\n"...)
	}
	dst = append(dst, "SERVER_ERROR the node answered with status 0x"...)
	return append(strconv.AppendUint(dst, uint64(r.Status), 16), crlf...)
}
