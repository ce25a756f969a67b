package route

import (
	"github.com/cespare/xxhash/v2"
	"github.com/dgryski/go-jump"
)

// jumper places by jump consistent hash (Lamping and Veach, "A Fast, Minimal
// Memory, Consistent Hash Algorithm", arXiv:1406.2294) of XXH64 with seed 0.
// The shares of the nodes are even to within chance, and a node added at the
// end takes its share from all others and moves nothing else.
//
// A node of weight w has w buckets in a row. So adding a last node, and raising
// the weight of the last node, move only what must move; changing the weight of
// an earlier node renumbers every bucket behind it and moves most of their
// keys. Weights count as written: 2,2 is not the placement of 1,1.
//
// The order of the list is the placement: hosts, ports and aliases play no part.
type jumper struct{ slots slots }

func newJump(_ keyHash, servers []Server) Picker { return &jumper{newSlots(servers)} }

func (j *jumper) Pick(key []byte) int {
	return j.slots.node(uint32(jump.Hash(j.sum(key), int(j.slots.count()))))
}

func (j *jumper) sum(key []byte) uint64 { return xxhash.Sum64(key) }
