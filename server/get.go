package server

import (
	"bytes"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/health"
)

// The legs a request has: which part of a command a Pending carries.
const (
	legRead     upstream.Leg = iota // one replica answers
	legLead                         // a write, at the first replica
	legFollower                     // its effect, at the others
	legEveryone                     // a command to all nodes
	legResume                       // a read, the front of whose value the client has
	legRescue                       // a relative write, at the replica after the one that failed
	legRaced                        // a read that was late, so that another replica was asked too
	legHedge                        // the same read, at that replica
	legFormer                       // a read that missed, at a node that had the key before
	legAgain                        // a read that missed there, too, where it was asked for first
)

// get serves get, gets, gat and gats. Each key is a slot of its own, so that the
// values leave in the order asked whatever node they come from.
func (s *session) get(line, rest []byte, req *codec.Request) []byte {
	if req.Key.Len == 0 { // gat without a key
		s.say(req.Op, lineEnd)
		return rest
	}
	arg := req.Arg.In(line)
	if req.Key == req.Rest {
		s.getKey(req.Op, arg, req.Key.In(line), slotKey|slotLast)
		return rest
	}
	s.keys = manyKeys{line: line, req: *req, at: req.Key.Off}
	if !s.moreKeys() {
		s.keys.line = bytes.Clone(line)
	}
	return rest
}

// manyKeys is a multi-get part of whose keys have been asked for. The slots of
// those have no END, so that all of it reads as one reply.
type manyKeys struct {
	line []byte // nil if there is none
	req  codec.Request
	at   uint32 // where the next key is looked for
}

// moreKeys asks for the keys that are left, as far as there are slots; true when
// that was the last.
func (s *session) moreKeys() bool {
	k := &s.keys
	key, more := text.NextKey(k.line, k.req.Rest, &k.at)
	for more && !s.full() {
		at := k.at
		var next codec.Span
		next, more = text.NextKey(k.line, k.req.Rest, &at)
		flags := slotKey
		if !more {
			flags |= slotLast
		}
		s.getKey(k.req.Op, k.req.Arg.In(k.line), key.In(k.line), flags)
		if more {
			k.at, key = at, next
		}
	}
	if more && s.wire != nil {
		k.at = key.Off
		return false
	}
	*k = manyKeys{}
	return true
}

// getKey asks for one key.
func (s *session) getKey(op codec.Op, arg, key []byte, flags slotFlags) {
	l := s.routes.lane(key)
	if l == nil {
		s.noPool(s.open(slot{op: op, flags: flags}))
		return
	}
	if !l.pool.Alone() {
		flags |= keyFlags[op]
	}
	c, copy := s.reader(l, key, flags)
	seq := s.open(slot{op: op, flags: flags, lane: l, copy: copy, tried: 1 << copy, began: l.arrived()})
	if l.witness != nil {
		l.witness.begins(s, seq, c, key)
	}
	switch {
	case c == nil:
		s.noReplica(l, seq, key)
	case !c.Get(upstream.Pending{Owner: s, Seq: seq, Leg: legRead, Op: op}, arg, key):
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	}
}

// keyFlags is what the gets ask for that the nodes cannot do for several copies.
var keyFlags = [codec.NumOps]slotFlags{
	codec.OpGets: slotVersion,
	codec.OpGat:  slotMutates,
	codec.OpGats: slotVersion | slotMutates,
}

// metaGet serves mg and me.
func (s *session) metaGet(line []byte, req *codec.Request) {
	key := s.loop.route(line, req)
	l := s.routes.lane(key)
	sl := slot{op: req.Op, lane: l, began: s.loop.arrived()}
	if req.Quiet() {
		sl.flags = slotQuiet
	}
	if l == nil {
		s.noPool(s.open(sl))
		return
	}
	if !l.pool.Alone() && req.Op == codec.OpMetaGet {
		sl.flags |= metaFlags(req)
	}
	c, copy := s.reader(l, key, sl.flags)
	sl.copy, sl.tried = copy, 1<<copy
	seq := s.open(sl)
	if w := s.loop.witness; w != nil {
		w.begins(s, seq, c, key)
	}
	if c == nil {
		s.noReplica(l, seq, key)
		return
	}
	out := l.appendRead(c.Room(len(line)+leadRoom), line, req, c, copy)
	p := upstream.Pending{Owner: s, Seq: seq, Leg: legRead, Op: req.Op}
	if !c.Send(out, p, codec.Span{Off: 3, Len: req.Key.Len}) {
		s.fail(seq, c.Node().Error(upstream.CauseFull))
	}
}

// metaFlags is what an mg asks for that the nodes cannot do for several copies.
func metaFlags(req *codec.Request) (f slotFlags) {
	if req.Meta.Has('c') {
		f |= slotVersion
	}
	if req.Meta.Any(codec.Letter('T') | codec.Letter('N')) {
		f |= slotMutates
	}
	return f
}

// reader is the connection to the replica that is asked first for a read of key, and
// its copy: that is the lead, or if it is slow, and another will do, that one.
func (s *session) reader(l *lane, key []byte, flags slotFlags) (*upstream.Conn, uint8) {
	c, copy := l.leader(key, 0, s.id)
	if c == nil || l.pool.Health.Up(c.Node().Index) || s.enough(l, key, flags) == health.Slow {
		return c, copy
	}
	return l.choose(key, 0, s.id, health.Up)
}

// enough is the state in which a replica is good enough to be asked before others that
// are better: Slow, if only the lead will do. That names the versions that writes use,
// is where items are changed, and has what the client sent before the read.
func (s *session) enough(l *lane, key []byte, flags slotFlags) health.State {
	if l.leadOnly(s, flags) || l.ackLead || s.slots.changing(hashKey(key)) {
		return health.Slow
	}
	return health.Up
}

// leadOnly reports whether a read of s with flags is for the lead alone. The answer to a binary
// one names a version whether its client has a use for it or not. So where replicas have
// versions in common, that of another one is good enough.
func (l *lane) leadOnly(s *session, flags slotFlags) bool {
	return flags&slotMutates != 0 || flags&slotVersion != 0 && !(s.binary() && l.group.Explicit())
}

// end is the frame that closes a read whose END did not come.
var end = codec.Reply{Kind: codec.KindEnd}

// readReply hears a frame of a read's answer.
func (s *session) readReply(c *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	sl, line := s.slots.at(p.Seq), b[:r.Line]
	if r.Kind == codec.KindValue || r.Kind == codec.KindLine {
		sl.flags |= slotHit
	}
	switch r.Kind {
	case codec.KindValue:
		if len(b) < r.Size() {
			s.partial(p.Seq, sl, r, b)
		}
		switch {
		case s.binary() && s.hit(c, p, sl, r, b):
			b = nil
		case sl.asked.Opcode.Named() && p.Op.Meta():
			s.emit(p.Seq, s.named(c, p, sl, b[:r.Line]))
			b = b[r.Line:]
		case sl.is(slotVersion):
			s.emit(p.Seq, s.versioned(c, sl, b[:r.Line]))
			b = b[r.Line:]
		}
		s.emit(p.Seq, b)
		if sl.is(slotMutates) {
			s.touched(p, sl, line) // last: it may end c, and with that the slot
		}
		return
	case codec.KindEnd:
		if s.askOn(c, p, sl) || s.askFormer(c, p, sl) {
			return
		}
		switch {
		case s.binary():
			s.unfound(p, sl)
		case sl.is(slotLast):
			s.emit(p.Seq, lineEnd)
		}
	case codec.KindMiss:
		if s.askOn(c, p, sl) || s.askFormer(c, p, sl) {
			return
		}
		switch {
		case s.binary():
			s.unfound(p, sl)
		case !sl.is(slotQuiet):
			s.emit(p.Seq, b)
		}
	case codec.KindError:
		if w := s.loop.witness; w != nil {
			w.fails(s, p.Seq, b)
		}
		sl.flags |= slotBroken
		s.emit(p.Seq, b)
	default: // HD, ME
		if sl.is(slotMutates) {
			s.touched(p, sl, b[:r.Line])
		}
		if sl.is(slotVersion) {
			b = s.versioned(c, sl, b)
		}
		s.emit(p.Seq, b)
	}
	s.counted(c, sl, r.Kind)
	s.finish(p.Seq)
}

// askOn asks the next replica for what the node of c does not have, if that is not
// trusted with all there is: it is Warming, and was asked as no replica is better. What it
// lacks is for its refill to bring: as long as it leads, a copy that is added to it can
// bring back what a client is just deleting there.
func (s *session) askOn(c *upstream.Conn, p *upstream.Pending, sl *slot) bool {
	l := sl.lane
	if sl.is(slotHit|slotMutates) || p.Leg != legRead || l.pool.Health.Load(c.Node().Index).State() != health.Warming {
		return false
	}
	next, copy := l.choose(l.routeKey(p), sl.tried, s.id, health.Up)
	if next == nil || !l.ask(next, p, legRead) {
		return false
	}
	sl.copy, sl.tried = copy, sl.tried|1<<copy
	return true
}

// readBody hears more of a value.
func (s *session) readBody(seq uint32, b []byte, rest int) {
	sl := s.slots.at(seq)
	if rest > 0 {
		if s.wire != nil && s.slots.first(seq) && !sl.is(slotWaits) {
			s.relayed(b)
		}
		s.emit(seq, b)
		return
	}
	s.emit(seq, b)
	sl.flags &^= slotPartial
	if sl.is(slotWaits) {
		sl.flags &^= slotWaits
		if s.slots.first(seq) {
			s.leave(sl)
		}
	}
}

// partial decides what becomes of a value that has not come whole.
func (s *session) partial(seq uint32, sl *slot, r *codec.Reply, b []byte) {
	sl.flags |= slotPartial
	switch {
	case r.Size() <= s.loop.streamAbove:
		sl.flags |= slotWaits
	case s.slots.first(seq):
		s.relaying(r.Value, b)
	}
}

// counted keeps the score of hits and misses; of clients' also that of the node that c
// leads to.
func (s *session) counted(c *upstream.Conn, sl *slot, k codec.Kind) {
	switch {
	case k == codec.KindError:
		sl.result = ResultError
		s.count.Errors++
	case sl.is(slotHit):
		sl.result = ResultHit
		s.count.Hits++
		sl.lane.reads++
	default:
		sl.result = ResultMiss
		s.count.Misses++
		sl.lane.reads++
	}
	if !s.own() && k != codec.KindError {
		c.Scored(sl.result == ResultHit)
	}
}

// retry asks the next replica of a key whose replica did not answer.
func (s *session) retry(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause) {
	sl := s.slots.at(p.Seq)
	switch {
	case sl.is(slotPartial) && !sl.is(slotWaits) && s.slots.first(p.Seq):
		s.takeUp(c, p, cause)
		return
	case sl.is(slotHit) && !sl.is(slotPartial):
		// The value was whole; only the END that follows it did not come.
		s.readReply(c, p, &end, nil)
		return
	}
	s.drop(sl)
	sl.flags &^= slotHit | slotPartial | slotWaits
	if sl.is(slotMutates) {
		sl.lane.mayHaveMissed(c.Node().Index, p)
	}
	next := s.nextReplica(c, p, sl, cause)
	if next == nil {
		s.fail(p.Seq, c.Node().Error(cause))
		return
	}
	if !sl.lane.ask(next, p, legRead) {
		s.fail(p.Seq, next.Node().Error(upstream.CauseFull))
	}
}

// nextReplica picks who is asked after c did not answer, and notes it in sl; nil
// if nobody is left, or too much is being asked again already.
func (s *session) nextReplica(c *upstream.Conn, p *upstream.Pending, sl *slot, cause upstream.Cause) *upstream.Conn {
	l := sl.lane
	if !l.retries.take(l.reads) {
		s.count.RetriesRefused++
		return nil
	}
	key := l.routeKey(p)
	next, copy := l.choose(key, sl.tried, s.id, s.enough(l, key, sl.flags))
	if next == nil {
		if !l.mayAskAgain(sl, cause) {
			return nil
		}
		sl.flags |= slotAgain
		next, copy = c, sl.copy
	}
	sl.moved = cause
	s.count.Failovers[cause]++
	s.count.Retries++
	sl.copy, sl.tried = copy, sl.tried|1<<copy
	return next
}

// fail answers a slot with an error line and closes it.
func (s *session) fail(seq uint32, line []byte) {
	sl := s.slots.at(seq)
	if w := s.loop.witness; w != nil {
		w.fails(s, seq, line)
	}
	s.count.Errors++
	s.drop(sl)
	sl.result = ResultError
	sl.flags = sl.flags&^slotWaits | slotBroken
	if !sl.is(slotQuiet) || sl.op.Meta() {
		s.emit(seq, line)
	}
	s.finish(seq)
}

// noReplica answers a slot none of whose nodes may be read.
func (s *session) noReplica(l *lane, seq uint32, key []byte) {
	s.fail(seq, l.pool.Nodes[l.pool.Replica(0, key)].Down())
}

// noPool answers a slot whose key no pool serves.
func (s *session) noPool(seq uint32) {
	s.slots.at(seq).began = 0
	s.fail(seq, []byte(lineNoPool))
}

const lineNoPool = "SERVER_ERROR no pool for this key\r\n"
