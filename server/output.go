package server

import "github.com/valyala/bytebufferpool"

// output is the replies of a session between two writes: small ones gathered in
// out, and at most one big one that is written from where it lies, which is the
// read buffer of a node's connection, or a buffer that it waited in.
type output struct {
	out   []byte
	big   []byte
	cut   int                        // big goes behind out[:cut]
	owner *bytebufferpool.ByteBuffer // big is in it; nil if it is a view
	dirty bool                       // the session is on the loop's list to be flushed
}

// emit sends b for the slot numbered seq, or keeps it until it is its turn. b is a
// view that is good until the loop settles, which every event ends with.
func (s *session) emit(seq uint32, b []byte) {
	switch {
	case s.wire == nil || len(b) == 0:
	case !s.slots.first(seq) || s.slots.at(seq).is(slotWaits):
		s.keep(s.slots.at(seq), b)
	case s.binary():
		s.render(s.slots.at(seq).asked, b, nil)
	case !s.mute:
		s.put(b, nil)
	}
}

// keep has b wait in its slot. What waits counts as what the client has not read,
// as it would have been if its turn had come.
func (s *session) keep(sl *slot, b []byte) {
	sl.hold(s.loop, b)
	if len(b) >= bigValue {
		s.window = windowSmall
	}
	if s.holding += len(b); s.holding > s.loop.cfg.ClientBuffer {
		s.overran()
	}
}

// drop gives up what waits in a slot.
func (s *session) drop(sl *slot) {
	if sl.out != nil {
		s.holding -= len(sl.out.B)
		sl.release(s.loop)
	}
}

// put adds b to what the next flush writes. It lies in owner if that is not nil,
// which is released then.
func (s *session) put(b []byte, owner *bytebufferpool.ByteBuffer) {
	s.begin()
	if len(b) < bigValue {
		s.out = append(s.out, b...)
		s.loop.held.put(owner)
		return
	}
	s.window = windowSmall
	if s.big != nil {
		s.send()
	}
	s.big, s.cut, s.owner = b, len(s.out), owner
}

// begin gets the session a buffer for replies and puts it on the list of those
// to be flushed.
func (s *session) begin() {
	if s.dirty {
		return
	}
	s.dirty = true
	s.out = s.loop.takeBuffer()
	s.loop.dirty = append(s.loop.dirty, s)
}

// finish closes the slot numbered seq. If it was the oldest, what waited behind
// it leaves too, up to the first that is not finished.
func (s *session) finish(seq uint32) {
	sl := s.slots.at(seq)
	sl.flags |= slotDone
	s.ended(seq, sl)
	if sl.is(slotWrites) {
		sl.lane.gate.writing--
		sl.lane.gate.look()
	}
	s.unstall()
	if !s.slots.first(seq) {
		return
	}
	for {
		sl := s.slots.at(s.slots.tail)
		if sl.out != nil && !sl.is(slotWaits) {
			s.leave(sl)
		}
		if !sl.is(slotDone) {
			return
		}
		s.mute = (s.mute || sl.is(slotBroken)) && sl.is(slotKey) && !sl.is(slotLast)
		s.slots.pop()
		if s.slots.len() == 0 {
			s.idle()
			return
		}
		if s.waiting && s.slots.len() <= s.window/2 {
			s.loop.mayResume(s)
		}
	}
}

// leave sends what the oldest slot held.
func (s *session) leave(sl *slot) {
	out := sl.out
	if out == nil {
		return // the client left before any of it came
	}
	if sl.is(slotPartial) {
		s.relaying(valueSize(sl.op, out.B), out.B)
	}
	sl.out = nil
	s.holding -= len(out.B)
	if s.wire == nil || s.mute {
		s.loop.held.put(out)
		return
	}
	if s.binary() {
		s.render(sl.asked, out.B, out)
		return
	}
	s.put(out.B, out)
}

// idle gives back what a session without work does not need.
func (s *session) idle() {
	s.loop.rings.put(s.slots.ring)
	s.slots.ring = nil
	s.window = windowLarge
	if s.ending || s.parting {
		s.begin()
	}
	if s.waiting {
		s.loop.mayResume(s)
	}
}

// flush writes the replies that have gathered. The write may end the session.
func (s *session) flush() {
	s.dirty = false
	last := s.leaves()
	s.send()
	s.loop.giveBuffer(s.out)
	s.out = nil
	if s.wire == nil {
		return
	}
	switch left := s.wire.OutboundBuffered(); {
	case left > s.loop.cfg.ClientBuffer:
		s.overran()
	case last, s.ending && s.slots.len() == 0 && s.idleInput():
		s.depart()
	case left > 0:
		// As memcached does, read no more until the client has read. gnet reads
		// again by itself when all is written.
		s.loop.pause(s)
	}
}

// send hands what has gathered to the socket, big between what came before it
// and what came after.
func (s *session) send() {
	l := s.loop
	out, big, owner := s.out, s.big, s.owner
	s.out, s.big, s.owner = out[:0], nil, nil
	if s.wire != nil {
		s.count.BytesOut += uint64(len(out) + len(big))
		if t := s.tally; t != nil {
			t.out += uint64(len(out) + len(big))
		}
		switch {
		case big == nil && len(out) > 0:
			s.wire.Write(out)
		case len(big) > 0:
			s.wire.Writev(l.join(out[:s.cut], big, out[s.cut:]))
		}
	}
	l.held.put(owner)
}

// overran closes a client that does not read its replies.
func (s *session) overran() {
	s.count.Overruns++
	s.loop.srv.log.Debug("client closed", "cause", "it does not read its replies")
	s.close()
}

// leaving is a session that closes once its client has been sent everything.
type leaving struct {
	session    *session
	left, idle int // bytes unsent at the last tick; ticks since that became fewer
}

// depart closes the connection when the socket has taken all that was written:
// gnet would throw away the rest.
func (s *session) depart() {
	s.ending = true
	if s.wire.OutboundBuffered() == 0 {
		s.close()
		return
	}
	l := s.loop
	l.pause(s)
	l.leavings = append(l.leavings, leaving{session: s, left: s.wire.OutboundBuffered()})
	l.busy()
}

// leavingTick closes sessions that have been sent everything, or that take nothing
// for maxLinger ticks.
func (l *loop) leavingTick() {
	kept := l.leavings[:0]
	for _, v := range l.leavings {
		if v.session.wire == nil {
			continue
		}
		left := v.session.wire.OutboundBuffered()
		if v.idle++; left < v.left {
			v.left, v.idle = left, 0
		}
		if left == 0 || v.idle > maxLinger {
			v.session.close()
			continue
		}
		kept = append(kept, v)
	}
	clear(l.leavings[len(kept):])
	l.leavings = kept
}
