package model

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"
)

// register finds the reads of a key that are not right.
func register(ops []*Op) (faults []Fault) {
	writes := map[ID]*Op{}
	for _, o := range ops {
		if o.Kind != Write {
			continue
		}
		if writes[o.ID] != nil {
			faults = append(faults, Fault{o, "written twice: the history cannot tell", writes[o.ID]})
		}
		writes[o.ID] = o
	}
	past, gone := newPast(ops), newDeletes(ops)
	for _, o := range ops {
		if o.Kind != Read || o.Outcome != Done && o.Outcome != Nothing {
			continue
		}
		last := past.before(o.Start)
		if o.Outcome == Nothing {
			if last != nil && gone.end(o.End) < last.Start {
				faults = append(faults, Fault{o, "miss: it was written", last})
			}
			continue
		}
		switch w := writes[o.ID]; {
		case w == nil:
			faults = append(faults, Fault{Op: o, Why: "nobody wrote this"})
		case w.Start > o.End:
			faults = append(faults, Fault{o, "read before it was written", w})
		case last != nil && w.done() < last.Start && last.Kind == Delete:
			faults = append(faults, Fault{o, "stale: it was deleted", last})
		case last != nil && w.done() < last.Start:
			faults = append(faults, Fault{o, "stale: it was overwritten", last})
		}
	}
	return faults
}

// A past finds the last thing that was certainly done to a key before some moment.
type past struct {
	ends []time.Duration // of what was acknowledged, in order
	last []*Op           // of those up to there, the one that began last
}

func newPast(ops []*Op) *past {
	var done []*Op
	for _, o := range ops {
		if (o.Kind == Write || o.Kind == Delete) && o.Outcome == Done {
			done = append(done, o)
		}
	}
	slices.SortFunc(done, func(a, b *Op) int { return cmp.Compare(a.End, b.End) })
	p := &past{}
	for i, o := range done {
		p.ends = append(p.ends, o.End)
		if i > 0 && p.last[i-1].Start > o.Start {
			o = p.last[i-1]
		}
		p.last = append(p.last, o)
	}
	return p
}

// before is, of the writes and deletes acknowledged before t, the one that began
// last; nil if there is none.
func (p *past) before(t time.Duration) *Op {
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] >= t })
	if i == 0 {
		return nil
	}
	return p.last[i-1]
}

// deletes finds the delete that may have taken effect last.
type deletes struct {
	starts []time.Duration // in order
	ends   []time.Duration // the latest end of those up to there
}

func newDeletes(ops []*Op) *deletes {
	var all []*Op
	for _, o := range ops {
		if o.Kind == Delete {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *Op) int { return cmp.Compare(a.Start, b.Start) })
	d := &deletes{}
	end := time.Duration(math.MinInt64)
	for _, o := range all {
		end = max(end, o.done())
		d.starts, d.ends = append(d.starts, o.Start), append(d.ends, end)
	}
	return d
}

// end is the latest end of a delete that began up to t: before all time if none did.
func (d *deletes) end(t time.Duration) time.Duration {
	i := sort.Search(len(d.starts), func(i int) bool { return d.starts[i] > t })
	if i == 0 {
		return math.MinInt64
	}
	return d.ends[i-1]
}
