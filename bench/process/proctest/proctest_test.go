package proctest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
)

// failing is a test that notes how it failed.
type failing struct {
	testing.TB
	said string
}

// failed is thrown by a failing.
type failed struct{}

func (f *failing) Fatal(args ...any) {
	f.said = fmt.Sprint(args...)
	panic(failed{})
}

func (f *failing) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// wantFatal demands that what is done with a test fails it, and says word.
func wantFatal(t *testing.T, word string, do func(testing.TB)) {
	t.Helper()
	f := &failing{TB: t}
	defer func() {
		t.Helper()
		if thrown := recover(); thrown != (failed{}) || !strings.Contains(f.said, word) {
			t.Errorf("it says %q and throws %v, want it to fail with %q", f.said, thrown, word)
		}
	}()
	do(f)
}

func TestFailures(t *testing.T) {
	wantFatal(t, "1.6.18", func(t testing.TB) { Memcached(t, process.MemcachedConfig{Path: "/no/such/program"}) })
	wantFatal(t, "/no/such/program", func(t testing.TB) { Launch(t, exec.Command("/no/such/program")) })
	wantFatal(t, "stopped", func(t testing.TB) {
		p := Memcached(t, process.MemcachedConfig{})
		p.Kill()
		p.Freeze()
	})
}

func TestWhatIsStartedEndsWithTheTest(t *testing.T) {
	var node *Process
	var ended <-chan struct{}
	t.Run("test", func(t *testing.T) {
		node = Memcached(t, process.MemcachedConfig{Listen: process.Unix})
		ended = Launch(t, exec.Command("sleep", "1000"))
	})
	<-node.Done()
	<-ended
	if _, err := os.Stat(node.Addr); !os.IsNotExist(err) {
		t.Errorf("its directory is still there: %v", err)
	}
}

func TestWithin(t *testing.T) {
	calls := 0
	if !Within(time.Hour, func() bool { calls++; return calls == 3 }) || calls != 3 {
		t.Errorf("asked %d times", calls)
	}
	if Within(0, func() bool { return false }) {
		t.Error("what never holds has held")
	}
	if !Within(0, func() bool { return true }) {
		t.Error("what holds was not looked at")
	}
	calls = 0
	Eventually(t, "it holds", func() bool { calls++; return calls == 2 })
	if calls != 2 {
		t.Errorf("asked %d times", calls)
	}
}
