package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"magent/bench/process"
)

// Options are a comparison as a user asks for it: Bind names the flags, and Run makes
// it of them.
type Options struct {
	// Self is the magent to judge where --magent names none.
	Self string

	flags                     *pflag.FlagSet
	faults                    []error // of values that are none
	cfg                       Config
	workloads, theirs, rivals []string
	magent, before, ours      string
	nutcracker, memcached     string
	mbuf                      int
	proxyCPUs, loadCPUs, out  string
	gate                      float64
}

// Bind adds the flags of a comparison to fs, and has fs keep their order: here and on
// the command line.
func (o *Options) Bind(fs *pflag.FlagSet) {
	o.flags = fs
	fs.SortFlags = false
	fs.StringVar(&o.magent, "magent", "", "`path` of the magent binary to judge (default: this one)")
	fs.StringVar(&o.before, "before", "", "`path` of another build of magent, the rival named before: what a change costs")
	fs.StringVar(&o.ours, "ours", "magent", "what to judge, by `name`: magent, nutcracker or direct (nutcracker against itself shows the noise)")
	fs.StringSliceVar(&o.theirs, "theirs", []string{"nutcracker", "direct"}, "what to judge it against, by `names` with commas between them: magent, before, nutcracker, direct, which is the node without a proxy; bounds hold against the first that is a proxy (workloads named 2copies, scraped and watched judge settings of --ours instead, unless that is before)")
	fs.StringArrayVar(&o.rivals, "rival", nil, "another proxy, `NAME=PORT:PID[:NODEPID...]`, that listens on 127.0.0.1 already: started, pinned as --cpus-proxy says and set up over as many nodes as the workload has by whoever started it (a NODEPID's CPU is charged as a node's; unnamed nodes count as noise; workloads with another number of nodes than it names leave it out)")
	fs.StringSliceVar(&o.workloads, "workloads", nil, "which workloads, by `names` with commas between them (default all)")
	fs.IntVar(&o.cfg.Rounds, "rounds", 9, "`number` of times to measure each pair")
	fs.DurationVar(&o.cfg.Duration, "duration", time.Second, "`time`: how long to measure each run")
	fs.Int64Var(&o.cfg.Requests, "requests", 0, "measure this `number` of requests in each run, however long they take")
	fs.DurationVar(&o.cfg.Warmup, "warmup", 300*time.Millisecond, "`time`: make load before each measurement")
	fs.Float64Var(&o.cfg.MaxNoise, "max-noise", 0.15, "run a round again if other programs took more than this `share` of the CPUs, --rounds times at most; 0: never")
	fs.StringVar(&o.proxyCPUs, "cpus-proxy", "0", "`CPUs` of the proxy, such as 0 or 0,2-3; empty: all")
	fs.StringVar(&o.loadCPUs, "cpus-load", "1", "`CPUs` of the load and the nodes; empty: all")
	fs.StringVar(&o.nutcracker, "nutcracker", "nutcracker", "`path` of nutcracker")
	fs.IntVar(&o.mbuf, "mbuf", 16384, "nutcracker's buffer size, in `bytes`")
	fs.StringVar(&o.memcached, "memcached", "memcached", "`path` of memcached")
	fs.StringVar(&o.out, "out", "bench/results", "`directory` to make <date>-<commit>/ in; empty: write no files")
	fs.Float64Var(&o.gate, "gate", 0, "fail if a bound is missed by more than this `share` of it, and measure only what has a bound, against nutcracker, unless other flags say otherwise; 0.15 allows 15 %")
	fs.VisitAll(func(f *pflag.Flag) { f.Value = &patient{Value: f.Value, name: f.Name, faults: &o.faults} })
}

// patient is a flag's value that keeps what is wrong with it, so that all faults of all
// flags are said at once: pflag gives up at the first.
type patient struct {
	pflag.Value
	name   string
	faults *[]error
}

// Set takes a number of seconds for a time, too.
func (p *patient) Set(text string) error {
	given := text
	if _, err := strconv.ParseFloat(text, 64); err == nil && p.Type() == "duration" {
		text += "s"
	}
	if err := p.Value.Set(text); err != nil {
		want := map[string]string{"int": "a whole number", "int64": "a whole number", "float64": "a number", "duration": "seconds or a duration, such as 10 or 500ms"}
		*p.faults = append(*p.faults, fmt.Errorf("--%s takes %s, not %q", p.name, cmp.Or(want[p.Type()], "something else"), given))
	}
	return nil
}

// Run makes the comparison: text to out, files under --out. An end of ctx stops it, and
// what was measured until then is reported. It fails if a run had errors or wrong
// values, and with --gate if a bound was missed; without, that is in the table and no
// failure.
func (o *Options) Run(ctx context.Context, out io.Writer) error {
	if err := errors.Join(o.resolve(out), o.cpusAreThere()); err != nil {
		return err
	}
	o.cfg.Progress = out
	res := o.describe()
	rows, err := Run(ctx, o.cfg)
	if res.Rows = rows; err != nil {
		res.Error = err.Error()
	}
	if len(rows) > 0 {
		fmt.Fprintln(out)
		WriteTables(out, rows)
	}
	if o.out != "" && len(rows) > 0 {
		dir, saveErr := res.save(o.out)
		err = errors.Join(err, saveErr)
		fmt.Fprintf(out, "\nraw results in %s; to put them into BENCHMARKS.md: make report RESULTS=%s\n", dir, dir)
	}
	if o.gate > 0 {
		return errors.Join(err, Gate(rows, o.gate))
	}
	return errors.Join(err, faultsOf(rows))
}

// resolve turns names into workloads, rivals and CPUs. The error names every fault of
// every flag.
func (o *Options) resolve(out io.Writer) error {
	errs := slices.Clone(o.faults)
	fault := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, f := range []struct {
		name  string
		share float64
	}{{"max-noise", o.cfg.MaxNoise}, {"gate", o.gate}} {
		if !(f.share >= 0 && f.share <= 1) { // so that no NaN passes
			fault(fmt.Errorf("--%s (%v) is a share from 0 to 1: 0.15 is 15 %%", f.name, f.share))
		}
	}
	var err error
	o.cfg.Workloads, err = pick(o.workloads)
	fault(err)
	if o.gate > 0 {
		o.narrow()
	}
	o.cfg.Ours, err = o.rival(o.ours)
	fault(err)
	for _, name := range o.theirs {
		r, err := o.rival(name)
		fault(err)
		o.cfg.Others = append(o.cfg.Others, r)
	}
	o.cfg.ProxyCPUs, err = process.ParseCPUs(o.proxyCPUs)
	fault(err)
	o.cfg.LoadCPUs, err = process.ParseCPUs(o.loadCPUs)
	fault(err)
	o.cfg.Memcached = o.memcached
	fault(o.attach(out))
	return errors.Join(errs...)
}

// narrow leaves only what the gate judges, where the flags do not ask for more: the
// workloads with a bound, and of their sides those that the bound compares.
func (o *Options) narrow() {
	if !o.flags.Changed("theirs") {
		o.theirs = []string{"nutcracker"}
	}
	if !o.flags.Changed("workloads") {
		o.cfg.Workloads = bounded(o.cfg.Workloads)
	}
	for i, w := range o.cfg.Workloads {
		o.cfg.Workloads[i].Against = w.Against[:min(len(w.Against), 1)]
	}
}

func (o *Options) rival(name string) (Rival, error) {
	switch name {
	case "magent":
		if o.magent == "" {
			o.magent = o.Self
		}
		if o.magent == "" {
			return Rival{}, errors.New("--magent says where the magent binary is; it is missing")
		}
		return Magent(name, o.magent), nil
	case "before":
		if o.before == "" {
			return Rival{}, errors.New("--before says where the other build of magent is; it is missing")
		}
		return Magent(name, o.before), nil
	case "nutcracker":
		return Nutcracker(o.nutcracker, o.mbuf), nil
	case "direct":
		return Direct(), nil
	}
	return Rival{}, fmt.Errorf("no rival %q; there are magent, before, nutcracker, direct, and --rival NAME=PORT:PID", name)
}

// attach adds the rivals that others started. What keeps one from being a fair
// comparison, but not from being one, is said on out.
func (o *Options) attach(out io.Writer) error {
	taken := []string{"magent", "before", "nutcracker", "direct"}
	for _, text := range o.rivals {
		a, err := parseAttached(text, taken)
		if err != nil {
			return err
		}
		taken = append(taken, a.name)
		if err := a.attach(); err != nil {
			return err
		}
		if odd := a.pinnedElsewhere(o.cfg.ProxyCPUs); odd != "" {
			fmt.Fprintln(out, odd)
		}
		o.cfg.Others = append(o.cfg.Others, a.rival())
	}
	return nil
}

// cpusAreThere fails if a CPU is asked for that this process may not use.
func (o *Options) cpusAreThere() error {
	there, err := process.CPUs()
	if err != nil {
		return err
	}
	check := func(flag, list string, cpus []int) error {
		for _, c := range cpus {
			if !slices.Contains(there, c) {
				return fmt.Errorf("compare: --%s %s: there is no CPU %d for us, there are %v", flag, list, c, there)
			}
		}
		return nil
	}
	return errors.Join(check("cpus-proxy", o.proxyCPUs, o.cfg.ProxyCPUs), check("cpus-load", o.loadCPUs, o.cfg.LoadCPUs))
}

// command is the command line that asks for the same. Paths are cut to their last part:
// where a program lay on this machine says nothing to others.
func (o *Options) command() []string {
	words := []string{"magent", "bench", "compare"}
	o.flags.Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		if s, ok := f.Value.(*patient).Value.(pflag.SliceValue); ok {
			values = s.GetSlice()
			if f.Value.Type() == "stringSlice" {
				values = []string{strings.Join(values, ",")}
			}
		}
		for _, v := range values {
			if filepath.IsAbs(v) {
				v = filepath.Base(v)
			}
			words = append(words, "--"+f.Name, v)
		}
	})
	return words
}
