package server

import (
	"bytes"
	"slices"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/converge"
	"magent/upstream/health"
	"magent/upstream/repair"
	"magent/upstream/token"
)

// carry is the effect of one write on its way to one follower: converge.Follow says
// what is sent next, and carry sends it, hears the answer, and tells the session
// when the follower is known to hold the write. The second look, and the repair if
// there has to be one, go on after that, off the client's path. It belongs to its
// loop, and there is one for each write and follower under way.
type carry struct {
	patient
	lane    *lane
	follow  converge.Follow
	nodes   [2]int           // by repair.Side
	salt    uint32           // which of several Conns is used
	session *session         // whose slot waits; nil if none does, or no longer
	seq     uint32           // the slot
	write   upstream.Pending // held for the session: the lead may die before a follower has it
	line    []byte           // the VA line whose value is being gathered
	value   *upstream.Chunk
	job     repair.Job
	running bool   // its job's turn has come
	again   bool   // the job is to repair from another lead than the first one
	moving  *move  // it moves a key: its lead is a former owner; nil: it does not
	errand  errand // who has the key repaired; nil if it is a write that is carried
	changes uint64 // of the health table when it began
	next    *carry
}

// scratchSize holds the longest request that is made in scratch.
const scratchSize = text.MaxLine + leadRoom

func (l *lane) takeCarry() *carry {
	c := l.carries
	if c == nil {
		c = new(carry)
	} else {
		l.carries, c.next = c.next, nil
	}
	c.lane = l
	return c
}

// carryAll starts the effect e of the write w, which the copy lead has carried out,
// at every other replica of key, which is w's as placement sees it. p is the lead's
// request, good for this call, and holds the value behind its line. If s is not nil,
// the slot p.Seq waits for the followers.
func (l *lane) carryAll(e converge.Effect, w *converge.Write, key []byte, p *upstream.Pending, lead uint8, salt uint32, s *session) {
	nodes := l.replicas(key)
	leadNode, changes := nodes[lead], l.pool.Health.Changes()
	w.At = timeAt(l.pool.Nodes[leadNode])
	if l.overtaken(nodes[:lead], leadNode) {
		changes-- // it has moved already
	}
	for i, node := range nodes[:len(l.pool.Copies)] {
		if i == int(lead) || node == leadNode {
			continue
		}
		if !l.pool.Health.Writable(node) {
			l.owes(node, w.Request.Key.In(w.Line), w.Request.Meta.Has('b'))
			continue
		}
		c := l.takeCarry()
		l.gate.effects++
		c.nodes, c.salt, c.again = [2]int{repair.Lead: leadNode, repair.Follower: node}, salt, false
		c.changes = changes
		w.Asked, w.Version = false, 0
		if s != nil {
			sl := s.slots.at(p.Seq)
			sl.left++
			c.session, c.seq = s, p.Seq
			c.write = l.group.Retain(p)
			if sl.is(slotAsked) && sl.heir == uint8(i) {
				v := decode(sl.version, l.group.Conn(node, salt), sl.heir)
				if v != token.Foreign { // else it was restarted since
					w.Asked, w.Version = true, v
				}
			}
		}
		line, step := c.follow.Start(l.scratch[:0], e, w)
		c.advance(line, step, p)
	}
}

// overtaken reports whether one of those before the node lead leads in its place by
// now: it has come back since the write was sent.
func (l *lane) overtaken(before []int, lead int) bool {
	return slices.ContainsFunc(before, func(node int) bool {
		return node != lead && l.pool.Health.Load(node).State() <= health.Slow
	})
}

// advance does what step says with the request in line. from is the lead's request,
// whose value may be wanted; it may be nil after the first step.
func (c *carry) advance(line []byte, step repair.Step, from *upstream.Pending) {
	for {
		// Who is told may use scratch, where line is: that has to be sent by then.
		posted := step.Outcome == repair.Running && c.post(line, step, from)
		c.heed(step)
		switch {
		case posted:
			return
		case step.Outcome == repair.Needed:
			c.wish()
			return
		case step.Outcome != repair.Running:
			c.ended(step.Outcome)
			return
		}
		line, step = c.lost(step)
	}
}

// lost goes on without the node that step is for, which takes no request. A follower
// that is up and takes none is full: it misses a write, and must not be read. If it
// is the lead that is full, nobody can tell what the follower should have.
func (c *carry) lost(step repair.Step) ([]byte, repair.Step) {
	l, node := c.lane, c.nodes[step.To]
	switch {
	case c.moving != nil:
	case !l.pool.Health.Writable(node):
	case step.To == repair.Lead: // it is there, and leads on
		return c.follow.Drop(l.scratch[:0])
	default:
		l.group.Conn(node, c.salt).Overflow()
	}
	return c.follow.Lost(l.scratch[:0])
}

// heed tells all who wait if the follower now holds the write.
func (c *carry) heed(step repair.Step) {
	if !step.Held {
		return
	}
	c.acknowledge(false)
	if c.running {
		c.lane.repairs.Held(&c.job)
	}
}

// acknowledge tells the slot that waits, and gives up the write that was held for it.
func (c *carry) acknowledge(lost bool) {
	if s := c.session; s != nil {
		write := c.write // c may be another write's when carried returns
		c.session, c.write = nil, upstream.Pending{}
		if w := s.loop.witness; w != nil {
			w.hears(s, c.seq, c.lane.pool.Nodes[c.nodes[repair.Follower]], &write, false)
		}
		s.carried(c.seq, &write, lost)
		c.lane.group.Drop(&write)
	}
}

// wish asks for a repair. The queue sees to it that one key is repaired once at a
// time. If it is full, the follower's copy is given up.
func (c *carry) wish() {
	l := c.lane
	c.job = repair.Job{Key: c.follow.Key(), Base64: c.follow.Options().Base64, Lead: c.nodes[repair.Lead], Follower: c.nodes[repair.Follower],
		Cause: c.follow.Cause(), Urgent: c.session != nil || c.moving != nil && c.moving.settles != nil, Alone: c.follow.Alone(), Owner: c}
	switch {
	case l.repairs.Add(&c.job):
	case c.moving != nil: // what the follower has is newer, if it has anything
		c.concluded(repair.Dropped)
	default:
		c.giveUp()
	}
}

// giveUp has the follower give up its copy.
func (c *carry) giveUp() {
	line, step := c.follow.Drop(c.lane.scratch[:0])
	c.advance(line, step, nil)
}

// Begin hears that it is the job's turn.
func (c *carry) Begin(_ *repair.Job, fresh bool) {
	l := c.lane
	c.running = true
	c.follow.SetSkew(c.skew())
	line, step := l.scratch[:0], repair.Step{}
	if c.again {
		c.again = false
		line, step = c.follow.Again(line, timeAt(c.node(repair.Lead)))
	} else {
		line, step = c.follow.Begin(line, timeAt(c.node(repair.Lead)), fresh)
	}
	c.advance(line, step, nil)
}

// Covered hears of the run of another job that stands for this one.
func (c *carry) Covered(_ *repair.Job, held bool, o repair.Outcome) {
	if held {
		c.acknowledge(false)
	}
	if o != repair.Running {
		c.concluded(o)
	}
}

// ended hears that the Follow has come to its end.
func (c *carry) ended(o repair.Outcome) {
	if c.running {
		c.running = false
		c.lane.repairs.Done(&c.job, o)
	}
	c.concluded(o)
}

// concluded gives c back, if nothing is left to be done. If the lead was lost, and the
// follower is not the one that leads now, it is repaired from that one first: whether
// that one had what became of the write is what counts.
func (c *carry) concluded(o repair.Outcome) {
	l := c.lane
	if c.moving != nil {
		c.moved(o)
		return
	}
	if o == repair.Debt {
		l.missed(c.nodes[repair.Follower], c.follow.Key(), c.follow.Options().Base64)
	}
	lost := o == repair.LeadLost
	if lost && c.leadAgain() {
		return
	}
	c.acknowledge(lost)
	if !lost && c.leadHasMoved() {
		return
	}
	e := c.errand
	if e != nil && lost {
		e.leaderless(c.follow.Key(), c.follow.Options().Base64)
	}
	c.errand = nil
	c.next, l.carries = l.carries, c
	if e != nil { // no write waits for it, nor is it one that a new lead could miss
		e.ended(o)
		return
	}
	l.gate.effected()
}

// leader is the connection to the replica that leads the key now; nil if there is none.
func (c *carry) leader() *upstream.Conn {
	conn, _ := c.lane.leader(c.lane.placedKey(c.follow.Key(), c.follow.Options().Base64), 0, c.salt)
	return conn
}

// leadAgain asks for a repair from the replica that leads now, if that is not the
// follower itself.
func (c *carry) leadAgain() bool {
	conn := c.leader()
	if conn == nil || conn.Node().Index == c.nodes[repair.Follower] || conn.Node().Index == c.nodes[repair.Lead] {
		return false
	}
	c.nodes[repair.Lead], c.again = conn.Node().Index, true
	c.wish()
	return true
}

// leadHasMoved asks for a repair of the replica that led this write, if another has
// come to lead the key meanwhile: writes that have two leads can pass each other by,
// and then what the present one has counts.
func (c *carry) leadHasMoved() bool {
	l := c.lane
	changes := l.pool.Health.Changes()
	if changes == c.changes {
		return false
	}
	c.changes = changes
	conn, led := c.leader(), c.nodes[repair.Lead]
	if conn == nil || conn.Node().Index == led || !l.pool.Health.Writable(led) {
		return false
	}
	c.nodes, c.again = [2]int{repair.Lead: conn.Node().Index, repair.Follower: led}, true
	c.wish()
	return true
}

// post sends one request; false if its node takes none.
func (c *carry) post(line []byte, step repair.Step, from *upstream.Pending) bool {
	conn := c.conn(step.To)
	if conn == nil {
		return false
	}
	p := upstream.Pending{Owner: c, Op: step.Op, Mark: bare(step.Op, 0)}
	if step.Value != repair.ClientValue {
		return conn.Send(append(conn.Room(len(line)), line...), p, c.keySpan())
	}
	sent := from.Request()
	head := uint32(len(from.Line()))
	value := codec.Span{Off: head, Len: uint32(len(sent)) - head}
	return conn.SendValue(append(conn.Room(len(line)+int(min(value.Len, bigValue))), line...), from, value, p)
}

// conn is the connection to a side; nil if that takes no request.
func (c *carry) conn(to repair.Side) *upstream.Conn {
	l, node := c.lane, c.nodes[to]
	if c.moving != nil && to == repair.Lead {
		f := c.moving.from
		if !l.readable(f, node) {
			return nil
		}
		return f.group.Conn(node, c.salt)
	}
	if !l.pool.Health.Writable(node) {
		return nil
	}
	return l.group.Conn(node, c.salt)
}

// keySpan is where the key stands in what a Follow sends.
func (c *carry) keySpan() codec.Span { return codec.Span{Off: 3, Len: uint32(len(c.follow.Key()))} }

// Reply hears a node. The value of a VA is gathered, and the answer counts when all
// of it has come: what it leads to may be over before.
func (c *carry) Reply(_ *upstream.Conn, _ *upstream.Pending, r *codec.Reply, b []byte) {
	switch r.Kind {
	case codec.KindValue:
		c.line = append(c.line[:0], b[:r.Line]...)
		c.value = c.lane.group.Gather(valueRoom + int(r.Value) + 2)
		c.value.Buf = append(c.value.Buf[:valueRoom], b[r.Line:]...)
	case codec.KindEnd:
		c.valued()
	default:
		line, step := c.follow.Answer(c.lane.scratch[:0], b[:r.Line], timeAt(c.node(repair.Lead)))
		c.advance(line, step, nil)
	}
}

// valueRoom is room for the line of the ms that a repair sends: a key, six numbers.
const valueRoom = text.MaxKey + 160

// Body hears more of the lead's value.
func (c *carry) Body(_ *upstream.Conn, _ *upstream.Pending, b []byte, _ int) {
	c.value.Buf = append(c.value.Buf, b...)
}

// valued hears that all of the lead's value has come, and gives it to the follower
// if it is still to have it.
func (c *carry) valued() {
	l, ck := c.lane, c.value
	c.value = nil
	line, step := c.follow.Answer(l.scratch[:0], c.line, timeAt(c.node(repair.Lead)))
	if step.Outcome != repair.Running || step.Value != repair.LeadValue {
		l.group.Release(ck)
		c.advance(line, step, nil)
		return
	}
	from := prepend(ck.Buf, valueRoom, line)
	c.heed(step)
	conn := c.conn(repair.Follower)
	p := upstream.Pending{Owner: c, Op: step.Op, Mark: bare(step.Op, 0)}
	if conn != nil && conn.SendChunk(ck, from, p, c.keySpan()) {
		return
	}
	l.group.Release(ck)
	line, step = c.lost(step)
	c.advance(line, step, nil)
}

// Fail hears that a node will not answer.
func (c *carry) Fail(*upstream.Conn, *upstream.Pending, upstream.Cause, bool) {
	if c.value != nil {
		c.lane.group.Release(c.value)
		c.value = nil
	}
	line, step := c.follow.Lost(c.lane.scratch[:0])
	c.advance(line, step, nil)
}

// touched tells the followers of a read that changed its item: a gat, or an mg that
// sets a TTL or makes the item. Nobody waits for that. answer is the lead's line.
func (s *session) touched(p *upstream.Pending, sl *slot, answer []byte) {
	l := sl.lane
	line := l.touch[:0]
	if sl.op == codec.OpMetaGet {
		line = append(line, p.Line()...)
	} else {
		line = append(append(append(line, "touch "...), p.Key()...), ' ')
		line = append(append(line, gatTime(p.Request())...), "\r\n"...)
		answer = lineTouched
	}
	l.touch = line
	var req codec.Request
	text.Parse(line, &req)
	if e := converge.EffectOf(&req, answer); e != converge.Nothing {
		w := converge.Write{Line: line, Request: &req, Answer: answer, Explicit: l.group.Explicit(), Once: l.parallel}
		l.carryAll(e, &w, l.routeSent(line, &req), p, sl.copy, s.id, nil)
	}
}

var lineTouched = []byte("TOUCHED\r\n")

// gatTime is the exptime in the head of a gat or gats: its second word.
func gatTime(head []byte) []byte {
	_, rest, _ := bytes.Cut(head, []byte(" "))
	word, _, _ := bytes.Cut(rest, []byte(" "))
	return word
}

// timeAt is the Unix time by the clock of a node, as far as that is known: TTLs are reckoned
// by it.
func timeAt(n *upstream.Node) int64 { return time.Now().Add(n.Ahead()).Unix() }

// node is a side of c. A former owner that is still in the pool is the node there, whose clock
// is known.
func (c *carry) node(side repair.Side) *upstream.Node {
	if c.moving != nil && side == repair.Lead {
		f, node := c.moving.from, c.nodes[side]
		if twin := f.twins[node]; twin >= 0 {
			return c.lane.pool.Nodes[twin]
		}
		return f.pool.Nodes[node]
	}
	return c.lane.pool.Nodes[c.nodes[side]]
}

// skew is by how many seconds the follower's clock is ahead of the lead's.
func (c *carry) skew() int64 {
	ahead := c.node(repair.Follower).Ahead() - c.node(repair.Lead).Ahead()
	return int64(ahead.Round(time.Second) / time.Second)
}
