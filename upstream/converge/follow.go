package converge

import (
	"encoding/binary"

	"magent/codec"
	"magent/upstream/repair"
	"magent/upstream/token"
)

// Write is a write that its lead has answered.
type Write struct {
	Line    []byte         // the client's line, or what AppendLead made of it
	Request *codec.Request // what it was parsed into
	Answer  []byte         // the lead's reply; its first line is enough
	// At is when the request went to the lead, as Unix time by the lead's clock.
	At       int64
	Explicit bool // all replicas know the E flag: followers take the lead's version if a Source made it
	Once     bool // no second look: a Set, Delete or Touch is done when the follower has answered
	// Asked says that Version is what the follower answered to AppendAsk, 0 for no
	// item, before the lead was sent the write; else it is 0. With it a Copy need not
	// ask, and the Set of a Conditional write need not be a repair.
	Asked   bool
	Version uint64
}

// Follow carries the effect of one write to one follower.
//
//	Set, Delete, Touch:          effect ──▶ look ──▶ settled
//	                               │ fails    │ the lead has moved
//	                               ▼          ▼
//	Copy, unguarded conditional:  needed ── its turn ──▶ repair ──▶ its outcome
//
// It never starts a repair by itself: the Step's Outcome is then repair.Needed, and
// whoever drives it has the choice. Begin carries the repair out, when its turn
// comes in a repair.Queue; the run of another job that began later stands for it,
// and nothing more happens here; or Drop gives the follower's copy up.
//
// The zero value is ready for Start. It holds no pointer, and may be used again.
type Follow struct {
	effect  Effect
	state   followState
	once    bool
	look    Look
	version uint64       // the follower's, after our write
	begin   repair.Begin // of the repair that is needed
	cause   repair.Cause
	repair  repair.Repair
}

type followState uint8

const (
	followIdle   followState = iota
	followTold               // the follower was sent the effect
	followLook               // the lead was asked
	followNeeded             // a repair is to be started
	followRepair
)

// Start appends the first request of the effect e, which EffectOf gave for w and
// is not Nothing. The views in w are not kept.
func (f *Follow) Start(dst []byte, e Effect, w *Write) ([]byte, repair.Step) {
	opt := repair.Options{Base64: w.Request.Meta.Has('b'), Explicit: w.Explicit}
	*f = Follow{effect: e, state: followTold, once: w.Once}
	f.repair.Reset(w.Request.Key.In(w.Line), opt)
	switch {
	case e == Copy, e == Set && Conditional(w.Request) && w.Version == 0:
		begin := repair.Ask()
		if w.Asked {
			begin = repair.Before(w.Version)
		}
		cause := repair.CauseUnversed
		if Relative(w.Request) || Conditional(w.Request) {
			cause = repair.CauseRelative
		}
		return f.need(dst, begin, cause)
	case e == Set:
		f.look = Look{Cas: versionOf(w.Answer), TTL: TTLOf(exptimeOf(w.Line, w.Request), w.At), At: w.At}
		return f.appendSet(dst, w), repair.Step{To: repair.Follower, Op: codec.OpMetaSet, Value: repair.ClientValue}
	case e == Touch:
		exptime := exptimeOf(w.Line, w.Request)
		f.look = Look{TTL: TTLOf(exptime, w.At), Touched: true, At: w.At}
		dst = append(append(f.line(dst, "mg "), " T"...), exptime...)
		return append(dst, "\r\n"...), repair.Step{To: repair.Follower, Op: codec.OpMetaGet}
	}
	f.look = Look{At: w.At}
	return append(f.line(dst, "md "), "\r\n"...), repair.Step{To: repair.Follower, Op: codec.OpMetaDelete}
}

// SetSkew says by how many seconds the follower's clock is ahead of the lead's, as
// repair.Options does, for the repair that is to begin.
func (f *Follow) SetSkew(seconds int64) { f.repair.SetSkew(seconds) }

// appendSet appends the ms that stores what the lead has stored. What was stored on a
// condition is told the follower on one: if the lead dies and another proxy is first
// to have the follower lead, what it then writes there must not be thrown away by a
// write that would have been refused after it.
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
	switch {
	case Conditional(req):
		dst = appendNumber(dst, " C", w.Version)
	case adds(req):
		dst = append(dst, " ME"...)
	}
	if w.Explicit && token.Sourced(f.look.Cas) {
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
		return f.told(dst, &a)
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
		return f.need(dst, v.Begin, cause)
	case followRepair:
		return f.step(f.repair.Answer(dst, line, now))
	}
	panic("converge: an answer that nobody waits for")
}

// told hears what the follower did.
func (f *Follow) told(dst []byte, a *repair.Reply) ([]byte, repair.Step) {
	refused := a.Code == repair.CodeEX || a.Code == repair.CodeNS || a.Code == repair.CodeNF
	switch {
	case refused && f.effect == Set:
		return f.need(dst, repair.Ask(), repair.CauseRace)
	case a.Code == repair.CodeHD && f.effect == Forget, a.Code == repair.CodeNF, a.Code == repair.CodeEN:
		return f.done(dst, repair.Absent)
	case a.Code != repair.CodeHD:
		return f.need(dst, repair.Ask(), repair.CauseFate)
	case f.once:
		return f.done(dst, repair.Copied)
	}
	f.version, f.state = a.Cas, followLook
	dst = repair.AppendGet(dst, f.Key(), f.Options().Base64, " c t u")
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

// need has the caller see to a repair.
func (f *Follow) need(dst []byte, begin repair.Begin, cause repair.Cause) ([]byte, repair.Step) {
	f.state, f.begin, f.cause = followNeeded, begin, cause
	return dst, repair.Step{Outcome: repair.Needed}
}

// Begin starts the repair that is needed. fresh says that it stands for this write
// alone and has waited for no other run: else what is known is not enough to begin
// with, and it starts with repair.Ask, unless it is Alone.
func (f *Follow) Begin(dst []byte, now int64, fresh bool) ([]byte, repair.Step) {
	if f.state != followNeeded {
		panic("converge: no repair is needed")
	}
	begin := f.begin
	if !fresh && !f.Alone() {
		begin = repair.Ask()
	}
	return f.start(dst, begin, now)
}

// Mend is Start for a follower that may hold anything of key: a repair is needed, and
// cause says why.
func (f *Follow) Mend(key []byte, opt repair.Options, cause repair.Cause) {
	*f = Follow{}
	f.repair.Reset(key, opt)
	f.need(nil, repair.Ask(), cause)
}

// Move is Start for a follower that has come to hold key where the lead held it before: it
// gets what the lead has if it has nothing. No other run can stand for that: it would
// overwrite what is newer.
func (f *Follow) Move(key []byte, opt repair.Options) {
	*f = Follow{}
	f.repair.Reset(key, opt)
	f.need(nil, repair.Cold(), repair.CausePlacement)
}

// Drop has the follower give its copy up, in place of the repair that is needed or
// after any outcome. A W that is to be given back is.
func (f *Follow) Drop(dst []byte) ([]byte, repair.Step) {
	begin := repair.Drop()
	if f.begin.GivesBack() {
		begin = f.begin
	}
	return f.start(dst, begin, 0)
}

// Again repairs the follower from another lead, after the outcome LeadLost.
func (f *Follow) Again(dst []byte, now int64) ([]byte, repair.Step) {
	return f.start(dst, repair.Ask(), now)
}

func (f *Follow) start(dst []byte, begin repair.Begin, now int64) ([]byte, repair.Step) {
	f.state, f.begin = followRepair, repair.Begin{}
	return f.step(f.repair.Start(dst, begin, now))
}

// Cause is why a repair is, or was, needed.
func (f *Follow) Cause() repair.Cause { return f.cause }

// Alone reports whether another's run cannot stand for the repair that is needed: it gives
// back a W that a look was handed, or is a Move.
func (f *Follow) Alone() bool { return f.begin.GivesBack() || f.begin.Adds() }

// Key is the key of the write, as written.
func (f *Follow) Key() []byte { return f.repair.Key() }

// Options are the repair's.
func (f *Follow) Options() repair.Options { return f.repair.Options() }

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

// AppendState appends all that f knows, but for its key, in a form that only tells
// two of them apart.
func (f *Follow) AppendState(dst []byte) []byte {
	dst = append(dst, byte(f.effect), byte(f.state))
	for _, v := range [...]uint64{f.look.Cas, uint64(f.look.TTL), f.version} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return f.repair.AppendState(f.begin.AppendState(dst))
}

// AppendAsk appends the request for a follower's version.
func AppendAsk(dst, key []byte, base64 bool) []byte {
	return repair.AppendGet(dst, key, base64, " c u")
}
