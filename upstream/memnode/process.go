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
	node    *Node // immutable, as are the next four
	addr    net.Addr
	store   *store
	pid     int64
	done    chan struct{} // closed by stop
	gate    sync.RWMutex
	running sync.WaitGroup  // accept loops and every connection
	seen    []atomic.Uint64 // by index in commands; the last one counts unknown verbs
	wire    struct{ read, written, accepted atomic.Uint64 }

	mu     sync.Mutex   // guards the rest
	ln     net.Listener // nil: refuses connections
	conns  map[*conn]struct{}
	lastID int     // of a connection
	frozen freezer // 0: alive
	over   bool
	killed bool
}

// freezer is who has frozen a process: it thaws when all of them have thawed it.
type freezer uint8

const (
	byUser freezer = 1 << iota
	byFault
)

func newProcess(n *Node, ln net.Listener) *process {
	p := &process{
		node:  n,
		addr:  ln.Addr(),
		store: newStore(n.cfg),
		pid:   lastPid.Add(1),
		done:  make(chan struct{}),
		seen:  make([]atomic.Uint64, len(commands)+1),
		conns: make(map[*conn]struct{}),
	}
	p.listen(ln)
	return p
}

// listen takes connections from ln, unless the process has ended.
func (p *process) listen(ln net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		ln.Close()
		return
	}
	p.ln = ln
	p.running.Go(func() { p.accept(ln) })
}

// deafen has the kernel refuse connections, until listen.
func (p *process) deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeListener(false)
}

// closeListener leaves the file of a unix socket if it is not told to unlink it: a
// socket that nobody listens on refuses, one that is not there does not exist. Under
// p.mu.
func (p *process) closeListener(unlink bool) error {
	if p.ln == nil {
		return nil
	}
	if u, ok := p.ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(unlink)
	}
	err := p.ln.Close()
	p.ln = nil
	return err
}

// acceptPause is how long the accept loop rests after an error such as EMFILE.
const acceptPause = 10 * time.Millisecond

func (p *process) accept(ln net.Listener) {
	for {
		nc, err := ln.Accept()
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

// admit serves a new connection. The faults that strike it are found here, in the
// order of accept, and suffered on its own goroutine. Inside the gate.
func (p *process) admit(nc net.Conn) {
	p.wire.accepted.Add(1)
	f := p.node.fault.Load()
	var planned plan
	if f != nil {
		planned = f.plan(event{accept: true})
	}
	c := newConn(p, nc)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		reset(nc)
		return
	}
	if p.frozen != 0 {
		nc.SetDeadline(past)
	}
	p.lastID++
	c.id = p.lastID
	p.conns[c] = struct{}{}
	p.running.Go(func() {
		c.serve(f, planned)
		p.mu.Lock()
		if p.killed {
			reset(nc)
		} else {
			nc.Close()
		}
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

func (p *process) dead() bool { return over(p.done) }

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// past is a deadline that makes a blocked read or write come back at once.
var past = time.Unix(1, 0)

// freeze shuts the gate. What waits for a client is called back by its deadline and
// goes on after the thaw.
func (p *process) freeze(by freezer) {
	p.mu.Lock()
	already := p.frozen != 0
	p.frozen |= by
	if p.over || already {
		p.mu.Unlock()
		return
	}
	for c := range p.conns {
		c.wire.c.SetDeadline(past)
	}
	p.mu.Unlock()
	p.gate.Lock()
}

func (p *process) thaw(by freezer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.frozen&by == 0 {
		return
	}
	if p.frozen &^= by; p.frozen != 0 {
		return
	}
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
	p.over, p.killed = true, hard
	close(p.done)                 // first: who is asked over another connection must not live on
	err := p.closeListener(!hard) // a killed process leaves its socket file
	for c := range p.conns {
		if hard {
			reset(c.wire.c)
		} else {
			c.wire.c.Close()
		}
	}
	if p.frozen != 0 {
		p.gate.Unlock()
	}
	p.mu.Unlock()
	p.running.Wait()
	p.store.wipe()
	return err
}

// resetAll resets every connection.
func (p *process) resetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(c.wire.c)
	}
}

// reset closes a connection so that the peer gets ECONNRESET; unsent bytes are
// dropped. A unix socket knows no reset and is just closed.
func reset(nc net.Conn) {
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	nc.Close()
}
