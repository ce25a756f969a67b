package compare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"magent/bench/keys"
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
	if rows[0].Faults != 3 || rows[0].FirstFault != "ours: 1 wrong values, 0 stale, 0 misses" || rows[1].Faults != 1 {
		t.Errorf("faults %d (%s) and %d", rows[0].Faults, rows[0].FirstFault, rows[1].Faults)
	}
	sides[0].reports[2].Wrong = 0
	if got := makeRows(Workload{}, sides, 0)[0].FirstFault; got != "theirs: SERVER_ERROR busy" {
		t.Errorf("first fault %q", got)
	}
	// Every key was stored, and to find none is the cheapest answer of all.
	sides[0].reports[0].Misses = 5
	if got := makeRows(Workload{}, sides, 0)[0]; got.Faults != 7 || got.FirstFault != "ours: 0 wrong values, 0 stale, 5 misses" {
		t.Errorf("faults %d (%s)", got.Faults, got.FirstFault)
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
		// What was not measured holds no bound.
		{Row{Must: 1, Aim: 0.9}, "MISSED"},
		{Row{Must: 1, MustP50: 2, CPURatio: Spread{Median: 1}}, "MISSED"},
		{Row{Must: 1, CPURatio: Spread{Median: math.NaN()}}, "MISSED"},
	} {
		if got := c.row.Verdict(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.row, got, c.want)
		}
	}
}

func TestRivalCommandLines(t *testing.T) {
	node := func(addr string) *process.Process { return &process.Process{Addr: addr} }
	top := Topology{Nodes: []*process.Process{node("127.0.0.1:1"), node("127.0.0.1:2")}, Backups: []*process.Process{node("127.0.0.1:3")}, Flags: []string{"--flag", "x"}}
	top.CPUs = []int{3, 5}
	magent, nutcracker := magentRecipe("before", "a/magent", top), nutcrackerRecipe("a/nutcracker", 512, top)
	for _, r := range []process.Recipe{magent, nutcracker} {
		if !slices.Equal(r.CPUs, top.CPUs) {
			t.Errorf("%s runs on %v, want %v", r.Name, r.CPUs, top.CPUs)
		}
	}
	args, err := magent.Args(99, "")
	want := "serve -D -l 127.0.0.1 -p 99 -n 16384 -s 127.0.0.1:1 -s 127.0.0.1:2 -b 127.0.0.1:3 --flag x"
	if got := strings.Join(args, " "); got != want || err != nil || magent.Name != "before" || magent.Path != "a/magent" {
		t.Errorf("%s is %s %s, %v, want %s", magent.Name, magent.Path, got, err, want)
	}
	dir := t.TempDir()
	args, err = nutcracker.Args(99, dir)
	if got := strings.Join(args, " "); !strings.HasSuffix(got, " -m 512") || err != nil || nutcracker.Path != "a/nutcracker" {
		t.Errorf("%s %s, %v", nutcracker.Path, got, err)
	}
	// With all that its manual recommends: one that is crippled is no rival.
	conf, err := os.ReadFile(filepath.Join(dir, "nutcracker.yml"))
	if want := `bench:
  listen: 127.0.0.1:99
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  server_connections: 1
  client_connections: 16384
  backlog: 1024
  servers:
   - 127.0.0.1:1:1
   - 127.0.0.1:2:1
`; string(conf) != want || err != nil {
		t.Errorf("nutcracker.yml, %v:\n%s\nwant\n%s", err, conf, want)
	}
	for _, top := range []Topology{{Nodes: top.Nodes, Backups: top.Backups}, {Nodes: top.Nodes, Flags: top.Flags}} {
		if _, err := Nutcracker("nutcracker", 16384).Start(t.Context(), top); err == nil {
			t.Errorf("nutcracker took backups %v and flags %q", top.Backups, top.Flags)
		}
	}
}

// compareWith makes a comparison as the command line asks for it.
func compareWith(t *testing.T, out io.Writer, args ...string) error {
	t.Helper()
	var o Options
	fs := pflag.NewFlagSet("compare", pflag.ContinueOnError)
	o.Bind(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o.Run(t.Context(), out)
}

func TestFlagsAreChecked(t *testing.T) {
	for bad, word := range map[string]string{
		"":                                 "--magent",
		"--ours nutcracker --theirs x":     "no rival",
		"--ours direct --theirs before":    "--before",
		"--ours direct --workloads get-c5": "mixed-c1000",
		"--ours direct --cpus-load x":      "CPU list",
		"--ours direct --cpus-load 1000":   "--cpus-load 1000: there is no CPU 1000 for us, there are [",
		"--ours direct --cpus-proxy 1000":  "--cpus-proxy 1000: ",
		"--ours direct --rival x=1":        "NAME=PORT:PID",
		"--ours direct --gate 15":          "--gate (15) is a share from 0 to 1",
		"--ours direct --gate -0.1":        "--gate (-0.1)",
		"--ours direct --gate NaN":         "--gate (NaN)",
		"--ours direct --max-noise 20":     "--max-noise (20)",
		"--ours direct --max-noise -1":     "--max-noise (-1)",
	} {
		if err := compareWith(t, new(bytes.Buffer), strings.Fields(bad)...); err == nil || !strings.Contains(err.Error(), word) {
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
		bound float64
	}{
		{Magent("before", ""), `magent 1 ["--x"], before 1 ["--x"]`, 0},
		{Nutcracker("", 0), `magent, 2 copies --x 1 ["--x"], magent, 1 copy 0 []`, 7},
	} {
		var got []string
		cfg := Config{Ours: Magent("magent", ""), Others: []Rival{c.other}}
		for _, s := range contestants(cfg, two, nodes, nodes) {
			got = append(got, fmt.Sprintf("%s %d %q", s.name, len(s.topology.Backups), s.topology.Flags))
		}
		if got := strings.Join(got, ", "); got != c.want {
			t.Errorf("%s: %s, want %s", c.other.Name, got, c.want)
		}
		if w := cfg.bound(Workload{Must: 7, Aim: 7, MustP50: 7}); w.Must != c.bound || w.Aim != c.bound || w.MustP50 != c.bound {
			t.Errorf("%s: bounds %v, %v, %v, want %v", c.other.Name, w.Must, w.Aim, w.MustP50, c.bound)
		}
	}
}

// Clients speak to each side as its setting says, and to all in one protocol where sides are
// other programs.
func TestDialects(t *testing.T) {
	nodes := []*process.Process{{Addr: "127.0.0.1:1"}}
	w := Workload{Ours: Setting{Dialect: wire.Binary}, Against: []Setting{{}, {Dialect: wire.Meta}}}
	for other, want := range map[string]string{"before": "binary binary", "nutcracker": "binary text meta"} {
		cfg := Config{Ours: Magent("magent", ""), Others: []Rival{Nutcracker("", 0)}}
		if other == "before" {
			cfg.Others[0] = Magent("before", "")
		}
		var got []string
		for _, s := range contestants(cfg, w, nodes, nodes) {
			got = append(got, s.work(w).Load.Dialect.String())
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: clients speak %s, want %s", other, got, want)
		}
	}
}

// All sides are asked the same, for as long, and another round asks for other keys.
func TestLoad(t *testing.T) {
	cfg := Config{Duration: time.Second, Warmup: time.Millisecond}
	w := Workload{Load: load.Config{Conns: 7, MultiGet: 3}}
	want := load.Config{Conns: 7, MultiGet: 3, Targets: []string{"a"}, Duration: time.Second, Warmup: time.Millisecond, Seed: 4}
	if got := cfg.load(w, "a", 4); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	cfg.Requests = 9
	want.Requests, want.Duration = 9, 0
	if got := cfg.load(w, "a", 4); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNoisyRoundsAreRunAgain(t *testing.T) {
	quiet, loud := &load.Report{}, &load.Report{Host: meter.Host{Noise: 0.2}}
	for _, c := range []struct {
		name      string
		reports   []*load.Report
		limit     float64
		discarded int
		want      bool
	}{
		{"all quiet", []*load.Report{quiet, quiet}, 0.1, 0, false},
		{"one loud", []*load.Report{quiet, loud}, 0.1, 2, true},
		{"one loud, as often as there are rounds", []*load.Report{quiet, loud}, 0.1, 3, false},
		{"loud within the limit", []*load.Report{quiet, loud}, 0.2, 0, false},
		{"no limit", []*load.Report{loud, loud}, 0, 0, false},
		{"loud with an error", []*load.Report{loud, {Errors: 1}}, 0.1, 0, false},
		{"loud with a wrong value", []*load.Report{loud, {Wrong: 1}}, 0.1, 0, false},
		{"loud with a stale value", []*load.Report{loud, {Stale: 1}}, 0.1, 0, false},
		{"loud with a miss", []*load.Report{loud, {Misses: 1}}, 0.1, 0, false},
	} {
		if got := (Config{MaxNoise: c.limit, Rounds: 3}).again(c.reports, c.discarded); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Settings of our proxy stand against each other in the place of the rivals,
// anew in every round; a side that cannot start fails its workload alone.
func TestCompareSettings(t *testing.T) {
	var seen []string
	ours := Rival{Name: "ours", Own: true, Start: func(_ context.Context, top Topology) (*process.Process, error) {
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
			{Name: "three", Load: load.Config{Conns: 1}, Ours: Setting{Dialect: wire.Binary}, Against: []Setting{{}}},
		},
	})
	if err == nil || !strings.Contains(err.Error(), "one: broken: no such rival") || strings.Contains(err.Error(), "two") {
		t.Errorf("error %v, want one's alone", err)
	}
	// The first of workload one, then two rounds, the second backwards.
	want := []string{"1+0[]", "1+1[]", "1+0[]", `1+1["--flag" "x"]`, `1+1["--flag" "x"]`, "1+0[]", "1+1[]", "1+0[]", "1+0[]", "1+0[]", "1+0[]"}
	if !slices.Equal(seen, want) {
		t.Errorf("started over %v nodes+backups[flags], want %v", seen, want)
	}
	if len(rows) != 3 {
		t.Fatalf("%d rows, want three", len(rows))
	}
	for i, want := range []string{
		"ours, 2 copies against ours, 1 copy: aim holds",
		"ours, 2 copies against ours, 2 copies --flag x: no bound",
		"ours, 1 copy binary against ours, 1 copy: no bound",
	} {
		if got := fmt.Sprintf("%s against %s: %s", rows[i].Ours, rows[i].Theirs, rows[i].Verdict()); got != want {
			t.Errorf("row %d: %s, want %s", i, got, want)
		}
	}
}

// A proxy that is pinned to nothing may run anywhere, although the load that starts it is
// pinned.
func TestProxyIsPinnedByItsOwnFlagAlone(t *testing.T) {
	all, err := process.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Pin(os.Getpid(), all); err != nil {
			t.Error(err)
		}
	})
	last := all[len(all)-1:]
	for _, c := range []struct{ load, proxy, want []int }{{last, nil, all}, {nil, nil, nil}, {last, all[:1], all[:1]}} {
		var got []int
		spy := Rival{Name: "spy", Start: func(_ context.Context, top Topology) (*process.Process, error) {
			got = top.CPUs
			return nil, errors.New("seen")
		}}
		Run(t.Context(), Config{Ours: spy, Others: []Rival{spy}, Rounds: 1, Requests: 1, LoadCPUs: c.load, ProxyCPUs: c.proxy,
			Workloads: []Workload{{Name: "w", Load: load.Config{Conns: 1}}}})
		if !slices.Equal(got, c.want) {
			t.Errorf("load on %v, proxy on %v: it is started on %v, want %v", c.load, c.proxy, got, c.want)
		}
	}
}

// What takes no settings cannot stand against itself in another one.
func TestSettingsAreOursAlone(t *testing.T) {
	nodes := []*process.Process{{Addr: "127.0.0.1:1"}}
	two := Workload{Name: "two", Ours: twoCopies(), Against: []Setting{{}}}
	var out strings.Builder
	for _, r := range []Rival{Nutcracker("", 0), Direct()} {
		out.Reset()
		cfg := Config{Ours: r, Others: []Rival{r}, Progress: &out}
		if sides := contestants(cfg, two, nodes, nodes); len(sides) > 0 || !strings.Contains(out.String(), r.Name+" is left out") {
			t.Errorf("%s has %d sides, and it says %q", r.Name, len(sides), &out)
		}
	}
}

// What has another number of nodes behind it than the proxies have is no match for them.
func TestSidesHaveTheSameNodes(t *testing.T) {
	nodes := []*process.Process{{Addr: "127.0.0.1:1"}, {Addr: "127.0.0.1:2"}}
	others := []Rival{
		{Name: "proxy"}, Direct(), {Name: "one", Attached: true, NodePIDs: []int{7}},
		{Name: "two", Attached: true, NodePIDs: []int{7, 8}}, {Name: "unknown", Attached: true},
	}
	for many, want := range map[int]string{1: "ours proxy direct one unknown", 2: "ours proxy two unknown"} {
		var out strings.Builder
		cfg := Config{Ours: Rival{Name: "ours"}, Others: others, Progress: &out}
		var got []string
		for _, s := range contestants(cfg, Workload{Name: "w"}, nodes[:many], nil) {
			got = append(got, s.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%d nodes: %q, want %s", many, got, want)
		}
		if sides := contestants(Config{Ours: Direct(), Others: others}, Workload{}, nodes[:many], nil); (len(sides) == 0) != (many > 1) {
			t.Errorf("%d nodes: direct has %d sides", many, len(sides))
		}
		if left := strings.Count(out.String(), "left out"); left != 1+len(others)-len(got) {
			t.Errorf("%d nodes: %d are said to be left out:\n%s", many, left, &out)
		}
	}
}

// The real programs, for a blink: two rounds of four sides, files and all. The rival is
// a memcached that the test started itself.
func TestOptionsCompareRealPrograms(t *testing.T) {
	dir := t.TempDir()
	node, err := process.Memcached(t.Context(), process.MemcachedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Stop(); err != nil {
			t.Error(err)
		}
	})
	_, port, _ := strings.Cut(node.Addr, ":")
	var out bytes.Buffer
	err = compareWith(t, &out,
		"--ours", "nutcracker", "--theirs", "nutcracker,direct", "--rival", fmt.Sprintf("mine=%s:%d", port, node.PID),
		"--workloads", "get-c50-p16,multiget20",
		"--rounds", "2", "--requests", "2000", "--warmup", "10ms", "--cpus-proxy", "", "--cpus-load", "", "--out", dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	dirs, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("results %v, %v", dirs, err)
	}
	res, err := Load(dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	if res.Commit == "" || res.Kernel == "" || res.CPU == "" || !strings.Contains(res.Versions["memcached"], "memcached") ||
		!strings.HasPrefix(res.commandLine(), "magent bench compare --ours nutcracker --theirs nutcracker,direct --rival mine=") {
		t.Errorf("commit %q, kernel %q, CPU %q, versions %v, command %q", res.Commit, res.Kernel, res.CPU, res.Versions, res.commandLine())
	}
	var got []string
	for _, row := range res.Rows {
		got = append(got, row.Workload+" against "+row.Theirs)
		if len(row.Pairs) != 2 || row.Faults != 0 || row.P99Ratio.Median <= 0 || (row.CPURatio.Median > 0) == (row.Theirs == "direct") {
			t.Errorf("%s against %s: %d pairs, %d faults, CPU ratio %v", row.Workload, row.Theirs, len(row.Pairs), row.Faults, row.CPURatio)
		}
		for _, p := range row.Pairs {
			if p.Ours.Misses != 0 || p.Theirs.Misses != 0 {
				t.Errorf("%s against %s: misses after a preload: %d, %d", row.Workload, row.Theirs, p.Ours.Misses, p.Theirs.Misses)
			}
		}
	}
	// One node has not what three have: there is no direct over three.
	want := []string{"get-c50-p16 against nutcracker", "get-c50-p16 against direct", "get-c50-p16 against mine",
		"multiget20 against nutcracker", "multiget20 against mine"}
	if !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	text, err := os.ReadFile(filepath.Join(dirs[0], textFile))
	if err != nil || !strings.Contains(out.String(), string(text)) || !strings.Contains(string(text), "CPU 0.30") || !strings.Contains(string(text), "host busy") {
		t.Errorf("tables, %v:\n%s\nsaid:\n%s", err, text, &out)
	}
}

// What an early end of ctx leaves are the rounds that were whole.
func TestWhatWasMeasuredSoFarIsReported(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	starts := 0
	node := func(stop bool) Rival {
		return Rival{Name: fmt.Sprint(stop), Start: func(_ context.Context, top Topology) (*process.Process, error) {
			if starts++; stop && starts > 2 {
				cancel()
			}
			return top.Nodes[0], nil
		}}
	}
	rows, err := Run(ctx, Config{
		Ours: node(false), Others: []Rival{node(true)}, Memcached: "memcached", Rounds: 3, Requests: 200,
		Workloads: []Workload{{Name: "w", Load: load.Config{Conns: 1}}, {Name: "never"}},
	})
	if !errors.Is(err, context.Canceled) || len(rows) != 1 || len(rows[0].Pairs) != 1 {
		t.Errorf("%d rows, %v; want one of one round, and that it was cancelled", len(rows), err)
	}
	if rows := makeRows(Workload{}, make([]contestant, 2), 0); rows != nil {
		t.Errorf("rows of no rounds: %v", rows)
	}
}

func TestDirectHoldsNoBound(t *testing.T) {
	r := report(1, 1, 1, 1)
	direct := report(1, 1, 1, 1)
	delete(direct.Procs, proxyProc)
	sides := []contestant{
		{name: "ours", reports: []*load.Report{r}},
		{name: "direct", rival: Direct(), reports: []*load.Report{direct}},
		{name: "nutcracker", reports: []*load.Report{r}},
	}
	rows := makeRows(Workload{Must: 1}, sides, 0)
	if rows[0].Must != 0 || rows[1].Must != 1 || rows[0].CPURatio != (Spread{}) {
		t.Errorf("bounds %v and %v, CPU ratio %v", rows[0].Must, rows[1].Must, rows[0].CPURatio)
	}
	sides[0].rival = Direct()
	if rows := makeRows(Workload{Must: 1}, sides, 0); rows[1].Must != 0 {
		t.Errorf("direct is bounded by %v", rows[1].Must)
	}
	if got := strings.Join(ratioTable(rows, strings.Clone).rows[0][:4], " "); got != " ours direct –" {
		t.Errorf("row %q", got)
	}
}

func TestRivalFlag(t *testing.T) {
	taken := []string{"magent", "nutcracker"}
	a, err := parseAttached("mc-router=5000:17:18:19", taken)
	if err != nil || a.name != "mc-router" || a.addr != "127.0.0.1:5000" || a.pid != 17 || !slices.Equal(a.nodes, []int{18, 19}) {
		t.Errorf("%+v, %v", a, err)
	}
	for bad, word := range map[string]string{
		"x": "form", "=1:2": "form", "x=1": "form", "x=1:2:": "form", "x=:2": "form", "a|b=1:2": "form", "x=-1:2": "form",
		"magent=1:2": "taken", "x=70000:2": "no port",
	} {
		if _, err := parseAttached(bad, taken); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("--rival %s: %v, want a word of %q", bad, err, word)
		}
	}
	closed, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for text, word := range map[string]string{
		fmt.Sprintf("x=%d:%d", closed, os.Getpid()):           "does not answer",
		fmt.Sprintf("x=%d:%d", mute(t), os.Getpid()):          `it says "ERROR`,
		fmt.Sprintf("x=%d:%d", closed, 1<<29):                 "no process",
		fmt.Sprintf("x=%d:%d:%d", closed, os.Getpid(), 1<<29): "no process",
	} {
		a, err := parseAttached(text, nil)
		if err == nil {
			err = a.attach()
		}
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("--rival %s: %v, want a word of %q", text, err, word)
		}
	}
	self := attached{name: "x", pid: os.Getpid()}
	if got := self.pinnedElsewhere([]int{1023}); !strings.Contains(got, "x is not pinned") {
		t.Errorf("pinned elsewhere: %q", got)
	}
	if got := self.pinnedElsewhere(nil); got != "" {
		t.Errorf("pinned to no CPUs: %q", got)
	}
}

// A rival that says STORED and keeps nothing answers faster than any other. It is found
// out, and the comparison fails, with a gate and without.
func TestLiarIsFoundOut(t *testing.T) {
	rival := fmt.Sprintf("liar=%d:%d", liar(t, 0), os.Getpid())
	for _, more := range [][]string{nil, {"--gate", "0.5"}} {
		var out bytes.Buffer
		err := compareWith(t, &out, append(more, "--ours", "direct", "--theirs", "direct", "--rival", rival, "--workloads", "get-c50",
			"--rounds", "1", "--requests", "500", "--warmup", "0s", "--max-noise", "0", "--cpus-proxy", "", "--cpus-load", "", "--out", "")...)
		if err == nil || !strings.Contains(err.Error(), "get-c50 against liar: 500 errors, misses") || strings.Contains(err.Error(), "against direct") {
			t.Errorf("%q: %v", more, err)
		}
		if judged := err != nil && strings.Contains(err.Error(), "nothing to judge"); judged != (more != nil) {
			t.Errorf("%q: the gate is judged: %v", more, judged)
		}
		if !strings.Contains(out.String(), "0 stale  500 misses\n") {
			t.Errorf("%q: it says\n%s", more, &out)
		}
	}
}

// A side that answers nothing in the time given has no cost per request.
func TestSideWithoutAnAnswer(t *testing.T) {
	late := Rival{Name: "late", Start: func(context.Context, Topology) (*process.Process, error) {
		addr := fmt.Sprintf("127.0.0.1:%d", liar(t, 100*time.Millisecond))
		return &process.Process{Addr: addr, PID: os.Getpid()}, nil
	}}
	rows, err := Run(t.Context(), Config{
		Ours: Direct(), Others: []Rival{late}, Rounds: 1, Duration: 10 * time.Millisecond,
		Workloads: []Workload{{Name: "w", Load: load.Config{Conns: 1}}},
	})
	if len(rows) != 0 || err == nil || !strings.Contains(err.Error(), "w: late: not one answer in the time given") {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// liar is a port whose server stores nothing and finds nothing, the latter after a delay.
func liar(t *testing.T, delay time.Duration) int {
	return listen(t, func(c net.Conn) {
		for in := bufio.NewReader(c); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			answer := "END\r\n"
			if f := strings.Fields(line); f[0] == "set" {
				answer = "STORED\r\n"
				size, _ := strconv.Atoi(f[4])
				in.Discard(size + len("\r\n"))
			} else {
				// What makes this node slow; nothing is awaited by it.
				time.Sleep(delay)
			}
			io.WriteString(c, answer)
		}
	})
}

// mute is a port whose server knows no command.
func mute(t *testing.T) int {
	return listen(t, func(c net.Conn) {
		io.WriteString(c, "ERROR\r\n")
		bufio.NewReader(c).ReadString('\n')
	})
}

// listen is a port where each connection is served, and then closed.
func listen(t *testing.T, serve func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestChargedProcesses(t *testing.T) {
	proxy, nodes := &process.Process{PID: 1}, []*process.Process{{PID: 2}, {PID: 3}}
	for _, c := range []struct {
		rival Rival
		want  map[string]int
	}{
		{Rival{}, map[string]int{"proxy": 1, "node0": 2, "node1": 3}},
		{Direct(), map[string]int{"node0": 2, "node1": 3}},
		{Rival{Attached: true}, map[string]int{"proxy": 1}},
		{Rival{Attached: true, NodePIDs: []int{9}}, map[string]int{"proxy": 1, "node0": 9}},
	} {
		if got := c.rival.charge(proxy, nodes); !maps.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.rival, got, c.want)
		}
	}
}

func TestGate(t *testing.T) {
	ok := Row{Workload: "ok", Theirs: "them", Must: 1, CPURatio: Spread{Median: 1.15}}
	slow := Row{Workload: "slow", Theirs: "them", Must: 1, CPURatio: Spread{1.16, 1, 2}, Noise: Spread{Median: 0.5}}
	late := Row{Workload: "late", Theirs: "them", MustP50: 2, CPURatio: Spread{Median: 9}, P50Ratio: Spread{Median: 2.4}}
	faulty := Row{Workload: "faulty", Theirs: "them", Must: 1, CPURatio: Spread{Median: 2}, Faults: 1, FirstFault: "them: gone"}
	free := Row{Workload: "free", CPURatio: Spread{Median: 9}}
	for _, c := range []struct {
		rows []Row
		want []string // nil: it passes
	}{
		{[]Row{ok, free}, nil},
		{[]Row{ok, slow}, []string{"slow: ", "against them: CPU ratio 1.16 [1.00–2.00], at most 1.00 and 15 %; noise 50 %"}},
		{[]Row{late, slow}, []string{"late: ", "p50 ratio 2.40", "slow: "}},
		{[]Row{ok, faulty}, []string{"faulty against them: 1 errors, misses, wrong or stale values; first them: gone"}},
		{[]Row{free}, []string{"nothing to judge"}},
		{nil, []string{"nothing to judge"}},
	} {
		err := Gate(c.rows, 0.15)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%v: %v, want words %q", c.rows, err, c.want)
			continue
		}
		for _, word := range c.want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%v, want a word of %q", err, word)
			}
		}
		if err != nil && (strings.Contains(err.Error(), "ok") || strings.Count(err.Error(), "faulty") > 1) {
			t.Errorf("%v names a row that holds, or one twice", err)
		}
	}
}

// What is wrong with the command line is said at once, all of it; a time may be a number
// of seconds.
func TestAllFaultsAreSaid(t *testing.T) {
	err := compareWith(t, io.Discard, "--rounds", "x", "--duration", "soon", "--warmup", "0.5", "--max-noise", "much",
		"--ours", "y", "--workloads", "z", "--cpus-load", "w", "--gate", "7")
	if err == nil {
		t.Fatal("no fault is said")
	}
	for _, want := range []string{`--rounds takes a whole number, not "x"`, `--duration takes seconds or a duration`, `--max-noise takes a number, not "much"`,
		`no rival "y"`, `"z"`, `bad CPU list "w"`, "--gate (7)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("there is no %s in:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n != 6 {
		t.Errorf("%d faults, want 7:\n%v", n+1, err)
	}
}

// The gate alone narrows a comparison to what it judges.
func TestGateFlag(t *testing.T) {
	for args, want := range map[string]string{
		"--gate 0.15": "nutcracker: get-c50 0 get-c50-p16 0 mixed-c1000 0 mixed-32k 0 set-2copies 1 set-2copies-c1 1 mixed-2copies 1 get-2copies 1 gets-2copies 1 get-scraped 1" +
			" binary-get 1 binary-set 1 binary-get-2copies 1 binary-set-2copies 1",
		"--gate 0.15 --workloads set-1copy,set-2copies --theirs direct": "direct: set-1copy 0 set-2copies 1",
		"--workloads multiget20,set-2copies":                            "nutcracker direct: multiget20 0 set-2copies 4",
	} {
		o := Options{Self: "magent"}
		fs := pflag.NewFlagSet("compare", pflag.ContinueOnError)
		o.Bind(fs)
		if err := errors.Join(fs.Parse(strings.Fields(args)), o.resolve(io.Discard)); err != nil {
			t.Fatal(err)
		}
		var names, works []string
		for _, r := range o.cfg.Others {
			names = append(names, r.Name)
		}
		for _, w := range o.cfg.Workloads {
			works = append(works, fmt.Sprint(w.Name, " ", len(w.Against)))
		}
		if got := strings.Join(names, " ") + ": " + strings.Join(works, " "); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

// The workloads that are standard, and the ratios that were promised.
func TestStandardWorkloads(t *testing.T) {
	promised := map[string]float64{"get-c50": 1, "get-c50-p16": 0.30, "mixed-c1000": 0.85, "mixed-32k": 1, "set-2copies": 1.6, "multiget20": 0, "get-scraped": 1.01,
		"binary-get": 1.1, "binary-set": 1.1, "binary-get-2copies": 1.1, "binary-set-2copies": 1.1}
	for _, w := range Workloads() {
		if must, ok := promised[w.Name]; ok && must != w.Must {
			t.Errorf("%s must hold %v, promised is %v", w.Name, w.Must, must)
		}
		delete(promised, w.Name)
		if !strings.Contains(w.Title, fmt.Sprintf("%d connection", w.Load.Conns)) || strings.ContainsAny(w.Title, "|`\n") {
			t.Errorf("%q with %d connections is entitled %q", w.Name, w.Load.Conns, w.Title)
		}
		// As BENCHMARKS.md has them.
		space, many := keys.NewSpace(w.Load.Keys), 10_000
		if w.Load.Values.Max() > 0 {
			many = 1000
		}
		for _, k := range []int{0, space.Len() - 1} {
			if name := space.AppendKey(nil, k); len(name) != 20 || space.Len() != many {
				t.Errorf("%q has %d keys, and %s is of %d bytes", w.Name, space.Len(), name, len(name))
			}
		}
	}
	if len(promised) > 0 {
		t.Errorf("missing are %v", promised)
	}
}
