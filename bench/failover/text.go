package failover

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Write prints what a human wants to know first.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	if r.Name != "" {
		fmt.Fprintf(&b, "%s\n", r.Name)
	}
	fmt.Fprintf(&b, "%s requests/s for %s\n\n", perSecond(r.Rate), clock(r.Length))
	r.writePhases(&b)
	b.WriteByte('\n')
	r.writeTimes(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// perSecond is a rate: a whole number, or three digits of a small one.
func perSecond(rate float64) string {
	if rate >= 100 {
		return fmt.Sprintf("%.0f", rate)
	}
	return fmt.Sprintf("%.3g", rate)
}

// clock is a time since the load began.
func clock(m Millis) string {
	if m < 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f s", time.Duration(m).Seconds())
}

// short is a length of time without its unit, in ms.
func short(m Millis) string {
	if m < 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(m)/float64(time.Millisecond))
}

func percent(ratio float64) string {
	if math.IsNaN(ratio) {
		return "-"
	}
	// Rounded down: 100 % has no miss in it.
	return fmt.Sprintf("%.2f %%", math.Floor(ratio*1e4)/100)
}

func (r *Result) writePhases(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "phase\tfrom\trequests\tgood/s\terrors\tmisses\tstale\twrong\thits\tp50 ms\tp99 ms\tslowest ms\t\n")
	for _, p := range append(r.Phases[:len(r.Phases):len(r.Phases)], r.Total) {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", p.Name, clock(p.From), p.Requests, perSecond(p.Rate),
			p.Errors(), p.Misses, p.Stale, p.Wrong, percent(p.Ratio()), short(p.Net.P50), short(p.Net.P99), short(p.Net.Slowest))
	}
	t.Flush() // to a Builder, which does not fail
}

func (r *Result) writeTimes(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	for _, m := range r.Marks {
		switch {
		case m.Error != "":
			line(clock(m.From), "%s: failed: %s", m.Name, m.Error)
		case m.RunsOn && m.Returns:
			line(clock(m.From), "%s (still running at the end, and left running)", m.Name)
		case m.RunsOn:
			line(clock(m.From), "%s (still running at the end, and ended)", m.Name)
		case m.To-m.From >= Millis(100*time.Millisecond):
			line(clock(m.From), "%s (took %v)", m.Name, m.To-m.From)
		case m.Fails || m.Returns:
			line(clock(m.From), "%s", m.Name)
		}
	}
	if r.Fault < 0 && slices.ContainsFunc(r.Marks, func(m Mark) bool { return m.Fails }) {
		line("fault", "none was made: what was to make it failed, and ended the drill")
	}
	if r.Fault >= 0 {
		if r.FirstError < 0 {
			line("first error", "none after the fault")
		} else {
			line("first error", "%v after the fault", r.FirstError)
			line("last error", "%v after the fault%s", r.LastError, ifEver(", %v after the return", r.LastErrorBack))
		}
		line("first good answer", "%v", after(r.FirstGood, "the fault"))
	}
	if r.Total.Errors() > 0 {
		line("errors", "%d answered with an error line, %d not answered", r.Total.Failed, r.Total.Lost)
	}
	line("longest gap", "%v without a good answer%s", r.Gap, ifEver(", from %s on", r.GapAt))
	switch {
	case r.Fault < 0 || r.Back < 0:
	case r.Watched && r.UpAfter < 0:
		line("warm", "not before the end: the proxy did not call up what came back")
	case r.Watched:
		line("warm", "%v, when the proxy called it up", after(r.UpAfter, "the return"))
	default:
		line("warm", "%v", after(r.WarmAfter, "the return"))
	}
	if r.Slowest.Took >= 0 {
		line("slowest", "%v, a %s due at %s (%s)", r.Slowest.Took, r.Slowest.Op, clock(r.Slowest.Due), r.Slowest.Verdict)
	}
	if r.Unsent > 0 {
		line("unsent", "%d requests were due, and not sent before the end", r.Unsent)
	}
	if r.Stalls > 0 {
		line("own stalls", "%d, the longest %v, taken off above; with them the slowest took %v, and the gap %v",
			r.Stalls, r.LongestStall, r.Total.Latency.Slowest, r.GapWhole)
	}
	t.Flush()
}

func after(m Millis, what string) string {
	switch {
	case m < 0:
		return m.String()
	case m == 0:
		return "at once"
	}
	return m.String() + " after " + what
}

// ifEver is format with m, if that is not Never.
func ifEver(format string, m Millis) string {
	if m < 0 {
		return ""
	}
	if strings.Contains(format, "%s") {
		return fmt.Sprintf(format, clock(m))
	}
	return fmt.Sprintf(format, m)
}
