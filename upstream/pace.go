package upstream

import (
	"fmt"
	"time"

	"magent/upstream/health"
	"magent/upstream/latency"
)

// How long nodes take to answer, and what comes of it:
//
//	flush → begin → …the node… → settle → measure
//	                     Tick → judge → compare
//
// Of each Conn one request at a time is timed, the last of a flush: the clock is read
// twice per flush at most, not twice per request.
//
// A loop that is itself held up keeps answers waiting, and must not blame that on a
// node. Its ticks are held up with it, so they tell: what is awaited ages by ticks; a
// request that took longer than the ticks it saw is not counted; and no node is slow
// that would not be so beside a peer as slow as the latest tick was late.

// pace is what a Group knows of how fast a node is.
type pace struct {
	gauge   latency.Gauge
	outlier health.Outlier
	mean    time.Duration // of late; 0: not known
	silent  time.Duration // for how long it has sent nothing although it owes an answer
	delay   uint32        // ticks after which a read of it is late; 0: none is
}

// slow says which node is slow. It is the Monitor's word for that, too.
var slow = health.DefaultLimits.Slow

// freshFor is how long a mean holds. It is less than a node must have been slow for, so
// that one slow answer does not demote its node.
var freshFor = slow.Patience / 2

// heldUp is how many ticks a request may miss before the loop counts as held up: parts
// of two, those that it began and ended in, and one for the scheduler.
const heldUp = 3

// timer is what is known of the request of a Conn that is timed.
type timer struct {
	on    bool
	at    uint32 // its place, counted as in ring
	tick  uint32 // the tick it was flushed in
	began time.Duration
}

// begin times the last of the requests that are being flushed, unless another is timed.
func (c *Conn) begin() {
	g := c.group
	if c.timer.on || g.limits.Clock == nil {
		return
	}
	if g.flushed == 0 {
		g.flushed = g.limits.Clock()
	}
	c.timer = timer{on: true, at: c.ring.head - 1, tick: g.tick, began: g.flushed}
}

// measure ends the timing of the request that is being settled.
func (c *Conn) measure() {
	g := c.group
	took := g.limits.Clock() - c.timer.began
	if took <= time.Duration(g.tick-c.timer.tick+heldUp)*g.limits.Tick {
		g.paces[c.node.Index].gauge.Record(took)
	}
	c.timer.on = false
}

// judge brings what is known of the nodes up to the present, and has those demoted that
// are slow.
func (g *Group) judge() {
	now := g.limits.Clock()
	delayed := now - g.ticked - g.limits.Tick
	if !g.awaiting {
		delayed = 0 // ticks need not come while nothing is awaited
	}
	g.ticked, g.awaiting = now, g.pending > 0
	for i := range g.paces {
		p := &g.paces[i]
		p.gauge.Tick(now)
		p.mean, p.silent = 0, g.silence(i)
		if p.gauge.Age(now) <= freshFor {
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
			ticks = max(ticks, g.tick-c.stamp)
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
	case own > slow.Above:
		peer = g.best(g.pool.Peers(node))
	case p.mean == 0:
		return // nothing is known: that it was slow is not refuted
	}
	against := peer
	if peer > 0 {
		against = max(peer, delayed)
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
