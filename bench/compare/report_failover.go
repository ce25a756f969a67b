package compare

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"magent/bench/failover"
)

// drillBlocks are what is written of drills: by name, like blocks.
var drillBlocks = map[string]func(dir string, s *failover.Set) (text string, files map[string][]byte, err error){
	"failover":       drillTable,
	"failover-plots": drillPlots,
	"failover-host":  drillHost,
}

// drilled are the scenarios whose timeline is shown: what refuses, and what is silent.
var drilled = []string{"kill", "stop"}

// drills is the mark that begins a block of drills, and its text.
func (f *filler) drills(name, dir string) (string, error) {
	set, err := failover.LoadSet(filepath.Join(f.base, dir))
	if err != nil {
		return "", err
	}
	if f.newer(dir, failover.RawFile) {
		newest, err := failover.LoadSet(filepath.Join(f.base, f.newest))
		if err != nil {
			return "", err
		}
		if repeats(newest, set) {
			dir, set = f.newest, newest
			f.moved = append(f.moved, name)
		}
	}
	text, files, err := drillBlocks[name](dir, set)
	if err != nil {
		return "", err
	}
	return f.begun(name, dir, text, files), nil
}

// repeats says whether s has all scenarios of old.
func repeats(s, old *failover.Set) bool {
	for _, o := range old.Rows {
		if !slices.ContainsFunc(s.Rows, func(r failover.Row) bool { return r.Scenario == o.Scenario }) {
			return false
		}
	}
	return true
}

func drillTable(_ string, s *failover.Set) (string, map[string][]byte, error) {
	t := table{head: failover.Head, rows: s.Lines()}
	for _, row := range t.rows {
		if name, text, ok := strings.Cut(row[0], ": "); ok {
			row[0] = "`" + name + "`: " + text
		}
	}
	return t.markdown(), nil, nil
}

// drillPlots draws those of drilled that there are.
func drillPlots(dir string, s *failover.Set) (string, map[string][]byte, error) {
	text, files := "", make(map[string][]byte)
	for i := range s.Rows {
		r := &s.Rows[i]
		if !slices.Contains(drilled, r.Scenario) {
			continue
		}
		svg, err := r.SVG()
		if err != nil {
			return "", nil, err
		}
		files[r.Plot()] = svg
		text += fmt.Sprintf("![%s: the timeline of the worst round](%s/%s)\n", r.Scenario, dir, r.Plot())
	}
	if text == "" {
		return "", nil, fmt.Errorf("%s has none of %s", dir, strings.Join(drilled, ", "))
	}
	return text, files, nil
}

func drillHost(dir string, s *failover.Set) (string, map[string][]byte, error) {
	var b strings.Builder
	provenance(&b, dir, failover.RawFile, s.Provenance, commandLine(s.Command))
	stall := failover.Millis(0)
	for _, row := range s.Rows {
		for _, r := range row.Results {
			stall = max(stall, r.LongestStall)
		}
	}
	item(&b, "Load: %s. What fails does so for %v.", s.Load, time.Duration(s.Down))
	rounds := "rounds"
	if s.Rounds == 1 {
		rounds = "round"
	}
	item(&b, "%d %s; the load generator itself stood still for at most %v, which is taken off.", s.Rounds, rounds, stall)
	if s.Error != "" {
		item(&b, "**Not complete**: %s", strings.ReplaceAll(s.Error, "\n", "; "))
	}
	return b.String(), nil, nil
}
