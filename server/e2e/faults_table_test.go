package e2e

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/bench/load"
)

var roundsFlag = flag.Int("rounds", 0, "how often each fault is measured at full load; 0 has them once at little load, and times are not looked at")

// A pace is how fast and for how long a fault is tried.
type pace struct {
	rate                               int // requests per second and client
	leadIn, frozen, flapping, slow, on time.Duration
}

var (
	fullPace  = pace{1000, time.Second, 2 * time.Second, 10 * time.Second, 4 * time.Second, 2 * time.Second}
	lightPace = pace{200, 200 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond, time.Second, 300 * time.Millisecond}
)

const (
	// The proxy has its default of --timeout.
	defaultTimeout = 250 * time.Millisecond
	flapEvery      = 300 * time.Millisecond
	bothStill      = 400 * time.Millisecond // more than the timeout, and less than that of the last
)

// A row is a fault and what must hold under it.
type row struct {
	fault string
	node  func(*testing.T) *target
	flags []string
	apart bool // writes have clients of their own
	// strike does what there is to be done from moment 0 on, the end of the lead-in;
	// lasts is how long that takes.
	strike func(x *exposure)
	lasts  func(p *pace) time.Duration // nil: no time
	bounds []bound
	outage bool // errors that say so are right, and misses
	kills  bool // a node that is killed leaves its port
}

// A bound is a time that is measured and what it may be at most. own says that the
// generator's stalls are to be taken off.
type bound struct {
	name string
	most time.Duration
	of   func(x *exposure, own bool) time.Duration
}

// An exposure is a load that is exposed to a fault.
type exposure struct {
	*cluster
	*observed // once all is answered
	pace
	began          time.Time // the zero of times, a moment before the load begins
	lead, follower *target
	back           time.Duration // when the first node was back
}

// at waits for a moment after the lead-in.
func (x *exposure) at(d time.Duration) { <-time.After(time.Until(x.began.Add(x.leadIn + d))) }

// all is the slowest of all requests since the lead-in.
func all(x *exposure, own bool) time.Duration { return slowest(x.took(x.leadIn, own, every)) }

// later is the slowest of those due after the timeout had passed.
func later(x *exposure, own bool) time.Duration {
	return slowest(x.took(x.leadIn+defaultTimeout+20*time.Millisecond, own, every))
}

var frozenBounds = []bound{
	{"slowest", defaultTimeout + 20*time.Millisecond, all},
	{"slowest once the timeout has passed", 20 * time.Millisecond, later},
}

func frozenFor(p *pace) time.Duration { return p.frozen }
func slowFor(p *pace) time.Duration   { return p.slow }

func freeze(n *target, x *exposure) {
	x.at(0)
	n.freeze()
	x.at(x.frozen)
	n.thaw()
}

var rows = []row{
	{
		fault: "none", node: memcachedTarget,
		strike: func(*exposure) {},
		bounds: []bound{{"slowest", 10 * time.Millisecond, all}},
	},
	{
		fault: "lead: kill -9", node: memcachedTarget, kills: true,
		strike: func(x *exposure) { x.at(0); x.lead.kill() },
		bounds: []bound{{"slowest", 10 * time.Millisecond, all}},
	},
	{
		fault: "lead: SIGSTOP", node: memcachedTarget,
		strike: func(x *exposure) { freeze(x.lead, x) }, lasts: frozenFor,
		bounds: frozenBounds,
	},
	{
		fault: "lead: SIGSTOP, --hedge 5ms", node: memcachedTarget, flags: []string{"--hedge", "5ms"}, apart: true,
		strike: func(x *exposure) { freeze(x.lead, x) }, lasts: frozenFor,
		bounds: []bound{{"slowest read", 25 * time.Millisecond, func(x *exposure, own bool) time.Duration {
			return slowest(x.took(x.leadIn, own, reads))
		}}},
	},
	{
		fault: "lead: replies 50 ms slow, --hedge auto", node: linkedTarget, flags: []string{"--hedge", "auto"}, apart: true, lasts: slowFor,
		strike: func(x *exposure) {
			x.at(0)
			x.lead.slow(50 * time.Millisecond)
			x.at(x.slow)
			x.lead.slow(0)
		},
		bounds: []bound{{"p99 of reads after 1 s", 10 * time.Millisecond, func(x *exposure, own bool) time.Duration {
			return p99(x.took(x.leadIn+time.Second, own, reads))
		}}},
	},
	{
		fault: "lead: 1 in 1000 requests reset", node: memnodeTarget, lasts: slowFor,
		strike: func(x *exposure) {
			x.at(0)
			x.lead.script(fmt.Sprintf("(seed %d) (always (1/1000 reset))", *seedFlag))
			x.at(x.slow)
			x.lead.script("")
		},
		bounds: []bound{{"slowest", 20 * time.Millisecond, all}},
	},
	{
		fault: "lead: flapping every 300 ms", node: memcachedTarget, lasts: func(p *pace) time.Duration { return p.flapping },
		strike: func(x *exposure) {
			for d := time.Duration(0); d < x.flapping; d += 2 * flapEvery {
				x.at(d)
				x.lead.freeze()
				x.at(d + flapEvery)
				x.lead.thaw()
			}
		},
		bounds: []bound{{"slowest", defaultTimeout + 20*time.Millisecond, all}},
	},
	{
		fault: "both: SIGSTOP for 400 ms", node: memcachedTarget, lasts: func(*pace) time.Duration { return bothStill },
		strike: func(x *exposure) {
			x.at(0)
			x.lead.freeze()
			x.follower.freeze()
			x.at(bothStill)
			x.lead.thaw()
			x.follower.thaw()
		},
		bounds: []bound{{"slowest", bothStill + 20*time.Millisecond, all}},
	},
	{
		fault: "both: kill -9, and restarted", node: memcachedTarget, outage: true, kills: true, lasts: func(p *pace) time.Duration { return 2 * p.frozen },
		strike: func(x *exposure) {
			x.at(0)
			x.lead.kill()
			x.follower.kill()
			x.at(x.frozen)
			x.lead.restart()
			x.back = time.Since(x.began)
			x.at(x.frozen + x.frozen/2)
			x.follower.restart()
		},
		bounds: []bound{
			{"slowest error", 5 * time.Millisecond, func(x *exposure, own bool) time.Duration {
				return slowest(x.took(0, own, refusals))
			}},
			{"last error after the return", time.Second, func(x *exposure, _ bool) (after time.Duration) {
				for i := range x.Samples {
					if s := &x.Samples[i]; refusals(s) {
						after = max(after, s.Due+s.Took-x.back)
					}
				}
				return after
			}},
		},
	},
	{
		fault: "follower: kill -9", node: memcachedTarget, kills: true,
		strike: func(x *exposure) { x.at(0); x.follower.kill() },
		bounds: []bound{{"slowest", 10 * time.Millisecond, all}},
	},
	{
		fault: "follower: SIGSTOP", node: memcachedTarget,
		strike: func(x *exposure) { freeze(x.follower, x) }, lasts: frozenFor,
		bounds: frozenBounds,
	},
}

// TestNobodyNotices has clients ask at a fixed rate while a node fails, and counts
// errors, misses, old and wrong values: there must be none. With -rounds it measures
// how long requests took, and prints a table.
func TestNobodyNotices(t *testing.T) {
	if *roundsFlag == 0 {
		for i := range rows {
			rows[i].expose(t, lightPace, nil)
		}
		return
	}
	results := make([]result, len(rows))
	for range *roundsFlag {
		for i := range rows {
			rows[i].expose(t, fullPace, &results[i])
		}
	}
	fmt.Fprint(os.Stdout, table(results))
	for i := range results {
		for j, b := range rows[i].bounds {
			if len(results[i].times) == 0 {
				break // which has failed already
			}
			// One round in which the machine had other things to do proves nothing.
			if median, _ := results[i].spread(j); median > b.most {
				t.Errorf("%s: %s is %s, and may be %s", rows[i].fault, b.name, millis(median), millis(b.most))
			}
		}
	}
}

// expose runs the row once. What it measures goes to r, if there is one.
func (w *row) expose(t *testing.T, p pace, r *result) {
	t.Run(w.fault, func(t *testing.T) {
		if r == nil && !w.kills {
			t.Parallel()
		}
		x := &exposure{pace: p, cluster: newCluster(t, w.node, []int{1, 1}, w.flags...)}
		x.lead, x.follower = x.nodes[0], x.nodes[1]
		length := p.leadIn + p.on
		if w.lasts != nil {
			length += w.lasts(&p)
		}
		var err error
		x.observed, err = observe(t.Context(), newLoad(x.addr, p.rate, w.apart, length), func(began time.Time) {
			x.began = began
			w.strike(x)
		})
		if err != nil {
			t.Fatal(err)
		}
		m := measure(w, x)
		if r != nil {
			r.add(m)
		}
		t.Logf("%d requests: %s; slower than 10 ms after the fault:%s", len(x.Samples), m.line(w), x.spells(10*time.Millisecond, p.leadIn))
		if m.faults(w) > 0 {
			t.Errorf("%s:\n%s", m.line(w), x.strange())
		}
	})
}

// A result is what came of a row's rounds.
type result struct {
	counts verdicts
	times  [][]time.Duration // by bound, each by round: without the generator's stalls
	due    []time.Duration   // by bound: the worst with them, from when requests were due
	stall  time.Duration     // the generator's longest
}

// verdicts is how many requests did not end well. cut are those that had no answer, or
// one that is none.
type verdicts struct{ misses, stale, wrong, serverErrors, cut int }

func (c *verdicts) add(d verdicts) {
	c.misses += d.misses
	c.stale += d.stale
	c.wrong += d.wrong
	c.serverErrors += d.serverErrors
	c.cut += d.cut
}

// measure is the result of one round.
func measure(w *row, x *exposure) *result {
	r := &result{stall: x.longestStall(), counts: verdicts{
		misses: x.count(load.Miss), stale: x.count(load.Stale), wrong: x.count(load.Wrong), serverErrors: int(x.ServerErrors),
		cut: x.count(load.Failed) + x.count(load.Lost) - int(x.ServerErrors) + int(x.Unsent),
	}}
	for _, b := range w.bounds {
		r.times, r.due = append(r.times, []time.Duration{b.of(x, true)}), append(r.due, b.of(x, false))
	}
	return r
}

// add adds a round.
func (r *result) add(m *result) {
	if r.times == nil {
		*r = *m
		return
	}
	r.counts.add(m.counts)
	for i := range m.times {
		r.times[i] = append(r.times[i], m.times[i]...)
		r.due[i] = max(r.due[i], m.due[i])
	}
	r.stall = max(r.stall, m.stall)
}

// faults is how many requests were not answered as they must be.
func (r *result) faults(w *row) int {
	n := r.counts.stale + r.counts.wrong + r.counts.cut
	if !w.outage {
		n += r.counts.misses + r.counts.serverErrors
	}
	return n
}

// line is the counts and times.
func (r *result) line(w *row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d miss, %d stale, %d wrong, %d SERVER_ERROR, %d cut off, ",
		r.counts.misses, r.counts.stale, r.counts.wrong, r.counts.serverErrors, r.counts.cut)
	for i, bound := range w.bounds {
		_, worst := r.spread(i)
		fmt.Fprintf(&b, "%s %s of %s, ", bound.name, millis(worst), millis(bound.most))
	}
	fmt.Fprintf(&b, "generator stalled for %s", millis(r.stall))
	return b.String()
}

// spread is the median over the rounds of a bound's time, and the worst.
func (r *result) spread(bound int) (median, worst time.Duration) {
	sorted := slices.Sorted(slices.Values(r.times[bound]))
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// table is what was measured, in Markdown.
func table(results []result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d clients × %d op/s, 10 %% writes, %d rounds: the median of them, and the worst, without and with the generator's own stalls\n\n", loadClients, fullPace.rate, *roundsFlag)
	b.WriteString("| fault | errors | misses | stale | wrong | measured | bound | median | worst | with stalls | longest stall |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range rows {
		w, r := &rows[i], &results[i]
		if len(r.times) == 0 {
			fmt.Fprintf(&b, "| %s | not measured |\n", w.fault)
			continue
		}
		for j, bound := range w.bounds {
			median, worst := r.spread(j)
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s | ≤ %s | %s | %s | %s | %s |\n", w.fault, r.counts.serverErrors+r.counts.cut, r.counts.misses,
				r.counts.stale, r.counts.wrong, bound.name, millis(bound.most), millis(median), millis(worst), millis(r.due[j]), millis(r.stall))
		}
	}
	return b.String()
}
