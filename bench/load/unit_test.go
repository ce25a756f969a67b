package load

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"magent/bench/keys"
	"magent/bench/wire"
)

// Both rings are queues, however they grow and wrap.
func TestQueues(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	f := newFlights(1, 3)
	var q times
	var want, late []int64
	for i := range int64(20000) {
		if rng.IntN(100) < 50+int(20*(i/5000%2)) { // it grows for a while, and shrinks
			slot, acked := f.push()
			slot.due = i
			acked[0], acked[2] = uint32(i), uint32(i+2)
			want = append(want, i)
			q.push(i)
			late = append(late, i)
		} else if len(want) > 0 {
			slot, acked := f.front()
			if slot.due != want[0] || len(acked) != 3 || acked[0] != uint32(want[0]) || acked[2] != uint32(want[0]+2) {
				t.Fatalf("step %d: front is %d with %v, want %d", i, slot.due, acked, want[0])
			}
			f.pop()
			want = want[1:]
			if at := q.pop(); at != late[0] {
				t.Fatalf("step %d: popped %d, want %d", i, at, late[0])
			}
			late = late[1:]
		}
		if f.n != len(want) || q.len() != len(late) {
			t.Fatalf("step %d: %d and %d in the queues, want %d", i, f.n, q.len(), len(want))
		}
	}
	if cap(q.at) > 1<<14 {
		t.Errorf("a queue of %d at most has room for %d", len(late), cap(q.at))
	}
}

// Every key is written by one connection alone, which is one of the writers if not all
// are, and what a seed asks for it asks again.
func TestKeysHaveOneWriter(t *testing.T) {
	for _, kind := range []byte{keys.Uniform, keys.Sequential, keys.Parallel, keys.Zipf, keys.Gaussian, keys.Hot} {
		for _, n := range []int{7, 10, 23} {
			for _, writers := range []int{0, 1, 3} {
				cfg := Config{
					Conns: 7, Writers: writers, Keys: keys.Config{Max: n - 1},
					ReadKeys: keys.Pattern{Kind: kind}, WriteKeys: keys.Pattern{Kind: kind},
					Mix: Mix{wire.Get: 1, wire.Set: 1, wire.Delete: 1, wire.CAS: 1},
				}
				checkWriters(t, cfg.withDefaults())
			}
		}
	}
}

func checkWriters(t *testing.T, cfg Config) {
	t.Helper()
	s, again := newShared(cfg), newShared(cfg)
	kind := cfg.WriteKeys.Kind
	writer := map[uint32]int{}
	read := map[uint32]bool{}
	for no := range cfg.Conns {
		a, b := newSource(s, no), newSource(again, no)
		for range 200 {
			var f, g flight
			a.next(&f)
			b.next(&g)
			f.Mark.Run, g.Mark.Run = 0, 0
			if f != g {
				t.Fatalf("%c: connection %d asks for %+v, then for %+v", kind, no, f, g)
			}
			write := f.forCAS || f.Op != wire.Get
			if writes := no >= cfg.Conns-cfg.Writers; cfg.Writers > 0 && write != writes {
				t.Fatalf("%c: connection %d asks for %+v; the last %d write", kind, no, f, cfg.Writers)
			}
			if !write {
				read[f.Key] = true
				continue
			}
			if who, ok := writer[f.Key]; ok && who != no || int(f.Key) >= s.space.Len() {
				t.Fatalf("%c: key %d of %d is written by %d and %d", kind, f.Key, s.space.Len(), who, no)
			}
			writer[f.Key] = no
		}
	}
	if kind == keys.Gaussian || kind == keys.Hot { // some keys are hardly ever drawn
		return
	}
	if len(read) != s.space.Len() || len(writer) != s.space.Len() {
		t.Errorf("%c, %d writers: of %d keys %d are read and %d written", kind, cfg.Writers, s.space.Len(), len(read), len(writer))
	}
}

// The reports of several workers are one: the faults told of are the worst, and of those
// the first.
func TestReportsAreAddedUp(t *testing.T) {
	s := newShared(Config{Targets: []string{"x:1"}, Conns: 3, Threads: 3, Requests: 1}.withDefaults())
	var workers []*worker
	for i, fault := range []struct {
		verdict Verdict
		at      int64
		text    string
	}{{Failed, 1, "refused"}, {Wrong, 9, "wrong, later"}, {Wrong, 5, "wrong, first"}} {
		w := newWorker(s, i, -1)
		w.blame(Lost, 100, "lost")
		w.blame(fault.verdict, fault.at, fault.text)
		w.blame(Stale, 0, "stale")
		w.errors, w.lost, w.in = 1, 2, 10
		workers = append(workers, w)
	}
	rep := collect(s, workers)
	if rep.FirstError != "wrong, first" || rep.Errors != 3 || rep.Lost != 6 || rep.BytesIn != 30 {
		t.Errorf("first error %q, errors %d, lost %d, %d bytes", rep.FirstError, rep.Errors, rep.Lost, rep.BytesIn)
	}
	workers[1].fault, workers[2].fault = fault{}, fault{}
	if rep := collect(s, workers); rep.FirstError != "stale" {
		t.Errorf("first error %q, want the stale one", rep.FirstError)
	}
	text, err := json.Marshal(rep)
	for _, word := range []string{`"requests":0`, `"ops":{}`, `"stale":0`, `"first_error":"wrong, first"`} {
		if err != nil || !strings.Contains(string(text), word) {
			t.Errorf("no %s in %s, %v", word, text, err)
		}
	}
}

func TestNames(t *testing.T) {
	var got []string
	for v := Good; v <= Lost; v++ {
		got = append(got, v.String())
	}
	got = append(got, Even.String(), Poisson.String())
	if want := []string{"good", "miss", "stale", "wrong", "failed", "lost", "even", "poisson"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}
