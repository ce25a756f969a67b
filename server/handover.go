package server

import (
	"context"
	"time"

	"magent/codec"
)

// A node that comes back may come to lead keys again that another has led meanwhile. A
// write that the other has carried out and the node has not got yet would then be
// passed by: two that count would tell the same number. So the lead is handed over at
// a gate: every loop holds back new writes, those under way come to their ends, the
// node is Up for all loops at once, and the gates open. It takes as long as the slowest
// write that is under way, mostly some hundred microseconds.

// gate is where the sessions of a lane wait with their writes.
type gate struct {
	closed  int               // by how many nodes that come back
	drained []chan<- struct{} // who hears that no write is under way
	waiting []*session        // that may go on when it opens; some are there twice
	writing int               // slots of writes that are not done
	effects int               // of writes at followers, under way, whoever waits for them; repairs of debts are none
}

// closeGate holds back new writes, and says on drained when those under way are done.
func (l *lane) closeGate(drained chan<- struct{}) {
	l.gate.closed++
	l.closed++
	l.gate.drained = append(l.gate.drained, drained)
	l.gate.look()
}

// openGate undoes one closeGate, whose drained may not have been told.
func (l *lane) openGate(drained chan<- struct{}) {
	g := &l.gate
	kept := g.drained[:0]
	for _, d := range g.drained {
		if d != drained {
			kept = append(kept, d)
		}
	}
	g.drained = kept
	l.closed--
	if g.closed--; g.closed > 0 {
		return
	}
	for _, s := range g.waiting {
		s.unstall()
	}
	clear(g.waiting)
	g.waiting = g.waiting[:0]
}

// holds reports whether s must wait with what it was about to do.
func (g *gate) holds(s *session) bool {
	if g.closed == 0 {
		return false
	}
	g.waiting = append(g.waiting, s)
	return true
}

// effected notes that an effect has come to its end at a follower.
func (g *gate) effected() {
	g.effects--
	g.look()
}

// look tells those who wait for it that no write is under way.
func (g *gate) look() {
	if len(g.drained) == 0 || g.writing > 0 || g.effects > 0 {
		return
	}
	for _, d := range g.drained {
		d <- struct{}{}
	}
	g.drained = g.drained[:0]
}

// changes reports whether req changes an item.
func changes(req *codec.Request) bool {
	switch req.Op.Class() {
	case codec.ClassStore, codec.ClassWrite, codec.ClassBroadcast:
		return true
	}
	return keyFlags[req.Op]&slotMutates != 0 || req.Op == codec.OpMetaGet && metaFlags(req)&slotMutates != 0
}

// shortly is for how long the gates are closed at first where nothing is lost by another try.
const shortly = 25 * time.Millisecond

// handOver closes the gates of all lanes and waits until no write is under way: for at most
// bound, and if that was not enough for twice as long, and so on. They
// stay closed until open is called, once and on any goroutine; after an error, they are
// open.
func (s *poolServer) handOver(ctx context.Context, bound time.Duration) (open func(), err error) {
	for ; ; bound = min(2*bound, s.conf.Timeout) {
		open, done, err := s.closeGates(ctx, bound)
		if done {
			return open, nil
		}
		open()
		if err != nil {
			return nil, err
		}
		pause(ctx, bound) // clients go on meanwhile
	}
}

// closeGates is one attempt, for at most bound. open undoes it, however it ended.
func (s *poolServer) closeGates(ctx context.Context, bound time.Duration) (open func(), done bool, err error) {
	drained := make(chan struct{}, len(s.loops))
	closed := 0
	open = func() {
		for _, l := range s.lanes()[:closed] {
			_ = l.do(func() { l.openGate(drained) }) // a loop that has ended holds nobody
		}
	}
	for _, l := range s.lanes() {
		if err := l.do(func() { l.closeGate(drained) }); err != nil {
			return open, false, err
		}
		closed++
	}
	over := time.NewTimer(bound)
	defer over.Stop()
	for range s.loops {
		select {
		case <-drained:
		case <-over.C:
			return open, false, nil
		case <-ctx.Done():
			return open, false, ctx.Err()
		}
	}
	return open, true, nil
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
