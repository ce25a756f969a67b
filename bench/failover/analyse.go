package failover

import (
	"cmp"
	"math"
	"slices"
	"time"

	"magent/bench/load"
)

// Observation is what was recorded during a drill. Times are since the load began.
type Observation struct {
	Samples []load.Sample // in any order
	Stalls  []load.Stall
	Marks   []Mark
	// Length is until when requests were due.
	Length time.Duration
	// Settle is how long the fault may take to be noticed.
	Settle time.Duration
	// Watched says that a proxy was asked about what came back, and Up is when it
	// called that up: negative if it did not.
	Watched bool
	Up      time.Duration
}

// binWidth is what the timeline is divided in, and the hit ratio is looked at.
const binWidth = 100 * time.Millisecond

// Analyse says what o amounts to. It leaves o as it is.
func Analyse(o Observation) *Result {
	r := &Result{
		Length: Millis(o.Length), Fault: Never, Back: Never, Marks: o.Marks,
		FirstError: Never, LastError: Never, LastErrorBack: Never, FirstGood: Never,
		Gap: 0, GapAt: Never, WarmAfter: Never, Watched: o.Watched, UpAfter: Never, Settle: Millis(o.Settle), SlowestError: Never,
	}
	for _, m := range o.Marks {
		if m.Fails && m.Error == "" && (r.Fault < 0 || m.From < r.Fault) {
			r.Fault = m.From
		}
		if at := m.returned(); at >= 0 && at <= r.Length && (r.Back < 0 || at < r.Back) {
			r.Back = at
		}
	}
	if up := Millis(o.Up); o.Watched && r.Back >= 0 && up >= 0 && up <= r.Length {
		r.UpAfter = max(0, up-r.Back)
	}
	held := newStalls(o.Stalls)
	r.Stalls, r.LongestStall = len(held), Millis(held.longest())
	r.warm(o.Samples)
	r.phases(o.Samples, held)
	r.errors(o.Samples)
	r.gap(o.Samples, held)
	r.slowest(o.Samples, held)
	r.Timeline = timeline(o)
	return r
}

// returned is when m had brought something back, Never if it did not.
func (m *Mark) returned() Millis {
	switch {
	case !m.Returns:
		return Never
	case m.RunsOn:
		return m.From
	}
	return m.To
}

func done(s *load.Sample) time.Duration { return s.Due + s.Took }

// since is how long after an event at is.
func since(event Millis, at time.Duration) Millis { return Millis(at) - event }

func bad(s *load.Sample) bool { return s.Verdict == load.Failed || s.Verdict == load.Lost }

func (c *Counts) add(v load.Verdict) {
	switch v {
	case load.Good:
		c.Good++
	case load.Miss:
		c.Misses++
	case load.Stale:
		c.Stale++
	case load.Wrong:
		c.Wrong++
	case load.Failed:
		c.Failed++
	case load.Lost:
		c.Lost++
	}
}

func (r *Reads) add(s *load.Sample) {
	if !reads(s.Op) {
		return
	}
	r.Reads++
	if s.Verdict == load.Good {
		r.Hits++
	}
}

// struck says whether s may have met the fault, if there was one.
func (r *Result) struck(s *load.Sample) bool { return r.Fault < 0 || Millis(done(s)) > r.Fault }

const (
	before = iota
	down
	back
	warm
	total // of all phases
	phases
)

var phaseNames = [phases]string{"before", "down", "back", "warm", "total"}

// bounds is where each phase begins and ends; both are Never if it does not take place.
func (r *Result) bounds() (from, to [phases]Millis) {
	starts := [...]Millis{before: 0, down: r.Fault, back: Never, warm: Never}
	if r.Fault >= 0 && r.Back >= r.Fault {
		starts[back] = r.Back
		if after := r.trusted(); after >= 0 {
			starts[warm] = r.Back + after
		}
	}
	end := r.Length
	for p := warm; p >= before; p-- {
		from[p], to[p] = starts[p], Never
		if starts[p] >= 0 {
			to[p], end = max(end, starts[p]), starts[p]
		}
	}
	from[total], to[total] = 0, r.Length
	return from, to
}

// trusted is how long after the return all was as before: as the proxy says, if that was
// asked, and else as the clients saw it.
func (r *Result) trusted() Millis {
	if r.Watched {
		return r.UpAfter
	}
	return r.WarmAfter
}

// phases divides the samples.
func (r *Result) phases(samples []load.Sample, held stalls) {
	from, to := r.bounds()
	var all [phases]Phase
	var took, net [phases][]time.Duration
	for p := range all {
		all[p] = Phase{Name: phaseNames[p], From: from[p], To: to[p]}
	}
	for i := range samples {
		s := &samples[i]
		at := before
		for p := down; p <= warm; p++ {
			if from[p] >= 0 && (Millis(s.Due) >= from[p] || p == down && r.struck(s)) {
				at = p
			}
		}
		less := held.net(s.Due, done(s))
		for _, p := range [...]int{at, total} {
			all[p].Requests++
			all[p].Counts.add(s.Verdict)
			all[p].Reads.add(s)
			took[p], net[p] = append(took[p], s.Took), append(net[p], less)
		}
	}
	for p := range all {
		ph := &all[p]
		ph.Latency, ph.Net = summarise(took[p]), summarise(net[p])
		if length := time.Duration(ph.To - ph.From); length > 0 {
			ph.Rate = float64(ph.Good) / length.Seconds()
		}
		if p != total && (ph.To > ph.From || ph.Requests > 0) {
			r.Phases = append(r.Phases, *ph)
		}
	}
	r.Total = all[total]
}

// summarise sorts took.
func summarise(took []time.Duration) Latency {
	if len(took) == 0 {
		return Latency{Never, Never, Never}
	}
	slices.Sort(took)
	at := func(share float64) Millis {
		return Millis(took[int(math.Ceil(share*float64(len(took))))-1])
	}
	return Latency{P50: at(0.5), P99: at(0.99), Slowest: at(1)}
}

// errors finds the first and last of them, and the first good answer after.
func (r *Result) errors(samples []load.Sample) {
	if r.Fault < 0 {
		return
	}
	for i := range samples {
		s := &samples[i]
		if !bad(s) || !r.struck(s) {
			continue
		}
		at := since(r.Fault, done(s))
		if r.FirstError < 0 || at < r.FirstError {
			r.FirstError = at
		}
		r.LastError = max(r.LastError, at)
		if r.Back >= 0 && Millis(done(s)) >= r.Back {
			r.LastErrorBack = max(r.LastErrorBack, since(r.Back, done(s)))
		}
	}
	trouble := r.Fault + max(r.FirstError, 0)
	for i := range samples {
		s := &samples[i]
		if at := since(r.Fault, done(s)); s.Verdict == load.Good && Millis(s.Due) >= trouble && (r.FirstGood < 0 || at < r.FirstGood) {
			r.FirstGood = at
		}
	}
}

// gap finds the longest time without a good answer.
func (r *Result) gap(samples []load.Sample, held stalls) {
	order := slices.Clone(samples)
	slices.SortFunc(order, func(a, b load.Sample) int { return cmp.Compare(done(&a), done(&b)) })
	// waiting[i] is since when something is waited for that order[i:] answers.
	waiting := make([]time.Duration, len(order))
	for i := range slices.Backward(order) {
		waiting[i] = order[i].Due
		if i+1 < len(order) {
			waiting[i] = min(waiting[i], waiting[i+1])
		}
	}
	last, next := time.Duration(0), 0 // the last good answer, and what came after it
	look := func(end time.Duration) {
		begin := max(last, waiting[next])
		length := Millis(held.net(begin, end))
		if (r.Fault < 0 || Millis(end) > r.Fault) && length > r.Gap {
			r.Gap, r.GapAt, r.GapWhole = length, Millis(begin), Millis(end-begin)
		}
	}
	for i := range order {
		if order[i].Verdict == load.Good {
			look(done(&order[i]))
			last, next = done(&order[i]), i+1
		}
	}
	if next < len(order) {
		look(max(time.Duration(r.Length), done(&order[len(order)-1])))
	}
}

// slowest finds the slowest requests of those that may have met the fault, and those
// due once it had had its time to be noticed.
func (r *Result) slowest(samples []load.Sample, held stalls) {
	r.Slowest = Slowest{Due: Never, Took: Never}
	r.SlowestRead = r.Slowest
	var settled, settledReads []time.Duration
	for i := range samples {
		s := &samples[i]
		if !r.struck(s) {
			continue
		}
		net := held.net(s.Due, done(s))
		this := Slowest{Op: s.Op.String(), Due: Millis(s.Due), Took: Millis(net), Verdict: s.Verdict.String()}
		if this.Took > r.Slowest.Took {
			r.Slowest = this
		}
		if reads(s.Op) && this.Took > r.SlowestRead.Took {
			r.SlowestRead = this
		}
		if bad(s) {
			r.SlowestError = max(r.SlowestError, this.Took)
		}
		if Millis(s.Due) >= r.Fault+r.Settle {
			settled = append(settled, net)
			if reads(s.Op) {
				settledReads = append(settledReads, net)
			}
		}
	}
	r.Settled, r.SettledReads = summarise(settled), summarise(settledReads)
}

// warm finds when the hit ratio was what it had been.
func (r *Result) warm(samples []load.Sample) {
	if r.Fault < 0 || r.Back < r.Fault {
		return
	}
	type bin struct {
		Reads
		lastMiss Millis // since the return
	}
	var was Reads
	var bins []bin
	for i := range samples {
		s := &samples[i]
		switch {
		case !r.struck(s):
			was.add(s)
		case Millis(s.Due) >= r.Back && reads(s.Op):
			at := since(r.Back, s.Due)
			n := int(time.Duration(at) / binWidth)
			for len(bins) <= n {
				bins = append(bins, bin{})
			}
			bins[n].Reads.add(s)
			if s.Verdict != load.Good {
				bins[n].lastMiss = max(bins[n].lastMiss, at)
			}
		}
	}
	for n, b := range slices.Backward(bins) {
		if !b.colder(was) {
			r.WarmAfter = 0
			continue
		}
		if n == len(bins)-1 {
			return // and is cold at the end
		}
		r.WarmAfter = b.lastMiss
		return
	}
}

// colder says whether r's ratio is below was's, by more than a percentage point and
// chance. If nothing was read before, every read is taken to have been a hit: the
// keys are written before the load begins.
func (r *Reads) colder(was Reads) bool {
	ratio := 1.0
	if was.Reads > 0 {
		ratio = was.Ratio()
	}
	n := float64(r.Reads)
	return float64(r.Hits) < n*(ratio-0.01)-3*math.Sqrt(n*ratio*(1-ratio))
}

// timeline divides the drill into bins.
func timeline(o Observation) []Bin {
	var bins []Bin
	var took [][]time.Duration
	at := func(t time.Duration) int {
		n := int(t / binWidth)
		for len(bins) <= n {
			bins = append(bins, Bin{At: Millis(len(bins)) * Millis(binWidth)})
			took = append(took, nil)
		}
		return n
	}
	if o.Length > 0 {
		at(o.Length - 1)
	}
	for i := range o.Samples {
		s := &o.Samples[i]
		n := at(done(s))
		bins[n].Counts.add(s.Verdict)
		n = at(s.Due)
		bins[n].Reads.add(s)
		took[n] = append(took[n], s.Took)
	}
	for n := range bins {
		l := summarise(took[n])
		bins[n].P99, bins[n].Slowest = l.P99, l.Slowest
	}
	return bins
}

// stalls are the times in which the generator was held up, in order and apart.
type stalls []load.Stall

func newStalls(all []load.Stall) (h stalls) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b load.Stall) int { return cmp.Compare(a.From, b.From) })
	for _, s := range all {
		if n := len(h); n > 0 && s.From <= h[n-1].To {
			h[n-1].To = max(h[n-1].To, s.To)
			continue
		}
		h = append(h, s)
	}
	return h
}

func (h stalls) longest() (d time.Duration) {
	for _, s := range h {
		d = max(d, s.To-s.From)
	}
	return d
}

// net is what is left of a wait without the generator's part in it: the stall that it
// began in, as what was due was sent after it; and the one at its end, after which the
// answer was read. What piles up in a stall is worked off after it, so that it counts as
// one at the end until it is over for as long as it lasted. Those in the middle of a
// wait made it no longer.
func (h stalls) net(from, to time.Duration) time.Duration {
	first, found := slices.BinarySearchFunc(h, from, func(s load.Stall, t time.Duration) int { return cmp.Compare(s.From, t) })
	if !found {
		first--
	}
	if first >= 0 && h[first].To > from {
		from = min(h[first].To, to)
	}
	last, _ := slices.BinarySearchFunc(h, to, func(s load.Stall, t time.Duration) int { return cmp.Compare(s.From, t) })
	for last--; last > first; last-- {
		if s := h[last]; to-s.To > s.To-s.From {
			break
		}
		to = h[last].From
	}
	return to - from
}
