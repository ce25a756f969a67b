package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/e2e/harness"
)

const (
	idle           = 10_000
	busy           = 200
	heapPerSession = 4 << 10
)

// idlers opens idle connections to its first argument, stores and gets a value of
// some size over each, says so, and keeps them until its standard input ends.
func idlers() {
	value := strings.Repeat("x", 8<<10)
	store := fmt.Sprintf("set idle 0 0 %d\r\n%s\r\n", len(value), value)
	var clients []*harness.Client // one that nothing points to would be closed by the collector
	for range idle {
		c, err := harness.Dial(os.Args[1])
		if err != nil {
			childFailed(err)
		}
		clients = append(clients, c)
		if reply, err := c.Do(store+"get idle\r\n", 4); err != nil || !strings.HasSuffix(reply, "xx\nEND") {
			childFailed(fmt.Errorf("get: %s, %w", brief(reply), err))
		}
	}
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(clients)
}

// TestIdleConnections measures what a connection that does nothing costs, and
// works over others beside them. The idle ends are another process's, so that
// this one's memory is the proxy's alone.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		return // what is in use under the race detector is no measure
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < idle+3*busy {
		t.Fatalf("%d file descriptors are too few for %d connections (%v)", limit.Cur, idle+busy, err)
	}
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 2, Set: func(c *config.Config) { c.MaxClients = 2 * idle }})
	converse(t, dial(t, p.Addr), everyVerb)
	before := memoryInUse()
	idlers := child(t, "idlers", p.Addr)
	if line, err := idlers.said.ReadString('\n'); err != nil {
		t.Fatalf("the idle clients: %q, %v", line, err)
	}
	per := int(memoryInUse()-before) / idle
	t.Logf("%d bytes of heap and stack per idle connection", per)
	if per >= heapPerSession {
		t.Errorf("%d bytes per idle connection, want less than %d", per, heapPerSession)
	}
	if n := p.Server.Snapshot().Sessions; n < idle {
		t.Errorf("%d sessions, want %d", n, idle)
	}
	askers(t, p.Addr, busy, 3, 20, false, &tally{})
	idlers.end()
	proctest.Eventually(t, "the sessions end with their clients", func() bool { return p.Server.Snapshot().Sessions <= 1 })
}

// memoryInUse is the heap that is reachable, and the stacks of goroutines.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// spareFiles is how many descriptors the proxy of scarce has for its clients.
const spareFiles = 20

// scarce is a proxy over the node of its first argument that has few descriptors
// left. It says its address and serves until its standard input ends.
func scarce() {
	cfg := config.Default()
	cfg.Pools = []config.Pool{config.DefaultPool()}
	cfg.Pools[0].Copies = [][]config.Node{{harness.NodeAt(os.Args[1])}}
	serveChild(cfg, slog.LevelInfo, func(addr string) error {
		warm, err := harness.Dial(addr)
		if err != nil {
			return err
		}
		if _, err := warm.Do("get warm\r\n", 1); err != nil { // the node's connections are open now
			return err
		}
		next, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		limit := uint64(next.Fd()) + spareFiles
		return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit})
	})
}

// TestOutOfFiles connects more clients than the proxy has descriptors for: who is
// in is served, and when some leave, others get in.
func TestOutOfFiles(t *testing.T) {
	scarce := child(t, "scarce", harness.Memcached(t).Addr)
	addr, err := scarce.said.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr = strings.TrimSpace(addr)
	first := dial(t, addr)
	converse(t, first, everyVerb)
	var crowd []*harness.Client
	for range 4 * spareFiles {
		c, err := harness.Dial(addr)
		if err != nil {
			break // refused is as good as left waiting
		}
		crowd = append(crowd, c)
		_ = c.Send([]byte("get k\r\n"))
	}
	converse(t, first, everyVerb)
	for _, c := range crowd {
		c.Close()
	}
	proctest.Eventually(t, "there is room again", func() bool {
		c, err := harness.Dial(addr)
		if err != nil {
			return false
		}
		defer c.Close()
		reply, err := c.Do("get k\r\n", 1)
		return err == nil && reply == "END"
	})
	converse(t, first, everyVerb)
}

// TestTooManyClients turns the client over the limit away with a reason.
func TestTooManyClients(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 2, Set: func(c *config.Config) { c.MaxClients = 3 }})
	var in []*harness.Client
	for range 3 {
		c := dial(t, p.Addr)
		converse(t, c, []exchange{{"get k\r\n", "END"}})
		in = append(in, c)
	}
	for range 3 {
		told, err := dial(t, p.Addr).Rest()
		if err != nil || !bytes.HasPrefix(told, []byte("SERVER_ERROR ")) || !bytes.HasSuffix(told, []byte("\r\n")) {
			t.Errorf("the client over the limit was told %q, %v", told, err)
		}
	}
	converse(t, in[1], everyVerb)
	in[0].Close()
	proctest.Eventually(t, "the place is free", func() bool {
		c, err := net.DialTimeout("tcp", p.Addr, harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(harness.Patience))
		_, _ = io.WriteString(c, "get k\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && line == "END\r\n"
	})
}

// TestClientThatDoesNotRead asks for far more than it takes, and is closed when
// that is more than the proxy will keep.
func TestClientThatDoesNotRead(t *testing.T) {
	const large, often = 100_000, 2000
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1, Set: func(c *config.Config) { c.ClientBuffer = 1 << 20 }})
	good := dial(t, p.Addr)
	converse(t, good, []exchange{{fmt.Sprintf("set large 0 0 %d\r\n%s\r\n", large, strings.Repeat("x", large)), "STORED"}})
	greedy := dial(t, p.Addr)
	converse(t, greedy, []exchange{{"mn\r\n", "MN"}}) // so that it is a session
	sent := make(chan error, 1)
	go func() { sent <- greedy.Send(bytes.Repeat([]byte("get large\r\n"), often)) }()
	proctest.Eventually(t, "the proxy closes it", func() bool { return p.Server.Snapshot().Sessions == 1 })
	got, err := greedy.Rest()
	if len(got) >= large*often {
		t.Errorf("it has been given everything, %d bytes (%v)", len(got), err)
	}
	<-sent // whether all was sent is the kernel's business
	converse(t, good, []exchange{{"mg large s\r\n", "HD s" + strconv.Itoa(large)}})
	converse(t, good, everyVerb)
}

// TestLargestValue sets a limit below memcached's: the proxy refuses as memcached
// does, swallows the value, and drops what the key held.
func TestLargestValue(t *testing.T) {
	const most = 1000
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1, Set: func(c *config.Config) { c.MaxValue = most }})
	fits, over := strings.Repeat("x", most), strings.Repeat("get k\r\n", most/7+1)
	refused := "SERVER_ERROR object too large for cache"
	stored := exchange{"set k 0 0 1\r\nx\r\n", "STORED"}
	gone := exchange{"get k\r\n", "END"}
	converse(t, dial(t, p.Addr), []exchange{
		{fmt.Sprintf("set k 0 0 %d\r\n%s\r\n", most, fits), "STORED"},
		{fmt.Sprintf("set k 0 0 %d\r\n%s\r\n", len(over), over), refused}, gone, stored,
		{fmt.Sprintf("set k 0 0 %d noreply\r\n%s\r\nget k\r\n", len(over), over), "END"}, stored,
		{fmt.Sprintf("ms k %d\r\n%s\r\n", len(over), over), refused}, gone, stored,
		{fmt.Sprintf("append k 0 0 %d\r\n%s\r\n", len(over), over), refused},
		{"get k\r\n", "VALUE k 0 1\nx\nEND"},
	})
	for i, name := range []string{"primary", "backup"} {
		converse(t, dial(t, p.Nodes[i][0].Addr), []exchange{{"get k\r\n", "VALUE k 0 1\nx\nEND"}})
		if t.Failed() {
			t.Logf("that was the %s", name)
		}
	}
}

// TestHalfClose sends requests and says that no more will come, as a shell
// pipeline does; memcached answers them all.
func TestHalfClose(t *testing.T) {
	requests := []byte("set a 0 0 1\r\nx\r\nget a\r\nget none\r\nmg a v\r\nmn\r\n")
	half := func(addr string) string {
		c := dial(t, addr)
		if err := c.Send(requests); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		reply, err := c.Rest()
		if err != nil {
			t.Fatal(err)
		}
		return string(reply)
	}
	want := half(harness.Memcached(t).Addr)
	if !strings.HasSuffix(want, "MN\r\n") {
		t.Fatalf("memcached itself answers %q", want)
	}
	for _, top := range topologies {
		if got := half(harness.Proxy(t, top).Addr); got != want {
			t.Errorf("%s: got %q, want %q", nameOf(top), got, want)
		}
	}
}
