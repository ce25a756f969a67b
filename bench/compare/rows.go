package compare

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"magent/bench/load"
)

// Spread is a median with the smallest and largest of its sample.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Pair is one round's two runs, one after the other.
type Pair struct {
	Ours   *load.Report `json:"ours"`
	Theirs *load.Report `json:"theirs"`
}

// Row compares ours to one other side on one workload. Ratios are ours over theirs,
// taken in each round for itself, so that a change of the machine's pace
// between rounds does not count.
type Row struct {
	Workload string `json:"workload"`
	Ours     string `json:"ours"`
	Theirs   string `json:"theirs"`
	// OurCPU and TheirCPU are the proxies' µs per request, OurNodes and
	// TheirNodes those of all memcacheds together.
	OurCPU     Spread `json:"our_cpu_us"`
	TheirCPU   Spread `json:"their_cpu_us"`
	OurNodes   Spread `json:"our_nodes_us"`
	TheirNodes Spread `json:"their_nodes_us"`
	CPURatio   Spread `json:"cpu_ratio"`
	RateRatio  Spread `json:"rate_ratio"`
	P50Ratio   Spread `json:"p50_ratio"`
	P99Ratio   Spread `json:"p99_ratio"`
	// Noise is the Host's, of the noisier run of each pair. Where it is not
	// small, only the medians mean something, or nothing does.
	Noise Spread `json:"noise"`
	// Discarded is how many rounds were noisier than allowed and run again.
	Discarded int `json:"discarded"`
	// Must and Aim bound the median CPURatio, MustP50 the median P50Ratio; 0
	// promises nothing.
	Must    float64 `json:"must,omitempty"`
	Aim     float64 `json:"aim,omitempty"`
	MustP50 float64 `json:"must_p50,omitempty"`
	// Faults are errors, wrong or stale values and misses in any run. A row with faults
	// holds nothing.
	Faults int64 `json:"faults"`
	// FirstFault is whose the first of them was, and what it said.
	FirstFault string `json:"first_fault,omitempty"`
	Pairs      []Pair `json:"pairs"`
}

// proxyProc is the name of the proxy in the Reports' Procs.
const proxyProc = "proxy"

// makeRows pairs the first side with each other, round by round. Bounds are
// stated against the first of the others that is a proxy. Without a round there is no
// row.
func makeRows(w Workload, sides []contestant, discarded int) []Row {
	if len(sides[0].reports) == 0 {
		return nil
	}
	var rows []Row
	bounded := sides[0].rival.Direct // it has no CPU to bound
	for _, other := range sides[1:] {
		row := Row{Workload: w.Name, Ours: sides[0].name, Theirs: other.name, Discarded: discarded}
		if !bounded && !other.rival.Direct {
			row.Must, row.Aim, row.MustP50 = w.Must, w.Aim, w.MustP50
			bounded = true
		}
		for round, theirs := range other.reports {
			row.Pairs = append(row.Pairs, Pair{Ours: sides[0].reports[round], Theirs: theirs})
		}
		row.sum()
		rows = append(rows, row)
	}
	return rows
}

// sum computes the row's spreads and faults from its pairs.
func (r *Row) sum() {
	over := func(f func(Pair) float64) Spread {
		v := make([]float64, len(r.Pairs))
		for i, p := range r.Pairs {
			v[i] = f(p)
		}
		return spread(v)
	}
	ratio := func(f func(*load.Report) float64) Spread {
		return over(func(p Pair) float64 {
			if f(p.Theirs) == 0 { // it has none: no proxy, or nodes nobody named
				return 0
			}
			return f(p.Ours) / f(p.Theirs)
		})
	}
	r.OurNodes = over(func(p Pair) float64 { return nodesCPU(p.Ours) })
	r.TheirNodes = over(func(p Pair) float64 { return nodesCPU(p.Theirs) })
	r.OurCPU = over(func(p Pair) float64 { return proxyCPU(p.Ours) })
	r.TheirCPU = over(func(p Pair) float64 { return proxyCPU(p.Theirs) })
	r.CPURatio = ratio(proxyCPU)
	r.RateRatio = ratio(func(r *load.Report) float64 { return r.Rate })
	r.P50Ratio = ratio(func(r *load.Report) float64 { return r.Latency.P50 })
	r.P99Ratio = ratio(func(r *load.Report) float64 { return r.Latency.P99 })
	r.Noise = over(func(p Pair) float64 { return max(p.Ours.Host.Noise, p.Theirs.Host.Noise) })
	r.Faults, r.FirstFault = 0, ""
	for _, p := range r.Pairs {
		r.blame(r.Ours, p.Ours)
		r.blame(r.Theirs, p.Theirs)
	}
}

func proxyCPU(r *load.Report) float64 { return r.Procs[proxyProc].CPU }

func nodesCPU(r *load.Report) (us float64) {
	for name, u := range r.Procs {
		if name != proxyProc {
			us += u.CPU
		}
	}
	return us
}

// Side is what one contestant did on a workload in all rounds, in absolute figures. What
// it does not have is 0.
type Side struct {
	Workload, Name string
	// Rate is requests per second; P50 and P99 are latencies in µs.
	Rate, P50, P99 Spread
	// Proxy, Nodes and Load are µs of CPU per request: of the proxy, of all
	// memcacheds together, and of the generator itself.
	Proxy, Nodes, Load Spread
	// Switches are the proxy's context switches per request.
	Switches Spread
	// Busy is the share of all CPUs that was not idle; at 1 the machine is the limit.
	Busy Spread
}

// Sides lists the sides of rows, workload by workload, ours first.
func Sides(rows []Row) (sides []Side) {
	for i := range rows {
		r := &rows[i]
		ours, theirs := make([]*load.Report, len(r.Pairs)), make([]*load.Report, len(r.Pairs))
		for k, p := range r.Pairs {
			ours[k], theirs[k] = p.Ours, p.Theirs
		}
		if i == 0 || rows[i-1].Workload != r.Workload || rows[i-1].Ours != r.Ours {
			sides = append(sides, newSide(r.Workload, r.Ours, ours))
		}
		sides = append(sides, newSide(r.Workload, r.Theirs, theirs))
	}
	return sides
}

func newSide(workload, name string, reports []*load.Report) Side {
	over := func(f func(*load.Report) float64) Spread {
		v := make([]float64, len(reports))
		for i, r := range reports {
			v[i] = f(r)
		}
		return spread(v)
	}
	return Side{
		Workload: workload, Name: name,
		Rate:  over(func(r *load.Report) float64 { return r.Rate }),
		P50:   over(func(r *load.Report) float64 { return r.Latency.P50 }),
		P99:   over(func(r *load.Report) float64 { return r.Latency.P99 }),
		Proxy: over(proxyCPU),
		Nodes: over(nodesCPU),
		Load:  over(func(r *load.Report) float64 { return r.Self.CPU }),
		Switches: over(func(r *load.Report) float64 {
			u := r.Procs[proxyProc]
			return float64(u.Voluntary+u.Involuntary) / float64(max(r.Requests, 1))
		}),
		Busy: over(func(r *load.Report) float64 { return 1 - r.Host.All.Idle }),
	}
}

// blame adds rep's faults, if any, to the row's.
func (r *Row) blame(side string, rep *load.Report) {
	if r.Faults += faults(rep); r.FirstFault != "" || faults(rep) == 0 {
		return
	}
	r.FirstFault = fmt.Sprintf("%s: %s", side, rep.FirstError)
	if rep.Wrong+rep.Stale+rep.Misses > 0 {
		r.FirstFault = fmt.Sprintf("%s: %d wrong values, %d stale, %d misses", side, rep.Wrong, rep.Stale, rep.Misses)
	}
}

// faults are what makes a run say nothing of its side's cost. A miss is one: every key
// was stored before and none is deleted, and no answer is as cheap.
func faults(r *load.Report) int64 { return r.Errors + r.Wrong + r.Stale + r.Misses }

// spread is the median of v, which must not be empty, and its ends. Of an even
// number the median is the mean of the two in the middle.
func spread(v []float64) Spread {
	v = slices.Sorted(slices.Values(v))
	mid := len(v) / 2
	m := v[mid]
	if len(v)%2 == 0 {
		m = (v[mid-1] + v[mid]) / 2
	}
	return Spread{Median: m, Min: v[0], Max: v[len(v)-1]}
}

// bounded says whether the row has a bound to hold.
func (r *Row) bounded() bool { return r.Must > 0 || r.MustP50 > 0 }

// missed names the bounds that are missed by more than slack.
func (r *Row) missed(slack float64) string {
	var what []string
	add := func(name string, got Spread, must float64) {
		// A ratio of 0, or of none, was not measured.
		if holds := got.Median > 0 && got.Median <= must*(1+slack); must > 0 && !holds {
			what = append(what, fmt.Sprintf("%s ratio %.2f [%.2f–%.2f], at most %.2f and %.0f %%", name, got.Median, got.Min, got.Max, must, 100*slack))
		}
	}
	add("CPU", r.CPURatio, r.Must)
	add("p50", r.P50Ratio, r.MustP50)
	return strings.Join(what, "; ")
}

// Verdict says whether the row's bounds hold.
func (r *Row) Verdict() string {
	switch {
	case r.Faults > 0:
		return fmt.Sprintf("%d FAULTS", r.Faults)
	case !r.bounded():
		return "no bound"
	case r.missed(0) != "":
		return "MISSED"
	case r.CPURatio.Median > r.Aim:
		return "must holds"
	}
	return "aim holds"
}

// faultsOf is an error for every row with faults.
func faultsOf(rows []Row) (err error) {
	for i := range rows {
		if r := &rows[i]; r.Faults > 0 {
			err = errors.Join(err, fmt.Errorf("compare: %s against %s: %d errors, misses, wrong or stale values; first %s", r.Workload, r.Theirs, r.Faults, r.FirstFault))
		}
	}
	return err
}

// Gate is an error for every row that has faults, or misses a bound by more than slack,
// a share of the bound. Rows of which none has a bound do not pass either.
func Gate(rows []Row, slack float64) error {
	err := faultsOf(rows)
	judged := false
	for i := range rows {
		r := &rows[i]
		judged = judged || r.bounded()
		if what := r.missed(slack); what != "" && r.Faults == 0 {
			err = errors.Join(err, fmt.Errorf("compare: %s: %s against %s: %s; noise %.0f %%", r.Workload, r.Ours, r.Theirs, what, 100*r.Noise.Median))
		}
	}
	if !judged {
		err = errors.Join(err, errors.New("compare: the gate has nothing to judge: no row has a bound"))
	}
	return err
}
