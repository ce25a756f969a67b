package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"magent/server/succession"
	"magent/upstream/health"
)

// How a magent makes way for its successor, another process on the same sockets, which
// serves already:
//
//	stop accepting           clients in the queue are the successor's
//	give clients away        each at a moment when nothing of it is under way
//	bequeath                 what nodes have missed, and its place in their ledgers
//
// The sockets are one queue for both processes, and a client's connection is moved and
// not made anew, so nobody is refused or closed. While both serve they are two magents in
// front of the same nodes, as any two.

// passed is a client that is given away: a descriptor of its own for its socket, and
// what was read from it and not served.
type passed struct {
	fd    int
	input []byte
	known bool // it has said who it is, which this process asks for
}

// Yield is Shutdown for the sake of the process behind successor, which serves on the same
// sockets: clients are given to it instead of being closed, and so are debts. Those that
// something is in flight for are served here until that is answered, or ctx is done.
func (s *Server) Yield(ctx context.Context, successor *succession.Link) error {
	s.leave() // who is giving an address up stops, and undoes what he has done to the sockets
	s.moving.Lock()
	defer s.moving.Unlock()
	return s.end(ctx, successor)
}

// Listeners are the sockets that clients come to, which another process may be given.
func (s *Server) Listeners() []net.Listener { return slices.Clone(s.listeners) }

// giveAway has the loops part with their sessions. done ends that: sessions that are left
// are closed.
func (s *Server) giveAway(successor *succession.Link) (done func()) {
	g := &giver{srv: s, successor: successor, wake: make(chan struct{}, 1), over: make(chan struct{}), ended: make(chan struct{})}
	for _, l := range s.loops {
		_ = l.do(func() { // a loop that has ended has nobody
			l.away = g
			l.busy()
			l.passTick()
		})
	}
	go g.run()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastWords)
		defer cancel()
		_ = s.onLoops(ctx, func(l *loop) {
			for s := range l.sessions {
				s.close()
			}
		})
		close(g.over)
		<-g.ended
	}
}

// giver sends clients to the successor, on a goroutine of its own.
type giver struct {
	srv         *Server
	successor   *succession.Link
	wake        chan struct{} // has one when somebody is to go
	over, ended chan struct{} // no more come; and all have gone
	told        bool
	changes     uint64 // of the states of nodes when the successor was told of it last

	mu   sync.Mutex
	next []passed
}

// take has p given away, and does not wait for it.
func (g *giver) take(p passed) {
	g.mu.Lock()
	g.next = append(g.next, p)
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *giver) run() {
	defer close(g.ended)
	for over := false; !over; {
		select {
		case <-g.wake:
		case <-g.over:
			over = true
		}
		g.mu.Lock()
		all := g.next
		g.next = nil
		g.mu.Unlock()
		for _, p := range all {
			g.give(p)
		}
	}
}

// give sends one. What its writes have missed is not to be read when it goes on: so the
// successor is told first which nodes are away.
func (g *giver) give(p passed) {
	f := os.NewFile(uintptr(p.fd), "client")
	defer f.Close()
	s := g.srv
	var err error
	if changes := s.changes(); !g.told || changes != g.changes {
		g.told, g.changes = true, changes
		err = g.successor.Send(succession.Message{Body: succession.Body{Kind: succession.Away, Names: s.away()}})
	}
	if err == nil {
		err = g.successor.Send(succession.Message{Body: succession.Body{Kind: succession.Client, Input: p.input, Known: p.known}, File: f})
	}
	if err != nil {
		s.log.Warn("a client was closed", "cause", "the process that takes over does not take it: "+err.Error())
	}
}

// away is the addresses of the nodes that may have missed writes from this magent.
func (s *Server) away() (addresses []string) {
	for _, p := range s.pools {
		addresses = append(addresses, p.away()...)
	}
	return addresses
}

func (s *poolServer) away() (addresses []string) {
	if s.pool.Alone() {
		return nil // what a node of it did not get has failed: it has missed nothing
	}
	for i, n := range s.pool.Nodes {
		if state := s.pool.Health.Load(i).State(); state == health.Down || state == health.Stale {
			addresses = append(addresses, n.Address)
		}
	}
	return addresses
}

// Instruct tells a process that is to take this one's place where keys are, and what an
// operator wants: which nodes are drained, and that the virtual addresses are not to come here. Until Stay he is
// refused what that process would not hear of.
func (s *Server) Instruct(successor *succession.Link) error {
	if !s.moving.TryLock() {
		return errors.New("its address is being given up")
	}
	defer s.moving.Unlock()
	s.succeeded.Store(true)
	g := s.readiness.given.Load()
	wanted := succession.Body{Kind: succession.Wanted, GivenUp: g != nil && g.why == givenAway, Placements: s.placements()}
	for _, k := range s.keepers() {
		life, _ := k.node.Life()
		read := k.srv.pool.Health.Load(k.node.Index).State() <= health.Slow
		wanted.Nodes = append(wanted.Nodes, succession.Node{Address: k.node.Address, Life: life, Trusted: read})
		if k.drain.Load() {
			wanted.Names = append(wanted.Names, k.node.Address)
		}
	}
	return successor.Send(succession.Message{Body: wanted})
}

// Stay is that no process takes this one's place after all.
func (s *Server) Stay() { s.succeeded.Store(false) }

// errSucceeded is told to an operator.
var errSucceeded = errors.New("another process is about to take its place: say it again")

// passTick gives away the sessions that are at rest, if they are to go. It is no part of
// an event: gnet may have more to read from any of them in the batch that is being served.
func (l *loop) passTick() {
	if l.away == nil {
		return
	}
	for s := range l.sessions {
		switch {
		case s.secure(): // what TLS knows of it cannot be handed over
			s.part()
		case s.atRest():
			s.passOn()
		}
	}
}

// betweenCommands reports whether no command of the session has come in part, but for a line.
func (s *session) betweenCommands() bool { return s.value == nil && s.waste == 0 }

// atRest reports whether nothing is under way for the session, so that whoever has its
// socket and its input can go on with it.
func (s *session) atRest() bool {
	return s.betweenCommands() && !(s.amidProof() && s.guard.part == nil) && s.slots.len() == 0 && s.keys.line == nil &&
		!s.dirty && !s.ending && !s.own() && s.wire.OutboundBuffered() == 0
}

// passOn gives the session away.
func (s *session) passOn() {
	c, ok := s.socket()
	if !ok {
		return // it ends by itself
	}
	fd, err := c.Dup()
	if err != nil {
		s.loop.srv.log.Warn("a client was closed", "cause", cause(err).Error())
		s.end()
		return
	}
	p := passed{fd: fd, known: s.loop.srv.users != nil && !s.stranger()}
	if s.guard != nil {
		p.input = s.guard.part
	}
	p.input = slices.Concat(p.input, s.line, s.held)
	s.loop.away.take(p)
	s.lost()
	_ = s.loop.el.Close(c) // now: what Conn.Close puts off, gnet might read in between
}

// bequest is how long the successor may take to note what nodes have missed. Nobody waits
// for that but this process, and a million keys take a busy machine some seconds.
const bequest = 30 * time.Second

// bequeath tells the successor what nodes have missed, and what may still be carried out
// there. When that has said that it answers for it, this magent owes nothing. Else it goes
// as one that dies owing: its entries stay in the ledgers, and the nodes will be flushed.
func (s *Server) bequeath(successor *succession.Link) error {
	err := s.sendDebts(successor)
	if err == nil {
		err = successor.Send(succession.Message{Body: succession.Body{Kind: succession.Over}})
	}
	if err == nil {
		var m succession.Message
		if m, err = successor.Receive(time.Now().Add(bequest)); err == nil && m.Kind != succession.Taken {
			err = fmt.Errorf("it answered with a message of kind %d", m.Kind)
		}
	}
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	lost := s.onLoops(ctx, func(l *loop) {
		for _, lane := range l.lanes {
			for _, j := range lane.debts {
				j.Forfeit()
			}
		}
	})
	return errors.Join(fmt.Errorf("the process that takes over does not take what nodes have missed: %w", err), lost)
}

// sendDebts sends all journals, which are empty then.
func (s *Server) sendDebts(successor *succession.Link) error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	for _, k := range s.keepers() {
		aside, err := k.setAside(ctx)
		if err != nil {
			return err
		}
		d := succession.Debt{Node: k.node.Address, Left: k.remaining()}
		for _, j := range aside {
			d.Untold = d.Untold || j.Overflowed()
		}
		for more := len(d.Left) > 0 || d.Untold; more || len(aside) > 0; more = false {
			for room := true; room && len(aside) > 0; {
				key, base64, ok := aside[0].Next()
				if !ok {
					aside = aside[1:]
					continue
				}
				more, room = true, d.Add(key, base64)
			}
			if !more {
				break
			}
			if err := successor.Send(succession.Message{Body: succession.Body{Kind: succession.Owed, Debt: d}}); err != nil {
				return err
			}
			d = succession.Debt{Node: k.node.Address}
		}
	}
	return nil
}

// remaining is the connections that were closed on the node with requests unanswered, and
// were not seen to be gone there; empty for those that have no name.
func (k *keeper) remaining() (left []string) {
	k.leaving.Lock()
	defer k.leaving.Unlock()
	k.takeLeft(k.node.TakeLeft())
	for _, addr := range k.left {
		left = append(left, addr.String())
	}
	if k.unnamed {
		left = append(left, "")
	}
	k.left, k.unnamed = nil, false
	return left
}
