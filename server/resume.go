package server

import (
	"bytes"

	"github.com/cespare/xxhash/v2"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// A big value is relayed as it comes, so a node may die when the client has half
// of it. The next replica is then asked for the same key, and if its value has
// the same flags and length and begins with the very bytes that were relayed, what
// the client has and the rest of that value are together that value: the client
// gets the rest and notices nothing. If not, nothing true can be said any more and
// the connection is closed.

// relay is the value that is under way to a client: at most one per session, that
// of its oldest command.
type relay struct {
	size  uint32   // bytes of the whole value
	flags [10]byte // client flags, as written; zeros behind
	sent  int      // bytes of the value, or its CRLF, that the client has
	sum   xxhash.Digest
	seen  int // bytes of the second replica's value that have been compared
	again xxhash.Digest
}

// valueFlags is the client flags of a VALUE line; empty for a VA line, whose
// flags the client chose and may have left out.
func valueFlags(line []byte) (f [10]byte) {
	if rest, ok := bytes.CutPrefix(line, []byte("VALUE ")); ok {
		_, rest, _ = bytes.Cut(rest, []byte(" "))
		word, _, _ := bytes.Cut(rest, []byte(" "))
		copy(f[:], word)
	}
	return f
}

// valueSize is the length of the value that b, from an answer to op, begins with.
func valueSize(op codec.Op, b []byte) uint32 {
	var r codec.Reply
	text.ParseReply(b, op.Shape(), &r)
	return r.Value
}

// relaying notes that the client was sent the front of a value: b begins with
// its line.
func (s *session) relaying(size uint32, b []byte) {
	if s.relay == nil {
		s.relay = new(relay)
	}
	line := b[:bytes.IndexByte(b, '\n')+1]
	s.relay.size, s.relay.flags, s.relay.sent = size, valueFlags(line), 0
	s.relay.sum.Reset()
	s.relayed(b[len(line):])
}

// relayed notes that the client was sent more of it.
func (s *session) relayed(b []byte) {
	s.relay.sent += len(b)
	s.relay.sum.Write(b)
}

// takeUp asks the next replica for the value whose front the client has.
func (s *session) takeUp(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl := s.slots.at(p.Seq)
	next := s.nextReplica(c, p, sl, cause)
	if next == nil || s.wire == nil {
		s.giveUp(p.Seq)
		return
	}
	s.relay.seen = 0
	s.relay.again.Reset()
	if !sl.lane.ask(next, p, legResume) {
		s.giveUp(p.Seq)
	}
}

// giveUp closes a client that has half of a value the rest of which is lost.
func (s *session) giveUp(seq uint32) {
	s.count.Errors++
	s.slots.at(seq).result = ResultError
	s.close()
	s.finish(seq)
}

// resumeReply hears the second replica.
func (s *session) resumeReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	have := s.relay
	switch {
	case r.Kind == codec.KindValue && r.Value == have.size && valueFlags(b[:r.Line]) == have.flags:
		s.resumeBody(p.Seq, b[r.Line:])
	case r.Kind == codec.KindValue: // another value by now
		s.close()
	case r.Kind == codec.KindEnd && have.sent == int(have.size)+2:
		s.slots.at(p.Seq).flags &^= slotPartial
		s.readReply(c, p, &end, nil)
	default:
		s.giveUp(p.Seq)
	}
}

// resumeBody compares what the client has with b, and sends it what it has not.
func (s *session) resumeBody(seq uint32, b []byte) {
	have := s.relay
	n := min(len(b), have.sent-have.seen)
	have.again.Write(b[:n])
	have.seen += n
	switch {
	case s.wire == nil || have.seen < have.sent:
	case n > 0 && have.again.Sum64() != have.sum.Sum64():
		s.close()
	case n < len(b):
		s.emit(seq, b[n:])
		s.relayed(b[n:])
		have.seen, have.again = have.sent, have.sum
	}
}
