package memnode

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// faulted is a node with a=1 and a script, and a client of it.
func faulted(t *testing.T, script string) (*Node, *client) {
	t.Helper()
	n := startNode(t, Config{})
	c := dial(t, n.Addr())
	c.do("set a 0 0 3\r\nabc\r\n", "STORED\r\n")
	if err := n.SetFault(script); err != nil {
		t.Fatal(err)
	}
	return n, c
}

// TestFaultReplies has the faults that change an answer.
func TestFaultReplies(t *testing.T) {
	for _, tc := range []struct{ script, send, want string }{
		{`(on get (lie 2))`, "get a\r\nmg a v\r\n", "VALUE a 0 5\r\nabc\r\nEND\r\nVA 3\r\nabc\r\n"},
		{`(on mg (lie -2))`, "mg a v k\r\nmg a\r\nmg b\r\n", "VA 1 ka\r\nabc\r\nHD\r\nEN\r\n"},
		{`(on gets (lie -9))`, "gets a\r\ngets b\r\n", "VALUE a 0 0 1\r\nabc\r\nEND\r\nEND\r\n"},
		{`(always (wrongkey))`, "get a\r\nmg a k v\r\nmg zX k\r\nget b\r\ndelete b\r\n", "VALUE X 0 3\r\nabc\r\nEND\r\nVA 3 kX\r\nabc\r\nEN kzY\r\nEND\r\nNOT_FOUND\r\n"},
		{`(on get (drop))`, "get a\r\nmn\r\n", "MN\r\n"},
		{`(on get (swap))`, "get a\r\nmn\r\nmn\r\n", "MN\r\nVALUE a 0 3\r\nabc\r\nEND\r\nMN\r\n"},
		{`(on get (swap))`, "get a\r\nget b\r\nget b\r\nmn\r\n", "END\r\nVALUE a 0 3\r\nabc\r\nEND\r\nMN\r\nEND\r\n"},
		{`(on * (reply "SERVER_ERROR busy"))`, "set a 0 0 1\r\nx\r\nget a\r\nset a 0 0 1 noreply\r\nx\r\nxx\r\n", strings.Repeat("SERVER_ERROR busy\r\n", 4)},
		{`(on get (chunk 1))`, "get a\r\nversion\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\nVERSION 1.6.18\r\n"},
		{`(on get (chunk 2)) (on get (lie 1)) (on get (wrongkey))`, "get a\r\n", "VALUE X 0 4\r\nabc\r\nEND\r\n"},
		{`(on get key "a" (drop))`, "get a\r\nget b\r\ngat 0 a\r\n", "END\r\nVALUE a 0 3\r\nabc\r\nEND\r\n"},
		{`(on gat key "a" (drop))`, "gat 0 a\r\ngat 0 b\r\n", "END\r\n"},
		{`(on mn (after 2 times 1 drop))`, "mn\r\nmn\r\nmn\r\nversion\r\nmn\r\n", "MN\r\nMN\r\nVERSION 1.6.18\r\nMN\r\n"},
		{`(on get (drop)) (on get (reply "x"))`, "get a\r\nmn\r\n", "MN\r\n"},
		{``, "get a\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\n"},
	} {
		t.Run(tc.script, func(t *testing.T) {
			n, c := faulted(t, tc.script)
			c.do(tc.send, tc.want)
			if err := n.SetFault(""); err != nil {
				t.Fatal(err)
			}
			c.do("mn\r\n", "MN\r\n")
			if it, _ := n.Get("a"); string(it.Value) != "abc" {
				t.Errorf("a is %q", it.Value)
			}
		})
	}
}

// TestFaultEndings has the faults that end the connection, with what comes
// before the end and whether the command was executed.
func TestFaultEndings(t *testing.T) {
	for _, tc := range []struct {
		script, want string
		reset        bool
		value        string
	}{
		{`(on set (reset))`, "", true, "abc"}, // whether the reply before it arrives is left to chance
		{`(on set (close))`, "MN\r\n", false, "abc"},
		{`(on set (truncate 0))`, "MN\r\n", true, "x"},
		{`(on set (truncate 3))`, "MN\r\nSTO", true, "x"},
		{`(on set (truncate 99))`, "MN\r\nSTORED\r\n", true, "x"},
	} {
		t.Run(tc.script, func(t *testing.T) {
			n, c := faulted(t, tc.script)
			c.send("mn\r\nset a 0 0 1\r\nx\r\nmn\r\n")
			got, err := io.ReadAll(c.r)
			if string(got) != tc.want && !(tc.want == "" && string(got) == "MN\r\n") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if errors.Is(err, syscall.ECONNRESET) != tc.reset {
				t.Errorf("the end is %v", err)
			}
			if it, _ := n.Get("a"); string(it.Value) != tc.value {
				t.Errorf("a is %q, want %q", it.Value, tc.value)
			}
			if n.Stats().Faults != 1 {
				t.Errorf("%d faults fired", n.Stats().Faults)
			}
		})
	}
}

func TestFaultDelays(t *testing.T) {
	const d = 30 * time.Millisecond
	for _, script := range []string{`(on get (stall 30ms))`, `(on get (slow 30ms))`, `(on get (slow 30ms..40ms))`,
		`(on get (slow pareto 30ms 3))`, `(on get (stall 20ms..21ms)) (on get (stall 10ms))`} {
		t.Run(script, func(t *testing.T) {
			_, c := faulted(t, script)
			start := time.Now()
			c.do("mn\r\nget a\r\n", "MN\r\nVALUE a 0 3\r\nabc\r\nEND\r\n")
			if took := time.Since(start); took < d {
				t.Errorf("the reply took %v only", took)
			}
		})
	}
	for _, script := range []string{`(on get (stall 1h))`, `(on get (slow 1h))`} {
		_, c := faulted(t, script)
		c.do("mn\r\nget a\r\n", "MN\r\n") // a reply before the fault does not wait
	}
}

// TestFaultDelayOrder: stall comes before the execution, slow after it. A delay
// does not hold up Kill.
func TestFaultDelayOrder(t *testing.T) {
	n, c := faulted(t, `(on set (slow 1h))`)
	c.send("set a 0 0 1\r\nx\r\n")
	proctest.Eventually(t, "the slow command is executed", func() bool { it, _ := n.Get("a"); return string(it.Value) == "x" })
	n.Kill()

	n, c = faulted(t, `(on set (stall 1h))`)
	c.send("set a 0 0 1\r\nx\r\n")
	proctest.Eventually(t, "the command has come", func() bool { return n.Stats().Faults == 1 })
	if it, _ := n.Get("a"); string(it.Value) != "abc" {
		t.Errorf("a stalled command was executed: %q", it.Value)
	}
	n.Freeze() // nor Freeze
	n.Kill()
}

// TestFaultAccept has the faults of new connections: what is left of the second one.
func TestFaultAccept(t *testing.T) {
	for _, tc := range []struct {
		script, want string
		end          error
	}{
		{`(on accept (after 1 times 1 close))`, "", nil},
		{`(on accept (after 1 times 1 reset))`, "", syscall.ECONNRESET},
		{`(on accept (after 1 times 1 reset 7))`, "MN\r\nVER", syscall.ECONNRESET},
		{`(on accept (after 1 times 1 close)) (on * (stall 1ms))`, "", nil},
	} {
		t.Run(tc.script, func(t *testing.T) {
			n, before := faulted(t, tc.script)
			dial(t, n.Addr()).do("mn\r\n", "MN\r\n")
			send := ""
			if tc.want != "" { // to a closed socket it would make the end a reset
				send = "mn\r\nversion\r\n"
			}
			got, err := whatCame(n, send)
			if string(got) != tc.want || !errors.Is(err, tc.end) {
				t.Errorf("got %q, %v, want %q, %v", got, err, tc.want, tc.end)
			}
			dial(t, n.Addr()).do("mn\r\n", "MN\r\n")
			before.do("mn\r\n", "MN\r\n")
		})
	}
}

// TestFaultAcceptStall: the connection is there, and nobody serves it for a while.
func TestFaultAcceptStall(t *testing.T) {
	n, before := faulted(t, `(on accept (stall 1h))`)
	c := dial(t, n.Addr())
	c.send("set a 0 0 1\r\nx\r\n")
	proctest.Eventually(t, "the connection has come", func() bool { return n.Stats().Conns == 2 })
	before.do("get a\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\n")
	n.Freeze() // nor does that wait
	n.Kill()
	if got := c.line(); got == "STORED\r\n" {
		t.Error("a stalled connection was served")
	}
}

// TestFaultResetAfter cuts answers at a number of bytes, wherever that falls, counted
// from the command that was struck.
func TestFaultResetAfter(t *testing.T) {
	for _, tc := range []struct {
		script, want string
		faults       uint64
	}{
		{`(always (reset 1))`, "M", 1},
		{`(always (reset 7))`, "MN\r\nVAL", 1},
		{`(on get (reset 7))`, "MN\r\nVALUE a", 1},
		{`(on get (reset 23))`, "MN\r\nVALUE a 0 3\r\nabc\r\nEND\r\n", 1},
		{`(on get (reset 24)) (on mn (after 1 reset 3))`, "MN\r\nVALUE a 0 3\r\nabc\r\nEND\r\nM", 1},
		{`(always (reset 27))`, "MN\r\nVALUE a 0 3\r\nabc\r\nEND\r\n", 1},
		{`(on get (reset 3)) (on get (reply "ERROR"))`, "MN\r\nERR", 2},
		{`(on get (reset 3)) (on get (chunk 2))`, "MN\r\nVAL", 2},
	} {
		t.Run(tc.script, func(t *testing.T) {
			n, c := faulted(t, tc.script)
			c.send("mn\r\nget a\r\nmn\r\n")
			got, err := io.ReadAll(c.r)
			if string(got) != tc.want || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
			if got := n.Stats().Faults; got != tc.faults {
				t.Errorf("%d faults fired, want %d", got, tc.faults)
			}
		})
	}
	n, c := faulted(t, `(on mn (times 1 reset 40))`)
	c.do("mn\r\nmn\r\nmn\r\n", "MN\r\nMN\r\nMN\r\n")
	dial(t, n.Addr()).do("get a\r\nget a\r\n", "VALUE a 0 3\r\nabc\r\nEND\r\nVALUE a 0 3\r\nabc\r\nEND\r\n")
	c.send("get a\r\nget a\r\n")
	if got, _ := io.ReadAll(c.r); len(got) != 40-3*len("MN\r\n") {
		t.Errorf("%q of 40 bytes", got)
	}
}

// TestFaultWindow: from and until bound when a rule of any kind is in force, and what
// is outside does not count.
func TestFaultWindow(t *testing.T) {
	f := newFaults(nil, &Script{Rules: []Rule{{From: 2, Until: 4, After: 1, Action: Action{Name: "drop"}}}})
	var pattern string
	for _, at := range []time.Duration{0, 1, 2, 2, 3, 4, 5} {
		pattern += map[bool]string{true: "x", false: "."}[f.strikes(f.rules[0], at)]
	}
	if pattern != "...xx.." {
		t.Errorf("it fires %s", pattern)
	}
	_, c := faulted(t, `(on mn (from 1h drop)) (on version (until 1h reply "x"))`)
	c.do("mn\r\nversion\r\n", "MN\r\nx\r\n")
}

// TestFaultDraws: the seed alone decides.
func TestFaultDraws(t *testing.T) {
	draw := func(script string) (pattern string) {
		n, c := faulted(t, script)
		for range 200 {
			c.send("mn\r\nversion\r\n")
			if c.line() == "MN\r\n" {
				c.expect("VERSION 1.6.18\r\n")
				pattern += "."
				continue
			}
			pattern += "x"
		}
		if got := n.Stats().Faults; got < uint64(strings.Count(pattern, "x")) {
			t.Errorf("%d faults fired in %s", got, pattern)
		}
		return pattern
	}
	one, again, other := draw(`(seed 1) (on mn (1/4 drop))`), draw(`(seed 1) (on mn (1/4 drop))`), draw(`(seed 2) (on mn (1/4 drop))`)
	if one != again || one == other {
		t.Errorf("seed 1: %s\nseed 1: %s\nseed 2: %s", one, again, other)
	}
	if hits := strings.Count(one, "x"); hits < 25 || hits > 80 {
		t.Errorf("%d of 200 at 1/4", hits)
	}
	if beside := draw(`(seed 1) (on mn (1/4 drop)) (on * (1/2 chunk 3))`); beside != one {
		t.Errorf("another rule shifts the draws: %s\n%s", one, beside)
	}
}

// TestFaultOutlivesRestart: a script stays with the node.
func TestFaultOutlivesRestart(t *testing.T) {
	n, _ := faulted(t, `(on version (reply "VERSION odd"))`)
	for _, end := range []func(){n.Kill, func() { n.Close() }, func() { n.Close(); n.Kill() }} {
		end()
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
		dial(t, n.Addr()).do("version\r\n", "VERSION odd\r\n")
	}
	if err := n.SetFault("(oops)"); err == nil {
		t.Error("a bad script was taken")
	}
	dial(t, n.Addr()).do("version\r\n", "VERSION odd\r\n")
}
