package server

import (
	"github.com/cespare/xxhash/v2"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/converge"
	"magent/upstream/repair"
)

// inquiry is a relative or conditional write that has not gone to its lead yet: its
// heir, the replica that leads if the lead dies, is asked first for the version that
// it has. What becomes of the write is stored there on the condition that it still
// has that version: by then it may lead others, who have gone on from what they found
// there. And if the lead dies with a relative write, the version tells whether the
// heir may be given it (move.go).
//
// Two things of the same session wait for each other, lest a client that counts
// alone has its order turned round, or its own writes taken for another's: every
// command for a key for the inquiry about it, and every such write for the writes of
// its key before it.
type inquiry struct {
	patient
	session *session
	seq     uint32
	held    upstream.Pending // what the lead will be sent
	life    uint64           // of the lead that it was made for
	next    *inquiry         // spare
}

// heir is the connection to the replica that leads if the copy lead dies, and the
// copy it holds; nil if there is none.
func (l *lane) heir(key []byte, lead uint8, salt uint32) (*upstream.Conn, uint8) {
	node, tried := l.pool.Replica(int(lead), key), uint8(0)
	for i := range l.pool.Copies {
		if l.pool.Replica(i, key) == node {
			tried |= 1 << i // it dies with the lead
		}
	}
	return l.leader(key, tried, salt)
}

// asksFirst reports whether the heir is asked before req goes to its lead, where writes
// converge: if what req does depends on what is there.
func asksFirst(req *codec.Request) bool { return converge.Relative(req) || converge.Conditional(req) }

// marksStale reports whether req leaves an item for the next reader to make anew.
// Were it to overtake the second look at a write before it, the look would be taken
// for that reader.
func marksStale(req *codec.Request) bool {
	return req.Meta.Has('I') && (req.Op == codec.OpMetaSet || req.Op == codec.OpMetaDelete)
}

// askHeir asks heir for its version and keeps the write, of which c is the lead,
// until it has answered. It reports whether it took ck.
func (s *session) askHeir(c, heir *upstream.Conn, seq uint32, line, value []byte, ck *upstream.Chunk, req *codec.Request) (taken bool) {
	sl := s.slots.at(seq)
	l := sl.lane
	a := l.takeInquiry()
	a.session, a.seq = s, seq
	a.life, _ = c.Life()
	sl.flags |= slotAsking
	s.asking++

	op := l.leadOp(req)
	p := upstream.Pending{Owner: s, Seq: seq, Leg: legLead, Op: op, Mark: bare(op, req.Meta)}
	if ck != nil {
		from := prepend(ck.Buf, len(line)+leadRoom, l.appendLead(l.scratch[:0], line, req, c, sl.copy))
		a.held = l.group.HoldChunk(ck, from, p, keyOf(op, req))
	} else {
		buf := l.appendLead(c.Room(len(line)+leadRoom+len(value)), line, req, c, sl.copy)
		a.held = c.Hold(s.appendValue(buf, value, req), p, keyOf(op, req))
	}
	key := req.Key.In(line)
	buf := converge.AppendAsk(heir.Room(len(key)+leadRoom), key, req.Meta.Has('b'))
	if !heir.Send(buf, upstream.Pending{Owner: a, Op: codec.OpMetaGet}, codec.Span{Off: 3, Len: req.Key.Len}) {
		a.proceed()
	}
	return ck != nil
}

func (l *loop) takeInquiry() *inquiry {
	a := l.inquiries
	if a == nil {
		return new(inquiry)
	}
	l.inquiries = a.next
	return a
}

// Reply hears the heir. Only a line of its own is an answer.
func (a *inquiry) Reply(c *upstream.Conn, _ *upstream.Pending, r *codec.Reply, b []byte) {
	switch r.Kind {
	case codec.KindValue:
		return
	case codec.KindLine, codec.KindMiss:
		sl := a.session.slots.at(a.seq)
		sl.flags |= slotAsked
		sl.version = encode(repair.ParseReply(b).Cas, c, sl.heir)
	}
	a.proceed()
}

// Body hears nothing: no value was asked for.
func (a *inquiry) Body(*upstream.Conn, *upstream.Pending, []byte, int) {}

// Fail hears that the heir does not answer. The lead is there.
func (a *inquiry) Fail(*upstream.Conn, *upstream.Pending, upstream.Cause, bool) { a.proceed() }

// proceed sends the write to its lead, which may be another one by now.
func (a *inquiry) proceed() {
	s, held := a.session, a.held
	sl := s.slots.at(a.seq)
	l := sl.lane
	sl.flags &^= slotAsking
	s.asking--
	s.unstall()
	line := held.Line()
	var req codec.Request
	text.Parse(line, &req)
	key := l.routeSent(line, &req)
	switch c, copy := l.leader(key, 0, s.id); {
	case c == nil:
		s.noReplica(l, held.Seq, key)
	default:
		life, _ := c.Life()
		same := copy == sl.copy && life == a.life
		if !same {
			sl.leads(copy)
		}
		if setsTTL(&req) {
			endReads(c)
		}
		if same && !c.Resend(&held) || !same && !l.resend(c, &held) {
			s.fail(held.Seq, c.Node().Error(upstream.CauseFull))
		}
	}
	l.group.Drop(&held)
	a.next, l.inquiries = l.inquiries, a
}

// setsTTL reports whether req is an ma that sets a TTL. memcached 1.6 makes a new item
// for a counter that is being read, and gives the TTL to the old one
// (process_marithmetic_command). Ours are the second looks that read it.
func setsTTL(req *codec.Request) bool { return req.Op == codec.OpMetaArith && req.Meta.Has('T') }

// endReads has c's node send its answers now: until then it counts an item as read.
func endReads(c *upstream.Conn) {
	c.Send(append(c.Room(len(lineNoop)), lineNoop...), upstream.Pending{Owner: discard{}, Op: codec.OpMetaNoop}, codec.Span{})
}

var lineNoop = []byte("mn\r\n")

// unstall lets the session try again what had to wait for another command.
func (s *session) unstall() {
	if s.stalled {
		s.stalled = false
		s.loop.mayResume(s)
	}
}

// awaits reports whether the command in line must wait for one before it, or at a gate.
func (s *session) awaits(line []byte, req *codec.Request) bool {
	switch {
	case !s.mayAwait(req): // mostly
		return false
	case s.loop.rules.any && !s.own() && s.denied(req): // nor is anything to be settled for it
		return false
	case req.Op.Class() == codec.ClassBroadcast:
		return s.awaitsAll() || s.settlesAll(req)
	case !req.Op.MultiKey():
		key := s.loop.route(line, req)
		l := s.routes.lane(key)
		return l != nil && (s.awaitsKey(l, key, req) || s.settles(l, req.Key.In(line), req))
	}
	at := req.Rest.Off
	for {
		span, ok := text.NextKey(line, req.Rest, &at)
		if !ok {
			return false
		}
		key := span.In(line)
		if l := s.routes.lane(key); l != nil && (s.awaitsKey(l, key, req) || s.settles(l, key, req)) {
			return true
		}
	}
}

// mayAwait reports whether it is worth looking.
func (s *session) mayAwait(req *codec.Request) bool {
	l := s.loop
	if l.closed > 0 && changes(req) || l.migrating > 0 {
		return true
	}
	return s.slots.len() > 0 && req.Op.Class() != codec.ClassLocal && (s.asking > 0 || l.converges && (asksFirst(req) || marksStale(req)))
}

// waitsFor is what a command of s must not overtake that is about the same key.
func (l *lane) waitsFor(s *session, req *codec.Request) (flags slotFlags) {
	if s.asking > 0 {
		flags = slotAsking
	}
	if l.converges && (asksFirst(req) || marksStale(req)) {
		flags |= slotWrites
	}
	return flags
}

// awaitsKey is awaits for one of the keys.
func (s *session) awaitsKey(l *lane, key []byte, req *codec.Request) bool {
	if l.gate.closed > 0 && changes(req) {
		return l.gate.holds(s)
	}
	flags := l.waitsFor(s, req)
	return flags != 0 && s.slots.len() > 0 && s.slots.has(flags, hashKey(key))
}

// awaitsAll is awaits for a command to all nodes.
func (s *session) awaitsAll() bool {
	for _, l := range s.routes.lanes {
		if l.gate.holds(s) {
			return true
		}
	}
	return s.asking > 0 && s.slots.len() > 0
}

// hashKey is what a slot remembers of its key.
func hashKey(key []byte) uint32 { return uint32(longHash(key)) }

func longHash(key []byte) uint64 { return xxhash.Sum64(key) }
