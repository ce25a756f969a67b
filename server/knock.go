package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"magent/upstream/dial"
	"magent/upstream/fleet"
)

// knocker is a client of our own, of one goroutine. It connects as others do, to the first
// address that is listened on and is on this machine; where none is (a virtual address may
// be elsewhere), it is handed to the server as one that has been accepted. It counts
// neither as a client, lest -n keep it out or statistics show it, nor do its requests.
//
// It is known by both ends of the connection, which it has before that is accepted: nobody
// else can have the same two. If it is not accepted by this process, the answer is
// another's: that of the process that this one replaces, or of the one that replaces it.
type knocker struct {
	srv  *Server
	conn net.Conn
	in   *bufio.Reader
	door string    // where it leads
	till time.Time // when it connects anew
	next int       // of the next key

	ends  atomic.Pointer[ends] // of the connection, while there is one
	taken atomic.Bool          // its other end was accepted here
}

// ends are the addresses of a connection: that of whoever has made it, and the one he has
// made it to.
type ends struct{ near, far string }

const (
	// knockRenewal is how long a connection is used: that clients are still accepted
	// is part of what is asked.
	knockRenewal = 5 * time.Second
	// knockKeys is how many keys are asked for in turn, so that all nodes have a share.
	knockKeys = 256
	// knockTries is how often it connects to a listener that another process shares.
	knockTries = 8
)

// knock makes one request, within patience.
func (k *knocker) knock(patience time.Duration) error {
	door := k.srv.door()
	if k.conn != nil && (time.Now().After(k.till) || nameOf(door) != k.door) {
		k.hangUp() // or the address has left, and nothing would be heard of it again
	}
	for try := 1; ; try++ {
		fresh := k.conn == nil
		if err := k.connect(door, patience); err != nil {
			return err
		}
		err := k.ask(patience)
		if err == nil && k.taken.Load() {
			return nil
		}
		k.hangUp()
		switch {
		case err != nil && fresh:
			return err
		case try == knockTries:
			return errors.New("another process answers at its address")
		}
	}
}

// answerError is an answer that tells of a failure: it was answered all the same.
type answerError string

func (e answerError) Error() string { return string(e) }

// ask sends a read of a key that nobody has, and awaits the answer.
func (k *knocker) ask(patience time.Duration) error {
	k.next = (k.next + 1) % knockKeys
	k.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(k.conn, "mg %sready:%d\r\n", fleet.Prefix, k.next); err != nil {
		return k.explain(err)
	}
	line, err := k.in.ReadString('\n')
	switch line = strings.TrimRight(line, "\r\n"); {
	case err != nil:
		return k.explain(err)
	case line != "EN" && line != "HD":
		return answerError(line)
	}
	return nil
}

func (k *knocker) explain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("there was no answer in time")
	}
	return fmt.Errorf("the connection to %s was lost: %w", k.conn.RemoteAddr(), cause(err))
}

// hangUp closes the connection, if there is one.
func (k *knocker) hangUp() {
	if k.conn == nil {
		return
	}
	k.ends.Store(nil) // before somebody else can have them
	k.conn.Close()
	k.conn = nil
}

// connect makes a connection through door, unless there is one.
func (k *knocker) connect(door net.Addr, patience time.Duration) error {
	if k.conn != nil {
		return nil
	}
	k.taken.Store(false)
	var err error
	if door != nil {
		d := net.Dialer{Timeout: patience, Control: k.mark}
		if k.conn, err = d.DialContext(context.Background(), door.Network(), door.String()); err != nil {
			k.ends.Store(nil)
			return fmt.Errorf("cannot connect to %s: %w", door, cause(err))
		}
	} else if err = k.enter(); err != nil {
		return err
	}
	k.in, k.door, k.till = bufio.NewReader(k.conn), nameOf(door), time.Now().Add(knockRenewal)
	return nil
}

// mark binds the socket before it connects to door, so that its name is known: to the
// address of door itself, from where nobody else can come to it.
func (k *knocker) mark(network, door string, rc syscall.RawConn) error {
	to, err := netip.ParseAddrPort(door)
	var sa unix.Sockaddr
	switch a := to.Addr(); {
	case network == "unix":
		sa = &unix.SockaddrUnix{} // the kernel makes up a name: unix(7), autobind
	case err != nil:
		return err
	case a.Is4():
		sa = &unix.SockaddrInet4{Addr: a.As4()}
	default:
		zone := 0
		if a.Zone() != "" {
			on, err := net.InterfaceByName(a.Zone())
			if err != nil {
				return err
			}
			zone = on.Index
		}
		sa = &unix.SockaddrInet6{Addr: a.As16(), ZoneId: uint32(zone)}
	}
	e := rc.Control(func(fd uintptr) {
		if err = unix.Bind(int(fd), sa); err == nil {
			sa, err = unix.Getsockname(int(fd))
		}
	})
	if err = errors.Join(e, err); err != nil {
		return err
	}
	is := ends{far: door}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		is.near = netip.AddrPortFrom(to.Addr(), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		is.near = netip.AddrPortFrom(to.Addr(), uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		is.near = sa.Name
	}
	k.ends.Store(&is)
	return nil
}

// knows reports whether nc, which was accepted, is the other end, and notes it.
func (k *knocker) knows(nc net.Conn) bool {
	is := k.ends.Load()
	if is == nil || nc.RemoteAddr().String() != is.near || nc.LocalAddr().String() != is.far {
		return false
	}
	k.taken.Store(true)
	return true
}

// enter makes a connection that nobody has to accept.
func (k *knocker) enter() error {
	near, far, err := dial.Pair()
	if err != nil {
		return err
	}
	k.conn = near
	k.taken.Store(true)
	k.srv.seat(far, arrival{at: ownDoor})
	return nil
}

// door is the first address that is listened on, without TLS, and is on this machine; nil
// if none is.
func (s *Server) door() net.Addr {
	for i, ln := range s.listeners {
		if s.cfg.Listen[i].TLS {
			continue
		}
		tcp, ok := ln.Addr().(*net.TCPAddr)
		switch {
		case !ok:
			return ln.Addr()
		case tcp.IP.IsUnspecified():
			return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Port} // a wildcard of IPv6 takes both
		case tcp.IP.IsLoopback():
			return tcp
		}
		if a, ok := netip.AddrFromSlice(tcp.IP); ok {
			if here, err := s.here(a.Unmap()); here || err != nil {
				return tcp
			}
		}
	}
	return nil
}

// nameOf tells doors apart.
func nameOf(door net.Addr) string {
	if door == nil {
		return ""
	}
	return door.String()
}
