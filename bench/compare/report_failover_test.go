package compare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/bench/failover"
	"magent/bench/meter"
)

// drillsOf saves a set of these scenarios under dir, and returns where, relative to it.
func drillsOf(t *testing.T, dir, commit string, scenarios ...string) string {
	t.Helper()
	s := failover.Set{
		Provenance: meter.Provenance{Commit: commit, Command: []string{"magent", "failover", "--rounds", "1"}},
		Load:       "2 clients", Rounds: 1, Down: failover.Millis(2 * time.Second),
	}
	for _, name := range scenarios {
		r := failover.Analyse(failover.Observation{Length: time.Second})
		r.Slowest.Took = failover.Millis(time.Duration(len(commit)) * time.Millisecond)
		s.Rows = append(s.Rows, failover.Row{Scenario: name, Results: []*failover.Result{r}})
	}
	where, err := s.Save(dir)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(where)
}

// Blocks of drills are written, and move, as those of comparisons do; neither moves to
// what the other has.
func TestReportOfDrills(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	old, full := drillsOf(t, dir, "old", "kill"), drillsOf(t, dir, "newer", "kill", "stop")
	rivals := results(t, dir, "rivals", row("get-c50", "magent", "nutcracker", 1))
	const layout = "<!-- bench:begin failover DIR -->\n<!-- bench:end -->\n<!-- bench:begin failover-plots DIR -->\n<!-- bench:end -->\n" +
		"<!-- bench:begin failover-host DIR -->\n<!-- bench:end -->\n<!-- bench:begin rivals RIVALS -->\n<!-- bench:end -->\n"
	if err := os.WriteFile(doc, []byte(strings.NewReplacer("DIR", old, "RIVALS", rivals).Replace(layout)), 0o644); err != nil {
		t.Fatal(err)
	}
	check := func(newest string, wanted ...string) {
		t.Helper()
		if _, err := Report(doc, newest); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(wanted, "bench:begin rivals "+rivals) {
			if !strings.Contains(string(text), want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
	}
	check("", "| `kill`: kill -9 of the lead, and restart | 0 | 0 | 0 | slowest | 3.0 ms | 3.0 ms | 10 ms | holds |",
		"at commit old: `magent failover --rounds 1`", "* Load: 2 clients. What fails does so for 2s.", "]("+old+"/kill.svg)")
	check(filepath.Join(dir, full), "begin failover "+full, "begin failover-host "+full, "| slowest | 5.0 ms |", "]("+full+"/stop.svg)")
	check(filepath.Join(dir, full))
	if _, err := Report(doc, filepath.Join(dir, old)); err == nil || !strings.Contains(err.Error(), "no block") {
		t.Errorf("results without a scenario that is shown: %v", err)
	}
}

func TestBlocksOfDrillsAreChecked(t *testing.T) {
	dir := t.TempDir()
	flaps := drillsOf(t, dir, "x", "flap")
	for mark, word := range map[string]string{
		"failover nowhere":        "nowhere",
		"failover-plots " + flaps: "none of kill, stop",
		"failovers " + flaps:      "failover-plots",
	} {
		doc := "<!-- bench:begin " + mark + " -->\n<!-- bench:end -->\n"
		if _, err := newFiller(dir).fill(doc); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want a word of %q", mark, err, word)
		}
	}
}
