package address

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// binary is the program under test: what an operator installs, built once.
var binary string

// haste is the niceness of these tests and of all that they start. They measure
// fractions of a second beside other packages' tests, which have time.
const haste = -10

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run()) // names need no binary
	}
	dir, err := os.MkdirTemp("", "magent")
	if err == nil {
		binary = filepath.Join(dir, "magent")
		build := exec.Command("go", "build", "-o", binary, "../../../cmd/magent")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err == nil {
		err = hurry()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot prepare:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// hurry has every thread of this process go first. Others take after those.
func hurry() error {
	threads, err := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		tid, _ := strconv.Atoi(t.Name())
		if e := unix.Setpriority(unix.PRIO_PROCESS, tid, haste); e != nil && e != unix.ESRCH {
			return fmt.Errorf("these tests need root: %w", e)
		}
	}
	return err
}
