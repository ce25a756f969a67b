package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/e2e/harness"
)

// silence is how long a client may stop in the middle of a command here.
const silence = 300 * time.Millisecond

// An outcome is what a client that sends garbage gets, beside what it may be told.
type outcome int

const (
	goesOn    outcome = iota // an answer; the connection goes on
	hangsUp                  // the end of the connection, at once or after an answer
	eitherWay                // one of them
)

// garbage is what comes to a port by mistake, or from somebody who tries what happens.
var garbage = []struct {
	name, bytes string
	want        outcome
	answer      string // how the answer begins
}{
	{"a hello of TLS", "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + strings.Repeat("r", 194), hangsUp, "ERROR\r\n"},
	{"HTTP", "GET / HTTP/1.1\r\nHost: cache:11211\r\nAccept: */*\r\n\r\n", hangsUp, ""},
	{"a form of HTTP", "POST /set HTTP/1.0\r\nContent-Length: 4\r\n\r\na=b\n", hangsUp, ""},
	{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", goesOn, "ERROR\r\n"},
	{"RESP", "*1\r\n$4\r\nPING\r\n", goesOn, "ERROR\r\n"},
	{"a line without an end", strings.Repeat("x", 4096), hangsUp, ""},
	{"zeros", strings.Repeat("\x00", 1<<16), hangsUp, ""},
	{"half a line", "get some", hangsUp, ""},
	{"half a get of many keys", "get " + strings.Repeat("key ", 2000), hangsUp, ""},
	{"half a value", "set k 0 0 1000000\r\nabc", hangsUp, ""},
	{"half a value that is too large", "set k 0 0 2000000000\r\nabc", hangsUp, "SERVER_ERROR object too large for cache\r\n"},
	{"a size below 0", "set k 0 0 -1\r\n", goesOn, "CLIENT_ERROR bad command line format\r\n"},
	{"a size beyond all numbers", "set k 0 0 99999999999999999999\r\n", goesOn, "CLIENT_ERROR bad command line format\r\n"},
	{"half a binary header", "\x80\x00\x00\x01", hangsUp, ""},
	{"a binary key that does not come", header(0, 200, 0, 200), hangsUp, ""},
	{"a binary value that does not come", header(1, 1, 8, 1000) + "12345678k", hangsUp, ""},
	{"a binary value of 2 GiB", header(1, 1, 8, 1<<31-20) + "12345678k", hangsUp, "\x81\x01\x00\x00\x00\x00\x00\x03"},
	{"a binary value of 4 GiB", header(1, 1, 8, 1<<32-1) + "12345678k", hangsUp, ""},
	{"a binary body shorter than its key", header(0, 5, 0, 2) + "hello", hangsUp, "\x81\x00\x00\x00\x00\x00\x00\x81"},
	{"a binary body that is all extras", header(0x70, 0, 255, 255) + strings.Repeat("e", 255), goesOn, "\x81\x70\x00\x00\x00\x00\x00\x81"},
	{"a binary response", "\x81" + header(0, 0, 0, 0)[1:], hangsUp, ""},
}

// header is the header of a binary request whose lengths say what they are told to.
func header(opcode byte, key, extras, body int) string {
	return string([]byte{0x80, opcode, byte(key >> 8), byte(key), byte(extras), 0, 0, 0, byte(body >> 24), byte(body >> 16), byte(body >> 8), byte(body)}) +
		strings.Repeat("\x00", 12)
}

// TestGarbage sends it all, with random bytes, over many connections at once. Each of them is
// answered or closed, and has been forgotten in the end.
func TestGarbage(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 2, Set: func(c *config.Config) { c.ClientTimeout = silence }})
	judge := dial(t, p.Addr)
	converse(t, judge, everyVerb)
	round := func(seed uint64) {
		var all sync.WaitGroup
		for _, g := range garbage {
			all.Go(func() {
				if err := throw(p.Addr, g.bytes, g.want, g.answer); err != nil {
					t.Errorf("%s: %v", g.name, err)
				}
			})
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 40 {
			bytes := random(rng)
			all.Go(func() {
				if err := throw(p.Addr, bytes, eitherWay, ""); err != nil {
					t.Errorf("%.200q: %v", bytes, err)
				}
			})
		}
		all.Wait()
	}
	round(*seedFlag)
	before := levelOf(t, p)
	for i := range uint64(amount(2, 3, 50)) {
		round(*seedFlag + 1 + i)
	}
	before.again(t, p)
	converse(t, judge, everyVerb)
}

// random is some bytes: any, or such as begin like a request.
func random(rng *rand.Rand) string {
	b := make([]byte, rng.IntN(5000))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	switch rng.IntN(3) {
	case 0:
		return header(byte(rng.IntN(0x30)), rng.IntN(300), rng.IntN(30), rng.IntN(6000)) + string(b)
	case 1:
		words := []string{"get", "set", "mg", "ms", "incr", "gat", "touch", "cas", "stats", "me"}
		return words[rng.IntN(len(words))] + " " + string(b)
	}
	return string(b)
}

// throw sends bytes, and waits for what has to come of it. A closed connection may be reset:
// there is more that nobody reads.
func throw(addr, bytes string, want outcome, answer string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(proctest.Patience))
	_, _ = io.WriteString(c, bytes) // it may be closed already
	var got []byte
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		switch {
		case isTimeout(err):
			return fmt.Errorf("neither answered nor closed; it got %q", got)
		case err != nil && want == goesOn:
			return fmt.Errorf("closed, after %q", got)
		case err != nil, want != hangsUp && len(got) > 0 && len(got) >= len(answer):
			if !strings.HasPrefix(string(got), answer) {
				return fmt.Errorf("answered with %q, want %q", got, answer)
			}
			return nil
		}
	}
}

// A level is what this process has that a connection which is not forgotten adds to.
type level struct {
	files, goroutines int
	heap              int64
}

// spare is what may have been added all the same: goroutines that wait for ten seconds
// whether there is more for them to do, probes that are under way, buffers that are kept.
var spare = level{files: 8, goroutines: 100, heap: 4 << 20}

// levelOf is the level once p has one client left, and no other.
func levelOf(t *testing.T, p *harness.Proxied) level {
	t.Helper()
	proctest.Eventually(t, "clients that have gone are forgotten", func() bool { return p.Server.Snapshot().Sessions == 1 })
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return level{len(files), runtime.NumGoroutine(), memoryInUse()}
}

// again waits until all is as it was before.
func (was level) again(t *testing.T, p *harness.Proxied) {
	t.Helper()
	var is level
	if !proctest.Within(proctest.Patience, func() bool {
		is = levelOf(t, p)
		return is.files <= was.files+spare.files && is.goroutines <= was.goroutines+spare.goroutines && is.heap <= was.heap+spare.heap
	}) {
		t.Errorf("it is %+v, and was %+v before", is, was)
	}
	t.Logf("before %+v, now %+v", was, is)
}

// TestOpenAndClose has connections come and go, in every way that one may go.
func TestOpenAndClose(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 2})
	judge := dial(t, p.Addr)
	converse(t, judge, everyVerb)
	comeAndGo(t, p.Addr, 1000)
	before := levelOf(t, p)
	began := time.Now()
	n := amount(3000, 20_000, 1_000_000)
	comeAndGo(t, p.Addr, n)
	t.Logf("%d connections in %v", n, time.Since(began))
	before.again(t, p)
	if ever := p.Server.Snapshot().Accepted; ever < uint64(n) {
		t.Errorf("%d connections were accepted, want %d", ever, n)
	}
	converse(t, judge, everyVerb)
}

// comeAndGo opens n connections, some at a time.
func comeAndGo(t *testing.T, addr string, n int) {
	const workers = 8
	ways := []func(*harness.Client) error{
		func(*harness.Client) error { return nil },
		func(c *harness.Client) error { return c.CloseWrite() },
		func(c *harness.Client) error { return c.Send([]byte("get k")) },
		func(c *harness.Client) error { return c.Send([]byte("set k 0 0 100000\r\nabc")) },
		func(c *harness.Client) error { return c.Send([]byte(header(0, 9, 0, 9))) },
		func(c *harness.Client) error { return c.Send([]byte("set k 0 0 1\r\nx\r\nget k\r\n")) },
		func(c *harness.Client) error { _, err := c.Do("get none\r\n", 1); return err },
	}
	ends := []func(*harness.Client){(*harness.Client).Close, (*harness.Client).Reset}
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)); i <= n && !t.Failed(); i = int(next.Add(1)) {
				// An address of the loopback has ports for some ten thousand.
				from := net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/10_000))}
				conn, err := (&net.Dialer{LocalAddr: &from, Timeout: harness.Patience}).Dial("tcp", addr)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				c := harness.Over(conn)
				if err := ways[i%len(ways)](c); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
				ends[i%len(ends)](c)
			}
		})
	}
	all.Wait()
}
