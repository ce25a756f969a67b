package server

import (
	"magent/codec"
	"magent/codec/invariants"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/converge"
	"magent/upstream/repair"
)

// A write goes to the lead, the first replica that is up, in a form that makes the
// lead name the version it made. When the lead has answered, the followers get the
// effect (carry.go), and when they have it, the client hears what the lead said. If
// the lead dies first, the next replica becomes the lead (move.go). (Lead first is
// what lets copies converge: see ARCHITECTURE.md.)

// store serves the commands that carry a value; rest is what follows the line.
func (s *session) store(line, rest []byte, req *codec.Request) []byte {
	size := int(req.Value) + s.valueEnd()
	l := s.routes.lane(s.loop.route(line, req))
	if size >= bigValue {
		s.window = windowSmall
	}
	switch {
	case l == nil:
		if req.Op == codec.OpMetaSet || !req.Quiet() {
			s.refuse(req.Op, lineNoPool)
		}
		s.waste = size
		return rest
	case int(req.Value) > s.loop.cfg.MaxValue:
		s.tooLarge(line, req)
		s.waste = size
		return rest
	case len(rest) >= size:
		s.stored(line, rest[:size], req)
		return rest[size:]
	}
	// The line's place is in front of the value, once its lead is known.
	s.into = l
	s.value = l.group.Gather(len(line) + leadRoom + int(req.Value) + len(endOfLine))
	s.value.Buf = s.value.Buf[:len(line)+leadRoom]
	s.head = append(s.loop.takeBuffer(), line...)
	s.want = size
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
	if s.into.gate.holds(s) {
		s.stalled = true
		return data[n:]
	}
	if s.binary() {
		ck.Buf = append(ck.Buf, endOfLine...)
	}
	line := s.head
	s.value, s.head = nil, nil
	var req codec.Request
	text.Parse(line, &req)
	value := ck.Buf[len(line)+leadRoom:]
	if !s.whole(value, &req) || !s.lead(line, value, ck, &req, s.slotOf(&req)) {
		s.into.group.Release(ck)
	}
	s.loop.giveBuffer(line)
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
	if req.Op == codec.OpMetaSet || value[n-2] == '\r' && value[n-1] == '\n' {
		return true
	}
	if !req.Quiet() {
		s.refuse(req.Op, codec.FaultChunk.Line())
	} else {
		s.count.Answers[req.Op][ResultError]++
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
	if req.Op != codec.OpSet && req.Op != codec.OpMetaSet || !s.replaces() {
		s.settled(s.open(fault))
		return
	}
	var buf [text.MaxKey + 16]byte
	gone := appendForget(buf[:0], req.Key.In(line), req.Meta)
	var del codec.Request
	text.Parse(gone, &del)
	s.lead(gone, nil, nil, &del, fault)
}

// appendForget appends the request that takes key away from a node.
func appendForget(buf, key []byte, meta codec.Letters) []byte {
	buf = text.AppendKeyed(buf, "md", key)
	if meta.Has('b') {
		buf = append(buf[:len(buf)-2], " b\r\n"...)
	}
	return buf
}

// write sends a command, and its value if it has one, to the lead.
func (s *session) write(line, value []byte, req *codec.Request) {
	s.lead(line, value, nil, req, s.slotOf(req))
}

func (s *session) slotOf(req *codec.Request) slot {
	sl := slot{op: req.Op, flags: slotWaits, began: s.loop.arrived()}
	if req.Quiet() {
		sl.flags |= slotQuiet
	}
	if req.Op.Meta() && req.Meta.Has('c') {
		sl.flags |= slotVersion
	}
	return sl
}

// lead has a write carried out, first of all by its lead. The value may lie in ck,
// behind room for the line: it reports whether it took that.
func (s *session) lead(line, value []byte, ck *upstream.Chunk, req *codec.Request, sl slot) (taken bool) {
	key := s.loop.route(line, req)
	l := s.routes.lane(key)
	if l == nil {
		sl.fault = codec.FaultNone
		s.noPool(s.open(sl))
		return false
	}
	sl.lane = l
	c, copy := l.leader(key, 0, s.id)
	sl.copy, sl.tried = copy, 1<<copy
	if !l.pool.Alone() {
		sl.flags |= slotWrites
		sl.hash = hashKey(key)
		l.gate.writing++
	}
	seq := s.open(sl)
	if l.witness != nil {
		l.witness.begins(s, seq, c, key)
	}
	switch {
	case c == nil:
		s.noReplica(l, seq, key)
		return false
	case l.together(req):
		return s.everywhere(seq, key, line, value, ck, req)
	case l.converges && asksFirst(req):
		if heir, copy := l.heir(key, copy, s.id); heir != nil {
			s.slots.at(seq).heir = copy
			return s.askHeir(c, heir, seq, line, value, ck, req)
		}
	}
	if l.converges && setsTTL(req) {
		endReads(c)
	}
	op := l.leadOp(req)
	p := upstream.Pending{Owner: s, Seq: seq, Leg: legLead, Op: op, Mark: bare(op, req.Meta)}
	if ck != nil {
		from := prepend(ck.Buf, len(line)+leadRoom, l.appendLead(l.scratch[:0], line, req, c, copy))
		taken = c.SendChunk(ck, from, p, keyOf(op, req))
	} else {
		buf := l.appendLead(c.Room(len(line)+leadRoom+len(value)), line, req, c, copy)
		taken = c.Send(s.appendValue(buf, value, req), p, keyOf(op, req))
	}
	if !taken {
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	}
	return taken
}

// prepend writes line into buf so that it ends at end, and returns where it begins.
func prepend(buf []byte, end int, line []byte) (from int) {
	from = end - len(line)
	invariants.Check(from >= 0, "server: a line has outgrown the room for it")
	copy(buf[from:], line)
	return from
}

// keyOf is where the key stands in a request as it is sent: behind the word.
func keyOf(op codec.Op, req *codec.Request) codec.Span {
	return codec.Span{Off: uint32(len(op.String())) + 1, Len: req.Key.Len}
}

// bare says of a request that goes to a node, with the flags meta, if the answer to it names
// nothing but a version. What a repair or its like sends is always so, or names its key.
func bare(op codec.Op, meta codec.Letters) upstream.Mark {
	if (op == codec.OpMetaSet || op == codec.OpMetaDelete) && !meta.Any(codec.Letter('k')|codec.Letter('O')) {
		return upstream.Bare
	}
	return 0
}

// leadReply hears what the lead did, and passes the effect on.
func (s *session) leadReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	sl := s.slots.at(p.Seq)
	if r.Kind == codec.KindError {
		s.count.Errors++
	}
	if sl.is(slotEverywhere) {
		s.drop(sl) // a follower was faster
	}
	if sl.lane.pool.Alone() && sl.tellable(r) {
		sl.flags &^= slotWaits
		sl.result = resultOf(b)
		s.emit(p.Seq, b)
		s.finish(p.Seq)
		return
	}
	answer := b
	if r.Kind == codec.KindEnd {
		answer = lineVA // it has been held already
	} else {
		s.keepAnswer(c, sl, r, b)
		if r.Kind == codec.KindValue {
			return
		}
	}
	if sl.lane.pool.Alone() {
		s.settled(p.Seq)
		return
	}
	s.led(p, answer)
}

// tellable reports whether the client is to have r as it is, and nothing else: the usual
// case where nobody but the lead is waited for.
func (s *slot) tellable(r *codec.Reply) bool {
	return r.Kind == codec.KindLine && s.out == nil && s.fault == codec.FaultNone && !s.is(slotQuiet)
}

// lineVA stands for the line of an answer that had a value.
var lineVA = []byte("VA 0\r\n")

// keepAnswer holds the lead's answer as the client is to have it.
func (s *session) keepAnswer(c *upstream.Conn, sl *slot, r *codec.Reply, b []byte) {
	l := sl.lane
	if l.pool.Alone() {
		s.keep(sl, b)
		return
	}
	asked := codec.Request{Op: sl.op}
	if sl.is(slotVersion) {
		asked.Meta = codec.Letter('c')
	}
	line := b[:r.Line]
	token := encode(repair.ParseReply(line).Cas, c, sl.copy)
	s.keep(sl, converge.AppendReply(l.scratch[:0], line, &asked, token))
	s.keep(sl, b[r.Line:])
}

// led gives the followers the effect of the write p, which the lead has answered.
func (s *session) led(p *upstream.Pending, answer []byte) {
	sl := s.slots.at(p.Seq)
	l := sl.lane
	everywhere := sl.is(slotEverywhere)
	if l.witness != nil {
		sl.led = l.group.Micros()
	}
	if sl.left == 0 { // else the lead is counted already
		sl.left = 1
	}
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	// A write that went everywhere has taken effect, unless the lead had no room: it
	// has then dropped what it had.
	e := converge.EffectOf(&req, answer)
	if e != converge.Nothing && (!everywhere || e == converge.Delete && p.Op.Class() == codec.ClassStore) {
		w := converge.Write{Line: line, Request: &req, Answer: answer, Explicit: l.group.Explicit(), Once: l.parallel}
		waiting := s
		if l.ackLead {
			waiting = nil
		}
		l.carryAll(e, &w, l.routeSent(line, &req), p, sl.copy, s.id, waiting)
	}
	s.carried(p.Seq, p, false)
}

// carried hears that one of those that a write waits for is done: its lead, or a
// carry to a follower. lost says that the lead died before the follower had what
// became of the write. When the last is done, that write, p, moves on as if its lead
// had not answered: an answer that it gave would be forgotten by the replica that
// leads now.
func (s *session) carried(seq uint32, p *upstream.Pending, lost bool) {
	sl := s.slots.at(seq)
	if lost {
		sl.flags |= slotLost
	}
	if sl.left == 1 && sl.is(slotLost) {
		sl.flags &^= slotLost
		lead := sl.lane.pool.Replica(int(sl.copy), s.loop.routeKey(p))
		s.moveLead(sl.lane.group.Conn(lead, s.id), p, upstream.CauseReset, true)
		return
	}
	s.acknowledged(seq)
}

// acknowledged counts down the nodes that a write waits for.
func (s *session) acknowledged(seq uint32) {
	sl := s.slots.at(seq)
	if sl.left--; sl.left == 0 {
		s.settled(seq)
	}
}

// settled answers a write that all its replicas have seen.
func (s *session) settled(seq uint32) {
	sl := s.slots.at(seq)
	sl.flags &^= slotWaits
	if sl.out != nil {
		sl.result = resultOf(sl.out.B)
	}
	switch {
	case sl.fault != codec.FaultNone:
		sl.result = ResultError
		s.count.Errors++
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
