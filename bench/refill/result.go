package refill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"magent/bench/failover"
	"magent/bench/meter"
	"magent/bench/wire"
)

// Set is the raw file of a measurement: what was asked, and every round.
type Set struct {
	meter.Provenance
	Keys   int    `json:"keys"`
	Values string `json:"values"` // sizes, as --data-size-range has them
	// Load is what clients asked, in words.
	Load      string  `json:"load"`
	IdleFlags string  `json:"idle_flags"` // of magent
	ProxyCPUs []int   `json:"cpus_proxy"`
	LoadCPUs  []int   `json:"cpus_load"`
	Bounds    Bounds  `json:"bounds"`
	Error     string  `json:"error,omitempty"` // what ended it early
	Rounds    []Round `json:"rounds"`
}

// Round is each way of filling the empty node once.
type Round struct {
	Copy   Trial  `json:"copy"`
	Idle   Trial  `json:"idle"`
	Loaded Loaded `json:"loaded"`
}

// Ratio is the pace of the refill beside that of the copy, in the same round.
func (r *Round) Ratio() float64 { return r.Idle.Rate / r.Copy.Rate }

// Trial is an empty node that was filled.
type Trial struct {
	// Took is from when the empty node answered until the proxy called it up, or the
	// copy was over; Whole until the node said that it holds as many items as there are
	// keys, and Rate is all keys over that: what comes after is the same for few keys
	// and for many. Warming is when the proxy first called it warming: null if nobody
	// saw that.
	Took    failover.Millis `json:"took_ms"`
	Whole   failover.Millis `json:"whole_after_ms"`
	Warming failover.Millis `json:"warming_after_ms"`
	Rate    float64         `json:"keys_per_second"`
	// Keys is how many of the keys the node held then, Items what it says that it
	// holds, with what the proxy keeps there for itself.
	Keys  int   `json:"keys_then"`
	Items int64 `json:"curr_items"`
	// CPU is µs per key of the proxy, or of what copies; Cores is the same over time.
	// NodesCPU is that of both nodes.
	CPU      float64 `json:"cpu_us"`
	Cores    float64 `json:"cores"`
	NodesCPU float64 `json:"nodes_cpu_us"`
	// Noise is the share of all CPUs that went to programs that have no part in it.
	Noise float64 `json:"noise"`
}

// Loaded is a refill under load.
type Loaded struct {
	Trial
	// CoresBefore are the proxy's while all was well.
	CoresBefore float64 `json:"cores_before"`
	// Seen is what clients saw: before, down, back until the node was up, and warm.
	// Only the worst round keeps its timeline.
	Seen *failover.Result `json:"seen"`
}

// phase is that part of what clients saw, empty if there was none.
func (l *Loaded) phase(name string) failover.Phase {
	i := slices.IndexFunc(l.Seen.Phases, func(p failover.Phase) bool { return p.Name == name })
	if i < 0 {
		return failover.Phase{Name: name}
	}
	return l.Seen.Phases[i]
}

// P99Ratio is p99 during the refill beside that of before, without what the generator
// itself was held up. It is no number if nothing was asked.
func (l *Loaded) P99Ratio() float64 {
	then, now := l.phase(before), l.phase(during)
	if then.Requests == 0 || now.Requests == 0 {
		return math.NaN()
	}
	return micros(now.Net.P99) / micros(then.Net.P99)
}

// before and during are the phases that are compared.
const before, during = "before", "back"

// unwanted is how many requests under load did not end as they must.
func (l *Loaded) unwanted() (errs, misses, bad int) {
	t := &l.Seen.Total
	return t.Errors() + int(l.Seen.Unsent), t.Misses, t.Stale + t.Wrong
}

// describe notes what is measured.
func (s *Set) describe(c *Config) {
	gets, sets := c.Mix[wire.Get], c.Mix[wire.Set]
	s.Keys, s.Values, s.IdleFlags = c.Keys, c.Values.String(), strings.Join(c.IdleFlags, " ")
	s.Load = fmt.Sprintf("%.0f requests/s over %d connections, %d set : %d get", c.Rate, c.Conns, sets, gets)
	s.ProxyCPUs, s.LoadCPUs = c.ProxyCPUs, c.LoadCPUs
}

// worst is the round whose clients suffered most from the refill.
func (s *Set) worst() *Round {
	worst := &s.Rounds[0]
	for i := range s.Rounds {
		if r := &s.Rounds[i]; r.Loaded.P99Ratio() > worst.Loaded.P99Ratio() {
			worst = r
		}
	}
	return worst
}

func (s *Set) keepOneTimeline() {
	for i := range s.Rounds {
		if r := &s.Rounds[i]; r != s.worst() {
			r.Loaded.Seen.Timeline = nil
		}
	}
}

// RawFile is a Set's, in its directory, and PlotFile the timeline of the worst round.
const (
	RawFile  = "refill.json"
	PlotFile = "refill.svg"
	textFile = "refill.txt"
)

// Save writes s, its table, and the timeline of the worst round, into a directory of its
// own.
func (s *Set) Save(under string) (dir string, err error) {
	dir = filepath.Join(under, s.Dir())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dir, fmt.Errorf("refill: %w", err)
	}
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return dir, fmt.Errorf("refill: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, RawFile), append(raw, '\n'), 0o644); err != nil {
		return dir, fmt.Errorf("refill: %w", err)
	}
	// What is drawn is what was written, so that it can be drawn again.
	written, err := Load(dir)
	if err != nil {
		return dir, err
	}
	svg, err := written.SVG()
	var text bytes.Buffer
	return dir, errors.Join(err, written.Write(&text),
		os.WriteFile(filepath.Join(dir, PlotFile), svg, 0o644),
		os.WriteFile(filepath.Join(dir, textFile), text.Bytes(), 0o644))
}

// SVG is the timeline of the worst round.
func (s *Set) SVG() ([]byte, error) {
	var b bytes.Buffer
	err := s.worst().Loaded.Seen.Plot(&b)
	return b.Bytes(), err
}

// Load reads the raw file in dir.
func Load(dir string) (*Set, error) {
	raw, err := os.ReadFile(filepath.Join(dir, RawFile))
	if err != nil {
		return nil, fmt.Errorf("refill: %w", err)
	}
	var s Set
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("refill: %s: %w", dir, err)
	}
	if len(s.Rounds) == 0 || slices.ContainsFunc(s.Rounds, func(r Round) bool { return r.Loaded.Seen == nil }) {
		return nil, fmt.Errorf("refill: %s: no rounds, or one that is not whole", dir)
	}
	return &s, nil
}
