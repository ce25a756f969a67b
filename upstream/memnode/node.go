// Package memnode is a memcached node inside the process: the nodes of
// `magent demo`, and the peer of tests for faults that a real memcached cannot
// be told to have. It speaks the text protocol, classic and meta, of memcached
// 1.6.18 byte for byte (see doc/protocol.txt there), with memcached's words for
// errors and its habits of closing; the binary protocol is refused by a close.
//
// It has its own parser and imports the standard library only, so that it
// cannot share a bug with the proxy it judges.
//
// One goroutine accepts, one goroutine serves each connection; a node's items
// sit behind one mutex. Every exported method may be called from any goroutine.
//
// Where it departs from memcached on purpose: one LRU list instead of slabs
// (class numbers and sizes are still reported as memcached would), expired
// items go when they are touched or evicted (there is no crawler), a reply
// queued before a failing get is never dropped, and slabs, lru, watch and
// extstore are answered with ERROR.
package memnode

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a node is. The zero value is a node on a free TCP port of
// 127.0.0.1 with memcached's own defaults.
type Config struct {
	Network  string           // "tcp" (default) or "unix"
	Addr     string           // host:port, default "127.0.0.1:0"; a socket path for "unix"
	MaxBytes int64            // bound on what the items take, in bytes; default 64 MiB, as -m 64
	MaxItem  int              // largest item with its header, in bytes; default 1 MiB, as -I 1m
	Version  string           // what `version` answers; default "1.6.18"; the E flag exists from 1.6.27
	Clock    func() time.Time // default time.Now; stall and slow always use real time
	Fault    string           // fault script, see script.go; empty for none
}

const (
	defaultMaxBytes = 64 << 20
	defaultMaxItem  = 1 << 20
	defaultVersion  = "1.6.18"
)

// Node is one memcached server. Between Kill and Restart it has no process:
// nothing listens and it holds no items.
type Node struct {
	cfg     Config
	addr    string                  // resolved at the first listen, kept by Restart
	fault   atomic.Pointer[faults]  // nil: none
	current atomic.Pointer[process] // the running process, or the last one

	explicitCAS bool // the version knows the E flag

	mu sync.Mutex // serialises Kill, Restart, Close, Freeze and Thaw
}

// Start listens and serves. It fails on an address that cannot be bound and on
// a bad fault script.
func Start(cfg Config) (*Node, error) {
	cfg.Network = cmp.Or(cfg.Network, "tcp")
	if cfg.Network == "tcp" {
		cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:0")
	}
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, defaultMaxBytes)
	cfg.MaxItem = cmp.Or(cfg.MaxItem, defaultMaxItem)
	cfg.Version = cmp.Or(cfg.Version, defaultVersion)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	n := &Node{cfg: cfg, addr: cfg.Addr, explicitCAS: atLeast(cfg.Version, 1, 6, 27)}
	if err := n.SetFault(cfg.Fault); err != nil {
		return nil, err
	}
	if err := n.spawn(); err != nil {
		return nil, err
	}
	return n, nil
}

// atLeast compares a dotted version with a wanted one; what is no number counts
// as 0.
func atLeast(version string, want ...int) bool {
	for i, part := range strings.SplitN(version, ".", len(want)) {
		if n, _ := strconv.Atoi(part); n != want[i] {
			return n > want[i]
		}
	}
	return strings.Count(version, ".") >= len(want)-1
}

// spawn starts a process on n.addr. The caller holds n.mu or is Start.
func (n *Node) spawn() error {
	ln, err := net.Listen(n.cfg.Network, n.addr)
	if err != nil {
		return fmt.Errorf("memnode: %w", err)
	}
	n.addr = ln.Addr().String()
	n.current.Store(newProcess(n, ln))
	return nil
}

// Addr is where the node listens, host:port or a socket path. It never changes.
func (n *Node) Addr() string { return n.addr }

// Close stops listening, closes every connection and waits until no goroutine
// of the node is left. Closing twice is allowed.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current.Load().stop(false)
}

// Kill ends the node as kill -9 on a lost machine would: connections are reset,
// unsent replies are lost, the memory is gone.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current.Load().stop(true)
}

// Restart starts the node again on the same address after Kill or Close: empty,
// with a new pid and start time, never frozen, under the fault script it had.
func (n *Node) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.current.Load().dead() {
		return errors.New("memnode: restart of a running node")
	}
	if n.cfg.Network == "unix" {
		os.Remove(n.addr) // what a killed node leaves behind
	}
	return n.spawn()
}

// Freeze stops the node as SIGSTOP would: the kernel still accepts connections
// and buffers requests, and nothing is executed or answered once Freeze has
// returned. Freezing twice is the same as once.
func (n *Node) Freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current.Load().freeze()
}

// Thaw undoes Freeze: every request that was buffered meanwhile is executed,
// even if its client has gone.
func (n *Node) Thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.current.Load().thaw()
}

// SetFault replaces the fault script; the counts and draws of the new one start
// from the beginning. An empty script means no faults.
func (n *Node) SetFault(script string) error {
	s, err := ParseScript(script)
	if err != nil {
		return err
	}
	n.fault.Store(newFaults(s))
	return nil
}

// Item is what a node holds for a key.
type Item struct {
	Value   []byte
	Flags   uint32
	CAS     uint64
	Exptime time.Time // zero: never
	Stale   bool      // marked by md I or stored by ms I with an old CAS
}

// Get looks at a key without counting as an access. The value is a copy.
func (n *Node) Get(key string) (Item, bool) { return n.current.Load().store.inspect(key) }

// Len is the number of live items: neither expired nor flushed.
func (n *Node) Len() int { return n.current.Load().store.live() }

// Counters is what a node has seen since it was last started.
type Counters struct {
	Commands  map[string]uint64 // by verb; unknown verbs are under ""
	Faults    uint64            // faults that fired since the last SetFault
	Conns     int               // open client connections
	Items     int               // held, expired ones included
	Bytes     int64             // as STAT bytes: keys, values and item headers
	Hits      uint64
	Misses    uint64
	Evictions uint64
}

// Stats counts. Its maps are the caller's own.
func (n *Node) Stats() Counters {
	p := n.current.Load()
	c := p.counters()
	if f := n.fault.Load(); f != nil {
		c.Faults = f.fired.Load()
	}
	return c
}
