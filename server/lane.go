package server

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"magent/codec"
	"magent/server/config"
	"magent/upstream"
	"magent/upstream/debt"
	"magent/upstream/dial"
	"magent/upstream/health"
	"magent/upstream/repair"
	"magent/upstream/sealed"
)

// lane is what a loop has of one pool: the connections to its nodes, and what is under way
// there, or owed. Like all of the loop, which it is a part of, it is that goroutine's alone.
type lane struct {
	*loop
	conf     *config.Pool
	entry    *entry // how its nodes are reached
	pool     *upstream.Pool
	group    *upstream.Group
	repairs  *repair.Queue
	debts    []*debt.Journal // by node
	former   *formerLane     // where its keys were; nil: nowhere else
	left     *formerLane     // the same, when nothing more is to begin there
	gate     gate
	retries  budget
	hedges   budget
	reads    uint64 // keys that it has answered for
	greeting string // the node version that versions tells
	versions []byte // the answer to version

	converges bool  // writes go to the lead first, and it is looked at again
	parallel  bool  // writes go to all replicas at once
	ackLead   bool  // a write is answered as soon as the lead has it
	maxTTL    int64 // for how many seconds an item may live that clients store; 0 is for ever
}

func newLane(of *loop, p *poolServer) *lane {
	l := &lane{loop: of, conf: p.conf, entry: &p.entry, pool: p.pool}
	l.repairs = repair.NewQueue(repair.Limits{Rate: float64(l.conf.RepairRate) / float64(max(1, l.cfg.Loops))})
	l.parallel = !l.pool.Alone() && l.conf.Writes == config.WritesParallel
	l.converges = !l.pool.Alone() && !l.parallel
	l.ackLead = l.conf.Ack == config.AckLead
	l.maxTTL = int64(l.conf.MaxTTL / time.Second)
	l.retries = budget{share: retryShare, burst: upstream.DefaultPending, tokens: upstream.DefaultPending}
	l.hedges = budget{share: hedgeShare, burst: hedgeBurst, tokens: hedgeBurst}
	for range l.pool.Nodes {
		l.debts = append(l.debts, l.newJournal())
	}
	l.group = upstream.NewGroup(l.pool, l, l.limits())
	return l
}

// laneOf is the lane of a node.
func (l *loop) laneOf(n *upstream.Node) *lane {
	return l.lanes[slices.IndexFunc(l.lanes, func(of *lane) bool { return n.Index < len(of.pool.Nodes) && of.pool.Nodes[n.Index] == n })]
}

func (l *lane) limits() upstream.Limits {
	return upstream.Limits{
		Conns:     l.conf.ConnsPerNode,
		Timeout:   l.beats(l.conf.Timeout),
		Last:      l.beats(health.LastPatience * l.conf.Timeout),
		Dial:      l.beats(l.entry.dialer.Patience() + time.Second),
		Hedge:     l.beats(l.conf.Hedge.After),
		HedgeAuto: l.conf.Hedge.Auto,
		Tick:      l.beat(),
		Slow:      limitsOf(l.conf).Slow,
		Clock:     func() time.Duration { return time.Since(l.srv.started) },
	}
}

// mend begins the repairs that may begin. Those that wait for the rate have ticks
// come.
func (l *lane) mend() {
	if waiting, _ := l.repairs.Len(); waiting > 0 && l.repairs.Run(time.Since(l.srv.started)) > 0 {
		l.busy()
	}
}

// underWay reports whether something is under way that has to have ticks.
func (l *lane) underWay() bool {
	waiting, _ := l.repairs.Len()
	f := l.previous()
	return waiting > 0 || !l.group.Idle() || f != nil && !f.group.Idle()
}

// leader is the connection to the replica that leads key, but for those tried, and
// its copy; nil if none is left. One that is slow leads on: what another proxy, which
// may not find it slow, writes there must meet what is written here.
func (l *lane) leader(key []byte, tried uint8, salt uint32) (*upstream.Conn, uint8) {
	return l.choose(key, tried, salt, health.Slow)
}

// choose is the first replica of key, in copy order and without those tried, that is
// in the state enough or a better one; if there is none, the best that may be read.
// What this loop still awaits from one that is passed over because another loop has
// found it dead moves on first: it was asked before.
func (l *lane) choose(key []byte, tried uint8, salt uint32, enough health.State) (*upstream.Conn, uint8) {
	best, chosen, copy := health.Stale, 0, 0
	for c := range l.pool.Copies {
		node, state := l.pool.State(c, key)
		if state == health.Down && l.group.Awaits(node) {
			key = bytes.Clone(key) // it may lie where those that move on are routed
			l.group.Abandon(node)
		}
		if state < best && tried&(1<<c) == 0 {
			best, chosen, copy = state, node, c
			if state <= enough {
				break
			}
		}
	}
	if best == health.Stale {
		return nil, 0
	}
	return l.group.Conn(chosen, salt), uint8(copy)
}

// replicas is the node of each copy of key.
func (l *lane) replicas(key []byte) (nodes [upstream.MaxCopies]int) {
	for i := range l.pool.Copies {
		nodes[i] = l.pool.Replica(i, key)
	}
	return nodes
}

// mayAskAgain reports whether the only replica may be asked a second time: once,
// when a connection was lost, which says little about the node.
func (l *lane) mayAskAgain(sl *slot, cause upstream.Cause) bool {
	return l.pool.Alone() && cause == upstream.CauseReset && !sl.is(slotAgain) && !l.draining
}

// ask sends a read that another node did not answer to c, as leg.
func (l *lane) ask(c *upstream.Conn, p *upstream.Pending, leg upstream.Leg) bool {
	again := *p
	again.Leg = leg
	if p.Op.Meta() {
		return l.resend(c, &again)
	}
	var arg []byte
	if p.Op == codec.OpGat || p.Op == codec.OpGats {
		arg = gatTime(p.Request())
	}
	return c.Get(upstream.Pending{Owner: p.Owner, Seq: p.Seq, Leg: leg, Op: p.Op}, arg, p.Key())
}

// oldestVersion is told until a node has named its version: the oldest that the
// proxy's requests are made for.
const oldestVersion = "1.6.10"

// version is the answer to version: that of the first node that has told it.
func (l *lane) version() []byte {
	v := oldestVersion
	for _, n := range l.pool.Nodes {
		if got := n.Version(); got != "" {
			v = got
			break
		}
	}
	if v != l.greeting {
		l.greeting, l.versions = v, []byte("VERSION "+v+"\r\n")
	}
	return l.versions
}

// Dial connects c away from the loop.
func (l *lane) Dial(c *upstream.Conn, attempt uint32) {
	l.busy()
	go func() {
		n, to := c.Node(), &link{l.loop, c, attempt}
		nc, err := l.entry.dial(l.srv.ctx, n)
		if t, ok := nc.(*sealed.Conn); ok {
			err = l.enroll(&secured{loop: l.loop, tls: t, link: to}, t.Detach())
		} else if err == nil {
			err = l.enroll(to, nc)
		}
		if err == nil {
			l.srv.log.Debug("node connected", "node", n.Name)
		} else {
			if refused, ok := errors.AsType[dial.Refused](err); ok {
				l.entry.log.Warn("node does not let us in", "node", n.Name, "cause", refused.Error())
			}
			l.do(func() {
				c.Refused(attempt, dialCause(err))
				l.flush()
			})
		}
	}()
}
