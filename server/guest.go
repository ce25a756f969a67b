package server

import (
	"sync/atomic"
	"time"
)

// A refill beside traffic is a guest of a loop (refill.Host): its turns are taken there,
// between two batches. On a goroutine of its own it would want a P of its own, and what the
// runtime does to share out two Ps among threads that wait in the kernel most of the time
// costs the loop more than the turns do. Where nobody is served it has that goroutine, and
// the P: it goes as fast as nodes answer, and not in the steps of a loop's clock.

// guest is what a loop calls when its time has come.
type guest struct {
	turn  func() time.Duration // negative: it leaves
	due   time.Duration        // when it is to be called next, since the server started
	over  chan struct{}        // closed when it has left
	state atomic.Int32         // whose it is
}

const (
	guestWaits int32 = iota // nobody's
	guestTurns              // the loop's
	guestGone               // it is no more to be called
)

// lodging is the loop where one refill may be a guest.
type lodging struct {
	lane *lane
	// giveBack is what takeSpareP returned: there is a P more for what is not on the loop.
	giveBack func()
	inside   bool // turns are taken on the loop
}

// Visit has the loop call turn. It does not return before the loop is done with it.
func (h *lodging) Visit(turn func() time.Duration) error {
	l := h.lane
	g := &guest{turn: turn, over: make(chan struct{})}
	h.giveBack()
	h.inside = true
	defer func() {
		h.inside = false
		h.giveBack = takeSpareP()
	}()
	err := l.do(func() {
		l.guests = append(l.guests, g)
		l.busy()
	})
	if err != nil {
		return err
	}
	select {
	case <-g.over:
		return nil
	case <-l.srv.died:
	}
	// It may be another loop that has ended, while this one calls.
	for !g.state.CompareAndSwap(guestWaits, guestGone) {
		select {
		case <-g.over:
			return nil
		case <-time.After(tick):
		}
	}
	return l.srv.Err()
}

// entertain has the guests whose time has come take a turn.
func (l *loop) entertain() {
	if len(l.guests) == 0 {
		return
	}
	now := time.Since(l.srv.started)
	kept := l.guests[:0]
	for _, g := range l.guests {
		if now < g.due || g.called(now) {
			kept = append(kept, g)
		}
	}
	clear(l.guests[len(kept):])
	l.guests = kept
}

// called has g take a turn, and reports whether it stays.
func (g *guest) called(now time.Duration) (stays bool) {
	if !g.state.CompareAndSwap(guestWaits, guestTurns) {
		return false
	}
	wait := g.turn()
	g.due = now + wait
	g.state.Store(guestWaits)
	if wait < 0 {
		close(g.over)
	}
	return wait >= 0
}
