package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"magent/codec"
	"magent/upstream/health"
)

// lateRig is a rig whose reads are late when two ticks are over.
func lateRig(nodes int) *rig {
	return newRigOf(nodes, Limits{Timeout: 100, Dial: 10, Hedge: 2})
}

func (r *rig) ticks(n int) {
	for range n {
		r.group.Tick()
	}
}

func get(c *Conn, o Owner, seq uint32, key string) {
	c.Get(Pending{Owner: o, Seq: seq, Op: codec.OpGet}, nil, []byte(key))
}

// want compares what e has heard since the last call.
func (e *ear) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if !slices.Equal(e.heard, want) {
		t.Errorf("%s: heard %q, want %q", when, e.heard, want)
	}
	e.heard = nil
}

// A read is told to be late once, the oldest first, whatever comes and goes around it.
func TestLateOnceInOrder(t *testing.T) {
	r := lateRig(1)
	c, _ := r.open(t, 0)
	var e ear
	get(c, &e, 1, "a")
	get(c, &e, 2, "b")
	send(c, &e, 3, codec.OpDelete, "delete c\r\n", keyOfDelete)
	r.ticks(1)
	send(c, &e, 4, codec.OpMetaGet, "mg d v\r\n", codec.Span{Off: 3, Len: 1})
	r.group.Flush()
	r.ticks(1)
	e.want(t, "after two ticks")
	r.ticks(1)
	e.want(t, "after three", `1 "a" late`, `2 "b" late`)
	c.Feed([]byte("END\r\nDELETED\r\n"))
	e.want(t, "answered", `1 "a" end:"END\r\n" `, `2 "b" end:"END\r\n" `, `3 "c" line:"DELETED\r\n" `)
	for i := range 40 { // the ring grows
		get(c, &e, uint32(10+i), "e")
	}
	r.ticks(1)
	e.want(t, "a tick later", `4 "d" late`)
	c.Feed([]byte("EN\r\n"))
	e.heard = nil
	r.group.Flush()
	c.Feed([]byte(strings.Repeat("VALUE e 0 1\r\nx\r\n", 39))) // one is not answered
	e.heard = nil
	r.ticks(1)
	e.want(t, "two ticks later")
	r.ticks(1)
	e.want(t, "and then", `49 "e" late`)
	r.ticks(50)
	e.want(t, "at last")
}

// Only reads are late: another node must not be given anything else as well.
func TestOnlyReadsAreLate(t *testing.T) {
	r := lateRig(1)
	c, _ := r.open(t, 0)
	var e ear
	for op := range codec.NumOps {
		if op != codec.OpNone {
			send(c, &e, uint32(op), op, op.String()+" k\r\n", codec.Span{})
		}
	}
	r.ticks(3)
	e.want(t, "of all operations", fmt.Sprintf(`%d "" late`, codec.OpGet), fmt.Sprintf(`%d "" late`, codec.OpGets),
		fmt.Sprintf(`%d "" late`, codec.OpMetaGet), fmt.Sprintf(`%d "" late`, codec.OpMetaDebug))
}

// The keys of a multi-get are late each by itself; what the owner makes of the leg is
// there when the answer comes, and it asks elsewhere at once.
func TestLateAsksAnother(t *testing.T) {
	r := lateRig(2)
	a, _ := r.open(t, 0)
	b, wb := r.open(t, 1)
	wb.taken()
	var e ear
	e.late = func(_ *Conn, p *Pending) {
		p.Leg = 7
		seq, key := p.Seq, string(p.Key())
		get(b, &e, seq, key)
	}
	for i, key := range []string{"a", "b", "c"} {
		get(a, &e, uint32(i), key)
	}
	r.group.Flush()
	a.Feed([]byte("VALUE b 0 1\r\nx\r\n")) // a is a miss, and c may be one
	e.heard = nil
	r.ticks(3)
	e.want(t, "b has come", `2 "c" late`)
	if p := a.ring.front(); p.Leg != 7 || string(p.Key()) != "c" {
		t.Errorf("the leg of %q is %d", p.Key(), p.Leg)
	}
	r.group.Flush()
	if got := wb.taken(); got != "get c\r\n" {
		t.Errorf("the other node was sent %q", got)
	}
	b.Feed([]byte("VALUE c 0 1\r\ny\r\nEND\r\n"))
	a.Feed([]byte("VALUE c 0 1\r\ny\r\nEND\r\n"))
	answer := `2 "c" value:"VALUE c 0 1\r\n" y` + "\r\n" + `end:"END\r\n" `
	e.want(t, "both answer", answer, answer)
}

// What waits for its connection is late, too; the greeting never is.
func TestLateBeforeTheConnection(t *testing.T) {
	r := lateRig(2)
	c := r.group.Conn(0, 0)
	var e ear
	get(c, &e, 1, "a")
	r.ticks(2)
	get(c, &e, 2, "b")
	_, w := r.accept(t)
	r.group.Flush()
	r.ticks(1)
	e.want(t, "a is older than the connection", `1 "a" late`)
	c.Feed([]byte(r.greeting()))
	r.ticks(2)
	e.want(t, "greeted", `2 "b" late`)
	c.Lost(w, true)
	get(c, &e, 3, "c")
	e.want(t, "lost", "1 fail connection reset sent=true", "2 fail connection reset sent=true")
	r.ticks(3)
	e.want(t, "during the next dial", `3 "c" late`)
	_, w = r.accept(t)
	r.ticks(3)
	e.want(t, "the greeting waits")
	c.Feed([]byte(r.greeting()))
	r.group.Flush()
	c.Feed([]byte("END\r\n"))
	e.want(t, "answered", `3 "c" end:"END\r\n" `)

	// The connection goes and comes while nothing is in flight.
	c.Lost(w, true)
	r.accept(t)
	get(c, &e, 4, "d")
	r.ticks(3)
	e.want(t, "on a connection made again", `4 "d" late`)
}

// An owner that hears of a late read may find its node down, and give up all that is
// awaited from it.
func TestLateEndsItsConn(t *testing.T) {
	r := lateRig(2)
	a, _ := r.open(t, 0)
	b, wb := r.open(t, 1)
	wb.taken()
	var e ear
	e.late = func(*Conn, *Pending) { r.group.Abandon(0) }
	e.fail = func(_ *Conn, p *Pending, _ Cause, _ bool) {
		get(b, &e, p.Seq, string(p.Key()))
		if p.Seq == 2 {
			get(a, &e, 3, "c")
		}
	}
	get(a, &e, 1, "a")
	get(a, &e, 2, "b")
	r.group.Flush()
	r.ticks(3)
	e.want(t, "abandoned", `1 "a" late`, "1 fail down sent=true", "2 fail down sent=true")
	r.group.Flush()
	if got := wb.taken(); got != "get a b\r\n" {
		t.Errorf("the other node was sent %q", got)
	}
	if a.ring.len() != 1 || r.group.Pending() != 3 {
		t.Errorf("%d requests wait for the node, %d in all", a.ring.len(), r.group.Pending())
	}
}

// No delay, no telling.
func TestNothingIsLateWithoutADelay(t *testing.T) {
	r := newRig(1)
	c, _ := r.open(t, 0)
	var e ear
	get(c, &e, 1, "a")
	r.ticks(10)
	e.want(t, "without a delay")
}

// A ring has one of these for each request in flight.
func TestPendingIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Pending{}); size > 56 {
		t.Errorf("a Pending takes %d bytes", size)
	}
}

// A node that is late is given up after Timeout, if another replica can be asked for what
// it was asked first, and after Last if none can, or only one that may lack it. Of two that
// are late at once one is given up first.
func TestTheLastIsSpared(t *testing.T) {
	for _, c := range []struct {
		name  string
		other health.State
		late  bool // the other is, too
		want  []int
	}{
		{"another is up", health.Up, false, []int{11}},
		{"another is slow", health.Slow, false, []int{11}},
		{"another may lack keys", health.Warming, false, []int{41}},
		{"another may be wrong", health.Stale, false, []int{41}},
		{"another is down", health.Down, false, []int{41}},
		{"another is late as well", health.Up, true, []int{11, 41}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRigOf(2, Limits{Timeout: 10, Dial: 10, Last: 40})
			first, _ := r.open(t, 0)
			second, _ := r.open(t, 1)
			r.watch()
			pool := r.group.pool
			pool.Health.Move(1, pool.Health.Load(1), c.other)
			key := "mg YQ== b v\r\n" // what stands in base64 is placed by what it stands for
			send(first, &ear{}, 1, codec.OpMetaGet, key, codec.Span{Off: 3, Len: 4})
			if c.late {
				send(second, &ear{}, 2, codec.OpMetaGet, key, codec.Span{Off: 3, Len: 4})
			}
			r.group.Flush()
			var given []int
			for tick := 1; tick <= 60; tick++ {
				up := pool.Health.Changes()
				r.group.Tick()
				if pool.Health.Changes() > up {
					given = append(given, tick)
				}
			}
			if !slices.Equal(given, c.want) {
				t.Errorf("given up after %v ticks, want %v", given, c.want)
			}
		})
	}
}

// A dial that is too slow is made anew, if the node is spared or nobody waits for it, until
// Last has passed; and not if another can be asked.
func TestSlowDialToTheLast(t *testing.T) {
	for _, c := range []struct {
		name  string
		other health.State
		waits bool // somebody does
		again int  // how often it is dialled anew
	}{
		{"another is up", health.Up, true, 0},
		{"another is down", health.Down, true, 4},
		{"nobody waits", health.Up, false, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRigOf(2, Limits{Timeout: 10, Dial: 100, Last: 40})
			r.watch()
			table := r.group.pool.Health
			table.Move(1, table.Load(1), c.other)
			conn := r.group.Conn(0, 0)
			if r.group.Connect(0); c.waits {
				send(conn, &ear{}, 1, codec.OpGet, "get a\r\n", codec.Span{Off: 4, Len: 1})
			}
			dials := 0
			for ; len(r.dials) > 0 && dials < 10; dials++ {
				d := r.dials[0]
				r.dials = nil
				r.ticks(9)
				d.conn.Refused(d.attempt, CauseSlowDial)
				d.conn.Refused(d.attempt, CauseSlowDial) // which concerns nobody
			}
			if dials != 1+c.again || table.Up(0) {
				t.Errorf("%d dials, want %d; it is %v", dials, 1+c.again, table.Load(0).State())
			}
		})
	}
}

// What has no key, as a greeting has none, says no more of the last node than what has one:
// else a connection that is being made as the last stands still would have all be told errors.
func TestTheLastIsSparedForWhatHasNoKey(t *testing.T) {
	for _, c := range []struct {
		name  string
		greet bool // the node has not answered the greeting
		other health.State
		want  int
	}{
		{"mn, another is up", false, health.Up, 11},
		{"mn, another is down", false, health.Down, 41},
		{"greeting, another is up", true, health.Up, 11},
		{"greeting, another may lack keys", true, health.Warming, 41},
		{"greeting, another is down", true, health.Down, 41},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRigOf(2, Limits{Timeout: 10, Dial: 10, Last: 40})
			r.group.Connect(0)
			conn, _ := r.accept(t)
			r.watch()
			table := r.group.pool.Health
			table.Move(1, table.Load(1), c.other)
			if !c.greet {
				conn.Feed([]byte(r.greeting()))
				send(conn, &ear{}, 1, codec.OpMetaNoop, "mn\r\n", codec.Span{})
			}
			r.group.Flush()
			tick := 0
			for ; table.Up(0) && tick < 60; tick++ {
				r.group.Tick()
			}
			if tick != c.want {
				t.Errorf("given up after %d ticks, want %d", tick, c.want)
			}
		})
	}
}

// A pool of one copy has no last.
func TestNoLastIsSpared(t *testing.T) {
	r := newRigOf(1, Limits{Timeout: 10, Dial: 10, Last: 40})
	c, _ := r.open(t, 0)
	r.watch()
	send(c, &ear{}, 1, codec.OpGet, "get a\r\n", codec.Span{Off: 4, Len: 1})
	r.group.Flush()
	r.ticks(12)
	if c.wire != nil || r.group.pool.Health.Up(0) {
		t.Error("it is waited for")
	}
}
