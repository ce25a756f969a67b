package refill

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"magent/upstream/memnode"
	"magent/upstream/repair"
)

// patience bounds every wait in the tests; it is only ever reached by a failure.
const patience = 20 * time.Second

// place is where a node listens.
type place struct{ network, addr string }

func (p place) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, p.network, p.addr)
}

// memcached runs one of the system's on a socket of its own until the test ends.
func memcached(t testing.TB, args ...string) place {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "refill") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // memcached may become nobody
		t.Fatal(err)
	}
	p := place{"unix", filepath.Join(dir, "s")}
	args = append(args, "-s", p.addr, "-t", "1", "-m", "512")
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	cmd := exec.Command("memcached", args...)
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests need memcached 1.6.18, Debian's package memcached: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if c, err := p.dial(t.Context()); err == nil {
			c.Close()
			return p
		}
	}
	t.Fatal("memcached did not come up")
	return p
}

// node starts a memnode until the test ends.
func node(t testing.TB, cfg memnode.Config) (*memnode.Node, place) {
	t.Helper()
	n, err := memnode.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n, place{"tcp", n.Addr()}
}

// client is a connection of a test's own.
type client struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func (p place) client(t testing.TB) *client {
	t.Helper()
	c, err := p.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(6 * patience))
	return &client{t, c, bufio.NewReaderSize(c, 64<<10)}
}

// do sends a request and returns the line of the answer, and the value behind a VA.
func (c *client) do(request []byte) (line, value []byte) {
	c.t.Helper()
	if _, err := c.c.Write(request); err != nil {
		c.t.Fatal(err)
	}
	return c.answer()
}

func (c *client) answer() (line, value []byte) {
	c.t.Helper()
	line, err := c.r.ReadBytes('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	if a := repair.ParseReply(line); a.Code == repair.CodeVA {
		value = make([]byte, a.Size+2)
		if _, err := io.ReadFull(c.r, value); err != nil {
			c.t.Fatal(err)
		}
		value = value[:a.Size]
	}
	return bytes.TrimSuffix(line, []byte("\r\n")), value
}

// say is do for what has no value, or has it behind the line.
func (c *client) say(format string, args ...any) string {
	c.t.Helper()
	line, value := c.do(fmt.Appendf(nil, format+"\r\n", args...))
	return string(line) + string(value)
}

// pour sends many requests at once and reads as many lines.
func (c *client) pour(requests []byte, answers int) {
	c.t.Helper()
	go c.c.Write(requests)
	for range answers {
		if line, _ := c.answer(); !bytes.HasPrefix(line, []byte("HD")) {
			c.t.Fatalf("answered %q", line)
		}
	}
}

// named gives keys of these names.
func named(names ...string) func() (Key, bool) {
	keys := make([]Key, len(names))
	for i, n := range names {
		keys[i].Name = []byte(n)
	}
	return each(keys)
}

// each gives keys one by one.
func each(keys []Key) func() (Key, bool) {
	return func() (k Key, ok bool) {
		if len(keys) == 0 {
			return k, false
		}
		k, keys = keys[0], keys[1:]
		return k, true
	}
}
