package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// counter finds the increments of a key that were told what they cannot have
// counted, and the reads that are not right.
func counter(ops []*Op) (faults []Fault) {
	var told, reads []*Op
	var begun, maybes []time.Duration // the starts of increments, and of those without an answer
	for _, o := range ops {
		switch {
		case o.Kind != Incr && o.Kind != Count:
			faults = append(faults, Fault{Op: o, Why: o.Kind.String() + " of a counter: the history cannot tell"})
		case o.Kind == Count && o.Outcome == Done:
			reads = append(reads, o)
		case o.Kind == Count || o.Outcome == Nothing:
		case o.Outcome == Done:
			told, begun = append(told, o), append(begun, o.Start)
		default:
			maybes, begun = append(maybes, o.Start), append(begun, o.Start)
		}
	}
	slices.Sort(begun)
	slices.Sort(maybes)
	return append(append(faults, order(told, maybes)...), counts(told, begun, reads)...)
}

// order looks for an order of the increments in which each was told its place.
func order(told []*Op, maybes []time.Duration) (faults []Fault) {
	slices.SortFunc(told, func(a, b *Op) int { return cmp.Or(cmp.Compare(a.Count, b.Count), cmp.Compare(a.Start, b.Start)) })
	first := make([]*Op, len(told)) // of those told as much or more, the one that ended first
	for i := len(told) - 1; i >= 0; i-- {
		if first[i] = told[i]; i+1 < len(told) && first[i+1].End < told[i].End {
			first[i] = first[i+1]
		}
	}
	for i, o := range told {
		gaps := int64(o.Count) - 1 - int64(i)
		filled := sort.Search(len(maybes), func(m int) bool { return maybes[m] > o.End })
		switch {
		case i > 0 && told[i-1].Count == o.Count:
			faults = append(faults, Fault{o, "the same count was told twice", told[i-1]})
		case first[i].End < o.Start:
			faults = append(faults, Fault{o, "stale: a count that was told before it began is not lower", first[i]})
		case gaps > int64(filled):
			faults = append(faults, Fault{Op: o, Why: fmt.Sprintf("counted too far: %d lower counts were told to nobody, and %d increments are in doubt", gaps, filled)})
		}
	}
	return faults
}

// counts looks at reads of the counter.
func counts(told []*Op, begun []time.Duration, reads []*Op) (faults []Fault) {
	slices.SortFunc(told, func(a, b *Op) int { return cmp.Compare(a.End, b.End) })
	most := make([]*Op, len(told)) // of those that ended up to there, the one told most
	for i, o := range told {
		if most[i] = o; i > 0 && most[i-1].Count > o.Count {
			most[i] = most[i-1]
		}
	}
	for _, o := range reads {
		n := sort.Search(len(told), func(i int) bool { return told[i].End >= o.Start })
		most := most[:n]
		began := sort.Search(len(begun), func(i int) bool { return begun[i] > o.End })
		switch {
		case n > 0 && o.Count < most[n-1].Count:
			faults = append(faults, Fault{o, "stale: more was told before it began", most[n-1]})
		case o.Count > uint64(began) || o.Count > math.MaxInt64:
			faults = append(faults, Fault{Op: o, Why: fmt.Sprintf("counted too far: %d increments had begun", began)})
		}
	}
	return faults
}
