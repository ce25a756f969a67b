package load

import (
	"errors"
	"fmt"
	"math"
	"time"

	"magent/bench/keys"
	"magent/bench/wire"
)

// Arrivals says how the requests of an open loop are spread over time.
type Arrivals uint8

// The ways there are.
const (
	// Even has every connection ask at equal distances, and the connections take
	// turns.
	Even Arrivals = iota
	// Poisson has every connection ask independently of all others and of its own
	// past, as many users do.
	Poisson
)

func (a Arrivals) String() string {
	if a == Poisson {
		return "poisson"
	}
	return "even"
}

// Mix weighs the operations, indexed by wire.Op. A CAS is two requests: the gets that
// asks for the version, and, if there is one, the cas itself in the connection's next
// turn. An Incr goes to a counter of the connection's own; SetCounter is not for a Mix.
type Mix [wire.Ops]int

// split divides m between connections that only read and those that write.
func (m Mix) split() (reads, writes Mix) {
	writes = m
	writes[wire.Get], writes[wire.Gets] = 0, 0
	reads[wire.Get], reads[wire.Gets] = m[wire.Get], m[wire.Gets]
	return reads, writes
}

// requests is how many there are to a round of m.
func (m Mix) requests() (n int) {
	for _, weight := range m {
		n += weight
	}
	return n + m[wire.CAS]
}

// writes says whether m changes any key of the space.
func (m Mix) writes() bool { return m[wire.Set]+m[wire.CAS]+m[wire.Delete] > 0 }

// mostRate is how many requests a second may become due at a worker: more than it could
// ask for, and less than it takes it a second to note.
const mostRate = 1e7

// openPipeline is the default of Config.Pipeline in an open loop.
const openPipeline = 4096

// Config describes one run. The zero value of a field means its default.
//
// Keys have one writer each, so that it is known what a reader may find: connection c
// of C writes only keys k with k mod C = c, to the next of which the key drawn is moved;
// with a Parallel pattern it writes those of its range. If there are fewer keys than
// connections, any connection writes any key, and no value is found stale. With Writers,
// only they are counted here.
type Config struct {
	// Targets are the doors of one cache, each host:port or the path of a unix
	// socket. Connections are dealt round. Required.
	Targets []string
	// Dialect is how requests are written. Default text.
	Dialect wire.Dialect
	// Threads is how many workers share the connections. Default 1.
	Threads int
	// Conns is the number of connections over all threads. Default 50.
	Conns int
	// Writers is how many of the connections, the last ones, write and never get;
	// all others get and do nothing else. So a get waits for no write: the answers
	// of one connection leave in order. Each of the two has arrivals of its own, and
	// the rates of both are what the Mix makes of Rate; there must be a Rate, no
	// Requests, and both in the Mix. Default 0: all connections do all.
	Writers int
	// Pipeline is how many requests each connection keeps in flight, by default 1;
	// in an open loop it is how many it may have, by default 4096: those beyond
	// wait their turn.
	Pipeline int
	// Rate is how many requests a second become due over all connections, whatever
	// becomes of them: an open loop, and latency counts from when a request was
	// due. At most ten million for each thread. Default 0, a closed loop: a request is sent when another was answered.
	Rate float64
	// Arrivals says when requests are due in an open loop. Default Even.
	Arrivals Arrivals
	// Mix weighs the operations. Default Get alone.
	Mix Mix
	// MultiGet is how many different keys one Get or Gets asks for, wire.MaxKeys
	// at most. Such a get is one request in every count but Hits and Misses; the
	// gets of a CAS asks for one. Default 1.
	MultiGet int
	// Keys is the key space, and ReadKeys and WriteKeys say how keys are drawn from
	// it. Default uniformly.
	Keys                keys.Config
	ReadKeys, WriteKeys keys.Pattern
	// Values are the lengths of the values written. Default 100 bytes.
	Values keys.Sizes
	// TTLs are those of values written and of a Touch. Default none.
	TTLs keys.TTLs
	// Requests ends the run after so many measured requests; Duration after so
	// long. One of the two is required, and either ends the run.
	Requests int64
	Duration time.Duration
	// Warmup is how long load runs before anything is measured. Default 0.
	Warmup time.Duration
	// Timeout bounds each dial, and how long the target may say nothing: the run
	// fails when a worker hears not a single byte for so long. With Reopen a
	// connection whose oldest request is older is lost instead. Default 10s.
	Timeout time.Duration
	// Seed makes what is asked, and when, repeatable. Default 0.
	Seed uint64
	// Reopen has a lost connection opened again, at once, and if that fails after
	// 1 ms, 2 ms and so on up to 50 ms. Requests that become due meanwhile wait for the attempt, and
	// are lost if it fails. Without it a connection is lost for good, and the run
	// ends when all are.
	Reopen bool
	// ReopenEvery has every connection closed and opened again after so many
	// requests. Default 0: never.
	ReopenEvery int
	// Procs names processes on this machine whose CPU is charged to the
	// requests: name → pid. They must be there when measuring begins; one that
	// ends before the run does is marked so in the Report.
	Procs map[string]int
	// Samples keeps a Sample of every measured request in the Report.
	Samples bool
	// Progress is called about once a second, on a goroutine of Run's.
	Progress func(Progress)
}

func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Threads, 1)
	def(&c.Conns, 50)
	if c.Rate > 0 {
		def(&c.Pipeline, openPipeline)
	}
	def(&c.Pipeline, 1)
	def(&c.MultiGet, 1)
	if c.Values.Max() == 0 {
		c.Values = keys.Fixed(100)
	}
	c.Keys.MaxValue = c.Values.Max()
	c.Keys = c.Keys.WithDefaults()
	if c.Mix == (Mix{}) {
		c.Mix[wire.Get] = 1
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	return c
}

// connsOf are the connections of worker i: from, and to but that.
func (c *Config) connsOf(i int) (from, to int) {
	return c.Conns * i / c.Threads, c.Conns * (i + 1) / c.Threads
}

// parts is how many connections read, and how many write. If not all do both, those
// that read come first.
func (c *Config) parts() (readers, writers int) {
	if c.Writers == 0 {
		return c.Conns, c.Conns
	}
	return c.Conns - c.Writers, c.Writers
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
	check(len(c.Targets) > 0, "no target address")
	check(c.Threads > 0, "threads (%d) must be positive", c.Threads)
	check(c.Conns >= c.Threads, "conns (%d) must be at least threads (%d)", c.Conns, c.Threads)
	check(c.Pipeline > 0, "pipeline (%d) must be positive", c.Pipeline)
	check(c.Rate >= 0 && c.Rate <= mostRate*float64(max(c.Threads, 1)), "rate (%v) must be from 0 to %.0e for each thread", c.Rate, mostRate)
	check(c.Arrivals <= Poisson, "there are no such arrivals (%d)", c.Arrivals)
	sum := 0
	for op, weight := range c.Mix {
		check(weight >= 0, "weight of %v (%d) must not be negative", wire.Op(op), weight)
		sum += max(weight, 0)
	}
	check(sum > 0 && sum <= math.MaxInt32, "the mix must have something to send, and weights that sum up to %d at most", math.MaxInt32)
	check(c.Mix[wire.SetCounter] == 0, "counters are set by a preload, not by a mix")
	check(c.Mix[wire.Incr] == 0 || c.Conns <= space, "every connection needs a counter: conns (%d) must be at most the number of keys (%d)", c.Conns, space)
	if c.Writers != 0 {
		reads, writes := c.Mix.split()
		check(c.Writers > 0 && c.Writers < c.Conns, "writers (%d) must be fewer than conns (%d)", c.Writers, c.Conns)
		check(c.Rate > 0 && c.Requests == 0, "writers need a rate, and a duration in place of requests")
		check(reads.requests() > 0 && writes.requests() > 0, "with writers the mix must have gets and writes")
	}
	check(c.MultiGet > 0 && c.MultiGet <= wire.MaxKeys && c.MultiGet <= space,
		"multi-get (%d) must be in 1..%d and at most the number of keys (%d)", c.MultiGet, wire.MaxKeys, space)
	check(c.Requests >= 0 && c.Duration >= 0 && (c.Requests > 0 || c.Duration > 0), "neither requests nor duration given")
	check(c.Warmup >= 0 && c.Timeout > 0, "warm-up (%v) and timeout (%v) must not be negative", c.Warmup, c.Timeout)
	check(c.ReopenEvery >= 0, "reopen-every (%d) must not be negative", c.ReopenEvery)
	return errors.Join(append(errs, c.Keys.Validate(), c.ReadKeys.Validate(), c.WriteKeys.Validate())...)
}
