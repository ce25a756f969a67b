package server

import (
	"bytes"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// A write goes to the lead, the first replica that is up. When the lead has
// answered, its effect goes to the other replicas, and when they have answered,
// or failed, the client hears what the lead said. If the lead dies first, the
// next replica becomes the lead: it has not had the write, so nothing is done
// twice. (Lead first is what lets copies converge: see ARCHITECTURE.md.)

// store serves the commands that carry a value; rest is what follows the line.
func (s *session) store(line, rest []byte, req *codec.Request) []byte {
	size := int(req.Value) + 2
	if size >= bigValue {
		s.window = windowSmall
	}
	switch {
	case int(req.Value) > s.loop.cfg.MaxValue:
		s.tooLarge(line, req)
		s.waste = size
		return rest
	case len(rest) >= size:
		s.stored(line, rest[:size], req)
		return rest[size:]
	}
	// The line as the node gets it, and room for exactly the value.
	head := len(line) + 16
	s.value = s.loop.group.Gather(head + size)
	s.value.Buf = text.AppendLine(s.value.Buf, line, req)
	s.want, s.quiet = size, req.Quiet()
	return s.gather(rest)
}

// gather takes what data has of the value that is under way.
func (s *session) gather(data []byte) []byte {
	n := min(s.want, len(data))
	ck := s.value
	ck.Buf = append(ck.Buf, data[:n]...)
	if s.want -= n; s.want > 0 {
		return data[n:]
	}
	s.value = nil
	line := ck.Buf[:bytes.IndexByte(ck.Buf, '\n')+1]
	var req codec.Request
	text.Parse(line, &req)
	if s.quiet {
		req.Flags |= codec.FlagQuiet
	}
	value := ck.Buf[len(line):]
	if !s.whole(value, &req) || !s.writeChunk(line, ck, &req) {
		s.loop.group.Release(ck)
	}
	return data[n:]
}

// stored serves a store command that has come whole.
func (s *session) stored(line, value []byte, req *codec.Request) {
	if s.whole(value, req) {
		s.write(line, value, req)
	}
}

// whole reports whether value ends as it must, and answers if it does not. The
// node judges an ms, whose flags may be at fault first.
func (s *session) whole(value []byte, req *codec.Request) bool {
	n := len(value)
	if value[n-2] == '\r' && value[n-1] == '\n' || req.Op == codec.OpMetaSet {
		return true
	}
	if !req.Quiet() {
		s.refuse(codec.FaultChunk.Line())
	}
	return false
}

// tooLarge refuses a value as memcached does: the item that a set would have
// replaced is gone, lest an old value outlive a new one.
func (s *session) tooLarge(line []byte, req *codec.Request) {
	fault := s.slotOf(req)
	fault.fault = codec.FaultTooLarge
	if req.Op == codec.OpMetaSet {
		fault.flags &^= slotQuiet // a q hides news, not errors
	}
	if req.Op != codec.OpSet && req.Op != codec.OpMetaSet {
		s.settled(s.open(fault))
		return
	}
	var buf [text.MaxKey + 16]byte
	gone := appendForget(buf[:0], req.Key.In(line), req.Meta)
	var del codec.Request
	text.Parse(gone, &del)
	fault.op = codec.OpMetaDelete
	s.lead(gone, nil, &del, fault)
}

// write sends a command, and its value if it has one, to the lead.
func (s *session) write(line, value []byte, req *codec.Request) {
	s.lead(line, value, req, s.slotOf(req))
}

func (s *session) slotOf(req *codec.Request) slot {
	sl := slot{op: req.Op, flags: slotWaits}
	if req.Quiet() {
		sl.flags |= slotQuiet
	}
	return sl
}

func (s *session) lead(line, value []byte, req *codec.Request, sl slot) {
	c, seq := s.leader(line, req, sl)
	if c == nil {
		return
	}
	buf := text.AppendLine(c.Room(len(line)+len(value)+16), line, req)
	buf = append(buf, value...)
	if !c.Send(buf, upstream.Pending{Owner: s, Seq: seq, Leg: legLead, Op: req.Op}, keyOf(req.Op, req)) {
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	}
}

// writeChunk is write for a request that lies in memory of its own. It reports
// whether it took it.
func (s *session) writeChunk(line []byte, ck *upstream.Chunk, req *codec.Request) bool {
	c, seq := s.leader(line, req, s.slotOf(req))
	if c == nil {
		return false
	}
	if !c.SendChunk(ck, upstream.Pending{Owner: s, Seq: seq, Leg: legLead, Op: req.Op}, keyOf(req.Op, req)) {
		s.fail(seq, c.Node().Error(upstream.CauseFull))
		return false
	}
	return true
}

// leader opens a slot for a write and finds its lead; nil, and the slot is
// answered, if there is none.
func (s *session) leader(line []byte, req *codec.Request, sl slot) (*upstream.Conn, uint32) {
	key := s.loop.route(line, req)
	c, copy := s.loop.reader(key, 0, s.id)
	sl.copy, sl.tried = copy, 1<<copy
	seq := s.open(sl)
	if c == nil {
		s.noReplica(seq, key)
	}
	return c, seq
}

// keyOf is where the key stands in a request as it is sent: behind the word.
func keyOf(op codec.Op, req *codec.Request) codec.Span {
	return codec.Span{Off: uint32(len(op.String())) + 1, Len: req.Key.Len}
}

// leadReply hears what the lead did, and passes the effect on.
func (s *session) leadReply(p *upstream.Pending, r *codec.Reply, b []byte) {
	sl := s.slots.at(p.Seq)
	if r.Kind == codec.KindError {
		s.loop.count.Errors++
	}
	if r.Kind != codec.KindEnd { // of a VA that has been held already
		s.keep(sl, b)
		if r.Kind == codec.KindValue {
			return
		}
	}
	s.follow(p, sl)
	if sl.left == 0 {
		s.settled(p.Seq)
	}
}

// followerReply hears what a follower did. A counter that came out otherwise
// than at the lead is taken away there: a miss is safe, a wrong value is not.
func (s *session) followerReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	if r.Kind != codec.KindEnd && p.Op != codec.OpMetaDelete && s.slots.at(p.Seq).differs(r, b) {
		s.loop.forget(c, p)
	}
	if r.Kind == codec.KindValue {
		return
	}
	s.acknowledged(p.Seq)
}

// acknowledged counts down the followers that a write waits for.
func (s *session) acknowledged(seq uint32) {
	sl := s.slots.at(seq)
	if sl.left--; sl.left == 0 {
		s.settled(seq)
	}
}

// differs reports whether a follower's answer to a counter is another number
// than the lead's.
func (s *slot) differs(r *codec.Reply, b []byte) bool {
	switch {
	case r.Kind == codec.KindError:
		return true
	case s.op == codec.OpIncr || s.op == codec.OpDecr:
		return b[0] != 'N' && !bytes.Equal(b, s.out.B)
	case s.op == codec.OpMetaArith && r.Kind == codec.KindValue:
		return bytes.HasPrefix(s.out.B, []byte("VA ")) && !bytes.Equal(lastLine(b), lastLine(s.out.B))
	}
	return false
}

// lastLine is the last line of b, which ends in CRLF.
func lastLine(b []byte) []byte {
	return b[bytes.LastIndexByte(b[:max(0, len(b)-2)], '\n')+1:]
}

// settled answers a write that all its replicas have seen.
func (s *session) settled(seq uint32) {
	sl := s.slots.at(seq)
	sl.flags &^= slotWaits
	switch {
	case sl.fault != codec.FaultNone:
		s.loop.count.Errors++
		s.drop(sl)
		if !sl.is(slotQuiet) {
			s.keep(sl, []byte(sl.fault.Line()))
		}
	case sl.is(slotQuiet) && sl.silenced():
		s.drop(sl)
	}
	s.finish(seq)
}

// silenced reports whether a quiet command keeps this answer to itself: every
// answer after noreply, the expected one after q.
func (s *slot) silenced() bool {
	if !s.op.Meta() || s.out == nil {
		return true
	}
	b := s.out.B
	return len(b) >= 2 && (b[0] == 'H' && b[1] == 'D' || b[0] == 'V' && b[1] == 'A')
}

// moveLead gives a write whose lead died to the next replica, which has not had it.
func (s *session) moveLead(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause, sent bool) {
	sl := s.slots.at(p.Seq)
	s.drop(sl)
	next, copy := s.loop.reader(s.loop.routeKey(p), sl.tried, s.id)
	if next == nil && !sent && s.loop.mayAskAgain(sl, cause) {
		sl.flags |= slotAgain
		next, copy = c, sl.copy
	}
	if next == nil {
		s.fail(p.Seq, c.Node().Error(cause))
		return
	}
	s.loop.count.Failovers++
	sl.copy, sl.tried = copy, sl.tried|1<<copy
	if !next.Resend(p) {
		s.fail(p.Seq, next.Node().Error(upstream.CauseFull))
	}
}
