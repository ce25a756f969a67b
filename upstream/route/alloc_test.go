//go:build !race

// The race runtime allocates on its own account.

package route

import "testing"

func TestPickAllocatesNothing(t *testing.T) {
	servers := loopback(11211, 5)
	key := []byte("session:{abcdef}:0123456789")
	eachSpec(func(spec Spec) {
		for _, spec.Tag = range []string{"", "{}"} {
			p := mustNew(t, spec, servers)
			if n := testing.AllocsPerRun(100, func() { p.Pick(key) }); n != 0 {
				t.Errorf("%+v: %v allocs, want 0", spec, n)
			}
		}
	})
}
