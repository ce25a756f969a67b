package keys

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// fits holds counts of draws against the probabilities they should have, by Pearson's
// chi-square test. Cells of less than five expected draws are thrown together. The bound
// is what chance passes once in a million, by the approximation of Wilson and Hilferty
// (1931); with a fixed seed it passes it always or never.
func fits(t *testing.T, what string, counts []int, probability []float64) {
	t.Helper()
	total := 0
	for _, c := range counts {
		total += c
	}
	var sum, rest, restCount float64
	cells := 0
	add := func(count, expected float64) {
		sum += (count - expected) * (count - expected) / expected
		cells++
	}
	for i, c := range counts {
		if e := probability[i] * float64(total); e >= 5 {
			add(float64(c), e)
		} else {
			rest, restCount = rest+e, restCount+float64(c)
		}
	}
	if rest >= 5 {
		add(restCount, rest)
	} else if restCount > 30 {
		t.Errorf("%s: %v draws of what %.1f are expected of", what, restCount, rest)
	}
	df := float64(cells - 1)
	if df == 0 {
		return
	}
	v := 2 / (9 * df)
	if bound := df * math.Pow(1-v+4.75*math.Sqrt(v), 3); sum > bound {
		t.Errorf("%s: chi-square %.1f of %d cells, at most %.1f is chance", what, sum, cells, bound)
	}
}

// normalized scales p to a sum of 1.
func normalized(p []float64) []float64 {
	sum := 0.0
	for _, v := range p {
		sum += v
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// probabilities are those of p over n keys, by the book.
func probabilities(p Pattern, n int) []float64 {
	out := make([]float64, n)
	below := func(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }
	for k := range out {
		switch p.Kind {
		case Zipf:
			out[k] = math.Pow(float64(k+1), -p.Exponent)
		case Gaussian:
			at := func(x float64) float64 { return below((x - p.Median) / p.Stddev) }
			out[k] = at(float64(k)+0.5) - at(float64(k)-0.5)
		case Hot:
			hot := int(p.Share * float64(n))
			out[k] = (1 - p.Weight) / float64(n-hot)
			if k < hot {
				out[k] = p.Weight / float64(hot)
			}
		default:
			out[k] = 1
		}
	}
	return normalized(out)
}

func TestDistributions(t *testing.T) {
	type distribution struct {
		drawn, exact Pattern // exact has no defaults
		n            int
	}
	same := func(p Pattern, n int) distribution { return distribution{p, p, n} }
	tests := []distribution{
		{Pattern{}, Pattern{Kind: Uniform}, 1000},
		{Pattern{Kind: Zipf}, Pattern{Kind: Zipf, Exponent: 1}, 100},
		{Pattern{Kind: Gaussian}, Pattern{Kind: Gaussian, Median: 499.5, Stddev: 1000.0 / 6}, 1000},
		{Pattern{Kind: Hot}, Pattern{Kind: Hot, Share: 0.01, Weight: 0.9}, 1000},
		same(Pattern{Kind: Uniform}, 7),
		same(Pattern{Kind: Gaussian, Median: 3, Stddev: 2}, 10),
		same(Pattern{Kind: Gaussian, Median: 99, Stddev: 20}, 100),
		same(Pattern{Kind: Gaussian, Median: 20, Stddev: 150}, 100), // wider than the keys
		same(Pattern{Kind: Hot, Share: 0.5, Weight: 0.5}, 10),
		same(Pattern{Kind: Hot, Share: 0.2, Weight: 0.05}, 10), // hot in name only
	}
	for _, e := range []float64{0.1, 0.5, 0.99, 1, 1 + 1e-9, 1.5, 4} {
		for _, n := range []int{1, 2, 3, 10, 1000} {
			tests = append(tests, same(Pattern{Kind: Zipf, Exponent: e}, n))
		}
	}
	for i, c := range tests {
		d := c.drawn.Draw(c.n, 0, 1)
		r := rand.NewPCG(7, uint64(i))
		counts := make([]int, c.n)
		for range 100_000 {
			counts[d.Next(r)]++
		}
		fits(t, fmt.Sprintf("%c over %d keys, %+v", c.exact.Kind, c.n, c.exact), counts, probabilities(c.exact, c.n))
	}
}

// Every key drawn is one of the space, at the edges of what may be configured, too.
func TestDrawsAreInRange(t *testing.T) {
	var patterns []Pattern
	for _, e := range []float64{1e-9, 0.5, 1, 1.5, 100, 1e300} {
		patterns = append(patterns, Pattern{Kind: Zipf, Exponent: e})
	}
	for _, at := range []float64{0, 1e-300, 1, 1e300} {
		for _, wide := range []float64{0, 1e-300, 1, 1e300} {
			patterns = append(patterns, Pattern{Kind: Gaussian, Median: at, Stddev: wide})
		}
	}
	for _, f := range []float64{1e-300, 0.5, math.Nextafter(1, 0)} {
		patterns = append(patterns, Pattern{Kind: Hot, Share: f, Weight: f})
	}
	for _, kind := range []byte{0, Uniform, Sequential, Parallel} {
		patterns = append(patterns, Pattern{Kind: kind})
	}
	for _, p := range patterns {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
		for _, n := range []int{1, 2, 10, 1000, math.MaxInt32} {
			for part := range 3 {
				d := p.Draw(n, part, 3)
				r := rand.NewPCG(1, 1)
				for range 1000 {
					if k := d.Next(r); k < 0 || k >= n {
						t.Fatalf("%+v over %d keys drew %d", p, n, k)
					}
				}
			}
		}
	}
}

// draws are the first of d, however many.
func draws(d Draw, many int) []int {
	r := rand.NewPCG(1, 1)
	var out []int
	for range many {
		out = append(out, d.Next(r))
	}
	return out
}

func TestSequences(t *testing.T) {
	for _, c := range []struct {
		kind           byte
		n, part, parts int
		want           []int
	}{
		{Sequential, 3, 0, 2, []int{0, 1, 2, 0, 1}},
		{Sequential, 3, 1, 2, []int{0, 1, 2, 0, 1}},
		{Parallel, 5, 0, 2, []int{0, 1, 0, 1, 0}},
		{Parallel, 5, 1, 2, []int{2, 3, 4, 2, 3}},
		{Parallel, 2, 2, 3, []int{1, 1, 1, 1, 1}},
		{Parallel, 1, 4, 5, []int{0, 0, 0, 0, 0}},
	} {
		if got := draws(Pattern{Kind: c.kind}.Draw(c.n, c.part, c.parts), 5); !slices.Equal(got, c.want) {
			t.Errorf("%c over %d keys, part %d of %d: %v, want %v", c.kind, c.n, c.part, c.parts, got, c.want)
		}
	}
	// The ranges of all parts are all keys, each once.
	for n := range 40 {
		const parts = 7
		seen := make([]int, n+1)
		for part := range parts {
			d := Pattern{Kind: Parallel}.Draw(n+1, part, parts)
			for range d.last - d.first {
				seen[d.Next(nil)]++
			}
		}
		for k, times := range seen {
			if times == 0 || n+1 >= parts && times != 1 {
				t.Errorf("%d parts of %d keys: key %d is in %d of them", parts, n+1, k, times)
			}
		}
	}
}

func TestPatternFaults(t *testing.T) {
	for _, c := range []struct {
		Pattern
		want []string // in the error
	}{
		{Pattern{Kind: 'X'}, []string{`pattern 'X'`}},
		{Pattern{Exponent: -1}, []string{"exponent (-1)"}},
		{Pattern{Exponent: math.NaN(), Median: math.NaN()}, []string{"exponent (NaN)", "median (NaN)"}},
		{Pattern{Exponent: math.Inf(1)}, []string{"exponent (+Inf)"}},
		{Pattern{Median: -1, Stddev: -2}, []string{"median (-1)", "stddev (-2)"}},
		{Pattern{Share: 1, Weight: -0.1}, []string{"share of hot keys (1)", "weight of hot keys (-0.1)"}},
		{Pattern{Share: -0.1, Weight: 1}, []string{"share of hot keys (-0.1)", "weight of hot keys (1)"}},
	} {
		err := c.Validate()
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want %s in it", c.Pattern, err, want)
			}
		}
	}
}
