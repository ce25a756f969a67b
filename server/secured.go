package server

import (
	"errors"
	"io"
	"net"

	"github.com/panjf2000/gnet/v2"

	"magent/codec/invariants"
	"magent/upstream/sealed"
)

// TLS is between a connection and its session, or its Conn, and both see a wire as ever:
//
//	socket → handler → secured.take → session.take, Conn.Feed …
//	socket ← gnet    ← secured.Writev ← session.send, Conn.flush
//
// Hands are shaken before, by a goroutine that waits (Server.shakeHands, dial.Dialer): that
// takes many reads and writes, and a signature. All that follows is done by the loop, where
// the bytes are: so a request with TLS costs no system call and no change of goroutines more
// than one without, and those without cost nothing more than before.

// secured is a connection with TLS to a client or a node, whose session, or link, is set.
type secured struct {
	loop    *loop
	tls     *sealed.Conn
	under   wire     // the socket
	local   net.Addr // of this end
	session *session
	link    *link
	ended   bool // the other side has said that nothing more comes
	over    bool // this side has
}

// context is what a client's connection has in gnet.
func (as *arrival) context(s *session) any {
	if as.tls == nil {
		return s
	}
	return &secured{loop: s.loop, tls: as.tls, session: s}
}

// socket is what gnet has of the client's connection; ok is false if it has let it go.
func (s *session) socket() (c gnet.Conn, ok bool) {
	w := s.wire
	if t, secure := w.(*secured); secure {
		w = t.under
	}
	c, ok = w.(gnet.Conn)
	return c, ok
}

// secure reports whether the client speaks TLS.
func (s *session) secure() bool {
	_, ok := s.wire.(*secured)
	return ok
}

// begin introduces the connection to its loop. Something may have come with the end of the
// handshake.
func (w *secured) begin(c gnet.Conn) gnet.Action {
	w.under, w.local = c, c.LocalAddr()
	if w.link != nil {
		if !w.link.conn.Opened(w, w.link.attempt) {
			return gnet.Close
		}
	} else {
		w.session.opened(w)
	}
	w.take(nil)
	return gnet.None
}

// openedRoom is how much is opened at a time, in bytes: some records.
const openedRoom = 64 << 10

// take takes what the socket has brought.
func (w *secured) take(data []byte) {
	l := w.loop
	if l.opened == nil {
		l.opened = make([]byte, openedRoom)
	}
	w.tls.Feed(data)
	var err error
	for n := len(l.opened); n == len(l.opened) && err == nil && !w.over && !w.ended; {
		if n, err = w.tls.Open(l.opened); n > 0 {
			w.heard(l.opened[:n])
		}
	}
	if !w.tls.Silent() && !w.over {
		out := w.tls.Answers(l.takeBuffer())
		w.under.Write(out)
		l.giveBuffer(out)
	}
	if err != nil {
		w.end(err)
	}
	l.settle()
}

// heard hands over what was in data.
func (w *secured) heard(data []byte) {
	if invariants.Enabled { // a view that outlives this will show
		defer invariants.Poison(data)
	}
	if w.link == nil {
		w.session.take(data)
		return
	}
	if w.link.conn.On(w) {
		w.link.conn.Feed(data)
	}
	w.loop.settle() // what leaves as a view of data has to, before it is used again
}

// end has the connection end as the other side wants it to. A client that sends nothing more
// may wait for answers yet. What is no TLS is no end that anybody can rely on.
func (w *secured) end(err error) {
	w.ended = true
	orderly := errors.Is(err, io.EOF)
	switch s := w.session; {
	case w.link != nil:
		w.link.conn.Lost(w, orderly)
		w.Close()
	case s.wire == nil:
	case !orderly:
		w.loop.srv.log.Debug("client closed", "cause", err.Error())
		s.close()
	default:
		if s.ending = true; s.slots.len() == 0 {
			s.begin()
		}
	}
}

// left takes note that the connection has ended. A client that has said so before may wait
// for answers yet; one that has not may have been cut off.
func (w *secured) left(c gnet.Conn, err error) {
	if w.link != nil {
		w.link.conn.Lost(w, byPeer(err))
		w.loop.settle()
		return
	}
	if !w.ended && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	w.session.left(c, err)
}

// Write sends b.
func (w *secured) Write(b []byte) (int, error) {
	out, err := w.tls.Seal(w.loop.takeBuffer(), b)
	return len(b), w.send(out, err)
}

// Writev sends several parts.
func (w *secured) Writev(bs [][]byte) (n int, err error) {
	out := w.loop.takeBuffer()
	for _, b := range bs {
		var e error
		out, e = w.tls.Seal(out, b)
		n, err = n+len(b), errors.Join(err, e)
	}
	return n, w.send(out, err)
}

func (w *secured) send(out []byte, err error) error {
	_, e := w.under.Write(out)
	w.loop.giveBuffer(out)
	return errors.Join(err, e)
}

// OutboundBuffered is how much the socket has not taken, as it was sealed.
func (w *secured) OutboundBuffered() int { return w.under.OutboundBuffered() }

// LocalAddr is this end of the connection.
func (w *secured) LocalAddr() net.Addr { return w.local }

// Close says that nothing more will come, and ends the connection.
func (w *secured) Close() error {
	if w.over {
		return nil
	}
	w.over = true
	out := w.tls.Finish(w.loop.takeBuffer())
	w.under.Write(out)
	w.loop.giveBuffer(out)
	return w.under.Close()
}
