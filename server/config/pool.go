package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"magent/upstream/route"
)

// Pool is a set of nodes that hold one key space, and how they are used. Zero fields take
// the defaults of DefaultPool.
type Pool struct {
	Name string // tells it from others, in routes, messages and metrics: letters, digits, and . _ -

	// Copies are the complete placements of the key space, the primaries first.
	// Each has its own nodes and, over them, the same kind of distribution.
	Copies    [][]Node
	Placement route.Spec

	Writes     Writes // how a write reaches the copies; default WritesConverge
	Ack        Ack    // when the client is told; default AckAll
	RepairRate int    // repairs begun per second that no client waits for; 0 is no bound; default 10000

	Timeout        time.Duration // how long a node may leave a request unanswered, the last replica of a key four times as long; default 250ms
	ConnectTimeout time.Duration // how long a connection to a node may take; default 100ms
	RetryTimeout   time.Duration // the longest wait between probes of a node that is down; default 500ms
	Hedge          Hedge         // when a read asks the next replica too; default off

	Probe         Probe         // how a node is probed; default ProbeWrite
	ProbeInterval time.Duration // between probes of a node that is not down; 0: such a node is not probed; default 500ms
	Rise, Fall    int           // good probes in a row that bring a node back, bad ones that take it down; default 1 and 3
	DebtLimit     int           // bytes of keys remembered for each node that missed writes, and at most 1M keys; 0: it is flushed instead; default 64 MiB

	Resync     bool       // a node that comes back empty is refilled before it is trusted; default true
	ResyncRate ResyncRate // how fast at most; default 200,000 keys and 256 MiB per second

	// MigrateFor is for how long keys are looked for where they were before a change of
	// placement, unless all have moved before; 0: not at all; default 10m.
	MigrateFor time.Duration

	ConnsPerNode int           // upstream connections per node and loop; default 1
	MaxTTL       time.Duration // for how long an item may live that a client stores or touches, in whole seconds; 0 is no bound

	Access NodeAccess // how the nodes let this magent in; default without a word
}

// DefaultName is the name of the pool that flags describe.
const DefaultName = "default"

// DefaultPool is a Pool of that name with everything at its default, and no node.
func DefaultPool() Pool {
	return Pool{
		Name:           DefaultName,
		Placement:      route.Spec{Distribution: "magent-modulo"},
		Writes:         WritesConverge,
		Ack:            AckAll,
		RepairRate:     10_000,
		Timeout:        250 * time.Millisecond,
		ConnectTimeout: 100 * time.Millisecond,
		RetryTimeout:   500 * time.Millisecond,
		Probe:          ProbeWrite,
		ProbeInterval:  500 * time.Millisecond,
		Rise:           1,
		Fall:           3,
		DebtLimit:      64 << 20,
		Resync:         true,
		ResyncRate:     ResyncRate{Keys: 200_000, Bytes: 256 << 20},
		MigrateFor:     10 * time.Minute,
		ConnsPerNode:   1,
	}
}

// Node is one memcached server as the operator wrote it.
type Node struct {
	Host   string // name, IPv4, or IPv6 without brackets
	Port   int    // 1..65535
	Name   string // alias used in placement, messages and stats; may be empty
	Weight int    // share of the key space, 1 if 0

	Lookup Lookup     // Host stands for several nodes, to be looked up so; empty: it is one
	At     netip.Addr // what Host has been found to be; zero: it has not been looked up
}

// Lookup is how several nodes are found by one name.
type Lookup string

const (
	LookupDNS Lookup = "dns" // the addresses of Host, each with Port
	LookupSRV Lookup = "srv" // the targets of the SRV record of Host, which say their port
)

// Address is what a dialer takes; or, of several nodes, what the operator wrote.
func (n Node) Address() string {
	switch n.Lookup {
	case LookupDNS:
		return "dns:" + net.JoinHostPort(n.Host, strconv.Itoa(n.Port))
	case LookupSRV:
		return "srv:" + n.Host
	}
	return net.JoinHostPort(n.Host, strconv.Itoa(n.Port))
}

// Dial is what a dialer takes if the node has been looked up.
func (n Node) Dial() string {
	if n.At.IsValid() {
		return netip.AddrPortFrom(n.At, uint16(n.Port)).String()
	}
	return n.Address()
}

// String is the alias if there is one, else the address.
func (n Node) String() string {
	if n.Name != "" {
		return n.Name
	}
	return n.Address()
}

// Writes is how a write reaches the copies of its key.
type Writes string

const (
	// WritesConverge: the lead first, then the followers, then a second look at the
	// lead, and a repair if it has moved. However many proxies write a key at the
	// same time, its copies end equal.
	WritesConverge Writes = "converge"
	// WritesParallel: all copies at once, where the write allows it, and no look.
	WritesParallel Writes = "parallel"
)

// Ack is when the client of a write is told that it is done.
type Ack string

const (
	AckAll  Ack = "all"  // when every replica that is up has it: it survives the death of any
	AckLead Ack = "lead" // when the lead has it
)

// Hedge is when a read that is not answered yet asks the next replica too. The
// zero value is never.
type Hedge struct {
	Auto  bool          // after the node's own 99th percentile
	After time.Duration // after this long; of no account if Auto
}

// Off says whether no read is hedged.
func (h Hedge) Off() bool { return h == Hedge{} }

// String is what --hedge takes.
func (h Hedge) String() string {
	switch {
	case h.Auto:
		return "auto"
	case h.After == 0:
		return "off"
	default:
		return h.After.String()
	}
}

// ResyncRate bounds what the refill of a node copies per second. A zero is no bound.
type ResyncRate struct {
	Keys  int
	Bytes int // of values
}

// Probe is how a node is asked whether it serves.
type Probe string

const (
	ProbeWrite   Probe = "write"   // a set, a get and a comparison, on a key of the proxy's own
	ProbeVersion Probe = "version" // `version`, where the proxy may not write by itself
)

// MaxCopies bounds the copies of a pool: a request keeps a bit for each.
const MaxCopies = 8

// maxPoolName bounds the name of a pool, in bytes.
const maxPoolName = 64

// validName says what is wrong with the pool's name.
func (p *Pool) validName() error {
	strange := func(r rune) bool { return !InPoolName(r) }
	if p.Name == "" || len(p.Name) > maxPoolName || strings.ContainsFunc(p.Name, strange) {
		return fmt.Errorf("a pool's name has 1 to %d letters, digits, or any of . _ -, not %q", maxPoolName, p.Name)
	}
	return nil
}

// InPoolName reports whether a pool's name may have r.
func InPoolName(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
}

// has reports whether n is among the pool's nodes.
func (p *Pool) has(n Node) bool {
	return slices.ContainsFunc(p.Copies, func(nodes []Node) bool { return slices.ContainsFunc(nodes, n.sameAddress) })
}

// validate reports every fault of the pool.
func (p *Pool) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, at("copies", format, args...)) }
	if len(p.Copies) == 0 || len(p.Copies[0]) == 0 {
		bad("no node")
	}
	if len(p.Copies) > MaxCopies {
		bad("%d copies: at most %d are supported", len(p.Copies), MaxCopies)
	}
	for i, nodes := range p.Copies {
		if i > 0 && len(nodes) == 0 {
			errs = append(errs, at(copyField(i), "copy %d has no node", i))
		}
		for _, n := range nodes {
			if n.Host == "" || n.Lookup != LookupSRV && (n.Port < 1 || n.Port > 65535) {
				bad("bad node address %q", n.Address())
			}
			if n.Lookup != "" && n.Name != "" {
				errs = append(errs, at(copyField(i), "%s stands for several nodes, which cannot all have the name %s", n.Address(), n.Name))
			}
		}
	}
	errs = append(errs, atLeast([]limit{
		{"conns-per-node", "connections per node", int64(p.ConnsPerNode), 1},
		{"timeout", "timeout", int64(p.Timeout), 1}, {"connect-timeout", "connect timeout", int64(p.ConnectTimeout), 1},
		{"retry-timeout", "retry timeout", int64(p.RetryTimeout), 1},
		{"rise", "rise", int64(p.Rise), 1}, {"fall", "fall", int64(p.Fall), 1},
		{"probe-interval", "probe interval", int64(p.ProbeInterval), 0}, {"migrate-for", "migration time", int64(p.MigrateFor), 0},
		{"debt-limit", "debt limit", int64(p.DebtLimit), 0},
		{"repair-rate", "repair rate", int64(p.RepairRate), 0}, {"resync-rate", "resync rate in keys", int64(p.ResyncRate.Keys), 0},
		{"resync-rate", "resync rate in bytes", int64(p.ResyncRate.Bytes), 0}, {"max-ttl", "max TTL", int64(p.MaxTTL), 0},
	})...)
	errs = append(errs, p.validateChoices()...)
	errs = append(errs, p.Access.validate(len(p.Copies))...)
	if len(errs) == 0 {
		errs = p.validatePlacement()
	}
	return errs
}

// validateChoices looks at every field that has a few values.
func (p *Pool) validateChoices() []error {
	var errs []error
	if p.Writes != WritesConverge && p.Writes != WritesParallel {
		errs = append(errs, at("writes", "writes must be %s or %s, not %q", WritesConverge, WritesParallel, p.Writes))
	}
	if p.Ack != AckAll && p.Ack != AckLead {
		errs = append(errs, at("ack", "ack must be %s or %s, not %q", AckAll, AckLead, p.Ack))
	}
	if p.Probe != ProbeWrite && p.Probe != ProbeVersion {
		errs = append(errs, at("probe", "probe must be %s or %s, not %q", ProbeWrite, ProbeVersion, p.Probe))
	}
	if p.MaxTTL%time.Second != 0 {
		errs = append(errs, at("max-ttl", "max TTL must be whole seconds, is %v", p.MaxTTL))
	}
	if after := p.Hedge.After; !p.Hedge.Auto && (after < 0 || after >= p.Timeout && after > 0) {
		errs = append(errs, at("hedge", "hedge must be above 0 and below the timeout of %v, is %v", p.Timeout, after))
	}
	return errs
}

// validatePlacement asks route for its faults, each once and in one line.
func (p *Pool) validatePlacement() []error {
	var errs []error
	for i, nodes := range p.Copies {
		servers := Servers(nodes)
		if slices.ContainsFunc(nodes, func(n Node) bool { return n.Lookup != "" }) {
			servers = []route.Server{{Host: "a", Port: 1}} // what will be found is judged then
		}
		_, err := route.New(p.Placement, servers)
		if err == nil {
			continue
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			line, field := strings.TrimPrefix(line, "route: "), placementField(line, i)
			if strings.HasPrefix(line, "server ") {
				line = fmt.Sprintf("copy %d: %s", i, line)
			}
			if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == line }) {
				errs = append(errs, at(field, "%s", line))
			}
		}
	}
	return errs
}

// placementField is what a fault that route finds in copy i is about.
func placementField(line string, i int) string {
	switch {
	case strings.HasPrefix(line, "route: unknown distribution"):
		return "distribution"
	case strings.HasPrefix(line, "route: hash tag"):
		return "hash-tag"
	case strings.HasPrefix(line, "route: unknown hash"), strings.Contains(line, "key hash"):
		return "hash"
	}
	return copyField(i)
}

// copyField is what copy i is to a Fault.
func copyField(i int) string { return "copies." + strconv.Itoa(i) }

// Servers is nodes as placement sees them, in the same order.
func Servers(nodes []Node) []route.Server {
	servers := make([]route.Server, len(nodes))
	for i, n := range nodes {
		servers[i] = route.Server{Host: n.Host, Port: n.Port, Name: n.Name, Weight: n.Weight}
	}
	return servers
}

// warnings says, a line each, what is allowed and is probably not meant.
func (p *Pool) warnings() []string {
	out := p.hedgeWarnings()
	for i, nodes := range p.Copies {
		for j, n := range nodes {
			if slices.ContainsFunc(nodes[:j], n.sameAddress) {
				out = append(out, fmt.Sprintf("%s is listed twice in copy %d: it gets two shares of the keys", n.Address(), i))
			}
		}
	}
	for i, a := range p.Copies {
		for j, b := range p.Copies[i+1:] {
			j += i + 1
			if n, ok := p.common(a, b, Node.sameAddress); ok {
				out = append(out, fmt.Sprintf("%s is in copies %d and %d: keys that both copies place there have one copy only", n.Address(), i, j))
			} else if n, ok := p.common(a, b, Node.sameHost); ok {
				out = append(out, fmt.Sprintf("copies %d and %d of some keys are both on %s: losing that host loses them", i, j, n.Host))
			}
		}
	}
	return out
}

// hedgeWarnings is about reads that ask a follower although the lead is up.
func (p *Pool) hedgeWarnings() []string {
	var out []string
	switch {
	case p.Hedge.Off():
	case len(p.Copies) == 1:
		out = append(out, "--hedge does nothing: there is one copy, and nobody else to ask")
	default:
		if p.Ack == AckLead {
			out = append(out, "--hedge with --ack lead: a read that asks a follower may miss the latest acknowledged write")
		}
		if p.Writes == WritesParallel {
			out = append(out, "--hedge with --writes parallel: where racing writers have left copies different, reads give now one value, now the other")
		}
	}
	return out
}

// common is a node of a that is the same as one of b with which it may share keys.
// Where placement goes by position and the lists are as long, only the nodes at
// one position share keys; otherwise any two nodes may.
func (p *Pool) common(a, b []Node, same func(Node, Node) bool) (Node, bool) {
	paired := len(a) == len(b) && slices.Contains([]string{"magent-modulo", "modula", "jump"}, p.Placement.Distribution)
	for i, n := range a {
		for j, m := range b {
			if same(n, m) && (i == j || !paired) {
				return n, true
			}
		}
	}
	return Node{}, false
}

func (n Node) sameHost(o Node) bool    { return n.Host == o.Host }
func (n Node) sameAddress(o Node) bool { return n.Host == o.Host && n.Port == o.Port }

// knownDistributions is for help and messages.
func knownDistributions() string { return strings.Join(route.Distributions(), ", ") }
