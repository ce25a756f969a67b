package server

import (
	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// The legs a request has: which part of a command a Pending carries.
const (
	legRead     upstream.Leg = iota // one replica answers
	legLead                         // a write, at the first replica
	legFollower                     // its effect, at the others
	legEveryone                     // a command to all nodes
)

// maxCommand bounds the line of a multi-get to one node: memcached closes a
// connection that sends a longer gat in more than one piece.
const maxCommand = 1900

// get serves get, gets, gat and gats. Each key is a slot of its own, so that the
// values leave in the order asked whatever node they come from; keys for one node
// share a command.
func (s *session) get(line, rest []byte, req *codec.Request) []byte {
	if req.Key.Len == 0 { // gat without a key
		s.say(lineEnd)
		return rest
	}
	if req.Flags&codec.FlagClean != 0 && req.Key == req.Rest && req.Op.Class() == codec.ClassRead {
		s.getOne(line, req)
		return rest
	}
	at := req.Key.Off
	key, _ := text.NextKey(line, req.Rest, &at)
	for more := true; more; {
		var next codec.Span
		next, more = text.NextKey(line, req.Rest, &at)
		flags := slotKey
		if !more {
			flags |= slotLast
		}
		s.getKey(line, req, key, flags)
		if more && s.full() {
			s.loop.closeCommands()
			return s.defer_(line, rest, req, next)
		}
		key = next
	}
	s.loop.closeCommands()
	return rest
}

// getOne sends a get of one key, byte for byte.
func (s *session) getOne(line []byte, req *codec.Request) {
	key := req.Key.In(line)
	c, copy := s.loop.reader(key, 0, s.id)
	seq := s.open(slot{op: req.Op, flags: slotKey | slotLast, copy: copy, tried: 1 << copy})
	if c == nil {
		s.noReplica(seq, key)
		return
	}
	buf := append(c.Room(len(line)), line...)
	if !c.Send(buf, upstream.Pending{Owner: s, Seq: seq, Leg: legRead, Op: req.Op}, req.Key) {
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	}
}

// getKey adds one key of a multi-get to the command that is being made for its node.
func (s *session) getKey(line []byte, req *codec.Request, at codec.Span, flags slotFlags) {
	key := at.In(line)
	c, copy := s.loop.reader(key, 0, s.id)
	seq := s.open(slot{op: req.Op, flags: flags, copy: copy, tried: 1 << copy})
	switch {
	case c == nil:
		s.noReplica(seq, key)
	case c.Free() == 0:
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	default:
		s.loop.addKey(c, req.Op, req.Arg.In(line), key, upstream.Pending{Owner: s, Seq: seq, Leg: legRead, Op: req.Op})
	}
}

// defer_ holds back the keys of a multi-get from next on, as a command of their
// own: the slots before them have no END, so the two read as one to the client.
func (s *session) defer_(line, rest []byte, req *codec.Request, next codec.Span) []byte {
	held := make([]byte, 0, len(line)+len(rest))
	held = append(held, req.Op.String()...)
	if req.Arg.Len > 0 {
		held = append(held, ' ')
		held = append(held, req.Arg.In(line)...)
	}
	held = append(held, ' ')
	held = append(held, line[next.Off:req.Rest.End()]...)
	held = append(held, "\r\n"...)
	s.hold(append(held, rest...))
	return nil
}

// metaGet serves mg and me.
func (s *session) metaGet(line []byte, req *codec.Request) {
	var buf [text.MaxKey]byte
	key := text.RouteKey(req.Key.In(line), req.Meta, buf[:])
	c, copy := s.loop.reader(key, 0, s.id)
	sl := slot{op: req.Op, copy: copy, tried: 1 << copy}
	if req.Quiet() {
		sl.flags = slotQuiet
	}
	seq := s.open(sl)
	if c == nil {
		s.noReplica(seq, key)
		return
	}
	out := text.AppendLine(c.Room(len(line)+8), line, req)
	p := upstream.Pending{Owner: s, Seq: seq, Leg: legRead, Op: req.Op}
	if !c.Send(out, p, codec.Span{Off: 3, Len: req.Key.Len}) {
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	}
}

// readReply hears a frame of a read's answer.
func (s *session) readReply(p *upstream.Pending, r *codec.Reply, b []byte) {
	sl := s.slots.at(p.Seq)
	switch r.Kind {
	case codec.KindValue:
		sl.flags |= slotHit
		if len(b) < r.Size() {
			sl.flags |= slotPartial
		}
		s.emit(p.Seq, b)
		return
	case codec.KindEnd:
		if sl.op.MultiKey() && sl.is(slotLast) {
			s.emit(p.Seq, lineEnd)
		}
	case codec.KindMiss:
		if !sl.is(slotQuiet) {
			s.emit(p.Seq, b)
		}
	case codec.KindError:
		sl.flags |= slotBroken
		s.emit(p.Seq, b)
	default: // HD, ME
		sl.flags |= slotHit
		s.emit(p.Seq, b)
	}
	s.counted(sl, r.Kind)
	if sl.is(slotHit) {
		s.touched(p, sl)
	}
	s.finish(p.Seq)
}

func (s *session) counted(sl *slot, k codec.Kind) {
	switch {
	case k == codec.KindError:
		s.loop.count.Errors++
	case sl.is(slotHit):
		s.loop.count.Hits++
	default:
		s.loop.count.Misses++
	}
}

// retry asks the next replica of a key whose replica did not answer.
func (s *session) retry(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl := s.slots.at(p.Seq)
	switch {
	case sl.is(slotPartial) && s.slots.first(p.Seq):
		// Half of the value is with the client: nothing can be put in its place.
		s.loop.count.Errors++
		s.close()
		s.finish(p.Seq)
		return
	case sl.is(slotHit) && !sl.is(slotPartial):
		// The value was whole; only the END that follows it did not come.
		s.readReply(p, &codec.Reply{Kind: codec.KindEnd}, nil)
		return
	}
	sl.release()
	sl.flags &^= slotHit | slotPartial
	var buf [text.MaxKey]byte
	key := s.loop.routeKey(p, &buf)
	next, copy := s.loop.reader(key, sl.tried, s.id)
	if next == nil && s.loop.mayAskAgain(sl, cause) {
		sl.flags |= slotAgain
		next, copy = c, sl.copy
	}
	if next == nil {
		s.fail(p.Seq, c.Node().Error(cause))
		return
	}
	s.loop.count.Failovers++
	sl.copy, sl.tried = copy, sl.tried|1<<copy
	if !s.loop.ask(next, sl.op, p) {
		s.fail(p.Seq, next.Node().Error(upstream.CauseFull))
	}
}

// fail answers a slot with an error line and closes it.
func (s *session) fail(seq uint32, line []byte) {
	sl := s.slots.at(seq)
	s.loop.count.Errors++
	sl.release()
	sl.flags = sl.flags&^slotWaits | slotBroken
	if !sl.is(slotQuiet) || sl.op.Meta() {
		s.emit(seq, line)
	}
	s.finish(seq)
}

// noReplica answers a slot none of whose nodes is up.
func (s *session) noReplica(seq uint32, key []byte) {
	s.fail(seq, s.loop.pool.Nodes[s.loop.pool.Replica(0, key)].Error(upstream.CauseDown))
}
