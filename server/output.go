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
		s.slots.at(seq).hold(s.loop, b)
	case !s.mute:
		s.put(b, nil)
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
	s.slots.at(seq).flags |= slotDone
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
	}
}

// leave sends what the oldest slot held.
func (s *session) leave(sl *slot) {
	if sl.is(slotPartial) {
		s.relaying(valueSize(sl.op, sl.out.B), sl.out.B)
	}
	out := sl.out
	sl.out = nil
	if s.wire == nil || s.mute {
		s.loop.held.put(out)
		return
	}
	s.put(out.B, out)
}

// idle gives back what a session without work does not need.
func (s *session) idle() {
	s.loop.rings.put(s.slots.ring)
	s.slots.ring = nil
	s.window = windowLarge
	if s.ending {
		s.begin()
	}
}

// flush writes the replies that have gathered. The write may end the session.
func (s *session) flush() {
	s.dirty = false
	s.send()
	s.loop.giveBuffer(s.out)
	s.out = nil
	if s.wire == nil {
		return
	}
	s.overrun()
	if s.ending && s.slots.len() == 0 && len(s.held) == 0 {
		s.close()
	}
}

// send hands what has gathered to the socket, big between what came before it
// and what came after.
func (s *session) send() {
	l := s.loop
	out, big, owner := s.out, s.big, s.owner
	s.out, s.big, s.owner = out[:0], nil, nil
	if s.wire != nil {
		l.count.BytesOut += uint64(len(out) + len(big))
		switch {
		case big == nil && len(out) > 0:
			s.wire.Write(out)
		case len(big) > 0:
			s.wire.Writev(l.join(out[:s.cut], big, out[s.cut:]))
		}
	}
	l.held.put(owner)
}

// overrun closes a client that does not read its replies.
func (s *session) overrun() {
	if s.wire != nil && s.wire.OutboundBuffered() > s.loop.cfg.ClientBuffer {
		s.loop.count.Overruns++
		s.loop.srv.log.Debug("client closed", "cause", "it does not read its replies")
		s.close()
	}
}
