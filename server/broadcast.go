package server

import (
	"bytes"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// broadcast serves the commands that every node is told, and stats.
func (s *session) broadcast(line []byte, req *codec.Request) {
	if req.Op == codec.OpStats {
		s.stats(line, req)
		return
	}
	s.everyone(line, req)
}

// everyone sends a command to all nodes that take writes, and answers when all
// have answered: as the first that did otherwise than agree, else as they did.
func (s *session) everyone(line []byte, req *codec.Request) {
	l := s.loop
	seq := s.open(s.slotOf(req))
	failed := l.pool.Nodes[0].Error(upstream.CauseDown)
	for _, n := range l.pool.Nodes {
		if !l.pool.Health.Writable(n.Index) {
			continue
		}
		c := l.group.Conn(n.Index, s.id)
		buf := text.AppendLine(c.Room(len(line)+8), line, req)
		if c.Send(buf, upstream.Pending{Owner: s, Seq: seq, Leg: legEveryone, Op: req.Op}, codec.Span{}) {
			s.slots.at(seq).left++
		} else {
			failed = n.Error(upstream.CauseFull)
		}
	}
	if s.slots.at(seq).left == 0 {
		s.fail(seq, failed)
	}
}

// everyoneReply hears one node's answer. An answer that is held is the client's;
// an error takes the place of an OK.
func (s *session) everyoneReply(p *upstream.Pending, r *codec.Reply, b []byte) {
	sl := s.slots.at(p.Seq)
	if sl.out == nil || r.Kind == codec.KindError && !isError(sl.out.B) {
		sl.release(s.loop)
		sl.hold(s.loop, b)
	}
	s.acknowledged(p.Seq)
}

// everyoneFailed hears that a node will not answer: it does not count, unless
// all are like it.
func (s *session) everyoneFailed(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl := s.slots.at(p.Seq)
	if sl.left == 1 && sl.out == nil {
		s.fail(p.Seq, c.Node().Error(cause))
		return
	}
	s.acknowledged(p.Seq)
}

func isError(b []byte) bool {
	return bytes.HasPrefix(b, []byte("ERROR")) || bytes.HasPrefix(b, []byte("CLIENT_ERROR")) || bytes.HasPrefix(b, []byte("SERVER_ERROR"))
}
