package failover

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"magent/bench/wire"
)

// Millis is a length of time, or a time since the load began. In JSON it is
// milliseconds, and null if it is Never.
type Millis time.Duration

// Never is what did not happen, and Endless what was not over at the end.
const (
	Never   Millis = -1
	Endless Millis = math.MaxInt64
)

// ms is m to the µs, so that what is printed is the same of what was written and read.
func (m Millis) ms() float64 {
	return float64(time.Duration(m).Round(time.Microsecond)) / float64(time.Millisecond)
}

// MarshalJSON writes m in ms, to the µs.
func (m Millis) MarshalJSON() ([]byte, error) {
	if m < 0 {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, m.ms(), 'f', 3, 64), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Millis) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*m = Never
		return nil
	}
	ms, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("failover: %s is no number of milliseconds", text)
	}
	*m = Millis(math.Round(ms*1000)) * Millis(time.Microsecond)
	return nil
}

// String is m in ms, or in seconds from 10 s on; "never" if it is Never.
func (m Millis) String() string {
	switch {
	case m < 0:
		return "never"
	case time.Duration(m) < 10*time.Second:
		return strconv.FormatFloat(m.ms(), 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(time.Duration(m).Seconds(), 'f', 2, 64) + " s"
}

// Result is what clients saw of a failure. Times are since the load began, unless it
// is said since what.
type Result struct {
	// Name is what was drilled, and Rate how many requests a second were due.
	Name   string  `json:"name"`
	Rate   float64 `json:"rate"`
	Length Millis  `json:"length_ms"`
	// Fault is when the first step that makes something fail began; one that could not
	// be taken makes none. Back is the end of the first step that brings something back;
	// of a command that runs on it is the beginning. A return after Length is none.
	Fault Millis `json:"fault_ms"`
	Back  Millis `json:"back_ms"`
	Marks []Mark `json:"marks"`

	// Total is the whole drill; Phases are those of before, down, back and warm that
	// took place.
	Total  Phase   `json:"total"`
	Phases []Phase `json:"phases"`
	// Unsent requests were due, and not sent before the end.
	Unsent int64 `json:"unsent"`

	// FirstError and LastError are when the first and the last error reached a
	// client, since the fault; LastErrorBack is the last since the return. FirstGood
	// is the first good answer, since the fault, to a request that was due after the
	// first error or, if there was none, after the fault.
	FirstError    Millis `json:"first_error_ms"`
	LastError     Millis `json:"last_error_ms"`
	LastErrorBack Millis `json:"last_error_since_back_ms"`
	FirstGood     Millis `json:"first_good_ms"`
	// Gap is for how long nobody got a good answer, at the longest: the time from one
	// good answer to the next, and of that only what some request was waited for,
	// without the generator's own stalls. Gaps that were over before the fault do
	// not count; one that is not over at the end does, up to there. It began at GapAt,
	// and with the stalls it is GapWhole.
	Gap      Millis `json:"gap_ms"`
	GapAt    Millis `json:"gap_at_ms"`
	GapWhole Millis `json:"gap_whole_ms"`
	// WarmAfter is how long after the return the hit ratio was back for good at what
	// it was before the fault: the last read that found nothing in the last 100 ms
	// whose ratio was lower than that by more than a percentage point and what is
	// chance (three standard deviations). Never: not before the end, or nothing
	// came back, or nothing was read.
	WarmAfter Millis `json:"warm_after_ms"`
	// Watched says that the proxy was asked about a node that came back empty, and
	// UpAfter is how long after the return it called that node up: it holds again what
	// its peer holds. Never: not before the end. The phase warm begins then, and
	// without a proxy to ask after WarmAfter.
	Watched bool   `json:"watched,omitempty"`
	UpAfter Millis `json:"up_after_ms"`
	// Slowest is the slowest request from the fault on, the generator's stalls taken
	// off.
	Slowest Slowest `json:"slowest"`
	// SlowestRead is that of the reads, SlowestError that of the errors; both like
	// Slowest.
	SlowestRead  Slowest `json:"slowest_read"`
	SlowestError Millis  `json:"slowest_error_ms"`
	// Settled is of the requests due Settle after the fault and later, SettledReads of
	// the reads among them; without the generator's stalls.
	Settle       Millis  `json:"settle_ms"`
	Settled      Latency `json:"settled"`
	SettledReads Latency `json:"settled_reads"`
	// Stalls is how often the generator itself was held up, the longest for
	// LongestStall.
	Stalls       int    `json:"stalls"`
	LongestStall Millis `json:"longest_stall_ms"`

	Timeline []Bin `json:"timeline"`
}

// UnmarshalJSON reads a Result of any age. Of old there was no UpAfter.
func (r *Result) UnmarshalJSON(text []byte) error {
	type plain Result // which has no methods
	p := plain{UpAfter: Never}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	*r = Result(p)
	return nil
}

// Counts is how requests ended.
type Counts struct {
	Good   int `json:"good"`
	Misses int `json:"misses"`
	Stale  int `json:"stale"`
	Wrong  int `json:"wrong"`
	// Failed were answered with an error line; Lost were not answered at all.
	Failed int `json:"failed"`
	Lost   int `json:"lost"`
}

// Errors is how many requests got no answer that is one.
func (c *Counts) Errors() int { return c.Failed + c.Lost }

// Reads is how many requests were reads, and how many of them found what is there.
type Reads struct {
	Reads int `json:"reads"`
	Hits  int `json:"hits"`
}

// Ratio is the hit ratio, in 0..1, and NaN of no reads. A read that failed is no hit.
func (r *Reads) Ratio() float64 {
	if r.Reads == 0 {
		return math.NaN()
	}
	return float64(r.Hits) / float64(r.Reads)
}

// Phase is one part of a drill. A request belongs to the phase it was due in; one that
// was under way when the fault began belongs to what comes after.
type Phase struct {
	Name     string `json:"name"`
	From     Millis `json:"from_ms"`
	To       Millis `json:"to_ms"`
	Requests int    `json:"requests"`
	Counts
	Reads
	// Rate is good answers a second.
	Rate float64 `json:"good_per_second"`
	// Latency counts from when requests were due; Net is the same without what the
	// generator itself was held up when they were due and when they were answered.
	Latency Latency `json:"latency"`
	Net     Latency `json:"net"`
}

// Latency is a summary of latencies; Never in all of it if there are none.
type Latency struct {
	P50     Millis `json:"p50_ms"`
	P99     Millis `json:"p99_ms"`
	Slowest Millis `json:"slowest_ms"`
}

// Slowest is the slowest request.
type Slowest struct {
	Op   string `json:"op"`
	Due  Millis `json:"due_ms"`
	Took Millis `json:"took_ms"`
	// Verdict is how it ended.
	Verdict string `json:"verdict"`
}

// Bin is what happened in 100 ms.
type Bin struct {
	At Millis `json:"at_ms"`
	// Counts are answers that came in this time, Reads what was due in it.
	Counts
	Reads
	// P99 and Slowest are latencies, from when requests were due, of those due in
	// this time; Never if none was.
	P99     Millis `json:"p99_ms"`
	Slowest Millis `json:"slowest_ms"`
}

// Mark is a step that was taken, or begun.
type Mark struct {
	Name string `json:"name"`
	From Millis `json:"from_ms"`
	// To is when it was done: Never if it failed, or runs on.
	To Millis `json:"to_ms"`
	// Fails: it made something fail. Returns: it brought something back.
	Fails   bool `json:"fails"`
	Returns bool `json:"returns"`
	// RunsOn: its command still ran when the drill was over. One that brings something
	// back was left running, any other was ended.
	RunsOn bool `json:"runs_on,omitempty"`
	// Output is the end of what its command printed, Error why it failed.
	Output string `json:"output,omitempty"`
	Error  string `json:"error,omitempty"`
}

// reads says whether op is a read.
func reads(op wire.Op) bool { return op == wire.Get || op == wire.Gets }
