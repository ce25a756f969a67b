package failover

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process"
)

// Step is something done to the system while the load runs. Steps are taken one after
// the other, each when it is due and those before it are done.
type Step struct {
	At   time.Duration // since the load began
	Name string
	// Fails: it makes something fail, and the first such begins the fault. Returns: it
	// brings something back, and when the first such is done, the fault is over.
	Fails, Returns bool
	// Owed: it makes good what a step before it did. It is taken at once if the drill
	// ends early, once anything was made to fail.
	Owed bool
	// Do does it, and says what was printed. It ends early if its ctx does.
	Do func(context.Context) (output string, err error)
}

func quietly(f func() error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return "", f() }
}

func called(p *process.Process) string { return fmt.Sprintf("%s (%d)", p.Name, p.PID) }

// Kill ends p with SIGKILL.
func Kill(at time.Duration, p *process.Process) Step {
	return Step{At: at, Name: "kill -9 of " + called(p), Fails: true, Do: quietly(p.Kill)}
}

// Restart starts p, which the package process has started before, once more. It is done
// when p accepts connections.
func Restart(at time.Duration, p *process.Process) Step {
	return Step{At: at, Name: "restart of " + called(p), Returns: true,
		Do: func(ctx context.Context) (string, error) { return "", p.Restart(ctx) }}
}

// Stop freezes p (SIGSTOP) for so long.
func Stop(at, length time.Duration, p *process.Process) []Step {
	return []Step{
		{At: at, Name: "SIGSTOP of " + called(p), Fails: true, Do: quietly(p.Freeze)},
		{At: at + length, Name: "SIGCONT of " + called(p), Returns: true, Owed: true, Do: quietly(p.Thaw)},
	}
}

// FlapEvery is for how long Flap freezes a process, and for how long it lets it run.
const FlapEvery = 300 * time.Millisecond

// Flap freezes p and lets it run by turns, for so long. All of that is one fault.
func Flap(at, length time.Duration, p *process.Process) []Step {
	var steps []Step
	for d := time.Duration(0); d < length; d += 2 * FlapEvery {
		steps = append(steps, Stop(at+d, FlapEvery, p)...)
	}
	for i := range steps {
		steps[i].Fails, steps[i].Returns = i == 0, i == len(steps)-1
	}
	return steps
}

// Exec makes something fail by a command of the shell's. It is waited for until the
// drill's time is over, and then ended, with all that is in its process group.
func Exec(at time.Duration, command string) Step {
	return Step{At: at, Name: command, Fails: true, Do: shell(command, terminate)}
}

// RestartBy brings something back by a command of the shell's. It is waited for until the
// drill's time is over. If it runs on then, it stays, for it is what it has restarted, in
// the foreground; so does what it leaves in the background.
func RestartBy(at time.Duration, command string) Step {
	return Step{At: at, Name: command, Returns: true, Owed: true, Do: shell(command, func(int, <-chan struct{}) {})}
}

const (
	// termPatience is how long a command may take to end when it is told to.
	termPatience = 2 * time.Second
	// patience is how long a step may take at least, if it is not interrupted: also one
	// that is taken at the end, or is owed after it.
	patience = 5 * time.Second
	// outputMost is how much is kept of what a command prints: the end.
	outputMost = 4 << 10
)

// errRunsOn is the error of a command that had not ended when there was no more time.
var errRunsOn = errors.New("still running at the end of the drill")

// shell runs command in a process group of its own, so that an interrupt at the
// terminal does not reach it. It prints to a file: a pipe would be held open by what it
// leaves in the background. If ctx ends first, late is called with the group and a channel
// that is closed when the command has ended.
func shell(command string, late func(group int, ended <-chan struct{})) func(context.Context) (string, error) {
	return func(ctx context.Context) (_ string, err error) {
		out, err := os.CreateTemp("", "magent-failover-")
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, out.Close(), os.Remove(out.Name())) }()
		cmd := exec.Command("sh", "-c", command)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			return "", err
		}
		var runErr error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			runErr = cmd.Wait()
		}()
		select {
		case <-ended:
		case <-ctx.Done():
			late(cmd.Process.Pid, ended)
			output, readErr := tail(out)
			return output, errors.Join(errRunsOn, readErr)
		}
		output, readErr := tail(out)
		if runErr != nil && output != "" {
			runErr = fmt.Errorf("%w: %s", runErr, output)
		}
		return output, errors.Join(runErr, readErr)
	}
}

// terminate ends a process group: TERM, and KILL for what does not go.
func terminate(group int, ended <-chan struct{}) {
	_ = unix.Kill(-group, unix.SIGTERM) // none is left: then all is well
	late := time.NewTimer(termPatience)
	defer late.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for unix.Kill(-group, 0) == nil {
		select {
		case <-poll.C:
			continue
		case <-late.C:
		}
		_ = unix.Kill(-group, unix.SIGKILL)
		break
	}
	select {
	case <-ended:
	case <-time.After(termPatience): // the kernel holds it
	}
}

// tail is the end of f.
func tail(f *os.File) (string, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	b := make([]byte, min(size, outputMost))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(b)), nil
}

// take takes steps, in order of At since began, and tells of each when it is over. A drill
// is over after length, and no step is waited for longer, but for patience. When ctx
// ends, or a step fails, it takes what is owed and no other.
func take(ctx context.Context, began time.Time, length time.Duration, steps []Step, told func(Mark)) (marks []Mark, err error) {
	steps = slices.Clone(steps)
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	failed, early := false, false
	for _, s := range steps {
		if !early && !sleep(ctx, time.Until(began.Add(s.At))) {
			early = true
		}
		if early && !(failed && s.Owed) {
			continue
		}
		failed = failed || s.Fails
		m := Mark{Name: s.Name, From: Millis(time.Since(began)), To: Never, Fails: s.Fails, Returns: s.Returns}
		output, stepErr := s.do(ctx, early, began.Add(length))
		m.Output = output
		switch {
		case errors.Is(stepErr, errRunsOn):
			m.RunsOn = true
		case stepErr != nil:
			early = true
			m.Error = stepErr.Error()
			err = errors.Join(err, fmt.Errorf("%s: %w", s.Name, stepErr))
		default:
			m.To = Millis(time.Since(began))
		}
		marks = append(marks, m)
		if told != nil {
			told(m)
		}
	}
	return marks, err
}

// do does s, until end or for as long as patience goes, whichever is later. If the drill
// ends early, what ends it must not end s.
func (s *Step) do(ctx context.Context, early bool, end time.Time) (string, error) {
	least := time.Now().Add(patience)
	if early {
		ctx, end = context.WithoutCancel(ctx), least
	}
	if end.Before(least) {
		end = least
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return s.Do(ctx)
}

// sleep waits for d, and says whether ctx has let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
