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

	"magent/bench/process/proctest"
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

// TestFailoverInterrupted: a drill of a process that was there; Ctrl-C has it run on.
func TestFailoverInterrupted(t *testing.T) {
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
	p.Process.Signal(syscall.SIGINT)
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
	magent(t, "failover", "-s", freeAddr(t), "--kill", "2147483647").wantFault(t, "--kill: ")
	magent(t, "failover", "-s", freeAddr(t), "--exec", "true").wantFault(t, "connection refused")
	magent(t, "failover", "--memcached", "/nowhere/memcached").wantFault(t, "/nowhere/memcached")
	magent(t, "failover", "--out", "/nowhere/x.svg").wantFault(t, "--out: ", "/nowhere/x.svg")
}
