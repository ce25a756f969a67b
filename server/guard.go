package server

import (
	"magent/codec"
	"magent/codec/binary"
	"magent/codec/text"
)

// With --auth-file a client has to say who it is before anything that it asks for is
// looked at: so nothing of a stranger reaches a node. It does so as memcached has it, in
// text as with -Y, by a set that stores nothing (introduce), in binary as with -S, by SASL
// (challenge). The two may be mixed on one port, as the protocols may.

// guard is what a session knows of who its client is. One that has none is known; with
// --auth-file it has said so, in text or to the process before this one.
type guard struct {
	known   bool
	started bool   // SASL: a step may come
	settled bool   // SASL: it has come to its end, and begins anew by failing once
	part    []byte // of the request that says who the client is, which has not come whole
}

// maxProof bounds the value that says who a client is, in bytes. No user and password in
// a file of users are longer.
const maxProof = 1 << 10

const (
	lineStranger  = "CLIENT_ERROR unauthenticated\r\n"
	lineBadEnd    = "CLIENT_ERROR bad command line termination\r\n"
	lineBadFormat = "CLIENT_ERROR bad authentication token format\r\n"
)

var lineStored = []byte("STORED\r\n")

// stranger reports whether the client has yet to say who it is.
func (s *session) stranger() bool { return s.guard != nil && !s.guard.known }

// amidProof reports whether the client has begun to say who it is.
func (s *session) amidProof() bool {
	return s.guard != nil && (s.guard.part != nil || s.guard.started && !s.guard.known)
}

// rejoin puts data behind the part of a request that came before, if one did.
func (s *session) rejoin(data []byte) []byte {
	if s.guard == nil || s.guard.part == nil {
		return data
	}
	data = append(s.guard.part, data...)
	s.guard.part = nil
	return data
}

// introduce serves the request of a stranger at the front of data, in text, and returns
// what is behind it.
func (s *session) introduce(data []byte) []byte {
	n := lineLen(data)
	if n == 0 {
		if len(data) > text.MaxLine {
			s.close()
			return nil
		}
		s.guard.part = append([]byte(nil), data...)
		return nil
	}
	size, ok := text.LoginSize(data[:n])
	whole := n + size + len(endOfLine)
	switch {
	case !ok:
		s.count.Commands[codec.OpNone]++
		s.refuse(codec.OpNone, lineStranger)
		return data[n:]
	case size > maxProof:
		s.deny()
		s.waste = size + len(endOfLine)
		return data[n:]
	case len(data) < whole:
		s.guard.part = append([]byte(nil), data...)
		return nil
	}
	value, end := data[n:n+size], data[n+size:whole]
	name, password, ok := text.Login(value)
	switch {
	case string(end) != string(endOfLine):
		s.count.Commands[codec.OpNone]++
		s.refuse(codec.OpNone, lineBadEnd)
	case !ok:
		s.count.Commands[codec.OpNone]++
		s.refuse(codec.OpNone, lineBadFormat)
	case s.proves(name, password):
		s.guard = nil
		s.say(codec.OpNone, lineStored)
	}
	return data[whole:]
}

// proves reports whether name has this password, and tells the client so if it has not.
func (s *session) proves(name, password []byte) bool {
	if !s.loop.srv.users.Get().Check(name, password) {
		s.deny()
		return false
	}
	s.count.Commands[codec.OpNone]++
	s.count.Authenticated++
	return true
}

// deny tells the client that it is not who it says.
func (s *session) deny() {
	s.count.Commands[codec.OpNone]++
	s.count.Denied++
	s.loop.srv.log.Debug("a client is not who it says")
	s.refuse(codec.OpNone, binary.LineNotKnown)
}

// guards reports whether r, of a binary client, is for challenge.
func (s *session) guards(r *binary.Request) bool {
	switch {
	case s.loop.srv.users == nil || s.own(), r.Fault == binary.FaultLengths:
		return false
	case r.Opcode.SASL():
		return r.Fault == binary.FaultNone || r.Fault == binary.FaultUnknown
	}
	return s.stranger() && r.Opcode != binary.Version
}

// challenge serves r, by which a client says who it is, or which it may not ask before; buf
// has all of it but the value, rest is what follows. It returns what is behind r. (A client
// that is known is not any more when it begins anew, nor when it asks for the mechanisms:
// init_sasl_conn of memcached.)
func (s *session) challenge(buf, rest []byte, r *binary.Request) []byte {
	s.asked = binary.Asked{Opcode: r.Opcode, Opaque: r.Opaque}
	if s.guard == nil {
		s.guard = &guard{known: true, started: true, settled: true}
	}
	fits, plain := r.Mechanism(buf)
	switch {
	case !r.Opcode.SASL():
		s.count.Commands[codec.OpNone]++
		s.refuse(codec.OpNone, binary.LineNotKnown)
		s.end()
		return nil
	case r.Opcode == binary.SASLList:
		s.guard.known = false
		s.count.Commands[codec.OpNone]++
		s.say(codec.OpNone, []byte(binary.LineMechanisms))
		return rest
	case !fits:
		s.unserved(&binary.Request{Opcode: r.Opcode, Opaque: r.Opaque, Value: r.Value, Fault: binary.FaultKey})
		return rest
	case r.Value > maxProof:
		s.guard.known, s.guard.started = false, false
		s.deny()
		s.waste = int(r.Value)
		return rest
	case len(rest) < int(r.Value):
		s.guard.part = append(append(make([]byte, 0, int(r.Head+r.Value)), buf[:r.Head]...), rest...)
		return nil
	}
	s.authenticate(rest[:r.Value], r.Opcode, plain)
	return rest[r.Value:]
}

// authenticate takes a message of SASL.
func (s *session) authenticate(message []byte, opcode binary.Opcode, plain bool) {
	g := s.guard
	g.known = false
	settled := g.settled
	if opcode == binary.SASLAuth {
		g.settled, g.started = false, plain && len(message) == 0
		if g.started {
			s.count.Commands[codec.OpNone]++
			s.say(codec.OpNone, []byte(binary.LineContinue))
			return
		}
	} else {
		plain = g.started
	}
	name, password, ok := binary.Plain(message)
	switch {
	case settled, !plain, !ok:
		s.deny()
	case s.proves(name, password):
		*g = guard{known: true, started: true, settled: true}
		s.say(codec.OpNone, []byte(binary.LineKnown))
	}
}
