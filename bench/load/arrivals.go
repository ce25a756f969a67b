package load

import (
	"math/rand/v2"
	"time"
)

// arrivals says when a worker's next request is due in an open loop, and at which of its
// connections. A connection's own arrivals are what the worker's leave it: of evenly
// spaced ones dealt round, every m-th, which are evenly spaced again; of Poisson ones
// dealt at random, Poisson ones. So no connection needs a timer.
type arrivals struct {
	next int64 // when, in ns since the schedule began
	conn int

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

// newArrivals is the schedule of worker i, which has so many of cfg's connections.
func newArrivals(cfg *Config, i, conns int) *arrivals {
	a := &arrivals{
		conns: conns,
		step:  float64(time.Second) / cfg.Rate * float64(cfg.Conns) / float64(conns),
		phase: float64(i) / float64(cfg.Threads),
		n:     -1,
	}
	if cfg.Arrivals == Poisson {
		a.rng = rand.New(rand.NewPCG(cfg.Seed, arrivalStream+uint64(i)))
	}
	a.advance()
	return a
}

// arrivalStream keeps the chance of arrivals apart from that of what is asked.
const arrivalStream = 1 << 40

// advance goes to the next arrival.
func (a *arrivals) advance() {
	if a.rng != nil {
		a.last += a.step * a.rng.ExpFloat64()
		a.next, a.conn = int64(a.last), a.rng.IntN(a.conns)
		return
	}
	a.n++
	a.next = int64((float64(a.n) + a.phase) * a.step)
	a.conn = int(a.n % int64(a.conns))
}

// stallLeast is what is worth to be called a stall.
const stallLeast = time.Millisecond

// arrive takes what is due by now and sends it, or has it wait where the connection is
// full or not there.
func (w *worker) arrive(now int64) {
	a := w.arrivals
	if from := w.due(); now-from >= int64(stallLeast) && from >= w.begin {
		w.stalls = append(w.stalls, Stall{From: time.Duration(from - w.begin), To: time.Duration(now - w.begin)})
	}
	for due := w.due(); due <= now; due = w.due() {
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
	due := w.start + w.arrivals.next
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
