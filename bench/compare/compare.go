// Package compare measures our proxy beside its rivals, or several settings and builds
// of our own beside each other, in interleaved rounds, and judges the ratios.
//
//	Main → Run → oneRound → load.Run
//	         ↘ rivals (what to start, and how) → process
//
// Everything runs on the caller's goroutine. Of bench it imports load, process and
// meter.
package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"magent/bench/load"
	"magent/bench/process"
)

// Config describes a comparison.
type Config struct {
	Workloads []Workload
	// Ours is judged against each of Others, or as the Workload sets it up;
	// bounds hold against the first.
	Ours   Rival
	Others []Rival
	// Memcached is the path of the program to run as nodes.
	Memcached string
	// Rounds is how often each pair is measured; each of its runs takes Warmup,
	// and then Duration or, if that is not 0, as long as Requests take.
	Rounds           int
	Duration, Warmup time.Duration
	Requests         int64
	// MaxNoise has a round run again if the Host's noise in one of its runs is
	// greater, Rounds times per workload at most. A round with faults is always
	// kept. 0 keeps every round.
	MaxNoise float64
	// ProxyCPUs are for the proxy under test; LoadCPUs for this process and
	// the nodes. Empty pins nothing.
	//
	// With two CPUs the proxy has one to itself, so that nothing preempts it
	// and every proxy finds the same room; load and nodes share the other.
	// Where those two are the bottleneck, a cheap proxy idles, and is woken for
	// smaller batches than it could take: this hides part of its lead, both in
	// CPU per request and in rate.
	ProxyCPUs, LoadCPUs []int
	// Progress, if not nil, gets a line per run.
	Progress io.Writer
}

// Spread is a median with the smallest and largest of its sample.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Pair is one round's two runs, one after the other.
type Pair struct {
	Ours   *load.Report `json:"ours"`
	Theirs *load.Report `json:"theirs"`
}

// Row compares ours to one other side on one workload. Ratios are ours over theirs,
// taken in each round for itself, so that a change of the machine's pace
// between rounds does not count.
type Row struct {
	Workload string `json:"workload"`
	Ours     string `json:"ours"`
	Theirs   string `json:"theirs"`
	// OurCPU and TheirCPU are the proxies' µs per request, OurNodes and
	// TheirNodes those of all memcacheds together.
	OurCPU     Spread `json:"our_cpu_us"`
	TheirCPU   Spread `json:"their_cpu_us"`
	OurNodes   Spread `json:"our_nodes_us"`
	TheirNodes Spread `json:"their_nodes_us"`
	CPURatio   Spread `json:"cpu_ratio"`
	RateRatio  Spread `json:"rate_ratio"`
	P50Ratio   Spread `json:"p50_ratio"`
	P99Ratio   Spread `json:"p99_ratio"`
	// Noise is the Host's, of the noisier run of each pair. Where it is not
	// small, only the medians mean something, or nothing does.
	Noise Spread `json:"noise"`
	// Discarded is how many rounds were noisier than allowed and run again.
	Discarded int `json:"discarded"`
	// Must and Aim bound the median CPURatio, MustP50 the median P50Ratio; 0
	// promises nothing.
	Must    float64 `json:"must,omitempty"`
	Aim     float64 `json:"aim,omitempty"`
	MustP50 float64 `json:"must_p50,omitempty"`
	// Faults are errors and wrong values in any run. A row with faults holds
	// nothing.
	Faults int64 `json:"faults"`
	// FirstFault is whose the first of them was, and what it said.
	FirstFault string `json:"first_fault,omitempty"`
	Pairs      []Pair `json:"pairs"`
}

// proxyProc is the name of the proxy in the Reports' Procs.
const proxyProc = "proxy"

// Run runs the comparison and returns its rows, workload by workload. A
// workload that fails does not keep the later ones from running; the error
// names each, and the rows are those of the others. This process stays pinned
// to LoadCPUs.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	if cfg.Rounds < 1 || (cfg.Duration <= 0 && cfg.Requests <= 0) || len(cfg.Others) == 0 {
		return nil, errors.New("compare: a comparison needs rounds, a duration or requests, and another side")
	}
	if len(cfg.LoadCPUs) > 0 {
		if err := process.Pin(os.Getpid(), cfg.LoadCPUs); err != nil {
			return nil, err
		}
	}
	var rows []Row
	var errs []error
	for _, w := range cfg.Workloads {
		r, err := compareOne(ctx, cfg, w)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.Name, err))
		}
		if rows = append(rows, r...); ctx.Err() != nil {
			break
		}
	}
	return rows, errors.Join(errs...)
}

// contestant is one side of a workload: what to start, and its reports.
type contestant struct {
	name     string
	rival    Rival
	topology Topology
	reports  []*load.Report
}

// compareOne runs one workload. Its nodes are up all the time.
func compareOne(ctx context.Context, cfg Config, w Workload) (_ []Row, err error) {
	var nodes []*process.Process
	defer func() { err = errors.Join(err, process.StopAll(nodes)) }()
	perCopy, copies := max(w.Nodes, 1), max(w.Ours.Copies, 1)
	for _, s := range w.Against {
		copies = max(copies, s.Copies)
	}
	for range perCopy * copies {
		p, err := process.Memcached(ctx, process.MemcachedConfig{Path: cfg.Memcached, CPUs: cfg.LoadCPUs})
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, p)
	}
	sides := contestants(cfg, w, nodes[:perCopy], nodes[perCopy:])
	discarded := 0
	for done := 0; done < cfg.Rounds; {
		reports, err := oneRound(ctx, cfg, w, nodes, sides, done)
		if err != nil {
			return nil, err
		}
		if discarded < cfg.Rounds && tooNoisy(reports, cfg.MaxNoise) {
			discarded++
			continue
		}
		for i, r := range reports {
			sides[i].reports = append(sides[i].reports, r)
		}
		done++
	}
	if cfg.betweenBuilds() {
		w.Must, w.Aim, w.MustP50 = 0, 0, 0
	}
	return makeRows(w, sides, discarded), nil
}

// contestants lists the sides of w, the one to judge first.
func contestants(cfg Config, w Workload, nodes, backups []*process.Process) (sides []contestant) {
	add := func(name string, r Rival, s Setting) {
		t := Topology{Nodes: nodes, Flags: s.Flags, CPUs: cfg.ProxyCPUs}
		if s.Copies > 1 {
			t.Backups = backups
		}
		sides = append(sides, contestant{name: name, rival: r, topology: t})
	}
	if len(w.Against) == 0 || cfg.betweenBuilds() {
		add(cfg.Ours.Name, cfg.Ours, w.Ours)
		for _, r := range cfg.Others {
			s := Setting{}
			if r.Own {
				s = w.Ours
			}
			add(r.Name, r, s)
		}
		return sides
	}
	for _, s := range append([]Setting{w.Ours}, w.Against...) {
		add(cfg.Ours.Name+", "+s.String(), cfg.Ours, s)
	}
	return sides
}

// betweenBuilds reports whether ours is judged against another build of it first: it
// is then set up alike in all workloads, and bounds hold for none.
func (cfg Config) betweenBuilds() bool { return cfg.Others[0].Own && cfg.Ours.Own }

// tooNoisy says whether a round should be run again. Faults are findings,
// whatever the noise.
func tooNoisy(reports []*load.Report, limit float64) bool {
	noisy := false
	for _, r := range reports {
		if faults(r) > 0 {
			return false
		}
		noisy = noisy || r.Host.Noise > limit
	}
	return noisy && limit > 0
}

// oneRound starts every side, runs each once and returns a report for each. All
// are up while they take turns. Every other round goes backwards, so that no
// side always follows the same one. Each round has proxies of its own: what a
// process got by chance it keeps for life, and no number of its runs would even
// that out.
func oneRound(ctx context.Context, cfg Config, w Workload, nodes []*process.Process, sides []contestant, round int) (_ []*load.Report, err error) {
	order := make([]int, len(sides))
	for i := range order {
		order[i] = i
	}
	if round%2 == 1 {
		slices.Reverse(order)
	}
	procs := make([]*process.Process, len(sides))
	var running []*process.Process
	defer func() { err = errors.Join(err, process.StopAll(running)) }()
	for _, i := range order {
		s := &sides[i]
		if procs[i], err = s.rival.Start(ctx, s.topology); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		running = append(running, procs[i])
		cfg := w.Load
		cfg.Targets = []string{procs[i].Addr}
		if err := load.Preload(ctx, cfg); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	reports := make([]*load.Report, len(sides))
	for _, i := range order {
		rep, err := oneRun(ctx, cfg, w, nodes, procs[i], round)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sides[i].name, err)
		}
		reports[i] = rep
		if cfg.Progress != nil {
			fmt.Fprintf(cfg.Progress, "%-15s round %d  %-44s %8.0f/s  %6.2f µs/req  p50 %5.0f µs  p99 %5.0f µs  noise %2.0f%%  %d errors  %d wrong\n",
				w.Name, round+1, sides[i].name, rep.Rate, rep.Procs[proxyProc].CPU, rep.Latency.P50, rep.Latency.P99,
				100*rep.Host.Noise, rep.Errors, rep.Wrong)
		}
	}
	return reports, nil
}

// oneRun measures one proxy in front of nodes.
func oneRun(ctx context.Context, cfg Config, w Workload, nodes []*process.Process, proxy *process.Process, round int) (*load.Report, error) {
	l := w.Load
	l.Targets, l.Duration, l.Warmup = []string{proxy.Addr}, cfg.Duration, cfg.Warmup
	if cfg.Requests > 0 {
		l.Requests, l.Duration = cfg.Requests, 0
	}
	l.Seed = uint64(round)
	l.Procs = map[string]int{proxyProc: proxy.PID}
	for i, n := range nodes {
		l.Procs[fmt.Sprintf("node%d", i)] = n.PID
	}
	rep, err := load.Run(ctx, l)
	if err == nil && rep.Requests == 0 {
		err = errors.New("compare: not one answer in the time given")
	}
	return rep, err
}

// makeRows pairs the first side with each other, round by round. Bounds are
// stated against the first of the others.
func makeRows(w Workload, sides []contestant, discarded int) []Row {
	var rows []Row
	for i, other := range sides[1:] {
		row := Row{Workload: w.Name, Ours: sides[0].name, Theirs: other.name, Discarded: discarded}
		if i == 0 {
			row.Must, row.Aim, row.MustP50 = w.Must, w.Aim, w.MustP50
		}
		for round, theirs := range other.reports {
			row.Pairs = append(row.Pairs, Pair{Ours: sides[0].reports[round], Theirs: theirs})
		}
		row.sum()
		rows = append(rows, row)
	}
	return rows
}

// sum computes the row's spreads and faults from its pairs.
func (r *Row) sum() {
	over := func(f func(Pair) float64) Spread {
		v := make([]float64, len(r.Pairs))
		for i, p := range r.Pairs {
			v[i] = f(p)
		}
		return spread(v)
	}
	ratio := func(f func(*load.Report) float64) Spread {
		return over(func(p Pair) float64 { return f(p.Ours) / f(p.Theirs) })
	}
	cpu := func(r *load.Report) float64 { return r.Procs[proxyProc].CPU }
	nodes := func(r *load.Report) (us float64) {
		for name, u := range r.Procs {
			if name != proxyProc {
				us += u.CPU
			}
		}
		return us
	}
	r.OurNodes = over(func(p Pair) float64 { return nodes(p.Ours) })
	r.TheirNodes = over(func(p Pair) float64 { return nodes(p.Theirs) })
	r.OurCPU = over(func(p Pair) float64 { return cpu(p.Ours) })
	r.TheirCPU = over(func(p Pair) float64 { return cpu(p.Theirs) })
	r.CPURatio = ratio(cpu)
	r.RateRatio = ratio(func(r *load.Report) float64 { return r.Rate })
	r.P50Ratio = ratio(func(r *load.Report) float64 { return r.Latency.P50 })
	r.P99Ratio = ratio(func(r *load.Report) float64 { return r.Latency.P99 })
	r.Noise = over(func(p Pair) float64 { return max(p.Ours.Host.Noise, p.Theirs.Host.Noise) })
	for _, p := range r.Pairs {
		r.blame(r.Ours, p.Ours)
		r.blame(r.Theirs, p.Theirs)
	}
}

// blame adds rep's faults, if any, to the row's.
func (r *Row) blame(side string, rep *load.Report) {
	if r.Faults += faults(rep); r.FirstFault != "" || faults(rep) == 0 {
		return
	}
	r.FirstFault = fmt.Sprintf("%s: %s", side, rep.FirstError)
	if rep.Wrong > 0 {
		r.FirstFault = fmt.Sprintf("%s: %d wrong values", side, rep.Wrong)
	}
}

func faults(r *load.Report) int64 { return r.Errors + r.Wrong }

// spread is the median of v, which must not be empty, and its ends. Of an even
// number the median is the mean of the two in the middle.
func spread(v []float64) Spread {
	v = slices.Sorted(slices.Values(v))
	mid := len(v) / 2
	m := v[mid]
	if len(v)%2 == 0 {
		m = (v[mid-1] + v[mid]) / 2
	}
	return Spread{Median: m, Min: v[0], Max: v[len(v)-1]}
}

// Verdict says whether the row's bounds hold.
func (r *Row) Verdict() string {
	switch {
	case r.Faults > 0:
		return fmt.Sprintf("%d FAULTS", r.Faults)
	case r.Must == 0 && r.MustP50 == 0:
		return "no bound"
	case r.Must > 0 && r.CPURatio.Median > r.Must, r.MustP50 > 0 && r.P50Ratio.Median > r.MustP50:
		return "MISSED"
	case r.CPURatio.Median > r.Aim:
		return "must holds"
	}
	return "aim holds"
}
