package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

// An exchange is a request and its reply, lines joined by \n.
type exchange struct{ request, reply string }

// everyVerb is a conversation in which each verb is used; it starts and ends with
// none of its keys stored.
var everyVerb = []exchange{
	{"set v 5 0 4\r\nhehe\r\n", "STORED"},
	{"get v\r\n", "VALUE v 5 4\nhehe\nEND"},
	{"add v 0 0 1\r\nx\r\n", "NOT_STORED"},
	{"add w 0 0 1\r\nx\r\n", "STORED"},
	{"replace v 6 0 3\r\nabc\r\n", "STORED"},
	{"append v 0 0 1\r\nd\r\n", "STORED"},
	{"prepend v 0 0 1\r\nz\r\n", "STORED"},
	{"get v w none\r\n", "VALUE v 6 5\nzabcd\nVALUE w 0 1\nx\nEND"},
	{"gat 100 v\r\n", "VALUE v 6 5\nzabcd\nEND"},
	{"touch v 0\r\n", "TOUCHED"},
	{"cas v 0 0 1 1\r\nx\r\n", "EXISTS"},
	{"set n 0 0 2 noreply\r\n10\r\nincr n 5\r\n", "15"},
	{"decr n 4\r\n", "11"},
	{"delete w\r\n", "DELETED"},
	{"delete w\r\n", "NOT_FOUND"},
	{"mg v v f k Oq\r\n", "VA 5 f6 kv Oq\nzabcd"},
	{"ms v 2 F9\r\nhi\r\n", "HD"},
	{"ms v 1 MA\r\n!\r\n", "HD"},
	{"mg v v f\r\n", "VA 3 f9\nhi!"},
	{"ma n v\r\n", "VA 2\n12"},
	{"ma fresh N0 J7 v\r\n", "VA 1\n7"},
	{"md fresh\r\n", "HD"},
	{"md n q\r\nmn\r\n", "MN"},
	{"me none\r\n", "EN"},
	{"get n fresh\r\n", "END"},
	{"verbosity 0\r\n", "OK"},
	{"delete v noreply\r\nget v\r\n", "END"},
	{"flush_all\r\n", "OK"},
	{"nonsense\r\n", "ERROR"},
}

// converse has the exchanges over c, one after another.
func converse(t *testing.T, c *harness.Client, exchanges []exchange) {
	t.Helper()
	for _, e := range exchanges {
		reply, err := c.Do(e.request, 1+strings.Count(e.reply, "\n"))
		if err != nil || reply != e.reply {
			t.Errorf("%q: got %q, %v, want %q", e.request, reply, err, e.reply)
		}
		if err != nil {
			return
		}
	}
}

func dial(t testing.TB, addr string) *harness.Client {
	t.Helper()
	c, err := harness.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestWalkThrough is the walk through the old guide: store through the proxy, see
// the value on the proxy and on both nodes, kill the primary, and go on.
func TestWalkThrough(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1})
	primary, backup := p.Nodes[0][0], p.Nodes[1][0]
	c := dial(t, p.Addr)
	value := exchange{"get test\r\n", "VALUE test 0 4\nhehe\nEND"}
	converse(t, c, []exchange{{"set test 0 0 4\r\nhehe\r\n", "STORED"}, value})
	converse(t, dial(t, primary.Addr), []exchange{value})
	converse(t, dial(t, backup.Addr), []exchange{value})

	primary.Kill()
	converse(t, c, []exchange{value})
	converse(t, dial(t, p.Addr), []exchange{value})
	converse(t, c, everyVerb)
	converse(t, dial(t, p.Unix), everyVerb)
}

// TestFrozenPrimary stops the primary instead: it accepts and never answers.
func TestFrozenPrimary(t *testing.T) {
	t.Parallel()
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1})
	c := dial(t, p.Addr)
	value := exchange{"get test\r\n", "VALUE test 0 4\nhehe\nEND"}
	converse(t, c, []exchange{{"set test 0 0 4\r\nhehe\r\n", "STORED"}, value})
	p.Nodes[0][0].Freeze()
	defer p.Nodes[0][0].Thaw()
	converse(t, c, []exchange{value})
	converse(t, c, everyVerb)
	converse(t, dial(t, p.Addr), everyVerb)
}

// TestFrozenInMidVerb freezes the primary anew for each verb, so that each is the
// one that finds it out. That takes the timeout each time, so several wait at once.
func TestFrozenInMidVerb(t *testing.T) {
	t.Parallel()
	for _, e := range []exchange{
		{"get k\r\n", "VALUE k 0 1\n5\nEND"},
		{"get k none k\r\n", "VALUE k 0 1\n5\nVALUE k 0 1\n5\nEND"},
		{"mg k v k Ox\r\n", "VA 1 kk Ox\n5"},
		{"set k 0 0 1\r\nx\r\n", "STORED"},
		{"delete k\r\n", "DELETED"},
		{"touch k 100\r\n", "TOUCHED"},
		{"gat 100 k\r\n", "VALUE k 0 1\n5\nEND"},
	} {
		t.Run(strings.Fields(e.request)[0], func(t *testing.T) {
			t.Parallel()
			p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1})
			c := dial(t, p.Addr)
			converse(t, c, []exchange{{"set k 0 0 1\r\n5\r\n", "STORED"}})
			p.Nodes[0][0].Freeze()
			defer p.Nodes[0][0].Thaw()
			converse(t, c, []exchange{e, {"mn\r\n", "MN"}})
		})
	}
}

// TestNoReplicaLeft takes both nodes away: the error names node and cause, the
// connection lives, and serves again when a node is back.
func TestNoReplicaLeft(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1})
	primary, backup := p.Nodes[0][0], p.Nodes[1][0]
	c := dial(t, p.Addr)
	converse(t, c, []exchange{{"set k 0 0 1\r\nx\r\n", "STORED"}})
	primary.Kill()
	backup.Kill()
	for _, request := range []string{
		"get k\r\n", "gets k l\r\n", "set k 0 0 1\r\ny\r\n", "add k 0 0 1\r\ny\r\n", "incr k 1\r\n", "delete k\r\n", "touch k 1\r\n",
		"mg k v\r\n", "ms k 1\r\ny\r\n", "md k\r\n", "ma k\r\n", "flush_all\r\n", "gat 1 k\r\n", "cas k 0 0 1 1\r\ny\r\n",
	} {
		reply, err := c.Do(request, 1)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		named := strings.Contains(reply, primary.Addr) || strings.Contains(reply, backup.Addr)
		if !strings.HasPrefix(reply, "SERVER_ERROR ") || !named || len(strings.Fields(reply)) < 4 {
			t.Errorf("%q: got %q, want a SERVER_ERROR that names node and cause", request, reply)
		}
	}
	converse(t, c, []exchange{{"mn\r\n", "MN"}, {"set k 0 0 1 noreply\r\ny\r\nmn\r\n", "MN"}})
	backup.Restart()
	proctest.Eventually(t, "the proxy serves from the node that is back", func() bool {
		reply, err := c.Do("set k 0 0 1\r\nz\r\n", 1)
		if err != nil {
			t.Fatal(err)
		}
		return reply == "STORED"
	})
	converse(t, c, []exchange{{"get k\r\n", "VALUE k 0 1\nz\nEND"}})
	converse(t, c, everyVerb)
}

// TestMemccapable has libmemcached's own judge of servers compare the two, in both
// protocols.
func TestMemccapable(t *testing.T) {
	t.Parallel()
	addrs := []string{harness.Memcached(t).Addr}
	for _, top := range topologies {
		addrs = append(addrs, harness.Proxy(t, top).Addr)
	}
	verdicts := make([]string, len(addrs))
	var judges sync.WaitGroup
	for i, addr := range addrs {
		judges.Go(func() { verdicts[i] = memccapable(addr) })
	}
	judges.Wait()
	t.Logf("memcached itself:\n%s", verdicts[0])
	if !strings.Contains(verdicts[0], "[pass]") {
		t.Error("memccapable passes nothing")
	}
	for i, got := range verdicts[1:] {
		if got != verdicts[0] {
			t.Errorf("through the proxy, %s:\n%s", nameOf(topologies[i]), got)
		}
	}
}

// memccapable is what memccapable says of the server at addr, its exit included.
func memccapable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	var said string
	for _, protocol := range []string{"-a", "-b"} {
		out, err := exec.CommandContext(ctx, "memccapable", protocol, "-h", host, "-p", port).CombinedOutput()
		said += fmt.Sprintf("%s%v\n", out, err)
	}
	return said
}

// nodeState is what addr holds of key: value, flags and ttl, or EN.
func nodeState(t *testing.T, c *harness.Client, key string) []string {
	t.Helper()
	if err := c.Send(fmt.Appendf(nil, "mg %s u v f t\r\nmn\r\n", key)); err != nil {
		t.Fatal(err)
	}
	reply, err := c.Until("MN\r\n")
	if err != nil {
		t.Fatal(err)
	}
	return newCanon().lines(reply)
}
