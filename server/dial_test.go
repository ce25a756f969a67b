package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"

	"magent/upstream"
	"magent/upstream/dial"
)

func TestDialCause(t *testing.T) {
	for _, c := range []struct {
		err  error
		want upstream.Cause
	}{
		{syscall.EMFILE, upstream.CauseLocal},
		{syscall.ENFILE, upstream.CauseLocal},
		{syscall.ENOBUFS, upstream.CauseLocal},
		{syscall.EADDRNOTAVAIL, upstream.CauseLocal},
		{syscall.ETIMEDOUT, upstream.CauseSlowDial},
		{os.ErrDeadlineExceeded, upstream.CauseSlowDial},
		{context.DeadlineExceeded, upstream.CauseSlowDial},
		{dial.Refused("it does not know us"), upstream.CauseStranger},
		{syscall.ECONNREFUSED, upstream.CauseRefused},
		{errors.New("no such thing"), upstream.CauseRefused},
	} {
		err := &net.OpError{Op: "dial", Err: fmt.Errorf("connect: %w", c.err)}
		if got := dialCause(err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// crowded is an event loop that can take no connection in.
type crowded struct {
	gnet.EventLoop
	tasks chan gnet.Runnable
}

func (q *crowded) Execute(_ context.Context, r gnet.Runnable) error {
	q.tasks <- r
	return nil
}

func (q *crowded) Enroll(_ context.Context, nc net.Conn) (<-chan gnet.RegisteredResult, error) {
	nc.Close()
	result := make(chan gnet.RegisteredResult, 1)
	result <- gnet.RegisteredResult{Err: os.NewSyscallError("fcntl", syscall.EMFILE)}
	return result, nil
}

// A node that this process has no descriptor for is not dead, and who waits for it
// hears so at once, not when the dial is given up.
func TestShortageIsNotTheNodes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w := newWorld(t, nil, 1)
	loop := &crowded{tasks: make(chan gnet.Runnable, 16)}
	w.loop.el = loop
	w.lane.pool.Nodes[0].Address = ln.Addr().String()
	w.lane.group = upstream.NewGroup(w.lane.pool, w.lane, w.lane.limits())
	c := w.client("client")
	c.traffic([]byte("get k1\r\n"))
	deadline := time.After(10 * time.Second)
	for len(c.writes) == 0 {
		select {
		case r := <-loop.tasks:
			r.Run(context.Background())
		case <-deadline:
			t.Fatal("the client is told nothing")
		}
	}
	if got, want := c.sent(), "SERVER_ERROR node p1: proxy has no file or port left\r\n"; got != want {
		t.Errorf("the client is told %q, want %q", got, want)
	}
	if !w.lane.pool.Health.Up(0) {
		t.Error("the node was taken down")
	}
}
