package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"magent/bench/failover"
	"magent/bench/meter"
	"magent/bench/process"
)

// runSeveral drills all scenarios in all rounds. What was drilled until it ended is
// reported.
func (d *drill) runSeveral(ctx context.Context, c failover.Config, out io.Writer) (end error) {
	o := newOutputs(out, d.json)
	defer func() { end = errors.Join(end, o.close()) }()
	if o.err != nil {
		return o.err
	}
	s := failover.Set{Provenance: meter.Describe(d.command("magent", "failover")), Rounds: d.rounds}
	s.Versions = map[string]string{"memcached": process.Version(d.memcached, "-V")}
	if path := d.proxy(); path != "" {
		s.Versions["magent"] = process.Version(path, "version")
	}
	drillErr := d.drillSeveral(ctx, c, &s, o.text)
	if len(s.Rows) == 0 {
		return early(ctx, drillErr)
	}
	fmt.Fprintln(o.text)
	err := errors.Join(s.Write(o.text), o.write(s))
	if d.results != "" {
		dir, saveErr := s.Save(d.results)
		err = errors.Join(err, saveErr)
		fmt.Fprintf(o.text, "\nraw results in %s; to put them into BENCHMARKS.md: magent bench report --results %s\n", dir, dir)
	}
	if !d.direct {
		err = errors.Join(err, s.Check())
	}
	return ended(ctx, drillErr, err)
}

// drillSeveral says what came of each drill as soon as it is over.
func (d *drill) drillSeveral(ctx context.Context, c failover.Config, s *failover.Set, out io.Writer) error {
	ticker := newTicker(os.Stderr)
	defer ticker.end()
	if ticker != nil {
		c.Load.Progress = ticker.show
	}
	return s.Run(ctx, c, d.scenarios, func(round int, scenario string, r *failover.Result) {
		t := r.Total
		line := fmt.Sprintf("round %d  %-14s %7d requests  %d errors  %d misses  %d stale  %d wrong  gap %v  slowest %v  own stalls up to %v",
			round, scenario, t.Requests, t.Errors(), t.Misses, t.Stale, t.Wrong, r.Gap, r.Slowest.Took, r.LongestStall)
		ticker.end()
		fmt.Fprintln(out, line)
	})
}
