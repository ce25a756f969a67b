package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"magent/bench/meter"
	"magent/bench/process"
	"magent/bench/refill"
)

const refillLong = `Measure how fast magent refills a node that came back empty, and what clients notice of it. It
starts two memcacheds, fills both, and in each round

  copies all keys from one to the other, emptied, by two raw pipelined connections that verify
  nothing: the yardstick;

  kills the lead of an idle magent (kill -9), restarts it, and waits until magent calls it up, with
  --idle-rate for a --resync-rate;

  does the same under load, with magent's own --resync-rate, and compares the latency before the
  kill and during the refill.

Then a table says what that came to: medians with the smallest and the largest round. --results
keeps all of it, for magent bench report.

The exit status is 0; 1 if a bound was missed, a key was left behind, clients saw an error, a miss,
or an old or wrong value, or the measurement broke off: if magent does not call the node up within
--patience, too; 130 if Ctrl-C ended it, and then what was measured so far is reported all the same.`

const refillExample = `  magent bench refill --rounds 5 --results bench/results
      all of it, five times, and kept
  magent bench refill --keys 100000 --data-size 4096 --rounds 1
      fewer and larger values
  magent bench refill --magent-flag=--resync-rate=20000 --min-rate 0 --min-ratio 0
      a rate of your own under load, with no bound on the pace of the idle refill`

// refilling is `magent bench refill`.
type refilling struct {
	settings
	self                string
	keys                int
	before, down, after time.Duration
	memcached, magent   string
	proxyFlags          []string
	idleRate            string
	proxyCPUs, loadCPUs []int
	patience            time.Duration
	rounds              int
	bounds              refill.Bounds
	results, json       string
}

func newRefill(self string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "refill [flags]",
		Short:   "measure the refill of a node that came back empty",
		Long:    refillLong,
		Example: refillExample,
		Args:    noArguments,
	}
	r := &refilling{settings: settings{flags: newFlags(cmd.Flags())}, self: self}
	r.bind()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return interruptibly(cmd.Context(), func(ctx context.Context) error { return r.run(ctx, cmd.OutOrStdout()) })
	}
	withHelp(cmd, r.flags)
	return cmd
}

func (r *refilling) bind() {
	r.group("What is refilled")
	bind(r.flags, &r.keys, "keys", "500000", count(1), "`number` of keys")
	bind(r.flags, &r.prefix, "key-prefix", "refill:", words, "`text` that begins every key")
	r.bindSizes("", "32-100")

	r.group("Load")
	bind(r.flags, &r.rate, "rate", "10000", positive, "`number` of requests a second that become due over all connections, answered or not")
	bind(r.flags, &r.clients, "clients,c", "16", count(1), "`number` of connections")
	bind(r.flags, &r.ratio, "ratio", "1:9", ratio, "`set:get`: so many sets for so many gets")
	bind(r.flags, &r.before, "before", "10s", span, "`time`: how long all is well")
	bind(r.flags, &r.down, "down", "1s", span, "`time`: how long the node is dead")
	bind(r.flags, &r.after, "after", "2s", span, "`time`: how long the load goes on once the node is up")
	bind(r.flags, &r.seed, "seed", "0", whole(0), "another `number` draws other keys, sizes and arrivals")

	r.group("Programs")
	bind(r.flags, &r.magent, "magent", "", words, "`path` of magent; default is this program")
	bindList(r.flags, &r.proxyFlags, "magent-flag", words, "a further `flag` for magent, such as --magent-flag=--resync-rate=20000; repeat it for more")
	bind(r.flags, &r.idleRate, "idle-rate", "0", words, "`rate`: magent's --resync-rate while it is idle; 0 is no bound, default is magent's own")
	bind(r.flags, &r.memcached, "memcached", "memcached", words, "`path` of memcached")
	bind(r.flags, &r.proxyCPUs, "cpus-proxy", "0", cpus, "`CPUs` of magent, and of the raw copy, such as 0 or 0,2-3; all: any")
	bind(r.flags, &r.loadCPUs, "cpus-load", "1", cpus, "`CPUs` of the load and the nodes; all: any")
	bind(r.flags, &r.patience, "patience", "2m", span, "`time`: how long magent may take to call the node up")

	r.group("Rounds and bounds")
	bind(r.flags, &r.rounds, "rounds", "3", count(1), "`number` of times to measure")
	bind(r.flags, &r.bounds.MinRate, "min-rate", "100000", bound, "fail if the idle refill does less than this `number` of keys a second; 0: no bound")
	bind(r.flags, &r.bounds.MinRatio, "min-ratio", "0.6", bound, "fail if it is below this `share` of the pace of the raw copy; 0: no bound")
	bind(r.flags, &r.bounds.MaxP99Ratio, "max-p99-ratio", "2", bound, "fail if p99 is multiplied by this `number` or more during the refill under load; 0: no bound")

	r.group("Report")
	bind(r.flags, &r.results, "results", "", words, "write what was found and a timeline to a directory of their own in that at this `path`")
	bind(r.flags, &r.json, "json-out-file", "", words, "write the report as JSON to the file at this `path`; - is standard output, which then has no text")
}

var cpus = kind[[]int]{"CPUs such as 0 or 0,2-3, or all", func(text string) ([]int, error) {
	if text == "all" {
		return nil, nil
	}
	list, err := process.ParseCPUs(text)
	if err == nil && len(list) == 0 {
		err = errRange
	}
	return list, err
}}

var bound = kind[float64]{"a number from 0 up", func(text string) (float64, error) {
	x, err := strconv.ParseFloat(text, 64)
	if err == nil && !(x >= 0 && x <= 1e18) {
		err = errRange
	}
	return x, err
}}

// plan is what the flags ask for. The error names every fault of every flag.
func (r *refilling) plan() (refill.Config, error) {
	r.oneSize(r.fault)
	for flag, d := range map[string]time.Duration{"before": r.before, "patience": r.patience} {
		if d == 0 {
			r.fault("--%s must be above 0", flag)
		}
	}
	c := refill.Config{
		Magent: r.magent, Memcached: r.memcached, Flags: r.proxyFlags,
		Keys: r.keys, Prefix: r.prefix, Values: r.sizes(),
		Rate: r.rate, Conns: r.clients, Mix: r.ratio, Before: r.before, Down: r.down, After: r.after,
		Patience: r.patience, Rounds: r.rounds, Seed: uint64(r.seed),
		ProxyCPUs: r.proxyCPUs, LoadCPUs: r.loadCPUs,
	}
	if c.Magent == "" {
		c.Magent = r.self
	}
	if r.idleRate != "default" {
		c.IdleFlags = []string{"--resync-rate=" + r.idleRate}
	}
	if len(r.faults) > 0 {
		return c, errors.Join(r.faults...)
	}
	return c, c.Validate()
}

// run is the whole command: to out goes the text.
func (r *refilling) run(ctx context.Context, out io.Writer) (end error) {
	c, err := r.plan()
	if err != nil {
		return err
	}
	o := newOutputs(out, r.json)
	defer func() { end = errors.Join(end, o.close()) }()
	if o.err != nil {
		return o.err
	}
	s := refill.Set{Provenance: meter.Describe(r.command("magent", "bench", "refill")), Bounds: r.bounds}
	s.Versions = map[string]string{"memcached": process.Version(c.Memcached, "-V"), "magent": process.Version(c.Magent, "version")}
	runErr := r.measure(ctx, c, &s, o.text)
	if len(s.Rounds) == 0 {
		return early(ctx, runErr)
	}
	fmt.Fprintln(o.text)
	err = errors.Join(s.Write(o.text), o.write(s))
	if r.results != "" {
		dir, saveErr := s.Save(r.results)
		err = errors.Join(err, saveErr)
		fmt.Fprintf(o.text, "\nraw results in %s; to put them into BENCHMARKS.md: make report RESULTS=%s\n", dir, dir)
	}
	return ended(ctx, runErr, errors.Join(err, s.Check()))
}

// measure says what came of each round as soon as it is over.
func (r *refilling) measure(ctx context.Context, c refill.Config, s *refill.Set, out io.Writer) error {
	ticker := newTicker(os.Stderr)
	defer ticker.end()
	if ticker != nil {
		c.Progress = ticker.show
	}
	return s.Run(ctx, c, func(round int, r *refill.Round) {
		ticker.end()
		l := &r.Loaded
		fmt.Fprintf(out, "round %d  idle %s keys/s, up after %s, raw copy %s keys/s, ratio %.2f;  under load %s keys/s, up after %s, p99 × %.2f, %d errors, %d misses, %d stale, %d wrong\n",
			round, thousands(r.Idle.Rate, 0), short(time.Duration(r.Idle.Took)), thousands(r.Copy.Rate, 0), r.Ratio(),
			thousands(l.Rate, 0), short(time.Duration(l.Took)), l.P99Ratio(), l.Seen.Total.Errors(), l.Seen.Total.Misses, l.Seen.Total.Stale, l.Seen.Total.Wrong)
	})
}
