package server

import (
	"slices"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/server/config"
)

// rules is what a loop holds the commands of clients to that a memcached without options
// does not. Clients of the binary protocol are held to the same, as their requests are
// lines of text by then.
type rules struct {
	any    bool // there is one
	denied [codec.NumOps]bool
	timed  bool   // a lane has a maxTTL
	line   []byte // where lines with another exptime are put
}

func newRules(cfg *config.Config) (r rules) {
	for _, op := range cfg.Clients.Denied() {
		r.denied[op], r.any = true, true
	}
	if slices.ContainsFunc(cfg.Pools, func(p config.Pool) bool { return p.MaxTTL > 0 }) {
		r.timed, r.any = true, true
		r.line = make([]byte, 0, scratchSize)
	}
	return r
}

// govern is line as it is to be carried out, with req for that. It reports whether it is
// not to be. All that is done for copies comes after it, so that all copies get the same.
func (s *session) govern(line []byte, req *codec.Request) (as []byte, denied bool) {
	if s.denied(req) {
		return line, true
	}
	r := &s.loop.rules
	if !r.timed || !text.Timed(req.Op) {
		return line, false
	}
	most := s.maxTTL(line, req)
	if most == 0 {
		return line, false
	}
	out, lowered := text.AppendLowered(r.line[:0], line, req, most, time.Now().Unix())
	if !lowered {
		return line, false
	}
	var again codec.Request
	if text.Parse(out, &again); again.Op != req.Op {
		return line, false // it was as long as a line may be, with flags that no node takes
	}
	r.line = out[:0]
	*req = again
	s.count.Lowered++
	return out, false
}

// denied reports whether clients are not to give the command that req is.
func (s *session) denied(req *codec.Request) bool {
	word := req.Op
	if s.binary() {
		word = s.asked.Opcode.Word()
	}
	return s.loop.rules.denied[word]
}

// maxTTL is for how many seconds the item of req may live, 0 for any time. Several keys
// have one exptime: the pool that allows least says which.
func (s *session) maxTTL(line []byte, req *codec.Request) (most int64) {
	if s.routes.only != nil {
		return s.routes.only.maxTTL
	}
	if !req.Op.MultiKey() {
		if l := s.routes.lane(s.loop.route(line, req)); l != nil {
			most = l.maxTTL
		}
		return most
	}
	for at := req.Rest.Off; ; {
		key, ok := text.NextKey(line, req.Rest, &at)
		if !ok {
			return most
		}
		if l := s.routes.lane(key.In(line)); l != nil && l.maxTTL > 0 && (most == 0 || l.maxTTL < most) {
			most = l.maxTTL
		}
	}
}

// forbid answers a command that clients are not to give, as a memcached that was told not to
// carry it out; rest is what follows its line. Its value, if it has one, is skipped.
func (s *session) forbid(rest []byte, req *codec.Request) []byte {
	s.count.Forbidden++
	if req.Op.Class() == codec.ClassStore {
		s.waste = int(req.Value) + s.valueEnd()
	}
	fault := codec.FaultError
	if req.Op == codec.OpFlushAll {
		fault = codec.FaultFlush
	}
	if req.Quiet() && !req.Op.Meta() {
		s.count.Answers[req.Op][ResultError]++
		return rest
	}
	s.refuse(req.Op, fault.Line())
	return rest
}
