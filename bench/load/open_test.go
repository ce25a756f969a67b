package load

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/wire"
)

// gaps are the distances between the arrivals of a second at each of cfg's connections,
// and the first arrivals.
func gaps(cfg Config) (gaps []float64, firsts []int64, perConn []int) {
	for i := range cfg.Threads {
		from, to := cfg.connsOf(i)
		conns := to - from
		last := make([]int64, conns)
		count := make([]int, conns)
		for a := newSchedule(&cfg, i)[0]; a.next < int64(time.Second); a.advance() {
			if count[a.conn]++; count[a.conn] > 1 {
				gaps = append(gaps, float64(a.next-last[a.conn]))
			} else {
				firsts = append(firsts, a.next)
			}
			last[a.conn] = a.next
		}
		perConn = append(perConn, count...)
	}
	return gaps, firsts, perConn
}

// moments are the mean and the variance of v.
func moments(v []float64) (mean, variance float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		variance += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, variance
}

func TestEvenArrivals(t *testing.T) {
	for _, cfg := range []Config{
		{Rate: 1000, Conns: 1, Threads: 1}, {Rate: 1000, Conns: 10, Threads: 1}, {Rate: 7000, Conns: 7, Threads: 3}, {Rate: 3, Conns: 2, Threads: 2},
	} {
		all, firsts, perConn := gaps(cfg)
		want := 1e9 * float64(cfg.Conns) / cfg.Rate
		for _, gap := range all {
			if math.Abs(gap-want) > 1 {
				t.Fatalf("%v: a gap of %v ns, want %v", cfg, gap, want)
			}
		}
		seen := map[int64]bool{}
		for _, first := range firsts {
			if seen[first] || float64(first) >= want {
				t.Errorf("%v: a connection begins at %d ns, with another or after its first gap", cfg, first)
			}
			seen[first] = true
		}
		for _, n := range perConn {
			if float64(n) < cfg.Rate/float64(cfg.Conns)-1 || float64(n) > cfg.Rate/float64(cfg.Conns)+1 {
				t.Errorf("%v: %d arrivals at a connection in a second, want %v", cfg, n, cfg.Rate/float64(cfg.Conns))
			}
		}
	}
}

// However seldom they are, arrivals come one after the other, and not before their time.
func TestSeldomArrivals(t *testing.T) {
	for _, rate := range []float64{1e-3, 1e-12, math.SmallestNonzeroFloat64} {
		for _, arrivals := range []Arrivals{Even, Poisson} {
			a := newArrivals(&Config{Threads: 2, Arrivals: arrivals}, 1, rate, 0, 3)
			for last := int64(0); a.n < 20 && last < farthest; a.advance() {
				if a.next < last || a.next > farthest {
					t.Fatalf("%v at %v a second: %d after %d", arrivals, rate, a.next, last)
				}
				last = a.next
			}
		}
	}
	// Nor do the last of a long run drift: the ten thousand millionth of a million a
	// second comes after ten thousand seconds.
	a := newArrivals(&Config{Threads: 1}, 0, 1e6, 0, 1)
	a.n = 1e10 - 1
	if a.advance(); a.next != 1e13 {
		t.Errorf("the last is due at %d, want 1e13", a.next)
	}
}

// The gaps of a Poisson process are exponential: their variance is the square of their
// mean. So are they at each connection, and one seed gives one schedule.
func TestPoissonArrivals(t *testing.T) {
	for seed := range uint64(20) {
		cfg := Config{Rate: 20000, Conns: 8, Threads: 3, Arrivals: Poisson, Seed: seed}
		all, _, perConn := gaps(cfg)
		mean, variance := moments(all)
		if want := 1e9 * 8 / 20000.0; math.Abs(mean/want-1) > 0.05 || math.Abs(variance/(want*want)-1) > 0.15 {
			t.Errorf("seed %d: mean %v, variance %v, want %v and its square %v", seed, mean, variance, want, want*want)
		}
		for _, n := range perConn { // 2500 give or take 50
			if n < 2250 || n > 2750 {
				t.Errorf("seed %d: %d arrivals at a connection, want 2500", seed, n)
			}
		}
		if again, _, _ := gaps(cfg); len(again) != len(all) || again[len(again)-1] != all[len(all)-1] {
			t.Errorf("seed %d: another schedule the second time", seed)
		}
		cfg.Seed += 100
		if other, _, _ := gaps(cfg); len(other) == len(all) && other[0] == all[0] {
			t.Errorf("seeds %d and %d: the same schedule", seed, cfg.Seed)
		}
	}
}

// Where only some write, reads and writes are as many as the mix says, evenly dealt,
// whichever threads have the connections; a cas is two requests of a writer.
func TestArrivalsOfWriters(t *testing.T) {
	mix := Mix{wire.Get: 6, wire.Gets: 1, wire.Set: 1, wire.CAS: 1}
	for _, arrivals := range []Arrivals{Even, Poisson} {
		for threads := 1; threads <= 6; threads++ {
			cfg := Config{Rate: 10000, Conns: 6, Writers: 2, Threads: threads, Mix: mix, Arrivals: arrivals}
			count, due := make([]int, cfg.Conns), int64(0)
			for i := range threads {
				from, _ := cfg.connsOf(i)
				s := newSchedule(&cfg, i)
				for due = 0; s.next().next < int64(time.Second); s.next().advance() {
					if s.next().next < due {
						t.Fatalf("%v, %d threads: %d comes after %d", arrivals, threads, s.next().next, due)
					}
					due = s.next().next
					count[from+s.next().conn]++
				}
			}
			for no, n := range count {
				want, chance := []int{1750, 1750, 1750, 1750, 1500, 1500}[no], 1
				if arrivals == Poisson {
					chance = 200 // about five standard deviations
				}
				if diff := n - want; max(diff, -diff) > chance {
					t.Errorf("%v, %d threads: %d arrivals at connection %d, want %d", arrivals, threads, n, no, want)
				}
			}
		}
	}
}

// A get waits for no write where only some connections write: here no write is answered,
// and every get.
func TestReadsDoNotWaitForWriters(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		if c.words[0] == "set" {
			return "", nil
		}
		return c.reply, nil
	})
	called := time.Now()
	rep, err := Run(t.Context(), Config{
		Targets: []string{tg.addr}, Conns: 4, Writers: 1, Threads: 2, Rate: 2000, Mix: Mix{wire.Get: 9, wire.Set: 1},
		Duration: 200 * time.Millisecond, Timeout: 200 * time.Millisecond,
	})
	if err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("writes are never answered: %v", err)
	}
	if gets, sets := tg.count("get"), tg.count("set"); rep.Requests != gets || gets < 357 || gets > 363 || sets < 39 || sets > 41 {
		t.Errorf("%d requests were answered; %d gets and %d sets were served, want 360 and 40", rep.Requests, gets, sets)
	}
	if rep.Began.Before(called) || time.Since(rep.Began) < 200*time.Millisecond {
		t.Errorf("called at %v, began at %v", called, rep.Began)
	}
}

// Whatever the target and the machine do, what is due is sent, all of it and no more,
// in the time measured.
func TestOpenLoopSendsItsRate(t *testing.T) {
	for _, cfg := range []Config{
		{Conns: 4, Rate: 2000, Duration: 300 * time.Millisecond},
		{Conns: 4, Rate: 2000, Duration: 200 * time.Millisecond, Warmup: 100 * time.Millisecond, Threads: 2},
		{Conns: 3, Rate: 1000, Duration: 200 * time.Millisecond, Pipeline: 1, ReopenEvery: 7},
		{Conns: 2, Rate: 3000, Duration: time.Minute, Requests: 333},
	} {
		tg := startTarget(t, nil)
		cfg.Targets, cfg.Samples = []string{tg.addr}, true
		rep := mustRun(t, cfg)
		want := int64(cfg.Rate * cfg.Duration.Seconds())
		if cfg.Requests > 0 {
			want = cfg.Requests
		}
		if diff := rep.Requests + rep.Unsent - want; max(diff, -diff) > int64(cfg.Conns) {
			t.Errorf("%+v: %d requests, %d unsent, want %d", cfg, rep.Requests, rep.Unsent, want)
		}
		if served := tg.count("get"); cfg.Pipeline == 0 && rep.Unsent != 0 || rep.Errors != 0 || cfg.Warmup == 0 && served != rep.Requests {
			t.Errorf("%+v: %d unsent, %d errors, %d served", cfg, rep.Unsent, rep.Errors, served)
		}
		if rep.Target != cfg.Rate || rep.Hist.TotalCount() != rep.Requests || int64(len(rep.Samples)) != rep.Requests {
			t.Errorf("%+v: target %v, %d latencies, %d samples", cfg, rep.Target, rep.Hist.TotalCount(), len(rep.Samples))
		}
		for i, s := range rep.Samples {
			if s.Due < 0 || s.Due >= cfg.Duration || i > 0 && s.Due < rep.Samples[i-1].Due || s.Took <= 0 || s.Verdict != Miss || s.Op != wire.Get {
				t.Fatalf("%+v: sample %d is %+v", cfg, i, s)
			}
		}
	}
}

// A target that never answers gets what fits into the pipeline. The rest waits, and was
// not sent in the end.
func TestOpenLoopHoldsBack(t *testing.T) {
	tg := startTarget(t, func(call) (string, error) { return "", nil })
	rep, err := Run(t.Context(), Config{
		Targets: []string{tg.addr}, Conns: 2, Rate: 2000, Pipeline: 4, Duration: 100 * time.Millisecond, Timeout: time.Second,
	})
	if err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("a silent target: %v", err)
	}
	if served := tg.count("get"); served != 8 || rep.Requests != 0 || rep.Unsent < 200-8-2 || rep.Unsent > 200-8+2 {
		t.Errorf("%d served, %d requests, %d unsent; want 8, 0, 192", served, rep.Requests, rep.Unsent)
	}
}

// Connections that are lost for good leave unsent what was theirs to send.
func TestOpenLoopCountsWhatLostConnectionsLeave(t *testing.T) {
	var hungUp atomic.Int32
	tg := startTarget(t, func(c call) (string, error) {
		if c.n == 10 && hungUp.Add(1) == 1 {
			return "", errHangUp
		}
		return c.reply, nil
	})
	rep := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 4, Rate: 2000, Pipeline: 1, Duration: 200 * time.Millisecond})
	if rep.Lost != 1 || rep.Errors != 1 || rep.Unsent < 89 {
		t.Errorf("lost %d, errors %d, unsent %d; want 1, 1, 90", rep.Lost, rep.Errors, rep.Unsent)
	}
	if sum := rep.Requests + rep.Errors + rep.Unsent; sum < 396 || sum > 404 {
		t.Errorf("%d requests, %d errors and %d unsent are %d, want 400", rep.Requests, rep.Errors, rep.Unsent, sum)
	}
}

// frozen runs all cfgs at a time against a real memcached that stands still for 100 ms
// in mid-run, until they are interrupted.
func frozen(t *testing.T, cfgs ...Config) []*Report {
	t.Helper()
	p, err := process.Memcached(t.Context(), process.MemcachedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls := 0
	cfgs[0].Progress = func(pr Progress) {
		if pr.Phase != "measure" || pr.Requests == 0 || pr.Rate <= 0 || pr.Left < 50*time.Minute || pr.Elapsed <= 0 || pr.P99 < pr.P50 || pr.P50 <= 0 {
			t.Errorf("progress %+v", pr)
		}
		if calls++; calls > 1 {
			cancel()
			return
		}
		if err := p.Freeze(); err != nil {
			t.Error(err)
		}
		<-time.After(100 * time.Millisecond)
		if err := p.Thaw(); err != nil {
			t.Error(err)
		}
	}
	reports := make([]*Report, len(cfgs))
	var wg sync.WaitGroup
	for i, cfg := range cfgs {
		cfg.Targets, cfg.Duration, cfg.Samples = []string{p.Addr}, time.Hour, true
		wg.Go(func() {
			var err error
			if reports[i], err = Run(ctx, cfg); !errors.Is(err, context.Canceled) {
				t.Errorf("the run ended with %v", err)
			}
		})
	}
	wg.Wait()
	return reports
}

// slower counts the samples that took so long.
func slower(rep *Report, than time.Duration) (n int) {
	for _, s := range rep.Samples {
		if s.Took >= than {
			n++
		}
	}
	return n
}

// An open loop shows a target's stall to all who would have come meanwhile; a closed
// loop with one connection shows it once, however long it was.
func TestOpenLoopShowsAStall(t *testing.T) {
	reports := frozen(t, Config{Conns: 4, Rate: 1000}, Config{Conns: 1})
	open, closed := reports[0], reports[1]
	if ms := open.Latency.Max / 1000; ms < 90 {
		t.Errorf("open loop: the slowest took %v ms, want 90 at least", ms)
	}
	// Of the 100 that were due meanwhile, those of the first half waited that long.
	n := slower(open, 50*time.Millisecond)
	if n < 45 {
		t.Errorf("open loop: %d requests took 50 ms or more, want 45 at least", n)
	}
	if ms := closed.Latency.Max / 1000; ms < 90 {
		t.Errorf("closed loop: the slowest took %v ms, want 90 at least", ms)
	}
	if m := slower(closed, 50*time.Millisecond); m < 1 || m > n/8 {
		t.Errorf("closed loop: %d requests took 50 ms or more, want 1, and far fewer than the open loop's %d", m, n)
	}
	if len(closed.Stalls) != 0 || !open.Interrupted || !closed.Interrupted {
		t.Errorf("a closed loop has stalls: %v; interrupted: %v, %v", closed.Stalls, open.Interrupted, closed.Interrupted)
	}
}

// What is late because the generator did not run is told as its own stall.
func TestStallsOfTheGenerator(t *testing.T) {
	cfg := Config{Targets: []string{"x:1"}, Conns: 1, Rate: 1000, Requests: 1}.withDefaults()
	s := newShared(cfg)
	w := newWorker(s, 0, -1)
	w.schedule = newSchedule(&cfg, 0)
	w.add(0, -1, nil)
	w.conns[0].state = opening // so that nothing is sent
	ms := int64(time.Millisecond)
	for _, now := range []int64{0, ms / 2, ms + ms/2, 2 * ms, 10 * ms, 12 * ms, 13 * ms, 15*ms + ms/2} {
		w.arrive(now)
	}
	want := []Stall{
		{3 * time.Millisecond, 10 * time.Millisecond},
		{11 * time.Millisecond, 12 * time.Millisecond},
		{14 * time.Millisecond, 15*time.Millisecond + 500*time.Microsecond},
	}
	if !slices.Equal(w.stalls, want) {
		t.Errorf("stalls %v, want %v", w.stalls, want)
	}
	if w.waiting != 16 || w.conns[0].late.len() != 16 {
		t.Errorf("%d wait, want 16", w.waiting)
	}
	rep := collect(s, []*worker{w})
	if rep.WorstStall != 7000 || rep.Unsent != 16 {
		t.Errorf("worst stall %v µs, unsent %d; want 7000, 16", rep.WorstStall, rep.Unsent)
	}
}
