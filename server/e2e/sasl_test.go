package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/e2e/harness"
	"magent/server/secret/secrettest"
)

// knows has memcacheds of this test that run with -S know one user.
func knows(t *testing.T, user, password string) {
	t.Helper()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	add := exec.Command("saslpasswd2", "-p", "-c", "-f", users, "-a", "memcached", "-u", host, user)
	add.Stdin = strings.NewReader(password)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("this test needs saslpasswd2, Debian's package sasl2-bin: %v, %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "memcached.conf"), []byte("mech_list: plain\nsasldb_path: "+users+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SASL_CONF_PATH", dir)
}

// saidInBinary is what a pool of nodes that speak binary alone can be asked.
func saidInBinary() (all []exchange) {
	for _, e := range everyVerb {
		if verb, _, _ := strings.Cut(e.request, " "); verb != "me" && verb != "verbosity" {
			all = append(all, e)
		}
	}
	return all
}

// TestNodesThatAskBySASL is a pool of memcacheds with -S, and with TLS as well, before clients
// of both protocols: they are served as by a memcached that speaks text. One that is killed, or
// stands still, is asked again when it is back.
func TestNodesThatAskBySASL(t *testing.T) {
	knows(t, "magent", "b:r")
	file, ca := users(t, "magent:b:r"), secrettest.New(t)
	node := ca.Issue("node", "node", "127.0.0.1")
	for name, c := range map[string]struct {
		args []string
		conf config.NodeAccess
	}{
		"plain": {[]string{"-S"}, config.NodeAccess{AuthFile: file, Binary: true}},
		"TLS":   {[]string{"-S", "-Z", "-o", "ssl_chain_cert=" + node.Cert + ",ssl_key=" + node.Key}, config.NodeAccess{AuthFile: file, Binary: true, TLS: true, TLSCA: ca.Path()}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, harness.Topology{Copies: 1, Nodes: 2, Loops: 1, NodeArgs: c.args, Set: func(cfg *config.Config) { cfg.Pools[0].Access = c.conf }})
			client := dial(t, p.proxy.Addr)
			converse(t, client, saidInBinary())
			for seed := *seedFlag; seed < *seedFlag+uint64(amount(5, 20, 100)); seed++ {
				g := binaryGenerator{rand.New(rand.NewPCG(seed, 0))}
				s := g.script()
				if diff := p.differBinary(s, someCuts(g.Rand, s.bytes())); diff != "" {
					t.Fatalf("seed %d:\n%s\n%s", seed, s, diff)
				}
			}
			p.proxy.Nodes[0][0].Kill()
			isSeen(t, p.proxy, "down")
			p.proxy.Nodes[0][0].Restart()
			isSeen(t, p.proxy, "up")
			thaws(t, p.proxy, client)
			converse(t, client, saidInBinary())
			unsaid(t, client)
		})
	}
}

// isSeen waits until the first node is in state.
func isSeen(t *testing.T, p *harness.Proxied, state string) {
	t.Helper()
	proctest.Eventually(t, "the node is "+state, func() bool { return p.Server.Snapshot().Nodes[0].State == state })
}

// thaws has the first node stand still until it is down, and wants it asked again when it goes on.
func thaws(t *testing.T, p *harness.Proxied, c *harness.Client) {
	t.Helper()
	sets := func(value string) (failed int) {
		for i := range 8 {
			switch got, err := c.Do(fmt.Sprintf("set thaw%d 0 0 1\r\n%s\r\n", i, value), 1); {
			case err != nil:
				t.Fatal(err)
			case got != "STORED":
				failed++
			}
		}
		return failed
	}
	p.Nodes[0][0].Freeze()
	if sets("1") == 0 {
		t.Error("no key is at the node that stands still")
	}
	p.Nodes[0][0].Thaw()
	isSeen(t, p, "up")
	if failed := sets("2"); failed > 0 {
		t.Errorf("%d sets fail afterwards", failed)
	}
	for i := range 8 {
		converse(t, c, []exchange{{fmt.Sprintf("get thaw%d\r\n", i), fmt.Sprintf("VALUE thaw%d 0 1\n2\nEND", i)}})
	}
}

// unsaid holds what cannot be said to the words of the answer.
func unsaid(t *testing.T, c *harness.Client) {
	t.Helper()
	const why = "CLIENT_ERROR nodes of this pool speak the binary protocol, which cannot say this"
	converse(t, c, []exchange{
		{"mg v t\r\n", why}, {"me v\r\n", why}, {"ms v 1 E7\r\nx\r\n", why}, {"md v I\r\n", why}, {"get v\r\n", "END"},
	})
}

// TestNodesThatDoNotKnowMagent: one with -S that does not know who comes is down, and the
// client is told why; so is one that asks nobody.
func TestNodesThatDoNotKnowMagent(t *testing.T) {
	knows(t, "foo", "bar")
	for _, c := range []struct{ args, why string }{
		{"-S", `was told who comes, and answered "Auth failure.", status 0x20`},
		{"-Bauto", `was told who comes, and answered "Unknown command", status 0x81`},
	} {
		p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 1, NodeArgs: []string{c.args}, Set: func(cfg *config.Config) {
			cfg.Pools[0].Access = config.NodeAccess{AuthFile: users(t, "foo:other"), Binary: true}
		}})
		client := dial(t, p.Addr)
		why := regexp.MustCompile(fmt.Sprintf(`^SERVER_ERROR node [0-9.:]*: (it does not let magent in|down \(it (does not let magent in|%s)\))$`, c.why))
		proctest.Eventually(t, "the client is told why", func() bool { // at first it is down and nobody has said why
			got, err := client.Do("get k\r\n", 1)
			if err != nil || !strings.HasPrefix(got, "SERVER_ERROR node ") {
				t.Fatalf("%q, %v", got, err)
			}
			return why.MatchString(got)
		})
	}
}
