package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"magent/server/config"
)

// newStart is magent 0.6's own way: flags and no command.
func newStart() *cobra.Command {
	var f config.Flags
	cmd := &cobra.Command{
		Use:    "start",
		Short:  "Serve in the background, as magent without a command does",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := &orders{line: cmd.Flags(), flags: &f}
			if f.Print {
				return o.print()
			}
			s, err := o.settle()
			if err != nil {
				return err
			}
			if !s.Flags.Background() {
				return serve(o, s, inForeground)
			}
			if succeeds() { // of a process that is there already
				return serve(o, s, o.leaveTerminal)
			}
			if ready := inheritedPipe(); ready != nil {
				return serve(o, s, func() error { return o.detach(ready) })
			}
			return daemonise()
		},
	}
	f.Bind(cmd.Flags())
	return cmd
}

// Going to the background:
//
//	parent: daemonise    re-executes itself with a pipe on fd 3, and waits
//	child:  serve        opens everything; its faults go to the parent's terminal
//	child:  detach       leaves terminal and directory, says "ready" on the pipe
//	parent:              exits 0 on that word; on an end without it, as the child did
//
// A Go program cannot fork without an exec: its other threads would be gone.
const (
	pipeVariable = "MAGENT_READY_FD"
	pipeFD       = 3
	readyWord    = "ready"
)

func daemonise() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	child := &exec.Cmd{
		Path:        exe,
		Args:        os.Args,
		Env:         append(os.Environ(), pipeVariable+"="+strconv.Itoa(pipeFD)),
		Stdout:      os.Stdout,
		Stderr:      os.Stderr,
		ExtraFiles:  []*os.File{w},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = child.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("cannot go to the background: %w", err)
	}
	if word, err := io.ReadAll(r); err == nil && string(word) == readyWord {
		return nil
	}
	err = child.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exitStatus(exit.ExitCode())
	}
	return fmt.Errorf("the background process ended before it was ready: %v", err)
}

// inheritedPipe is the pipe to the parent, nil in a process that has none.
func inheritedPipe() *os.File {
	if os.Getenv(pipeVariable) == "" {
		return nil
	}
	os.Unsetenv(pipeVariable)
	unix.CloseOnExec(pipeFD)
	return os.NewFile(pipeFD, "ready")
}

// detach leaves the terminal and tells the parent. If that is gone, somebody has
// interrupted the start: the error ends this process too.
func (o *orders) detach(ready *os.File) error {
	defer ready.Close()
	if err := o.leaveTerminal(); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("%s to fd %d: %w", os.DevNull, fd, err)
		}
	}
	_, err = ready.WriteString(readyWord)
	return err
}
