// Package health decides which nodes are fit, and says so without a lock.
//
// A Table is one word per node, an epoch and a state, which every event loop
// loads on its request path and which changes only when a node's fortune does. A
// Monitor moves the words. Trip takes a node down at once, on the goroutine of the
// loop that has evidence against it; then a prober, a goroutine of the Monitor's
// own, asks the node until it may come back. A machine (step) is the pure rule of
// that: it hears how a probe went, and says whether the node is back and how long
// to wait before the next. The package knows nothing of connections and imports std.
package health

import (
	"fmt"
	"sync/atomic"
)

// State is what a node is trusted with.
type State uint8

const (
	Up      State = iota // reads and writes
	Warming              // reachable, written, not yet trusted for reads
	Down                 // nothing
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Warming:
		return "warming"
	case Down:
		return "down"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Word is a node's state and the epoch it began in: epoch<<8 | state. Every
// change of state is a new epoch, so news from before the change can be told.
type Word uint64

// State is what the node is trusted with.
func (w Word) State() State { return State(w) }

// Epoch counts the changes of the node's state.
func (w Word) Epoch() uint64 { return uint64(w >> 8) }

func (w Word) next(s State) Word { return (w>>8+1)<<8 | Word(s) }

// Table holds a Word for each node. Any goroutine loads; stores are rare, so the
// words lie packed: a cache line serves eight nodes.
type Table struct{ words []atomic.Uint64 }

// NewTable is a table of n nodes, all Up in epoch 0.
func NewTable(n int) *Table { return &Table{words: make([]atomic.Uint64, n)} }

// Load returns the word of node i.
func (t *Table) Load(i int) Word { return Word(t.words[i].Load()) }

// Up reports whether node i may be read.
func (t *Table) Up(i int) bool { return State(t.words[i].Load()) == Up }

// Writable reports whether node i takes writes.
func (t *Table) Writable(i int) bool { return State(t.words[i].Load()) != Down }

// Move takes node i to state s if it is still in the epoch the caller saw: late
// news does not undo fresh news. It reports whether it did, and the new word.
func (t *Table) Move(i int, seen Word, s State) (Word, bool) {
	if seen.State() == s {
		return seen, false
	}
	next := seen.next(s)
	return next, t.words[i].CompareAndSwap(uint64(seen), uint64(next))
}
