package route

import (
	"cmp"
	"slices"
	"strings"
)

// ketama is the ring of twemproxy, and of libmemcached under
// MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED: about 160 points a node of average
// weight, keys by a hash of choice. Points and names are the same in both. What
// differs is the default hash, fnv1a_64 in twemproxy and md5 in libmemcached,
// which must therefore be asked for; and the rare tie, where the node earlier by
// name wins in twemproxy and here, the one earlier in the list in libmemcached.
//
// libmemcached's plain MEMCACHED_BEHAVIOR_KETAMA is another ring (100 points a
// node, one to a digest) and is not offered; libmemcached itself leaves it as
// soon as one server has a weight above 1.
type ketama struct {
	hash keyHash
	ring ring
}

func newKetama(hash keyHash, servers []Server) Picker {
	digests := ketamaDigests(servers)
	nodes := make([]ringNode, len(servers))
	for i, at := range byName(servers) {
		nodes[i] = ringNode{at, ketamaName(servers[at]), digests[at]}
	}
	return &ketama{hash, newRing(nodes)}
}

func (k *ketama) Pick(key []byte) int { return k.ring.at(k.hash(key)) }

func (k *ketama) sum(key []byte) uint64 { return uint64(k.hash(key)) }

// ketamaDigests returns the number of digests of each node: 40 at average
// weight, proportionally more or fewer, rounded down, and in float32 with
// the originals' order of operations, so that equal weights may give 39. A node
// of less than a 40th of the average weight has none, and gets no keys.
func ketamaDigests(servers []Server) []int {
	total := 0
	for _, s := range servers {
		total += s.Weight
	}
	digests := make([]int, len(servers))
	for i, s := range servers {
		share := float32(s.Weight) / float32(total)
		// The originals add 1e-10 before they round down, which is less than
		// half a float32 step below any whole number and so changes nothing.
		digests[i] = int(share * 160 / 4 * float32(len(servers)))
	}
	return digests
}

// ketamaName is what twemproxy and libmemcached hash for a node. An IPv6 host
// is hashed as it is written, with or without brackets.
func ketamaName(s Server) string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Port == 11211:
		return s.Host
	default:
		return address(s)
	}
}

// byName returns the indices of servers in the order in which twemproxy keeps
// them, whatever its configuration says: shorter names first, then by bytes.
func byName(servers []Server) []int {
	order := make([]int, len(servers))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := ketamaName(servers[i]), ketamaName(servers[j])
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
	return order
}

// modula is twemproxy's: the hash modulo the sum of the weights, each node
// owning as many remainders in a row as its weight, in order of their names.
//
// libmemcached's goes by the order of the list, and knows no weights. To have
// it, give aliases that sort as the list does: "0", "1", "2".
type modula struct {
	hash  keyHash
	slots slots
	order []int // from the place by name to the index in the list
}

func newModula(hash keyHash, servers []Server) Picker {
	order := byName(servers)
	sorted := make([]Server, len(servers))
	for i, at := range order {
		sorted[i] = servers[at]
	}
	return &modula{hash, newSlots(sorted), order}
}

func (m *modula) Pick(key []byte) int {
	return m.order[m.slots.node(m.hash(key)%m.slots.count())]
}

func (m *modula) sum(key []byte) uint64 { return uint64(m.hash(key)) }
