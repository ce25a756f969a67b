package dump

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// world is a node as seen by its lists: keys with their last access, and a clock.
type world struct {
	*rand.Rand
	now   int64
	items map[string]int64
	made  int
}

func (w *world) set(longest int) {
	w.made++
	key := fmt.Sprintf("%d", w.made)
	for want := 1 + w.IntN(longest); len(key) < want; {
		key += "k"
	}
	w.items[key] = w.now
}

// happens lets time pass: some keys are read, some go, some come.
func (w *world) happens() {
	w.now += int64(w.IntN(3))
	w.set(40)
	for i, keys := 0, slices.Sorted(maps.Keys(w.items)); i < len(keys); i += 1 + w.IntN(16) {
		switch w.IntN(8) {
		case 0:
			w.set(40)
		case 1:
			delete(w.items, keys[i])
		default:
			w.items[keys[i]] = w.now
		}
	}
}

// list hands h every key in some order, with something happening meanwhile if live, and
// returns what it handed.
func (w *world) list(h *Hottest, live bool) (listed []Entry) {
	keys := slices.Sorted(maps.Keys(w.items))
	switch w.IntN(3) {
	case 0: // as memcached walks an LRU: the coldest first, which is hardest
		slices.SortFunc(keys, func(a, b string) int { return int(w.items[a] - w.items[b]) })
	default:
		w.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	}
	for _, key := range keys {
		if live && w.IntN(len(keys)) == 0 {
			w.happens()
		}
		la, ok := w.items[key]
		if !ok {
			continue
		}
		for range 1 + w.IntN(8)/7 { // some are listed twice
			e := Entry{Key: []byte(key), LastAccess: la, Size: len(key) + 50}
			h.Add(e)
			listed = append(listed, e)
		}
	}
	return listed
}

// pass is what a Hottest has taken, in its order.
func pass(h *Hottest) (got []Hot) {
	h.Sort()
	for i := range h.Len() {
		k := h.At(i)
		k.Key = slices.Clone(k.Key)
		got = append(got, k)
	}
	return got
}

// TestPassesTakeEveryKey runs passes over a node that lives on, or stands still, and
// wants every key that stays to have its turn, in few passes.
func TestPassesTakeEveryKey(t *testing.T) {
	for seed := range uint64(200) {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), now: 1000, items: map[string]int64{}}
		for range w.IntN(200) {
			w.set(40)
			w.now += int64(w.IntN(100) / (1 + w.IntN(99)) / 20) // many at one time
		}
		live := seed%2 == 0
		if !live {
			w.now++
		}
		h := NewHottest(Limits{Keys: 4 + w.IntN(60), Bytes: 200 + w.IntN(4000)})
		slots, bytes := cap(h.slots), cap(h.keys)
		stayed, taken := maps.Clone(w.items), map[string]int{}
		began := w.now
		for passes, more := 1, true; more; passes++ {
			if passes > 20+8*w.made/min(slots, bytes/41) {
				t.Fatalf("seed %d: no end of passes", seed)
			}
			if w.IntN(6) == 0 { // a list that breaks off
				w.list(h, live)
				h.Again()
			}
			start := w.now
			listed := w.list(h, live)
			got := pass(h)
			for _, k := range got {
				taken[string(k.Key)]++
			}
			fair(t, seed, passes, h, listed, got)
			if cap(h.slots) != slots || cap(h.keys) != bytes {
				t.Fatalf("seed %d: memory has grown", seed)
			}
			more = h.Next(start)
			if live {
				w.happens()
			}
		}
		for key, la := range stayed {
			now, ok := w.items[key]
			if ok && taken[key] == 0 {
				t.Fatalf("seed %d: key %q, accessed at %d and at %d, had no turn", seed, key, la, now)
			}
			if !live && la < began && taken[key] > 2 { // 2: it was listed twice
				t.Fatalf("seed %d: key %q had %d turns", seed, key, taken[key])
			}
		}
	}
}

// fair wants the keys of a pass to be listed ones, in order, with none of the colder
// ones taken before a hotter one, and the memory not to be wasted. Only the first pass
// can be judged by what is listed alone.
func fair(t *testing.T, seed uint64, passes int, h *Hottest, listed []Entry, got []Hot) {
	t.Helper()
	inOrder(t, seed, got)
	was := map[string]bool{}
	for _, e := range listed {
		was[fmt.Sprint(string(e.Key), e.LastAccess, e.Size)] = true
	}
	has := map[string]bool{}
	for _, k := range got {
		id := fmt.Sprint(string(k.Key), k.LastAccess, k.Size)
		if !was[id] {
			t.Fatalf("seed %d: %s was not listed", seed, id)
		}
		has[id] = true
	}
	bound, all := h.Bound()
	if !all && len(got) == 0 {
		t.Fatalf("seed %d: a pass comes nowhere", seed)
	}
	if passes > 1 {
		return
	}
	for _, e := range listed {
		id := fmt.Sprint(string(e.Key), e.LastAccess, e.Size)
		if !has[id] && (all || e.LastAccess > bound) {
			t.Fatalf("seed %d: %s is not taken, and the bound is %d", seed, id, bound)
		}
	}
	if !all && coldest(got) < bound {
		t.Fatalf("seed %d: taken below the bound", seed)
	}
	if used := len(h.keys); !all && cap(h.slots) > 8 && len(got)*2 < cap(h.slots) && used*2 < cap(h.keys) {
		t.Fatalf("seed %d: %d of %d keys and %d of %d bytes, and others let go", seed, len(got), cap(h.slots), used, cap(h.keys))
	}
}

// inOrder wants the ages of got, by powers of two, to ascend.
func inOrder(t *testing.T, seed uint64, got []Hot) {
	t.Helper()
	latest, most := int64(0), int64(1)
	for _, k := range got {
		latest = max(latest, k.LastAccess)
	}
	for i, k := range got {
		age := latest - k.LastAccess
		if i > 0 && age < most/2 {
			t.Fatalf("seed %d: key %d, %d old, comes behind one of at least %d", seed, i, age, most/2)
		}
		for age >= most {
			most *= 2
		}
	}
}

// coldest is the earliest of the last accesses.
func coldest(got []Hot) int64 {
	return slices.MinFunc(got, func(a, b Hot) int { return cmp.Compare(a.LastAccess, b.LastAccess) }).LastAccess
}

// TestKeysOfOneAgeStayAsListed has keys that were accessed at about one time come in the order
// of the list, behind all that are hotter.
func TestKeysOfOneAgeStayAsListed(t *testing.T) {
	h := NewHottest(Limits{Keys: 100, Bytes: 1000})
	for _, age := range []int64{7, 0, 900, 4, 1, 600, 0, 6, math.MaxInt64, 2, 1} {
		h.Add(Entry{Key: fmt.Append(nil, h.Len(), ":", age), LastAccess: math.MaxInt64 - age})
	}
	var got []string
	for _, k := range pass(h) {
		got = append(got, string(k.Key))
	}
	want := []string{"1:0", "6:0", "4:1", "10:1", "9:2", "0:7", "3:4", "7:6", "2:900", "5:600", "8:9223372036854775807"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAtRestEachPassGoesOnWhereTheLastEnded takes the passes for what they are worth on a
// node that stands still: all keys, once, the hottest first, from pass to pass.
func TestAtRestEachPassGoesOnWhereTheLastEnded(t *testing.T) {
	const n = 20_000
	rng := rand.New(rand.NewPCG(7, 7))
	var all []Entry
	for i := range n {
		all = append(all, Entry{Key: fmt.Appendf(nil, "user:%d:profile", i), LastAccess: int64(i / 700)})
	}
	h := NewHottest(Limits{Keys: 3000, Bytes: 1 << 20})
	seen, last, passes := map[string]bool{}, int64(n), 0
	for more := true; more; more = h.Next(n) {
		passes++
		rng.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, e := range all {
			h.Add(e)
		}
		got := pass(h)
		inOrder(t, 0, got)
		for _, k := range got {
			if seen[string(k.Key)] || k.LastAccess > last {
				t.Fatalf("pass %d: %q of %d comes in a pass behind one of %d, or again", passes, k.Key, k.LastAccess, last)
			}
			seen[string(k.Key)] = true
		}
		last = coldest(got)
	}
	if len(seen) != n || passes > n*3/2/3000+1 {
		t.Errorf("%d of %d keys in %d passes", len(seen), n, passes)
	}
}

// TestOneKeyForEver is a node that lists the same key without end.
func TestOneKeyForEver(t *testing.T) {
	h := NewHottest(Limits{Keys: 100, Bytes: 1000})
	for range 10_000 {
		h.Add(Entry{Key: []byte("k"), LastAccess: 5})
	}
	if got := pass(h); len(got) == 0 || len(got) > 100 || string(got[0].Key) != "k" {
		t.Fatalf("took %v", got)
	}
	h.Next(9)
	for range 10_000 {
		h.Add(Entry{Key: []byte("k"), LastAccess: 5})
	}
	if h.Len() != 0 || h.Next(9) {
		t.Error("it does not end")
	}
}

func TestTheSmallestHottestHoldsTheLongestKeys(t *testing.T) {
	h := NewHottest(Limits{})
	for i := range byte(10) {
		key := make([]byte, 250)
		key[0] = i
		h.Add(Entry{Key: key, LastAccess: int64(i)})
	}
	if got := pass(h); len(got) == 0 || got[0].LastAccess != 9 {
		t.Fatalf("took %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("an entry is taken by keys that are sorted")
		}
	}()
	h.Add(Entry{Key: []byte("k")})
}

// TestRanksAreTotal has keys differ in one thing only, their hashes and bytes included.
func TestRanksAreTotal(t *testing.T) {
	ranks := []rank{
		{la: 9, hash: 5, key: []byte("a")},
		{la: 8, hash: 5, key: []byte("a")},
		{la: 8, hash: 6, key: []byte("a")},
		{la: 8, hash: 6, key: []byte("b")},
		{again: true, la: 9, hash: 1, key: []byte("a")},
	}
	for i := range ranks {
		for j := range ranks {
			if got := ranks[i].compare(&ranks[j]); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%+v beside %+v: %d", ranks[i], ranks[j], got)
			}
		}
	}
}
