package probe_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
	"magent/upstream/dial"
	"magent/upstream/memnode"
	"magent/upstream/probe"
)

// start runs a memcached with args until the test ends: on a port of host, or on a
// unix socket.
func start(t testing.TB, host string, args ...string) *proctest.Process {
	t.Helper()
	return proctest.Memcached(t, process.MemcachedConfig{Listen: host, Args: args})
}

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

// networkOf is that of an address, which is host:port or the path of a unix socket.
func networkOf(addr string) string {
	if strings.HasPrefix(addr, "/") {
		return "unix"
	}
	return "tcp"
}

// prober asks the node at addr with all the patience there is.
func prober(t testing.TB, addr string, write bool) *probe.Prober {
	t.Helper()
	return hasty(t, addr, write, proctest.Patience)
}

// hasty gives each answer timeout.
func hasty(t testing.TB, addr string, write bool, timeout time.Duration) *probe.Prober {
	t.Helper()
	p := probe.New(probe.Target{Target: dial.Target{Network: networkOf(addr), Address: addr, Connect: proctest.Patience}, Timeout: timeout}, "probe:key", write)
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

func dialTo(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial(networkOf(addr), addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(proctest.Patience))
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
