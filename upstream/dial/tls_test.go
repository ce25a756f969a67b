package dial

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/secret/secrettest"
)

// secureNode answers what it is sent with itself, over TLS.
func secureNode(t *testing.T, cfg *tls.Config) (addr string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	proctest.Serve(t, ln, func(c net.Conn) { io.Copy(c, c) })
	return ln.Addr().String()
}

func TestTLS(t *testing.T) {
	ca := secrettest.New(t)
	serving := ca.Client("", ca.Issue("node", "node", "node.example", "127.0.0.1"))
	addr := secureNode(t, &tls.Config{Certificates: serving.Certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()})
	plain, _ := node(t, "ERROR\r\n")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	mute := silent.Addr().String()
	ours := ca.Issue("proxy", "proxy")
	for _, c := range []struct {
		what, addr, name string
		pair             secrettest.Pair
		ca               *secrettest.Authority
		want             string // in the error
	}{
		{"by name", addr, "node.example", ours, ca, ""},
		{"by address", addr, "127.0.0.1", ours, ca, ""},
		{"by another name", addr, "other.example", ours, ca, "not other.example"},
		{"of another root", addr, "node.example", ours, secrettest.New(t), "unknown authority"},
		{"without TLS", plain, "node.example", ours, ca, "first record does not look like a TLS handshake"},
		{"silent", mute, "node.example", ours, ca, "no end of the handshake"},
	} {
		d := Dialer{Connect: patience, Answer: patience, Name: c.name, TLS: func() *tls.Config { return c.ca.Client("", c.pair) }}
		if c.addr == mute {
			d.Answer = 50 * time.Millisecond
		}
		conn, err := d.Dial(t.Context(), "tcp", c.addr)
		var refused Refused
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.want != "" && c.addr != mute && !errors.As(err, &refused):
			t.Errorf("%s: %v is no refusal", c.what, err)
		}
		if err == nil {
			echoes(t, conn)
		}
	}
}

// echoes has the node at the other end of conn answer, over a socket that can be polled.
func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	s, err := Socket(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.(*net.UnixConn); !ok {
		t.Errorf("it is a %T", s)
	}
	s.SetDeadline(time.Now().Add(patience))
	text := strings.Repeat("x", 100_000)
	go io.WriteString(s, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s, got); err != nil || string(got) != text {
		t.Errorf("it does not answer: %v", err)
	}
	s.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(got); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection outlives the socket: %v", err)
	}
}

// A node without TLS is a socket as it is.
func TestPlainSocket(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if s, err := Socket(near); s != near || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}
