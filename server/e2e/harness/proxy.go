// Package harness starts what the end-to-end tests talk to: real memcached
// processes, the proxy in front of them, and raw client connections that know
// the bytes and nothing of what they mean. Every function is for tests, blocks
// its caller, and has a deadline; what it starts it ends with the test.
//
// It may import server, config and anything that a test may.
package harness

import (
	"os/exec"
	"path/filepath"
	"testing"

	"magent/server/config"
)

// Topology is the shape of a pool: Copies placements of the key space, each over
// Nodes memcacheds, served by Loops event loops.
type Topology struct {
	Copies, Nodes, Loops int
	Set                  func(*config.Config) // changes the configuration before the start; may be nil
}

// Proxied is a proxy in this process and the memcacheds behind it.
type Proxied struct {
	Addr  string    // of the TCP listener
	Unix  string    // path of the unix socket
	Nodes [][]*Node // by copy, in configuration order
}

// Proxy starts Copies × Nodes memcacheds and a proxy over them.
func Proxy(t testing.TB, top Topology) *Proxied {
	t.Helper()
	p := &Proxied{}
	n := Memcached(t)
	p.Addr = n.Addr
	p.Unix = filepath.Join(t.TempDir(), "s")
	m := &Node{t: t}
	m.args = []string{"-s", p.Unix, "-a", "0777"}
	m.startUnix(p.Unix)
	t.Cleanup(m.Kill)
	return p
}

func (n *Node) startUnix(p string) {
	n.cmd = exec.Command("memcached", append([]string{"-u", "root", "-t", "2", "-m", "64"}, n.args...)...)
	n.dead = Launch(n.t, n.cmd)
	Eventually(n.t, "unix", func() bool {
		c, err := Dial(p)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
