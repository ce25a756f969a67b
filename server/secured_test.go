package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/server/secret/secrettest"
)

// withTLS is a site whose magents listen with TLS, too, as localhost.
func withTLS(t *testing.T, copies ...int) (*site, *secrettest.Authority) {
	t.Helper()
	at, ca := newSite(t, copies...), secrettest.New(t)
	pair := ca.Issue("server", "localhost", "localhost")
	at.cfg.Access.TLSCert, at.cfg.Access.TLSKey = pair.Cert, pair.Key
	at.cfg.Listen = append(at.cfg.Listen, config.Listen{Network: "tcp", Address: "127.0.0.1:0", TLS: true})
	return at, ca
}

// secureAddr is where s listens with TLS.
func (s *Server) secureAddr() string { return s.Addrs()[1].String() }

// secureCaller is a caller with TLS.
func (s *Server) secureCaller(t *testing.T, cfg *tls.Config) *caller {
	t.Helper()
	conn, err := s.dialSecure(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t, conn, bufio.NewReader(conn)}
}

// dialSecure shakes hands and awaits an answer: in TLS 1.3 the client's part is over before it
// is refused.
func (s *Server) dialSecure(cfg *tls.Config) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	conn, err := tls.DialWithDialer(&d, "tcp", s.secureAddr(), cfg)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, len("MN\r\n"))
	if _, err = io.WriteString(conn, "mn\r\n"); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func TestRequestsWithTLS(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 2, 2)
	at.cfg.MaxValue = 2 << 20
	s := at.magent()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := ca.Client("localhost", secrettest.Pair{})
		cfg.MaxVersion = version
		c := s.secureCaller(t, cfg)
		for _, size := range []int{0, 1, 1000, 20_000, 70_000, 1_000_000} {
			value := strings.Repeat("v", size)
			c.wants(fmt.Sprintf("set k 0 0 %d\r\n%s", size, value), "STORED")
			io.WriteString(c.conn, strings.Repeat("get k\r\n", 4))
			want := strings.Repeat(fmt.Sprintf("VALUE k 0 %d\r\n%s\r\nEND\r\n", size, value), 4)
			got := make([]byte, len(want))
			c.conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
				t.Fatalf("%d bytes do not come as they were stored: %v", size, err)
			}
		}
		// Many requests in one record, and in many.
		const many = 3000
		want := strings.Repeat("VALUE n 0 1\r\n1\r\nEND\r\n", many)
		c.wants("set n 0 0 1\r\n1", "STORED")
		go func() {
			io.WriteString(c.conn, strings.Repeat("get n\r\n", many/2))
			for range many / 2 {
				io.WriteString(c.conn, "get n\r\n")
			}
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
			t.Fatalf("requests are not answered in turn: %v", err)
		}
	}
	if snap := s.Snapshot(); snap.Shaken != 2 || snap.Unshaken != 0 {
		t.Errorf("%d and %d handshakes are counted", snap.Shaken, snap.Unshaken)
	}
}

// What says that nothing more will come is heard when all is answered, and answered by the
// same.
func TestEndsWithTLS(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	s := at.magent()
	c := s.secureCaller(t, ca.Client("localhost", secrettest.Pair{}))
	at.nodes[0].Freeze()
	io.WriteString(c.conn, "get k\r\n")
	c.conn.(*tls.Conn).CloseWrite()
	eventually(t, "it has come", func() bool { return s.Snapshot().BytesIn >= uint64(len("mn\r\nget k\r\n")) })
	at.nodes[0].Thaw()
	if got, err := io.ReadAll(c.in); string(got) != "END\r\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	c = s.secureCaller(t, ca.Client("localhost", secrettest.Pair{}))
	io.WriteString(c.conn, "get k\r\nquit\r\n")
	if got, err := io.ReadAll(c.in); string(got) != "END\r\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	eventually(t, "they have gone", func() bool { return s.clients() == 0 })
}

// A certificate that has changed is shown to who comes then; who is in stays.
func TestCertificatesChange(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	s := at.magent()
	cfg := ca.Client("localhost", secrettest.Pair{})
	before := s.secureCaller(t, cfg)
	before.wants("set k 0 0 1\r\n1", "STORED")
	ca.Issue("server", "localhost", "other.example")
	eventually(t, "the other one is shown", func() bool {
		conn, err := s.dialSecure(ca.Client("other.example", secrettest.Pair{}))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	if conn, err := s.dialSecure(cfg); err == nil {
		conn.Close()
		t.Error("the old one is shown yet")
	}
	before.wants("get k", "VALUE k 0 1")
}

func TestClientsWithCertificates(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	at.cfg.Access.ClientCA, at.cfg.Access.ClientNames = ca.Path(), []string{"web", "mail.example"}
	s := at.magent()
	others := secrettest.New(t)
	for _, c := range []struct {
		what string
		pair secrettest.Pair
		in   bool
	}{
		{"its common name", ca.Issue("a", "web"), true},
		{"an alternative name", ca.Issue("b", "x", "mail.example"), true},
		{"nobody", ca.Issue("c", "ftp", "ftp.example"), false},
		{"no certificate", secrettest.Pair{}, false},
		{"another root", others.Issue("d", "web"), false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			cfg := ca.Client("localhost", c.pair)
			cfg.MaxVersion = version
			conn, err := s.dialSecure(cfg)
			if (err == nil) != c.in {
				t.Errorf("%s lets it in: %v", c.what, err)
			}
			if err == nil {
				conn.Close()
			}
		}
	}
	old := ca.Client("localhost", ca.Issue("a", "web"))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := s.dialSecure(old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// Whoever takes one port for the other is closed, and so is who says nothing on the one with
// TLS: he counts as a client meanwhile.
func TestWrongPort(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	at.cfg.MaxClients, at.times.shaking = 2, 500*time.Millisecond
	s := at.magent()
	d := net.Dialer{Timeout: 10 * time.Second}
	if _, err := tls.DialWithDialer(&d, "tcp", s.Addrs()[0].String(), ca.Client("localhost", secrettest.Pair{})); err == nil {
		t.Error("the plain port speaks TLS")
	}
	for _, text := range []string{"get k\r\n", "GET / HTTP/1.1\r\n\r\n", "\x80\x0a" + strings.Repeat("\x00", 22)} {
		conn, err := net.Dial("tcp", s.secureAddr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, text)
		if got, _ := io.ReadAll(conn); bytes.Contains(got, []byte("END")) || bytes.Contains(got, []byte("ERROR")) {
			t.Errorf("%q is answered %q", text, got)
		}
		conn.Close()
	}
	eventually(t, "they have gone", func() bool { return s.clients()+s.shaking.Load() == 0 })
	silent, err := net.Dial("tcp", s.secureAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, "it is waited for", func() bool { return s.shaking.Load() == 1 })
	s.caller(t).wants("get k", "END")
	eventually(t, "there are enough", func() bool {
		c := s.caller(t)
		defer c.conn.Close()
		c.conn.SetDeadline(time.Now().Add(10 * time.Second))
		line, _ := c.in.ReadString('\n')
		return line == lineFull
	})
	silent.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("it is left open: %v", err)
	}
}

// A client that asks for more than it reads waits, and is not closed for it: what it asks for
// then is not gathered.
func TestSlowClientsWithTLS(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	at.cfg.ClientBuffer = 16 << 20
	s := at.magent()
	value := strings.Repeat("v", 100_000)
	c := s.secureCaller(t, ca.Client("localhost", secrettest.Pair{}))
	c.wants("set k 0 0 100000\r\n"+value, "STORED")
	const gets, first = 400, 100 // 40 MB, and 10
	io.WriteString(c.conn, strings.Repeat("get k\r\n", first))
	eventually(t, "these are sent", func() bool { return s.Snapshot().BytesOut > first*100_000 })
	io.WriteString(c.conn, strings.Repeat("get k\r\n", gets-first))
	want := fmt.Sprintf("VALUE k 0 100000\r\n%s\r\nEND\r\n", value)
	got := make([]byte, len(want))
	for i := range gets {
		c.conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	if n := s.Snapshot().Overruns; n > 0 {
		t.Errorf("%d clients are closed", n)
	}
}

// A magent that gives its clients away cannot give those with TLS: it closes them at a
// boundary, and the next connection is the other's.
func TestClientsWithTLSPart(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	old := at.magent()
	cfg := ca.Client("localhost", secrettest.Pair{})
	idle, busy, plain := old.secureCaller(t, cfg), old.secureCaller(t, cfg), old.caller(t)
	busy.wants("set k 0 0 1\r\n1", "STORED")
	plain.wants("get k", "VALUE k 0 1")
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { // a client that looks whether it is connected before it asks
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			line, err := busy.ask("get k\r\n", "END\r\n")
			if err != nil {
				ended <- fmt.Errorf("an answer is %q, %w", line, err)
				return
			}
			if over, err := busy.over(); over {
				ended <- err
				return
			}
		}
	}()
	s, ours, theirs := at.successor(old)
	if err := <-at.handsOver(old, s, ours, theirs); err != nil {
		t.Error(err)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(idle.in); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	plain.wants("get k", "VALUE k 0 1")
	s.secureCaller(t, cfg).wants("get k", "VALUE k 0 1")
}

// Clients with TLS are told apart by their addresses, too.
func TestTopWithTLS(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	s := at.magent()
	c := s.secureCaller(t, ca.Client("localhost", secrettest.Pair{}))
	end := s.counts(t)
	c.line("get k")
	if top := end(); len(top.Clients) != 1 || top.Clients[0].Address != "127.0.0.1" || top.Clients[0].Requests != 2 {
		t.Errorf("%+v", top.Clients)
	}
}

// A client without TLS is not handed on past it: where its port has TLS by then, it is closed.
func TestPortsThatTurnToTLS(t *testing.T) {
	t.Parallel()
	at, ca := withTLS(t, 1)
	at.cfg.Listen = append(at.cfg.Listen, config.Listen{Network: "tcp", Address: "127.0.0.1:0"})
	old := at.magent()
	turned, plain := old.caller(t), old.callerAt(t, 2)
	turned.wants("set k 0 0 1\r\n1", "STORED")
	plain.wants("get k", "VALUE k 0 1")
	at.cfg.Listen = slices.Clone(at.cfg.Listen)
	at.cfg.Listen[0].TLS = true
	s, ours, theirs := at.successor(old)
	if err := <-at.handsOver(old, s, ours, theirs); err != nil {
		t.Error(err)
	}
	turned.conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(turned.conn, "get k\r\n") // it may have been closed before that
	if got, _ := io.ReadAll(turned.in); len(got) > 0 {
		t.Errorf("it is answered %q", got)
	}
	plain.wants("get k", "VALUE k 0 1")
	s.secureCaller(t, ca.Client("localhost", secrettest.Pair{})).wants("get k", "VALUE k 0 1")
}

// ask says request, and reads lines up to end.
func (c *caller) ask(request, end string) (line string, err error) {
	c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = io.WriteString(c.conn, request); err != nil {
		return "", err
	}
	for line != end && err == nil {
		line, err = c.in.ReadString('\n')
	}
	return line, err
}

// over reports whether the other side has said that nothing more will come.
func (c *caller) over() (bool, error) {
	c.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	switch _, err := c.in.ReadByte(); {
	case err == io.EOF:
		return true, nil
	case err == nil:
		return true, fmt.Errorf("something comes unasked")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	default:
		return true, err
	}
}
