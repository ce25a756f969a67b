package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a Monitor whose nodes are functions. It runs in a bubble of synctest, where
// time passes when everybody waits, so that what is done and when is the same in
// every run.
type rig struct {
	*Monitor
	t     *testing.T
	table *Table

	mu    sync.Mutex
	diary []string // what was called and told, with the time in ms
	does  does
}

// does is what becomes of the calls to Watch.
type does struct {
	probe  Probe
	arrive func() (State, string, error)
	heal   func(ctx context.Context, seen Word) (State, string, error)
	notify func()
	needed func(i int) bool
}

// newRig is a Monitor of nodes that answer after 1 ms and come back Up.
func newRig(t *testing.T, nodes int, l Limits) *rig {
	r := &rig{t: t, table: NewTable(nodes)}
	r.does = does{probe: good, arrive: back(Up, "answers", nil), notify: func() {}, needed: func(int) bool { return false }}
	r.Monitor = NewMonitor(r.table, Watch{
		Probe:  func(ctx context.Context, i int) (time.Duration, error) { return r.write("probe %d", i).probe(ctx, i) },
		Arrive: func(_ context.Context, i int) (State, string, error) { return r.write("arrive %d", i).arrive() },
		Heal: func(ctx context.Context, i int, seen Word) (State, string, error) {
			return r.write("heal %d", i).heal(ctx, seen)
		},
		Needed: func(i int) bool { return r.does.needed(i) },
		Notify: func(c Change) { r.write("%d %v to %v: %s", c.Node, c.From, c.To, c.Cause).notify() },
	}, l)
	for _, n := range r.nodes {
		n.machine.jitter = unjittered
	}
	t.Cleanup(r.Close)
	return r
}

// write puts a line into the diary, and returns what is to be done.
func (r *rig) write(format string, a ...any) does {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.diary = append(r.diary, fmt.Sprintf("%d ", r.now().Milliseconds())+fmt.Sprintf(format, a...))
	return r.does
}

// set changes what is done from now on.
func (r *rig) set(change func(*does)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.does)
}

var errBad = errors.New("no answer")

func good(context.Context, int) (time.Duration, error) { return ms, nil }

func bad(context.Context, int) (time.Duration, error) { return 0, errBad }

// silent is a probe that is left unanswered.
func silent(ctx context.Context, _ int) (time.Duration, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func back(to State, cause string, err error) func() (State, string, error) {
	return func() (State, string, error) { return to, cause, err }
}

// takes is a probe of nodes that answer after these times; 0: not at all.
func takes(rtt ...time.Duration) Probe {
	return func(_ context.Context, i int) (time.Duration, error) {
		if rtt[i] == 0 {
			return 0, errBad
		}
		return rtt[i], nil
	}
}

// pass lets d pass and what is due at its end happen.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// trip takes node i down by fresh evidence.
func (r *rig) trip(i int, cause string) {
	r.t.Helper()
	if !r.Trip(i, r.table.Load(i), cause) {
		r.t.Errorf("node %d is not taken down", i)
	}
}

// wrote compares the diary since it was last asked for.
func (r *rig) wrote(want ...string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.diary, want) {
		r.t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(r.diary, "\n\t"), strings.Join(want, "\n\t"))
	}
	r.diary = nil
}

// downOnly are testLimits under which only Down nodes are probed.
func downOnly() Limits {
	l := testLimits
	l.Interval = 0
	return l
}

// A node that went down is probed at once, then ever more rarely, until it is back.
func TestNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, downOnly())
		r.Start()
		r.pass(time.Hour)
		r.wrote()
		r.set(func(d *does) { d.probe = bad })
		begun := r.now().Milliseconds()
		r.trip(1, "timeout")
		r.pass(200 * ms)
		if r.table.Writable(1) || !r.table.Up(0) {
			t.Error("it is not the node that was tripped that is down")
		}
		r.set(func(d *does) { d.probe = takes(0, 3*ms) })
		r.pass(time.Hour)
		var want []string
		for _, w := range []struct {
			at   int64
			what string
		}{
			{0, "1 up to down: timeout"}, {0, "probe 1"}, {20, "probe 1"}, {60, "probe 1"}, {140, "probe 1"},
			{240, "probe 1"}, {240, "arrive 1"}, {240, "1 down to up: answers"},
		} {
			want = append(want, fmt.Sprintf("%d %s", begun+w.at, w.what))
		}
		r.wrote(want...)
		rep := r.Report(1)
		if c := rep.Last; c.Node != 1 || c.From != Down || c.To != Up || c.Cause != "answers" || c.Epoch != 2 ||
			!c.At.Equal(r.started.Add(time.Hour+240*ms)) {
			t.Errorf("the latest change is %+v", c)
		}
		if rep.Probes != 5 || rep.ProbesBad != 4 || rep.RTT != 3*ms || rep.Err != "" || !maps.Equal(rep.Falls, map[string]uint64{"timeout": 1}) {
			t.Errorf("the report is %+v", rep)
		}
		if rep := r.Report(0); rep.Last.Cause != "start" || rep.Last.To != Up || rep.Last.Epoch != 0 || rep.Probes != 0 || len(rep.Falls) != 0 {
			t.Errorf("the other node's report is %+v", rep)
		}
	})
}

// Evidence counts in the term it was gathered in: once, and not after the node was
// away, but whatever else has become of it.
func TestEvidenceIsOfATerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, downOnly())
		r.Start()
		seen := r.table.Load(0)
		if !r.Demote(0, seen, "slow") || r.Demote(0, seen, "slow") || r.Demote(0, r.table.Load(0), "slow") {
			t.Error("one demotion of three must be taken")
		}
		if !r.Trip(0, seen, "reset") || r.Trip(0, seen, "reset") || r.Trip(0, r.table.Load(0), "reset") {
			t.Error("one trip of three must be taken")
		}
		r.wrote("0 0 up to slow: slow", "0 0 slow to down: reset", "0 probe 0", "0 arrive 0", "0 0 down to up: answers")
		if r.Trip(0, seen, "timeout") || r.Demote(0, seen, "slow") || r.Promote(0, seen, "warm") || r.Distrust(0, seen, Stale, "old") || !r.table.Up(0) {
			t.Error("late news counted")
		}
		r.trip(0, "timeout")
		if n := r.Report(0).Flaps; n != 2 {
			t.Errorf("%d falls are remembered", n)
		}
	})
}

// A fall ends the probe that is under way: what it says is not of this term, and the
// node is probed at once.
func TestFallEndsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, testLimits)
		r.set(func(d *does) { d.probe = silent })
		r.Start()
		r.pass(70 * ms)
		r.set(func(d *does) { d.probe = good })
		r.trip(0, "timeout")
		r.wrote("0 probe 0", "70 0 up to down: timeout", "70 probe 0", "70 arrive 0", "70 0 down to up: answers")
		if rep := r.Report(0); rep.Probes != 1 || rep.ProbesBad != 0 {
			t.Errorf("%d probes count, %d of them bad", rep.Probes, rep.ProbesBad)
		}
	})
}

// A node that nobody uses is found dead by probes.
func TestProbesTakeDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, testLimits)
		r.Start()
		r.pass(ms)
		if d := r.RTT(0); d != ms {
			t.Errorf("the RTT is %v", d)
		}
		r.set(func(d *does) { d.probe = bad })
		r.pass(1520 * ms)
		r.wrote("0 probe 0", "500 probe 0", "1000 probe 0", "1500 probe 0", "1500 0 up to down: probe: no answer",
			"1500 probe 0", "1520 probe 0")
		rep := r.Report(0)
		if rep.Err != "no answer" || rep.RTT != ms || !maps.Equal(rep.Falls, map[string]uint64{"probe": 1}) {
			t.Errorf("the report is %+v", rep)
		}
	})
}

// A node that cannot be brought back stays down, and is asked again like after a bad
// probe.
func TestArriveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, downOnly())
		r.set(func(d *does) { d.arrive = back(Up, "", errBad) })
		r.Start()
		r.trip(0, "reset")
		r.pass(30 * ms)
		if rep := r.Report(0); rep.Err != "no answer" || rep.Last.To != Down || rep.Probes != 2 || rep.ProbesBad != 0 {
			t.Errorf("the report is %+v", rep)
		}
		r.set(func(d *does) { d.arrive = back(Warming, "restarted", nil) })
		r.pass(30 * ms)
		r.wrote("0 0 up to down: reset", "0 probe 0", "0 arrive 0", "20 probe 0", "20 arrive 0",
			"60 probe 0", "60 arrive 0", "60 0 down to warming: restarted")
		seen := r.table.Load(0)
		if seen.State() != Warming || !r.Promote(0, seen, "warm") || r.Promote(0, seen, "warm") || !r.table.Up(0) {
			t.Error("it is not warming, or not promoted once")
		}
		r.wrote("60 0 warming to up: warm")
		if seen = r.table.Load(0); !r.Distrust(0, seen, Warming, "flushed") || r.Distrust(0, seen, Stale, "old") {
			t.Error("one distrust of two must be taken")
		}
		r.wrote("60 0 up to warming: flushed")
	})
}

// end is how a call to Heal ends.
type end struct {
	to    State
	cause string
	err   error
}

// healing is a rig whose node has come back stale. Heal waits for an end.
func healing(t *testing.T) (*rig, chan end) {
	r := newRig(t, 1, testLimits)
	ends := make(chan end)
	heal := func(ctx context.Context, seen Word) (State, string, error) {
		if seen != r.table.Load(0) || seen.State() != Stale {
			t.Errorf("the word is %x, and seen was %x", r.table.Load(0), seen)
		}
		select {
		case e := <-ends:
			return e.to, e.cause, e.err
		case <-ctx.Done():
			return Up, "paid, but too late", nil
		}
	}
	r.set(func(d *does) { d.heal, d.arrive = heal, back(Stale, "was cut off", nil) })
	r.trip(0, "reset")
	r.Start()
	r.wrote("0 0 up to down: reset", "0 probe 0", "0 arrive 0", "0 0 down to stale: was cut off", "0 heal 0")
	if r.table.Readable(0) || !r.table.Writable(0) {
		t.Error("a stale node is written and not read")
	}
	return r, ends
}

// A stale node is not probed while its debt is being paid, and is read when it is.
func TestHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ends := healing(t)
		r.pass(5 * time.Second)
		ends <- end{to: Up, cause: "paid"}
		r.pass(500 * ms)
		r.wrote("5000 0 stale to up: paid", "5500 probe 0")
	})
}

// A fall ends the payment, and what came of it does not matter.
func TestFallEndsHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := healing(t)
		r.set(func(d *does) { d.probe = bad })
		r.pass(10 * ms)
		r.trip(0, "timeout")
		r.wrote("10 0 stale to down: timeout", "10 probe 0")
	})
}

// A node whose debt cannot be paid is down.
func TestHealFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ends := healing(t)
		ends <- end{err: errBad}
		r.wrote("0 0 stale to down: no answer", "0 probe 0")
		rep := r.Report(0)
		if !maps.Equal(rep.Falls, map[string]uint64{"reset": 1, "heal": 1}) || rep.Flaps != 2 || !rep.HeldUntil.Equal(r.started.Add(200*ms)) {
			t.Errorf("the report is %+v", rep)
		}
		r.pass(200 * ms)
		r.wrote("100 probe 0", "200 probe 0", "200 arrive 0", "200 0 down to stale: was cut off", "200 heal 0")
		if rep := r.Report(0); !rep.HeldUntil.IsZero() {
			t.Errorf("held until %v", rep.HeldUntil)
		}
	})
}

// A node that is held comes back at once when the other one falls.
func TestNeededNodeIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := downOnly()
		l.Ceiling, l.MaxHold = time.Hour, 24*time.Hour
		l.Hold = l.MaxHold
		r := newRig(t, 2, l)
		r.does.needed = func(i int) bool { return !r.table.Readable(1 - i) }
		r.Start()
		r.trip(0, "reset")
		r.wrote("0 0 up to down: reset", "0 probe 0", "0 arrive 0", "0 0 down to up: answers")
		r.trip(0, "reset")
		r.pass(time.Minute)
		r.wrote("0 0 up to down: reset", "0 probe 0")
		r.set(func(d *does) { d.probe = takes(ms, 0) })
		r.trip(1, "timeout")
		r.pass(ms)
		if !r.table.Up(0) || r.table.Writable(1) {
			t.Error("the node that is left is not up")
		}
	})
}

// A slow node is up again when its probes are like those of the best of the others.
func TestSlowNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, testLimits)
		r.set(func(d *does) { d.probe = takes(50*ms, 20*ms, 10*ms, ms) })
		r.Start()
		r.pass(ms)
		r.set(func(d *does) { d.probe = takes(50*ms, 20*ms, 10*ms, 0) })
		r.trip(3, "reset") // the RTT of a node that is away is not to be matched
		seen := r.table.Load(0)
		if !r.Demote(0, seen, "50ms beside 10ms") {
			t.Error("an up node is not demoted")
		}
		if rep := r.Report(0); !rep.HeldUntil.Equal(r.started.Add(401*ms)) || rep.Flaps != 0 {
			t.Errorf("the report is %+v", rep)
		}
		r.pass(2 * time.Second)
		if s := r.table.Load(0).State(); s != Slow {
			t.Errorf("it is %v while its probes are slow", s)
		}
		r.set(func(d *does) { d.probe = takes(20*ms, 20*ms, 10*ms, 0) })
		r.pass(500 * ms)
		if rep := r.Report(0); rep.Last.From != Slow || rep.Last.To != Up || !r.table.Up(0) {
			t.Errorf("the report is %+v", rep)
		}
		if r.Demote(0, seen, "50ms beside 10ms") {
			t.Error("it is slow for what it was before")
		}
	})
}

// A slow node that has no peers is not its own.
func TestSlowNodeWithoutPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, testLimits)
		r.set(func(d *does) { d.probe = takes(50 * ms) })
		r.Start()
		r.pass(ms)
		r.Demote(0, r.table.Load(0), "slow")
		r.pass(2 * time.Second)
		if s := r.table.Load(0).State(); s != Slow {
			t.Errorf("it is %v while its probes are slow", s)
		}
		r.set(func(d *does) { d.probe = good })
		r.pass(500 * ms)
		if !r.table.Up(0) {
			t.Error("it is not up when its probes are fast")
		}
	})
}

// Whoever trips does not wait for who is notified, and nothing that happened
// meanwhile is left out, or told in another order.
func TestNotifyBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, downOnly())
		read := make(chan struct{})
		r.set(func(d *does) { d.notify = func() { <-read } })
		r.Start()
		r.Demote(0, r.table.Load(0), "a")
		synctest.Wait()
		r.trip(0, "b")
		r.pass(time.Minute)
		r.wrote("0 0 up to slow: a")
		close(read)
		r.wrote("60000 0 slow to down: b", "60000 probe 0", "60000 arrive 0", "60000 0 down to up: answers")
	})
}

// Evidence counts before Start, which tells of it.
func TestTripBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, downOnly())
		r.trip(0, "refused")
		r.pass(time.Second)
		r.wrote()
		r.Start()
		r.wrote("1000 0 up to down: refused", "1000 probe 0", "1000 arrive 0", "1000 0 down to up: answers")
	})
}

// Close ends what is under way, whatever it is, and tells of what has happened;
// afterwards evidence counts, and nobody hears of it.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := healing(t)
		r.Close()
		if r.table.Load(0).State() != Stale {
			t.Error("a debt that was not paid counts as paid")
		}
		r.trip(0, "reset")
		r.wrote()

		r = newRig(t, 2, testLimits)
		r.set(func(d *does) {
			d.probe = func(ctx context.Context, i int) (time.Duration, error) {
				if i == 0 {
					return silent(ctx, i)
				}
				return ms, nil
			}
		})
		r.Start()
		synctest.Wait()
		r.Close()
		for i := range 2 {
			if rep := r.Report(i); rep.ProbesBad != 0 || rep.Last.Cause != "start" {
				t.Errorf("the report of node %d is %+v", i, rep)
			}
		}
		r.Close()
	})
}

// Causes that differ in each case do not pile up.
func TestCausesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, downOnly())
		r.does.needed = func(int) bool { return true }
		r.Start()
		for i := range 2 * maxCauses {
			r.pass(testLimits.Ceiling)
			r.trip(0, fmt.Sprint("cause ", i))
		}
		falls := r.Report(0).Falls
		if len(falls) != maxCauses || falls["cause 0"] != 1 || falls["other"] != maxCauses+1 {
			t.Errorf("counted %v", falls)
		}
	})
}

// Many loops tell what they will while the prober does what it must: the changes
// that are told are all there were, in order, and no late news is among them.
func TestManyTell(t *testing.T) {
	const nodes, loops, rounds = 2, 4, 300
	table := NewTable(nodes)
	states := []State{Up, Warming, Stale}
	last := make([]Change, nodes)
	l := Limits{Interval: 200 * time.Microsecond, Fall: 2, Backoff: 50 * time.Microsecond, Ceiling: 100 * time.Microsecond}
	m := NewMonitor(table, Watch{
		Probe: func(ctx context.Context, _ int) (time.Duration, error) {
			return takes(ms, ms, ms, 0)(ctx, rand.IntN(4))
		},
		Arrive: func(context.Context, int) (State, string, error) { return states[rand.IntN(3)], "back", nil },
		Heal:   func(context.Context, int, Word) (State, string, error) { return states[rand.IntN(2)], "paid", nil },
		Needed: func(int) bool { return false },
		Notify: func(c Change) {
			if was := last[c.Node]; c.Epoch != was.Epoch+1 || c.From != was.To || c.From == c.To {
				t.Errorf("%+v is told after %+v", c, was)
			}
			last[c.Node] = c
		},
	}, l)
	m.Start()
	var wg sync.WaitGroup
	for range loops {
		wg.Go(func() {
			var old Word
			for n := 0; n < rounds; {
				i := rand.IntN(nodes)
				switch w := table.Load(i); rand.IntN(6) {
				case 0:
					if m.Trip(i, w, "trip") {
						n++
					}
				case 1:
					m.Demote(i, w, "demote")
				case 2:
					m.Promote(i, w, "promote")
				case 3:
					m.Distrust(i, w, Warming, "distrust")
				case 4:
					m.Report(i)
				default:
					if before := table.Load(0); before.Term() != old.Term() && m.Trip(0, old, "late") {
						t.Error("late news took a node down")
					}
					old = table.Load(0)
				}
			}
		})
	}
	wg.Wait()
	m.Close()
	for i, c := range last {
		if w := table.Load(i); c.Epoch != w.Epoch() || c.To != w.State() || m.Report(i).Last != c {
			t.Errorf("node %d is %v in epoch %d, and the last that was told is %+v", i, w.State(), w.Epoch(), c)
		}
	}
}
