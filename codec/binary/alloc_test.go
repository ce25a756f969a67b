//go:build !race

package binary

import (
	"testing"

	"magent/codec"
)

// This file is built without the race detector, which allocates on its own account.

func TestNothingAllocates(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, c := range requests {
		var r Request
		var req codec.Request
		if n := testing.AllocsPerRun(100, func() {
			if Parse(c.in, &r) == nil && r.Fault == FaultNone {
				AppendLine(dst, c.in, &r, &req)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", c.name, n)
		}
	}
	for _, c := range replies {
		in := []byte(c.in)
		if n := testing.AllocsPerRun(100, func() { AppendReply(dst, in, Asked{c.opcode, 1}) }); n != 0 {
			t.Errorf("%#x %q: %v allocations, want 0", c.opcode, c.in, n)
		}
	}
}
