package server

import (
	"log/slog"
	"slices"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/repair"
)

// A key is settled when no former owner has it. A session that is about to change one waits for
// that first, and so does what it sends after it. The order is what keeps old values from
// coming back:
//
//	mover     reads a former owner ──▶ adds here ──▶ looks there again: gone? takes it back
//	writer    former owners lose the key ──▶ writes here ──▶ is answered
//
// A mover that has read before that adds before the writer writes. If its add takes longer than
// two round trips of the writer, it comes after, and is taken back at the look: till then it can
// be read. package converge explores all orders (move_test.go).

// mostTries bounds how often a move that is waited for begins again as another's add was there
// before it: each try takes longer than that one's look.
const mostTries = 4

// move is what a carry has that moves a key.
type move struct {
	from    *formerLane
	slot    int         // in from.moving; -1: none
	settles *settlement // who waits for it; nil: nobody
	tries   int         // how often it has begun again
	done    func(ok bool)
}

// move moves key, which is as written, from node, a former owner, to where it is to be. placed is
// the key as placement sees it.
func (l *lane) move(placed, key []byte, base64 bool, node int) {
	f := l.former
	slot := int(hashKey(placed) % movesAtOnce)
	if f.moving[slot] || l.gate.closed > 0 {
		return // it moves already; or the next read sees to it
	}
	f.moving[slot] = true
	l.beginMove(placed, key, base64, node, &move{from: f, slot: slot})
}

// nobody is the follower of a move that has none: no replica can be written.
const nobody = -1

func (l *lane) beginMove(placed, key []byte, base64 bool, node int, m *move) {
	c := l.takeCarry()
	c.follow.Move(key, repair.Options{Base64: base64, Explicit: l.group.Explicit()})
	c.errand, c.moving, c.again, c.salt = nil, m, false, 0
	m.from.underWay++
	l.gate.effects++ // who comes to lead is to have what was added to who leads
	c.nodes = [2]int{repair.Lead: node, repair.Follower: nobody}
	lead, _ := l.leader(placed, 0, 0)
	if lead == nil {
		c.concluded(repair.Debt)
		return
	}
	c.nodes[repair.Follower] = lead.Node().Index
	c.wish()
}

// moved hears that the move has ended.
func (c *carry) moved(o repair.Outcome) {
	l, m, to := c.lane, c.moving, c.nodes[repair.Follower]
	base64 := c.follow.Options().Base64
	if st := m.settles; st != nil && (o == repair.Absent || o == repair.LeadLost) && st.next() >= 0 {
		c.nodes[repair.Lead] = st.sources[0] // the next one may have it
		c.follow.Move(append(l.movedKey[:0], c.follow.Key()...), c.follow.Options())
		c.wish()
		return
	}
	if o == repair.Overtaken && m.settles != nil && m.tries < mostTries {
		// If the former owners lost it now, another mover would take back what it has added.
		m.tries++
		c.follow.Move(append(l.movedKey[:0], c.follow.Key()...), c.follow.Options())
		c.wish()
		return
	}
	key := append(l.movedKey[:0], c.follow.Key()...)
	c.moving = nil
	c.next, l.carries = l.carries, c
	if m.slot >= 0 {
		m.from.moving[m.slot] = false
	}
	if o == repair.Debt && to != nobody { // it may hold what nobody has looked at again
		l.missed(to, key, base64)
	}
	if o == repair.Copied {
		l.count.Moved++
	}
	// Who had the key before has it in its own right. Else it may be another's add, which that
	// one has yet to look at.
	there := o == repair.Copied || o == repair.Overtaken && m.from.had(l.placedKey(key, base64), to)
	if there {
		l.copyOn(m.from, to, key, base64)
	}
	m.from.underWay--
	l.gate.effected()
	switch {
	case m.settles != nil:
		m.settles.expel()
	case there:
		l.settle(m.from, nil, key, base64, false, m.done)
	case m.done != nil:
		m.done(o != repair.Debt && o != repair.LeadLost)
	}
}

// copyOn has the other replicas of a key that has moved to lead have it, too, but for those that
// had it before.
func (l *lane) copyOn(f *formerLane, lead int, key []byte, base64 bool) {
	placed := slices.Clone(l.placedKey(key, base64))
	nodes := l.replicaList(placed)
	slices.Sort(nodes)
	for _, node := range slices.Compact(nodes) {
		switch {
		case node == lead || f.had(placed, node):
		case !l.pool.Health.Writable(node):
			l.owes(node, key, base64)
		default:
			c := l.takeCarry()
			c.follow.Mend(key, repair.Options{Base64: base64, Explicit: l.group.Explicit()}, repair.CausePlacement)
			c.errand, c.again, c.salt, c.changes = nil, false, 0, l.pool.Health.Changes()
			c.nodes = [2]int{repair.Lead: lead, repair.Follower: node}
			l.gate.effects++
			c.wish()
		}
	}
}

// replicaList is the nodes of all copies of key.
func (l *lane) replicaList(key []byte) []int {
	nodes := l.replicas(key)
	return slices.Clone(nodes[:len(l.pool.Copies)])
}

// had reports whether node of the present pool was a replica of key.
func (f *formerLane) had(key []byte, node int) bool {
	for c := range f.pool.Copies {
		if f.twins[f.pool.Replica(c, key)] == node {
			return true
		}
	}
	return false
}

// placedKey is a key that is as written, as placement sees it. It is good until routeSent is
// called next.
func (l *loop) placedKey(key []byte, base64 bool) []byte {
	return text.RouteKey(key, base64Letter(base64), l.sentKey[:])
}

// settlement is one key being settled, or all keys being given up.
type settlement struct {
	patient
	lane    *lane
	from    *formerLane
	session *session // that waits; nil: none does
	hash    uint64   // of the key
	line    []byte   // what former owners are told
	key     codec.Span
	op      codec.Op
	owners  []int
	sources []int // those that the key may be moved from, the one that it is moved from first
	left    int
	done    func(ok bool) // hears of it too; may be nil
}

// settler is what a session waits for before a command.
type settler struct {
	settling    *settlement // nil: nothing
	settledKeys []uint64    // of the command that is next: these need no more be waited for, by hash
}

// settle has the former owners of key, which is as written, lose it; if brings, it moves before
// that. It reports whether there is anything to be waited for. s, if it is not nil, hears when
// that is done.
func (l *lane) settle(f *formerLane, s *session, key []byte, base64, brings bool, done func(ok bool)) bool {
	placed := l.placedKey(key, base64)
	owners, n := f.owners(l.pool, placed)
	st := &settlement{lane: l, from: f, session: s, op: codec.OpMetaDelete, done: done}
	for _, node := range owners[:n] {
		if !f.lost[node].Load() {
			st.owners = append(st.owners, node)
		}
	}
	if len(st.owners) == 0 {
		if done != nil {
			done(true)
		}
		return false
	}
	f.underWay++
	st.line = appendForget(nil, key, base64Letter(base64))
	st.key = codec.Span{Off: 3, Len: uint32(len(key))}
	if s != nil {
		st.hash, s.settling = longHash(placed), st
	}
	if st.sources = append([]int{-1}, st.owners...); brings && st.next() >= 0 {
		l.beginMove(placed, key, base64, st.sources[0], &move{from: f, slot: -1, settles: st})
	} else {
		st.expel()
	}
	return s == nil || s.settling != nil
}

// next goes on to the next former owner that the key can be moved from; it is -1 if there is
// none.
func (st *settlement) next() int {
	for len(st.sources) > 0 {
		if st.sources = st.sources[1:]; len(st.sources) > 0 && st.lane.readable(st.from, st.sources[0]) {
			return st.sources[0]
		}
	}
	return -1
}

// base64Letter is the flag of a key in base64.
func base64Letter(is bool) (flags codec.Letters) {
	if is {
		flags = codec.Letter('b')
	}
	return flags
}

// expel tells the former owners.
func (st *settlement) expel() {
	st.left = 1 // for this loop over them
	for _, node := range st.owners {
		st.tell(node, 0)
	}
	st.told()
}

// tell tells one, for the try-th time again. One that does not hear it is not asked any more.
func (st *settlement) tell(node int, try uint32) {
	f, l := st.from, st.lane
	if f.pool.Health.Writable(node) {
		c := f.group.Conn(node, 0)
		if c.Send(append(c.Room(len(st.line)), st.line...), upstream.Pending{Owner: st, Seq: try, Op: st.op, Mark: bare(st.op, 0)}, st.key) {
			st.left++
			return
		}
	}
	f.lose(l.srv.log, node)
}

// lose has a former owner not be asked any more.
func (f *former) lose(log *slog.Logger, node int) {
	if !f.lost[node].Swap(true) {
		log.Warn("a node is no longer asked for keys that it had", "node", f.pool.Nodes[node].Name, "cause", "it may not have lost those that were changed")
	}
}

// Reply hears that a former owner has lost it, or does not have it.
func (st *settlement) Reply(c *upstream.Conn, _ *upstream.Pending, r *codec.Reply, _ []byte) {
	if r.Kind == codec.KindError {
		st.from.lose(st.lane.srv.log, c.Node().Index)
	}
	st.told()
}

// Body hears nothing: no value was asked for.
func (*settlement) Body(*upstream.Conn, *upstream.Pending, []byte, int) {}

// Fail hears that a former owner does not answer. It is told once more: to lose a connection says
// little.
func (st *settlement) Fail(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause, _ bool) {
	if p.Seq == 0 && cause == upstream.CauseReset {
		st.tell(c.Node().Index, 1)
	} else {
		st.from.lose(st.lane.srv.log, c.Node().Index)
	}
	st.told()
}

// told counts down those that are yet to answer.
func (st *settlement) told() {
	if st.left--; st.left > 0 {
		return
	}
	st.from.underWay--
	if s := st.session; s != nil && s.settling == st {
		s.settling = nil
		s.settledKeys = append(s.settledKeys, st.hash)
		s.unstall()
	}
	if st.done != nil {
		st.done(true)
	}
}

// settles reports whether a command of s must wait until key is settled, which is as written,
// and has that begin.
func (s *session) settles(l *lane, key []byte, req *codec.Request) bool {
	if s.settling != nil {
		return true
	}
	if l.former == nil || !changes(req) && !(req.Op == codec.OpMetaGet && req.Meta.Has('R')) {
		return false
	}
	base64 := req.Op.Meta() && req.Meta.Has('b')
	placed := l.placedKey(key, base64)
	if _, n := l.former.owners(l.pool, placed); n == 0 || slices.Contains(s.settledKeys, longHash(placed)) {
		return false
	}
	if l.gate.closed > 0 { // those that change items have been held before; this one is a read that may
		return l.gate.holds(s)
	}
	// What the session has asked before is not to be overtaken.
	return s.slots.len() > 0 || l.settle(l.former, s, key, base64, !blind(req), nil)
}

// blind reports whether what req does, and how it is answered, does not depend on what is there.
func blind(req *codec.Request) bool {
	switch req.Op {
	case codec.OpSet:
		return true
	case codec.OpMetaSet:
		return (req.Mode == 0 || req.Mode|0x20 == 's') && !req.Meta.Any(codec.Letter('C')|codec.Letter('I'))
	}
	return false
}

// settlesAll is settles for a flush_all: former owners forget everything, those that are in the
// present pool with that, and the others before. Then nothing is looked for there any more.
func (s *session) settlesAll(req *codec.Request) bool {
	if s.settling != nil {
		return true
	}
	for _, l := range s.routes.lanes {
		f := l.former
		switch {
		case f == nil || req.Op != codec.OpFlushAll || f.flushed:
			continue
		case s.slots.len() > 0: // what the session has asked before is not to be overtaken
			return true
		}
		f.flushed = true
		st := &settlement{lane: l, from: f, session: s, op: codec.OpFlushAll, line: []byte("flush_all\r\n")}
		for node, twin := range f.twins {
			if !f.lost[node].Swap(true) && twin < 0 {
				st.owners = append(st.owners, node)
			}
		}
		if s.settling = st; len(st.owners) > 0 {
			f.underWay++
			st.expel()
		} else {
			s.settling = nil
		}
		if s.settling != nil {
			return true
		}
	}
	return false
}
