//go:build !race

package repair

import "testing"

// The race runtime allocates on its own account.
func TestRepairsDoNotAllocate(t *testing.T) {
	repair := copying()
	if n := testing.AllocsPerRun(1000, func() {
		if o := repair(); o != Copied {
			t.Fatalf("ended as %v", o)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestQueueDoesNotAllocate(t *testing.T) {
	q := NewQueue(Limits{Running: 100})
	wishes := make([]*wisher, 1000)
	for i := range wishes {
		wishes[i] = wish(string(rune('a' + i%500)))
	}
	round := func() {
		for i, w := range wishes {
			w.begun, w.covered = w.begun[:0], w.covered[:0]
			q.Add(&w.Job)
			if i == 600 {
				q.Run(0)
			}
		}
		for waiting, running := q.Len(); waiting+running > 0; waiting, running = q.Len() {
			q.Run(0)
			for _, w := range wishes {
				if w.state == jobRuns {
					q.Held(&w.Job)
					q.Done(&w.Job, Copied)
				}
			}
		}
	}
	round() // makes what is kept
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if q.Counts().Joined == 0 || len(q.buckets) < 500 {
		t.Errorf("%d joined, %d buckets", q.Counts().Joined, len(q.buckets))
	}
}
