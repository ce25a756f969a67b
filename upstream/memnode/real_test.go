package memnode

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	programs "magent/bench/process"
	"magent/bench/process/proctest"
)

// calm keeps memcached's background threads off the items: while one looks at an
// item, incr replaces it instead of padding it, and flushed items may vanish.
var calm = []string{"-o", "no_lru_maintainer,no_lru_crawler"}

// startReal runs a memcached of the system on a free port until the test ends,
// and returns its address.
func startReal(t testing.TB, args ...string) string {
	t.Helper()
	return proctest.Memcached(t, programs.MemcachedConfig{Args: args}).Addr
}

// startNode runs a node until the test ends.
func startNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// client is a raw connection to a node.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(proctest.Patience))
	t.Cleanup(func() { c.Close() })
	return &client{t, c, bufio.NewReaderSize(c, 1<<16)}
}

func (c *client) send(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.Conn, format, args...); err != nil {
		c.t.Fatal(err)
	}
}

// line reads one line of a reply with its end; EOF and errors are lines too.
func (c *client) line() string {
	s, err := c.r.ReadString('\n')
	if err != nil {
		return s + "<" + err.Error() + ">"
	}
	return s
}

// expect reads the lines of want, which are written with their ends.
func (c *client) expect(want string) {
	c.t.Helper()
	for line := range strings.Lines(want) {
		if got := c.line(); got != line {
			c.t.Fatalf("got %q, want %q of %q", got, line, want)
		}
	}
}

// do sends a command, given with its CRLF, and checks the reply.
func (c *client) do(cmd, want string) {
	c.t.Helper()
	c.send("%s", cmd)
	c.expect(want)
}

// upTo reads lines up to and with one that is last, or that says that there are none as the
// crawler has other work.
func (c *client) upTo(last string) (lines []string) {
	for {
		l := c.line()
		lines = append(lines, l)
		if l == last || strings.HasSuffix(l, ">") || strings.HasPrefix(l, "BUSY ") {
			return lines
		}
	}
}
