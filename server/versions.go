package server

import (
	"bytes"
	"strconv"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/converge"
	"magent/upstream/repair"
	"magent/upstream/token"
)

// A version (a CAS) is a number that one node counts. In a pool of several copies
// clients are told tokens instead, which say whose version it is, so that what one
// node said is never held against the items of another. Here they are put into
// what goes to clients and taken out of what goes to nodes. A pool of one copy
// passes everything as it is.

// leadRoom is how much longer than the client's a line may be that a lead gets, in
// bytes: two versions of 20 digits, and the words that a classic command lacks, and the
// end of its value, which one in the binary protocol lacks.
const leadRoom = 98

// appendLead appends the line of a write as c, the lead, which holds copy, gets it.
func (l *lane) appendLead(dst, line []byte, req *codec.Request, c *upstream.Conn, copy uint8) []byte {
	if l.pool.Alone() || l.together(req) {
		return text.AppendLine(dst, line, req)
	}
	var at converge.Lead
	if asked, ok := converge.AskedVersion(line, req); ok {
		at.Cas = decode(asked, c, copy)
	}
	if l.group.Explicit() {
		at.Explicit = l.source.Next(time.Now().UnixMicro())
	}
	return converge.AppendLead(dst, line, req, at)
}

// appendRead appends the line of an mg or me as c, which holds copy, gets it.
func (l *lane) appendRead(dst, line []byte, req *codec.Request, c *upstream.Conn, copy uint8) []byte {
	if asked, ok := converge.AskedVersion(line, req); ok && !l.pool.Alone() {
		return converge.AppendLead(dst, line, req, converge.Lead{Cas: decode(asked, c, copy)})
	}
	return text.AppendLine(dst, line, req)
}

// leadOp is what req has become in what appendLead made of it.
func (l *lane) leadOp(req *codec.Request) codec.Op {
	if l.pool.Alone() || l.together(req) {
		return req.Op
	}
	switch req.Op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpCas:
		return codec.OpMetaSet
	case codec.OpAppend, codec.OpPrepend:
		if l.group.Explicit() {
			return codec.OpMetaSet
		}
	}
	return req.Op
}

// encode is what a client is told for the version cas, which c said of the copy it
// holds.
func encode(cas uint64, c *upstream.Conn, copy uint8) uint64 {
	if copy == formerCopy {
		return token.Foreign // by the time that it is given back the item is elsewhere, with another
	}
	life, _ := c.Life() // of a node that does not say, no token is taken back
	return token.Encode(int(copy), life, cas)
}

// decode is what c, which holds copy, is told for the version v, which a client
// gave.
func decode(v uint64, c *upstream.Conn, copy uint8) uint64 {
	life, ok := c.Life()
	if !ok && v != 0 && !token.Sourced(v) {
		return token.Foreign
	}
	return token.Decode(v, int(copy), life)
}

// versioned is the line of a read's answer with a token for the version in it. It
// is good until scratch is used again.
func (s *session) versioned(c *upstream.Conn, sl *slot, line []byte) []byte {
	l := s.loop
	if sl.op.Meta() {
		asked := codec.Request{Op: sl.op, Meta: codec.Letter('c')}
		return converge.AppendReply(l.scratch[:0], line, &asked, encode(repair.ParseReply(line).Cas, c, sl.copy))
	}
	at := bytes.LastIndexByte(line, ' ') + 1
	cas, err := strconv.ParseUint(string(bytes.TrimRight(line[at:], "\r\n")), 10, 64)
	if err != nil || bytes.Count(line, space) != 4 {
		return line // not "VALUE key flags bytes cas"
	}
	out := strconv.AppendUint(append(l.scratch[:0], line[:at]...), encode(cas, c, sl.copy), 10)
	return append(out, "\r\n"...)
}

var space = []byte(" ")
