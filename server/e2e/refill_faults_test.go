package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
	"magent/server/e2e/model"
)

// down waits until all proxies have found a node dead.
func (c *cluster) down(t *testing.T, node int) {
	t.Helper()
	proctest.Eventually(t, "all proxies have found the node dead", func() bool {
		for _, one := range c.all() {
			if one.states(t)[node] != "down" {
				return false
			}
		}
		return true
	})
}

// sum adds up a number of "stats proxy" over all proxies.
func (c *cluster) sum(t *testing.T, name string) (n int) {
	t.Helper()
	for _, one := range c.all() {
		value, err := strconv.Atoi(stats(t, one.ask, "stats proxy")[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n += value
	}
	return n
}

// TestRefillerIsKilled kills the proxy that refills a node, as kill -9 does, midway. The
// other one, whose clients notice nothing, takes over when the lease has ended, and leaves
// nothing of what the dead one may have left.
func TestRefillerIsKilled(t *testing.T) {
	t.Parallel()
	s := &stock{keys: amount(4_000, 8_000, 20_000), doomed: 200}
	flags := []string{"--timeout", "2s", "--resync-rate", "8000,256m"}
	one := newCluster(t, roomyTarget, []int{1, 1}, flags...)
	two := one.join(t, flags...)
	s.fill(t, one.addr)
	node, peer := one.nodes[0], one.nodes[1]
	node.kill()
	one.down(t, 0)
	node.restart()
	var holder *cluster
	proctest.Eventually(t, "one of the proxies is refilling the node", func() bool {
		for _, c := range one.all() {
			if done, err := strconv.Atoi(stats(t, c.ask, "stats nodes")[node.addr+":refill_done"]); err == nil && done > s.keys/10 {
				holder = c
			}
		}
		return holder != nil
	})
	other := &cluster{addr: one.addr, nodes: one.nodes, ask: one.ask}
	if holder == one {
		other = two
	}
	a := s.attend(t, 4, other.addr)
	holder.kill()
	killed := time.Now()
	other.healedWithin(t, time.Minute)
	t.Logf("trusted %v after the death of who refilled it, %d reads", time.Since(killed).Round(time.Millisecond), a.reads.Load())
	a.leave()
	other.repaired(t)
	s.compare(t, a, node.addr, peer.addr)
	if n := stats(t, dial(t, node.addr), "stats")["cmd_flush"]; n == "0" {
		t.Error("the node was not flushed of what the dead one had left")
	}
}

// TestFrozenWithMuchInMemory freezes a node for three seconds while clients of two proxies
// write, delete and count. Nobody reads anything old; and what the node missed is repaired,
// not what it holds.
func TestFrozenWithMuchInMemory(t *testing.T) {
	s := &stock{keys: amount(20_000, 100_000, 100_000)}
	const written = 500
	one := newCluster(t, roomyTarget, []int{1, 1}, "--timeout", historyTimeout.String())
	one.join(t, "--timeout", historyTimeout.String())
	s.fill(t, one.addr)
	e := &episode{cluster: one, began: time.Now()}
	e.invite(t, *seedFlag)
	before := one.sum(t, "repairs_for_debt")
	e.during(t, func() {
		node := one.nodes[0]
		e.marks = append(e.marks, model.Mark{At: time.Since(e.began), Text: "freeze " + node.String()})
		node.freeze()
		e.strikes++
		thaw := time.After(3 * time.Second)
		one.down(t, 0)
		for i, c := range one.all() {
			writer := dial(t, c.addr)
			for key := i; key < written; key += 2 {
				request, want := fmt.Sprintf("set %s 1 0 3\r\nnew\r\n", s.key(key)), "STORED"
				if key%5 == 0 {
					request, want = fmt.Sprintf("delete %s\r\n", s.key(key)), "DELETED"
				}
				if got, err := writer.Do(request, 1); err != nil || got != want {
					t.Fatalf("%q: %q, %v", request, got, err)
				}
			}
		}
		<-thaw
		node.thaw()
		back := time.Now()
		one.healed(t)
		t.Logf("trusted %v after its return", time.Since(back).Round(time.Millisecond))
		e.marks = append(e.marks, model.Mark{At: time.Since(e.began), Text: "trusted"})
	})
	keys := historyKeys()
	for key := range written {
		keys = append(keys, raceKey{name: s.key(key)})
	}
	if diffs := one.differences(t, keys); len(diffs) > 0 {
		t.Errorf("the copies differ in %d keys, such as %s", len(diffs), diffs[0])
	}
	// Both proxies may owe each key of the clients.
	if n := one.sum(t, "repairs_for_debt") - before; n < written || n > written+4*len(historyKeys()) {
		t.Errorf("%d keys were repaired, of %d that were written and %d that are stored", n, written, s.keys)
	}
	e.judge(t)
}

// TestRefillOfASmallMemcached refills a node that is too small for what its peer holds, and
// evicts its marker too: it comes to an end, and the node is trusted.
func TestRefillOfASmallMemcached(t *testing.T) {
	small, roomy := harness.Memcached(t, "-m", "4"), harness.Memcached(t, "-m", "256")
	c := &cluster{nodes: []*target{
		{addr: small.Addr, kill: small.Kill, restart: small.Restart},
		{addr: roomy.Addr, copy: 1, kill: roomy.Kill, restart: roomy.Restart}}}
	c.start(t, "--timeout", "2s")
	s := &stock{keys: 30_000}
	s.fill(t, c.addr)
	small.Kill()
	c.down(t, 0)
	small.Restart()
	c.healedWithin(t, time.Minute)
	if n := stats(t, dial(t, small.Addr), "stats")["evictions"]; n == "0" {
		t.Error("nothing was evicted, so nothing is proved")
	}
}
