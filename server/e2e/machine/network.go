package machine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"
)

// A Switch joins machines. Its methods are those of a Machine.
type Switch struct {
	*Machine
	ports map[*Machine]string // what each machine is plugged into
}

const (
	// Interface is what every machine calls the interface that is plugged in.
	Interface = "eth0"
	// bits is how long the prefix of the network is: that of 192.0.2.0/24.
	bits   = "/24"
	bridge = "br0"
)

// NewSwitch makes a switch that nothing is plugged into.
func NewSwitch(t testing.TB) *Switch {
	t.Helper()
	s := &Switch{Machine: Start(t, "switch"), ports: make(map[*Machine]string)}
	s.Run("ip", "link", "add", bridge, "up", "type", "bridge")
	return s
}

// Plug starts a machine at addr, of 192.0.2.0/24.
func (s *Switch) Plug(name string, addr netip.Addr) *Machine {
	s.t.Helper()
	m := Start(s.t, name)
	port := "port-" + name
	s.ports[m] = port
	// The machine is named by its number in our namespace of processes, not in the switch's.
	cmd := exec.Command("ip", "link", "add", port, "type", "veth", "peer", "name", Interface, "netns", fmt.Sprint(m.PID))
	if err := s.Network(cmd.Run); err != nil {
		s.t.Fatalf("%v: %v", cmd.Args, err)
	}
	s.Run("ip", "link", "set", port, "master", bridge, "up")
	m.Run("ip", "addr", "add", addr.String()+bits, "dev", Interface)
	m.Run("ip", "link", "set", Interface, "up")
	return m
}

// Cut pulls m's plug: both ends see that the link is down.
func (s *Switch) Cut(m *Machine) {
	s.t.Helper()
	s.Run("ip", "link", "set", s.ports[m], "down")
}

// Heal puts it back.
func (s *Switch) Heal(m *Machine) {
	s.t.Helper()
	s.Run("ip", "link", "set", s.ports[m], "up")
}

// Deafen keeps m from hearing what is said by VRRP, and nothing else. The rules of routing
// are asked of what comes in, too, if they stand before the one that knows the own
// addresses.
func (m *Machine) Deafen() {
	m.t.Helper()
	m.Run("ip", "rule", "add", "pref", "2", "lookup", "local")
	m.Run("ip", "rule", "add", "pref", "1", "ipproto", "vrrp", "blackhole")
	m.Run("ip", "rule", "del", "pref", "0")
}

// Undeafen has m hear again.
func (m *Machine) Undeafen() {
	m.t.Helper()
	m.Run("ip", "rule", "del", "pref", "1")
}

// Fix has m find addr at the machine to, whatever else claims to have it.
func (m *Machine) Fix(addr netip.Addr, to *Machine) {
	m.t.Helper()
	var hardware net.HardwareAddr
	err := to.Network(func() error {
		ifi, err := net.InterfaceByName(Interface)
		if err == nil {
			hardware = ifi.HardwareAddr
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Run("ip", "neigh", "replace", addr.String(), "lladdr", hardware.String(), "dev", Interface, "nud", "permanent")
}

// Unfix has m find addr as the network has it.
func (m *Machine) Unfix(addr netip.Addr) {
	m.t.Helper()
	m.Run("ip", "neigh", "del", addr.String(), "dev", Interface)
}

// Has reports whether addr is one of m's addresses.
func (m *Machine) Has(addr netip.Addr) bool {
	m.t.Helper()
	has := false
	err := m.Network(func() error {
		ifi, err := net.InterfaceByName(Interface)
		if err != nil {
			return err
		}
		addrs, err := ifi.Addrs()
		for _, a := range addrs {
			p, _ := netip.ParsePrefix(a.String())
			has = has || p.Addr() == addr
		}
		return err
	})
	if err != nil {
		m.t.Error(err)
	}
	return has
}

// Dial connects from inside to addr, which is host:port, within limit.
func (m *Machine) Dial(addr string, limit time.Duration) (c net.Conn, err error) {
	err = m.Network(func() error {
		d := net.Dialer{Timeout: limit}
		c, err = d.DialContext(context.Background(), "tcp", addr)
		return err
	})
	return c, err
}
