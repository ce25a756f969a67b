// Package load makes load, checks every answer, and says what it cost.
//
//	Run → worker (epoll) → source (what to ask) → wire (how, and what came back)
//	          ↘ meter (/proc, CPU clocks)
//
// Each worker is one goroutine locked to its thread; it owns its connections, its
// histograms and its counters, and shares only the phase word. Everything else runs on
// the caller's goroutine. The package imports x/sys, hdrhistogram-go, and of bench
// keys, wire and meter.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/keys"
	"magent/bench/meter"
)

// Run drives cfg's load and reports on it. A cancelled ctx ends it early. With
// an error the report covers what was measured until then; it is nil if
// measuring had not begun.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	space := keys.NewSpace(cfg.Keys)
	sources := make([]*source, cfg.Threads)
	for i := range sources {
		sources[i] = newSource(space, cfg, i)
	}
	return drive(ctx, cfg, sources)
}

// Preload writes every key of cfg's space once through cfg.Targets[0], so that the
// gets of a following Run hit.
func Preload(ctx context.Context, cfg Config) error {
	cfg.Threads, cfg.Conns, cfg.Pipeline, cfg.Procs = 1, 1, 16, nil
	cfg = cfg.withDefaults()
	cfg.Requests, cfg.Duration, cfg.Warmup = int64(cfg.Keys.Max-cfg.Keys.Min+1), 0, 0
	if err := cfg.Validate(); err != nil {
		return err
	}
	src := newSource(keys.NewSpace(cfg.Keys), cfg, 0)
	src.inOrder = true
	rep, err := drive(ctx, cfg, []*source{src})
	if err == nil && rep.Errors > 0 {
		err = fmt.Errorf("load: preload of %s: %d errors, first %q", cfg.Targets[0], rep.Errors, rep.FirstError)
	}
	return err
}

// drive runs one worker per source through the phases.
func drive(ctx context.Context, cfg Config, sources []*source) (*Report, error) {
	var phases atomic.Int32
	workers, err := newWorkers(ctx, cfg, sources, &phases)
	if err != nil {
		return nil, err
	}
	var begin meter.Sample
	measure := func() error {
		var err error
		if begin, err = meter.Take(cfg.Procs); err == nil {
			phases.Store(int32(measuring))
		}
		return err
	}
	if cfg.Warmup == 0 {
		if err := measure(); err != nil {
			closeAll(workers)
			return nil, err
		}
	}
	done, failed := start(workers)
	if cfg.Warmup > 0 {
		err = await(ctx, done, cfg.Warmup)
		if err == nil {
			err = measure()
		}
		if err != nil {
			phases.Store(int32(stopped))
			<-done
			return nil, errors.Join(err, failed())
		}
	}
	ctxErr := await(ctx, done, cfg.Duration)
	end, sampleErr := meter.Take(cfg.Procs)
	phases.Store(int32(draining))
	if ctxErr != nil {
		phases.Store(int32(stopped))
	}
	<-done
	rep := collect(workers)
	if sampleErr == nil {
		rep.charge(end.Since(begin, rep.Requests))
	}
	return rep, errors.Join(ctxErr, failed(), sampleErr)
}

// start sets the workers going. done is closed when all have ended; then
// failed returns their errors.
func start(workers []*worker) (done chan struct{}, failed func() error) {
	done = make(chan struct{})
	errs := make([]error, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() { errs[i] = w.run() })
	}
	go func() { wg.Wait(); close(done) }()
	return done, func() error { return errors.Join(errs...) }
}

// await returns when the workers are done, after d unless d is 0, or with
// ctx's error.
func await(ctx context.Context, done <-chan struct{}, d time.Duration) error {
	var expired <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-done:
	case <-expired:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// newWorkers dials all connections and deals them, and the requests, out.
func newWorkers(ctx context.Context, cfg Config, sources []*source, phases *atomic.Int32) ([]*worker, error) {
	workers := make([]*worker, 0, len(sources))
	for i, src := range sources {
		part := func(n int) int { return n*(i+1)/len(sources) - n*i/len(sources) }
		fds := make([]int, 0, part(cfg.Conns))
		quota := int64(-1)
		if cfg.Requests > 0 {
			quota = int64(part(int(cfg.Requests)))
		}
		for range cap(fds) {
			fd, err := dial(ctx, cfg.Targets[0], cfg.Timeout)
			if err != nil {
				closeAll(append(workers, newWorker(cfg, src, phases, fds, 0)))
				return nil, err
			}
			fds = append(fds, fd)
		}
		workers = append(workers, newWorker(cfg, src, phases, fds, quota))
	}
	return workers, nil
}

func closeAll(workers []*worker) {
	for _, w := range workers {
		w.close()
	}
}

// dial connects and returns a non-blocking socket of our own: the runtime's
// poller must not see it.
func dial(ctx context.Context, addr string, timeout time.Duration) (int, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return -1, fmt.Errorf("load: %w", err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("load: %w", err)
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, dupErr); err != nil {
		return -1, fmt.Errorf("load: dup: %w", err)
	}
	return fd, nil
}

// collect adds the workers up.
func collect(workers []*worker) *Report {
	rep := &Report{Hist: newHistogram()}
	for _, w := range workers {
		rep.Requests += w.counts.requests
		rep.Hits += w.counts.hits
		rep.Misses += w.counts.misses
		rep.Errors += w.counts.errors
		rep.Wrong += w.counts.wrong
		rep.Lost += w.counts.lost
		if rep.FirstError == "" && w.first != nil {
			rep.FirstError = w.first.Error()
		}
		rep.Hist.Merge(w.hist)
	}
	rep.Latency = summary(rep.Hist)
	return rep
}

// charge fills in what was spent.
func (r *Report) charge(a meter.Account) {
	r.Seconds = a.Wall.Seconds()
	r.Rate = float64(r.Requests) / r.Seconds
	r.Self, r.Procs, r.Host = a.Self, a.Procs, a.Host
}
