package process

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strconv"
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

// Memcached starts a memcached at an address of its own. Over TCP it chooses a port
// that is free, and nobody has connected to it when this returns, so that its
// statistics count the caller's connections alone.
func Memcached(ctx context.Context, cfg MemcachedConfig) (*Process, error) {
	path := cmp.Or(cfg.Path, "memcached")
	return Start(ctx, Recipe{
		Name: filepath.Base(path), Path: path, CPUs: cfg.CPUs, Args: cfg.args,
		host: cfg.Listen, chooses: true,
	})
}

func (cfg MemcachedConfig) args(port int, dir string) ([]string, error) {
	args := []string{"-l", cmp.Or(cfg.Listen, loopback), "-p", strconv.Itoa(cmp.Or(port, -1)), "-U", "0"}
	if cfg.Listen == Unix {
		args = []string{"-s", filepath.Join(dir, socketFile)}
	}
	args = append(args, "-t", strconv.Itoa(cmp.Or(cfg.Threads, 1)), "-m", strconv.Itoa(cmp.Or(cfg.MemoryMB, 1024)),
		"-c", strconv.Itoa(cmp.Or(cfg.Conns, 16384)), "-b", "4096")
	if os.Geteuid() == 0 {
		// It will not run as root unasked. As another it would not die with us.
		args = append(args, "-u", "root")
	}
	return append(args, cfg.Args...), nil
}
