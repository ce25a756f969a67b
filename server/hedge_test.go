package server

import (
	"testing"

	"magent/upstream"
)

// A read is late at a node that another loop has found dead meanwhile: it is asked of
// another replica, and answered once.
func TestLateAtANodeThatIsDown(t *testing.T) {
	w := newWorld(t, hedging, 1, 1)
	w.start()
	w.say("client", "get k1|")
	w.expect("p1 is sent", w.node("p1").conn.sent(), "get k1|")
	health := w.lane.pool.Health
	w.lane.pool.Monitor.Trip(0, health.Load(0), "timeout")
	for range 6 {
		w.tick()
	}
	w.expect("b1 is sent", w.answers("b1", "VALUE k1 0 1|x|END|"), "get k1|")
	w.expect("the client is sent", w.client("client").sent(), "VALUE k1 0 1|x|END|")
}

// A node that stands in two copies is not asked a second time for being late.
func TestLateAtANodeInTwoCopies(t *testing.T) {
	w := newWorld(t, hedging, 1, 1)
	for i := range w.lane.pool.Copies {
		w.lane.pool.Copies[i] = upstream.Placement{Nodes: []int{0}, Pick: lastByte(1)}
	}
	w.start()
	w.say("client", "get k1|")
	for range 6 {
		w.tick()
	}
	w.expect("p1 is sent", w.answers("p1", "VALUE k1 0 1|x|END|"), "get k1|")
	w.expect("the client is sent", w.client("client").sent(), "VALUE k1 0 1|x|END|")
}
