package latency

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// feed records samples of latency d for a while, rate of them a second, with a tick
// every 5 ms, and returns the time at which it is over.
func feed(g *Gauge, from, while time.Duration, rate int, d time.Duration) time.Duration {
	owed := 0.0
	for now := from; now < from+while; {
		now += 5 * ms
		for owed += float64(rate) / 200; owed >= 1; owed-- {
			g.Record(d)
		}
		g.Tick(now)
	}
	return from + while
}

// A node whose latency steps up is seen to within 50 ms, whatever the traffic, and
// one that is fast again, too.
func TestMeanFollowsAStep(t *testing.T) {
	for _, rate := range []int{100, 1000, 50000} {
		var g Gauge
		now := feed(&g, 7*time.Hour, 3*time.Second, rate, ms)
		if m := g.Mean(); m.Round(time.Microsecond) != ms {
			t.Errorf("%d/s: the mean of 1ms is %v", rate, m)
		}
		now = feed(&g, now, 50*ms, rate, 6*ms)
		if m := g.Mean(); m <= 5*ms || m > 6*ms {
			t.Errorf("%d/s: 50 ms after a step from 1ms to 6ms the mean is %v", rate, m)
		}
		now = feed(&g, now, time.Second, rate, 6*ms)
		feed(&g, now, 50*ms, rate, ms)
		if m := g.Mean(); m >= 2*ms || m < ms {
			t.Errorf("%d/s: 50 ms after a step from 6ms to 1ms the mean is %v", rate, m)
		}
	}
}

// The mean weighs each sample by its age, and not by how many came between two
// ticks: it is the same as that of a twin that keeps them all.
func TestMeanIsItsTwins(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var g Gauge
	type sample struct{ at, d time.Duration }
	var all []sample
	for now := time.Duration(0); now < time.Second; {
		now += time.Duration(r.IntN(9)) * ms
		for range r.IntN(20) {
			d := time.Duration(r.IntN(1e7))
			g.Record(d)
			all = append(all, sample{now, d})
		}
		g.Tick(now)
		var sum, weight float64
		for _, s := range all {
			w := math.Exp(-float64(now-s.at) / float64(memory))
			sum += w * float64(s.d)
			weight += w
		}
		if want := sum / weight; weight > 0 && math.Abs(float64(g.Mean())-want) > 1e-6*want+1 {
			t.Fatalf("at %v the mean is %v, want %v", now, g.Mean(), time.Duration(want))
		}
	}
}

func TestAge(t *testing.T) {
	var g Gauge
	now := feed(&g, time.Hour, time.Second, 1000, ms)
	g.Tick(now + 30*ms)
	if a, m := g.Age(now+40*ms), g.Mean(); a != 40*ms || m != ms {
		t.Errorf("40 ms later the age is %v, the mean %v", a, m)
	}
}

// Quantiles are those of the sorted samples, rounded up by an eighth or 1 µs at most.
func TestQuantileIsItsTwins(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	shapes := map[string]func() time.Duration{
		"even":       func() time.Duration { return time.Duration(r.IntN(int(50 * ms))) },
		"exponents":  func() time.Duration { return time.Duration(math.Exp(r.Float64() * 24)) },
		"tail":       func() time.Duration { return time.Duration(2e5 / (1e-4 + r.Float64())) },
		"two":        func() time.Duration { return []time.Duration{200 * time.Microsecond, 50 * ms}[r.IntN(2)] },
		"boundaries": func() time.Duration { return time.Microsecond << r.IntN(powers) },
		"tiny":       func() time.Duration { return time.Duration(r.IntN(12)) * time.Microsecond },
	}
	for name, draw := range shapes {
		for _, n := range []int{1, 2, 7, 100, 5000} {
			var g Gauge
			all := make([]time.Duration, n)
			for i := range all {
				all[i] = draw()
				g.Record(all[i])
			}
			slices.Sort(all)
			if g.Count() != n {
				t.Errorf("%s: %d samples are counted as %d", name, n, g.Count())
			}
			for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
				want := all[max(int(math.Ceil(q*float64(n))), 1)-1]
				most := max(want+want/8, want+time.Microsecond)
				if got := g.Quantile(q); got < want || got > most {
					t.Errorf("%s: quantile %v of %d samples is %v, want %v to %v", name, q, n, got, want, most)
				}
			}
		}
	}
}

// As the seconds pass, samples count half as much with each: a twin that weighs them
// so agrees, to a hundredth of them.
func TestQuantilesFade(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	type sample struct {
		d      time.Duration
		weight float64
	}
	var g Gauge
	var all []sample
	upTo := func(d time.Duration) (w float64) {
		for _, s := range all {
			if s.d <= d {
				w += s.weight
			}
		}
		return w
	}
	for now := time.Second; now < 20*time.Second; now += time.Second {
		scale := float64(1+r.IntN(50)) * float64(ms)
		for range 500 {
			d := time.Duration(r.ExpFloat64() * scale)
			g.Record(d)
			all = append(all, sample{d, 1})
		}
		total := upTo(math.MaxInt64)
		if n := float64(g.Count()); n > total || n < total*0.99 {
			t.Errorf("%v: %v samples are counted, want %.1f", now, n, total)
		}
		for _, q := range []float64{0.1, 0.5, 0.9, 0.99} {
			got := g.Quantile(q)
			low, high := upTo(got-max(got/9+1, time.Microsecond)), upTo(got)
			if low > (q+0.01)*total || high < (q-0.01)*total {
				t.Errorf("%v: quantile %v is %v, but %.3f to %.3f took no longer", now, q, got, low/total, high/total)
			}
		}
		g.Tick(now)
		for i := range all {
			all[i].weight /= 2
		}
	}
}

// What is seldom asked keeps its latest samples, and a lone one is forgotten at last.
func TestPause(t *testing.T) {
	var g Gauge
	now := feed(&g, 0, 500*ms, 200, ms)
	g.Tick(now + time.Hour)
	if n := g.Count(); n != 50 {
		t.Errorf("after a pause %d of 100 samples count", n)
	}
	g = Gauge{}
	if q := g.Quantile(0.5); q != 0 || g.Mean() != 0 {
		t.Errorf("an empty gauge says %v, %v", q, g.Mean())
	}
	g.Record(20 * ms)
	for i := range 8 {
		if remembered := g.Quantile(0.5) >= 20*ms; remembered != (i < 7) {
			t.Errorf("a sample that is %ds old: remembered %v", i, remembered)
		}
		g.Tick(time.Duration(i+1) * time.Second)
	}
}

// Times that no bucket is made for count in the first and in the last.
func TestOutOfRange(t *testing.T) {
	var g Gauge
	g.Record(-time.Second)
	if q := g.Quantile(1); q != time.Microsecond {
		t.Errorf("a negative time counts as %v", q)
	}
	g.Record(time.Hour)
	if q := g.Quantile(1); q != time.Microsecond<<powers {
		t.Errorf("an hour counts as %v", q)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	var g Gauge
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += 5 * ms
		g.Record(now % (50 * ms))
		g.Tick(now)
		g.Quantile(0.99)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, bits := range []int{0, 27} { // one bucket, or any
		b.Run(fmt.Sprintf("spread=2^%dns", bits), func(b *testing.B) {
			var g Gauge
			b.ReportAllocs()
			d := time.Duration(1)
			for b.Loop() {
				d = d*5 + 1
				g.Record(d & (1<<bits - 1))
			}
		})
	}
}

// BenchmarkTick has a halving each 200th time.
func BenchmarkTick(b *testing.B) {
	for _, samples := range []int{0, 1} {
		b.Run(fmt.Sprintf("samples=%d", samples), func(b *testing.B) {
			var g Gauge
			g.Record(ms)
			b.ReportAllocs()
			now := time.Duration(0)
			for b.Loop() {
				now += 5 * ms
				if samples > 0 {
					g.Record(ms)
				}
				g.Tick(now)
			}
		})
	}
}

func BenchmarkQuantile(b *testing.B) {
	var g Gauge
	for i := range 100000 {
		g.Record(time.Duration(i) * time.Microsecond)
	}
	for _, q := range []float64{0.5, 0.99} {
		b.Run(fmt.Sprintf("q=%v", q), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.Quantile(q)
			}
		})
	}
}
