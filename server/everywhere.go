package server

import (
	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// With --writes parallel, a write that does not depend on what is there goes to all
// replicas at once, byte for byte the same. It is done one round trip earlier than
// one that goes to the lead first, and when two clients write one key, nobody sees
// to it that the copies end equal.

// together reports whether req goes to all replicas at once.
func (l *lane) together(req *codec.Request) bool {
	if !l.parallel {
		return false
	}
	switch req.Op {
	case codec.OpSet, codec.OpDelete, codec.OpTouch:
		return true
	case codec.OpMetaSet:
		return (req.Mode == 0 || req.Mode|0x20 == 's') && !req.Meta.Any(dependent)
	case codec.OpMetaDelete:
		return !req.Meta.Any(dependent | codec.Letter('x'))
	}
	return false
}

// dependent are the flags of a write that needs an order or a version: C, I, and c,
// which asks for the version of one of them.
var dependent = codec.Letter('C') | codec.Letter('I') | codec.Letter('c')

// everywhere sends a write to all replicas of key. The lead's answer is the
// client's. It reports whether it took ck.
func (s *session) everywhere(seq uint32, key, line, value []byte, ck *upstream.Chunk, req *codec.Request) (taken bool) {
	sl := s.slots.at(seq)
	l := sl.lane
	sl.flags |= slotEverywhere
	sl.left = 1
	var held upstream.Pending
	if ck != nil {
		from := prepend(ck.Buf, len(line)+leadRoom, text.AppendLine(l.scratch[:0], line, req))
		held = l.group.HoldChunk(ck, from, upstream.Pending{Op: req.Op}, keyOf(req.Op, req))
	}
	nodes := l.replicas(key)
	lead := nodes[sl.copy]
	if !s.leg(l, lead, upstream.Pending{Owner: s, Seq: seq, Leg: legLead, Op: req.Op}, held, line, value, req) {
		l.group.Drop(&held)
		s.fail(seq, l.pool.Nodes[lead].Error(upstream.CauseFull))
		return ck != nil
	}
	for i, node := range nodes[:len(l.pool.Copies)] {
		if i == int(sl.copy) || node == lead {
			continue
		}
		if !l.pool.Health.Writable(node) {
			l.owes(node, req.Key.In(line), req.Meta.Has('b'))
			continue
		}
		p := upstream.Pending{Owner: untold{lane: l}, Op: req.Op}
		if !l.ackLead {
			p = upstream.Pending{Owner: s, Seq: seq, Leg: legFollower, Op: req.Op}
		}
		switch {
		case !s.leg(l, node, p, held, line, value, req):
			l.group.Conn(node, s.id).Overflow()
			l.missed(node, req.Key.In(line), req.Meta.Has('b'))
		case l.ackLead:
			l.gate.effects++
		default:
			sl.left++
		}
	}
	l.group.Drop(&held)
	return ck != nil
}

// leg sends one of them, as p: what is held if anything is, else line and value.
func (s *session) leg(l *lane, node int, p, held upstream.Pending, line, value []byte, req *codec.Request) bool {
	c := l.group.Conn(node, s.id)
	if held.Op != codec.OpNone {
		held.Owner, held.Seq, held.Leg = p.Owner, p.Seq, p.Leg
		return c.Resend(&held)
	}
	buf := text.AppendLine(c.Room(len(line)+leadRoom+len(value)), line, req)
	return c.Send(s.appendValue(buf, value, req), p, keyOf(req.Op, req))
}

// followerReply hears a follower of a write that went everywhere. Its answer stands in
// for that of a lead that dies.
func (s *session) followerReply(p *upstream.Pending, b []byte) {
	if sl := s.slots.at(p.Seq); sl.out == nil {
		s.keep(sl, b)
	}
	s.acknowledged(p.Seq)
}

// followerFailed hears that a follower will not answer. If it was the last, and
// nobody has, the client is told.
func (s *session) followerFailed(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl := s.slots.at(p.Seq)
	sl.lane.mayHaveMissed(c.Node().Index, p)
	if sl.left == 1 && sl.out == nil {
		s.fail(p.Seq, c.Node().Error(cause))
		return
	}
	s.acknowledged(p.Seq)
}

// untold owns a write to a follower whose answer no client waits for.
type untold struct {
	patient
	*lane
}

// Reply hears that the follower has the write, which has an answer of one line.
func (u untold) Reply(*upstream.Conn, *upstream.Pending, *codec.Reply, []byte) { u.gate.effected() }

func (untold) Body(*upstream.Conn, *upstream.Pending, []byte, int) {}

// Fail hears that the follower has missed the write.
func (u untold) Fail(c *upstream.Conn, p *upstream.Pending, _ upstream.Cause, _ bool) {
	u.mayHaveMissed(c.Node().Index, p)
	u.gate.effected()
}

// discard owns requests whose answers concern nobody.
type discard struct{ patient }

func (discard) Reply(*upstream.Conn, *upstream.Pending, *codec.Reply, []byte) {}
func (discard) Body(*upstream.Conn, *upstream.Pending, []byte, int)           {}
func (discard) Fail(*upstream.Conn, *upstream.Pending, upstream.Cause, bool)  {}
