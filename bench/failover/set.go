package failover

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"magent/bench/meter"
)

// Set is several scenarios, each drilled in every round: the raw file of them.
type Set struct {
	meter.Provenance
	// Load is what clients asked, in words.
	Load   string `json:"load"`
	Rounds int    `json:"rounds"`
	// Down is for how long what failed did.
	Down Millis `json:"down_ms"`
	// Error is what ended it early.
	Error string `json:"error,omitempty"`
	Rows  []Row  `json:"rows"`
}

// Row is one scenario, by its name then, and a Result for each round of it. Only the
// worst keeps its Timeline.
type Row struct {
	Scenario string    `json:"scenario"`
	Results  []*Result `json:"results"`
}

// Run drills every scenario of names, once in each round, on a system started for it.
// c's Own gives the programs. told, if not nil, hears of each drill when it is over. An
// error ends it; what was drilled until then stays.
func (s *Set) Run(ctx context.Context, c Config, names []string, told func(round int, scenario string, r *Result)) error {
	s.Load, s.Down = c.inWords(), Millis(c.WithDefaults().Down)
	s.Rows = make([]Row, len(names))
	for i, name := range names {
		s.Rows[i].Scenario = name
	}
	err := s.rounds(ctx, c, told)
	if err != nil {
		s.Error = err.Error()
	}
	s.Rows = slices.DeleteFunc(s.Rows, func(r Row) bool { return len(r.Results) == 0 })
	for i := range s.Rows {
		row := &s.Rows[i]
		worst := row.worst()
		for _, r := range row.Results {
			if r != worst {
				r.Timeline = nil
			}
		}
	}
	return err
}

func (s *Set) rounds(ctx context.Context, c Config, told func(int, string, *Result)) error {
	for round := range s.Rounds {
		for i := range s.Rows {
			row := &s.Rows[i]
			own := *c.Own
			own.Scenario = row.Scenario
			this := c
			this.Own = &own
			this.Load.Seed = c.Load.Seed + uint64(round)
			r, err := Run(ctx, this)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", row.Scenario, round+1, err)
			}
			row.Results = append(row.Results, r)
			if told != nil {
				told(round+1, row.Scenario, r)
			}
		}
	}
	return nil
}

// inWords is the load of c.
func (c Config) inWords() string {
	l := c.WithDefaults().Load
	gets, sets := asked(l.Mix)
	return fmt.Sprintf("%d clients of %s requests/s each, %.0f %% writes", l.Conns, perSecond(l.Rate/float64(l.Conns)), 100*float64(sets)/float64(max(gets+sets, 1)))
}

// worst is the round with the most that should not be, and of those the slowest.
func (r *Row) worst() *Result {
	return slices.MaxFunc(r.Results, func(a, b *Result) int {
		return cmp.Or(
			cmp.Compare(a.Total.Wrong+a.Total.Stale, b.Total.Wrong+b.Total.Stale),
			cmp.Compare(a.Total.Errors()+a.Total.Misses, b.Total.Errors()+b.Total.Misses),
			cmp.Compare(a.Slowest.Took, b.Slowest.Took))
	})
}

// scenario is r's, and no more than its name if there is none of that name any more.
func (r *Row) scenario() Scenario {
	s, err := Find(r.Scenario)
	if err != nil {
		return Scenario{Name: r.Scenario, Text: r.Scenario}
	}
	return s
}

// Check says which counts are not 0 that must be: the clients of a proxy see of one dead
// node nothing, of two that there is none, and never anything old or wrong.
func (s *Set) Check() error {
	var errs []error
	for i := range s.Rows {
		row := &s.Rows[i]
		bounds := Bounds{MaxGap: Unbounded}
		outage := row.scenario().Outage
		if outage {
			bounds.MaxErrors, bounds.MaxMiss = Unbounded, Unbounded
		}
		for round, r := range row.Results {
			err := r.Check(bounds)
			if lost := r.Total.Lost + int(r.Unsent); outage && lost > 0 {
				err = errors.Join(err, fmt.Errorf("failover: %d requests were not answered, not even with an error", lost))
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s, round %d: %w", row.Scenario, round+1, err))
			}
		}
	}
	return errors.Join(errs...)
}

// spread is the median and the worst of one time in all rounds. A round that had none is
// better than any that had.
func (r *Row) spread(of func(*Result) Millis) (median, worst Millis) {
	all := make([]Millis, len(r.Results))
	for i, result := range r.Results {
		all[i] = of(result)
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}

// RawFile is a Set's, in its directory.
const RawFile = "failover.json"

// Save writes s, and the timeline of the worst round of each scenario, into a directory
// of its own.
func (s *Set) Save(under string) (dir string, err error) {
	dir = filepath.Join(under, s.Dir())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dir, fmt.Errorf("failover: %w", err)
	}
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return dir, fmt.Errorf("failover: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, RawFile), append(raw, '\n'), 0o644); err != nil {
		return dir, fmt.Errorf("failover: %w", err)
	}
	// What is drawn is what was written, so that it can be drawn again.
	written, err := LoadSet(dir)
	if err != nil {
		return dir, err
	}
	for i := range written.Rows {
		row := &written.Rows[i]
		svg, plotErr := row.SVG()
		err = errors.Join(err, plotErr, os.WriteFile(filepath.Join(dir, row.Plot()), svg, 0o644))
	}
	return dir, err
}

// Plot is the name of the file that SVG is kept in.
func (r *Row) Plot() string { return r.Scenario + ".svg" }

// SVG is the timeline of the worst round.
func (r *Row) SVG() ([]byte, error) {
	var b bytes.Buffer
	err := r.worst().Plot(&b)
	return b.Bytes(), err
}

// LoadSet reads the raw file in dir.
func LoadSet(dir string) (*Set, error) {
	raw, err := os.ReadFile(filepath.Join(dir, RawFile))
	if err != nil {
		return nil, fmt.Errorf("failover: %w", err)
	}
	var s Set
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("failover: %s: %w", dir, err)
	}
	for i := range s.Rows {
		if len(s.Rows[i].Results) == 0 || slices.Contains(s.Rows[i].Results, nil) {
			return nil, fmt.Errorf("failover: %s: %s has no rounds, or an empty one", dir, s.Rows[i].Scenario)
		}
	}
	return &s, nil
}
