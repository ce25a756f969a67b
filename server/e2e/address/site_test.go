package address

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process/proctest"
	"magent/server/e2e/machine"
)

// Where things are. Both memcacheds are nodes of both magents.
var (
	vip     = netip.MustParseAddr("192.0.2.254")
	service = netip.AddrPortFrom(vip, 11211).String()
	homes   = [2]netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.20")}
	nodes   = [2]string{homes[0].String() + ":11311", homes[1].String() + ":11311"}
)

const (
	installed = "/usr/local/bin/magent"
	pidFile   = "/run/magent-11211.pid"
)

// A member is one of the two machines.
type member struct {
	*machine.Machine
	site  *site
	home  netip.Addr
	monit *machine.Program
}

// A site is the two machines, and a client.
type site struct {
	t       *testing.T
	wires   *machine.Switch
	members [2]*member // the first has the higher priority
	client  *machine.Machine
}

// newSite has two machines as the kit makes them, told flags of `magent ha init`, and
// returns when the first has the address.
func newSite(t *testing.T, flags ...string) *site {
	t.Helper()
	s := &site{t: t, wires: machine.NewSwitch(t)}
	s.client = s.wires.Plug("client", netip.MustParseAddr("192.0.2.100"))
	for i := range s.members {
		s.members[i] = s.member(i, flags)
	}
	first, second := s.members[0], s.members[1]
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range s.members {
				t.Logf("%s says:\n%s", m.Name, m.story())
			}
		}
	})
	// Equals at the start: the address stays with whoever has it first.
	first.run()
	await(t, "the first has the address, and serves", func() bool { return first.Has(vip) && s.ask(time.Second, "first") == nil })
	second.run()
	second.standsBy(t)
	return s
}

// member makes one of the machines: what the README has an operator do there.
func (s *site) member(i int, flags []string) *member {
	s.t.Helper()
	m := &member{Machine: s.wires.Plug(fmt.Sprint("m", i+1), homes[i]), site: s, home: homes[i]}
	m.Write(installed, "", 0o755)
	m.Run("mount", "--bind", binary, installed)
	m.Run("useradd", "--system", "magent")
	m.Run("systemd-tmpfiles", "--create", "memcached.conf") // as at every boot
	m.Write("/etc/memcached.conf", "-d\n-m 64\n-p 11311\n-u memcache\n-l "+homes[i].String()+"\n-P /var/run/memcached/memcached.pid\n", 0o644)
	m.Run(installed, append([]string{"ha", "init", "--supervisor", "monit", "--vip", vip.String() + "/24", "--interface", machine.Interface,
		"--peer", homes[1-i].String(), "--priority", strconv.Itoa(150 - 50*i), "-s", nodes[0], "-b", nodes[1]}, flags...)...)
	m.Run("/etc/init.d/memcached", "start")
	return m
}

// run has monit start what is not running, all but the memcached.
func (m *member) run() {
	m.site.t.Helper()
	m.monit = m.Start("monit", "-I", "-c", "/etc/monit/monitrc")
}

// standsBy waits until the machine would take the address: its keepalived is told by its
// magent that it is ready, and hears the other's adverts.
func (m *member) standsBy(t *testing.T) {
	t.Helper()
	const dump = "/tmp/keepalived.data" // where it writes what it knows, at SIGUSR1
	await(t, m.Name+" stands by", func() bool {
		p := m.ByPIDFile("/run/keepalived.pid")
		if p == nil {
			return false
		}
		_ = os.Remove(m.Path(dump))
		if err := p.Signal(unix.SIGUSR1); err != nil {
			return false
		}
		var state []string
		proctest.Within(time.Second, func() bool {
			text, _ := os.ReadFile(m.Path(dump))
			state = regexp.MustCompile(`(?m)^ *State = (.*)\n(?s:.*)\n`).FindStringSubmatch(string(text))
			return state != nil
		})
		return state != nil && state[1] == "BACKUP"
	})
}

// story is what the programs of a machine have logged.
func (m *member) story() string {
	text := ""
	if m.monit != nil {
		text = m.monit.Log()
	}
	for _, path := range []string{"/var/log/magent.log", "/var/log/keepalived.log"} {
		log, _ := os.ReadFile(m.Path(path))
		text += "\n" + string(log)
	}
	return text
}

// magent is the magent that serves there.
func (m *member) magent() *proctest.Process {
	m.site.t.Helper()
	p := m.ByPIDFile(pidFile)
	if p == nil {
		m.site.t.Fatalf("no magent runs on %s", m.Name)
	}
	return p
}

// at is the names of the machines that have the address.
func (s *site) at() string {
	s.t.Helper()
	var all []string
	for _, m := range s.members {
		if m.Has(vip) {
			all = append(all, m.Name)
		}
	}
	return strings.Join(all, " ")
}

// ask stores a value of key at the virtual address and gets it, on a connection of its
// own, all within limit.
func (s *site) ask(limit time.Duration, key string) error {
	deadline := time.Now().Add(limit)
	c, err := s.client.Dial(service, limit)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	value := "value of " + key
	return exchange(c, fmt.Sprintf("set %s 0 0 %d\r\n%s\r\nget %[1]s\r\n", key, len(value), value),
		fmt.Sprintf("STORED\r\nVALUE %s 0 %d\r\n%s\r\nEND\r\n", key, len(value), value))
}

// exchange sends a request, and demands that the answer is this one.
func exchange(c net.Conn, request, want string) error {
	if _, err := c.Write([]byte(request)); err != nil {
		return err
	}
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		n, err := c.Read(got[len(got):cap(got)])
		if got = got[:len(got)+n]; err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
	}
	if string(got) != want {
		return fmt.Errorf("answered %q", got)
	}
	return nil
}
