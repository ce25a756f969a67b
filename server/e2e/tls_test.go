package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"magent/server/admin"
	"magent/server/config"
	"magent/server/e2e/harness"
	"magent/server/secret/secrettest"
)

// TestNodesWithTLS is a pool of memcacheds that speak TLS, as Debian's does, and ask who comes
// on top of it. One that is killed comes back empty, and is refilled.
func TestNodesWithTLS(t *testing.T) {
	ca := secrettest.New(t)
	pair := ca.Issue("node", "node", "127.0.0.1")
	file := users(t, "magent:b:r")
	args := []string{"-Y", file, "-Z", "-o", fmt.Sprintf("ssl_chain_cert=%s,ssl_key=%s,ssl_ca_cert=%s,ssl_verify_mode=2", pair.Cert, pair.Key, ca.Path())}
	nodes := [2]*harness.Node{harness.Memcached(t, args...), harness.Memcached(t, args...)}
	cfg := config.Default()
	cfg.Pools = []config.Pool{config.DefaultPool()}
	cfg.Loops, cfg.Pools[0].Copies = 1, [][]config.Node{{nodes[0].Config()}, {nodes[1].Config()}}
	cfg.Pools[0].Timeout, cfg.Pools[0].ConnectTimeout = 2*time.Second, 2*time.Second
	ours := ca.Issue("proxy", "proxy")
	cfg.Pools[0].Access = config.NodeAccess{AuthFile: file, TLS: true, TLSCA: ca.Path(), TLSCert: ours.Cert, TLSKey: ours.Key}
	p := harness.Serve(t, cfg)
	c := dial(t, p.Addr)
	converse(t, c, everyVerb)
	const keys = 500
	storeKeys(t, c, keys)
	comesBack(t, p, nodes[0])
	if d, err := p.Server.Diff(t.Context(), admin.DiffQuestion{}, func(admin.DiffProgress) {}); err != nil || d.Compared < keys || d.Different > 0 {
		t.Errorf("the copies differ: %+v, %v", d, err)
	}
	if e, err := p.Server.Explain(t.Context(), admin.Question{Key: []byte("key-7")}); err != nil || e.Verdict != admin.Agree {
		t.Errorf("%+v, %v", e, err)
	}
	nodes[1].Kill() // so that the other has to have it
	for i := range keys {
		if got, err := c.Do(fmt.Sprintf("get key-%d\r\n", i), 3); err != nil || got != fmt.Sprintf("VALUE key-%d 0 1\n%d\nEND", i, i%10) {
			t.Fatalf("key-%d is %q, %v", i, got, err)
		}
	}
}

// TestTranscriptsOverTLS has every dialog with the proxy over TLS, whole and cut.
func TestTranscriptsOverTLS(t *testing.T) {
	ca := secrettest.New(t)
	pair := ca.Issue("proxy", "localhost", "localhost")
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1, Set: func(c *config.Config) {
		c.Access.TLSCert, c.Access.TLSKey = pair.Cert, pair.Key
	}})
	at := tunnel(t, p.Secure, ca.Client("localhost", secrettest.Pair{}))
	flush, rng := flusher(t, p.Addr), seeded(t, *seedFlag)
	for _, d := range loadTranscripts(t) {
		d.copied = true
		ways := cutsOf(rng, d, false)
		for _, cuts := range ways[:min(len(ways), amount(2, 4, 1000))] {
			if diff := p.Steadily(func() string { return checkEmpty(flush, at, d, cuts) }); diff != "" {
				t.Errorf("%s, %s, cut at %v: %s", d.file, d.name, cuts[:min(len(cuts), 20)], diff)
			}
		}
	}
}

// tunnel listens on a socket, and brings all that comes there to addr over TLS.
func tunnel(t *testing.T, addr string, cfg *tls.Config) (at string) {
	t.Helper()
	ln, err := net.Listen("unix", t.TempDir()+"/tls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				d := tls.Dialer{NetDialer: &net.Dialer{Timeout: harness.Patience}, Config: cfg}
				far, err := d.DialContext(context.Background(), "tcp", addr)
				if err != nil {
					return
				}
				defer far.Close()
				go func() {
					_, _ = io.Copy(far, near)
					_ = far.(*tls.Conn).CloseWrite()
				}()
				_, _ = io.Copy(near, bufio.NewReaderSize(far, 16<<10))
			}()
		}
	}()
	return ln.Addr().String()
}
