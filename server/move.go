package server

import (
	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/converge"
	"magent/upstream/token"
)

// What becomes of a write whose lead died before it answered. Most writes go to the
// next replica, which answers as it finds things. A relative one that may have been
// carried out may have reached the next replica too, as the outcome that another
// writer's repair copied: a second time would count it twice. It goes there only on
// the condition that the replica is still as it was before the lead was sent the
// write; if it is not, nobody can know, and the client is told so.

// moveLead gives a write whose lead died to the next replica. sent says that the
// lead may have carried it out.
func (s *session) moveLead(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause, sent bool) {
	sl := s.slots.at(p.Seq)
	l := sl.lane
	if sl.is(slotEverywhere) && (sl.left > 1 || sl.out != nil) {
		l.mayHaveMissed(c.Node().Index, p)
		s.acknowledged(p.Seq) // a follower has it too, and answers
		return
	}
	s.drop(sl)
	next, copy := l.leader(l.routeKey(p), sl.tried, s.id)
	if sent {
		l.diverge(c.Node().Index, next != nil, p)
	}
	if sent && !l.pool.Alone() && relative(p) {
		s.rescue(c, p, cause)
		return
	}
	if next == nil && !sent && l.mayAskAgain(sl, cause) {
		sl.flags |= slotAgain
		next, copy = c, sl.copy
	}
	if next == nil {
		s.fail(p.Seq, c.Node().Error(cause))
		return
	}
	l.count.Failovers[cause]++
	sl.moved = cause
	sl.leads(copy)
	if !l.resend(next, p) {
		s.fail(p.Seq, next.Node().Error(upstream.CauseFull))
	}
}

// leads notes that copy leads from now on. What its follower was asked before was
// asked for another lead.
func (s *slot) leads(copy uint8) {
	s.copy, s.tried = copy, s.tried|1<<copy
	s.flags &^= slotAsked
}

// relative reports whether p must not be carried out twice. One that depends on a
// version cannot be: another lead does not have that version, unless it is a
// Source's, and then the step has not been made.
func relative(p *upstream.Pending) bool {
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	return converge.Relative(&req) && !converge.Conditional(&req)
}

// resend sends p, which was made for another lead, to c. A version in it that the
// other had counted itself is none of c's.
func (l *lane) resend(c *upstream.Conn, p *upstream.Pending) bool {
	line := p.Line()
	var req codec.Request
	if p.Op.Meta() {
		text.Parse(line, &req)
	}
	asked, ok := converge.AskedVersion(line, &req)
	if !ok || asked == 0 || l.pool.Alone() || token.Sourced(asked) {
		return c.Resend(p)
	}
	value := p.Request()[len(line):]
	buf := converge.AppendLead(c.Room(len(line)+leadRoom+len(value)), line, &req, converge.Lead{Cas: token.Foreign})
	return c.Send(append(buf, value...), upstream.Pending{Owner: p.Owner, Seq: p.Seq, Leg: p.Leg, Op: p.Op}, keyOf(p.Op, &req))
}

// rescue gives the relative write p, which c's node may have carried out before it
// failed for cause, to the replica that was asked for its version before that.
func (s *session) rescue(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl := s.slots.at(p.Seq)
	l := sl.lane
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	next, copy := l.leader(l.routeSent(line, &req), sl.tried, s.id)
	if next == nil || !sl.is(slotAsked) || copy != sl.heir {
		s.fail(p.Seq, c.Node().Error(upstream.CauseFate))
		return
	}
	value := p.Request()[len(line):]
	buf, ok := converge.AppendGuarded(next.Room(len(line)+leadRoom+len(value)), line, &req, decode(sl.version, next, copy))
	op := codec.OpMetaArith
	if len(value) > 0 {
		op = codec.OpMetaSet
	}
	if !ok || !next.Send(append(buf, value...), upstream.Pending{Owner: s, Seq: p.Seq, Leg: legRescue, Op: op}, keyOf(op, &req)) {
		s.fail(p.Seq, c.Node().Error(upstream.CauseFate))
		return
	}
	l.count.Failovers[cause]++
	sl.moved = cause
	sl.died = sl.copy
	sl.leads(copy)
}

// rescueReply hears the replica that was given a relative write on condition.
func (s *session) rescueReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	if r.Kind == codec.KindLine && b[0] == 'E' && b[1] == 'X' {
		sl := s.slots.at(p.Seq)
		died := sl.lane.pool.Replica(int(sl.died), s.loop.routeKey(p))
		s.fail(p.Seq, sl.lane.pool.Nodes[died].Error(upstream.CauseFate))
		return
	}
	s.leadReply(c, p, r, b)
}
