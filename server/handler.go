package server

import (
	"bytes"
	"errors"
	"io"
	"syscall"

	"github.com/panjf2000/gnet/v2"

	"magent/codec/invariants"
	"magent/upstream"
)

// handler receives gnet's events for every connection of every loop. What a
// connection is stands in its context:
//
//	*anchor   one per loop: how the loop is got hold of
//	*session  a client
//	*link     a node
//	*secured  one of these two, with TLS
type handler struct{ gnet.BuiltinEventEngine }

// anchor is the context of a loop's first connection, which carries no traffic.
type anchor struct {
	srv    *Server
	opened chan gnet.Conn
}

// link is the context of a connection to a node: which Conn dialled it, and when.
type link struct {
	loop    *loop
	conn    *upstream.Conn
	attempt uint32
}

// OnOpen introduces a connection to the loop it will stay with.
func (handler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	switch ctx := c.Context().(type) {
	case *anchor:
		ctx.opened <- c
	case *session:
		ctx.opened(c)
	case *link:
		if !ctx.conn.Opened(c, ctx.attempt) {
			return nil, gnet.Close
		}
	case *secured:
		return nil, ctx.begin(c)
	}
	return nil, gnet.None
}

// OnTraffic hands over what was read. All of it is taken, so that gnet never
// keeps, and so never copies, anything.
func (handler) OnTraffic(c gnet.Conn) gnet.Action {
	data, _ := c.Next(-1)
	if invariants.Enabled { // a view that outlives the event will show
		data = bytes.Clone(data)
		defer invariants.Poison(data)
	}
	switch ctx := c.Context().(type) {
	case *session:
		ctx.take(data)
	case *link:
		if ctx.conn.On(c) {
			ctx.conn.Feed(data)
		}
		ctx.loop.settle()
	case *secured:
		ctx.take(data)
	}
	return gnet.None
}

// take takes what a client sent.
func (s *session) take(data []byte) {
	l := s.loop
	s.count.BytesIn += uint64(len(data))
	s.heard = l.looks
	if t := s.tally; t != nil {
		t.in += uint64(len(data))
	}
	if s.fed = s.parting; !s.ending {
		s.feed(data)
	}
	if len(l.dirty) > 0 {
		l.settle()
	}
}

// OnClose takes note of the end of a connection, whoever ended it.
func (handler) OnClose(c gnet.Conn, err error) gnet.Action {
	switch ctx := c.Context().(type) {
	case *session:
		ctx.left(c, err)
	case *anchor:
		ctx.srv.ended(err)
	case *link:
		ctx.conn.Lost(c, byPeer(err))
		ctx.loop.settle()
	case *secured:
		ctx.left(c, err)
	}
	return gnet.None
}

// byPeer reports whether a connection that ended with err was ended by the other side.
func byPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// left takes note that the connection of a client has ended.
func (s *session) left(c gnet.Conn, err error) {
	if !s.own() {
		if errors.Is(err, io.EOF) && s.linger(c) {
			return // it still counts as a client
		}
		s.loop.parted(s.from)
	}
	s.lost()
}

// opened makes the session that an accepted connection stands for come to life.
func (s *session) opened(w wire) {
	l := s.loop
	s.wire = w
	l.lastID++
	s.id = l.lastID
	s.heard = l.looks
	l.sessions[s] = struct{}{}
	l.meet(s)
	if l.draining || l.hushed != nil && s.uses(l.hushed) {
		s.part()
	}
	if input := s.held; input != nil { // another magent has read it
		s.held = nil
		s.feed(input)
		l.settle()
	}
}

// parted counts a client that has gone, which came from there.
func (l *loop) parted(from *origin) {
	l.any.clients.Add(-1)
	l.srv.doorman.leave(from)
}

// gone forgets a session.
func (l *loop) gone(s *session) { delete(l.sessions, s) }
