package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"magent/codec"
	"magent/server/config"
	"magent/upstream"
	"magent/upstream/dial"
	"magent/upstream/health"
	"magent/upstream/repair"
)

// world is one event loop with clients and nodes that exist in memory only. There
// is no gnet, no socket and no clock: what gnet would do happens when the test says
// so, on the test's goroutine, through the same handler.
type world struct {
	t       testing.TB
	loop    *loop
	lane    *lane // its only one
	tasks   taskQueue
	clients []*fakeConn // in the order they came
	nodes   []*fakeNode
	moves   chan health.Change
	passed  time.Duration // by ticks
	logged  bytes.Buffer  // if slow requests are
	byHand  bool          // greetings are not answered by the world
	names   versionNames
}

// fakeNode is what the world knows of a node.
type fakeNode struct {
	name    string
	conn    *fakeConn     // the connection that is open, or was last
	dials   []fakeDial    // not answered yet
	refuse  bool          // dials are refused
	silent  bool          // dials are left unanswered
	frail   bool          // the first write to the next connection fails
	version string        // what it says it is; 1.6.18 if empty
	life    int           // tells it from itself before it was restarted
	up      chan struct{} // lets one probe succeed
	heal    chan health.Word
	paid    chan bool // what a healing says at its end, on its way to the monitor
	ended   chan bool // what the latest one says to the world; nil before the first
	behind  *honest   // nil if the test makes up the answers
}

type fakeDial struct {
	conn    *upstream.Conn
	attempt uint32
}

// taskQueue is the part of an event loop that runs tasks: later, in order.
type taskQueue struct {
	gnet.EventLoop
	tasks []gnet.Runnable
}

func (q *taskQueue) Execute(_ context.Context, r gnet.Runnable) error {
	q.tasks = append(q.tasks, r)
	return nil
}

// run runs what is queued and what that queues.
func (q *taskQueue) run() {
	for i := 0; i < len(q.tasks); i++ {
		q.tasks[i].Run(context.Background())
	}
	clear(q.tasks)
	q.tasks = q.tasks[:0]
}

// lastByte places a key by its last byte: 1 is the first node, 2 the second.
type lastByte int

func (n lastByte) Pick(key []byte) int {
	if len(key) == 0 {
		return 0
	}
	return int(key[len(key)-1]+byte(n)-'1'%byte(n)) % int(n)
}

// newWorld makes a loop whose pool has copies[i] nodes in copy i: p1 p2 … in the
// first, b1 b2 … in the second, c1 … in the third.
func newWorld(t testing.TB, set func(*config.Config), copies ...int) *world {
	w := &world{t: t, passed: time.Second, moves: make(chan health.Change, 64), names: versionNames{owners: map[uint64]string{}}}
	cfg := config.Default()
	cfg.Pools = []config.Pool{config.DefaultPool()}
	if set != nil {
		set(&cfg)
	}
	var nodes []*upstream.Node
	var places []upstream.Placement
	for i, n := range copies {
		pl := upstream.Placement{Pick: lastByte(n)}
		for j := range n {
			name := fmt.Sprintf("%c%d", "pbc"[i], j+1)
			pl.Nodes = append(pl.Nodes, len(nodes))
			nodes = append(nodes, upstream.NewNode(name, "tcp", name))
			w.nodes = append(w.nodes, &fakeNode{name: name, up: make(chan struct{}),
				heal: make(chan health.Word), paid: make(chan bool)})
		}
		places = append(places, pl)
	}
	pool := upstream.NewPool(nodes, places)
	limits := health.DefaultLimits
	limits.Interval, limits.Hold = 0, 0 // the test says when a node answers, and whether it does
	pool.Monitor = health.NewMonitor(pool.Health, health.Watch{
		Probe: w.probe, Arrive: w.arrive, Heal: w.heal,
		Needed: func(int) bool { return true },
		Notify: func(c health.Change) {
			if c.To != health.Down {
				w.moves <- c
			}
		},
	}, limits)
	pool.Monitor.Start()
	t.Cleanup(pool.Monitor.Close)
	srv := &Server{cfg: cfg, log: slog.New(slog.NewTextHandler(io.Discard, nil)), stopping: make(chan struct{}), unwelcome: func() {}}
	srv.doorman = newDoorman(cfg.Clients, func() time.Duration { return w.passed })
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	t.Cleanup(srv.cancel)
	srv.pools = []*poolServer{{Server: srv, conf: &srv.cfg.Pools[0], log: srv.log, pool: pool,
		entry: entry{conf: new(config.NodeAccess), log: srv.log, dialer: dial.Dialer{Connect: srv.cfg.Pools[0].ConnectTimeout}}}}
	srv.cfg.Listen = make([]config.Listen, 1)
	w.loop = newLoop(srv)
	w.lane = w.loop.lanes[0]
	w.regroup(w.lane.limits())
	if cfg.Slow > 0 {
		srv.log = slog.New(slog.NewTextHandler(&w.logged, &slog.HandlerOptions{ReplaceAttr: unprefixed}))
	}
	w.loop.el = &w.tasks
	w.loop.poll = poller{-1}
	srv.loops = []*loop{w.loop}
	srv.started = time.Now()
	w.stock()
	t.Cleanup(w.over)
	return w
}

// unprefixed leaves the time of a line away, and its level.
func unprefixed(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

// spares is how many carries and inquiries a world's loop has to begin with, more
// than any test has under way at once: so it shows at the end whether all came back.
const spares = 512

func (w *world) stock() {
	carries, inquiries := make([]carry, spares), make([]inquiry, spares)
	for i := range spares {
		carries[i].next, w.loop.carries = w.loop.carries, &carries[i]
		inquiries[i].next, w.loop.inquiries = w.loop.inquiries, &inquiries[i]
	}
}

// over ends the world in whatever state it is, as Shutdown does when its time is
// over, and demands that all that was lent has been given back.
func (w *world) over() {
	if w.t.Failed() {
		return
	}
	w.loop.close()
	w.settle()
	for _, c := range w.clients {
		c.end(errLost)
	}
	w.settle()
	carries, inquiries := 0, 0
	for c := w.loop.carries; c != nil; c = c.next {
		carries++
	}
	for a := w.loop.inquiries; a != nil; a = a.next {
		inquiries++
	}
	if carries != spares || inquiries != spares {
		w.t.Errorf("%d carries and %d inquiries are there at the end, %d of each were to begin with", carries, inquiries, spares)
	}
	if n := w.lane.group.Chunks(); n != 0 {
		w.t.Errorf("%d chunks are still in use", n)
	}
	if n := w.lane.group.Pending(); n != 0 {
		w.t.Errorf("%d requests wait for nodes that will not answer", n)
	}
	if g := &w.lane.gate; g.writing != 0 || g.effects != 0 {
		w.t.Errorf("%d writes and %d effects count as under way", g.writing, g.effects)
	}
	if waiting, running := w.lane.repairs.Len(); waiting+running > 0 {
		w.t.Errorf("%d repairs wait and %d run", waiting, running)
	}
	for _, c := range w.clients {
		if s := c.ctx.(*session); s.slots.len() > 0 || s.asking > 0 || s.holding != 0 {
			w.t.Errorf("%s: %d commands are not answered, %d wait for an heir, %d bytes are held", c.name, s.slots.len(), s.asking, s.holding)
		}
	}
	if n := len(w.loop.sessions); n != 0 {
		w.t.Errorf("%d sessions are left", n)
	}
	w.tally()
}

// tally compares what has been counted in different ways. A client that left early has had
// fewer answers than it sent commands.
func (w *world) tally() {
	count := &w.loop.count
	hits, misses := uint64(0), uint64(0)
	for op, results := range count.Answers {
		if n := sum(results[:]); !codec.Op(op).MultiKey() && n > count.Commands[op] {
			w.t.Errorf("%d %q are answered of %d", n, codec.Op(op), count.Commands[op])
		}
		hits += results[ResultHit]
		misses += results[ResultMiss]
	}
	if hits != count.Hits || misses != count.Misses {
		w.t.Errorf("%d hits and %d misses are answered, %d and %d are counted", hits, misses, count.Hits, count.Misses)
	}
}

// regroup gives the loop connections that the world dials. It does not measure them, as
// nothing takes any time here, unless slow requests are logged: then ticks are what passes.
func (w *world) regroup(limits upstream.Limits) {
	limits.Clock = nil
	if w.loop.witness != nil {
		limits.Clock = func() time.Duration { return w.passed }
		limits.Slow.Above = time.Hour // none is found slow
	}
	w.lane.group = upstream.NewGroup(w.lane.pool, w, limits)
}

// start connects to every node, as Server.Start does.
func (w *world) start() {
	for i := range w.nodes {
		w.lane.group.Connect(i)
	}
	w.settle()
}

// probe is answered when the test says that the node is up.
func (w *world) probe(ctx context.Context, i int) (time.Duration, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-w.nodes[i].up:
		return time.Millisecond, nil
	}
}

// arrive has a node come back as one that has lived through its absence. The test
// waits for it, so the loop may be looked at.
func (w *world) arrive(_ context.Context, i int) (health.State, string, error) {
	w.lane.pool.Nodes[i].SetLife(0) // the next greeting tells
	if w.lane.debts[i].Len() > 0 {
		return health.Stale, "it has missed writes", nil
	}
	return health.Up, "it answers", nil
}

// heal has the test begin the repairs, and waits until it sees them end.
func (w *world) heal(ctx context.Context, i int, seen health.Word) (health.State, string, error) {
	n := w.nodes[i]
	select {
	case n.heal <- seen:
	case <-ctx.Done():
		return health.Down, "", ctx.Err()
	}
	select {
	case paid := <-n.paid:
		if !paid {
			return health.Down, "", errLost
		}
		return health.Up, "its debt is paid", nil
	case <-ctx.Done():
		return health.Down, "", ctx.Err()
	}
}

// Dial and Defer make the world the Reactor of its loop's group.
func (w *world) Dial(c *upstream.Conn, attempt uint32) {
	w.loop.any.busy.Store(true)
	n := w.nodes[c.Node().Index]
	n.dials = append(n.dials, fakeDial{c, attempt})
}

func (w *world) Defer() { w.loop.Defer() }

// settle lets all that is due happen: tasks, the ends of dials, and of healings.
func (w *world) settle() {
	for {
		w.tasks.run()
		if !w.answerDial() && !w.healed() && len(w.tasks.tasks) == 0 {
			return
		}
	}
}

// healed tells the monitor of a healing that has ended, and waits for what it makes of
// it; false if none has.
func (w *world) healed() bool {
	for i, n := range w.nodes {
		select {
		case paid := <-n.ended:
			if w.lane.pool.Health.Load(i).State() != health.Stale {
				return true // it has fallen, and the monitor does not wait
			}
			if n.paid <- paid; paid {
				w.moved(n)
			}
			for deadline := time.Now().Add(10 * time.Second); w.lane.pool.Health.Load(i).State() == health.Stale; runtime.Gosched() {
				if time.Now().After(deadline) {
					w.t.Fatalf("%s stays as it is when its healing has ended", n.name)
				}
			}
			return true
		default:
		}
	}
	return false
}

// answerDial ends one dial; false if none is due.
func (w *world) answerDial() bool {
	for _, n := range w.nodes {
		if len(n.dials) == 0 || n.silent {
			continue
		}
		d := n.dials[0]
		n.dials = n.dials[1:]
		if n.refuse {
			d.conn.Refused(d.attempt, upstream.CauseRefused)
			w.lane.group.Flush()
			w.loop.settle()
			return true
		}
		n.conn = &fakeConn{world: w, name: n.name, ctx: &link{w.loop, d.conn, d.attempt}, broken: n.frail}
		n.frail = false
		n.conn.open()
		if !w.byHand && !n.conn.closed {
			n.conn.writes = n.conn.writes[1:]
			n.conn.traffic([]byte(n.greeting(w.lane.pool.Alone())))
		}
		return true
	}
	return false
}

// greeting is what n answers to what a connection begins with.
func (n *fakeNode) greeting(alone bool) string {
	version := cmp.Or(n.version, oldVersion)
	if alone {
		return "VERSION " + version + "\r\n"
	}
	return fmt.Sprintf("VERSION %s\r\nSTAT pid 7\r\nSTAT uptime 5\r\nSTAT time %d\r\nEND\r\n", version, 1000+n.life)
}

// tick lets time pass.
func (w *world) tick() {
	w.loop.srv.started = w.loop.srv.started.Add(-tick)
	w.passed += tick
	tickTask{w.loop}.Run(context.Background())
	w.settle()
}

// client returns the connection called name, opened now if need be.
func (w *world) client(name string) *fakeConn {
	for _, c := range w.clients {
		if c.name == name {
			return c
		}
	}
	s := newSession(w.loop, 0)
	s.from, _ = w.loop.srv.doorman.enter(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, false)
	c := &fakeConn{world: w, name: name, ctx: s}
	w.loop.any.clients.Add(1)
	w.clients = append(w.clients, c)
	c.open()
	return c
}

func (w *world) node(name string) *fakeNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	w.t.Fatalf("there is no node %q", name)
	return nil
}

// forgive forgets what n owes.
func (w *world) forgive(n *fakeNode) {
	for i := range w.nodes {
		if w.nodes[i] == n {
			w.lane.debts[i].Clear()
		}
	}
}

// revive has the probe of node i succeed and waits until that is known. If it owes
// writes, the loop begins to repair them.
func (w *world) revive(n *fakeNode) {
	deadline := time.After(10 * time.Second)
	select {
	case n.up <- struct{}{}:
	case <-deadline:
		w.t.Fatalf("nobody probes %s", n.name)
	}
	c := w.moved(n)
	w.lane.group.Connect(c.Node)
	if c.To == health.Stale {
		n.ended = make(chan bool, 1) // an earlier healing may not have ended
		alone := !slices.ContainsFunc(w.lane.pool.Peers(c.Node), w.lane.pool.Health.Readable)
		w.lane.heal(c.Node, <-n.heal, alone, n.ended)
		w.lane.group.Flush()
		w.loop.settle()
	}
	w.settle()
}

// moved waits until the monitor has moved n to a state other than Down.
func (w *world) moved(n *fakeNode) health.Change {
	deadline := time.After(10 * time.Second)
	for {
		select {
		case c := <-w.moves:
			if w.nodes[c.Node] == n {
				return c
			}
		case <-deadline:
			w.t.Fatalf("%s does not come back", n.name)
		}
	}
}

// fakeConn is a connection as the handler sees it. What it writes is kept for the
// test to look at. A write to a broken one ends it before it returns, as in gnet.
type fakeConn struct {
	gnet.Conn
	world  *world
	name   string
	ctx    any
	in     []byte
	writes [][]byte // not looked at yet
	deaf   bool     // its peer does not read
	sink   bool     // what is written is not kept
	broken bool     // the next write fails
	closed bool
	ended  bool // closed by the proxy, and the test has not looked
	far    int  // once half-closed: the client's end of the descriptor that Dup gave
}

func (c *fakeConn) Context() any { return c.ctx }

// LocalAddr is no address of TCP, as that of a unix socket is none.
func (c *fakeConn) LocalAddr() net.Addr { return &net.UnixAddr{} }

// RemoteAddr is that of a client, or a node, on this machine.
func (c *fakeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (c *fakeConn) open() {
	if _, action := (handler{}).OnOpen(c); action == gnet.Close {
		c.end(nil)
	}
}

// traffic delivers b, and spoils it afterwards: whoever kept a view will show.
func (c *fakeConn) traffic(b []byte) {
	if c.closed {
		return
	}
	c.in = bytes.Clone(b)
	in := c.in
	handler{}.OnTraffic(c)
	for len(in) > 0 {
		in = in[copy(in, spoilt):]
	}
}

var spoilt = bytes.Repeat([]byte{0xDB}, 64<<10)

func (c *fakeConn) Next(int) ([]byte, error) {
	b := c.in
	c.in = nil
	return b, nil
}

func (c *fakeConn) Write(b []byte) (int, error) { return c.Writev([][]byte{b}) }

func (c *fakeConn) Writev(bs [][]byte) (n int, err error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.broken {
		c.end(syscall.EPIPE)
		return 0, syscall.EPIPE
	}
	if c.sink {
		return 0, nil
	}
	b := bytes.Join(bs, nil)
	c.writes = append(c.writes, b)
	return len(b), nil
}

func (c *fakeConn) OutboundBuffered() (n int) {
	if c.deaf {
		for _, b := range c.writes {
			n += len(b)
		}
	}
	return n
}

// Close ends the connection later, as gnet's does.
func (c *fakeConn) Close() error {
	return c.world.tasks.Execute(context.Background(), gnet.RunnableFunc(func(context.Context) error {
		c.ended = !c.closed
		c.end(nil)
		return nil
	}))
}

// end ends the connection now.
func (c *fakeConn) end(err error) {
	if !c.closed {
		c.closed = true
		handler{}.OnClose(c, err)
	}
}

// Fd is no descriptor: there is no socket to be asked what has come.
func (c *fakeConn) Fd() int { return -1 }

// Dup is what a half-closed client lives on: a real descriptor.
func (c *fakeConn) Dup() (int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	c.far = fds[1]
	c.world.t.Cleanup(func() { unix.Close(fds[1]) })
	return fds[0], nil
}

// take returns what has been written since the last call, write by write, and
// whether the proxy has closed the connection since.
func (c *fakeConn) take() (writes [][]byte, ended bool) {
	if c.deaf {
		return nil, false
	}
	writes, ended = c.writes, c.ended
	c.writes, c.ended = nil, false
	if c.far == 0 {
		return writes, ended
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(c.far, buf)
		if n <= 0 || err != nil {
			if n == 0 {
				ended, c.far = true, 0
			}
			return writes, ended
		}
		writes = append(writes, bytes.Clone(buf[:n]))
	}
}

// sent is all that c has been written since the last look at it.
func (c *fakeConn) sent() string {
	writes, _ := c.take()
	return string(bytes.Join(writes, nil))
}

// wires lists every connection, the nodes' first.
func (w *world) wires() (all []*fakeConn) {
	for _, n := range w.nodes {
		if n.conn != nil {
			all = append(all, n.conn)
		}
	}
	return append(all, w.clients...)
}

// finish demands that nothing is left on a wire, in flight or to be run.
func (w *world) finish() {
	w.t.Helper()
	for _, c := range w.wires() {
		if writes, _ := c.take(); len(writes) > 0 {
			w.t.Errorf("left on the wire of %s: %q", c.name, writes)
		}
	}
	if n := w.lane.group.Pending(); n != 0 {
		w.t.Errorf("%d requests are still in flight", n)
	}
	for s := range w.loop.sessions {
		if s.slots.len() > 0 {
			w.t.Errorf("%d commands of a client are not answered", s.slots.len())
		}
	}
}

var errLost = errors.New("connection reset by peer")

// metric is one of the loop's counters by its name in "stats proxy".
func (w *world) metric(name string) string {
	snap := Snapshot{Counters: w.loop.count, Sessions: uint64(w.loop.any.clients.Load())}
	for line := range strings.Lines(string(proxyStats("proxy", snap, false))) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == name {
			return f[2]
		}
	}
	w.t.Fatalf("there is no metric %q", name)
	return ""
}

// repairs is the state of the loop's queue of repairs, and what it has seen.
func (w *world) repairs() string {
	q := w.lane.repairs
	waiting, running := q.Len()
	n := q.Counts()
	s := fmt.Sprintf("%d wait, %d run", waiting, running)
	for i, c := range n.Asked {
		if c > 0 {
			s += fmt.Sprintf(", %d asked for: %s", c, repair.Cause(i))
		}
	}
	if n.Joined > 0 {
		s += fmt.Sprintf(", %d joined", n.Joined)
	}
	if n.Refused > 0 {
		s += fmt.Sprintf(", %d refused", n.Refused)
	}
	for i, c := range n.Ended {
		if c > 0 {
			s += fmt.Sprintf(", %d ended: %s", c, repair.Outcome(i))
		}
	}
	return s
}
