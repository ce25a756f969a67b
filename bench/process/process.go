// Package process starts the programs under test, pins, signals and stops them: each
// in the foreground on a free port of 127.0.0.1, on the CPUs given from its first
// instruction on (a Go program sizes itself by them), and stopped by pid.
//
// Everything runs on the caller's goroutine, beside one that waits for the end of
// each child. The package imports x/sys and nothing of the project.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one program under test.
type Process struct {
	// Name is the program and what sets it apart, as the report has it.
	Name string
	// Addr is host:port.
	Addr string
	// PID is the process whose CPU is charged.
	PID int

	cmd  *exec.Cmd // nil if somebody else runs it
	dead chan struct{}
	log  *bytes.Buffer // what it printed; read it only once dead is closed
	tmp  string        // its directory, removed with it
}

const (
	startTries   = 3
	startTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// Stop sends TERM, waits, and kills what does not go. Processes that the
// package did not start are left alone.
func (p *Process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	defer os.RemoveAll(p.tmp)
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process: stopping %s: %w", p.Name, err)
	}
	late := time.NewTimer(stopTimeout)
	defer late.Stop()
	select {
	case <-p.dead:
		return nil
	case <-late.C:
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process: killing %s: %w", p.Name, err)
	}
	<-p.dead
	return fmt.Errorf("process: %s did not end in %v and was killed", p.Name, stopTimeout)
}

// StopAll stops ps side by side: memcached takes a second to go.
func StopAll(ps []*Process) error {
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		wg.Go(func() { errs[i] = p.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Recipe says how to start a program: args for a port, with a directory of its
// own to keep files in.
type Recipe struct {
	Name, Path string
	CPUs       []int
	Args       func(port int, dir string) ([]string, error)
}

// Start starts r and waits until it accepts connections. The port is
// free when chosen and may be taken before it is used; hence the tries.
func Start(ctx context.Context, r Recipe) (*Process, error) {
	var last error
	for range startTries {
		p, err := startOnce(ctx, r)
		if err == nil {
			return p, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func startOnce(ctx context.Context, r Recipe) (_ *Process, err error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "magent-bench-")
	if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	p := &Process{
		Name: r.Name, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		dead: make(chan struct{}), log: new(bytes.Buffer), tmp: dir,
	}
	args, err := r.Args(port, dir)
	if err == nil {
		p.cmd = exec.Command(r.Path, args...)
		p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
		// A driver that is killed leaves nothing running behind.
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		err = startPinned(p.cmd, r.CPUs)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("process: starting %s: %w", r.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		// How it ended is in what it printed; that it ended is what counts.
		_ = p.cmd.Wait()
		close(p.dead)
	}()
	if err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// ready waits until p accepts a connection.
func (p *Process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp", p.Addr)
		if err == nil {
			c.Close()
		}
		select {
		case <-p.dead:
			return fmt.Errorf("process: %s ended at its start: %s", p.Name, bytes.TrimSpace(p.log.Bytes()))
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.dead:
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("process: %s is not ready at %s: %w", p.Name, p.Addr, err)
		}
	}
}

// FreePort is a port of 127.0.0.1 that nobody listened on a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("process: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// startPinned starts cmd on cpus; no cpus, no pinning. A child takes over the
// CPUs of the thread that forks it, so the thread goes there for the moment.
func startPinned(cmd *exec.Cmd, cpus []int) error {
	if len(cpus) == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	set := cpuSet(cpus)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("CPUs %v: %w", cpus, err)
	}
	return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &before))
}

func cpuSet(cpus []int) (set unix.CPUSet) {
	for _, c := range cpus {
		set.Set(c)
	}
	return set
}

// Pin binds every thread of process pid to cpus. A thread started meanwhile
// takes after one that may not be bound yet, so it goes round until it finds
// nothing to change.
func Pin(pid int, cpus []int) error {
	set := cpuSet(cpus)
	for changed := true; changed; {
		changed = false
		tids, err := threads(pid)
		if err != nil {
			return err
		}
		for _, tid := range tids {
			var now unix.CPUSet
			err := unix.SchedGetaffinity(tid, &now)
			if err == nil && now != set {
				changed = true
				err = unix.SchedSetaffinity(tid, &set)
			}
			if err != nil && err != unix.ESRCH { // else the thread ended
				return fmt.Errorf("process: pinning %d to CPUs %v: %w", pid, cpus, err)
			}
		}
	}
	return nil
}

// threads lists the threads of process pid.
func threads(pid int) ([]int, error) {
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	tids := make([]int, len(tasks))
	for i, t := range tasks {
		if tids[i], err = strconv.Atoi(t.Name()); err != nil {
			return nil, fmt.Errorf("process: %w", err)
		}
	}
	return tids, nil
}

// Memcached runs one node: one worker thread, since it has one CPU at
// most and hears from a proxy on one connection.
func Memcached(ctx context.Context, path string, cpus []int) (*Process, error) {
	return Start(ctx, Recipe{Name: "memcached", Path: path, CPUs: cpus,
		Args: func(port int, _ string) ([]string, error) {
			args := []string{"-l", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "0", "-t", "1", "-m", "1024", "-c", "16384", "-b", "4096"}
			if os.Geteuid() == 0 {
				args = append(args, "-u", "root") // it will not run as root unasked
			}
			return args, nil
		}})
}

// Version is the first line that the program at path prints when asked
// with args, or why there is none.
func Version(path string, args ...string) string {
	out, err := exec.Command(path, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" && err != nil {
		return err.Error()
	}
	return line
}
