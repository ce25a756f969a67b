package server

import (
	"errors"
	"testing"
	"time"
)

// A loop that has ended takes tasks and never runs them: Shutdown does not wait for
// it, whether its end was told of or not.
func TestShutdownOfADeadLoop(t *testing.T) {
	for _, told := range []bool{true, false} {
		w := newWorld(t, nil, 1)
		w.start()
		srv := w.loop.srv
		srv.done, srv.died = make(chan struct{}), make(chan struct{})
		srv.running.Store(true)
		if told {
			srv.ended(errors.New("the poller failed"))
		}
		over := make(chan error, 1)
		go func() { over <- srv.Shutdown(t.Context()) }()
		select {
		case err := <-over:
			if err != nil {
				t.Errorf("told %v: %v", told, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("told %v: Shutdown does not return", told)
		}
	}
}
