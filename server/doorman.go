package server

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"magent/server/config"
)

// doorman lets clients in by their addresses, and keeps what is known of those: it is asked
// when a client comes, and told when it goes, which loops share under its lock. How much
// an address asks for is counted at the address, without a lock.
//
// Clients that come by a unix socket have no address: for them nothing is bounded.
type doorman struct {
	limits config.Clients
	gap    time.Duration        // between two requests of an address; 0: that is not bounded
	clock  func() time.Duration // since some moment

	barred, crowded atomic.Uint64 // clients turned away: their address is not allowed, or has too many

	mu      sync.Mutex // guards what follows
	origins map[netip.Addr]*origin
	purge   int // how many there are when those are forgotten that nobody needs
	lines   sparing
}

// origin is the address that one or more clients come from.
type origin struct {
	addr  netip.Addr
	gap   time.Duration // the doorman's
	conns int           // under the doorman's lock
	due   atomic.Int64  // when what it asked for is paid for, at the rate that it has; by the clock
}

const (
	// rateBurst is how far an address may be ahead of its rate: it may rest for so long,
	// and make up for it, and a tick that comes late costs it nothing.
	rateBurst = 100 * time.Millisecond
	// leastPurge is how many addresses are not looked through.
	leastPurge = 1024
	// doormanGap is the time between two lines of log about clients that are turned away.
	doormanGap = 10 * time.Second
)

func newDoorman(limits config.Clients, clock func() time.Duration) *doorman {
	d := &doorman{limits: limits, clock: clock, origins: map[netip.Addr]*origin{}, purge: leastPurge, lines: sparing{gap: doormanGap}}
	if limits.Rate > 0 {
		d.gap = time.Second / time.Duration(limits.Rate)
	}
	return d
}

// addrOf is the address of an end of a connection; false if it has none.
func addrOf(a net.Addr) (netip.Addr, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return tcp.AddrPort().Addr().Unmap().WithZone(""), true
}

// allows reports whether clients at a are served, and counts it if not.
func (d *doorman) allows(a net.Addr) bool {
	addr, ok := addrOf(a)
	if !ok || d.limits.Allows(addr) {
		return true
	}
	d.barred.Add(1)
	return false
}

// enter notes a client at a that comes now; from is nil if nothing is to be counted. It
// reports false, and notes nothing, if there are as many from there as may be: a client
// that another process has taken in already (seated) stays.
func (d *doorman) enter(a net.Addr, seated bool) (from *origin, ok bool) {
	addr, known := addrOf(a)
	if !known || d.limits.Conns == 0 && d.gap == 0 {
		return nil, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	from = d.origins[addr]
	if from != nil && d.limits.Conns > 0 && from.conns >= d.limits.Conns && !seated {
		d.crowded.Add(1)
		return nil, false
	}
	if from == nil {
		d.forget(d.clock())
		from = &origin{addr: addr, gap: d.gap}
		d.origins[addr] = from
	}
	from.conns++
	return from, true
}

// leave notes that a client has gone that enter has let in.
func (d *doorman) leave(from *origin) {
	if from == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if from.conns--; from.idle(d.clock()) {
		delete(d.origins, from.addr)
	}
}

// idle reports whether the address may be forgotten: it has no clients, and none that
// connects anew could ask for more by that.
func (o *origin) idle(now time.Duration) bool {
	return o.conns == 0 && o.due.Load() <= int64(now)
}

// forget looks for addresses that may be forgotten, so seldom that it costs little.
func (d *doorman) forget(now time.Duration) {
	if len(d.origins) < d.purge {
		return
	}
	for addr, o := range d.origins {
		if o.idle(now) {
			delete(d.origins, addr)
		}
	}
	d.purge = max(leastPurge, 2*len(d.origins))
}

// maySpeak reports whether a client that is turned away is to be logged, and how many
// before it were not.
func (d *doorman) maySpeak() (ok bool, withheld uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lines.may(d.clock())
}

// charge has the address pay for n requests at the time now, and returns when whoever
// made them may go on. That is his own time, whatever others ask for meanwhile: so a
// client that asks for much does not keep another of its address waiting for ever.
func (o *origin) charge(now time.Duration, n uint32) time.Duration {
	for {
		due := o.due.Load()
		next := max(due, int64(now)) + int64(n)*int64(o.gap)
		if o.due.CompareAndSwap(due, next) {
			return time.Duration(next) - rateBurst
		}
	}
}

// paced reports whether the session must wait, as its address has asked for more than it
// may. It is not told so, but read no further: an error would be taken for a fault of a
// node, and be answered by a retry. What was asked for since the last look is paid for first.
func (s *session) paced() bool {
	if s.from.gap == 0 {
		return false
	}
	now := s.loop.srv.doorman.clock()
	if n := s.slots.head - s.paid; n > 0 {
		s.paid = s.slots.head
		if s.until = s.from.charge(now, n); s.until > now {
			s.count.Slowed++
		}
	}
	return s.until > now
}
