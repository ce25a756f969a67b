package dump

import (
	"container/heap"
	"hash/maphash"
)

// Sample takes some of the keys of any number of lists: of all that are in one of them each
// with the same odds, and each once, in however many lists it is and however often.
//
// It keeps the keys with the smallest hashes: which these are depends on the keys alone and
// not on their order. It is not safe for concurrent use.
type Sample struct {
	room int
	seed maphash.Seed
	keys largest
	has  map[string]struct{}
}

// NewSample makes a Sample of at most n keys, one at least.
func NewSample(n int) *Sample {
	return &Sample{room: max(1, n), seed: maphash.MakeSeed(), has: make(map[string]struct{})}
}

// Add takes a copy of e's key if it is of the sample as far as is known.
func (s *Sample) Add(e Entry) {
	hash := maphash.Bytes(s.seed, e.Key)
	full := len(s.keys) == s.room
	if full && hash >= s.keys[0].hash {
		return
	}
	if _, has := s.has[string(e.Key)]; has {
		return
	}
	if full {
		delete(s.has, heap.Pop(&s.keys).(sampled).key)
	}
	key := string(e.Key)
	s.has[key] = struct{}{}
	heap.Push(&s.keys, sampled{hash, key})
}

// Len is how many keys there are.
func (s *Sample) Len() int { return len(s.keys) }

// At is the ith of them, in no order.
func (s *Sample) At(i int) string { return s.keys[i].key }

type sampled struct {
	hash uint64
	key  string
}

// largest is a heap with the largest hash first.
type largest []sampled

func (l largest) Len() int           { return len(l) }
func (l largest) Less(i, j int) bool { return l[i].hash > l[j].hash }
func (l largest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *largest) Push(x any)        { *l = append(*l, x.(sampled)) }

func (l *largest) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}
