package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"magent/bench/compare"
	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/upstream/memnode"
)

// The bench may import nothing of the proxy, so that its settings are flags of
// the proxy is checked here.
func TestBenchSettingsAreFlags(t *testing.T) {
	for _, w := range compare.Workloads() {
		for _, s := range append([]compare.Setting{w.Ours}, w.Against...) {
			var f config.Flags
			fs := pflag.NewFlagSet(w.Name, pflag.ContinueOnError)
			f.Bind(fs)
			err := fs.Parse(append([]string{"-s", "127.0.0.1:1", "-b", "127.0.0.1:2"}, s.Flags...))
			if err == nil {
				_, err = f.Config()
			}
			if err != nil {
				t.Errorf("%s, %s: %v", w.Name, s, err)
			}
		}
	}
}

// faultyNode is a node that fails by script.
func faultyNode(t *testing.T, script string) *memnode.Node {
	t.Helper()
	n, err := memnode.Start(memnode.Config{Fault: script})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// report is what the tests want of the JSON of `magent bench` and `magent failover`.
type report struct {
	Settings    map[string]string
	Preloaded   int
	Requests    int64
	Hits        int64
	Misses      int64
	Errors      int64
	Wrong       int64
	Stale       int64
	Interrupted bool
	Rate        float64
	FirstError  string `json:"first_error"`
	Latency     map[string]float64
	Ops         map[string]struct {
		Requests int64
		Latency  map[string]float64
	}
	Procs map[string]struct {
		PID int
		CPU float64 `json:"cpu_us"`
	}
	Self  map[string]float64
	Total struct{ Requests, Good, Misses, Stale, Wrong, Failed, Lost int }
	Marks []struct{ Name string }
}

func readReport(t *testing.T, path string) (r report) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return r
}

func TestBench(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.json")
	r := magent(t, "bench", "-s", newNode(t).Addr(), "-c", "5", "-n", "200", "--key-maximum", "999", "--mix", "get=8,set=2,incr=1,cas=1",
		"--proc", "tests="+strconv.Itoa(os.Getpid()), "--json-out-file", path)
	if r.code != 0 || r.stderr != "" {
		t.Errorf("exit status %d, and in a pipe standard error has %q", r.code, r.stderr)
	}
	for _, want := range []string{`^1,000 keys written before; measured 1,000 requests in `, `^get +[1-9]`, `^incr +[1-9]`, `^total +[1-9]`, `^0 errors, 0 wrong values, 0 stale values; 0 lost`, `^tests  `, `^this generator  `} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(r.out) {
			t.Errorf("there is no %s in:\n%s", want, r.out)
		}
	}
	j := readReport(t, path)
	if j.Requests != 1000 || j.Preloaded != 1000 || j.Hits == 0 || j.Misses+j.Errors+j.Wrong+j.Stale != 0 || j.Interrupted || j.Settings["clients"] != "5" {
		t.Errorf("the report says %+v", j)
	}
	if j.Ops["get"].Requests == 0 || j.Ops["get"].Latency["p9999_us"] <= 0 || j.Latency["p50_us"] <= 0 || j.Latency["max_us"] < j.Latency["p99_us"] {
		t.Errorf("its latencies are %+v, %+v", j.Latency, j.Ops)
	}
	if p := j.Procs["tests"]; p.PID != os.Getpid() || p.CPU <= 0 || j.Self["cpu_us"] <= 0 {
		t.Errorf("its processes are %+v, %+v", j.Procs, j.Self)
	}
}

// The report may go elsewhere.
func TestBenchOutputs(t *testing.T) {
	addr, dir := newNode(t).Addr(), t.TempDir()
	load := []string{"bench", "-s", addr, "-c", "2", "-n", "50", "--key-maximum", "99"}
	text, prefix := filepath.Join(dir, "text"), filepath.Join(dir, "run")
	r := magent(t, append(load, "-o", text, "--json-out-file", "-", "--hdr-file-prefix", prefix, "--histogram", "--print-percentiles", "25,75")...)
	if r.code != 0 || r.stderr != "" || !json.Valid([]byte(r.out)) {
		t.Errorf("exit status %d, %s, and as JSON %s", r.code, r.stderr, r.out)
	}
	got, err := os.ReadFile(text)
	if err != nil || !bytes.Contains(got, []byte("p25")) || !bytes.Contains(got, []byte("latency up to")) {
		t.Errorf("the text is %q, %v", got, err)
	}
	for _, op := range []string{"total", "get", "set"} {
		if hgrm, err := os.ReadFile(prefix + "_" + op + ".hgrm"); err != nil || !bytes.Contains(hgrm, []byte("Percentile")) {
			t.Errorf("the histogram of %s is %q, %v", op, hgrm, err)
		}
	}
	missing := filepath.Join(dir, "missing", "x")
	magent(t, append(load, "--hdr-file-prefix", missing)...).wantFault(t, "--hdr-file-prefix: ", missing)
	magent(t, append(load, "-o", missing)...).wantFault(t, "--out-file: ", missing)
	magent(t, append(load, "--json-out-file", missing)...).wantFault(t, "--json-out-file: ", missing)
}

func TestBenchFindsWrongData(t *testing.T) {
	node, path := faultyNode(t, "(on get (1/10 wrongkey))"), filepath.Join(t.TempDir(), "run.json")
	r := magent(t, "bench", "-s", node.Addr(), "-c", "2", "-n", "200", "--key-maximum", "99", "--json-out-file", path)
	if !regexp.MustCompile(`^magent: [1-9]\d* wrong values? and 0 stale values: .*\n$`).MatchString(r.stderr) || r.code != 1 {
		t.Errorf("exit status %d, %q", r.code, r.stderr)
	}
	if j := readReport(t, path); j.Wrong == 0 || j.FirstError == "" || !strings.Contains(r.out, "\nthe first: "+j.FirstError+"\n") {
		t.Errorf("the report has %d wrong values, the first %q, and the text is\n%s", j.Wrong, j.FirstError, r.out)
	}
}

// Each connection is an open file.
func TestBenchWithoutFiles(t *testing.T) {
	addr := newNode(t).Addr()
	got, err := exec.Command("bash", "-c", "ulimit -n 30 && exec "+binary+" bench -c 100 --key-maximum 9 -s "+addr).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(got), "magent: ") || !strings.HasSuffix(string(got), "too many open files: raise ulimit -n above the number of connections, or ask for fewer with --clients\n") {
		t.Errorf("%v, %s", err, got)
	}
}

// What is out of step ends the run, and is reported.
func TestBenchOfBabble(t *testing.T) {
	node := faultyNode(t, `(on get (after 100 reply "HELLO"))`)
	r := magent(t, "bench", "-s", node.Addr(), "-c", "1", "--test-time", "15", "--key-maximum", "99")
	if r.code != 1 || !strings.Contains(r.stderr, "HELLO") || !strings.Contains(r.out, "\ntotal ") {
		t.Errorf("exit status %d, %q, and the text is\n%s", r.code, r.stderr, r.out)
	}
}

// commands is how many commands of this verb n has had.
func commands(n *memnode.Node, verb string) uint64 { return n.Stats().Commands[verb] }

func TestBenchInterrupted(t *testing.T) {
	node, path := newNode(t), filepath.Join(t.TempDir(), "run.json")
	cmd := exec.Command(binary, "bench", "-s", node.Addr(), "-c", "2", "--test-time", "100", "--key-maximum", "99", "--json-out-file", path)
	var out lockedBuffer
	cmd.Stdout = &out
	p := launch(t, cmd)
	proctest.Eventually(t, "measuring", func() bool { return commands(node, "get") > 100 })
	p.Process.Signal(syscall.SIGINT)
	if code := p.ended(); code != 130 || p.stderr.String() != "magent: interrupted\n" {
		t.Errorf("exit status %d, %q", code, p.stderr)
	}
	if text := out.String(); !strings.Contains(text, ", then interrupted\n") || !strings.Contains(text, "\ntotal ") {
		t.Errorf("the text is\n%s", text)
	}
	if j := readReport(t, path); !j.Interrupted || j.Requests == 0 || j.Wrong != 0 {
		t.Errorf("the report is %+v", j)
	}
}

func TestBenchInterruptedTooSoon(t *testing.T) {
	node := faultyNode(t, "(on set (stall 10s))")
	p := launch(t, exec.Command(binary, "bench", "-s", node.Addr()))
	proctest.Eventually(t, "writing the keys", func() bool { return node.Stats().Faults > 0 })
	p.Process.Signal(syscall.SIGINT)
	if code := p.ended(); code != 130 || p.stderr.String() != "magent: interrupted before anything was measured\n" {
		t.Errorf("exit status %d, %q", code, p.stderr)
	}
}

func TestBenchFaults(t *testing.T) {
	r := magent(t, "bench", "--ratio", "x", "-c", "0", "--mix", "get=1")
	if lines := strings.Split(r.stderr, "\nmagent: --"); r.code != 1 || r.out != "" || len(lines) != 3 {
		t.Errorf("exit status %d, %q", r.code, r.stderr)
	}
	magent(t, "bench", "--bogus").wantFault(t, "--bogus")
	magent(t, "bench", "127.0.0.1:1").wantFault(t, `unexpected argument "127.0.0.1:1"`, "--server")
	magent(t, "bench", "--proc", "node=2147483647").wantFault(t, "--proc node=2147483647: no such process")
	magent(t, "bench", "-s", freeAddr(t)).wantFault(t, "connection refused")
	magent(t, "bench", "--profile", "heat").wantFault(t, "--profile heat is not known")
	magent(t, "bench", "--profile", "cpu", "--profile-dir", "/nowhere").wantFault(t, "--profile cpu: open /nowhere")
	magent(t, "bench", "compare", "--ours", "bogus").wantFault(t, "bogus")
	magent(t, "bench", "compare", "--rounds", "few").wantFault(t, `--rounds takes a whole number, not "few"`)
	magent(t, "bench", "refill", "--rounds", "0").wantFault(t, `--rounds takes a whole number from 1 up, not "0"`)
	magent(t, "bench", "refill", "--cpus-load", "1023").wantFault(t, "there is no CPU 1023")
	magent(t, "bench", "refill", "--magent", "/nowhere/magent", "--keys", "9", "--cpus-proxy", "all", "--cpus-load", "all").wantFault(t, "/nowhere/magent")
	magent(t, "bench", "report", filepath.Join(t.TempDir(), "x.md")).wantFault(t, "x.md")
}

func TestBenchProfile(t *testing.T) {
	dir := t.TempDir()
	r := magent(t, "bench", "-s", newNode(t).Addr(), "-c", "1", "-n", "10", "--key-maximum", "9", "--profile", "mutex", "--profile-dir", dir)
	if info, err := os.Stat(filepath.Join(dir, "mutex.pprof")); err != nil || info.Size() == 0 || r.code != 0 {
		t.Errorf("exit status %d, %s, and there is no profile: %v", r.code, r.stderr, err)
	}
}

// Every page of help fits its width and names every flag.
func TestHelpOfTheJudge(t *testing.T) {
	if testing.Short() {
		return // a text has no races, and the binary that looks for them takes a second to start
	}
	for _, c := range []struct {
		words []string
		cmd   *cobra.Command
	}{{[]string{"bench"}, newBench()}, {[]string{"bench", "compare"}, subcommand(t, newBench(), "compare")},
		{[]string{"bench", "refill"}, subcommand(t, newBench(), "refill")},
		{[]string{"bench", "report"}, subcommand(t, newBench(), "report")}, {[]string{"failover"}, newFailover()}} {
		r := magent(t, append(c.words, "--help")...)
		if again := magent(t, append([]string{"help"}, c.words...)...); r.code != 0 || again.out != r.out {
			t.Errorf("%v --help says with status %d\n%s\nand help %v\n%s", c.words, r.code, r.out, c.words, again.out)
		}
		for line := range strings.Lines(r.out) {
			if len([]rune(line)) > 110 {
				t.Errorf("%v: this line is too long: %s", c.words, line)
			}
		}
		c.cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !regexp.MustCompile(`(?m)^  (-\w,|   ) --` + f.Name + `\b`).MatchString(r.out) {
				t.Errorf("%v: there is no --%s in its help", c.words, f.Name)
			}
		})
		if !strings.Contains(r.out, "\nExamples:\n  magent "+strings.Join(c.words, " ")) {
			t.Errorf("%v: no example in its help", c.words)
		}
	}
}

func subcommand(t *testing.T, cmd *cobra.Command, name string) *cobra.Command {
	t.Helper()
	sub, _, err := cmd.Find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// TestReadmeHasTheFlagsOfMemtier: the table from memtier_benchmark's flags to ours names
// flags that are there, of the same name and letter where it says so, with our default.
func TestReadmeHasTheFlagsOfMemtier(t *testing.T) {
	flags := newBench().Flags()
	told := make(map[string]bool)
	rows := tableRows(document(t, readme), "memtier_benchmark")
	if len(rows) < 20 {
		t.Errorf("README.md has %d rows", len(rows))
	}
	for _, row := range rows {
		if len(row) != 4 {
			t.Errorf("the row %q has %d cells", row, len(row))
			continue
		}
		theirs, ours := words(row[0]), words(row[1])
		for _, name := range theirs {
			if f := flags.Lookup(strings.TrimPrefix(name, "--")); f == nil && strings.HasPrefix(name, "--") || name == "-R" || name == "-x" {
				magent(t, "bench", name).wantFault(t, name+" is memtier_benchmark's: ")
			}
		}
		if strings.TrimSpace(row[1]) == "the same" {
			ours = theirs
		}
		for _, name := range ours {
			letter, isLetter := strings.CutPrefix(name, "-")
			f := flags.Lookup(strings.TrimPrefix(name, "--"))
			if isLetter && len(letter) == 1 {
				f = flags.ShorthandLookup(letter)
			}
			if f == nil {
				t.Errorf("README.md has %s, which is no flag of magent bench", name)
				continue
			}
			told[f.Name] = true
			if defaults := words(row[2]); len(defaults) > 0 && !slices.Contains(defaults, f.DefValue) {
				t.Errorf("README.md says that the default of %s is %q, and it is %q", name, defaults, f.DefValue)
			}
		}
	}
	text := document(t, readme)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !told[f.Name] && !strings.Contains(text, fmt.Sprintf("`--%s", f.Name)) {
			t.Errorf("README.md does not have --%s of magent bench", f.Name)
		}
	})
}
