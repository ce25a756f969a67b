package probe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
	"magent/upstream/probe"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1", process.Unix} {
		m := start(t, host)
		for _, write := range []bool{false, true} {
			p := prober(t, m.Addr, write)
			for range 3 {
				trip(t, p)
			}
		}
		c := dialTo(t, m.Addr)
		if got := c.do(t, "get probe:key-0\r\n"); !strings.HasPrefix(got, "VALUE probe:key-0 0 ") {
			t.Errorf("%s: after the round trips the key has %q", m.Addr, got)
		}
	}
}

func TestConnectionIsKept(t *testing.T) {
	t.Parallel()
	n := startNode(t, "")
	p := prober(t, n.Addr(), true)
	for range 3 {
		trip(t, p)
	}
	if got := n.Stats().Conns; got != 1 {
		t.Errorf("%d connections", got)
	}
	seen := map[string]bool{}
	for range 3 {
		trip(t, p)
		it, _ := n.Get("probe:key-0")
		seen[string(it.Value)] = true
	}
	if len(seen) != 3 {
		t.Errorf("values are not fresh: %v", seen)
	}
	p.Forget()
	proctest.Eventually(t, "the connection is closed", func() bool { return n.Stats().Conns == 0 })
	trip(t, p)
}

// Each fault is there for the second round trip, over a connection that was good for
// the first.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fault, want string }{
		{`(on set (stall 10s))`, `no answer to set within 40ms`},
		{`(on get (stall 10s))`, `no answer to get within 40ms`},
		{`(on get (slow 10s))`, `no answer to get within 40ms`},
		{`(on set (drop))`, `no answer to set within 40ms`},
		{`(on set (swap))`, `no answer to set within 40ms`},
		{`(on get (drop))`, `no answer to get within 40ms`},
		{`(on get (close))`, `no answer to get: connection closed`},
		{`(on get (reset))`, `no answer to get: connection reset by peer`},
		{`(on set (truncate 3))`, `no end of the answer to set: *`},
		{`(on get (truncate 12))`, `no end of the answer to get: *`},
		{`(on set (close))`, `no answer to set: connection closed`},
		{`(on get (lie 1))`, `answered "VALUE probe:key-0 0 19" to get`},
		{`(on get (wrongkey))`, `answered "VALUE probe:key-X 0 18" to get`},
		{`(on get (reply "VALUE probe:key-0 0 18\r\n0123456789abcdef-1\r\nEND"))`, `answered "0123456789abcdef-1" to get`},
		{`(on get (reply "STORED"))`, `answered "STORED" to get`},
		{`(on get (reply "SERVER_ERROR out of memory writing get response"))`, `answered "SERVER_ERROR out of memory writing get response" to get`},
		{`(on set (reply "NOT_STORED"))`, `answered "NOT_STORED" to set`},
		{`(on set (reply "STORED\r\nSTORED"))`, `sent 8 bytes unasked before get`},
		{`(on set (reply "SERVER_ERROR no")) (on version (reply "ERROR"))`, `answered "ERROR" to version`},
		{`(on accept (close))`, `no answer to set: *`},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, "")
			p := prober(t, n.Addr(), true)
			trip(t, p)
			if strings.Contains(c.want, "within") {
				p = hasty(t, n.Addr(), true, 40*time.Millisecond)
			}
			if strings.Contains(c.fault, "accept") {
				p.Forget()
			}
			if err := n.SetFault(c.fault); err != nil {
				t.Fatal(err)
			}
			_, err := p.RoundTrip(context.Background())
			says(t, err, c.want)
			if is, want := errors.Is(err, probe.ErrLate), strings.Contains(c.want, "within"); is != want {
				t.Errorf("it counts as late: %v, want %v", is, want)
			}
			if err := n.SetFault(""); err != nil {
				t.Fatal(err)
			}
			p = prober(t, n.Addr(), true)
			trip(t, p)
		})
	}
}

func TestMissIsNoFault(t *testing.T) {
	t.Parallel()
	n := startNode(t, `(on get (reply "END"))`)
	trip(t, prober(t, n.Addr(), true))
}

// A connection that a node has closed while nobody asked it anything is made anew,
// once.
func TestKeptConnectionMayBeClosed(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{`(on set (times 1 close))`, `(on set (times 1 reset))`} {
		n := startNode(t, "")
		p := prober(t, n.Addr(), true)
		trip(t, p)
		if err := n.SetFault(fault); err != nil {
			t.Fatal(err)
		}
		trip(t, p)
		if got := n.Stats().Commands["set"]; got != 3 {
			t.Errorf("%s: %d sets", fault, got)
		}
		p.Forget()
		if err := n.SetFault(fault); err != nil {
			t.Fatal(err)
		}
		_, err := p.RoundTrip(context.Background())
		says(t, err, "no answer to set: connection *")
		if strings.Contains(fault, "reset") && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v is not ECONNRESET", err)
		}
	}
	m := start(t, "127.0.0.1")
	ctx := context.Background()
	p := prober(t, m.Addr, true)
	for _, ask := range map[string]func() error{
		"round trip": func() error { _, err := p.RoundTrip(ctx); return err },
		"identity":   func() error { _, err := p.Identity(ctx); return err },
		"clients":    func() error { _, err := p.Clients(ctx); return err },
		"flush":      func() error { return p.FlushAll(ctx) },
	} {
		trip(t, p)
		m.Kill()
		m.Restart()
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
	m.Kill()
	_, err := p.RoundTrip(ctx)
	says(t, err, "dial tcp "+m.Addr+": connect: connection refused")
}

func TestNodeThatStoresNothing(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{
		`(on set (reply "SERVER_ERROR out of memory storing object"))`,
		`(on set (reply "CLIENT_ERROR read only\r\nERROR"))`, // the value was taken for a command
		`(on set (reply "ERROR"))`,
	} {
		n := startNode(t, fault)
		p := prober(t, n.Addr(), true)
		trip(t, p)
		trip(t, p)
		if c := n.Stats().Commands; c["set"] != 2 || c["version"] != 2 || c["get"] != 0 {
			t.Errorf("%s: %v", fault, c)
		}
	}
}

// fill stores items like a probe's until the node refuses one.
func fill(t *testing.T, c *client) {
	t.Helper()
	var batch strings.Builder
	for i := range 1 << 16 {
		fmt.Fprintf(&batch, "set p:%07d 0 0 20\r\n%020d\r\n", i, i)
		if i%256 != 255 {
			continue
		}
		if _, err := io.WriteString(c, batch.String()); err != nil {
			t.Fatal(err)
		}
		batch.Reset()
		full := false
		for range 256 {
			line, err := c.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			full = full || line == "SERVER_ERROR out of memory storing object\r\n"
		}
		if full {
			return
		}
	}
	t.Fatal("memcached does not become full")
}

func TestFullMemcached(t *testing.T) {
	t.Parallel()
	m := start(t, "127.0.0.1", "-M", "-m", "2")
	fill(t, dialTo(t, m.Addr))
	p := prober(t, m.Addr, true)
	for range 3 {
		trip(t, p)
	}
	if got := dialTo(t, m.Addr).do(t, "get probe:key-0\r\n"); got != "END" {
		t.Errorf("it was not full: %s", got)
	}
}

func TestFrozenMemcached(t *testing.T) {
	t.Parallel()
	m := start(t, "127.0.0.1")
	p := hasty(t, m.Addr, true, 50*time.Millisecond)
	m.Freeze()
	for range 3 { // the kernel goes on to accept
		_, err := p.RoundTrip(context.Background())
		says(t, err, "no answer to set within 50ms")
	}
	m.Thaw()
	proctest.Eventually(t, "it answers again", func() bool {
		_, err := p.RoundTrip(context.Background())
		return err == nil
	})
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	m := start(t, "127.0.0.1")
	p := prober(t, m.Addr, true)
	trip(t, p)
	m.Freeze()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		_, err := p.RoundTrip(ctx)
		ended <- err
	}()
	cancel()
	err := <-ended
	says(t, err, "no answer to set: context canceled")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	_, err = p.RoundTrip(ctx)
	says(t, err, "no answer to set: context deadline exceeded")
	m.Thaw()
	trip(t, p)
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	p.Forget()
	if _, err = p.RoundTrip(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a dial in a context that has ended: %v", err)
	}
}

// serve answers every connection to it with what talk writes, and returns where.
func serve(t *testing.T, talk func(c net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proctest.Serve(t, ln, talk)
	return ln.Addr().String()
}

// A line that is longer than what a Prober reads into comes in one piece.
func TestLongLine(t *testing.T) {
	t.Parallel()
	p := prober(t, start(t, "127.0.0.1").Addr, false)
	for _, n := range []int{4<<10 - 3, 4<<10 - 2, 4<<10 - 1, 10 << 10, 64 << 10} {
		value, got := strings.Repeat("x", n-1)+"y", []string{}
		request := fmt.Sprintf("ms k %d\r\n%s\r\nmg k v\r\nmn\r\n", n, value)
		err := p.Ask(context.Background(), "a long line", request, func(line []byte) (last, ok bool) {
			got = append(got, string(line))
			return len(got) == 4, true
		})
		if want := []string{"HD", fmt.Sprint("VA ", n), value, "MN"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%d bytes: %v, %.40q", n, err, got)
		}
	}
}

func TestNodeThatTalksOnAndOn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	repeat := func(text string) string {
		block := []byte(strings.Repeat(text, 64<<10/len(text)))
		return serve(t, func(c net.Conn) {
			for {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})
	}
	p := prober(t, repeat("STAT x"), true)
	_, err := p.RoundTrip(ctx)
	says(t, err, "answered a line of more than 69632 bytes to set")
	_, err = p.Identity(ctx)
	says(t, err, "answered a line of more than 69632 bytes to stats")
	p = prober(t, repeat("STAT x "+strings.Repeat("1", 1000)+"\r\n"), true)
	_, err = p.Identity(ctx)
	says(t, err, "answered more than 33554432 bytes to stats")
	_, err = p.Clients(ctx)
	says(t, err, "answered more than 33554432 bytes to stats conns")
	p = prober(t, repeat("\x00\xff\r\n"), true)
	_, err = p.Identity(ctx)
	says(t, err, `answered "\x00\xff" to stats`)
	says(t, p.FlushAll(ctx), `answered "\x00\xff" to flush_all`)
	p = prober(t, serve(t, func(net.Conn) {}), true)
	_, err = p.Identity(ctx)
	says(t, err, "no answer to stats: *")
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	m := start(t, "127.0.0.1")
	p := prober(t, m.Addr, true)
	ask := func() uint64 {
		t.Helper()
		id, err := p.Identity(context.Background())
		life, ok := id.Life()
		if err != nil || !ok {
			t.Fatalf("identity %+v: %v", id, err)
		}
		return life
	}
	born := ask()
	if again := ask(); again != born {
		t.Errorf("the life has become %x from %x", again, born)
	}
	m.Kill()
	m.Restart()
	if ask() == born {
		t.Error("a restart does not show")
	}
	n := startNode(t, `(on stats (reply "STAT pid 1\r\nSTAT time 5\r\nEND"))`)
	id, err := prober(t, n.Addr(), true).Identity(context.Background())
	if _, ok := id.Life(); ok || err != nil {
		t.Errorf("stats without uptime make %+v: %v", id, err)
	}
}

func TestClients(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, host := range []string{"127.0.0.1", "::1"} {
		m := start(t, host)
		p := prober(t, m.Addr, true)
		quiet, busy := dialTo(t, m.Addr), dialTo(t, m.Addr)
		if _, err := io.WriteString(busy, "set k 0 0 5\r\nhe"); err != nil {
			t.Fatal(err)
		}
		look := func() probe.Clients {
			t.Helper()
			c, err := p.Clients(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		proctest.Eventually(t, "the node has both connections and the prober's", func() bool {
			c := look()
			return c.Has(quiet.LocalAddr()) && c.Has(busy.LocalAddr()) && len(c) == 3
		})
		if look().Has(quiet.RemoteAddr()) {
			t.Error("a listening socket counts as a client")
		}
		busy.Close()
		proctest.Eventually(t, "the node has closed it, too", func() bool {
			c := look()
			return c.Has(quiet.LocalAddr()) && !c.Has(busy.LocalAddr())
		})
	}
	n := startNode(t, "")
	if c, err := prober(t, n.Addr(), true).Clients(ctx); err != nil || len(c) != 1 {
		t.Errorf("a memnode has %v: %v", c, err)
	}
}

// A frozen node executes, once it thaws, what came over connections that are closed at
// this end. When it lists them no more, it has.
func TestClientsGoneWriteNoMore(t *testing.T) {
	t.Parallel()
	const writers = 16
	m := start(t, "127.0.0.1")
	p, c := prober(t, m.Addr, true), dialTo(t, m.Addr)
	if got := c.do(t, "set n 0 0 1\r\n0\r\n"); got != "STORED" {
		t.Fatal(got)
	}
	var conns []*client
	for range writers {
		conns = append(conns, dialTo(t, m.Addr))
		conns[len(conns)-1].do(t, "version\r\n")
	}
	m.Freeze()
	for _, w := range conns {
		if _, err := io.WriteString(w, "incr n 1\r\n"); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	m.Thaw()
	proctest.Eventually(t, "the node lists none of the connections", func() bool {
		listed, err := p.Clients(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(conns, func(w *client) bool { return listed.Has(w.LocalAddr()) })
	})
	if got := c.do(t, "incr n 1\r\n"); got != fmt.Sprint(writers+1) {
		t.Errorf("after %d writes and one more the count is %s", writers, got)
	}
}

func TestClientsWithoutNames(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for what, p := range map[string]*probe.Prober{
		"a unix socket":        prober(t, start(t, process.Unix).Addr, true),
		"no such command":      prober(t, startNode(t, `(on stats (reply "ERROR"))`).Addr(), true),
		"addresses of another": prober(t, startNode(t, `(on stats (reply "STAT 1:addr tcp:192.0.2.1:80\r\nSTAT 1:state conn_read\r\nEND"))`).Addr(), true),
	} {
		if c, err := p.Clients(ctx); !errors.Is(err, probe.ErrUnnamed) || c != nil {
			t.Errorf("%s: %v, %v", what, c, err)
		}
		trip(t, p)
	}
	p := prober(t, startNode(t, `(on stats (close))`).Addr(), true)
	if _, err := p.Clients(ctx); err == nil || errors.Is(err, probe.ErrUnnamed) {
		t.Errorf("no answer is %v", err)
	}
}

func TestFlushAll(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := start(t, "127.0.0.1")
	c := dialTo(t, m.Addr)
	if got := c.do(t, "set k 0 0 1\r\nx\r\n"); got != "STORED" {
		t.Fatal(got)
	}
	if err := prober(t, m.Addr, true).FlushAll(ctx); err != nil {
		t.Error(err)
	}
	if got := c.do(t, "get k\r\n"); got != "END" {
		t.Errorf("after a flush: %s", got)
	}
	m = start(t, "127.0.0.1", "-F")
	says(t, prober(t, m.Addr, true).FlushAll(ctx), `answered "CLIENT_ERROR flush_all not allowed" to flush_all`)
}
