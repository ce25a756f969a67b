// Package machine makes machines of namespaces for tests: each has a network, processes
// and a file system of its own, one bridge joins them, and programs that know nothing of
// it run inside, keepalived and monit among them. It needs root.
//
// A machine lives as long as its first process, which dies with the test binary, however
// that ends. The kernel then ends what runs inside and takes away the interfaces and the
// mounts: nothing has a name outside, so nothing is left, and any number of test binaries
// may have machines at once. Files of the host are seen inside; what is written to
// etc, run, tmp, usr/local and var stays inside.
//
// Every function is for tests and blocks its caller; what goes wrong fails the test. The
// package imports what tests may.
package machine

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"magent/bench/process/proctest"
)

// Machine is one machine, or what the others are plugged into. Its methods are for any
// goroutine, but for those that fail the test, which are for the test's.
type Machine struct {
	// Name is what the machine calls itself.
	Name string
	// PID is its first process, as this process sees it.
	PID int

	t     testing.TB
	logs  string // a directory
	pidfd int
}

//go:embed boot.sh
var boot string

// Start starts a machine that has a loopback interface and nothing else. It ends with the
// test.
func Start(t testing.TB, name string) *Machine {
	t.Helper()
	m := &Machine{Name: name, t: t, logs: t.TempDir()}
	cmd := exec.Command("bash", "-c", boot, "boot", name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces}
	var says bytes.Buffer
	cmd.Stderr = &says
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := proctest.Launch(t, cmd)
	if ready, err := io.ReadAll(stdout); err != nil || string(ready) != "ready\n" {
		<-ended
		t.Fatalf("this test needs root, to make namespaces: %v, %s", err, &says)
	}
	m.PID = cmd.Process.Pid
	if m.pidfd, err = unix.PidfdOpen(m.PID, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(m.pidfd) })
	return m
}

// Path is where this process finds what is at path inside.
func (m *Machine) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.PID), "root", path)
}

// spaces are what a machine has of its own.
const spaces = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// inside calls f on a thread that has entered some spaces of the machine. The thread ends
// with f: it would be of no use elsewhere.
func (m *Machine) inside(some int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS) // a thread that shares its root cannot enter another
		if err == nil {
			err = unix.Setns(m.pidfd, some)
		}
		if err == nil {
			err = f()
		} else {
			err = fmt.Errorf("entering %s: %w", m.Name, err)
		}
		done <- err
	}()
	return <-done
}

// Network calls f on a thread whose network is the machine's. A socket that is opened
// there belongs to the machine from then on.
func (m *Machine) Network(f func() error) error { return m.inside(unix.CLONE_NEWNET, f) }

// start starts cmd inside, with the machine's own idea of everything.
func (m *Machine) start(cmd *exec.Cmd) error {
	cmd.Dir = "/"
	return m.inside(spaces, cmd.Start)
}

// Run runs a program to its end and returns what it printed. It must succeed.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.Try(name, args...)
	if err != nil {
		m.t.Fatalf("%s: %s %q: %v: %s", m.Name, name, args, err, out)
	}
	return out
}

// Try is Run of a program that may fail.
func (m *Machine) Try(name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := m.start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return strings.TrimSpace(out.String()), err
}

// A Program runs inside.
type Program struct {
	*proctest.Process
	log *os.File
}

// Start starts a program that goes on. What it prints goes to a file, for Log.
func (m *Machine) Start(name string, args ...string) *Program {
	m.t.Helper()
	log, err := os.CreateTemp(m.logs, filepath.Base(name))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { log.Close() })
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := m.start(cmd); err != nil {
		m.t.Fatalf("%s: %s: %v", m.Name, name, err)
	}
	p := &Program{Process: m.attach(cmd.Process.Pid), log: log}
	go cmd.Wait() // how it ended is nobody's business: Done says that it has
	return p
}

// Log is what the program has printed so far.
func (p *Program) Log() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// attach gets hold of a process inside that has the number pid outside.
func (m *Machine) attach(pid int) *proctest.Process {
	m.t.Helper()
	p, err := proctest.Attach(m.t, pid)
	if err != nil {
		m.t.Fatal(err)
	}
	return p
}

// Find is the processes inside that are called name, the oldest first.
func (m *Machine) Find(name string) (found []*proctest.Process) {
	m.t.Helper()
	own, err := os.Readlink(namespace(m.PID))
	if err != nil {
		m.t.Fatal(err)
	}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, comm := range comms {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(comm)))
		text, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(text)) != name {
			continue // or it has ended
		}
		if theirs, err := os.Readlink(namespace(pid)); err != nil || theirs != own {
			continue
		}
		if p, err := proctest.Attach(m.t, pid); err == nil {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *proctest.Process) int { return a.PID - b.PID })
	return found
}

// namespace is the link that names the process namespace of pid.
func namespace(pid int) string { return fmt.Sprintf("/proc/%d/ns/pid", pid) }

// Write writes a file inside, and makes the directories above it.
func (m *Machine) Write(path, text string, mode fs.FileMode) {
	m.t.Helper()
	at := m.Path(path)
	err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), mode), os.Chmod(at, mode))
	if err != nil {
		m.t.Fatal(err)
	}
}

// ByPIDFile is the process whose number a file inside has; nil if there is none.
func (m *Machine) ByPIDFile(path string) *proctest.Process {
	m.t.Helper()
	text, err := os.ReadFile(m.Path(path))
	if err != nil {
		return nil
	}
	number := strings.TrimSpace(string(text))
	out, err := m.Try("cat", "/proc/"+number+"/comm")
	if err != nil {
		return nil
	}
	for _, p := range m.Find(out) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); f[0] == "NSpid:" && f[len(f)-1] == number {
				return p
			}
		}
	}
	return nil
}
