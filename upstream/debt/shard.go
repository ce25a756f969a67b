package debt

// shard is a hash table with linear probing. It does not know the keys: the Journal
// does.
type shard struct {
	slots []slot // none or a power of two, at most three quarters of them taken
	n     int
}

// slot is the lower half of a key's hash, and below it the place of the key. With the
// hash at hand, neither a search nor a larger table has to look at other keys, each of
// which would be a miss of the cache.
type slot uint64

// free is no key's slot, whatever the hash: nothing is at place 0.
const free slot = 0

func newSlot(hash uint64, p place) slot { return slot(hash<<32) | slot(p) }

func (v slot) hash() uint32 { return uint32(v >> 32) }
func (v slot) place() place { return place(v) }

const fewestSlots = 8

// home is where in slots the search for a hash begins.
func (s *shard) home(hash uint32) int { return int(hash) & (len(s.slots) - 1) }

// next is the slot behind i.
func (s *shard) next(i int) int { return (i + 1) & (len(s.slots) - 1) }

// insert adds v, for which there is a slot.
func (s *shard) insert(v slot) {
	i := s.home(v.hash())
	for s.slots[i] != free {
		i = s.next(i)
	}
	s.slots[i] = v
	s.n++
}

// grow doubles the slots if one more would be too many.
func (s *shard) grow() {
	if s.n < len(s.slots)/4*3 {
		return
	}
	old := s.slots
	*s = shard{slots: make([]slot, max(2*len(old), fewestSlots))}
	for _, v := range old {
		if v != free {
			s.insert(v)
		}
	}
}

// remove takes v out. Those behind it move up, so that no search ends at the gap.
// The slots go with the last one. (Knuth, The Art of Computer Programming 3, section 6.4, algorithm R.)
func (s *shard) remove(v slot) {
	gap := s.home(v.hash())
	for s.slots[gap] != v {
		gap = s.next(gap)
	}
	mask := len(s.slots) - 1
	for i := s.next(gap); s.slots[i] != free; i = s.next(i) {
		home := s.home(s.slots[i].hash())
		if (i-home)&mask >= (i-gap)&mask {
			s.slots[gap], gap = s.slots[i], i
		}
	}
	s.slots[gap] = free
	if s.n--; s.n == 0 {
		s.slots = nil
	}
}
