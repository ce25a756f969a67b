package upstream

import (
	"time"

	"magent/codec"
)

const (
	// The quantiles stand on seconds: to read them every 16 ticks is often enough.
	delayEvery = 16

	// delaySamples is the least that has a p99.
	delaySamples = 100
)

// remind tells owners of the reads that are late.
func (g *Group) remind() {
	if g.limits.Hedge == 0 && !g.limits.HedgeAuto {
		return
	}
	for i, cs := range g.conns {
		if g.limits.HedgeAuto && (g.tick+uint32(i))%delayEvery == 0 {
			g.paces[i].delay = g.delay(i)
		}
		delay := g.paces[i].delay
		for _, c := range cs {
			if delay > 0 && c.ring.len() > 0 {
				c.late(delay)
			}
		}
	}
}

// delay is the p99 of node in ticks, rounded up, if it has one; but half of the timeout
// at most, to leave another node as much.
func (g *Group) delay(node int) uint32 {
	gauge := &g.paces[node].gauge
	if gauge.Count() < delaySamples {
		return 0
	}
	p99 := (gauge.Quantile(0.99) + g.limits.Tick - 1) / g.limits.Tick
	return uint32(min(p99, time.Duration(g.limits.Timeout/2)))
}

// late tells the owners of reads that have gone unanswered for longer than delay, oldest
// first. Any of them may end c, or have its ring grow. It looks at each request once,
// and never at a greeting: that goes in front of those that it has looked at.
func (c *Conn) late(delay uint32) {
	if int32(c.told-c.ring.tail) < 0 {
		c.told = c.ring.tail
	}
	for c.told != c.ring.head {
		p := c.ring.at(int(c.told - c.ring.tail))
		if c.group.tick-p.at <= delay {
			return
		}
		c.told++
		if p.Op.Class() == codec.ClassRead {
			p.Owner.Late(c, p)
		}
	}
}
