package health

import (
	"testing"
	"time"
)

func TestOutlier(t *testing.T) {
	type look struct {
		at, own, peer int // ms
		want          bool
	}
	for name, looks := range map[string][]look{
		"slow for all of Patience":                   {{0, 10, 1, false}, {25, 10, 1, false}, {49, 10, 1, false}, {50, 10, 1, true}, {90, 10, 1, true}},
		"one look that is not slow is a break":       {{0, 10, 1, false}, {25, 5, 1, false}, {50, 10, 1, false}, {99, 10, 1, false}, {100, 10, 1, true}},
		"slow, but not beside its peer":              {{0, 40, 10, false}, {50, 40, 10, false}, {60, 41, 10, false}, {110, 41, 10, true}},
		"much slower than its peer, but fast enough": {{0, 5, 1, false}, {50, 5, 1, false}},
		"it has no peer":                             {{0, 1000, 0, false}, {50, 1000, 0, false}, {100, 1000, 0, false}},
		"what nobody looked at is no evidence":       {{0, 10, 1, false}, {51, 10, 1, false}, {100, 10, 1, false}, {101, 10, 1, true}},
		"a run does not outlast its end":             {{0, 10, 1, false}, {50, 10, 1, true}, {51, 1, 1, false}, {60, 10, 1, false}, {110, 10, 1, true}},
	} {
		o := NewOutlier(OutlierLimits{Above: 5 * ms, Ratio: 4, Patience: 50 * ms})
		for i, l := range looks {
			if got := o.Look(time.Duration(l.at)*ms, time.Duration(l.own)*ms, time.Duration(l.peer)*ms); got != l.want {
				t.Errorf("%s: look %d says %v", name, i, got)
			}
		}
	}
}

// Whoever is fast enough to come back is not at once too slow again.
func TestThereIsRoomBetweenFastAndSlow(t *testing.T) {
	l := DefaultLimits.Slow
	for own := time.Duration(0); own < 100*ms; own += ms / 4 {
		for peer := time.Duration(0); peer < 50*ms; peer += ms / 2 {
			if l.fast(own, peer) && l.slow(2*own-1, peer) {
				t.Fatalf("%v beside %v is fast enough, and nearly twice that too slow", own, peer)
			}
		}
	}
}
