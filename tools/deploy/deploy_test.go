package deploy

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the code says into testdata")

// example is the first machine of two.
func example() Kit {
	return Kit{
		VIPs:       []netip.Prefix{netip.MustParsePrefix("192.0.2.254/24")},
		Interface:  "eth0",
		Source:     netip.MustParseAddr("192.0.2.10"),
		Peer:       netip.MustParseAddr("192.0.2.20"),
		Priority:   PlainPriority,
		Profile:    ProfileDefault,
		Preempt:    PreemptNever,
		Supervisor: Systemd,
		User:       "magent",
		Binary:     "/usr/local/bin/magent",
		Port:       12000,
		Admin:      "/run/magent/12000.sock",
		PidFile:    "/run/magent/12000.pid",
		Serve:      []string{"-l", "192.0.2.254,192.0.2.10", "-p", "12000", "-s", "192.0.2.10", "-b", "192.0.2.20"},
		Files:      5000,
		StopWait:   10 * time.Second,
		Node:       "192.0.2.10:11211",
	}
}

// kits are the variants whose files are in testdata, and which the real tools judge.
func kits() map[string]Kit {
	all := map[string]Kit{"plain": example()}

	warm := example()
	warm.Preempt, warm.Priority = PreemptWarm, 150
	warm.Profile, warm.StartDelay = ProfileFast, 2500*time.Millisecond
	warm.VIPs = append(warm.VIPs, netip.MustParsePrefix("2001:db8::254/64"))
	warm.Serve = append(warm.Serve, "--hash-tag", "%$")
	all["warm"] = warm

	second := warm
	second.Priority, second.Source, second.Peer = 90, warm.Peer, warm.Source
	second.Node = ""
	all["second"] = second

	six := example()
	six.VIPs = []netip.Prefix{netip.MustParsePrefix("2001:db8::fe/64")}
	six.Source, six.Peer = netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("2001:db8::20")
	six.Interface, six.Port = "br-lan.100", 211
	all["six"] = six

	monit := example()
	monit.Supervisor, monit.Multicast, monit.RouterID = Monit, true, 7
	monit.Peer = netip.Addr{}
	monit.Admin, monit.PidFile, monit.LogFile = "/run/magent-12000.sock", "/run/magent-12000.pid", "/var/log/magent.log"
	all["monit"] = monit
	return all
}

func TestFiles(t *testing.T) {
	for name, kit := range kits() {
		t.Run(name, func(t *testing.T) {
			files, err := Files(kit)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, f := range files {
				fmt.Fprintf(&out, "==> %s %04o\n%s", f.Path, f.Mode, f.Content)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != string(want) {
				t.Errorf("go test ./tools/deploy -rewrite, and read the diff; got:\n%s", out.String())
			}
		})
	}
}

// TestWhatIsRefused: each fault of a kit is named, whatever file it would have spoiled.
func TestWhatIsRefused(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for _, c := range []struct {
		want  string
		spoil func(*Kit)
	}{
		{"no virtual address", func(k *Kit) { k.VIPs = nil }},
		{"224.0.0.18/24 is not an address", func(k *Kit) { k.VIPs[0] = prefix("224.0.0.18/24") }},
		{"invalid Prefix is not an address", func(k *Kit) { k.VIPs = []netip.Prefix{{}} }},
		{"192.0.2.254 is given twice", func(k *Kit) { k.VIPs = append(k.VIPs, k.VIPs[0]) }},
		{"192.0.2.10 is a machine's own address", func(k *Kit) { k.VIPs[0] = prefix("192.0.2.10/24") }},
		{"the source invalid IP is not an address", func(k *Kit) { k.Source = netip.Addr{} }},
		{"the peer invalid IP is not an address", func(k *Kit) { k.Peer = netip.Addr{} }},
		{"the peer 127.0.0.1 is not an address", func(k *Kit) { k.Peer = addr("127.0.0.1") }},
		{"the peer 2001:db8::1 and the virtual address 192.0.2.254 are not of one family", func(k *Kit) { k.Peer = addr("2001:db8::1") }},
		{"the peer fe80::1%x\n} is not an address", func(k *Kit) { k.Peer = addr("fe80::1%x\n}") }},
		{"192.0.2.20 is both this machine and its peer", func(k *Kit) { k.Source = k.Peer }},
		{`"" is not the name of an interface`, func(k *Kit) { k.Interface = "" }},
		{`"eth0\n}" is not the name of an interface`, func(k *Kit) { k.Interface = "eth0\n}" }},
		{`"eth0 " is not the name`, func(k *Kit) { k.Interface = "eth0 " }},
		{`"sixteen-letters-" is not the name`, func(k *Kit) { k.Interface = "sixteen-letters-" }},
		{`"../../x" is not the name of an interface`, func(k *Kit) { k.Interface = "../../x" }},
		{"priority must be from 1 to 254, is 0", func(k *Kit) { k.Priority = 0 }},
		{"priority must be from 1 to 254, is 255", func(k *Kit) { k.Priority = 255 }},
		{"router id must be from 1 to 255, is 256", func(k *Kit) { k.RouterID = 256 }},
		{`profile must be default or fast, not "slow"`, func(k *Kit) { k.Profile = "slow" }},
		{`preempt must be never or warm, not "always"`, func(k *Kit) { k.Preempt = "always" }},
		{`supervisor must be systemd or monit, not "runit"`, func(k *Kit) { k.Supervisor = "runit" }},
		{"start delay must not be below 0", func(k *Kit) { k.StartDelay = -1 }},
		{`"root\nGroup=x" is not the name of a user`, func(k *Kit) { k.User = "root\nGroup=x" }},
		{"the port must be from 1 to 65535, is 0", func(k *Kit) { k.Port = 0 }},
		{`"bin/magent" is not an absolute path`, func(k *Kit) { k.Binary = "bin/magent" }},
		{`"" is not an absolute path`, func(k *Kit) { k.Binary = "" }},
		{`"/run/a b.sock" is not an absolute path`, func(k *Kit) { k.Admin = "/run/a b.sock" }},
		{`"/run/../x" is not an absolute path`, func(k *Kit) { k.PidFile = "/run/../x" }},
		{"under systemd the log goes to the journal", func(k *Kit) { k.LogFile = "/var/log/magent.log" }},
		{`"a\nExecStartPre=/bin/x" cannot be put into a file`, func(k *Kit) { k.Serve = append(k.Serve, "a\nExecStartPre=/bin/x") }},
		{`"a\"b" cannot be put`, func(k *Kit) { k.Serve = append(k.Serve, `a"b`) }},
		{`"a b" cannot be put`, func(k *Kit) { k.Serve = append(k.Serve, "a b") }},
		{`";" cannot be put`, func(k *Kit) { k.Serve = append(k.Serve, ";") }},
		{`"" cannot be put`, func(k *Kit) { k.Serve = append(k.Serve, "") }},
		{`"é" cannot be put`, func(k *Kit) { k.Serve = append(k.Serve, "é") }},
	} {
		kit := example()
		c.spoil(&kit)
		if _, err := Files(kit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// TestTakeoverIsWithinItsBound, whatever the priority.
func TestTakeoverIsWithinItsBound(t *testing.T) {
	for profile, bound := range map[Profile]time.Duration{ProfileDefault: time.Second, ProfileFast: 400 * time.Millisecond} {
		for p := 1; p <= 254; p++ {
			k := example()
			k.Profile, k.Priority = profile, p
			if took := k.Takeover(); took > bound*17/20 {
				t.Errorf("%s, priority %d: %v leaves too little of %v for the network", profile, p, took, bound)
			}
		}
	}
}

// TestToolsAcceptTheFiles asks Debian's keepalived, systemd, monit and logrotate.
func TestToolsAcceptTheFiles(t *testing.T) {
	for name, kit := range kits() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kit.Binary = "/bin/true" // a path that is there
			files, err := Files(kit)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, f := range files {
				path := filepath.Join(dir, f.Path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(f.Content), f.Mode); err != nil {
					t.Fatal(err)
				}
			}
			// keepalived wants the interface to be there: it is, in a network of its own.
			accepts(t, dir, "ip link add "+kit.Interface+" type veth peer name other && ip link set "+kit.Interface+" up && "+
				"keepalived -t -l -f etc/keepalived/keepalived.conf")
			accepts(t, dir, "monit -t -c etc/monit/conf.d/magent | grep -v 'Monit id:\\|Stored in\\|syntax OK' || true")
			if kit.Supervisor == Systemd {
				accepts(t, dir, "cp /lib/systemd/system/keepalived.service /lib/systemd/system/memcached.service etc/systemd/system && "+
					"cd etc/systemd/system && SYSTEMD_UNIT_PATH=$PWD: systemd-analyze verify --man=no ./magent.service ./keepalived.service ./memcached.service")
				// OPERATIONS.md says 1.7; a port below 1024 costs a capability.
				accepts(t, dir, "systemd-analyze security --no-pager --offline=true --threshold=19 etc/systemd/system/magent.service >exposure 2>&1 || tail -1 exposure")
				accepts(t, dir, "systemd-sysusers --dry-run $PWD/etc/sysusers.d/magent.conf 2>&1 | grep -v '^Creating\\|^Would write' || true")
			}
			if kit.LogFile != "" {
				accepts(t, dir, "logrotate --debug --state state etc/logrotate.d/magent 2>&1 | grep -i error || true")
			}
		})
	}
}

// accepts runs a command in dir, in a network of its own, and fails the test over
// whatever it says.
func accepts(t *testing.T, dir, command string) {
	t.Helper()
	cmd := exec.Command("bash", "-o", "pipefail", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}
