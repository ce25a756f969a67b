package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Launch starts cmd on cpus (none: on all) and returns a channel that is closed when
// it has ended and been waited for; cmd.ProcessState then says how. It dies with this
// process, however that ends, unless it becomes another user. It has a process group of
// its own: Ctrl-C at a terminal reaches this process alone, which ends in order what it
// started.
func Launch(cmd *exec.Cmd, cpus []int) (done <-chan struct{}, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	cmd.SysProcAttr.Setpgid = true
	started := make(chan error)
	forks() <- func() { started <- startPinned(cmd, cpus) }
	if err := <-started; err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(ended)
	}()
	return ended, nil
}

// forks runs every fork on one thread that never ends: a child is sent its Pdeathsig
// when the thread that forked it dies, and Go may end any other.
var forks = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// startPinned starts cmd on cpus; no cpus, no pinning. A child takes over the
// CPUs of the thread that forks it, so the thread goes there for the moment.
// It runs on the thread of forks.
func startPinned(cmd *exec.Cmd, cpus []int) error {
	if len(cpus) == 0 {
		return cmd.Start()
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	err := bind(0, cpus)
	if err == nil {
		err = cmd.Start()
	}
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// bind binds one thread to cpus, and fails unless to all of them. The kernel takes those
// that are there, and says nothing of the others.
func bind(tid int, cpus []int) error {
	set := cpuSet(cpus)
	err := unix.SchedSetaffinity(tid, &set)
	if err == nil {
		var got unix.CPUSet
		if err = unix.SchedGetaffinity(tid, &got); err == nil && got != set {
			err = unix.EINVAL
		}
	}
	if err == unix.EINVAL {
		return fmt.Errorf("CPUs %v are not all there: %w", cpus, err)
	}
	return err
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
				err = bind(tid, cpus)
			}
			if err != nil && err != unix.ESRCH { // else the thread ended
				return fmt.Errorf("process: pinning %d: %w", pid, err)
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

// ParseCPUs reads a list such as 0,2-3; of an empty one there are none.
func ParseCPUs(list string) (cpus []int, err error) {
	if list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		a, errA := strconv.Atoi(low)
		b, errB := strconv.Atoi(high)
		if errA != nil || errB != nil || a > b || a < 0 || b >= mostCPUs {
			return nil, fmt.Errorf("bad CPU list %q", list)
		}
		for c := a; c <= b; c++ {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}

// mostCPUs is how many a CPUSet holds.
const mostCPUs = 1024

// CPUs are those that this process may use.
func CPUs() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	for c := range mostCPUs {
		if set.IsSet(c) {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}
