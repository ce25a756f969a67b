package load

import (
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"

	"magent/bench/wire"
)

// A worker that has ended does not keep the others from being told of, and is told of
// itself, once.
func TestProgressOutlivesAWorker(t *testing.T) {
	cfg := Config{Targets: []string{"x:1"}, Conns: 2, Threads: 2, Requests: 1, Progress: func(Progress) {}}.withDefaults()
	s := newShared(cfg)
	s.turnTo(measuring)
	workers := []*worker{newWorker(s, 0, 0), newWorker(s, 1, -1)}
	r := &reporter{s: s, workers: workers, sum: hdrhistogram.New(1, histMax, 2), last: s.now()}
	r.spare = []*lap{newLap(), newLap()}
	for _, w := range workers {
		w.phase = measuring
		f := flight{Request: wire.Request{Op: wire.Get, Keys: 1}}
		w.settle(&conn{}, &f, nil, &wire.Reply{Status: wire.Failed}, nil, 1)
	}
	if err := workers[0].run(); err == nil {
		t.Fatal("it has no connection left, and no error")
	}
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				workers[1].enter()
			}
		}
	}()
	for look := range 3 {
		p, ok := r.look(ended)
		if !ok || p.Requests != 2 || p.Errors != 2 {
			t.Errorf("look %d: %+v, %v; want 2 requests, 2 errors", look, p, ok)
		}
	}
	close(stop)
	<-ended
}
