package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Attach is process pid, which somebody else started and which listens at addr.
// Stop leaves it alone; the signals reach it.
func Attach(pid int, addr string) (*Process, error) {
	name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process: %d: %w", pid, err)
	}
	proc, err := os.FindProcess(pid)
	if err == nil {
		// Asked after both have found it, and it lives: they have found the same.
		err = unix.PidfdSendSignal(fd, 0, nil, 0)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("process: %d: %w", pid, err)
	}
	done := make(chan struct{})
	go func() {
		awaitEnd(fd)
		unix.Close(fd)
		close(done)
	}()
	return &Process{Name: strings.TrimSpace(string(name)), Addr: addr, PID: pid, proc: proc, done: done}, nil
}

// awaitEnd returns when the process of a pidfd has ended: it is readable then.
func awaitEnd(pidfd int) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return
		}
	}
}

// Done is closed when the process has ended. A Restart makes another.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends s. The error is os.ErrProcessDone if p has ended.
func (p *Process) Signal(s syscall.Signal) error {
	err := errors.ErrUnsupported // a Process that nobody started nor attached to
	if p.proc != nil {
		err = p.proc.Signal(s)
	}
	if err != nil {
		return fmt.Errorf("process: %v to %s: %w", s, p.Name, err)
	}
	return nil
}

// Kill ends p as a crash does (SIGKILL) and returns when it is gone. One that has
// ended stays so.
func (p *Process) Kill() error {
	if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if !p.gone(stopTimeout) {
		return fmt.Errorf("process: %s does not end when it is killed", p.Name)
	}
	return nil
}

// tidyTimeout is for the kernel to tidy up after a process that has ended. On a busy
// machine, while others read /proc, Linux 6.18 was seen to go round in circles there
// (release_task, shrink_dcache_parent) for as long as 20 s, long after all that the
// process had was closed.
const tidyTimeout = time.Second

// gone waits for the end of p and reports whether it came. Mostly it has been waited for
// then, too.
func (p *Process) gone(limit time.Duration) bool {
	exited := make(chan bool, 1)
	proc := p.proc // of now: it may be another when nobody waits for this one any more
	go func() { exited <- exits(proc, limit) }()
	select {
	case <-p.done:
		return true
	case gone := <-exited:
		if !gone {
			return false
		}
	}
	late := time.NewTimer(tidyTimeout)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
	}
	return true
}

// exits is gone by what the kernel tells of the process's handle.
func exits(proc *os.Process, limit time.Duration) (gone bool) {
	end := time.Now().Add(limit)
	err := proc.WithHandle(func(pidfd uintptr) {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for left := limit; left >= 0; left = time.Until(end) {
			n, err := unix.Poll(fds, int(left.Milliseconds())+1)
			if err != unix.EINTR {
				gone = n > 0
				return
			}
		}
	})
	return gone || errors.Is(err, os.ErrProcessDone)
}

// Freeze stops p (SIGSTOP) and returns when every thread of it stands still.
// The kernel goes on taking connections and bytes for it, until its buffers are full.
func (p *Process) Freeze() error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	late := time.NewTimer(stopTimeout)
	defer late.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		still, err := p.still()
		if err != nil || still {
			return err
		}
		select {
		case <-poll.C:
		case <-late.C:
			return fmt.Errorf("process: %s does not stand still %v after SIGSTOP", p.Name, stopTimeout)
		}
	}
}

// Thaw lets a frozen process run on.
func (p *Process) Thaw() error { return p.Signal(unix.SIGCONT) }

// still reports whether all threads of p are stopped: state T, see proc_pid_stat(5).
func (p *Process) still() (bool, error) {
	tids, err := threads(p.PID)
	if err != nil {
		return false, err
	}
	for _, tid := range tids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", p.PID, tid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return false, nil // it ended meanwhile; look again
		}
		if err != nil {
			return false, fmt.Errorf("process: %w", err)
		}
		// The name before the state is in parentheses, and may have some.
		if _, state, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " "); !ok || state[0] != 'T' {
			return false, nil
		}
	}
	return true, nil
}
