package health

import (
	"math"
	"time"
)

// kind is of an event.
type kind uint8

const (
	probeGood  kind = iota // a probe was answered
	probeBad               // it was not, or the node could not be brought back
	tripped                // Monitor.Trip, or a debt could not be paid
	demoted                // Monitor.Demote
	promoted               // Monitor.Promote
	distrusted             // Monitor.Distrust
	arrived                // Watch.Arrive or Watch.Heal has said what the node is
	alarmed                // another node fell
)

// event is what a machine is told.
type event struct {
	kind   kind
	rtt    time.Duration // of a probeGood
	peer   time.Duration // of a probeGood: the best RTT of the other nodes; 0: not known
	needed bool          // of a probeGood: damping does not hold the node back
	last   bool          // of a probeBad: there is no answer yet, and nobody else has some of the node's keys
	to     State         // of an arrived, or a distrusted
}

// verdict is what a machine makes of an event.
type verdict struct {
	state  State
	probe  time.Duration // when to probe next
	arrive bool          // Watch.Arrive is to be asked; what it says is the next event
}

// never is when a node that is not to be probed is probed next.
const never = time.Duration(math.MaxInt64)

// machine is what one node is trusted with, and why. It has no clock, waits for
// nothing, and may be told anything at any time.
//
//	      demoted           promoted             arrived
//	Slow ◀─────── Up ◀────────────────── Warming ◀────── Stale
//	 │           ▲  ▲                       ▲            │  ▲
//	 └───────────┘  ├───── arrived ─────────│────────────┘  │
//	 Rise × fast    │                       │               │
//	 probeGood,     └───────────┬───────────┴───────────────┘
//	 Dwell over                 │ arrived, after Rise × probeGood,
//	                            │ hold over or needed
//	       tripped,             │
//	any ─────────────────────▶ Down
//	       Fall × probeBad
//
// From Down the node arrives by Watch.Arrive, from Stale by Watch.Heal. What is distrusted
// goes from Up or Slow to Warming, or from any of the three to Stale.
type machine struct {
	limits Limits
	jitter func() float64 // in [0, 1)

	state State
	good  int           // probes in a row that speak for a Down or a Slow node
	bad   int           // probeBad in a row
	wait  time.Duration // between probes of a Down node
	until time.Duration // a Down or a Slow node is held till then
	early bool          // it came back before that, as it was needed
	rush  time.Duration // how long it was let be when it fell after that last
	probe time.Duration // when to probe next
	falls damper        // into Down
	slows damper        // into Slow
}

func newMachine(state State, l Limits, jitter func() float64) machine {
	m := machine{limits: l, jitter: jitter,
		falls: newDamper(l.Hold, l.MaxHold, l.Forget, 1), slows: newDamper(l.Slow.Dwell, l.MaxHold, l.Forget, 0)}
	m.enter(0, state)
	if m.probe != never {
		m.probe = 0 // a node that was not there at the start shows soon
	}
	return m
}

// step applies ev, which happened at now; now does not go back.
func (m *machine) step(now time.Duration, ev event) verdict {
	arrive := false
	switch ev.kind {
	case probeGood:
		arrive = m.answered(now, ev)
	case probeBad:
		m.unanswered(now, ev.last)
	case tripped:
		if m.state != Down {
			m.fall(now)
		}
	case demoted:
		if m.state == Up {
			m.enter(now, Slow)
			m.until = now + m.slows.fail(now)
		}
	case promoted:
		if m.state == Warming {
			m.enter(now, Up)
		}
	case distrusted:
		if m.state < ev.to && ev.to < Down {
			m.enter(now, ev.to)
		}
	case arrived:
		if m.state == Down || m.state == Stale {
			m.enter(now, ev.to)
		}
	case alarmed: // perhaps it is needed now
		if m.state == Down {
			m.probe = now
		}
	}
	return verdict{state: m.state, probe: m.probe, arrive: arrive}
}

// answered reports whether a Down node may arrive.
func (m *machine) answered(now time.Duration, ev event) bool {
	m.bad = 0
	switch m.state {
	case Down:
		m.good++
		risen := m.good >= m.limits.Rise
		if risen && (ev.needed || now >= m.until) {
			if m.early = now < m.until; !m.early {
				m.rush = 0
			}
			return true
		}
		wait := m.limits.Backoff
		if risen {
			wait = min(m.until-now, m.limits.Ceiling)
		}
		m.probe = now + wait
	case Slow:
		m.good++
		if !m.limits.Slow.fast(ev.rtt, ev.peer) {
			m.good = 0
		}
		if m.good > 0 && m.good >= m.limits.Rise && now >= m.until {
			m.enter(now, Up)
			return false
		}
		m.schedule(now)
	default:
		m.schedule(now)
	}
	return false
}

func (m *machine) unanswered(now time.Duration, last bool) {
	m.good = 0
	if m.state == Down {
		m.wait = min(max(2*m.wait, m.limits.Backoff), m.limits.Ceiling)
		m.probe = now + m.wait
		return
	}
	fall := m.limits.Fall
	if last {
		fall *= LastPatience
	}
	if m.bad++; m.bad >= fall {
		m.fall(now)
		return
	}
	m.schedule(now)
}

// fall takes the node down. One that is needed is not held; but if it keeps falling as soon
// as it is used, it is asked the less often.
func (m *machine) fall(now time.Duration) {
	m.enter(now, Down)
	m.until = now + m.falls.fail(now)
	if m.early {
		m.rush = min(max(2*m.rush, m.limits.Backoff), m.limits.Ceiling)
		m.wait, m.probe = m.rush, now+m.rush
	}
}

// enter begins state to.
func (m *machine) enter(now time.Duration, to State) {
	m.state, m.good, m.bad, m.wait, m.until = to, 0, 0, 0, now
	m.falls.mark(now, to != Down)
	m.slows.mark(now, to == Up)
	if m.probe = now; to != Down {
		m.schedule(now)
	}
}

// schedule sets the time of the next probe of a node that is not Down.
func (m *machine) schedule(now time.Duration) {
	wait := m.limits.Interval
	if wait <= 0 && m.state == Slow {
		wait = m.limits.Ceiling
	}
	if wait <= 0 {
		m.probe = never
		return
	}
	m.probe = now + wait + time.Duration((m.jitter()-0.5)*0.2*float64(wait))
}
