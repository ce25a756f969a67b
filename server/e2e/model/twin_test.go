package model

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var twinSeed = flag.Uint64("seed", 1, "first seed of the random histories")

// The twin knows nothing of intervals that overlap. It puts the writes of a key into
// every order in which they can have taken effect, leaving out any maybes, and looks
// whether the read is explained by one.

// orders calls try with every order of some of ops that is true to their intervals,
// with all that were acknowledged in it, until try says that it will do.
func orders(ops []*Op, try func([]*Op) bool) bool {
	var extend func(chosen, left []*Op) bool
	extend = func(chosen, left []*Op) bool {
		if !slices.ContainsFunc(left, func(o *Op) bool { return o.Outcome == Done }) && try(chosen) {
			return true
		}
		for i, next := range left {
			// What was over before another began came before it.
			if slices.ContainsFunc(left, func(o *Op) bool { return o.done() < next.Start }) {
				continue
			}
			rest := slices.Concat(left[:i], left[i+1:])
			if extend(append(slices.Clone(chosen), next), rest) {
				return true
			}
		}
		return false
	}
	return extend(nil, ops)
}

// explained reports whether there are an order of writes and a place in it for read,
// true to its interval, where right says that it found what it must.
func explained(writes []*Op, read *Op, right func(before []*Op) bool) bool {
	return orders(writes, func(order []*Op) bool {
		for i := 0; i <= len(order); i++ {
			early := slices.ContainsFunc(order[i:], func(o *Op) bool { return o.done() < read.Start })
			late := slices.ContainsFunc(order[:i], func(o *Op) bool { return o.Start > read.End })
			if !early && !late && right(order[:i]) {
				return true
			}
		}
		return false
	})
}

// naive says which reads of a register are at fault.
func naive(history []Op) (faulty []int) {
	var writes []*Op
	for i := range history {
		if o := &history[i]; o.Kind != Read {
			writes = append(writes, o)
		}
	}
	for i := range history {
		r := &history[i]
		if r.Kind == Read && !explained(writes, r, func(before []*Op) bool {
			if len(before) == 0 {
				return r.Outcome == Nothing
			}
			last := before[len(before)-1]
			return (last.Kind == Delete) == (r.Outcome == Nothing) && (r.Outcome == Nothing || last.ID == r.ID)
		}) {
			faulty = append(faulty, i)
		}
	}
	return faulty
}

// interval sets a random one within a short time, so that many touch and overlap.
func (o *Op) interval(rng *rand.Rand) {
	o.Start = time.Duration(rng.IntN(12))
	o.End = o.Start + time.Duration(rng.IntN(5))
}

func TestRegistersAgainstTwin(t *testing.T) {
	wrong := 0
	for seed := *twinSeed; seed < *twinSeed+20000; seed++ {
		rng := rand.New(rand.NewPCG(seed, 0))
		history := make([]Op, 1+rng.IntN(7))
		for i := range history {
			o := &history[i]
			o.Client, o.Key, o.ID = i, "k", ID{1, i}
			o.interval(rng)
			switch rng.IntN(5) {
			case 0, 1:
				o.Kind = Write
			case 2:
				o.Kind = Delete
			case 3:
				o.Outcome = Nothing
			default:
				o.ID.Seq = rng.IntN(len(history))
			}
			if (o.Kind == Write || o.Kind == Delete) && rng.IntN(4) == 0 {
				o.Outcome = Failed
			}
		}
		var got []int
		for _, f := range Check(history) {
			if f.Op.Kind == Read {
				got = append(got, f.Op.Client)
			}
		}
		slices.Sort(got)
		want := naive(history)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: found faults in %v, the twin in %v, of\n%s", seed, got, want, listing(history))
		}
		wrong += min(1, len(want))
	}
	if wrong < 1000 || wrong > 19000 {
		t.Errorf("%d histories are at fault: they prove little", wrong)
	}
}

func listing(history []Op) (text string) {
	for i := range history {
		o := &history[i]
		text += fmt.Sprintf("%d: %s %d %d %v %d %s\n", i, o.Kind, o.Start, o.End, o.ID, o.Count, o.Outcome)
	}
	return text
}

// randomCounter is a history of increments, of which some are in doubt, and reads.
// What they were told is mostly near the truth.
func randomCounter(rng *rand.Rand) []Op {
	history := make([]Op, 1+rng.IntN(6))
	count := uint64(0)
	for i := range history {
		o := &history[i]
		o.Client, o.Key, o.Kind = i, "k", Incr
		o.interval(rng)
		if rng.IntN(3) == 0 {
			o.Outcome = Doubt
		}
		if o.Outcome == Done || rng.IntN(2) == 0 {
			count++
		}
		o.Count = count
		switch rng.IntN(12) {
		case 0, 1, 2:
			o.Kind, o.Outcome = Count, Done
			o.Count = uint64(rng.IntN(len(history)))
		case 3:
			o.Count = uint64(1 + rng.IntN(len(history)))
		}
	}
	return history
}

// naiveCounter says whether one order explains all that increments were told, and
// which reads, each by itself, are at fault.
func naiveCounter(history []Op) (ordered bool, faulty []int) {
	var incrs []*Op
	for i := range history {
		if o := &history[i]; o.Kind == Incr {
			incrs = append(incrs, o)
		}
	}
	ordered = orders(incrs, func(order []*Op) bool {
		for i, o := range order {
			if o.Outcome == Done && o.Count != uint64(i+1) {
				return false
			}
		}
		return true
	})
	for i := range history {
		r := &history[i]
		told := func(o *Op) bool { return o.done() < r.Start && o.Count > r.Count }
		found := func(before []*Op) bool { return uint64(len(before)) == r.Count }
		if r.Kind == Count && (slices.ContainsFunc(incrs, told) || !explained(incrs, r, found)) {
			faulty = append(faulty, i)
		}
	}
	return ordered, faulty
}

func TestCountersAgainstTwin(t *testing.T) {
	wrong := 0
	for seed := *twinSeed; seed < *twinSeed+20000; seed++ {
		history := randomCounter(rand.New(rand.NewPCG(seed, 1)))
		ordered, faulty := true, []int(nil)
		for _, f := range Check(history) {
			if f.Op.Kind == Count {
				faulty = append(faulty, f.Op.Client)
			} else if f.Op.Outcome == Done {
				ordered = false
			}
		}
		slices.Sort(faulty)
		wantOrdered, wantFaulty := naiveCounter(history)
		// What reads may find follows from what was told, if that is right.
		if ordered != wantOrdered || ordered && !slices.Equal(faulty, wantFaulty) {
			t.Fatalf("seed %d: increments are in order: %v, and faults in reads: %v; by the twin %v and %v:\n%s",
				seed, ordered, faulty, wantOrdered, wantFaulty, listing(history))
		}
		if !ordered || len(faulty) > 0 {
			wrong++
		}
	}
	if wrong < 1000 || wrong > 19000 {
		t.Errorf("%d histories are at fault: they prove little", wrong)
	}
}
