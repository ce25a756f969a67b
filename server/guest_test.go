package server

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// guests is how many guests the loops have.
func (s *Server) guests(t *testing.T) (all int) {
	t.Helper()
	n := make(chan int, 1)
	for _, l := range s.loops {
		if err := l.do(func() { n <- len(l.guests) }); err != nil {
			t.Fatal(err)
		}
		all += <-n
	}
	return all
}

// A loop calls its guest until that leaves.
func TestVisit(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	h := &lodging{lane: s.loops[0].lanes[0], giveBack: takeSpareP()}
	defer func() { h.giveBack() }()
	turns := 0
	err := h.Visit(func() time.Duration {
		if turns++; turns == 5 {
			return -1
		}
		return time.Millisecond
	})
	if err != nil || turns != 5 || h.inside {
		t.Errorf("%v after %d turns, still inside: %v", err, turns, h.inside)
	}
	eventually(t, "the guest is forgotten", func() bool { return s.guests(t) == 0 })
}

// A guest of a loop that calls nobody any more is told so, and is not called again.
func TestVisitOfADeadLoop(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	h := &lodging{lane: s.loops[0].lanes[0], giveBack: takeSpareP()}
	defer func() { h.giveBack() }()
	var turns atomic.Int32
	cause := errors.New("the poller failed")
	err := h.Visit(func() time.Duration {
		if turns.Add(1) == 1 {
			s.ended(cause)
		}
		return time.Millisecond
	})
	called := turns.Load()
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	eventually(t, "the guest is forgotten", func() bool { return s.guests(t) == 0 })
	if turns.Load() != called {
		t.Errorf("called %d times, of which %d after the visit", turns.Load(), turns.Load()-called)
	}
}

// A refill beside clients is a guest of a loop, and one that has nobody beside it is not.
func TestRefillIsAGuest(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1).slowly(400) // some seconds, for a loop to find that it is busy
	s := at.refilling(t)
	c := s.caller(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if poll(ctx, time.Millisecond, func() bool {
		for range 50 {
			c.wants("get "+mix(1), "VALUE "+mix(1)+" 0 1")
		}
		return s.guests(t) == 1
	}) != nil {
		t.Fatal("the refill does not become a guest")
	}
	eventually(t, "it has left", func() bool { return s.guests(t) == 0 })
	trusted(t, s)
	at.holds(s, 2000, nil)
}
