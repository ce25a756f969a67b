package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/upstream/memnode"
)

// binary is the program under test: what a user runs, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run()) // names need no binary
	}
	dir, err := os.MkdirTemp("", "magent")
	if err == nil {
		err = os.Chmod(dir, 0o755) // some tests run it as another user
	}
	if err == nil {
		binary = filepath.Join(dir, "magent")
		build := exec.Command("go", "build", raceFlag, "-o", binary, ".")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the binary:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// result is a command that has ended.
type result struct {
	code        int
	out, stderr string
}

// magent runs a command line to its end. In the background mode that is the
// parent's, and the streams must be closed by then or this fails.
func magent(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, exec.Command(binary, args...))
}

func command(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = proctest.Patience
	timer := time.AfterFunc(proctest.Patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// wantFault demands exit status 1 and a single line on standard error that has
// every one of words.
func (r result) wantFault(t *testing.T, words ...string) {
	t.Helper()
	if r.code != 1 || r.out != "" {
		t.Errorf("exit status %d, output %q; want 1 and none", r.code, r.out)
	}
	if !strings.HasPrefix(r.stderr, "magent: ") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("standard error is %q, want one line that starts with magent:", r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("standard error is %q, want %q in it", r.stderr, w)
		}
	}
}

// process is a command that goes on.
type process struct {
	*exec.Cmd
	t      *testing.T
	stderr *lockedBuffer
	done   <-chan struct{} // closed when it has ended
}

// launch starts cmd, and ends it with the test.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd, t: t, stderr: &lockedBuffer{}}
	if cmd.Stderr == nil {
		cmd.Stderr = p.stderr
	}
	p.done = proctest.Launch(t, cmd)
	return p
}

// startServe launches `magent serve` on addr and returns when it takes clients. It has no
// admin endpoint unless args say so: a test that is cut short would leave its socket.
func startServe(t *testing.T, addr string, args ...string) *process {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, exec.Command(binary, append([]string{"serve", "-l", host, "-p", port, "--admin", "none"}, args...)...))
	p.waitFor("tcp", addr)
	return p
}

func (p *process) waitFor(network, addr string) {
	p.t.Helper()
	proctest.Eventually(p.t, "serving", func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("ended early: %s", p.stderr)
		default:
		}
		return reachable(network, addr)
	})
}

// ended waits for the end and gives the exit status, -1 if a signal made it.
func (p *process) ended() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.ProcessState.ExitCode()
	case <-time.After(proctest.Patience):
		p.t.Fatalf("still running after %v: %s", proctest.Patience, p.stderr)
		return 0
	}
}

func reachable(network, addr string) bool {
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// freeAddr is a TCP address of this machine that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln := occupy(t)
	ln.Close()
	return ln.Addr().String()
}

func occupy(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func newNode(t *testing.T) *memnode.Node {
	t.Helper()
	n, err := memnode.Start(memnode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// talk sends request on a new connection and wants exactly reply.
func talk(t *testing.T, network, addr, request, reply string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(proctest.Patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(reply))
	n, err := io.ReadFull(c, got)
	if string(got[:n]) != reply || err != nil {
		t.Errorf("%q: got %q, %v, want %q", request, got[:n], err, reply)
	}
}

const (
	setHello = "set greeting 0 0 5\r\nhello\r\n"
	getHello = "get greeting\r\n"
	hello    = "VALUE greeting 0 5\r\nhello\r\nEND\r\n"
)

// daemon runs a command line that goes to the background, and ends what is there
// with the test. It returns the process id of that.
func daemon(t *testing.T, args ...string) int {
	t.Helper()
	pidFile := filepath.Join(t.TempDir(), "pid")
	args = append(args, "--pidfile", pidFile)
	if !slices.Contains(args, "--admin") {
		args = append(args, "--admin", "none")
	}
	if r := magent(t, args...); r.code != 0 || r.out != "" {
		t.Fatalf("exit status %d, output %q, %s", r.code, r.out, r.stderr)
	}
	pid := readPid(t, pidFile)
	t.Cleanup(func() {
		if alive(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return pid
}

// endDaemon ends what a pid file names, and waits for it.
func endDaemon(t *testing.T, pidFile string) {
	t.Helper()
	pid := readPid(t, pidFile)
	syscall.Kill(pid, syscall.SIGTERM)
	proctest.Eventually(t, "gone", func() bool { return !alive(pid) })
}

func readPid(t *testing.T, pidFile string) int {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !alive(pid) {
		t.Fatalf("%q is not the number of a process of ours: %v", text, err)
	}
	return pid
}

// alive says whether pid runs our binary: a zombie has none.
func alive(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && exe == binary
}

// statusField is the words of a line of /proc/PID/status.
func statusField(t *testing.T, pid int, name string) []string {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			return strings.Fields(value)
		}
	}
	t.Fatalf("there is no %s in the status of %d", name, pid)
	return nil
}
