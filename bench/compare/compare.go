// Package compare measures our proxy beside its rivals, or several settings and builds
// of our own beside each other, in interleaved rounds, judges the ratios, and writes what
// BENCHMARKS.md says of them.
//
//	Options → Run → oneRound → load.Run
//	     ↓       ↘ rivals (what to start, and how) → process
//	   Result → tables, plots → Report
//
// Everything runs on the caller's goroutine. Of bench it imports load, process and
// meter, and gonum/plot for the plots.
package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"magent/bench/load"
	"magent/bench/process"
	"magent/bench/wire"
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

// Run runs the comparison and returns its rows, workload by workload. A
// workload that fails does not keep the later ones from running; the error
// names each, and the rows are those of the others. This process stays pinned
// to LoadCPUs.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	if cfg.Rounds < 1 || (cfg.Duration <= 0 && cfg.Requests <= 0) || len(cfg.Others) == 0 {
		return nil, errors.New("compare: a comparison needs rounds, a duration or requests, and another side")
	}
	if len(cfg.LoadCPUs) > 0 {
		if len(cfg.ProxyCPUs) == 0 { // or it would be pinned as this process is, which starts it
			var err error
			if cfg.ProxyCPUs, err = process.CPUs(); err != nil {
				return nil, err
			}
		}
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
	dialect  wire.Dialect
	reports  []*load.Report
}

// work is w in the dialect of c's clients.
func (c *contestant) work(w Workload) Workload {
	w.Load.Dialect = c.dialect
	return w
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
	if len(sides) < 2 {
		cfg.say("%-15s left out: nothing is left to compare\n", w.Name)
		return nil, nil
	}
	w = cfg.bound(w)
	discarded := 0
	for done := 0; done < cfg.Rounds; {
		reports, err := oneRound(ctx, cfg, w, nodes, sides, done)
		if err != nil { // what was measured so far still counts
			return makeRows(w, sides, discarded), err
		}
		if cfg.again(reports, discarded) {
			discarded++
			cfg.say("%-15s round %d was noisier than allowed, and is run again\n", w.Name, done+1)
			continue
		}
		if i := slices.IndexFunc(reports, func(r *load.Report) bool { return r.Requests == 0 }); i >= 0 {
			return makeRows(w, sides, discarded), fmt.Errorf("%s: not one answer in the time given", sides[i].name)
		}
		for i, r := range reports {
			sides[i].reports = append(sides[i].reports, r)
		}
		done++
	}
	return makeRows(w, sides, discarded), nil
}

// contestants lists the sides of w, the one to judge first. There are none if that is left
// out.
func contestants(cfg Config, w Workload, nodes, backups []*process.Process) (sides []contestant) {
	add := func(name string, r Rival, s Setting) {
		if n, known := r.behind(); known && n != len(nodes) {
			cfg.say("%-15s %s is left out: it has %d nodes behind it, the others %d\n", w.Name, name, n, len(nodes))
			return
		}
		t := Topology{Nodes: nodes, Flags: s.Flags, Read: s.Read, CPUs: cfg.ProxyCPUs}
		if s.Copies > 1 {
			t.Backups = backups
		}
		sides = append(sides, contestant{name: name, rival: r, topology: t, dialect: s.Dialect})
	}
	if len(w.Against) == 0 || cfg.betweenBuilds() {
		if add(cfg.Ours.Name, cfg.Ours, w.Ours); len(sides) == 0 {
			return nil
		}
		for _, r := range cfg.Others {
			s := Setting{Dialect: w.Ours.Dialect}
			if r.Own {
				s = w.Ours
			}
			add(r.Name, r, s)
		}
		return sides
	}
	if !cfg.Ours.Own {
		cfg.say("%-15s %s is left out: it has no settings of magent's\n", w.Name, cfg.Ours.Name)
		return nil
	}
	for _, s := range append([]Setting{w.Ours}, w.Against...) {
		add(cfg.Ours.Name+", "+s.String(), cfg.Ours, s)
	}
	return sides
}

// betweenBuilds reports whether ours is judged against another build of it first: it
// is then set up alike in all workloads, and bounds hold for none.
func (cfg Config) betweenBuilds() bool { return cfg.Others[0].Own && cfg.Ours.Own }

// bound is w with those bounds that hold for what cfg compares.
func (cfg Config) bound(w Workload) Workload {
	if cfg.betweenBuilds() {
		w.Must, w.Aim, w.MustP50 = 0, 0, 0
	}
	return w
}

// again says whether a round should be run again, after so many that were. Faults are
// findings, whatever the noise.
func (cfg Config) again(reports []*load.Report, discarded int) bool {
	noisy := false
	for _, r := range reports {
		if faults(r) > 0 {
			return false
		}
		noisy = noisy || r.Host.Noise > cfg.MaxNoise
	}
	return noisy && cfg.MaxNoise > 0 && discarded < cfg.Rounds
}

// oneRound starts every side, runs each once and returns a report for each. All
// are up while they take turns. Every other round goes backwards, so that no
// side always follows the same one. Each round has proxies of its own: what a
// process got by chance it keeps for life, and no number of its runs would even
// that out. Sides that differ only in whether they are looked at are one process, for what
// that costs is less than what processes differ by.
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
	if err := chooseOperators(sides); err != nil {
		return nil, err
	}
	for _, i := range order {
		s := &sides[i]
		if other := started(sides, procs, i); other != nil {
			procs[i] = other
			continue
		}
		if procs[i], err = s.rival.Start(ctx, s.topology); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		running = append(running, procs[i])
		if err := load.Preload(ctx, cfg.load(s.work(w), procs[i].Addr, round)); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	reports := make([]*load.Report, len(sides))
	for _, i := range order {
		read := sides[i].topology.read(ctx)
		rep, err := oneRun(ctx, cfg, sides[i].work(w), sides[i].rival.charge(procs[i], nodes), procs[i].Addr, round)
		if err = errors.Join(err, read()); err != nil {
			return nil, fmt.Errorf("%s: %w", sides[i].name, err)
		}
		reports[i] = rep
		cfg.say("%-15s round %d  %-44s %8.0f/s  %6s µs/req  p50 %5.0f µs  p99 %5.0f µs  noise %2.0f%%  %d errors  %d wrong  %d stale  %d misses\n",
			w.Name, round+1, sides[i].name, rep.Rate, median(Spread{Median: proxyCPU(rep)}, "%.2f"), rep.Latency.P50, rep.Latency.P99,
			100*rep.Host.Noise, rep.Errors, rep.Wrong, rep.Stale, rep.Misses)
	}
	return reports, nil
}

// alike reports whether two sides are one process: it is looked at for the one, and not for
// the other.
func alike(a, b *contestant) bool {
	return a.rival.Name == b.rival.Name && len(a.topology.Backups) == len(b.topology.Backups) &&
		slices.Equal(a.topology.Flags, b.topology.Flags) && a.topology.Read != b.topology.Read
}

// started is the process of a side that is alike to side i, if one was started.
func started(sides []contestant, procs []*process.Process, i int) *process.Process {
	for k := range sides {
		if procs[k] != nil && alike(&sides[k], &sides[i]) {
			return procs[k]
		}
	}
	return nil
}

// chooseOperators finds addresses at which operators are to ask, and has the sides that are
// alike to theirs have the same.
func chooseOperators(sides []contestant) error {
	for i := range sides {
		if sides[i].topology.Read == "" {
			continue
		}
		port, err := process.FreePort()
		if err != nil {
			return err
		}
		sides[i].topology.Operators = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		for k := range sides {
			if alike(&sides[k], &sides[i]) {
				sides[k].topology.Operators = sides[i].topology.Operators
			}
		}
	}
	return nil
}

// oneRun measures what listens on addr. procs are charged: name → pid.
func oneRun(ctx context.Context, cfg Config, w Workload, procs map[string]int, addr string, round int) (*load.Report, error) {
	l := cfg.load(w, addr, round)
	l.Procs = procs
	rep, err := load.Run(ctx, l)
	if err == nil {
		err = ctx.Err() // a run cut short is no run
	}
	if err == nil {
		for name, u := range rep.Procs {
			if u.Ended {
				return nil, fmt.Errorf("%s ended while it was measured", name)
			}
		}
	}
	return rep, err
}

// load is what addr is asked in a round of w: but for addr the same of every side.
func (cfg Config) load(w Workload, addr string, round int) load.Config {
	l := w.Load
	l.Targets, l.Duration, l.Warmup, l.Seed = []string{addr}, cfg.Duration, cfg.Warmup, uint64(round)
	if cfg.Requests > 0 {
		l.Requests, l.Duration = cfg.Requests, 0
	}
	return l
}

func (cfg Config) say(format string, args ...any) {
	if cfg.Progress != nil {
		fmt.Fprintf(cfg.Progress, format, args...)
	}
}
