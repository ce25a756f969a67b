package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A connection does not move with the address that it was made to. Whoever has a request
// under way at that moment loses the answer, and whoever has none finds out by losing the
// next one. So before an address moves it is made quiet here: clients that use it part
// (part.go), and new ones are not let in. To refuse those would be an error too; their
// SYN is dropped, which the kernel of a client sends again a second after the first,
// to whoever has the address then.

// hush makes the addresses quiet, until unhush. Connections that are half made are let in
// still: they are served once, and part.
func (s *Server) hush(addrs []netip.Addr) error {
	err := s.onTCP(func(fd int, to *net.TCPAddr) error {
		if !to.IP.IsUnspecified() && !slices.Contains(addrs, to.AddrPort().Addr().Unmap()) {
			return nil // nobody comes to them there
		}
		return hopless(fd, true)
	})
	ctx, cancel := context.WithTimeout(s.ctx, holdMost)
	defer cancel()
	return errors.Join(err, s.onLoops(ctx, func(l *loop) { l.hush(addrs) }))
}

// unhush has all be as before. Clients that have not parted stay.
func (s *Server) unhush() error {
	err := s.onTCP(func(fd int, _ *net.TCPAddr) error { return hopless(fd, false) })
	for _, l := range s.loops {
		err = errors.Join(err, l.do(l.unhush))
	}
	return err
}

// cut closes the connections to addresses that are here no more.
func (s *Server) cut(addrs []netip.Addr) {
	for _, l := range s.loops {
		_ = l.do(func() { // a loop that has ended has none
			for s := range l.sessions {
				if s.uses(addrs) {
					s.close()
				}
			}
		})
	}
}

// onTCP calls f with the descriptor and the address of each listener of TCP.
func (s *Server) onTCP(f func(fd int, to *net.TCPAddr) error) (err error) {
	for _, ln := range s.listeners {
		tcp, ok := ln.(*net.TCPListener)
		if !ok {
			continue
		}
		rc, e := tcp.SyscallConn()
		if e == nil {
			e = errors.Join(rc.Control(func(fd uintptr) { e = f(int(fd), tcp.Addr().(*net.TCPAddr)) }), e)
		}
		err = errors.Join(err, e)
	}
	return err
}

func (l *loop) hush(addrs []netip.Addr) {
	l.hushed = addrs
	for s := range l.sessions {
		if s.uses(addrs) {
			s.part()
		}
	}
}

func (l *loop) unhush() {
	l.hushed = nil
	if !l.draining {
		for _, p := range l.partings {
			p.session.parting = false
		}
	}
}

// uses reports whether the client has come to one of addrs.
func (s *session) uses(addrs []netip.Addr) bool {
	c, ok := s.socket()
	if !ok || len(addrs) == 0 {
		return false
	}
	a, ok := addrOf(c.LocalAddr())
	return ok && slices.Contains(addrs, a)
}

// hopless has a socket take, if on, none but packets of a TTL of 255, or a hop limit in
// IPv6, which hosts do not begin with: the kernel drops the others without a word (ip(7),
// IP_MINTTL). Where that socket listens it is asked about packets that open a connection, and
// not about those that end a handshake. A filter (SO_ATTACH_FILTER) could tell one
// address of a socket from another, but Linux 6.18 lets nobody set one on TCP without
// CAP_NET_ADMIN. So where one socket listens on every address, who comes to another one
// waits as well.
func hopless(fd int, on bool) error {
	least := 0
	if on {
		least = 255
	}
	err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MINTTL, least)
	if family, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); e == nil && family == unix.AF_INET6 {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MINHOPCOUNT, least))
	}
	return err
}

// hear undoes for a connection what it has taken after its listener, if that was hushed when
// the handshake ended: it may not be any more, and another process may have hushed it, that
// it is shared with.
func (s *Server) hear(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || len(s.cfg.VIPs) == 0 {
		return
	}
	if rc, err := tcp.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) { _ = hopless(int(fd), false) }) // else it has ended
	}
}
