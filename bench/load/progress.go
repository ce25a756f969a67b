package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// lap is what a worker saw since it was last asked. There are two for each worker: one
// it writes to, one that is looked at. The worker finds a fresh one in its hand, puts the
// other on a channel that has room for it, and goes on: it never waits.
type lap struct {
	hist   *hdrhistogram.Histogram // of all answers
	counts counts                  // when it was handed over
}

func newLap() *lap {
	// Two digits are enough to look at, and leave the caches to others.
	return &lap{hist: hdrhistogram.New(1, histMax, 2)}
}

func (l *lap) record(ns int64) { _ = l.hist.RecordValue(ns) }

// reporter tells how a run goes.
type reporter struct {
	s       *shared
	workers []*worker
	spare   []*lap // one for each worker
	sum     *hdrhistogram.Histogram
	phase   phase
	// before counts the phase's requests up to the last look, which was at last.
	before int64
	last   int64
}

func newReporter(s *shared, workers []*worker) *reporter {
	r := &reporter{s: s, workers: workers, sum: hdrhistogram.New(1, histMax, 2), last: s.now()}
	for range workers {
		r.spare = append(r.spare, newLap())
	}
	return r
}

// run reports once a second until the workers have ended.
func (r *reporter) run(ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		p, ok := r.look(ended)
		if !ok {
			return
		}
		r.s.cfg.Progress(p)
	}
}

// look gathers the laps. It returns false if the workers ended meanwhile.
func (r *reporter) look(ended <-chan struct{}) (Progress, bool) {
	for i, w := range r.workers {
		w.fresh.Store(r.spare[i])
	}
	r.sum.Reset()
	var p Progress
	for i, w := range r.workers {
		select {
		case l, ok := <-w.laps:
			if ok {
				r.spare[i] = l
			} else { // it has ended, and left its last
				l = w.lap
				l.counts = w.counts
			}
			r.sum.Merge(l.hist)
			p.Errors += l.counts.errors
			p.Wrong += l.counts.wrong
			p.Stale += l.counts.stale
			p.Misses += l.counts.misses
			l.hist.Reset()
		case <-ended:
			return Progress{}, false
		}
	}
	r.describe(&p, r.s.now())
	return p, true
}

// describe fills in what is to be said at now.
func (r *reporter) describe(p *Progress, now int64) {
	if ph := phase(r.s.word.Load()); ph != r.phase {
		r.phase, r.before = ph, 0
	}
	lap := r.sum.TotalCount()
	r.before += lap
	p.Phase = [...]string{PhaseWarmup, PhaseMeasure, PhaseDrain, PhaseDrain}[r.phase]
	if r.s.fill {
		p.Phase = PhasePreload
	}
	p.Requests = r.before
	p.Rate = float64(lap) / time.Duration(now-r.last).Seconds()
	r.last = now
	p.P50, p.P99 = time.Duration(r.sum.ValueAtPercentile(50)), time.Duration(r.sum.ValueAtPercentile(99))
	p.Elapsed = time.Duration(now - r.s.phaseAt.Load())
	if r.phase == measuring { // to the µs: from when measuring began, not from when it was said
		p.Elapsed = time.Duration(now - r.s.begin)
	}
	cfg := &r.s.cfg
	switch {
	case r.phase == warming:
		p.Left = cfg.Warmup - p.Elapsed
	case r.phase == measuring && cfg.Duration > 0:
		p.Left = cfg.Duration - p.Elapsed
	case r.phase == measuring && p.Rate > 0:
		p.Left = time.Duration(float64(cfg.Requests-p.Requests) / p.Rate * float64(time.Second))
	}
	p.Left = max(p.Left, 0)
}
