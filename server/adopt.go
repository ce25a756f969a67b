package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"magent/server/succession"
	"magent/upstream/health"
)

// How a magent takes the place of its predecessor: Start, with what an operator wanted of
// that one (Succeed); then, while both serve, Adopt. What nodes have missed from the predecessor is
// this magent's to repair as if it had missed it from this one.

// Succeed hears what the predecessor says before it hears that this magent serves: what an
// operator wanted of that one, which Start sees to. It waits until deadline.
func (s *Server) Succeed(predecessor *succession.Link, deadline time.Time) error {
	m, err := predecessor.Receive(deadline)
	switch {
	case err != nil:
		return fmt.Errorf("the process that this one is to replace says nothing: %w", err)
	case m.Kind != succession.Wanted:
		return unexpected(m)
	}
	if err := s.follows(m.Placements); err != nil {
		return fmt.Errorf("the process that this one is to replace does not say where keys are: %w", err)
	}
	s.drainFirst = m.Names
	for _, n := range m.Nodes {
		if k := s.keeperAt(n.Address); k != nil && n.Life != 0 {
			k.node.SetLife(n.Life) // who has not met it would have to guess whether it comes back empty
			k.trusted = n.Trusted
		}
	}
	if m.GivenUp {
		g := newSurrender(givenAway)
		g.hold() // the address has left
		s.readiness.given.Store(g)
	}
	return nil
}

// drainAsBefore drains the nodes that the predecessor had drained, as far as they can be now.
func (s *Server) drainAsBefore() {
	for _, node := range s.drainFirst {
		if s.keeperAt(node) == nil {
			continue // it is in no pool any more
		}
		if err := s.Drain(node, true); err != nil {
			s.log.Warn("drained no longer", "node", node, "cause", err.Error())
		}
	}
}

// unexpected is the error of a message that has no place here.
func unexpected(m succession.Message) error {
	if m.File != nil {
		m.File.Close()
	}
	return fmt.Errorf("the process that this one replaces sent a message of kind %d", m.Kind)
}

// Adopt takes what the predecessor gives away until that has said that it was all, and
// that this magent answers for it from now on. The server runs. An error means that the
// predecessor has ended before: then it is one that died, for this magent as for others.
func (s *Server) Adopt(predecessor *succession.Link) error {
	defer func() { // it writes no more, or has died
		for _, p := range s.pools {
			p.letGo()
		}
	}()
	debts := map[*keeper][]succession.Debt{}
	for {
		m, err := predecessor.Receive(time.Time{})
		if err == io.EOF {
			return errors.New("the process that this one replaces has ended before it had handed over everything")
		}
		if err != nil {
			return err
		}
		switch m.Kind {
		case succession.Away:
			s.distrustAway(m.Names)
		case succession.Client:
			s.adopt(m)
		case succession.Owed:
			here := s.awaitLeft(m.Debt)
			if k := s.keeperAt(m.Debt.Node); k != nil {
				debts[k] = append(debts[k], m.Debt)
			} else if !here { // it is in no pool any more
				s.mistrust(m.Debt.Node)
			}
		case succession.Over:
			if err := s.assume(debts); err != nil {
				return err
			}
			return predecessor.Send(succession.Message{Body: succession.Body{Kind: succession.Taken}})
		default:
			return unexpected(m)
		}
	}
}

// distrustAway has this magent not read nodes that are away for the predecessor, whose
// clients have written what is not there: what is owed them is in a ledger, or will be.
func (s *Server) distrustAway(addresses []string) {
	for _, address := range addresses {
		k := s.keeperAt(address)
		if k == nil {
			s.mistrust(address)
			continue
		}
		seen := k.srv.pool.Health.Load(k.node.Index)
		if seen.State() <= health.Slow && k.srv.pool.Covered(k.node.Index, health.Slow) {
			k.distrust(s.ctx, seen, health.Stale, owed)
		}
	}
}

// mistrust has the node at address not be asked for keys that it had, as it has missed writes.
func (s *Server) mistrust(address string) {
	for _, p := range s.pools {
		f := p.former.Load()
		for i := 0; f != nil && i < len(f.pool.Nodes); i++ {
			if f.pool.Nodes[i].Address == address {
				f.lose(p.log, i)
			}
		}
	}
}

// keeperAt is the keeper of the node at address. A node that may be away, drained or owed
// anything is in one pool only. It is nil if there is none: the predecessor had other pools.
func (s *Server) keeperAt(address string) *keeper {
	for _, p := range s.pools {
		if i := p.at(address); i >= 0 && !p.pool.Alone() {
			return p.keepers[i]
		}
	}
	return nil
}

// adopt goes on with a client, which may have sent input already.
func (s *Server) adopt(m succession.Message) {
	nc, err := net.FileConn(m.File)
	m.File.Close()
	if err != nil {
		s.log.Warn("cannot serve a client", "cause", cause(err).Error())
		return
	}
	if nc.RemoteAddr() == nil { // it has gone
		nc.Close()
		return
	}
	at, ok := s.doorOf(nc)
	if !ok {
		s.log.Warn("a client was closed", "cause", "this process does not listen at "+nc.LocalAddr().String())
		nc.Close()
		return
	}
	if s.cfg.Listen[at].TLS { // it has come when it was not: those with TLS are not handed over
		s.log.Warn("a client was closed", "cause", "clients speak TLS at "+nc.LocalAddr().String()+" now")
		nc.Close()
		return
	}
	if !s.doorman.allows(nc.RemoteAddr()) { // as of now
		s.turned(nc, "its address is not allowed")
		nc.Close()
		return
	}
	from, _ := s.doorman.enter(nc.RemoteAddr(), true)
	s.seat(nc, arrival{at: at, from: from, input: m.Input, known: m.Known})
}

// assume has this magent owe what its predecessor did. A node that is not down is taken down,
// so that it is paid before it is read. This magent stands in the ledgers when it returns, if
// anybody keeps them: so the predecessor, for which all have waited, may leave them.
func (s *Server) assume(debts map[*keeper][]succession.Debt) error {
	ctx, cancel := context.WithTimeout(s.ctx, bequest)
	defer cancel()
	for k, of := range debts {
		p, i := k.srv, k.node.Index
		owes := false
		for n, d := range of { // one after the other, and to each loop its share: clients are served meanwhile
			owes = owes || d.Untold || len(d.Keys) > 0
			err := p.onLanes(ctx, func(l *lane) {
				if n%len(s.loops) == l.index {
					l.inherit(i, d)
				}
			})
			if err != nil {
				return err
			}
		}
		if !owes {
			continue
		}
		p.pool.Monitor.Trip(i, p.pool.Health.Load(i), "it has missed writes of the process before this one")
		if k.shares() && p.pool.Health.Load(i).State() > health.Slow {
			k.debtors.enter()
			k.debtors.renew(ctx)
		}
	}
	return nil
}

// awaitLeft has what the predecessor left at a node be waited for like what this magent has
// left there, in each pool that has it, and reports whether one does.
func (s *Server) awaitLeft(d succession.Debt) (here bool) {
	for _, p := range s.pools {
		if i := p.at(d.Node); i >= 0 {
			here = true
			k := p.keepers[i]
			k.leaving.Lock()
			k.takeLeft(d.Left)
			k.leaving.Unlock()
		}
	}
	return here
}

// inherit notes what node has missed.
func (l *lane) inherit(node int, d succession.Debt) {
	d.Each(func(key []byte, base64 bool) { l.owes(node, key, base64) })
	if d.Untold {
		l.debts[node].Forfeit()
	}
}
