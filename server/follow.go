package server

import (
	"bytes"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// effect is what a follower is told once the lead has answered.
type effect uint8

const (
	effectNone   effect = iota
	effectSame          // the request itself
	effectSet           // a plain set of the item that was stored
	effectDelete        // the key goes: it went, or what became of it is not known
)

// effectOf says what the answer of the lead to op means for the followers.
func effectOf(op codec.Op, req *codec.Request, answer []byte) effect {
	if bytes.HasPrefix(answer, []byte("SERVER_ERROR")) {
		// memcached unlinks the item that it had no memory to replace.
		if op == codec.OpSet || op == codec.OpMetaSet {
			return effectDelete
		}
		return effectNone
	}
	if op.Meta() {
		return metaEffect(op, req, answer)
	}
	switch op {
	case codec.OpDelete:
		return effectSame
	case codec.OpSet, codec.OpAppend, codec.OpPrepend:
		if answer[0] == 'S' { // STORED
			return effectSame
		}
	case codec.OpAdd, codec.OpReplace, codec.OpCas:
		if answer[0] == 'S' {
			return effectSet
		}
	case codec.OpTouch:
		if answer[0] == 'T' { // TOUCHED
			return effectSame
		}
	case codec.OpIncr, codec.OpDecr:
		if answer[0] >= '0' && answer[0] <= '9' {
			return effectSame
		}
	}
	return effectNone
}

func metaEffect(op codec.Op, req *codec.Request, answer []byte) effect {
	done := answer[0] == 'H' && answer[1] == 'D' || answer[0] == 'V' && answer[1] == 'A'
	switch {
	case op == codec.OpMetaDelete && answer[0] == 'N' && answer[1] == 'F':
		return effectDelete
	case op == codec.OpMetaArith && bytes.HasPrefix(answer, []byte("CLIENT_ERROR opaque")):
		return effectDelete // memcached counts first, and then finds the opaque too long
	case !done:
		return effectNone
	case op == codec.OpMetaSet && req.Meta.Has('C') && req.Meta.Has('I'):
		return effectDelete // the lead may have kept it as stale, and does not say
	}
	return effectSame
}

// The flags that mean the same on a follower. What selects the item (C), what
// shapes the answer, and q and O and k stay behind.
var (
	keepSet    = codec.Letter('b') | codec.Letter('F') | codec.Letter('T') | codec.Letter('E')
	keepAppend = keepSet | codec.Letter('M') | codec.Letter('N')
	keepDelete = codec.Letter('b') | codec.Letter('I') | codec.Letter('T') | codec.Letter('x') | codec.Letter('E')
	keepArith  = codec.Letter('b') | codec.Letter('N') | codec.Letter('J') | codec.Letter('D') | codec.Letter('M') |
		codec.Letter('T') | codec.Letter('v') | codec.Letter('E')
	keepTouch = codec.Letter('b') | codec.Letter('N') | codec.Letter('T') | codec.Letter('E')
)

// keepOf is the flags that a follower is given of a meta command.
func keepOf(req *codec.Request) codec.Letters {
	switch req.Op {
	case codec.OpMetaSet:
		if appends(req.Mode) {
			return keepAppend
		}
		return keepSet
	case codec.OpMetaDelete:
		return keepDelete
	case codec.OpMetaArith:
		return keepArith
	}
	return keepTouch
}

// follow sends the effect of the write p, which the lead has answered, to every
// other replica, and counts them in sl.left.
func (s *session) follow(p *upstream.Pending, sl *slot) {
	l := s.loop
	if l.pool.Alone() {
		return
	}
	sent := p.Request()
	n := bytes.IndexByte(sent, '\n') + 1
	line := sent[:n]
	var req codec.Request
	text.Parse(line, &req)
	e := effectOf(p.Op, &req, sl.out.B)
	if e == effectNone {
		return
	}
	value := codec.Span{Off: uint32(n), Len: uint32(len(sent) - n)}
	key := l.route(line, &req)
	lead := l.pool.Replica(int(sl.copy), key)
	for i := range l.pool.Copies {
		node := l.pool.Replica(i, key)
		if i == int(sl.copy) || node == lead || !l.pool.Health.Writable(node) {
			continue
		}
		told := e
		if sl.tried&(1<<i) != 0 && relative(&req) {
			told = effectDelete // it was the lead, and may have taken the step: no second one
		}
		if c := l.group.Conn(node, s.id); l.effect(c, told, line, value, &req, p, legFollower, s) {
			sl.left++
		} else {
			c.Overflow()
		}
	}
}

// relative reports whether what req does depends on the item that is there, so
// that doing it twice is not as good as once.
func relative(req *codec.Request) bool {
	switch req.Op {
	case codec.OpAppend, codec.OpPrepend, codec.OpIncr, codec.OpDecr, codec.OpMetaArith:
		return true
	case codec.OpMetaSet:
		return appends(req.Mode)
	}
	return false
}

// appends reports whether the mode of an ms is to append or to prepend.
func appends(mode byte) bool { return mode|0x20 == 'a' || mode|0x20 == 'p' }

// effect sends e of the request p, whose line was parsed into req, to c.
func (l *loop) effect(c *upstream.Conn, e effect, line []byte, value codec.Span, req *codec.Request,
	p *upstream.Pending, leg upstream.Leg, owner upstream.Owner) bool {
	out := upstream.Pending{Owner: owner, Seq: p.Seq, Leg: leg, Op: req.Op}
	buf := c.Room(len(line) + int(min(value.Len, bigValue)) + 32)
	switch {
	case e == effectDelete:
		out.Op = codec.OpMetaDelete
		buf = appendForget(buf, req.Key.In(line), req.Meta)
		return c.Send(buf, out, codec.Span{Off: 3, Len: req.Key.Len})
	case req.Op.Meta():
		buf = text.AppendMetaEffect(buf, line, req, keepOf(req))
	case e == effectSet:
		out.Op = codec.OpSet
		buf = text.AppendSet(buf, line, req)
	default:
		buf = text.AppendLine(buf, line, req)
	}
	if value.Len == 0 {
		return c.Send(buf, out, keyOf(out.Op, req))
	}
	return c.SendValue(buf, p, value, out)
}

// appendForget appends the request that takes key away from a node.
func appendForget(buf, key []byte, meta codec.Letters) []byte {
	buf = text.AppendKeyed(buf, "md", key)
	if meta.Has('b') {
		buf = append(buf[:len(buf)-2], " b\r\n"...)
	}
	return buf
}

// forget takes the key of p, which c was sent, away from c's node.
func (l *loop) forget(c *upstream.Conn, p *upstream.Pending) {
	line := p.Line()
	var req codec.Request
	text.Parse(line, &req)
	l.effect(c, effectDelete, line, codec.Span{}, &req, p, 0, discard{})
}

// touched tells the followers of a read that changed its item: a gat, or an mg
// that sets a TTL or makes the item.
func (s *session) touched(p *upstream.Pending, sl *slot) {
	l := s.loop
	mutates := sl.op == codec.OpGat || sl.op == codec.OpGats || sl.op == codec.OpMetaGet
	if !mutates || l.pool.Alone() {
		return
	}
	key := l.routeKey(p)
	lead := l.pool.Replica(int(sl.copy), key)
	for i := range l.pool.Copies {
		node := l.pool.Replica(i, key)
		if i != int(sl.copy) && node != lead && l.pool.Health.Writable(node) {
			l.touch(l.group.Conn(node, s.id), sl.op, p)
		}
	}
}

// touch sends the effect of the read p to a follower; nobody waits for its answer.
func (l *loop) touch(c *upstream.Conn, op codec.Op, p *upstream.Pending) {
	line := p.Request()
	out := upstream.Pending{Owner: discard{}, Op: codec.OpTouch}
	if op != codec.OpMetaGet {
		buf := append(c.Room(len(p.Key())+64), "touch "...)
		buf = append(buf, p.Key()...)
		c.Send(append(append(append(buf, ' '), gatTime(line)...), "\r\n"...), out, codec.Span{})
		return
	}
	var req codec.Request
	text.Parse(line, &req)
	if !req.Meta.Any(codec.Letter('T') | codec.Letter('N')) {
		return
	}
	out.Op = codec.OpMetaGet
	c.Send(text.AppendMetaEffect(c.Room(len(line)+8), line, &req, keepTouch), out, codec.Span{Off: 3, Len: req.Key.Len})
}

// gatTime is the exptime in the head of a gat or gats: its second word.
func gatTime(head []byte) []byte {
	_, rest, _ := bytes.Cut(head, []byte(" "))
	word, _, _ := bytes.Cut(rest, []byte(" "))
	return word
}

// discard owns requests whose answers concern nobody.
type discard struct{}

func (discard) Reply(*upstream.Conn, *upstream.Pending, *codec.Reply, []byte) {}
func (discard) Body(*upstream.Conn, *upstream.Pending, []byte, int)           {}
func (discard) Fail(*upstream.Conn, *upstream.Pending, upstream.Cause, bool)  {}
