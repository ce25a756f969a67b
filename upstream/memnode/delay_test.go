package memnode

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestDelayLaws compares draws with what the textbook says of each law.
func TestDelayLaws(t *testing.T) {
	const draws, ms = 200_000, float64(time.Millisecond)
	for _, tc := range []struct {
		d                  Delay
		mean, median       float64 // ms
		least, most, p99   float64
		withinPart, inPart float64 // of the above, and of least and most
	}{
		{Delay{A: 3e6, B: 3e6}, 3, 3, 3, 3, 3, 0, 0},
		{Delay{A: 1e6, B: 5e6}, 3, 3, 1, 5, 4.96, 0.02, 0.01},
		{Delay{Law: expo, A: 5e6}, 5, 5 * math.Ln2, 0, 5 * math.Log(1e4), 5 * math.Log(100), 0.02, 0.2},
		{Delay{Law: normal, A: 50e6, B: 5e6}, 50, 50, 50 - 5*4.9, 50 + 5*3.72, 50 + 5*2.326, 0.01, 0.1},
		{Delay{Law: normal, A: 0, B: 5e6}, 5 / math.Sqrt(2*math.Pi), 0, 0, 5 * 3.72, 5 * 2.326, 0.02, 0.1},
		{Delay{Law: pareto, A: 2e6, Shape: 2.5}, 2 * 2.5 / 1.5, 2 * math.Pow(2, 1/2.5), 2, 2 * math.Pow(1e4, 1/2.5), 2 * math.Pow(100, 1/2.5), 0.02, 0.3},
	} {
		t.Run(tc.d.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			x, sum := make([]float64, draws), 0.0
			for i := range x {
				x[i] = float64(tc.d.draw(r)) / ms
				sum += x[i]
			}
			slices.Sort(x)
			near := func(what string, got, want, part float64) {
				if math.Abs(got-want) > part*max(want, 1) {
					t.Errorf("the %s is %.3f ms, want %.3f", what, got, want)
				}
			}
			near("mean", sum/draws, tc.mean, tc.withinPart)
			near("median", x[draws/2], tc.median, tc.withinPart)
			near("99th percentile", x[draws*99/100], tc.p99, tc.withinPart)
			near("least", x[0], tc.least, tc.inPart)
			near("most", x[draws-1], tc.most, tc.inPart)
			if x[draws-1] > tc.most*1.001 {
				t.Errorf("the most is %.3f ms, which is beyond the bound %.3f", x[draws-1], tc.most)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 1))
	wild := Delay{Law: pareto, A: time.Hour, Shape: 1e-9}
	for range 100 {
		if d := wild.draw(r); d < time.Hour || d > maxDelay {
			t.Fatalf("%v draws %v", wild, d)
		}
	}
}
