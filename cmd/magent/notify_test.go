package main

import (
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// manager is what a service manager is to those that it has started: a socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, path}
}

// hears returns what comes within patience, which "" is not.
func (m *manager) hears(patience time.Duration) string {
	m.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// awaits waits until it is told something with this line in it.
func (m *manager) awaits(line string) {
	m.t.Helper()
	for {
		switch told := m.hears(proctest.Patience); {
		case told == "":
			m.t.Fatalf("it is not told %s", line)
		case strings.Contains("\n"+told+"\n", "\n"+line+"\n"):
			return
		}
	}
}

// fakeServer is a server of which a test says how it is.
type fakeServer struct {
	up, clients atomic.Int64
	stands      atomic.Bool // an event loop does
}

func (f *fakeServer) Summary() (up, nodes, clients int) {
	return int(f.up.Load()), 2, int(f.clients.Load())
}

func (f *fakeServer) turned() bool { return !f.stands.Load() }

// While an event loop stands still there is no ping, and one there is again when it turns.
func TestWatchdogOfALoopThatStandsStill(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	t.Setenv("WATCHDOG_USEC", "40000")
	f := &fakeServer{}
	f.up.Store(2)
	n := startNotifier(f, f.turned, slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer n.close()
	if told := m.hears(proctest.Patience); told != "READY=1\nSTATUS=2 of 2 nodes up, 0 clients" {
		t.Errorf("the first it is told is %q", told)
	}
	m.awaits("WATCHDOG=1")
	for range 2 {
		f.stands.Store(true)
		// What was on its way when the loop came to stand is one ping at most.
		proctest.Eventually(t, "the pings end", func() bool { return m.hears(100*time.Millisecond) == "" })
		f.stands.Store(false)
		m.awaits("WATCHDOG=1")
	}
	f.up.Store(1)
	f.clients.Store(7)
	m.awaits("STATUS=1 of 2 nodes up, 7 clients")
	n.stopping()
	m.awaits("STOPPING=1")
}

// The service manager of a magent is told when it serves, that all is well, and its end.
func TestServiceManagerIsTold(t *testing.T) {
	m := newManager(t)
	addr := freeAddr(t)
	cmd := exec.Command(binary, "serve", "-l", "127.0.0.1", "-p", portOf(t, addr), "--admin", "none", "-s", newNode(t).Addr())
	cmd.Env = append(cmd.Environ(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=100000")
	p := launch(t, cmd)
	m.awaits("READY=1")
	if !reachable("tcp", addr) {
		t.Error("it says that it is ready, and nobody gets in")
	}
	m.awaits("WATCHDOG=1")
	m.awaits("WATCHDOG=1")
	p.Process.Signal(syscall.SIGTERM)
	m.awaits("STOPPING=1")
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.stderr)
	}
}

// A manager that cannot be told is worth a line, once, and no more.
func TestServiceManagerIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	var log lockedBuffer
	n := startNotifier(&fakeServer{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	n.stopping()
	n.close()
	if told := log.String(); strings.Count(told, "cannot be told") != 1 || strings.Count(told, "\n") != 1 {
		t.Errorf("the log says %q", told)
	}
}
