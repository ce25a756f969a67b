package process

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that ends at once is reported with its last words, and one that is
// started on a CPU stays there with all its threads.
func TestProcesses(t *testing.T) {
	_, err := Start(t.Context(), Recipe{Name: "dud", Path: "sh",
		Args: func(int, string) ([]string, error) { return []string{"-c", "echo no such luck; exit 3"}, nil }})
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("a program that ends at once: %v", err)
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !before.IsSet(cpu) {
		cpu++
	}
	p, err := Memcached(t.Context(), MemcachedConfig{CPUs: []int{cpu}})
	if err != nil {
		t.Fatal(err)
	}
	want := cpuSet([]int{cpu})
	tids, err := threads(p.PID)
	if err != nil || len(tids) < 2 {
		t.Errorf("threads of the child: %v, %v", tids, err)
	}
	for _, tid := range tids {
		var got unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &got); err != nil || got != want {
			t.Errorf("thread %d of the child: %v, %v", tid, got, err)
		}
	}
	if err := Pin(p.PID, []int{cpu}); err != nil {
		t.Error(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
		t.Errorf("its directory is still there: %v", err)
	}
	if err := (&Process{PID: os.Getpid()}).Stop(); err != nil {
		t.Errorf("a process of somebody else: %v", err)
	}
}
