package failover

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/bench/load"
	"magent/bench/wire"
)

const ms = time.Millisecond

// steady is a read every ms for length, each answered well after 1 ms/2. what may make
// something else of it.
func steady(length time.Duration, what func(*load.Sample)) (all []load.Sample) {
	for due := time.Duration(0); due < length; due += ms {
		s := load.Sample{Due: due, Took: ms / 2, Op: wire.Get}
		if what != nil {
			what(&s)
		}
		all = append(all, s)
	}
	return all
}

func between(s *load.Sample, from, to time.Duration) bool { return s.Due >= from && s.Due < to }

func fault(at time.Duration) Mark {
	return Mark{Name: "kill", From: Millis(at), To: Millis(at + ms), Fails: true}
}

func comeback(at time.Duration) Mark {
	return Mark{Name: "restart", From: Millis(at - 10*ms), To: Millis(at), Returns: true}
}

// phase is the phase of that name, and a zero one if it did not take place.
func (r *Result) phase(name string) Phase {
	for _, p := range r.Phases {
		if p.Name == name {
			return p
		}
	}
	return Phase{}
}

func is(t *testing.T, what string, got Millis, want time.Duration) {
	t.Helper()
	if time.Duration(got) != want {
		t.Errorf("%s is %v, and should be %v", what, time.Duration(got), want)
	}
}

// A node dies after 1 s, and refuses; after 2 s it is back, and empty for 400 ms.
func TestOutage(t *testing.T) {
	o := Observation{Length: 4 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(2000 * ms)}}
	o.Samples = steady(o.Length, func(s *load.Sample) {
		switch {
		case s.Due == 999*ms:
			s.Took = 40 * ms // is under way when the fault strikes
		case s.Due == 1000*ms:
			s.Verdict, s.Took = load.Lost, 3*ms
		case between(s, 1001*ms, 2000*ms):
			s.Verdict = load.Failed
		case between(s, 2000*ms, 2400*ms):
			s.Verdict = load.Miss
		}
	})
	r := Analyse(o)
	is(t, "the fault", r.Fault, 1000*ms)
	is(t, "the return", r.Back, 2000*ms)
	is(t, "the first error", r.FirstError, 1*ms+ms/2)
	is(t, "the last error", r.LastError, 999*ms+ms/2)
	is(t, "the first good answer", r.FirstGood, 1400*ms+ms/2)
	is(t, "warm", r.WarmAfter, 399*ms)
	// The one that was under way was the last good answer, 39 ms after the fault.
	is(t, "the gap", r.Gap, 2400*ms+ms/2-1039*ms)
	is(t, "the gap's begin", r.GapAt, 1039*ms)
	is(t, "the slowest", r.Slowest.Took, 40*ms)
	is(t, "the last error since the return", r.LastErrorBack, -1)
	for _, want := range []struct {
		name              string
		from, to          time.Duration
		requests          int
		good, miss        int
		failed, lost, hit int
	}{
		{"before", 0, 1000 * ms, 999, 999, 0, 0, 0, 999},
		{"down", 1000 * ms, 2000 * ms, 1001, 1, 0, 999, 1, 1},
		{"back", 2000 * ms, 2399 * ms, 399, 0, 399, 0, 0, 0},
		{"warm", 2399 * ms, 4000 * ms, 1601, 1600, 1, 0, 0, 1600},
	} {
		p := r.phase(want.name)
		if p.From != Millis(want.from) || p.To != Millis(want.to) || p.Requests != want.requests || p.Good != want.good || p.Misses != want.miss ||
			p.Failed != want.failed || p.Lost != want.lost || p.Hits != want.hit || p.Reads.Reads != want.requests {
			t.Errorf("%s is %+v, and should be %+v", want.name, p, want)
		}
	}
	if r.Total.Requests != 4000 || r.Total.Errors() != 1000 || r.Total.Misses != 400 {
		t.Errorf("in total %+v", r.Total)
	}
	if rate := r.phase("before").Rate; math.Abs(rate-999) > 0.1 {
		t.Errorf("the rate before is %v", rate)
	}
}

// What nobody notices leaves no trace: no error, no gap but that of one answer, and it
// is warm at once.
func TestNothingNoticed(t *testing.T) {
	o := Observation{Samples: steady(3*time.Second, nil), Length: 3 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(2000 * ms)}}
	r := Analyse(o)
	is(t, "the first error", r.FirstError, -1)
	is(t, "the last error", r.LastError, -1)
	is(t, "the first good answer", r.FirstGood, ms/2)
	is(t, "the gap", r.Gap, ms/2)
	is(t, "warm", r.WarmAfter, 0)
	if len(r.Phases) != 3 || r.phase("warm").Requests != 1000 {
		t.Errorf("phases: %+v", r.Phases)
	}
	if err := r.Check(Bounds{MaxGap: ms}); err != nil {
		t.Error(err)
	}
}

// Without a fault all is before it, and the gap and the slowest are of all of it.
func TestNoFault(t *testing.T) {
	o := Observation{Length: time.Second, Samples: steady(time.Second, func(s *load.Sample) {
		if s.Due == 300*ms {
			s.Took = 20 * ms
		}
		if between(s, 301*ms, 310*ms) {
			s.Took = 310*ms - s.Due
		}
	})}
	r := Analyse(o)
	is(t, "the fault", r.Fault, -1)
	is(t, "the first good answer", r.FirstGood, -1)
	is(t, "the gap", r.Gap, 10*ms)
	is(t, "the gap's begin", r.GapAt, 300*ms)
	is(t, "the slowest", r.Slowest.Took, 20*ms)
	if len(r.Phases) != 1 || r.Phases[0].Requests != 1000 || r.Phases[0].Counts != r.Total.Counts {
		t.Errorf("phases: %+v", r.Phases)
	}
}

// Who never recovers has no answer until the end, and is never warm.
func TestNeverBack(t *testing.T) {
	o := Observation{Length: 3 * time.Second, Marks: []Mark{fault(1000 * ms)}, Samples: steady(3*time.Second, func(s *load.Sample) {
		if s.Due >= 1000*ms {
			s.Verdict = load.Failed
		}
	})}
	r := Analyse(o)
	is(t, "the return", r.Back, -1)
	is(t, "the first good answer", r.FirstGood, -1)
	is(t, "the last error", r.LastError, 1999*ms+ms/2)
	is(t, "the last error since the return", r.LastErrorBack, -1)
	is(t, "the gap", r.Gap, 2000*ms)
	is(t, "warm", r.WarmAfter, -1)
	if len(r.Phases) != 2 || r.phase("down").To != r.Length {
		t.Errorf("phases: %+v", r.Phases)
	}
	// The same if it is back, and answers no better.
	o.Marks = append(o.Marks, comeback(2000*ms))
	r = Analyse(o)
	is(t, "warm", r.WarmAfter, -1)
	is(t, "the last error since the return", r.LastErrorBack, 999*ms+ms/2)
	if p := r.phase("back"); p.Requests != 1000 || p.To != r.Length {
		t.Errorf("back: %+v", p)
	}
	// A return that failed is none.
	o.Marks[1].To, o.Marks[1].Error = Never, "no such file"
	is(t, "the return that failed", Analyse(o).Back, -1)
}

// Errors from the very start are counted before the fault, and what was there before is
// all that may be asked for after.
func TestErrorsFromTheStart(t *testing.T) {
	o := Observation{Length: 3 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(2000 * ms)}, Samples: steady(3*time.Second, func(s *load.Sample) {
		s.Verdict = load.Lost
	})}
	r := Analyse(o)
	if p := r.phase("before"); p.Errors() != 1000 || p.Rate != 0 {
		t.Errorf("before: %+v", p)
	}
	is(t, "the first error", r.FirstError, ms/2)
	is(t, "the gap", r.Gap, 3*time.Second)
	is(t, "the gap's begin", r.GapAt, 0)
	is(t, "warm", r.WarmAfter, 0)
}

// Nothing at all, and nothing but writes.
func TestNothingMeasured(t *testing.T) {
	for _, o := range []Observation{{}, {Length: time.Second}, {Length: time.Second, Marks: []Mark{fault(100 * ms), comeback(200 * ms)}}} {
		r := Analyse(o)
		is(t, "the gap", r.Gap, 0)
		is(t, "the slowest", r.Slowest.Took, -1)
		is(t, "warm", r.WarmAfter, -1)
		is(t, "p99", r.Total.Latency.P99, -1)
		for _, b := range r.Timeline {
			is(t, "p99 of a bin", b.P99, -1)
		}
		if want := int(o.Length / binWidth); len(r.Timeline) != want {
			t.Errorf("%d bins in %v", len(r.Timeline), o.Length)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	}
	o := Observation{Length: time.Second, Marks: []Mark{fault(100 * ms), comeback(200 * ms)}, Samples: steady(time.Second, func(s *load.Sample) { s.Op = wire.Set })}
	r := Analyse(o)
	is(t, "warm", r.WarmAfter, -1)
	if !math.IsNaN(r.Total.Ratio()) {
		t.Errorf("the hit ratio of no reads is %v", r.Total.Ratio())
	}
}

// A node that is frozen gives no error. All that was asked of it is answered when it
// thaws, and latency counts from when it was due.
func TestFreeze(t *testing.T) {
	o := Observation{Length: 3 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(1500 * ms)}, Samples: steady(3*time.Second, func(s *load.Sample) {
		if between(s, 1000*ms, 1500*ms) {
			s.Took = 1502*ms - s.Due
		}
	})}
	r := Analyse(o)
	is(t, "the first error", r.FirstError, -1)
	is(t, "the first good answer", r.FirstGood, 500*ms+ms/2) // of what was due when it thawed
	is(t, "the gap", r.Gap, 500*ms+ms/2)
	is(t, "the gap's begin", r.GapAt, 1000*ms)
	is(t, "the slowest", r.Slowest.Took, 502*ms)
	is(t, "warm", r.WarmAfter, 0)
	is(t, "p50 while down", r.phase("down").Latency.P50, 252*ms)
	for _, b := range r.Timeline {
		switch {
		case b.At >= Millis(1000*ms) && b.At < Millis(1500*ms):
			if b.Good != 0 || b.Reads.Reads != 100 || b.Slowest != Millis(1502*ms)-b.At {
				t.Errorf("bin %v: %+v", b.At, b)
			}
		case b.At == Millis(1500*ms):
			if b.Good != 600 || b.Reads.Reads != 100 {
				t.Errorf("the bin of the thaw: %+v", b)
			}
		case b.Good != 100 || b.Hits != 100:
			t.Errorf("bin %v: %+v", b.At, b)
		}
	}
}

// What the generator itself was held up is taken off latencies and gaps, once, however
// stalls overlap.
func TestStalls(t *testing.T) {
	o := Observation{Length: 2 * time.Second, Marks: []Mark{fault(500 * ms)}, Samples: steady(2*time.Second, func(s *load.Sample) {
		if between(s, 1000*ms, 1040*ms) {
			s.Took = 1041*ms - s.Due
		}
	})}
	o.Stalls = []load.Stall{{From: 1020 * ms, To: 1030 * ms}, {From: 1000 * ms, To: 1025 * ms}, {From: 1005 * ms, To: 1010 * ms}, {From: 1035 * ms, To: 1040 * ms}}
	stalls := slices.Clone(o.Stalls)
	r := Analyse(o)
	if !slices.Equal(stalls, o.Stalls) {
		t.Error("the observation was changed")
	}
	p := r.phase("down")
	is(t, "the slowest, from when it was due", p.Latency.Slowest, 41*ms)
	is(t, "the slowest", p.Net.Slowest, 5*ms)
	is(t, "the slowest of all", r.Slowest.Took, 5*ms)
	is(t, "the gap", r.Gap, 5*ms) // from 1030 to 1035 ms
	is(t, "the gap with stalls", r.GapWhole, 40*ms+ms/2)
	is(t, "the longest stall", r.LongestStall, 30*ms)
	if r.Stalls != 2 {
		t.Errorf("%d stalls", r.Stalls)
	}
}

// Of a wait only the stalls at its ends are the generator's part.
func TestNet(t *testing.T) {
	held := newStalls([]load.Stall{{From: 10, To: 20}, {From: 22, To: 30}, {From: 100, To: 110}, {From: 200, To: 300}})
	for _, c := range []struct {
		from, to, want time.Duration
		why            string
	}{
		{0, 5, 5, "no stall"},
		{0, 10, 10, "it ends where a stall begins"},
		{31, 90, 59, "between stalls"},
		{15, 18, 0, "within a stall"},
		{10, 20, 0, "a stall from end to end"},
		{15, 21, 1, "due in a stall, and answered soon after"},
		{25, 95, 65, "due in a stall, and answered long after"},
		{5, 15, 5, "answered in a stall"},
		{5, 21, 5, "answered right after a stall"},
		{5, 33, 5, "right after two, one after the other"},
		{5, 39, 34, "long after both"},
		{50, 115, 50, "right after one"},
		{50, 121, 71, "later after it than it lasted"},
		{50, 250, 150, "one in the middle made it no longer"},
		{105, 305, 90, "due in one, and answered after another"},
		{205, 299, 0, "due and answered in the same"},
	} {
		if got := held.net(c.from, c.to); got != c.want {
			t.Errorf("%s: %d to %d is %d, and should be %d", c.why, c.from, c.to, got, c.want)
		}
	}
	if got := stalls(nil).net(3, 9); got != 6 {
		t.Errorf("without stalls: %d", got)
	}
}

// What the schedule explains is no gap: nothing was asked for.
func TestSilenceIsNoGap(t *testing.T) {
	o := Observation{Length: 3 * time.Second, Marks: []Mark{fault(500 * ms)}, Samples: steady(3*time.Second, nil)}
	o.Samples = slices.DeleteFunc(o.Samples, func(s load.Sample) bool { return between(&s, 1000*ms, 2000*ms) })
	is(t, "the gap", Analyse(o).Gap, ms/2)
	// But if one is waited for meanwhile, it is.
	o.Samples = append(o.Samples, load.Sample{Due: 1200 * ms, Took: 700 * ms, Op: wire.Get, Verdict: load.Failed})
	r := Analyse(o)
	is(t, "the gap", r.Gap, 2000*ms+ms/2-1200*ms)
	is(t, "the gap's begin", r.GapAt, 1200*ms)
}

// A gap that was over before the fault is none of its making.
func TestGapBeforeTheFault(t *testing.T) {
	slow := func(at time.Duration) []load.Sample {
		return steady(2*time.Second, func(s *load.Sample) {
			if between(s, at, at+50*ms) {
				s.Took = at + 50*ms + ms/2 - s.Due
			}
		})
	}
	o := Observation{Length: 2 * time.Second, Marks: []Mark{fault(1000 * ms)}}
	o.Samples = slow(500 * ms)
	is(t, "one before", Analyse(o).Gap, ms/2)
	o.Samples = slow(980 * ms)
	is(t, "one that spans it", Analyse(o).Gap, 50*ms+ms/2)
}

// The hit ratio is compared with what it was, and chance is allowed for: it is warm
// once nothing but chance differs, and not at the first good moment.
func TestWarm(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	miss := func(s *load.Sample, share float64) {
		if rng.Float64() < share {
			s.Verdict = load.Miss
		}
	}
	for _, c := range []struct {
		name     string
		usual    float64 // the share of misses when all is well
		cold     func(since time.Duration) float64
		from, to time.Duration
	}{
		{"never cold, no misses", 0, func(time.Duration) float64 { return 0 }, 0, 0},
		{"never cold, some misses", 0.1, func(time.Duration) float64 { return 0.1 }, 0, 0},
		{"cold for 1 s", 0, func(d time.Duration) float64 { return map[bool]float64{true: 0.5}[d < time.Second] }, 980 * ms, 1000 * ms},
		{"cold for 1 s beside some misses", 0.1, func(d time.Duration) float64 { return map[bool]float64{true: 0.8, false: 0.1}[d < time.Second] }, 980 * ms, 1000 * ms},
		{"cold, warm and cold again", 0, func(d time.Duration) float64 {
			return map[bool]float64{true: 0.9}[d < 200*ms || d > 700*ms && d < 800*ms]
		}, 780 * ms, 800 * ms},
		{"cold until the end", 0, func(time.Duration) float64 { return 0.5 }, -1, -1},
	} {
		o := Observation{Length: 5 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(2000 * ms)}, Samples: steady(5*time.Second, func(s *load.Sample) {
			switch {
			case s.Due < 1000*ms:
				miss(s, c.usual)
			case s.Due < 2000*ms:
				s.Verdict = load.Failed
			default:
				miss(s, c.cold(s.Due-2000*ms))
			}
		})}
		if got := time.Duration(Analyse(o).WarmAfter); got < c.from || got > c.to {
			t.Errorf("%s: warm after %v, and should be between %v and %v", c.name, got, c.from, c.to)
		}
	}
}

// Two nodes come back one after the other: the first ends the fault, the first that
// fails begins it.
func TestSeveralMarks(t *testing.T) {
	o := Observation{Length: 3 * time.Second, Samples: steady(3*time.Second, nil),
		Marks: []Mark{fault(1000 * ms), fault(1001 * ms), comeback(2000 * ms), comeback(2500 * ms)}}
	r := Analyse(o)
	is(t, "the fault", r.Fault, 1000*ms)
	is(t, "the return", r.Back, 2000*ms)
}

// What comes back when nothing is due any more is no return, and makes no phase longer.
func TestBackTooLate(t *testing.T) {
	o := Observation{Length: 2 * time.Second, Samples: steady(2*time.Second, nil), Marks: []Mark{fault(1000 * ms), comeback(7000 * ms)}}
	r := Analyse(o)
	if down := r.phase("down"); down.To != Millis(o.Length) || down.Rate != 1000 || r.Back != Never || len(r.Phases) != 2 {
		t.Errorf("back at %v, down: %+v, %d phases", r.Back, down, len(r.Phases))
	}
	o.Marks[1] = comeback(o.Length)
	is(t, "the return at the very end", Analyse(o).Back, o.Length)
}

// Every bound that is passed is named, with the numbers.
func TestBounds(t *testing.T) {
	o := Observation{Length: time.Second, Marks: []Mark{fault(100 * ms)}, Samples: steady(time.Second, func(s *load.Sample) {
		if between(s, 200*ms, 205*ms) {
			s.Verdict = load.Miss + load.Verdict((s.Due-200*ms)/ms)
		}
	})}
	r := Analyse(o)
	r.Unsent = 3
	free := Bounds{MaxErrors: Unbounded, MaxMiss: Unbounded, MaxStale: Unbounded, MaxWrong: Unbounded, MaxGap: Unbounded}
	if err := r.Check(free); err != nil {
		t.Errorf("no bounds: %v", err)
	}
	if err := r.Check(Bounds{MaxErrors: 5, MaxMiss: 1, MaxStale: 1, MaxWrong: 1, MaxGap: time.Duration(r.Gap)}); err != nil {
		t.Errorf("bounds that hold: %v", err)
	}
	err := r.Check(Bounds{})
	if err == nil {
		t.Fatal("no bound is passed")
	}
	for _, want := range []string{"5 errors, and at most 0", "1 misses", "1 stale", "1 wrong", "no good answer for 5.5 ms, and at most 0.0 ms"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	only := free
	only.MaxStale = 0
	if err := r.Check(only); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("one bound: %v", err)
	}
}

// The slowest read and the slowest error are told apart from the slowest, and what is
// due after the fault has had its time to be noticed from what is due before.
func TestSettled(t *testing.T) {
	o := Observation{Length: 2 * time.Second, Settle: 300 * ms, Marks: []Mark{fault(1000 * ms)}}
	o.Samples = steady(o.Length, func(s *load.Sample) {
		switch s.Due {
		case 500 * ms:
			s.Took = 90 * ms // before the fault: nobody's
		case 1100 * ms:
			s.Op, s.Took = wire.Set, 70*ms
		case 1200 * ms:
			s.Took = 40 * ms
		case 1210 * ms:
			s.Verdict, s.Took = load.Failed, 30*ms
		case 1300 * ms:
			s.Op, s.Took = wire.Set, 20*ms
		case 1400 * ms:
			s.Took = 10 * ms
		}
	})
	r := Analyse(o)
	is(t, "the slowest", r.Slowest.Took, 70*ms)
	is(t, "the slowest read", r.SlowestRead.Took, 40*ms)
	is(t, "the slowest error", r.SlowestError, 30*ms)
	is(t, "the slowest once settled", r.Settled.Slowest, 20*ms)
	is(t, "the slowest read once settled", r.SettledReads.Slowest, 10*ms)
	is(t, "the 99th percentile of them", r.SettledReads.P99, ms/2)
}
