// Package latency keeps how long one node has been taking to answer of late: its
// mean, which follows within a few tens of milliseconds, for finding out that the
// node is slow; and its quantiles over the last seconds, for telling which request
// is late. A Histogram keeps how long requests have ever taken, for those who watch.
//
// A Gauge belongs to one event loop, and there is one per node. It is arithmetic
// on a fixed block of memory: no lock, no allocation, and no clock, as Tick is told
// the time. The package imports std.
package latency

import (
	"math"
	"math/bits"
	"time"
)

const (
	// memory is the time constant of the mean: what is older than that weighs 1/e
	// or less. It is a time and not a number of samples, so that how soon the mean
	// follows does not depend on the traffic, and how steady it is gains by it: after
	// a step it has gone 1-1/e² = 86% of the way in 40 ms, be that four samples or
	// four thousand.
	memory = 20 * time.Millisecond

	// halving is the half-life of the quantiles.
	halving = time.Second

	// A sample counts one in so many parts, which keeps the few slow ones from being
	// rounded away when counts are halved: a lone one is halved exactly six times.
	one = 64
)

// Buckets are log-linear, as in HdrHistogram: each power of two of microseconds is
// cut into fine equal parts, and below fine each microsecond has its own. The last
// one takes all above 2^powers µs, 67 s.
const (
	fineBits = 3
	fine     = 1 << fineBits
	powers   = 26
	buckets  = (powers - fineBits + 1) * fine
)

// Gauge is what is remembered. The zero Gauge is empty and ready.
type Gauge struct {
	mean   time.Duration
	sum    float64       // of the samples that the mean stands on, in ns
	weight float64       // and how many they are; both fade
	fresh  time.Duration // sum of the samples since the last Tick
	nfresh uint32        // and how many they are
	total  uint32        // of counts
	heard  time.Duration // the last Tick that had samples
	halved time.Duration // the last halving of counts
	counts [buckets]uint32
}

// Record adds a sample. Mean learns of it with the next Tick, Quantile at once.
func (g *Gauge) Record(d time.Duration) {
	d = max(d, 0)
	g.fresh += d
	g.nfresh++
	g.total += one
	g.counts[bucket(d)] += one
}

// Tick lets time pass: now is the time since some moment that stays the same, and
// does not go back. It is called every few milliseconds while samples come, and may
// be left out while none do.
func (g *Gauge) Tick(now time.Duration) {
	if g.nfresh > 0 {
		keep := math.Exp(-float64(now-g.heard) / float64(memory))
		g.sum = g.sum*keep + float64(g.fresh)
		g.weight = g.weight*keep + float64(g.nfresh)
		g.mean = time.Duration(g.sum / g.weight)
		g.fresh, g.nfresh, g.heard = 0, 0, now
	}
	// After a pause it is halved once, however long that was: the quantiles of a node
	// that is seldom asked stand on its latest samples, not on none.
	if g.total > 0 && now-g.halved >= halving {
		g.halved, g.total = now, 0
		for i := range g.counts {
			g.counts[i] /= 2
			g.total += g.counts[i]
		}
	}
}

// Mean is the mean of the samples up to the last Tick, each weighing the less the
// older it is, by a factor of e per 20 ms. It is 0 before the first, and stays as it
// is while none come: Age tells.
func (g *Gauge) Mean() time.Duration { return g.mean }

// Age is how long ago, at now, the mean was last given samples. Of a mean that is
// older than a few tens of milliseconds nobody knows whether it still holds.
func (g *Gauge) Age(now time.Duration) time.Duration { return now - g.heard }

// Count is how many samples the quantiles stand on, each counting half as much with
// each second: at a steady rate it is what comes in one to two seconds.
func (g *Gauge) Count() int { return int(g.total / one) }

// Quantile is the least time that the part q (0 to 1) of the samples, counting as in
// Count, did not exceed, rounded up to the end of its bucket: it is above that by at
// most an eighth, or 1 µs if that is more, and never below. What took longer than
// 67 s counts as that. It is 0 if there are no samples.
func (g *Gauge) Quantile(q float64) time.Duration {
	if g.total == 0 {
		return 0
	}
	rank := max(uint64(math.Ceil(q*float64(g.total))), 1)
	seen, last := uint64(0), 0
	for i, n := range g.counts {
		if n == 0 {
			continue
		}
		last = i
		if seen += uint64(n); seen >= rank {
			break
		}
	}
	return end(last)
}

// bucket is where d is counted.
func bucket(d time.Duration) int {
	us := uint64(d / time.Microsecond)
	if us >= 1<<powers {
		return buckets - 1
	}
	shift := max(bits.Len64(us)-fineBits-1, 0)
	return shift<<fineBits + int(us>>shift)
}

// end is the end of bucket i: the shortest time that is not in it any more.
func end(i int) time.Duration {
	shift := max(i>>fineBits-1, 0)
	return time.Duration(i-shift<<fineBits+1) << shift * time.Microsecond
}
