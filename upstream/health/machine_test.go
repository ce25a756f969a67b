package health

import (
	"testing"
	"time"
)

// TestStep walks a machine through lives of a node. A step is T (tripped), + (a good
// probe) or - (a bad one); what it leaves is the state and the wait before the next
// probe in milliseconds.
func TestStep(t *testing.T) {
	events := map[byte]Event{'T': Tripped, '+': ProbeOK, '-': ProbeBad}
	type after struct {
		state State
		wait  int
	}
	up, down := after{Up, 0}, func(ms int) after { return after{Down, ms} }
	l := Limits{Rise: 1, Backoff: 20 * time.Millisecond, Ceiling: 100 * time.Millisecond}
	patient := l
	patient.Rise = 3
	for _, c := range []struct {
		name  string
		l     Limits
		steps string
		want  []after
	}{
		{"an answer to a probe changes nothing while up", l, "+-+", []after{up, up, up}},
		{"one good probe brings it back", l, "T+T+", []after{down(0), up, down(0), up}},
		{"a second trip is no news", l, "TT-T", []after{down(0), down(0), down(20), down(20)}},
		{"waits double up to the ceiling", l, "T-----", []after{down(0), down(20), down(40), down(80), down(100), down(100)}},
		{"coming back forgets the waits", l, "T--+T-", []after{down(0), down(20), down(40), up, down(0), down(20)}},
		{"good probes must be in a row", patient, "T++-++T+", []after{down(0), down(0), down(0), down(20), down(20), down(20), down(20), up}},
	} {
		var m machine
		for i, want := range c.want {
			got := m.step(events[c.steps[i]], c.l)
			if got != want.state || m.state != want.state || m.wait != time.Duration(want.wait)*time.Millisecond {
				t.Errorf("%s: after %s: %v, wait %v, want %v, %d ms", c.name, c.steps[:i+1], got, m.wait, want.state, want.wait)
			}
		}
	}
}
