package server

import (
	"golang.org/x/sys/unix"
)

// A session parts when its client is to go elsewhere: it is closed at a boundary, where
// the client is owed nothing and nothing more of it has come. There are two:
//
//   - behind a reply. Its end and the end of the connection leave in one segment, so
//     that a client that looks before it sends cannot send into a closed connection.
//   - in a pause. A client whose next request is on its way already would lose that, so
//     it has to be silent for partGrace first.
//
// One that never comes to a boundary, as it sends ahead all the time, is read no more after
// partPatience, but for the rest of a value that it is sending. Who waits for all to have
// parted has a bound of its own.
type parting struct {
	session *session
	silent  int // ticks since something came
	age     int // ticks
}

const (
	partGrace    = 10  // ticks: 50 ms
	partPatience = 200 // ticks: 1 s
)

// part has the session close at its next boundary.
func (s *session) part() {
	if s.wire == nil || s.ending || s.parting {
		return
	}
	l := s.loop
	s.parting = true
	l.partings = append(l.partings, parting{session: s})
	l.any.parting.Store(int64(len(l.partings)))
	l.busy()
}

// between reports whether all that has come was served and answered, and nothing has
// come in part.
func (s *session) between() bool {
	return s.slots.len() == 0 && len(s.held) == 0 && !s.stalled && s.keys.line == nil && s.line == nil && !s.amidValue() && !s.amidProof()
}

// amidValue reports whether a value has come in part.
func (s *session) amidValue() bool { return s.value != nil || s.waste > 0 }

// leaves reports whether the session is to be closed behind what is about to be written.
// It makes sure that the end goes with that.
func (s *session) leaves() bool {
	if !s.parting || s.wire == nil || !s.between() {
		return false
	}
	c, ok := s.socket()
	if !ok {
		return true
	}
	if n, err := unix.IoctlGetInt(c.Fd(), unix.SIOCINQ); err == nil && n > 0 {
		return false // its event is still to come
	}
	_ = unix.SetsockoptInt(c.Fd(), unix.IPPROTO_TCP, unix.TCP_CORK, 1) // a unix socket has none
	return true
}

// partingTick closes the sessions that have come to a pause.
func (l *loop) partingTick() {
	kept := l.partings[:0]
	for _, p := range l.partings {
		s := p.session
		if s.wire == nil || !s.parting {
			continue
		}
		p.age++
		if p.silent++; s.fed {
			s.fed, p.silent = false, 0
		}
		switch {
		case s.ending:
		case p.silent >= partGrace && s.between():
			s.begin()
		case p.age >= partPatience && !s.amidValue():
			if s.ending = true; s.slots.len() == 0 {
				s.begin()
			}
		}
		kept = append(kept, p)
	}
	clear(l.partings[len(kept):])
	l.partings = kept
	l.any.parting.Store(int64(len(kept)))
}
