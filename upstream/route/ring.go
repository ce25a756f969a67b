package route

import (
	"crypto/md5"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// ring is a continuum of 32-bit points, each owned by a node. A hash belongs to
// the first point at or above it, and past the last point to the first.
//
// A binary search would mispredict every other step. So the continuum is cut
// into at least as many equal arcs as there are points, and a search begins
// where the arc of its hash does: few points lie between, since MD5 spreads them.
type ring struct {
	points []uint32 // ascending; the last is a guard for wrapping round, above or at every hash
	nodes  []uint32 // nodes[i] owns points[i]
	arcs   []uint32 // arcs[a] is the first point at or above the start of arc a
	shift  int      // hash >> shift is its arc
}

// ringNode is what a node brings to a ring: four points from each digest.
type ringNode struct {
	index   int
	name    string
	digests int
}

// newRing places the points of every node: for each k < digests, the four
// little-endian words of MD5(name + "-" + k). libketama began this. Where points
// of two nodes fall together, the node earlier in nodes wins.
func newRing(nodes []ringNode) ring {
	var owned []uint64 // point in the upper half, place in nodes in the lower: sorts by both
	var text []byte
	for i, n := range nodes {
		for k := range n.digests {
			text = strconv.AppendInt(append(append(text[:0], n.name...), '-'), int64(k), 10)
			sum := md5.Sum(text)
			for w := range 4 {
				point := binary.LittleEndian.Uint32(sum[4*w:])
				owned = append(owned, uint64(point)<<32|uint64(i))
			}
		}
	}
	slices.Sort(owned)
	r := ring{
		points: make([]uint32, len(owned), len(owned)+1),
		nodes:  make([]uint32, len(owned), len(owned)+1),
	}
	for i, o := range owned {
		r.points[i] = uint32(o >> 32)
		r.nodes[i] = uint32(nodes[uint32(o)].index)
	}
	r.points = append(r.points, math.MaxUint32)
	r.nodes = append(r.nodes, r.nodes[0])
	r.cutArcs()
	return r
}

func (r *ring) cutArcs() {
	width := bits.Len(uint(len(r.points)))
	r.shift = 32 - width
	r.arcs = make([]uint32, 1<<width)
	i := uint32(0)
	for a := range r.arcs {
		for r.points[i] < uint32(a)<<r.shift {
			i++
		}
		r.arcs[a] = i
	}
}

// at returns the node that hash h belongs to.
func (r *ring) at(h uint32) int {
	i := r.arcs[h>>r.shift]
	for r.points[i] < h {
		i++
	}
	return int(r.nodes[i])
}
