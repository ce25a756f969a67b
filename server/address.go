package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The virtual addresses (Config.VIPs) stand on the machine that clients are to reach. They
// are not moved here: who moves them asks for readiness, and takes them away from a magent
// that is not ready. So to give them up is to be not ready until they are gone, and to
// serve meanwhile.

const (
	// addressPoll is how often it is looked whether the addresses have left.
	addressPoll = 10 * time.Millisecond

	givenForGood = "it is stopping"
	givenAway    = "its address was given up by hand"
)

// onInterfaces reports whether an interface of this machine has the address a.
func onInterfaces(a netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a
	}), err
}

// addressed gives those of the virtual addresses that are on this machine.
func (s *Server) addressed() (all []string, err error) {
	for _, a := range s.cfg.VIPs {
		here, err := s.here(a)
		if err != nil {
			return nil, fmt.Errorf("cannot find out what addresses this machine has: %w", err)
		}
		if here {
			all = append(all, a.String())
		}
	}
	return all, nil
}

// left waits until no virtual address is on this machine, at most Config.HandoverWait.
func (s *Server) left(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandoverWait)
	defer cancel()
	var here []string
	var err error
	late := poll(ctx, addressPoll, func() bool {
		here, err = s.addressed()
		return err != nil || len(here) == 0
	})
	if late != nil {
		return fmt.Errorf("%s has not left this machine within %v", strings.Join(here, ", "), s.cfg.HandoverWait)
	}
	return err
}

// Failover gives the virtual addresses up, and returns when they have left this machine:
// clients are served here, and sent elsewhere, until Resume. It is an error, and undone,
// if they are still here when the time for that is over.
func (s *Server) Failover(ctx context.Context) error {
	if len(s.cfg.VIPs) == 0 {
		return errors.New("this magent was not told which address is moved: --vip says it")
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	here, err := s.addressed()
	switch {
	case err != nil:
		return err
	case len(here) == 0:
		return errors.New("there is nothing to give up: no --vip is on this machine")
	}
	why := givenAway
	if !s.readiness.given.CompareAndSwap(nil, &why) {
		return fmt.Errorf("nothing is to be given up: %s", *s.readiness.given.Load())
	}
	s.log.Info("giving the address up", "address", strings.Join(here, ", "))
	if err := s.left(ctx); err != nil {
		s.readiness.given.CompareAndSwap(&why, nil)
		return fmt.Errorf("%w: this magent is ready again. Who moves it must be running on both machines, and the other be ready", err)
	}
	return nil
}

// Resume ends what Failover began.
func (s *Server) Resume() error {
	s.moving.Lock()
	defer s.moving.Unlock()
	switch why := s.readiness.given.Load(); {
	case why == nil:
		return nil
	case *why != givenAway || !s.readiness.given.CompareAndSwap(why, nil):
		return errors.New(givenForGood)
	}
	return nil
}

// Leave is what comes before Shutdown where addresses are moved: it is not ready from now
// on, and serves until they have left, if that is in time.
func (s *Server) Leave(ctx context.Context) {
	why := givenForGood
	s.readiness.given.Store(&why)
	here, err := s.addressed()
	if err == nil && len(here) > 0 {
		s.log.Info("giving the address up", "address", strings.Join(here, ", "))
		err = s.left(ctx)
	}
	if err != nil {
		s.log.Warn("the address was not given up", "cause", err.Error())
	}
}
