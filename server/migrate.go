package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"magent/upstream"
	"magent/upstream/dump"
	"magent/upstream/refill"
)

// What nobody asks for moves by and by: a goroutine of the pool lists what former owners hold,
// and has the loops move it, until all has, or the time for that is over.

const (
	// movesPerTurn is how many keys are moved at a time, one turn a tick at most: some 12,000
	// per second, which clients hardly notice.
	movesPerTurn = 64
	// retryMoves is how long keys are let be that could not be moved, at first: the node has to list
	// all that it holds for each try. It doubles with each, up to mostRetryMoves.
	retryMoves     = 200 * time.Millisecond
	mostRetryMoves = 5 * time.Second
	// moveKeys and moveBytes bound the keys that are listed at a time.
	moveKeys  = 1 << 18
	moveBytes = 32 << 20
)

// migrate moves all keys from where they were, and ends the looking there.
func (s *poolServer) migrate(f *former) {
	ctx, cancel := context.WithDeadline(s.ctx, f.until)
	defer cancel()
	pause(ctx, s.times.linger)
	began, moved, left := time.Now(), 0, f.pool.Nodes
	for wait := retryMoves; len(left) > 0; wait = min(2*wait, mostRetryMoves) {
		var again []*upstream.Node // of which no other is kept waiting
		for _, node := range left {
			n, err := s.moveFrom(ctx, f, node)
			moved += n
			switch {
			case s.ctx.Err() != nil:
				return // it is shut down, which sees to the rest
			case ctx.Err() != nil:
				s.forget(f, fmt.Sprintf("the time for that is over, with %d keys moved beside clients", moved))
				return
			case err != nil:
				s.log.Debug("keys do not move yet", "node", node.Name, "cause", err.Error())
				again = append(again, node)
			}
		}
		if left = again; len(left) > 0 {
			pause(ctx, wait)
		}
	}
	s.forget(f, fmt.Sprintf("all have moved, %d beside clients, in %v", moved, time.Since(began).Round(time.Millisecond)))
}

// moveFrom moves what a node holds and is no longer to hold. What cannot be moved keeps nothing
// else waiting.
func (s *poolServer) moveFrom(ctx context.Context, f *former, from *upstream.Node) (moved int, err error) {
	node, target := from.Index, s.listing(from)
	if f.lost[node].Load() {
		return 0, nil
	}
	var unmoved error
	keys := dump.NewHottest(dump.Limits{Keys: moveKeys, Bytes: moveBytes})
	for more := true; more; {
		list, err := dump.Crawl(ctx, target, func(e dump.Entry) {
			if !ours(e.Key) && f.owned(s, node, e.Key) {
				keys.Add(e)
			}
		})
		if err != nil {
			return moved, err
		}
		keys.Sort()
		for from := 0; from < keys.Len(); from += movesPerTurn {
			n, err := s.moveTurn(ctx, f, node, keys, from, min(from+movesPerTurn, keys.Len()))
			moved += n
			if errors.Is(err, errUnmoved) {
				unmoved = err
			} else if err != nil {
				return moved, err
			}
			pause(ctx, tick)
		}
		more = keys.Next(list.Began)
	}
	return moved, unmoved
}

// owned reports whether node is a former owner of key.
func (f *former) owned(s *poolServer, node int, key []byte) bool {
	owners, n := f.owners(s.pool, key)
	return slices.Contains(owners[:n], node)
}

var errUnmoved = errors.New("some could not be moved")

// moveTurn moves some keys from node, and waits for them.
func (s *poolServer) moveTurn(ctx context.Context, f *former, node int, keys *dump.Hottest, from, to int) (moved int, err error) {
	var failed atomic.Int32
	ended := make(chan struct{}, to-from)
	lanes := s.lanes()
	for i := from; i < to; i++ {
		name, base64 := refill.Written(keys.At(i).Key)
		l := lanes[i%len(lanes)]
		if err := l.do(func() {
			l.moveFor(f, name, base64, node, func(ok bool) {
				if !ok {
					failed.Add(1)
				}
				ended <- struct{}{}
			})
		}); err != nil {
			return 0, err
		}
	}
	for i := from; i < to; i++ {
		select {
		case <-ended:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if failed.Load() > 0 {
		return to - from - int(failed.Load()), errUnmoved
	}
	return to - from, nil
}

// moveFor is move for somebody who wants to hear how it ended.
func (l *lane) moveFor(f *former, key []byte, base64 bool, node int, done func(ok bool)) {
	if l.former == nil || l.former.former != f || l.gate.closed > 0 {
		done(false)
		return
	}
	placed := append([]byte(nil), l.placedKey(key, base64)...)
	l.beginMove(placed, key, base64, node, &move{from: l.former, slot: -1, done: done})
}
