package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/panjf2000/gnet/v2"
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
	program := dropSYN(addrs)
	err := s.onTCP(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	ctx, cancel := context.WithTimeout(s.ctx, holdMost)
	defer cancel()
	return errors.Join(err, s.onLoops(ctx, func(l *loop) { l.hush(addrs) }))
}

// unhush has all be as before. Clients that have not parted stay.
func (s *Server) unhush() error {
	err := s.onTCP(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
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

// onTCP calls f with the descriptor of each listener of TCP.
func (s *Server) onTCP(f func(fd int) error) (err error) {
	for _, ln := range s.listeners {
		tcp, ok := ln.(*net.TCPListener)
		if !ok {
			continue
		}
		rc, e := tcp.SyscallConn()
		if e == nil {
			e = errors.Join(rc.Control(func(fd uintptr) { e = f(int(fd)) }), e)
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
	c, ok := s.wire.(gnet.Conn)
	if !ok || len(addrs) == 0 {
		return false
	}
	tcp, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	a, _ := netip.AddrFromSlice(tcp.IP)
	return slices.Contains(addrs, a.Unmap())
}

// dropSYN is a program for a socket that listens: it drops the packets that would open a
// connection to one of addrs, and takes all others. (Linux, networking/filter.rst; such
// a program sees a packet from its TCP header on, and may look at the IP header before it.)
func dropSYN(addrs []netip.Addr) []unix.SockFilter {
	const (
		network  = -1 << 20 // SKF_NET_OFF: offsets from the IP header
		flags    = 13       // of the TCP header
		destOf4  = 16       // of IPv4: the destination
		destOf6  = 24       // of IPv6
		syn, ack = 0x02, 0x10
		take     = 1<<32 - 1 // bytes of the packet
	)
	load := func(size uint16, at int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: uint32(at)}
	}
	// next goes on if the last value is k, else skips so many.
	next := func(k uint32, skip int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: uint8(skip)}
	}
	mask := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

	p := []unix.SockFilter{load(unix.BPF_B, flags), mask(syn | ack), next(syn, 1), {Code: unix.BPF_JMP | unix.BPF_JA, K: 1}, ret(take)}
	for _, a := range addrs {
		version, at, words := uint32(0x40), destOf4, a.AsSlice()
		if a.Is6() {
			version, at = 0x60, destOf6
		}
		rest := 2*len(words)/4 + 1 // up to the next address
		p = append(p, load(unix.BPF_B, network), mask(0xf0), next(version, rest))
		for i := 0; i < len(words); i += 4 {
			rest -= 2
			word := uint32(words[i])<<24 | uint32(words[i+1])<<16 | uint32(words[i+2])<<8 | uint32(words[i+3])
			p = append(p, load(unix.BPF_W, network+at+i), next(word, rest))
		}
		p = append(p, ret(0))
	}
	return append(p, ret(take))
}
