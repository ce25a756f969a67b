package server

import (
	"slices"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/debt"
	"magent/upstream/health"
	"magent/upstream/repair"
)

// A node that is away misses writes. One that fails may have missed those that were
// under way to it, or, if it was frozen, carry them out when they are history. So each
// loop keeps, for each node, a journal of the keys of its own writes that the node may
// not have: its debt. When the node is back, and written again, each loop repairs
// there the keys of its own journals, and until that is done nobody reads the node.

// maxDebts is how many keys are remembered for each node.
const maxDebts = 1 << 20

// owes notes that node, which is down, does not get a write of key.
func (l *lane) owes(node int, key []byte, base64 bool) {
	l.debts[node].Note(key, base64)
	l.count.Missed++
}

// missed notes that node may not have what became of a write of key. If it is not
// down, it is taken down: nothing else keeps it from being read.
func (l *lane) missed(node int, key []byte, base64 bool) {
	if l.pool.Alone() {
		return
	}
	l.owes(node, key, base64)
	l.group.Missed(node)
}

// mayHaveMissed is missed for the write, or the read that changes its item, p.
func (l *lane) mayHaveMissed(node int, p *upstream.Pending) {
	key, base64 := written(p)
	l.missed(node, key, base64)
}

// written is the key of p, as written. The view is good as long as p's are.
func written(p *upstream.Pending) (key []byte, base64 bool) {
	if !p.Op.Meta() {
		return p.Key(), false
	}
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	return req.Key.In(line), req.Meta.Has('b')
}

// diverge notes that lead failed with the write p, and may have carried it out. If
// another replica leads on, what that has counts, and lead owes it. If none does,
// nobody has gone on without lead: what lead has counts, and the others owe that.
func (l *lane) diverge(lead int, led bool, p *upstream.Pending) {
	if l.pool.Alone() {
		return
	}
	key, base64 := written(p)
	if led {
		l.missed(lead, key, base64)
		return
	}
	nodes := l.replicas(l.routeKey(p))
	for _, node := range nodes[:len(l.pool.Copies)] {
		if node != lead {
			l.missed(node, key, base64)
		}
	}
}

// missedAll notes that node has missed a write of all keys.
func (l *lane) missedAll(node int) {
	if !l.pool.Alone() {
		l.debts[node].Forfeit()
		l.group.Missed(node)
	}
}

// setAside takes node's journal, and begins another.
func (l *lane) setAside(node int) *debt.Journal {
	was := l.debts[node]
	l.debts[node] = l.newJournal()
	return was
}

// putBack has what was set aside join what has come since.
func (l *lane) putBack(node int, aside *debt.Journal) {
	if aside.Overflowed() {
		l.debts[node].Forfeit()
	}
	for {
		key, base64, ok := aside.Next()
		if !ok {
			return
		}
		l.debts[node].Note(key, base64)
	}
}

func (l *lane) newJournal() *debt.Journal {
	n := max(1, l.cfg.Loops)
	return debt.NewJournal(maxDebts/n, l.conf.DebtLimit/n)
}

// healing is a loop's part in the healing of one node. It belongs to its loop.
type healing struct {
	lane    *lane
	node    int
	word    health.Word // the node's, for as long as it is worth going on
	giveUp  bool        // what nobody leads is deleted there: it may be old
	running int         // keys being repaired
	filling bool        // more is at work
	stuck   bool        // nobody leads a key, and it is not given up
	done    chan<- bool // hears once whether the debt is paid
}

// healAtOnce bounds the keys that a loop repairs at once at one node.
const healAtOnce = 64

// heal repairs at node, which became Stale with word, the keys of its journal, and
// then says on done whether none is left.
func (l *lane) heal(node int, word health.Word, giveUp bool, done chan<- bool) {
	h := &healing{lane: l, node: node, word: word, giveUp: giveUp, done: done}
	h.more()
}

// more begins further repairs, as many as may run.
func (h *healing) more() {
	l := h.lane
	debt := l.debts[h.node]
	h.filling = true
	for !h.stuck && h.running < healAtOnce && l.pool.Health.Load(h.node) == h.word {
		key, base64, ok := debt.Next()
		if !ok {
			break
		}
		h.running++
		l.mendKey(h, h.node, key, base64, repair.CauseDebt, h.giveUp)
	}
	h.filling = false
	if h.running == 0 {
		h.done <- l.pool.Health.Load(h.node) == h.word && debt.Len() == 0 && !debt.Overflowed()
	}
}

// ended hears that one repair has ended, however it did: a key that is still owed is
// in the journal again, and the node is down.
func (h *healing) ended(repair.Outcome) {
	if h.running--; !h.filling {
		h.more()
	}
}

// leaderless keeps key, which has nobody to be copied from, for another time.
func (h *healing) leaderless(key []byte, base64 bool) {
	h.lane.debts[h.node].Note(key, base64)
	h.stuck = true
}

// errand is who has keys repaired although nobody has just written them.
type errand interface {
	// leaderless hears, before the end, that nobody leads key, or that its lead was lost.
	leaderless(key []byte, base64 bool)
	// ended hears that the repair of one key has ended.
	ended(o repair.Outcome)
}

// mendKey repairs key at node for e. With giveUp, node's copy of a key that nobody leads
// is deleted; that of a key that it is no longer to have is in any case.
func (l *lane) mendKey(e errand, node int, key []byte, base64 bool, cause repair.Cause, giveUp bool) {
	c := l.takeCarry()
	c.follow.Mend(key, repair.Options{Base64: base64, Explicit: l.group.Explicit()}, cause)
	c.errand, c.again, c.salt, c.changes = e, false, 0, l.pool.Health.Changes()
	c.nodes = [2]int{repair.Lead: node, repair.Follower: node}
	nodes := l.replicas(l.placedKey(key, base64))
	switch lead := c.leader(); {
	case !slices.Contains(nodes[:len(l.pool.Copies)], node):
		c.giveUp()
	case lead != nil && lead.Node().Index == node: // Warming, and nobody has more
		c.concluded(repair.Overtaken)
	case lead != nil:
		c.nodes[repair.Lead] = lead.Node().Index
		c.wish()
	case giveUp:
		c.giveUp()
	default:
		c.concluded(repair.LeadLost)
	}
}
