package main

import (
	"bufio"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

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
	addr := strings.TrimSpace(first[strings.LastIndex(first, " "):])
	talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)
	for !strings.HasPrefix(first, "  printf ") {
		if first, err = lines.ReadString('\n'); err != nil {
			t.Fatal("the banner has nothing to type")
		}
	}
	if !strings.Contains(first, strings.ReplaceAll(addr, ":", " ")) {
		t.Errorf("%q does not name %s", first, addr)
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

func TestDemoPortInUse(t *testing.T) {
	busy := portOf(t, occupy(t).Addr().String())
	magent(t, "demo", "--port", busy).wantFault(t, "address already in use", "--port")
}
