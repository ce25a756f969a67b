//go:build !race

package repair

import "testing"

// The race runtime allocates on its own account.
func TestRepairsDoNotAllocate(t *testing.T) {
	var r Repair
	buf := make([]byte, 0, 512)
	key := []byte("k")
	answers := [][]byte{[]byte("HD c7\r\n"), []byte("VA 5 f3 t60 c9 h0\r\n"), []byte("HD c8\r\n"), []byte("HD c9 t60\r\n")}
	if n := testing.AllocsPerRun(1000, func() {
		r.Reset(key, Options{})
		_, s := r.Start(buf, Ask(), now)
		for _, a := range answers {
			_, s = r.Answer(buf, a, now)
		}
		if s.Outcome != Copied {
			t.Fatalf("ended as %v", s.Outcome)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	q := NewQueue(Limits{})
	j := job("k")
	q.Add(j)
	if n := testing.AllocsPerRun(1000, func() { q.Add(j) }); n != 0 {
		t.Errorf("a key that waits: %v allocations, want 0", n)
	}
}
