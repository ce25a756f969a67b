package bench

import (
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/wire"
)

// settings are the flags that say what load to make, which `magent bench` and `magent
// failover` share. Where memtier_benchmark has a flag of the same meaning, ours has its
// name and its notation.
type settings struct {
	*flags

	servers, sockets       []string
	port                   int
	dialect                wire.Dialect
	threads, clients       int
	writers                int
	pipeline, reopenEvery  int
	reopen                 bool
	rate                   float64
	arrivals               load.Arrivals
	timeout                time.Duration
	ratio, mix             load.Mix
	multiGet               int
	prefix                 string
	lowest, highest        int
	patterns               [2]byte // of writes, of reads
	median, stddev         float64
	exponent               float64
	hot                    [2]float64 // share of the keys, weight of the requests
	fixed, ranged, weighed keys.Sizes
	ttls                   keys.TTLs
	requests               amount
	duration, warmup       time.Duration
	seed                   int64
	procs                  []namedPID
}

// openPipeline is how much an open loop may have in flight on a connection: as good as
// no bound.
const openPipeline = 4096

// amount is a number of requests of each connection, or all keys.
type amount struct {
	each    int64
	allKeys bool
}

// defaults are those in which commands differ.
type defaults struct {
	server string // what its help says of none

	port, rate, clients, ratio, prefix, highest string
}

func (s *settings) bindTarget(d defaults) {
	s.group("Target")
	bindList(s.flags, &s.servers, "server,s", words, "the proxy or memcached to load, at `host[:port]`"+d.server+"; repeat it, or separate several by commas, for several doors of one cache")
	bind(s.flags, &s.port, "port,p", d.port, port, "`port` of a server that has none; 12000 is the proxy of make run")
	bindList(s.flags, &s.sockets, "unix-socket,S", words, "a door that is the unix socket at this `path`")
	bind(s.flags, &s.dialect, "protocol,P", "memcache_text", dialect, "`name` of the protocol: memcache_text, memcache_meta or memcache_binary")
}

func (s *settings) bindLoad(d defaults) {
	s.group("Load")
	bind(s.flags, &s.threads, "threads,t", "1", count(1), "`number` of threads that make load; one is good for more than a core of any target")
	bind(s.flags, &s.clients, "clients,c", d.clients, count(1), "`number` of connections of each thread")
	bind(s.flags, &s.writers, "writers", "0", count(0), "this `number` of the connections write, and the others read: with --rate, so that no read waits for a write; 0: all do both")
	bind(s.flags, &s.pipeline, "pipeline", "", count(1), "`number` of requests that each connection keeps in flight, by default 1; "+
		"with --rate, how many it may have, by default "+strconv.Itoa(openPipeline))
	bind(s.flags, &s.rate, "rate", d.rate, positive, "open loop: this `number` of requests a second over all connections, answered or not, "+
		"and latency counts from when a request was due; without it a connection asks again when it has been answered")
	bind(s.flags, &s.arrivals, "arrivals", "even", arrivals, "how --rate is spread over time, by the `name` of a law: even or poisson")
	bind(s.flags, &s.reopen, "reconnect-on-error", "", switched, "open a lost connection again; its requests in flight are errors")
	bind(s.flags, &s.reopenEvery, "reconnect-interval", "0", count(0), "close and open a connection after this `number` of its requests; 0 is never")
	bind(s.flags, &s.timeout, "timeout", "10s", span, "fail when the target has been silent for this `time`, or takes it to connect")
}

func (s *settings) bindRequests(d defaults) {
	s.group("Requests")
	bind(s.flags, &s.ratio, "ratio", d.ratio, ratio, "`set:get`: so many sets for so many gets")
	bind(s.flags, &s.mix, "mix", "", mix, "`name=weight,...`: more kinds of requests, in place of --ratio, such as get=90,set=5,incr=3,cas=2: "+
		strings.Join(mixNames(), ", ")+"; a cas is a gets, and then the cas")
	bind(s.flags, &s.multiGet, "multi-get", "1", count(1), "each get asks for this `number` of different keys, and is one request")

	s.group("Keys")
	bind(s.flags, &s.prefix, "key-prefix", d.prefix, words, "`text` that begins every key")
	bind(s.flags, &s.lowest, "key-minimum", "0", count(0), "lowest `number` of a key")
	bind(s.flags, &s.highest, "key-maximum", d.highest, count(0), "highest `number` of a key")
	bind(s.flags, &s.patterns, "key-pattern", "R:R", patterns, "how writes and reads draw keys, two `letters`: R uniform, Z zipf, H some keys hot, G Gaussian, S sequential, "+
		"P sequential, each connection in a range of its own")
	bind(s.flags, &s.exponent, "key-zipf-exp", "1", positive, "`exponent` of Z; key-minimum is the most popular key")
	bind(s.flags, &s.hot, "hot-keys", "0.01:0.9", hot, "`share:weight`: the H of --key-pattern, this share of the keys gets this share of the requests; without --key-pattern it means H:H")
	bind(s.flags, &s.median, "key-median", "", positive, "`number` of the key in the middle of G; default is halfway")
	bind(s.flags, &s.stddev, "key-stddev", "", positive, "standard deviation of G, a `number` of keys; default is a sixth of them")

	s.group("Values")
	s.bindSizes("100", "")
	bind(s.flags, &s.ttls, "expiry-range", "0", ttls, "`min-max`: each set gives a TTL from this range, in seconds; 0 is none")
}

// bindSizes binds how large values are: by default that one size, or that range.
func (s *settings) bindSizes(size, among string) {
	bind(s.flags, &s.fixed, "data-size,d", size, sizes("a size in bytes, such as 100", isNumber), "every value has this `number` of bytes; it names its key and has a checksum, and is checked when it is read")
	bind(s.flags, &s.ranged, "data-size-range", among, sizes("a range of sizes in bytes, such as 10-1000", isRange), "`min-max`: sizes from this range, all alike")
	bind(s.flags, &s.weighed, "data-size-list", "", sizes("sizes in bytes and their weights, such as 32:90,65536:10", isList), "`size:weight,...`: sizes, drawn by weight")
}

var dialect = kind[wire.Dialect]{"memcache_text, memcache_meta or memcache_binary", wire.ParseDialect}

var arrivals = kind[load.Arrivals]{"even or poisson", func(text string) (load.Arrivals, error) {
	switch text {
	case "even":
		return load.Even, nil
	case "poisson":
		return load.Poisson, nil
	}
	return load.Even, errRange
}}

var ratio = kind[load.Mix]{"SET:GET, such as 1:10", func(text string) (m load.Mix, err error) {
	a, b, ok := pair(text, strconv.Atoi)
	if !ok || a < 0 || b < 0 || a+b == 0 {
		return m, errRange
	}
	m[wire.Set], m[wire.Get] = a, b
	return m, nil
}}

// mixOps are the kinds of request that a mix may have.
var mixOps = []wire.Op{wire.Get, wire.Gets, wire.Set, wire.CAS, wire.Incr, wire.Delete, wire.Touch}

func mixNames() (names []string) {
	for _, op := range mixOps {
		names = append(names, op.String())
	}
	return names
}

var mix = kind[load.Mix]{"weights of " + strings.Join(mixNames(), ", ") + ", such as get=90,set=10", func(text string) (m load.Mix, err error) {
	for item := range strings.SplitSeq(text, ",") {
		name, weight, ok := strings.Cut(item, "=")
		n, err := strconv.ParseUint(weight, 10, 31)
		op, known := opNamed(name)
		if !ok || err != nil || n == 0 || !known || m[op] != 0 {
			return m, errRange
		}
		m[op] = int(n)
	}
	return m, nil
}}

func opNamed(name string) (wire.Op, bool) {
	for _, op := range mixOps {
		if op.String() == name {
			return op, true
		}
	}
	return 0, false
}

var patterns = kind[[2]byte]{"SET:GET, each one of R, Z, H, G, S, P", func(text string) (p [2]byte, err error) {
	const letters = "RZHGSP"
	if len(text) != 3 || text[1] != ':' || !strings.Contains(letters, text[:1]) || !strings.Contains(letters, text[2:]) {
		return p, errRange
	}
	return [2]byte{text[0], text[2]}, nil
}}

var hot = kind[[2]float64]{"SHARE:WEIGHT, both between 0 and 1, such as 0.01:0.9", func(text string) ([2]float64, error) {
	share, weight, ok := pair(text, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	if !ok || !(share > 0 && share < 1 && weight > 0 && weight < 1) {
		return [2]float64{}, errRange
	}
	return [2]float64{share, weight}, nil
}}

// pair reads two values with a colon between them.
func pair[T any](text string, parse func(string) (T, error)) (a, b T, ok bool) {
	left, right, ok := strings.Cut(text, ":")
	a, errA := parse(left)
	b, errB := parse(right)
	return a, b, ok && errA == nil && errB == nil
}

func isNumber(text string) bool { return !strings.ContainsAny(text, "-:") }
func isRange(text string) bool  { return strings.Contains(text, "-") }
func isList(text string) bool   { return strings.Contains(text, ":") }

func sizes(want string, form func(string) bool) kind[keys.Sizes] {
	return kind[keys.Sizes]{want, func(text string) (keys.Sizes, error) {
		if !form(text) {
			return keys.Sizes{}, errRange
		}
		return keys.ParseSizes(text)
	}}
}

var ttls = kind[keys.TTLs]{"seconds up to 30 days, or a range of them such as 10-20", keys.ParseTTLs}

var requests = kind[amount]{"a whole number from 1 up, or allkeys", func(text string) (amount, error) {
	if text == "allkeys" {
		return amount{allKeys: true}, nil
	}
	n, err := whole(1).parse(text)
	return amount{each: n}, err
}}

// config is the load that the flags ask for. The error names every fault of every flag.
func (s *settings) config() (load.Config, error) {
	c := load.Config{
		Dialect: s.dialect, Threads: s.threads, Conns: s.threads * s.clients, Writers: s.writers, Pipeline: s.pipeline,
		Rate: s.rate, Arrivals: s.arrivals, Mix: s.ratio, MultiGet: s.multiGet,
		Keys:   keys.Config{Prefix: s.prefix, Min: s.lowest, Max: s.highest},
		Values: s.sizes(), TTLs: s.ttls,
		Duration: s.duration, Warmup: s.warmup, Timeout: s.timeout, Seed: uint64(s.seed),
		Reopen: s.reopen, ReopenEvery: s.reopenEvery,
	}
	if c.Pipeline == 0 {
		c.Pipeline = 1
		if c.Rate > 0 {
			c.Pipeline = openPipeline
		}
	}
	faults := s.faults
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	if s.given("mix") {
		c.Mix = s.mix
		fault(s.given("ratio"), "--mix and --ratio say the same thing: give one of them")
	}
	n := s.highest - s.lowest + 1
	fault(n < 1, "--key-maximum %d is below --key-minimum %d", s.highest, s.lowest)
	fault(s.multiGet > wire.MaxKeys, "--multi-get %d is too many: at most %d", s.multiGet, wire.MaxKeys)
	fault(n >= 1 && s.multiGet > n, "--multi-get %d is more than the %d keys there are", s.multiGet, n)
	fault(s.given("arrivals") && s.rate == 0, "--arrivals is about --rate, which is not given")
	fault(c.Timeout == 0, "--timeout must be above 0")
	s.draws(&c, fault)
	s.ends(&c, n, fault)
	faults = append(faults, s.targets(&c)...)
	faults = append(faults, s.named(&c)...)
	if len(faults) == 0 {
		faults = append(faults, c.Validate())
	}
	return c, errors.Join(faults...)
}

// sizes is what the last given of the three flags says, or what there is by default;
// oneSize knows if there are two.
func (s *settings) sizes() keys.Sizes {
	switch {
	case s.given("data-size-list"):
		return s.weighed
	case s.given("data-size-range") || s.ranged.Max() > 0 && !s.given("data-size"):
		return s.ranged
	}
	return s.fixed
}

// oneSize faults two of the three.
func (s *settings) oneSize(fault func(string, ...any)) {
	given := 0
	for _, flag := range []string{"data-size", "data-size-range", "data-size-list"} {
		if s.given(flag) {
			given++
		}
	}
	if given > 1 {
		fault("--data-size, --data-size-range and --data-size-list say the same thing: give one of them")
	}
}

// draws settles how keys and sizes are drawn.
func (s *settings) draws(c *load.Config, fault func(bool, string, ...any)) {
	kinds := s.patterns
	if s.given("hot-keys") && !s.given("key-pattern") {
		kinds = [2]byte{'H', 'H'}
	}
	pattern := keys.Pattern{Exponent: s.exponent, Stddev: s.stddev, Share: s.hot[0], Weight: s.hot[1]}
	if s.median > 0 { // the first key is number 0 there, and 0 means the middle
		pattern.Median = max(s.median-float64(s.lowest), math.SmallestNonzeroFloat64)
	}
	c.WriteKeys, c.ReadKeys = pattern, pattern
	c.WriteKeys.Kind, c.ReadKeys.Kind = kinds[0], kinds[1]
	has := func(letter byte) bool { return kinds[0] == letter || kinds[1] == letter }
	for flag, letter := range map[string]byte{"key-zipf-exp": 'Z', "hot-keys": 'H', "key-median": 'G', "key-stddev": 'G'} {
		fault(s.given(flag) && !has(letter), "--%s is about the pattern %c, which --key-pattern does not have", flag, letter)
	}
	fault(s.given("key-zipf-exp") && s.exponent >= 5, "--key-zipf-exp must be below 5")
	fault(s.given("key-median") && s.median > float64(s.highest), "--key-median %v is above --key-maximum %d", s.median, s.highest)
	s.oneSize(func(format string, args ...any) { fault(true, format, args...) })
}

// ends settles when the run ends: as memtier_benchmark does, 10000 requests of each
// connection are enough where nothing is said.
func (s *settings) ends(c *load.Config, n int, fault func(bool, string, ...any)) {
	fault(s.given("test-time") && c.Duration == 0, "--test-time must be above 0")
	each := s.requests
	if s.given("test-time") && !s.given("requests") {
		return
	}
	switch {
	case each.allKeys && c.WriteKeys.Kind == keys.Parallel && c.ReadKeys.Kind == keys.Parallel:
		c.Requests = int64(n)
	case each.allKeys:
		c.Requests = int64(n) * int64(c.Conns)
	case each.each > math.MaxInt64/int64(max(c.Conns, 1)):
		fault(true, "--requests %d is too many for each of %d connections", each.each, c.Conns)
	default:
		c.Requests = each.each * int64(c.Conns)
	}
}

// targets puts the doors together.
func (s *settings) targets(c *load.Config) (faults []error) {
	var servers []string
	for _, list := range s.servers {
		servers = append(servers, strings.Split(list, ",")...)
	}
	switch {
	case len(servers)+len(s.sockets) == 0:
		servers = []string{"127.0.0.1"}
	case len(servers) == 0 && s.given("port"):
		faults = append(faults, errors.New("--port is of a --server, and only --unix-socket is given"))
	}
	for _, text := range servers {
		addr, err := target(text, s.port)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		c.Targets = append(c.Targets, addr)
	}
	for _, path := range s.sockets {
		abs, err := filepath.Abs(path)
		if err != nil {
			faults = append(faults, fmt.Errorf("--unix-socket %s: %w", path, err))
			continue
		}
		c.Targets = append(c.Targets, abs)
	}
	return faults
}

// target reads host, host:port, or an IPv6 address with or without brackets.
func target(text string, defaultPort int) (string, error) {
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		host, number = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), strconv.Itoa(defaultPort)
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("--server %q is not host[:port]", text)
		}
	}
	if _, err := port.parse(number); err != nil || host == "" || strings.ContainsAny(host, " /[]") {
		return "", fmt.Errorf("--server %q is not host[:port]", text)
	}
	return net.JoinHostPort(host, number), nil
}

// alive is an error that names each process to charge that is not there.
func (s *settings) alive() error {
	var errs []error
	for _, p := range s.procs {
		if unix.Kill(p.pid, 0) == unix.ESRCH {
			errs = append(errs, fmt.Errorf("--proc %s=%d: no such process", p.name, p.pid))
		}
	}
	return errors.Join(errs...)
}

// named gives the processes that are charged.
func (s *settings) named(c *load.Config) (faults []error) {
	c.Procs = make(map[string]int, len(s.procs))
	for _, p := range s.procs {
		if _, twice := c.Procs[p.name]; twice {
			faults = append(faults, fmt.Errorf("--proc %s is given twice", p.name))
		}
		c.Procs[p.name] = p.pid
	}
	return faults
}
