package refill

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"magent/bench/failover"
)

// Bounds are what a refill must be; 0 is no bound.
type Bounds struct {
	// MinRate is keys per second while nothing else goes on, MinRatio the same beside
	// the copy. Both hold if the median reaches them.
	MinRate  float64 `json:"min_rate"`
	MinRatio float64 `json:"min_ratio"`
	// MaxP99Ratio is what p99 of clients may be multiplied by: the median must stay
	// below.
	MaxP99Ratio float64 `json:"max_p99_ratio"`
}

// spread is the median, the smallest and the largest of a figure in all rounds.
func (s *Set) spread(of func(*Round) float64) (median, least, most float64) {
	all := make([]float64, len(s.Rounds))
	for i := range s.Rounds {
		all[i] = of(&s.Rounds[i])
	}
	slices.Sort(all)
	middle := len(all) / 2
	return (all[middle] + all[len(all)-1-middle]) / 2, all[0], all[len(all)-1]
}

// The figures that are bounded.
func idleRate(r *Round) float64 { return r.Idle.Rate }
func p99Ratio(r *Round) float64 { return r.Loaded.P99Ratio() }

// Check says which bounds were missed, which counts are not 0 that must be, and which
// rounds left keys behind.
func (s *Set) Check() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("refill: "+format, args...)) }
	if rate, least, most := s.spread(idleRate); rate < s.Bounds.MinRate {
		fault("%.0f keys/s [%.0f–%.0f], and at least %.0f promised", rate, least, most, s.Bounds.MinRate)
	}
	if ratio, least, most := s.spread((*Round).Ratio); ratio < s.Bounds.MinRatio {
		fault("%.2f [%.2f–%.2f] of the pace of a raw copy, and at least %.2f promised", ratio, least, most, s.Bounds.MinRatio)
	}
	// Written so that no NaN passes.
	if ratio, least, most := s.spread(p99Ratio); s.Bounds.MaxP99Ratio > 0 && !(ratio < s.Bounds.MaxP99Ratio) {
		fault("p99 of clients is multiplied by %.2f [%.2f–%.2f], and less than %.2f is promised", ratio, least, most, s.Bounds.MaxP99Ratio)
	}
	for i := range s.Rounds {
		r := &s.Rounds[i]
		if errors, misses, bad := r.Loaded.unwanted(); errors+misses+bad > 0 {
			fault("round %d: clients saw %d errors, %d misses, %d old or wrong values", i+1, errors, misses, bad)
		}
		for what, t := range map[string]*Trial{"the raw copy": &r.Copy, "the idle refill": &r.Idle, "the refill under load": &r.Loaded.Trial} {
			if t.Keys != s.Keys {
				fault("round %d: after %s the node holds %d of %d keys", i+1, what, t.Keys, s.Keys)
			}
		}
	}
	return errors.Join(errs...)
}

// Head is the first of the lines.
var Head = []string{"", "median", "smallest", "largest", "bound", "verdict"}

// Lines is the table of s.
func (s *Set) Lines() (lines [][]string) {
	row := func(name, format string, of func(*Round) float64, bound, verdict string) {
		median, least, most := s.spread(of)
		line := []string{name}
		for _, x := range []float64{median, least, most} {
			line = append(line, fmt.Sprintf(format, x))
		}
		lines = append(lines, append(line, bound, verdict))
	}
	free := func(name, format string, of func(*Round) float64) { row(name, format, of, "–", "–") }
	least := func(name, format string, of func(*Round) float64, bound float64) {
		median, _, _ := s.spread(of)
		row(name, format, of, bounded("at least "+format, bound), verdict(bound, median >= bound))
	}
	least("idle: keys refilled per second", "%.0f", idleRate, s.Bounds.MinRate)
	free("idle: keys copied per second by two raw connections", "%.0f", func(r *Round) float64 { return r.Copy.Rate })
	least("idle: refill beside raw copy", "%.2f", (*Round).Ratio, s.Bounds.MinRatio)
	free("idle: seconds until the node holds all keys", "%.2f", func(r *Round) float64 { return seconds(r.Idle.Whole) })
	free("idle: seconds until magent calls the node up", "%.2f", func(r *Round) float64 { return seconds(r.Idle.Took) })
	free("idle: seconds until it calls it warming", "%.3f", func(r *Round) float64 { return seconds(r.Idle.Warming) })
	free("idle: CPU of magent per key, µs", "%.2f", func(r *Round) float64 { return r.Idle.CPU })
	free("idle: CPU of both nodes per key, µs", "%.2f", func(r *Round) float64 { return r.Idle.NodesCPU })
	free("raw copy: its CPU per key, µs", "%.2f", func(r *Round) float64 { return r.Copy.CPU })
	free("raw copy: CPU of both nodes per key, µs", "%.2f", func(r *Round) float64 { return r.Copy.NodesCPU })
	free("under load: keys refilled per second", "%.0f", func(r *Round) float64 { return r.Loaded.Rate })
	free("under load: seconds until the node holds all keys", "%.2f", func(r *Round) float64 { return seconds(r.Loaded.Whole) })
	free("under load: seconds until magent calls the node up", "%.2f", func(r *Round) float64 { return seconds(r.Loaded.Took) })
	free("under load: p50 before, µs", "%.0f", func(r *Round) float64 { return micros(r.Loaded.phase(before).Net.P50) })
	free("under load: p50 during the refill, µs", "%.0f", func(r *Round) float64 { return micros(r.Loaded.phase(during).Net.P50) })
	free("under load: p99 before, µs", "%.0f", func(r *Round) float64 { return micros(r.Loaded.phase(before).Net.P99) })
	free("under load: p99 during the refill, µs", "%.0f", func(r *Round) float64 { return micros(r.Loaded.phase(during).Net.P99) })
	median, _, _ := s.spread(p99Ratio)
	row("under load: p99 during beside before", "%.2f", p99Ratio, bounded("below %.2f", s.Bounds.MaxP99Ratio), verdict(s.Bounds.MaxP99Ratio, median < s.Bounds.MaxP99Ratio))
	free("under load: cores of magent before", "%.2f", func(r *Round) float64 { return r.Loaded.CoresBefore })
	free("under load: cores of magent during the refill", "%.2f", func(r *Round) float64 { return r.Loaded.Cores })
	s.counts(row)
	free("share of the CPUs that went to other programs", "%.2f", func(r *Round) float64 { return max(r.Copy.Noise, r.Idle.Noise, r.Loaded.Noise) })
	return lines
}

// counts are the lines of what must be 0 in every round.
func (s *Set) counts(row func(name, format string, of func(*Round) float64, bound, verdict string)) {
	count := func(name string, of func(*Round) int) {
		as := func(r *Round) float64 { return float64(of(r)) }
		_, _, most := s.spread(as)
		row(name, "%.0f", as, "0", verdict(1, most == 0))
	}
	count("under load: errors", func(r *Round) int { n, _, _ := r.Loaded.unwanted(); return n })
	count("under load: misses", func(r *Round) int { _, n, _ := r.Loaded.unwanted(); return n })
	count("under load: old or wrong values", func(r *Round) int { _, _, n := r.Loaded.unwanted(); return n })
	count("keys that the node lacked once it was up", func(r *Round) int { return 2*s.Keys - r.Idle.Keys - r.Loaded.Keys })
}

func bounded(format string, bound float64) string {
	if bound == 0 {
		return "–"
	}
	return fmt.Sprintf(format, bound)
}

func verdict(bound float64, holds bool) string {
	switch {
	case bound == 0:
		return "–"
	case holds:
		return "holds"
	}
	return "missed"
}

func seconds(m failover.Millis) float64 { return micros(m) / 1e6 }

// micros is m in µs, as it is written, so that figures are the same of what was read.
func micros(m failover.Millis) float64 { return math.Round(float64(m) / float64(time.Microsecond)) }

// Write prints the table.
func (s *Set) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range append([][]string{Head}, s.Lines()...) {
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}
