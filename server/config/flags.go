package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Flags is the command line as typed: magent 0.6's letters, of the getopt string
// "p:u:g:s:Dhvn:l:kb:f:i:" with its defaults and meanings, a long name for each,
// and the newer flags, which have long names only. pflag takes letters bundled
// and values spaced or not as getopt does. Bind, parse, then ask for Config.
//
// What names the process rather than the proxy is exported: cmd acts on it.
type Flags struct {
	File         string // the path of a configuration, empty: the command line says it all
	Watch, Print bool   // reload the file when it changes; print what is in force, and end

	Foreground bool
	User       string // name or number, empty: stay who we are
	Group      string // name or number, empty: the user's own
	PidFile    string
	LogFile    string
	LogFormat  string // auto, text or json
	Admin      string // path, address or none; empty: the path of the first TCP port
	// AdminListen is a TCP port or address where the same is answered, AdminToken the path
	// of the token that is asked for there; empty: neither.
	AdminListen, AdminToken string

	ResolvConf string // the path of the file that says which servers know names
	Profile    string // one of Profiles, empty for none
	ProfileDir string
	// RestartWait is how long a process that is to take this one's place may take to serve.
	RestartWait time.Duration

	verbose                  bool
	servers, backups, copies []string
	listen                   string
	port                     int
	socket                   string
	maxClients               int
	connCeiling              int
	ketama                   bool
	pool                     Pool
	loops                    int
	maxValue, clientBuffer   size
	clients                  Clients
	slow                     time.Duration
	logKeys                  LogKeys
	vips                     []string
	handoverWait, drainWait  time.Duration
	clientTimeout            time.Duration
	access                   Access
	tlsPort                  int
}

const (
	defaultPort       = 11211
	defaultCeiling    = 20
	ketamaPlacement   = "magent-ketama"
	maxUnixPathLength = 107 // sun_path without its NUL, unix(7)
)

// logFormats is what --log-format takes.
var logFormats = []string{"auto", "text", "json"}

// Profiles lists what --profile takes.
func Profiles() []string { return []string{"cpu", "mem", "block", "mutex", "trace", "goroutine"} }

// Bind defines the flags on fs. Their variables are f's.
func (f *Flags) Bind(fs *pflag.FlagSet) {
	fs.SortFlags = false
	f.bindLine(fs)
	f.pool = DefaultPool()
	BindPool(fs, &f.pool)
	f.bindProcess(fs)
}

// bindLine defines what a file has other words for.
func (f *Flags) bindLine(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.servers, "server", "s", nil, "a primary node at `host[:port]`; repeat for more")
	fs.StringArrayVarP(&f.backups, "backup", "b", nil, "a backup node at `host[:port]`; repeat for more")
	fs.StringArrayVar(&f.copies, "copy", nil, "one further copy on the nodes `host[:port],...`; repeat for more copies")
	fs.StringVarP(&f.listen, "listen", "l", "0.0.0.0", "`address` to listen on, without the port; several with commas")
	fs.IntVarP(&f.port, "port", "p", defaultPort, "TCP `port` to listen on, 0 for none (then -f or --tls-port is needed)")
	fs.StringVarP(&f.socket, "socket", "f", "", "listen on the unix socket at this `path` as well")
	fs.IntVar(&f.tlsPort, "tls-port", 0, "listen with TLS on this TCP `port`, of the addresses of -l; 0 for none")
	fs.IntVarP(&f.connCeiling, "max-conns-per-node", "i", defaultCeiling,
		"never more than this `number` of connections per node and loop; old scripts say 20")
	fs.BoolVarP(&f.ketama, "ketama", "k", false, "the same as --distribution "+ketamaPlacement)
}

// BindPool defines the flags of a pool on fs. Their variables, and their defaults, are p's.
func BindPool(fs *pflag.FlagSet, p *Pool) {
	fs.StringVar(&p.Placement.Distribution, "distribution", p.Placement.Distribution, "spread keys over the nodes by the rule of this `name`: "+knownDistributions())
	fs.StringVar(&p.Placement.Hash, "hash", p.Placement.Hash, "key hash `name` for ketama and modula; default fnv1a_64")
	fs.StringVar(&p.Placement.Tag, "hash-tag", p.Placement.Tag, "hash only the part of a key between these two `characters`, such as {}")

	fs.StringVar((*string)(&p.Writes), "writes", string(p.Writes), "how a write reaches the copies, by `name`: converge (the lead first, and a second look) or parallel (all at once)")
	fs.StringVar((*string)(&p.Ack), "ack", string(p.Ack), "answer a write when this `many` have it: all replicas that are up, or the lead")
	fs.IntVar(&p.RepairRate, "repair-rate", p.RepairRate, "begin at most this `number` of repairs per second that no client waits for; 0 is no bound")

	fs.DurationVar(&p.Timeout, "timeout", p.Timeout, "a request goes to the next copy when its node has not answered for this `duration`")
	fs.DurationVar(&p.ConnectTimeout, "connect-timeout", p.ConnectTimeout, "give up on a connection to a node after this `duration`")
	bindHealth(fs, p)
	bindNodeAccess(fs, p)
	fs.DurationVar(&p.MaxTTL, "max-ttl", p.MaxTTL, "let no item live longer than this `duration`: a longer exptime is lowered, and so is none; 0 is no bound")
	fs.IntVar(&p.ConnsPerNode, "conns-per-node", p.ConnsPerNode, "open this `number` of connections per node and loop; requests are pipelined, one is best")
}

// bindHealth defines the flags of what happens when a node fails and returns.
func bindHealth(fs *pflag.FlagSet, p *Pool) {
	fs.DurationVar(&p.RetryTimeout, "retry-timeout", p.RetryTimeout, "probe a node that is down at least once in this `duration`")
	fs.Var(&p.Hedge, "hedge", "a read asks the next copy too after this `delay`: a duration, auto (the node's 99th percentile) or off")
	fs.StringVar((*string)(&p.Probe), "probe", string(p.Probe), "probe a node by this `means`: write (a set and a get of a key of magent's own) or version")
	fs.DurationVar(&p.ProbeInterval, "probe-interval", p.ProbeInterval, "probe a node that is not down every such `duration`; 0 is never")
	fs.IntVar(&p.Rise, "rise", p.Rise, "a node comes back after this `number` of good probes in a row")
	fs.IntVar(&p.Fall, "fall", p.Fall, "a node is down after this `number` of bad probes in a row")
	fs.Var((*size)(&p.DebtLimit), "debt-limit", "remember keys up to this `size` for a node that misses writes; beyond it, or with 0, it is flushed when it returns")
	fs.Var(&p.ResyncRate, "resync-rate", "refill a node that comes back empty with at most these `keys,bytes` per second; 0 is no bound")
	fs.DurationVar(&p.MigrateFor, "migrate-for", p.MigrateFor, "after a restart in place with other nodes, look for keys where they were for this `duration` at most; 0 is not at all")
	fs.VarPF((*negated)(&p.Resync), "no-resync", "", "trust a node that comes back empty at once, as magent 0.6 does: its keys miss until clients set them again").NoOptDefVal = "true"
}

// bindProcess defines the flags of what is not a pool's.
func (f *Flags) bindProcess(fs *pflag.FlagSet) {
	d := Default()
	f.maxValue, f.clientBuffer = size(d.MaxValue), size(d.ClientBuffer)
	fs.IntVarP(&f.maxClients, "max-conns", "n", d.MaxClients, "serve this `number` of clients at a time; raises the limit of open files")
	fs.Var(&f.maxValue, "max-value", "refuse values above this `size`, as memcached's -I does: 512k, 1m")
	fs.Var(&f.clientBuffer, "client-buffer", "close a client that leaves replies of this `size` unread")
	fs.DurationVar(&f.clientTimeout, "client-timeout", d.ClientTimeout, "close a client that is silent for this `duration` in the middle of a command; 0 is never")
	f.bindClients(fs)
	fs.IntVar(&f.loops, "loops", 0, "run this `number` of event loops; 0 is half the cores")
	fs.IntVar(&f.loops, "threads", 0, "the same as --loops")
	_ = fs.MarkHidden("threads") // it was defined on the line above
	fs.StringArrayVar(&f.vips, "vip", nil, "a virtual `address` that keepalived moves by what magent ready says; repeat for more")
	fs.DurationVar(&f.handoverWait, "handover-wait", d.HandoverWait, "wait at most this `duration` for --vip to leave this machine before clients are left")
	fs.DurationVar(&f.drainWait, "drain-timeout", d.DrainTimeout, "when it stops, or another process takes over, wait at most this `duration` for what clients have asked for")

	f.bindAccess(fs)

	fs.StringVar(&f.File, "config", "", "say all of this in the file at this `path` instead; see magent help file")
	fs.BoolVar(&f.Watch, "watch", false, "reload the file of --config when it changes")
	fs.BoolVar(&f.Print, "print-config", false, "print the file that says the same as this command line, and end")
	fs.StringVarP(&f.User, "user", "u", "", "become the user of this `name or number` once the listeners are open")
	fs.StringVarP(&f.Group, "group", "g", "", "become the group of this `name or number`; default is the user's own")
	fs.BoolVarP(&f.Foreground, "foreground", "D", false, "stay in the foreground")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "stay in the foreground and log connections too")
	fs.StringVar(&f.PidFile, "pidfile", "", "write the process number to `path`")
	fs.DurationVar(&f.RestartWait, "restart-wait", 10*time.Second, "on SIGUSR2, and for a reload, give the process that takes over this `duration` to serve")
	fs.StringVar(&f.LogFile, "log-file", "", "append the log to `path`; default is standard error, and no log in the background")
	f.bindLog(fs, &d)
	fs.StringVar(&f.Admin, "admin", "", "answer magent status and the like at this `path or address`, or none; default is /run/magent-PORT.sock")
	fs.StringVar(&f.AdminListen, "admin-listen", "", "answer the same, and Prometheus, at this TCP `port or address` too; a port alone is one of 127.0.0.1")
	fs.StringVar(&f.AdminToken, "admin-token-file", "", "who asks by TCP must show the token in the file at this `path`: for addresses that others reach")
	fs.StringVar(&f.ResolvConf, "resolv-conf", "/etc/resolv.conf", "ask the name servers in the file at this `path` for hosts, dns: and srv:")
	fs.StringVar(&f.Profile, "profile", "", "write a profile of this `kind` at exit: "+strings.Join(Profiles(), ", "))
	fs.StringVar(&f.ProfileDir, "profile-dir", ".", "write profiles to the directory at this `path`")
}

// bindLog defines the flags of what is logged, and how.
func (f *Flags) bindLog(fs *pflag.FlagSet, d *Config) {
	fs.StringVar(&f.LogFormat, "log-format", "auto", "write the log in the `format` text, json, or auto: text to a terminal and json elsewhere")
	fs.DurationVar(&f.slow, "slow", d.Slow, "log some of the requests that take this `duration` or longer, or fail, with the node and the time in each stage; 0 is none")
	fs.StringVar((*string)(&f.logKeys), "log-keys", string(d.LogKeys), "log the key of such a request in this `form`: hash, plain, or none")
}

// bindClients defines the flags of what clients may do.
func (f *Flags) bindClients(fs *pflag.FlagSet) {
	fs.Var((*prefixes)(&f.clients.Allow), "allow", "serve clients from these `networks` only, such as 10.0.0.0/8,192.0.2.7; repeat for more. Unix sockets are not asked")
	fs.IntVar(&f.clients.Conns, "client-conns", 0, "at most this `number` of connections from one address; 0 is no bound")
	fs.IntVar(&f.clients.Rate, "client-rate", 0, "at most this `number` of requests per second from one address: beyond it they wait; 0 is no bound")
	fs.Var((*commands)(&f.clients.Deny), "deny", "refuse these `commands`, such as flush_all,verbosity, as memcached refuses what it is told not to do; repeat for more")
	fs.DurationVar(&f.clients.IdleTimeout, "idle-timeout", 0, "close a client that is silent for this `duration`; 0 is never")
}

// Background says whether magent 0.6 would go there: not with -D, nor with -v.
func (f *Flags) Background() bool { return !f.Foreground && !f.verbose }

// Verbose is -v.
func (f *Flags) Verbose() bool { return f.verbose }

// Config is what the flags say, validated: one pool, of DefaultName. The error holds every
// fault, a line each.
func (f *Flags) Config() (Config, error) {
	var errs []error
	fault := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	listen, err := f.listens()
	fault(err)
	p := f.pool
	p.Copies, err = f.allCopies()
	fault(err)
	p.Placement.Distribution, err = f.placement()
	fault(err)
	ceiling := f.connCeiling
	if ceiling <= 0 {
		ceiling = defaultCeiling
	}
	p.ConnsPerNode = min(p.ConnsPerNode, ceiling)
	if f.maxClients <= 0 { // which magent 0.6 took for its default
		f.maxClients = Default().MaxClients
	}
	c, err := f.Process()
	fault(err)
	c.Listen, c.Pools = listen, []Pool{p}
	if len(errs) == 0 {
		fault(c.Validate())
	}
	return c, errors.Join(errs...)
}

// Process is what the flags say of all but pools and listeners; and the faults of what a Config
// does not carry, too.
func (f *Flags) Process() (Config, error) {
	c := Default()
	c.MaxClients, c.Loops = f.maxClients, f.loops
	c.MaxValue, c.ClientBuffer = int(f.maxValue), int(f.clientBuffer)
	var err error
	c.VIPs, err = f.addresses()
	c.HandoverWait, c.DrainTimeout = f.handoverWait, f.drainWait
	c.ClientTimeout, c.Access, c.Clients = f.clientTimeout, f.access, f.clients
	c.Slow, c.LogKeys = f.slow, f.logKeys
	return c, errors.Join(f.process(), err)
}

// listens gives one TCP listener per address of -l, then the unix socket.
func (f *Flags) listens() ([]Listen, error) {
	var ls []Listen
	switch {
	case f.port < 0 || f.port > 65535:
		return nil, fmt.Errorf("-p %d is not a port: want 0 to 65535", f.port)
	case f.port == 0 && f.socket == "" && f.tlsPort == 0:
		return nil, errors.New("nothing to listen on: -p 0 turns TCP off, so -f is needed, or --tls-port")
	}
	if err := ValidSocket(f.socket); err != nil {
		return nil, fmt.Errorf("-f %w", err)
	}
	if f.port != 0 {
		for text := range strings.SplitSeq(f.listen, ",") {
			n, err := ParseNode(text, f.port)
			if err != nil {
				return nil, fmt.Errorf("-l %w", err)
			}
			ls = append(ls, Listen{Network: "tcp", Address: n.Address()})
		}
	}
	if f.socket != "" {
		ls = append(ls, Listen{Network: "unix", Address: f.socket, Mode: 0o644})
	}
	secure, err := f.secureListens()
	return append(ls, secure...), err
}

// ValidSocket says what is wrong with the path of a unix socket.
func ValidSocket(path string) error {
	if len(path) > maxUnixPathLength {
		return fmt.Errorf("%s: a socket's path has at most %d bytes, this one has %d", path, maxUnixPathLength, len(path))
	}
	return nil
}

// allCopies gives the primaries, the backups if there are any, and each --copy.
func (f *Flags) allCopies() ([][]Node, error) {
	primaries, err := parseNodes("-s", f.servers)
	if len(f.servers) == 0 {
		err = errors.New("no node: at least one -s is needed")
	}
	errs := []error{err}
	copies := [][]Node{primaries}
	if len(f.backups) > 0 {
		nodes, err := parseNodes("-b", f.backups)
		copies, errs = append(copies, nodes), append(errs, err)
	}
	for _, list := range f.copies {
		nodes, err := parseNodes("--copy", []string{list})
		copies, errs = append(copies, nodes), append(errs, err)
	}
	return copies, errors.Join(errs...)
}

// addresses gives the virtual addresses.
func (f *Flags) addresses() (all []netip.Addr, err error) {
	var errs []error
	for _, list := range f.vips {
		for text := range strings.SplitSeq(list, ",") {
			a, err := netip.ParseAddr(text)
			if err != nil || a.IsUnspecified() {
				errs = append(errs, at("vip", "--vip %q is no address such as 192.0.2.254", text))
			}
			all = append(all, a.Unmap())
		}
	}
	return all, errors.Join(errs...)
}

func (f *Flags) placement() (string, error) {
	if !f.ketama {
		return f.pool.Placement.Distribution, nil
	}
	if f.pool.Placement.Distribution != ketamaPlacement && f.pool.Placement.Distribution != DefaultPool().Placement.Distribution {
		return "", fmt.Errorf("-k means --distribution %s, but --distribution is %s: leave one out", ketamaPlacement, f.pool.Placement.Distribution)
	}
	return ketamaPlacement, nil
}

// process checks the flags that Config does not carry.
func (f *Flags) process() error {
	if f.RestartWait <= 0 {
		return at("restart-wait", "--restart-wait must be above 0, is %v", f.RestartWait)
	}
	if !slices.Contains(logFormats, f.LogFormat) {
		return at("log-format", "--log-format must be one of %s, not %q", strings.Join(logFormats, ", "), f.LogFormat)
	}
	if f.Profile == "" {
		return nil
	}
	for _, p := range Profiles() {
		if p == f.Profile {
			return nil
		}
	}
	return at("profile", "--profile %s is not known, known are %s", f.Profile, strings.Join(Profiles(), ", "))
}

func parseNodes(flag string, lists []string) ([]Node, error) {
	var nodes []Node
	var errs []error
	for _, list := range lists {
		for text := range strings.SplitSeq(list, ",") {
			n, err := ParseNodes(text, defaultPort)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %w", flag, err))
				continue
			}
			nodes = append(nodes, n)
		}
	}
	return nodes, errors.Join(errs...)
}

// ParseNodes reads what ParseNode does, and dns:HOST[:PORT] and srv:NAME, which stand for several.
func ParseNodes(text string, port int) (Node, error) {
	if name, ok := strings.CutPrefix(text, "srv:"); ok {
		n, err := ParseNode(name, port)
		if err != nil || n.Host != name || !strings.HasPrefix(name, "_") {
			return Node{}, fmt.Errorf("%q: want srv: and the name of a service such as _memcache._tcp.example.com", text)
		}
		return Node{Host: name, Lookup: LookupSRV}, nil
	}
	name, several := strings.CutPrefix(text, "dns:")
	n, err := ParseNode(name, port)
	if several {
		n.Lookup = LookupDNS
		if _, literal := netip.ParseAddr(n.Host); err == nil && literal == nil {
			err = fmt.Errorf("%q: want a name behind dns:, not an address", text)
		}
	}
	return n, err
}

// ParseNode reads host, host:port, [IPv6], [IPv6]:port or a bare IPv6 address.
// The host is kept as written, for placement hashes that text. It may be a name;
// whether the name resolves is not asked here.
func ParseNode(text string, port int) (Node, error) {
	bad := func(why string) (Node, error) { return Node{}, fmt.Errorf("%q: %s", text, why) }
	host, portText := text, ""
	switch {
	case strings.HasPrefix(text, "["):
		inner, rest, closed := strings.Cut(text[1:], "]")
		if !closed || (rest != "" && rest[0] != ':') {
			return bad("want [IPv6]:port")
		}
		host, portText = inner, rest
		if !isIPv6(host) {
			return bad("there is no IPv6 address in the brackets")
		}
	case strings.Count(text, ":") > 1:
		if !isIPv6(text) {
			return bad("neither host:port nor an IPv6 address")
		}
	default:
		if i := strings.IndexByte(text, ':'); i >= 0 {
			host, portText = text[:i], text[i:]
		}
	}
	if host == "" {
		return bad("there is no host")
	}
	if i := strings.IndexFunc(host, notInHost); i >= 0 {
		return bad(fmt.Sprintf("%q cannot be part of a host", host[i]))
	}
	if portText != "" {
		p, err := strconv.ParseUint(portText[1:], 10, 16)
		if err != nil || p == 0 {
			return bad("the port is not a number from 1 to 65535")
		}
		port = int(p)
	}
	return Node{Host: host, Port: port}, nil
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// notInHost finds what neither a host name nor an address has, a zone included.
// Names with underscores exist in the wild.
func notInHost(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune(".-_:%", r)
}

// Set reads what String prints. A duration of 0 is none: off is the word for it.
func (h *Hedge) Set(text string) error {
	switch text {
	case "off":
		*h = Hedge{}
		return nil
	case "auto":
		*h = Hedge{Auto: true}
		return nil
	}
	after, err := time.ParseDuration(text)
	if err != nil || after <= 0 {
		return errors.New("not a delay")
	}
	*h = Hedge{After: after}
	return nil
}

// Type names the flag's kind for Explain.
func (h *Hedge) Type() string { return "hedge" }

// Set reads what String prints. Where the bytes are left out, they have no bound.
func (r *ResyncRate) Set(text string) error {
	keys, bytes, both := strings.Cut(text, ",")
	n, err := strconv.ParseUint(keys, 10, 31)
	if err != nil {
		return errors.New("not a rate")
	}
	var b size
	if both && b.Set(bytes) != nil {
		return errors.New("not a rate")
	}
	*r = ResyncRate{Keys: int(n), Bytes: int(b)}
	return nil
}

// String is what --resync-rate takes.
func (r *ResyncRate) String() string {
	b := size(r.Bytes)
	return strconv.Itoa(r.Keys) + "," + b.String()
}

// Type names the flag's kind for Explain.
func (r *ResyncRate) Type() string { return "rate" }

// negated is a flag that says no to what is true without it, a pflag.Value.
type negated bool

func (n *negated) Set(text string) error {
	no, err := strconv.ParseBool(text)
	*n = negated(!no)
	return err
}

func (n *negated) String() string { return strconv.FormatBool(!bool(*n)) }

func (n *negated) Type() string { return "bool" }

// size is a number of bytes with memcached's suffixes, a pflag.Value. It is 0
// where there may be none: Validate knows where.
type size int

const maxSize = 1 << 30 // memcached's bound of -I

func (s *size) Set(text string) error {
	digits, shift := strings.ToLower(text), 0
	if n := len(digits); n > 0 {
		switch digits[n-1] {
		case 'k':
			shift = 10
		case 'm':
			shift = 20
		case 'g':
			shift = 30
		}
		if shift > 0 {
			digits = digits[:n-1]
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || n != 0 && n<<shift < 1<<10 || n<<shift > maxSize {
		return errors.New("not a size")
	}
	*s = size(n << shift)
	return nil
}

func (s *size) String() string {
	switch n := int(*s); {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dm", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dk", n>>10)
	default:
		return strconv.Itoa(n)
	}
}

func (s *size) Type() string { return "size" }

// Explain puts an error of pflag into magent's words.
func Explain(err error) error {
	var value *pflag.InvalidValueError
	if !errors.As(err, &value) {
		return err
	}
	flag := value.GetFlag()
	return Refused(Title(flag), Wants(flag), value.GetValue(), err)
}

// Refused says that what is called name has not taken text, but takes what wants says; or what is
// unclear about text, if err does.
func Refused(name, wants, text string, err error) error {
	if why, ok := errors.AsType[unclear](err); ok {
		return fmt.Errorf("%s: %w", name, why)
	}
	return fmt.Errorf("%s takes %s, not %q", name, wants, text)
}

// Title is what a person calls a flag.
func Title(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand + " (--" + f.Name + ")"
	}
	return "--" + f.Name
}

// Wants says what a flag takes, in words.
func Wants(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a whole number"
	case "duration":
		return "a duration such as 250ms or 2s"
	case "size":
		return "a size from 1k to 1g such as 512k or 1m"
	case "rate":
		return "keys per second, and with a comma bytes per second, such as 200000,256m"
	case "hedge":
		return "off, auto, or a duration above 0 such as 5ms"
	case "networks":
		return "networks such as 10.0.0.0/8,192.0.2.7"
	case "commands":
		return "names of commands such as flush_all,verbosity"
	case "bool":
		return "no value"
	}
	return "a value"
}
