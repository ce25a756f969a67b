//go:build !race

// The race runtime allocates on its own account.

package sketch

import (
	"fmt"
	"testing"
)

func TestAddAllocatesNothing(t *testing.T) {
	s := New(16)
	i := 0
	keys := make([][]byte, 100)
	for k := range keys {
		keys[k] = fmt.Appendf(nil, "key:%d", k*k%37)
	}
	if n := testing.AllocsPerRun(1000, func() { s.Add(keys[i%100], true); i += 7 }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
