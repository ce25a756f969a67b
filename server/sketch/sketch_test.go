package sketch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// exact counts every key, in as much memory as that takes.
type exact struct {
	count, marked map[string]uint64
	total         uint64
}

func newExact() *exact { return &exact{count: map[string]uint64{}, marked: map[string]uint64{}} }

func (e *exact) add(key string, marked bool) {
	e.total++
	e.count[key]++
	if marked {
		e.marked[key]++
	}
}

// bounds fails if the sketch promises what is not so, or its parts do not fit together.
func bounds(t *testing.T, s *Sketch, e *exact) {
	t.Helper()
	entries := s.Entries()
	if s.Total() != e.total || s.Floor() > e.total/uint64(len(s.order)) {
		t.Fatalf("total %d, floor %d of %d counters; %d came", s.Total(), s.Floor(), len(s.order), e.total)
	}
	sum, has := uint64(0), map[string]bool{}
	for _, c := range entries {
		sum += c.Count
		has[string(c.Key)] = true
		is := e.count[string(c.Key)]
		if is > c.Count || is < c.Count-c.Over || c.Over > s.Floor() || c.Marked > min(e.marked[string(c.Key)], c.Count-c.Over) {
			t.Fatalf("%q came %d times, %d marked: %+v, floor %d", c.Key, is, e.marked[string(c.Key)], c, s.Floor())
		}
	}
	if sum != e.total || len(has) != len(entries) {
		t.Fatalf("%d are counted of %d, for %d keys in %d counters", sum, e.total, len(has), len(entries))
	}
	for key, n := range e.count {
		if n > s.Floor() && !has[key] {
			t.Fatalf("%q came %d times, and has no counter; floor %d", key, n, s.Floor())
		}
	}
	if !slices.IsSortedFunc(entries, func(a, b Entry) int { return int(b.Count) - int(a.Count) }) {
		t.Fatal("the entries are in no order")
	}
	whole(t, s)
}

// whole fails if the invariants of a Sketch do not hold.
func whole(t *testing.T, s *Sketch) {
	t.Helper()
	used := 0
	for place, i := range s.order {
		c := &s.count[i]
		g := s.groups[c.group]
		if int(c.at) != place || place < int(g.first) || place > int(g.last) {
			t.Fatalf("counter %d at %d: %+v in %+v", i, place, c, g)
		}
		if place == int(g.first) {
			used++
		}
		if place > 0 && s.groups[s.count[s.order[place-1]].group].count > g.count {
			t.Fatalf("place %d is out of order", place)
		}
		if g.count > 0 && s.find(c.hash, s.key(i)) != i {
			t.Fatalf("counter %d is not found", i)
		}
	}
	if used+len(s.spare) != len(s.groups) {
		t.Fatalf("%d groups in use and %d spare, of %d", used, len(s.spare), len(s.groups))
	}
}

// skewed is a key of many, the first of which come most often.
func skewed(z *rand.Zipf) string { return fmt.Sprintf("key:%d", z.Uint64()) }

func TestSketch(t *testing.T) {
	for round := range 15 {
		rng := rand.New(rand.NewPCG(1, uint64(round)))
		z := rand.NewZipf(rng, 1.01+rng.Float64(), 1, uint64(rng.IntN(1000)))
		s, e := New(rng.IntN(70)), newExact()
		for step := range rng.IntN(4000) {
			key, marked := skewed(z), rng.IntN(3) == 0
			s.Add([]byte(key), marked)
			e.add(key, marked)
			if step%1000 == 0 {
				bounds(t, s, e)
			}
		}
		bounds(t, s, e)
	}
}

// With as many counters as keys a Sketch is exact.
func TestSketchOfFewKeys(t *testing.T) {
	s, e := New(16), newExact()
	for i := range 5000 {
		key := fmt.Sprint(i * i % 16)
		s.Add([]byte(key), i%2 == 0)
		e.add(key, i%2 == 0)
	}
	for _, c := range s.Entries() {
		if c.Over != 0 || c.Count != e.count[string(c.Key)] || c.Marked != e.marked[string(c.Key)] {
			t.Errorf("%+v, want %d, %d", c, e.count[string(c.Key)], e.marked[string(c.Key)])
		}
	}
	s.Add(make([]byte, MaxKey+1), false)
	if len(s.Entries()) != len(e.count) || s.Total() != 5001 {
		t.Errorf("after a key that is too long: %d entries of %d", len(s.Entries()), s.Total())
	}
}

func TestMerge(t *testing.T) {
	for round := range 15 {
		rng := rand.New(rand.NewPCG(2, uint64(round)))
		z := rand.NewZipf(rng, 1.2, 1, 300)
		e := newExact()
		var parts []*Sketch
		for range 1 + rng.IntN(4) {
			parts = append(parts, New(8+rng.IntN(60)))
		}
		for range rng.IntN(5000) {
			key, marked := skewed(z), rng.IntN(3) == 0
			parts[rng.IntN(len(parts))].Add([]byte(key), marked)
			e.add(key, marked)
		}
		floors := uint64(0)
		for _, s := range parts {
			floors += s.Floor()
		}
		all := Merge(1<<20, parts...)
		has := map[string]bool{}
		for _, c := range all {
			has[string(c.Key)] = true
			if is := e.count[string(c.Key)]; is > c.Count || is < c.Count-c.Over || c.Over > floors || c.Marked > min(c.Count-c.Over, e.marked[string(c.Key)]) {
				t.Fatalf("%q came %d times: %+v, floors %d", c.Key, is, c, floors)
			}
		}
		for key, n := range e.count {
			if n > floors && !has[key] {
				t.Fatalf("%q came %d times and is not there; floors %d", key, n, floors)
			}
		}
		if few := Merge(3, parts...); len(few) != min(3, len(all)) || len(few) > 0 && string(few[0].Key) != string(all[0].Key) {
			t.Fatalf("three of them: %d", len(few))
		}
		if !slices.IsSortedFunc(all, func(a, b Entry) int { return int(b.Count-b.Over) - int(a.Count-a.Over) }) {
			t.Fatal("they are in no order")
		}
	}
}

// FuzzSketch has the bytes be keys, of a length and an alphabet that make them come again.
func FuzzSketch(f *testing.F) {
	f.Add([]byte("abcabcabcdeaaaabbbb"), uint8(3))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0}, uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, m uint8) {
		s, e := New(int(m)), newExact()
		for len(in) > 0 {
			n := min(len(in), 1+int(in[0]&1))
			s.Add(in[:n], in[0]&2 != 0)
			e.add(string(in[:n]), in[0]&2 != 0)
			in = in[n:]
		}
		bounds(t, s, e)
	})
}

func BenchmarkAdd(b *testing.B) {
	for _, keys := range []uint64{100, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			z := rand.NewZipf(rand.New(rand.NewPCG(3, 3)), 1.1, 1, keys)
			var all [1 << 14][]byte
			for i := range all {
				all[i] = []byte(skewed(z))
			}
			s := New(1024)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Add(all[i&(len(all)-1)], false)
				i++
			}
		})
	}
}
