package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
	"magent/upstream/memnode"
)

// A target is a node that can be struck.
type target struct {
	addr                        string
	copy                        int
	kill, restart, freeze, thaw func()
	script                      func(faults string)    // nil for a real memcached
	slow                        func(by time.Duration) // delays replies; nil but for one behind a link
	cold                        bool                   // it was restarted, and is not trusted with what it lacks
}

func (n *target) String() string { return fmt.Sprintf("%s of copy %d", n.addr, n.copy) }

// memcachedTarget is a real memcached.
func memcachedTarget(t *testing.T) *target {
	m := harness.Memcached(t)
	return &target{addr: m.Addr, kill: m.Kill, restart: m.Restart, freeze: m.Freeze, thaw: m.Thaw}
}

// linkedTarget is a real memcached at the end of a link.
func linkedTarget(t *testing.T) *target {
	n := memcachedTarget(t)
	l, addr := newLink(t, n.addr)
	n.addr = addr
	n.slow = func(by time.Duration) { l.delay.Store(int64(by)) }
	return n
}

// memnodeTarget is a node in this process, which knows more faults.
func memnodeTarget(t *testing.T) *target {
	m, err := memnode.Start(memnode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	n := &target{addr: m.Addr(), kill: m.Kill, freeze: m.Freeze, thaw: m.Thaw}
	n.restart = func() {
		if err := m.Restart(); err != nil {
			t.Error(err)
		}
	}
	n.script = func(faults string) {
		if err := m.SetFault(faults); err != nil {
			t.Errorf("%s: %v", faults, err)
		}
	}
	return n
}

// A cluster is a proxy and what it stands in front of. The proxy is a process of its
// own, so that it shares neither processors' time nor a collector with its clients,
// who time it, and is started by the flags that operators give it.
type cluster struct {
	addr  string
	nodes []*target
	ask   *harness.Client // to the proxy, for its statistics
}

// newCluster starts as many nodes for each copy as counts says, and a proxy of flags.
func newCluster(t *testing.T, make func(*testing.T) *target, counts []int, flags ...string) *cluster {
	t.Helper()
	c := &cluster{}
	for copy, n := range counts {
		var addrs []string
		for range n {
			node := make(t)
			node.copy = copy
			c.nodes, addrs = append(c.nodes, node), append(addrs, node.addr)
		}
		flags = append(flags, []string{"-s", "-b", "--copy"}[min(copy, 2)], strings.Join(addrs, ","))
	}
	c.addr = proxyProcess(t, flags...)
	c.ask = dial(t, c.addr)
	return c
}

// states is what the proxy says of its nodes, in the order of c.nodes.
func (c *cluster) states(t *testing.T) (all []string) {
	t.Helper()
	s := stats(t, c.ask, "stats nodes")
	for _, n := range c.nodes {
		all = append(all, s[n.addr+":state"])
	}
	return all
}

const (
	// healPatience is how long the proxy may take to trust a node again, one that has
	// failed so often that it is held back included.
	healPatience = 40 * time.Second
	// calm is how long all must be well until it is believed that it is.
	calm = 20 * time.Millisecond
)

// healed waits until the proxy trusts every node that it can be expected to trust.
func (c *cluster) healed(t *testing.T) {
	t.Helper()
	var states []string
	since := time.Now()
	well := func() bool {
		states = c.states(t)
		for i, n := range c.nodes {
			if states[i] != "up" && !(n.cold && states[i] == "warming") {
				since = time.Now()
				return false
			}
		}
		return time.Since(since) >= calm
	}
	if !proctest.Within(healPatience, well) {
		t.Fatalf("after %v the nodes are %q", healPatience, states)
	}
}

// repaired waits until the proxy has no key left to repair.
func (c *cluster) repaired(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "nothing is left to repair", func() bool {
		s := stats(t, c.ask, "stats proxy")
		return s["repairs_waiting"] == "0" && s["repairs_running"] == "0"
	})
}

// differences says in which of keys a copy is not what the proxy answers. Only a copy
// of which a node was restarted may lack a key.
func (c *cluster) differences(t *testing.T, keys []raceKey) (all []string) {
	t.Helper()
	want := itemsOf(t, c.ask, keys)
	for copy := range c.nodes[len(c.nodes)-1].copy + 1 {
		cold, got := false, make([]held, len(keys))
		for _, n := range c.nodes {
			if n.copy != copy {
				continue
			}
			cold = cold || n.cold
			judge := dial(t, n.addr)
			for i, h := range itemsOf(t, judge, keys) {
				if h.found {
					got[i] = h
				}
			}
			judge.Close()
		}
		for i, k := range keys {
			if lacks := want[i].found && !got[i].found; lacks && !cold || !lacks && string(got[i].value) != string(want[i].value) {
				all = append(all, fmt.Sprintf("%s: the proxy has %v, copy %d %v", k.name, &want[i], copy, &got[i]))
			}
		}
	}
	return all
}
