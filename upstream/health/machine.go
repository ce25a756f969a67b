package health

import "time"

// Event is what a machine hears of its node.
type Event uint8

const (
	Tripped  Event = iota // a connection in use failed: refused, reset, silent, out of step
	ProbeOK               // a probe was answered
	ProbeBad              // a probe was not
)

// Limits says how fast a machine moves.
type Limits struct {
	Rise    int           // good probes in a row that bring a node back; at least 1
	Backoff time.Duration // wait before the second probe of a Down node; doubles up to Ceiling
	Ceiling time.Duration // longest wait between probes of a Down node
}

// DefaultLimits suit a node on the local network.
var DefaultLimits = Limits{Rise: 1, Backoff: 20 * time.Millisecond, Ceiling: time.Second}

// machine is the memory that the rule needs of one node.
type machine struct {
	state State
	good  int           // ProbeOK in a row while Down
	wait  time.Duration // before the next probe
}

// step applies ev and returns the state after it. Time enters as m.wait, which
// the prober sleeps.
//
//	     Rise × ProbeOK
//	Down ─────────────▶ Up
//	 ▲                   │
//	 └───────────────────┘
//	   Tripped
func (m *machine) step(ev Event, l Limits) State {
	switch {
	case ev == Tripped && m.state != Down:
		*m = machine{state: Down}
	case ev == ProbeOK && m.state == Down:
		if m.good++; m.good >= l.Rise {
			*m = machine{state: Up}
		}
	case ev == ProbeBad && m.state == Down:
		m.good = 0
		m.wait = min(max(2*m.wait, l.Backoff), l.Ceiling)
	}
	return m.state
}
