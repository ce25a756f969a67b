package converge

import (
	"magent/codec"
	"magent/upstream/repair"
)

// Write is a write that its lead has answered.
type Write struct {
	Line    []byte         // the client's line, or what AppendLead made of it
	Request *codec.Request // what it was parsed into
	Answer  []byte         // the lead's reply; its first line is enough
	// At is when the request went to the lead, as Unix time.
	At       int64
	Explicit bool // all replicas know the E flag: followers take the lead's version
	// Asked says that Version is what the follower answered to AppendAsk, 0 for no
	// item, at any time before the lead was read: a Copy then need not ask.
	Asked   bool
	Version uint64
}

// Follow carries the effect of one write to one follower.
//
//	Set, Delete, Touch:  effect ──▶ look ──▶ settled
//	                       │ fails    │ the lead has moved
//	                       ▼          ▼
//	Copy:                 repair ──▶ its outcome
//
// The zero value is ready for Start. It holds no pointer, and may be used again.
type Follow struct {
	effect  Effect
	state   followState
	look    Look
	version uint64 // the follower's, after our write
	cause   repair.Cause
	repair  repair.Repair
}

type followState uint8

const (
	followIdle followState = iota
	followTold             // the follower was sent the effect
	followLook             // the lead was asked
	followRepair
)

// Start appends the first request of the effect e, which EffectOf gave for w and
// is not Nothing. The views in w are not kept.
func (f *Follow) Start(dst []byte, e Effect, w *Write) ([]byte, repair.Step) {
	opt := repair.Options{Base64: w.Request.Meta.Has('b'), Explicit: w.Explicit}
	*f = Follow{effect: e, state: followTold}
	f.repair.Reset(w.Request.Key.In(w.Line), opt)
	switch e {
	case Copy:
		begin := repair.Ask()
		if w.Asked {
			begin = repair.Before(w.Version)
		}
		cause := repair.CauseRelative
		if !Relative(w.Request) {
			cause = repair.CauseUnversed
		}
		return f.fix(dst, begin, cause, w.At)
	case Set:
		f.look = Look{Cas: versionOf(w.Answer), TTL: TTLOf(exptimeOf(w.Line, w.Request), w.At), At: w.At}
		return f.appendSet(dst, w), repair.Step{To: repair.Follower, Op: codec.OpMetaSet, Value: repair.ClientValue}
	case Touch:
		exptime := exptimeOf(w.Line, w.Request)
		f.look = Look{TTL: TTLOf(exptime, w.At), Touched: true, At: w.At}
		dst = append(append(f.line(dst, "mg "), " T"...), exptime...)
		return append(dst, "\r\n"...), repair.Step{To: repair.Follower, Op: codec.OpMetaGet}
	}
	f.look = Look{At: w.At}
	return append(f.line(dst, "md "), "\r\n"...), repair.Step{To: repair.Follower, Op: codec.OpMetaDelete}
}

// appendSet appends the ms that stores what the lead has stored.
func (f *Follow) appendSet(dst []byte, w *Write) []byte {
	req := w.Request
	if req.Op.Meta() {
		dst = appendNumber(f.keyed(dst, "ms "), " ", uint64(req.Value))
		if f.repair.Options().Base64 {
			dst = append(dst, " b"...)
		}
		for _, c := range [...]byte{'F', 'T'} {
			if req.Meta.Has(c) {
				dst = append(append(dst, ' ', c), argOf(w.Line, req, c)...)
			}
		}
	} else {
		dst = appendStore(dst, w.Line, req)
	}
	if w.Explicit {
		dst = appendNumber(dst, " E", f.look.Cas)
	}
	return append(dst, " c\r\n"...)
}

// Answer takes the line of the answer to the request before, and appends the
// next one.
func (f *Follow) Answer(dst, line []byte, now int64) ([]byte, repair.Step) {
	switch f.state {
	case followTold:
		a := repair.ParseReply(line)
		return f.told(dst, &a, now)
	case followLook:
		a := repair.ParseReply(line)
		v := f.look.Judge(&a, f.version, now)
		if v.Settled {
			return f.done(dst, repair.Copied)
		}
		cause := repair.CauseRace
		if a.Code == repair.CodeHD && (f.look.Touched || a.Cas == f.look.Cas) {
			cause = repair.CauseTTL
		}
		return f.fix(dst, v.Begin, cause, now)
	case followRepair:
		return f.step(f.repair.Answer(dst, line, now))
	}
	panic("converge: an answer that nobody waits for")
}

// told hears what the follower did.
func (f *Follow) told(dst []byte, a *repair.Reply, now int64) ([]byte, repair.Step) {
	switch {
	case a.Code == repair.CodeHD && f.effect == Forget, a.Code == repair.CodeNF, a.Code == repair.CodeEN:
		return f.done(dst, repair.Absent)
	case a.Code != repair.CodeHD:
		return f.fix(dst, repair.Ask(), repair.CauseFate, now)
	}
	f.version, f.state = a.Cas, followLook
	dst = append(f.line(dst, "mg "), " c t u\r\n"...)
	return dst, repair.Step{To: repair.Lead, Op: codec.OpMetaGet, Held: true}
}

// Lost takes the news that the node of the request before will not answer it.
func (f *Follow) Lost(dst []byte) ([]byte, repair.Step) {
	switch f.state {
	case followRepair:
		return f.step(f.repair.Lost(dst))
	case followLook:
		return f.done(dst, repair.LeadLost)
	}
	return f.done(dst, repair.Debt)
}

// Repairs reports whether a repair has become necessary, and why.
func (f *Follow) Repairs() (repair.Cause, bool) { return f.cause, f.state == followRepair }

// Key is the key of the write, as written.
func (f *Follow) Key() []byte { return f.repair.Key() }

func (f *Follow) fix(dst []byte, begin repair.Begin, cause repair.Cause, now int64) ([]byte, repair.Step) {
	f.state, f.cause = followRepair, cause
	return f.step(f.repair.Start(dst, begin, now))
}

func (f *Follow) step(dst []byte, s repair.Step) ([]byte, repair.Step) {
	if s.Outcome != repair.Running {
		f.state = followIdle
	}
	return dst, s
}

func (f *Follow) done(dst []byte, o repair.Outcome) ([]byte, repair.Step) {
	f.state = followIdle
	return dst, repair.Step{Outcome: o, Held: o == repair.Copied || o == repair.Absent}
}

// line appends "word key" and the b of a key in base64.
func (f *Follow) line(dst []byte, word string) []byte {
	dst = f.keyed(dst, word)
	if f.repair.Options().Base64 {
		dst = append(dst, " b"...)
	}
	return dst
}

func (f *Follow) keyed(dst []byte, word string) []byte {
	return append(append(dst, word...), f.repair.Key()...)
}

// AppendText appends all that f knows, but for its key, for logs and to tell two
// of them apart.
func (f *Follow) AppendText(dst []byte) []byte {
	dst = append(append(dst, f.effect.String()...), ' ')
	for _, v := range [...]uint64{uint64(f.state), f.look.Cas, uint64(f.look.TTL), f.version} {
		dst = append(appendNumber(dst, "", v), ' ')
	}
	return f.repair.AppendText(dst)
}

// AppendAsk appends the request for a follower's version.
func AppendAsk(dst, key []byte, base64 bool) []byte {
	dst = append(append(dst, "mg "...), key...)
	if base64 {
		dst = append(dst, " b"...)
	}
	return append(dst, " c u\r\n"...)
}
