package main

import (
	"bufio"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// said is what a node or the proxy answers to the banner's get, without CRs.
const said = "VALUE greeting 0 5\nhello\nEND\n"

func TestDemoSaysWhatToType(t *testing.T) {
	cmd := exec.Command(binary, "demo", "--port", "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, cmd)
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("no banner: %v, %s", err, p.stderr)
	}
	script := "set -e\n"
	for line := first; line != "Ctrl-C ends it.\n"; {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatalf("the banner has no end: %v", err)
		}
		if strings.HasPrefix(line, "  mc") || strings.Contains(line, " status --admin ") {
			script += line
		}
	}
	r := command(t, exec.Command("bash", "-c", script))
	if got := strings.ReplaceAll(r.out, "\r", ""); !strings.HasPrefix(got, "STORED\n"+said+said+"magent ") || strings.Count(got, "  up ") != 2 || r.code != 0 {
		t.Errorf("what the banner has to type:\n%s\ngives %d, %q, %s", script, r.code, got, r.stderr)
	}
	p.Process.Signal(syscall.SIGINT)
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.stderr)
	}
}

func TestDemoKillsAndLosesNothing(t *testing.T) {
	r := magent(t, "demo", "--port", "0", "--kill-every", "500ms", "--for", "3s")
	if r.code != 0 {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
	verdict := regexp.MustCompile(`(?m)^[2-9] kills; workload: \d{3,} operations, 0 errors, \d+ misses, 0 stale, 0 wrong`)
	if !verdict.MatchString(r.out) {
		t.Errorf("no verdict of nothing lost in:\n%s", r.out)
	}
}

// TestDemoFaults: the scripts are shown, what they did is counted, and no client notices.
func TestDemoFaults(t *testing.T) {
	r := magent(t, "demo", "--port", "0", "--for", "3s",
		"--fault", "(every 400ms ( restart 100ms))", "--fault-backup", "(on * (1/9 slow exp 1ms))")
	if r.code != 0 {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
	for _, want := range []string{
		`(?m)^The primary fails by \(every 400ms \(restart 100ms\)\)$`,
		`(?m)^The backup fails by \(on \* \(1/9 slow exp 1ms\)\)$`,
		`(?m)^\d+ req/s .*  primary \w+( \([^)]*\))?, [1-9] faults  backup \w+( \([^)]*\))?, \d+ faults  \| workload`,
		`(?m)^[1-9] faults of the primary, [1-9]\d+ faults of the backup; workload: \d{3,} operations, 0 errors, \d+ misses, 0 stale, 0 wrong`,
	} {
		if !regexp.MustCompile(want).MatchString(r.out) {
			t.Errorf("there is no %s in:\n%s", want, r.out)
		}
	}
}

func TestDemoBadFault(t *testing.T) {
	magent(t, "demo", "--port", "0", "--fault", "(on get (freeze))").wantFault(t, "--fault: ", "column 16", "magent help faults")
	magent(t, "demo", "--port", "0", "--fault-backup", "(on gett (kill))").wantFault(t, "--fault-backup: ", "column 5", "gett")
}

func TestDemoPortInUse(t *testing.T) {
	busy := portOf(t, occupy(t).Addr().String())
	magent(t, "demo", "--port", busy).wantFault(t, "address already in use", "--port")
}
