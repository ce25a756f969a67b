package e2e

import (
	"sync"
	"testing"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

// TestFailoverUnderLoad takes a primary away while clients are at work. With one
// replica of each key alive, none of them may see an error, a miss, an old value
// or a count that is off.
func TestFailoverUnderLoad(t *testing.T) {
	const clients, size = 8, 20
	batches := amount(40, 100, 100)
	requests := uint64(clients * batches * size)
	for name, takeAway := range map[string]func(*harness.Node){
		"killed": (*harness.Node).Kill,
		"frozen": (*harness.Node).Freeze,
	} {
		for _, top := range topologies[1:] {
			t.Run(name+"/"+nameOf(top), func(t *testing.T) {
				p := harness.Proxy(t, top)
				told := &tally{}
				var load sync.WaitGroup
				load.Go(func() { askers(t, p.Addr, clients, batches, size, false, told) })
				proctest.Eventually(t, "the load is under way", func() bool { return told.good.Load() > requests/5 || t.Failed() })
				takeAway(p.Nodes[0][0])
				load.Wait()
				if told.good.Load() < requests*5/8 {
					t.Errorf("only %d good replies to %d requests", told.good.Load(), requests)
				}
			})
		}
	}
}

// TestBackupLost takes a backup away: only the primary is left to answer for its
// keys, and nobody notices.
func TestBackupLost(t *testing.T) {
	p := harness.Proxy(t, topologies[2])
	told := &tally{}
	var load sync.WaitGroup
	load.Go(func() { askers(t, p.Addr, 8, 60, 20, false, told) })
	proctest.Eventually(t, "the load is under way", func() bool { return told.good.Load() > 2000 || t.Failed() })
	p.Nodes[1][1].Kill()
	load.Wait()
}
