package compare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/bench/failover"
	"magent/bench/meter"
	"magent/bench/refill"
)

// refillOf saves a refill of so many keys per second under dir, and returns where, relative
// to it.
func refillOf(t *testing.T, dir, commit string, rate float64) string {
	t.Helper()
	seen := failover.Analyse(failover.Observation{Length: time.Second})
	s := refill.Set{
		Provenance: meter.Provenance{Commit: commit, Command: []string{"magent", "bench", "refill"}},
		Keys:       7, Values: "32-100", Load: "5 requests/s", ProxyCPUs: []int{0}, LoadCPUs: []int{1, 2}, Bounds: refill.Bounds{MinRate: 100},
		Rounds: []refill.Round{{Copy: refill.Trial{Rate: 200}, Idle: refill.Trial{Rate: rate}, Loaded: refill.Loaded{Seen: seen}}},
	}
	where, err := s.Save(dir)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(where)
}

// Blocks of refills are written, and move, as others do.
func TestReportOfRefills(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	old, newer, drills := refillOf(t, dir, "old", 90), refillOf(t, dir, "newer", 180), drillsOf(t, dir, "x", "kill")
	const layout = "<!-- bench:begin refill DIR -->\n<!-- bench:end -->\n<!-- bench:begin refill-plot DIR -->\n<!-- bench:end -->\n" +
		"<!-- bench:begin refill-host DIR -->\n<!-- bench:end -->\n<!-- bench:begin failover DRILLS -->\n<!-- bench:end -->\n"
	if err := os.WriteFile(doc, []byte(strings.NewReplacer("DIR", old, "DRILLS", drills).Replace(layout)), 0o644); err != nil {
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
		for _, want := range append(wanted, "bench:begin failover "+drills) {
			if !strings.Contains(string(text), want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
	}
	check("", "| idle: keys refilled per second | 90 | 90 | 90 | at least 100 | missed |", "]("+old+"/refill.svg)", "at commit old: `magent bench refill`",
		"* Keys: 7, with values of 32-100 bytes. magent has its own rate while it is idle.", "to CPU 0, load and nodes to CPU 1,2.", "* 1 round.")
	check(filepath.Join(dir, newer), "begin refill "+newer, "| 180 | at least 100 | holds |", "begin refill-plot "+newer, "at commit newer")
	if _, err := newFiller(dir).fill("<!-- bench:begin refill nowhere -->\n<!-- bench:end -->\n"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}
