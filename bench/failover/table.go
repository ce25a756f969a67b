package failover

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Head is the first of the lines.
var Head = []string{"fault", "errors", "misses", "old or wrong values", "measured", "median", "worst", "bound", "verdict"}

// Lines is the table of s: for each scenario what was counted in all rounds, and each
// time in a line of its own, beside what its median must not exceed.
func (s *Set) Lines() (lines [][]string) {
	for i := range s.Rows {
		row := &s.Rows[i]
		sc := row.scenario()
		var c Counts
		for _, r := range row.Results {
			c.Misses += r.Total.Misses
			c.Stale += r.Total.Stale + r.Total.Wrong
			c.Failed += r.Total.Errors() + int(r.Unsent)
		}
		line := []string{sc.Name + ": " + sc.Text, fmt.Sprint(c.Failed), fmt.Sprint(c.Misses), fmt.Sprint(c.Stale)}
		for _, m := range append(slices.Clone(sc.Measures), longestGap) {
			median, worst := row.spread(m.Of)
			if m.ifAny && worst < 0 {
				continue
			}
			bound, verdict := "–", "–"
			if m.Most > 0 {
				bound = whole(m.Most)
				switch {
				case median > Millis(m.Most):
					verdict = "missed"
				case median >= 0: // it did happen
					verdict = "holds"
				}
			}
			lines = append(lines, append(line, m.Name, orNone(median), orNone(worst), bound, verdict))
			line = []string{"", "", "", ""}
		}
	}
	return lines
}

func orNone(m Millis) string {
	switch m {
	case Never:
		return "none"
	case Endless:
		return "not before the end"
	}
	return m.String()
}

// whole is a bound as it is promised.
func whole(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%d ms", d/time.Millisecond)
}

// Write prints the table.
func (s *Set) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range append([][]string{Head}, s.Lines()...) {
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}
