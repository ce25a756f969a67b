package upstream

import (
	"fmt"
	"slices"
	"sync/atomic"

	"magent/upstream/health"
	"magent/upstream/route"
)

// Node is one memcached server. It is immutable but for what its Version says.
type Node struct {
	Index   int    // its place in Pool.Nodes and in the health table
	Name    string // what people call it: alias, or address as written
	Network string // "tcp" or "unix"
	Address string // what a dialer takes
	version atomic.Pointer[string]
	errors  [numCauses][]byte
}

// NewNode is a node to be put into a Pool.
func NewNode(name, network, address string) *Node {
	n := &Node{Name: name, Network: network, Address: address}
	// Made here, so that failing costs no allocation when there is much of it.
	for c := range n.errors {
		n.errors[c] = fmt.Appendf(nil, "SERVER_ERROR node %s: %s\r\n", name, Cause(c))
	}
	return n
}

// Error is the line that tells a client that this node was the last that could
// have answered, and why it did not.
func (n *Node) Error(c Cause) []byte { return n.errors[c] }

// Version is what the node last answered to version, empty before it did.
func (n *Node) Version() string {
	if v := n.version.Load(); v != nil {
		return *v
	}
	return ""
}

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
}

// MaxCopies bounds len(Pool.Copies): a request keeps a bit for each.
const MaxCopies = 8

// NewPool makes a pool of nodes, which it numbers, with every node up.
func NewPool(nodes []*Node, copies []Placement) *Pool {
	for i, n := range nodes {
		n.Index = i
	}
	return &Pool{Nodes: nodes, Copies: copies, Health: health.NewTable(len(nodes))}
}

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

// Live reports whether copy c of key has its node up, and which node that is.
func (p *Pool) Live(c int, key []byte) (node int, ok bool) {
	node = p.Replica(c, key)
	return node, p.Health.Up(node)
}
