package dial

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
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
