package load

import (
	"cmp"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"magent/bench/meter"
	"magent/bench/wire"
)

// Verdict is what became of a request: of one for several keys, the worst.
type Verdict uint8

// The verdicts, from good to bad.
const (
	Good   Verdict = iota // EXISTS in answer to a CAS is good
	Miss                  // a key asked for, changed, deleted or touched was not there
	Stale                 // the value was older than one acknowledged before the request
	Wrong                 // the value or number is not what it must be
	Failed                // an error line, or NOT_STORED
	Lost                  // the connection died before the answer, or could not be opened
)

func (v Verdict) String() string {
	return [...]string{"good", "miss", "stale", "wrong", "failed", "lost"}[v]
}

// Sample is one measured request.
type Sample struct {
	// Due is when it was due, or sent in a closed loop, since measuring began;
	// Took is from then to the answer.
	Due, Took time.Duration
	Op        wire.Op
	Verdict   Verdict
}

// Stall is a time, since measuring began, in which something was due and the generator
// itself did not run: what was measured then says little of the target.
type Stall struct{ From, To time.Duration }

// Progress is how a run goes.
type Progress struct {
	// Phase is one of the constants below.
	Phase string
	// Elapsed is since the phase began; Left is until it ends, 0 if unknown.
	Elapsed, Left time.Duration
	// Requests were answered in the phase so far.
	Requests int64
	// Rate, P50 and P99 are those of about the last second.
	Rate     float64
	P50, P99 time.Duration
	// Errors, Wrong, Stale and Misses are counted as in the Report.
	Errors, Wrong, Stale, Misses int64
}

// The phases of a run.
const (
	PhasePreload = "preload"
	PhaseWarmup  = "warm-up"
	PhaseMeasure = "measure"
	PhaseDrain   = "drain" // the last answers are waited for
)

// Latency is a summary of latencies, in µs.
type Latency struct {
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P95   float64 `json:"p95_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	P9999 float64 `json:"p9999_us"`
	Max   float64 `json:"max_us"`
}

// OpReport is what one operation's share of a run was. Hits and Misses count keys; the
// miss of an operation other than Get and Gets is a NOT_FOUND.
type OpReport struct {
	Requests int64   `json:"requests"`
	Hits     int64   `json:"hits"`
	Misses   int64   `json:"misses"`
	Latency  Latency `json:"latency"`
	// Hist holds the latencies, in ns.
	Hist *hdrhistogram.Histogram `json:"-"`
}

// Report is what one run measured. In a closed loop that is what was answered while
// measuring; in an open loop, what was due while measuring.
type Report struct {
	// Requests were answered. Seconds is how long was measured, and Rate how many
	// were answered a second in that time; those answered after its end count among
	// the Requests of an open loop, and not here. Target is the rate asked for, 0
	// in a closed loop.
	Requests int64   `json:"requests"`
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"rate"`
	Target   float64 `json:"target,omitempty"`
	// Unsent were due in an open loop and never sent: the connection had its
	// Pipeline in flight until the end, or was lost for good.
	Unsent int64 `json:"unsent,omitempty"`
	// Served are the Requests that were answered with no error. Failed are those
	// that were, and the measured ones that are not among the Requests since their
	// connection was lost or could not be opened. Without any Served the target is
	// of no use.
	Served int64 `json:"served"`
	Failed int64 `json:"failed"`
	// Hits and Misses count the keys of Gets and Getses, not requests.
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
	// Conflicts are CASes answered EXISTS.
	Conflicts int64 `json:"conflicts,omitempty"`
	// Errors are error lines, values not stored, and requests whose connection was
	// lost or could not be opened; ServerErrors are those of them that were answered
	// SERVER_ERROR. Wrong are values that were not what their key
	// must hold, or that nobody asked for, and numbers that do not follow the last
	// of their counter. Stale are values older than one acknowledged before they
	// were asked for. Lost are connections, Reopened those opened again. All count
	// over the whole run, its warm-up included.
	Errors       int64 `json:"errors"`
	ServerErrors int64 `json:"server_errors,omitempty"`
	Wrong        int64 `json:"wrong"`
	Stale        int64 `json:"stale"`
	Lost         int   `json:"lost"`
	Reopened     int   `json:"reopened,omitempty"`
	// FirstError is the first wrong value, or else the first stale one, or else the
	// first error line or the cause of the first loss.
	FirstError string  `json:"first_error,omitempty"`
	Latency    Latency `json:"latency"`
	// Ops are the operations by name.
	Ops map[string]OpReport `json:"ops"`
	// BytesIn and BytesOut went over the connections while measuring.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	// Stalls are those of an open loop that took a millisecond or more;
	// WorstStall is the longest, in µs.
	Stalls     []Stall `json:"-"`
	WorstStall float64 `json:"worst_stall_us,omitempty"`
	// Began is when measuring did: the zero of Samples and Stalls.
	Began time.Time `json:"-"`
	// Interrupted says that the run was ended before its time.
	Interrupted bool `json:"interrupted,omitempty"`
	// Self is this process, all of it; Procs are those named in the Config.
	Self  meter.Usage            `json:"self"`
	Procs map[string]meter.Usage `json:"procs"`
	Host  meter.Host             `json:"host"`
	// Hist holds every measured latency, in ns.
	Hist *hdrhistogram.Histogram `json:"-"`
	// Samples are the measured requests in the order they were due, if the Config
	// asks for them.
	Samples []Sample `json:"-"`

	inTime int64 // the requests that Rate counts
}

// collect adds the workers up.
func collect(s *shared, workers []*worker) *Report {
	samples := 0
	for _, w := range workers {
		for _, piece := range w.samples {
			samples += len(piece)
		}
	}
	rep := &Report{Samples: slices.Grow([]Sample(nil), samples), Target: s.cfg.Rate, Began: s.epoch.Add(time.Duration(s.begin)), Hist: newHistogram(), Ops: make(map[string]OpReport)}
	var first fault
	for _, w := range workers {
		rep.add(&w.tally)
		for i := range w.conns {
			for c := &w.conns[i]; c.late.len() > 0; {
				if w.measured(c.late.pop()) {
					rep.Unsent++
				}
			}
		}
		if w.fault.before(first) {
			first = w.fault
		}
	}
	rep.FirstError = first.text
	for name, op := range rep.Ops {
		op.Latency = summary(op.Hist)
		rep.Ops[name] = op
		rep.Hist.Merge(op.Hist)
	}
	rep.Latency = summary(rep.Hist)
	for _, s := range rep.Stalls {
		rep.WorstStall = max(rep.WorstStall, float64(s.To-s.From)/1000)
	}
	slices.SortFunc(rep.Stalls, func(a, b Stall) int { return cmp.Compare(a.From, b.From) })
	slices.SortFunc(rep.Samples, func(a, b Sample) int { return cmp.Compare(a.Due, b.Due) })
	return rep
}

// add adds what one worker saw.
func (r *Report) add(t *tally) {
	r.Requests += t.requests
	r.inTime += t.inTime
	r.Served += t.requests - t.failed
	r.Failed += t.failed + t.dropped
	r.Unsent += t.unsent
	r.Conflicts += t.conflicts
	r.Errors += t.errors
	r.ServerErrors += t.serverErrors
	r.Wrong += t.wrong
	r.Stale += t.stale
	r.Lost += int(t.lost)
	r.Reopened += int(t.reopened)
	r.BytesIn += t.in
	r.BytesOut += t.out
	r.Stalls = append(r.Stalls, t.stalls...)
	for _, piece := range t.samples {
		r.Samples = append(r.Samples, piece...)
	}
	for i := range t.ops {
		o := &t.ops[i]
		if o.hist == nil {
			continue
		}
		op := r.Ops[wire.Op(i).String()]
		if op.Hist == nil {
			op.Hist = newHistogram()
		}
		op.Requests += o.requests
		op.Hits += o.hits
		op.Misses += o.misses
		op.Hist.Merge(o.hist)
		r.Ops[wire.Op(i).String()] = op
		if i == int(wire.Get) || i == int(wire.Gets) {
			r.Hits += o.hits
			r.Misses += o.misses
		}
	}
}

// charge fills in what was spent.
func (r *Report) charge(a meter.Account) {
	r.Seconds = a.Wall.Seconds()
	r.Rate = float64(r.inTime) / r.Seconds
	r.Self, r.Procs, r.Host = a.Self, a.Procs, a.Host
}

// summary is what h, in ns, comes to.
func summary(h *hdrhistogram.Histogram) Latency {
	us := func(q float64) float64 { return float64(h.ValueAtPercentile(q)) / 1000 }
	return Latency{
		Mean: h.Mean() / 1000, P50: us(50), P90: us(90), P95: us(95), P99: us(99), P999: us(99.9), P9999: us(99.99),
		Max: float64(h.Max()) / 1000,
	}
}
