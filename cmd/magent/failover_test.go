package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"magent/bench/failover"
	"magent/bench/process/proctest"
	"magent/server/config"
)

// TestFailover: nobody notices that the primary of a magent is killed, and the report
// and its plot are whole.
func TestFailover(t *testing.T) {
	dir := t.TempDir()
	plot, path := filepath.Join(dir, "f.svg"), filepath.Join(dir, "f.json")
	r := magent(t, "failover", "--before", "500ms", "--down", "500ms", "--back", "1", "--rate", "1000",
		"--max-errors", "0", "--max-miss", "0", "--out", plot, "--json-out-file", path)
	if r.code != 0 || r.stderr != "" {
		t.Errorf("exit status %d, %s", r.code, r.stderr)
	}
	for _, want := range []string{`^kill: kill -9 of the lead, and restart$`, `^ +before `, `^ +down `, `^ +total `, `^first error +none after the fault$`} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(r.out) {
			t.Errorf("there is no %s in:\n%s", want, r.out)
		}
	}
	j := readReport(t, path)
	if j.Rate != 1000 || j.Total.Requests < 1900 || j.Total.Good != j.Total.Requests || len(j.Marks) != 2 || j.Settings["scenario"] != "kill" {
		t.Errorf("the report says %+v", j)
	}
	texts := svgTexts(t, plot)
	for _, axis := range []string{"good answers per second", "latency, ms", "answers in 100 ms"} {
		if !strings.Contains(texts, axis) {
			t.Errorf("the plot has no panel of %s: %s", axis, texts)
		}
	}
}

// svgTexts is what is written in a picture, which must be well-formed.
func svgTexts(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var texts strings.Builder
	for d := xml.NewDecoder(file); ; {
		switch token, err := d.Token(); {
		case errors.Is(err, io.EOF):
			return texts.String()
		case err != nil:
			t.Fatalf("%s: %v", path, err)
		default:
			if text, ok := token.(xml.CharData); ok {
				texts.Write(text)
			}
		}
	}
}

// The drill may import nothing of the proxy, so that its scenarios' flags are the proxy's
// is checked here.
func TestScenarioFlags(t *testing.T) {
	for _, s := range failover.Scenarios {
		var f config.Flags
		fs := pflag.NewFlagSet(s.Name, pflag.ContinueOnError)
		f.Bind(fs)
		err := fs.Parse(append([]string{"-s", "127.0.0.1:1", "-b", "127.0.0.1:2"}, s.Flags...))
		if err == nil {
			_, err = f.Config()
		}
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// Several drills: nobody notices, each is in the table, and all of it is kept, in a form
// that BENCHMARKS.md can be written from.
func TestFailoverInRounds(t *testing.T) {
	dir := t.TempDir()
	r := magent(t, "failover", "--scenario", "stop-hedge,slow,reset", "--rounds", "1", "--before", "200ms", "--down", "400ms", "--back", "400ms",
		"--rate", "1000", "--clients", "4", "--key-maximum", "99", "--results", dir)
	if r.code != 0 || r.stderr != "" {
		t.Errorf("exit status %d, %s", r.code, r.stderr)
	}
	for _, want := range []string{`^round 1  slow +\d+ requests  0 errors`, `^stop-hedge: .* --hedge 5ms +0 +0 +0 +slowest read `, `^raw results in `} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(r.out) {
			t.Errorf("there is no %s in:\n%s", want, r.out)
		}
	}
	where, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(where) != 1 {
		t.Fatalf("%q, %v", where, err)
	}
	doc := filepath.Join(dir, "doc.md")
	mark := "<!-- bench:begin failover " + filepath.Base(where[0]) + " -->\n<!-- bench:end -->\n"
	if err := os.WriteFile(doc, []byte(mark), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := magent(t, "bench", "report", doc); r.code != 0 {
		t.Errorf("exit status %d, %s", r.code, r.stderr)
	}
	text, err := os.ReadFile(doc)
	if err != nil || !strings.Contains(string(text), "| `slow`: each answer of the lead is 50 ms late; --hedge auto | 0 | 0 | 0 | p99 of reads") {
		t.Errorf("%v\n%s", err, text)
	}
	if texts := svgTexts(t, filepath.Join(where[0], "reset.svg")); !strings.Contains(texts, "reset: 1 request in 1000") {
		t.Errorf("the plot says %s", texts)
	}
}

// Without a proxy clients do notice, and the exit status says so.
func TestFailoverPassesBounds(t *testing.T) {
	r := magent(t, "failover", "--direct", "--before", "200ms", "--down", "300ms", "--back", "500ms", "--rate", "1000",
		"--max-errors", "0", "--max-miss", "0", "--max-gap", "100ms")
	if r.code != 1 || !strings.Contains(r.out, "first error") {
		t.Errorf("exit status %d, and the text is\n%s", r.code, r.out)
	}
	for _, want := range []string{`[1-9]\d* errors`, `[1-9]\d* misses`, `no good answer for `} {
		if !regexp.MustCompile(`(?m)^magent: failover: ` + want).MatchString(r.stderr) {
			t.Errorf("there is no %s in:\n%s", want, r.stderr)
		}
	}
}

// TestFailoverInterrupted: a drill of a process that was there; Ctrl-C has it run on, and
// so has whatever else ends a program in good order: a terminal that is closed, too.
func TestFailoverInterrupted(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) { interruptFailover(t, s) })
	}
}

func interruptFailover(t *testing.T, s syscall.Signal) {
	addr := freeAddr(t)
	node := launch(t, exec.Command("memcached", "-u", "nobody", "-U", "0", "-l", "127.0.0.1", "-p", portOf(t, addr)))
	node.waitFor("tcp", addr)
	pid := node.Process.Pid
	cmd := exec.Command(binary, "failover", "-s", addr, "--stop", strconv.Itoa(pid), "--before", "100ms", "--down", "100")
	var out lockedBuffer
	cmd.Stdout = &out
	p := launch(t, cmd)
	stands := func() bool { return statusField(t, pid, "State")[0] == "T" }
	proctest.Eventually(t, "frozen", stands)
	p.Process.Signal(s)
	if code := p.ended(); code != 130 || p.stderr.String() != "magent: interrupted\n" {
		t.Errorf("exit status %d, %q", code, p.stderr)
	}
	if stands() {
		t.Error("the process is left frozen")
	}
	if text := out.String(); !strings.Contains(text, "SIGSTOP of memcached") || !strings.Contains(text, "\n   total ") {
		t.Errorf("the text is\n%s", text)
	}
}

func TestFailoverFaults(t *testing.T) {
	magent(t, "failover", "-s", freeAddr(t)).wantFault(t, "nothing is to fail", "--kill")
	magent(t, "failover", "-s", freeAddr(t), "--kill", "2147483647").wantFault(t, "--kill 2147483647: no such process")
	magent(t, "failover", "-s", freeAddr(t), "--exec", "true").wantFault(t, "connection refused")
	magent(t, "failover", "--hide-histogram").wantFault(t, "--hide-histogram is memtier_benchmark's: ")
	magent(t, "failover", "--memcached", "/nowhere/memcached").wantFault(t, "/nowhere/memcached")
	magent(t, "failover", "--out", "/nowhere/x.svg").wantFault(t, "--out: ", "/nowhere/x.svg")
}
