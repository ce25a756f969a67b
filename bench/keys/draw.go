package keys

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// The kinds of Pattern, by memtier_benchmark's letters; H is ours.
const (
	Uniform    = 'R' // every key alike
	Sequential = 'S' // each connection goes through all keys, round and round
	Parallel   = 'P' // each connection goes through a range of its own, round and round
	Zipf       = 'Z' // the key of rank i (from 1) is drawn in proportion to 1/i^Exponent
	Gaussian   = 'G' // a bell about Median
	Hot        = 'H' // a Share of the keys gets Weight of the draws, the rest what is left
)

// Pattern says how keys are drawn. The zero value of a field means its default. Keys
// are popular in their order: the first is the most popular of a Zipf, and the hot ones
// come first. Their names are hashed by whoever places them, so neighbours here are
// none there.
type Pattern struct {
	// Kind is one of the letters above. Default Uniform.
	Kind byte
	// Exponent of a Zipf, above 0. Default 1.
	Exponent float64
	// Median and Stddev of a Gaussian, in keys, counted from 0. Default the middle of
	// the keys and a sixth of them, as memtier has it. What falls outside the keys is
	// drawn again; a Median beyond them is taken for the last.
	Median, Stddev float64
	// Share of the keys that are hot, one key at least, and Weight, what they get of
	// the draws: both above 0 and below 1. Default 0.01 and 0.9.
	Share, Weight float64
}

// withDefaults is p with those zero fields filled in that do not depend on how many
// keys there are.
func (p Pattern) withDefaults() Pattern {
	if p.Kind == 0 {
		p.Kind = Uniform
	}
	def := func(f *float64, v float64) {
		if *f == 0 {
			*f = v
		}
	}
	def(&p.Exponent, 1)
	def(&p.Share, 0.01)
	def(&p.Weight, 0.9)
	return p
}

// Validate reports every fault of p at once, its zero fields taken as their defaults.
func (p Pattern) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("keys: "+format, args...))
		}
	}
	p = p.withDefaults()
	switch p.Kind {
	case Uniform, Sequential, Parallel, Zipf, Gaussian, Hot:
	default:
		check(false, "pattern %q is none of R, S, P, Z, G, H", p.Kind)
	}
	// Written so that no NaN passes.
	check(p.Exponent > 0 && p.Exponent <= math.MaxFloat64, "zipf exponent (%v) must be above 0", p.Exponent)
	check(p.Median >= 0 && p.Median <= math.MaxFloat64, "median (%v) must not be negative", p.Median)
	check(p.Stddev >= 0 && p.Stddev <= math.MaxFloat64, "stddev (%v) must not be negative", p.Stddev)
	check(p.Share > 0 && p.Share < 1, "share of hot keys (%v) must be between 0 and 1", p.Share)
	check(p.Weight > 0 && p.Weight < 1, "weight of hot keys (%v) must be between 0 and 1", p.Weight)
	return errors.Join(errs...)
}

// Draw draws keys by a Pattern.
type Draw struct {
	kind byte
	n    uint64 // how many keys
	// Sequential and Parallel: the next of first to last-1.
	next, first, last int
	// Hot: the first hot keys, and their part of 2^64.
	hot, weight uint64
	bell        bell
	zipf        zipf
}

// Draw begins p, which must be valid, over n keys (at least 1), for connection part of
// parts (from 0).
func (p Pattern) Draw(n, part, parts int) Draw {
	p = p.withDefaults()
	d := Draw{kind: p.Kind, n: uint64(n), last: n}
	switch p.Kind {
	case Parallel:
		d.first = n * part / parts
		d.last = max(d.first+1, n*(part+1)/parts) // more parts than keys: they share
		d.next = d.first
	case Hot:
		d.hot = max(1, uint64(p.Share*float64(n)))
		d.weight = uint64(p.Weight * (1 << 64))
		if d.hot == d.n { // nothing is left to be cold
			d.kind = Uniform
		}
	case Zipf:
		d.zipf = newZipf(n, p.Exponent)
	case Gaussian:
		d.bell = newBell(n, p.Median, p.Stddev)
	}
	return d
}

// Next is the next key, from 0. It allocates nothing.
func (d *Draw) Next(r *rand.PCG) int {
	switch d.kind {
	case Sequential, Parallel:
		k := d.next
		if d.next++; d.next == d.last {
			d.next = d.first
		}
		return k
	case Zipf:
		return d.zipf.next(r)
	case Gaussian:
		return d.bell.next(r)
	case Hot:
		if r.Uint64() < d.weight {
			return int(below(r, d.hot))
		}
		return int(d.hot + below(r, d.n-d.hot))
	}
	return int(below(r, d.n))
}

// below draws from 0 to n-1. It prefers some by less than n/2^64, which no run is long
// enough to notice.
func below(r *rand.PCG, n uint64) uint64 {
	hi, _ := bits.Mul64(r.Uint64(), n)
	return hi
}

// unit draws from [0, 1).
func unit(r *rand.PCG) float64 { return float64(r.Uint64()>>11) / (1 << 53) }

// bell is a normal distribution cut off at both ends of the keys. Key k is what lies
// from k to k+1, so its middle is half a key further on.
type bell struct {
	n, middle, stddev float64
}

func newBell(n int, median, stddev float64) bell {
	b := bell{n: float64(n), stddev: stddev}
	b.middle = min(median, b.n-1) + 0.5
	if median == 0 {
		b.middle = b.n / 2
	}
	if stddev == 0 {
		b.stddev = b.n / 6
	}
	return b
}

// next draws until it is inside. A bell wider than the keys would mostly be outside, so
// it is drawn evenly and thinned to the bell's height. Either way more than one in three
// is taken.
func (b *bell) next(r *rand.PCG) int {
	rng := rand.New(r)
	for {
		if b.stddev > b.n {
			x := unit(r) * b.n
			if z := (x - b.middle) / b.stddev; unit(r) < math.Exp(-z*z/2) {
				return int(x)
			}
		} else if x := b.middle + b.stddev*rng.NormFloat64(); x >= 0 && x < b.n {
			return int(x)
		}
	}
}

// zipf draws ranks by rejection-inversion: W. Hörmann and G. Derflinger,
// "Rejection-inversion to generate variates from monotone discrete distributions", ACM
// Transactions on Modeling and Computer Simulation 6(3), 1996. It needs no table, and
// takes more than 98 draws of 100 whatever the exponent and the number of keys.
//
// The hat over 1/x^e is that function itself; its integral H(x) is (x^q-1)/q with
// q = 1-e, which is log x where q is 0.
type zipf struct {
	n, e, q float64
	// A draw is uniform in H: from top down by width.
	top, width float64
	// x may be as far as this below its rank and surely be taken.
	sure float64
}

func newZipf(n int, exponent float64) zipf {
	z := zipf{n: float64(n), e: exponent, q: 1 - exponent}
	z.top = z.integral(z.n + 0.5)
	z.width = z.top - (z.integral(1.5) - 1)
	z.sure = 2 - z.inverse(z.integral(2.5)-z.height(2))
	return z
}

func (z *zipf) next(r *rand.PCG) int {
	for {
		u := z.top - unit(r)*z.width
		x := z.inverse(u)
		rank := min(max(math.Floor(x+0.5), 1), z.n)
		if rank-x <= z.sure || u >= z.integral(rank+0.5)-z.height(rank) {
			return int(rank) - 1
		}
	}
}

func (z *zipf) height(x float64) float64 { return math.Exp(-z.e * math.Log(x)) }

// integral and inverse go by way of expm1 and log1p, which keep their digits where q is
// nearly 0.
func (z *zipf) integral(x float64) float64 {
	if z.q == 0 {
		return math.Log(x)
	}
	return math.Expm1(z.q*math.Log(x)) / z.q
}

func (z *zipf) inverse(y float64) float64 {
	if z.q == 0 {
		return math.Exp(y)
	}
	return math.Exp(math.Log1p(max(-1, y*z.q)) / z.q)
}
