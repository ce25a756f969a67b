package server

import (
	"magent/codec"
	"magent/upstream"
)

// A session owns the requests that its commands became: here their answers come
// in. A client that is gone no longer hears them, but a write that its lead has
// taken still goes to the followers.

// Reply hears one frame of the answer to p.
func (s *session) Reply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	if w := s.loop.witness; w != nil {
		w.hears(s, p.Seq, c.Node(), p, r.Kind == codec.KindError)
	}
	switch p.Leg {
	case legRead, legAgain:
		s.readReply(c, p, r, b)
	case legFormer:
		s.formerReply(c, p, r, b)
	case legLead:
		s.leadReply(c, p, r, b)
	case legRescue:
		s.rescueReply(c, p, r, b)
	case legFollower:
		s.followerReply(p, b)
	case legEveryone:
		s.everyoneReply(p, r, b)
	case legResume:
		s.resumeReply(c, p, r, b)
	case legRaced, legHedge:
		s.raceReply(c, p, r, b)
	}
}

// Body hears a further part of a value.
func (s *session) Body(_ *upstream.Conn, p *upstream.Pending, b []byte, rest int) {
	switch p.Leg {
	case legRead, legFormer, legAgain:
		s.readBody(p.Seq, b, rest)
	case legResume:
		s.resumeBody(p.Seq, b)
	case legRaced, legHedge:
		s.raceBody(p, b, rest)
	case legLead, legRescue:
		s.keep(s.slots.at(p.Seq), b)
	}
}

// Fail hears that c will not answer p.
func (s *session) Fail(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause, sent bool) {
	if w := s.loop.witness; w != nil {
		w.hears(s, p.Seq, c.Node(), p, true)
	}
	switch p.Leg {
	case legRead, legResume, legAgain:
		s.retry(c, p, cause)
	case legRaced, legHedge:
		s.raceFailed(c, p, cause)
	case legFormer:
		s.formerFailed(c, p)
	case legLead, legRescue:
		s.moveLead(c, p, cause, sent)
	case legFollower:
		s.followerFailed(c, p, cause)
	case legEveryone:
		s.everyoneFailed(c, p, cause)
	}
}

// patient is an owner whose requests only the node that has them can answer: that one
// of them is late changes nothing.
type patient struct{}

func (patient) Late(*upstream.Conn, *upstream.Pending) {}
