package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/codec"
	"magent/upstream/health"
)

const testTick = 5 * time.Millisecond

// paced is a rig with a clock, whose nodes answer when they are due to.
type paced struct {
	*rig
	t     *testing.T
	now   time.Duration
	reads int             // of the clock
	tick  time.Duration   // when the latest tick came
	due   []time.Duration // by node: when it answers what was asked; 0: nothing was
	ear   ear
}

func newPaced(t *testing.T, nodes int, limits Limits) *paced {
	p := &paced{t: t, now: time.Hour, due: make([]time.Duration, nodes)}
	limits.Timeout, limits.Dial, limits.Tick = 50, 20, testTick
	limits.Slow = health.OutlierLimits{Above: 5 * time.Millisecond, Ratio: 4, Patience: 50 * time.Millisecond}
	limits.Clock = func() time.Duration { p.reads++; return p.now }
	p.rig = newRigOf(nodes, limits)
	p.tick = p.now
	for i := range nodes {
		p.open(t, i)
	}
	return p
}

// idle and frozen are what a node may take, other than time.
const (
	idle   time.Duration = -1 // it is not asked
	frozen time.Duration = -2 // it does not answer
)

// run has the nodes asked for d, one request at a time, each taking as long as it says.
// The loop looks every lap, and has the tick then that has become due since the last.
func (p *paced) run(d, lap time.Duration, takes ...time.Duration) {
	for end := p.now + d; p.now < end; p.now += lap {
		for i, t := range takes {
			p.serve(i, t)
		}
		p.group.Flush()
		if p.now/testTick > p.tick/testTick {
			p.tick = p.now
			p.group.Tick()
		}
	}
	p.ear.heard = nil
}

func (p *paced) serve(node int, takes time.Duration) {
	c := p.group.Conn(node, 0)
	if p.due[node] != 0 && p.now >= p.due[node] && takes != frozen {
		p.due[node] = 0
		c.Feed([]byte("END\r\n"))
	}
	if p.due[node] == 0 && takes != idle && c.wire != nil {
		p.due[node] = p.now + max(takes, 1)
		get(c, &p.ear, 0, "k")
	}
}

const (
	lap  = 250 * time.Microsecond // how often a loop looks that has little to do
	fast = 250 * time.Microsecond
)

func (p *paced) states(when string, want ...health.State) {
	p.t.Helper()
	for i, s := range want {
		if got := p.group.pool.Health.Load(i).State(); got != s {
			p.t.Errorf("%s: node %d is %v, want %v: %s", when, i, got, s, p.group.pool.Monitor.Report(i).Last.Cause)
		}
	}
}

// A node that answers slowly is demoted, once that has lasted, for what it took.
func TestSlowNodeIsDemoted(t *testing.T) {
	p := newPaced(t, 2, Limits{})
	p.watch()
	p.run(time.Second, lap, fast, fast)
	p.states("all is well", health.Up, health.Up)
	p.run(40*time.Millisecond, lap, 52*time.Millisecond, fast)
	p.states("not slow for long", health.Up, health.Up)
	p.run(100*time.Millisecond, lap, 52*time.Millisecond, fast)
	p.states("slow", health.Slow, health.Up)
	cause := p.group.pool.Monitor.Report(0).Last.Cause
	if !strings.HasPrefix(cause, "slow: ") || !strings.HasSuffix(cause, ", peers 250µs") {
		t.Errorf("the cause is %q", cause)
	}
	p.run(time.Second, lap, 52*time.Millisecond, fast)
	p.states("slow for long", health.Slow, health.Up)
	if e := p.group.Word(0).Epoch(); e != 1 {
		t.Errorf("epoch %d", e)
	}
	mean, p99 := p.group.Latency(0)
	if mean < 50*time.Millisecond || mean > 54*time.Millisecond || p99 < mean || p99 > 60*time.Millisecond {
		t.Errorf("mean %v, p99 %v", mean, p99)
	}
}

// A node that is frozen is demoted long before its requests time out.
func TestFrozenNodeIsDemoted(t *testing.T) {
	p := newPaced(t, 3, Limits{})
	p.watch()
	p.run(time.Second, lap, fast, fast, fast)
	p.run(50*time.Millisecond, lap, fast, frozen, fast)
	p.states("for too short", health.Up, health.Up, health.Up)
	p.run(25*time.Millisecond, lap, fast, frozen, fast)
	p.states("frozen", health.Up, health.Slow, health.Up)
}

// A large value that comes slowly is no silence.
func TestBytesAreLife(t *testing.T) {
	p := newPaced(t, 2, Limits{})
	p.watch()
	c := p.group.Conn(0, 0)
	p.run(100*time.Millisecond, lap, fast, fast)
	get(c, &p.ear, 1, "k")
	p.group.Flush()
	c.Feed([]byte("END\r\nVALUE k 0 100\r\n"))
	for range 100 {
		p.due[0] = 0
		p.run(2*time.Millisecond, lap, idle, fast)
		c.Feed([]byte("x"))
	}
	p.states("a byte per 2ms", health.Up, health.Up)
}

// Who is slow together is not slow.
func TestSlowTogether(t *testing.T) {
	for name, takes := range map[string][]time.Duration{
		"slow": {50 * time.Millisecond, 50 * time.Millisecond}, "much the same": {50 * time.Millisecond, 15 * time.Millisecond},
		"frozen": {frozen, frozen}, "fast enough": {4 * time.Millisecond, fast},
	} {
		p := newPaced(t, 2, Limits{})
		p.watch()
		p.run(time.Second, lap, fast, fast)
		p.run(200*time.Millisecond, lap, takes...)
		p.states(name, health.Up, health.Up)
	}
}

// A node that has no peer to take its place stays.
func TestNobodyToCompareWith(t *testing.T) {
	for name, s := range map[string]health.State{"down": health.Down, "warming": health.Warming, "slow": health.Slow} {
		p := newPaced(t, 2, Limits{})
		p.run(100*time.Millisecond, lap, fast, fast)
		table := p.group.pool.Health
		table.Move(1, table.Load(1), s)
		p.watch()
		p.run(200*time.Millisecond, lap, 50*time.Millisecond, fast)
		p.states("the peer is "+name, health.Up, s)
	}
	p := newPaced(t, 2, Limits{})
	p.watch()
	p.run(200*time.Millisecond, lap, 50*time.Millisecond, idle)
	p.states("nothing is known of the peer", health.Up, health.Up)

	p = newPaced(t, 1, Limits{})
	p.watch()
	p.run(200*time.Millisecond, lap, 50*time.Millisecond)
	p.states("alone", health.Up)
}

// probed has a prober that finds every node fast.
func (p *paced) probed() {
	pool := p.group.pool
	pool.Monitor = health.NewMonitor(pool.Health, health.Watch{
		Probe:  func(context.Context, int) (time.Duration, error) { return 300 * time.Microsecond, nil },
		Notify: func(health.Change) {},
	}, health.Limits{Interval: time.Millisecond, Fall: 3, Rise: 1 << 30, Ceiling: time.Second, Slow: health.DefaultLimits.Slow})
	pool.Monitor.Start()
	p.t.Cleanup(pool.Monitor.Close)
	for i := range pool.Nodes {
		proctest.Eventually(p.t, "a node was probed", func() bool { return pool.Monitor.RTT(i) != 0 })
	}
}

// Of a node that is not asked here, the prober knows.
func TestProbesAreComparedWith(t *testing.T) {
	p := newPaced(t, 2, Limits{})
	p.probed()
	p.run(100*time.Millisecond, lap, fast, idle)
	p.states("fast", health.Up, health.Up)
	p.run(200*time.Millisecond, lap, frozen, frozen)
	p.states("all are frozen, which the prober has not found yet", health.Up, health.Up)
	p.run(100*time.Millisecond, lap, fast, idle)
	p.run(200*time.Millisecond, lap, 30*time.Millisecond, idle)
	p.states("slow beside a probe", health.Slow, health.Up)
	if cause := p.group.pool.Monitor.Report(0).Last.Cause; !strings.HasSuffix(cause, ", peers 300µs") {
		t.Errorf("the cause is %q", cause)
	}
}

// It is the fastest peer that counts.
func TestBestPeer(t *testing.T) {
	p := newPaced(t, 4, Limits{})
	p.watch()
	p.run(200*time.Millisecond, lap, 50*time.Millisecond, 40*time.Millisecond, fast, 45*time.Millisecond)
	p.states("three are slow", health.Slow, health.Slow, health.Up, health.Slow)
}

// That a slow node is idle in between does not clear it.
func TestSlowNowAndThen(t *testing.T) {
	p := newPaced(t, 2, Limits{})
	p.watch()
	for range 3 {
		p.run(20*time.Millisecond, lap, 20*time.Millisecond, fast)
		p.run(40*time.Millisecond, lap, idle, fast)
	}
	p.states("slow", health.Slow, health.Up)
}

// A loop that was held up does not blame a node for it, be it once or over and over,
// for as long as it may be, whatever it was about to hear.
func TestLateLoopBlamesNobody(t *testing.T) {
	for _, stall := range []time.Duration{4, 8, 14, 19, 26, 49, 60, 100, 200, 1000} {
		stall *= time.Millisecond
		for _, between := range []time.Duration{lap, time.Millisecond, 3 * time.Millisecond, 7 * time.Millisecond, 23 * time.Millisecond} {
			p := newPaced(t, 2, Limits{})
			p.watch()
			p.run(100*time.Millisecond, lap, fast, fast)
			for range 20 {
				p.run(between, lap, time.Millisecond, fast)
				p.now += stall
			}
			p.states(fmt.Sprintf("held up for %v every %v", stall, between), health.Up, health.Up)
		}
	}
}

// Nor does one that is always busy: with what it finds slow itself it compares what the
// prober found. But what is really slow it finds.
func TestBusyLoopBlamesNobody(t *testing.T) {
	for name, laps := range map[string]func(*rand.Rand) time.Duration{
		"4ms":             func(*rand.Rand) time.Duration { return 4 * time.Millisecond },
		"6ms":             func(*rand.Rand) time.Duration { return 6 * time.Millisecond },
		"8ms":             func(*rand.Rand) time.Duration { return 8 * time.Millisecond },
		"up to 10ms":      func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.Float64()*10e6) },
		"2ms on average":  func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.ExpFloat64()*2e6) },
		"5ms on average":  func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.ExpFloat64()*5e6) },
		"20ms on average": func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.ExpFloat64()*20e6) },
	} {
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(seed, 0))
			p := newPaced(t, 2, Limits{})
			p.probed()
			for end := p.now + 2*time.Second; p.now < end; {
				p.run(1, laps(rng), 300*time.Microsecond, idle)
			}
			p.states(fmt.Sprintf("seed %d: laps of %s", seed, name), health.Up, health.Up)
			if strings.HasPrefix(name, "20ms") {
				continue
			}
			for end := p.now + time.Second; p.now < end; {
				p.run(1, laps(rng), 60*time.Millisecond, idle)
			}
			p.states(fmt.Sprintf("seed %d: laps of %s, and slow", seed, name), health.Slow, health.Up)
		}
	}
}

// One slow answer among good ones is no slow node; nor is one when nothing else is asked.
func TestOneSlowAnswer(t *testing.T) {
	for name, load := range map[string]time.Duration{"busy": fast, "idle": idle} {
		p := newPaced(t, 2, Limits{})
		p.watch()
		p.run(100*time.Millisecond, lap, fast, fast)
		for range 5 {
			p.run(18*time.Millisecond, lap, 18*time.Millisecond, fast)
			p.run(300*time.Millisecond, lap, load, fast)
		}
		p.states(name, health.Up, health.Up)
	}
}

// Of the requests of a flush the last is timed, one per Conn at a time, and all are
// counted; the clock is read once for a flush of all Conns, and once for what is read.
func TestOneRequestIsTimed(t *testing.T) {
	p := newPaced(t, 2, Limits{Conns: 1})
	a, b := p.group.Conn(0, 0), p.group.Conn(1, 0)
	want := func(when string, reads, samples int) {
		t.Helper()
		got := p.group.paces[0].gauge.Count() + p.group.paces[1].gauge.Count()
		if p.reads != reads || got != samples {
			t.Errorf("%s the clock was read %d times and %d samples were taken, want %d and %d", when, p.reads, got, reads, samples)
		}
	}
	p.reads = 0 // for the greetings
	for range 3 {
		get(a, &p.ear, 1, "k")
		get(b, &p.ear, 1, "k")
	}
	want("before the flush", 0, 0)
	p.group.Flush()
	want("after it", 1, 0)
	get(a, &p.ear, 1, "k")
	p.group.Flush()
	want("after another", 2, 0)
	a.Feed([]byte("VALUE k 0 1\r\nx\r\nVALUE k 0 1\r\nx\r\n"))
	want("with two answers", 3, 0)
	p.now += 3 * time.Millisecond
	a.Feed([]byte("END\r\n"))
	want("with the third", 4, 1)
	a.Feed([]byte("END\r\n"))
	want("with all", 5, 1)
	b.Feed([]byte("END\r\n"))
	want("of the other, too", 6, 2)
	p.group.Flush()
	want("after a flush of nothing", 6, 2)
	p.group.Tick()
	if mean, p99 := p.group.Latency(0); mean != 3*time.Millisecond || p99 < mean || p99 > mean*9/8 {
		t.Errorf("mean %v, p99 %v", mean, p99)
	}

	for node, n := range []uint64{4, 3} { // of the first, two were answered at once; the greetings do not count
		took := &p.group.Traffic(node).Took
		if took.Count() != n || took.Sum != time.Duration(2+node)*3*time.Millisecond {
			t.Errorf("node %d: %d requests took %v", node, took.Count(), took.Sum)
		}
	}

	// A connection that ends takes the timing along.
	get(a, &p.ear, 1, "k")
	p.group.Flush()
	a.Lost(a.wire, true)
	get(a, &p.ear, 1, "k")
	get(a, &p.ear, 1, "k")
	p.accept(t)
	a.Feed([]byte(p.greeting()))
	p.group.Flush()
	p.now += time.Millisecond
	p.reads = 0
	a.Feed([]byte("VALUE k 0 1\r\nx\r\n"))
	want("on the next connection, with one answer", 1, 0) // the tick has halved the count
	a.Feed([]byte("END\r\n"))
	want("with both", 2, 1)
	if n := p.group.Traffic(0).Took.Count(); n != 6 {
		t.Errorf("%d requests were counted, want 6: one was never answered", n)
	}
}

// With HedgeAuto a read is late after what 99 of 100 take.
func TestLateByTheNodesOwnMeasure(t *testing.T) {
	for _, tc := range []struct {
		takes time.Duration
		ticks uint32
	}{{fast, 1}, {4 * time.Millisecond, 1}, {12 * time.Millisecond, 3}, {96 * time.Millisecond, 20}, {200 * time.Millisecond, 25}} {
		p := newPaced(t, 1, Limits{HedgeAuto: true, Hedge: 1})
		p.ear.late = func(*Conn, *Pending) { t.Errorf("%v: late with few samples", tc.takes) }
		p.run(95*tc.takes, lap, tc.takes)
		p.ear.late = nil
		for range 2 * delaySamples { // at once, as samples are forgotten with the seconds
			p.group.paces[0].gauge.Record(tc.takes)
		}
		p.run(delayEvery*testTick, lap, idle)
		p.due[0] = 0
		p.ear.heard = nil
		get(p.group.Conn(0, 0), &p.ear, 7, "k")
		p.ticks(int(tc.ticks))
		p.ear.want(t, fmt.Sprintf("%v: after %d ticks", tc.takes, tc.ticks))
		p.ticks(1)
		p.ear.want(t, fmt.Sprintf("%v: after one more", tc.takes), `7 "k" late`)
	}
}

// Without a clock nothing is measured, and no p99 makes a read late.
func TestNoClock(t *testing.T) {
	r := newRigOf(2, Limits{Timeout: 10, Dial: 10, HedgeAuto: true})
	c, _ := r.open(t, 0)
	var e ear
	for range 200 {
		send(c, &e, 1, codec.OpDelete, "delete a\r\n", keyOfDelete)
		r.group.Flush()
		c.Feed([]byte("DELETED\r\n"))
	}
	e.heard = nil
	get(c, &e, 1, "k")
	r.ticks(10)
	e.want(t, "without a clock")
	if mean, p99 := r.group.Latency(0); mean != 0 || p99 != 0 {
		t.Errorf("mean %v, p99 %v", mean, p99)
	}
}

// Ticks that all come late hardly make the timeout longer. One that comes very late counts
// for little: then it is the loop that was held up.
func TestTimeoutBesideLateTicks(t *testing.T) {
	const timeout = 50 * testTick
	for _, lap := range []time.Duration{testTick, testTick + testTick/2, 2 * testTick, 3*testTick + 1} {
		p := newPaced(t, 2, Limits{})
		began, failed := p.now, func() bool { return p.group.conns[0][0].wire == nil }
		for !failed() && p.now-began < 3*timeout {
			p.run(lap, lap, frozen, idle)
		}
		if took := p.now - began; took < timeout-lap || took > timeout+3*lap {
			t.Errorf("a tick each %v: the node failed after %v, not %v", lap, took, timeout)
		}
	}
	p := newPaced(t, 2, Limits{})
	p.run(timeout/2, testTick, frozen, idle)
	p.run(2*timeout, 2*timeout, frozen, idle)
	if p.run(testTick, testTick, frozen, idle); p.group.conns[0][0].wire == nil {
		t.Error("the node failed, but it was the loop that stood still")
	}
}

// What a node took when it was asked last is not what it takes of late.
func TestP99OfLate(t *testing.T) {
	p := newPaced(t, 1, Limits{})
	c := p.group.Conn(0, 0)
	get(c, &p.ear, 1, "k")
	p.group.Flush()
	p.now += 3 * time.Millisecond
	c.Feed([]byte("END\r\n"))
	p.group.Tick()
	_, p99 := p.group.Latency(0)
	if got := p.group.P99OfLate(0); got != p99 || got == 0 {
		t.Errorf("%v, want %v", got, p99)
	}
	p.now += 2 * recent
	if got := p.group.P99OfLate(0); got != 0 {
		t.Errorf("%v, after a pause", got)
	}
}
