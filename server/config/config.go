// Package config holds the one structure that says what a process is: where it
// listens, which pools there are behind that, which nodes hold which copy of them,
// and limits. Fronts fill it: the flags of magent 0.6 do so for one pool. It does no
// I/O and runs on no particular goroutine; a Config is immutable once a server has
// been made of it. It imports std, pflag, codec and magent/upstream/route.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says what one process is. Zero fields take the defaults of Default.
type Config struct {
	Listen []Listen // at least one
	Pools  []Pool   // at least one

	Loops        int           // event loops, each a thread; default half the cores, at least 1
	MaxClients   int           // client connections at a time; default 4096
	MaxValue     int           // bytes of the largest value taken from a client; default 1 MiB
	ClientBuffer int           // bytes of unread replies at which a client is closed; default 64 MiB
	DrainTimeout time.Duration // how long Shutdown waits for what is in flight; default 5s
	Clients      Clients       // what clients may do; default all

	ClientTimeout time.Duration // how long a client may be silent in the middle of a command; 0 is for ever; default 1m

	Slow    time.Duration // requests that take so long, and those that fail, are logged, as far as the log takes it; 0: none are; default 0
	LogKeys LogKeys       // how their keys are logged; default KeysHashed

	VIPs         []netip.Addr  // virtual addresses: another program moves them between machines, by what it hears of readiness
	HandoverWait time.Duration // how long a magent that is to stop waits for these to leave; default 2s

	Access Access // who may come in; default anybody
}

// Listen is one address the proxy accepts clients on.
type Listen struct {
	Network string // "tcp" or "unix"
	Address string // "host:port", IPv6 in brackets, port 0 for any; or a socket's path
	Mode    uint32 // unix: the permission bits of the socket, 0644 if 0
	TLS     bool   // TCP: clients speak TLS there

	// Routes says which pool serves a key: that of the longest Prefix of it, "" being one of
	// every key. Where there are none, the first pool serves all.
	Routes []Route
}

func (l Listen) String() string {
	if l.TLS {
		return "tls://" + l.Address
	}
	return l.Network + "://" + l.Address
}

// Route gives the keys that begin with Prefix to the pool of that name.
type Route struct {
	Prefix string // at most MaxPrefix bytes, as a key has them
	Pool   string
}

// MaxPrefix is the longest key, in bytes.
const MaxPrefix = 250

// LogKeys is how a key is logged.
type LogKeys string

const (
	KeysHashed LogKeys = "hash" // the first 16 digits of its SHA-256
	KeysPlain  LogKeys = "plain"
	KeysNone   LogKeys = "none"
)

// Default is a Config with every limit at its default, no address and no pool.
func Default() Config {
	return Config{
		MaxClients:    4096,
		MaxValue:      1 << 20,
		ClientBuffer:  64 << 20,
		DrainTimeout:  5 * time.Second,
		ClientTimeout: time.Minute,
		HandoverWait:  2 * time.Second,
		LogKeys:       KeysHashed,
	}
}

// Pool is the pool of this name; nil if there is none.
func (c *Config) Pool(name string) *Pool {
	if i := slices.IndexFunc(c.Pools, func(p Pool) bool { return p.Name == name }); i >= 0 {
		return &c.Pools[i]
	}
	return nil
}

// NodeFiles is how many descriptors so many loops' connections to the nodes of all pools have, and
// the one of each node's prober. One that is interpreted has the pair, the node's, and the one
// that tells when the loop's end is closed.
func (c *Config) NodeFiles(loops int) (n int) {
	for i := range c.Pools {
		p, each := &c.Pools[i], 1
		if p.Access.Binary {
			each = 4
		}
		n += len(slices.Concat(p.Copies...)) * (loops*p.ConnsPerNode + 1) * each
	}
	return n
}

// maxSlow is more than a request takes.
const maxSlow = time.Hour

// validateLog reports what is wrong with what is to be logged.
func (c *Config) validateLog() (errs []error) {
	if c.LogKeys != KeysHashed && c.LogKeys != KeysPlain && c.LogKeys != KeysNone {
		errs = append(errs, at("log-keys", "log keys must be %s, %s or %s, not %q", KeysHashed, KeysPlain, KeysNone, c.LogKeys))
	}
	if c.Slow < 0 || c.Slow > maxSlow {
		errs = append(errs, at("slow", "slow must be 0 for none, or %v at most, is %v", maxSlow, c.Slow))
	}
	return errs
}

// Validate reports every fault at once, nil if there is none.
func (c *Config) Validate() error {
	errs := atLeast([]limit{
		{"max-conns", "max clients", int64(c.MaxClients), 1}, {"max-value", "max value", int64(c.MaxValue), 1},
		{"client-buffer", "client buffer", int64(c.ClientBuffer), 1},
		{"handover-wait", "handover wait", int64(c.HandoverWait), 0}, {"drain-timeout", "drain timeout", int64(c.DrainTimeout), 0},
		{"client-timeout", "client timeout", int64(c.ClientTimeout), 0}, {"loops", "loops", int64(c.Loops), 0},
		{"client-conns", "connections per client", int64(c.Clients.Conns), 0}, {"client-rate", "rate per client", int64(c.Clients.Rate), 0},
	})
	errs = append(errs, c.Clients.validate()...)
	errs = append(errs, c.validateLog()...)
	if len(c.Listen) == 0 {
		errs = append(errs, errors.New("no address to listen on"))
	}
	for i, l := range c.Listen {
		errs = append(errs, c.validateRoutes(i, l)...)
	}
	errs = append(errs, c.Access.validate(slices.ContainsFunc(c.Listen, func(l Listen) bool { return l.TLS }))...)
	if len(c.Pools) == 0 {
		errs = append(errs, errors.New("no pool"))
	}
	for i := range c.Pools {
		p := &c.Pools[i]
		if err := p.validName(); err != nil {
			errs = append(errs, &Fault{Pool: p.Name, err: err})
		}
		if c.Pool(p.Name) != p {
			errs = append(errs, &Fault{Pool: p.Name, err: fmt.Errorf("there are two pools %q", p.Name)})
		}
		for _, err := range p.validate() {
			errs = append(errs, c.in(p, err))
		}
	}
	return errors.Join(append(errs, c.validateNodes()...)...)
}

// Of is what a message about p begins with: nothing, if it is the one that flags describe.
func (c *Config) Of(p *Pool) string {
	if len(c.Pools) == 1 && p.Name == DefaultName {
		return ""
	}
	return fmt.Sprintf("pool %s: ", p.Name)
}

// validateRoutes looks at the listener i, which is l.
func (c *Config) validateRoutes(i int, l Listen) []error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, at("listen."+strconv.Itoa(i), "listener "+l.Address+": "+format, args...))
	}
	for j, r := range l.Routes {
		switch {
		case len(r.Prefix) > MaxPrefix:
			bad("a prefix has at most %d bytes, as a key: one has %d", MaxPrefix, len(r.Prefix))
		case strings.ContainsFunc(r.Prefix, func(c rune) bool { return c <= ' ' || c == 0x7f }):
			bad("no key begins with %q: keys have no spaces and no control characters", r.Prefix)
		}
		if slices.ContainsFunc(l.Routes[:j], func(o Route) bool { return o.Prefix == r.Prefix }) {
			bad("the prefix %q is routed twice", r.Prefix)
		}
		if c.Pool(r.Pool) == nil {
			bad("keys that begin with %q go to the pool %q, and there is none", r.Prefix, r.Pool)
		}
	}
	for _, o := range c.Listen[:i] {
		if o.Network == l.Network && o.Address == l.Address && !strings.HasSuffix(l.Address, ":0") {
			bad("it is listed twice")
		}
	}
	return errs
}

// validateNodes looks for nodes that stand in several pools. What one pool does to a node
// another does not hear of: it may flush a node that has missed more than can be told, and a
// refill copies all keys that it finds. So that is for pools of one copy, which do neither.
func (c *Config) validateNodes() []error {
	var errs []error
	for i := range c.Pools {
		for _, n := range slices.Concat(c.Pools[i].Copies...) {
			for j := range c.Pools[:i] {
				if p, o := &c.Pools[i], &c.Pools[j]; o.has(n) && len(p.Copies)+len(o.Copies) > 2 {
					err := fmt.Errorf("%s is in the pools %s and %s: only pools of one copy may share a node", n.Address(), o.Name, p.Name)
					errs = append(errs, &Fault{Pool: p.Name, Field: "copies", err: err})
				}
			}
		}
	}
	return errs
}

// limit is a field that is a number, and the least that it may be: 0 or 1.
type limit struct {
	field, name  string // as the flag is called, and in words
	value, least int64
}

// atLeast is an error for each that is less.
func atLeast(limits []limit) []error {
	var errs []error
	for _, l := range limits {
		switch {
		case l.value >= l.least:
		case l.least == 0:
			errs = append(errs, at(l.field, "%s must not be below 0, is %d", l.name, l.value))
		default:
			errs = append(errs, at(l.field, "%s must be above 0, is %d", l.name, l.value))
		}
	}
	return errs
}

// Warnings says, a line each, what is allowed and is probably not meant.
func (c *Config) Warnings() []string {
	var out []string
	used := map[string]bool{}
	for _, l := range c.Listen {
		every := len(l.Routes) == 0
		if every && len(c.Pools) > 0 {
			used[c.Pools[0].Name] = true
		}
		for _, r := range l.Routes {
			used[r.Pool], every = true, every || r.Prefix == ""
		}
		if !every {
			out = append(out, fmt.Sprintf("listener %s has no pool for keys of other prefixes: they are refused", l.Address))
		}
	}
	for i := range c.Pools {
		p := &c.Pools[i]
		if !used[p.Name] && len(c.Listen) > 0 {
			out = append(out, fmt.Sprintf("no listener gives the pool %s any key", p.Name))
		}
		for _, w := range p.warnings() {
			out = append(out, c.Of(p)+w)
		}
	}
	return out
}
