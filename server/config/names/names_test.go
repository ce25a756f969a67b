package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"magent/server/config"
	"magent/server/config/names/namestest"
)

// resolver asks s, and knows no other names than those in a file of hosts with this text.
func resolver(t *testing.T, s *namestest.Server, hosts string) *Resolver {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := New(s.ResolvConf, path)
	if err != nil {
		t.Fatal(err)
	}
	r.system = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("not asked here") }
	return r
}

// pool is a configuration of one pool with these nodes, a copy each.
func pool(t *testing.T, copies ...string) *config.Config {
	t.Helper()
	c, p := config.Default(), config.DefaultPool()
	c.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}
	for _, text := range copies {
		n, err := config.ParseNodes(text, 11211)
		if err != nil {
			t.Fatal(err)
		}
		p.Copies = append(p.Copies, []config.Node{n})
	}
	c.Pools = []config.Pool{p}
	return &c
}

func TestExpand(t *testing.T) {
	s := namestest.Start(t,
		"one.test. 60 IN A 192.0.2.1",
		"both.test. 60 IN AAAA 2001:db8::1", "both.test. 60 IN A 192.0.2.2",
		"six.test. 7 IN AAAA 2001:db8::2",
		"many.test. 20 IN A 192.0.2.12", "many.test. 20 IN A 192.0.2.11", "many.test. 20 IN A 192.0.2.11",
		"alias.test. 5 IN CNAME one.test.",
		"zero.test. 0 IN A 192.0.2.9",
		"_memcache._tcp.test. 30 IN SRV 1 5 11212 many.test.", "_memcache._tcp.test. 30 IN SRV 1 0 11211 alias.test.",
		"_memcache._tcp.test. 30 IN SRV 9 0 11211 spare.test.",
		"_none._tcp.test. 30 IN SRV 0 0 0 .",
		"empty.test. 30 IN TXT none",
	)
	r := resolver(t, s, "192.0.2.77 a.example h.example # and b.example\n192.0.2.78 H.example\nnonsense\n")
	for _, c := range []struct {
		node, want string // what it comes to, or the error
		holds      time.Duration
	}{
		{"192.0.2.3:7", "192.0.2.3:7", longest},
		{"[2001:db8::7]", "[2001:db8::7]:11211", longest},
		{"one.test", "one.test:11211=192.0.2.1", time.Minute},
		{"one", "one:11211=192.0.2.1", time.Minute}, // by the search list
		{"both.test:8", "both.test:8=192.0.2.2", time.Minute},
		{"six.test", "six.test:11211=2001:db8::2", 7 * time.Second},
		{"many.test", "many.test:11211=192.0.2.11", 20 * time.Second},
		{"alias.test", "alias.test:11211=192.0.2.1", 5 * time.Second},
		{"zero.test", "zero.test:11211=192.0.2.9", shortest},
		{"h.example", "h.example:11211=192.0.2.77", unsaid},
		{"dns:many.test:8", "192.0.2.11:8 192.0.2.12:8", 20 * time.Second},
		{"dns:h.example", "192.0.2.77:11211 192.0.2.78:11211", unsaid},
		{"srv:_memcache._tcp.test", "alias.test:11211=192.0.2.1 many.test:11212=192.0.2.11", 5 * time.Second},
		{"srv:_memcache._tcp", "alias.test:11211=192.0.2.1 many.test:11212=192.0.2.11", 5 * time.Second},
		{"none.test", `unknown host "none.test": DNS has nothing of this name`, unsaid},
		{"b.example", `unknown host "b.example": DNS has nothing of this name`, unsaid},
		{"dns:empty.test", `unknown host "empty.test": DNS has nothing of this name`, unsaid},
		{"srv:_none._tcp.test", `unknown service "_none._tcp.test": DNS has nothing of this name`, unsaid},
		{"srv:_other._tcp.test", `unknown service "_other._tcp.test": DNS has nothing of this name`, unsaid},
	} {
		got, holds, err := r.Expand(t.Context(), pool(t, c.node), nil)
		said := strings.Join(texts(&got.Pools[0]), " ")
		if err != nil {
			said = err.Error()
		}
		if said != c.want || holds != c.holds {
			t.Errorf("%s is %s for %v, want %s for %v", c.node, said, holds, c.want, c.holds)
		}
	}
}

// All names that are not known are told, each once.
func TestExpandTellsAllThatIsUnknown(t *testing.T) {
	r := resolver(t, namestest.Start(t), "")
	_, _, err := r.Expand(t.Context(), pool(t, "a.test", "b.test:1", "b.test:2"), nil)
	if err == nil || strings.Count(err.Error(), "unknown host") != 2 {
		t.Errorf("%v", err)
	}
}

// A node with several addresses keeps the one that it has while it is one of them.
func TestExpandKeepsAnAddress(t *testing.T) {
	s := namestest.Start(t, "a.test. 9 IN A 192.0.2.5")
	r := resolver(t, s, "")
	cfg := pool(t, "a.test")
	first, _, err := r.Expand(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(t, "a.test. 9 IN A 192.0.2.6", "a.test. 9 IN A 192.0.2.5", "a.test. 9 IN A 192.0.2.4")
	second, _, err := r.Expand(t.Context(), cfg, Of(&first))
	if what := Changes(&first, &second); err != nil || what != "" {
		t.Errorf("%s, %v", what, err)
	}
	s.Set(t, "a.test. 9 IN A 192.0.2.6", "a.test. 9 IN A 192.0.2.4")
	third, _, err := r.Expand(t.Context(), cfg, Of(&second))
	if what := Changes(&second, &third); err != nil || what != "pool default: a.test:11211=192.0.2.4 in place of a.test:11211=192.0.2.5" {
		t.Errorf("%s, %v", what, err)
	}
}

// What does not fit a packet comes by TCP.
func TestLongAnswer(t *testing.T) {
	var records []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("many.test. 9 IN A 192.0.2.%d", i+1))
	}
	r := resolver(t, namestest.Start(t, records...), "")
	got, _, err := r.Expand(t.Context(), pool(t, "dns:many.test"), nil)
	if err != nil || len(got.Pools[0].Copies[0]) != 200 {
		t.Errorf("%d nodes, %v", len(got.Pools[0].Copies[0]), err)
	}
}

// A server that fails is told as such, and the next is asked.
func TestServersThatFail(t *testing.T) {
	bad, good := namestest.Start(t), namestest.Start(t, "a.test. 9 IN A 192.0.2.5")
	bad.Fail(dns.RcodeServerFailure)
	r := resolver(t, bad, "")
	if _, _, err := r.Expand(t.Context(), pool(t, "a.test"), nil); err == nil || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("the error is %v", err)
	}
	r.conf.Servers = slices.Concat(r.conf.Servers, resolver(t, good, "").conf.Servers)
	if got, _, err := r.Expand(t.Context(), pool(t, "a.test"), nil); err != nil || got.Pools[0].Copies[0][0].At.String() != "192.0.2.5" {
		t.Errorf("%+v, %v", got.Pools, err)
	}
}

// A question that fails is no answer: a host with addresses of both kinds does not become another
// as nobody says its IPv4 ones, nor a name another of the search list.
func TestAQuestionThatFails(t *testing.T) {
	s := namestest.Start(t, "a.test. 9 IN A 192.0.2.5", "a.test. 9 IN AAAA 2001:db8::5", "six.test. 9 IN AAAA 2001:db8::6",
		"a. 9 IN AAAA 2001:db8::7", "_memcache._tcp. 9 IN SRV 0 0 7 a.test.")
	r := resolver(t, s, "")
	r.system = func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network == "ip6" {
			return []netip.Addr{netip.MustParseAddr("2001:db8::5")}, nil
		}
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	s.Fail(dns.RcodeServerFailure, dns.TypeA, dns.TypeSRV)
	for _, node := range []string{"a.test", "dns:a.test", "a", "dns:a", "six.test", "srv:_memcache._tcp"} {
		if got, _, err := r.Expand(t.Context(), pool(t, node), nil); err == nil || !strings.Contains(err.Error(), "SERVFAIL") {
			t.Errorf("%s is %s, %v", node, strings.Join(texts(&got.Pools[0]), " "), err)
		}
	}
	s.Fail(dns.RcodeServerFailure, dns.TypeAAAA) // nobody needs those
	if got, _, err := r.Expand(t.Context(), pool(t, "a.test"), nil); err != nil || got.Pools[0].Copies[0][0].At.String() != "192.0.2.5" {
		t.Errorf("%+v, %v", got.Pools, err)
	}
}

// What nobody else knows the system may, and what is wrong with resolv.conf is told.
func TestTheSystem(t *testing.T) {
	r := resolver(t, namestest.Start(t), "")
	r.system = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.8")}, nil
	}
	if got, holds, err := r.Expand(t.Context(), pool(t, "a.test"), nil); err != nil || holds != unsaid || got.Pools[0].Copies[0][0].At.String() != "192.0.2.8" {
		t.Errorf("%+v for %v, %v", got.Pools, holds, err)
	}
	r.system = func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network == "ip6" {
			return []netip.Addr{netip.MustParseAddr("2001:db8::8")}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if got, _, err := r.Expand(t.Context(), pool(t, "a.test"), nil); err != nil || got.Pools[0].Copies[0][0].At.String() != "2001:db8::8" {
		t.Errorf("%+v, %v", got.Pools, err)
	}
	if r, err := New(filepath.Join(t.TempDir(), "none"), Hosts); err != nil || r.conf.Servers[0] != "127.0.0.1:53" {
		t.Errorf("without resolv.conf: %v", err)
	}
	if _, err := New("no\x00path", Hosts); err == nil {
		t.Error("a file that cannot be opened is no resolv.conf")
	}
}

func TestAny(t *testing.T) {
	for node, want := range map[string]bool{"192.0.2.1": false, "[::1]:7": false, "a": true, "dns:a": true, "srv:_a._tcp.b": true} {
		if got := Any(pool(t, "192.0.2.1", node)); got != want {
			t.Errorf("%s: %v", node, got)
		}
	}
}
