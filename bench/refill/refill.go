package refill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/process"
)

// Config describes a measurement.
type Config struct {
	// Magent and Memcached are the paths of the programs.
	Magent, Memcached string
	// Flags are further ones of the proxy, IdleFlags those that it has beside them
	// while nothing else goes on.
	Flags, IdleFlags []string
	// Keys is how many keys the nodes hold, Values how large their values are.
	Keys   int
	Prefix string
	Values keys.Sizes
	// Rate is how many requests a second clients make under load, over Conns
	// connections, of this Mix.
	Rate  float64
	Conns int
	Mix   load.Mix
	// Before is how long all is well under load, Down how long the node is dead, and
	// After how long the load goes on once it is up.
	Before, Down, After time.Duration
	// Patience is how long the proxy may take to call the node up.
	Patience time.Duration
	Rounds   int
	Seed     uint64
	// ProxyCPUs are for the proxy, and for the copy that it is held against; LoadCPUs
	// for nodes and load. Empty pins nothing.
	ProxyCPUs, LoadCPUs []int
	// Progress, if not nil, hears how preloads and loads go.
	Progress func(load.Progress)
}

// settling is how long there is load before anything counts: connections that begin are
// slow at first, whatever happens later.
const settling = time.Second

// Validate reports every fault of c.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("refill: "+format, args...))
		}
	}
	check(c.Magent != "", "which magent is to be measured is not said")
	check(c.Keys > 0 && c.Rounds > 0, "keys (%d) and rounds (%d) must be positive", c.Keys, c.Rounds)
	check(c.Patience > 0 && c.Before > 0 && c.Down >= 0 && c.After >= 0, "the times before (%v) and of patience (%v) must be positive, those down (%v) and after (%v) not negative",
		c.Before, c.Patience, c.Down, c.After)
	there, err := process.CPUs()
	errs = append(errs, err)
	for _, cpu := range append(slices.Clone(c.ProxyCPUs), c.LoadCPUs...) {
		check(slices.Contains(there, cpu), "there is no CPU %d for us, there are %v", cpu, there)
	}
	return errors.Join(append(errs, c.load("127.0.0.1:1", 0).Validate())...)
}

// load is what clients ask of addr, from before the fault until the end, whenever that
// will be.
func (c *Config) load(addr string, round int) load.Config {
	return load.Config{
		Targets: []string{addr}, Threads: 1, Conns: c.Conns, Pipeline: loadPipeline, MultiGet: 1, Mix: c.Mix, Rate: c.Rate,
		Keys:   keys.Config{Prefix: c.Prefix, Max: c.Keys - 1, MaxValue: c.Values.Max()},
		Values: c.Values, Duration: c.Before + c.Down + c.Patience + c.After, Warmup: settling, Timeout: c.Patience,
		Seed: c.Seed + uint64(round), Reopen: true, Samples: true, Progress: c.Progress,
	}
}

// loadPipeline is how many requests a connection may have in flight: as good as no bound.
const loadPipeline = 4096

// Run measures c in as many rounds as it says, and tells of each as it ends. In each a
// node is emptied and filled by the copy, by the idle proxy, and by the proxy under load.
// Every other round begins with the proxy, so that neither always follows the other. An
// error ends it, and what was measured until then stays in s. This process stays pinned
// to LoadCPUs.
func (s *Set) Run(ctx context.Context, c Config, told func(round int, r *Round)) error {
	s.describe(&c)
	err := c.Validate()
	if err == nil && len(c.LoadCPUs) > 0 {
		err = process.Pin(os.Getpid(), c.LoadCPUs)
	}
	for round := 0; err == nil && round < c.Rounds; round++ {
		var r Round
		if err = c.round(ctx, round, &r); err != nil {
			err = fmt.Errorf("round %d: %w", round+1, err)
			break
		}
		s.Rounds = append(s.Rounds, r)
		told(round+1, &s.Rounds[round])
	}
	if err != nil {
		s.Error = err.Error()
	}
	s.keepOneTimeline()
	return err
}

// round does all of a round.
func (c *Config) round(ctx context.Context, round int, r *Round) error {
	parts := []func(*pair) error{
		func(p *pair) (err error) { r.Copy, err = p.yardstick(ctx); return err },
		func(p *pair) (err error) { r.Idle, err = p.idle(ctx); return err },
	}
	if round%2 > 0 {
		slices.Reverse(parts)
	}
	for _, part := range append(parts, func(p *pair) (err error) { r.Loaded, err = p.loaded(ctx, round); return err }) {
		if err := c.onPair(ctx, round, part); err != nil {
			return err
		}
	}
	return nil
}

// onPair does part on nodes of its own, both full: what a proxy has left on others would
// tell the next one about them.
func (c *Config) onPair(ctx context.Context, round int, part func(*pair) error) (err error) {
	p, err := c.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := load.Preload(ctx, c.load(p.full.Addr, round)); err != nil {
		return err
	}
	if _, err := p.copy(ctx); err != nil {
		return err
	}
	return part(p)
}

// asProxy does what stands for a proxy, with the CPUs that a proxy would have.
func (c *Config) asProxy(do func() error) (err error) {
	if len(c.ProxyCPUs) == 0 {
		return do()
	}
	back := c.LoadCPUs
	if len(back) == 0 {
		if back, err = process.CPUs(); err != nil {
			return err
		}
	}
	if err := process.Pin(os.Getpid(), c.ProxyCPUs); err != nil {
		return err
	}
	// A program that is started there sizes itself so.
	before := runtime.GOMAXPROCS(len(c.ProxyCPUs))
	defer runtime.GOMAXPROCS(before)
	return errors.Join(do(), process.Pin(os.Getpid(), back))
}

// memoryMB is room for the keys several times over: what is evicted is not refilled.
func (c *Config) memoryMB() int {
	const overhead = 200 // of an item and its key
	return max(1024, 4*c.Keys*(c.Values.Max()+overhead)>>20)
}
