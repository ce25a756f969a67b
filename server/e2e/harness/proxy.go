// Package harness starts what the end-to-end tests talk to: real memcached
// processes, the proxy in front of them, and raw client connections that know
// the bytes and nothing of what they mean. Every function is for tests, blocks
// its caller, and has a deadline; what it starts it ends with the test.
//
// It may import server, config and anything that a test may.
package harness

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server"
	"magent/server/config"
)

// Topology is the shape of a pool: Copies placements of the key space, each over
// Nodes memcacheds, served by Loops event loops.
type Topology struct {
	Copies, Nodes, Loops int
	NodeArgs             []string             // of each memcached
	Set                  func(*config.Config) // changes the configuration before the start; may be nil
}

// patientTimeout is how long a node may take to answer, unless Topology.Set says
// otherwise.
const patientTimeout = 2 * time.Second

// Proxied is a proxy in this process and the memcacheds behind it.
type Proxied struct {
	Addr   string    // of the TCP listener
	Unix   string    // path of the unix socket
	Secure string    // of the listener with TLS; empty: there is none
	Nodes  [][]*Node // by copy, in configuration order
	Server *server.Server
}

// Proxy starts Copies × Nodes memcacheds and a proxy over them.
func Proxy(t testing.TB, top Topology) *Proxied {
	t.Helper()
	cfg := config.Default()
	cfg.Loops, cfg.Pools = top.Loops, []config.Pool{config.DefaultPool()}
	// A node that two busy cores leave waiting is not a node that failed.
	cfg.Pools[0].Timeout, cfg.Pools[0].ConnectTimeout = patientTimeout, patientTimeout
	nodes := make([][]*Node, top.Copies)
	cfg.Pools[0].Copies = make([][]config.Node, top.Copies)
	for i := range nodes {
		for range top.Nodes {
			n := Memcached(t, top.NodeArgs...)
			nodes[i] = append(nodes[i], n)
			cfg.Pools[0].Copies[i] = append(cfg.Pools[0].Copies[i], n.Config())
		}
	}
	if top.Set != nil {
		top.Set(&cfg)
	}
	p := Serve(t, cfg)
	p.Nodes = nodes
	return p
}

// Serve starts a proxy of cfg, listening on a free port and a unix socket, with the routes
// of the first two listeners of cfg if there are such, and on one more with TLS if it has a
// certificate; its log goes to the test's.
func Serve(t testing.TB, cfg config.Config) *Proxied {
	t.Helper()
	p := &Proxied{Unix: filepath.Join(t.TempDir(), "socket")}
	listen := []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}, {Network: "unix", Address: p.Unix}}
	for i := range min(len(cfg.Listen), len(listen)) {
		listen[i].Routes = cfg.Listen[i].Routes
	}
	cfg.Listen = listen
	if cfg.Access.TLSCert != "" {
		cfg.Listen = append(cfg.Listen, config.Listen{Network: "tcp", Address: "127.0.0.1:0", TLS: true})
	}
	var err error
	if p.Server, err = server.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	p.Addr = p.Server.Addrs()[0].String()
	if addrs := p.Server.Addrs(); len(addrs) > 2 {
		p.Secure = addrs[2].String()
	}
	if err := p.Server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		if err := p.Server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return p
}

// Steadily has compare find a difference between the proxy and a memcached, and returns
// it; "" if there is none. One that was found while a node was slow does not count, and
// compare is called anew. A busy machine makes nodes slow, and plain reads then go to
// followers, which are not given what is stale or what mg with N has made. Where a node
// has failed every difference counts.
func (p *Proxied) Steadily(compare func() string) string {
	for try := 0; ; try++ {
		began := time.Now()
		diff := compare()
		if diff == "" || try == steadyTries || !p.slowSince(began) {
			return diff
		}
		proctest.Within(Patience, func() bool { return !p.slowSince(time.Now()) })
	}
}

// steadyTries is how often a node may be slow again when it matters.
const steadyTries = 5

// slowSince reports whether a node has been slow at some time since then, and none has
// ever failed.
func (p *Proxied) slowSince(began time.Time) bool {
	slow := false
	for _, n := range p.Server.Snapshot().Nodes {
		if len(n.Falls) > 0 {
			return false
		}
		slow = slow || n.State == "slow" || n.Epoch > 0 && !n.Since.Before(began)
	}
	return slow
}
