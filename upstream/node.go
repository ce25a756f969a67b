package upstream

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"magent/upstream/repair"
)

// Node is one memcached server: what it is called and where it is, which never
// changes, and what loops and the node's prober have learned of it, which they tell
// each other here. Any goroutine may call any method; none is called for every
// request.
type Node struct {
	Index   int    // its place in Pool.Nodes and in the health table
	Name    string // what people call it: alias, or address as written
	Network string // "tcp" or "unix"
	Address string // what a dialer takes
	Host    string // as it was written
	errors  [NumCauses][]byte

	version atomic.Pointer[string]
	life    atomic.Uint64 // 0: not known
	down    atomic.Pointer[[]byte]

	ahead atomic.Int64 // of our clock, in ns

	mu    sync.Mutex // guards what follows
	left  []string
	clock repair.Clock // of the process of that life
}

// NewNode is a node to be put into a Pool.
func NewNode(name, network, address string) *Node {
	n := &Node{Name: name, Network: network, Address: address}
	// Made here, so that failing costs no allocation when there is much of it.
	for c := range n.errors {
		n.errors[c] = fmt.Appendf(nil, "SERVER_ERROR node %s: %s\r\n", name, Cause(c))
	}
	n.down.Store(&n.errors[CauseDown])
	return n
}

// Error is the line that tells a client that this node was the last that could
// have answered, and why it did not.
func (n *Node) Error(c Cause) []byte { return n.errors[c] }

// Fell notes why the node is down, in words, for Down. Who takes note of the changes
// of health calls it.
func (n *Node) Fell(cause string) {
	line := fmt.Appendf(nil, "SERVER_ERROR node %s: %s (%s)\r\n", n.Name, CauseDown, cause)
	n.down.Store(&line)
}

// Down is the line that tells a client that this node was not asked, as it is down,
// and what it fell of last: that of Error(CauseDown) as long as nobody has said.
func (n *Node) Down() []byte { return *n.down.Load() }

// Version is what the node last answered to version, empty before it did.
func (n *Node) Version() string {
	if v := n.version.Load(); v != nil {
		return *v
	}
	return ""
}

// learn keeps the version that the node named.
func (n *Node) learn(version string) {
	if n.Version() != version {
		n.version.Store(&version)
	}
}

// Life is that of the process that the node is known to be, as Conn.Life says it; ok
// is false if none is known. It is what the node's data is believed to be the data of:
// a Conn that meets another process there fails before it hands on an answer of it.
func (n *Node) Life() (life uint64, ok bool) {
	life = n.life.Load()
	return life, life != 0
}

// SetLife says what the node's life is from now on; 0 says that it is not known, and
// the next greeting tells. Who brings the node back calls it before it does.
func (n *Node) SetLife(life uint64) {
	if n.life.Swap(life) == life {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock = repair.Clock{}
	n.ahead.Store(0)
}

// SawTime notes what time it was at the node, in Unix seconds, before an answer of the
// process that its life is of was received.
func (n *Node) SawTime(at int64, received time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock.Saw(at, received)
	n.ahead.Store(int64(n.clock.Ahead()))
}

// Ahead is how far the node's clock is ahead of ours, as far as is known.
func (n *Node) Ahead() time.Duration { return time.Duration(n.ahead.Load()) }

// meets takes the life that a greeting told for the node's if none is known, and
// reports whether it is the node's.
func (n *Node) meets(life uint64) bool {
	return n.life.CompareAndSwap(0, life) || n.life.Load() == life
}

// maxLeft bounds what a node keeps for TakeLeft. One that many connections were left
// at is frozen or cut off: it has all of them yet, and the last are the last to go.
const maxLeft = 256

// Left notes a connection that was closed with requests unanswered, by its address at this
// end: "ip:port", or "" if the node does not know it by any. The node may carry out what it
// finds there for as long as it has the connection, however long ago that was closed here.
func (n *Node) Left(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.left) == maxLeft {
		n.left = slices.Delete(n.left, 0, 1)
	}
	n.left = append(n.left, addr)
}

// TakeLeft returns what Left has noted since the last call, oldest first, the oldest
// of more than 256 being forgotten.
func (n *Node) TakeLeft() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := n.left
	n.left = nil
	return left
}
