package e2e

import (
	"fmt"
	"strings"
	"testing"

	"magent/server/config"
	"magent/server/e2e/harness"
)

// TestTwoPools has one proxy serve two pools: by prefix to who comes by TCP, and one of them
// alone to who comes by the socket. Killing a node of one, and then all of it, takes nothing
// from the other.
func TestTwoPools(t *testing.T) {
	cfg := config.Default()
	cfg.Loops = 2
	nodes := map[string]*harness.Node{}
	for _, name := range []string{"main", "sessions"} {
		p := config.DefaultPool()
		p.Name, p.Timeout, p.ConnectTimeout = name, harness.Patience/4, harness.Patience/4
		for i := range 2 {
			n := harness.Memcached(t)
			nodes[fmt.Sprint(name, i)] = n
			p.Copies = append(p.Copies, []config.Node{n.Config()})
		}
		cfg.Pools = append(cfg.Pools, p)
	}
	cfg.Listen = []config.Listen{
		{Routes: []config.Route{{Prefix: "s:", Pool: "sessions"}, {Pool: "main"}}},
		{Routes: []config.Route{{Pool: "sessions"}}},
	}
	p := harness.Serve(t, cfg)
	both, sessions := dial(t, p.Addr), dial(t, p.Unix)
	does := func(c *harness.Client, request, want string) {
		t.Helper()
		if got, err := c.Do(request, strings.Count(want, "\n")+1); err != nil || got != want {
			t.Fatalf("%q is answered with %q, %v, want %q", request, got, err, want)
		}
	}
	values := "VALUE s:1 0 1\nb\nVALUE 1 0 1\na\nEND"
	does(both, "set 1 0 0 1\r\na\r\nset s:1 0 0 1\r\nb\r\nset 2 0 0 1\r\nc\r\n", "STORED\nSTORED\nSTORED")
	does(sessions, "set 2 0 0 1\r\nd\r\n", "STORED")
	does(both, "get s:1 1\r\nget 2\r\n", values+"\nVALUE 2 0 1\nc\nEND")
	for name, n := range nodes {
		does(dial(t, n.Addr), "get 2\r\n", map[byte]string{'m': "VALUE 2 0 1\nc\nEND", 's': "VALUE 2 0 1\nd\nEND"}[name[0]])
	}
	nodes["sessions0"].Kill()
	for range 20 {
		does(both, "get s:1 1\r\n", values)
	}
	does(both, "set s:1 0 0 1\r\ne\r\nget s:1\r\n", "STORED\nVALUE s:1 0 1\ne\nEND")
	nodes["sessions1"].Kill()
	does(both, "get 1\r\nset 1 0 0 1\r\nf\r\n", "VALUE 1 0 1\na\nEND\nSTORED")
	if got, err := both.Do("get s:1\r\n", 1); err != nil || !strings.HasPrefix(got, "SERVER_ERROR node ") {
		t.Errorf("a key whose nodes are dead is %q, %v", got, err)
	}
	does(both, "get 1\r\n", "VALUE 1 0 1\nf\nEND")
	for _, n := range p.Server.Snapshot().Nodes {
		if n.Pool == "main" && len(n.Falls) > 0 {
			t.Errorf("%s of the other pool fell: %v", n.Name, n.Falls)
		}
	}
}
