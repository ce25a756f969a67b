package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"magent/bench/process"
)

// Scenario is a fault of two nodes: of the lead, which is the primary, and the follower.
type Scenario struct {
	Name, Text string
	// Flags are magent's for it.
	Flags []string
	// Outage: with no node left, errors that are answered are right, and so are misses
	// once one is back, empty.
	Outage bool
	// Measures are the times it is about.
	Measures []Measure

	// returns is the node that comes back empty; nil: none does, or not as the same.
	returns func(r *running) *process.Process

	apart  bool          // reads and writes have connections of their own
	linked bool          // the lead is reached by a link
	settle time.Duration // 0: as Config says
	steps  func(before, down time.Duration, r *running) []Step
}

// Measure is one time of a drill, and what the median of several must not exceed.
type Measure struct {
	Name string
	Most time.Duration // 0: unbounded
	Of   func(*Result) Millis

	ifAny bool // rounds without it are of another time: it is left out
}

// longestGap is of every scenario: it says for how long all clients were without.
var longestGap = Measure{Name: "longest time without a good answer", Of: func(r *Result) Millis { return r.Gap }}

func slowest(most time.Duration) Measure {
	return Measure{Name: "slowest", Most: most, Of: func(r *Result) Millis { return r.Slowest.Took }}
}

var (
	settled = Measure{Name: "slowest, once the timeout has passed", Most: 20 * time.Millisecond,
		Of: func(r *Result) Millis { return r.Settled.Slowest }}
	slowestRead = Measure{Name: "slowest read", Most: 25 * time.Millisecond,
		Of: func(r *Result) Millis { return r.SlowestRead.Took }}
	settledReads = Measure{Name: "p99 of reads, after 1 s", Most: 10 * time.Millisecond,
		Of: func(r *Result) Millis { return r.SettledReads.P99 }}
	untilUp = Measure{Name: "until the proxy calls it up", ifAny: true, Of: func(r *Result) Millis {
		if r.Watched && r.UpAfter < 0 {
			return Endless
		}
		return r.UpAfter
	}}
	firstError   = Measure{Name: "first error after the fault", Of: func(r *Result) Millis { return r.FirstError }}
	slowestError = Measure{Name: "slowest error", Most: 5 * time.Millisecond,
		Of: func(r *Result) Millis { return r.SlowestError }}
	lastError = Measure{Name: "last error after the first is back", Most: time.Second,
		Of: func(r *Result) Millis { return r.LastErrorBack }}
)

const (
	// noticed is the bound of what a refused connection tells at once.
	noticed = 10 * time.Millisecond
	// timedOut is that of what only silence tells: --timeout and a little.
	timedOut = 270 * time.Millisecond
	// lateBy is how late a slow lead's answers are, and one of resetOneIn requests
	// resets its connection.
	lateBy     = 50 * time.Millisecond
	resetOneIn = 1000
)

// Scenarios are all there are.
var Scenarios = []Scenario{
	{Name: "none", Text: "nothing fails", Measures: []Measure{slowest(0)},
		steps: func(_, _ time.Duration, _ *running) []Step { return nil }},
	{Name: "kill", Text: "kill -9 of the lead, and restart", Measures: []Measure{slowest(noticed), untilUp},
		returns: func(r *running) *process.Process { return r.lead },
		steps: func(before, down time.Duration, r *running) []Step {
			return []Step{Kill(before, r.lead), Restart(before+down, r.lead)}
		}},
	{Name: "stop", Text: "SIGSTOP of the lead, and SIGCONT", Measures: []Measure{slowest(timedOut), settled},
		steps: freezing},
	{Name: "stop-hedge", Text: "SIGSTOP of the lead, and SIGCONT; --hedge 5ms", Flags: []string{"--hedge", "5ms"},
		Measures: []Measure{slowestRead}, apart: true, steps: freezing},
	{Name: "slow", Text: "each answer of the lead is 50 ms late; --hedge auto", Flags: []string{"--hedge", "auto"},
		Measures: []Measure{settledReads}, apart: true, linked: true, settle: time.Second,
		steps: func(before, down time.Duration, r *running) []Step {
			return r.link.slow(before, down, lateBy)
		}},
	{Name: "reset", Text: "1 request in 1000 resets its connection to the lead", Measures: []Measure{slowest(20 * time.Millisecond)}, linked: true,
		steps: func(before, down time.Duration, r *running) []Step {
			return r.link.resetting(before, down, resetOneIn)
		}},
	{Name: "flap", Text: "SIGSTOP and SIGCONT of the lead by turns, every " + FlapEvery.String(), Measures: []Measure{slowest(timedOut)},
		steps: func(before, down time.Duration, r *running) []Step { return Flap(before, down, r.lead) }},
	{Name: "both", Text: "kill -9 of both; the lead is restarted first", Outage: true,
		Measures: []Measure{firstError, slowestError, lastError},
		steps: func(before, down time.Duration, r *running) []Step {
			return []Step{Kill(before, r.lead), Kill(before, r.follower), Restart(before+down, r.lead), Restart(before+down+down/2, r.follower)}
		}},
	{Name: "follower-kill", Text: "kill -9 of the follower, and restart", Measures: []Measure{slowest(noticed), untilUp},
		returns: func(r *running) *process.Process { return r.follower },
		steps: func(before, down time.Duration, r *running) []Step {
			return []Step{Kill(before, r.follower), Restart(before+down, r.follower)}
		}},
	{Name: "follower-stop", Text: "SIGSTOP of the follower, and SIGCONT", Measures: []Measure{slowest(timedOut), settled},
		steps: func(before, down time.Duration, r *running) []Step { return Stop(before, down, r.follower) }},
}

func freezing(before, down time.Duration, r *running) []Step { return Stop(before, down, r.lead) }

// Find is the scenario of that name.
func Find(name string) (Scenario, error) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("failover: no scenario %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return Scenarios[i], nil
}

// Names are the scenarios' names.
func Names() (names []string) {
	for i := range Scenarios {
		names = append(names, Scenarios[i].Name)
	}
	return names
}
