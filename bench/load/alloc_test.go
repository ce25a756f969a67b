//go:build !race

package load

import "testing"

// In steady state a request costs no memory, from its choice to its account. The race
// runtime allocates on its own account.
func TestNothingIsAllocatedPerRequest(t *testing.T) {
	for name, cfg := range paths() {
		p := newPath(cfg)
		turn := func() {
			if err := p.turn(16); err != nil {
				t.Fatal(name, err)
			}
		}
		for range 100 { // buffers grow, histograms are made
			turn()
		}
		// Samples are kept in pieces, one for every samplesPiece of them.
		if n := testing.AllocsPerRun(500, turn); n != 0 {
			t.Errorf("%s: %v allocations for 16 requests, want none", name, n)
		}
	}
}
