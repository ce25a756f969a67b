package upstream

import (
	"slices"
	"testing"
	"testing/quick"
)

// TestRingIsAQueue drives a ring and a slice with the same steps.
func TestRingIsAQueue(t *testing.T) {
	same := func(start uint32, steps []uint8) bool {
		r, twin := ring{head: start, tail: start}, []uint32(nil)
		for i, s := range steps {
			seq := uint32(i)
			switch {
			case s%8 < 4:
				r.push(Pending{Seq: seq})
				twin = append(twin, seq)
			case s%8 == 4:
				r.pushFront(Pending{Seq: seq})
				twin = slices.Insert(twin, 0, seq)
			case len(twin) > 0:
				if r.front().Seq != twin[0] {
					return false
				}
				r.pop()
				twin = twin[1:]
			}
			if r.len() != len(twin) {
				return false
			}
			for i, want := range twin {
				if r.at(i).Seq != want {
					return false
				}
			}
		}
		return r.clean()
	}
	if err := quick.Check(same, &quick.Config{MaxCount: 500}); err != nil {
		t.Error(err)
	}
	if !same(1<<32-3, []uint8{0, 0, 0, 7, 4, 0, 7, 7, 0}) {
		t.Error("wrong where the counters wrap")
	}
}

// clean reports whether every slot outside the queue is zero.
func (r *ring) clean() bool {
	for i := r.len(); i < len(r.slot); i++ {
		if *r.at(i) != (Pending{}) {
			return false
		}
	}
	return true
}
