//go:build !race

package converge

import (
	"testing"

	"magent/upstream/repair"
)

// The race runtime allocates on its own account.
func TestWritesDoNotAllocate(t *testing.T) {
	for _, w := range followedWrites() {
		if n := testing.AllocsPerRun(1000, func() {
			w.lead()
			if o := w.follow(); o != repair.Copied {
				t.Fatalf("%s: ended as %v", w.line, o)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", w.line, n)
		}
	}
}
