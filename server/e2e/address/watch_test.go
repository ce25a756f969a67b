package address

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// A watch asks so often, each time on a connection of its own, and waits so long. A
	// connection whose first packet is lost would be tried again by the kernel after a
	// second: nothing of that kind is waited for.
	watchEvery = 10 * time.Millisecond
	watchLimit = 300 * time.Millisecond
	// watchSure is how many answers in a row show that clients are served.
	watchSure = 20
)

// A watch is a client that asks all the time, to see when nobody answers.
type watch struct {
	site *site
	beat *metronome
	over sync.WaitGroup

	mu       sync.Mutex
	answered []time.Time // when an answer came
	asked    int
	row      int            // of the last, how many were answered
	failed   map[string]int // how many were not, by why
}

// watch begins to ask, and returns when it is answered.
func (s *site) watch(t *testing.T) *watch {
	t.Helper()
	w := &watch{site: s, failed: make(map[string]int)}
	n := 0
	w.beat = newMetronome(watchEvery, func() {
		n++
		key := fmt.Sprint("watch", n)
		w.over.Go(func() { w.ask(key) })
	})
	w.served(t)
	return w
}

func (w *watch) ask(key string) {
	err := w.site.ask(watchLimit, key)
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.row++; err != nil {
		w.failed[reason(err)]++
		w.row = 0
		return
	}
	w.answered = append(w.answered, now)
}

// served waits until all that is asked is answered for some time.
func (w *watch) served(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	w.row = 0
	w.mu.Unlock()
	await(t, "clients are served", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.row >= watchSure
	})
}

// seen is what a watch saw.
type seen struct {
	asked  int
	failed map[string]int
	gap    time.Duration // the longest time in which no answer came
	stall  time.Duration // the longest time for which this process did not run when it should
}

func (r *seen) String() string {
	ms := time.Millisecond
	return fmt.Sprintf("%v: %d asked, failed %v; we were late by %v at most", r.gap.Round(ms), r.asked, r.failed, r.stall.Round(ms))
}

// end stops asking, and says what was seen.
func (w *watch) end() *seen {
	stall := w.beat.end()
	w.over.Wait()
	r := &seen{asked: w.asked, failed: w.failed, stall: stall}
	slices.SortFunc(w.answered, time.Time.Compare)
	for i := 1; i < len(w.answered); i++ {
		r.gap = max(r.gap, w.answered[i].Sub(w.answered[i-1]))
	}
	return r
}
