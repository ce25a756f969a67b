package load

import (
	"errors"
	"fmt"
	"time"

	"magent/bench/keys"
	"magent/bench/wire"
)

// Protocol is the dialect a run speaks.
type Protocol string

// Text is memcached's classic text protocol.
const Text Protocol = "text"

// Config describes one run. The zero value of a field means its default.
type Config struct {
	// Addr is the target: host:port, or the path of a unix socket. Required.
	Addr string
	// Protocol is the dialect. Default Text.
	Protocol Protocol
	// Threads is how many workers share the connections. Default 1.
	Threads int
	// Conns is the number of connections over all threads. Default 50.
	Conns int
	// Pipeline is how many requests each connection keeps in flight. Default 1.
	Pipeline int
	// Sets and Gets weigh the two kinds of request, as memtier's --ratio does.
	// Default 0:1.
	Sets, Gets int
	// CAS makes every get a gets, which asks for the version as well.
	CAS bool
	// MultiGet is how many different keys one get asks for, 64 at most. Such a
	// get is one request in every count but Hits and Misses. Default 1.
	MultiGet int
	// Keys is the key space, drawn from uniformly.
	Keys keys.Config
	// ValueSize is the length of every value, in bytes. Default 100.
	ValueSize int
	// Requests ends the run after so many measured requests; Duration after so
	// long. One of the two is required, and either ends the run.
	Requests int64
	Duration time.Duration
	// Warmup is how long load runs before anything is measured. Default 0.
	Warmup time.Duration
	// Timeout is how long a worker waits without a single byte from the target
	// before the run fails. It bounds each dial as well. Default 10s.
	Timeout time.Duration
	// Seed makes the choice of keys and of request kinds repeatable. Default 0.
	Seed uint64
	// Procs names processes on this machine whose CPU is charged to the
	// requests: name → pid.
	Procs map[string]int
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Threads, 1)
	def(&c.Conns, 50)
	def(&c.Pipeline, 1)
	def(&c.MultiGet, 1)
	def(&c.ValueSize, 100)
	c.Keys.MaxValue = c.ValueSize
	c.Keys = c.Keys.WithDefaults()
	if c.Protocol == "" {
		c.Protocol = Text
	}
	if c.Sets == 0 && c.Gets == 0 {
		c.Gets = 1
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return c
}

// Validate reports every fault of c at once. It does not fill in defaults.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("load: "+format, args...))
		}
	}
	space := c.Keys.Max - c.Keys.Min + 1
	check(c.Addr != "", "no target address")
	check(c.Protocol == Text, "protocol %q is not supported", c.Protocol)
	check(c.Threads > 0, "threads (%d) must be positive", c.Threads)
	check(c.Conns >= c.Threads, "conns (%d) must be at least threads (%d)", c.Conns, c.Threads)
	check(c.Pipeline > 0, "pipeline (%d) must be positive", c.Pipeline)
	check(c.Sets >= 0 && c.Gets >= 0 && c.Sets+c.Gets > 0, "ratio %d:%d has nothing to send", c.Sets, c.Gets)
	check(c.MultiGet > 0 && c.MultiGet <= wire.MaxKeys && c.MultiGet <= space,
		"multi-get (%d) must be in 1..%d and at most the number of keys (%d)", c.MultiGet, wire.MaxKeys, space)
	check(c.Requests >= 0 && c.Duration >= 0 && (c.Requests > 0 || c.Duration > 0), "neither requests nor duration given")
	check(c.Warmup >= 0 && c.Timeout > 0, "warm-up (%v) and timeout (%v) must not be negative", c.Warmup, c.Timeout)
	return errors.Join(append(errs, c.Keys.Validate())...)
}
