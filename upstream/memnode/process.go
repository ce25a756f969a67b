package memnode

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lastPid makes process ids unlike each other within this process: a node that
// was restarted must look restarted.
var lastPid atomic.Int64

func init() { lastPid.Store(int64(os.Getpid())) }

// process is one life of a node, from listen to Kill or Close.
//
//	alive ⇄ frozen
//	  └──┬────┘
//	     ▼ stop
//	    dead
//
// Whoever executes commands or writes replies holds gate for reading, and
// leaves it while it waits for input; freeze holds it for writing.
type process struct {
	node    *Node // immutable, as are the next five
	ln      net.Listener
	addr    net.Addr
	store   *store
	pid     int64
	done    chan struct{} // closed by stop
	gate    sync.RWMutex
	running sync.WaitGroup  // the accept loop and every connection
	seen    []atomic.Uint64 // by index in commands; the last one counts unknown verbs
	wire    struct{ read, written, accepted atomic.Uint64 }

	mu     sync.Mutex // guards the rest
	conns  map[*conn]struct{}
	lastID int // of a connection
	frozen bool
	over   bool
}

func newProcess(n *Node, ln net.Listener) *process {
	p := &process{
		node:  n,
		ln:    ln,
		addr:  ln.Addr(),
		store: newStore(n.cfg),
		pid:   lastPid.Add(1),
		done:  make(chan struct{}),
		seen:  make([]atomic.Uint64, len(commands)+1),
		conns: make(map[*conn]struct{}),
	}
	p.running.Go(p.accept)
	return p
}

// acceptPause is how long the accept loop rests after an error such as EMFILE.
const acceptPause = 10 * time.Millisecond

func (p *process) accept() {
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !p.rest(acceptPause) {
				return
			}
			continue
		}
		if !p.enter() {
			reset(nc)
			return
		}
		p.admit(nc)
		p.leave()
	}
}

// admit serves a new connection, unless a fault refuses it. Inside the gate.
func (p *process) admit(nc net.Conn) {
	p.wire.accepted.Add(1)
	if f := p.node.fault.Load(); f != nil && f.refuse() {
		nc.Close()
		return
	}
	c := newConn(p, nc)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		reset(nc)
		return
	}
	if p.frozen {
		nc.SetDeadline(past)
	}
	p.lastID++
	c.id = p.lastID
	p.conns[c] = struct{}{}
	p.running.Go(func() {
		c.serve()
		nc.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	})
}

// enter waits while the process is frozen; false means it has ended, and then
// the gate is not held.
func (p *process) enter() bool {
	p.gate.RLock()
	if p.dead() {
		p.gate.RUnlock()
		return false
	}
	return true
}

func (p *process) leave() { p.gate.RUnlock() }

// rest sleeps for d, or until the process ends: then it reports false.
func (p *process) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.done:
		return false
	}
}

func (p *process) dead() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// past is a deadline that makes a blocked read or write come back at once.
var past = time.Unix(1, 0)

// freeze shuts the gate. What waits for a client is called back by its deadline and
// goes on after the thaw.
func (p *process) freeze() {
	p.mu.Lock()
	if p.over || p.frozen {
		p.mu.Unlock()
		return
	}
	p.frozen = true
	for c := range p.conns {
		c.wire.c.SetDeadline(past)
	}
	p.mu.Unlock()
	p.gate.Lock()
}

func (p *process) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.frozen {
		return
	}
	p.frozen = false
	for c := range p.conns {
		c.wire.c.SetDeadline(time.Time{})
	}
	p.gate.Unlock()
}

// stop ends the process and returns when its last goroutine has. With hard, the
// peers see a reset instead of an end.
func (p *process) stop(hard bool) error {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return nil
	}
	p.over = true
	close(p.done)
	if u, ok := p.ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(!hard) // a killed process leaves its socket file
	}
	err := p.ln.Close()
	for c := range p.conns {
		if hard {
			reset(c.wire.c)
		} else {
			c.wire.c.Close()
		}
	}
	if p.frozen {
		p.frozen = false
		p.gate.Unlock()
	}
	p.mu.Unlock()
	p.running.Wait()
	p.store.wipe()
	return err
}

// reset closes a connection so that the peer gets ECONNRESET; unsent bytes are
// dropped. A unix socket knows no reset and is just closed.
func reset(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	nc.Close()
}
