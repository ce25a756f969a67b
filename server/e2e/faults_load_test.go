package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/wire"
	"magent/server/e2e/harness"
)

const (
	loadClients = 16
	// loadWriters come in addition where writes have connections of their own.
	loadWriters = 2
	loadKeys    = 64 * loadClients
)

// newLoad is loadClients that send rate requests a second each for length, of which one
// in ten is a write. Each key is written by turns with all others of its writer. With
// apart, there are clients more, and they do all the writing: the answers on a
// connection leave in order, so that a read behind a slow write would be slow whatever
// is done for reads.
func newLoad(addr string, rate int, apart bool, length time.Duration) load.Config {
	c := load.Config{
		Targets: []string{addr}, Conns: loadClients, Rate: float64(loadClients * rate), Mix: load.Mix{wire.Get: 9, wire.Set: 1},
		Keys: keys.Config{Prefix: "load", Max: loadKeys - 1}, WriteKeys: keys.Pattern{Kind: keys.Parallel},
		Duration: length, Timeout: harness.Patience, Seed: *seedFlag, Samples: true,
	}
	if apart {
		c.Conns, c.Writers = loadClients+loadWriters, loadWriters
	}
	return c
}

// An observed is what clients were told.
type observed struct{ *load.Report }

// observe makes the load c, with every key written before, and calls beside when it
// begins, which is told the zero of the times that are observed.
func observe(ctx context.Context, c load.Config, beside func(began time.Time)) (*observed, error) {
	if err := load.Preload(ctx, c); err != nil {
		return nil, err
	}
	o, began := new(observed), time.Now()
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		o.Report, err = load.Run(ctx, c)
	}()
	beside(began)
	<-done
	if err != nil {
		return nil, err
	}
	late := o.Began.Sub(began)
	for i := range o.Samples {
		o.Samples[i].Due += late
	}
	for i := range o.Stalls {
		o.Stalls[i].From += late
		o.Stalls[i].To += late
	}
	return o, nil
}

// count is how many requests ended so.
func (o *observed) count(v load.Verdict) (n int) {
	for i := range o.Samples {
		if o.Samples[i].Verdict == v {
			n++
		}
	}
	return n
}

// took is the latencies, in order, of requests that were due from then on and that of
// says are meant. With own, what the generator was stalled meanwhile is taken off.
func (o *observed) took(from time.Duration, own bool, of func(*load.Sample) bool) (all []time.Duration) {
	for i := range o.Samples {
		s := &o.Samples[i]
		if s.Due < from || !of(s) {
			continue
		}
		took := s.Took
		for _, stall := range o.Stalls { // of one thread: they lie apart
			if own {
				took -= max(0, min(stall.To, s.Due+s.Took)-max(stall.From, s.Due))
			}
		}
		all = append(all, took)
	}
	slices.Sort(all)
	return all
}

// slowest is the last of durations in order, and 0 of none.
func slowest(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1]
}

// p99 is their 99th percentile.
func p99(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)*99/100]
}

// longestStall is for how long the generator was held up at worst, and the machine
// with it.
func (o *observed) longestStall() (worst time.Duration) {
	for _, s := range o.Stalls {
		worst = max(worst, s.To-s.From)
	}
	return worst
}

func every(*load.Sample) bool { return true }

func reads(s *load.Sample) bool { return s.Op == wire.Get }

func refusals(s *load.Sample) bool { return s.Verdict == load.Failed }

// strange is the first answers that were not good.
func (o *observed) strange() string {
	lines := []string{o.FirstError}
	for i := range o.Samples {
		if s := &o.Samples[i]; s.Verdict != load.Good && len(lines) < 9 {
			lines = append(lines, fmt.Sprintf("%v due at %v: %v after %v", s.Op, s.Due, s.Verdict, s.Took))
		}
	}
	return strings.Join(lines, "\n")
}

// spells says when requests were due that took longer than that, from when on, and how
// long they took at worst: each spell ends where none was due for as long.
func (o *observed) spells(longer, origin time.Duration) string {
	var b strings.Builder
	var first, last, worst time.Duration
	told := func() {
		if worst > 0 {
			fmt.Fprintf(&b, " %s..%s: %s", millis(first-origin), millis(last-origin), millis(worst))
		}
	}
	for i := range o.Samples { // in the order they were due
		s := &o.Samples[i]
		if s.Took <= longer {
			continue
		}
		if worst == 0 || s.Due-last >= longer {
			told()
			first, worst = s.Due, 0
		}
		last, worst = s.Due, max(worst, s.Took)
	}
	told()
	return b.String()
}
