package bench

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

// How the programs under test are started: each in the foreground on a free
// port of 127.0.0.1, on the CPUs given from its first instruction on (a Go
// program sizes itself by them), and stopped by pid.

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
		return fmt.Errorf("bench: stopping %s: %w", p.Name, err)
	}
	late := time.NewTimer(stopTimeout)
	defer late.Stop()
	select {
	case <-p.dead:
		return nil
	case <-late.C:
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("bench: killing %s: %w", p.Name, err)
	}
	<-p.dead
	return fmt.Errorf("bench: %s did not end in %v and was killed", p.Name, stopTimeout)
}

// stopAll stops ps side by side: memcached takes a second to go.
func stopAll(ps []*Process) error {
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		wg.Go(func() { errs[i] = p.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// recipe says how to start a program: args for a port, with a directory of its
// own to keep files in.
type recipe struct {
	name, path string
	cpus       []int
	args       func(port int, dir string) ([]string, error)
}

// startProcess starts r and waits until it accepts connections. The port is
// free when chosen and may be taken before it is used; hence the tries.
func startProcess(ctx context.Context, r recipe) (*Process, error) {
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

func startOnce(ctx context.Context, r recipe) (_ *Process, err error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "magent-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	p := &Process{
		Name: r.name, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		dead: make(chan struct{}), log: new(bytes.Buffer), tmp: dir,
	}
	args, err := r.args(port, dir)
	if err == nil {
		p.cmd = exec.Command(r.path, args...)
		p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
		// A driver that is killed leaves nothing running behind.
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		err = startPinned(p.cmd, r.cpus)
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("bench: starting %s: %w", r.name, err)
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
			return fmt.Errorf("bench: %s ended at its start: %s", p.Name, bytes.TrimSpace(p.log.Bytes()))
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.dead:
		case <-retry.C:
		case <-ctx.Done():
			return fmt.Errorf("bench: %s is not ready at %s: %w", p.Name, p.Addr, err)
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
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
				return fmt.Errorf("bench: pinning %d to CPUs %v: %w", pid, cpus, err)
			}
		}
	}
	return nil
}

// threads lists the threads of process pid.
func threads(pid int) ([]int, error) {
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	tids := make([]int, len(tasks))
	for i, t := range tasks {
		if tids[i], err = strconv.Atoi(t.Name()); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	return tids, nil
}

// Topology is what a proxy is to stand in front of.
type Topology struct {
	Nodes, Backups []*Process
	// Flags are a Setting's. Only our proxy takes any.
	Flags []string
	// CPUs are the proxy's; empty means all.
	CPUs []int
}

// Rival is a kind of proxy, ours among them.
type Rival struct {
	Name string
	// Own says that it takes Settings, as our proxy does: it is another build of it.
	Own bool
	// Start runs one over t. The caller stops it.
	Start func(ctx context.Context, t Topology) (*Process, error)
}

// startMemcached runs one node: one worker thread, since it has one CPU at
// most and hears from a proxy on one connection.
func startMemcached(ctx context.Context, path string, cpus []int) (*Process, error) {
	return startProcess(ctx, recipe{name: "memcached", path: path, cpus: cpus,
		args: func(port int, _ string) ([]string, error) {
			args := []string{"-l", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "0", "-t", "1", "-m", "1024", "-c", "16384", "-b", "4096"}
			if os.Geteuid() == 0 {
				args = append(args, "-u", "root") // it will not run as root unasked
			}
			return args, nil
		}})
}

// Nutcracker is twemproxy as it is best set up for one host: one pipelined
// connection per node, opened ahead. mbuf is its buffer size in bytes (-m;
// 16384 is its default).
func Nutcracker(path string, mbuf int) Rival {
	return Rival{Name: "nutcracker", Start: func(ctx context.Context, t Topology) (*Process, error) {
		if len(t.Backups) > 0 || len(t.Flags) > 0 {
			return nil, errors.New("bench: nutcracker keeps no second copy and knows no flags of magent")
		}
		return startProcess(ctx, recipe{name: "nutcracker", path: path, cpus: t.CPUs,
			args: func(port int, dir string) ([]string, error) {
				stats, err := freePort()
				if err != nil {
					return nil, err
				}
				conf := filepath.Join(dir, "nutcracker.yml")
				if err := os.WriteFile(conf, nutcrackerConf(port, t.Nodes), 0o600); err != nil {
					return nil, err
				}
				return []string{
					"-c", conf, "-p", filepath.Join(dir, "pid"), "-o", filepath.Join(dir, "log"),
					"-a", "127.0.0.1", "-s", strconv.Itoa(stats), "-m", strconv.Itoa(mbuf),
				}, nil
			}})
	}}
}

func nutcrackerConf(port int, nodes []*Process) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `bench:
  listen: 127.0.0.1:%d
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  server_connections: 1
  client_connections: 16384
  backlog: 1024
  servers:
`, port)
	for _, n := range nodes {
		fmt.Fprintf(&b, "   - %s:1\n", n.Addr)
	}
	return b.Bytes()
}

// Magent is ours: the binary at path, with the flags of magent 0.6 and those of
// the topology.
func Magent(name, path string) Rival {
	return Rival{Name: name, Own: true, Start: func(ctx context.Context, t Topology) (*Process, error) {
		return startProcess(ctx, recipe{name: name, path: path, cpus: t.CPUs,
			args: func(port int, _ string) ([]string, error) { return magentArgs(port, t), nil }})
	}}
}

func magentArgs(port int, t Topology) []string {
	args := []string{"serve", "-D", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-n", "16384"}
	for _, n := range t.Nodes {
		args = append(args, "-s", n.Addr)
	}
	for _, n := range t.Backups {
		args = append(args, "-b", n.Addr)
	}
	return append(args, t.Flags...)
}

// Direct is no proxy: the first node itself, whatever else the topology has.
// Its CPU is memcached's, and runs where the nodes run.
func Direct() Rival {
	return Rival{Name: "direct", Start: func(_ context.Context, t Topology) (*Process, error) {
		return &Process{Name: "direct", Addr: t.Nodes[0].Addr, PID: t.Nodes[0].PID}, nil
	}}
}

// programVersion is the first line that the program at path prints when asked
// with args, or why there is none.
func programVersion(path string, args ...string) string {
	out, err := exec.Command(path, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" && err != nil {
		return err.Error()
	}
	return line
}
