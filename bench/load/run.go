// Package load makes load, checks every answer, and says what it cost.
//
//	Run → worker (epoll) → source (what to ask) → wire (how, and what came back)
//	          ↘ arrivals (when, in an open loop)     ↘ judge → ledger, tally
//
// Each worker is one goroutine locked to its thread; it owns its connections, its
// histograms and its counts. Workers share the phase word, and the ledger, which is
// atomics. Everything else runs on the caller's goroutine but for Config.Progress, which
// has one of its own. The package imports x/sys, hdrhistogram-go, and of bench keys,
// wire and meter.
package load

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/keys"
	"magent/bench/meter"
	"magent/bench/wire"
)

// phase is what the workers are to do. It only grows.
type phase int32

const (
	warming   phase = iota // load runs, nothing counts
	measuring              // everything counts
	draining               // no new requests
	stopped                // leave at once
)

// shared is what the workers of a run have in common. All but the phase and what is in
// the ledger stays as it is while they run.
type shared struct {
	cfg    Config
	space  *keys.Space
	epoch  time.Time // the zero of all clocks
	mark   uint32    // names the run in the marks of values
	ledger *ledger   // nil if nothing can be found stale
	// fill has every key written once, in order, and then counters set to 0: a
	// preload.
	fill bool
	// What is due in [begin, end) is measured by an open loop. In a closed loop begin
	// is set with the phase measuring, and end is never.
	begin, end int64
	// start is when its schedule begins.
	start   int64
	word    atomic.Int32 // the phase
	phaseAt atomic.Int64 // when it began
}

func (s *shared) now() int64 { return int64(time.Since(s.epoch)) }

func (s *shared) open() bool { return s.cfg.Rate > 0 }

func (s *shared) turnTo(p phase) {
	s.phaseAt.Store(s.now())
	s.word.Store(int32(p))
}

func newShared(cfg Config) *shared {
	s := &shared{cfg: cfg, space: keys.NewSpace(cfg.Keys), epoch: time.Now(), mark: rand.Uint32() | 1, end: math.MaxInt64}
	n := s.space.Len()
	if _, writers := cfg.parts(); cfg.Mix.writes() && n >= writers {
		s.ledger = newLedger(n)
	}
	return s
}

// Run drives cfg's load and reports on it. A cancelled ctx ends it early. With an error
// the report covers what was measured until then; it is nil if measuring had not begun.
// Errors that the target answers with, wrong values and stale ones are no error of Run.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return drive(ctx, newShared(cfg))
}

// Preload writes every key of cfg's space once, over one connection to the first of its
// Targets, so that the gets of a following Run hit, and sets the counters of its
// connections to 0 if its Mix has an Incr. The first write that is answered with an error
// ends it, and its error names the key, the size of the value and the answer.
func Preload(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	counters := 0
	if cfg.Mix[wire.Incr] > 0 {
		counters = cfg.Conns
	}
	fill := Config{
		Targets: cfg.Targets, Dialect: cfg.Dialect, Conns: 1, Pipeline: 16, Mix: Mix{wire.Set: 1}, Keys: cfg.Keys, Values: cfg.Values,
		TTLs: cfg.TTLs, Timeout: cfg.Timeout, Seed: cfg.Seed, Progress: cfg.Progress,
		Requests: int64(cfg.Keys.Max - cfg.Keys.Min + 1 + counters),
	}.withDefaults()
	if err := fill.Validate(); err != nil {
		return err
	}
	s := newShared(fill)
	s.fill, s.ledger = true, nil
	_, err := drive(ctx, s)
	return err
}

// drive runs the workers through the phases.
func drive(ctx context.Context, s *shared) (*Report, error) {
	workers, err := newWorkers(ctx, s)
	if err != nil {
		return nil, err
	}
	cfg := &s.cfg
	if s.open() {
		s.start = s.now()
		s.begin = s.start + int64(cfg.Warmup)
		if cfg.Duration > 0 {
			s.end = s.begin + int64(cfg.Duration)
		}
	}
	var before meter.Sample
	measure := func() error {
		var err error
		if before, err = meter.Take(cfg.Procs); err == nil {
			if !s.open() {
				s.begin = s.now()
			}
			s.turnTo(measuring)
		}
		return err
	}
	if cfg.Warmup == 0 {
		if err := measure(); err != nil {
			closeAll(workers)
			return nil, err
		}
	}
	done, failed := start(s, workers)
	if cfg.Warmup > 0 {
		err = await(ctx, done, cfg.Warmup)
		if err == nil {
			err = measure()
		}
		if err != nil {
			s.turnTo(stopped)
			<-done
			return nil, errors.Join(err, failed())
		}
	}
	ctxErr := await(ctx, done, cfg.Duration)
	after, sampleErr := before.Again()
	if ctxErr == nil {
		s.turnTo(draining)
		select {
		case <-done:
		case <-ctx.Done():
			ctxErr = ctx.Err()
		}
	}
	if ctxErr != nil {
		s.turnTo(stopped)
		<-done
	}
	rep := collect(s, workers)
	rep.Interrupted = ctxErr != nil
	if sampleErr == nil {
		rep.charge(after.Since(before, rep.inTime))
	}
	return rep, errors.Join(ctxErr, failed(), sampleErr)
}

// start sets the workers going. done is closed when all have ended, and Progress will
// not be called again; then failed returns the error of one, if any has one: what ails
// one worker mostly ails them all.
func start(s *shared, workers []*worker) (done chan struct{}, failed func() error) {
	done = make(chan struct{})
	ended := make(chan struct{})
	errs := make([]error, len(workers))
	var wg, watch sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() { errs[i] = w.run() })
	}
	if s.cfg.Progress != nil {
		watch.Go(func() { newReporter(s, workers).run(ended) })
	}
	go func() {
		wg.Wait()
		close(ended)
		watch.Wait()
		close(done)
	}()
	return done, func() error {
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
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
func newWorkers(ctx context.Context, s *shared) ([]*worker, error) {
	cfg := &s.cfg
	sockets, err := dialAll(ctx, cfg)
	if err != nil {
		return nil, err
	}
	workers := make([]*worker, 0, cfg.Threads)
	for i := range cfg.Threads {
		quota := int64(-1)
		if cfg.Requests > 0 {
			upTo := func(i int) int64 { return cfg.Requests * int64(i) / int64(cfg.Threads) }
			quota = upTo(i+1) - upTo(i)
		}
		w := newWorker(s, i, quota)
		workers = append(workers, w)
		for no, to := cfg.connsOf(i); no < to; no++ {
			w.add(no, sockets[no].fd, sockets[no].door)
		}
		if s.open() {
			w.schedule = newSchedule(cfg, i)
		}
	}
	return workers, nil
}

// dialers is how many connections are dialled at a time: where the target is slow to
// accept, the kernel tries each again only after a second.
const dialers = 64

// socket is a connection, and where it leads.
type socket struct {
	fd   int
	door unix.Sockaddr
}

// dialAll dials cfg's connections, or none.
func dialAll(ctx context.Context, cfg *Config) ([]socket, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sockets := make([]socket, cfg.Conns)
	for no := range sockets {
		sockets[no].fd = -1
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(dialers, cfg.Conns) {
		wg.Go(func() {
			for no := next.Add(1) - 1; no < int64(cfg.Conns) && ctx.Err() == nil; no = next.Add(1) - 1 {
				fd, door, err := dial(ctx, cfg.Targets[no%int64(len(cfg.Targets))], cfg.Timeout)
				if err != nil {
					cancel(err) // the first is the cause
					return
				}
				sockets[no] = socket{fd, door}
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	for _, s := range sockets {
		if err != nil && s.fd >= 0 {
			unix.Close(s.fd)
		}
	}
	return sockets, err
}

func closeAll(workers []*worker) {
	for _, w := range workers {
		w.close()
	}
}
