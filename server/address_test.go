package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/server/config"
	"magent/server/succession"
)

// virtual is the address that moves in these tests. The loopback has all of 127.0.0.0/8.
const virtual = "127.0.0.2"

// onlyHere has one address be on this machine; none if it is "".
func onlyHere(address string) func(netip.Addr) (bool, error) {
	return func(a netip.Addr) (bool, error) { return a.String() == address, nil }
}

// moving is a magent whose address is moved by the test.
type moving struct {
	*Server
	t    *testing.T
	here atomic.Bool
}

func newMoving(t *testing.T, wait time.Duration) *moving {
	t.Helper()
	at := newSite(t, 1)
	at.cfg.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "tcp", Address: virtual + ":0"}}
	at.cfg.VIPs, at.cfg.HandoverWait = []netip.Addr{netip.MustParseAddr(virtual)}, wait
	at.times.hush = time.Minute
	m := &moving{Server: at.build(at.cfg), t: t}
	m.here.Store(true)
	m.Server.here = func(netip.Addr) (bool, error) { return m.here.Load(), nil }
	at.serve(m.Server)
	m.awaitsReady(t, "")
	return m
}

// comes has a client come to an address, and be served there.
func (m *moving) comes(address string) *caller {
	m.t.Helper()
	conn, err := m.dial(address, 10*time.Second)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	c := &caller{m.t, conn, bufio.NewReader(conn)}
	if got := c.line("get k"); got != "END" {
		m.t.Fatal(got)
	}
	return c
}

func (m *moving) dial(address string, patience time.Duration) (net.Conn, error) {
	i := slices.IndexFunc(m.Addrs(), func(a net.Addr) bool { return a.(*net.TCPAddr).IP.String() == address })
	return net.DialTimeout("tcp", m.Addrs()[i].String(), patience)
}

// closed wants the connection to be closed in good order, with nothing more said.
func (c *caller) closed() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Errorf("the end is %q, %v", rest, err)
	}
}

// failsOver calls Failover, and returns what it will say.
func (m *moving) failsOver(ctx context.Context) <-chan error {
	over := make(chan error, 1)
	go func() { over <- m.Failover(ctx) }()
	eventually(m.t, "the address is given up", func() bool { return m.readiness.given.Load() != nil })
	return over
}

// isOut waits until new clients of the address are kept waiting, or no longer.
func (m *moving) isOut(out bool) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("clients are kept out: %v", out), func() bool {
		conn, err := m.dial(virtual, 100*time.Millisecond)
		if err == nil {
			conn.Close()
		} else if late, ok := errors.AsType[net.Error](err); !ok || !late.Timeout() {
			m.t.Fatal(err)
		}
		return out == (err != nil)
	})
}

// Until somebody has asked whether it is ready, a magent that gives its address up serves
// as ever. Then clients of the address part, and no others.
func TestFailover(t *testing.T) {
	m := newMoving(t, time.Hour)
	idle, elsewhere := m.comes(virtual), m.comes("127.0.0.1")
	over := m.failsOver(t.Context())
	m.comes(virtual).conn.Close()
	m.comes("127.0.0.1")

	if r := m.Ready(); r.Ready || r.Why(false) != givenAway {
		t.Errorf("%+v", r)
	}
	idle.closed()
	m.isOut(true)
	if got := elsewhere.line("get k"); got != "END" {
		t.Error(got)
	}
	m.comes("127.0.0.1")
	select {
	case err := <-over:
		t.Fatalf("it is over while the address is here: %v", err)
	default:
	}
	m.here.Store(false)
	if err := <-over; err != nil {
		t.Error(err)
	}
	m.isOut(false) // it may come back
	m.comes(virtual)
	m.awaitsReady(t, givenAway)
	if err := m.Failover(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing to give up") {
		t.Error(err)
	}
	m.here.Store(true)
	if err := m.Failover(t.Context()); err == nil || err.Error() != givenAway {
		t.Error(err)
	}
	for range 2 {
		if err := m.Resume(); err != nil {
			t.Error(err)
		}
	}
	m.awaitsReady(t, "")
}

// The no is said when the clients have parted, each behind its answer.
func TestFailoverWaitsForAnswers(t *testing.T) {
	m := newMoving(t, time.Hour)
	busy, storing := m.comes(virtual), m.comes(virtual)
	fmt.Fprint(storing.conn, "set k 0 0 3\r\nab")
	eventually(t, "half a value has come", func() bool {
		var amid atomic.Bool
		_ = m.onLoops(t.Context(), func(l *loop) {
			for s := range l.sessions {
				if s.amidValue() {
					amid.Store(true)
				}
			}
		})
		return amid.Load()
	})
	over := m.failsOver(t.Context())
	go m.Ready()
	m.isOut(true)
	fmt.Fprint(storing.conn, "c\r\n")
	for c, want := range map[*caller]string{storing: "STORED\r\n", busy: ""} {
		c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if all, err := io.ReadAll(c.in); err != nil || string(all) != want {
			t.Errorf("%q, %v, want %q", all, err, want)
		}
	}
	m.here.Store(false)
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// An address that stays: all is as before.
func TestFailoverThatFails(t *testing.T) {
	m := newMoving(t, 300*time.Millisecond)
	err := m.Failover(t.Context())
	if err == nil || !strings.Contains(err.Error(), virtual+" has not left this machine within 300ms: this magent is ready again") {
		t.Error(err)
	}
	m.awaitsReady(t, "")

	m.cfg.HandoverWait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	over := m.failsOver(ctx)
	m.Ready()
	m.isOut(true)
	cancel() // the operator thinks better of it
	if err := <-over; err == nil || m.readiness.given.Load() != nil {
		t.Error(err)
	}
	m.isOut(false)
	m.comes(virtual)

	m.times.hush = 50 * time.Millisecond // new clients do not wait that long
	over = m.failsOver(t.Context())
	m.Ready()
	m.isOut(false)
	m.comes(virtual)
	m.here.Store(false)
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestFailoverOfNothing(t *testing.T) {
	s, _ := proxied(t, 1)
	if err := s.Failover(t.Context()); err == nil || !strings.Contains(err.Error(), "--vip") {
		t.Error(err)
	}
	if err := s.Resume(); err != nil {
		t.Error(err)
	}
	m := newMoving(t, time.Hour)
	m.Server.here = func(netip.Addr) (bool, error) { return false, errors.New("netlink is closed") }
	if err := m.Failover(t.Context()); err == nil || !strings.Contains(err.Error(), "netlink is closed") {
		t.Error(err)
	}
}

// One that is to stop gives the address up for good, whatever else was asked of it.
func TestLeave(t *testing.T) {
	m := newMoving(t, time.Hour)
	over := m.failsOver(t.Context())
	left := make(chan struct{})
	go func() { m.Leave(t.Context()); close(left) }()
	if err := <-over; err == nil {
		t.Error("the failover has succeeded")
	}
	m.awaitsReady(t, givenForGood)
	m.isOut(true)
	if err := m.Failover(t.Context()); err == nil {
		t.Error("it fails over while it leaves")
	}
	select {
	case <-left:
		t.Fatal("it does not wait")
	default:
	}
	m.here.Store(false)
	<-left
	if err := m.Resume(); err == nil || err.Error() != givenForGood {
		t.Error(err)
	}

	late := newMoving(t, 50*time.Millisecond)
	late.Leave(t.Context()) // and so it goes while it has the address
	late.cfg.HandoverWait = 0
	late.Leave(t.Context())
	late.here.Store(false)
	late.Leave(t.Context())
	late.awaitsReady(t, givenForGood)
}

// Only where the addresses are listened on clients are kept waiting, of either version of
// IP; and everywhere, where everything is.
func TestHush(t *testing.T) {
	for _, c := range []struct{ listen, ask, hush, shut string }{
		{"127.0.0.1 127.0.0.2 ::1", "127.0.0.1 127.0.0.2 ::1", "127.0.0.2 ::1", "127.0.0.2 ::1"},
		{"127.0.0.1 ::1", "127.0.0.1 ::1", "127.0.0.2 2001:db8::1", ""},
		{"::", "127.0.0.1 127.0.0.2 ::1", "127.0.0.2", "127.0.0.1 127.0.0.2 ::1"},
		{"0.0.0.0", "127.0.0.1 127.0.0.2", "127.0.0.2", "127.0.0.1 127.0.0.2"},
	} {
		at := newSite(t, 1)
		at.cfg.Listen = nil
		listen := strings.Fields(c.listen)
		for _, l := range listen {
			at.cfg.Listen = append(at.cfg.Listen, config.Listen{Network: "tcp", Address: net.JoinHostPort(l, "0")})
		}
		s := at.magent()
		are := func(hushed bool) {
			t.Helper()
			for a := range strings.FieldsSeq(c.ask) {
				shut := hushed && slices.Contains(strings.Fields(c.shut), a)
				port := s.Addrs()[max(0, slices.Index(listen, a))].(*net.TCPAddr).Port
				eventually(t, fmt.Sprintf("where %s is listened on, %s is shut: %v", c.listen, a, shut), func() bool {
					conn, err := net.DialTimeout("tcp", net.JoinHostPort(a, fmt.Sprint(port)), 200*time.Millisecond)
					if err == nil {
						conn.Close()
					}
					return shut == (err != nil)
				})
			}
		}
		var addrs []netip.Addr
		for a := range strings.FieldsSeq(c.hush) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		are(false)
		if err := s.hush(addrs); err != nil {
			t.Fatal(err)
		}
		are(true)
		if err := s.unhush(); err != nil {
			t.Fatal(err)
		}
		are(false)
	}
}

// A magent may die while its sockets are hushed, and another be given them; or let a client
// in that came then, and is told nothing before the end of that.
func TestHushIsForgotten(t *testing.T) {
	least := func(of syscall.Conn) (ttl int) {
		rc, err := of.SyscallConn()
		if err == nil {
			err = rc.Control(func(fd uintptr) { ttl, err = unix.GetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MINTTL) })
		}
		if err != nil {
			t.Fatal(err)
		}
		return ttl
	}
	m := newMoving(t, time.Minute)
	ln := m.listeners[1].(*net.TCPListener)
	client := m.comes(virtual).conn.(*net.TCPConn)
	if err := m.hush(m.cfg.VIPs); err != nil {
		t.Fatal(err)
	}
	if rc, err := client.SyscallConn(); err != nil || rc.Control(func(fd uintptr) { _ = hopless(int(fd), true) }) != nil {
		t.Fatal(err)
	}
	if a, b := least(ln), least(client); a != 255 || b != 255 {
		t.Fatalf("they take a TTL of %d and %d", a, b)
	}
	f, err := succession.File(ln)
	if err != nil {
		t.Fatal(err)
	}
	same, err := succession.Listen(f)
	if err != nil {
		t.Fatal(err)
	}
	at := newSite(t, 1)
	at.cfg.Listen = []config.Listen{{Network: "tcp", Address: ln.Addr().String()}}
	at.cfg.VIPs = m.cfg.VIPs
	s := at.buildOn(&succession.Sockets{same}, at.cfg)
	at.serve(s)
	s.hear(client)
	if a, b := least(ln), least(client); a != 0 || b != 0 {
		t.Errorf("they take a TTL of %d and %d still", a, b)
	}
}

func TestOnInterfaces(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "192.0.2.77": false, "2001:db8::77": false} {
		if here, err := onInterfaces(netip.MustParseAddr(address)); err != nil || here != want {
			t.Errorf("%s: %v, %v", address, here, err)
		}
	}
}
