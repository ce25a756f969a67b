// Package memnode is a memcached node inside the process: the nodes of
// `magent demo`, and the peer of tests for faults that a real memcached cannot
// be told to have. It speaks the text protocol, classic and meta, of memcached
// 1.6.18 byte for byte (see doc/protocol.txt there), with memcached's words for
// errors and its habits of closing; the binary protocol is refused by a close.
//
// It has its own parser and imports the standard library only, so that it
// cannot share a bug with the proxy it judges.
//
// One goroutine accepts, one goroutine serves each connection, and a fault script has
// one for each rule of time and each fault of the whole node; a node's items sit
// behind one mutex. Every exported method may be called from any goroutine.
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
	Clock    func() time.Time // default time.Now; faults always use real time
	Fault    string           // fault script, see Language; empty for none
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
	addr    string                  // resolved by Start, immutable
	fault   atomic.Pointer[faults]  // nil: none
	current atomic.Pointer[process] // the running process, or the last one

	explicitCAS bool // the version knows the E flag

	mu     sync.Mutex // serialises what starts, ends, freezes and thaws a process
	fate   fate
	script *Script
}

// fate is what its owner, or a script, has done to a node for good.
type fate uint8

const (
	running fate = iota // it may be dead all the same: a script restarts it
	killed
	closed // so is its script, until Restart
)

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
	script, err := ParseScript(cfg.Fault)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, addr: cfg.Addr, script: script, fate: closed, explicitCAS: atLeast(cfg.Version, 1, 6, 27)}
	ln, err := net.Listen(cfg.Network, cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("memnode: %w", err)
	}
	n.addr = ln.Addr().String()
	n.spawn(ln)
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

// spawn starts a process, and the script if that has ended. The caller holds n.mu or
// is Start.
func (n *Node) spawn(ln net.Listener) {
	before := n.fate
	n.fate = running
	if before == closed {
		n.fault.Store(newFaults(n, n.script))
	}
	n.current.Store(newProcess(n, ln))
	if before == closed {
		n.fault.Load().start()
	}
}

// listen binds the node's address again. The caller holds n.mu.
func (n *Node) listen() (net.Listener, error) {
	if n.cfg.Network == "unix" {
		os.Remove(n.addr) // what a killed or deaf process leaves behind
	}
	ln, err := net.Listen(n.cfg.Network, n.addr)
	if err != nil {
		return nil, fmt.Errorf("memnode: %w", err)
	}
	return ln, nil
}

// Addr is where the node listens, host:port or a socket path. It never changes.
func (n *Node) Addr() string { return n.addr }

// Close stops listening, closes every connection and waits until no goroutine
// of the node is left. Closing twice is allowed.
func (n *Node) Close() error {
	n.locked(func() { n.fate = closed })
	n.fault.Load().stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current.Load().stop(false)
}

func (n *Node) locked(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
}

// Kill ends the node as kill -9 on a lost machine would: connections are reset,
// unsent replies are lost, the memory is gone.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fate = max(n.fate, killed)
	n.current.Load().stop(true)
}

// Restart starts the node again on the same address after Kill or Close: empty,
// with a new pid and start time, never frozen, under the fault script it had; after
// Close that begins anew.
func (n *Node) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.current.Load().dead() {
		return errors.New("memnode: restart of a running node")
	}
	return n.respawn()
}

// respawn starts the next process. The caller holds n.mu.
func (n *Node) respawn() error {
	ln, err := n.listen()
	if err == nil {
		n.spawn(ln)
	}
	return err
}

// revive respawns after p, which a script has ended, unless that is out of date.
func (n *Node) revive(p *process) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fate != running || n.current.Load() != p {
		return nil
	}
	return n.respawn()
}

// hear has p, which a script has deafened, take connections again.
func (n *Node) hear(p *process) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.dead() {
		return nil
	}
	ln, err := n.listen()
	if err == nil {
		p.listen(ln)
	}
	return err
}

// Freeze stops the node as SIGSTOP would: the kernel still accepts connections
// and buffers requests, and nothing is executed or answered once Freeze has
// returned. Freezing twice is the same as once.
func (n *Node) Freeze() {
	n.locked(func() { n.current.Load().freeze(byUser) })
}

// Thaw undoes Freeze, not a script's freeze: every request that was buffered
// meanwhile is executed, even if its client has gone.
func (n *Node) Thaw() {
	n.locked(func() { n.current.Load().thaw(byUser) })
}

// SetFault replaces the fault script; the counts, draws and times of the new one start
// from the beginning. What the old one is doing to the node ends: it thaws, listens or
// has come back when SetFault returns. An empty script means no faults.
func (n *Node) SetFault(script string) error {
	s, err := ParseScript(script)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.script = s
	f := newFaults(n, s)
	before := n.fault.Swap(f)
	starts := n.fate != closed
	n.mu.Unlock()
	before.stop()
	if starts {
		f.start()
	}
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
