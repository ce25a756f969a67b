package fleet

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"testing"
	"time"
)

// The explorer drives several Machines through every order in which their questions can
// be sent, carried out and answered, with the clock going on in between, and with as many
// faults as a world may have.

// The times of the explorer are such that everything happens on whole seconds.
// But a moment is a number that is like no other: all that matters is who has the same.
var exploreTimes = Times{TTL: 3 * time.Second, Poll: time.Second}

const (
	maxActors = 3
	maxLives  = 3
)

// simLease is what a source has for one life of the target.
type simLease struct {
	holder  int8 // 0: nobody; else the actor, from 1
	cas     uint64
	expires time.Duration
}

// simMarker is what the target has.
type simMarker struct {
	life uint64 // 0: nothing
	warm bool
	at   int64 // from which moment on it counts
	cas  uint64
}

// simActor is a magent and the one question that it has under way.
type simActor struct {
	machine Machine
	dead    bool
	asked   Ask
	carried bool // asked has been carried out, and reply is the answer
	reply   Reply
	late    Ask // was given up, and may be carried out yet
	refills int // 0: nothing; else the contents of the target when the refill began
}

// world is a state of everything.
type world struct {
	now       time.Duration
	life      uint64 // of the target, from 1
	holds     int    // counts what the target has held: its lives and its flushes
	full      bool   // it holds all that there is
	marker    simMarker
	targetCAS uint64                    // the last version there; another life begins with 1, too
	leases    [2][maxLives + 1]simLease // by source and life
	cas       uint64
	moment    int64 // the last that was given
	actors    [maxActors]simActor

	// What may yet happen.
	ticks, deaths, restarts, evictions, losses, flaws, flushes, forsakes int
	lost, flushed, evicted                                               bool // a source has lost a lease; the target was flushed, its marker evicted
}

// mistake is a fault put into the nodes' answers, to see that it is found.
type mistake uint8

const (
	noMistake mistake = iota
	eternal           // leases do not end
	greedy            // a lease is taken from whoever has it
	blind             // the marker and the life that it is held against are not of one process
	unguarded         // a lease is renewed whoever has it
	unmarked          // a marker is written over whatever is there
	hasty             // who marks the target does not wait for the moment
	blunt             // that a refill has begun is marked over whatever is there
)

type explorer struct {
	mistake mistake
	sources int
	actors  int
	seen    map[uint64]struct{}
	seed    maphash.Seed
	bad     string
	trace   []string
	finals  int
}

func explore(t *testing.T, actors, sources int, budget world, mistake mistake) *explorer {
	t.Helper()
	x := &explorer{mistake: mistake, sources: sources, actors: actors, seen: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
	w := budget
	w.life, w.holds = 1, 1
	for i := range w.actors {
		a := &w.actors[i]
		a.dead = i >= actors
		a.machine = NewMachine(exploreTimes, fmt.Sprint(i+1), sources)
	}
	x.visit(w)
	return x
}

// visit looks at w and at all that may come of it.
func (x *explorer) visit(w world) {
	h := maphash.Comparable(x.seed, w.canon())
	if _, known := x.seen[h]; known || x.bad != "" {
		return
	}
	x.seen[h] = struct{}{}
	if x.bad = x.judge(&w); x.bad != "" {
		return
	}
	if x.mistake == eternal || x.mistake == noMistake && h%256 == 0 {
		if x.bad = x.finish(w); x.bad != "" {
			return
		}
	}
	for i := range x.actors {
		x.actorSteps(w, i)
	}
	x.worldSteps(w)
}

// canon is w without what makes no difference any more: worlds of one canon have one
// future. Times are counted from now, and versions of leases, and moments, in the order in which they
// are met.
func (w world) canon() world {
	seen, moments := []uint64{0}, []int64{0}
	version := func(cas *uint64) { seen = number(seen, cas) }
	moment := func(at *int64) { moments = number(moments, at) }
	moment(&w.marker.at)
	for s := range w.leases {
		for life := range w.leases[s] {
			l := &w.leases[s][life]
			if l.holder != 0 && w.now >= l.expires || uint64(life) < w.life && !w.remembers(uint64(life)) {
				*l = simLease{}
			}
			l.expires = max(0, l.expires-w.now)
			version(&l.cas)
		}
	}
	for i := range w.actors {
		a := &w.actors[i]
		m := &a.machine
		m.holder = ""
		m.next, m.until = max(0, m.next-w.now), max(0, m.until-w.now)
		if !m.holds() {
			m.until = 0
		}
		if m.asked -= w.now; a.asked.Question == Nothing && m.phase != watching {
			m.asked = 0
		}
		if !m.holds() && m.phase != claiming && m.phase != releasing {
			m.cas = 0
		}
		if m.phase == looking {
			m.source = 0
		}
		if m.phase != refilling && m.phase != watching && m.phase != marking {
			m.mark = 0
		}
		if !m.warm {
			m.moment = 0
		}
		for _, at := range []*int64{&m.moment, &a.asked.At, &a.late.At, &a.reply.At} {
			moment(at)
		}
		version(&m.cas)
		for _, q := range []*Ask{&a.asked, &a.late} {
			if q.Question == Renew || q.Question == Release {
				version(&q.CAS)
			}
		}
		if a.reply.Holder != "" {
			version(&a.reply.CAS)
		}
	}
	w.now, w.cas, w.moment = 0, uint64(len(seen)), int64(len(moments))
	return w
}

// number puts v's place in seen, which it may be added to, for v.
func number[T uint64 | int64](seen []T, v *T) []T {
	i := slices.Index(seen, *v)
	if i < 0 {
		i = len(seen)
		seen = append(seen, *v)
	}
	*v = T(i)
	return seen
}

// remembers reports whether some actor may still ask about a life of the past.
func (w *world) remembers(life uint64) bool {
	return slices.ContainsFunc(w.actors[:], func(a simActor) bool {
		return !a.dead && a.machine.life == life || a.late.Life == life
	})
}

func (x *explorer) try(w world, what string, args ...any) {
	if x.bad != "" {
		return
	}
	x.trace = append(x.trace, fmt.Sprintf("%v ", w.now)+fmt.Sprintf(what, args...))
	x.visit(w)
	if x.bad == "" {
		x.trace = x.trace[:len(x.trace)-1]
	}
}

// actorSteps are what actor i may do next, and what may happen to it.
func (x *explorer) actorSteps(w world, i int) {
	a := &w.actors[i]
	if a.dead {
		return
	}
	if n := w; a.asked.Question == Nothing {
		if n.send(i) {
			x.try(n, "%d asks %v", i+1, n.actors[i].asked)
		}
	} else if !a.carried {
		x.carryOut(&n, i, a.asked, true)
		x.try(n, "%v of %d is carried out", a.asked, i+1)
	} else {
		n.deliver(i, a.reply)
		x.try(n, "%d hears %+v", i+1, a.reply)
	}
	if n := w; a.asked.Question != Nothing && w.losses > 0 {
		n.losses--
		if !a.carried {
			n.actors[i].late = a.asked
		}
		n.deliver(i, Reply{Failed: true})
		x.try(n, "%d hears nothing", i+1)
	}
	if n := w; a.late.Question != Nothing {
		n.actors[i].late = Ask{}
		x.carryOut(&n, i, a.late, false)
		x.try(n, "%v of %d is carried out late", a.late, i+1)
	}
	if n := w; a.refills != 0 && a.asked.Question == Nothing {
		n.refilled(i, true)
		x.try(n, "%d has refilled", i+1)
	}
	if n := w; a.refills != 0 && a.asked.Question == Nothing && w.flaws > 0 {
		n.flaws--
		n.refilled(i, false)
		x.try(n, "%d fails to refill", i+1)
	}
	if n := w; w.deaths > 0 {
		n.deaths--
		n.actors[i] = simActor{dead: true}
		x.try(n, "%d dies", i+1)
	}
}

// worldSteps are what may happen to the nodes and to the time.
func (x *explorer) worldSteps(w world) {
	if n := w; w.ticks > 0 {
		n.ticks--
		n.now += time.Second
		x.try(n, "time goes on")
	}
	if n := w; w.restarts > 0 {
		n.restarts--
		n.life++
		n.holds++
		n.full, n.marker, n.targetCAS = false, simMarker{}, 0
		x.try(n, "the target is restarted")
	}
	if n := w; w.evictions > 0 {
		n.evictions--
		n.leases, n.lost = [2][maxLives + 1]simLease{}, true
		x.try(n, "the sources lose their leases")
		n = w
		n.evictions--
		n.marker, n.evicted = simMarker{}, true
		x.try(n, "the target evicts its marker")
	}
	if n := w; w.flushes > 0 {
		n.flushes--
		n.holds++
		n.full, n.marker, n.flushed = false, simMarker{}, true
		x.try(n, "the target is flushed")
	}
	if n := w; w.forsakes > 0 {
		n.forsakes--
		n.holds++
		n.targetCAS++
		n.full, n.marker, n.flushed = false, simMarker{life: n.life, cas: n.targetCAS}, true
		x.try(n, "the target is forsaken")
	}
}

// send has actor i ask, and reports whether there is something.
func (w *world) send(i int) bool {
	a := &w.actors[i]
	before := a.machine
	a.asked, _ = a.machine.Next(w.now, w.moment+1)
	w.moment = max(w.moment, a.asked.At)
	w.heed(i)
	return a.asked.Question != Nothing || a.machine != before
}

func (w *world) deliver(i int, r Reply) {
	a := &w.actors[i]
	a.asked, a.carried, a.reply = Ask{}, false, Reply{}
	a.machine.Replied(w.now, r, 0.5)
	w.heed(i)
}

// heed begins and ends the refill, as a Member does.
func (w *world) heed(i int) {
	a := &w.actors[i]
	switch v := a.machine.Verdict(w.now); {
	case v != Refill:
		a.refills = 0
	case a.refills == 0:
		a.refills = w.holds
	}
}

// refilled ends actor i's refill. One during which the target was restarted or flushed
// has left holes, and does not know.
func (w *world) refilled(i int, complete bool) {
	a := &w.actors[i]
	w.full = w.full || complete && a.refills == w.holds
	a.refills = 0
	a.machine.Refilled(w.now, complete)
}

// carryOut has the nodes do what is asked; of one that was given up nobody hears.
func (x *explorer) carryOut(w *world, i int, q Ask, heard bool) {
	a, l := &w.actors[i], &w.leases[q.Source][q.Life]
	me := int8(i + 1)
	if l.holder != 0 && w.now >= l.expires {
		*l = simLease{}
	}
	r := Reply{Life: w.life}
	switch q.Question {
	case Inspect:
		r.Marked, r.At = w.told(x.mistake == blind)
		r.CAS = w.marker.cas
	case Begin, Finish:
		r.Stored = q.CAS == w.marker.cas || q.CAS == 0 && q.Question == Finish || x.mistake == unmarked ||
			x.mistake == blunt && q.Question == Begin
		if x.mistake == blind {
			r.Life = q.Life
		}
		if r.Stored {
			// One that was meant for a process before, and meets the same version by chance,
			// is as bad as an eviction.
			w.evicted = w.evicted || q.Life != w.life && w.marker.life == w.life
			w.targetCAS++
			w.marker = simMarker{q.Life, q.Question == Finish, q.At, w.targetCAS}
		}
		r.CAS = w.marker.cas
		if r.Marked, r.At = w.told(x.mistake == blind); x.mistake == hasty && r.Stored {
			r.At = -1
		}
	case Release:
		if l.holder != 0 && l.cas == q.CAS {
			*l = simLease{}
		}
	default:
		switch q.Question {
		case Take:
			r.Stored = l.holder == 0 || x.mistake == greedy
		case Renew:
			r.Stored = l.holder != 0 && l.cas == q.CAS || x.mistake == unguarded
		}
		if r.Stored {
			w.cas++
			*l = simLease{me, w.cas, w.now + exploreTimes.TTL - slack}
			if x.mistake == eternal {
				l.expires += 1000 * time.Hour
			}
		}
		if l.holder != 0 {
			r.Holder, r.CAS = fmt.Sprint(l.holder), l.cas
		}
	}
	if heard {
		a.carried, a.reply = true, r
	}
}

// told is what the marker says; blind: whichever life it is of.
func (w *world) told(blind bool) (warm bool, at int64) {
	if w.marker.warm && (w.marker.life == w.life || blind) {
		return true, w.marker.at
	}
	return false, 0
}

// judge says what is wrong with w; empty: nothing.
func (x *explorer) judge(w *world) string {
	holders := [maxLives + 1]int{}
	for i := range w.actors {
		a := &w.actors[i]
		if a.dead {
			continue
		}
		switch life := a.machine.Life(); a.machine.Verdict(w.now) {
		case Trust:
			if life == w.life && !w.full && !w.flushed { // what is flushed later was warm
				return fmt.Sprintf("%d takes the target for warm", i+1)
			}
			if life != w.life || w.marker.life != life || w.flushed || w.evicted {
				continue // what is marked again has a moment of its own
			}
			if at := a.machine.Moment(); at != w.marker.at && (x.mistake == noMistake || x.mistake >= hasty) {
				return fmt.Sprintf("%d waits for a moment of its own", i+1)
			}
		case Refill:
			if holders[life]++; holders[life] > 1 && !w.lost && x.sources == 1 {
				return "two have the lease"
			}
		}
	}
	if w.marker.life == w.life && w.marker.warm && !w.full {
		return "the marker lies"
	}
	return ""
}

// finish lets everything take its course from w, without any further fault, and says what
// is wrong with where that leads.
func (x *explorer) finish(w world) string {
	x.finals++
	for range 40 {
		for range 8 {
			for i := range x.actors {
				if a := &w.actors[i]; a.dead {
					continue
				} else if a.asked.Question != Nothing && !a.carried {
					x.carryOut(&w, i, a.asked, true)
				} else if a.carried {
					w.deliver(i, a.reply)
				} else if a.refills != 0 {
					w.refilled(i, true)
				} else {
					w.send(i)
				}
			}
		}
		w.now += time.Second
	}
	if bad := x.judge(&w); bad != "" {
		return bad
	}
	for i := range x.actors {
		if a := &w.actors[i]; !a.dead && !a.machine.Over() {
			return fmt.Sprintf("%d never comes to an end: %+v", i+1, a.machine)
		}
	}
	return ""
}

func TestEveryOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		actors, sources int
		budget          world
	}{
		{"no fault", 2, 1, world{ticks: 2}},
		{"three magents", 3, 1, world{ticks: 1}},
		{"a death", 2, 1, world{ticks: 2, deaths: 1}},
		{"a restart", 2, 1, world{ticks: 1, restarts: 1}},
		{"two restarts", 2, 1, world{restarts: 2}},
		{"an eviction", 2, 1, world{ticks: 1, evictions: 1}},
		{"an answer is lost", 2, 1, world{ticks: 1, losses: 1}},
		{"answers are lost, one magent", 1, 2, world{ticks: 3, losses: 2, restarts: 1}},
		{"a source is cut off", 2, 2, world{ticks: 1, losses: 1}},
		{"a refill fails", 2, 1, world{ticks: 2, flaws: 1}},
		{"a flush", 2, 1, world{ticks: 2, flushes: 1}},
		{"the target is forsaken", 2, 1, world{ticks: 2, forsakes: 1}},
		{"a death and a restart", 2, 1, world{ticks: 1, deaths: 1, restarts: 1}},
		{"a lost answer and a restart", 2, 1, world{losses: 1, restarts: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := explore(t, c.actors, c.sources, c.budget, noMistake)
			if x.bad != "" {
				t.Fatalf("%s:\n%s", x.bad, strings.Join(x.trace, "\n"))
			}
			t.Logf("%d worlds, %d of them to their end", len(x.seen), x.finals)
		})
	}
}

func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mistake mistake
		want    string
		budget  world
	}{
		{eternal, "never comes to an end", world{ticks: 2, deaths: 1}},
		{greedy, "two have the lease", world{ticks: 1}},
		{blind, "takes the target for warm", world{ticks: 2, restarts: 1}},
		{unguarded, "two have the lease", world{ticks: 5}},
		{unmarked, "the marker lies", world{ticks: 2, flushes: 1}},
		{unmarked, "the marker lies", world{ticks: 2, forsakes: 1}},
		{hasty, "a moment of its own", world{ticks: 2}},
		{blunt, "a moment of its own", world{ticks: 1, losses: 1}},
	} {
		x := explore(t, 2, 1, c.budget, c.mistake)
		if !strings.Contains(x.bad, c.want) {
			t.Errorf("mistake %d: found %q, want %q", c.mistake, x.bad, c.want)
		}
	}
}
