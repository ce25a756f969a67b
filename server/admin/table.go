package admin

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// WriteTable writes s for people, as of now: a line for the magent, and one for each node.
func WriteTable(w io.Writer, s Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	ready := "ready"
	if !s.Ready.Ready {
		ready = "not ready: " + s.Ready.Why(false)
	}
	fmt.Fprintf(t, "magent %s, up %s, %s\n", s.Version, age(now.Sub(s.Since)), ready)
	several := slices.ContainsFunc(s.Nodes, func(n Node) bool { return n.Pool != s.Nodes[0].Pool })
	if several {
		fmt.Fprint(t, "POOL\t")
	}
	fmt.Fprintln(t, "NODE\tCOPY\tSTATE\tFOR\tDEBT\tCAUSE\tREFILL")
	for _, n := range s.Nodes {
		if several {
			fmt.Fprintf(t, "%s\t", n.Pool)
		}
		state := n.State
		if n.Drain {
			state += ", drained"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d\t%s\t%s\n", n.Name, n.Copy, state, age(now.Sub(n.Since)), n.Debt, n.Cause, n.Refill)
	}
	return t.Flush()
}

// String is how far r is, for people; "-" of nil.
func (r *Refill) String() string {
	if r == nil {
		return "-"
	}
	text := fmt.Sprintf("%s: %d keys", r.Phase, r.Done)
	if r.Total > 0 {
		text = fmt.Sprintf("%s: %d of %d keys (%.0f %%)", r.Phase, r.Done, r.Total, 100*float64(r.Done)/float64(r.Total))
	}
	text += fmt.Sprintf(", %.0f keys/s, %.1f MB/s", r.Keys, r.Bytes/1e6)
	if r.ETA != nil {
		text += ", " + age(time.Duration(*r.ETA)*time.Second) + " to go"
	}
	return text
}

// age is d in its two largest units.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(0, d).Round(time.Second); {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return d.String()
}
