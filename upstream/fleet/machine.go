package fleet

import "time"

// Verdict is what a magent is to do about a node that is Warming.
type Verdict uint8

const (
	Wait   Verdict = iota // another refills it, or nobody knows yet
	Refill                // this one refills it
	Trust                 // it is warm, from the moment on that Machine.Moment tells
)

func (v Verdict) String() string { return [...]string{"wait", "refill", "warm"}[v] }

// Question is what a Machine wants to have asked. Each is one request to one node, over
// one connection, so that all of an answer is of one process.
type Question uint8

const (
	Nothing Question = iota
	Inspect          // the target: its life, and whether its marker says that this is warm
	Take             // the source: add the lease; who has it?
	Renew            // the source: write the lease anew if it is the version in CAS; who has it?
	Begin            // the target: mark that a refill has begun, if the version in CAS is still there
	Finish           // the target: mark that it is warm from At on, if the version in CAS is still there
	Release          // the source: delete the lease if it is the version in CAS
)

func (q Question) String() string {
	return [...]string{"nothing", "inspect", "take", "renew", "begin", "finish", "release"}[q]
}

// Ask is a question and what it is about.
type Ask struct {
	Question Question
	Source   int    // for those to a source: which, counted from 0
	Life     uint64 // of the target
	CAS      uint64 // Renew, Release, Begin, Finish; 0 for Begin: nothing; 0 for Finish: whatever is there
	At       int64  // Finish: the moment, in Unix milliseconds
}

// Reply is the answer to a question. If Failed, none came, or none that can be
// understood, and what was asked may have been done all the same.
type Reply struct {
	Failed bool
	Life   uint64 // Inspect, Begin, Finish: the target's
	Marked bool   // Inspect, Finish: the marker says that this life is warm
	At     int64  // Inspect, Finish: from which moment on, in Unix milliseconds
	By     string // Inspect: who has begun to refill it, if it is not warm; for the Member
	Stored bool   // Take, Renew, Begin: it was
	Holder string // Take, Renew: whose the lease is now; empty: nobody's
	CAS    uint64 // Take, Renew, Inspect, Begin: the version that is there now, or, of Begin, was stored; 0: none
}

// Times are the intervals that Machines go by. All magents of a fleet have the same.
type Times struct {
	TTL  time.Duration // of the lease, in whole seconds, 3 at least
	Poll time.Duration // between looks at a node that another refills; up to a half more or less, by chance
	Lead time.Duration // from when a node is marked warm to the moment from which on it counts; longer than Poll and a half
}

// DefaultTimes hand over from a dead holder within 10 s or so. A marker is seen by all
// who look with a quarter of a second to spare until its moment.
var DefaultTimes = Times{TTL: 10 * time.Second, Poll: 500 * time.Millisecond, Lead: time.Second}

// slack is by how much memcached may end an item before its TTL: it counts seconds.
const slack = time.Second

// renewal is when a lease is due to be renewed after it was written.
func (t Times) renewal() time.Duration { return t.TTL / 3 }

// holding is for how long a lease is the holder's for certain from when it asked.
func (t Times) holding() time.Duration { return t.TTL - slack }

// phase is how far a Machine is.
//
//	         no marker         mine            no marker
//	looking ──────────▶ taking ────▶ checking ──────────▶ beginning
//	  │   ▲   another's    │            │                     │
//	  │   └────────────────┘            │       ┌─────────────┘
//	  │ marker                   marker │       ▼    Renew, Inspect
//	  ▼                                 ▼    refilling ◀────▶ watching
//	over ◀───────────────────────── releasing   │                │
//	                                    ▲       ▼ Refilled       │ marker
//	                                    ├─── marking             │
//	                                    └────────────────────────┘
//
// A lease that is lost leads back to looking; another life of the target to taking; a
// refill that failed, or whose beginning is not marked any more, through releasing to
// looking.
type phase uint8

const (
	looking  phase = iota
	taking         // the next source is asked when one does not answer
	claiming       // the lease is ours by a request that was given up: renew it
	checking       // the last holder may have finished since the look
	beginning
	refilling // until it is time to renew
	watching  // refilling, and to look whether the target is still what it was
	marking
	releasing
	over
)

// maxSpoiled is how often a refill is done again, or not begun, because the mark of its
// beginning is gone, or another: by a flush, or evicted. A node that evicts it so often is too small for its keys.
const maxSpoiled = 3

// Machine decides for one magent about one node that is Warming, whichever lives that
// node goes through meanwhile. The zero value is of no use. It is a plain value: a copy
// goes its own way.
//
// The caller asks what Next wants and tells Replied, one question at a time, and tells
// Refilled how the refill ended for which Verdict was Refill. Times are counted from
// wherever the caller likes, and never go back. Moments are what magents tell each other,
// and so are of the wall clock, in Unix milliseconds.
type Machine struct {
	times   Times
	id      string
	sources int

	phase  phase
	warm   bool          // the verdict
	life   uint64        // the target's, as last seen
	source int           // to take the lease from, or that it was taken from
	cas    uint64        // the lease's version
	mark   uint64        // the version of the mark that the refill has begun, and before that of what is there; 0: none
	moment int64         // that the marker told when it was found to say warm; 0: none
	spoilt int           // refills whose mark was gone at the end
	until  time.Duration // the lease is ours
	next   time.Duration // when there is something to ask
	asked  time.Duration // when the last question was
	holder string        // who was seen to have the lease last
}

// NewMachine is of the magent that is called id, which no other is. There are sources
// nodes that leases can be kept on, in the same order for all magents: the first that
// answers is taken.
func NewMachine(t Times, id string, sources int) Machine {
	return Machine{times: t, id: id, sources: sources}
}

// Verdict is what to do at now.
func (m *Machine) Verdict(now time.Duration) Verdict {
	switch {
	case m.warm:
		return Trust
	case m.refills() && now < m.until:
		return Refill
	}
	return Wait
}

// Life is that of the target which the Verdict is about.
func (m *Machine) Life() uint64 { return m.life }

// Moment is when the target, which is warm, begins to count as such with all magents; it
// may have passed. It is 0 if there is none to tell, since the target stores no marker.
func (m *Machine) Moment() int64 { return m.moment }

// Holder is who was seen to refill the target last; empty: nobody.
func (m *Machine) Holder() string { return m.holder }

func (m *Machine) refills() bool { return m.phase == refilling || m.phase == watching }

func (m *Machine) holds() bool { return m.phase >= checking && m.phase <= marking }

// Next is what to ask at now, when it is wall by the wall clock, or Nothing, and when to
// come back for more; if it is over there is no more.
func (m *Machine) Next(now time.Duration, wall int64) (a Ask, wait time.Duration) {
	if m.holds() && now >= m.until {
		m.to(looking, now) // another may have it
	}
	if m.phase == over {
		return Ask{}, 0
	}
	if due := m.next; now < due {
		if m.holds() {
			due = min(due, m.until)
		}
		return Ask{}, due - now
	}
	m.asked = now
	a = Ask{Source: m.source, Life: m.life}
	switch m.phase {
	case looking, checking, watching:
		a.Question = Inspect
	case taking:
		a.Question = Take
	case claiming, refilling:
		a.Question, a.CAS = Renew, m.cas
	case beginning:
		a.Question, a.CAS = Begin, m.mark
	case marking:
		a.Question, a.CAS, a.At = Finish, m.mark, wall+m.times.Lead.Milliseconds()
	case releasing:
		a.Question, a.CAS = Release, m.cas
	}
	return a, 0
}

// Over reports whether there is nothing left to ask: the target is warm.
func (m *Machine) Over() bool { return m.phase == over }

// Replied takes the answer to the question that Next gave last. chance, from 0 to 1,
// spreads the polls.
func (m *Machine) Replied(now time.Duration, r Reply, chance float64) {
	poll := now + m.times.Poll/2 + time.Duration(chance*float64(m.times.Poll))
	switch m.phase {
	case looking, checking, watching:
		m.looked(now, poll, r)
	case taking:
		m.took(now, poll, r)
	case claiming, refilling:
		m.renewed(now, poll, r)
	case beginning:
		m.begun(now, r)
	case marking:
		m.marked(now, poll, r)
	case releasing:
		m.to(looking, poll)
		if m.warm {
			m.phase = over
		}
	}
}

func (m *Machine) to(p phase, next time.Duration) { m.phase, m.next = p, next }

// due is when the lease is to be renewed.
func (m *Machine) due() time.Duration { return m.until - m.times.holding() + m.times.renewal() }

// looked is of the target. While it is refilled, one that does not answer is left to the
// refill, which will notice.
func (m *Machine) looked(now, poll time.Duration, r Reply) {
	same := !r.Failed && r.Life == m.life
	switch {
	case m.phase == watching && (r.Failed || same && !r.Marked):
		m.to(refilling, m.due())
	case m.phase == checking && same && !r.Marked:
		m.mark = r.CAS
		m.to(beginning, now)
	case r.Failed && m.phase == checking:
		m.to(releasing, now)
	case r.Failed:
		m.to(looking, poll)
	case !r.Marked:
		m.anew(now, r.Life)
	case same && m.holds():
		m.warm, m.moment = true, r.At
		m.to(releasing, now)
	default:
		m.warm, m.moment, m.life = true, r.At, r.Life
		m.to(over, now)
	}
}

// anew is for a life of the target that is not warm.
func (m *Machine) anew(now time.Duration, life uint64) {
	m.life, m.source = life, 0
	m.to(taking, now)
}

func (m *Machine) took(now, poll time.Duration, r Reply) {
	if r.Failed {
		m.source = (m.source + 1) % m.sources
		if m.source == 0 { // nobody answers
			m.to(looking, poll)
		}
		return
	}
	m.holder, m.cas = r.Holder, r.CAS
	switch {
	case r.Holder != m.id:
		m.to(looking, poll)
	case r.Stored:
		m.until = m.asked + m.times.holding()
		m.to(checking, now)
	default:
		m.to(claiming, now)
	}
}

// renewed is of the lease. A version that is ours, and not the one that was asked for,
// comes of a renewal whose answer was lost.
func (m *Machine) renewed(now, poll time.Duration, r Reply) {
	switch {
	case r.Failed && m.phase == claiming:
		m.to(looking, poll)
	case r.Failed:
		m.next = poll
	case r.Holder != m.id:
		m.holder = r.Holder
		m.to(looking, now)
	case !r.Stored:
		m.cas, m.next = r.CAS, now
	default:
		m.cas, m.until = r.CAS, m.asked+m.times.holding()
		if m.phase == claiming {
			m.to(checking, now)
		} else {
			m.to(watching, now)
		}
	}
}

// begun is of the target. If another mark has come in between, it is looked at first: a
// request that was given up is not to undo, when it is carried out late, what others have
// marked since. A target that stores no mark is refilled without.
func (m *Machine) begun(now time.Duration, r Reply) {
	switch {
	case r.Failed:
		m.to(releasing, now)
	case r.Life != m.life:
		m.anew(now, r.Life)
	case !r.Stored && r.CAS != 0 && m.spoilt < maxSpoiled:
		m.spoilt++
		m.to(releasing, now)
	default:
		if m.mark = 0; r.Stored && m.spoilt < maxSpoiled {
			m.mark = r.CAS
		}
		m.to(refilling, m.due())
	}
}

// marked is of the target. What its marker says now is what counts, whichever request
// has stored that: the answer to one before may have been lost, and another magent may
// have had the target flushed. A target that stores no marker is warm all the same, and
// the others will have to find out by themselves.
func (m *Machine) marked(now, poll time.Duration, r Reply) {
	switch {
	case r.Failed:
		m.next = poll
	case r.Life != m.life:
		m.anew(now, r.Life)
	case !r.Marked && m.mark != 0:
		m.spoilt++
		m.to(releasing, now)
	default:
		m.warm, m.moment = true, r.At
		m.to(releasing, now)
	}
}

// Refilled says that the refill of which Verdict said Refill has ended, whether
// complete or not. It is no answer to anything: no question may be under way. One that
// was lost since is not asked about any more.
func (m *Machine) Refilled(now time.Duration, complete bool) {
	switch {
	case !m.refills():
	case complete:
		m.to(marking, now)
	default:
		m.to(releasing, now)
	}
}

// Quit has the lease given back, if it is held: what Next wants then is the last to be
// asked.
func (m *Machine) Quit(now time.Duration) (a Ask, held bool) {
	held = m.holds() && now < m.until
	return Ask{Question: Release, Source: m.source, Life: m.life, CAS: m.cas}, held
}
