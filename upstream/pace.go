package upstream

import (
	"fmt"
	"time"

	"magent/upstream/health"
	"magent/upstream/latency"
)

// How long nodes take to answer, and what comes of it:
//
//	flush → begin → …the node… → Feed → settle → measure
//	                     Tick → judge → compare
//
// The clock is read once for a flush and once for what is read from a node, not twice for
// each request. All requests are counted in a Histogram. Judged are nodes by one
// request of each Conn at a time, the last of a flush.
//
// A loop that is itself held up keeps answers waiting, and must not blame that on a
// node. Its ticks are held up with it, so they tell: silence is counted in ticks, which
// make up for little (Group.passed), and when a tick is late no node is slow that would
// not be so beside a peer twice as slow as the tick was late, which ends the run of slow
// looks that it takes. What was measured while a tick was late is forgotten before
// another run is long enough.

// pace is what a Group knows of how fast a node is.
type pace struct {
	gauge   latency.Gauge
	outlier health.Outlier
	mean    time.Duration // of late; 0: not known
	silent  time.Duration // for how long it has sent nothing although it owes an answer
	delay   uint32        // ticks after which a read of it is late; 0: none is
}

// freshFor is how long a mean holds; longer only while the node gives no answer that
// could tell otherwise. It is less than a node must have been slow for, so that one slow
// answer does not demote it.
func (g *Group) freshFor() time.Duration { return g.limits.Slow.Patience / 2 }

// timer is what is known of the request of a Conn that is timed.
type timer struct {
	on    bool
	at    uint32 // its place, counted as in ring
	began time.Duration
}

// Traffic is what has come and gone between a Group and a node.
type Traffic struct {
	Took     latency.Histogram // from the flush of a request to what ended its answer
	Received uint64            // bytes
	Sent     uint64            // bytes
	Hits     uint64            // keys that clients asked it for, and it had
	Misses   uint64            // keys that it had not, as the client was told
}

// Add adds what o has counted.
func (t *Traffic) Add(o *Traffic) {
	t.Took.Add(&o.Took)
	t.Received += o.Received
	t.Sent += o.Sent
	t.Hits += o.Hits
	t.Misses += o.Misses
}

// Scored counts a key that a client asked the node of c for, and whether it was there.
func (c *Conn) Scored(hit bool) {
	if t := &c.group.traffic[c.node.Index]; hit {
		t.Hits++
	} else {
		t.Misses++
	}
}

// Traffic is that with node, so far. It goes on being written to.
func (g *Group) Traffic(node int) *Traffic { return &g.traffic[node] }

// Micros is when what is being served came, or else the time, by the Clock, in µs and
// never 0. It starts anew every 71 minutes: between two that are less than that apart the
// difference is right. Without a Clock it is always the same.
func (g *Group) Micros() uint32 {
	switch {
	case g.now != 0:
		return g.micros
	case g.limits.Clock == nil:
		return 1
	}
	return micros(g.limits.Clock())
}

func micros(t time.Duration) uint32 { return max(uint32(t/time.Microsecond), 1) }

// begin notes the time of the requests that are being flushed, which are those behind
// before, and has the last of them timed, unless another is.
func (c *Conn) begin(before uint32) {
	g := c.group
	if g.limits.Clock == nil || before == c.ring.head {
		return
	}
	if g.flushed == 0 {
		g.flushed = g.limits.Clock()
	}
	for now := micros(g.flushed); before != c.ring.head; before++ {
		c.ring.at(int(before - c.ring.tail)).left = now
	}
	if !c.timer.on {
		c.timer = timer{on: true, at: c.ring.head - 1, began: g.flushed}
	}
}

// alike is requests that left with one flush and were answered by one read.
type alike struct {
	left uint32
	n    uint64
}

// hears notes the time of what has been read.
func (c *Conn) hears() {
	if g := c.group; g.limits.Clock != nil {
		g.now = g.limits.Clock()
		g.micros = micros(g.now)
	}
}

// heard is called when that has been served.
func (c *Conn) heard() {
	c.counted()
	c.group.now = 0
}

// measure takes note of how long the request took that is being settled.
func (c *Conn) measure() {
	left := c.ring.front().left
	if left == 0 {
		return
	}
	if c.timer.on && c.timer.at == c.ring.tail {
		c.group.paces[c.node.Index].gauge.Record(c.group.now - c.timer.began)
		c.timer.on = false
	}
	if left != c.alike.left {
		c.counted()
		c.alike.left = left
	}
	c.alike.n++
}

// counted puts the requests that were alike into the histogram.
func (c *Conn) counted() {
	if c.alike.n == 0 {
		return
	}
	d := time.Duration(c.group.micros-c.alike.left) * time.Microsecond
	c.group.traffic[c.node.Index].Took.Record(d, c.alike.n)
	c.alike = alike{}
}

// judge brings what is known of the nodes up to the present, and has those demoted that
// are slow.
func (g *Group) judge() {
	now := g.limits.Clock()
	delayed := now - g.ticked - g.limits.Tick // also after a pause, when nothing was awaited: it does no harm
	g.ticked = now
	for i := range g.paces {
		p := &g.paces[i]
		p.gauge.Tick(now)
		p.mean, p.silent = 0, g.silence(i)
		if p.gauge.Age(now) <= g.freshFor() || p.silent > 0 {
			p.mean = p.gauge.Mean()
		}
	}
	if g.pool.Alone() || g.pool.Monitor == nil {
		return
	}
	for i := range g.paces {
		if w := g.pool.Health.Load(i); w.State() == health.Up {
			g.compare(i, w, now, delayed)
		}
	}
}

// silence is for how long, at the least, node has not sent a byte although it owes an
// answer: the first tick came at once, perhaps.
func (g *Group) silence(node int) time.Duration {
	ticks := uint32(1)
	for _, c := range g.conns[node] {
		if c.ring.len() > 0 {
			ticks = max(ticks, g.counts-c.stamp)
		}
	}
	return time.Duration(ticks-1) * g.limits.Tick
}

// compare has node, whose word is w, demoted if it has been slow beside the best of its
// peers for long enough. The tick of now came late by delayed.
func (g *Group) compare(node int, w health.Word, now, delayed time.Duration) {
	p := &g.paces[node]
	own, peer := max(p.mean, p.silent), time.Duration(0)
	switch {
	case own > g.limits.Slow.Above:
		peer = g.best(g.pool.Peers(node))
	case p.mean == 0:
		return // nothing is known: that it was slow is not refuted
	}
	against := peer
	if peer > 0 {
		against = max(peer, 2*delayed)
	}
	if p.outlier.Look(now, own, against) {
		g.pool.Monitor.Demote(node, w, fmt.Sprintf("slow: %v, peers %v", rounded(own), rounded(peer)))
	}
}

// best is how long the fastest of those nodes that are up takes; 0: that is not known.
// For a node that this loop has not measured of late, the prober's latest stands.
func (g *Group) best(nodes []int) (best time.Duration) {
	for _, i := range nodes {
		p := &g.paces[i]
		takes := p.mean
		if takes == 0 {
			takes = g.pool.Monitor.RTT(i)
		}
		if takes == 0 || !g.pool.Health.Up(i) {
			continue
		}
		if takes = max(takes, p.silent); best == 0 || takes < best {
			best = takes
		}
	}
	return best
}

// rounded leaves of d what people read.
func rounded(d time.Duration) time.Duration {
	if d >= 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}

// Latency is how long node has taken to answer this group's requests: the mean of the
// latest tens of milliseconds in which it did, the p99 of the latest seconds. They are
// 0 if none were timed.
func (g *Group) Latency(node int) (mean, p99 time.Duration) {
	gauge := &g.paces[node].gauge
	return gauge.Mean(), gauge.Quantile(0.99)
}

// recent is how long ago a node may have answered last for its p99 to be one of late.
const recent = time.Second

// AskedOfLate is about how many flushes to node have been answered in the last second or two:
// of one with many requests, and of those that cross, one is counted.
func (g *Group) AskedOfLate(node int) int {
	gauge := &g.paces[node].gauge
	if g.limits.Clock == nil || gauge.Age(g.limits.Clock()) > recent {
		return 0
	}
	return gauge.Count()
}

// P99OfLate is the p99 of node, or 0 if it was not asked for a while: what it was then
// may be long past, as nothing but further answers changes it.
func (g *Group) P99OfLate(node int) time.Duration {
	gauge := &g.paces[node].gauge
	if g.limits.Clock == nil || gauge.Age(g.limits.Clock()) > recent {
		return 0
	}
	return gauge.Quantile(0.99)
}
