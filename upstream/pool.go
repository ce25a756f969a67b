package upstream

import (
	"slices"
	"strconv"

	"magent/upstream/health"
	"magent/upstream/route"
)

// Placement is one copy: which of the pool's nodes hold it, and which of them a key.
type Placement struct {
	Nodes []int // indexes into Pool.Nodes, in the order the Picker counts
	Pick  route.Picker
}

// Pool is a set of nodes that hold one key space, as one or more copies. It is
// immutable; every loop reads it.
type Pool struct {
	Nodes   []*Node
	Copies  []Placement
	Health  *health.Table
	Monitor *health.Monitor
	peers   [][]int // by node
	doubled []bool  // by node: it stands in every copy, and is the only replica of no key for all that
}

// MaxCopies bounds len(Pool.Copies): a request keeps a bit for each.
const MaxCopies = 8

// NewPool makes a pool of nodes, which it numbers, with every node up.
func NewPool(nodes []*Node, copies []Placement) *Pool {
	for i, n := range nodes {
		n.Index = i
	}
	p := &Pool{Nodes: nodes, Copies: copies, Health: health.NewTable(len(nodes))}
	for i := range nodes {
		p.peers = append(p.peers, p.peersOf(i))
		p.doubled = append(p.doubled, p.isDoubled(i))
	}
	return p
}

// sampled is of how many keys isDoubled finds out where they are.
const sampled = 1 << 14

// isDoubled reports whether node stands in every copy, and is the only replica of no key for
// all that: as where two nodes are each other's backup. Placement is asked for some keys, as
// it cannot be asked for all: the more copies a node shares with its own, the surer that
// shows.
func (p *Pool) isDoubled(node int) bool {
	if p.Alone() || slices.ContainsFunc(p.Copies, func(pl Placement) bool { return !slices.Contains(pl.Nodes, node) }) {
		return false
	}
	for i := range sampled {
		key := strconv.AppendInt([]byte("key:"), int64(i), 10)
		alone := true
		for c := range p.Copies {
			alone = alone && p.Replica(c, key) == node
		}
		if alone {
			return false
		}
	}
	return true
}

// Covered reports whether all keys of node have another replica that is in the state
// worst or a better one: whether there is a copy without it that lacks no node; or, if it
// stands in every copy, whether it is the only replica of no key and lacks no peer.
func (p *Pool) Covered(node int, worst health.State) bool {
	lacks := func(n int) bool { return n == node || p.Health.Load(n).State() > worst }
	if slices.ContainsFunc(p.Copies, func(pl Placement) bool { return !slices.ContainsFunc(pl.Nodes, lacks) }) {
		return true
	}
	return p.doubled[node] && !slices.ContainsFunc(p.Peers(node), lacks)
}

// peersOf is Peers, for NewPool to keep.
func (p *Pool) peersOf(node int) (peers []int) {
	for c, mine := range p.Copies {
		if !slices.Contains(mine.Nodes, node) {
			continue
		}
		for other, pl := range p.Copies {
			if other != c {
				peers = append(peers, pl.Nodes...)
			}
		}
	}
	slices.Sort(peers)
	return slices.DeleteFunc(slices.Compact(peers), func(i int) bool { return i == node })
}

// Peers is the other nodes that may hold a key that node holds, which are those of
// other copies, in the order of their indexes. It is not to be changed.
func (p *Pool) Peers(node int) []int { return p.peers[node] }

// Replica is the node that holds key in copy c.
func (p *Pool) Replica(c int, key []byte) int {
	pl := &p.Copies[c]
	return pl.Nodes[pl.Pick.Pick(key)]
}

// FirstCopy is the first copy that has node.
func (p *Pool) FirstCopy(node int) int {
	return slices.IndexFunc(p.Copies, func(pl Placement) bool { return slices.Contains(pl.Nodes, node) })
}

// Alone reports whether every key has one replica only.
func (p *Pool) Alone() bool { return len(p.Copies) == 1 }

// State is what copy c of key has its node in, and which node that is.
func (p *Pool) State(c int, key []byte) (node int, s health.State) {
	node = p.Replica(c, key)
	return node, p.Health.Load(node).State()
}
