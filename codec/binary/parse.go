package binary

import (
	"encoding/binary"
	"errors"
	"math"

	"magent/codec"
	"magent/codec/text"
)

// ErrShort says that the request is not there yet up to its value: ask again with
// more bytes. Head says how many it takes.
var ErrShort = errors.New("binary: the request is not complete")

// ErrMagic says that the bytes are no request. memcached closes the connection.
var ErrMagic = errors.New("binary: not a request")

// Fault is why a request is not carried out.
type Fault uint8

const (
	FaultNone    Fault = iota
	FaultUnknown       // nobody knows the command: the connection goes on behind it
	FaultKey           // nodes cannot be told this key: the same
	FaultLengths       // the lengths contradict each other: the connection is closed
	FaultShape         // the command has not got the parts that it must have: the same
	FaultSize          // no number for a value's size: closed without an answer
)

// Closes reports whether the connection is closed after the answer to f.
func (f Fault) Closes() bool { return f >= FaultLengths }

// Line is the answer to f in the words of the text protocol, which AppendReply reads;
// empty for none.
func (f Fault) Line() string { return faults[f] }

var faults = [...]string{
	FaultNone:    "",
	FaultUnknown: "ERROR\r\n",
	FaultKey:     "CLIENT_ERROR bad command line format\r\n",
	FaultLengths: "ERROR\r\n",
	FaultShape:   "CLIENT_ERROR bad command line format\r\n",
	FaultSize:    "",
}

// Request is one request. Spans are offsets into the buffer that it was parsed from,
// whose first byte is offset 0. A Request holds no pointer.
type Request struct {
	Opcode Opcode
	Fault  Fault
	Plain  bool   // the key may stand in a line of text as it is
	Extras uint8  // bytes of extras, which follow the header
	Head   uint32 // bytes of header, extras and key
	Value  uint32 // bytes that follow them: the value, or what is to be thrown away
	Opaque uint32 // the client's name for it, which the answer repeats
	Cas    uint64 // the version that the item must have, 0 for any
	Key    codec.Span
}

// Head is how many bytes of the request that buf begins with stand before its value,
// as far as buf tells: at first, the header.
func Head(buf []byte) int {
	if len(buf) < HeaderSize {
		return HeaderSize
	}
	return HeaderSize + int(buf[4]) + int(binary.BigEndian.Uint16(buf[2:]))
}

// Parse reads the request at the front of buf. Only what stands before its value must
// be there.
//
//	nil       r is filled
//	ErrShort  that is not there yet
//	ErrMagic  no request begins here
func Parse(buf []byte, r *Request) error {
	if len(buf) > 0 && buf[0] != Magic {
		return ErrMagic
	}
	head := Head(buf)
	if len(buf) < head {
		return ErrShort
	}
	opcode, extras := Opcode(buf[1]), buf[4]
	key := head - HeaderSize - int(extras)
	body := binary.BigEndian.Uint32(buf[8:])
	*r = Request{Opcode: opcode, Extras: extras, Head: uint32(head),
		Opaque: binary.BigEndian.Uint32(buf[12:]), Cas: binary.BigEndian.Uint64(buf[16:]),
		Key: codec.Span{Off: HeaderSize + uint32(extras), Len: uint32(key)}}
	if uint64(body) < uint64(head-HeaderSize) {
		r.Fault = FaultLengths
		return nil
	}
	r.Value = body - uint32(head-HeaderSize)
	r.Fault = judge(r)
	if r.Fault == FaultNone && key > 0 {
		r.Plain = text.Printable(r.Key.In(buf))
		if !r.Plain && key > maxCoded && opcode != Stat {
			r.Fault = FaultKey
		}
	}
	return nil
}

// maxValue is the largest value, in bytes, that a line of text can say: that much and a
// CRLF has a length of 31 bits.
const maxValue = math.MaxInt32 - 2

// maxCoded is the longest key, in bytes, that has at most text.MaxKey characters in
// base64: memcached looks at the length before it decodes one.
const maxCoded = text.MaxKey / 4 * 3

// judge says whether r has the parts that its command must have.
func judge(r *Request) Fault {
	f := &forms[r.Opcode]
	switch {
	case r.Key.Len > text.MaxKey:
		return FaultShape
	case r.Value > maxValue:
		return FaultSize
	case f.traits&known == 0:
		return FaultUnknown
	case r.Extras != f.extras[0] && r.Extras != f.extras[1],
		r.Key.Len == 0 && f.traits&keyed != 0,
		r.Key.Len > 0 && f.traits&(keyed|maybeKey) == 0,
		r.Value > 0 && f.traits&valued == 0:
		return FaultShape
	case f.traits&unserved != 0:
		return FaultUnknown
	}
	return FaultNone
}
