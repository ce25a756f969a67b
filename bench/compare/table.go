package compare

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table is text in rows and columns.
type table struct {
	head []string
	rows [][]string
}

// text writes t in columns of blanks.
func (t table) text(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.head}, t.rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}

// markdown is t as GitHub's Markdown has tables.
func (t table) markdown() string {
	var b strings.Builder
	for i, row := range append([][]string{t.head}, t.rows...) {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

// WriteTables writes the rows as text: ratios, and what they are ratios of.
func WriteTables(out io.Writer, rows []Row) {
	plain := func(workload string) string { return workload }
	ratioTable(rows, plain).text(out)
	fmt.Fprintln(out)
	sideTable(Sides(rows), plain).text(out)
}

// none stands for what a side does not have.
const none = "–"

// cell is s with its ends, in the format given for one number.
func cell(s Spread, format string) string {
	if s.Median == 0 {
		return none
	}
	return fmt.Sprintf(format+" ["+format+"–"+format+"]", s.Median, s.Min, s.Max)
}

func median(s Spread, format string) string {
	if s.Median == 0 {
		return none
	}
	return fmt.Sprintf(format, s.Median)
}

// ratioTable has ratios as median [min–max]. Below 1 ours is cheaper, or quicker, except
// for the rate. name writes a workload's.
func ratioTable(rows []Row, name func(string) string) table {
	t := table{head: []string{"workload", "ours", "against", "CPU per request", "rate", "p50", "p99", "noise"}}
	bounds := false
	for i := range rows {
		bounds = bounds || rows[i].bounded()
	}
	if bounds {
		t.head = append(t.head, "must", "aim", "verdict")
	}
	for i := range rows {
		r := &rows[i]
		line := []string{
			name(r.Workload), r.Ours, r.Theirs,
			cell(r.CPURatio, "%.2f"), cell(r.RateRatio, "%.2f"), cell(r.P50Ratio, "%.2f"), cell(r.P99Ratio, "%.2f"),
			fmt.Sprintf("%.0f %%", 100*r.Noise.Median),
		}
		if bounds {
			line = append(line, r.must(), median(Spread{Median: r.Aim}, "%.2f"), r.Verdict())
		}
		t.rows = append(t.rows, line)
	}
	return t
}

// must says what the row promises.
func (r *Row) must() string {
	var what []string
	if r.Must > 0 {
		what = append(what, fmt.Sprintf("CPU %.2f", r.Must))
	}
	if r.MustP50 > 0 {
		what = append(what, fmt.Sprintf("p50 %.2f", r.MustP50))
	}
	if what == nil {
		return none
	}
	return strings.Join(what, ", ")
}

// sideTable has each side's figures: µs of CPU are per request.
func sideTable(sides []Side, name func(string) string) table {
	t := table{head: []string{"workload", "side", "rate, k/s", "p50, µs", "p99, µs", "proxy CPU, µs", "nodes, µs", "load, µs", "switches", "host busy"}}
	for _, s := range sides {
		t.rows = append(t.rows, []string{
			name(s.Workload), s.Name,
			cell(s.Rate.over(1000), "%.1f"), cell(s.P50, "%.0f"), cell(s.P99, "%.0f"), cell(s.Proxy, "%.2f"),
			median(s.Nodes, "%.2f"), median(s.Load, "%.2f"), median(s.Switches, "%.2f"), fmt.Sprintf("%.0f %%", 100*s.Busy.Median),
		})
	}
	return t
}

func (s Spread) over(d float64) Spread { return Spread{s.Median / d, s.Min / d, s.Max / d} }
