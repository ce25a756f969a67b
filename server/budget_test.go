package server

import "testing"

// A budget gives out its burst, and then a share of the traffic, whether it was asked
// meanwhile or not, and never saves more than the burst.
func TestBudget(t *testing.T) {
	b := budget{share: 0.2, burst: 3, tokens: 3}
	reads := uint64(0)
	taken := func(asks int) (n int) {
		for range asks {
			if b.take(reads) {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		reads      uint64 // answered since the step before
		asks, want int
	}{
		{0, 10, 3},
		{4, 1, 0},
		{1, 2, 1},
		{12, 9, 2},
		{1_000_000, 9, 3},
	} {
		reads += step.reads
		if got := taken(step.asks); got != step.want {
			t.Errorf("after %d reads %d of %d were let through, want %d", reads, got, step.asks, step.want)
		}
	}
}

// When the budgets are used up a late read waits for its node, and one whose node fails
// is not asked again: the client hears why.
func TestBudgetsAreKept(t *testing.T) {
	w := newWorld(t, hedging, 1, 1)
	w.start()
	w.lane.hedges, w.lane.retries = budget{}, budget{}
	w.say("client", "get k1|")
	for range 3 {
		w.tick()
	}
	w.expect("b1 is sent", w.node("b1").conn.sent(), "")
	w.node("p1").conn.end(errLost)
	w.settle()
	w.expect("the client is sent", w.client("client").sent(), "SERVER_ERROR node p1: connection reset|")
	w.expect("b1 is sent", w.node("b1").conn.sent(), "")
	if n := w.loop.count; n.HedgesRefused != 1 || n.RetriesRefused != 1 || n.Hedges != 0 || n.Retries != 0 {
		t.Errorf("the counts are %+v", n)
	}
}
