package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MemcachedConfig says which memcached to run. What is zero has its default.
type MemcachedConfig struct {
	// Path is the program's: memcached, as PATH has it.
	Path string
	// CPUs are those that it runs on: all.
	CPUs []int
	// Listen is the host that it listens on, 127.0.0.1, or Unix.
	Listen string
	// Threads is -t: 1, for a node that has one CPU at most and hears from a proxy
	// on one connection.
	Threads int
	// MemoryMB is -m: 1024, so that no benchmark evicts.
	MemoryMB int
	// Conns is -c: 16384.
	Conns int
	// Args follow the others, and the last to say something wins.
	Args []string
}

// Unix is what a MemcachedConfig listens on if it is a unix socket in a directory of
// its own.
const Unix = "unix"

// Memcached starts a memcached at an address of its own. Over TCP it chooses a port
// that is free, and nobody has connected to it when this returns, so that its
// statistics count the caller's connections alone.
func Memcached(ctx context.Context, cfg MemcachedConfig) (*Process, error) {
	path, host := cmp.Or(cfg.Path, "memcached"), cmp.Or(cfg.Listen, loopback)
	r := Recipe{Name: filepath.Base(path), Path: path, CPUs: cfg.CPUs}
	r.Args = func(port int, dir string) ([]string, error) { return cfg.args(host, port, dir) }
	if host == Unix {
		r.where = func(ctx context.Context, dir string) (string, error) {
			addr := filepath.Join(dir, socketFile)
			return addr, accepts(ctx, "unix", addr)
		}
		return Start(ctx, r)
	}
	// It renames the file to this name when it listens.
	r.env = func(dir string) []string { return []string{"MEMCACHED_PORT_FILENAME=" + filepath.Join(dir, portFile)} }
	r.where = func(_ context.Context, dir string) (string, error) {
		text, err := os.ReadFile(filepath.Join(dir, portFile))
		if err != nil {
			return "", err
		}
		_, port, ok := strings.Cut(strings.TrimSpace(string(text)), ": ") // TCP INET: 11211
		if !ok {
			return "", fmt.Errorf("its port is in %q", text)
		}
		return net.JoinHostPort(host, port), nil
	}
	return Start(ctx, r)
}

// Files in a memcached's directory.
const (
	portFile   = "port"
	socketFile = "socket"
)

// args is the command line. Port 0 leaves the choice to memcached.
func (cfg MemcachedConfig) args(host string, port int, dir string) ([]string, error) {
	var args []string
	if host == Unix {
		args = []string{"-s", filepath.Join(dir, socketFile)}
	} else {
		// What an earlier run wrote would be taken for this one's.
		if err := os.Remove(filepath.Join(dir, portFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		args = []string{"-l", host, "-p", strconv.Itoa(cmp.Or(port, -1)), "-U", "0"}
	}
	args = append(args, "-t", strconv.Itoa(cmp.Or(cfg.Threads, 1)), "-m", strconv.Itoa(cmp.Or(cfg.MemoryMB, 1024)),
		"-c", strconv.Itoa(cmp.Or(cfg.Conns, 16384)), "-b", "4096")
	if os.Geteuid() == 0 {
		// It will not run as root unasked. As another it would not die with us.
		args = append(args, "-u", "root")
	}
	return append(args, cfg.Args...), nil
}
