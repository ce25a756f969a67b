package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"magent/server/config"
)

// spareFiles is for listeners, event loops, dials on the way, logs and profiles,
// about half of it; the other half is for connections that are being enrolled: each
// holds two descriptors until its event loop has registered the second.
const spareFiles = 256

// filesBesideClients is how many files a proxy of so many loops needs without any client.
func filesBesideClients(cfg *config.Config, loops int) int {
	return cfg.NodeFiles(loops) + spareFiles
}

// fitFileLimit raises RLIMIT_NOFILE to what cfg needs: where descriptors run out,
// accepting rests, so that clients hang in the backlog instead of being turned away
// with a reason, and a lost connection to a node cannot be made again. Where it
// cannot, MaxClients is lowered to what fits and the warning says why: an old script
// must not stop working for the limit of a machine. It is an error if not one client
// fits.
func fitFileLimit(cfg *config.Config) (warning string, err error) {
	beside := filesBesideClients(cfg, cfg.Loops)
	need := uint64(cfg.MaxClients + beside)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return "", fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	want := syscall.Rlimit{Cur: max(limit.Cur, need), Max: max(limit.Max, need)}
	refused := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want)
	if refused == nil {
		return "", nil
	}
	fits := int(limit.Max) - beside
	why := fmt.Sprintf("-n %d needs %d open files, the hard limit is %d and cannot be raised (%v): %s",
		cfg.MaxClients, need, limit.Max, refused, remedy(need))
	if fits < 1 {
		return "", errors.New(why)
	}
	cfg.MaxClients = fits
	limit.Cur = limit.Max
	return fmt.Sprintf("%s; at most %d clients are served", why, fits), syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// remedy says what would let this process have need files.
func remedy(need uint64) string {
	text, err := os.ReadFile("/proc/sys/fs/nr_open")
	var ceiling uint64
	if _, scanErr := fmt.Sscan(string(text), &ceiling); err == nil && scanErr == nil && need > ceiling {
		return fmt.Sprintf("raise fs.nr_open, now %d", ceiling)
	}
	return "raise it with ulimit -Hn or LimitNOFILE=, or start with CAP_SYS_RESOURCE"
}
