package refill

import (
	"math"
	"testing"
	"time"
)

// paceStep is a moment, and what Pace says in it.
type paceStep struct {
	at          time.Duration
	suffers     bool
	keys, bytes uint64 // that are spent
	wait        time.Duration
	factor      float64
}

const ms = time.Millisecond

var paces = []struct {
	name  string
	rate  Rate
	begin float64
	steps []paceStep
}{
	{"no bound", Rate{}, 1, []paceStep{{0, false, 1e9, 1e12, 0, 1}}},
	{"a tenth of a second's keys at once", Rate{Keys: 10_000}, 1, []paceStep{
		{0, false, 999, 0, 0, 1},
		{0, false, 1, 0, 1 * ms, 1},
		{1 * ms, false, 0, 0, 0, 1},
		{1 * ms, false, 10, 0, 1 * ms, 1},
		{10 * time.Second, false, 1000, 0, 1 * ms, 1},
	}},
	{"a slow rate", Rate{Keys: 2}, 1, []paceStep{
		{0, false, 1, 0, 500 * ms, 1},
		{300 * ms, false, 0, 0, 200 * ms, 1},
		{500 * ms, false, 0, 0, 0, 1},
	}},
	{"bytes are paid for afterwards", Rate{Bytes: 1e6}, 1, []paceStep{
		{0, false, 1, 100_000, 0, 1},
		{0, false, 1, 500_000, 500 * ms, 1},
		{500 * ms, false, 0, 0, 0, 1},
	}},
	{"the slower of both counts", Rate{Keys: 10, Bytes: 1e6}, 1, []paceStep{
		{0, false, 1, 100_000 + 50_000, 100 * ms, 1},
		{100 * ms, false, 0, 200_000, 150 * ms, 1},
	}},
	{"it gives way once a second", Rate{Keys: 100}, 1, []paceStep{
		{0, true, 0, 0, 0, 0.5},
		{500 * ms, true, 0, 0, 0, 0.5},
		{1000 * ms, true, 0, 0, 0, 0.25},
		{2000 * ms, true, 0, 0, 0, 0.125},
		{2000 * ms, false, 10, 0, 680 * ms, 0.125},
	}},
	{"it regains an eighth a second", Rate{Keys: 100}, 1, []paceStep{
		{0, true, 0, 0, 0, 0.5},
		{900 * ms, false, 0, 0, 0, 0.5},
		{2000 * ms, false, 0, 0, 0, 0.5625},
		{4000 * ms, false, 0, 0, 0, 0.7119140625},
		{9000 * ms, false, 0, 0, 0, 1},
		{10 * time.Second, true, 0, 0, 0, 0.5},
	}},
	{"it begins with a part", Rate{Keys: 100}, 0.25, []paceStep{
		{0, false, 0, 0, 0, 0.25},
		{1000 * ms, false, 0, 0, 0, 0.28125},
		{1000 * ms, true, 0, 0, 0, 0.140625},
		{3000 * ms, false, 0, 0, 0, 0.158203125},
	}},
	{"something is left", Rate{Keys: 32}, 1, []paceStep{
		{0, true, 0, 0, 0, 1. / 2}, {1000 * ms, true, 0, 0, 0, 1. / 4}, {2000 * ms, true, 0, 0, 0, 1. / 8},
		{3000 * ms, true, 0, 0, 0, 1. / 16}, {4000 * ms, true, 0, 0, 0, 1. / 32},
		{5000 * ms, true, 4, 0, 4000 * ms, 1. / 32},
	}},
}

func TestPace(t *testing.T) {
	for _, c := range paces {
		t.Run(c.name, func(t *testing.T) {
			p := NewPace(c.rate, c.begin, epoch)
			for i, s := range c.steps {
				now := epoch.Add(s.at)
				if s.suffers {
					p.Suffers(now)
				}
				p.Wait(now)
				p.Spend(s.keys, s.bytes)
				if got := p.Wait(now); (got - s.wait).Abs() > time.Microsecond {
					t.Errorf("step %d: wait %v, want %v", i, got, s.wait)
				}
				if got := p.Factor(); math.Abs(got-s.factor) > 1e-9 {
					t.Errorf("step %d: factor %v, want %v", i, got, s.factor)
				}
			}
		})
	}
}
