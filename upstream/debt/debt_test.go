package debt_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"magent/upstream/debt"
)

// twin is a Journal as simple as it can be.
type twin struct {
	maxKeys, maxBytes int
	overflowed        bool
	order             []noted
	has               map[noted]bool
	bytes             int
}

type noted struct {
	key    string
	base64 bool
}

func (w *twin) note(k noted) {
	if w.overflowed || w.has[k] {
		return
	}
	if len(w.order)+1 > w.maxKeys || w.bytes+len(k.key) > w.maxBytes {
		w.clear()
		w.overflowed = true
		return
	}
	w.has[k] = true
	w.order = append(w.order, k)
	w.bytes += len(k.key)
}

func (w *twin) next() (k noted, ok bool) {
	if len(w.order) == 0 {
		return k, false
	}
	k, w.order = w.order[0], w.order[1:]
	delete(w.has, k)
	w.bytes -= len(k.key)
	return k, true
}

func (w *twin) clear() {
	*w = twin{maxKeys: w.maxKeys, maxBytes: w.maxBytes, has: map[noted]bool{}}
}

// pair is a Journal and its twin.
type pair struct {
	t *testing.T
	j *debt.Journal
	w twin
}

func newPair(t *testing.T, maxKeys, maxBytes int) *pair {
	return &pair{t, debt.NewJournal(maxKeys, maxBytes), twin{maxKeys: maxKeys, maxBytes: maxBytes, has: map[noted]bool{}}}
}

func (p *pair) note(key string, base64 bool) {
	p.t.Helper()
	b := []byte(key)
	p.j.Note(b, base64)
	clear(b) // the Journal has a copy
	p.w.note(noted{key, base64})
	p.same()
	p.has(key)
}

// has wants both to know, or not to know, key in either form.
func (p *pair) has(key string) {
	p.t.Helper()
	for _, base64 := range []bool{false, true} {
		if got, want := p.j.Has([]byte(key), base64), p.w.has[noted{key, base64}]; got != want {
			p.t.Errorf("%q, base64 %v: there is %v, want %v", key, base64, got, want)
		}
	}
}

func (p *pair) next() bool {
	p.t.Helper()
	key, base64, ok := p.j.Next()
	want, wantOK := p.w.next()
	if ok != wantOK || string(key) != want.key || base64 != want.base64 {
		p.t.Fatalf("next is %q, %v, %v, want %+v, %v", key, base64, ok, want, wantOK)
	}
	_ = append(key, "another"...) // must not tread on the key behind it
	p.same()
	p.has(want.key)
	return ok
}

func (p *pair) same() {
	p.t.Helper()
	if p.j.Len() != len(p.w.order) || p.j.Bytes() != p.w.bytes || p.j.Overflowed() != p.w.overflowed {
		p.t.Fatalf("%d keys of %d bytes, overflowed %v, want %d of %d, %v",
			p.j.Len(), p.j.Bytes(), p.j.Overflowed(), len(p.w.order), p.w.bytes, p.w.overflowed)
	}
}

func TestKeysComeOutInOrder(t *testing.T) {
	p := newPair(t, 100, 1000)
	if p.next() {
		t.Error("a new one has a key")
	}
	for _, k := range []string{"b", "a", "b", "", "c", "a", strings.Repeat("k", 250)} {
		p.note(k, false)
		p.note(k, k == "a")
	}
	if p.j.Len() != 6 {
		t.Errorf("%d keys", p.j.Len())
	}
	for p.next() {
	}
	p.note("b", false)
	p.next()
}

func TestOverflow(t *testing.T) {
	for what, over := range map[string]func(*pair){
		"keys":    func(p *pair) { p.note("4", false) },
		"bytes":   func(p *pair) { p.note("12345678", false) },
		"forfeit": func(p *pair) { p.j.Forfeit(); p.w.clear(); p.w.overflowed = true },
	} {
		p := newPair(t, 3, 10)
		for range 2 { // the second time after Clear
			for _, k := range []string{"1", "2", "3", "3", "1"} {
				p.note(k, false)
			}
			if over(p); !p.j.Overflowed() {
				t.Errorf("%s: no overflow", what)
			}
			p.note("5", false)
			if p.next() {
				t.Errorf("%s: an overflowed journal has a key", what)
			}
			p.j.Clear()
			p.w.clear()
			p.same()
		}
	}
	j := debt.NewJournal(10, 1<<20)
	if j.Note(make([]byte, 1<<15), false); !j.Overflowed() {
		t.Error("a key of 32 KiB fits")
	}
	if j = debt.NewJournal(0, 0); j.Overflowed() {
		t.Error("overflowed before anything was missed")
	}
	if j.Note(nil, false); !j.Overflowed() {
		t.Error("a journal of no keys takes one")
	}
}

// play lets op decide what happens: it gives the next decision below n.
func play(p *pair, steps int, op func(n int) int) {
	for range steps {
		switch o := op(64); {
		case o < 36:
			k := op(1 << 11)
			p.note(fmt.Sprint(k, strings.Repeat("k", k%247)), k&1 == 0)
		case o < 63:
			p.next()
		case op(32) == 0:
			p.j.Clear()
			p.w.clear()
		}
	}
	for p.next() {
	}
}

func TestAgainstTwin(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := newPair(t, 1+r.IntN(4000), 1+r.IntN(1<<20))
		play(p, 20_000, r.IntN)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(uint8(100), uint16(1000), []byte("note some, take some"))
	f.Add(uint8(3), uint16(60000), bytes.Repeat([]byte{0, 1, 2, 3, 4, 60}, 50))
	f.Fuzz(func(t *testing.T, maxKeys uint8, maxBytes uint16, in []byte) {
		play(newPair(t, int(maxKeys), int(maxBytes)), len(in)/2, func(n int) int {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int(b) * 7 % n
		})
	})
}

// keys makes n keys of 50 bytes.
func keys(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "user:%045d", i)
	}
	return out
}

func TestManyKeys(t *testing.T) {
	p := newPair(t, 1<<20, 64<<20)
	for _, k := range keys(100_000) {
		p.note(string(k), false)
	}
	for range 95_000 {
		p.next()
	}
	for _, k := range keys(20_000) {
		p.note(string(k), true)
	}
	for p.next() {
	}
}

// heap is the bytes of all live objects.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestMemory(t *testing.T) {
	for _, n := range []int{10_000, 200_000} {
		all := keys(n)
		j := debt.NewJournal(1<<20, 64<<20)
		before := heap()
		for _, k := range all {
			j.Note(k, false)
		}
		taken := heap() - before
		if per := float64(taken)/float64(n) - 50; per < 13 || per > 24+75_000/float64(n) { // one block is being filled
			t.Errorf("%d keys: %.1f bytes for each beside it", n, per)
		}
		for range n - 1 {
			j.Next()
		}
		if left := heap() - before; left > 100_000 {
			t.Errorf("%d bytes with one key left, of %d", left, taken)
		}
		j.Next()
		if left := heap() - before; left > 2000 {
			t.Errorf("%d bytes when emptied", left)
		}
		if j.Note(all[0], false); heap()-before > 30_000 {
			t.Errorf("%d bytes for a single key", heap()-before)
		}
		runtime.KeepAlive(all)
		runtime.KeepAlive(j)
	}
}

func TestAllocations(t *testing.T) {
	j := debt.NewJournal(1<<20, 64<<20)
	all := keys(10_000)
	for _, k := range all {
		j.Note(k, false)
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		j.Note(all[i], false)
		i += 7
	}); n != 0 {
		t.Errorf("%v allocations for a key that is there", n)
	}
	if n := testing.AllocsPerRun(1000, func() { j.Next() }); n != 0 {
		t.Errorf("%v allocations to take one out", n)
	}
	if n := testing.AllocsPerRun(10, func() { debt.NewJournal(1, 1) }); n > 1 {
		t.Errorf("%v allocations for an empty journal", n)
	}
}

func BenchmarkNote(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		all := keys(n)
		b.Run(fmt.Sprintf("keys=%d/known=0", n), func(b *testing.B) {
			i, j := 0, debt.NewJournal(n, 64<<20)
			b.ReportAllocs()
			for b.Loop() {
				if i == n {
					b.StopTimer()
					i = 0
					j.Clear()
					b.StartTimer()
				}
				j.Note(all[i], false)
				i++
			}
		})
		b.Run(fmt.Sprintf("keys=%d/known=1", n), func(b *testing.B) {
			j := filled(n, all)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				j.Note(all[i], false)
				i = (i + 7919) % n
			}
		})
	}
}

// filled is a journal of all.
func filled(n int, all [][]byte) *debt.Journal {
	j := debt.NewJournal(n, 64<<20)
	for _, k := range all {
		j.Note(k, false)
	}
	return j
}

func BenchmarkNext(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		all := keys(n)
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			j := filled(n, all)
			b.ReportAllocs()
			for b.Loop() {
				if j.Len() == 0 {
					b.StopTimer()
					j = filled(n, all)
					b.StartTimer()
				}
				j.Next()
			}
		})
	}
}
