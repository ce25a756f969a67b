package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"magent/server/config"
	"magent/server/succession"
	"magent/upstream/sealed"
)

// listen opens one address, unless it is among given. A TCP address need not be on this
// machine yet (IP_FREEBIND): a virtual address is bound before it arrives.
func listen(l config.Listen, given *succession.Sockets) (net.Listener, error) {
	if ln := given.Take(l.Network, l.Address); ln != nil {
		return ln, nil
	}
	if l.Network == "unix" {
		return listenUnix(l)
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		e := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(e, err)
	}}
	lc.SetMultipathTCP(false) // such sockets take few options, and none that hush needs
	ln, err := lc.Listen(context.Background(), l.Network, l.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", l.Address, cause(err))
	}
	return ln, nil
}

// listenUnix opens a socket file. One that a dead process left is replaced; one
// that answers, or that may have someone behind it, belongs to another instance.
func listenUnix(l config.Listen) (net.Listener, error) {
	c, err := net.Dial("unix", l.Address)
	switch {
	case err == nil:
		c.Close()
		return nil, fmt.Errorf("cannot listen on %s: %w", l.Address, syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED):
		if st, err := os.Lstat(l.Address); err == nil && st.Mode()&os.ModeSocket != 0 {
			os.Remove(l.Address)
		}
	case !errors.Is(err, syscall.ENOENT):
		return nil, fmt.Errorf("cannot listen on %s: it may be in use: %w", l.Address, cause(err))
	}
	ln, err := net.Listen("unix", l.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", l.Address, cause(err))
	}
	mode := os.FileMode(l.Mode)
	if mode == 0 {
		mode = 0o644
	}
	if err := os.Chmod(l.Address, mode); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// cause is the last error of a chain: the part that tells a person something.
func cause(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// lineFull is told to a client that comes when there are enough.
const lineFull = "SERVER_ERROR OUT OF CONNECTION\r\n"

// acceptPause is how long accepting rests when the process has no descriptor
// left: clients wait in the backlog meanwhile.
const acceptPause = 20 * time.Millisecond

// accept takes clients in until the listener, which is the one numbered at, closes.
func (s *Server) accept(ln net.Listener, at int) {
	defer s.accepting.Done()
	failing := false
	for {
		nc, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if !failing {
				s.log.Warn("cannot accept clients for now", "address", ln.Addr().String(), "cause", cause(err).Error())
			}
			failing = true
			select {
			case <-s.stopping:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		failing = false
		s.welcome(nc, at)
	}
}

// welcome takes a client in that has come to the listener numbered at, or turns it away.
func (s *Server) welcome(nc net.Conn, at int) {
	s.hear(nc)
	s.reread()
	if s.readiness.own.knows(nc) {
		s.seat(nc, arrival{at: ownDoor})
		return
	}
	if !s.doorman.allows(nc.RemoteAddr()) {
		s.turned(nc, "its address is not allowed")
		nc.Close()
		return
	}
	secure := s.cfg.Listen[at].TLS
	if s.clients()+s.shaking.Load() >= int64(s.cfg.MaxClients) {
		s.refused.Add(1)
		s.log.Debug("client turned away", "address", nc.RemoteAddr().String(), "clients", s.cfg.MaxClients)
		refuse(nc, secure)
		return
	}
	from, ok := s.doorman.enter(nc.RemoteAddr(), false)
	switch {
	case !ok:
		s.turned(nc, "there are enough from its address")
		refuse(nc, secure)
	case secure:
		s.shakeHands(nc, arrival{at: at, from: from})
	default:
		s.seat(nc, arrival{at: at, from: from})
	}
}

// refuse tells a client that there are enough, if it does not expect TLS, and closes it.
func refuse(nc net.Conn, secure bool) {
	if !secure {
		nc.SetWriteDeadline(time.Now().Add(acceptPause))
		nc.Write([]byte(lineFull))
	}
	nc.Close()
}

// turned logs that a client is turned away for what others of its kind are not: now and
// then, as it may come again and again.
func (s *Server) turned(nc net.Conn, why string) {
	if ok, withheld := s.doorman.maySpeak(); ok {
		s.log.Warn("client not let in", "address", nc.RemoteAddr().String(), "cause", why, "others", withheld)
	}
}

// arrival is what is known of a client that comes.
type arrival struct {
	at    int          // the number of the listener that it has come to
	from  *origin      // the doorman has let it in as one from there; nil: that is not counted
	known bool         // it has said who it is
	input []byte       // has been read from it already
	tls   *sealed.Conn // it speaks TLS, and hands have been shaken
}

// ownDoor is the number of the listener of our own client.
const ownDoor = -1

// doorOf is the number of the listener that nc has come to, by its address at this end; ok is
// false if there is none. One that listens on that address is meant before one on all.
func (s *Server) doorOf(nc net.Conn) (at int, ok bool) {
	at = -1
	for i, ln := range s.listeners {
		switch door := ln.Addr().(type) {
		case *net.UnixAddr:
			if near, is := nc.LocalAddr().(*net.UnixAddr); is && near.Name == door.Name {
				return i, true
			}
		case *net.TCPAddr:
			near, is := nc.LocalAddr().(*net.TCPAddr)
			switch {
			case !is || near.Port != door.Port:
			case near.IP.Equal(door.IP):
				return i, true
			case door.IP.IsUnspecified():
				at = i
			}
		}
	}
	return at, at >= 0
}

// seat gives a client, or our own, which is not counted, to the loop that has fewest.
func (s *Server) seat(nc net.Conn, as arrival) {
	l := s.loops[0]
	for _, o := range s.loops[1:] {
		if o.any.clients.Load() < l.any.clients.Load() {
			l = o
		}
	}
	counted := int64(1)
	if as.at == ownDoor {
		counted = 0
	}
	l.any.clients.Add(counted)
	joining := newSession(l, as.at)
	joining.held, joining.from = as.input, as.from
	if as.known {
		joining.guard = nil
	}
	result, err := l.el.Enroll(gnet.NewContext(context.Background(), as.context(joining)), nc)
	lost := func() {
		l.any.clients.Add(-counted)
		s.doorman.leave(as.from)
	}
	if err != nil {
		lost()
		nc.Close()
		return
	}
	s.accepted.Add(uint64(counted))
	s.enrolling.Add(1)
	go func() {
		defer s.enrolling.Add(-1)
		if r := <-result; r.Err != nil {
			lost()
			s.log.Warn("cannot serve a client", "cause", cause(r.Err).Error())
		}
	}()
}

func (s *Server) clients() (n int64) {
	for _, l := range s.loops {
		n += l.any.clients.Load()
	}
	return n
}
