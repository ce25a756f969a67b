package server

import "time"

// A client that is silent for --idle-timeout is closed, as a memcached with -o idle_timeout
// does it. Nobody reads a clock for that: a loop looks at its sessions some times in that
// time, and counts the looks; a session knows at which it was heard last.

// idleLooks is how many looks there are in an idle timeout: a client is closed so much of
// it too late at most.
const idleLooks = 8

// watchIdle has the loops look, until the server has ended.
func (s *Server) watchIdle() {
	t := time.NewTicker(s.cfg.Clients.IdleTimeout / idleLooks)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-t.C:
		}
		for _, l := range s.loops {
			_ = l.do(l.closeIdle) // a loop that has ended has nobody
		}
	}
}

// closeIdle closes the sessions that were not heard of since enough looks.
func (l *loop) closeIdle() {
	l.looks++
	for s := range l.sessions {
		switch {
		case s.own():
		case !s.idleNow():
			s.heard = l.looks
		case l.looks-s.heard > idleLooks:
			s.count.Idled++
			l.srv.log.Debug("client closed", "cause", "it was silent")
			s.close()
		}
	}
}

// idleNow reports whether the client owes the next word: it has sent no value in part, is
// owed no answer, and has taken all that it was sent. Half a line is no word. (conn_new_cmd
// and conn_read of memcached)
func (s *session) idleNow() bool {
	return s.slots.len() == 0 && !s.waiting && !s.amidValue() && s.keys.line == nil && len(s.held) == 0 &&
		!s.dirty && s.wire.OutboundBuffered() == 0
}
