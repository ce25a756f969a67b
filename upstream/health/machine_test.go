package health

import (
	"testing"
	"time"
)

// TestStep walks machines of nodes that went down. A step is + (a good probe) or -
// (a bad one); what it leaves is the state and the wait before the next probe in
// milliseconds.
func TestStep(t *testing.T) {
	events := map[byte]event{'+': probeOK, '-': probeBad}
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
		{"one good probe brings it back", l, "+", []after{up}},
		{"an answer to a probe changes nothing while up", l, "+-+", []after{up, up, up}},
		{"waits double up to the ceiling", l, "-----", []after{down(20), down(40), down(80), down(100), down(100)}},
		{"coming back forgets the waits", l, "--+", []after{down(20), down(40), up}},
		{"good probes must be in a row", patient, "++-+++", []after{down(0), down(0), down(20), down(20), down(20), up}},
	} {
		m := machine{state: Down}
		for i, want := range c.want {
			got := m.step(events[c.steps[i]], c.l)
			if got != want.state || m.state != want.state || m.wait != time.Duration(want.wait)*time.Millisecond {
				t.Errorf("%s: after %s: %v, wait %v, want %v, %d ms", c.name, c.steps[:i+1], got, m.wait, want.state, want.wait)
			}
		}
	}
}
