package e2e

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"magent/server/config"
	"magent/server/e2e/harness"
)

// stats asks for statistics and returns them by name.
func stats(t *testing.T, c *harness.Client, request string) map[string]string {
	t.Helper()
	if err := c.Send([]byte(request + "\r\n")); err != nil {
		t.Fatal(err)
	}
	reply, err := c.Until("END\r\n")
	if err != nil {
		t.Fatalf("%s: %q, %v", request, reply, err)
	}
	all := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(reply), "END\r\n"), "\r\n") {
		words := strings.SplitN(line, " ", 3)
		if len(words) == 3 && words[0] == "STAT" {
			all[words[1]] = words[2]
		} else if line != "" {
			t.Errorf("%s: the line %q", request, line)
		}
	}
	return all
}

// TestStats finds in the proxy's statistics every name that memcached's have, and
// sums of what the nodes of the lead copy count. Second looks count as gets there, and
// so would probes that store.
func TestStats(t *testing.T) {
	direct := dial(t, harness.Memcached(t).Addr)
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 3, Loops: 1, Set: func(c *config.Config) { c.Pools[0].Probe = config.ProbeVersion }})
	c := dial(t, p.Addr)
	for i := range 30 {
		for _, c := range []*harness.Client{direct, c} {
			converse(t, c, []exchange{{"set key" + strconv.Itoa(i) + " 0 0 1\r\nx\r\n", "STORED"}, {"get key" + strconv.Itoa(i) + "\r\n", "VALUE key" + strconv.Itoa(i) + " 0 1\nx\nEND"}})
		}
	}
	for _, request := range []string{"stats", "stats settings", "stats items", "stats slabs", "stats sizes", "stats conns"} {
		want, got := stats(t, direct, request), stats(t, c, request)
		if request == "stats conns" { // its names are those of file descriptors
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if _, ok := got[name]; !ok {
				t.Errorf("%s: %s is missing", request, name)
			}
		}
	}
	for name, want := range map[string]string{"curr_items": "30", "get_hits": "60", "total_items": "30"} {
		if got := stats(t, c, "stats")[name]; got != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	converse(t, c, []exchange{{"stats reset\r\n", "RESET"}})
	if got := stats(t, c, "stats")["get_hits"]; got != "0" {
		t.Errorf("after the reset get_hits is %q", got)
	}
	for _, request := range []string{"stats proxy", "stats nodes"} {
		if len(stats(t, c, request)) == 0 {
			t.Errorf("%s is empty", request)
		}
	}
}

// TestAdminIsRefused sends the commands that look into one server or stop it,
// which make no sense to a pool.
func TestAdminIsRefused(t *testing.T) {
	c := dial(t, harness.Proxy(t, topologies[1]).Addr)
	for _, request := range []string{
		"watch", "watch fetchers", "lru_crawler metadump all", "lru_crawler enable", "lru mode flat", "slabs automove 1",
		"slabs reassign 1 2", "cache_memlimit 64", "extstore item_size 1", "refresh_certs",
	} {
		converse(t, c, []exchange{{request + "\r\n", "ERROR"}})
	}
	converse(t, c, everyVerb)
}
