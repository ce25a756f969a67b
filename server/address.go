package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// The virtual addresses (Config.VIPs) stand on the machine that clients are to reach. They
// are not moved here: who moves them asks for readiness, and takes them away from a magent
// that is not ready. So to give them up is to be not ready until they are gone:
//
//	not ready ──▶ somebody asks ──▶ hush: their clients part ──▶ he is told no ──▶ they leave
//	             served as ever     new ones are kept waiting      hushMost at most
//
// Who asks waits for his no until the clients have parted, holdMost at most, as the address
// may be gone a moment later. If nobody asks, or the addresses stay, clients lose nothing.
const (
	// addressPoll is how often it is looked whether the addresses have left.
	addressPoll = 5 * time.Millisecond
	// holdMost is how long who asks may wait for his answer: less than magent ready waits,
	// and than anybody lets go by between two questions.
	holdMost = 90 * time.Millisecond
	// hushMost is how long new clients are kept waiting: till their kernel tries again.
	hushMost = 900 * time.Millisecond

	givenForGood = "it is stopping"
	givenAway    = "its address was given up by hand"
)

// surrender is that the addresses are given up.
type surrender struct {
	why    string
	heard  chan struct{} // has one when somebody has asked whether we are ready
	quiet  chan struct{} // closed when he may be told that we are not
	settle sync.Once     // closes quiet
}

func newSurrender(why string) *surrender {
	return &surrender{why: why, heard: make(chan struct{}, 1), quiet: make(chan struct{})}
}

// tells returns when the no may be said.
func (g *surrender) tells() {
	select {
	case g.heard <- struct{}{}:
	default:
	}
	late := time.NewTimer(holdMost)
	defer late.Stop()
	select {
	case <-g.quiet:
	case <-late.C:
	}
}

func (g *surrender) hold() { g.settle.Do(func() { close(g.quiet) }) }

// onInterfaces reports whether an interface of this machine has the address a.
func onInterfaces(a netip.Addr) (bool, error) {
	all, err := net.InterfaceAddrs()
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a
	}), err
}

// addressed gives those of the virtual addresses that are on this machine.
func (s *Server) addressed() (all []netip.Addr, err error) {
	for _, a := range s.cfg.VIPs {
		here, err := s.here(a)
		if err != nil {
			return nil, fmt.Errorf("cannot find out what addresses this machine has: %w", err)
		}
		if here {
			all = append(all, a)
		}
	}
	return all, nil
}

// Failover gives the virtual addresses up, and returns when they have left this machine:
// clients are served here, and sent elsewhere, until Resume. It is an error, and undone,
// if they are still here when the time for that is over.
func (s *Server) Failover(ctx context.Context) error {
	if len(s.cfg.VIPs) == 0 {
		return errors.New("this magent was not told which address is moved: --vip says it")
	}
	if s.leaving.Err() != nil {
		return errors.New(givenForGood)
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	here, err := s.addressed()
	switch {
	case s.succeeded.Load():
		return errSucceeded
	case err != nil:
		return err
	case len(here) == 0:
		return errors.New("there is nothing to give up: no --vip is on this machine")
	}
	g := newSurrender(givenAway)
	if !s.readiness.given.CompareAndSwap(nil, g) {
		return errors.New(s.readiness.given.Load().why)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.leaving, cancel)()
	if err := s.giveUp(ctx, g, here); err != nil {
		g.hold()
		s.readiness.given.CompareAndSwap(g, nil)
		return fmt.Errorf("%w: this magent is ready again. Who moves it must be running on both machines, and the other be ready", err)
	}
	return nil
}

// Resume ends what Failover began.
func (s *Server) Resume() error {
	if s.leaving.Err() != nil {
		return errors.New(givenForGood)
	}
	s.moving.Lock()
	defer s.moving.Unlock()
	switch g := s.readiness.given.Load(); {
	case s.succeeded.Load():
		return errSucceeded
	case g == nil:
		return nil
	case !s.readiness.given.CompareAndSwap(g, nil):
		return errors.New(givenForGood)
	}
	return nil
}

// Leave is what comes before Shutdown where addresses are moved: it is not ready from now
// on, and serves until they have left, if that is in time.
func (s *Server) Leave(ctx context.Context) {
	g := newSurrender(givenForGood)
	s.readiness.given.Store(g)
	s.leave()
	s.moving.Lock()
	defer s.moving.Unlock()
	here, err := s.addressed()
	if err == nil && len(here) > 0 && s.cfg.HandoverWait > 0 {
		err = s.giveUp(ctx, g, here)
	}
	g.hold()
	if err != nil {
		s.log.Warn("the address was not given up", "cause", err.Error())
	}
}

// giveUp waits until none of the addresses that are here is any more, for the time that
// there is, and sees to it that clients lose nothing by that. s.moving is held.
func (s *Server) giveUp(ctx context.Context, g *surrender, here []netip.Addr) error {
	s.log.Info("giving the address up", "address", list(here), "within", s.cfg.HandoverWait)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandoverWait)
	defer cancel()
	poll := time.NewTicker(addressPoll)
	defer poll.Stop()
	heard := g.heard
	var hushed time.Time // zero: it is not
	for {
		left, err := s.addressed()
		switch {
		case err == nil && len(left) == 0:
			g.hold()
			s.unhushed(hushed)
			s.cut(here)
			s.log.Info("the address has left", "after", time.Since(began).Round(time.Millisecond))
			return nil
		case err == nil && ctx.Err() != nil:
			err = fmt.Errorf("%s has not left this machine within %v", list(left), s.cfg.HandoverWait)
		}
		if err != nil {
			s.unhushed(hushed)
			return err
		}
		select {
		case <-ctx.Done():
		case <-heard:
			heard, hushed = nil, time.Now()
			if err := s.hush(here); err != nil {
				s.log.Warn("clients are not kept away while the address moves", "cause", err.Error())
			}
			continue
		case <-poll.C:
		}
		switch {
		case hushed.IsZero():
		case time.Since(hushed) > s.times.hush:
			s.unhushed(hushed)
			hushed = time.Time{}
			g.hold()
		case s.parting() == 0:
			g.hold()
		}
	}
}

// unhushed undoes hush, if it was done.
func (s *Server) unhushed(since time.Time) {
	if since.IsZero() {
		return
	}
	if err := s.unhush(); err != nil {
		s.log.Warn("clients are still kept away", "cause", err.Error())
	}
}

// parting is how many clients are yet to part.
func (s *Server) parting() (n int64) {
	for _, l := range s.loops {
		n += l.any.parting.Load()
	}
	return n
}

func list(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}
