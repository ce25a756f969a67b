package memnode

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait in the tests; it is only ever reached by a failure.
const patience = 20 * time.Second

// calm keeps memcached's background threads off the items: while one looks at an
// item, incr replaces it instead of padding it, and flushed items may vanish.
var calm = []string{"-o", "no_lru_maintainer,no_lru_crawler"}

// startReal runs a memcached of the system on a free port until the test ends,
// and returns its address.
func startReal(t testing.TB, args ...string) string {
	t.Helper()
	file := filepath.Join(openDir(t), "port")
	launchReal(t, file, append([]string{"-p", "-1", "-l", "127.0.0.1", "-U", "0"}, args...)...)
	var addr string
	eventually(t, "memcached announces its port", func() bool {
		text, _ := os.ReadFile(file)
		port, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "TCP INET: ")
		addr = "127.0.0.1:" + port
		return ok
	})
	return addr
}

// startRealUnix is startReal on a unix socket.
func startRealUnix(t testing.TB) string {
	t.Helper()
	socket := filepath.Join(openDir(t), "s")
	launchReal(t, "", "-s", socket)
	eventually(t, "memcached listens", func() bool {
		nc, err := net.Dial("unix", socket)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return socket
}

// openDir is a directory in which nobody may write, the user that memcached becomes.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "memnode")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// launchReal runs memcached until the test ends. It writes its port to portFile.
func launchReal(t testing.TB, portFile string, args ...string) {
	t.Helper()
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	cmd := exec.Command("memcached", args...)
	cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+portFile)
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests compare with memcached 1.6.18, Debian's package memcached: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// eventually polls a condition until it holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if cond() {
			return
		}
	}
	t.Fatalf("it never happened that %s", what)
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
	c.SetDeadline(time.Now().Add(patience))
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

// upTo reads lines up to and with one that is last.
func (c *client) upTo(last string) (lines []string) {
	for {
		l := c.line()
		lines = append(lines, l)
		if l == last || strings.HasSuffix(l, ">") {
			return lines
		}
	}
}
