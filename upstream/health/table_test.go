package health

import (
	"slices"
	"sync"
	"testing"
)

// News from before the node's last change does not undo it.
func TestLateNewsIsRefused(t *testing.T) {
	table := NewTable(2)
	seen := table.Load(1)
	if seen.State() != Up || seen.Epoch() != 0 || !table.Up(1) || !table.Writable(1) {
		t.Fatalf("a node begins as %v in epoch %d", seen.State(), seen.Epoch())
	}
	down, ok := table.Move(1, seen, Down)
	if !ok || down.State() != Down || down.Epoch() != 1 || table.Up(1) || table.Writable(1) {
		t.Errorf("moved %v to %v in epoch %d", ok, down.State(), down.Epoch())
	}
	warm, ok := table.Move(1, down, Warming)
	if !ok || warm.Epoch() != 2 || table.Up(1) || !table.Readable(1) || !table.Writable(1) {
		t.Errorf("moved %v to %v in epoch %d", ok, warm.State(), warm.Epoch())
	}
	back, ok := table.Move(1, warm, Up)
	if !ok || back.Epoch() != 3 {
		t.Errorf("moved %v to %v in epoch %d", ok, back.State(), back.Epoch())
	}
	for _, old := range []Word{seen, down, warm} {
		if _, ok := table.Move(1, old, Down); ok || table.Load(1) != back {
			t.Errorf("news of epoch %d took the node down in epoch 3", old.Epoch())
		}
	}
	if _, ok := table.Move(1, back, Up); ok || table.Load(1) != back {
		t.Error("a move to the same state is a change")
	}
	if table.Load(0) != 0 {
		t.Error("the other node changed too")
	}
}

// Of many that see the same failure one makes the change.
func TestOneOfManyMoves(t *testing.T) {
	table := NewTable(1)
	seen := table.Load(0)
	moved := make(chan bool, 32)
	var wg sync.WaitGroup
	for range cap(moved) {
		wg.Go(func() {
			_, ok := table.Move(0, seen, Down)
			moved <- ok
		})
	}
	wg.Wait()
	close(moved)
	n := 0
	for ok := range moved {
		if ok {
			n++
		}
	}
	if n != 1 || table.Load(0).Epoch() != 1 {
		t.Errorf("%d moves, epoch %d", n, table.Load(0).Epoch())
	}
}

// The term changes with the crossings of Down and with nothing else, and wraps
// without touching its neighbours.
func TestTerm(t *testing.T) {
	table := NewTable(1)
	var terms []uint32
	for epoch, to := range []State{Slow, Up, Down, Stale, Warming, Down, Warming, Up, Slow, Down} {
		w, ok := table.Move(0, table.Load(0), to)
		if !ok || w.State() != to || w.Epoch() != uint64(epoch)+1 {
			t.Fatalf("moved %v to %v in epoch %d", ok, w.State(), w.Epoch())
		}
		terms = append(terms, w.Term())
	}
	if want := []uint32{0, 0, 1, 2, 2, 3, 4, 4, 4, 5}; !slices.Equal(terms, want) {
		t.Errorf("the terms are %d, want %d", terms, want)
	}
	last := Word(7<<32 | termMask<<8 | uint64(Up))
	if w := last.next(Down); w.Term() != 0 || w.Epoch() != 8 || w.State() != Down {
		t.Errorf("the last term is followed by %d, epoch %d, %v", w.Term(), w.Epoch(), w.State())
	}
}

// What each state is good for.
func TestTrust(t *testing.T) {
	for s, want := range map[State][3]bool{
		Up: {true, true, true}, Slow: {false, true, true}, Warming: {false, true, true}, Stale: {false, false, true}, Down: {},
	} {
		table := NewTable(1)
		table.Move(0, table.Load(0), s)
		if got := [3]bool{table.Up(0), table.Readable(0), table.Writable(0)}; got != want {
			t.Errorf("%v: up, readable, writable are %v, want %v", s, got, want)
		}
	}
}

func TestStatesAreNamed(t *testing.T) {
	for s, want := range map[State]string{Up: "up", Slow: "slow", Warming: "warming", Stale: "stale", Down: "down", 9: "state(9)"} {
		if got := s.String(); got != want {
			t.Errorf("%d is called %q, want %q", s, got, want)
		}
	}
}
