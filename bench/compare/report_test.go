package compare

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"magent/bench/load"
	"magent/bench/meter"
)

const document = "../../BENCHMARKS.md"

// TestBenchmarksAreOfTheRawFiles: what BENCHMARKS.md says in figures and plots is what
// the tool writes from the results it names. `make report` makes it so.
func TestBenchmarksAreOfTheRawFiles(t *testing.T) {
	doc, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	f := newFiller(filepath.Dir(document))
	text, err := f.fill(string(doc))
	if err != nil {
		t.Fatal(err)
	}
	if text != string(doc) {
		got, want := strings.Split(string(doc), "\n"), strings.Split(text, "\n")
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("BENCHMARKS.md, line %d, is\n%s\nand its results say\n%s\nrun make report", i+1, got[i], want[i])
				break
			}
		}
	}
	if len(f.read) == 0 || len(f.files) == 0 {
		t.Errorf("blocks of %d results with %d plots", len(f.read), len(f.files))
	}
	for name, content := range f.files {
		if file, err := os.ReadFile(filepath.Join(f.base, name)); err != nil || string(file) != string(content) {
			t.Errorf("%s is not what its results say (%v): run make report", name, err)
		}
	}
}

// results saves rows as a comparison under dir, and returns where, relative to it.
func results(t *testing.T, dir, commit string, rows ...Row) string {
	t.Helper()
	r := &Result{Provenance: meter.Provenance{Commit: commit, Command: []string{"--magent", "magent", "--rounds", "1"}}, Rows: rows}
	where, err := r.save(dir)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(where)
}

func row(workload, ours, theirs string, cpu float64) Row {
	return Row{Workload: workload, Ours: ours, Theirs: theirs, Pairs: []Pair{{report(cpu, 100, 10, 30), report(2, 100, 10, 30)}}}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	old := results(t, dir, "old", row("get-c50", "magent", "nutcracker", 1), row("set-2copies", "magent, 2 copies", "magent, 1 copy", 3))
	full := results(t, dir, "new", row("get-c50", "magent", "nutcracker", 4), row("get-c50", "magent", "direct", 4))
	const layout = "before\n<!-- bench:begin rivals DIR -->\nwhat was here\n<!-- bench:end -->\nbetween\n" +
		"<!-- bench:begin settings DIR -->\n<!-- bench:end -->\n<!-- bench:begin rivals-plots DIR -->\n<!-- bench:end -->\nafter\n"
	if err := os.WriteFile(doc, []byte(strings.ReplaceAll(layout, "DIR", old)), 0o644); err != nil {
		t.Fatal(err)
	}
	written := func(results string) string {
		t.Helper()
		if _, err := Report(doc, results); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := written("")
	for _, want := range []string{
		"before\n<!-- bench:begin rivals " + old + " -->\n\n| workload |", "\n<!-- bench:end -->\nbetween\n", "\n<!-- bench:end -->\nafter\n",
		"| `get-c50`: get, 50 connections | magent | nutcracker | 0.50 [0.50–0.50] |", "| magent, 1 copy | 1.50 [1.50–1.50] |",
		"](" + old + "/rivals-cpu.svg)",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is missing in\n%s", want, first)
		}
	}
	if strings.Contains(first, "what was here") {
		t.Errorf("what was in the block is still there:\n%s", first)
	}
	if again := written(""); again != first {
		t.Errorf("written again it is\n%s\nnot\n%s", again, first)
	}
	// The new results have no second copies: that block stays with the old.
	moved := written(filepath.Join(dir, full))
	for _, want := range []string{"bench:begin rivals " + full, "bench:begin settings " + old, "bench:begin rivals-plots " + full, "| 2.00 [2.00–2.00] |", "| direct |"} {
		if !strings.Contains(moved, want) {
			t.Errorf("%q is missing in\n%s", want, moved)
		}
	}
	// The host is that of the block before it.
	const hosts = "<!-- bench:begin rivals DIR -->\n<!-- bench:end -->\n<!-- bench:begin host DIR -->\n<!-- bench:end -->\n" +
		"<!-- bench:begin settings DIR -->\n<!-- bench:end -->\n<!-- bench:begin host DIR -->\n<!-- bench:end -->\n"
	if err := os.WriteFile(doc, []byte(strings.ReplaceAll(hosts, "DIR", old)), 0o644); err != nil {
		t.Fatal(err)
	}
	dirs := regexp.MustCompile(`bench:begin \S+ (\S+)`).FindAllStringSubmatch(written(filepath.Join(dir, full)), -1)
	for i, want := range []string{full, full, old, old} {
		if len(dirs) != 4 || dirs[i][1] != want {
			t.Errorf("blocks are of %q, want number %d of %s", dirs, i, want)
		}
	}
	other := results(t, dir, "other", row("get-c50-p16", "magent", "nutcracker", 1))
	if _, err := Report(doc, filepath.Join(dir, other)); err == nil || !strings.Contains(err.Error(), "no block") {
		t.Errorf("results that no block can be of: %v", err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, full, "rivals-latency.svg"))
	if err != nil || !strings.Contains(string(svg), ">direct</text>") || !strings.Contains(string(svg), ">get-c50</text>") {
		t.Errorf("plot, %v:\n%s", err, svg)
	}
}

func TestBlocksAreChecked(t *testing.T) {
	dir := t.TempDir()
	good := results(t, dir, "x", row("get-c50", "magent", "nutcracker", 1))
	for doc, word := range map[string]string{
		"<!-- bench:begin rivals " + good + " -->\n":                              "no end",
		"<!-- bench:begin rivals " + good + " -->\n<!-- bench:begin host x -->\n": "no end before host",
		"<!-- bench:end -->\n":                                             "did not begin",
		"<!-- bench:begin rivals -->\n<!-- bench:end -->\n":                "no mark",
		"<!-- bench:begin nothing " + good + " -->\n<!-- bench:end -->\n":  "rivals-plots",
		"<!-- bench:begin settings " + good + " -->\n<!-- bench:end -->\n": "nothing in",
		"<!-- bench:begin rivals nowhere -->\n<!-- bench:end -->\n":        "nowhere",
	} {
		if _, err := newFiller(dir).fill(doc); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want a word of %q", doc, err, word)
		}
	}
}

func TestHostBlock(t *testing.T) {
	rows := []Row{row("a", "magent", "x", 1), row("a", "magent", "y", 1), row("b", "magent", "x", 1)}
	rows[0].Discarded, rows[1].Discarded, rows[2].Discarded = 2, 2, 1
	r := &Result{
		Provenance: meter.Provenance{
			Commit: "abc", Command: []string{"magent", "bench", "compare", "--rounds", "1"}, CPU: "Some CPU", Cores: 2, Virtual: true, Kernel: "6.1", Go: "go1.26",
			Versions: map[string]string{"nutcracker": "This is nutcracker-0.5.0", "mine": "1.0"},
		},
		ProxyCPUs: "0", Error: "it\nended",
	}
	text, _, err := hostBlock("dir", r, rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"at commit abc: `magent bench compare --rounds 1`", "Some CPU, 2 CPUs, a virtual machine; Linux 6.1.", "mine: 1.0; nutcracker-0.5.0; load by go1.26",
		"each proxy to CPU 0, load and nodes to CPU any", "1 rounds; 3 were noisier", "**Not complete**: it; ended",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	r.Command = []string{"--magent", "magent", "--rounds", "5"}
	if got := r.commandLine(); got != "magent bench --rounds 5" {
		t.Errorf("of an old file: %q", got)
	}
	r.Command = []string{"magent", "--cpus-load", "", "--x", "it's one"}
	if got := r.commandLine(); got != `magent --cpus-load '' --x 'it'\''s one'` {
		t.Errorf("quoted: %s", got)
	}
}

// A file of old has no sums that came later; they are made of its runs.
func TestLoadSumsAgain(t *testing.T) {
	dir := t.TempDir()
	r := row("get-c50", "magent", "nutcracker", 1)
	r.Faults, r.FirstFault = 7, "of the file"
	where := filepath.Join(dir, results(t, dir, "x", r))
	res, err := Load(where)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Rows[0]; got.CPURatio.Median != 0.5 || got.OurNodes.Median != 1.25 || got.Faults != 0 || got.FirstFault != "" {
		t.Errorf("%+v", got)
	}
	for text, word := range map[string]string{
		`{"rows":[{"workload":"w"}]}`:                       "no rounds",
		`{"rows":[{"workload":"w","pairs":[{"ours":{}}]}]}`: "lacks a side",
		`{`: "unexpected end",
	} {
		if err := os.WriteFile(filepath.Join(where, rawFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(where); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want a word of %q", text, err, word)
		}
	}
}

func TestSides(t *testing.T) {
	rows := []Row{row("a", "magent", "x", 1), row("a", "magent", "y", 1), row("b", "magent", "x", 1)}
	rows[0].Pairs = append(rows[0].Pairs, Pair{report(3, 300, 30, 90), report(2, 100, 10, 30)})
	rows[0].Pairs[0].Ours.Host.All.Idle = 0.5
	rows[0].Pairs[1].Ours.Self.CPU = 4
	u := rows[0].Pairs[0].Ours.Procs[proxyProc]
	u.Voluntary, u.Involuntary = 3, 1
	rows[0].Pairs[0].Ours.Procs[proxyProc], rows[0].Pairs[0].Ours.Requests = u, 10
	sides := Sides(rows)
	var got []string
	for _, s := range sides {
		got = append(got, s.Workload+" "+s.Name)
	}
	if want := "a magent, a x, a y, b magent, b x"; strings.Join(got, ", ") != want {
		t.Fatalf("sides %q, want %s", got, want)
	}
	want := Side{
		Workload: "a", Name: "magent", Rate: Spread{200, 100, 300}, P50: Spread{20, 10, 30}, P99: Spread{60, 30, 90},
		Proxy: Spread{2, 1, 3}, Nodes: Spread{1.5, 1.25, 1.75}, Load: Spread{2, 0, 4}, Switches: Spread{0.2, 0, 0.4}, Busy: Spread{0.75, 0.5, 1},
	}
	if sides[0] != want {
		t.Errorf("got  %+v\nwant %+v", sides[0], want)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		log       bool
		want      string
	}{
		{0, 63, false, "0 10 20 30 40 50 60"},
		{0, 10, false, "0 2 4 6 8 10"},
		{0, 0.025, false, "0 0.005 0.01 0.015 0.02 0.025"},
		{0.04, 3, true, "0.05 0.1 0.2 0.5 1 2"},
	} {
		f := ticks
		if c.log {
			f = logTicks
		}
		var got []string
		for _, m := range f(c.low, c.high) {
			got = append(got, m.Label)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v to %v: %v, want %s", c.low, c.high, got, c.want)
		}
	}
}

func TestChartsWantSomethingToShow(t *testing.T) {
	none := &load.Report{Rate: 1}
	for _, c := range charts {
		if _, err := c.svg([]Side{newSide("w", "s", []*load.Report{none})}); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}
