package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"magent/server/admin"
	"magent/upstream/health"
)

// What an operator asks of the proxy: it is an admin.Proxy, but for the version, which
// the command knows. Any goroutine may call these.
//
// A node is drained so that it can be stopped without anybody noticing: it is Warming,
// and so not read, and leads nothing, while others are Up; it goes on being written, and
// is read when nobody else is left. That it is drained is a flag of its keeper, which
// whoever would make it Up looks at. The flag is gone when the node comes back in another
// life, which is what it was drained for; when the operator says so; and when it is
// needed as the only node that holds what it does.

const (
	drainedByHand = "drained by hand"
	undrained     = "no longer drained"
	// handOverPatience is how long the writes under way may take to come to their ends.
	// They time out long before, one after the other; the operator's request has 30 s.
	handOverPatience = 10 * time.Second
)

// Status says how the nodes are.
func (s *Server) Status() admin.Status {
	snap := s.Snapshot()
	status := admin.Status{Since: s.started, Ready: s.Ready()}
	for i := range snap.Nodes {
		status.Nodes = append(status.Nodes, snap.Nodes[i].told())
	}
	return status
}

// told is r as operators are told; nil of nil.
func (r *Refill) told() *admin.Refill {
	if r == nil {
		return nil
	}
	t := &admin.Refill{Phase: r.Phase, Done: r.Done, Total: r.Total, Keys: r.Keys, Bytes: r.Bytes}
	if eta, ok := r.ETA(); ok {
		seconds := int(eta.Round(time.Second).Seconds())
		t.ETA = &seconds
	}
	return t
}

// Resync has node emptied and refilled, as if it had come back empty, from the node called
// from first. It returns when the node is not read any more.
func (s *Server) Resync(node, from string) error {
	k, err := s.named(node)
	if err != nil {
		return err
	}
	of, err := s.named(from)
	switch {
	case err != nil:
		return err
	case of.srv != k.srv:
		return fmt.Errorf("%s cannot be refilled from %s: that is in another pool", k.node.Name, from)
	}
	return k.srv.resync(k.node.Index, of.node.Index)
}

// resync is Resync of node i from source.
func (s *poolServer) resync(i, source int) (err error) {
	s.operator.Lock()
	defer s.operator.Unlock()
	ctx, cancel := s.forOperator()
	defer cancel()
	k := s.keepers[i]
	for done := false; !done; {
		seen := s.pool.Health.Load(i)
		if err = s.mayResync(i, source, seen); err != nil {
			return fmt.Errorf("%s cannot be refilled from %s: %w", k.node.Name, s.pool.Nodes[source].Name, err)
		}
		err = s.underGate(ctx, func() error {
			k.cold.Store(true)
			k.byHand.Store(&source)
			if done = s.pool.Monitor.Distrust(i, seen, health.Warming, "it is refilled by hand"); !done {
				k.whole()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mayResync says why node i, whose word is seen, may not be refilled from source.
func (s *poolServer) mayResync(i, source int, seen health.Word) error {
	switch state := seen.State(); {
	case s.pool.Alone():
		return errors.New("there is one copy of each key, and nobody else who holds any")
	case !slices.Contains(s.pool.Peers(i), source):
		return errors.New("it holds no key of that")
	case s.pool.Health.Load(source).State() > health.Slow:
		return fmt.Errorf("that is %s", s.pool.Health.Load(source).State())
	case s.keepers[i].cold.Load():
		return errors.New("it is waiting for a refill, or has one, already")
	case state > health.Slow:
		return fmt.Errorf("it is %s", state)
	}
	return s.mayDrain(i, seen)
}

// Drain takes the lead and all reads from the node of this name, or gives them back.
func (s *Server) Drain(name string, on bool) error {
	k, err := s.named(name)
	if err != nil {
		return err
	}
	return k.srv.setDrain(k.node.Index, on)
}

// setDrain is Drain of node i.
func (s *poolServer) setDrain(i int, on bool) error {
	s.operator.Lock()
	defer s.operator.Unlock()
	if s.succeeded.Load() {
		return errSucceeded
	}
	ctx, cancel := s.forOperator()
	defer cancel()
	if on {
		return s.withdraw(ctx, i)
	}
	return s.reinstate(ctx, i)
}

// named is the keeper of the node of this name or address, before which its pool's and a
// slash may stand.
func (s *Server) named(name string) (*keeper, error) {
	var found *keeper
	var names []string
	for _, k := range s.keepers() {
		n, full := k.node, k.srv.conf.Name+"/"
		if slices.Contains([]string{n.Name, n.Address, full + n.Name, full + n.Address}, name) {
			if found != nil {
				return nil, fmt.Errorf("%.100s is in the pools %s and %s: put the name of one and a slash before it", name, found.srv.conf.Name, k.srv.conf.Name)
			}
			found = k
		}
		names = append(names, n.Name)
	}
	if found == nil {
		return nil, fmt.Errorf("there is no node %.100s: there are %s", name, strings.Join(names, ", "))
	}
	return found, nil
}

// forOperator bounds what is done for an operator: in time, and by the server's end.
func (s *Server) forOperator() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), handOverPatience)
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// withdraw drains node i. One that nobody reads as it is gets the flag alone; so it is
// set before the state is looked at, by whose end it counts. s.operator is held.
func (s *poolServer) withdraw(ctx context.Context, i int) error {
	k := s.keepers[i]
	before := k.drain.Swap(true)
	for done := false; !done; {
		seen := s.pool.Health.Load(i)
		err := s.mayDrain(i, seen)
		if done = seen.State() > health.Slow; err == nil && !done {
			err = s.underGate(ctx, func() error {
				if err := s.mayDrain(i, seen); err != nil {
					return err // its peers are not what they were
				}
				done = s.pool.Monitor.Distrust(i, seen, health.Warming, drainedByHand)
				return nil
			})
		}
		if err != nil {
			k.drain.Store(before)
			return fmt.Errorf("%s cannot be drained: %w", k.node.Name, err)
		}
	}
	return nil
}

// mayDrain says why node i, whose word is seen, may not be drained.
func (s *poolServer) mayDrain(i int, seen health.Word) error {
	switch {
	case s.pool.Alone():
		return errors.New("there is one copy of each key, and nobody else to read it from")
	case seen.State() == health.Down:
		return errors.New("it is down, and nothing is read from it")
	}
	if lacking := s.lacking(i); lacking != nil {
		return fmt.Errorf("some of its keys would have no replica that is up: %s", strings.Join(lacking, ", "))
	}
	return nil
}

// reinstate has node i read again, if its being drained is all that is against it.
// s.operator is held.
func (s *poolServer) reinstate(ctx context.Context, i int) error {
	k := s.keepers[i]
	if !k.drain.Swap(false) {
		return nil
	}
	for {
		seen := s.pool.Health.Load(i)
		if seen.State() != health.Warming || k.cold.Load() {
			return nil
		}
		err := s.underGate(ctx, func() error {
			s.pool.Monitor.Promote(i, seen, undrained)
			return nil
		})
		if err != nil {
			k.drain.Store(true)
			return fmt.Errorf("%s is still drained: %w", k.node.Name, err)
		}
	}
}

// underGate runs f while no write is under way.
func (s *poolServer) underGate(ctx context.Context, f func() error) error {
	open, err := s.handOver(ctx, shortly)
	if err != nil {
		return fmt.Errorf("the writes under way did not come to an end: %w", err)
	}
	defer open()
	return f()
}

// lacking says which nodes keep others from standing in for node i; nil if they can.
func (s *poolServer) lacking(i int) (all []string) {
	if s.pool.Covered(i, health.Slow) {
		return nil
	}
	for _, n := range s.pool.Peers(i) {
		if state := s.pool.Health.Load(n).State(); state > health.Slow {
			all = append(all, fmt.Sprintf("%s is %s", s.pool.Nodes[n].Name, state))
		}
	}
	if all == nil {
		return []string{"it stands in every copy"}
	}
	return all
}

// settleDrains looks at what the change of node i means for the nodes that are drained.
// One that became Up although it is drained, by somebody who did not know yet, is drained
// again; one that became Warming as it was drained, and is not any more, is read again. One that alone holds what it does, since nobody can stand in for it, and a peer
// is empty, is drained no longer: the empty one might be read before it. It is on the
// goroutine of i's prober.
func (s *poolServer) settleDrains(i int) {
	drained := func(n int) bool { return s.keepers[n].drain.Load() }
	seen := s.pool.Health.Load(i)
	again := drained(i) && seen.State() <= health.Slow
	over := func() bool { return seen.State() == health.Warming && !drained(i) && !s.keepers[i].cold.Load() }
	if !again && !over() && !slices.ContainsFunc(s.pool.Peers(i), drained) {
		return // mostly
	}
	s.operator.Lock()
	defer s.operator.Unlock()
	ctx, cancel := s.forOperator()
	defer cancel()
	if over() {
		_ = s.underGate(ctx, func() error { s.pool.Monitor.Promote(i, seen, undrained); return nil })
	}
	if again && drained(i) {
		if err := s.withdraw(ctx, i); err != nil {
			s.keepers[i].drain.Store(false)
			s.log.Warn("drained no longer", "node", s.pool.Nodes[i].Name, "cause", err.Error())
		}
	}
	for _, n := range s.pool.Peers(i) {
		cold := func(peer int) bool { return s.keepers[peer].cold.Load() }
		if !drained(n) || s.pool.Covered(n, health.Slow) || !slices.ContainsFunc(s.pool.Peers(n), cold) {
			continue
		}
		s.log.Warn("drained no longer", "node", s.pool.Nodes[n].Name, "cause", "no other holds what it does")
		if err := s.reinstate(ctx, n); err != nil {
			s.log.Warn("drained still", "node", s.pool.Nodes[n].Name, "cause", err.Error())
		}
	}
}
