package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// within polls until ok, and fails if that takes too long.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// crowded listens at addr and has no room in its backlog.
func crowded(t *testing.T, family int, addr unix.Sockaddr) (listener int) {
	t.Helper()
	open := func() int {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	listener = open()
	if err := errors.Join(unix.Bind(listener, addr), unix.Listen(listener, 0)); err != nil {
		t.Fatal(err)
	}
	door, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := unix.Connect(open(), door); err != nil && err != unix.EINPROGRESS && err != unix.EAGAIN {
			t.Fatal(err)
		}
	}
	return listener
}

// While one connection waits for a target that is slow to accept, the others are dialled.
func TestDialsDoNotWaitForEachOther(t *testing.T) {
	listener := crowded(t, unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	door, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	port := door.(*unix.SockaddrInet4).Port
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Config{Targets: []string{fmt.Sprintf("127.0.0.1:%d", port)}, Conns: 20, Requests: 1, Timeout: time.Hour})
		ended <- err
	}()
	within(t, "twenty connections under way", func() bool {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		// Remote address and the state, SYN_SENT.
		return strings.Count(string(table), fmt.Sprintf(" 0100007F:%04X 02 ", port)) >= 20
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it dials: %v", err)
	}
}

// A unix socket does not make its callers wait; so they come again.
func TestDialOfACrowdedUnixSocket(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	listener := crowded(t, unix.AF_UNIX, &unix.SockaddrUnix{Name: name})
	go func() {
		<-time.After(20 * time.Millisecond)
		if fd, _, err := unix.Accept(listener); err == nil {
			unix.Close(fd)
		}
	}()
	fd, _, err := dial(t.Context(), name, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, _, err := dial(t.Context(), name, time.Millisecond); err == nil {
		t.Error("nobody accepts, and no error")
	}
}

// However a run ends, nothing of it is left.
func TestRunsLeaveNothingBehind(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		if c.n == 50 {
			return "", errHangUp
		}
		return c.reply, nil
	})
	silent := startTarget(t, func(call) (string, error) { return "", nil })
	mustRun(t, Config{Targets: []string{tg.addr}, Conns: 1, Requests: 1}) // what is opened once
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	quiet := func() bool {
		for _, tg := range []*target{tg, silent} {
			tg.mu.Lock()
			n := len(tg.conns)
			tg.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	}
	within(t, "the target is rid of the first run", quiet)
	files, routines := open(), runtime.NumGoroutine()
	for _, cfg := range []Config{
		{Targets: []string{tg.addr}, Requests: 500, Threads: 3, Reopen: true, Progress: func(Progress) {}},
		{Targets: []string{tg.addr}, Requests: 500, ReopenEvery: 3},
		{Targets: []string{tg.addr}, Requests: 5000, Rate: 100e3},
		// The last is dialled when others are connected: more than are dialled at a time.
		{Targets: append(slices.Repeat([]string{tg.addr}, 2*dialers), filepath.Join(t.TempDir(), "nobody")), Conns: 2*dialers + 1, Requests: 10},
		{Targets: []string{silent.addr}, Requests: 10, Timeout: 50 * time.Millisecond},
		{Targets: []string{tg.addr}, Requests: 10, Procs: map[string]int{"nobody": 1 << 30}},
	} {
		cfg.Conns = max(cfg.Conns, 10)
		if rep, err := Run(t.Context(), cfg); err == nil && rep.Requests == 0 {
			t.Errorf("%+v: no requests, and no error", cfg)
		}
	}
	within(t, "files and goroutines as before", func() bool {
		return quiet() && open() <= files && runtime.NumGoroutine() <= routines
	})
}
