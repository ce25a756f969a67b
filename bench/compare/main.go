package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"magent/bench/process"
)

// Result is the raw file of a comparison: where and how it was made, and every
// run of it.
type Result struct {
	Date     time.Time         `json:"date"`
	Commit   string            `json:"commit"`
	Command  []string          `json:"command"`
	Kernel   string            `json:"kernel"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Go       string            `json:"go"`
	Versions map[string]string `json:"versions"`
	Rows     []Row             `json:"rows"`
}

// options are Main's flags.
type options struct {
	cfg                         Config
	workloads, theirs           []string
	magent, before              string
	nutcracker, memcached, ours string
	mbuf                        int
	proxyCPUs, loadCPUs, out    string
}

func parseFlags(args []string, out io.Writer) (*options, error) {
	var o options
	f := pflag.NewFlagSet("magent bench compare", pflag.ContinueOnError)
	f.SetOutput(out)
	f.SortFlags = false
	f.StringVar(&o.magent, "magent", "", "path of the magent binary to judge")
	f.StringVar(&o.before, "before", "", "path of another build of magent, the rival named before: what a change costs")
	f.StringVar(&o.ours, "ours", "magent", "what to judge: magent, nutcracker or direct (nutcracker against itself shows the noise)")
	f.StringSliceVar(&o.theirs, "theirs", []string{"nutcracker"}, "what to judge it against: magent, before, nutcracker, direct; bounds hold against the first (workloads named 2copies judge settings of --ours instead, unless that is before)")
	f.StringSliceVar(&o.workloads, "workloads", nil, "which workloads (default all)")
	f.IntVar(&o.cfg.Rounds, "rounds", 9, "how often to measure each pair")
	f.DurationVar(&o.cfg.Duration, "duration", time.Second, "how long to measure each run")
	f.Int64Var(&o.cfg.Requests, "requests", 0, "measure so many requests in each run, however long they take")
	f.DurationVar(&o.cfg.Warmup, "warmup", 300*time.Millisecond, "load before each measurement")
	f.Float64Var(&o.cfg.MaxNoise, "max-noise", 0.15, "run a round again if other programs took more of the CPUs, --rounds times at most; 0: never")
	f.StringVar(&o.proxyCPUs, "cpus-proxy", "0", "CPUs of the proxy, such as 0 or 0,2-3; empty: all")
	f.StringVar(&o.loadCPUs, "cpus-load", "1", "CPUs of the load and the nodes; empty: all")
	f.StringVar(&o.nutcracker, "nutcracker", "nutcracker", "path of nutcracker")
	f.IntVar(&o.mbuf, "mbuf", 16384, "nutcracker's buffer size in bytes")
	f.StringVar(&o.memcached, "memcached", "memcached", "path of memcached")
	f.StringVar(&o.out, "out", "bench/results", "directory to make <date>-<commit>/ in; empty: write no files")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("compare: unexpected argument %q", f.Arg(0))
	}
	return &o, o.resolve()
}

// resolve turns names into workloads, rivals and CPUs.
func (o *options) resolve() (err error) {
	if o.cfg.Workloads, err = pick(o.workloads); err != nil {
		return err
	}
	if o.cfg.Ours, err = o.rival(o.ours); err != nil {
		return err
	}
	for _, name := range o.theirs {
		r, err := o.rival(name)
		if err != nil {
			return err
		}
		o.cfg.Others = append(o.cfg.Others, r)
	}
	if o.cfg.ProxyCPUs, err = parseCPUs(o.proxyCPUs); err != nil {
		return err
	}
	if o.cfg.LoadCPUs, err = parseCPUs(o.loadCPUs); err != nil {
		return err
	}
	o.cfg.Memcached = o.memcached
	return nil
}

func (o *options) rival(name string) (Rival, error) {
	switch name {
	case "magent":
		if o.magent == "" {
			return Rival{}, errors.New("compare: --magent says where the magent binary is; it is missing")
		}
		return Magent(name, o.magent), nil
	case "before":
		if o.before == "" {
			return Rival{}, errors.New("compare: --before says where the other build of magent is; it is missing")
		}
		return Magent(name, o.before), nil
	case "nutcracker":
		return Nutcracker(o.nutcracker, o.mbuf), nil
	case "direct":
		return Direct(), nil
	}
	return Rival{}, fmt.Errorf("compare: no rival %q; there are magent, before, nutcracker, direct", name)
}

// parseCPUs reads a list such as 0,2-3.
func parseCPUs(list string) (cpus []int, err error) {
	if list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		a, errA := strconv.Atoi(low)
		b, errB := strconv.Atoi(high)
		if errA != nil || errB != nil || a > b || a < 0 || b >= 1024 {
			return nil, fmt.Errorf("compare: bad CPU list %q", list)
		}
		for c := a; c <= b; c++ {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}

// Main is the comparison as a command: args without the program's name, text
// to out, files under --out. It fails if a run had errors or wrong values; a
// bound that was missed is in the table and is no failure.
func Main(args []string, out io.Writer) error {
	o, err := parseFlags(args, out)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	o.cfg.Progress = out
	res := o.describe(args)
	rows, err := Run(ctx, o.cfg)
	res.Rows = rows
	fmt.Fprintln(out)
	WriteTable(out, rows)
	if o.out != "" && len(rows) > 0 {
		dir, saveErr := res.save(o.out)
		err = errors.Join(err, saveErr)
		fmt.Fprintf(out, "\nraw results in %s\n", dir)
	}
	for _, r := range rows {
		if r.Faults > 0 {
			err = errors.Join(err, fmt.Errorf("compare: %s against %s: %d errors or wrong values; first %s", r.Workload, r.Theirs, r.Faults, r.FirstFault))
		}
	}
	return err
}

// WriteTable writes the rows as text: µs of CPU per request of the proxies and
// of the nodes, medians, and ratios as median [min..max]. Below 1 ours is
// cheaper, or quicker, except for the rate. must and aim are bounds of the CPU
// ratio.
func WriteTable(out io.Writer, rows []Row) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "workload\tours\tagainst\tour µs\ttheir µs\tour nodes\ttheir nodes\tCPU ratio\trate ratio\tp50 ratio\tp99 ratio\tnoise\tmust\taim\tp50 must\tverdict")
	ratio := func(s Spread) string { return fmt.Sprintf("%.2f [%.2f..%.2f]", s.Median, s.Min, s.Max) }
	bound := func(b float64) string {
		if b == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", b)
	}
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%.0f%%\t%s\t%s\t%s\t%s\n",
			r.Workload, r.Ours, r.Theirs, r.OurCPU.Median, r.TheirCPU.Median, r.OurNodes.Median, r.TheirNodes.Median,
			ratio(r.CPURatio), ratio(r.RateRatio), ratio(r.P50Ratio), ratio(r.P99Ratio), 100*r.Noise.Median,
			bound(r.Must), bound(r.Aim), bound(r.MustP50), r.Verdict())
	}
	t.Flush()
}

// describe notes where and how the comparison is made.
func (o *options) describe(args []string) *Result {
	r := &Result{
		Date: time.Now().UTC(), Commit: commit(), Command: withoutFolders(args),
		CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Versions: map[string]string{
			"memcached":  process.Version(o.memcached, "-V"),
			"nutcracker": process.Version(o.nutcracker, "-V"),
		},
	}
	if o.magent != "" {
		r.Versions["magent"] = process.Version(o.magent, "version")
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

// withoutFolders is args with paths cut to their last part: where a program lay on
// this machine says nothing to others.
func withoutFolders(args []string) []string {
	short := make([]string, len(args))
	for i, a := range args {
		short[i] = a
		if filepath.IsAbs(a) {
			short[i] = filepath.Base(a)
		}
	}
	return short
}

// commit names the source: as stamped into the binary, or else of the working
// directory.
func commit() string {
	var rev, dirty string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				rev = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "-dirty"
			}
		}
	}
	if rev == "" {
		out, err := exec.Command("git", "rev-parse", "HEAD").Output()
		if err != nil {
			return "unknown"
		}
		rev = strings.TrimSpace(string(out))
	}
	return rev[:min(len(rev), 12)] + dirty
}

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(rest, " \t\n:")
		}
	}
	return ""
}

// save writes compare.json and compare.txt into a directory of their own.
func (r *Result) save(under string) (dir string, err error) {
	dir = filepath.Join(under, r.Date.Format("20060102T150405")+"-"+r.Commit)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dir, fmt.Errorf("compare: %w", err)
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return dir, fmt.Errorf("compare: %w", err)
	}
	var table strings.Builder
	WriteTable(&table, r.Rows)
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, "compare.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "compare.txt"), []byte(table.String()), 0o644))
}
