package e2e

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"magent/bench/process/proctest"
	"magent/server"
	"magent/server/config"
	"magent/server/e2e/harness"
)

// TestMain runs the tests, or, told so by childEnv, one of the other processes
// that they need.
func TestMain(m *testing.M) {
	switch role := os.Getenv(childEnv); role {
	case "":
		flag.Parse()
		waiting(m)
	case "idlers":
		idlers()
	case "scarce":
		scarce()
	case "proxy":
		serveFlags()
	default:
		panic(role)
	}
}

// waitingAtOnce is how many of the tests that are parallel run at once, unless that is said.
// They are those that mostly wait: for a timeout, a lease or a clock. None of them leaves
// the port of a node it has killed free for a while, as a node of another might get it.
const waitingAtOnce = "6"

// waiting runs the tests.
func waiting(m *testing.M) {
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		if err := flag.Set("test.parallel", waitingAtOnce); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var long = flag.Bool("long", false, "repeat what counts by how often it is done: some minutes")

// amount is how much of something a test does: as much as there is time for in a run
// under the race detector, in any run, or if it is asked to be long.
func amount(short, usual, most int) int {
	switch {
	case *long:
		return most
	case testing.Short():
		return short
	}
	return usual
}

const childEnv = "MAGENT_E2E_CHILD"

// A proc is this test binary in another role.
type proc struct {
	said *bufio.Reader // what it says on standard output
	pid  int
	end  func() // has it end, as it has to, and waits for that
	kill func() // ends it as kill -9 does
}

// child starts one. It ends when its standard input closes, at the latest with the test.
func child(t testing.TB, role string, args ...string) *proc {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	// With -race a process would wait a second before it ends.
	cmd.Env = append(os.Environ(), childEnv+"="+role, "GORACE=atexit_sleep_ms=10 "+os.Getenv("GORACE"))
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := proctest.Launch(t, cmd)
	killed := false
	r := &proc{said: bufio.NewReader(stdout), pid: cmd.Process.Pid, end: func() {
		_ = stdin.Close()
		<-ended
		if code := cmd.ProcessState.ExitCode(); code != 0 && !killed {
			t.Errorf("%s %q ended with status %d", role, args, code)
		}
	}}
	r.kill = func() {
		killed = true
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
	}
	t.Cleanup(r.end)
	return r
}

func childFailed(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// proxyProcess starts a proxy of the flags in a process of its own, on a free
// port, and returns its address.
func proxyProcess(t *testing.T, flags ...string) (addr string, kill func()) {
	t.Helper()
	proxy := child(t, "proxy", flags...)
	addr, err := proxy.said.ReadString('\n')
	if err != nil {
		t.Fatalf("the proxy %q says nothing: %v", flags, err)
	}
	return strings.TrimSpace(addr), proxy.kill
}

// serveFlags is a proxy of the flags it was given, as `magent serve` is one, but
// for where it listens. It says where that is, and with a certificate where it does with TLS.
func serveFlags() {
	var f config.Flags
	set := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
	f.Bind(set)
	if err := set.Parse(os.Args[1:]); err != nil {
		childFailed(err)
	}
	cfg, err := f.Config()
	if err != nil {
		childFailed(err)
	}
	runtime.GOMAXPROCS(cfg.Loops)
	serveChild(cfg, slog.LevelWarn, func(string) error { return nil })
}

// serveChild serves cfg on a free port, says the address, and ends when its
// standard input does. prepare is called before it says so.
func serveChild(cfg config.Config, level slog.Level, prepare func(addr string) error) {
	cfg.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}
	if cfg.Access.TLSCert != "" {
		cfg.Listen = append(cfg.Listen, config.Listen{Network: "tcp", Address: "127.0.0.1:0", TLS: true})
	}
	s, err := server.New(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	if err != nil {
		childFailed(err)
	}
	if err := s.Start(); err != nil {
		childFailed(err)
	}
	addr := s.Addrs()[0].String()
	if err := prepare(addr); err != nil {
		childFailed(err)
	}
	for _, a := range s.Addrs() {
		fmt.Println(a)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		childFailed(err)
	}
}
