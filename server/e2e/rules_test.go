package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/e2e/harness"
)

// dialFrom is dial from an address of the loopback.
func dialFrom(t *testing.T, from, addr string) *harness.Client {
	t.Helper()
	d := net.Dialer{Timeout: harness.Patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := harness.Over(conn)
	t.Cleanup(c.Close)
	return c
}

// TestWhoIsLetIn allows one address, and two clients of that.
func TestWhoIsLetIn(t *testing.T) {
	const allowed, other = "127.0.0.2", "127.0.0.3"
	p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 2, Set: func(c *config.Config) {
		c.Clients.Allow = []netip.Prefix{netip.MustParsePrefix(allowed + "/32")}
		c.Clients.Conns = 2
	}})
	if got, err := dialFrom(t, other, p.Addr).Rest(); len(got) > 0 {
		t.Errorf("who is not allowed is told %q, %v", got, err)
	}
	one, two := dialFrom(t, allowed, p.Addr), dialFrom(t, allowed, p.Addr)
	converse(t, one, everyVerb)
	converse(t, two, everyVerb)
	got, err := dialFrom(t, allowed, p.Addr).Rest()
	if err != nil || !bytes.HasPrefix(got, []byte("SERVER_ERROR ")) {
		t.Errorf("the third client is told %q, %v", got, err)
	}
	for range 3 {
		converse(t, dial(t, p.Unix), everyVerb)
	}
	proctest.Eventually(t, "it is ready, as its own client is not asked", func() bool { return p.Server.Ready().Ready })
	if s := p.Server.Snapshot(); s.Barred != 1 || s.Crowded != 1 || s.Accepted != 5 {
		t.Errorf("%d were barred, %d were too many, %d were taken; want 1, 1, 5", s.Barred, s.Crowded, s.Accepted)
	}
	one.Close()
	proctest.Eventually(t, "there is room for another", func() bool {
		reply, err := dialFrom(t, allowed, p.Addr).Do("mn\r\n", 1)
		return err == nil && reply == "MN"
	})
}

// TestSilentClientsAreClosed beside a memcached that does it.
func TestSilentClientsAreClosed(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 2, Set: func(c *config.Config) { c.Clients.IdleTimeout = time.Second }})
	busy := dial(t, p.Addr)
	silent := map[string]*harness.Client{"silent": dial(t, p.Addr), "amid a line": dial(t, p.Addr), "of the binary protocol": dial(t, p.Unix)}
	began := time.Now()
	converse(t, silent["silent"], everyVerb)
	for who, begins := range map[string]string{"amid a line": "get ", "of the binary protocol": "\x80"} {
		if err := silent[who].Send([]byte(begins)); err != nil {
			t.Fatal(err)
		}
	}
	ends := make(chan string)
	for who, c := range silent {
		go func() {
			if got, err := c.Rest(); len(got) > 0 || err != nil {
				t.Errorf("the client that is %s is told %q, %v", who, got, err)
			}
			ends <- who
		}()
	}
	for left := len(silent); left > 0; {
		select {
		case who := <-ends:
			if after := time.Since(began); after < time.Second {
				t.Errorf("the client that is %s is closed after %v", who, after)
			}
			left--
		case <-time.After(100 * time.Millisecond):
			converse(t, busy, []exchange{{"mn\r\n", "MN"}})
		}
	}
	converse(t, busy, everyVerb)
	if n := p.Server.Snapshot().Idled; n != uint64(len(silent)) {
		t.Errorf("%d were closed, want %d", n, len(silent))
	}
}

// TestRateOfAnAddress has several clients of one address ask for more than it may: all
// are answered, and no faster.
func TestRateOfAnAddress(t *testing.T) {
	const rate, clients, each = 400, 5, 240
	// What a tenth of a second brings comes at once, and one of each client beyond that.
	const least = (clients*(each-1) - rate/10) * time.Second / rate
	p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 2, Set: func(c *config.Config) { c.Clients.Rate = rate }})
	began := time.Now()
	done := make(chan error)
	for i := range clients {
		c := dialFrom(t, "127.0.0.2", p.Addr)
		go func() {
			reply, err := c.Do(strings.Repeat(fmt.Sprintf("get k%d\r\n", i), each), each)
			if err == nil && reply != strings.TrimSpace(strings.Repeat("END\n", each)) {
				err = fmt.Errorf("it was told %q", reply)
			}
			done <- err
		}()
	}
	other := dialFrom(t, "127.0.0.3", p.Addr)
	converse(t, other, []exchange{{"get k\r\n", "END"}})
	if took := time.Since(began); took > least/2 {
		t.Errorf("another address had to wait for %v, others for %v", took, least)
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took < least {
		t.Errorf("%d requests took %v, at %d per second that is %v", clients*each, took, rate, least)
	}
	if n := p.Server.Snapshot().Slowed; n == 0 {
		t.Error("nobody was slowed down")
	}
}

// packets is requests of the binary protocol, as they are sent.
func packets(all ...packet) string {
	var b []byte
	for _, p := range all {
		b = p.append(b, 0, 0)
	}
	return string(b)
}

// TestFlushIsRefusedAsByMemcached sends the same to a memcached with -F and to a proxy
// that denies flush_all.
func TestFlushIsRefusedAsByMemcached(t *testing.T) {
	refusing := harness.Memcached(t, "-F")
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1, Set: func(c *config.Config) { c.Clients.Deny = []string{"flush_all"} }})
	const flush, flushq, quit = 0x08, 0x18, 0x07
	for _, request := range []string{
		"flush_all\r\nflush_all noreply\r\nflush_all 10\r\nflush_all 0 noreply\r\nflush_all 1 2 3\r\nshutdown\r\nmn\r\nquit\r\n",
		packets(packet{opcode: flush}, packet{opcode: flushq}, packet{opcode: flush, extras: "\x00\x00\x00\x05"}, packet{opcode: noop}, packet{opcode: quit}),
	} {
		var replies [2][]byte
		for i, addr := range []string{refusing.Addr, p.Addr} {
			c := dial(t, addr)
			if err := c.Send([]byte(request)); err != nil {
				t.Fatal(err)
			}
			var err error
			if replies[i], err = c.Rest(); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(replies[0], replies[1]) {
			t.Errorf("%q\nmemcached says %q\nthe proxy says %q", request, replies[0], replies[1])
		}
	}
}

// TestNoItemOutlivesTheCap stores and touches without an exptime, in both protocols, and
// looks at both copies.
func TestNoItemOutlivesTheCap(t *testing.T) {
	const most = 100
	for _, writes := range []config.Writes{config.WritesConverge, config.WritesParallel} {
		p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1, Set: func(c *config.Config) {
			c.Pools[0].MaxTTL, c.Pools[0].Writes = most*time.Second, writes
		}})
		c := dial(t, p.Addr)
		converse(t, c, []exchange{
			{"set a 0 0 1\r\nx\r\n", "STORED"}, {"ms b 1\r\nx\r\n", "HD"}, {"add c 0 5000 1\r\nx\r\n", "STORED"},
			{"set d 0 10 1\r\nx\r\n", "STORED"}, {"touch d 0\r\n", "TOUCHED"}, {"mg e N0 v\r\n", "VA 0 W\n"}, {"ma f N0 J7 v\r\n", "VA 1\n7"},
			{"set g 0 4294967296 1\r\nx\r\n", "STORED"}, {"gat 0 g\r\n", "VALUE g 0 1\nx\nEND"},
		})
		b := dial(t, p.Addr)
		const set, quit = 0x01, 0x07
		if err := b.Send([]byte(packets(packet{opcode: set, extras: strings.Repeat("\x00", 8), key: "h", value: "x"}, packet{opcode: quit}))); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Rest(); err != nil || len(got) != 2*headSize {
			t.Fatalf("a binary set is answered by %q, %v", got, err)
		}
		for i, copy := range p.Nodes {
			at := dial(t, copy[0].Addr)
			for _, key := range strings.Split("abcdefgh", "") {
				var reply string
				proctest.Eventually(t, key+" is there", func() bool {
					reply, _ = at.Do("mg "+key+" t\r\n", 1)
					return reply != "EN" || key == "e" && i > 0 // what mg with N made is not copied
				})
				var ttl int
				if _, err := fmt.Sscanf(reply, "HD t%d", &ttl); reply != "EN" && (err != nil || ttl < 0 || ttl > most) {
					t.Errorf("%s: copy %d has %s as %q", writes, i, key, reply)
				}
			}
		}
	}
}
