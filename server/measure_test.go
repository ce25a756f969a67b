package server

import (
	"testing"

	"magent/codec"
)

func TestResultOfAnAnswer(t *testing.T) {
	for answer, want := range map[string]Result{
		"STORED\r\n": ResultOK, "DELETED\r\n": ResultOK, "TOUCHED\r\n": ResultOK, "OK\r\n": ResultOK, "HD\r\n": ResultOK,
		"HD c7\r\n": ResultOK, "VA 1\r\n7\r\n": ResultOK, "7\r\n": ResultOK, "18446744073709551615\r\n": ResultOK, "": ResultOK,
		"NOT_FOUND\r\n": ResultNotFound, "NF\r\n": ResultNotFound, "NOT_STORED\r\n": ResultNotStored, "NS\r\n": ResultNotStored,
		"EXISTS\r\n": ResultExists, "EX\r\n": ResultExists,
		"ERROR\r\n": ResultError, "CLIENT_ERROR bad data chunk\r\n": ResultError, "SERVER_ERROR node a: timeout\r\n": ResultError,
	} {
		if got := resultOf([]byte(answer)); got != want {
			t.Errorf("%q is %s, want %s", answer, got, want)
		}
	}
}

// A loop that hangs counts as when it last answered, and nobody waits for it for long.
func TestSnapshotOfALoopThatHangs(t *testing.T) {
	w := newWorld(t, nil, 1)
	w.start()
	srv := w.loop.srv
	p := srv.pools[0]
	srv.loops, p.keepers = []*loop{w.loop}, []*keeper{newKeeper(p, p.pool.Nodes[0])}
	srv.running.Store(true)
	defer srv.running.Store(false)
	w.loop.count.Commands[codec.OpGet] = 7
	snap := srv.Snapshot() // nobody runs the loop's tasks meanwhile
	if snap.Silent != 1 || snap.Loops != 1 || snap.Requests() != 0 {
		t.Errorf("%d of %d loops are silent, with %d requests", snap.Silent, snap.Loops, snap.Requests())
	}
	w.settle() // it answers after all
	w.loop.count.Commands[codec.OpGet] = 8
	if snap = srv.Snapshot(); snap.Silent != 1 || snap.Requests() != 7 {
		t.Errorf("%d loops are silent, with %d requests", snap.Silent, snap.Requests())
	}
	w.settle()
}
