package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Mark is something that happened beside the requests, such as a node's death.
type Mark struct {
	At   time.Duration // since what Ops count from
	Text string
}

// Explain shows so many requests for a key before its fault, and so many marks.
const around, marked = 40, 8

// Explain shows a fault of a history and what was done to its key until then, a line
// each, and the last marks, which are in the order of time. The lines of the fault and
// of what shows it begin with an arrow.
func Explain(f *Fault, history []Op, marks []Mark) string {
	type entry struct {
		at   time.Duration
		text string
	}
	var shown []*Op
	for i := range history {
		if o := &history[i]; o.Key == f.Op.Key && o.Start <= f.Op.End {
			shown = append(shown, o)
		}
	}
	slices.SortFunc(shown, func(a, b *Op) int { return cmp.Compare(a.Start, b.Start) })
	recent := max(0, len(shown)-around)
	var lines []entry
	for i, o := range shown {
		sign := "   "
		switch {
		case o == f.Op:
			sign = ">> "
		case o == f.Against || o.Kind == Write && f.Op.Kind == Read && o.ID == f.Op.ID:
			sign = " > "
		case i < recent:
			continue
		}
		lines = append(lines, entry{o.Start, sign + o.String()})
	}
	marks = slices.DeleteFunc(slices.Clone(marks), func(m Mark) bool { return m.At > f.Op.End })
	for _, m := range marks[max(0, len(marks)-marked):] {
		lines = append(lines, entry{m.At, fmt.Sprintf(" * %s  %s", stamp(m.At), m.Text)})
	}
	slices.SortStableFunc(lines, func(a, b entry) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", f.Op.Key, f.Why)
	for _, l := range lines {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

func stamp(t time.Duration) string { return fmt.Sprintf("%10.6f", t.Seconds()) }

// String is the line of a history that o is.
func (o *Op) String() string {
	what := ""
	switch {
	case o.Kind == Write || o.Kind == Read && o.Outcome == Done:
		what = o.ID.String()
	case (o.Kind == Incr || o.Kind == Count) && o.Outcome == Done:
		what = fmt.Sprint(o.Count)
	}
	return strings.TrimRight(fmt.Sprintf("%s %s  client %-3d %-6s %-8s %-8s %s",
		stamp(o.Start), stamp(o.End), o.Client, o.Kind, what, o.Outcome, o.Note), " ")
}
