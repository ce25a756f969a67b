package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"magent/bench/load"
	"magent/bench/wire"
)

// ErrInterrupted is the error of a command that was ended by a signal. What it had
// measured until then is reported.
var ErrInterrupted = errors.New("interrupted")

const benchLong = `Make load on a memcached or a proxy, check every answer, and say how fast it was and what
it cost. Every value names its key, its write and a checksum: data that are wrong, or older
than what was acknowledged before, are counted and fail the run.

The keys --key-minimum to --key-maximum are written before anything is measured, unless
there are only sets or --no-preload is given. Flags have the names that memtier_benchmark
gives them where the meaning is the same; README.md has the table.

The exit status is 0; 1 for a wrong or stale value, if no request was answered without an error,
or if the run broke off; 130 if Ctrl-C ended it, and then what was measured so far is reported all
the same.`

const benchExample = `  magent bench -p 11211 -c 50 --test-time 10
      ten gets for a set over 50 connections, as fast as 127.0.0.1:11211 answers
  magent bench -p 12000 --rate 20000 --test-time 30 --proc magent=$(pidof magent)
      what latency clients see at 20,000 requests a second, and what that costs magent
  magent bench -S /run/magent.sock --mix get=90,set=5,incr=3,cas=2 --key-pattern Z:Z -n 100000
      more kinds of requests, popular and unpopular keys, through a unix socket
  magent bench --multi-get 20 --data-size-list 100:90,32768:10 --json-out-file run.json
      gets of 20 keys, values of two sizes, and a report for programs`

// generator is `magent bench`.
type generator struct {
	settings
	noPreload       bool
	text, json, hdr string
	percentiles     []float64
	histogram       bool
}

// NewCommand is `magent bench`. self is the path of this program, which the comparison
// judges if no other is named.
func NewCommand(self string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench [flags]",
		Short:   "Make load, check every answer, and say how fast it was and what it cost",
		Long:    benchLong,
		Example: benchExample,
		Args:    noArguments,
	}
	g := &generator{settings: settings{flags: newFlags(cmd.Flags())}}
	g.bind()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return interruptibly(cmd.Context(), func(ctx context.Context) error { return g.run(ctx, cmd.OutOrStdout()) })
	}
	cmd.AddCommand(newCompare(self), newRefill(self), newReport())
	withHelp(cmd, g.flags)
	withHints(cmd)
	return cmd
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: --help has the flags, --server names a target", args[0])
	}
	return nil
}

// interruptibly runs do, whose context ends with a signal. A second one ends us at once.
func interruptibly(ctx context.Context, do func(context.Context) error) error {
	if ctx == nil {
		ctx = context.Background()
	}
	ends := []os.Signal{os.Interrupt, unix.SIGTERM}
	if !signal.Ignored(unix.SIGHUP) { // as nohup has it
		ends = append(ends, unix.SIGHUP) // a terminal that is closed
	}
	ctx, release := signal.NotifyContext(ctx, ends...)
	defer release()
	defer context.AfterFunc(ctx, release)()
	return do(ctx)
}

func (g *generator) bind() {
	d := defaults{server: ", 127.0.0.1 if there is none", port: "12000", clients: "50", ratio: "1:10", prefix: "bench:", highest: "99999"}
	g.bindTarget(d)
	g.bindLoad(d)
	g.bindRequests(d)
	g.group("Start and end")
	bind(g.flags, &g.noPreload, "no-preload", "", switched, "do not write the keys before the run; without it they are written if anything but sets is asked for")
	bind(g.flags, &g.warmup, "warmup", "0", span, "make load for this `time` before measuring")
	bind(g.flags, &g.requests, "requests,n", "10000", requests, "end after this `number` of requests for each connection, counted over all of them; "+
		"allkeys is as many as there are keys, with --key-pattern P:P not for each connection")
	bind(g.flags, &g.duration, "test-time", "", span, "end after this `time`; if --requests is given too, what comes first ends the run")
	bind(g.flags, &g.seed, "seed", "0", whole(0), "another `number` draws other keys, sizes and arrivals")

	g.group("Report")
	bindList(g.flags, &g.procs, "proc", named, "`name=pid`: charge the CPU of this local process to the requests; repeat it for more")
	bind(g.flags, &g.percentiles, "print-percentiles", "50,90,99,99.9,99.99", percentiles, "which `percentiles` of latency the table has")
	bind(g.flags, &g.histogram, "histogram", "", switched, "show how the latencies are distributed")
	bind(g.flags, &g.text, "out-file,o", "", words, "write the text to the file at this `path`, not to standard output")
	bind(g.flags, &g.json, "json-out-file", "", words, "write the report as JSON to the file at this `path`; - is standard output, which then has no text")
	bind(g.flags, &g.hdr, "hdr-file-prefix", "", words, "write HDR histograms to the files that begin with this `path`: PATH_total.hgrm, PATH_get.hgrm and so on")
}

// run is the whole command: to out goes the text, unless it goes to a file.
func (g *generator) run(ctx context.Context, out io.Writer) (end error) {
	cfg, err := g.config()
	if err == nil {
		err = g.alive()
	}
	if err != nil {
		return err
	}
	o := newOutputs(out, g.json)
	if g.text != "" {
		o.text = o.create("out-file", g.text)
	}
	if g.hdr != "" {
		o.create("hdr-file-prefix", histogramFile(g.hdr, "total")) // the first of them: can there be any?
	}
	defer func() { end = errors.Join(end, o.close()) }()
	if o.err != nil {
		return o.err
	}
	r := &result{Started: time.Now().UTC(), Settings: g.all(), cfg: cfg, percentiles: g.percentiles, histogram: g.histogram}
	loadErr := g.load(ctx, r)
	if r.Report == nil {
		return early(ctx, loadErr)
	}
	r.Warnings = append(warnings(cfg, r.Report), r.lost()...)
	_, err = io.WriteString(o.text, r.text())
	err = errors.Join(err, o.write(r), verdict(r.Report))
	if g.hdr != "" {
		err = errors.Join(err, r.writeHistograms(g.hdr))
	}
	return ended(ctx, loadErr, err)
}

// load writes the keys, if they are to be there, and makes the load.
func (g *generator) load(ctx context.Context, r *result) (err error) {
	ticker := newTicker(os.Stderr)
	defer ticker.end()
	if ticker != nil {
		r.cfg.Progress = ticker.show
	}
	if !g.noPreload && reads(r.cfg.Mix) {
		if err := load.Preload(ctx, r.cfg); err != nil {
			return err
		}
		r.Preloaded = r.cfg.Keys.Max - r.cfg.Keys.Min + 1
	}
	r.Report, err = load.Run(ctx, r.cfg)
	return err
}

// early is the error of a command that came to nothing by err.
func early(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w before anything was measured", ErrInterrupted)
	}
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%w: raise ulimit -n above the number of connections, or ask for fewer with --clients", err)
	}
	return err
}

// ended is the error of a command whose work ended with done, and that found bad. What
// was found counts more than a signal.
func ended(ctx context.Context, done, bad error) error {
	switch {
	case ctx.Err() == nil:
		return errors.Join(done, bad)
	case bad != nil:
		return bad
	}
	return ErrInterrupted
}

// reads says whether m asks for anything that must have been there before.
func reads(m load.Mix) bool {
	for op, weight := range m {
		if weight > 0 && wire.Op(op) != wire.Set {
			return true
		}
	}
	return false
}

func histogramFile(prefix, name string) string { return prefix + "_" + name + ".hgrm" }

// writeHistograms writes one file for each operation, and one for all, in the form that
// HdrHistogram's plotter reads, in ms.
func (r *result) writeHistograms(prefix string) error {
	all := map[string]*hdrhistogram.Histogram{"total": r.Hist}
	for name, op := range r.Ops {
		all[name] = op.Hist
	}
	for name, h := range all {
		file, err := os.Create(histogramFile(prefix, name))
		if err != nil {
			return fmt.Errorf("--hdr-file-prefix: %w", err)
		}
		_, err = h.PercentilesPrint(file, 5, 1e6)
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("--hdr-file-prefix: %w", err)
		}
	}
	return nil
}
