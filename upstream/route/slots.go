package route

import "sort"

// slots deals a range of slots out to nodes: to each as many as its weight, in
// a row, in the order of the list.
type slots struct {
	ends []uint32 // ends[i] is one past the last slot of node i; the last is the count
	even bool     // every node has one slot, so a slot is its node
}

func newSlots(servers []Server) slots {
	s := slots{ends: make([]uint32, len(servers))}
	end := uint32(0)
	for i, srv := range servers {
		end += uint32(srv.Weight)
		s.ends[i] = end
	}
	s.even = int(end) == len(servers)
	return s
}

func (s *slots) count() uint32 { return s.ends[len(s.ends)-1] }

// node returns the owner of slot, which must be below count.
func (s *slots) node(slot uint32) int {
	if s.even {
		return int(slot)
	}
	return sort.Search(len(s.ends), func(i int) bool { return slot < s.ends[i] })
}
