package upstream

import (
	"magent/codec"
	"magent/codec/invariants"
)

// A held request is a Pending that is not in flight. It keeps the memory of its
// request, to be given to any Conn's Resend, as often as need be, until Drop.

// Hold keeps the request by which buf, from Room, has grown, and does not send it.
// key is where its key stands, counted from the request's first byte.
func (c *Conn) Hold(buf []byte, p Pending, key codec.Span) Pending {
	start := len(c.tail.Buf)
	c.tail.Buf = buf
	p.place(c.tail, start, key)
	c.tail.refs++
	return p
}

// HoldChunk is Hold for a whole request in memory of its own, from Gather: what
// stands in it behind the first from bytes. ck then belongs to what it returns.
func (g *Group) HoldChunk(ck *Chunk, from int, p Pending, key codec.Span) Pending {
	p.place(ck, from, key)
	return p
}

// Retain holds a request that was sent, or is held, on its own account: what it
// returns is good after p is settled or dropped. As for Resend, the request is not a
// key of a multi-get, nor one whose value SendValue shared.
func (g *Group) Retain(p *Pending) Pending {
	invariants.Check(p.whole(), "upstream: a request is retained without its value")
	again := *p
	again.chunk.refs++
	return again
}

// Drop gives up what Hold, HoldChunk or Retain returned, and leaves p zero: dropping
// that again does nothing.
func (g *Group) Drop(p *Pending) {
	g.chunks.drop(p.chunk)
	*p = Pending{}
}
