package server

import (
	"testing"
	"time"

	"magent/server/config"
)

// A read is late at a node that another loop has just found dead, which this one has
// not heard of yet. It is asked once of the next replica, and answered from there.
func TestLateAtANodeThatIsDown(t *testing.T) {
	for _, c := range []struct{ request, reply string }{
		{"get k1|", "VALUE k1 0 1|a|END|"},
		{"mg k1 v|", "VA 1|a|"},
	} {
		w := newWorld(t, func(c *config.Config) { c.Hedge.After = 2 * time.Millisecond }, 1, 1)
		w.start()
		w.say("early", c.request)
		w.expect("p1 is sent", w.node("p1").conn.sent(), c.request)
		w.loop.pool.Monitor.Trip(0, w.loop.pool.Health.Load(0), "timeout")
		for range 5 {
			w.tick()
		}
		w.expect("b1 is sent when it is late", w.answers("b1", c.reply), c.request)
		w.expect("the early one is sent", w.client("early").sent(), c.reply)
		w.say("later", c.request) // finds the node down, and has all that waits there move on
		w.expect("b1 is sent later", w.answers("b1", c.reply), c.request)
		w.expect("the later one is sent", w.client("later").sent(), c.reply)
		w.expect("the early one is sent besides", w.client("early").sent(), "")
	}
}
