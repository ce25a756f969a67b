package memnode

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// TestOutageFreeze: the node stands still, whoever asks, and executes after it what
// has come, of a client that has gone as well.
func TestOutageFreeze(t *testing.T) {
	n, c := faulted(t, `(on mn (freeze 1h))`)
	other, gone := dial(t, n.Addr()), dial(t, n.Addr())
	other.do("version\r\n", "VERSION 1.6.18\r\n")
	gone.do("version\r\n", "VERSION 1.6.18\r\n")
	c.send("mn\r\n")
	proctest.Eventually(t, "the node is frozen", func() bool { return frozen(n) })
	gone.send("set a 0 0 1\r\nx\r\n")
	gone.Close()
	other.send("version\r\n")
	other.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if got := other.line(); !strings.Contains(got, "timeout") {
		t.Fatalf("a frozen node answered %q", got)
	}
	other.SetReadDeadline(time.Now().Add(proctest.Patience))
	const d = 50 * time.Millisecond
	if err := n.SetFault(`(on mn (freeze 50ms))`); err != nil { // which thaws it
		t.Fatal(err)
	}
	other.expect("VERSION 1.6.18\r\n")
	c.expect("MN\r\n")
	proctest.Eventually(t, "the write of the client that has gone is executed", func() bool { it, _ := n.Get("a"); return string(it.Value) == "x" })
	start := time.Now()
	c.do("mn\r\n", "MN\r\n")
	if took := time.Since(start); took < d {
		t.Errorf("it was frozen for %v only", took)
	}
	if got := n.Stats().Faults; got != 1 {
		t.Errorf("%d faults fired", got)
	}
}

func frozen(n *Node) bool {
	p := n.current.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen != 0
}

// TestOutageFreezeTwoHands: a node that its owner and its script have frozen thaws when
// both have thawed it.
func TestOutageFreezeTwoHands(t *testing.T) {
	n, c := faulted(t, `(on mn (freeze 1h))`)
	c.send("mn\r\n")
	proctest.Eventually(t, "the node is frozen", func() bool { return frozen(n) })
	n.Freeze()
	n.Thaw()
	if !frozen(n) {
		t.Error("the owner has thawed what the script froze")
	}
	n.Freeze()
	if err := n.SetFault(""); err != nil {
		t.Fatal(err)
	}
	if !frozen(n) {
		t.Error("the end of the script has thawed what the owner froze")
	}
	n.Thaw()
	c.expect("MN\r\n")
}

// TestOutageRestart: connections are reset, nothing listens for a while, and what
// comes back is empty and another process.
func TestOutageRestart(t *testing.T) {
	for _, tc := range []struct {
		script string
		least  time.Duration
	}{{`(on mn (times 1 restart))`, 0}, {`(on mn (times 1 restart 50ms))`, 50 * time.Millisecond}} {
		t.Run(tc.script, func(t *testing.T) {
			n, c := faulted(t, tc.script)
			other := dial(t, n.Addr())
			other.do("get a\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\n")
			pid := statOf(other, "pid")
			start := time.Now()
			c.send("mn\r\n")
			for _, ended := range []*client{c, other} {
				if got, err := io.ReadAll(ended.r); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client of a node that dies reads %q, %v", got, err)
				}
			}
			c = comesBack(t, n)
			if took := time.Since(start); took < tc.least {
				t.Errorf("it is back after %v", took)
			}
			c.do("get a\r\nmn\r\n", "END\r\nMN\r\n")
			if again := statOf(c, "pid"); again == pid {
				t.Errorf("pid %s before and after", pid)
			}
		})
	}
}

// comesBack dials until the node takes connections.
func comesBack(t *testing.T, n *Node) *client {
	t.Helper()
	network := n.cfg.Network
	proctest.Eventually(t, "the node listens", func() bool {
		nc, err := net.Dial(network, n.Addr())
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return dial(t, n.Addr())
}

// whatCame sends to the node on a new connection and returns all that comes, and its
// end: nil for an orderly one. The dial may be told of a reset.
func whatCame(n *Node, send string) ([]byte, error) {
	c, err := net.Dial(n.cfg.Network, n.Addr())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(proctest.Patience))
	io.WriteString(c, send) // what comes says whether it arrived
	return io.ReadAll(c)
}

func refuses(n *Node) bool {
	nc, err := net.Dial(n.cfg.Network, n.Addr())
	if err == nil {
		nc.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// TestOutageOwner: what the owner does outlasts the script's restart.
func TestOutageOwner(t *testing.T) {
	const script = `(on mn (restart 1h))`
	n, c := faulted(t, script)
	c.send("mn\r\n")
	proctest.Eventually(t, "the node is dead", func() bool { return refuses(n) })
	n.Kill()
	if err := n.SetFault(script); err != nil { // which ends the outage
		t.Fatal(err)
	}
	if !refuses(n) {
		t.Error("the script has brought a node back that its owner has killed")
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	c = dial(t, n.Addr())
	c.send("mn\r\n")
	proctest.Eventually(t, "the node is dead", func() bool { return refuses(n) })
	if err := n.Restart(); err != nil { // the owner need not wait
		t.Fatal(err)
	}
	c = dial(t, n.Addr())
	if err := n.SetFault(""); err != nil {
		t.Fatal(err)
	}
	c.do("mn\r\n", "MN\r\n")
	if err := n.SetFault(script); err != nil {
		t.Fatal(err)
	}
	c.send("mn\r\n")
	proctest.Eventually(t, "the node is dead", func() bool { return refuses(n) })
	if err := n.SetFault(""); err != nil { // a dead node comes back with the end of the script
		t.Fatal(err)
	}
	dial(t, n.Addr()).do("mn\r\n", "MN\r\n")
}

// TestOutageKill: nothing but Restart brings the node back, and the script is still
// there then.
func TestOutageKill(t *testing.T) {
	n, c := faulted(t, `(on set (after 1 times 1 kill)) (on version (restart 1ms))`)
	c.do("set a 0 0 1\r\nx\r\n", "STORED\r\n")
	c.send("set a 0 0 1\r\ny\r\n")
	if got, err := io.ReadAll(c.r); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client of a node that dies reads %q, %v", got, err)
	}
	if !refuses(n) {
		t.Error("a killed node takes connections")
	}
	proctest.Eventually(t, "it remembers nothing", func() bool { return n.Len() == 0 })
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	c = dial(t, n.Addr())
	c.do("set a 0 0 1\r\nx\r\n", "STORED\r\n")
	c.send("version\r\n")
	if got := c.line(); !strings.Contains(got, "reset") {
		t.Errorf("the script has gone: %q", got)
	}
	comesBack(t, n).do("get a\r\n", "END\r\n")
}

// TestOutageRefuse: nobody gets in, those who are in stay.
func TestOutageRefuse(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			cfg := Config{Network: network, Fault: `(on mn (refuse 1h)) (on version (times 1 refuse 20ms))`}
			if network == "unix" {
				cfg.Addr = filepath.Join(t.TempDir(), "s")
			}
			n := startNode(t, cfg)
			c := dial(t, n.Addr())
			c.do("version\r\n", "VERSION 1.6.18\r\n")
			c.do("set a 0 0 1\r\nx\r\n", "STORED\r\n")
			comesBack(t, n).do("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n")
			c.do("mn\r\n", "MN\r\n")
			if !refuses(n) {
				t.Error("it takes connections")
			}
			c.do("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n")
			if err := n.SetFault(`(on accept (after 1 refuse 1h))`); err != nil {
				t.Fatal(err)
			}
			dial(t, n.Addr()).do("version\r\n", "VERSION 1.6.18\r\n")
			last := dial(t, n.Addr()) // is served, and after it nobody
			last.do("version\r\n", "VERSION 1.6.18\r\n")
			if !refuses(n) {
				t.Error("it takes connections after the second one")
			}
			n.Kill()
			if err := n.Restart(); err != nil {
				t.Fatal(err)
			}
			dial(t, n.Addr()).do("get a\r\n", "END\r\n")
		})
	}
}

// TestOutageOnAccept: a new connection may be the end of the node.
func TestOutageOnAccept(t *testing.T) {
	n := startNode(t, Config{Fault: `(on accept (after 1 times 1 kill))`})
	c := dial(t, n.Addr())
	c.do("mn\r\n", "MN\r\n")
	if nc, err := net.Dial("tcp", n.Addr()); err == nil {
		nc.Close()
	}
	if got, err := io.ReadAll(c.r); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v", got, err)
	}
	proctest.Eventually(t, "the node is dead", func() bool { return refuses(n) })
}

// TestOutageByTime: rules of time keep theirs, under their conditions, each one.
func TestOutageByTime(t *testing.T) {
	start := time.Now()
	n := startNode(t, Config{Fault: `(every 30ms (after 1 reset))`})
	for i := range 3 {
		if got, err := whatCame(n, ""); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("got %q, %v", got, err)
		}
		if took, due := time.Since(start), time.Duration(i+2)*30*time.Millisecond; took < due {
			t.Errorf("reset %d came after %v", i, took)
		}
	}
	if err := n.SetFault(`(every 2ms (times 2 refuse 0s)) (every 2ms (after 5 times 4 reset))`); err != nil {
		t.Fatal(err)
	}
	f := n.fault.Load()
	a, b := f.rules[0], f.rules[1]
	proctest.Eventually(t, "both have done their times", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return a.matches > 3 && b.matches > 10
	})
	if got := n.Stats().Faults; got != 2+4 {
		t.Errorf("%d faults fired", got)
	}
	if err := n.SetFault(`(every 20ms (freeze 10ms)) (every 50ms (times 2 restart 1ms..2ms)) (every exp 5ms (1/2 refuse 1ms))`); err != nil {
		t.Fatal(err)
	}
	pid := n.current.Load().pid
	proctest.Eventually(t, "the node restarts twice", func() bool { return n.current.Load().pid >= pid+2 && !n.current.Load().dead() })
	before := n.Stats().Faults
	proctest.Eventually(t, "it goes on freezing", func() bool { return n.Stats().Faults > before+2 })
	if err := n.SetFault(""); err != nil {
		t.Fatal(err)
	}
	dial(t, n.Addr()).do("mn\r\n", "MN\r\n")
}

// TestOutageDrawn: the seed decides what time does.
func TestOutageDrawn(t *testing.T) {
	draw := func(seed uint64) (waits [20]time.Duration) {
		s, err := ParseScript(`(every exp 1s (freeze pareto 1ms 1.5))`)
		if err != nil {
			t.Fatal(err)
		}
		s.Seed = seed
		r := newFaults(nil, s).rules[0]
		for i := range waits {
			waits[i] = r.Every.draw(r.draw) + r.outage().last
		}
		return waits
	}
	if one, again, other := draw(1), draw(1), draw(2); one != again || one == other {
		t.Errorf("seed 1: %v\nseed 1: %v\nseed 2: %v", one, again, other)
	}
}

// TestOutagesLeaveNothing: Close ends a node in the middle of any outage, and no
// goroutine of it is left.
func TestOutagesLeaveNothing(t *testing.T) {
	for _, script := range []string{
		`(every 1ms (freeze 1h))`, `(every 1ms (refuse 1h))`, `(every 1ms (restart 1h))`, `(every 1ms (kill))`, `(every 1ms (reset))`,
		`(always (freeze 1h)) (always (restart 1h)) (always (refuse 1h))`, `(on accept (freeze 1h))`, `(on accept (stall 1h))`, `(every 1h (kill))`,
		`(every 1ms (restart)) (every 1ms (freeze 1ms)) (every 1ms (refuse 1ms)) (on accept (1/2 restart 1ms))`,
	} {
		t.Run(script, func(t *testing.T) {
			n := startNode(t, Config{Fault: script})
			for range 3 {
				if nc, err := net.Dial("tcp", n.Addr()); err == nil {
					t.Cleanup(func() { nc.Close() })
					io.WriteString(nc, "mn\r\nmn\r\n") // it may be dead by now
				}
			}
			if !strings.Contains(script, "1h (") && !strings.Contains(script, "every 1h") {
				proctest.Eventually(t, "a fault fires", func() bool { return n.Stats().Faults > 0 })
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			proctest.Eventually(t, "no goroutine is left", func() bool { // the last may be on their way out
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				return !bytes.Contains(stacks, []byte("memnode.(*process)")) && !bytes.Contains(stacks, []byte("memnode.(*faults)"))
			})
			if !refuses(n) {
				t.Error("a closed node takes connections")
			}
		})
	}
}
