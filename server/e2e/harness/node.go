package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/server/config"
)

// Patience is how long anything in a test may take before it counts as hung.
const Patience = 10 * time.Second

// Node is one real memcached, alive until Kill or the end of its test.
type Node struct {
	Addr string // 127.0.0.1:port, the same over every Restart

	t       testing.TB
	program string
	args    []string
	cmd     *exec.Cmd
	dead    chan struct{} // closed when the process has been reaped
}

// Memcached starts Debian's memcached on a free port of the loopback, with args
// appended to its command line, and returns when it accepts connections.
func Memcached(t testing.TB, args ...string) *Node {
	t.Helper()
	return Program(t, "memcached", args...)
}

// Program is Memcached for the memcached at a path, or of a name in PATH.
func Program(t testing.TB, program string, args ...string) *Node {
	t.Helper()
	n := &Node{t: t, program: program, args: args}
	n.start("-1")
	t.Cleanup(n.Kill)
	return n
}

func (n *Node) start(port string) {
	n.t.Helper()
	dir := n.t.TempDir()
	portFile := filepath.Join(dir, "port")
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chmod(dir, 0o777)); err != nil {
		n.t.Fatal(err) // memcached writes the file as the user it becomes
	}
	args := append([]string{"-l", "127.0.0.1", "-p", port, "-U", "0", "-u", "nobody", "-t", "2", "-m", "64", "-c", "4096"}, n.args...)
	n.cmd = exec.Command(n.program, args...)
	n.cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+portFile)
	n.dead = Launch(n.t, n.cmd)
	Eventually(n.t, "memcached writes its port", func() bool {
		select {
		case <-n.dead:
			n.t.Fatalf("%s %q ended at start", n.program, args)
		default:
		}
		text, err := os.ReadFile(portFile)
		if err != nil {
			return false
		}
		_, port, found := strings.Cut(string(text), "TCP INET: ")
		n.Addr = "127.0.0.1:" + strings.TrimSpace(port)
		return found
	})
}

// Kill ends the process as a crash does (SIGKILL) and returns when it is gone.
func (n *Node) Kill() {
	n.signal(syscall.SIGKILL)
	<-n.dead
}

// Restart starts an empty memcached on the port of the one that was killed.
func (n *Node) Restart() {
	n.t.Helper()
	_, port, _ := net.SplitHostPort(n.Addr)
	n.start(port)
}

// Stop freezes the process and returns when every thread of it stands still.
func (n *Node) Stop() {
	n.t.Helper()
	n.signal(syscall.SIGSTOP)
	Eventually(n.t, "memcached stands still", func() bool {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.cmd.Process.Pid))
		for _, stat := range stats {
			text, err := os.ReadFile(stat)
			_, state, _ := strings.Cut(string(text), ") ")
			if err != nil || !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return err == nil && len(stats) > 0
	})
}

// Cont lets a stopped process run on.
func (n *Node) Cont() { n.signal(syscall.SIGCONT) }

func (n *Node) signal(s syscall.Signal) {
	select {
	case <-n.dead:
	default: // the pid is not reaped, so it is still this process's
		_ = n.cmd.Process.Signal(s)
	}
}

// Config is the node as the proxy's configuration names it.
func (n *Node) Config() config.Node { return NodeAt(n.Addr) }

// NodeAt is the server at addr as the proxy's configuration names it.
func NodeAt(addr string) config.Node {
	host, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	return config.Node{Host: host, Port: number}
}

// Launch starts cmd and returns a channel that is closed when it has ended and
// been waited for. The process dies with the test binary, however that ends.
func Launch(t testing.TB, cmd *exec.Cmd) (ended chan struct{}) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	failed := make(chan error)
	launches <- func() { failed <- cmd.Start() }
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is read from cmd.ProcessState
		close(ended)
	}()
	return ended
}

// launches runs every fork on one thread that never ends: Pdeathsig is sent when
// the forking thread dies, and Go may end any other.
var launches = func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
}()

// Eventually polls what until it holds and fails the test if it never does.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Within(Patience, holds) {
		t.Fatalf("waited %v in vain: %s", Patience, what)
	}
}

// Within polls until it holds, for at most limit, and reports whether it did.
func Within(limit time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}
