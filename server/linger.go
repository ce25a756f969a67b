package server

import (
	"errors"
	"io"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// linger is the wire of a client that has shut down its sending side and waits
// for the replies to what it sent before, as a shell's printf | nc does. gnet
// closes such a connection at once; memcached, which answers before it reads the
// end, does not leave its client without. So the socket is kept by a second
// descriptor until all is answered.
type linger struct {
	fd   int
	from *origin
	rest []byte // what the socket did not take yet
	age  int    // ticks
}

// maxLinger is how many ticks a half-closed client may take to get its replies.
const maxLinger = 1000

// linger keeps the client of s, whose end of file gnet has seen on c, if replies
// are due; false if there is nothing to wait for.
func (s *session) linger(c gnet.Conn) bool {
	if s.wire == nil || s.slots.len() == 0 && !s.dirty && s.idleInput() || c.OutboundBuffered() > 0 {
		return false
	}
	fd, err := c.Dup()
	if err != nil {
		return false
	}
	w := &linger{fd: fd, from: s.from}
	if t, ok := s.wire.(*secured); ok {
		t.under = w
	} else {
		s.wire = w
	}
	s.ending = true
	l := s.loop
	l.lingers = append(l.lingers, w)
	l.busy()
	return true
}

// Write sends b, and keeps what the socket does not take.
func (w *linger) Write(b []byte) (int, error) {
	if w.fd < 0 {
		return 0, io.ErrClosedPipe
	}
	w.rest = append(w.rest, b...)
	return len(b), w.push()
}

// Writev is Write for several parts.
func (w *linger) Writev(bs [][]byte) (n int, err error) {
	for _, b := range bs {
		m, e := w.Write(b)
		n, err = n+m, errors.Join(err, e)
	}
	return n, err
}

func (w *linger) push() error {
	for len(w.rest) > 0 {
		n, err := unix.Write(w.fd, w.rest)
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			w.rest = nil
			return err
		}
		w.rest = w.rest[n:]
	}
	return nil
}

// OutboundBuffered is how much the socket has not taken.
func (w *linger) OutboundBuffered() int { return len(w.rest) }

// Close ends the connection once all is sent; the loop's clock sees to it.
func (w *linger) Close() error {
	w.age = max(w.age, maxLinger-200)
	return nil
}

// closing reports whether Close has been called.
func (w *linger) closing() bool { return w.age >= maxLinger-200 }

// lingerTick pushes on what half-closed clients have not taken, and lets go of
// those that have it all or take too long.
func (l *loop) lingerTick() {
	kept := l.lingers[:0]
	for _, w := range l.lingers {
		left := len(w.rest)
		err := w.push()
		if len(w.rest) < left && !w.closing() {
			w.age = 0
		}
		if w.age++; err != nil || w.age > maxLinger || w.closing() && len(w.rest) == 0 {
			unix.Close(w.fd)
			w.fd = -1
			l.parted(w.from)
			continue
		}
		kept = append(kept, w)
	}
	clear(l.lingers[len(kept):])
	l.lingers = kept
}
