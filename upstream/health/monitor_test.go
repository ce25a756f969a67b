package health

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

// script is a monitor whose probes and waits the test answers.
type script struct {
	*Monitor
	t       *testing.T
	table   *Table
	probes  chan int           // a node that is being probed
	answers chan error         // what the probe says
	waits   chan time.Duration // a wait that has begun
	over    chan struct{}      // ends it
	changes chan Change
}

func start(t *testing.T, nodes int, l Limits) *script {
	s := &script{t: t, table: NewTable(nodes), probes: make(chan int), answers: make(chan error),
		waits: make(chan time.Duration), over: make(chan struct{}), changes: make(chan Change, 16)}
	probe := func(ctx context.Context, i int) error {
		select {
		case s.probes <- i:
			return <-s.answers
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.Monitor = NewMonitor(s.table, probe, l, func(c Change) { s.changes <- c })
	s.wait = func(ctx context.Context, d time.Duration) {
		select {
		case s.waits <- d:
			<-s.over
		case <-ctx.Done():
		}
	}
	t.Cleanup(s.Close)
	return s
}

// get takes from c, or fails the test.
func get[T any](s *script, c <-chan T, what string) (v T) {
	s.t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		s.t.Fatalf("no %s", what)
	}
	return v
}

// probed answers the probe that is due.
func (s *script) probed(node int, err error) {
	s.t.Helper()
	if i := get(s, s.probes, "probe"); i != node {
		s.t.Fatalf("node %d is probed, want %d", i, node)
	}
	s.answers <- err
}

// waited ends the wait that is due and returns how long it would have been.
func (s *script) waited() time.Duration {
	s.t.Helper()
	d := get(s, s.waits, "wait")
	s.over <- struct{}{}
	return d
}

var errBad = errors.New("no answer")

// A node that went down is probed at once, then ever more rarely, until it is back.
func TestNodeComesBack(t *testing.T) {
	s := start(t, 2, Limits{Rise: 2, Backoff: 10 * time.Millisecond, Ceiling: 30 * time.Millisecond})
	if !s.Trip(1, s.table.Load(1), "timeout") {
		t.Fatal("the trip is refused")
	}
	if c := get(s, s.changes, "change"); c.Node != 1 || c.From != Up || c.To != Down || c.Cause != "timeout" || c.Epoch != 1 {
		t.Errorf("the change is %+v", c)
	}
	var waits []time.Duration
	for _, err := range []error{errBad, errBad, nil, errBad, errBad, nil} {
		s.probed(1, err)
		waits = append(waits, s.waited()/time.Millisecond)
		if s.table.Up(1) {
			t.Fatal("up too soon")
		}
	}
	if want := []time.Duration{10, 20, 20, 30, 30, 30}; !slices.Equal(waits, want) {
		t.Errorf("waited %d ms, want %d", waits, want)
	}
	s.probed(1, nil)
	if c := get(s, s.changes, "change"); c.Node != 1 || c.From != Down || c.To != Up || c.Epoch != 2 || !s.table.Up(1) {
		t.Errorf("the change is %+v", c)
	}
	if last := s.Last(1); last.To != Up || last.Epoch != 2 || last.At.IsZero() {
		t.Errorf("the latest change is %+v", last)
	}
	if last := s.Last(0); last.To != Up || last.Epoch != 0 || last.Cause != "start" {
		t.Errorf("the other node's latest change is %+v", last)
	}
}

// Only news of the present takes a node down, and only once.
func TestTripOnce(t *testing.T) {
	s := start(t, 1, Limits{Rise: 1, Backoff: time.Millisecond, Ceiling: time.Millisecond})
	seen := s.table.Load(0)
	if !s.Trip(0, seen, "reset") || s.Trip(0, seen, "reset") || s.Trip(0, s.table.Load(0), "reset") {
		t.Error("one trip of three must be taken")
	}
	s.probed(0, nil)
	for _, want := range []State{Down, Up} {
		if c := get(s, s.changes, "change"); c.To != want {
			t.Errorf("the change is %+v, want one to %v", c, want)
		}
	}
	if s.Trip(0, seen, "timeout") || !s.table.Up(0) {
		t.Error("late news took the node down")
	}
	if !s.Trip(0, s.table.Load(0), "timeout") {
		t.Error("fresh news is refused")
	}
	s.probed(0, nil)
}

// Close ends probes and waits that are under way, and starts no more.
func TestClose(t *testing.T) {
	s := start(t, 2, Limits{Rise: 1, Backoff: time.Hour, Ceiling: time.Hour})
	s.Trip(0, s.table.Load(0), "reset")
	s.probed(0, errBad)
	if d := get(s, s.waits, "wait"); d != time.Hour {
		t.Errorf("waits %v", d)
	}
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	s.over <- struct{}{}
	get(s, closed, "end")
	if !s.Trip(1, s.table.Load(1), "reset") || s.table.Up(1) {
		t.Error("a node must go down even so")
	}
	select {
	case i := <-s.probes:
		t.Errorf("node %d is probed after Close", i)
	default:
	}
}

// The wait is the real clock's unless a test says otherwise, and ends with the monitor.
func TestWaitEndsWithTheMonitor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { wait(ctx, time.Hour); close(ended) }()
	cancel()
	<-ended
	begun := time.Now()
	wait(t.Context(), time.Millisecond)
	if d := time.Since(begun); d < time.Millisecond {
		t.Errorf("waited %v of 1ms", d)
	}
}
