package address

import (
	"testing"
	"time"

	"magent/bench/process/proctest"
)

const (
	// bound is how long clients may be without service when a machine, or what runs on
	// it, fails; boundFast the same with the profile that is called fast.
	bound     = time.Second
	boundFast = 400 * time.Millisecond
	// boundFrozen and boundTwo are the README's and OPERATIONS.md's: for how long nobody
	// answers when a magent is frozen, which has to be told from one that is late; and
	// for how long two do when a keepalived is killed where monit looks after it.
	boundFrozen = 1100 * time.Millisecond
	boundTwo    = 800 * time.Millisecond
	// stallMost is by how much these tests may be late themselves before it is worth a
	// second look at what was measured.
	stallMost = 20 * time.Millisecond
	// trials is how often something is measured where the host may have stalled.
	trials = 3
)

// promise has trial measure a time without service, and demands that it is within bound.
// It is measured anew if it is not: a host with other things to do keeps keepalived
// waiting, too, and that is not seen from here. A promise that is broken is broken thrice.
func promise(t *testing.T, bound time.Duration, trial func(t *testing.T) *seen) {
	t.Helper()
	for i := 1; ; i++ {
		r := trial(t)
		t.Log(r)
		switch {
		case r.gap <= bound:
		case i < trials:
			continue
		default:
			t.Errorf("clients were without service for %v, which may be %v", r.gap, bound)
		}
		return
	}
}

// A metronome calls somebody at each beat, and notes by how much it was late at most.
type metronome struct {
	stop  chan struct{}
	ended chan struct{}
	late  time.Duration // to be read when it has ended
}

func newMetronome(every time.Duration, call func()) *metronome {
	m := &metronome{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(m.ended)
		beat := time.NewTicker(every)
		defer beat.Stop()
		for last := time.Now(); ; {
			select {
			case <-m.stop:
				return
			case <-beat.C:
			}
			now := time.Now()
			m.late = max(m.late, now.Sub(last)-every)
			last = now
			call()
		}
	}()
	return m
}

// end stops it, and says by how much it was late.
func (m *metronome) end() time.Duration {
	close(m.stop)
	<-m.ended
	return m.late
}

// pollEvery is how often await looks: to look means to enter a machine.
const pollEvery = 20 * time.Millisecond

// await is proctest.Eventually for what costs something to look at.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for deadline := time.Now().Add(proctest.Patience); !holds(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", proctest.Patience, what)
		}
	}
}
