package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"magent/bench/failover"
	"magent/bench/process"
)

const failoverLong = `Make a steady load, have something fail and come back, and say what the clients saw: when the
first and the last error reached them, for how long nobody was served, errors, misses, stale
and wrong values in each phase (before, down, back, warm), and after what time all was as
before: where a node of a system of its own comes back empty, when magent calls it up; elsewhere,
when the hit ratio was what it had been.

Several scenarios with commas between them, or all, are drilled in turn, --rounds times, each on
programs of its own; then a table says what was counted, and the median and the worst round of
each time. --results keeps all of it, for magent bench report. Through a magent, what is not 0 and
must be is an error then: errors and misses unless both nodes are dead, old and wrong values always.

With --server it loads what is there, and fails what --kill, --stop and --exec say; then
--restart brings it back. Without, it starts two memcacheds, the lead and the follower, and
a magent before them, and the --scenario happens:

%s
The load is open (--rate), and each key has one writer, so that it is known what a reader must
find. The exit status is 0; 1 if a bound was passed, or a value was stale or wrong, or the
drill broke off; 130 if Ctrl-C ended it, and then what was seen so far is reported all the
same, and what was stopped goes on.`

const failoverExample = `  magent failover --out failover.svg
      two memcacheds and a magent of its own; the primary is killed, and restarted
  magent failover --scenario stop --max-errors 0 --max-gap 300ms --max-miss 0
      the primary is frozen; the exit status says whether clients were served all the same
  magent failover --scenario all --rounds 3 --before 1 --down 2 --back 2 --rate 16000
      everything there is, three times, as a table: three minutes
  magent failover -s 127.0.0.1:12000 --kill $(pidof -s memcached) --restart 'systemctl start memcached'
      a drill of your own system
  magent failover -s 10.0.0.9 --exec 'ssh db1 poweroff -f' --down 60 --rate 2000
      whatever a shell can do`

// drill is `magent failover`.
type drill struct {
	settings
	self               string
	scenarios          []string
	rounds             int
	results            string
	memcached, magent  string
	proxyFlags         []string
	direct             bool
	kill, stop         []int
	exec, restart      []string
	before, down, back time.Duration
	maxErrors, maxMiss int
	maxGap             time.Duration
	plot, json         string
}

// NewFailover is `magent failover`. self is the path of this program, the proxy that is
// started if no other is named.
func NewFailover(self string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "failover [flags]",
		Short:   "Have something fail under load, and say what clients saw of it",
		Long:    fmt.Sprintf(failoverLong, scenarioTable()),
		Example: failoverExample,
		Args:    noArguments,
	}
	d := &drill{settings: settings{flags: newFlags(cmd.Flags())}, self: self}
	d.bind()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return interruptibly(cmd.Context(), func(ctx context.Context) error { return d.run(ctx, cmd.OutOrStdout()) })
	}
	withHelp(cmd, d.flags)
	withHints(cmd)
	return cmd
}

func (d *drill) bind() {
	d.group("What fails")
	bindList(d.flags, &d.kill, "kill", pid, "kill the process of this `pid` (SIGKILL); repeat it for more")
	bindList(d.flags, &d.stop, "stop", pid, "freeze the process of this `pid` (SIGSTOP) for as long as --down says; repeat it for more")
	bindList(d.flags, &d.exec, "exec", words, "run this `command` with sh when it is time to fail; what comes next waits for it. If it still runs at the end, it is ended; repeat it for more")
	bindList(d.flags, &d.restart, "restart", words, "run this `command` with sh when it is time to come back, also if the drill ends early; what comes next waits for it. If it still runs at the end, it is left running; repeat it for more")
	bind(d.flags, &d.before, "before", "2s", span, "`time`: how long all is well")
	bind(d.flags, &d.down, "down", "3s", span, "`time`: after it what failed comes back")
	bind(d.flags, &d.back, "back", "5s", span, "`time`: how long the load goes on then")

	d.group("Bounds")
	bind(d.flags, &d.maxErrors, "max-errors", "", count(0), "fail if more than this `number` of requests get an error or no answer")
	bind(d.flags, &d.maxMiss, "max-miss", "", count(0), "fail if more than this `number` of requests do not find what was there")
	bind(d.flags, &d.maxGap, "max-gap", "", span, "fail if nobody gets a good answer for longer than this `time`")

	d.group("A system of its own, without --server")
	bind(d.flags, &d.scenarios, "scenario", "kill", scenarios, "what happens to it, by `name`, see above; names with commas between them, or all")
	bind(d.flags, &d.rounds, "rounds", "1", count(1), "`number` of times to drill each scenario, in turn")
	bind(d.flags, &d.direct, "direct", "", switched, "no proxy: clients ask the first memcached")
	bind(d.flags, &d.memcached, "memcached", "memcached", words, "`path` of memcached")
	bind(d.flags, &d.magent, "magent", "", words, "`path` of magent; default is this program")
	bindList(d.flags, &d.proxyFlags, "magent-flag", words, "a further `flag` for magent, such as --magent-flag=--hedge=auto; repeat it for more")

	of := defaults{server: ", in place of a system of its own", port: "12000", rate: "5000", clients: "16", ratio: "1:9", prefix: "failover:", highest: "9999"}
	d.bindTarget(of)
	d.bindLoad(of)
	d.bindRequests(of)
	bind(d.flags, &d.seed, "seed", "0", whole(0), "another `number` draws other keys, sizes and arrivals")

	d.group("Report")
	bind(d.flags, &d.plot, "out", "", words, "draw the timeline as SVG into the file at this `path`: rate, p99 and errors, with the fault marked")
	bind(d.flags, &d.results, "results", "", words, "write what was found and the timeline of each scenario to a directory of their own in that at this `path`")
	bind(d.flags, &d.json, "json-out-file", "", words, "write the report as JSON to the file at this `path`; - is standard output, which then has no text")
}

var pid = kind[int]{"the number of a process", func(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err == nil && n <= 1 {
		err = errRange
	}
	return int(n), err
}}

var scenarios = kind[[]string]{"some of " + strings.Join(failover.Names(), ", ") + ", or all", func(text string) ([]string, error) {
	if text == "all" {
		return failover.Names(), nil
	}
	names := strings.Split(text, ",")
	for i, name := range names {
		if _, err := failover.Find(name); err != nil || slices.Contains(names[:i], name) {
			return nil, errRange
		}
	}
	return names, nil
}}

// scenarioTable says what they are.
func scenarioTable() string {
	var b strings.Builder
	for _, s := range failover.Scenarios {
		fmt.Fprintf(&b, "  %-*s%s\n", helpLeft-2, s.Name, s.Text)
	}
	return b.String()
}

// plan is what the flags ask for, but for the processes to fail. The error names every
// fault of every flag.
func (d *drill) plan() (failover.Config, failover.Bounds, error) {
	c := failover.Config{Before: d.before, Down: d.down, Back: d.back}
	b := failover.Bounds{MaxErrors: failover.Unbounded, MaxMiss: failover.Unbounded, MaxGap: failover.Unbounded}
	if d.given("max-errors") {
		b.MaxErrors = d.maxErrors
	}
	if d.given("max-miss") {
		b.MaxMiss = d.maxMiss
	}
	if d.given("max-gap") {
		b.MaxGap = d.maxGap
	}
	d.duration = d.before + d.down + d.back
	if d.duration <= 0 {
		d.fault("--before, --down and --back are all 0: there is no drill")
		d.duration = time.Second
	}
	if own := !d.given("server") && !d.given("unix-socket"); own {
		c.Own = &failover.Topology{Scenario: d.scenarios[0], Memcached: d.memcached, Magent: d.proxy(), Flags: d.proxyFlags}
		d.ofItsOwn()
		if d.several() {
			d.ofOne()
		}
	} else {
		d.ofOthers()
	}
	for _, command := range d.exec {
		c.Faults = append(c.Faults, failover.Exec(d.before, command))
	}
	for _, command := range d.restart {
		c.Faults = append(c.Faults, failover.RestartBy(d.before+d.down, command))
	}
	var err error
	c.Load, err = d.config()
	return c, b, err
}

// several says whether a table is asked for, and not a report of one drill.
func (d *drill) several() bool { return len(d.scenarios) > 1 || d.rounds > 1 || d.results != "" }

// ofOne checks the flags of several drills.
func (d *drill) ofOne() {
	for _, flag := range []string{"out", "max-errors", "max-miss", "max-gap", "kill", "stop", "exec", "restart"} {
		if d.given(flag) {
			d.fault("--%s is about one drill, and --scenario, --rounds or --results ask for several", flag)
		}
	}
}

// proxy is the path of the proxy to start, empty for none.
func (d *drill) proxy() string {
	switch {
	case d.direct:
		return ""
	case d.magent != "":
		return d.magent
	}
	return d.self
}

// ofOthers checks the flags of a drill of a system that is there.
func (d *drill) ofOthers() {
	for _, flag := range []string{"scenario", "rounds", "results", "direct", "memcached", "magent", "magent-flag"} {
		if d.given(flag) {
			d.fault("--%s is about a system of its own, and --server or --unix-socket names another", flag)
		}
	}
	if len(d.kill)+len(d.stop)+len(d.exec) == 0 {
		d.fault("nothing is to fail: give --kill, --stop or --exec; --exec true if you do it by hand")
	}
}

// ofItsOwn checks the flags of a drill of a system that is started: it has processes and
// a port that nobody could name before.
func (d *drill) ofItsOwn() {
	for _, flag := range []string{"kill", "stop", "port"} {
		if d.given(flag) {
			d.fault("--%s is about a system that is there: name it with --server", flag)
		}
	}
}

// strike adds what befalls processes, before the commands: a drill is called by its first
// step. The processes must be there.
func (d *drill) strike(c *failover.Config) error {
	var errs []error
	var steps []failover.Step
	for _, pid := range d.kill {
		p, err := process.Attach(pid, "")
		if errs = append(errs, ofFlag("kill", pid, err)); err == nil {
			steps = append(steps, failover.Kill(d.before, p))
		}
	}
	for _, pid := range d.stop {
		p, err := process.Attach(pid, "")
		if errs = append(errs, ofFlag("stop", pid, err)); err == nil {
			steps = append(steps, failover.Stop(d.before, d.down, p)...)
		}
	}
	c.Faults = append(steps, c.Faults...)
	return errors.Join(errs...)
}

// ofFlag is err with the flag that it comes from.
func ofFlag(name string, pid int, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("no such process")
	}
	return fmt.Errorf("--%s %d: %w", name, pid, err)
}

// drilled is the report of a drill: as JSON one object, whose fields are those here and
// in failover.Result.
type drilled struct {
	Started  time.Time         `json:"started"`
	Settings map[string]string `json:"settings"`
	*failover.Result
}

func (d *drill) run(ctx context.Context, out io.Writer) (end error) {
	c, bounds, err := d.plan()
	if err == nil {
		err = d.strike(&c)
	}
	if err != nil {
		return err
	}
	if d.several() {
		return d.runSeveral(ctx, c, out)
	}
	o := newOutputs(out, d.json)
	var plot io.Writer
	if d.plot != "" {
		plot = o.create("out", d.plot)
	}
	defer func() { end = errors.Join(end, o.close()) }()
	if o.err != nil {
		return o.err
	}
	r := drilled{Started: time.Now().UTC(), Settings: d.all()}
	drillErr := d.drill(ctx, c, &r)
	if r.Result == nil {
		return early(ctx, drillErr)
	}
	err = errors.Join(r.Write(o.text), o.write(r), r.Check(bounds))
	if plot != nil {
		err = errors.Join(err, r.Plot(plot))
	}
	return ended(ctx, drillErr, err)
}

// drill does it; on a terminal the steps are told when they are taken.
func (d *drill) drill(ctx context.Context, c failover.Config, r *drilled) (err error) {
	ticker := newTicker(os.Stderr)
	defer ticker.end()
	if ticker != nil {
		c.Load.Progress = ticker.show
		c.Told = func(m failover.Mark) { ticker.line(m.Name) }
	}
	r.Result, err = failover.Run(ctx, c)
	return err
}
