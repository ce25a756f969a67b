//go:build !race

package dump

import (
	"io"
	"testing"
)

// The race runtime allocates on its own account.
func TestEntriesDoNotAllocate(t *testing.T) {
	answer := answerOf(1000)
	h := NewHottest(Limits{Keys: 100, Bytes: 10_000})
	var p Parser
	var e Entry
	if n := testing.AllocsPerRun(100, func() {
		p = Parser{}
		for in := answer; ; {
			n, ok, err := p.Next(in, &e)
			if !ok {
				if err != io.EOF {
					t.Fatal(err)
				}
				break
			}
			h.Add(e)
			in = in[n:]
		}
		h.Sort()
		if !h.Next(1 << 40) {
			h.floor.set = false // from the beginning
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
