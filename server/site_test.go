package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/server/config"
	"magent/server/succession"
	"magent/upstream/fleet"
	"magent/upstream/health"
	"magent/upstream/memnode"
	"magent/upstream/repair"
)

// A site is nodes in this process, and what magents in front of them are given.
type site struct {
	t     *testing.T
	nodes []*memnode.Node
	cfg   config.Config
	times times
}

// newSite starts copies[i] nodes for copy i. Its magents look at them often, and are in no
// hurry to find one dead that is merely slow, as anything may be on a busy machine.
func newSite(t *testing.T, copies ...int) *site {
	t.Helper()
	at := &site{t: t, cfg: config.Default(), times: defaultTimes}
	at.cfg.Pools = []config.Pool{config.DefaultPool()}
	at.times.debtor, at.times.settled = time.Second, 50*time.Millisecond
	at.times.fleet = fleet.Times{TTL: 3 * time.Second, Poll: 20 * time.Millisecond, Lead: 100 * time.Millisecond}
	at.cfg.Pools[0].Copies, at.cfg.Loops = make([][]config.Node, len(copies)), 2
	at.cfg.Pools[0].ProbeInterval, at.cfg.Pools[0].Timeout, at.cfg.Pools[0].ConnectTimeout = 20*time.Millisecond, 2*time.Second, 2*time.Second
	at.cfg.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}
	for i, n := range copies {
		for range n {
			m := startNode(t, memnode.Config{})
			at.nodes = append(at.nodes, m)
			at.cfg.Pools[0].Copies[i] = append(at.cfg.Pools[0].Copies[i], nodeAt(t, m.Addr()))
		}
	}
	return at
}

func startNode(t *testing.T, cfg memnode.Config) *memnode.Node {
	t.Helper()
	m, err := memnode.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// magent starts one more in front of the nodes.
func (at *site) magent() *Server {
	at.t.Helper()
	s := at.build(at.cfg)
	at.serve(s)
	return s
}

// build makes a magent that does not hold a node down for having failed before.
func (at *site) build(cfg config.Config) *Server { return at.buildOn(nil, cfg) }

// buildOn is build on sockets that are open already.
func (at *site) buildOn(given *succession.Sockets, cfg config.Config) *Server {
	at.t.Helper()
	s, err := newServer(cfg, slog.New(slog.NewTextHandler(at.t.Output(), nil)), at.times, given)
	if err != nil {
		at.t.Fatal(err)
	}
	for _, p := range s.pools {
		limits := limitsOf(p.conf)
		limits.Hold = 0
		p.pool.Monitor = health.NewMonitor(p.pool.Health, p.watch(), limits)
	}
	return s
}

func (at *site) serve(s *Server) {
	at.t.Helper()
	if err := s.Start(); err != nil {
		at.t.Fatal(err)
	}
	at.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			at.t.Error(err)
		}
	})
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if waitFor(ctx, holds) != nil {
		t.Fatalf("it never is so that %s", what)
	}
}

// trusted waits until all of the magents read all nodes.
func trusted(t *testing.T, magents ...*Server) {
	t.Helper()
	eventually(t, "all nodes are up", func() bool {
		for _, s := range magents {
			for _, k := range s.keepers() {
				if k.srv.pool.Health.Load(k.node.Index).State() != health.Up {
					return false
				}
			}
		}
		return true
	})
}

// restart has a node come back empty, once all of the magents have found it dead.
func (at *site) restart(node int, magents ...*Server) {
	at.t.Helper()
	at.nodes[node].Kill()
	for _, s := range magents {
		s.awaits(at.t, node, health.Down)
	}
	if err := at.nodes[node].Restart(); err != nil {
		at.t.Fatal(err)
	}
}

// mix is key i of a test, of which each copy places some on each of its nodes.
func mix(i int) string { return fmt.Sprintf("key:%05d", i) }

// fill stores n keys through s, with values that tell who they are.
func (s *Server) fill(t *testing.T, n int) {
	t.Helper()
	c := s.caller(t)
	c.conn.SetDeadline(time.Now().Add(time.Minute))
	var out bytes.Buffer
	for from := 0; from < n; from += 500 {
		out.Reset()
		to := min(from+500, n)
		for i := from; i < to; i++ {
			fmt.Fprintf(&out, "set %s 0 0 %d\r\n%d\r\n", mix(i), len(fmt.Sprint(i)), i)
		}
		if _, err := c.conn.Write(out.Bytes()); err != nil {
			t.Fatal(err)
		}
		for range to - from {
			if line, err := c.in.ReadString('\n'); err != nil || line != "STORED\r\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	}
}

// holds wants the values of the n keys of fill at all replicas, but for those of other:
// of these the value there, and none if it is "".
func (at *site) holds(s *Server, n int, other map[int]string) {
	at.t.Helper()
	faults := 0
	for i := range n {
		want, is := other[i]
		if !is {
			want = fmt.Sprint(i)
		}
		for c := range s.pools[0].pool.Copies {
			node := s.pools[0].pool.Replica(c, []byte(mix(i)))
			item, there := at.nodes[node].Get(mix(i))
			if string(item.Value) == want && there == (want != "") {
				continue
			}
			if faults++; faults <= 5 {
				at.t.Errorf("%s is %q at node %d (there: %v), want %q", mix(i), item.Value, node, there, want)
			}
		}
	}
	if faults > 5 {
		at.t.Errorf("%d keys are not as they should be", faults)
	}
}

// midway waits until s has copied some keys to node i, and not all.
func (s *Server) midway(t *testing.T, i int) {
	t.Helper()
	eventually(t, "the refill is on its way", func() bool {
		p := s.pools[0].keepers[i].progress.Load()
		return p != nil && p.Total > 0 && p.Done > p.Total/10
	})
	if p := s.pools[0].keepers[i].progress.Load(); p == nil || p.Done > p.Total*9/10 {
		t.Fatalf("the refill is over before the test has looked: %+v", p)
	}
}

// leased reports whether somebody has the lease for refilling node 0, which is kept on the
// other.
func (at *site) leased() bool {
	_, leased := at.nodes[1].Get(fmt.Sprintf("%srefill:%s:%016x", fleet.Prefix, at.nodes[0].Addr(), at.mark(0).Life))
	return leased
}

// A byway leads to a node beside the way that others take.
type byway struct {
	node string
	ln   net.Listener

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newByway(t *testing.T, node string) *byway {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &byway{node: node, ln: ln, conns: map[net.Conn]bool{}}
	var served sync.WaitGroup
	served.Go(func() { r.accept(&served) })
	t.Cleanup(func() {
		ln.Close()
		r.sever(true)
		served.Wait()
	})
	return r
}

func (r *byway) accept(served *sync.WaitGroup) {
	for {
		near, err := r.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", r.node)
		if err != nil || !r.keep(near, far) {
			near.Close()
			if far != nil {
				far.Close()
			}
			continue
		}
		for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
			served.Go(func() {
				buf := make([]byte, 16<<10)
				for n, err := from.Read(buf); err == nil; n, err = from.Read(buf) {
					to.Write(buf[:n])
				}
				near.Close()
				far.Close()
			})
		}
	}
}

// keep notes connections, unless the byway is cut.
func (r *byway) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.conns[c] = true
	}
	return !r.cut
}

// sever breaks all connections and takes no more, or takes them again.
func (r *byway) sever(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

// around starts a magent that reaches a node by a byway of its own. What it and the others
// tell each other of the node is told by the node's own name.
func (at *site) around(node int) (*Server, *byway) {
	at.t.Helper()
	r := newByway(at.t, at.nodes[node].Addr())
	cfg := at.cfg
	cfg.Pools = slices.Clone(cfg.Pools)
	cfg.Pools[0].Copies = make([][]config.Node, len(at.cfg.Pools[0].Copies))
	real := nodeAt(at.t, at.nodes[node].Addr())
	for c, list := range at.cfg.Pools[0].Copies {
		for _, n := range list {
			if n == real {
				n = nodeAt(at.t, r.ln.Addr().String())
			}
			cfg.Pools[0].Copies[c] = append(cfg.Pools[0].Copies[c], n)
		}
	}
	s := at.build(cfg)
	s.pools[0].keepers[node].debtors.ledger = fleet.NewLedger(fleet.LedgerConfig{Address: at.nodes[node].Addr(), Sources: s.pools[0].sourcesOf(node), ID: s.id,
		Lead: at.times.settled, Patience: at.times.debtor})
	at.serve(s)
	return s, r
}

// A crowd reads keys all the time, and finds out what is older than it may be, or gone.
// Write n of a key, counted from 1, stores the number n if it is odd, and deletes if even.
type crowd struct {
	t            *testing.T
	begun, acked []atomic.Int64 // by key: the last write that was begun, or acknowledged
	over         chan struct{}
	all          sync.WaitGroup
	reads        atomic.Int64
	stale, gone  atomic.Int64
}

func newCrowd(t *testing.T, keys int) *crowd {
	return &crowd{t: t, begun: make([]atomic.Int64, keys), acked: make([]atomic.Int64, keys), over: make(chan struct{})}
}

// write does the next write of key i.
func (c *crowd) write(w *caller, i int) {
	c.t.Helper()
	n := c.begun[i].Add(1)
	if n%2 == 1 {
		w.wants(fmt.Sprintf("set crowd:%d 0 0 %d\r\n%d", i, len(fmt.Sprint(n)), n), "STORED")
	} else if got := w.line(fmt.Sprintf("delete crowd:%d", i)); got != "DELETED" && got != "NOT_FOUND" {
		c.t.Errorf("a delete: %q", got)
	}
	c.acked[i].Store(n)
}

// visit has a reader come to each of the magents, once a millisecond.
func (c *crowd) visit(magents ...*Server) {
	for _, s := range magents {
		conn := s.caller(c.t)
		c.all.Go(func() { c.read(conn) })
	}
	c.t.Cleanup(func() { c.leave() })
}

func (c *crowd) read(conn *caller) {
	beat := time.NewTicker(time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case <-c.over:
			return
		case <-beat.C:
		}
		i := rand.IntN(len(c.acked))
		acked := c.acked[i].Load()
		conn.conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(conn.conn, "mg crowd:%d v\r\n", i); err != nil {
			c.t.Errorf("a reader: %v", err)
			return
		}
		line, err := conn.in.ReadString('\n')
		var got int64
		if err == nil && line != "EN\r\n" {
			_, err = fmt.Fscanf(conn.in, "%d\r\n", &got)
		}
		begun := c.begun[i].Load()
		switch {
		case err != nil:
			c.t.Errorf("a reader: %q, %v", line, err)
			return
		case got == 0 && acked%2 == 1 && begun == acked:
			c.gone.Add(1)
		case got != 0 && got < acked:
			c.stale.Add(1)
		}
		c.reads.Add(1)
	}
}

// leave ends it, and wants that nobody has read anything stale or missed anything.
func (c *crowd) leave() {
	select {
	case <-c.over:
		return
	default:
	}
	close(c.over)
	c.all.Wait()
	if c.stale.Load()+c.gone.Load() > 0 || c.reads.Load() == 0 {
		c.t.Errorf("of %d reads %d were stale, and %d missed what is there", c.reads.Load(), c.stale.Load(), c.gone.Load())
	}
}

// shutDown ends a magent before its time.
func (at *site) shutDown(s *Server) {
	at.t.Helper()
	if err := s.Shutdown(at.t.Context()); err != nil {
		at.t.Error(err)
	}
}

// repairsOfDebt is how many keys s has begun to repair for what nodes had missed.
func (s *Server) repairsOfDebt() uint64 {
	return s.Snapshot().Repairs.Asked[repair.CauseDebt]
}
