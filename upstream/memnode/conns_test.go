package memnode

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	programs "magent/bench/process"
	"magent/bench/process/proctest"
)

// connsOf asks for stats conns: what memcached and a node say alike, by the address
// of the client, in any order: the state of each connection. Numbers and ages are left out.
func connsOf(t *testing.T, c *client) (lines []string) {
	t.Helper()
	c.send("stats conns\r\n")
	entries := make(map[string]string)
	for _, l := range c.upTo("END\r\n") {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(l, "\r\n"), "STAT "), " ")
		number, name, isConn := strings.Cut(name, ":")
		if !ok || !isConn {
			continue
		}
		if name == "secs_since_last_cmd" {
			value = regexp.MustCompile(`^[0-9]$`).ReplaceAllString(value, "N")
		}
		entries[number] += name + "=" + value + " "
	}
	return slices.Collect(maps.Values(entries))
}

// TestConnsStats compares the list of connections in every state with memcached's.
func TestConnsStats(t *testing.T) {
	big := fmt.Sprintf("set big 0 0 %d\r\n%s\r\n", 1<<19, strings.Repeat("x", 1<<19))
	list := func(addr string) string {
		asks := dial(t, addr)
		asks.do(big, "STORED\r\n")
		names := []string{shownAs(asks.LocalAddr()), "asks", shownAs(asks.RemoteAddr()), "node"}
		sends := map[string]string{
			"new": "", "value": "set a 0 0 9\r\nabc", "line": "get a", "swallow": "set a 0 0 9000000\r\nabc",
			"idle": "version\r\n", "stuck": strings.Repeat("get big\r\n", 64),
		}
		for name, send := range sends {
			c := dial(t, addr)
			names = append(names, shownAs(c.LocalAddr()), name)
			c.send("%s", send)
		}
		dial(t, addr).Close()
		named := strings.NewReplacer(names...)
		var got string
		proctest.Eventually(t, "all is as it stays", func() bool {
			before := got
			lines := strings.Split(named.Replace(strings.Join(connsOf(t, asks), "\n")), "\n")
			slices.Sort(lines)
			got = strings.Join(lines, "\n")
			return got == before && strings.Count(got, "\n") == len(sends)+1 && strings.Contains(got, "mwrite") &&
				strings.Contains(got, "swallow") && strings.Contains(got, "nread") && strings.Count(got, "conn_read") == 2
		})
		return got
	}
	for network, start := range map[string]func() string{
		"tcp":  func() string { return startReal(t) },
		"unix": func() string { return proctest.Memcached(t, programs.MemcachedConfig{Listen: programs.Unix}).Addr },
	} {
		t.Run(network, func(t *testing.T) {
			cfg := Config{Network: network}
			if network == "unix" {
				cfg.Addr = filepath.Join(t.TempDir(), "s")
			}
			got, want := list(startNode(t, cfg).Addr()), list(start())
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	if got := shown(&net.TCPAddr{IP: net.IPv6loopback, Port: 7}); got != "tcp6:[::1]:7" {
		t.Errorf("an address of IPv6 is %s", got)
	}
}

// shownAs is how memcached shows an address of this test.
func shownAs(a net.Addr) string {
	if a.Network() == "unix" {
		if a.String() == "" || a.String() == "@" {
			return "unused"
		}
		return "unix:" + a.String()
	}
	return "tcp:" + a.String()
}

// TestConnsUntilExecuted: the requests of a client that has gone are executed before
// its connection leaves the list, and those that the kernel took for a frozen node
// are on the list as soon as anybody can ask for it.
func TestConnsUntilExecuted(t *testing.T) {
	n := startNode(t, Config{})
	const clients, each = 8, 50
	var gone []*client
	for i := range clients {
		if i == clients/2 {
			n.Freeze()
		}
		c := dial(t, n.Addr())
		if i < clients/2 {
			c.do("version\r\n", "VERSION 1.6.18\r\n") // accepted for certain
		}
		gone = append(gone, c)
	}
	for i, c := range gone {
		for j := range each {
			c.send("set k%d 0 0 2\r\n%02d\r\n", i, j)
		}
		c.Close()
	}
	if got := n.Stats().Conns; got != clients/2 {
		t.Errorf("the frozen node has %d connections, not %d", got, clients/2)
	}
	asks := dial(t, n.Addr())
	n.Thaw()
	proctest.Eventually(t, "no connection is left", func() bool {
		list := strings.Join(connsOf(t, asks), "\n")
		left := false
		for i, c := range gone {
			if strings.Contains(list, "addr="+shownAs(c.LocalAddr())+" ") {
				left = true
			} else if it, _ := n.Get(fmt.Sprintf("k%d", i)); string(it.Value) != fmt.Sprintf("%02d", each-1) {
				t.Fatalf("client %d is not listed, and its last value is %q", i, it.Value)
			}
		}
		return !left
	})
}
