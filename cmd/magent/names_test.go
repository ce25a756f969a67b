package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/config/file"
	"magent/server/config/names/namestest"
	"magent/server/succession"
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
	// The lower address, where nobody is, is not for a node that has another of its addresses.
	s.Set(t, append(records, service("b.test.", b), "a.test. 1 IN A 127.0.0.0")...)
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

// However often names change, another process is asked for once in 30 seconds: when the first could
// not be had, and right after one that took over, too.
func TestNamesThatChangeAllTheTime(t *testing.T) {
	t.Parallel()
	s := namestest.Start(t, "a.test. 1 IN A 192.0.2.1")
	for what, link := range map[string]*succession.Link{"the first process": nil, "a successor": new(succession.Link)} {
		s.Set(t, "a.test. 1 IN A 192.0.2.1")
		sv := named(t, s, link)
		asked := 0
		go func() {
			for w := range sv.wishes { // look waits for the answer
				asked++
				w.answer(errors.New("a fault in the file"))
			}
		}()
		start := time.Now()
		f, now := newFollower(sv, start), start
		for i := 0; now.Before(start.Add(100 * time.Second)); i++ {
			if i%4 == 0 { // so that it is the same twice, and no more
				s.Set(t, fmt.Sprintf("a.test. 1 IN A 192.0.2.%d", 2+i/4%200))
			}
			now = now.Add(min(f.look(t.Context(), now), namesWorry)) // as if a node was down
		}
		close(sv.wishes)
		if most := 4; asked == 0 || asked > most || link != nil && asked > most-1 {
			t.Errorf("%s asked %d times in 100 s", what, asked)
		}
	}
}

// named is a service of one node, a.test, as a successor if link is set.
func named(t *testing.T, s *namestest.Server, link *succession.Link) *service {
	t.Helper()
	cfg, pool := config.Default(), config.DefaultPool()
	cfg.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}
	pool.Copies = [][]config.Node{{{Host: "a.test", Port: 11211}}}
	cfg.Pools = []config.Pool{pool}
	sv := &service{told: &file.Settings{Config: cfg}, flags: &config.Flags{ResolvConf: s.ResolvConf}, log: slog.New(slog.DiscardHandler),
		wishes: make(chan wish), in: inherited{link: link}}
	if err := sv.resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sv
}

// What names stood for before a wait is looked at twice after it, too.
func TestNamesAfterAWait(t *testing.T) {
	t.Parallel()
	s := namestest.Start(t, "a.test. 1 IN A 192.0.2.1")
	sv, start := named(t, s, new(succession.Link)), time.Now()
	f := newFollower(sv, start)
	s.Set(t, "a.test. 1 IN A 192.0.2.2")
	f.look(t.Context(), start)
	wait := f.look(t.Context(), start.Add(namesSteady))
	if want := namesRest - namesSteady; wait != want {
		t.Fatalf("a successor waits for %v, want %v", wait, want)
	}
	go func() {
		for w := range sv.wishes {
			w.answer(errors.New("it is asked for another process"))
		}
	}()
	if again := f.look(t.Context(), start.Add(namesRest)); again != namesSteady {
		t.Errorf("after the wait it looks again in %v, want %v", again, namesSteady)
	}
	close(sv.wishes)
}

// A process that takes over keeps the address that a node has, of several, while it is one of them.
func TestSuccessorKeepsAddresses(t *testing.T) {
	t.Parallel()
	s := namestest.Start(t, "a.test. 1 IN A 192.0.2.7")
	cfg, pool := config.Default(), config.DefaultPool()
	cfg.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}
	pool.Copies = [][]config.Node{{{Host: "a.test", Port: 11211}}}
	cfg.Pools = []config.Pool{pool}
	sv := &service{told: &file.Settings{Config: cfg}, flags: &config.Flags{ResolvConf: s.ResolvConf}}
	resolves := func(want string) {
		t.Helper()
		if err := sv.resolve(t.Context()); err != nil || sv.cfg.Pools[0].Copies[0][0].At.String() != want {
			t.Errorf("a.test is %v, %v, want %s", sv.cfg.Pools, err, want)
		}
	}
	resolves("192.0.2.7")
	s.Set(t, "a.test. 1 IN A 192.0.2.6", "a.test. 1 IN A 192.0.2.7")
	sv = &service{told: sv.told, flags: sv.flags, in: inherited{addresses: sv.saveAddresses()}}
	resolves("192.0.2.7")
	s.Set(t, "a.test. 1 IN A 192.0.2.6", "a.test. 1 IN A 192.0.2.8")
	sv = &service{told: sv.told, flags: sv.flags, in: inherited{addresses: sv.saveAddresses()}}
	resolves("192.0.2.6")

	cfg.Pools[0].Copies = [][]config.Node{{{Host: "192.0.2.9", Port: 11211}}}
	addresses := sv.saveAddresses()
	sv = &service{told: &file.Settings{Config: cfg}, flags: sv.flags, in: inherited{addresses: addresses}}
	if err := sv.resolve(t.Context()); err != nil || sv.resolver != nil {
		t.Errorf("without names: %v", err)
	}
	if _, err := addresses.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file of the predecessor's addresses is open, though nobody needs it: %v", err)
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
