package deploy

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// healthy is a machine without a fault, which has the address.
func healthy() Facts {
	vip := netip.MustParsePrefix("192.0.2.254/24")
	return Facts{
		VIPs: []netip.Prefix{vip}, Interface: "eth0", Source: netip.MustParseAddr("192.0.2.10"), Peer: netip.MustParseAddr("192.0.2.20"),
		Port: 12000, Admin: "/run/magent/12000.sock", RouterID: 254,
		Systemd: true, Conf: KeepalivedConf, ConfThere: true, Version: "2.2.7", Running: true,
		Link: &Link{Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24"), vip}},
		Here: []netip.Addr{vip.Addr()}, PeerWay: "eth0", RPFilter: 1, ARPIgnore: 1, ARPSource: 2,
		Nodes: []string{"a (copy 0)", "b (copy 1)"}, PeerNodes: []string{"a (copy 0)", "b (copy 1)"},
		OpenFiles: 100, FileLimit: 5000,
		Advert:    &Advert{From: netip.MustParseAddr("192.0.2.20"), RouterID: 254, VIPs: []netip.Addr{vip.Addr()}},
		ClockSync: true, ClockError: 300 * time.Microsecond,
	}
}

func TestNothingIsToBeMended(t *testing.T) {
	second := healthy()
	second.Here, second.VIPAnswers = nil, true
	for _, f := range []Facts{healthy(), second} {
		for _, c := range Judge(&f) {
			if c.Verdict == Mend || c.Verdict == Unknown && c.Name != "adverts" {
				t.Errorf("%+v", c)
			}
		}
	}
	for _, c := range Judge(&second) {
		if c.Verdict != OK {
			t.Errorf("where the address is elsewhere: %+v", c)
		}
	}
}

// TestNothingIsKnown: of a machine that nothing was told of, no check says that it is well
// without having looked.
func TestNothingIsKnown(t *testing.T) {
	f := Facts{Port: 11211, AdminFault: "nobody answers", ClockFault: "not told", AdvertFault: "not root"}
	for _, c := range Judge(&f) {
		if c.Verdict == OK && c.Name != "port" {
			t.Errorf("%+v", c)
		}
	}
}

// TestEachFaultIsFound: one thing is spoilt, and one check says so and what mends it.
func TestEachFaultIsFound(t *testing.T) {
	for _, c := range []struct {
		check   string
		verdict Verdict
		text    string
		command string
		spoil   func(*Facts)
	}{
		{"keepalived", Mend, "not installed", "apt-get install keepalived", func(f *Facts) { f.Version = "" }},
		{"keepalived", Mend, "version 1.3.9 is older than 2.1", "apt-get", func(f *Facts) { f.Version = "1.3.9" }},
		{"keepalived", Unknown, `its version is "unknown"`, "", func(f *Facts) { f.Version = "unknown" }},
		{"its file", Mend, "is not there", "magent ha init", func(f *Facts) { f.ConfThere = false }},
		{"its file", Mend, "invalid number", "keepalived -t -f " + KeepalivedConf, func(f *Facts) { f.ConfFault = "invalid number" }},
		{"it runs", Mend, "does not run", "systemctl enable --now keepalived", func(f *Facts) { f.Running = false }},
		{"it runs", Mend, "does not run", "monit start keepalived", func(f *Facts) { f.Running, f.Systemd = false, false }},
		{"boot", Mend, "magent and keepalived will not start", "systemctl enable magent keepalived", func(f *Facts) { f.Disabled = []string{"magent", "keepalived"} }},
		{"interface", Mend, "there is no eth0", "ip link", func(f *Facts) { f.Link = nil }},
		{"interface", Mend, "eth0 is down", "ip link set eth0 up", func(f *Facts) { f.Link.Up = false }},
		{"interface", Mend, "no address of its own in the network of 192.0.2.254/24", "ip address", func(f *Facts) { f.Link.Addrs = f.Link.Addrs[1:] }},
		{"way", Mend, "there is no way to 192.0.2.20", "ip route get 192.0.2.20", func(f *Facts) { f.PeerWay = "" }},
		{"way", Mend, "rp_filter drops", "sysctl -w net/ipv4/conf/eth0/rp_filter=2", func(f *Facts) { f.PeerWay = "eth1" }},
		{"way", OK, "reached through eth1", "", func(f *Facts) { f.PeerWay, f.RPFilter = "eth1", 2 }},
		{"arp", Mend, "arp_ignore is 0", "sysctl --system", func(f *Facts) { f.ARPIgnore = 0 }},
		{"arp", Mend, "arp_announce 1", "sysctl --system", func(f *Facts) { f.ARPSource = 1 }},
		{"listen", Mend, "cannot be listened on", "ip_nonlocal_bind=1", func(f *Facts) { f.BindFault = "cannot assign requested address" }},
		{"port", Mend, "port 12000 is taken", "ss -ltnp", func(f *Facts) { f.AdminFault, f.PortTaken = "nobody answers", true }},
		{"magent", Mend, "nobody answers", "systemctl enable --now magent", func(f *Facts) { f.AdminFault = "nobody answers" }},
		{"magent", Mend, "not ready: a is down", "magent status --admin /run/magent/12000.sock", func(f *Facts) { f.NotReady = "a is down" }},
		{"files", Mend, "4600 of the 5000", "LimitNOFILE", func(f *Facts) { f.OpenFiles = 4600 }},
		{"address", Mend, "no keepalived is", "ip address flush dev eth0 to 192.0.2.254/32", func(f *Facts) { f.Running = false }},
		{"address", Mend, "magent is not ready", "journalctl", func(f *Facts) { f.NotReady = "a is down" }},
		{"address", Mend, "of 2 virtual addresses only 1", "journalctl", func(f *Facts) { f.VIPs = append(f.VIPs, netip.MustParsePrefix("192.0.2.253/24")) }},
		{"address", Mend, "not here, and nobody answers", "other machine", func(f *Facts) { f.Here = nil }},
		{"adverts", Mend, "none comes from 192.0.2.20", "nft add rule inet filter input ip saddr 192.0.2.20 meta l4proto vrrp accept",
			func(f *Facts) { f.Here, f.Advert = nil, nil }},
		{"adverts", Unknown, "nobody but root", "", func(f *Facts) { f.Here, f.AdvertFault = nil, "nobody but root can listen" }},
		{"adverts", Mend, "one came from 192.0.2.30", "--router-id", func(f *Facts) { f.Here, f.Advert.From = nil, netip.MustParseAddr("192.0.2.30") }},
		{"adverts", Mend, "router id 7, this one 254", "same --router-id", func(f *Facts) { f.Here, f.Advert.RouterID = nil, 7 }},
		{"adverts", Mend, "the addresses [192.0.2.1], this one [192.0.2.254]", "same --vip",
			func(f *Facts) { f.Here, f.Advert.VIPs = nil, []netip.Addr{netip.MustParseAddr("192.0.2.1")} }},
		{"peer", Mend, "does not answer on port 12000: refused", "other machine", func(f *Facts) { f.PeerFault = "refused" }},
		{"nodes", Mend, "only here b (copy 1), only there B (copy 1)", "letter by letter", func(f *Facts) { f.PeerNodes = []string{"a (copy 0)", "B (copy 1)"} }},
		{"nodes", Mend, "another order", "in one order", func(f *Facts) { f.PeerNodes = []string{"b (copy 1)", "a (copy 0)"} }},
		{"nodes", Unknown, "only one magent", "", func(f *Facts) { f.PeerFault = "refused" }},
		{"clock", Mend, "nobody keeps it", "chrony", func(f *Facts) { f.ClockSync = false }},
		{"clock", Mend, "off by 4ms", "chronyc tracking", func(f *Facts) { f.ClockError = 4 * time.Millisecond }},
		{"clock", Unknown, "the kernel does not say", "", func(f *Facts) { f.ClockFault = "the kernel does not say" }},
	} {
		f := healthy()
		c.spoil(&f)
		for _, got := range Judge(&f) {
			if got.Name == c.check && (got.Verdict != c.verdict || !strings.Contains(got.Text, c.text) || !strings.Contains(got.Command, c.command)) {
				t.Errorf("want %s: %s (%s); got %+v", c.verdict, c.text, c.command, got)
			}
		}
	}
}
