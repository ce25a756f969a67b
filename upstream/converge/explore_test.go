package converge

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/maphash"
	"regexp"
	"strings"
	"testing"

	"magent/codec"
	"magent/upstream/repair"
	"magent/upstream/token"
)

var long = flag.Bool("long", false, "explore every combination of three writers, with deaths, from every start: some minutes")

// The explorer drives Follow and Repair, message by message, through every order
// in which the messages of several writers can be carried out by two nodes, with
// a node dying anywhere in between. A message is carried out and answered in one
// step, as what lies between has no effect; if the node may die, there is the
// other step in which it is carried out and the answer never comes.

// writer is one client's write, and how its proxy handles it.
type writer struct {
	name    string
	line    string
	value   string
	only    string // "repair", "refill" or "heir": no write, but that
	quits   bool   // its process may die
	twice   bool   // what it has copied it copies once more, on the version of the copy
	quiet   bool   // its add is one of a batch, and is not answered: see phaseBatch
	heir    int    // begins if this one, counted from 1, has died so
	mistake mistake
	ask     bool // ask the follower's version before the write goes to the lead, if that is of use
	after   int  // begins when this writer, counted from 1, has been answered
	loop    int  // the repairs of one loop are joined as a repair.Queue does; 0: begun at once
	full    bool // the queue is always full
	begin   repair.Begin
	req     codec.Request
}

// mistake is a fault put into the protocol, to see that it is found.
type mistake uint8

const (
	noMistake     mistake = iota
	noLook                // the second look is left out
	followerFirst         // the follower is written before the lead
	followerAlone         // and nobody looks: with noLook, both legs at once
	noGuard               // the repair writes unconditionally
	noVerify              // the repair does not look at the lead after an add
	blindTTL              // looks do not compare the TTL
	repeatStep            // a relative step is carried out at the follower too
	resend                // a relative step whose fate is unknown is sent again
	joinRunning           // a repair that has begun stands for a wish that comes later
	staleBegin            // a repair that stands for others begins as the first of them would
	blindEffect           // the effect of a conditional write is carried out whatever the follower has
	noFlush               // the heir of a refill does not have the follower forget first
	hasty                 // the lead is looked at again before a quiet add is carried out
	takesAll              // what a quiet add may have made is taken back whatever its version
	ackLost               // a conditional write is acknowledged though the lead that had it alone is lost
)

// phase is how far an actor is.
type phase uint8

const (
	phaseWait  phase = iota // for another's answer
	phaseAsk                // the follower's version
	phaseEarly              // followerFirst: the follower's leg
	phaseLead               // the write itself
	phaseFollow
	phaseQueued // a repair is needed, and its turn may come
	phaseJoined // a repair is needed, and that of another stands for it
	phaseStep   // repeatStep: the follower's step
	phaseBatch  // the follower has carried a quiet add out, or not, and the end of its batch is to come
	phaseFlush  // the heir of a refill has the follower forget everything
	phaseRescue // the guarded step at the survivor
	phaseOver
)

// actor is a writer on its way.
type actor struct {
	phase   phase
	lead    uint8  // the node that is its lead
	limbo   bool   // carried out, and the answer will not come
	acked   bool   // the client has been answered
	early   bool   // before anybody died
	quit    bool   // its process has died
	twice   bool   // it copies once more
	batched bool   // its quiet add is behind it
	unknown bool   // and what versions that may have made is not known
	before  uint64 // the version that the follower numbered last before it
	doubt   bool   // its outcome is that nobody knows what the survivor has: it must not be trusted
	late    string // hasty: the add that is carried out at last
	done    bool   // the client was, or will be, told that it was carried out
	request string // what is sent next
	to      repair.Side
	body    repair.Value
	got     string // the value of the VA that was answered last
	answer  string // the lead's
	version uint64 // as asked
	behind  bool   // phaseQueued: others have joined, or another's repair came first
	queued  bool   // phaseFollow: it is a repair whose turn had to come
	runner  uint8  // phaseJoined: whose repair
	follow  Follow
}

// world is a state of everything.
type world struct {
	nodes  [2]simNode
	actors [4]actor
	died   bool
	full   bool // the follower has made room once by what it had
	ranged bool // more than one version may be that of a quiet add
}

// explorer looks at all worlds that come of a start.
type explorer struct {
	name    string
	writers []*writer
	death   int // which node may die; -1: none
	expl    bool
	from    [2]item // what the nodes have at the start
	check   func(x *explorer, w *world) string
	seen    map[[2]uint64]struct{}
	seeds   [2]maphash.Seed
	serials map[serialEnd]bool // ends that serial has looked at
	buf     []byte
	ends    int
	bad     string
	trace   []stepTrace
	worlds  []*world // by how many moves led there
}

const (
	simNow = int64(1_700_000_000)
	leadAt = 0
)

func explore(t testing.TB, start world, death int, check func(*explorer, *world) string, writers ...*writer) *explorer {
	t.Helper()
	x := &explorer{writers: writers, death: death, check: check}
	x.begun(t, start)
	return x
}

// exploreExplicit is explore among nodes that know the E flag.
func exploreExplicit(t testing.TB, start world, death int, writers []*writer) *explorer {
	t.Helper()
	x := &explorer{writers: writers, death: death, check: serial, expl: true}
	x.begun(t, start)
	return x
}

func (x *explorer) begun(t testing.TB, start world) {
	t.Helper()
	x.from = [2]item{start.nodes[0].it, start.nodes[1].it}
	x.seen, x.serials = map[[2]uint64]struct{}{}, map[serialEnd]bool{}
	x.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	var names []string
	for i, wr := range x.writers {
		names = append(names, wr.name)
		a := &start.actors[i]
		if a.phase = phaseWait; wr.after == 0 && wr.heir == 0 {
			x.begin(&start, i)
		}
	}
	for i := len(x.writers); i < len(start.actors); i++ {
		start.actors[i].phase = phaseOver
	}
	x.name = strings.Join(names, " + ")
	x.visit(&start)
	if x.ends == 0 && x.bad == "" {
		t.Fatalf("%s: nothing ever ended", x.name)
	}
}

// begin sends a writer's first request.
func (x *explorer) begin(w *world, i int) {
	a, wr := &w.actors[i], x.writers[i]
	if wr.only == "heir" && wr.mistake != noFlush && a.phase != phaseFlush {
		a.phase, a.to, a.request = phaseFlush, repair.Follower, "md k\r\n" // of one key, what flush_all is
		return
	}
	if wr.only != "" {
		a.follow.repair.Reset([]byte("k"), repair.Options{Explicit: x.expl})
		a.follow.state = followRepair
		dst, s := a.follow.step(a.follow.repair.Start(nil, wr.begin, simNow))
		a.phase = phaseFollow
		x.next(w, i, dst, s)
		return
	}
	switch {
	case wr.ask && !w.died && (Relative(&wr.req) || Conditional(&wr.req)):
		a.phase, a.to, a.request = phaseAsk, repair.Follower, string(AppendAsk(nil, []byte("k"), false))
	case wr.mistake == followerFirst || wr.mistake == followerAlone:
		a.phase, a.to, a.body = phaseEarly, repair.Follower, repair.ClientValue
		a.request = string(AppendLead(nil, []byte(wr.line), &wr.req, Lead{}))
	default:
		x.toLead(w, i)
	}
}

// toLead sends the write itself to the lead that is up.
func (x *explorer) toLead(w *world, i int) {
	a := &w.actors[i]
	a.phase, a.to, a.body, a.lead = phaseLead, repair.Lead, repair.ClientValue, leadAt
	if w.nodes[leadAt].dead {
		a.lead = 1 - leadAt
	}
	a.request = x.leadLine(i, a.lead)
}

// leadLine is i's write as a lead gets it. What is conditional goes by the version
// that the lead had at the start.
func (x *explorer) leadLine(i int, lead uint8) string {
	wr, l := x.writers[i], Lead{Cas: x.from[leadAt].cas}
	if lead != leadAt && !token.Sourced(l.Cas) {
		l.Cas = token.Foreign
	}
	if x.expl {
		l.Explicit = planted + uint64(i)
	}
	return string(AppendLead(nil, []byte(wr.line), &wr.req, l))
}

// planted is the first of the versions that proxies make.
const planted = 1 << 56

// target is the node that i's next request goes to.
func (a *actor) target() int {
	if a.to == repair.Lead {
		return int(a.lead)
	}
	return 1 - int(a.lead)
}

// visit goes on from w in every way there is.
func (x *explorer) visit(w *world) {
	key := x.fingerprint(w)
	if _, ok := x.seen[key]; ok || x.bad != "" {
		return
	}
	x.seen[key] = struct{}{}
	over := true
	for i := range x.writers {
		a := &w.actors[i]
		if a.phase == phaseOver {
			continue
		}
		over = false
		if a.limbo || a.phase == phaseWait || a.phase == phaseJoined {
			continue
		}
		if a.phase == phaseQueued {
			if x.running(w, i) < 0 {
				x.branch(w, i, "its turn comes", func(w *world) { x.turn(w, i) })
			}
			continue
		}
		at := a.target()
		if w.nodes[at].dead {
			x.branch(w, i, "hears that it is lost", func(w *world) { x.lost(w, i) })
			continue
		}
		if a.phase == phaseBatch && a.late == "" {
			x.batchEnds(w, i)
		} else {
			x.branch(w, i, "", func(w *world) { x.run(w, i) })
		}
		if x.writers[i].quiet && !a.batched && a.body == repair.LeadValue {
			x.branch(w, i, "does not fit", func(w *world) { x.refuse(w, i) })
		}
		if at == x.death {
			x.branch(w, i, "unanswered", func(w *world) { x.vanish(w, i) })
		}
		if x.writers[i].quits {
			x.branch(w, i, "its process dies", func(w *world) { x.quit(w, i) })
			x.branch(w, i, "its process dies with it sent", func(w *world) {
				x.exec(w, i)
				x.quit(w, i)
			})
		}
	}
	if over {
		x.ends++
		if why := x.check(x, w); why != "" && !w.doubtful() {
			x.bad = fmt.Sprintf("%s: %s\n\tlead %+v\n\tfollower %+v\n\t%s", x.name, why, w.nodes[0], w.nodes[1], x.story())
		}
		return
	}
	if x.death >= 0 && !w.died {
		x.branch(w, -1, "dies", x.die)
	}
}

// stepTrace is one move on the way to a world.
type stepTrace struct {
	who, at       int
	request, what string
}

// story tells the moves that led here.
func (x *explorer) story() string {
	var b strings.Builder
	for _, m := range x.trace {
		if m.who < 0 {
			fmt.Fprintf(&b, "node %d dies\n\t", x.death)
			continue
		}
		fmt.Fprintf(&b, "%d %s, node %d: %s %s\n\t", m.who+1, x.writers[m.who].name, m.at, strings.TrimSpace(m.request), m.what)
	}
	return b.String()
}

// branch makes one move on a copy of w and goes on from there.
func (x *explorer) branch(w *world, i int, what string, move func(*world)) {
	if x.bad != "" {
		return
	}
	depth := len(x.trace)
	if depth == len(x.worlds) {
		x.worlds = append(x.worlds, new(world))
	}
	next := x.worlds[depth]
	*next = *w
	m := stepTrace{what: what, who: i}
	if i >= 0 {
		m.at, m.request = w.actors[i].target(), w.actors[i].request
	}
	x.trace = append(x.trace, m)
	move(next)
	x.visit(next)
	x.trace = x.trace[:len(x.trace)-1]
}

// die takes a node away, and with it the answers that were under way from it.
func (x *explorer) die(w *world) {
	w.died = true
	w.nodes[x.death] = simNode{dead: true}
	for i := range x.writers {
		if a := &w.actors[i]; a.limbo {
			a.limbo = false
			x.lost(w, i)
		}
	}
}

// exec has the target of i's request carry it out.
func (x *explorer) exec(w *world, i int) (reply, got string) {
	a, wr := &w.actors[i], x.writers[i]
	value := ""
	if a.phase == phaseBatch && a.late == "" {
		w.nodes[a.target()].last++
		return "", ""
	}
	switch a.body {
	case repair.ClientValue:
		value = wr.value
	case repair.LeadValue:
		value = a.got
	}
	return w.nodes[a.target()].exec(x.spoil(wr, a), value)
}

// doubtful reports whether the survivor's copy is in doubt, which its caller has been told.
func (w *world) doubtful() (doubt bool) {
	for i := range w.actors {
		doubt = doubt || w.actors[i].doubt
	}
	return doubt
}

// refuse has no room for i's quiet add. Nobody says whose the error was; and the item that
// was there has made room, too.
func (x *explorer) refuse(w *world, i int) {
	n := &w.nodes[w.actors[i].target()]
	w.actors[i].before, n.it, w.full = n.last, item{}, true
	x.unheard(w, i, "SERVER_ERROR")
}

// unheard goes on behind i's quiet add, which was answered in a way that is not heard
// before the batch ends.
func (x *explorer) unheard(w *world, i int, answer string) {
	a := &w.actors[i]
	a.phase, a.batched, a.answer, a.got = phaseBatch, true, answer, ""
	a.request, a.to, a.body = "the batch ends\r\n", repair.Follower, repair.NoValue
}

// batchEnds goes on with what may be known at the end of i's batch: that its add was
// refused, or carried out, or that one of both is true, as there was an error; and the
// version of the last add of the batch, or not.
func (x *explorer) batchEnds(w *world, i int) {
	a := &w.actors[i]
	if strings.HasPrefix(a.answer, "NS") {
		x.branch(w, i, "it was refused", func(w *world) { x.settle(w, i, false, false) })
		return
	}
	for _, known := range []bool{true, false} {
		if a.answer != "SERVER_ERROR" {
			x.branch(w, i, "it was carried out", func(w *world) { x.settle(w, i, known, false) })
		}
		x.branch(w, i, "there was an error", func(w *world) { x.settle(w, i, known, true) })
	}
}

// settle is what the end of a batch says of i's add.
func (x *explorer) settle(w *world, i int, known, erred bool) {
	a := &w.actors[i]
	n, refused := &w.nodes[a.target()], strings.HasPrefix(a.answer, "NS")
	least, most := a.before, uint64(0)
	if !erred {
		least++
	}
	if n.last++; known { // by the last add of the batch, which is of another key
		most = n.last - 1
		w.ranged = w.ranged || least != most
		if x.writers[i].mistake == takesAll {
			least, most = 0, planted-1
		}
	}
	a.phase, a.answer, a.unknown = phaseFollow, "", !known
	var dst []byte
	var s repair.Step
	switch {
	case refused:
		dst, s = a.follow.Answer(nil, []byte("NS\r\n"), simNow)
	case erred:
		dst, s = a.follow.step(a.follow.repair.Unsure(nil, least, most))
	default:
		dst, s = a.follow.step(a.follow.repair.Silent(nil, least, most))
	}
	x.next(w, i, dst, s)
}

// hurry has i look at the lead again though its add is still under way.
func (x *explorer) hurry(w *world, i int) {
	a := &w.actors[i]
	a.batched, a.late, a.answer = true, a.request, a.got
	dst, s := a.follow.step(a.follow.repair.Silent(nil, 0, planted-1))
	x.next(w, i, dst, s)
}

// vanish carries i's request out and loses the answer.
func (x *explorer) vanish(w *world, i int) {
	x.exec(w, i)
	w.actors[i].limbo = true
}

// quit ends i for good, wherever it is.
func (x *explorer) quit(w *world, i int) {
	w.actors[i].quit = true
	x.finish(w, i)
}

var guard = regexp.MustCompile(` C\d+| ME`)

// spoil makes the mistakes that are in a request.
func (x *explorer) spoil(wr *writer, a *actor) string {
	effect := a.phase == phaseFollow && a.follow.state == followTold
	if wr.mistake == blindEffect && effect || wr.mistake == noGuard && a.phase == phaseFollow && a.body == repair.LeadValue {
		return guard.ReplaceAllString(a.request, "")
	}
	return a.request
}

// run carries i's request out and hears the answer.
func (x *explorer) run(w *world, i int) {
	a, wr := &w.actors[i], x.writers[i]
	add := wr.quiet && !a.batched && a.body == repair.LeadValue
	if add && wr.mistake == hasty {
		x.hurry(w, i)
		return
	}
	if add {
		a.before = w.nodes[a.target()].last
	}
	reply, got := x.exec(w, i)
	line := reply + "\r\n"
	switch a.phase {
	case phaseAsk:
		r := repair.ParseReply([]byte(line))
		a.version = r.Cas
		x.toLead(w, i)
	case phaseEarly:
		x.toLead(w, i)
	case phaseFlush:
		x.begin(w, i)
	case phaseBatch:
		a.late = ""
		x.finish(w, i)
	case phaseLead:
		x.answered(w, i, line)
	case phaseRescue:
		a.done = strings.HasPrefix(reply, "HD") || strings.HasPrefix(reply, "VA")
		x.finish(w, i)
	case phaseStep:
		a.acked, a.early = true, !w.died
		if reply == strings.TrimSpace(a.answer) || reply == "NOT_FOUND" {
			x.finish(w, i)
			return
		}
		w.actors[i].follow.repair.Reset([]byte("k"), repair.Options{})
		a.phase = phaseFollow
		dst, s := a.follow.need(nil, repair.Ask(), repair.CauseRelative)
		x.next(w, i, dst, s)
	case phaseFollow:
		if add {
			x.unheard(w, i, reply)
			return
		}
		if wr.mistake == noVerify && a.follow.state == followRepair && a.to == repair.Lead && strings.Contains(a.request, " c t u ") {
			x.finish(w, i)
			return
		}
		if wr.mistake == blindTTL && a.follow.state == followLook {
			line = regexp.MustCompile(` t-?\d+`).ReplaceAllString(line, fmt.Sprintf(" t%d", a.follow.look.TTL))
		}
		if r := repair.ParseReply([]byte(line)); wr.twice && a.body == repair.LeadValue && r.Code == repair.CodeHD {
			a.version = r.Cas
		}
		a.got = got
		dst, s := a.follow.Answer(nil, []byte(line), simNow)
		x.next(w, i, dst, s)
	}
}

// answered goes on from the lead's answer.
func (x *explorer) answered(w *world, i int, line string) {
	a, wr := &w.actors[i], x.writers[i]
	a.answer = line
	e := EffectOf(&wr.req, []byte(line))
	a.done = e != Nothing
	if wr.mistake == blindEffect && e == Copy && wr.req.Op == codec.OpMetaDelete {
		e = Delete
	}
	if e == Nothing || w.nodes[1-a.lead].dead {
		x.finish(w, i)
		return
	}
	if wr.mistake == repeatStep {
		a.phase, a.to, a.body = phaseStep, repair.Follower, repair.ClientValue
		return
	}
	in := &Write{Line: []byte(wr.line), Request: &wr.req, Answer: []byte(line), At: simNow, Explicit: x.expl, Asked: wr.ask, Version: a.version}
	a.phase = phaseFollow
	dst, s := a.follow.Start(nil, e, in)
	if wr.mistake == followerFirst || wr.mistake == followerAlone {
		dst, s = a.follow.told(nil, &repair.Reply{Code: repair.CodeHD})
	}
	x.next(w, i, dst, s)
}

// next takes the step that the protocol says comes now.
func (x *explorer) next(w *world, i int, dst []byte, s repair.Step) {
	a, wr := &w.actors[i], x.writers[i]
	if s.Held {
		x.held(w, i)
	}
	look := a.follow.state == followLook
	switch {
	case s.Outcome == repair.Needed:
		x.need(w, i)
	case s.Outcome == repair.Copied && wr.twice && !a.twice:
		a.twice = true
		a.follow.repair.Reset([]byte("k"), repair.Options{Explicit: x.expl})
		a.follow.state = followRepair
		begin := repair.Held(a.version)
		if a.version == 0 {
			begin = repair.Ask()
		}
		dst, s := a.follow.step(a.follow.repair.Start(nil, begin, simNow))
		x.next(w, i, dst, s)
	case s.Outcome != repair.Running && a.late != "":
		a.phase, a.request, a.to, a.body, a.got = phaseBatch, a.late, repair.Follower, repair.LeadValue, a.answer
	case s.Outcome != repair.Running:
		x.ended(w, i, s.Outcome)
	case look && (wr.mistake == noLook || wr.mistake == followerAlone):
		x.finish(w, i)
	default:
		a.request, a.to, a.body = string(dst), s.To, s.Value
	}
}

// held answers i's client, and those whom i's repair stands for.
func (x *explorer) held(w *world, i int) {
	for k := range x.writers {
		if a := &w.actors[k]; k == i || a.phase == phaseJoined && int(a.runner) == i {
			if !a.acked {
				a.acked, a.early = true, !w.died
				x.wake(w, k)
			}
		}
	}
}

// ended ends i, and those whom its repair stands for.
func (x *explorer) ended(w *world, i int, o repair.Outcome) {
	for k := range x.writers {
		a := &w.actors[k]
		if k != i && (a.phase != phaseJoined || int(a.runner) != i) {
			continue
		}
		a.doubt = o == repair.Debt && a.unknown && w.nodes[leadAt].dead
		if o != repair.LeadLost || a.acked || !x.moved(w, k) {
			x.finish(w, k)
		}
	}
}

// moved has the survivor lead a write that the lead alone had, as if the lead had not
// answered.
func (x *explorer) moved(w *world, i int) bool {
	a, wr := &w.actors[i], x.writers[i]
	switch {
	case w.nodes[1-a.lead].dead || wr.mistake == ackLost:
		return false
	case Relative(&wr.req):
		a.done = false
		return x.rescue(w, i)
	case Conditional(&wr.req), adds(&wr.req):
		a.done = false
		x.toLead(w, i)
		return true
	}
	return false
}

// need does what a loop does for a repair: what repair.Queue has been shown to do
// in its own tests, for one key. Its jobs are linked to each other, and a world is
// copied as it is, so that the Queue itself is none for a world.
func (x *explorer) need(w *world, i int) {
	a, wr := &w.actors[i], x.writers[i]
	a.request, a.got = "", ""
	running := x.running(w, i)
	if wr.mistake == joinRunning && running >= 0 {
		a.phase, a.runner = phaseJoined, uint8(running)
		return
	}
	switch {
	case wr.full:
		dst, s := a.follow.Drop(nil)
		x.next(w, i, dst, s)
		return
	case wr.loop == 0 || a.follow.Alone():
		dst, s := a.follow.Begin(nil, simNow, true)
		x.next(w, i, dst, s)
		return
	}
	for k, other := range x.writers {
		if r := &w.actors[k]; k != i && other.loop == wr.loop && r.phase == phaseQueued {
			a.phase, a.runner, r.behind = phaseJoined, uint8(k), wr.mistake != staleBegin
			return
		}
	}
	a.phase, a.behind = phaseQueued, running >= 0
}

// running is whose repair is on in i's loop, -1 if none is.
func (x *explorer) running(w *world, i int) int {
	for k, other := range x.writers {
		if a := &w.actors[k]; k != i && other.loop == x.writers[i].loop && other.loop != 0 && a.phase == phaseFollow && a.queued {
			return k
		}
	}
	return -1
}

// turn begins the repair that i needs.
func (x *explorer) turn(w *world, i int) {
	a := &w.actors[i]
	fresh := !a.behind
	a.phase, a.behind, a.queued = phaseFollow, false, true
	dst, s := a.follow.Begin(nil, simNow, fresh)
	x.next(w, i, dst, s)
}

// finish ends a writer; whoever waited for it begins.
func (x *explorer) finish(w *world, i int) {
	a := &w.actors[i]
	acked := a.acked
	if !acked {
		a.acked, a.early = true, !w.died
	}
	a.phase, a.request, a.got, a.answer, a.follow, a.version = phaseOver, "", "", "", Follow{}, 0
	a.queued, a.twice, a.runner = false, false, 0
	a.batched, a.unknown, a.late, a.before = false, false, "", 0
	if !acked {
		x.wake(w, i)
	}
	for k, wr := range x.writers {
		switch {
		case wr.heir != i+1 || w.actors[k].phase != phaseWait:
		case a.quit:
			x.begin(w, k)
		default:
			x.finish(w, k)
		}
	}
}

func (x *explorer) wake(w *world, i int) {
	for k, wr := range x.writers {
		if wr.after == i+1 && w.actors[k].phase == phaseWait {
			x.begin(w, k)
		}
	}
}

// lost handles that the target of i's request is dead and whether it was carried
// out is not known.
func (x *explorer) lost(w *world, i int) {
	a, wr := &w.actors[i], x.writers[i]
	switch a.phase {
	case phaseAsk:
		a.version = 0
		x.toLead(w, i)
	case phaseEarly:
		x.toLead(w, i)
	case phaseLead:
		switch {
		case !Relative(&wr.req) || wr.mistake == resend:
			x.toLead(w, i)
		case !x.rescue(w, i):
			x.finish(w, i)
		}
	case phaseFollow, phaseBatch:
		dst, s := a.follow.Lost(nil)
		x.next(w, i, dst, s)
	default:
		x.finish(w, i)
	}
}

// rescue sends a relative step that may have reached the survivor as a copy, on
// the condition that nothing has reached it.
func (x *explorer) rescue(w *world, i int) bool {
	a, wr := &w.actors[i], x.writers[i]
	dst, ok := AppendGuarded(nil, []byte(wr.line), &wr.req, a.version)
	if !ok || w.nodes[1-a.lead].dead {
		return false
	}
	a.phase, a.to, a.body, a.request = phaseRescue, repair.Follower, repair.ClientValue, string(dst)
	return true
}

func (x *explorer) fingerprint(w *world) [2]uint64 {
	b := x.buf[:0]
	for i := range w.nodes {
		n := &w.nodes[i]
		b = appendBits(b, n.dead, n.it.present, n.it.stale, n.it.sent)
		for _, v := range [...]uint64{n.last, n.it.cas, n.it.flags, uint64(n.it.ttl), uint64(len(n.it.value))} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = append(b, n.it.value...)
	}
	b = appendBits(b, w.full, w.ranged)
	for i := range x.writers {
		a := &w.actors[i]
		b = append(appendBits(b, a.limbo, a.acked, a.early, a.done, a.behind, a.queued, a.twice, a.batched), byte(a.phase), a.lead, byte(a.to), byte(a.body), a.runner)
		b = binary.LittleEndian.AppendUint64(b, a.before)
		b = append(binary.LittleEndian.AppendUint64(b, a.version), a.request...)
		b = append(append(append(append(append(b, '|'), a.got...), '|'), a.answer...), '|')
		b = append(append(appendBits(b, a.unknown, a.doubt), a.late...), '|')
		if a.phase == phaseFollow || a.phase == phaseQueued || a.phase == phaseBatch {
			b = a.follow.AppendState(b)
		}
	}
	x.buf = b
	return [2]uint64{maphash.Bytes(x.seeds[0], b), maphash.Bytes(x.seeds[1], b)}
}

func appendBits(b []byte, bits ...bool) []byte {
	v := byte(0)
	for _, bit := range bits {
		if v <<= 1; bit {
			v |= 1
		}
	}
	return append(b, v)
}
