package failover

import (
	"context"
	"sync"
	"time"

	"magent/bench/stats"
)

// watch asks a proxy about a node that came back, until it calls that up. The asking is
// done on a goroutine of its own.
type watch struct {
	proxy, node string // addresses; a node is called by its own

	wg     sync.WaitGroup
	begun  bool
	called time.Time // when the proxy was first heard to call the node up
}

// told is next, and begins to ask once the node is back, until ctx ends.
func (w *watch) told(ctx context.Context, next func(Mark)) func(Mark) {
	return func(m Mark) {
		if m.Returns && m.Error == "" && !w.begun {
			w.begun = true
			w.wg.Go(func() {
				if stats.Await(ctx, w.proxy, w.node, stats.Often, stats.Node.Up) == nil { // else it did not
					w.called = time.Now()
				}
			})
		}
		if next != nil {
			next(m)
		}
	}
}

// end waits for the end of ctx, or of what is waited for, and says when the node was up:
// at the zero time if it was not. Without a watch, or a return, nothing was watched.
func (w *watch) end() (up time.Time, watched bool) {
	if w == nil {
		return time.Time{}, false
	}
	w.wg.Wait()
	return w.called, w.begun
}
