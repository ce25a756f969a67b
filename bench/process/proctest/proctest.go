// Package proctest is process for the tests of the whole repository: what it starts
// ends with the test, and what goes wrong fails it. Everything blocks its caller, the
// test's goroutine, and has a deadline.
//
// It imports testing and process, and only tests and what is made for them import it.
package proctest

import (
	"net"
	"os/exec"
	"testing"
	"time"

	"magent/bench/process"
)

// Patience is how long a test waits for anything before it counts as hung. It is only
// ever reached by a failure.
const Patience = 20 * time.Second

// Process is a program that a test runs.
type Process struct {
	*process.Process
	t testing.TB
}

// Memcached runs a memcached until the test ends: Debian's 1.6.18, which the tests
// compare with. What cfg leaves open is as memcached has it, but for its address.
func Memcached(t testing.TB, cfg process.MemcachedConfig) *Process {
	t.Helper()
	if cfg.Threads == 0 {
		cfg.Threads = 4
	}
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 64
	}
	if cfg.Conns == 0 {
		cfg.Conns = 1024
	}
	p, err := process.Memcached(t.Context(), cfg)
	if err != nil {
		t.Fatalf("this test needs memcached 1.6.18, Debian's package memcached: %v", err)
	}
	t.Cleanup(func() {
		// Nobody needs it to end in good order, which takes a second.
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &Process{p, t}
}

// Attach is process pid, which the test started by other means, and ends by them.
func Attach(t testing.TB, pid int) (*Process, error) {
	p, err := process.Attach(pid, "")
	return &Process{p, t}, err
}

// Kill ends the process as a crash does (SIGKILL) and returns when it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.must(p.Process.Kill())
}

// Restart starts an empty one at the address of the one that was killed.
func (p *Process) Restart() {
	p.t.Helper()
	p.must(p.Process.Restart(p.t.Context()))
}

// Freeze stops the process and returns when every thread of it stands still.
func (p *Process) Freeze() {
	p.t.Helper()
	p.must(p.Process.Freeze())
}

// Thaw lets a frozen process run on.
func (p *Process) Thaw() {
	p.t.Helper()
	p.must(p.Process.Thaw())
}

func (p *Process) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// Launch starts cmd and returns a channel that is closed when it has ended and been
// waited for. It is killed at the end of the test if it still runs then, and with the
// test binary, however that ends.
func Launch(t testing.TB, cmd *exec.Cmd) (ended <-chan struct{}) {
	t.Helper()
	ended, err := process.Launch(cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // unless it has ended, which is as well
		<-ended
	})
	return ended
}

// Eventually polls until what holds, and fails the test if it never does.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Within(Patience, holds) {
		t.Fatalf("waited %v in vain: %s", Patience, what)
	}
}

// Within polls until it holds, for at most limit, and reports whether it did.
func Within(limit time.Duration, holds func() bool) bool {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(limit); !holds(); <-poll.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Serve has talk speak with everybody who comes to ln, each on a goroutine of its own, and
// closes the connection then. ln is closed when the test ends.
func Serve(t testing.TB, ln net.Listener, talk func(c net.Conn)) {
	t.Helper()
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				talk(c)
			}()
		}
	}()
}
