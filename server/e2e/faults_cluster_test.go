package e2e

import (
	"fmt"
	"slices"
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
	addr   string
	nodes  []*target
	kill   func()          // ends the proxy as kill -9 does
	ask    *harness.Client // to the proxy, for its statistics
	others []*cluster      // further proxies in front of the same nodes, see join
}

// newCluster starts as many nodes for each copy as counts says, and a proxy of flags.
func newCluster(t *testing.T, make func(*testing.T) *target, counts []int, flags ...string) *cluster {
	t.Helper()
	c := &cluster{}
	for copy, n := range counts {
		for range n {
			node := make(t)
			node.copy = copy
			c.nodes = append(c.nodes, node)
		}
	}
	c.start(t, flags...)
	return c
}

// start starts the proxy.
func (c *cluster) start(t *testing.T, flags ...string) {
	t.Helper()
	for copy := range c.copies() {
		var addrs []string
		for _, n := range c.nodes {
			if n.copy == copy {
				addrs = append(addrs, n.addr)
			}
		}
		flags = append(flags, []string{"-s", "-b", "--copy"}[min(copy, 2)], strings.Join(addrs, ","))
	}
	c.addr, c.kill = proxyProcess(t, flags...)
	c.ask = dial(t, c.addr)
}

// join starts a further proxy in front of the same nodes.
func (c *cluster) join(t *testing.T, flags ...string) *cluster {
	t.Helper()
	again := &cluster{nodes: c.nodes}
	again.start(t, flags...)
	c.others = append(c.others, again)
	return again
}

// all is the proxy and those that have joined it.
func (c *cluster) all() []*cluster { return append([]*cluster{c}, c.others...) }

// copies is how many copies there are.
func (c *cluster) copies() int { return c.nodes[len(c.nodes)-1].copy + 1 }

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

// healed waits until every proxy trusts every node.
func (c *cluster) healed(t *testing.T) {
	t.Helper()
	c.healedWithin(t, healPatience)
}

func (c *cluster) healedWithin(t *testing.T, patience time.Duration) {
	t.Helper()
	var states []string
	since := time.Now()
	well := func() bool {
		states = nil
		for _, one := range c.all() {
			states = append(states, one.states(t)...)
		}
		if slices.ContainsFunc(states, func(s string) bool { return s != "up" }) {
			since = time.Now()
			return false
		}
		return time.Since(since) >= calm
	}
	if !proctest.Within(patience, well) {
		t.Fatalf("after %v the nodes are %q", patience, states)
	}
}

// repaired waits until no proxy has a key left to repair.
func (c *cluster) repaired(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "nothing is left to repair", func() bool {
		return !slices.ContainsFunc(c.all(), func(one *cluster) bool {
			s := stats(t, one.ask, "stats proxy")
			return s["repairs_waiting"] != "0" || s["repairs_running"] != "0"
		})
	})
}

// differences says in which of keys a copy is not what a proxy answers.
func (c *cluster) differences(t *testing.T, keys []raceKey) (all []string) {
	t.Helper()
	want := itemsOf(t, c.ask, keys)
	for copy := range c.copies() {
		got := make([]held, len(keys))
		for _, n := range c.nodes {
			if n.copy != copy {
				continue
			}
			judge := dial(t, n.addr)
			for i, h := range itemsOf(t, judge, keys) {
				if h.found {
					got[i] = h
				}
			}
			judge.Close()
		}
		for i, k := range keys {
			if string(got[i].value) != string(want[i].value) || got[i].found != want[i].found {
				all = append(all, fmt.Sprintf("%s: the proxy has %v, copy %d %v", k.name, &want[i], copy, &got[i]))
			}
		}
	}
	return all
}
