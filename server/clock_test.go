package server

import (
	"fmt"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/memnode"
	"magent/upstream/repair"
)

// Nodes whose clocks are wrong, each in its way: an item with a time for its expiry is found
// as it was stored, and one that is copied expires when it does at the lead.
func TestClocksOfNodes(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	ahead := []time.Duration{7 * time.Second, -4 * time.Second}
	for i, d := range ahead {
		at.nodes[i] = startNode(t, memnode.Config{Clock: func() time.Time { return time.Now().Add(d) }})
		at.cfg.Pools[0].Copies[i] = []config.Node{nodeAt(t, at.nodes[i].Addr())}
	}
	s := at.magent()
	lane := s.pools[0].lanes()[0]
	eventually(t, "the clocks are known", func() bool {
		return (&carry{lane: lane, nodes: [2]int{0, 1}}).skew() == -11 && timeAt(lane.pool.Nodes[0]) > time.Now().Unix()+5
	})
	c := s.caller(t)
	asked := func(cause repair.Cause) uint64 { return s.Snapshot().Repairs.Asked[cause] }
	for i := range 50 {
		c.wants(fmt.Sprintf("set k%d 0 %d 1\r\n5", i, time.Now().Unix()+40*24*3600), "STORED")
	}
	c.wants("incr k0 1", "6")
	eventually(t, "it is copied", func() bool {
		item, _ := at.nodes[1].Get("k0")
		return string(item.Value) == "6"
	})
	if n := asked(repair.CauseTTL); n > 0 {
		t.Errorf("%d items were repaired for their TTL", n)
	}
	var expires [2]time.Time
	for i, d := range ahead {
		item, _ := at.nodes[i].Get("k0")
		expires[i] = item.Exptime.Add(-d)
	}
	if d := expires[1].Sub(expires[0]); d.Abs() > time.Second {
		t.Errorf("the copy expires %v later", d)
	}
	before := s.pools[0].pool.Nodes[1].Ahead()
	at.restart(1, s)
	trusted(t, s)
	if now := s.pools[0].pool.Nodes[1].Ahead(); now >= 0 || now == before {
		t.Errorf("it is %v ahead after a restart, as it was %v", now, before)
	}
}
