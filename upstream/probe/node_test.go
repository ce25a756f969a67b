package probe_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/upstream/memnode"
	"magent/upstream/probe"
)

// patience bounds every wait in the tests; it is only ever reached by a failure.
const patience = 20 * time.Second

// memcached is one of the system's.
type memcached struct {
	network, addr string
	cmd           *exec.Cmd
	restart       func()
}

// start runs a memcached with args until the test ends: on a port of its own of host,
// or, if host is "", on a socket.
func start(t testing.TB, host string, args ...string) *memcached {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "probe") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // memcached may become nobody
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	m := &memcached{network: "tcp"}
	if host == "" {
		m.network, m.addr = "unix", filepath.Join(dir, "s")
		m.run(t, dir, append(args, "-s", m.addr))
	} else {
		m.run(t, dir, append(args, "-U", "0", "-l", host, "-p", "-1"))
	}
	t.Cleanup(m.kill)
	m.restart = func() {
		_, port, _ := net.SplitHostPort(m.addr)
		m.run(t, dir, append(args, "-U", "0", "-l", host, "-p", port))
	}
	return m
}

// run starts a process and returns when it takes connections.
func (m *memcached) run(t testing.TB, dir string, args []string) {
	t.Helper()
	file := filepath.Join(dir, "port")
	os.Remove(file)
	m.cmd = exec.Command("memcached", args...)
	m.cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+file)
	m.cmd.Stderr = t.Output()
	if err := m.cmd.Start(); err != nil {
		t.Fatalf("these tests need memcached 1.6.18, Debian's package memcached: %v", err)
	}
	eventually(t, "memcached takes connections", func() bool {
		if m.network == "tcp" {
			text, _ := os.ReadFile(file)
			family, port, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
			host := "127.0.0.1"
			if family == "TCP INET6" {
				host = "::1"
			}
			m.addr = net.JoinHostPort(host, port)
		}
		c, err := net.Dial(m.network, m.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (m *memcached) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

// freeze stops the process and returns when all its threads stand still.
func (m *memcached) freeze(t testing.TB) {
	t.Helper()
	m.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(t, "memcached stands still", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", m.cmd.Process.Pid))
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			if _, state, _ := strings.Cut(string(text), ") "); err != nil || !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return err == nil && len(stats) > 0
	})
}

func (m *memcached) thaw() { m.cmd.Process.Signal(syscall.SIGCONT) }

// startNode runs a memnode until the test ends.
func startNode(t testing.TB, fault string) *memnode.Node {
	t.Helper()
	n, err := memnode.Start(memnode.Config{Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// eventually polls a condition until it holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatalf("it never happened that %s", what)
}

// prober asks the node at addr with all the patience there is.
func prober(t testing.TB, network, addr string, write bool) *probe.Prober {
	t.Helper()
	return hasty(t, network, addr, write, patience)
}

// hasty gives each answer timeout.
func hasty(t testing.TB, network, addr string, write bool, timeout time.Duration) *probe.Prober {
	t.Helper()
	p := probe.New(probe.Target{Network: network, Address: addr, Connect: patience, Timeout: timeout}, "probe:key", write)
	t.Cleanup(p.Forget)
	return p
}

// trip demands a good round trip.
func trip(t testing.TB, p *probe.Prober) {
	t.Helper()
	if rtt, err := p.RoundTrip(context.Background()); err != nil || rtt <= 0 {
		t.Fatalf("a round trip of %v: %v", rtt, err)
	}
}

// says demands an error that reads as want, in which a * is anything.
func says(t testing.TB, err error, want string) {
	t.Helper()
	head, tail, any := strings.Cut(want, "*")
	if err == nil || err.Error() != want && (!any || !strings.HasPrefix(err.Error(), head) || !strings.HasSuffix(err.Error(), tail)) {
		t.Errorf("got %q, want %q", fmt.Sprint(err), want)
	}
}

// client is a raw connection to a node.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, network, addr string) *client {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReader(c)}
}

// do sends a request and returns the first line of the answer.
func (c *client) do(t testing.TB, request string) string {
	t.Helper()
	if _, err := c.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
