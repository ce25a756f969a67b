package harness

import (
	"net"
	"strconv"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
	"magent/server/config"
)

// Patience is how long a client, or anything that has a deadline of its own, waits
// before it counts as hung.
const Patience = 10 * time.Second

// Node is one real memcached, alive until Kill or the end of its test.
type Node struct {
	*proctest.Process
}

// Memcached starts Debian's memcached on a free port of the loopback, with args
// appended to its command line, and returns when it accepts connections.
func Memcached(t testing.TB, args ...string) *Node {
	t.Helper()
	return Program(t, "memcached", args...)
}

// Program is Memcached for the memcached at a path, or of a name in PATH.
func Program(t testing.TB, program string, args ...string) *Node {
	t.Helper()
	return &Node{proctest.Memcached(t, process.MemcachedConfig{Path: program, Threads: 2, Conns: 4096, Args: args})}
}

// Config is the node as the proxy's configuration names it.
func (n *Node) Config() config.Node { return NodeAt(n.Addr) }

// NodeAt is the server at addr as the proxy's configuration names it.
func NodeAt(addr string) config.Node {
	host, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	return config.Node{Host: host, Port: number}
}
