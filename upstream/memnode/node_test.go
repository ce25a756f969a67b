package memnode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// clock is a time that the test moves.
type clock struct{ unix atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.unix.Store(1_700_000_000)
	return c
}

func (c *clock) now() time.Time        { return time.Unix(c.unix.Load(), 0) }
func (c *clock) advance(seconds int64) { c.unix.Add(seconds) }

func TestExpiry(t *testing.T) {
	k := newClock()
	n := startNode(t, Config{Clock: k.now})
	c := dial(t, n.Addr())
	c.do("set rel 0 10 1\r\nx\r\n", "STORED\r\n")
	c.do(fmt.Sprintf("set abs 0 %d 1\r\nx\r\n", k.unix.Load()+20), "STORED\r\n")
	c.do("set ever 0 0 1\r\nx\r\n", "STORED\r\n")
	c.do("mg rel t\r\nmg abs t\r\nmg ever t\r\n", "HD t10\r\nHD t20\r\nHD t-1\r\n")
	if it, ok := n.Get("rel"); !ok || !it.Exptime.Equal(k.now().Add(10*time.Second)) {
		t.Errorf("rel is %+v, %v", it, ok)
	}
	k.advance(9)
	c.do("mg rel t l h\r\n", "HD t1 l9 h1\r\n")
	k.advance(1)
	if n.Len() != 2 {
		t.Errorf("%d items live, want 2", n.Len())
	}
	c.do("get rel\r\nadd rel 0 5 1\r\ny\r\ntouch abs 1\r\nincr rel 1\r\n", "END\r\nSTORED\r\nTOUCHED\r\n"+notNumber+"\r\n")
	k.advance(1)
	c.do("get abs\r\ngat 1 rel\r\nmg rel R30 t\r\nmg rel R30\r\n", "END\r\nVALUE rel 0 1\r\ny\r\nEND\r\nHD t1 W\r\nHD Z\r\n")
	k.advance(1)
	c.do("mg rel N5 t\r\n", "HD t5 W\r\n")
	c.do("flush_all 3\r\n", "OK\r\n")
	k.advance(2)
	c.do("get ever\r\n", "END\r\n")
}

func TestEviction(t *testing.T) {
	const bound, size = 1<<20 - 4096, 1000
	n := startNode(t, Config{MaxBytes: bound})
	c := dial(t, n.Addr())
	value := strings.Repeat("v", size)
	for i := range 3000 {
		c.do(fmt.Sprintf("set k%d 0 0 %d\r\n%s\r\n", i, size, value), "STORED\r\n")
		c.do("mg k0\r\n", "HD\r\n") // always hot
	}
	s := n.Stats()
	if s.Bytes > bound || s.Items < bound/(size+200) || s.Items >= 3000 {
		t.Errorf("%d items of %d bytes", s.Items, s.Bytes)
	}
	if s.Evictions != uint64(3000-s.Items) {
		t.Errorf("%d evictions, %d items left", s.Evictions, s.Items)
	}
	if _, ok := n.Get("k1"); ok {
		t.Error("the coldest item is still there")
	}
	c.do("set huge 0 0 1048000\r\n"+strings.Repeat("x", 1048000)+"\r\n", "SERVER_ERROR out of memory storing object\r\n")
	c.do("cache_memlimit 8\r\n", "OK\r\n")
	c.do("set huge 0 0 1048000\r\n"+strings.Repeat("x", 1048000)+"\r\n", "STORED\r\n")
}

// TestUsedBytes holds the count of bytes against what is stored.
func TestUsedBytes(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.do("set a 1 0 3\r\nabc\r\nappend a 0 0 2\r\nde\r\nset n 0 0 1\r\n9\r\nincr n 1\r\nmg v N0\r\nms a 1 MP\r\nx\r\n",
		"STORED\r\nSTORED\r\nSTORED\r\n10\r\nHD W\r\nHD\r\n")
	want := int64(sizeOf(1, 1, 6) + sizeOf(1, 0, 2) + sizeOf(1, 0, 0))
	if got := n.Stats().Bytes; got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	c.do("delete a\r\nmd n\r\nflush_all\r\n", "DELETED\r\nHD\r\nOK\r\n")
	s := n.current.Load().store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n.bytes != 0 || s.used != 0 || len(s.items) != 0 || s.lru.next != &s.lru {
		t.Errorf("after all is gone: %d bytes, %d used, %d items", s.n.bytes, s.used, len(s.items))
	}
}

func TestFreezeThaw(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.do("set a 0 0 1\r\n1\r\n", "STORED\r\n")
	n.Freeze()
	n.Freeze()
	c.send("set a 0 0 1\r\n2\r\n")
	late := dial(t, n.Addr()) // the kernel accepts
	late.send("set b 0 0 1\r\n3\r\n")
	gone := dial(t, n.Addr())
	gone.send("set c 0 0 1\r\n4\r\n")
	gone.Close()
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if got := c.line(); !strings.Contains(got, "timeout") {
		t.Fatalf("a frozen node answered %q", got)
	}
	c.SetReadDeadline(time.Now().Add(proctest.Patience))
	if it, _ := n.Get("a"); string(it.Value) != "1" || n.Len() != 1 {
		t.Errorf("a frozen node executed: a is %q, %d items", it.Value, n.Len())
	}
	n.Thaw()
	n.Thaw()
	c.expect("STORED\r\n")
	late.expect("STORED\r\n")
	proctest.Eventually(t, "the write of a client that has gone is executed", func() bool { _, ok := n.Get("c"); return ok })
}

// TestFreezeBusyWriter freezes a node that is stuck writing to a client.
func TestFreezeBusyWriter(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	const size, times = 1 << 19, 64
	value := strings.Repeat("0123456789abcdef", size/16)
	c.do(fmt.Sprintf("set a 0 0 %d\r\n%s\r\n", size, value), "STORED\r\n")
	c.send("%s", strings.Repeat("get a\r\n", times))
	var written uint64
	proctest.Eventually(t, "the node waits for its client", func() bool {
		before := written
		written = n.current.Load().wire.written.Load()
		return written > size && written == before
	})
	n.Freeze()
	n.Thaw()
	for range times {
		c.expect(fmt.Sprintf("VALUE a 0 %d\r\n%s\r\nEND\r\n", size, value))
	}
}

func TestKillRestart(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			cfg := Config{Network: network}
			if network == "unix" {
				cfg.Addr = filepath.Join(t.TempDir(), "s")
			}
			n := startNode(t, cfg)
			if err := n.Restart(); err == nil {
				t.Error("restart of a running node succeeded")
			}
			c := dial(t, n.Addr())
			c.do("set a 0 0 1\r\n1\r\n", "STORED\r\n")
			pid := statOf(c, "pid")
			n.Kill()
			n.Kill()
			_, err := c.r.ReadByte()
			if network == "tcp" && !errors.Is(err, syscall.ECONNRESET) || network == "unix" && err != io.EOF {
				t.Errorf("the client of a killed node reads %v", err)
			}
			if nc, err := net.Dial(network, n.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a killed node takes connections: %v, %v", nc, err)
			}
			if _, ok := n.Get("a"); ok || n.Len() != 0 {
				t.Error("a killed node remembers")
			}
			if err := n.Restart(); err != nil {
				t.Fatal(err)
			}
			c = dial(t, n.Addr())
			c.do("get a\r\n", "END\r\n")
			if again := statOf(c, "pid"); again == pid {
				t.Errorf("pid %s before and after", pid)
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			if _, err := c.r.ReadByte(); err != io.EOF {
				t.Errorf("the client of a closed node reads %v", err)
			}
		})
	}
}

// TestKillFrozen forgets what a frozen node has buffered.
func TestKillFrozen(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.do("version\r\n", "VERSION 1.6.18\r\n")
	n.Freeze()
	c.send("set a 0 0 1\r\n1\r\n")
	n.Kill()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	dial(t, n.Addr()).do("get a\r\n", "END\r\n")
	n.Freeze()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// statOf asks for one of the stats.
func statOf(c *client, name string) string {
	c.send("stats\r\n")
	value := ""
	for _, l := range c.upTo("END\r\n") {
		if w := strings.Fields(l); len(w) > 2 && w[1] == name {
			value = w[2]
		}
	}
	return value
}

func TestUptime(t *testing.T) {
	k := newClock()
	n := startNode(t, Config{Clock: k.now})
	start := k.unix.Load()
	k.advance(100)
	c := dial(t, n.Addr())
	now, _ := strconv.ParseInt(statOf(c, "time"), 10, 64)
	up, _ := strconv.ParseInt(statOf(c, "uptime"), 10, 64)
	if now != start+100 || now-up != start-2 { // memcached's uptime begins at 2
		t.Errorf("time %d, uptime %d, started %d", now, up, start)
	}
}

func TestVersion(t *testing.T) {
	for version, explicit := range map[string]bool{"1.6.26": false, "1.6.27": true, "1.7": true, "1.6": false, "2.0.1": true} {
		n := startNode(t, Config{Version: version})
		c := dial(t, n.Addr())
		c.do("version\r\n", "VERSION "+version+"\r\n")
		if !explicit {
			c.do("ms a 1 E77 c\r\nx\r\n", badFlag+"\r\n")
			continue
		}
		c.do("ms a 1 E77 c\r\nx\r\n", "HD c77\r\n")
		c.do("md a I E78\r\nmg a c\r\n", "HD\r\nHD c78 X W\r\n")
		c.do("ma n N0 J9 E5 c\r\nma n E6 c\r\nmg v N0 E7 c\r\n", "HD c5\r\nHD c6\r\nHD c7 W\r\n")
		c.do("ms b 1 c\r\nx\r\n", "HD c1\r\n")
	}
}

func TestBinaryProtocolIsRefused(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.send("\x80\x0a\x00\n")
	if got := c.line(); got != "<EOF>" {
		t.Errorf("got %q", got)
	}
}

// moment is a Unix time in a list of keys: the two nodes may have been given theirs in
// different seconds.
var moment = regexp.MustCompile(`=1[0-9]{9}\b`)

// TestMetadump compares the list of several items, in whatever order.
func TestMetadump(t *testing.T) {
	n := startNode(t, Config{})
	realAddr := startReal(t)
	dump := func(addr, class string) string {
		c := dial(t, addr)
		c.send("lru_crawler metadump %s\r\n", class)
		lines := c.upTo("END\r\n")
		for i := range lines {
			lines[i] = moment.ReplaceAllString(reply(lines[i]), "=T")
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	for _, addr := range []string{n.Addr(), realAddr} {
		c := dial(t, addr)
		c.do("set a%20 3 0 1\r\n1\r\nset b 0 5000 200\r\n"+strings.Repeat("x", 200)+"\r\nset gone 0 -1 1\r\nx\r\nget b\r\n",
			"STORED\r\nSTORED\r\nSTORED\r\nVALUE b 0 200\r\n"+strings.Repeat("x", 200)+"\r\nEND\r\n")
	}
	for _, class := range []string{"all", "hash", "1", "1,6", "30"} {
		var want string
		got := dump(n.Addr(), class)
		proctest.Eventually(t, "memcached dumps class "+class, func() bool { // its crawler may be busy
			want = dump(realAddr, class)
			return want == got
		})
		if !strings.Contains(got, "END") {
			t.Errorf("%s: %s", class, got)
		}
	}
	c := dial(t, n.Addr())
	for i := range 2000 {
		c.send("set key%d 0 0 0 noreply\r\n\r\n", i)
	}
	c.do("mn\r\n", "MN\r\n")
	c.send("lru_crawler metadump all\r\n")
	if lines := c.upTo("END\r\n"); len(lines) != 2003 || !strings.HasPrefix(lines[0], "key=key1999 ") {
		t.Errorf("%d lines, the first is %q", len(lines), lines[0])
	}
}

// TestStatsReplies checks the form of every kind of stats.
func TestStatsReplies(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.do("set a 0 0 1\r\n1\r\nset b 0 0 500\r\n"+strings.Repeat("x", 500)+"\r\n", "STORED\r\nSTORED\r\n")
	has := map[string]string{ // of conns, TestConnsStats has more
		"": "STAT curr_items 2\r\n", "items": "STAT items:1:number 1\r\n", "slabs": "STAT active_slabs 2\r\n",
		"settings": "STAT item_size_max 1048576\r\n", "conns": "STAT 0:state conn_listening\r\n", "sizes": "STAT sizes_status disabled\r\n",
	}
	for kind, want := range has {
		c.send("stats %s\r\n", kind)
		found := false
		for _, l := range c.upTo("END\r\n") {
			if w := strings.Fields(l); l != "END\r\n" && (w[0] != "STAT" || len(w) != 3) {
				t.Errorf("stats %s: %q", kind, l)
			}
			found = found || l == want
		}
		if !found {
			t.Errorf("stats %s has no %q", kind, want)
		}
	}
	c.do("get a\r\nstats reset\r\n", "VALUE a 0 1\r\n1\r\nEND\r\nRESET\r\n")
	if got := statOf(c, "cmd_get") + " " + statOf(c, "curr_items"); got != "0 2" {
		t.Errorf("after the reset: %s", got)
	}
}

func TestCounters(t *testing.T) {
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.do("get a\r\nget a\r\nmg a\r\nbogus\r\nset a 0 0 1 noreply\r\nx\r\nget a\r\n", "END\r\nEND\r\nEN\r\nERROR\r\nVALUE a 0 1\r\nx\r\nEND\r\n")
	s := n.Stats()
	if s.Commands["get"] != 3 || s.Commands["mg"] != 1 || s.Commands[""] != 1 || s.Commands["set"] != 1 || len(s.Commands) != 4 {
		t.Errorf("commands %v", s.Commands)
	}
	if s.Conns != 1 || s.Items != 1 || s.Hits != 1 || s.Misses != 3 {
		t.Errorf("%+v", s)
	}
	it, ok := n.Get("a")
	if !ok || string(it.Value) != "x" || it.CAS != 1 || it.Flags != 0 || !it.Exptime.IsZero() || it.Stale {
		t.Errorf("%+v, %v", it, ok)
	}
}

// TestManyClients lets clients change one counter and their own keys at once.
func TestManyClients(t *testing.T) {
	n := startNode(t, Config{})
	dial(t, n.Addr()).do("set n 0 0 1\r\n0\r\n", "STORED\r\n")
	const clients, rounds = 8, 300
	var wg sync.WaitGroup
	for i := range clients {
		c := dial(t, n.Addr())
		wg.Go(func() {
			for j := range rounds {
				key := fmt.Sprintf("k%d-%d", i, j)
				fmt.Fprintf(c.Conn, "incr n 1 noreply\r\nset %s 0 0 %d\r\n%s\r\nget %s\r\n", key, len(key), key, key)
				for _, want := range []string{"STORED\r\n", fmt.Sprintf("VALUE %s 0 %d\r\n", key, len(key)), key + "\r\n", "END\r\n"} {
					if got := c.line(); got != want {
						t.Errorf("%s: got %q, want %q", key, got, want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if it, _ := n.Get("n"); string(bytes.TrimSpace(it.Value)) != strconv.Itoa(clients*rounds) {
		t.Errorf("n is %q", it.Value)
	}
}

func TestStartFails(t *testing.T) {
	n := startNode(t, Config{})
	if _, err := Start(Config{Addr: n.Addr()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second node on the address: %v", err)
	}
	if _, err := Start(Config{Fault: "(on"}); err == nil {
		t.Error("a bad script was taken")
	}
}
