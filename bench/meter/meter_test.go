package meter

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 1234 567 8 9 20 0 4 0 100 1000 10 18446744073709551615\n"
	var got procSample
	if err := got.parseStat([]byte(line)); err != nil || got != (procSample{userTicks: 1234, systemTicks: 567, started: 100}) {
		t.Errorf("got %+v, %v; want 1234, 567, since 100", got, err)
	}
	if err := got.parseStat([]byte(strings.Replace(line, ") S ", ") Z ", 1))); err != nil || !got.ended {
		t.Errorf("a zombie: got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2 3", strings.Replace(line, "1234", "x", 1)} {
		if err := got.parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// A process that ends meanwhile is told of as one, whether its parent has taken notice
// or not, and whoever has its number then. The others are charged as ever.
func TestProcessesMayEnd(t *testing.T) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	procs := map[string]int{"self": os.Getpid(), "child": child.Process.Pid}
	a, err := Take(procs)
	if err != nil {
		t.Fatal(err)
	}
	ended := func() bool {
		t.Helper()
		b, err := a.Again()
		if err != nil {
			t.Fatal(err)
		}
		acc := b.Since(a, 1)
		if self := acc.Procs["self"]; self.Ended || self.CPU <= 0 || acc.Wall <= 0 || len(acc.Host.CPU) == 0 {
			t.Fatalf("this process: %+v in %v", self, acc.Wall)
		}
		u := acc.Procs["child"]
		if u.PID != child.Process.Pid || u.CPU < 0 || u.Voluntary < 0 {
			t.Fatalf("the child: %+v", u)
		}
		return u.Ended
	}
	if ended() {
		t.Error("the child is said to have ended")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !ended(); {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the child was killed and is not said to have ended")
		}
	}
	if _, err := Take(procs); err == nil || !strings.Contains(err.Error(), "child") {
		t.Errorf("a zombie to begin with: %v", err)
	}
	if err := child.Wait(); err == nil || !ended() {
		t.Errorf("collected with %v, ended: %v", err, ended())
	}
	self := a.procs["self"]
	self.started--
	a.procs["child"], a.pids["child"] = self, os.Getpid()
	if b, err := a.Again(); err != nil || !b.procs["child"].ended {
		t.Errorf("another process of its number: %+v, %v", b.procs["child"], err)
	}
}

func TestParseHost(t *testing.T) {
	before, err := parseHost([]byte("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 100 0 100 800 0 0 0 0 0 0\nintr 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseHost([]byte("cpu  130 0 120 815 10 0 0 25 0 0\ncpu0 200 0 100 800 0 0 0 0 0 0\nintr 9\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := share(before[0], after[0]), (CPUShare{Busy: 0.5, Idle: 0.25, Steal: 0.25}); got != want {
		t.Errorf("all CPUs: got %+v, want %+v", got, want)
	}
	if got, want := share(before[1], after[1]), (CPUShare{Busy: 1}); got != want {
		t.Errorf("cpu0: got %+v, want %+v", got, want)
	}
	if _, err := parseHost([]byte("intr 9\n")); err == nil {
		t.Error("no cpu line, and no error")
	}
}

func TestNoise(t *testing.T) {
	// Of two CPUs, 1.5 are busy and a quarter is stolen; 1.25 are ours.
	if got := noise(CPUShare{Busy: 0.75, Steal: 0.125}, 2, map[int]float64{1: 1, 2: 0.25}); got != 0.25 {
		t.Errorf("got %v, want 0.25", got)
	}
	if got := noise(CPUShare{Busy: 0.5}, 2, map[int]float64{1: 1.01}); got != 0 {
		t.Errorf("rounding of ticks gave %v, want 0", got)
	}
}

func TestUsage(t *testing.T) {
	a := procSample{cpu: time.Second, userTicks: 10, systemTicks: 20, voluntary: 5, involuntary: 1}
	b := procSample{cpu: 3 * time.Second, userTicks: 60, systemTicks: 170, voluntary: 25, involuntary: 4}
	got := usage(7, a, b, 1_000_000, 4*time.Second)
	if want := (Usage{PID: 7, CPU: 2, User: 0.5, System: 1.5, Cores: 0.5, Voluntary: 20, Involuntary: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := usage(7, a, b, 0, 4*time.Second); got.CPU != 0 || got.Cores != 0.5 {
		t.Errorf("without requests: %+v", got)
	}
}

// One field's name is the end of another's.
func TestStatusNumber(t *testing.T) {
	status := []byte("Name:\tx\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\n")
	for field, want := range map[string]int64{"voluntary_ctxt_switches:": 5, "nonvoluntary_ctxt_switches:": 7, "none:": 0} {
		if got := statusNumber(status, field); got != want {
			t.Errorf("%s %d, want %d", field, got, want)
		}
	}
}

// Of two CPUs one is kept busy, and half of the other: one by a process with two names,
// a quarter by this process, and a quarter by a stranger, which is the noise.
func TestSince(t *testing.T) {
	at := time.Now()
	self := os.Getpid()
	a := Sample{
		at: at, pids: map[string]int{"x": self + 1, "same": self + 1}, procs: map[string]procSample{},
		host: []cpuTicks{{}, {}, {}},
	}
	b := Sample{
		at: at.Add(4 * time.Second), pids: a.pids,
		procs: map[string]procSample{"x": {cpu: 4 * time.Second}, "same": {cpu: 4 * time.Second}},
		self:  procSample{cpu: time.Second},
		host:  []cpuTicks{{idle: 200, total: 800}, {total: 400}, {idle: 200, total: 400}},
	}
	got := b.Since(a, 1000)
	if got.Wall != 4*time.Second || got.Self.Cores != 0.25 || got.Self.CPU != 1000 || got.Self.PID != self {
		t.Errorf("in %v this process spent %+v", got.Wall, got.Self)
	}
	for _, name := range []string{"x", "same"} {
		if u := got.Procs[name]; len(got.Procs) != 2 || u.Cores != 1 || u.CPU != 4000 || u.PID != self+1 {
			t.Errorf("%s of %d spent %+v", name, len(got.Procs), u)
		}
	}
	want := []CPUShare{{Busy: 1}, {Busy: 0.5, Idle: 0.5}}
	if h := got.Host; h.All != (CPUShare{Busy: 0.75, Idle: 0.25}) || !slices.Equal(h.CPU, want) || h.Noise != 0.125 {
		t.Errorf("the host: %+v, want noise of 0.125 and CPUs %+v", h, want)
	}
}

// The kernel's account of this process grows by the CPU it burns, and no
// faster than the wall clock allows.
func TestReadProcSeesOwnCPU(t *testing.T) {
	began := time.Now()
	a, err := readProc(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	b := a
	for b.cpu-a.cpu < 20*time.Millisecond {
		if b, err = readProc(os.Getpid()); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("busy for 10 s and charged %v", b.cpu-a.cpu)
		}
	}
	if b.voluntary < a.voluntary || b.involuntary < a.involuntary || b.userTicks+b.systemTicks < a.userTicks+a.systemTicks {
		t.Errorf("counters went backwards: %+v, then %+v", a, b)
	}
	if b.voluntary+b.involuntary == 0 {
		t.Error("no context switch in the life of this process")
	}
	if _, err := readProc(1 << 30); err == nil {
		t.Error("a process that cannot exist was read")
	}
}
