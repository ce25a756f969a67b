package failover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/bench/keys"
	"magent/bench/load"
)

// little is a short drill of one memcached, without a proxy.
func little(scenario string) Config {
	return Config{
		Load:   load.Config{Rate: 2000, Conns: 4, Keys: keys.Config{Max: 99}},
		Before: 300 * ms, Down: 400 * ms, Back: 1500 * ms,
		Own: &Topology{Scenario: scenario},
	}
}

// A memcached that is killed costs errors while it is down, and misses when it is back,
// until its keys are written again; and what was asked says so.
func TestKill(t *testing.T) {
	var told []string
	c := little("kill")
	c.Told = func(m Mark) { told = append(told, m.Name) }
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	before, down := r.phase("before"), r.phase("down")
	if before.Requests < 200 || before.Good != before.Requests || before.Ratio() != 1 {
		t.Errorf("before: %+v", before)
	}
	if down.Errors() < 100 || down.Stale+down.Wrong > 0 || r.FirstError < 0 || r.FirstError > Millis(200*ms) {
		t.Errorf("down: %+v, first error %v", down, r.FirstError)
	}
	if r.Back < r.Fault+Millis(300*ms) || r.GapWhole < Millis(300*ms) || r.FirstGood < Millis(300*ms) {
		t.Errorf("fault at %v, back at %v, gap %v, first good answer after %v", r.Fault, r.Back, r.Gap, r.FirstGood)
	}
	if r.Total.Misses < 100 || r.Total.Stale+r.Total.Wrong > 0 || r.LastErrorBack > Millis(500*ms) {
		t.Errorf("total: %+v; last error %v after the return", r.Total, r.LastErrorBack)
	}
	// With 200 writes a second it takes half a second to write the 100 keys again.
	if warm := r.phase("warm"); r.WarmAfter < 0 || r.WarmAfter > Millis(1200*ms) || warm.Ratio() < 0.98 {
		t.Errorf("warm after %v, and then %+v", r.WarmAfter, warm)
	}
	if err := r.Check(Bounds{MaxErrors: 0, MaxMiss: Unbounded, MaxGap: 100 * ms}); err == nil || !strings.Contains(err.Error(), "errors") || !strings.Contains(err.Error(), "no good answer") {
		t.Errorf("bounds: %v", err)
	}
	if len(told) != 2 || !strings.HasPrefix(told[0], "kill -9 of the lead") || !strings.HasPrefix(told[1], "restart of the lead") {
		t.Errorf("told of %q", told)
	}
}

// A memcached that is frozen costs no error: what is asked meanwhile waits for it.
func TestFrozen(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), little("stop"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Total.Good != r.Total.Requests || r.WarmAfter != 0 || r.FirstError != Never {
		t.Errorf("total: %+v; warm after %v", r.Total, r.WarmAfter)
	}
	frozen, down := r.Back-r.Fault, r.phase("down")
	if least := frozen - Millis(100*ms); down.Latency.Slowest < least || r.GapWhole < least || down.Net.P50 > frozen {
		t.Errorf("frozen for %v, the median took %v, the slowest %v, gap %v", frozen, down.Net.P50, down.Latency.Slowest, r.GapWhole)
	}
}

// Nothing fails, or a node that nobody asks: nothing is seen.
func TestUnseen(t *testing.T) {
	for _, scenario := range []string{"none", "follower-stop", "follower-kill"} {
		t.Run(scenario, func(t *testing.T) {
			if scenario != "follower-kill" { // whose port a node of another test might get
				t.Parallel()
			}
			r, err := Run(t.Context(), little(scenario))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Check(Bounds{MaxGap: Unbounded}); err != nil || (r.Fault < 0) != (scenario == "none") {
				t.Errorf("%v; fault at %v", err, r.Fault)
			}
		})
	}
}

// An operator's own node, his commands, and a drill that is interrupted: what is
// measured is told, and what is owed is done.
func TestInterrupted(t *testing.T) {
	own := node(t)
	file := filepath.Join(t.TempDir(), "back")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := Run(ctx, Config{
		Name:   "interrupted",
		Load:   load.Config{Targets: []string{own.Addr}, Rate: 2000, Conns: 4, Keys: keys.Config{Max: 99}},
		Before: 200 * ms, Down: time.Hour,
		Faults: append(Stop(200*ms, time.Hour, own), RestartBy(time.Hour, "echo back >> "+file)),
		Told: func(m Mark) {
			if m.Fails {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || r == nil {
		t.Fatalf("%v, %+v", err, r)
	}
	if stands(t, own.PID) {
		t.Error("the node is frozen")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "back\n" {
		t.Errorf("what was owed: %q, %v", text, err)
	}
	if p := r.phase("before"); p.Good == 0 || r.Length > Millis(10*time.Second) || len(r.Marks) != 3 {
		t.Errorf("before: %+v, %v, %+v", p, r.Length, r.Marks)
	}
}

// A command that fails ends the drill, which says so and no more than that.
func TestFailedCommand(t *testing.T) {
	c := little("none")
	c.Back = time.Hour
	c.Faults = []Step{Exec(500*ms, "echo not so; false")}
	r, err := Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "not so") || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if r == nil || r.Total.Good == 0 || len(r.Marks) != 1 {
		t.Errorf("%+v", r)
	}
}

// What cannot be done is said before anything is.
func TestValidate(t *testing.T) {
	for want, c := range map[string]Config{
		"no scenario":          {Own: &Topology{Scenario: "earthquake"}},
		"must not be negative": {Before: -1, Down: 2, Back: 2},
		"the drill lasts 10s":  {Faults: []Step{Exec(time.Minute, "true")}},
		"no target":            {},
	} {
		if r, err := Run(t.Context(), c); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// Steps are taken by a clock that begins before the load does.
func TestShift(t *testing.T) {
	m := Mark{From: Millis(3 * ms), To: Millis(9 * ms)}
	if m.shift(-5 * ms); m.From != 0 || m.To != Millis(4*ms) {
		t.Errorf("%+v", m)
	}
	m = Mark{From: Millis(8 * ms), To: Never}
	if m.shift(-5 * ms); m.From != Millis(3*ms) || m.To != Never {
		t.Errorf("%+v", m)
	}
}

// Whatever ends a drill, and be it while a node is frozen, what it started has ended.
func TestNothingIsLeft(t *testing.T) {
	for name, end := range map[string]func(c *Config, cancel func()){
		"its time":    func(*Config, func()) {},
		"a step":      func(c *Config, _ func()) { c.Faults = []Step{Exec(400*ms, "false")} },
		"its context": func(c *Config, cancel func()) { c.Told = func(Mark) { cancel() } },
	} {
		for _, scenario := range []string{"stop", "follower-stop"} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := little(scenario)
			c.Back = 0
			end(&c, cancel)
			r, err := Run(ctx, c)
			if (err == nil) != (name == "its time") || r == nil || len(r.Marks) < 2 {
				t.Fatalf("%s ends %s: %v, %+v", name, scenario, err, r)
			}
			_, text, _ := strings.Cut(r.Marks[0].Name, "(")
			if pid, err := strconv.Atoi(strings.TrimSuffix(text, ")")); err != nil || lives(pid) {
				t.Errorf("%s ends %s, and %q is left: %v", name, scenario, r.Marks[0].Name, err)
			}
		}
	}
}
