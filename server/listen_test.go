package server

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"magent/server/config"
)

// socketFile makes a socket file with nobody behind it, and returns its descriptor.
func socketFile(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// fill listens on fd and connects until its backlog takes no more.
func fill(t *testing.T, fd int, path string) {
	t.Helper()
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog takes any number")
}

// Only a socket file that refuses is a dead process's, and may be replaced.
func TestSocketFileInTheWay(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(path string)
		want error
	}{
		{"nothing", func(string) {}, nil},
		{"dead", func(path string) { socketFile(t, path) }, nil},
		{"alive", func(path string) { unix.Listen(socketFile(t, path), 1) }, syscall.EADDRINUSE},
		{"busy", func(path string) { fill(t, socketFile(t, path), path) }, syscall.EAGAIN},
		{"file", func(path string) { os.WriteFile(path, nil, 0o600) }, syscall.EADDRINUSE},
	} {
		path := filepath.Join(t.TempDir(), c.name)
		c.put(path)
		before, _ := os.Lstat(path)
		ln, err := listen(config.Listen{Network: "unix", Address: path}, nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil {
			ln.Close()
			continue
		}
		if after, gone := os.Lstat(path); gone != nil || !os.SameFile(before, after) {
			t.Errorf("%s: it was removed (%v)", c.name, err)
		}
	}
}
