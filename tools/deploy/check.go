package deploy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Facts is what was found on a machine that has a kit, or is to have one. The checks
// judge by it alone.
type Facts struct {
	VIPs      []netip.Prefix // as told; empty: not told
	Interface string         // "": not told
	Source    netip.Addr     // from which the peer is reached; zero: not known
	Peer      netip.Addr     // zero: not told
	Port      int
	Admin     string
	RouterID  int // 0: not told

	Systemd   bool     // it runs this machine
	Disabled  []string // services that it does not start at boot
	Conf      string   // where keepalived's file is
	ConfThere bool
	ConfFault string // what keepalived says against it
	Version   string // of keepalived, such as 2.2.7; "": it is not installed
	Running   bool   // keepalived is

	Link       *Link        // nil: there is no such interface
	Here       []netip.Addr // those of VIPs that are on this machine
	BindFault  string       // why one that is elsewhere cannot be listened on; "": it can
	PortTaken  bool
	VIPAnswers bool // a magent or a memcached answers at the first of VIPs
	PeerWay    string
	RPFilter   int // the stricter of all and Interface
	ARPIgnore  int // of all: that of Interface is not asked when another one answers
	ARPSource  int // arp_announce, the same

	AdminFault string // why nobody answers there; "": a magent does
	NotReady   string // why it is not; "": it is
	Nodes      []string
	PeerFault  string   // why it does not answer
	PeerNodes  []string // as the magent of the peer names them
	OpenFiles  int      // of magent; 0: not known
	FileLimit  int

	Advert      *Advert // nil: none came
	AdvertFault string  // why nobody could listen for them

	ClockFault string        // why it is not known
	ClockSync  bool          // somebody keeps it
	ClockError time.Duration // as whoever keeps it estimates
}

// Link is an interface.
type Link struct {
	Up    bool
	Addrs []netip.Prefix
}

// Advert is one of the other machine's.
type Advert struct {
	From     netip.Addr
	RouterID int
	VIPs     []netip.Addr
}

// Verdict is what a check comes to.
type Verdict string

const (
	OK      Verdict = "ok"
	Mend    Verdict = "mend"    // something is to be done
	Unknown Verdict = "unknown" // it could not be found out, or is not to be told from here
)

// Finding is a check and what it came to.
type Finding struct {
	Name    string
	Verdict Verdict
	Text    string
	Command string // that mends it, or says more; may be empty
}

// oldestKeepalived has what the kit asks for; it is tested with 2.2.7.
var oldestKeepalived = [2]int{2, 1}

// checks in the order in which one builds on the other.
var checks = []struct {
	name  string
	judge func(*Facts) (Verdict, string, string)
}{
	{"keepalived", (*Facts).keepalived},
	{"its file", (*Facts).file},
	{"it runs", (*Facts).runs},
	{"boot", (*Facts).boot},
	{"interface", (*Facts).link},
	{"way", (*Facts).way},
	{"arp", (*Facts).arp},
	{"listen", (*Facts).listen},
	{"port", (*Facts).port},
	{"magent", (*Facts).magent},
	{"files", (*Facts).files},
	{"address", (*Facts).address},
	{"adverts", (*Facts).adverts},
	{"peer", (*Facts).peer},
	{"nodes", (*Facts).nodes},
	{"clock", (*Facts).clock},
}

// Judge gives a finding for each check.
func Judge(f *Facts) []Finding {
	out := make([]Finding, len(checks))
	for i, c := range checks {
		out[i].Name = c.name
		out[i].Verdict, out[i].Text, out[i].Command = c.judge(f)
	}
	return out
}

func (f *Facts) keepalived() (Verdict, string, string) {
	if f.Version == "" {
		return Mend, "it is not installed", "apt-get install keepalived"
	}
	var major, minor int
	if n, _ := fmt.Sscanf(f.Version, "%d.%d", &major, &minor); n < 2 {
		return Unknown, "it says that its version is " + strconv.Quote(f.Version), ""
	}
	if slices.Compare([]int{major, minor}, oldestKeepalived[:]) < 0 {
		return Mend, fmt.Sprintf("version %s is older than %d.%d", f.Version, oldestKeepalived[0], oldestKeepalived[1]), "apt-get install keepalived"
	}
	return OK, "version " + f.Version, ""
}

func (f *Facts) file() (Verdict, string, string) {
	switch {
	case !f.ConfThere:
		return Mend, f.Conf + " is not there", "magent ha init"
	case f.Version == "":
		return Unknown, "without keepalived nobody can say whether it is right", ""
	case f.ConfFault != "":
		return Mend, f.ConfFault, "keepalived -t -f " + f.Conf
	}
	return OK, f.Conf, ""
}

func (f *Facts) runs() (Verdict, string, string) {
	if !f.Running {
		return Mend, "keepalived does not run: the address cannot come here", f.manage("systemctl enable --now keepalived", "keepalived")
	}
	return OK, "keepalived runs", ""
}

// manage is the command for this machine.
func (f *Facts) manage(systemd, monit string) string {
	if f.Systemd {
		return systemd
	}
	return "monit start " + monit
}

func (f *Facts) boot() (Verdict, string, string) {
	switch {
	case !f.Systemd:
		return Unknown, "systemd does not run this machine: see that monit starts with it", ""
	case len(f.Disabled) > 0:
		return Mend, strings.Join(f.Disabled, " and ") + " will not start with the machine", "systemctl enable " + strings.Join(f.Disabled, " ")
	}
	return OK, "magent and keepalived start with the machine", ""
}

func (f *Facts) link() (Verdict, string, string) {
	switch {
	case f.Interface == "":
		return Unknown, "--interface was not given", ""
	case f.Link == nil:
		return Mend, "there is no " + f.Interface, "ip link"
	case !f.Link.Up:
		return Mend, f.Interface + " is down", "ip link set " + f.Interface + " up"
	}
	for _, v := range f.VIPs {
		own := func(p netip.Prefix) bool { return v.Contains(p.Addr()) && p.Addr() != v.Addr() }
		if !slices.ContainsFunc(f.Link.Addrs, own) {
			return Mend, fmt.Sprintf("%s has no address of its own in the network of %v: is the length right, and the interface?", f.Interface, v), "ip address show dev " + f.Interface
		}
	}
	return OK, f.Interface + " is up", ""
}

func (f *Facts) way() (Verdict, string, string) {
	switch {
	case !f.Peer.IsValid() || f.Interface == "":
		return Unknown, "--peer or --interface was not given", ""
	case f.PeerWay == "":
		return Mend, fmt.Sprintf("there is no way to %v", f.Peer), "ip route get " + f.Peer.String()
	case f.PeerWay == f.Interface:
		return OK, fmt.Sprintf("%v is reached through %s", f.Peer, f.Interface), ""
	case f.RPFilter == 1:
		return Mend, fmt.Sprintf("%v is reached through %s, and rp_filter drops what comes from it through %s", f.Peer, f.PeerWay, f.Interface),
			fmt.Sprintf("sysctl -w net/ipv4/conf/%s/rp_filter=2", f.Interface)
	}
	return OK, fmt.Sprintf("%v is reached through %s", f.Peer, f.PeerWay), ""
}

func (f *Facts) arp() (Verdict, string, string) {
	switch {
	case f.Interface == "" || len(f.VIPs) == 0:
		return Unknown, "--vip or --interface was not given", ""
	case !slices.ContainsFunc(f.VIPs, func(v netip.Prefix) bool { return v.Addr().Is4() }):
		return OK, "no virtual address is of IPv4", ""
	case f.ARPIgnore == 0 || f.ARPSource != 2:
		return Mend, fmt.Sprintf("another interface in this network would answer for the address: arp_ignore is %d, arp_announce %d", f.ARPIgnore, f.ARPSource), "sysctl --system"
	}
	return OK, "only the interface of the address answers for it", ""
}

func (f *Facts) listen() (Verdict, string, string) {
	switch {
	case len(f.VIPs) == 0:
		return Unknown, "--vip was not given", ""
	case f.BindFault != "":
		return Mend, "an address that is elsewhere cannot be listened on: " + f.BindFault, "sysctl -w net.ipv4.ip_nonlocal_bind=1 net.ipv6.ip_nonlocal_bind=1"
	}
	return OK, "the address can be listened on while it is elsewhere", ""
}

func (f *Facts) port() (Verdict, string, string) {
	switch {
	case f.AdminFault == "":
		return OK, "magent is there", ""
	case f.PortTaken:
		return Mend, fmt.Sprintf("port %d is taken, and not by a magent that answers at %s", f.Port, f.Admin), fmt.Sprintf("ss -ltnp sport = :%d", f.Port)
	}
	return OK, fmt.Sprintf("port %d is free", f.Port), ""
}

func (f *Facts) magent() (Verdict, string, string) {
	switch {
	case f.AdminFault != "":
		return Mend, f.AdminFault, f.manage("systemctl enable --now magent", "magent")
	case f.NotReady != "":
		return Mend, "it is not ready: " + f.NotReady, "magent status --admin " + f.Admin
	}
	return OK, "it is ready", ""
}

func (f *Facts) files() (Verdict, string, string) {
	switch {
	case f.FileLimit == 0:
		return Unknown, "the limit of open files is not known", ""
	case f.OpenFiles > f.FileLimit/10*9:
		return Mend, fmt.Sprintf("magent has %d of the %d files open that it may", f.OpenFiles, f.FileLimit), "systemctl edit magent, LimitNOFILE="
	}
	return OK, fmt.Sprintf("magent has %d of %d open", f.OpenFiles, f.FileLimit), ""
}

func (f *Facts) address() (Verdict, string, string) {
	if len(f.VIPs) == 0 {
		return Unknown, "--vip was not given", ""
	}
	first := f.VIPs[0].Addr()
	switch {
	case len(f.Here) > 0 && !f.Running:
		return Mend, fmt.Sprintf("%v is here, and no keepalived is: another machine may have it, too", f.Here[0]),
			fmt.Sprintf("ip address flush dev %s to %v", f.Interface, netip.PrefixFrom(f.Here[0], f.Here[0].BitLen()))
	case len(f.Here) > 0 && len(f.Here) < len(f.VIPs):
		return Mend, fmt.Sprintf("of %d virtual addresses only %d are here", len(f.VIPs), len(f.Here)), "journalctl -u keepalived"
	case len(f.Here) > 0 && (f.AdminFault != "" || f.NotReady != ""):
		return Mend, fmt.Sprintf("%v is here, and magent is not ready: keepalived should have taken it away", first), "journalctl -u keepalived"
	case len(f.Here) > 0:
		return OK, fmt.Sprintf("%v is here", first), ""
	case f.VIPAnswers:
		return OK, fmt.Sprintf("%v is on the other machine, and answers", first), ""
	}
	return Mend, fmt.Sprintf("%v is not here, and nobody answers there on port %d", first, f.Port), "magent ha check, on the other machine"
}

func (f *Facts) adverts() (Verdict, string, string) {
	var addrs []netip.Addr
	for _, v := range f.VIPs {
		if v.Addr().Is4() == f.VIPs[0].Addr().Is4() {
			addrs = append(addrs, v.Addr())
		}
	}
	switch a := f.Advert; {
	case len(f.Here) > 0:
		return Unknown, "this machine sends them: only the other can tell whether they arrive", "magent ha check, on the other machine"
	case f.AdvertFault != "":
		return Unknown, f.AdvertFault, ""
	case a == nil && !f.Peer.IsValid():
		return Unknown, "none has come, and --peer does not say from where one should", ""
	case a == nil:
		return Mend, "none comes from " + f.Peer.String() + ": does keepalived run there, and does a firewall drop them?", f.firewall()
	case f.Peer.IsValid() && a.From != f.Peer:
		return Mend, fmt.Sprintf("one came from %v, not from %v: is there a third machine?", a.From, f.Peer), "magent ha init, with another --router-id"
	case f.RouterID != 0 && a.RouterID != f.RouterID:
		return Mend, fmt.Sprintf("the other machine has the router id %d, this one %d: each takes the address", a.RouterID, f.RouterID), "magent ha init, with the same --router-id on both"
	case len(addrs) > 0 && !sameSet(a.VIPs, addrs):
		return Mend, fmt.Sprintf("the other machine has the addresses %v, this one %v", a.VIPs, addrs), "magent ha init, with the same --vip on both"
	}
	return OK, "they come from " + f.Advert.From.String(), ""
}

// firewall is the line of nftables that lets the adverts of the peer in.
func (f *Facts) firewall() string {
	if !f.Peer.IsValid() {
		return "nft add rule inet filter input meta l4proto vrrp accept"
	}
	family := "ip"
	if f.Peer.Is6() {
		family = "ip6"
	}
	return fmt.Sprintf("nft add rule inet filter input %s saddr %v meta l4proto vrrp accept", family, f.Peer)
}

func sameSet(a, b []netip.Addr) bool {
	x, y := slices.Clone(a), slices.Clone(b)
	slices.SortFunc(x, netip.Addr.Compare)
	slices.SortFunc(y, netip.Addr.Compare)
	return slices.Equal(x, y)
}

func (f *Facts) peer() (Verdict, string, string) {
	switch {
	case !f.Peer.IsValid():
		return Unknown, "--peer was not given", ""
	case f.PeerFault != "":
		return Mend, fmt.Sprintf("the magent of %v does not answer on port %d: %s", f.Peer, f.Port, f.PeerFault), "magent ha check, on the other machine"
	}
	return OK, fmt.Sprintf("the magent of %v answers", f.Peer), ""
}

func (f *Facts) nodes() (Verdict, string, string) {
	if f.AdminFault != "" || f.PeerFault != "" || !f.Peer.IsValid() {
		return Unknown, "only one magent can be asked for its nodes", ""
	}
	here, there := lacks(f.Nodes, f.PeerNodes), lacks(f.PeerNodes, f.Nodes)
	switch {
	case len(here) > 0 || len(there) > 0:
		return Mend, fmt.Sprintf("the magents name them differently: only here %s, only there %s", list(here), list(there)), "magent ha init, with the same -s and -b, letter by letter"
	case !slices.Equal(f.Nodes, f.PeerNodes):
		return Mend, "the magents have the same nodes in another order, or in other copies: they may place keys differently", "magent ha init, with the same -s and -b, in one order"
	}
	return OK, fmt.Sprintf("both magents name the same %d nodes", len(f.Nodes)), ""
}

// lacks gives what is in a and not in b.
func lacks(a, b []string) (out []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// clockBound is how far off a clock may be. Two of such are apart by twice that at most,
// and several magents bear 6 ms (What is not promised, in OPERATIONS.md).
const clockBound = 3 * time.Millisecond

func (f *Facts) clock() (Verdict, string, string) {
	switch {
	case f.ClockFault != "":
		return Unknown, f.ClockFault, ""
	case !f.ClockSync:
		return Mend, "nobody keeps it, and several magents want theirs together", "apt-get install chrony"
	case f.ClockError > clockBound:
		return Mend, fmt.Sprintf("it may be off by %v", f.ClockError), "chronyc tracking"
	}
	return OK, fmt.Sprintf("it is kept, and off by %v at most, as far as whoever keeps it knows", f.ClockError), ""
}
