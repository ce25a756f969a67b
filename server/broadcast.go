package server

import (
	"bytes"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/health"
)

// broadcast serves the commands that every node is told, and stats.
func (s *session) broadcast(line []byte, req *codec.Request) {
	if req.Op == codec.OpStats {
		s.stats(line, req)
		return
	}
	s.everyone(line, req)
}

// everyone sends a command to all nodes that take writes, one copy after the other,
// and answers when all have answered: as the first that did otherwise than agree,
// else as they did. A copy waits for the one before it because writes do: what the
// client sent before may have reached the lead alone.
func (s *session) everyone(line []byte, req *codec.Request) {
	seq := s.open(s.slotOf(req))
	if failed := s.tell(seq, 0, line, req); failed != nil {
		s.fail(seq, failed)
	}
}

// tell sends a command to the nodes of the first copy from copy on that has any to
// be told, in all pools that the client reaches; if none has, it returns an error for the
// client. A node that stands in several copies is told with the first.
func (s *session) tell(seq uint32, copy int, line []byte, req *codec.Request) (failed []byte) {
	sl, lanes := s.slots.at(seq), s.routes.lanes
	failed = lanes[0].pool.Nodes[0].Down()
	for more := true; more && sl.left == 0; copy++ {
		more = false
		for _, l := range lanes {
			if copy < len(l.pool.Copies) {
				more = true
				if full := s.tellCopy(l, seq, copy, line, req); full != nil {
					failed = full
				}
			}
		}
		sl.copy = uint8(copy)
	}
	if sl.left > 0 {
		return nil
	}
	return failed
}

// tellCopy is tell for one copy of one pool. It returns the error of a node that takes no
// more, if there is one.
func (s *session) tellCopy(l *lane, seq uint32, copy int, line []byte, req *codec.Request) (failed []byte) {
	sl := s.slots.at(seq)
	for _, node := range l.pool.Copies[copy].Nodes {
		if l.pool.FirstCopy(node) != copy {
			continue
		}
		if state := l.pool.Health.Load(node).State(); state == health.Down || state == health.Stale && req.Op == codec.OpFlushAll {
			// What is repaired at a Stale node may be read before the flush, and
			// stored after it. When it comes back again it is flushed.
			l.unflushed(node, req.Op)
			continue
		}
		c := l.group.Conn(node, s.id)
		buf := text.AppendLine(c.Room(len(line)+8), line, req)
		if c.Send(buf, upstream.Pending{Owner: s, Seq: seq, Leg: legEveryone, Op: req.Op}, codec.Span{}) {
			sl.left++
		} else {
			failed = c.Node().Error(upstream.CauseFull)
			l.unflushed(node, req.Op)
			s.blame(sl, failed)
		}
	}
	return failed
}

// unflushed notes that node was not told to do op.
func (l *lane) unflushed(node int, op codec.Op) {
	if op == codec.OpFlushAll {
		l.missedAll(node)
	}
}

// everyoneReply hears one node's answer. An answer that is held is the client's;
// an error takes the place of an OK.
func (s *session) everyoneReply(p *upstream.Pending, r *codec.Reply, b []byte) {
	sl := s.slots.at(p.Seq)
	switch {
	case r.Kind == codec.KindError:
		s.blame(sl, b)
	case sl.out == nil:
		s.keep(sl, b)
	}
	s.told(p, nil)
}

// blame has the client told of the first error.
func (s *session) blame(sl *slot, line []byte) {
	if sl.out == nil || !isError(sl.out.B) {
		s.count.Errors++
		s.drop(sl)
		s.keep(sl, line)
	}
}

// everyoneFailed hears that a node will not answer: it does not count, unless
// all are like it.
func (s *session) everyoneFailed(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	s.loop.laneOf(c.Node()).unflushed(c.Node().Index, p.Op)
	s.told(p, c.Node().Error(cause))
}

// told goes on to the next copy when all nodes of one have answered. failed is the
// error of a node that did not.
func (s *session) told(p *upstream.Pending, failed []byte) {
	sl := s.slots.at(p.Seq)
	if sl.left--; sl.left > 0 {
		return
	}
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	switch {
	case s.tell(p.Seq, int(sl.copy)+1, line, &req) == nil:
	case sl.out == nil:
		s.fail(p.Seq, failed)
	default:
		s.settled(p.Seq)
	}
}

func isError(b []byte) bool {
	return bytes.HasPrefix(b, []byte("ERROR")) || bytes.HasPrefix(b, []byte("CLIENT_ERROR")) || bytes.HasPrefix(b, []byte("SERVER_ERROR"))
}
