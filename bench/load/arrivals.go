package load

import (
	"math/rand/v2"
	"time"
)

// schedule says when a worker's next request is due in an open loop: whatever of it
// comes first. Where not all connections do all, readers have arrivals of their own, and
// so have writers. A worker has one connection at least, so that it is never empty.
type schedule []*arrivals

// newSchedule is that of worker i.
func newSchedule(cfg *Config, i int) (s schedule) {
	from, to := cfg.connsOf(i)
	if cfg.Writers == 0 {
		return schedule{newArrivals(cfg, i, cfg.Rate/float64(cfg.Conns), 0, to-from)}
	}
	readers, writers := cfg.parts()
	reads, _ := cfg.Mix.split()
	read := cfg.Rate * float64(reads.requests()) / float64(cfg.Mix.requests())
	split := max(min(readers, to)-from, 0) // its writers begin there
	if split > 0 {
		s = append(s, newArrivals(cfg, i, read/float64(readers), 0, split))
	}
	if split < to-from {
		s = append(s, newArrivals(cfg, i, (cfg.Rate-read)/float64(writers), split, to-from-split))
	}
	return s
}

// next is what comes first.
func (s schedule) next() *arrivals {
	first := s[0]
	for _, a := range s[1:] {
		if a.next < first.next {
			first = a
		}
	}
	return first
}

// arrivals are those at some of a worker's connections: when the next is, and at which.
//
//	A
//
// connection's own are what they leave it: of evenly spaced ones dealt round, every m-th,
// which are evenly spaced again; of Poisson ones dealt at random, Poisson ones. So no
// connection needs a timer.
type arrivals struct {
	next int64 // when, in ns since the schedule began
	conn int

	first int // of the connections
	conns int
	step  float64 // the mean distance, in ns
	// Even: the n-th, and what of a step the first is late, so that workers do not
	// all wake at once.
	n     int64
	phase float64
	// Poisson: the time of the last, and where chance comes from.
	last float64
	rng  *rand.Rand
}

// newArrivals are those at so many connections of worker i, from the first, at a rate of
// each.
func newArrivals(cfg *Config, i int, rate float64, first, conns int) *arrivals {
	a := &arrivals{
		first: first,
		conns: conns,
		step:  min(float64(time.Second)/rate/float64(conns), farthest),
		phase: float64(i) / float64(cfg.Threads),
		n:     -1,
	}
	if cfg.Arrivals == Poisson {
		a.rng = rand.New(rand.NewPCG(cfg.Seed, arrivalStream+uint64(first)<<20+uint64(i)))
	}
	a.advance()
	return a
}

// arrivalStream keeps the chance of arrivals apart from that of what is asked.
const arrivalStream = 1 << 40

// farthest is where arrivals end, in ns: after some hundred years.
const farthest = 1 << 62

// advance goes to the next arrival.
func (a *arrivals) advance() {
	if a.rng != nil {
		a.last += a.step * a.rng.ExpFloat64()
		a.next, a.conn = int64(min(a.last, farthest)), a.first+a.rng.IntN(a.conns)
		return
	}
	a.n++
	a.next = int64(min((float64(a.n)+a.phase)*a.step, farthest))
	a.conn = a.first + int(a.n%int64(a.conns))
}

// stallLeast is what is worth to be called a stall.
const stallLeast = time.Millisecond

// arrive takes what is due by now and sends it, or has it wait where the connection is
// full or not there.
func (w *worker) arrive(now int64) {
	if from := w.due(); now-from >= int64(stallLeast) && from >= w.begin {
		w.stalls = append(w.stalls, Stall{From: time.Duration(from - w.begin), To: time.Duration(now - w.begin)})
	}
	for due := w.due(); due <= now; due = w.due() {
		a := w.schedule.next()
		c := &w.conns[a.conn]
		a.advance()
		if due >= w.begin && w.quota > 0 {
			w.quota--
		}
		if c.state == gone {
			w.skip(due)
			continue
		}
		c.late.push(due)
		w.waiting++
		if !c.dirty {
			c.dirty = true
			w.dirty = append(w.dirty, c.id)
		}
	}
	for _, id := range w.dirty {
		c := &w.conns[id]
		c.dirty = false
		w.refill(c, now)
	}
	w.dirty = w.dirty[:0]
}

// due is when the next request is, or never.
func (w *worker) due() int64 {
	due := w.start + w.schedule.next().next
	if due >= w.end || due >= w.begin && w.quota == 0 {
		return never
	}
	return due
}

// skip counts a request that will not be sent.
func (w *worker) skip(due int64) {
	if w.measured(due) {
		w.unsent++
	}
}
