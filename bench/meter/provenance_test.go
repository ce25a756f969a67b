package meter

import (
	"strings"
	"testing"
	"time"
)

func TestCPUModel(t *testing.T) {
	const virtual = "processor\t: 0\nmodel name\t: Some CPU @ 2.50GHz\nflags\t\t: fpu sse hypervisor lahf_lm\n"
	for info, want := range map[string]bool{virtual: true, strings.Replace(virtual, " hypervisor", " hypervisor2", 1): false} {
		if model, got := cpuModel([]byte(info)); model != "Some CPU @ 2.50GHz" || got != want {
			t.Errorf("%q: %q, virtual %v", info, model, got)
		}
	}
}

func TestProvenance(t *testing.T) {
	p := Describe([]string{"magent", "bench"})
	if p.Commit == "" || p.Kernel == "" || p.Cores < 1 || p.Go == "" || time.Since(p.Date) > time.Minute || len(p.Command) != 2 {
		t.Errorf("%+v", p)
	}
	p.Date, p.Commit = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "abc"
	if got := p.Dir(); got != "20260102T030405-abc" {
		t.Errorf("its directory is %s", got)
	}
}
