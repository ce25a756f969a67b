package health

import "time"

// event is what the prober of a Down node tells the node's machine.
type event uint8

const (
	probeOK  event = iota // the probe was answered
	probeBad              // it was not
)

// Limits says how soon a Down node comes back.
type Limits struct {
	Rise    int           // good probes in a row that bring a node back; at least 1
	Backoff time.Duration // wait before the second probe of a Down node; doubles up to Ceiling
	Ceiling time.Duration // longest wait between probes of a Down node
}

// DefaultLimits suit a node on the local network.
var DefaultLimits = Limits{Rise: 1, Backoff: 20 * time.Millisecond, Ceiling: time.Second}

// machine is what the prober remembers of a node that Trip took down.
type machine struct {
	state State
	good  int           // probeOK in a row
	wait  time.Duration // before the next probe
}

// step applies ev and returns the state after it. Time enters as m.wait, which
// the prober sleeps. The way down is Trip's: it needs no memory, and waits for
// nobody.
//
//	     Rise × probeOK
//	Down ─────────────▶ Up
//	 ▲                   │
//	 └ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//	   Monitor.Trip
func (m *machine) step(ev event, l Limits) State {
	switch {
	case m.state != Down:
	case ev == probeBad:
		m.good = 0
		m.wait = min(max(2*m.wait, l.Backoff), l.Ceiling)
	default:
		if m.good++; m.good >= l.Rise {
			*m = machine{state: Up}
		}
	}
	return m.state
}
