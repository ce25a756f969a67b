package failover

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"magent/bench/load"
	"magent/bench/meter"
)

// Every scenario is drilled once in each round, on a system of its own, and all of it is
// kept and can be read again.
func TestSet(t *testing.T) {
	var told []string
	s := Set{Provenance: meter.Provenance{Commit: "abc"}, Rounds: 2}
	c := little("")
	c.Down, c.Back = 200*ms, 200*ms
	err := s.Run(t.Context(), c, []string{"none", "follower-kill"}, func(round int, scenario string, _ *Result) {
		told = append(told, scenario)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(told, " "); got != "none follower-kill none follower-kill" {
		t.Errorf("drilled were %s", got)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	dir, err := s.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadSet(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.Lines(), s.Lines()) || again.Load != "4 clients of 500 requests/s each, 10 % writes" {
		t.Errorf("%s\n%q\nnot\n%q", again.Load, again.Lines(), s.Lines())
	}
	for i := range again.Rows {
		row := &again.Rows[i]
		timelines := 0
		for _, r := range row.Results {
			if r.Timeline != nil {
				timelines++
			}
		}
		svg, err := row.SVG()
		kept, readErr := os.ReadFile(filepath.Join(dir, row.Plot()))
		if err != nil || readErr != nil || !bytes.Equal(svg, kept) || timelines != 1 {
			t.Errorf("%s: %v, %v, %d timelines", row.Scenario, err, readErr, timelines)
		}
	}
}

// What was drilled before the end stays.
func TestSetEndsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := Set{Rounds: 2}
	c := little("")
	c.Down, c.Back = 100*ms, 100*ms
	err := s.Run(ctx, c, []string{"none", "kill"}, func(int, string, *Result) { cancel() })
	if err == nil || s.Error == "" || len(s.Rows) != 1 || len(s.Rows[0].Results) != 1 {
		t.Errorf("%v, %+v", err, s)
	}
}

// rounds is a row of such totals.
func rounds(scenario string, totals ...Counts) Row {
	row := Row{Scenario: scenario}
	for _, c := range totals {
		r := Analyse(Observation{})
		r.Total.Counts = c
		row.Results = append(row.Results, r)
	}
	return row
}

// Nothing may be seen of one dead node; of two, that there is none.
func TestSetCheck(t *testing.T) {
	for want, row := range map[string]Row{
		"":                               rounds("kill", Counts{Good: 5}, Counts{}),
		"kill, round 2: failover: 1 err": rounds("kill", Counts{}, Counts{Failed: 1}),
		"stop, round 1: failover: 2 mis": rounds("stop", Counts{Misses: 2}),
		"both, round 1: failover: 3 sta": rounds("both", Counts{Stale: 3}),
		"both, round 1: failover: 1 req": rounds("both", Counts{Lost: 1}),
	} {
		s := Set{Rows: []Row{rounds("both", Counts{Failed: 9, Misses: 9}), row}}
		if err := s.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// The table has the median and the worst of the rounds, and judges the median.
func TestLines(t *testing.T) {
	row := rounds("stop", Counts{}, Counts{Misses: 1}, Counts{Stale: 2, Wrong: 3})
	for i, took := range []time.Duration{300 * ms, 100 * ms, 260 * ms} {
		r := row.Results[i]
		r.Slowest.Took, r.Settled.Slowest, r.Gap = Millis(took), Millis(21*ms), 0
	}
	const name = "stop: SIGSTOP of the lead, and SIGCONT"
	want := [][]string{
		{name, "0", "1", "5", "slowest", "260.0 ms", "300.0 ms", "270 ms", "holds"},
		{"", "", "", "", "slowest, once the timeout has passed", "21.0 ms", "21.0 ms", "20 ms", "missed"},
		{"", "", "", "", "longest time without a good answer", "0.0 ms", "0.0 ms", "–", "–"},
	}
	s := Set{Rows: []Row{row}}
	if got := s.Lines(); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nnot\n%q", got, want)
	}
	if worst := row.worst(); worst != row.Results[2] {
		t.Errorf("the worst is %+v", worst)
	}
	s.Rows = []Row{rounds("both", Counts{})}
	if got := s.Lines(); got[0][5] != "none" || got[0][4] != "first error after the fault" {
		t.Errorf("%q", got)
	}
	s.Rows = []Row{rounds("of another time", Counts{})}
	if got := s.Lines(); len(got) != 1 || !strings.HasPrefix(got[0][0], "of another time") {
		t.Errorf("%q", got)
	}
}

func TestScenarios(t *testing.T) {
	for _, s := range Scenarios {
		if found, err := Find(s.Name); err != nil || found.Text != s.Text || len(s.Measures) == 0 || strings.ContainsAny(s.Text, "|\n") {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

// The scenario that measures reads has them on connections of their own, unless there
// are only reads.
func TestApart(t *testing.T) {
	for mix, want := range map[load.Mix][2]int{{}: {8, 4}, {9}: {4, 0}} {
		c := little("stop-hedge")
		c.Load.Mix = mix
		c = c.WithDefaults()
		n := node(t)
		c.occupy(&running{lead: n, follower: n})
		if got := [2]int{c.Load.Conns, c.Load.Writers}; got != want {
			t.Errorf("%v: connections and writers are %v, not %v", mix, got, want)
		}
	}
}

func TestLoadSetChecks(t *testing.T) {
	dir := t.TempDir()
	for text, word := range map[string]string{
		`{`:                              "unexpected end",
		`{"rows":[{"scenario":"kill"}]}`: "no rounds",
		`{"rows":[{"scenario":"kill","results":[null]}]}`:           "an empty one",
		`{"rows":[{"scenario":"kill","results":[{"gap_ms":"x"}]}]}`: "no number of milliseconds",
	} {
		if err := os.WriteFile(filepath.Join(dir, RawFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadSet(dir); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := LoadSet(t.TempDir()); err == nil {
		t.Error("a directory without one is read")
	}
}

func TestMillisAgain(t *testing.T) {
	for _, m := range []Millis{Never, 0, Millis(1500 * time.Microsecond)} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got Millis
		if err := json.Unmarshal(text, &got); err != nil || got != m {
			t.Errorf("%v is %s, and read again %v (%v)", m, text, got, err)
		}
	}
}
