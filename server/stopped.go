package server

import (
	"math"
	"time"
)

// A client that stops in the middle of a command has the proxy keep the line, or the room
// for the whole value. memcached waits for the rest for ever. Who means it goes on soon, so
// that one which is silent for --client-timeout is closed: it is a machine that is gone,
// something that speaks another protocol, or somebody who opens many of these on purpose.
// A client that is silent between commands may be so as long as it likes.

// lookTicks is how many ticks lie between two looks at the clients that have stopped.
const lookTicks = 64

// looks is how many looks a client may be silent for that may be so for d; 0 is for ever.
func looks(d time.Duration) int {
	if d == 0 {
		return math.MaxInt
	}
	const look = lookTicks * tick
	return int((d + look - 1) / look)
}

// stopped reports whether a command has begun and the rest of it has not come.
func (s *session) stopped() bool {
	return s.line != nil || s.value != nil && s.want > 0 || s.waste > 0 || s.guard != nil && s.guard.part != nil
}

// watch takes note that the client has sent something and stopped in a command.
func (s *session) watch() {
	s.silent = 0
	if !s.watched {
		s.watched = true
		s.loop.watched = append(s.loop.watched, s)
		s.loop.busy()
	}
}

// stoppedTick closes the clients that have been silent for too long in the middle of a
// command. The time in which they are not read, as they have not read themselves or have to
// wait for nodes, is not theirs.
func (l *loop) stoppedTick() {
	if l.sinceLook++; l.sinceLook < lookTicks {
		return
	}
	l.sinceLook = 0
	kept := l.watched[:0]
	for _, s := range l.watched {
		switch {
		case s.wire == nil || !s.stopped():
			s.watched = false
			continue
		case s.waiting || s.wire.OutboundBuffered() > 0:
			s.silent = 0
		default:
			s.silent++
		}
		if s.silent > l.silence {
			l.srv.log.Debug("client closed", "cause", "it stopped in the middle of a command")
			s.close()
			continue
		}
		kept = append(kept, s)
	}
	clear(l.watched[len(kept):])
	l.watched = kept
}
