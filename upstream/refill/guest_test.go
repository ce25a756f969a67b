package refill

import (
	"context"
	"errors"
	"testing"
	"time"

	"magent/upstream/memnode"
)

// inn is a host with a goroutine of its own.
type inn struct {
	busy   func() bool
	closes int // after so many turns it calls no more; 0: never
	visits int
	turns  int
	inside bool // a turn is being taken
}

func (h *inn) Busy() bool { return h.busy() }

func (h *inn) Visit(turn func() time.Duration) error {
	h.visits++
	over := make(chan error)
	go func() {
		for {
			h.turns++
			h.inside = true
			wait := turn()
			h.inside = false
			switch {
			case wait < 0:
				over <- nil
				return
			case h.turns == h.closes:
				over <- errors.New("it is closed")
				return
			}
			<-time.After(wait)
		}
	}()
	return <-over
}

// TestRunIsAGuest: it moves to its host while that is busy, and back, and copies all the same.
func TestRunIsAGuest(t *testing.T) {
	_, from := node(t, memnode.Config{})
	target, to := node(t, memnode.Config{})
	names := small(t, from, 3000)
	asked, inside, outside := 0, 0, 0
	h := &inn{}
	h.busy = func() bool { asked++; return asked%4 >= 2 }
	next := named(names...)
	counts, err := Run(t.Context(), Config{
		Source: from.dial, Target: to.dial, Host: h, Rate: Rate{Keys: 2000},
		Keys: func() (Key, bool) {
			if h.inside {
				inside++
			} else {
				outside++
			}
			return next()
		},
	})
	if err != nil || counts.Ended[Copied] != 3000 || target.Len() != 3000 {
		t.Errorf("%+v, %v: the target has %d keys", counts, err, target.Len())
	}
	if h.visits < 1 || inside == 0 || outside == 0 || h.turns < h.visits {
		t.Errorf("%d visits of %d turns, %d keys there and %d elsewhere", h.visits, h.turns, inside, outside)
	}
}

// TestHostCloses: what was a guest goes on by itself, and does not come again.
func TestHostCloses(t *testing.T) {
	_, from := node(t, memnode.Config{})
	target, to := node(t, memnode.Config{})
	names := small(t, from, 3000)
	h := &inn{busy: func() bool { return true }, closes: 3}
	counts, err := Run(t.Context(), Config{Source: from.dial, Target: to.dial, Host: h, Keys: named(names...)})
	if err != nil || counts.Ended[Copied] != 3000 || target.Len() != 3000 || h.visits != 1 || h.turns != 3 {
		t.Errorf("%+v, %v, %d visits, %d turns: the target has %d keys", counts, err, h.visits, h.turns, target.Len())
	}
}

// TestGuestIsGivenUp ends the context, or a node, during a visit.
func TestGuestIsGivenUp(t *testing.T) {
	for _, fault := range []string{"", "(on ms (after 500 times 1 reset))"} {
		_, from := node(t, memnode.Config{})
		target, to := node(t, memnode.Config{Fault: fault})
		names := small(t, from, 3000)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h := &inn{busy: func() bool { return true }}
		next, given := named(names...), 0
		counts, err := Run(ctx, Config{Source: from.dial, Target: to.dial, Host: h, Keys: func() (Key, bool) {
			if given++; given == 1500 && fault == "" {
				cancel()
			}
			return next()
		}})
		var e *Error
		if !errors.As(err, &e) || h.visits != 1 || errors.Is(err, context.Canceled) != (fault == "") {
			t.Errorf("%q: %v, %d visits", fault, err, h.visits)
		}
		if fault == "" && (len(e.Rest) > 0 || int(counts.Ended[Copied]) != target.Len()) {
			t.Errorf("%+v, %d keys under way, and the target has %d", counts, len(e.Rest), target.Len())
		}
	}
}
