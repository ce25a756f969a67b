// Package health decides what each node is trusted with, and says so without a lock.
//
// A Table is one word per node, which every event loop loads on its request path
// and which changes only when a node's fortune does. A Monitor moves the words.
// Loops bring evidence (Trip, Demote), which counts at once, on their own
// goroutine; a prober per node, a goroutine of the Monitor's own, asks the node
// whether it answers, brings it back, and tells of every change. A machine is the
// pure rule of all that: it hears what happened and when, and says what the node is
// and when to probe it next. An Outlier is the rule by which loops find a node slow.
//
// The package knows nothing of connections, and imports std.
package health

import (
	"fmt"
	"sync/atomic"
)

// State is what a node is trusted with. The order is the rank for reads: a key is
// read from the replica with the least.
type State uint8

const (
	Up      State = iota // reads and writes
	Slow                 // written, and leads writes; plain reads go to it if no replica is Up
	Warming              // written; read if no replica is Up or Slow: it may lack items, and has no old ones
	Stale                // written; read by nobody: it may hold old values until its debt is paid
	Down                 // nothing
	numStates
)

var stateNames = [numStates]string{Up: "up", Slow: "slow", Warming: "warming", Stale: "stale", Down: "down"}

func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Word is a node's state and how it came to it: epoch<<32 | term<<8 | state. So
// what was learnt before a change can be told from what was learnt after it.
type Word uint64

const termMask = 1<<24 - 1

// State is what the node is trusted with.
func (w Word) State() State { return State(w) }

// Epoch counts the changes of the node's state.
func (w Word) Epoch() uint64 { return uint64(w >> 32) }

// Term counts the changes into Down and out of it, modulo 1<<24. Evidence against
// a node is good for the term it was gathered in: that the node has become slow or
// warm since makes it no less true, that it has been away does.
func (w Word) Term() uint32 { return uint32(w>>8) & termMask }

func (w Word) next(to State) Word {
	term := w.Term()
	if (w.State() == Down) != (to == Down) {
		term = (term + 1) & termMask
	}
	return (w>>32+1)<<32 | Word(term)<<8 | Word(to)
}

// Table holds a Word for each node. Any goroutine loads; stores are rare, so the
// words lie packed: a cache line serves eight nodes.
type Table struct {
	words   []atomic.Uint64
	changes atomic.Uint64
}

// NewTable is a table of n nodes, all Up in epoch 0.
func NewTable(n int) *Table { return &Table{words: make([]atomic.Uint64, n)} }

// Load returns the word of node i.
func (t *Table) Load(i int) Word { return Word(t.words[i].Load()) }

// Up reports whether node i is as good as a node can be.
func (t *Table) Up(i int) bool { return t.Load(i).State() == Up }

// Readable reports whether node i may be read, if none of a lesser State is there.
func (t *Table) Readable(i int) bool { return t.Load(i).State() <= Warming }

// Writable reports whether node i takes writes.
func (t *Table) Writable(i int) bool { return t.Load(i).State() != Down }

// Move takes node i to state to if its word is still the one the caller saw: late
// news does not undo fresh news. It reports whether it did, and the new word. A
// table that has a Monitor is moved by that alone.
func (t *Table) Move(i int, seen Word, to State) (Word, bool) {
	if seen.State() == to {
		return seen, false
	}
	next := seen.next(to)
	if !t.words[i].CompareAndSwap(uint64(seen), uint64(next)) {
		return next, false
	}
	t.changes.Add(1)
	return next, true
}

// Changes counts the changes of all nodes: while it is the same, so is who leads.
func (t *Table) Changes() uint64 { return t.changes.Load() }
