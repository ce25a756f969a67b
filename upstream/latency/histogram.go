package latency

import (
	"math"
	"time"
)

// A Histogram has the buckets of Prometheus' native histograms of this Schema: each is
// 2^(1/8) as wide as the one before, so that a quantile read from it is right to 9 %.
// (The bounds are defined in "Native Histograms" of Prometheus' specifications.)
const (
	Schema   = 3
	perPower = 1 << Schema
	first    = -20 // power of two, of a second, that the first bucket ends above: 1 µs
	last     = 6   // and that the last one ends at: 64 s
	Buckets  = (last - first) * perPower
)

// Histogram counts how long requests took since it was made. What took less than 1 µs
// counts in its first bucket, what took more than 64 s in its last. The zero Histogram is
// empty and ready. As a Gauge, it belongs to one event loop.
type Histogram struct {
	Counts [Buckets]uint64
	Sum    time.Duration
}

// bounds are the ends of the buckets of one power of two, from 1 on: 2^(i/8).
var bounds = [perPower]float64{1, 1.0905077326652577, 1.189207115002721, 1.2968395546510096,
	1.4142135623730951, 1.5422108254079407, 1.6817928305074292, 1.8340080864093424}

// below is how many of bounds are less than 1+i/16. Between two such numbers there is
// at most one of them.
var below = [16]uint8{0, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8}

// Record adds n samples of d each.
func (h *Histogram) Record(d time.Duration, n uint64) {
	d = max(d, 0)
	h.Sum += d * time.Duration(n)
	h.Counts[place(d)] += n
}

// place is the bucket of d: the first that does not end before it; d is not negative.
func place(d time.Duration) int {
	word := math.Float64bits(float64(d) / float64(time.Second))
	exponent := int(word>>52) - 1023
	i := below[word>>48&15]
	if i < perPower && math.Float64frombits(word&(1<<52-1)|1023<<52) > bounds[i] {
		i++
	}
	return min(max((exponent-first)*perPower+int(i)-1, 0), Buckets-1)
}

// Add adds what o has counted.
func (h *Histogram) Add(o *Histogram) {
	h.Sum += o.Sum
	for i, n := range &o.Counts {
		h.Counts[i] += n
	}
}

// Count is how many samples there are.
func (h *Histogram) Count() (n uint64) {
	for _, c := range &h.Counts {
		n += c
	}
	return n
}

// Index is the number that bucket i has in Prometheus' schema: it ends at 2^(Index/8)
// seconds, that time included.
func Index(i int) int { return first*perPower + i + 1 }

// End is the longest time, in seconds, that counts in bucket i.
func End(i int) float64 { return math.Exp2(float64(Index(i)) / perPower) }
