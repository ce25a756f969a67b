package server

import (
	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/health"
)

// A read that its node leaves waiting is asked of the next replica too: a hedge. The
// first answer wins, and what comes from the other is thrown away. A replica has
// answered first when the first of its frames has come; if it fails in the middle, the
// other is asked again, or waited for if it has not answered yet. An error does not
// win while the other may still answer, nor does a miss of the replica that was asked
// late: a follower may have given up a key that the lead has.
//
// Not every read is hedged. One that names a version or changes its item is for the
// lead alone; one that hands out the right to make an item anew (mg with R) would hand
// it out twice; and one behind a change that the same client has sent, and that is not
// answered yet, must see it, which is sure at the lead only.

// race is who may still answer a hedged read, and who has begun to.
type race uint8

const (
	raceFirst race = 1 << iota // the replica that was asked first may answer
	raceHedge                  // the one that was asked late may
	firstWins                  // the first has begun
	hedgeWins                  // the other has
	raceOff                    // it was given up, and answers to it may still come
)

// runner is what one side of a race has in slot.race: its place, the other's, and
// that it, or the other, has begun.
type runner struct{ mine, other, iWin, otherWins race }

func runnerOf(leg upstream.Leg) runner {
	if leg == legHedge {
		return runner{raceHedge, raceFirst, hedgeWins, firstWins}
	}
	return runner{raceFirst, raceHedge, firstWins, hedgeWins}
}

// Late hears that p has waited longer than the hedge delay.
func (s *session) Late(c *upstream.Conn, p *upstream.Pending) {
	if p.Leg != legRead || s.wire == nil {
		return
	}
	sl := s.slots.at(p.Seq)
	l := sl.lane
	if l.pool.Alone() || l.leadOnly(s, sl.flags) || sl.is(slotPartial|slotHit) || sl.race == raceOff || !hedged(p) {
		return
	}
	key := l.routeKey(p)
	next, copy := l.rival(c, key, sl.tried, s.id)
	if next == nil || s.slots.changing(hashKey(key)) {
		return
	}
	if !l.hedges.take(l.reads) {
		l.count.HedgesRefused++
		return
	}
	if !l.ask(next, p, legHedge) {
		return
	}
	l.count.Hedges++
	p.Leg = legRaced
	sl.race, sl.heir = raceFirst|raceHedge, copy
	sl.tried |= 1 << copy
}

// rival is the connection to the first replica of key that is Up, is not one of those
// tried, and is another node than c's, and its copy; nil if there is none. Unlike choose
// it moves on nothing that is awaited from others: what c is asked for is not to be
// touched meanwhile.
func (l *lane) rival(c *upstream.Conn, key []byte, tried uint8, salt uint32) (*upstream.Conn, uint8) {
	for i := range l.pool.Copies {
		node, state := l.pool.State(i, key)
		if state == health.Up && tried&(1<<i) == 0 && node != c.Node().Index {
			return l.group.Conn(node, salt), uint8(i)
		}
	}
	return nil, 0
}

// hedged reports whether p may be asked of two replicas.
func hedged(p *upstream.Pending) bool {
	if !p.Op.Meta() {
		return true
	}
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	return req.Op == codec.OpMetaGet && !req.Meta.Has('R')
}

// racing is the slot that p may still answer; nil if it has been answered.
func (s *session) racing(p *upstream.Pending) *slot {
	if !s.slots.holds(p.Seq) {
		return nil
	}
	if sl := s.slots.at(p.Seq); sl.race&runnerOf(p.Leg).mine != 0 && !sl.is(slotDone) {
		return sl
	}
	return nil
}

// raceReply hears a frame from one of two.
func (s *session) raceReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	sl, me := s.racing(p), runnerOf(p.Leg)
	if sl == nil {
		return
	}
	switch ends := r.Kind != codec.KindValue; {
	case sl.race&me.otherWins != 0:
		if ends { // it may be asked again, should the other fail
			sl.race &^= me.mine
			sl.tried &^= 1 << sl.runs(p.Leg)
		}
		return
	case r.Kind == codec.KindError && sl.race&me.other != 0:
		sl.race &^= me.mine
		return
	case p.Leg == legHedge && sl.race&me.other != 0 && sl.race&me.iWin == 0 && (r.Kind == codec.KindMiss || r.Kind == codec.KindEnd):
		sl.race &^= me.mine
		sl.tried &^= 1 << sl.heir
		return
	case sl.race&me.iWin == 0:
		sl.wins(p.Leg)
		if p.Leg == legHedge {
			s.count.HedgesWon++
		}
	}
	s.readReply(c, p, r, b)
}

// runs is the copy that runs as leg. The first is the slot's own until the other wins,
// and then its rival.
func (s *slot) runs(leg upstream.Leg) uint8 {
	if (leg == legHedge) == (s.race&hedgeWins != 0) {
		return s.copy
	}
	return s.heir
}

// wins notes that the copy that runs as leg has begun to answer.
func (s *slot) wins(leg upstream.Leg) {
	if leg == legHedge {
		s.copy, s.heir = s.heir, s.copy
	}
	s.race |= runnerOf(leg).iWin
}

// raceBody hears more of a value from one of two.
func (s *session) raceBody(p *upstream.Pending, b []byte, rest int) {
	if sl := s.racing(p); sl != nil && sl.race&runnerOf(p.Leg).iWin != 0 {
		s.readBody(p.Seq, b, rest)
	}
}

// raceFailed hears that one of two will not answer.
func (s *session) raceFailed(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl, me := s.racing(p), runnerOf(p.Leg)
	if sl == nil {
		return
	}
	won := sl.race&me.iWin != 0
	sl.race &^= me.mine
	switch {
	case sl.race&me.otherWins != 0: // it is answering
	case sl.race&me.other == 0:
		s.retry(c, p, cause)
	case won && sl.is(slotPartial|slotHit):
		// What the client has of it must be compared with what the other says from its
		// beginning on, so the other is asked anew; its first answer is not listened to.
		sl.race = raceOff
		sl.tried &^= 1 << sl.heir
		s.retry(c, p, cause)
	default: // the other's answer will do
		s.count.Failovers[cause]++
	}
}
