package refill

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream/repair"
	"magent/upstream/token"
)

// Side is one of the two nodes.
type Side = repair.Side

// The sides. Source is the lead of every key that is copied, Target a follower.
const (
	Source = repair.Lead
	Target = repair.Follower
)

var sides = [2]string{Source: "source", Target: "target"}

// Key is a key to be copied.
type Key struct {
	Name []byte // as it is, not in base64
	Size int    // bytes of its item, as far as known: it bounds how many are in flight
}

// Outcome is how a key ended.
type Outcome uint8

const (
	Copied    Outcome = iota // the target holds what the source holds
	Present                  // the target has it from a later write
	Gone                     // the source has no such key
	Withdrawn                // the source lost it during the copy, and the copy is removed
	Unfit                    // what the source has is not to be copied: it is stale, or a placeholder that mg N made
	Failed                   // a node refused it, it changes too fast, or no node takes such a key; the target has none
	NumOutcomes
)

var outcomes = [NumOutcomes]string{"copied", "present", "gone", "withdrawn", "unfit", "failed"}

func (o Outcome) String() string { return outcomes[o] }

// Counts is what has become of keys.
type Counts struct {
	Ended   [NumOutcomes]uint64
	Retried uint64 // how often a key was read again, because it had changed or the copy was late
	Bytes   uint64 // of values that were read
}

// Add adds what o counts.
func (c *Counts) Add(o *Counts) {
	for i, n := range o.Ended {
		c.Ended[i] += n
	}
	c.Retried += o.Retried
	c.Bytes += o.Bytes
}

// Keys is how many have ended.
func (c *Counts) Keys() (n uint64) {
	for _, e := range c.Ended {
		n += e
	}
	return n
}

// Limits bound a Copier. A zero takes the default.
type Limits struct {
	Keys     int  // in flight at once; default 2048
	Bytes    int  // of items in flight at once, or one item; default 2 MiB
	Explicit bool // the nodes know the E flag: see repair.Options
}

const (
	defaultKeys  = 2048
	defaultBytes = 2 << 20
)

const (
	// late is how old a TTL may be when it is written. An older one is read again: the
	// target may have stood still between.
	late = 500 * time.Millisecond
	// month is the longest TTL, in seconds, that a node is given as such. A longer one it
	// is given as a time of its clock: see clocks.go.
	month = 60 * 60 * 24 * 30
	// maxLate is how often a key is read again for its TTL's sake.
	maxLate = 3
	// batchKeys and batchBytes bound what is added without an answer: the source is looked
	// at again behind each batch only.
	batchKeys  = 64
	batchBytes = 64 << 10
	// few and enough are what is sent together: a side is sent what there is if it has few
	// requests to answer or if that is enough bytes.
	few    = 64
	enough = 16 << 10
)

// Copier copies keys from the source to the target. See the package comment.
//
// A key in flight waits for one answer, of the source or of the target, and nodes
// answer in order:
//
//	Add ─▶ source.waits ⇄ target.waits ─▶ ended
//
// Adds are not answered one by one, but in batches: see batch. A key with a TTL above a
// month may wait for the nodes' clocks: see clocks.go.
//
// Invariants: of the entries, each is free, in the ring of one side, or unjudged. The adds
// of a batch stand together in the target's ring, and those of the open one are the last
// there.
type Copier struct {
	limits Limits
	free   []*entry
	bytes  int // of items in flight
	sides  [2]side
	newest uint64 // the highest version that the target is known to have numbered
	open   batch  // of adds, to which more may come
	erred  bool   // the target refused an add of the first batch, and did not say which
	line   []byte // room for a request
	counts Counts

	unjudged []*entry // were copied, and wait for what time it is at the source
	parked   []Key    // wait until the clocks are known
	hurried  bool     // nothing is parked any more
	rest     []Key
	doubt    []Key
}

// side is what goes on with one node.
type side struct {
	out  []byte // requests that are not sent yet
	part []byte // the beginning of an answer
	need int    // bytes that an answer is known to have at least; 0: not known
	lost bool
	time timekeeper
	ring []*entry // those that wait for its answers
	tail int
	n    int
	sent int // how many of them have been sent
}

// batch is adds that are sent one behind the other. All but the last are quiet: the
// target says something of those only that it refuses. An mn behind them, unless there is
// but one, ends the batch: what has had no answer then is carried out, but if there was an
// error, which does not say whose it is.
//
// A node numbers the versions of all its items as they are stored. So the last add is
// answered: between the version of the last one of the batch before and its own are those
// of the others in their order, and, if nobody else has stored anything, no more.
type batch struct {
	number uint32
	keys   int
	bytes  int
	last   *entry
	quiet  int // where the last one's q is, in what is to be sent to the target
}

// entry is a key in flight.
type entry struct {
	repair  repair.Repair
	name    []byte
	size    int
	coded   bool
	wants   bool // a value
	written bool // an ms was sent, and what came of it is not verified
	added   bool // the target took it
	adding  bool // its batch is not settled
	given   bool // its copy is given the version of the item
	loud    bool // its add is not quiet
	last    bool // it ends its batch
	batch   uint32
	said    repair.Code // of the add; CodeError: nothing
	least   uint64      // if its version is not known, it is from this
	most    uint64      // to that, or, if that is 0, unknown
	refused bool        // a node answered SERVER_ERROR
	late    bool        // the TTL was old when it was written, or has been changed since
	clock   bool        // it is no key: the side is asked what time it is
	op      codec.Op    // of the request that is not answered
	to      Side        // and who got it
	asked   time.Time   // when the item was asked for
	version uint64      // of the copy, 0 if it is not known
	ttl     int64       // as read
	left    int64       // at the second look
	before  int64       // what time it was at the source, as known at that look
	expires int64       // the time of the target's clock that the copy was given; 0: none
	reads   uint8
	lates   uint8
}

// NewCopier makes a Copier with nothing in flight.
func NewCopier(l Limits) *Copier {
	if l.Keys <= 0 {
		l.Keys = defaultKeys
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	c := &Copier{limits: l, free: make([]*entry, l.Keys)}
	entries := make([]entry, l.Keys)
	for i := range entries {
		c.free[i] = &entries[i]
	}
	for i := range c.sides {
		c.sides[i].ring = make([]*entry, l.Keys+1)
		c.sides[i].time.entry = &entry{clock: true, op: codec.OpStats, to: Side(i)}
	}
	return c
}

// Room reports whether Add may be called.
func (c *Copier) Room() bool { return c.room() && len(c.parked) < maxParked }

// room reports whether there is an entry for another key.
func (c *Copier) room() bool {
	idle := len(c.free) == c.limits.Keys
	return len(c.free) > 0 && (c.bytes < c.limits.Bytes || idle) && !c.sides[Source].lost && !c.sides[Target].lost
}

// InFlight is how many keys have not ended.
func (c *Copier) InFlight() int { return c.limits.Keys - len(c.free) + len(c.parked) }

// Owes reports whether a side has a request to answer.
func (c *Copier) Owes(s Side) bool { return c.sides[s].n > 0 }

// Backlog is how many bytes Requests would give.
func (c *Copier) Backlog(to Side) int { return len(c.sides[to].out) }

// Ready reports whether what Requests would give is worth being sent: more may come of
// answers that the side, which has something to do, owes.
func (c *Copier) Ready(to Side) bool {
	s := &c.sides[to]
	return len(s.out) > 0 && (s.sent < few || len(s.out) >= enough)
}

// Counts is what has come of keys so far.
func (c *Copier) Counts() *Counts { return &c.counts }

// Add begins to copy a key, whose name is copied. There must be Room.
func (c *Copier) Add(k Key, now time.Time) {
	if !c.Room() {
		panic("refill: a key is added where there is no room")
	}
	c.start(k, now)
}

func (c *Copier) start(k Key, now time.Time) {
	coded := odd(k.Name)
	if len(k.Name) == 0 || len(k.Name) > text.MaxKey || coded && base64.StdEncoding.EncodedLen(len(k.Name)) > text.MaxKey {
		c.counts.Ended[Failed]++ // one can come by the binary protocol only
		return
	}
	e := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	*e = entry{repair: e.repair, name: append(e.name[:0], k.Name...), size: max(0, k.Size)}
	c.bytes += e.size
	c.begin(e, coded, repair.Cold(), now)
}

// odd reports whether a key cannot be written as it is.
func odd(name []byte) bool {
	for _, b := range name {
		if b <= ' ' || b == 0x7f {
			return true
		}
	}
	return false
}

// Written is how a request names the key name: as it is, or in base64 if a byte of it
// would end a key there.
func Written(name []byte) (key []byte, coded bool) {
	if !odd(name) {
		return name, false
	}
	return base64.StdEncoding.AppendEncode(nil, name), true
}

// begin has e repaired from the beginning.
func (c *Copier) begin(e *entry, coded bool, from repair.Begin, now time.Time) {
	key := e.name
	if e.coded = coded; coded {
		var buf [text.MaxKey]byte
		key = base64.StdEncoding.AppendEncode(buf[:0], key)
	}
	e.repair.Reset(key, repair.Options{Base64: coded, Explicit: c.limits.Explicit})
	line, step := e.repair.Start(c.line[:0], from, c.at(now))
	c.follow(e, line, step, nil, now)
}

// Requests takes the bytes that are to be sent to a side, in this order. spare, or
// nil, is kept for those that come after them.
func (c *Copier) Requests(to Side, spare []byte) []byte {
	if to == Target {
		c.close()
	}
	s := &c.sides[to]
	out := s.out
	s.out, s.sent = spare[:0], s.n
	return out
}

// Answer takes bytes that a side has sent, in whatever pieces they come. An error
// says that they are no answer to what it was asked: nothing that it sends can be
// followed any more, and Lose is to be called.
func (c *Copier) Answer(from Side, b []byte, now time.Time) error {
	s := &c.sides[from]
	if len(s.part) > 0 {
		s.part = append(s.part, b...)
		b = s.part
	}
	for len(b) > 0 && len(b) >= s.need {
		n, err := c.answer(s, b, now)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	s.part = append(s.part[:0], b...)
	return nil
}

// answer takes the answer at the front of b and gives its length, 0 if it is not
// whole.
func (c *Copier) answer(s *side, b []byte, now time.Time) (int, error) {
	if s.n == 0 {
		return 0, fmt.Errorf("sent unasked: %.60q", b)
	}
	e := s.ring[s.tail]
	if e.clock {
		return c.hear(s, b, now)
	}
	var r codec.Reply
	switch err := text.ParseReply(b, codec.ShapeMeta, &r); {
	case errors.Is(err, text.ErrShort):
		s.need = len(b) + 1
		return 0, nil
	case err != nil:
		return 0, outOfStep(e, b)
	case r.Size() > len(b):
		s.need = r.Size()
		return 0, nil
	}
	s.need = 0
	line, value := b[:r.Line], []byte(nil)
	if e.adding {
		if !c.ofBatch(e, line, now) {
			return 0, outOfStep(e, line)
		}
		return int(r.Line), nil
	}
	if r.Kind == codec.KindValue {
		value = b[r.Line:r.Size()]
	}
	a := repair.ParseReply(line)
	if !e.answers(&r, &a, line, value) {
		return 0, outOfStep(e, line)
	}
	c.answered(s.pop(), &r, &a, value, now)
	return r.Size(), nil
}

// ofBatch takes a line of the answer to the batch of adds that e is the first of, and
// reports whether it can be one.
func (c *Copier) ofBatch(e *entry, line []byte, now time.Time) bool {
	if e.batch == c.open.number && c.open.keys > 0 {
		return false // it has not been sent
	}
	if string(line) == "MN\r\n" {
		return !e.last && c.settle(now)
	}
	a := repair.ParseReply(line)
	switch {
	case a.Code == repair.CodeError && bytes.HasPrefix(line, serverError):
		if e.last {
			c.sides[Target].pop()
			e.adding = false
			c.answered(e, &codec.Reply{}, &a, nil, now)
			return true
		}
		c.erred = true
		return true
	case a.Code != repair.CodeHD && a.Code != repair.CodeNS:
		return false
	}
	added := c.sides[Target].at(opaque(line))
	if added == nil || !added.adding || added.batch != e.batch || added.said != repair.CodeError {
		return false
	}
	if a.Code == repair.CodeHD && !added.loud {
		return false
	}
	added.said, added.version = a.Code, a.Cas
	return !e.last || c.settle(now)
}

// settle goes on with the adds of the first batch, which is at its end. It reports whether
// all were answered that had to be.
func (c *Copier) settle(now time.Time) bool {
	s := &c.sides[Target]
	n := 1
	for !s.ring[(s.tail+n-1)%len(s.ring)].last {
		n++
	}
	for i := range n {
		if e := s.ring[(s.tail+i)%len(s.ring)]; e.loud && e.said == repair.CodeError && !c.erred {
			return false
		}
	}
	c.number(n)
	erred := c.erred
	c.erred = false
	for range n {
		c.settled(s.pop(), erred, now)
	}
	return true
}

// number works out what versions the first n adds may have.
func (c *Copier) number(n int) {
	s, next := &c.sides[Target], uint64(0)
	for i := n - 1; i >= 0; i-- {
		e := s.ring[(s.tail+i)%len(s.ring)]
		switch {
		case e.numbered():
			next = e.version
		case next > 0 && e.said == repair.CodeError && !c.erred && !e.given:
			next--
		}
		e.most = next
	}
	for i := range n {
		e := s.ring[(s.tail+i)%len(s.ring)]
		switch {
		case e.numbered():
			c.newest = max(c.newest, e.version)
		case e.said == repair.CodeError && !c.erred && !e.given:
			c.newest++
		}
		e.least = c.newest
	}
}

// numbered reports whether the target has said what version it has numbered the copy.
func (e *entry) numbered() bool { return e.said == repair.CodeHD && !token.Sourced(e.version) }

// settled goes on with e, whose add is carried out, refused, or, if it was not answered
// and there was an error, one of both.
func (c *Copier) settled(e *entry, erred bool, now time.Time) {
	e.adding = false
	if e.said != repair.CodeError {
		c.answered(e, &codec.Reply{}, &repair.Reply{Code: e.said, Cas: e.version}, nil, now)
		return
	}
	version := uint64(0)
	switch {
	case e.least == e.most:
		version = e.most
	case e.least > e.most: // the node numbers in another way
		e.most = 0
	}
	c.wrote(e, version, now)
	var request []byte
	var step repair.Step
	if erred {
		request, step = e.repair.Unsure(c.line[:0], e.least, e.most)
	} else {
		request, step = e.repair.Silent(c.line[:0], e.least, e.most)
	}
	c.follow(e, request, step, nil, now)
}

// wrote notes that the target has taken e, or may have.
func (c *Copier) wrote(e *entry, version uint64, now time.Time) {
	e.added, e.version = true, version
	e.late = e.ttl != repair.Forever && e.expires == 0 && now.Sub(e.asked) > late
}

// opaque is the number that an answer echoes, -1 if it has none.
func opaque(line []byte) int {
	_, rest, ok := bytes.Cut(line, opaqueFlag)
	if !ok {
		return -1
	}
	n := 0
	for i, b := range rest {
		if d := int(b) - '0'; d >= 0 && d <= 9 && i < 9 {
			n = 10*n + d
			continue
		}
		if i == 0 || b != ' ' && b != '\r' {
			return -1
		}
		break
	}
	return n
}

func outOfStep(e *entry, b []byte) error {
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	return fmt.Errorf("out of step: answered %.80q to %v of key %.60q", line, e.op, e.name)
}

var (
	crlf        = []byte("\r\n")
	serverError = []byte("SERVER_ERROR")
	valueFlag   = []byte(" v ")
	opaqueFlag  = []byte(" O")
)

// answers reports whether the reply can be the one to e's request. What is read says
// whose it is.
func (e *entry) answers(r *codec.Reply, a *repair.Reply, line, value []byte) bool {
	switch a.Code {
	case repair.CodeError: // anything else is no answer to what we ask
		return bytes.HasPrefix(line, serverError)
	case repair.CodeVA:
		return e.op == codec.OpMetaGet && e.wants && bytes.HasSuffix(value, crlf) && e.named(r, line)
	case repair.CodeHD:
		return e.op != codec.OpMetaGet || !e.wants && e.named(r, line)
	case repair.CodeEN:
		return e.op == codec.OpMetaGet && (!e.says(r, line) || e.named(r, line))
	case repair.CodeNS:
		return e.op == codec.OpMetaSet
	}
	return e.op != codec.OpMetaGet // EX, NF
}

// says reports whether the answer says whose it is. One that is no miss must.
func (e *entry) says(r *codec.Reply, line []byte) bool {
	return r.Key.Len > 0 || e.coded && bytes.Contains(line, opaqueFlag)
}

// named reports whether the answer names e's key, or, if that is in base64, echoes
// the end of it.
func (e *entry) named(r *codec.Reply, line []byte) bool {
	if !e.coded {
		return text.SameKey(r.Key.In(line), r.Coded, e.repair.Key(), false)
	}
	_, end, _ := bytes.Cut(line, opaqueFlag)
	if n := bytes.IndexAny(end, " \r"); n >= 0 {
		end = end[:n]
	}
	return len(end) > 0 && bytes.HasSuffix(e.repair.Key(), end)
}

// answered goes on with e.
func (c *Copier) answered(e *entry, r *codec.Reply, a *repair.Reply, value []byte, now time.Time) {
	switch a.Code {
	case repair.CodeError:
		e.refused = true
	case repair.CodeVA:
		c.counts.Bytes += uint64(a.Size)
		c.bytes += int(a.Size) - e.size
		e.size, e.ttl = int(a.Size), a.TTL
		e.given = c.limits.Explicit && token.Sourced(a.Cas)
		// The item knows that its key was written in base64, and so must its copy.
		if r.Coded && e.reads == 0 && base64.StdEncoding.EncodedLen(len(e.name)) <= text.MaxKey {
			c.begin(e, true, repair.Cold(), now)
			return
		}
		e.reads++
		if e.expires = 0; e.ttl > month && !c.timed(e, now) {
			return
		}
	case repair.CodeHD:
		switch {
		case e.op == codec.OpMetaSet:
			c.wrote(e, a.Cas, now)
		case e.to == Source:
			e.before = c.sides[Source].time.says
			if e.left = a.TTL; !e.aged(now) {
				e.late = true
			}
		}
	}
	request, step := e.repair.Parsed(c.line[:0], a, c.at(now))
	c.follow(e, request, step, value, now)
}

// follow carries out the step that comes next for e. value is what was just read.
func (c *Copier) follow(e *entry, request []byte, step repair.Step, value []byte, now time.Time) {
	for step.Outcome == repair.Running && c.sides[step.To].lost {
		request, step = e.repair.Lost(request[:0])
	}
	c.line = request[:0]
	if step.Outcome != repair.Running {
		c.ended(e, step.Outcome, now)
		return
	}
	e.op, e.to, e.wants = step.Op, step.To, false
	switch step.Op {
	case codec.OpMetaGet:
		if e.wants = bytes.Contains(request, valueFlag); e.wants {
			e.asked = now
		}
	case codec.OpMetaSet:
		if !e.written {
			e.written = true
			c.add(e, request, value)
			return
		}
	}
	if step.To == Target {
		c.close()
	}
	s := &c.sides[step.To]
	s.out = append(s.out, request...)
	if step.Value == repair.LeadValue {
		s.out = append(s.out, value...)
	}
	s.push(e)
}

// add puts an add into the open batch. What makes it quiet is a q in place of the c that
// it ends in.
func (c *Copier) add(e *entry, request, value []byte) {
	s, b := &c.sides[Target], &c.open
	b.quiet = len(s.out) + len(request) - len("c\r\n")
	s.out = append(s.out, request[:len(request)-len("\r\n")]...)
	s.out[b.quiet] = 'q'
	s.out = strconv.AppendInt(append(s.out, opaqueFlag...), int64(s.push(e)), 10)
	s.out = append(append(s.out, crlf...), value...)
	e.adding, e.loud, e.last, e.said, e.batch = true, false, false, repair.CodeError, b.number
	b.last = e
	b.keys++
	b.bytes += len(request) + len(value)
	if b.keys == batchKeys || b.bytes >= batchBytes {
		c.close()
	}
}

// close ends the open batch.
func (c *Copier) close() {
	s, b := &c.sides[Target], &c.open
	if b.keys == 0 {
		return
	}
	s.out[b.quiet] = 'c'
	b.last.loud, b.last.last = true, true
	if b.keys > 1 {
		s.out = append(s.out, "mn\r\n"...)
	}
	*b = batch{number: b.number + 1}
}

// aged reports whether the time that has passed since the item was asked for explains
// what is left of its TTL. It is stricter than repair.SameTTL, which has two clocks, or
// a repair of long ago, to do with.
func (e *entry) aged(now time.Time) bool {
	passed := int64(now.Sub(e.asked)/time.Second) + 1
	return e.ttl == repair.Forever || e.left <= e.ttl && e.left >= e.ttl-passed
}

// again reads the item of a copied key again, as the copy's TTL is not right. It reports
// false if that was done often enough.
func (c *Copier) again(e *entry, now time.Time) bool {
	if e.lates == maxLate {
		return false
	}
	e.lates++
	from := repair.Ask()
	if e.version != 0 {
		from = repair.Held(e.version)
	}
	c.begin(e, e.coded, from, now)
	return true
}

// ended ends e, but for one whose TTL may not be right.
func (c *Copier) ended(e *entry, o repair.Outcome, now time.Time) {
	switch o {
	case repair.Copied:
		switch {
		case e.late && c.again(e, now):
		case e.expires != 0 && !c.sides[Source].lost && !c.sides[Target].lost:
			c.unjudged = append(c.unjudged, e)
			c.ask(Source, now)
		default:
			c.end(e, Copied)
		}
	case repair.Overtaken:
		c.end(e, Present)
	case repair.Absent:
		if e.added {
			c.end(e, Withdrawn)
		} else {
			c.end(e, Gone)
		}
	case repair.Dropped:
		if e.refused || e.reads >= repair.MaxReads {
			c.end(e, Failed)
		} else {
			c.end(e, Unfit)
		}
	default: // a node was lost
		c.giveUp(e, o == repair.Debt && e.written)
	}
}

func (c *Copier) end(e *entry, o Outcome) {
	c.counts.Ended[o]++
	c.counts.Retried += uint64(max(1, e.reads) - 1)
	c.release(e)
}

func (c *Copier) release(e *entry) {
	c.bytes -= e.size
	c.free = append(c.free, e)
}

// giveUp ends e with no outcome.
func (c *Copier) giveUp(e *entry, doubt bool) {
	k := Key{Name: bytes.Clone(e.name), Size: e.size}
	c.rest = append(c.rest, k)
	if doubt {
		c.doubt = append(c.doubt, k)
	}
	c.release(e)
}

// Lose takes the news that a side will answer nothing more. Of a source that is lost,
// what was added and not verified is taken back from the target, which is why there
// may be requests for that still. No keys can be added.
func (c *Copier) Lose(side Side, now time.Time) {
	s := &c.sides[side]
	if s.lost {
		return
	}
	s.lost = true
	s.out, s.part = nil, nil
	if side == Target {
		c.open = batch{}
	}
	c.Hurry()
	for _, e := range c.unjudged {
		c.end(e, Copied)
	}
	c.unjudged = c.unjudged[:0]
	for s.n > 0 {
		e := s.pop()
		if e.clock {
			continue
		}
		request, step := e.repair.Lost(c.line[:0])
		c.follow(e, request, step, nil, now)
	}
	if side == Source {
		return
	}
	for other := &c.sides[Source]; other.n > 0; { // it cannot be written, so it need not be read
		if e := other.pop(); !e.clock {
			c.giveUp(e, e.written)
		}
	}
}

// push has e wait, and says where in the ring.
func (s *side) push(e *entry) (at int) {
	at = (s.tail + s.n) % len(s.ring)
	s.ring[at] = e
	s.n++
	return at
}

// at is the one that waits there, nil if none does.
func (s *side) at(at int) *entry {
	if at < 0 || at >= len(s.ring) || (at-s.tail+len(s.ring))%len(s.ring) >= s.n {
		return nil
	}
	return s.ring[at]
}

func (s *side) pop() *entry {
	e := s.ring[s.tail]
	s.tail = (s.tail + 1) % len(s.ring)
	s.n--
	s.sent = max(0, s.sent-1)
	return e
}

// Unfinished gives the keys that were added and will have no outcome, as a side was
// lost, and those of them whose copy may be at the target unverified.
func (c *Copier) Unfinished() (rest, doubt []Key) { return c.rest, c.doubt }
