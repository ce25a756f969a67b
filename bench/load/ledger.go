package load

import (
	"slices"
	"sync"
	"sync/atomic"
)

// ledger knows the last number that was acknowledged of each key. A key has one writer,
// a connection, whose worker alone numbers and acknowledges its writes; all workers look.
// A delete is a write, with a number that no value bears.
//
// A write that ended without an answer or with an error may take effect at any later
// time, or never. A value it left is not stale whenever it turns up.
type ledger struct {
	keys []entry

	mu     sync.Mutex
	doubts map[uint32][]doubt
}

type entry struct {
	acked  atomic.Uint32
	issued uint32 // the writer's alone
}

// doubt is a run of numbers of a key that ended so, as they do while a target is away.
type doubt struct{ from, to uint32 }

// mostDoubts are kept of a key; the last grows over what lies between it and any more.
const mostDoubts = 8

func newLedger(n int) *ledger {
	return &ledger{keys: make([]entry, n), doubts: make(map[uint32][]doubt)}
}

// issue numbers the next write of key k.
func (l *ledger) issue(k uint32) uint32 {
	l.keys[k].issued++
	return l.keys[k].issued
}

// ack notes that write seq of key k was answered. Answers on one connection come in
// order, so it is the highest.
func (l *ledger) ack(k, seq uint32) { l.keys[k].acked.Store(seq) }

// acked is the number below which a value of key k is stale that is asked for from now
// on. 0: none is.
func (l *ledger) acked(k uint32) uint32 { return l.keys[k].acked.Load() }

// doubt notes that nobody knows what became of write seq of key k.
func (l *ledger) doubt(k, seq uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.doubts[k]
	if n := len(all); n > 0 && (all[n-1].to+1 == seq || n == mostDoubts) {
		all[n-1].to = seq
		return
	}
	l.doubts[k] = append(all, doubt{seq, seq})
}

// doubtful says whether write seq of key k may yet take effect.
func (l *ledger) doubtful(k, seq uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.doubts[k], func(d doubt) bool { return d.from <= seq && seq <= d.to })
}
