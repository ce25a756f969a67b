package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"magent/bench/process/proctest"
	"magent/server/config/names/namestest"
)

// Nodes that come and go in DNS come and go here, while a client keeps its connection; and while
// nobody answers for names, nodes stay where they were.
func TestNodesByNames(t *testing.T) {
	t.Parallel()
	service := func(name string, node string) string {
		return fmt.Sprintf("_memcache._tcp.test. 1 IN SRV 0 0 %s %s", portOf(t, node), name)
	}
	a, b := newNode(t).Addr(), newNode(t).Addr()
	const hosts = "a.test. 1 IN A 127.0.0.1\nb.test. 1 IN A 127.0.0.1"
	records := append(strings.Split(hosts, "\n"), service("a.test.", a))
	s := namestest.Start(t, records...)
	dir := t.TempDir()
	p := &placed{asked: &asked{t, freeAddr(t), adminPath(t)}, binary: binary, pidFile: filepath.Join(dir, "pid"), logFile: filepath.Join(dir, "log")}
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Command(binary, "serve", "-l", "127.0.0.1", "-p", portOf(t, p.addr), "--admin", p.admin, "--pidfile", p.pidFile, "--log-file", p.logFile,
		"--timeout", "10s", "--connect-timeout", "10s", "--resolv-conf", s.ResolvConf, "-s", "srv:_memcache._tcp.test")
	cmd.Stderr = stderr
	launch(t, cmd)
	p.says("listening", 1)
	p.endsWithTest()
	c, err := newCounter(p.addr, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	old := readPid(t, p.pidFile)

	s.Fail(dns.RcodeServerFailure)
	p.says("names are not known any more: nodes stay where they were", 1)
	s.Set(t, append(records, service("b.test.", b))...)
	proctest.Eventually(t, "another process has taken over", func() bool { return !alive(old) })
	p.says("names are known again", 1)
	p.says("everything was taken over", 1)
	text, err := types(t, newStatus(), "--admin", p.admin)
	for _, node := range []string{"a.test:" + portOf(t, a), "b.test:" + portOf(t, b)} {
		if err != nil || !strings.Contains(text, node) {
			t.Errorf("%s is not in %s, %v", node, text, err)
		}
	}
	for i := range 50 { // on either node
		if err := c.asks(fmt.Sprintf("set k%d 0 0 1\r\nx\r\nget k%d\r\n", i, i), "STORED", fmt.Sprintf("VALUE k%d 0 1", i), "x", "END"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNamesThatAreUnknown(t *testing.T) {
	s := namestest.Start(t)
	args := []string{"serve", "-p", "0", "-f", filepath.Join(t.TempDir(), "s"), "--resolv-conf", s.ResolvConf, "-s"}
	magent(t, append(args, "srv:_memcache._tcp.test")...).wantFault(t, "unknown service", "_memcache._tcp.test")
	magent(t, append(args, "dns:nodes.test")...).wantFault(t, "unknown host", "nodes.test")
	magent(t, append(args, "dns:10.0.0.1")...).wantFault(t, "want a name behind dns:")
	magent(t, append(args, "srv:memcache")...).wantFault(t, "want srv: and the name of a service")
}
