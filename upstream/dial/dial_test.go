package dial

import (
	"bufio"
	"context"
	stdbinary "encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/codec/binary"
)

const patience = 10 * time.Second

// node answers what it is told first with answer, and what follows with itself. An empty
// answer is none.
func node(t *testing.T, answer string) (addr string, told <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	words := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		line, _ := in.ReadString('\n')
		value, _ := in.ReadString('\n')
		words <- line + value
		io.WriteString(c, answer)
		if answer != "" && !strings.HasSuffix(answer, "\n") {
			return
		}
		io.Copy(c, in)
	}()
	return ln.Addr().String(), words
}

func foo() (user, password string) { return "foo", "b:r" }

func TestLogin(t *testing.T) {
	addr, told := node(t, "STORED\r\nmore")
	d := Dialer{Connect: patience, Answer: patience, Login: foo}
	c, err := d.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, want := <-told, "set magent:login 0 -1 7\r\nfoo b:r\r\n"; got != want {
		t.Errorf("the node is told %q, want %q", got, want)
	}
	if rest, err := io.ReadAll(c); string(rest) != "more" {
		t.Errorf("what follows is %q, %v", rest, err)
	}
}

func TestNodesThatDoNotWelcome(t *testing.T) {
	for answer, want := range map[string]string{
		"CLIENT_ERROR authentication failure\r\n": `answered "CLIENT_ERROR authentication failure"`,
		"ERROR\r\n":               `answered "ERROR"`,
		"STO":                     "closed the connection",
		strings.Repeat("x", 2000): "without an end",
	} {
		addr, _ := node(t, answer)
		d := Dialer{Connect: patience, Answer: patience, Login: foo}
		_, err := d.Dial(t.Context(), "tcp", addr)
		var refused Refused
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q gives %v, want %s", answer, err, want)
		}
	}
	addr, _ := node(t, "")
	d := Dialer{Connect: patience, Answer: 20 * time.Millisecond, Login: foo}
	if _, err := d.Dial(t.Context(), "tcp", addr); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("silence gives %v", err)
	}
	addr, told := node(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-told; cancel() }()
	d.Answer = patience
	if _, err := d.Dial(ctx, "tcp", addr); err == nil {
		t.Error("it waits for nobody")
	}
	if _, err := d.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("nobody is there")
	}
}

// binaryNode answers who says who he is with answer, and closes then. An empty answer is none.
// told has the request.
func binaryNode(t *testing.T, answer string) (addr string, told <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	words := make(chan string, 1)
	proctest.Serve(t, ln, func(c net.Conn) {
		request := make([]byte, binary.HeaderSize)
		io.ReadFull(c, request)
		body := make([]byte, stdbinary.BigEndian.Uint32(request[8:]))
		io.ReadFull(c, body)
		words <- string(request) + string(body)
		io.WriteString(c, answer)
		if answer == "" {
			io.Copy(io.Discard, c)
		}
	})
	return ln.Addr().String(), words
}

// welcome is what a node answers to SASL.
func welcome(opcode binary.Opcode, status binary.Status, words string) string {
	b := []byte{0x81, byte(opcode), 0, 0, 0, 0, 0, byte(status)}
	b = stdbinary.BigEndian.AppendUint32(b, uint32(len(words)))
	return string(append(b, make([]byte, 12)...)) + words
}

func TestBinaryLogin(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"let in":              {welcome(binary.SASLAuth, 0, "Authenticated"), ""},
		"turned away":         {welcome(binary.SASLAuth, binary.StatusNotKnown, "Auth failure."), `answered "Auth failure.", status 0x20`},
		"by one without SASL": {welcome(binary.SASLAuth, binary.StatusUnknown, "Unknown command"), "status 0x81"},
		"in text":             {"ERROR\r\nERROR\r\nERROR\r\nERROR\r\n", "does it speak the binary protocol?"},
		"to something else":   {welcome(binary.Noop, 0, ""), "does it speak the binary protocol?"},
		"without an end":      {welcome(binary.SASLAuth, 0, strings.Repeat("x", maxLine+1)), "does it speak the binary protocol?"},
		"half a header":       {welcome(binary.SASLAuth, 0, "")[:2], "closed the connection"},
		"half an answer":      {welcome(binary.SASLAuth, 0, "Authenticated")[:binary.HeaderSize+4], "closed the connection"},
		"not at all":          {"", "no answer to who comes"},
	} {
		t.Run(name, func(t *testing.T) {
			addr, told := binaryNode(t, c.answer)
			d := Dialer{Connect: patience, Answer: patience, Login: foo, Binary: true}
			if c.answer == "" {
				d.Answer = 20 * time.Millisecond
			}
			conn, err := d.Dial(t.Context(), "tcp", addr)
			var refused Refused
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			case c.want != "" && errors.As(err, &refused) == (c.answer == ""):
				t.Errorf("%v: a refusal: %v", err, c.answer == "")
			}
			if err == nil {
				conn.Close()
			}
			if got, want := <-told, string(binary.AppendPlain(nil, "foo", "b:r")); got != want {
				t.Errorf("the node is told %q, want %q", got, want)
			}
		})
	}
}

// Who does not wait any more does not wait for a node that speaks binary either.
func TestBinaryLoginIsGivenUp(t *testing.T) {
	addr, told := binaryNode(t, "")
	d := Dialer{Connect: patience, Answer: time.Hour, Login: foo, Binary: true}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-told; cancel() }()
	if c, err := d.Dial(ctx, "tcp", addr); err == nil || c != nil {
		t.Errorf("a connection to a node that has said nothing: %v, %v", c, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := d.Dial(over, "tcp", addr); err == nil || c != nil {
		t.Errorf("a connection, although it was given up before: %v, %v", c, err)
	}
}
