package e2e

import (
	"fmt"
	"testing"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

func storeDebt(t *testing.T, c *harness.Client, i int) {
	t.Helper()
	if reply, err := c.Do(fmt.Sprintf("set debt%06d 0 0 1\r\nv\r\n", i), 1); err != nil || reply != "STORED" {
		t.Fatalf("%q, %v", reply, err)
	}
}

// A node's debt outgrows its limit when the node is on its way back already, and it has
// been asked whether it did: while the proxy waits for what may still be read from the
// connections that it gave up. The node is flushed all the same, and trusted again.
// Behind a link the node does not name these connections, so that the wait is long.
func TestDebtOutgrowsItsLimitOnTheWayBack(t *testing.T) {
	c := newCluster(t, linkedTarget, []int{1, 1}, "--debt-limit", "1k", "--loops", "1")
	client, node := dial(t, c.addr), c.nodes[1]
	probed := func(bad bool) func() bool {
		return func() bool { return (stats(t, c.ask, "stats nodes")[node.addr+":probe_error"] != "") == bad }
	}
	storeDebt(t, client, 0)
	node.freeze()
	storeDebt(t, client, 1)
	proctest.Eventually(t, "the node is down", probed(true))
	node.thaw()
	proctest.Eventually(t, "the node is on its way back", probed(false))
	for i := range 200 {
		storeDebt(t, client, 2+i)
	}
	c.healed(t)
	judge := dial(t, node.addr)
	if n := stats(t, judge, "stats")["cmd_flush"]; n != "1" {
		t.Errorf("the node was flushed %s times", n)
	}
	for _, key := range []string{"debt000000", "debt000201"} { // of before it was flushed, and of while it was away
		if reply, err := judge.Do("get "+key+"\r\n", 3); err != nil || reply != "VALUE "+key+" 0 1\nv\nEND" {
			t.Errorf("the node is trusted, and %s is %q there, %v", key, reply, err)
		}
	}
}

// A node comes back that owes keys of which the only other replica is gone for good,
// while there are other nodes in that copy. What it owes of those is given up.
func TestDebtWhoseLeadIsGone(t *testing.T) {
	c := newCluster(t, memcachedTarget, []int{2, 2}, "--loops", "1")
	client, node := dial(t, c.addr), c.nodes[0]
	for i := range 100 {
		storeDebt(t, client, i)
	}
	node.freeze()
	for i := range 100 {
		storeDebt(t, client, i)
	}
	c.nodes[2].kill()
	node.thaw()
	proctest.Eventually(t, "the node is back", func() bool { return c.states(t)[0] == "up" })
}
