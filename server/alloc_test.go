//go:build !race && !invariants

// The race detector and the invariants allocate on their own account.

package server

import (
	"slices"
	"testing"
)

// TestNoRequestAllocates has every exchange many times over and demands that nothing
// is allocated from the client's bytes to its reply. gnet's own share (a task and a
// closure per Execute) is not in it.
func TestNoRequestAllocates(t *testing.T) {
	for _, e := range exchanges() {
		if e.allocates {
			continue
		}
		t.Run(e.String(), func(t *testing.T) {
			r := newRig(t, e)
			for range max(500, 5000/e.requests) { // pools that learn what is usual have learned it then
				r.run()
			}
			if n := testing.AllocsPerRun(300, r.run); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

// TestNoCountedRequestAllocates is the same while keys and clients are counted, which is
// done where a command comes: what becomes of it makes no difference.
func TestNoCountedRequestAllocates(t *testing.T) {
	for _, e := range slices.Concat(plainExchanges(), binaryExchanges()) {
		if e.allocates {
			continue
		}
		t.Run(e.String(), func(t *testing.T) {
			r := newRig(t, e)
			l, c := r.world.loop, newCensus()
			before := l.count.Requests()
			l.begin(c)
			for range 100 {
				r.run()
			}
			counted := uint64(0)
			for _, t := range c.clients {
				counted += t.requests
			}
			if came := l.count.Requests() - before; counted != came || came == 0 {
				t.Errorf("%d commands are counted, %d came", counted, came)
			}
			if n := testing.AllocsPerRun(100, r.run); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}
