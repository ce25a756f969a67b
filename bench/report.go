package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/meter"
	"magent/bench/wire"
)

// result is what one `magent bench` found: as JSON one object, whose fields are those
// here and in load.Report. Names that are there stay.
type result struct {
	Started time.Time `json:"started"`
	// Settings are the flags, given or not, by name.
	Settings map[string]string `json:"settings"`
	// Preloaded is how many keys were written before the run.
	Preloaded int `json:"preloaded"`
	// Warnings say what makes the figures doubtful.
	Warnings []string `json:"warnings"`
	*load.Report

	cfg         load.Config
	percentiles []float64
	histogram   bool
}

// text is the report for people.
func (r *result) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", describe(r.cfg), r.course())
	b.WriteString(columns(r.latencies()))
	fmt.Fprintf(&b, "\nlatency in ms, %s; KB/s %s received, %s sent\n",
		since(r.cfg), kilobytes(r.BytesIn, r.Seconds), kilobytes(r.BytesOut, r.Seconds))
	b.WriteString(r.faults())
	b.WriteString("\n" + columns(r.cpu()))
	fmt.Fprintf(&b, "\nhost: %s, %s busy, %s stolen; %s went to programs that are not in the list\n",
		plural(int64(len(r.Host.CPU)), "CPU"), percent(r.Host.All.Busy), percent(r.Host.All.Steal), percent(r.Host.Noise))
	if r.histogram {
		b.WriteString("\n" + columns(histogram(r.Hist)))
	}
	for _, w := range r.Warnings {
		b.WriteString("\n" + wrap("WARNING: "+w, helpWidth) + "\n")
	}
	return b.String()
}

// describe is the load of c in a few lines.
func describe(c load.Config) string {
	mode := "closed loop, pipelines of " + strconv.Itoa(max(1, c.Pipeline))
	if c.Rate > 0 {
		mode = fmt.Sprintf("open loop, %s requests/s, %s", thousands(c.Rate, 0), c.Arrivals)
	}
	gets := ""
	if c.MultiGet > 1 {
		gets = fmt.Sprintf(" of %d keys", c.MultiGet)
	}
	var mix []string
	for op, weight := range c.Mix {
		if weight > 0 {
			mix = append(mix, fmt.Sprintf("%d %v", weight, wire.Op(op)))
		}
	}
	return fmt.Sprintf("%s: %s, %s, %v protocol, %s\n%s%s over %s (%c:%c), values of %v bytes",
		strings.Join(c.Targets, ", "), plural(int64(c.Conns), "connection"), plural(int64(c.Threads), "thread"), c.Dialect, mode,
		strings.Join(mix, " : "), gets, plural(int64(c.Keys.Max-c.Keys.Min+1), "key"), c.WriteKeys.Kind, c.ReadKeys.Kind, c.Values)
}

// course is how the run went.
func (r *result) course() string {
	var b strings.Builder
	if r.Preloaded > 0 {
		fmt.Fprintf(&b, "%s written before; ", plural(int64(r.Preloaded), "key"))
	}
	if r.cfg.Warmup > 0 {
		fmt.Fprintf(&b, "%v of warm-up; ", r.cfg.Warmup)
	}
	fmt.Fprintf(&b, "measured %s in %.2f s", plural(r.Requests, "request"), r.Seconds)
	if late := r.Requests - int64(math.Round(r.Rate*r.Seconds)); r.cfg.Rate > 0 && float64(late) > (1-shortfall)*float64(r.Requests) {
		fmt.Fprintf(&b, ", %s of them answered after that", thousands(float64(late), 0))
	}
	if r.Interrupted {
		b.WriteString(", then interrupted")
	}
	return b.String()
}

func since(c load.Config) string {
	if c.Rate > 0 {
		return "from when a request was due to its answer"
	}
	return "from a request to its answer"
}

// latencies is the table of operations.
func (r *result) latencies() [][]string {
	head := []string{"", "ops/s", "hits/s", "misses/s", "mean"}
	for _, p := range r.percentiles {
		head = append(head, "p"+strconv.FormatFloat(p, 'f', -1, 64))
	}
	rows := [][]string{append(head, "max")}
	row := func(name, rate, hits, misses string, h *hdrhistogram.Histogram) {
		cells := []string{name, rate, hits, misses, milliseconds(h.Mean())}
		for _, p := range r.percentiles {
			cells = append(cells, milliseconds(float64(h.ValueAtPercentile(p))))
		}
		rows = append(rows, append(cells, milliseconds(float64(h.Max()))))
	}
	for op := range wire.Op(wire.Ops) {
		o, ok := r.Ops[op.String()]
		if !ok {
			continue
		}
		hits, misses := "-", "-" // of what cannot miss, and of what finds nothing to tell
		switch op {
		case wire.Get, wire.Gets:
			hits = r.perSecond(o.Hits)
			fallthrough
		case wire.CAS, wire.Incr, wire.Delete, wire.Touch:
			misses = r.perSecond(o.Misses)
		}
		row(op.String(), r.perSecond(o.Requests), hits, misses, o.Hist)
	}
	row("total", thousands(r.Rate, 1), r.perSecond(r.Hits), r.perSecond(r.Misses), r.Hist)
	return rows
}

// faults is what must not be.
func (r *result) faults() string {
	s := fmt.Sprintf("%s, %s, %s; %s", plural(r.Errors, "error"), plural(r.Wrong, "wrong value"), plural(r.Stale, "stale value"), plural(int64(r.Lost), "lost connection"))
	if r.Reopened > 0 {
		s += fmt.Sprintf(", %s opened again", thousands(float64(r.Reopened), 0))
	}
	if r.Conflicts > 0 {
		s += fmt.Sprintf("; %s cas overtaken", thousands(float64(r.Conflicts), 0))
	}
	if r.FirstError != "" {
		s += "\nthe first: " + r.FirstError
	}
	return s + "\n"
}

// cpu is the table of who spent what.
func (r *result) cpu() [][]string {
	rows := [][]string{{"CPU", "µs/request", "user", "system", "cores", "switches", "involuntary"}}
	row := func(name string, u meter.Usage) {
		rows = append(rows, []string{name, fmt.Sprintf("%.2f", u.CPU), fmt.Sprintf("%.2f", u.User), fmt.Sprintf("%.2f", u.System),
			fmt.Sprintf("%.2f", u.Cores), thousands(float64(u.Voluntary), 0), thousands(float64(u.Involuntary), 0)})
	}
	names := make([]string, 0, len(r.Procs))
	for name := range r.Procs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row(name, r.Procs[name])
	}
	row("this generator", r.Self)
	return rows
}

// histogram counts latencies in steps of 1, 2 and 5.
func histogram(h *hdrhistogram.Histogram) [][]string {
	rows := [][]string{{"latency up to", "requests", "percent", "so far"}}
	total := float64(max(h.TotalCount(), 1))
	bars := h.Distribution()
	seen := int64(0)
	for edge, step := int64(10_000), 0; seen < h.TotalCount(); step++ {
		n := int64(0)
		for len(bars) > 0 && bars[0].From <= edge {
			n += bars[0].Count
			bars = bars[1:]
		}
		if seen += n; seen > 0 {
			rows = append(rows, []string{short(time.Duration(edge)), thousands(float64(n), 0),
				fmt.Sprintf("%.3f", 100*float64(n)/total), fmt.Sprintf("%.3f", 100*float64(seen)/total)})
		}
		if edge *= 2; step%3 == 1 { // 1, 2, 5, 10
			edge = edge / 4 * 5
		}
	}
	return rows
}

// What makes figures doubtful.
const (
	threadBusy = 0.9  // of each of the generator's threads
	hostBusy   = 0.95 // of all CPUs
	noisy      = 0.15 // of all CPUs
	standstill = 5 * time.Millisecond
	shortfall  = 0.99 // of the rate asked for
)

// warnings says what makes the figures of rep, a run of cfg, doubtful.
func warnings(cfg load.Config, rep *load.Report) []string {
	all := []string{} // in JSON an empty list, not null
	warn := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	bottleneck := rep.Self.Cores >= threadBusy*float64(cfg.Threads)
	warn(bottleneck, "the generator was the bottleneck: it kept %.2f CPUs busy with %s. Give it more with --threads, or the target less.",
		rep.Self.Cores, plural(int64(cfg.Threads), "thread"))
	warn(!bottleneck && rep.Host.All.Idle <= 1-hostBusy, "the host was saturated: %s of its CPUs were busy. Generator and target took them from each other; "+
		"CPU per request suffers least, rates and latencies most.", percent(1-rep.Host.All.Idle))
	warn(rep.Host.Noise > noisy, "other programs took %s of the CPUs. Run it again, or name them with --proc if they belong to it.", percent(rep.Host.Noise))
	stall := time.Duration(rep.WorstStall * float64(time.Microsecond))
	warn(stall >= standstill, "the generator itself stood still for up to %s: latencies of that size may be its own.", short(stall))
	warn(rep.Target > 0 && rep.Rate < shortfall*rep.Target, "%s requests/s were answered, and %s were asked for.", thousands(rep.Rate, 0), thousands(rep.Target, 0))
	warn(rep.Lost > 0 && !cfg.Reopen, "connections were lost for good, %d of them: --reconnect-on-error opens them again.", rep.Lost)
	warn(rep.Errors > rep.Requests/100, "%s beside %s that were answered: rates and latencies have error lines in them, too.",
		plural(rep.Errors, "error"), plural(rep.Requests, "request"))
	warn(rep.Unsent > 0, "%s due and never sent: each connection had --pipeline in flight until the end, or was lost.", plural(rep.Unsent, "request"))
	writes := cfg.Mix[wire.Set]+cfg.Mix[wire.CAS] > 0
	warn(writes && cfg.Keys.Max-cfg.Keys.Min+1 < cfg.Conns, "there are fewer keys than connections: no value could be found stale.")
	least := len(cfg.Keys.Prefix) + len(strconv.Itoa(cfg.Keys.Max)) + keys.Overhead
	warn(writes && cfg.Values.Max() < least, "values of under %d bytes do not name their write: none could be found stale.", least)
	return all
}

// lost warns of keys that were written before and are not there.
func (r *result) lost() []string {
	if r.Preloaded == 0 || r.Misses == 0 || r.cfg.Mix[wire.Delete] > 0 || r.cfg.TTLs.Max > 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s of %s that were asked for were not there, though all had been written: the target has evicted or lost them, "+
		"or several servers were given that are not doors of one cache.", thousands(float64(r.Misses), 0), plural(r.Hits+r.Misses, "key"))}
}

// verdict is an error if the target gave what it must not, or nothing.
func verdict(rep *load.Report) error {
	if rep.Served == 0 && rep.Failed > 0 {
		return fmt.Errorf("not one of %s was answered without an error", plural(rep.Failed, "request"))
	}
	if rep.Wrong == 0 && rep.Stale == 0 {
		return nil
	}
	return fmt.Errorf("%s and %s: the target does not keep what it is given", plural(rep.Wrong, "wrong value"), plural(rep.Stale, "stale value"))
}

// columns aligns the first cell of each row to the left and the others to the right.
func columns(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			if pad := strings.Repeat(" ", widths[i]-len([]rune(cell))); i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func milliseconds(ns float64) string { return strconv.FormatFloat(ns/1e6, 'f', 3, 64) }

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 0, 64) + " %" }

// perSecond is the part of the rate that n of the requests have. The rate is that of the
// answers in the time that was measured; of an open loop later ones are among the requests.
func (r *result) perSecond(n int64) string {
	if r.Seconds == 0 {
		return "-"
	}
	return thousands(float64(n)*r.Rate/float64(max(r.Requests, 1)), 1)
}

// kilobytes is bytes over so many seconds, in units of 1024, as memtier_benchmark has it.
func kilobytes(bytes int64, seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return thousands(float64(bytes)/1024/seconds, 1)
}
