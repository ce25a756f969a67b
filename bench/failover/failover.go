// Package failover is the drill: it makes a steady load, has something fail meanwhile
// and come back, and says what the clients saw of it.
//
//	Run → load (what clients ask and are told)   ↘
//	    → take (the steps, at their time)        → Analyse → Result → text, JSON, plot, bounds
//
// The load is open: a request is sent when it is due, whatever became of those before,
// and its latency counts from then. Keys have one writer each, so that it is known what
// a read must find. Several drills, each repeated, make a Set.
//
// Analyse and what follows it are pure: time is data there. The load runs on threads of
// its own, the steps on one goroutine, and a link on two for each connection. The package
// imports x/sys, gonum/plot, and of bench keys, load, meter, process and wire.
package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/wire"
)

// Config describes a drill. The zero value of a field means its default.
type Config struct {
	// Name is what the drill is called; by default the scenario of Own, or the first
	// of Faults.
	Name string
	// Load is what clients ask. It is always open, its Samples are kept, lost
	// connections are opened again, and it lasts as long as the drill. Defaults that
	// differ from the load's own: a Rate of 5000, 16 connections, one write in ten
	// requests, 1000 keys that begin with "failover:" and are written by turns, so
	// that each is soon written again.
	Load load.Config
	// Before is how long all is well, Down when what failed comes back, after that,
	// and Back how long the load goes on then. Default 2, 3 and 5 s.
	Before, Down, Back time.Duration
	// Settle is how long a fault may take to be noticed: requests that are due later
	// than that after it are looked at by themselves. Default is that of Own's
	// scenario, or 270 ms: magent's --timeout, and a little.
	Settle time.Duration
	// Faults are what happens, at times within Before+Down+Back.
	Faults []Step
	// Own is a system to start for the drill. Its scenario comes in addition to Faults,
	// and its door takes the place of the Load's targets.
	Own *Topology
	// Told is called with each step when it is over, on a goroutine of Run's.
	Told func(Mark)

	watch *watch // of the node that comes back; nil: none
}

// WithDefaults is c with its zero fields filled in, apart from the load's own.
func (c Config) WithDefaults() Config {
	if c.Load.Rate == 0 {
		c.Load.Rate = 5000
	}
	if c.Load.Conns == 0 {
		c.Load.Conns = 16
	}
	if c.Load.Mix == (load.Mix{}) {
		c.Load.Mix[wire.Get], c.Load.Mix[wire.Set] = 9, 1
	}
	if c.Load.Keys.Prefix == "" {
		c.Load.Keys.Prefix = "failover:"
	}
	if c.Load.Keys.Max == 0 {
		c.Load.Keys.Max = c.Load.Keys.Min + 999
	}
	if c.Load.WriteKeys == (keys.Pattern{}) {
		c.Load.WriteKeys.Kind = keys.Parallel
	}
	if c.Before == 0 && c.Down == 0 && c.Back == 0 {
		c.Before, c.Down, c.Back = 2*time.Second, 3*time.Second, 5*time.Second
	}
	if c.Settle == 0 {
		c.Settle = c.settles()
	}
	c.Load.Requests, c.Load.Warmup, c.Load.Duration = 0, 0, c.Before+c.Down+c.Back
	c.Load.Reopen, c.Load.Samples = true, true
	return c
}

// settles is the default of Settle.
func (c *Config) settles() time.Duration {
	if c.Own != nil {
		if s, err := c.Own.scenario(); err == nil && s.settle > 0 {
			return s.settle
		}
	}
	return 270 * time.Millisecond
}

// Validate reports what is wrong with the drill itself; Run has the load validated.
func (c Config) Validate() error {
	var errs []error
	if c.Before < 0 || c.Down < 0 || c.Back < 0 {
		errs = append(errs, fmt.Errorf("failover: the times before (%v), down (%v) and back (%v) must not be negative", c.Before, c.Down, c.Back))
	}
	for _, s := range c.Faults {
		if s.At < 0 || s.At > c.Load.Duration {
			errs = append(errs, fmt.Errorf("failover: %s is due at %v, and the drill lasts %v", s.Name, s.At, c.Load.Duration))
		}
	}
	if c.Own != nil {
		_, err := c.Own.scenario()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Run does the drill. Whatever ends it, processes it froze run on, the commands of
// RestartBy have been run if anything was made to fail, and what it started itself is
// stopped. With an error of the load's, of a step's or of ctx, Result covers what there
// was until then; it is nil if the load had not begun.
func Run(ctx context.Context, c Config) (_ *Result, end error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Own != nil {
		own, err := c.Own.start(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { end = errors.Join(end, own.stop()) }()
		c.occupy(own)
	}
	if c.Name == "" && len(c.Faults) > 0 {
		c.Name = c.Faults[0].Name
	}
	if err := load.Preload(ctx, c.Load); err != nil {
		return nil, err
	}
	return c.drill(ctx)
}

// occupy aims c at a topology of its own.
func (c *Config) occupy(own *running) {
	s, _ := c.Own.scenario() // which Validate has found
	c.Faults = append(s.steps(c.Before, c.Down, own), c.Faults...)
	c.Load.Targets = []string{own.target()}
	if s.returns != nil && own.proxy != nil {
		c.watch = &watch{proxy: own.proxy.Addr, node: s.returns(own).Addr}
	}
	if gets, sets := asked(c.Load.Mix); s.apart && c.Load.Writers == 0 && gets > 0 && sets > 0 {
		// What is measured are reads: none may wait for the write before it.
		c.Load.Conns, c.Load.Writers = 2*c.Load.Conns, c.Load.Conns
	}
	if c.Name == "" {
		c.Name = s.Name + ": " + s.Text
	}
}

// asked is how many reads there are to how many writes.
func asked(m load.Mix) (gets, sets int) {
	for op, weight := range m {
		if reads(wire.Op(op)) {
			gets += weight
		} else {
			sets += weight
		}
	}
	return gets, sets
}

// drill makes the load, and takes the steps beside it.
func (c *Config) drill(ctx context.Context) (*Result, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	told := c.Told
	if c.watch != nil {
		told = c.watch.told(inner, told)
	}
	var marks []Mark
	var stepErr error
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		if marks, stepErr = take(inner, began, c.Load.Duration, c.Faults, told); stepErr != nil {
			cancel()
		}
	}()
	report, loadErr := load.Run(inner, c.Load)
	if loadErr != nil {
		cancel()
	}
	<-taken
	if stepErr != nil && ctx.Err() == nil && errors.Is(loadErr, context.Canceled) {
		loadErr = nil // which a step has ended
	}
	cancel() // of what is watched still
	up, watched := c.watch.end()
	if report == nil {
		return nil, errors.Join(stepErr, loadErr)
	}
	o := Observation{Samples: report.Samples, Stalls: report.Stalls, Marks: marks, Length: c.Load.Duration, Settle: c.Settle, Watched: watched, Up: up.Sub(report.Began)}
	if report.Interrupted {
		o.Length = min(o.Length, time.Duration(report.Seconds*float64(time.Second)))
	}
	for i := range o.Marks {
		o.Marks[i].shift(began.Sub(report.Began))
	}
	r := Analyse(o)
	r.Name, r.Rate, r.Unsent = c.Name, c.Load.Rate, report.Unsent
	return r, errors.Join(stepErr, loadErr)
}

// shift moves m by d, but not to before the load began.
func (m *Mark) shift(d time.Duration) {
	m.From = max(0, m.From+Millis(d))
	if m.To >= 0 {
		m.To = max(0, m.To+Millis(d))
	}
}
