package health

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// events are what a script tells a machine. Times of requests are those of a node
// that is as fast as its peers (1 ms), or slow (50 ms).
var events = map[string]event{
	"+": {kind: probeGood, rtt: ms, peer: ms},
	"n": {kind: probeGood, rtt: ms, peer: ms, needed: true},
	"s": {kind: probeGood, rtt: 50 * ms, peer: ms},
	"-": {kind: probeBad},
	"l": {kind: probeBad, last: true},
	"t": {kind: tripped},
	"d": {kind: demoted},
	"p": {kind: promoted},
	"a": {kind: alarmed},
	"w": {kind: distrusted, to: Warming},
	"x": {kind: distrusted, to: Stale},
	"U": {kind: arrived, to: Up},
	"W": {kind: arrived, to: Warming},
	"X": {kind: arrived, to: Stale},
}

// testLimits are DefaultLimits in smaller numbers.
var testLimits = Limits{
	Interval: 500 * ms, Fall: 3, Rise: 1, Backoff: 20 * ms, Ceiling: 100 * ms,
	Hold: 200 * ms, MaxHold: 700 * ms, Forget: 1000 * ms,
	Slow: OutlierLimits{Above: 5 * ms, Ratio: 4, Patience: 50 * ms, Below: 3 * ms, BackRatio: 2, Dwell: 400 * ms},
}

func unjittered() float64 { return 0.5 }

// play tells m the events of a script and returns it with what m made of them.
// A word of the script is "time event:", the time in ms left out where it is the time
// to probe next; what is added is the state, ? if the node is to arrive, and @ the
// time to probe next, if there is one.
func play(t *testing.T, m *machine, script string) string {
	t.Helper()
	var out []string
	for _, word := range strings.Fields(script) {
		what, _, _ := strings.Cut(word, ":")
		now := m.probe
		if n := len(what) - 1; n > 0 {
			at, err := strconv.Atoi(what[:n])
			if err != nil {
				t.Fatalf("%q: %v", word, err)
			}
			now = time.Duration(at) * ms
		}
		ev, ok := events[what[len(what)-1:]]
		if !ok {
			t.Fatalf("%q is no event", word)
		}
		v := m.step(now, ev)
		s := what + ":" + v.state.String()
		if v.arrive {
			s += "?"
		} else if v.probe != never {
			s += fmt.Sprintf("@%d", v.probe.Milliseconds())
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// but is testLimits with a change.
func but(set func(*Limits)) Limits { l := testLimits; set(&l); return l }

var (
	rise2    = but(func(l *Limits) { l.Rise = 2 })
	unprobed = but(func(l *Limits) { l.Interval = 0 })
)

func TestStep(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		script string
	}{
		{"a node that is well is probed each Interval", testLimits,
			"+:up@500 +:up@1000 s:up@1500 n:up@2000"},
		{"Fall bad probes in a row take it down, and it is probed at once", testLimits,
			"-:up@500 -:up@1000 +:up@1500 -:up@2000 -:up@2500 -:down@2500"},
		{"one trip does", testLimits,
			"+:up@500 120t:down@120 130t:down@120"},
		{"waits double up to the ceiling, and begin anew with the next fall", testLimits,
			"0t:down@0 -:down@20 -:down@60 -:down@140 -:down@240 +:down? 240U:up@740 300t:down@300 -:down@320"},
		{"one good probe brings it back, if that is enough", testLimits,
			"0t:down@0 -:down@20 +:down? 25W:warming@525"},
		{"good probes must be in a row", rise2,
			"0t:down@0 +:down@20 -:down@40 +:down@60 +:down? 60U:up@560"},
		{"what cannot arrive is asked again", testLimits,
			"0t:down@0 +:down? 5-:down@25 +:down? 30-:down@70 +:down? 70U:up@570"},
		{"nothing but an answer makes it arrive", testLimits,
			"0t:down@0 0d:down@0 0p:down@0 0-:down@20 10a:down@10"},
		{"no node arrives that is there", testLimits,
			"0U:up@0 0W:up@0 0X:up@0 0p:up@0 0a:up@0"},
		{"a stale node arrives when it is healed", testLimits,
			"0t:down@0 +:down? 0X:stale@500 0p:stale@500 0d:stale@500 300W:warming@800 310d:warming@800 400p:up@900"},
		{"or falls", testLimits,
			"0t:down@0 +:down? 0X:stale@500 300t:down@300"},
		{"a node is distrusted, and not the other way round", testLimits,
			"0w:warming@500 10w:warming@500 20x:stale@520 30w:stale@520 40W:warming@540 50p:up@550 60d:slow@560 70w:warming@570" +
				" 80p:up@580 90x:stale@590 95U:up@595 100t:down@100 100w:down@100 100x:down@100"},
		{"a warm node falls like any", testLimits,
			"0t:down@0 +:down? 0W:warming@500 -:warming@1000 -:warming@1500 -:down@1500"},
		{"each fall within memory doubles the hold, up to the longest", testLimits,
			"0t:down@0 +:down? 0U:up@500 10t:down@10 +:down@110 +:down@210 +:down? 210U:up@710" +
				" 220t:down@220 620+:down? 620U:up@1120 630t:down@630 1300+:down@1330 +:down? 1330U:up@1830 1340t:down@1340 2030+:down@2040 +:down?"},
		{"one fall is forgotten for each Forget", testLimits,
			"0t:down@0 +:down? 0U:up@500 999t:down@999 1198+:down@1199 1199+:down? 1199U:up@1699" +
				" 3200t:down@3200 +:down? 3200U:up@3700 4200t:down@4200 +:down?"},
		{"being down forgets none", testLimits,
			"0t:down@0 9000+:down? 9000U:up@9500 9010t:down@9010 9209+:down@9210"},
		{"a bad probe while it is held", rise2,
			"0t:down@0 +:down@20 +:down? 20U:up@520 30t:down@30 +:down@50 +:down@150 -:down@170 +:down@190 +:down@230 +:down?"},
		{"a node that is needed is not held", testLimits,
			"0t:down@0 +:down? 0U:up@500 10t:down@10 +:down@110 50a:down@50 n:down? 50U:up@550"},
		{"but is asked the less often the more it falls when it is back", testLimits,
			"0t:down@0 +:down? 0U:up@500 10t:down@10 n:down? 10U:up@510 20t:down@40 n:down? 40U:up@540 50t:down@90 n:down? 90U:up@590" +
				" 95t:down@175 n:down? 175U:up@675 180t:down@280 900+:down? 900U:up@1400 910t:down@910"},
		{"but must rise", rise2,
			"0t:down@0 n:down@20 n:down?"},
		{"a slow node comes back when its probes are fast and it has been slow for Dwell", testLimits,
			"100d:slow@600 100d:slow@600 200+:slow@700 300s:slow@800 +:up@1300"},
		{"fast probes must be in a row", rise2,
			"0d:slow@500 +:slow@1000 s:slow@1500 +:slow@2000 -:slow@2500 +:slow@3000 +:up@3500"},
		{"slow answers are answers", testLimits,
			"0d:slow@500 -:slow@1000 -:slow@1500 s:slow@2000 -:slow@2500 -:slow@3000 -:down@3000"},
		{"a slow node that falls comes back as what it arrives as", testLimits,
			"0d:slow@500 200t:down@200 +:down? 200U:up@700"},
		{"Dwell doubles with each time, up to the longest hold, and is forgotten", testLimits,
			"0d:slow@500 400+:up@900 500d:slow@1000 1199+:slow@1699 1200+:up@1700 1310d:slow@1810 2009+:slow@2509 2010+:up@2510" +
				" 9000d:slow@9500 9399+:slow@9899 9400+:up@9900"},
		{"without an Interval only a node with no other way back is probed", unprobed,
			"0t:down@0 +:down? 0W:warming 50p:up 60d:slow@160 s:slow@260 +:slow@360 460+:up"},
	} {
		m := newMachine(Up, c.limits, unjittered)
		if got := play(t, &m, c.script); got != c.script {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.script)
		}
	}
}

// Probes of nodes that are not Down come a tenth of Interval sooner or later.
func TestJitter(t *testing.T) {
	for r, want := range map[float64]time.Duration{0: 450 * ms, 0.5: 500 * ms, 0.75: 525 * ms} {
		m := newMachine(Up, testLimits, func() float64 { return r })
		if v := m.step(0, events["+"]); v.probe != want {
			t.Errorf("%v: the next probe is at %v, want %v", r, v.probe, want)
		}
	}
}

// twin is a machine that keeps all it was told, and reads the rule off that.
type twin struct {
	limits Limits
	state  State
	since  []event // since the state began
	until  time.Duration
	now    time.Duration
	falls  naive
	slows  naive
}

// naive is a damper: for each failure that is remembered, how many ms it will be.
// Time spent well wears off the oldest.
type naive struct {
	left         []int
	forget       int
	first, limit time.Duration
	free         int
}

func (n *naive) well() {
	if len(n.left) > 0 {
		if n.left[0]--; n.left[0] == 0 {
			n.left = n.left[1:]
		}
	}
}

func (n *naive) fail() time.Duration {
	n.left = append(n.left, n.forget)
	hold := n.first
	for range len(n.left) - n.free - 1 {
		if hold *= 2; hold >= n.limit {
			hold = n.limit
		}
	}
	if most := 1 + n.free + 2; len(n.left) > most { // 2 doublings take first to limit
		n.left = n.left[1:]
		n.left[0] = n.forget
	}
	if len(n.left) <= n.free {
		return 0
	}
	return hold
}

// step waits for now and applies ev; it reports whether the node may arrive.
func (w *twin) step(now time.Duration, ev event) (arrive bool) {
	for ; w.now < now; w.now += ms {
		if w.state != Down {
			w.falls.well()
		}
		if w.state == Up {
			w.slows.well()
		}
	}
	w.since = append(w.since, ev)
	bad, good := 0, 0
	for _, e := range w.since {
		switch {
		case e.kind == probeBad:
			bad, good = bad+1, 0
		case e.kind == probeGood && w.state == Slow && e.rtt > ms:
			bad, good = 0, 0
		case e.kind == probeGood:
			bad, good = 0, good+1
		}
	}
	fall := w.limits.Fall
	if ev.last {
		fall *= LastPatience
	}
	held := now < w.until && !(ev.needed && w.state == Down)
	switch {
	case w.state == Down && ev.kind == probeGood:
		return good >= w.limits.Rise && !held
	case w.state != Down && (ev.kind == tripped || ev.kind == probeBad && bad >= fall):
		w.enter(Down, now+w.falls.fail())
	case w.state == Up && ev.kind == demoted:
		w.enter(Slow, now+w.slows.fail())
	case w.state == Slow && ev.kind == probeGood && good >= w.limits.Rise && !held,
		w.state == Warming && ev.kind == promoted:
		w.enter(Up, 0)
	case ev.kind == distrusted && w.state < ev.to:
		w.enter(ev.to, 0)
	case (w.state == Down || w.state == Stale) && ev.kind == arrived:
		w.enter(ev.to, 0)
	}
	return false
}

func (w *twin) enter(to State, until time.Duration) { w.state, w.until, w.since = to, until, nil }

// The machine agrees with its twin on whatever it is told, so it never arrives before
// its hold is over unless it is needed, and it never leaves a Down node unasked.
func TestMachineIsItsTwin(t *testing.T) {
	names := []string{"+", "+", "+", "n", "s", "-", "-", "l", "l", "t", "d", "p", "a", "w", "x"}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := Limits{Interval: 50 * ms, Fall: 1 + r.IntN(3), Rise: 1 + r.IntN(3), Backoff: 2 * ms, Ceiling: 10 * ms,
			Hold: 20 * ms, MaxHold: 70 * ms, Forget: 100 * ms, Slow: OutlierLimits{Below: 3 * ms, BackRatio: 2, Dwell: 20 * ms}}
		m := newMachine(Up, l, r.Float64)
		w := twin{limits: l, falls: naive{forget: 100, first: 20 * ms, limit: 70 * ms, free: 1},
			slows: naive{forget: 100, first: 20 * ms, limit: 70 * ms}}
		now, script, arrive := time.Duration(0), "", false
		for range 400 {
			name := names[r.IntN(len(names))]
			switch {
			case arrive || m.state == Stale && r.IntN(2) == 0:
				name = []string{"U", "U", "W", "X", "-"}[r.IntN(5)]
				if m.state == Stale && name == "X" {
					name = "W"
				}
			case r.IntN(3) > 0 && m.probe > now:
				now = m.probe.Round(ms)
			default:
				now += time.Duration(r.IntN(30)) * ms
			}
			ev := events[name]
			script += fmt.Sprintf(" %d%s:", now/ms, name)
			v, want := m.step(now, ev), w.step(now, ev)
			flaps := m.falls.count(now)
			if v.state != w.state || v.arrive != want || flaps != len(w.falls.left) {
				t.Fatalf("seed %d:%s %v, arrives %v, %d flaps; the twin says %v, %v, %d",
					seed, script, v.state, v.arrive, flaps, w.state, want, len(w.falls.left))
			}
			if v.state == Down && (v.probe > now+l.Ceiling || ev.kind == probeBad && v.probe < now) {
				t.Fatalf("seed %d:%s the next probe is due at %v", seed, script, v.probe)
			}
			arrive = v.arrive
		}
	}
}

// Of the last that has some keys, probes that are late count less, and others as much.
func TestLateProbesOfTheLast(t *testing.T) {
	for _, script := range []string{
		"l:up@500 l:up@1000 l:up@1500 l:up@2000 l:up@2500 l:up@3000 l:up@3500 l:up@4000 l:up@4500 l:up@5000 l:up@5500 l:down@5500",
		"l:up@500 l:up@1000 l:up@1500 -:down@1500",
	} {
		m := newMachine(Up, testLimits, unjittered)
		if got := play(t, &m, script); got != script {
			t.Errorf("%s, want %s", got, script)
		}
	}
}

// A node that has failed once more is not held for less, however long ago that was,
// and nobody for more than the longest hold.
func TestHoldGrowsWithFalls(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		less := newDamper(20*ms, 500*ms, 100*ms, 1)
		more := less
		less.mark(0, true)
		more.mark(0, true)
		extra := r.IntN(20)
		for i := range 20 {
			now := time.Duration(20*i+r.IntN(20)) * ms
			if i == extra {
				more.fail(now)
			}
			if r.IntN(3) == 0 {
				a, b := less.fail(now), more.fail(now)
				if a > b || b > 500*ms {
					t.Fatalf("seed %d, at %v: held for %v, with a fall more for %v", seed, now, a, b)
				}
			}
			well := r.IntN(4) > 0
			less.mark(now, well)
			more.mark(now, well)
		}
		if n := more.count(20 * 20 * ms); n > more.limit {
			t.Fatalf("seed %d: %d falls are remembered of at most %d", seed, n, more.limit)
		}
	}
}
