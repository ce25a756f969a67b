// Package sketch tells which keys come most often, in memory that is bounded however many
// there are: the Space-Saving algorithm (Metwally, Agrawal, El Abbadi, "Efficient
// Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005).
//
// A Sketch belongs to one goroutine; Merge reads several that are at rest. The package
// imports std only.
package sketch

import (
	"cmp"
	"hash/maphash"
	"math/bits"
	"slices"
)

// MaxKey is the longest key that is counted, in bytes.
const MaxKey = 250

// Sketch counts with m counters. A key that has none takes over that of a key that has come
// least often, with what was counted there. So for each counter
//
//	Count - Over <= how often its key has come <= Count
//
// and of a key that has none it is at most Floor, which is at most Total/m: whatever came
// more often than that has one. Add takes a constant time, and allocates nothing.
//
// Invariants: order has all counters, those with the smallest count first, and at is the
// place of each. Counters of one count stand together and are a group, which says where
// they begin and end. Those of count 0 have no key. table has the others by hash, with
// linear probing; one of its slots in two is free at least.
type Sketch struct {
	seed   maphash.Seed
	total  uint64
	count  []counter
	order  []int32
	groups []group
	spare  []int32 // groups that are not in use
	table  []int32 // counters, and one more than those; 0 is free
	keys   []byte  // MaxKey for each counter
}

type counter struct {
	hash   uint64
	over   uint64
	marked uint64
	group  int32
	at     int32
	length uint8
}

type group struct {
	count       uint64
	first, last int32 // places in order
}

// New makes a Sketch with m counters, two at least.
func New(m int) *Sketch {
	m = max(2, m)
	s := &Sketch{seed: maphash.MakeSeed(), count: make([]counter, m), order: make([]int32, m), groups: make([]group, m+1),
		table: make([]int32, 2<<bits.Len(uint(m-1))), keys: make([]byte, m*MaxKey)}
	for i := range s.order {
		s.order[i], s.count[i].at = int32(i), int32(i)
	}
	s.groups[0] = group{last: int32(m - 1)}
	for i := int32(m); i > 0; i-- {
		s.spare = append(s.spare, i)
	}
	return s
}

// Add counts a key, which is copied if need be. It counts as marked, too, if it is. One that
// is longer than MaxKey is counted in Total alone.
func (s *Sketch) Add(key []byte, marked bool) {
	s.total++
	if len(key) > MaxKey {
		return
	}
	hash := maphash.Bytes(s.seed, key)
	i := s.find(hash, key)
	if i < 0 {
		i = s.replace(hash, key)
	}
	if marked {
		s.count[i].marked++
	}
	s.increment(i)
}

// home is where in the table the search for a hash begins.
func (s *Sketch) home(hash uint64) int { return int(hash) & (len(s.table) - 1) }

// next is the slot behind slot.
func (s *Sketch) next(slot int) int { return (slot + 1) & (len(s.table) - 1) }

// find is the counter of key; -1 if it has none.
func (s *Sketch) find(hash uint64, key []byte) int32 {
	for slot := s.home(hash); s.table[slot] != 0; slot = s.next(slot) {
		i := s.table[slot] - 1
		if s.count[i].hash == hash && string(s.key(i)) == string(key) {
			return i
		}
	}
	return -1
}

func (s *Sketch) key(i int32) []byte {
	from := int(i) * MaxKey
	return s.keys[from : from+int(s.count[i].length)]
}

// replace gives a counter of the smallest count to key, and returns it.
func (s *Sketch) replace(hash uint64, key []byte) int32 {
	i := s.order[0]
	c := &s.count[i]
	smallest := s.groups[c.group].count
	if smallest > 0 {
		s.remove(i)
	}
	c.hash, c.over, c.marked = hash, smallest, 0
	c.length = uint8(copy(s.keys[int(i)*MaxKey:], key))
	slot := s.home(hash)
	for s.table[slot] != 0 {
		slot = s.next(slot)
	}
	s.table[slot] = i + 1
	return i
}

// remove takes counter i out of the table. Those behind it move up, so that no search ends
// at the gap. (Knuth, The Art of Computer Programming 3, section 6.4, algorithm R.)
func (s *Sketch) remove(i int32) {
	gap := s.home(s.count[i].hash)
	for s.table[gap] != i+1 {
		gap = s.next(gap)
	}
	mask := len(s.table) - 1
	for slot := s.next(gap); s.table[slot] != 0; slot = s.next(slot) {
		home := s.home(s.count[s.table[slot]-1].hash)
		if (slot-home)&mask >= (slot-gap)&mask {
			s.table[gap], gap = s.table[slot], slot
		}
	}
	s.table[gap] = 0
}

// increment has counter i be the last of its group, and then join the one above.
func (s *Sketch) increment(i int32) {
	c := &s.count[i]
	g := c.group
	place, last := c.at, s.groups[g].last
	other := s.order[last]
	s.order[place], s.count[other].at = other, place
	s.order[last], c.at = i, last
	up := s.groups[g].count + 1
	above := last + 1
	if int(above) < len(s.order) && s.groups[s.count[s.order[above]].group].count == up {
		c.group = s.count[s.order[above]].group
		s.groups[c.group].first = last
	} else {
		c.group = s.spare[len(s.spare)-1]
		s.spare = s.spare[:len(s.spare)-1]
		s.groups[c.group] = group{count: up, first: last, last: last}
	}
	s.groups[g].last--
	if s.groups[g].last < s.groups[g].first {
		s.spare = append(s.spare, g)
	}
}

// Total is how many keys came.
func (s *Sketch) Total() uint64 { return s.total }

// Floor is how often a key that has no counter has come at most.
func (s *Sketch) Floor() uint64 { return s.groups[s.count[s.order[0]].group].count }

// Entry is one key. It has come at least Count-Over times and at most Count times; of those
// that are certain, Marked were marked, or more.
type Entry struct {
	Key                 []byte
	Count, Over, Marked uint64
}

// Entries is the keys that have counters, those with the largest count first. They are
// copies.
func (s *Sketch) Entries() []Entry {
	all := make([]Entry, 0, len(s.order))
	for _, i := range slices.Backward(s.order) {
		c := &s.count[i]
		count := s.groups[c.group].count
		if count == 0 {
			break
		}
		all = append(all, Entry{slices.Clone(s.key(i)), count, c.over, c.marked})
	}
	return all
}

// Merge adds up what several have counted: the n keys that came most often of all, as far as
// is certain. A key that has no counter in one of them may have come there as often as its
// Floor.
func Merge(n int, sketches ...*Sketch) []Entry {
	floors := uint64(0)
	sum := map[string]*Entry{}
	for _, s := range sketches {
		floors += s.Floor()
	}
	for _, s := range sketches {
		for _, e := range s.Entries() {
			t := sum[string(e.Key)]
			if t == nil {
				t = &Entry{Key: e.Key, Count: floors, Over: floors}
				sum[string(e.Key)] = t
			}
			t.Count += e.Count - s.Floor()
			t.Over += e.Over - s.Floor()
			t.Marked += e.Marked
		}
	}
	all := make([]Entry, 0, len(sum))
	for _, e := range sum {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Count-b.Over, a.Count-a.Over), cmp.Compare(b.Count, a.Count), slices.Compare(a.Key, b.Key))
	})
	return all[:min(n, len(all))]
}
