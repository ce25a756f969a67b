// Package model judges what clients saw: it holds a history of requests against
// what one memcached that never fails might have answered them. It is pure, runs on
// its caller's goroutine after the clients are done, and imports std only, so that it
// shares nothing with what it judges.
//
// # What is promised of a key
//
// Each request of a history has an interval, from before it was sent until after it
// was answered. A write that was acknowledged took effect within its interval. One
// that was answered with an error, or not at all, took effect at some time after it
// began, or never: it is a maybe for ever.
//
// A read of a value is right if the value was written by a write that began before
// the read ended, unless a write (or delete) that began after that one was
// acknowledged was itself acknowledged before the read began. A read that finds
// nothing is right if the same holds of a delete, or if no write had been
// acknowledged before it began. That is the same as to say: there is an order of the
// writes, true to their intervals, in which the read finds what it found. Each read
// is looked at by itself. Two reads that follow each other while a write is under way
// may see its value and then the one before: a replica may be lost between them.
//
// A counter begins at 0, is made before the history begins, and is never deleted. The
// counts that increments were told are to be those of one order of them, true to their
// intervals, in which maybes may fill gaps. A read of a counter is right if it finds
// no less than was told before it began and no more than was begun before it ended.
//
// Who owes what is the history's business: a miss or an error at a time when no
// replica of the key was left must not be in it.
package model

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// Kind is what a request does.
type Kind uint8

const (
	Read   Kind = iota // of a value
	Write              // of a value, whatever was there
	Delete             // whatever was there
	Incr               // of a counter, by 1
	Count              // a read of a counter
)

func (k Kind) String() string {
	return [...]string{"read", "write", "delete", "incr", "count"}[k]
}

// Outcome is how a request ended.
type Outcome uint8

const (
	Done    Outcome = iota // it was acknowledged; a read found a value
	Nothing                // there was no item to read or to count
	Wrong                  // a read found what is no value of its key
	Doubt                  // the answer says that nobody can know whether it took effect
	Failed                 // any other error, or no answer
)

func (o Outcome) String() string {
	return [...]string{"done", "nothing", "wrong", "doubt", "failed"}[o]
}

// An ID names a value: who wrote it, and the writer's own number for it.
type ID struct{ Writer, Seq int }

func (id ID) String() string { return fmt.Sprintf("%d.%d", id.Writer, id.Seq) }

// An Op is one request for one key and what came of it.
type Op struct {
	Client  int
	Key     string
	Kind    Kind
	Outcome Outcome
	ID      ID     // Read, Write: of the value
	Count   uint64 // Incr, Count: what was told
	// Start is before the request was sent, End after its answer was read; both since
	// any one moment. What is no acknowledged write has no end as a write.
	Start, End time.Duration
	Note       string // an answer that is no good, for those who read the history
}

// done is the moment by which o has taken effect, if it is a write.
func (o *Op) done() time.Duration {
	if o.Outcome == Done {
		return o.End
	}
	return math.MaxInt64
}

// A Fault is an Op that is not as promised.
type Fault struct {
	Op      *Op
	Why     string
	Against *Op // what shows it, if another Op does
}

// Check returns what is not as promised, by key and by start.
func Check(history []Op) []Fault {
	keys := map[string][]*Op{}
	for i := range history {
		keys[history[i].Key] = append(keys[history[i].Key], &history[i])
	}
	var faults []Fault
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		found := plain(keys[key])
		if slices.ContainsFunc(keys[key], func(o *Op) bool { return o.Kind >= Incr }) {
			found = append(found, counter(keys[key])...)
		} else {
			found = append(found, register(keys[key])...)
		}
		slices.SortStableFunc(found, func(a, b Fault) int { return int(a.Op.Start - b.Op.Start) })
		faults = append(faults, found...)
	}
	return faults
}

// plain finds what is a fault whatever else happened.
func plain(ops []*Op) (faults []Fault) {
	for _, o := range ops {
		switch {
		case o.Outcome == Wrong:
			faults = append(faults, Fault{Op: o, Why: "wrong value"})
		case o.Outcome == Failed:
			faults = append(faults, Fault{Op: o, Why: "error"})
		case o.Outcome == Doubt && o.Kind != Incr:
			faults = append(faults, Fault{Op: o, Why: "doubt about what can be repeated"})
		case o.Outcome == Nothing && (o.Kind == Incr || o.Kind == Count):
			faults = append(faults, Fault{Op: o, Why: "miss: the counter is lost"})
		case o.Outcome == Nothing && o.Kind == Write:
			faults = append(faults, Fault{Op: o, Why: "not stored"})
		}
	}
	return faults
}
