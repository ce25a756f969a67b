package server

import (
	"bytes"

	"github.com/valyala/bytebufferpool"

	"magent/codec"
	"magent/codec/binary"
	"magent/codec/text"
	"magent/upstream"
)

// A client that begins with binary's magic speaks the binary protocol. Between the two
// ends of a session, which are here, that makes no difference: frame puts a request as
// the line of text that asks for the same, with the same slot, Pending and answer, and
// render puts the answer as a response when it leaves. So whatever is done for copies,
// for nodes that die and for clients that do not read is done once.
//
// What there is of it in between: a value has no line end behind it until it goes to a
// node; a slot has what the answer must repeat; and the answer to a read of a key that
// it must say has that put in, as a node does not say what it has not got.

// framing is which protocol a session speaks, and how far it is with that.
type framing struct {
	protocol protocol
	asked    binary.Asked // of the request that is being served
	rest     int          // bytes of the value that is leaving, with its CRLF, that have not
}

type protocol uint8

const (
	protocolUnknown protocol = iota // nothing has come
	protocolText
	protocolBinary
)

// binary reports whether the client speaks the binary protocol.
func (f *framing) binary() bool { return f.protocol == protocolBinary }

// next serves the request at the front of data, which is not empty, and returns what
// is behind it.
func (s *session) next(data []byte) []byte {
	data = s.rejoin(data)
	switch s.protocol {
	case protocolText:
		if s.stranger() {
			return s.introduce(data)
		}
		return s.command(data)
	case protocolBinary:
		return s.frame(data)
	}
	s.protocol = protocolText
	switch {
	case data[0] == binary.Magic:
		s.protocol = protocolBinary
	case bytes.HasPrefix(data, helloOfTLS):
		s.count.Commands[codec.OpNone]++
		s.refuse(codec.OpNone, codec.FaultError.Line())
		s.end()
		return nil
	}
	return s.next(data)
}

// helloOfTLS is how a client begins that takes this for a port of TLS (RFC 8446, 5.1: a
// handshake, in a record of any version). It has nothing like the end of a line, and waits
// for an answer: whatever that is, it says then what is wrong.
var helloOfTLS = []byte{22, 3}

// frame reads one binary request from the front of data and returns what is behind it.
// One that has not come whole up to its value, some 64 KiB at most, waits in line.
func (s *session) frame(data []byte) []byte {
	buf := data
	if s.line != nil {
		for n := 1; n > 0; {
			n = min(len(data), binary.Head(s.line)-len(s.line))
			s.line, data = append(s.line, data[:n]...), data[n:]
		}
		buf = s.line
	}
	var r binary.Request
	switch binary.Parse(buf, &r) {
	case binary.ErrShort:
		if s.line == nil {
			s.line = append(s.loop.takeBuffer(), data...)
		}
		return nil
	case binary.ErrMagic:
		s.end()
		return nil
	}
	if s.line == nil {
		if rest, served := s.request(buf, data[r.Head:], &r); served {
			return rest
		}
		return data
	}
	s.line = nil
	rest, served := s.request(buf, data, &r)
	if !served {
		return append(buf, data...)
	}
	s.loop.giveBuffer(buf)
	return rest
}

// request serves r, of which buf has all but the value; rest is what follows that. It
// returns what is behind it all. If r must wait for another, it is not served.
func (s *session) request(buf, rest []byte, r *binary.Request) (behind []byte, served bool) {
	l := s.loop
	if s.guards(r) {
		return s.challenge(buf, rest, r), true
	}
	s.asked = binary.Asked{Opcode: r.Opcode, Opaque: r.Opaque}
	if r.Fault != binary.FaultNone {
		s.unserved(r)
		return rest, true
	}
	if r.Plain && r.Opcode.Loud() == binary.Get && s.asking == 0 && !l.rules.any && s.tally == nil {
		// Most requests are this one, which awaits nobody: it need not be put as a command first,
		// if nobody looks at commands.
		s.count.Commands[codec.OpGets]++
		s.getKey(codec.OpGets, nil, r.Key.In(buf), slotKey|slotLast)
		return rest, true
	}
	var req codec.Request
	line := binary.AppendLine(l.asText[:0], buf, r, &req)
	if s.awaits(line, &req) {
		s.stalled = true
		return nil, false
	}
	if req.Op == codec.OpQuit {
		s.say(req.Op, lineOK)
	}
	return s.serve(line, rest, &req), true
}

// unserved answers a request that is not carried out. What follows it is thrown away,
// if the connection outlives it.
func (s *session) unserved(r *binary.Request) {
	s.count.Commands[codec.OpNone]++
	if line := r.Fault.Line(); line != "" {
		s.refuse(codec.OpNone, line)
	} else {
		s.count.Answers[codec.OpNone][ResultError]++
	}
	switch {
	case r.Fault.Closes():
		s.end()
	default:
		s.waste = int(r.Value)
	}
}

var (
	lineOK    = []byte("OK\r\n")
	endOfLine = []byte("\r\n")
)

// valueEnd is how many bytes a client sends behind a value.
func (f *framing) valueEnd() int {
	if f.binary() {
		return 0
	}
	return len(endOfLine)
}

// appendValue appends the value of req, if it has one, as nodes get it.
func (s *session) appendValue(buf, value []byte, req *codec.Request) []byte {
	buf = append(buf, value...)
	if s.binary() && req.Op.Class() == codec.ClassStore {
		buf = append(buf, endOfLine...)
	}
	return buf
}

// replaces reports whether the store that is being served takes the place of what is
// there, as far as its protocol tells it from others by the command.
func (f *framing) replaces() bool { return !f.binary() || f.asked.Opcode.Loud() == binary.Set }

// unfound answers a read that has come to its end with no value, if it has.
func (s *session) unfound(p *upstream.Pending, sl *slot) {
	switch {
	case sl.is(slotHit):
	case sl.asked.Opcode.Named():
		s.emit(p.Seq, binary.AppendKey(append(s.loop.scratch[:0], "EN"...), p.Key(), p.Op.Meta()))
	default:
		s.emit(p.Seq, lineEN)
	}
}

var lineEN = []byte("EN\r\n")

// hit has a hit leave at once, if it is its turn: the usual case, in which it need not be
// put as text first. It reports whether it did.
func (s *session) hit(c *upstream.Conn, p *upstream.Pending, sl *slot, r *codec.Reply, b []byte) bool {
	if s.wire == nil || p.Op.Meta() || !s.slots.first(p.Seq) || sl.is(slotWaits) {
		return false
	}
	h := binary.Hit{Key: r.Key.In(b)}
	h.Parse(b[r.Key.End()+1 : r.Line])
	if sl.is(slotVersion) {
		h.Cas = encode(h.Cas, c, sl.copy)
	}
	s.begin()
	s.out = binary.AppendHit(s.out, &h, sl.asked)
	value, size := b[r.Line:], int(h.Size)
	if size < bigValue && len(value) == size+len(endOfLine) {
		s.out = append(s.out, value[:size]...)
		return true
	}
	s.rest = size + len(endOfLine)
	s.render(sl.asked, value, nil)
	return true
}

// named is the line of a hit with the key that was asked for, in base64, and with a
// token for a version. It is good until scratch is used again.
func (s *session) named(c *upstream.Conn, p *upstream.Pending, sl *slot, line []byte) []byte {
	if sl.is(slotVersion) {
		line = s.versioned(c, sl, line)
	}
	// The line may lie in scratch, where it is then.
	return binary.AppendKey(append(s.loop.scratch[:0], line[:len(line)-len(endOfLine)]...), p.Key(), true)
}

// render has b, a part of the text of an answer, leave as what a binary client gets: a
// line, which is whole, as a response without a value, a value as it is, the line end
// behind it not at all. b lies in owner if that is not nil, which is released.
func (s *session) render(asked binary.Asked, b []byte, owner *bytebufferpool.ByteBuffer) {
	for len(b) > 0 {
		if s.rest == 0 {
			s.begin()
			out, n, value := binary.AppendReply(s.out, b, asked)
			s.out, b = out, b[n:]
			if value != binary.NoValue {
				s.rest = value + len(endOfLine)
			}
			continue
		}
		n := min(len(b), s.rest)
		s.rest -= n
		value := b[:max(0, n-max(0, len(endOfLine)-s.rest))]
		b = b[n:]
		if len(value) < bigValue {
			s.put(value, nil)
			continue
		}
		s.put(value, owner)
		owner = nil
	}
	s.loop.held.put(owner)
}

// asTextRoom holds the longest line that a binary request becomes.
const asTextRoom = text.MaxKey + binary.Room
