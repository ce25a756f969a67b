package health

import (
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
	if !ok || warm.Epoch() != 2 || table.Up(1) || !table.Writable(1) {
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

func TestStatesAreNamed(t *testing.T) {
	for s, want := range map[State]string{Up: "up", Warming: "warming", Down: "down", 9: "state(9)"} {
		if got := s.String(); got != want {
			t.Errorf("%d is called %q, want %q", s, got, want)
		}
	}
}
