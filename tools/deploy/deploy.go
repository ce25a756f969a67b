// Package deploy makes the files of a machine that shares an address with another:
// what keepalived, systemd, monit and the like are to be told, from one Kit. Files is
// pure: it reads and writes nothing, and runs on any goroutine. The templates are
// embedded. It imports std only.
package deploy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Profile is how soon the other machine takes over.
type Profile string

const (
	// ProfileDefault has the peer take over within 1 s.
	ProfileDefault Profile = "default"
	// ProfileFast has it take over within 400 ms, for networks and hosts that never
	// hold a packet up for 300 ms.
	ProfileFast Profile = "fast"
)

// Preempt is when a machine takes the address from one that has it and serves.
type Preempt string

const (
	// PreemptNever leaves the address where it is until that machine fails.
	PreemptNever Preempt = "never"
	// PreemptWarm gives it back to the machine of the higher priority once every node
	// is warm.
	PreemptWarm Preempt = "warm"
)

// Supervisor is what restarts a process that has died.
type Supervisor string

const (
	// Systemd restarts at once; monit looks at what systemd does not see.
	Systemd Supervisor = "systemd"
	// Monit starts and restarts all of it, for machines without systemd.
	Monit Supervisor = "monit"
)

// PlainPriority is what every machine has while it is not preferred: with it two
// machines are equal, and the address stays where it is.
const PlainPriority = 100

// Kit says what is to be written for one of the two machines.
type Kit struct {
	VIPs       []netip.Prefix // the shared addresses, each with the length of its network's prefix
	Interface  string         // the one that they are put on
	Source     netip.Addr     // this machine's own address; adverts come from it
	Peer       netip.Addr     // the other machine's; may be zero with Multicast
	Multicast  bool           // adverts go to the group, not to Peer
	RouterID   int            // 1..255, the same on both; 0: the last byte of the first of VIPs
	Priority   int            // 1..254
	Profile    Profile
	Preempt    Preempt
	StartDelay time.Duration // how long keepalived waits at its start; 0 is not at all

	Supervisor Supervisor
	User       string // whom magent runs as
	Binary     string // where magent is, an absolute path
	Port       int    // where clients are served
	Admin      string // the path of the admin socket
	PidFile    string
	LogFile    string        // empty: standard error
	Serve      []string      // further flags of magent serve
	Files      int           // descriptors that magent needs at most
	StopWait   time.Duration // how long magent may take to stop, in whole seconds
	Node       string        // host:port of the memcached of this machine; empty: none
}

// File is one that is to be written.
type File struct {
	Path    string // absolute
	Mode    fs.FileMode
	Content string
}

var (
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	// The kernel takes more in the name of an interface (dev_valid_name in Linux's
	// net/core/dev.c), and what is more needs quotes in one file or another.
	interfaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	pathName      = regexp.MustCompile(`^(/[A-Za-z0-9_.+@-]+)+$`)
)

// Validate reports every fault at once, nil if there is none. What passes can be put
// into the files as it is, but for Serve, which is quoted.
func (k *Kit) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, k.validateAddresses()...)
	if !interfaceName.MatchString(k.Interface) {
		bad("%q is not the name of an interface: want at most 15 letters, digits, and _ . -", k.Interface)
	}
	if k.Priority < 1 || k.Priority > 254 {
		bad("the priority must be from 1 to 254, is %d", k.Priority)
	}
	if k.RouterID < 0 || k.RouterID > 255 {
		bad("the router id must be from 1 to 255, is %d", k.RouterID)
	}
	if k.Profile != ProfileDefault && k.Profile != ProfileFast {
		bad("the profile must be %s or %s, not %q", ProfileDefault, ProfileFast, k.Profile)
	}
	if k.Preempt != PreemptNever && k.Preempt != PreemptWarm {
		bad("preempt must be %s or %s, not %q", PreemptNever, PreemptWarm, k.Preempt)
	}
	if k.Supervisor != Systemd && k.Supervisor != Monit {
		bad("the supervisor must be %s or %s, not %q", Systemd, Monit, k.Supervisor)
	}
	if k.Supervisor == Systemd && k.LogFile != "" {
		bad("under systemd the log goes to the journal: leave out the log file")
	}
	if k.StartDelay < 0 {
		bad("the start delay must not be below 0, is %v", k.StartDelay)
	}
	if !userName.MatchString(k.User) {
		bad("%q is not the name of a user", k.User)
	}
	if k.Port < 1 || k.Port > 65535 {
		bad("the port must be from 1 to 65535, is %d", k.Port)
	}
	paths := []string{k.Binary, k.Admin, k.PidFile}
	if k.LogFile != "" {
		paths = append(paths, k.LogFile)
	}
	for _, p := range paths {
		if !pathName.MatchString(p) || path.Clean(p) != p {
			bad("%q is not an absolute path of letters, digits, and _ . + @ -", p)
		}
	}
	for _, word := range k.Serve {
		if i := strings.IndexFunc(word, unquotable); i >= 0 || word == "" {
			bad("%q cannot be put into a file: want letters, digits and signs, without quotes, backslashes, semicolons, blanks or ends of line", word)
		}
	}
	return errors.Join(errs...)
}

// unquotable finds what one of the files cannot hold in any quotes: monit knows no
// escapes, and systemd ends a command at a lone semicolon.
func unquotable(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'`\\;", r) }

func (k *Kit) validateAddresses() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(k.VIPs) == 0 {
		return []error{errors.New("no virtual address: want one such as 192.0.2.254/24")}
	}
	first := k.VIPs[0].Addr()
	for i, v := range k.VIPs {
		if !v.IsValid() || !unicast(v.Addr()) {
			bad("%v is not an address that a machine can have", v)
			continue
		}
		if v.Addr() == k.Source || v.Addr() == k.Peer {
			bad("%v is a machine's own address: the virtual one must belong to neither", v.Addr())
		}
		for _, o := range k.VIPs[:i] {
			if o.Addr() == v.Addr() {
				bad("%v is given twice", v.Addr())
			}
		}
	}
	one := func(what string, a netip.Addr) {
		switch {
		case !unicast(a) || a.Zone() != "":
			bad("%s %v is not an address of a machine", what, a)
		case a.Is4() != first.Is4():
			bad("%s %v and the virtual address %v are not of one family: keepalived needs that of the first", what, a, first)
		}
	}
	one("the source", k.Source)
	if k.Peer.IsValid() || !k.Multicast {
		one("the peer", k.Peer)
	}
	if k.Source == k.Peer {
		bad("%v is both this machine and its peer", k.Source)
	}
	return errs
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

//go:embed templates
var templates embed.FS

// AdminPath is where the unit has the admin socket of the magent that serves clients at
// port: in a directory of its user, who cannot write to /run.
func AdminPath(port int) string { return fmt.Sprintf("/run/magent/%d.sock", port) }

// KeepalivedConf is where keepalived looks for its file.
const KeepalivedConf = "/etc/keepalived/keepalived.conf"

// NoteBegin begins the line of that file which holds the flags of magent ha check.
const NoteBegin = "# magent ha check "

// Note is these flags.
func (k *Kit) Note() string {
	var words []string
	for _, v := range k.VIPs {
		words = append(words, "--vip", v.String())
	}
	words = append(words, "--interface", k.Interface)
	if k.Peer.IsValid() {
		words = append(words, "--peer", k.Peer.String())
	}
	words = append(words, "--router-id", strconv.Itoa(k.RouterID), "--port", strconv.Itoa(k.Port), "--admin", k.Admin)
	return NoteBegin + strings.Join(words, " ")
}

// plan says which files there are.
var plan = []struct {
	template, path string
	mode           fs.FileMode
	wanted         func(*Kit) bool
}{
	{"keepalived.conf", KeepalivedConf, 0o644, always},
	{"magent.service", "/etc/systemd/system/magent.service", 0o644, bySystemd},
	{"keepalived.service.conf", "/etc/systemd/system/keepalived.service.d/magent.conf", 0o644, bySystemd},
	{"memcached.service.conf", "/etc/systemd/system/memcached.service.d/magent.conf", 0o644,
		func(k *Kit) bool { return bySystemd(k) && k.Node != "" }},
	{"sysusers.conf", "/etc/sysusers.d/magent.conf", 0o644, bySystemd},
	{"sysctl.conf", "/etc/sysctl.d/60-magent.conf", 0o644, always},
	{"monit", "/etc/monit/conf.d/magent", 0o600, always},
	{"logrotate", "/etc/logrotate.d/magent", 0o644, func(k *Kit) bool { return k.LogFile != "" }},
}

func always(*Kit) bool      { return true }
func bySystemd(k *Kit) bool { return k.Supervisor == Systemd }

// Files gives what is to be written for k, in the order in which an operator would read
// it, or every fault of k.
func Files(k Kit) ([]File, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	if k.RouterID == 0 {
		b := k.VIPs[0].Addr().AsSlice()
		k.RouterID = max(1, int(b[len(b)-1]))
	}
	all, err := template.New("").Funcs(template.FuncMap{"seconds": seconds, "systemd": systemdWord}).
		Option("missingkey=error").ParseFS(templates, "templates/*")
	if err != nil {
		return nil, err
	}
	var files []File
	for _, p := range plan {
		if !p.wanted(&k) {
			continue
		}
		var out bytes.Buffer
		if err := all.ExecuteTemplate(&out, p.template, &k); err != nil {
			return nil, err
		}
		files = append(files, File{Path: p.path, Mode: p.mode, Content: out.String()})
	}
	return files, nil
}

// seconds is d as keepalived and systemd take it: 0.25.
func seconds(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", d.Seconds()), "0"), ".")
}

// systemdWord quotes a word for ExecStart: what is left of systemd.syntax(7) after
// Validate are the specifiers and the variables.
func systemdWord(word string) string {
	if strings.ContainsAny(word, "%${}#*?") {
		return `"` + strings.NewReplacer("%", "%%", "$", "$$").Replace(word) + `"`
	}
	return word
}

// Command is the command line of magent, without its program.
func (k *Kit) Command() []string {
	words := []string{"serve"}
	if k.Supervisor == Monit {
		words = []string{"-u", k.User}
	}
	for _, v := range k.VIPs {
		words = append(words, "--vip", v.Addr().String())
	}
	words = append(words, "--admin", k.Admin, "--pidfile", k.PidFile)
	if k.LogFile != "" {
		words = append(words, "--log-file", k.LogFile)
	}
	return append(words, k.Serve...)
}

// ReloadSignal has magent go on as another process: HUP, if a file says what it is, which is
// judged first; it is the new process that reads it, so that either takes a new binary, too.
func (k *Kit) ReloadSignal() string {
	if slices.Contains(k.Serve, "--config") {
		return "HUP"
	}
	return "USR2"
}

// Advert is the time between two adverts, in whole hundredths of a second as VRRPv3 has it. A silent machine is given up after three of
// them and the skew, a part of one that is the smaller the higher the priority (RFC
// 5798, section 6.1).
func (k *Kit) Advert() time.Duration {
	if k.Profile == ProfileFast {
		return 80 * time.Millisecond
	}
	return 200 * time.Millisecond
}

// Every is how often the check asks.
func (k *Kit) Every() time.Duration {
	if k.Profile == ProfileFast {
		return 50 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// Late is after what time an answer is late. Two in a row are a no.
func (k *Kit) Late() time.Duration {
	if k.Profile == ProfileFast {
		return 100 * time.Millisecond
	}
	return 250 * time.Millisecond
}

// PeerDoor is where the other machine's magent serves clients; "" if it is not known.
func (k *Kit) PeerDoor() string {
	if !k.Peer.IsValid() {
		return ""
	}
	return netip.AddrPortFrom(k.Peer, uint16(k.Port)).String()
}

// Takeover is after what time at most this machine takes the address from one that has
// fallen silent; the answers of switches and clients to its ARP come on top.
func (k *Kit) Takeover() time.Duration {
	return 3*k.Advert() + k.Skew()
}

// Skew is after what time it takes over from one that has said that it leaves.
func (k *Kit) Skew() time.Duration {
	return k.Advert() * time.Duration(256-k.BasePriority()) / 256
}

// BasePriority is that of a machine which does not find every node warm.
func (k *Kit) BasePriority() int {
	if k.Preempt == PreemptWarm {
		return PlainPriority
	}
	return k.Priority
}

// WarmBonus is what a preferred machine has more while every node is warm.
func (k *Kit) WarmBonus() int {
	if k.Preempt == PreemptWarm {
		return max(0, k.Priority-PlainPriority)
	}
	return 0
}

// StopPatience is how long monit waits for the end of magent before it takes the stop for
// failed.
func (k *Kit) StopPatience() time.Duration { return k.StopWait + 20*time.Second }

// Tracked is the addresses that adverts name, those of the first's family; keepalived
// moves the others along.
func (k *Kit) Tracked() []netip.Prefix { return k.family(true) }

// Excluded is the others.
func (k *Kit) Excluded() []netip.Prefix { return k.family(false) }

func (k *Kit) family(first bool) (out []netip.Prefix) {
	for _, v := range k.VIPs {
		if (v.Addr().Is4() == k.VIPs[0].Addr().Is4()) == first {
			out = append(out, v)
		}
	}
	return out
}

// Hosts is every virtual address as a network of its own, as ip address flush takes it.
func (k *Kit) Hosts() (out []netip.Prefix) {
	for _, v := range k.VIPs {
		out = append(out, netip.PrefixFrom(v.Addr(), v.Addr().BitLen()))
	}
	return out
}

// Privileged says whether the port is one of root's.
func (k *Kit) Privileged() bool { return k.Port < 1024 }

// NodeHost is where the memcached of this machine listens.
func (k *Kit) NodeHost() string {
	host, _, _ := net.SplitHostPort(k.Node)
	return host
}

// NodePort is its port.
func (k *Kit) NodePort() string {
	_, port, _ := net.SplitHostPort(k.Node)
	return port
}
