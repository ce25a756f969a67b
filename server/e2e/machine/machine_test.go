package machine_test

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process/proctest"
	"magent/server/e2e/machine"
)

var (
	left  = netip.MustParseAddr("192.0.2.1")
	right = netip.MustParseAddr("192.0.2.2")
)

// greet is a server on m that says hello to everybody.
func greet(t *testing.T, m *machine.Machine) {
	t.Helper()
	var ln net.Listener
	err := m.Network(func() (err error) {
		ln, err = net.Listen("tcp", "192.0.2.2:11211")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	proctest.Serve(t, ln, func(c net.Conn) { c.Write([]byte("hello\n")) })
}

// reaches reports whether a client on m gets through to greet.
func reaches(m *machine.Machine) bool {
	c, err := m.Dial("192.0.2.2:11211", 50*time.Millisecond)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(proctest.Patience))
	var b [16]byte
	n, _ := c.Read(b[:])
	return string(b[:n]) == "hello\n"
}

func TestLinks(t *testing.T) {
	t.Parallel()
	s := machine.NewSwitch(t)
	a, b := s.Plug("a", left), s.Plug("b", right)
	greet(t, b)
	proctest.Eventually(t, "a reaches b", func() bool { return reaches(a) })
	s.Cut(b)
	if reaches(a) {
		t.Error("a reaches b, which is cut off")
	}
	s.Heal(b)
	proctest.Eventually(t, "a reaches b again", func() bool { return reaches(a) })
	if !a.Has(left) || a.Has(right) || !b.Has(right) {
		t.Error("the addresses are not where they were given")
	}
	b.Run("ip", "addr", "add", "192.0.2.3/24", "dev", machine.Interface)
	a.Fix(netip.MustParseAddr("192.0.2.3"), a)
	if _, err := a.Dial("192.0.2.3:11211", 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a reaches b where it is to look for itself: %v", err)
	}
	if _, err := net.DialTimeout("tcp", "192.0.2.2:11211", 10*time.Millisecond); err == nil {
		t.Error("the machine is reached from outside")
	}
}

// What goes on inside stays there, and ends with the machine.
func TestPrograms(t *testing.T) {
	t.Parallel()
	var orphan *proctest.Process
	t.Run("inside", func(t *testing.T) {
		m := machine.Start(t, "a")
		if name := m.Run("hostname"); name != "a" {
			t.Errorf("its name is %s", name)
		}
		m.Write("/etc/magent/secret", "inside\n", 0o600)
		if text := m.Run("cat", "/etc/magent/secret"); text != "inside" {
			t.Errorf("it finds %q where it was written", text)
		}
		if _, err := os.Stat("/etc/magent/secret"); err == nil {
			t.Error("it is to be seen outside")
		}
		if out, err := m.Try("sh", "-c", "echo no; exit 3"); err == nil || out != "no" {
			t.Errorf("a program that fails: %q, %v", out, err)
		}
		p := m.Start("sh", "-c", "echo hello; sleep 1000 & wait")
		proctest.Eventually(t, "it runs", func() bool { return len(m.Find("sleep")) == 2 && p.Log() == "hello\n" })
		p.Freeze()
		p.Thaw()
		p.Kill()
		sleeps := m.Find("sleep")
		if len(sleeps) != 2 {
			t.Fatalf("its child is gone: %v", sleeps)
		}
		orphan = sleeps[1]
		dead := m.Start("sleep", "1001")
		dead.Kill()
		proctest.Eventually(t, "nothing is left of the dead", func() bool { return len(m.Find("sleep")) == 2 })
	})
	if err := orphan.Signal(unix.SIGCONT); err == nil {
		t.Error("the machine is gone, and what ran inside is not")
	}
}
