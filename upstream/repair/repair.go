package repair

import (
	"encoding/binary"
	"strconv"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream/token"
)

// Side is which of the two nodes a request is for.
type Side uint8

const (
	Lead Side = iota
	Follower
)

// Outcome is how a repair ended. Running and Needed are no ends.
type Outcome uint8

const (
	Running   Outcome = iota // it has not: send what the Step says
	Needed                   // package converge: a repair is to be started when its turn comes
	Copied                   // the follower holds what the lead holds
	Absent                   // the follower has no item, and the lead has none
	Overtaken                // later writers have seen to it
	Dropped                  // the follower's copy was given up: it misses, which is safe
	LeadLost                 // the lead failed: the follower holds what it was last given
	Debt                     // the follower failed: what it holds is not known
	NumOutcomes
)

var outcomes = [NumOutcomes]string{"running", "needed", "copied", "absent", "overtaken", "dropped", "lead lost", "debt"}

func (o Outcome) String() string { return outcomes[o] }

// holds reports whether the follower holds a state of the lead that is new enough.
func (o Outcome) holds() bool { return o == Copied || o == Absent || o == Overtaken }

// Value is what belongs behind a request line, with its CRLF.
type Value uint8

const (
	NoValue     Value = iota
	LeadValue         // the value of the VA that was just answered
	ClientValue       // the value that the client stores (package converge)
)

// Step says what to do with the bytes that were appended. The request's key
// begins behind its first three bytes.
type Step struct {
	Outcome Outcome  // Running: send; else nothing was appended
	To      Side     // who gets the request
	Op      codec.Op // what it is
	Value   Value    // what follows its line
	Held    bool     // from here on the follower holds a state of the lead no older than Start, or nothing
}

// Begin is what is known when a repair starts.
type Begin struct {
	kind    kind
	version uint64
	ttl     int64
}

type kind uint8

const (
	kindAsk kind = iota
	kindHeld
	kindBefore
	kindCold
	kindTTL
	kindStale
	kindDrop
)

// Ask begins with nothing known.
func Ask() Begin { return Begin{} }

// Held begins at a follower whose version, 0 for no item, is known to have been
// version at some time since the writer who asks for this changed the lead.
func Held(version uint64) Begin { return Begin{kind: kindHeld, version: version} }

// Before is Held for a version that is older than the writer's change.
func Before(version uint64) Begin { return Begin{kind: kindBefore, version: version} }

// Cold begins the refill of a follower that has lost everything: what is there
// now is newer than the refill and is let be.
func Cold() Begin { return Begin{kind: kindCold} }

// TTL begins with a follower whose TTL alone may be wrong; ttl is the lead's.
func TTL(ttl int64) Begin { return Begin{kind: kindTTL, ttl: ttl} }

// Stale begins with a lead whose item was seen to be stale. If that look was
// handed the W, won is the version it saw: the W is given back for a client to
// win. Else won is 0.
func Stale(won uint64) Begin { return Begin{kind: kindStale, version: won} }

// Drop gives the follower's copy up at once: there is no room to repair it.
func Drop() Begin { return Begin{kind: kindDrop} }

// GivesBack reports whether b gives a W back: no other run does that in its place.
func (b Begin) GivesBack() bool { return b.kind == kindStale && b.version != 0 }

// Adds reports whether b gives the follower nothing in place of what it has.
func (b Begin) Adds() bool { return b.kind == kindCold }

// MaxReads bounds how often the lead is read before the follower's copy is dropped.
const MaxReads = 6

// Options say how the key is written and what the nodes know.
type Options struct {
	Base64   bool // the key is in base64
	Explicit bool // nodes know the E flag: the copy takes the lead's version if that is token.Sourced
	// Skew is by how many seconds the follower's clock is ahead of that which now is told by,
	// the lead's: a TTL that is too long to be said as one is given as a time of it.
	Skew int64
}

// Repair makes one key at a follower what it is at the lead. The zero value is
// ready for Reset. It holds no pointer and is copied by assignment.
//
//	      ┌──────── refused once ─────┐
//	      ▼                           │
//	──▶ version ──▶ read ──▶ write ───┴─ refused twice ──▶ lives ──▶ done
//	                 ▲         ▼                                      ▲
//	                 └────── verify ──────────────────────────────────┘
//
// From anywhere: delete at the follower, guarded if the lead has no item, plain
// if the item is not one to be copied or there is no end to it. Behind an add of which
// the follower said nothing (Silent, Unsure) a verify that does not end it leads back to
// version, and if the lead is lost, so does that.
type Repair struct {
	key     [text.MaxKey]byte
	keyLen  uint8
	opt     Options
	state   state
	cold    bool
	added   bool  // the follower had no item before our write
	blind   bool  // the follower may have what an add made whose version is not known
	early   bool  // held is older than the change that asks for this
	refused uint8 // writes that others were faster than, since that change
	reads   uint8
	end     Outcome // of the delete under way
	held    uint64  // the follower's version, 0 for no item
	least   uint64  // the versions that what a silent add made may have
	most    uint64  // 0: nobody knows
	cas     uint64  // the lead's version as read
	ttl     int64   // its TTL as read, or as touched
	at      int64   // when that was
}

type state uint8

const (
	stateIdle     state = iota
	stateVersion        // T: the follower was asked for its version
	stateRead           // R: the lead was asked for its item
	stateWrite          // W: the follower was given it
	stateVerify         // V: the lead was asked for its version
	stateLives          // the lead was asked whether it is there
	stateRemove         // the follower was told to delete our version
	stateGiveBack       // the lead was told to let another client win
	stateDrop           // the follower was told to delete whatever it has
	stateTouch          // the follower was given a TTL
	stateTouched        // the lead was asked whether it is still that
)

// Reset makes r a repair of key, which is copied. At most text.MaxKey bytes.
func (r *Repair) Reset(key []byte, opt Options) {
	*r = Repair{opt: opt}
	r.keyLen = uint8(copy(r.key[:], key))
}

// Key is the key as given to Reset.
func (r *Repair) Key() []byte { return r.key[:r.keyLen] }

// SetSkew changes Options.Skew.
func (r *Repair) SetSkew(seconds int64) { r.opt.Skew = seconds }

// Options are what was given to Reset.
func (r *Repair) Options() Options { return r.opt }

// Start appends the first request. now is the Unix time, as it is everywhere: by the
// lead's clock, if that is known.
func (r *Repair) Start(dst []byte, from Begin, now int64) ([]byte, Step) {
	*r = Repair{key: r.key, keyLen: r.keyLen, opt: r.opt, cold: from.kind == kindCold}
	switch from.kind {
	case kindHeld, kindBefore:
		r.held, r.early = from.version, from.kind == kindBefore
		return r.read(dst, now)
	case kindCold:
		return r.read(dst, now)
	case kindTTL:
		return r.touch(dst, from.ttl, now)
	case kindStale:
		return r.stale(dst, from.version)
	case kindDrop:
		return r.drop(dst, Dropped)
	}
	return r.version(dst)
}

// Answer takes the line of the answer to the request before, and appends the
// next one.
func (r *Repair) Answer(dst, line []byte, now int64) ([]byte, Step) {
	a := ParseReply(line)
	return r.Parsed(dst, &a, now)
}

// Parsed is Answer for who has parsed the line.
func (r *Repair) Parsed(dst []byte, a *Reply, now int64) ([]byte, Step) {
	switch r.state {
	case stateVersion:
		return r.versioned(dst, a, now)
	case stateRead:
		return r.was(dst, a, now)
	case stateWrite:
		return r.wrote(dst, a, now)
	case stateVerify:
		return r.verified(dst, a, now)
	case stateLives:
		if a.Has(MarkStale) {
			return r.stale(dst, wonBy(a))
		}
		return r.done(dst, Overtaken)
	case stateRemove:
		return r.removed(dst, a)
	case stateGiveBack:
		return r.drop(dst, Dropped)
	case stateDrop:
		if a.Code == CodeHD || a.Code == CodeNF {
			return r.done(dst, r.end)
		}
		return r.done(dst, Debt)
	case stateTouch:
		return r.touchedFollower(dst, a)
	case stateTouched:
		return r.touchedLead(dst, a, now)
	}
	panic("repair: an answer that nobody waits for")
}

// Lost takes the news that the node of the request before will not answer it.
func (r *Repair) Lost(dst []byte) ([]byte, Step) {
	switch r.state {
	case stateRead, stateVerify:
		// What was added where nothing was may have been deleted meanwhile, with
		// no trace of that. There is no lead to tell.
		switch {
		case r.blind && r.state == stateVerify:
			return r.version(dst)
		case r.blind:
			return r.done(dst, Debt)
		case r.added:
			return r.remove(dst, LeadLost)
		}
		return r.done(dst, LeadLost)
	case stateTouched, stateLives:
		return r.done(dst, LeadLost)
	case stateGiveBack:
		return r.drop(dst, LeadLost)
	}
	return r.done(dst, Debt)
}

// Silent is Parsed for an add, the first write of a repair that began Cold, which was
// sent with q in place of its c, and of which the follower said nothing though it has
// answered what it was sent behind it: it is carried out. What it made has a version
// from least to most; most is 0 if nobody knows.
func (r *Repair) Silent(dst []byte, least, most uint64) ([]byte, Step) {
	r.ours(least, most)
	if r.least == r.most && r.most != 0 {
		return r.wrote(dst, &Reply{Code: CodeHD, Cas: r.most}, 0)
	}
	r.added, r.blind = true, true
	return r.verify(dst, false)
}

// Unsure is Silent for an add of which nobody knows whether it was carried out.
func (r *Repair) Unsure(dst []byte, least, most uint64) ([]byte, Step) {
	r.ours(least, most)
	r.blind = true
	return r.careful(dst)
}

// ours notes which versions what was added may have. One that it was given is known, and
// is given to other copies of the same item alone.
func (r *Repair) ours(least, most uint64) {
	if r.least, r.most = least, most; r.explicit(r.cas) {
		r.least, r.most = r.cas, r.cas
	}
}

// careful begins as with Ask, behind an add of which too little is known.
func (r *Repair) careful(dst []byte) ([]byte, Step) {
	r.cold = false
	return r.version(dst)
}

// explicit reports whether a copy is given the version cas of the lead's item.
func (r *Repair) explicit(cas uint64) bool { return r.opt.Explicit && token.Sourced(cas) }

// version asks the follower for its version.
func (r *Repair) version(dst []byte) ([]byte, Step) {
	r.state, r.added = stateVersion, false
	return r.ask(dst, " c u"), Step{To: Follower, Op: codec.OpMetaGet}
}

func (r *Repair) versioned(dst []byte, a *Reply, now int64) ([]byte, Step) {
	switch {
	case a.Code == CodeHD && a.Cas != 0: // an item with none is that of a memcached -C
		r.held = a.Cas
		if r.blind && r.most != 0 {
			r.blind, r.added = false, a.Cas >= r.least && a.Cas <= r.most
		}
	case a.Code == CodeEN:
		r.held, r.blind = 0, false
	default:
		return r.drop(dst, Dropped)
	}
	return r.read(dst, now)
}

// read asks the lead for its item. The h makes the node hold the item's lock
// while it answers, so that value, version and TTL belong together; the u keeps
// the repair from counting as use of the item.
func (r *Repair) read(dst []byte, now int64) ([]byte, Step) {
	if r.reads++; r.reads > MaxReads {
		return r.drop(dst, Dropped)
	}
	r.state, r.at = stateRead, now
	return r.ask(dst, " v f t c h u"), Step{To: Lead, Op: codec.OpMetaGet}
}

// was takes the lead's item. What a client's plain get would take for a value
// and is none is not copied: a placeholder that mg N made, or a stale item.
func (r *Repair) was(dst []byte, a *Reply, now int64) ([]byte, Step) {
	switch {
	case a.Code == CodeEN, a.Code == CodeVA && a.TTL == 0:
		switch {
		case r.held != 0:
			return r.remove(dst, Absent)
		case r.early: // another write may have come and stayed since
			r.early = false
			return r.version(dst)
		}
		return r.done(dst, Absent)
	case a.Code != CodeVA, a.Cas == 0, a.Has(MarkSent) && a.Size == 0:
		return r.drop(dst, Dropped)
	case a.Has(MarkStale):
		return r.stale(dst, wonBy(a))
	}
	r.cas, r.ttl = a.Cas, a.TTL
	return r.write(dst, a, now)
}

// write gives the follower what the lead had.
func (r *Repair) write(dst []byte, a *Reply, now int64) ([]byte, Step) {
	dst = r.line(dst, "ms ")
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, uint64(a.Size), 10)
	dst = r.key64(dst)
	dst = append(dst, " F"...)
	dst = strconv.AppendUint(dst, a.Flags, 10)
	dst = appendTTL(dst, a.TTL, now+r.opt.Skew)
	if r.held == 0 {
		dst = append(dst, " ME"...)
	} else {
		dst = appendGuard(dst, r.held)
	}
	if r.explicit(a.Cas) {
		dst = append(dst, " E"...)
		dst = strconv.AppendUint(dst, a.Cas, 10)
	}
	r.state = stateWrite
	return append(dst, " c\r\n"...), Step{To: Follower, Op: codec.OpMetaSet, Value: LeadValue}
}

func (r *Repair) wrote(dst []byte, a *Reply, now int64) ([]byte, Step) {
	switch a.Code {
	case CodeHD:
		r.added, r.early, r.blind = r.held == 0, false, false
		r.held = a.Cas
		return r.verify(dst, !r.added)
	case CodeEX, CodeNS:
		return r.beaten(dst)
	case CodeNF:
		// It may be that nobody wrote and the node needed the room.
		if r.cold {
			return r.done(dst, Overtaken)
		}
		r.held, r.early, r.blind = 0, false, false
		return r.read(dst, now)
	}
	return r.drop(dst, Dropped)
}

// verify looks at the lead again.
func (r *Repair) verify(dst []byte, held bool) ([]byte, Step) {
	r.state = stateVerify
	return r.ask(dst, " c t u"), Step{To: Lead, Op: codec.OpMetaGet, Held: held}
}

// beaten goes on after a write or a delete that another writer was faster than.
func (r *Repair) beaten(dst []byte) ([]byte, Step) {
	r.blind = false // whatever was added has been replaced or deleted
	if r.early {
		// The faster one may have read the lead before that was changed.
		r.early = false
		return r.version(dst)
	}
	if r.cold {
		return r.done(dst, Overtaken)
	}
	if r.refused++; r.refused < 2 {
		return r.version(dst)
	}
	// If the lead is gone, the faster one may have taken the follower for the lead.
	r.state = stateLives
	return r.ask(dst, " c t u"), Step{To: Lead, Op: codec.OpMetaGet}
}

func (r *Repair) verified(dst []byte, a *Reply, now int64) ([]byte, Step) {
	switch {
	case a.Code == CodeEN && !r.blind:
		return r.remove(dst, Absent)
	case a.Code != CodeHD && a.Code != CodeEN:
		return r.drop(dst, Dropped)
	case a.Has(MarkStale):
		return r.stale(dst, wonBy(a))
	case a.Code == CodeHD && SameTTL(r.ttl, a.TTL, now-r.at) && (a.Cas == r.cas || !r.added):
		return r.done(dst, Copied)
	case r.blind:
		return r.careful(dst)
	}
	return r.read(dst, now)
}

// remove deletes the version that the follower is known to have.
func (r *Repair) remove(dst []byte, end Outcome) ([]byte, Step) {
	r.state, r.end = stateRemove, end
	dst = r.key64(r.line(dst, "md "))
	return append(appendGuard(dst, r.held), "\r\n"...), Step{To: Follower, Op: codec.OpMetaDelete}
}

func (r *Repair) removed(dst []byte, a *Reply) ([]byte, Step) {
	switch {
	case a.Code == CodeHD, a.Code == CodeNF:
		return r.done(dst, r.end)
	case a.Code == CodeEX && r.end == LeadLost:
		return r.done(dst, LeadLost)
	case a.Code == CodeEX:
		return r.beaten(dst)
	}
	return r.drop(dst, Dropped)
}

// stale drops a copy of what is stale at the lead. If reading it handed us the
// W, which is meant for a client, the item is marked stale once more first.
func (r *Repair) stale(dst []byte, won uint64) ([]byte, Step) {
	if won == 0 {
		return r.drop(dst, Dropped)
	}
	r.state = stateGiveBack
	dst = append(r.key64(r.line(dst, "md ")), " I"...)
	return append(appendGuard(dst, won), "\r\n"...), Step{To: Lead, Op: codec.OpMetaDelete}
}

func wonBy(a *Reply) uint64 {
	if a.Has(MarkWon) {
		return a.Cas
	}
	return 0
}

// drop deletes whatever the follower has, which is always safe.
func (r *Repair) drop(dst []byte, end Outcome) ([]byte, Step) {
	r.state, r.end = stateDrop, end
	return append(r.key64(r.line(dst, "md ")), "\r\n"...), Step{To: Follower, Op: codec.OpMetaDelete}
}

// touch gives the follower the lead's TTL.
func (r *Repair) touch(dst []byte, ttl, now int64) ([]byte, Step) {
	if r.reads++; ttl == 0 || r.reads > MaxReads {
		r.reads = 0
		return r.version(dst)
	}
	r.state, r.ttl, r.at = stateTouch, ttl, now
	dst = appendTTL(r.key64(r.line(dst, "mg ")), ttl, now+r.opt.Skew)
	return append(dst, "\r\n"...), Step{To: Follower, Op: codec.OpMetaGet}
}

func (r *Repair) touchedFollower(dst []byte, a *Reply) ([]byte, Step) {
	switch a.Code {
	case CodeHD:
		r.state = stateTouched
		return r.ask(dst, " c t u"), Step{To: Lead, Op: codec.OpMetaGet, Held: true}
	case CodeEN:
		return r.done(dst, Absent)
	}
	return r.drop(dst, Dropped)
}

func (r *Repair) touchedLead(dst []byte, a *Reply, now int64) ([]byte, Step) {
	switch {
	case a.Code != CodeHD:
		return r.version(dst) // it is gone, or the lead is odd: see about all of it
	case a.Has(MarkStale):
		return r.stale(dst, wonBy(a))
	case SameTTL(r.ttl, a.TTL, now-r.at):
		return r.done(dst, Copied)
	}
	return r.touch(dst, a.TTL, now)
}

func (r *Repair) done(dst []byte, o Outcome) ([]byte, Step) {
	r.state = stateIdle
	return dst, Step{Outcome: o, Held: o.holds()}
}

// line appends "word key".
func (r *Repair) line(dst []byte, word string) []byte {
	return append(append(dst, word...), r.Key()...)
}

func (r *Repair) key64(dst []byte) []byte {
	if r.opt.Base64 {
		return append(dst, " b"...)
	}
	return dst
}

// ask appends an mg.
func (r *Repair) ask(dst []byte, flags string) []byte {
	return AppendGet(dst, r.Key(), r.opt.Base64, flags)
}

// AppendGet appends an mg with flags, each with a space before it. The answer names
// the key, so that it is not taken for the answer to another request. For a key in
// base64 it echoes an opaque instead, the end of the key: memcached 1.6.18 forgets
// that an item which mg N made has such a key, and says its bytes as they are, line
// ends included.
func AppendGet(dst, key []byte, base64 bool, flags string) []byte {
	dst = append(append(dst, "mg "...), key...)
	if !base64 {
		return append(append(dst, flags...), " k\r\n"...)
	}
	dst = append(append(append(dst, " b"...), flags...), " O"...)
	return append(append(dst, key[max(0, len(key)-maxOpaque):]...), "\r\n"...)
}

// maxOpaque is the longest opaque, its O aside, that nodes take.
const maxOpaque = 31

func appendGuard(dst []byte, version uint64) []byte {
	return strconv.AppendUint(append(dst, " C"...), version, 10)
}

// relative is the longest time, in seconds, that a node takes as counted from
// now: it takes a larger number for a Unix time.
const relative = 60 * 60 * 24 * 30

// appendTTL appends the T flag that gives an item the TTL that another node
// reports as ttl. Nodes read it as a signed number of 32 bits.
func appendTTL(dst []byte, ttl, now int64) []byte {
	switch {
	case ttl == Forever:
		ttl = 0
	case ttl > relative:
		ttl = min(now+ttl, 1<<31-1)
	}
	return strconv.AppendInt(append(dst, " T"...), ttl, 10)
}

// ttlSlack bounds, in seconds, how far a node's clock may seem to be from the
// caller's, or to have gone faster: it counts whole seconds, and a busy machine may
// delay a tick.
const ttlSlack = 2

// SameTTL reports whether an item whose TTL was then can have the TTL is after
// elapsed seconds with nobody having changed it.
func SameTTL(then, is, elapsed int64) bool {
	if then == Forever || is == Forever {
		return then == is
	}
	return is <= then+ttlSlack && is >= then-max(elapsed, 0)-ttlSlack
}

// AppendState appends all that r knows, but for its key, in a form that only tells
// two repairs apart.
func (r *Repair) AppendState(dst []byte) []byte {
	dst = append(dst, byte(r.state), r.refused, r.reads, byte(r.end), bit(r.cold)|bit(r.added)<<1|bit(r.early)<<2|bit(r.blind)<<3)
	for _, v := range [...]uint64{r.held, r.least, r.most, r.cas, uint64(r.ttl), uint64(r.at)} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// AppendState is what Repair.AppendState is.
func (b Begin) AppendState(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(b.kind)), b.version)
	return binary.LittleEndian.AppendUint64(dst, uint64(b.ttl))
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
