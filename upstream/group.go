package upstream

import (
	"net"
	"slices"
	"time"

	"magent/codec"
	"magent/upstream/health"
)

// Wire is what a Conn needs of a socket. Write and Writev take everything, now
// or later, and may end the connection before they return, which reaches the
// Conn through Lost. gnet.Conn does all this.
type Wire interface {
	Write(b []byte) (int, error)
	Writev(bs [][]byte) (int, error)
	Close() error
	LocalAddr() net.Addr
}

// Reactor is the event loop that a Group lives on.
type Reactor interface {
	// Dial connects to c's node away from the loop, then calls, on the loop,
	// c.Opened or c.Refused with the same attempt.
	Dial(c *Conn, attempt uint32)
	// Defer asks that Group.Flush be called on the loop once the events at hand
	// have been served.
	Defer()
}

// Owner is who asked: it hears what became of a request. Its methods run on the
// loop; views (b, p.Key, p.Request) die when they return.
//
// For each Pending there is either one Reply that ends it (KindLine, KindMiss,
// KindEnd, KindError), before which there may be Replies of KindValue or
// KindStat, or a Fail, at any point before the end.
type Owner interface {
	// Reply hears one frame from c. A value may be cut short in b: Body brings
	// the rest.
	Reply(c *Conn, p *Pending, r *codec.Reply, b []byte)
	// Body hears more of the value; rest is how many bytes of it, CRLF included,
	// are still to come.
	Body(c *Conn, p *Pending, b []byte, rest int)
	// Fail hears that c will not answer. The request may have been carried out
	// if sent is true.
	Fail(c *Conn, p *Pending, cause Cause, sent bool)
	// Late hears, once, that p, a read (ClassRead), has gone unanswered for longer than
	// Limits says; its end is still to come. The owner may change p.Leg, and may then
	// ask other Conns: p is not to be used after that.
	Late(c *Conn, p *Pending)
}

// Group is one event loop's connections to the nodes of a pool.
type Group struct {
	pool     *Pool
	reactor  Reactor
	limits   Limits
	conns    [][]*Conn // by node, then by number
	dirty    []*Conn
	chunks   chunks
	iov      [][]byte
	segs     []segment
	tick     uint32
	pending  int
	closed   bool
	paces    []pace        // by node
	traffic  []Traffic     // by node
	now      time.Duration // when what is being served came; 0: nothing is, or nobody measures
	micros   uint32        // the same, as of micros
	flushed  time.Duration // when the flush that is under way began to be timed; 0: it has not
	ticked   time.Duration // when the latest tick came
	counts   uint32        // the ticks, and those that they have made up for
	counted  time.Duration // up to when time has been counted there
	rested   bool          // nothing was awaited at the latest tick
	takesE   []bool        // by node: the version that it named last takes the E flag
	explicit bool          // all of takesE, in a pool of several copies
}

// Limits bounds what a Group does.
type Limits struct {
	Conns   int    // connections per node; at least 1
	Timeout uint32 // ticks that the oldest request of a Conn may wait without a byte arriving
	Last    uint32 // the same, if no other replica of its key is as good; less than Timeout: as that
	Dial    uint32 // ticks after which a dial that reported nothing is given up
	Pending int    // requests in flight on one Conn; 0 means DefaultPending
	Hedge   uint32 // ticks without an answer after which a read is late; 0: never

	// HedgeAuto has the reads of a node be late after the p99 of what that takes, at
	// most half of Timeout, instead of after Hedge. It needs a Clock, and samples:
	// before there are 100 no read is late.
	HedgeAuto bool
	Tick      time.Duration        // how long a tick is meant to be; needed with a Clock
	Clock     func() time.Duration // time since some moment; nil: latency is not measured, and no node found slow
	Slow      health.OutlierLimits // which node is slow: as the Monitor has it; needed with a Clock
}

// DefaultPending is the most requests in flight on one Conn.
const DefaultPending = 1 << 17

// NewGroup makes a loop's connections; none is opened before it is needed.
func NewGroup(pool *Pool, reactor Reactor, limits Limits) *Group {
	if limits.Pending == 0 {
		limits.Pending = DefaultPending
	}
	g := &Group{pool: pool, reactor: reactor, limits: limits}
	g.takesE = make([]bool, len(pool.Nodes))
	g.paces = make([]pace, len(pool.Nodes))
	g.traffic = make([]Traffic, len(pool.Nodes))
	for i := range g.paces {
		g.paces[i].outlier = health.NewOutlier(limits.Slow)
		if !limits.HedgeAuto {
			g.paces[i].delay = limits.Hedge
		}
	}
	g.conns = make([][]*Conn, len(pool.Nodes))
	for i, n := range pool.Nodes {
		for range max(1, limits.Conns) {
			g.conns[i] = append(g.conns[i], &Conn{node: n, group: g})
		}
	}
	return g
}

// Conn is the connection to node that a caller with this salt uses: always the
// same, so that the order of one caller's requests to one node is kept.
func (g *Group) Conn(node int, salt uint32) *Conn {
	cs := g.conns[node]
	if len(cs) == 1 {
		return cs[0]
	}
	return cs[salt%uint32(len(cs))]
}

// Connect opens every connection that is not open to node, which is not down. One that
// stayed open while the node was is from now on evidence of the node's new term, unless
// something asked of it before is still unanswered.
func (g *Group) Connect(node int) {
	for _, c := range g.conns[node] {
		if c.wire != nil && c.ring.len() == 0 {
			c.epoch = g.pool.Health.Load(node)
		}
		c.connect()
	}
}

// Spare is how many bytes of chunks wait to be used again.
func (g *Group) Spare() int { return len(g.chunks.free)*chunkSize + g.chunks.bytes }

// Awaits reports whether a request to node has not been answered.
func (g *Group) Awaits(node int) bool {
	return slices.ContainsFunc(g.conns[node], func(c *Conn) bool { return c.ring.len() > 0 })
}

// Abandon hands back all that is awaited from node, which is down.
func (g *Group) Abandon(node int) {
	for _, c := range g.conns[node] {
		c.fail(CauseDown)
	}
}

// Pending is the number of requests in flight.
func (g *Group) Pending() int { return g.pending }

// InFlight is the number of requests in flight to node, and of its open connections.
func (g *Group) InFlight(node int) (requests, open int) {
	for _, c := range g.conns[node] {
		requests += c.ring.len()
		if c.wire != nil {
			open++
		}
	}
	return requests, open
}

// Gather returns memory for a request of exactly size bytes that arrives in
// parts. It is given away with Conn.SendChunk or given back with Release.
func (g *Group) Gather(size int) *Chunk {
	c := g.chunks.get(size)
	c.refs = 1
	return c
}

// Release gives back what Gather returned.
func (g *Group) Release(c *Chunk) { g.chunks.drop(c) }

// Chunks is how many chunks are in use: requests that are in flight, held or being
// gathered lie in them, and every Conn that has sent something keeps one.
func (g *Group) Chunks() int { return g.chunks.out }

// Flush writes what has been sent since the last one, a write per connection.
func (g *Group) Flush() {
	// A failing write moves requests to other connections, which join the list.
	for i := 0; i < len(g.dirty); i++ {
		g.dirty[i].flush()
	}
	clear(g.dirty)
	g.dirty = g.dirty[:0]
	g.flushed = 0
}

// Idle reports whether nothing is awaited, neither an answer nor a connection.
func (g *Group) Idle() bool {
	dialing := func(c *Conn) bool { return c.dialing }
	return g.pending == 0 && !slices.ContainsFunc(g.conns, func(cs []*Conn) bool { return slices.ContainsFunc(cs, dialing) })
}

// Tick tells the group that time has passed, in the unit of Limits. It need not
// be called while the group is idle: an idle clock ages nothing. With a Clock one call
// makes up, for timeouts, for those that came late or not at all, up to mostMadeUp.
func (g *Group) Tick() {
	g.tick++
	g.counts += g.passed()
	for _, cs := range g.conns {
		for _, c := range cs {
			c.check()
		}
	}
	if g.limits.Clock != nil {
		g.judge()
	}
	g.remind()
	g.rested = g.pending == 0
}

// mostMadeUp is how much time a tick counts for at most. Beyond that the loop was held
// up, and no node is to be blamed for it.
const mostMadeUp = 20 * time.Millisecond

// passed is for how many ticks the present one counts. Where processors are scarce each
// comes some milliseconds late, and counted singly they would make a multiple of every
// timeout. If nothing was awaited at the one before, all that is now is younger.
func (g *Group) passed() uint32 {
	if g.limits.Clock == nil {
		return 1
	}
	now, n := g.limits.Clock(), time.Duration(1)
	if !g.rested {
		n = max(1, min(now-g.counted, mostMadeUp)/g.limits.Tick)
	}
	if g.counted += n * g.limits.Tick; g.rested || now-g.counted > g.limits.Tick {
		g.counted = now
	}
	return uint32(n)
}

// Close fails what is in flight and closes the connections, for good.
func (g *Group) Close() {
	g.closed = true
	for _, cs := range g.conns {
		for _, c := range cs {
			c.fail(CauseShutdown)
		}
	}
}

// trip takes c's node down unless it has been down since c was opened. The only
// replica of a pool of one copy is not taken down by a lost connection: there is
// no one else to ask, and the node may well be there. No node is taken down for
// what this process is short of.
func (g *Group) trip(c *Conn, cause Cause) {
	if g.closed || g.pool.Monitor == nil || cause == CauseLocal || cause == CauseReset && g.pool.Alone() {
		return
	}
	g.pool.Monitor.Trip(c.node.Index, c.epoch, cause.String())
}

// Missed takes node down, in whatever term: it has missed a write, and must not be
// read. A Conn that fails takes its node down by itself, but not if the node has gone
// and come back since that was opened, nor for what this process is short of.
func (g *Group) Missed(node int) {
	if !g.closed && g.pool.Monitor != nil {
		g.pool.Monitor.Trip(node, g.pool.Health.Load(node), "it missed a write")
	}
}

// Word is the health word of a node, for callers that report on it.
func (g *Group) Word(node int) health.Word { return g.pool.Health.Load(node) }
