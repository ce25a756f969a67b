package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"magent/bench/load"
	"magent/bench/meter"
	"magent/bench/process"
	"magent/bench/wire"
)

func report(cpu, rate, p50, p99 float64) *load.Report {
	return &load.Report{Rate: rate, Latency: load.Latency{P50: p50, P99: p99}, Procs: map[string]meter.Usage{proxyProc: {CPU: cpu}, "node0": {CPU: cpu / 4}, "node1": {CPU: 1}}}
}

// Ratios are taken round by round: here the machine is twice as slow in round
// two, and no ratio shows it.
func TestRowRatios(t *testing.T) {
	sides := []contestant{
		{name: "ours", reports: []*load.Report{report(2, 100, 10, 30), report(4, 50, 20, 60), report(3, 90, 10, 30)}},
		{name: "theirs", reports: []*load.Report{report(4, 50, 10, 20), report(8, 25, 20, 40), report(4, 90, 20, 10)}},
		{name: "third", reports: []*load.Report{report(1, 100, 10, 30), report(1, 50, 20, 60), report(1, 90, 10, 30)}},
	}
	rows := makeRows(Workload{Name: "w", Must: 0.6, Aim: 0.4, MustP50: 0.7}, sides, 0)
	if len(rows) != 2 {
		t.Fatalf("%d rows, want one per other side", len(rows))
	}
	r := rows[0]
	for _, c := range []struct {
		name      string
		got, want Spread
	}{
		{"our CPU", r.OurCPU, Spread{3, 2, 4}},
		{"their CPU", r.TheirCPU, Spread{4, 4, 8}},
		{"our nodes", r.OurNodes, Spread{1.75, 1.5, 2}},
		{"their nodes", r.TheirNodes, Spread{2, 2, 3}},
		{"CPU ratio", r.CPURatio, Spread{0.5, 0.5, 0.75}},
		{"rate ratio", r.RateRatio, Spread{2, 1, 2}},
		{"p50 ratio", r.P50Ratio, Spread{1, 0.5, 1}},
		{"p99 ratio", r.P99Ratio, Spread{1.5, 1.5, 3}},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, c.got, c.want)
		}
	}
	if r.Must != 0.6 || r.Aim != 0.4 || r.MustP50 != 0.7 || rows[1].Must+rows[1].Aim+rows[1].MustP50 != 0 {
		t.Errorf("bounds %+v and %+v: only the first other side is the reference", r, rows[1])
	}
	sides[1].reports[0].Host.Noise = 0.5
	if got := makeRows(Workload{}, sides, 0)[0].Noise; got != (Spread{0, 0, 0.5}) {
		t.Errorf("noise %+v", got)
	}
	sides[1].reports[2].Errors, sides[1].reports[2].FirstError = 2, "SERVER_ERROR busy"
	sides[0].reports[2].Wrong = 1
	rows = makeRows(Workload{}, sides, 0)
	if rows[0].Faults != 3 || rows[0].FirstFault != "ours: 1 wrong values" || rows[1].Faults != 1 {
		t.Errorf("faults %d (%s) and %d", rows[0].Faults, rows[0].FirstFault, rows[1].Faults)
	}
	sides[0].reports[2].Wrong = 0
	if got := makeRows(Workload{}, sides, 0)[0].FirstFault; got != "theirs: SERVER_ERROR busy" {
		t.Errorf("first fault %q", got)
	}
	if got := spread([]float64{4, 1, 3, 2}); got != (Spread{2.5, 1, 4}) {
		t.Errorf("spread of an even number: %+v", got)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		row  Row
		want string
	}{
		{Row{Must: 1, Aim: 0.9, CPURatio: Spread{Median: 0.9}}, "aim holds"},
		{Row{Must: 1, Aim: 0.9, CPURatio: Spread{Median: 1}}, "must holds"},
		{Row{Must: 1, Aim: 0.9, CPURatio: Spread{Median: 1.01}}, "MISSED"},
		{Row{CPURatio: Spread{Median: 9}}, "no bound"},
		{Row{Must: 1, CPURatio: Spread{Median: 1}}, "must holds"},
		{Row{MustP50: 2, CPURatio: Spread{Median: 9}, P50Ratio: Spread{Median: 2}}, "must holds"},
		{Row{MustP50: 2, P50Ratio: Spread{Median: 2.1}}, "MISSED"},
		{Row{Must: 1, Aim: 1, MustP50: 2, CPURatio: Spread{Median: 1}, P50Ratio: Spread{Median: 2.1}}, "MISSED"},
		{Row{Must: 1, Aim: 0.9, Faults: 3}, "3 FAULTS"},
	} {
		if got := c.row.Verdict(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.row, got, c.want)
		}
	}
}

func TestRivalCommandLines(t *testing.T) {
	node := func(addr string) *process.Process { return &process.Process{Addr: addr} }
	top := Topology{Nodes: []*process.Process{node("127.0.0.1:1"), node("127.0.0.1:2")}, Backups: []*process.Process{node("127.0.0.1:3")}, Flags: []string{"--flag", "x"}}
	want := "serve -D -l 127.0.0.1 -p 99 -n 16384 -s 127.0.0.1:1 -s 127.0.0.1:2 -b 127.0.0.1:3 --flag x"
	if got := strings.Join(magentArgs(99, top), " "); got != want {
		t.Errorf("magent %s, want %s", got, want)
	}
	if conf := string(nutcrackerConf(99, top.Nodes)); !strings.Contains(conf, "listen: 127.0.0.1:99\n") ||
		!strings.HasSuffix(conf, "servers:\n   - 127.0.0.1:1:1\n   - 127.0.0.1:2:1\n") {
		t.Errorf("nutcracker.yml:\n%s", conf)
	}
	for _, top := range []Topology{{Nodes: top.Nodes, Backups: top.Backups}, {Nodes: top.Nodes, Flags: top.Flags}} {
		if _, err := Nutcracker("nutcracker", 16384).Start(t.Context(), top); err == nil {
			t.Errorf("nutcracker took backups %v and flags %q", top.Backups, top.Flags)
		}
	}
}

func TestParseCPUs(t *testing.T) {
	for in, want := range map[string][]int{"": nil, "0": {0}, "1,3-5": {1, 3, 4, 5}} {
		if got, err := parseCPUs(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"x", "1-", "3-1", "1,,2", "-1", "99999"} {
		if got, err := parseCPUs(bad); err == nil {
			t.Errorf("%q was accepted as %v", bad, got)
		}
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for bad, word := range map[string]string{
		"":                                 "--magent",
		"--ours nutcracker --theirs x":     "no rival",
		"--ours direct --theirs before":    "--before",
		"--ours direct --workloads get-c5": "mixed-c1000",
		"--ours direct --cpus-load x":      "CPU list",
		"--ours direct more":               "unexpected",
	} {
		if err := Main(strings.Fields(bad), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("flags %q: %v, want a word of %q", bad, err, word)
		}
	}
}

// Another build of ours is set up as ours is, whatever the workload says, and no bound
// holds for that.
func TestBuildsAreSetUpAlike(t *testing.T) {
	nodes := []*process.Process{{Addr: "127.0.0.1:1"}}
	two := Workload{Ours: Setting{Copies: 2, Flags: []string{"--x"}}, Against: []Setting{{}}}
	for _, c := range []struct {
		other Rival
		want  string
	}{
		{Magent("before", ""), `magent 1 ["--x"], before 1 ["--x"]`},
		{Nutcracker("", 0), `magent, 2 copies --x 1 ["--x"], magent, 1 copy 0 []`},
	} {
		var got []string
		cfg := Config{Ours: Magent("magent", ""), Others: []Rival{c.other}}
		for _, s := range contestants(cfg, two, nodes, nodes) {
			got = append(got, fmt.Sprintf("%s %d %q", s.name, len(s.topology.Backups), s.topology.Flags))
		}
		if got := strings.Join(got, ", "); got != c.want {
			t.Errorf("%s: %s, want %s", c.other.Name, got, c.want)
		}
	}
}

func TestTooNoisy(t *testing.T) {
	quiet, loud, faulty := &load.Report{}, &load.Report{Host: meter.Host{Noise: 0.2}}, &load.Report{Wrong: 1}
	for _, c := range []struct {
		name    string
		reports []*load.Report
		limit   float64
		want    bool
	}{
		{"all quiet", []*load.Report{quiet, quiet}, 0.1, false},
		{"one loud", []*load.Report{quiet, loud}, 0.1, true},
		{"loud within the limit", []*load.Report{quiet, loud}, 0.2, false},
		{"no limit", []*load.Report{loud, loud}, 0, false},
		{"loud with a fault", []*load.Report{loud, faulty}, 0.1, false},
	} {
		if got := tooNoisy(c.reports, c.limit); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Settings of our proxy stand against each other in the place of the rivals,
// anew in every round; a side that cannot start fails its workload alone.
func TestCompareSettings(t *testing.T) {
	var seen []string
	ours := Rival{Name: "ours", Start: func(_ context.Context, top Topology) (*process.Process, error) {
		seen = append(seen, fmt.Sprintf("%d+%d%q", len(top.Nodes), len(top.Backups), top.Flags))
		return &process.Process{Addr: top.Nodes[0].Addr, PID: top.Nodes[0].PID}, nil
	}}
	broken := Rival{Name: "broken", Start: func(context.Context, Topology) (*process.Process, error) {
		return nil, errors.New("no such rival")
	}}
	rows, err := Run(t.Context(), Config{
		Ours: ours, Others: []Rival{broken}, Memcached: "memcached", Rounds: 2, Requests: 200,
		Workloads: []Workload{
			{Name: "one", Load: load.Config{Conns: 1}},
			{Name: "two", Load: load.Config{Conns: 1, Mix: load.Mix{wire.Set: 1}}, Ours: Setting{Copies: 2},
				Against: []Setting{{}, {Copies: 2, Flags: []string{"--flag", "x"}}}, Must: 99, Aim: 99},
		},
	})
	if err == nil || !strings.Contains(err.Error(), "one: broken: no such rival") || strings.Contains(err.Error(), "two") {
		t.Errorf("error %v, want one's alone", err)
	}
	// The first of workload one, then two rounds, the second backwards.
	if want := []string{"1+0[]", "1+1[]", "1+0[]", `1+1["--flag" "x"]`, `1+1["--flag" "x"]`, "1+0[]", "1+1[]"}; !slices.Equal(seen, want) {
		t.Errorf("started over %v nodes+backups[flags], want %v", seen, want)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows, want two", len(rows))
	}
	for i, want := range []string{
		"ours, 2 copies against ours, 1 copy: aim holds",
		"ours, 2 copies against ours, 2 copies --flag x: no bound",
	} {
		if got := fmt.Sprintf("%s against %s: %s", rows[i].Ours, rows[i].Theirs, rows[i].Verdict()); got != want {
			t.Errorf("row %d: %s, want %s", i, got, want)
		}
	}
}

// The real programs, for a blink: two rounds of three sides, files and all.
func TestMainComparesRealPrograms(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	err := Main([]string{
		"--ours", "nutcracker", "--theirs", "nutcracker,direct", "--workloads", "get-c50-p16,multiget20",
		"--rounds", "2", "--requests", "2000", "--warmup", "10ms", "--cpus-proxy", "", "--cpus-load", "", "--out", dir,
	}, &out)
	// Three nodes behind one address: straight to the first, keys are found too,
	// since its preload put them there.
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "compare.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("raw files %v, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var res Result
	if err := json.Unmarshal(raw, &res); err != nil {
		t.Fatal(err)
	}
	if len(res.Rows) != 4 || res.Commit == "" || res.Kernel == "" || !strings.Contains(res.Versions["memcached"], "memcached") {
		t.Errorf("%d rows, commit %q, kernel %q, versions %v", len(res.Rows), res.Commit, res.Kernel, res.Versions)
	}
	for _, row := range res.Rows {
		if len(row.Pairs) != 2 || row.Faults != 0 || row.CPURatio.Median <= 0 || row.P99Ratio.Median <= 0 {
			t.Errorf("%s against %s: %d pairs, %d faults, CPU ratio %v", row.Workload, row.Theirs, len(row.Pairs), row.Faults, row.CPURatio)
		}
		for _, p := range row.Pairs {
			if p.Ours.Misses != 0 || p.Theirs.Misses != 0 {
				t.Errorf("%s against %s: misses after a preload: %d, %d", row.Workload, row.Theirs, p.Ours.Misses, p.Theirs.Misses)
			}
		}
	}
	if !strings.Contains(out.String(), "no bound") || !strings.Contains(out.String(), "CPU ratio") {
		t.Errorf("no table in:\n%s", &out)
	}
}
