package latency

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// placeTwin is place by looking at every end.
func placeTwin(d time.Duration) int {
	seconds := float64(d) / float64(time.Second)
	for i := range Buckets {
		if seconds <= End(i) {
			return i
		}
	}
	return Buckets - 1
}

func TestHistogramPlacesAsItsTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	samples := []time.Duration{0, 1, 999, time.Second, 2 * time.Second, time.Second / 1024, 64 * time.Second, 64*time.Second + 1, time.Hour}
	for i := range Buckets {
		end := time.Duration(End(i) * float64(time.Second))
		samples = append(samples, max(end-1, 0), end, end+1)
	}
	for range 20000 {
		samples = append(samples, time.Duration(r.Int64N(1<<r.IntN(40)+1)))
	}
	for _, d := range samples {
		if got, want := place(d), placeTwin(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}

func TestHistogramSums(t *testing.T) {
	var a, b Histogram
	a.Record(ms, 3)
	a.Record(time.Minute, 1)
	b.Record(ms, 2)
	b.Record(-ms, 1)
	a.Add(&b)
	if a.Count() != 7 || a.Sum != time.Minute+5*ms {
		t.Errorf("%d samples of %v", a.Count(), a.Sum)
	}
	if n := a.Counts[place(ms)]; n != 5 {
		t.Errorf("%d samples of 1 ms", n)
	}
	if i := slices.IndexFunc(a.Counts[:], func(n uint64) bool { return n > 0 }); i != 0 {
		t.Errorf("what took no time is in bucket %d", i)
	}
	if End(-first*perPower-1) != 1 || Index(-first*perPower-1) != 0 {
		t.Error("no bucket ends at a second")
	}
	if End(0) < 1e-6 || End(Buckets-1) != 64 {
		t.Errorf("from %v to %v s", End(0), End(Buckets-1))
	}
}

func TestHistogramRecordsWithoutAllocating(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Record(ms, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHistogram(b *testing.B) {
	var h Histogram
	d := time.Duration(0)
	for b.Loop() {
		d = (d + 12345) & (1<<24 - 1)
		h.Record(d, 1)
	}
}
