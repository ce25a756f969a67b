// Package process starts the programs under test, pins, freezes, kills, restarts and
// stops them: each in the foreground at an address of its own, on the CPUs given from
// its first instruction on (a Go program sizes itself by them), and signalled by what
// the kernel knows it by, so never another that has its number by now.
//
// A method runs on its caller's goroutine. Beside it there is a goroutine that waits
// for the end of each process, and one that forks them all, on a thread that never
// ends. The package imports x/sys and nothing of the project; what only tests want
// of it is in proctest.
package process

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one program under test. Its methods are for one goroutine at a time;
// Done's channel is for any.
type Process struct {
	// Name is the program and what sets it apart, as the report has it.
	Name string
	// Addr is host:port, or the path of a unix socket. A Restart keeps it.
	Addr string
	// PID is the process whose CPU is charged. A Restart changes it.
	PID int

	recipe Recipe
	dir    string    // its own, removed by Stop
	cmd    *exec.Cmd // nil if somebody else started it
	log    *tail     // what cmd prints
	proc   *os.Process
	done   <-chan struct{}
}

const (
	startTries   = 3
	startTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
	pollEvery    = 2 * time.Millisecond
	// lastWords is for the output of one that has ended; what it started may hold it
	// open for good.
	lastWords = 100 * time.Millisecond
)

// Recipe says how to start a program.
type Recipe struct {
	Name, Path string
	CPUs       []int // empty: all
	// Args are the program's for a port of 127.0.0.1 that it is to listen on, with a
	// directory of its own to keep files in. Every start asks for them.
	Args func(port int, dir string) ([]string, error)

	// host is what it listens on if not 127.0.0.1: another address, or Unix.
	host string
	// chooses says that it takes a port of its own choice when it is told port 0.
	chooses bool
}

// Unix, for a host, is a unix socket in the program's directory.
const Unix = "unix"

// socketFile is that socket's name. memcached shows no more than 26 bytes of a path,
// the kernel takes no more than 107.
const socketFile = "s"

const loopback = "127.0.0.1"

// Start starts r and waits until it accepts connections, 10 seconds at most. The port
// is free when chosen and may be taken before it is used: a program that ends at once
// is tried three times. The error has what it printed last.
func Start(ctx context.Context, r Recipe) (*Process, error) {
	dir, err := os.MkdirTemp("", "magent-")
	if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	p := &Process{Name: r.Name, recipe: r, dir: dir}
	for try := 1; ; try++ {
		port := 0
		if !r.chooses {
			port, err = FreePort()
		}
		if err == nil {
			err = p.run(ctx, port)
		}
		if err == nil {
			return p, nil
		}
		if try == startTries || !errors.Is(err, errEnded) || ctx.Err() != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
}

// errEnded is why a program that did not live to accept a connection is not ready.
var errEnded = errors.New("ended at its start")

// run starts the program once. It leaves none behind that is not ready.
func (p *Process) run(ctx context.Context, port int) error {
	args, err := p.recipe.Args(port, p.dir)
	if err != nil {
		return fmt.Errorf("process: starting %s: %w", p.Name, err)
	}
	p.log = new(tail)
	p.cmd = exec.Command(p.recipe.Path, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = lastWords
	done, err := Launch(p.cmd, p.recipe.CPUs)
	if err != nil {
		return fmt.Errorf("process: starting %s: %w", p.Name, err)
	}
	p.done, p.proc, p.PID = done, p.cmd.Process, p.cmd.Process.Pid
	if err := p.ready(ctx, port); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

// ready waits until p listens.
func (p *Process) ready(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		addr, err := p.listens(port)
		if err == nil {
			p.Addr = addr
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("process: %s %w (%v): %s", p.Name, errEnded, p.cmd.ProcessState, p.log.last())
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("process: %s is not ready, %w: %w: %s", p.Name, ctx.Err(), err, p.log.last())
		}
	}
}

// listens is where p listens, told port, or why it does not.
func (p *Process) listens(port int) (string, error) {
	if p.recipe.host == Unix {
		path := filepath.Join(p.dir, socketFile)
		c, err := net.Dial(Unix, path)
		if err != nil {
			return "", err
		}
		return path, c.Close()
	}
	port, err := listeningPort(p.PID, port)
	return net.JoinHostPort(cmp.Or(p.recipe.host, loopback), strconv.Itoa(port)), err
}

// Restart starts the program again, by the same recipe at the same address, and waits
// until it accepts connections. If it still runs it is ended first, as by Stop. The
// port may be somebody else's for the moment: it is tried for 10 seconds.
func (p *Process) Restart(ctx context.Context) error {
	if p.cmd == nil {
		return fmt.Errorf("process: restarting %s: somebody else started it", p.Name)
	}
	if err := p.end(); err != nil {
		return err
	}
	port := 0 // of a socket, which is in its directory as before
	if !strings.HasPrefix(p.Addr, "/") {
		_, text, err := net.SplitHostPort(p.Addr)
		if err == nil {
			port, err = strconv.Atoi(text)
		}
		if err != nil {
			return fmt.Errorf("process: restarting %s: %w", p.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(restartEvery)
	defer poll.Stop()
	var taken error // why the last try ended
	for {
		err := p.run(ctx, port)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errEnded) {
			return errors.Join(taken, err)
		}
		taken = err
		select {
		case <-poll.C:
		case <-ctx.Done():
			return taken
		}
	}
}

// restartEvery is the pause between tries of a port that is taken.
const restartEvery = 20 * time.Millisecond

// Stop sends TERM, waits, kills what does not go within 5 seconds, and removes what it
// kept in its directory. Processes that the package did not start are left alone.
func (p *Process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	return errors.Join(p.end(), os.RemoveAll(p.dir))
}

// end sends TERM, waits, and kills what does not go. One that is frozen is thawed, for
// it would not hear of it.
func (p *Process) end() error {
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGCONT} {
		if err := p.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	if p.gone(stopTimeout) {
		return nil
	}
	if err := p.Kill(); err != nil {
		return err
	}
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

// tail keeps the last of what is written to it: between lastBytes and twice that
// while it grows, so that little is moved.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// lastBytes is how much of a program's output is kept.
const lastBytes = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-lastBytes):]...)
	if len(t.b) > 2*lastBytes {
		t.b = t.b[:copy(t.b, t.b[len(t.b)-lastBytes:])]
	}
	return len(p), nil
}

func (t *tail) last() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.TrimSpace(bytes.Clone(t.b[max(0, len(t.b)-lastBytes):]))
}
