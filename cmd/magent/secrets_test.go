package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/secret/secrettest"
)

// Files that say who somebody is hold in any directory, as that is left in the background.
func TestSecretsHaveAbsolutePaths(t *testing.T) {
	var f config.Flags
	set := pflag.NewFlagSet("magent", pflag.ContinueOnError)
	f.Bind(set)
	err := set.Parse([]string{"-s", "127.0.0.1", "--auth-file", "a", "--tls-port", "1", "--tls-cert", "b", "--tls-key", "c", "--tls-client-ca", "d",
		"--node-auth-file", "e", "--node-tls", "--node-tls-ca", "f", "--node-tls-cert", "g", "--node-tls-key", "h"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := (&orders{line: set, flags: &f}).settle()
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range s.Config.Paths() {
		if !filepath.IsAbs(*path) || filepath.Base(*path) != string(rune('a'+i)) {
			t.Errorf("path %d is %s", i, *path)
		}
	}
}

// A process that is replaced keeps who has said who he is, and closes who speaks TLS, for whom
// the next one is there.
func TestRestartInPlaceWithSecrets(t *testing.T) {
	t.Parallel()
	ca, nodes := secrettest.New(t), func() []string { n, _ := twoMemcacheds(t); return n }()
	pair, users, secure := ca.Issue("proxy", "localhost", "localhost"), filepath.Join(t.TempDir(), "users"), freeAddr(t)
	if err := os.WriteFile(users, []byte("foo:bar\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := place(t, nodes, "--auth-file", users, "--tls-port", portOf(t, secure), "--tls-cert", pair.Cert, "--tls-key", pair.Key)
	const login = "set login 0 0 7\r\nfoo bar\r\n"
	known := &counter{conn: dialed(t, p.addr, nil)}
	behind := &counter{conn: dialed(t, secure, ca.Client("localhost", secrettest.Pair{}))}
	for _, c := range []*counter{known, behind} {
		c.in = bufio.NewReader(c.conn)
		if err := c.asks("get k\r\n"+login+"get k\r\n", "CLIENT_ERROR unauthenticated", "STORED", "END"); err != nil {
			t.Fatal(err)
		}
	}
	p.restart()
	if err := known.asks("get k\r\n", "END"); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(behind.in); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	again := &counter{conn: dialed(t, secure, ca.Client("localhost", secrettest.Pair{}))}
	again.in = bufio.NewReader(again.conn)
	if err := again.asks(login+"get k\r\n", "STORED", "END"); err != nil {
		t.Error(err)
	}
}

// dialed is a connection to addr, with TLS if cfg is not nil.
func dialed(t *testing.T, addr string, cfg *tls.Config) net.Conn {
	t.Helper()
	var conn net.Conn
	proctest.Eventually(t, fmt.Sprintf("%s is connected to", addr), func() bool {
		var err error
		d := net.Dialer{Timeout: proctest.Patience}
		if conn, err = d.Dial("tcp", addr); err == nil && cfg != nil {
			conn = tls.Client(conn, cfg)
		}
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}
