package failover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

func node(t *testing.T) *process.Process {
	t.Helper()
	return proctest.Memcached(t, process.MemcachedConfig{}).Process
}

// stands says whether process pid is stopped: state T, see proc_pid_stat(5).
func stands(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(state, "T")
}

// Processes are killed, restarted, frozen and thawed when it is time, in that order,
// and the times are kept.
func TestSteps(t *testing.T) {
	lead, follower := node(t), node(t)
	old := lead.PID
	steps := append(Stop(30*ms, 40*ms, follower), Kill(0, lead), Restart(10*ms, lead))
	var told []Mark
	look := func(m Mark) {
		switch {
		case strings.HasPrefix(m.Name, "SIGSTOP") && !stands(t, follower.PID):
			t.Error("the follower runs after SIGSTOP")
		case strings.HasPrefix(m.Name, "SIGCONT") && stands(t, follower.PID):
			t.Error("the follower stands after SIGCONT")
		case strings.HasPrefix(m.Name, "kill") && unix.Kill(old, 0) == nil:
			t.Error("the lead is there after SIGKILL")
		}
		told = append(told, m)
	}
	marks, err := take(t.Context(), time.Now(), time.Hour, steps, look)
	if err != nil {
		t.Fatal(err)
	}
	if lead.PID == old {
		t.Error("the lead was not restarted")
	}
	if !slices.Equal(marks, told) || len(marks) != 4 {
		t.Fatalf("told of %v, and reported %v", told, marks)
	}
	for i, at := range []time.Duration{0, 10 * ms, 30 * ms, 70 * ms} {
		m := marks[i]
		if m.From < Millis(at) || m.To < m.From || m.Fails == m.Returns {
			t.Errorf("step %d, due at %v: %+v", i, at, m)
		}
	}
}

// A drill that ends early leaves nothing frozen, takes no other step, and says so.
func TestInterruptedWhileFrozen(t *testing.T) {
	p := node(t)
	ctx, cancel := context.WithCancel(t.Context())
	steps := append(Flap(0, time.Hour, p), Kill(time.Minute, p))
	marks, err := take(ctx, time.Now(), time.Hour, steps[:2], func(m Mark) {
		if m.Fails {
			cancel()
		}
	})
	if err != nil || len(marks) != 2 || stands(t, p.PID) {
		t.Errorf("%v, %+v; stands: %v", err, marks, stands(t, p.PID))
	}
	// Before anything was made to fail, nothing is owed.
	if marks, err := take(ctx, time.Now(), time.Hour, steps, nil); err != nil || len(marks) > 0 {
		t.Errorf("nothing was owed: %v, %+v", err, marks)
	}
}

// A flap is one fault, and the last SIGCONT its end.
func TestFlap(t *testing.T) {
	p := node(t)
	steps := Flap(time.Second, 10*time.Second, p)
	if n := len(steps); n != 34 || !steps[0].Fails || !steps[n-1].Returns {
		t.Fatalf("%d steps: %+v", n, steps)
	}
	for i, s := range steps {
		if s.At != time.Second+time.Duration(i)*FlapEvery || s.Owed != (i%2 == 1) || i > 0 && s.Fails || i < len(steps)-1 && s.Returns {
			t.Errorf("step %d: %+v", i, s)
		}
	}
}

// What commands print is kept. One that fails ends the drill, with what it printed in
// the error; what is owed is done all the same.
func TestCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "back")
	marks, err := take(t.Context(), time.Now(), time.Hour, []Step{Exec(0, "echo out; echo err >&2"), RestartBy(ms, "echo back > "+file)}, nil)
	if err != nil || len(marks) != 2 || marks[0].Output != "out\nerr" || marks[0].Error != "" {
		t.Errorf("%v, %+v", err, marks)
	}
	os.Remove(file)
	marks, err = take(t.Context(), time.Now(), time.Hour, []Step{
		Exec(0, "echo no such table; exit 4"), Exec(ms, "echo not reached >> "+file), RestartBy(time.Hour, "echo back >> "+file),
	}, nil)
	if err == nil || !strings.Contains(err.Error(), "exit status 4: no such table") || len(marks) != 2 {
		t.Fatalf("%v, %+v", err, marks)
	}
	if marks[0].To != Never || !strings.Contains(marks[0].Error, "exit status 4") {
		t.Errorf("%+v", marks[0])
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "back\n" {
		t.Errorf("what was owed: %q, %v", text, err)
	}
}

// A command that is under way when the drill ends is told to end, with all it started.
func TestInterruptedCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	var marks []Mark
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		marks, err = take(ctx, time.Now(), time.Hour, []Step{Exec(0, "sleep 1000 & echo $! > "+file+"; wait")}, nil)
	}()
	pid := 0
	proctest.Eventually(t, "the command runs", func() bool {
		text, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	cancel()
	<-done
	if err != nil || len(marks) != 1 || !marks[0].RunsOn {
		t.Errorf("%v, %+v", err, marks)
	}
	proctest.Eventually(t, "what it started has ended", func() bool { return !lives(pid) })
}

// lives says whether process pid has not ended; nobody may reap it here.
func lives(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// A command that makes a failure does not hold up the drill for good: it is ended, even
// if it does not hear of it.
func TestExecThatStays(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*ms)
	defer cancel()
	output, err := Exec(0, "trap '' TERM; echo $$; while :; do sleep 0.01; done").Do(ctx)
	pid, _ := strconv.Atoi(output)
	if !errors.Is(err, errRunsOn) || pid == 0 || lives(pid) {
		t.Errorf("%q, %v; lives: %v", output, err, lives(pid))
	}
}

// A restart in the foreground does not either: it is what was restarted, and stays. One
// that begins at the end has its time.
func TestRestartThatStays(t *testing.T) {
	t.Parallel()
	began := time.Now()
	marks, err := take(t.Context(), began, 0, []Step{RestartBy(0, "echo $$; exec sleep 1000")}, nil)
	if err != nil || len(marks) != 1 {
		t.Fatalf("%v, %+v", err, marks)
	}
	m := marks[0]
	pid, _ := strconv.Atoi(m.Output)
	if !m.RunsOn || m.To != Never || m.Error != "" || pid == 0 || unix.Kill(-pid, unix.SIGKILL) != nil {
		t.Errorf("%+v", m)
	}
	if d := time.Since(began); d < patience || d > 3*patience {
		t.Errorf("it was waited for, for %v", d)
	}
}

// Nor if it is under way when the drill is interrupted.
func TestInterruptedRestartStays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		proctest.Eventually(t, "the command runs", func() bool {
			text, _ := os.ReadFile(file)
			return strings.HasSuffix(string(text), "\n")
		})
		cancel()
	}()
	marks, err := take(ctx, time.Now(), time.Hour, []Step{RestartBy(0, "echo $$ | tee "+file+"; exec sleep 1000")}, nil)
	if err != nil || len(marks) != 1 || !marks[0].RunsOn {
		t.Fatalf("%v, %+v", err, marks)
	}
	pid, err := strconv.Atoi(marks[0].Output)
	if err != nil || unix.Kill(pid, unix.SIGKILL) != nil {
		t.Errorf("%v, %d does not run", err, pid)
	}
}

// What a restart leaves running stays, and is not waited for.
func TestBackgroundStays(t *testing.T) {
	began := time.Now()
	marks, err := take(t.Context(), began, time.Hour, []Step{RestartBy(0, "sleep 1000 & echo $!")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(marks[0].Output)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("it was waited for, for %v", d)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("it does not run: %v", err)
	}
}

// Only the end of what a command prints is kept.
func TestLongOutput(t *testing.T) {
	marks, err := take(t.Context(), time.Now(), time.Hour, []Step{Exec(0, "seq 100000")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out := marks[0].Output; len(out) > outputMost || !strings.HasSuffix(out, "\n100000") {
		t.Errorf("%d bytes, which end in %q", len(out), out[max(0, len(out)-10):])
	}
}

// A process that somebody else runs is attached to; one that is not there is an error
// when it is signalled.
func TestForeignProcess(t *testing.T) {
	own := node(t)
	p, err := process.Attach(own.PID, "")
	if err != nil {
		t.Fatal(err)
	}
	if marks, err := take(t.Context(), time.Now(), time.Hour, Stop(0, ms, p), nil); err != nil || stands(t, own.PID) || len(marks) != 2 {
		t.Errorf("%v, %+v", err, marks)
	}
	if _, err := take(t.Context(), time.Now(), time.Hour, []Step{Kill(0, p)}, nil); err != nil {
		t.Error(err)
	}
	<-own.Done()
	if _, err := take(t.Context(), time.Now(), time.Hour, Stop(0, ms, p), nil); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a process that has ended is frozen: %v", err)
	}
}
