package converge

import (
	"fmt"
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream/repair"
)

func start(lead, follower string) world {
	var w world
	for i, v := range []string{lead, follower} {
		if v != "" {
			w.nodes[i] = simNode{last: 1, it: item{present: true, value: v, flags: 9, cas: 1, ttl: -1}}
		}
	}
	return w
}

var (
	equal = func() world { return start("1000", "1000") }
	cold  = func() world { return start("1000", "") }
	empty = func() world { return start("", "") }
	apart = func() world { return start("1000", "7000") }
	known = func() world { // a proxy has made the version that both have
		w := equal()
		for i := range w.nodes {
			w.nodes[i].it.cas = planted + 99
		}
		return w
	}
)

func client(name, line, value string) writer {
	wr := writer{name: name, line: line + "\r\n", value: value}
	text.Parse([]byte(wr.line), &wr.req)
	return wr
}

// kinds is every kind of write; the number tells several of one kind apart.
var kinds = map[string]func(n int) writer{
	"put": func(n int) writer { return client("put", "set k 0 0 4", fmt.Sprint(2000+1000*n)) },
	"set": func(n int) writer {
		return client("set", fmt.Sprintf("set k %d %d 4", n, 100*n), fmt.Sprint(2000+1000*n))
	},
	"add": func(n int) writer {
		return client("add", fmt.Sprintf("add k %d %d 4", n, 100*n), fmt.Sprint(2000+1000*n))
	},
	"cas": func(n int) writer {
		return client("cas", fmt.Sprintf("cas k %d %d 4 1", n, 100*n), fmt.Sprint(2000+1000*n))
	},
	"md C":   func(int) writer { return client("md C", "md k C1", "") },
	"append": func(n int) writer { return client("append", "append k 0 0 1", string(rune('a'+n))) },
	"incr": func(n int) writer {
		return client("incr", "incr k "+[]string{"1", "10", "100", "0"}[n], "")
	},
	"delete":     func(int) writer { return client("delete", "delete k", "") },
	"touch":      func(n int) writer { return client("touch", fmt.Sprintf("touch k %d", 500+100*n), "") },
	"invalidate": func(int) writer { return client("invalidate", "md k I", "") },
	"vivify":     func(int) writer { return client("vivify", "mg k N30 v", "") },
	"repair": func(int) writer {
		wr := client("repair", "touch k 0", "")
		wr.only, wr.begin = "repair", repair.Ask()
		return wr
	},
	"refill": func(int) writer {
		wr := client("refill", "touch k 0", "")
		wr.only, wr.begin = "refill", repair.Cold()
		return wr
	},
	"refill twice": func(int) writer {
		wr := client("refill twice", "touch k 0", "")
		wr.only, wr.begin, wr.twice = "refill", repair.Cold(), true
		return wr
	},
	"quiet refill": func(int) writer {
		wr := client("quiet refill", "touch k 0", "")
		wr.only, wr.begin, wr.quiet = "refill", repair.Cold(), true
		return wr
	},
	"quiet refill twice": func(int) writer {
		wr := client("quiet refill twice", "touch k 0", "")
		wr.only, wr.begin, wr.quiet, wr.twice = "refill", repair.Cold(), true, true
		return wr
	},
	"heir": func(int) writer {
		wr := client("heir", "touch k 0", "")
		wr.only, wr.begin = "heir", repair.Cold()
		return wr
	},
}

// everyKind has those first that are most at odds, and of each sort one.
var everyKind = []string{"set", "add", "cas", "incr", "delete", "md C", "append", "touch", "invalidate", "vivify"}

// steps are the relative kinds.
var steps = map[string]bool{"append": true, "incr": true}

func cast(names ...string) []*writer {
	var ws []*writer
	for i, name := range names {
		wr := kinds[name](i)
		ws = append(ws, &wr)
	}
	return ws
}

// same is what must hold once nothing is under way: the follower has what the
// lead has, or nothing; and no step shows twice at a node.
func same(x *explorer, w *world) string {
	l, f := &w.nodes[0], &w.nodes[1]
	switch {
	case l.dead:
		return once(f)
	case f.dead, !f.it.present:
		return once(l)
	case !l.it.present:
		return "the follower has what the lead has not"
	case l.it.stale:
		return "the follower has what is stale at the lead"
	case l.it.value != f.it.value, l.it.flags != f.it.flags, l.it.ttl != f.it.ttl:
		return "the copies differ"
	}
	return once(f)
}

// once looks whether a relative step shows twice in the value of n: each appends
// a letter, or counts in a digit, of its own.
func once(n *simNode) string {
	for _, c := range "abcd" {
		if strings.Count(n.it.value, string(c)) > 1 {
			return fmt.Sprintf("%c was appended twice", c)
		}
	}
	digits := strings.TrimRight(n.it.value, "abcd")
	if len(digits) == 4 && strings.Trim(digits[1:], "01") != "" {
		return "a step was counted twice"
	}
	return ""
}

// kept is serial, and that the survivor has every relative step that was
// acknowledged before the lead died.
func kept(x *explorer, w *world) string {
	if why := serial(x, w); why != "" || !w.nodes[0].dead {
		return why
	}
	if !w.nodes[1].it.present && w.mayLack() {
		return ""
	}
	v := w.nodes[1].it.value
	for i, wr := range x.writers {
		if a := &w.actors[i]; !a.early || !a.done {
			continue
		}
		lost := false
		switch wr.name {
		case "incr":
			lost = len(v) < 4 || v[3-i] != '1'
		case "append":
			lost = !strings.Contains(v, wr.value)
		}
		if lost {
			return fmt.Sprintf("step %d was acknowledged and is lost", i+1)
		}
	}
	return ""
}

// serial is same, and that what the survivor of the lead has comes of all writes that
// were acknowledged, one after the other, and perhaps of others: nothing that arrives
// late throws away what depended on what was there. A blind write may take effect
// once more, late, and so may an add, which is given to the survivor again.
func serial(x *explorer, w *world) string {
	n := &w.nodes[1]
	if why := same(x, w); why != "" || !w.nodes[0].dead {
		return why
	}
	end := serialEnd{lacks: w.mayLack(), value: n.it.value, flags: n.it.flags, present: n.it.present}
	for i := range x.writers {
		end.done[i] = w.actors[i].done
	}
	ok, seen := x.serials[end]
	if !seen {
		for _, it := range x.from { // what only the lead had may be lost
			ok = ok || x.explained(&end, simNode{last: 1, it: it}, 0, end.lacks || x.mayMiss())
		}
		x.serials[end] = ok
	}
	if !ok {
		return fmt.Sprintf("no order of what was acknowledged ends so: %+v", end)
	}
	return ""
}

// serialEnd is how a survivor ends, and who was told that his write is done.
type serialEnd struct {
	done    [4]bool
	lacks   bool // its item may be lost
	present bool
	value   string
	flags   uint64
}

// mayLack reports whether the follower's item may be lost through a quiet refill: it has
// made room for what did not fit, or it was written between an add and the end of its
// batch, and taken back for what was added, that having been unverified.
func (w *world) mayLack() bool { return w.full || w.ranged }

// explained tries to go on from n to the end in every order of writers, with each in
// used having been carried out as often as its two bits say. miss says that the item
// may be lost at any time.
func (x *explorer) explained(end *serialEnd, n simNode, used int, miss bool) bool {
	all := true
	for i, wr := range x.writers {
		times := used >> (2 * i) & 3
		once := Relative(&wr.req) || Conditional(&wr.req)
		if wr.only != "" || times == 1 && once || times == 2 {
			continue
		}
		// Nobody waits for an item that a read has made.
		all = all && (times > 0 || !end.done[i] || wr.req.Op == codec.OpMetaGet)
		next := n
		reply, _ := next.exec(strings.TrimSpace(x.leadLine(i, leadAt)), wr.value)
		done := EffectOf(&wr.req, []byte(reply)) != Nothing
		if !n.it.present { // what is gone may be deleted, or touched, while it was elsewhere
			done = done || wr.req.Op == codec.OpMetaDelete || wr.req.Op == codec.OpTouch
		}
		if done && x.explained(end, next, used+1<<(2*i), miss) {
			return true
		}
	}
	if all && n.it.present == end.present && n.it.value == end.value && n.it.flags == end.flags {
		return true
	}
	was := n.it.present
	n.it = item{}
	return miss && was && x.explained(end, n, used, miss)
}

// mayMiss reports whether the follower may give its copy up, or has less than the lead.
// A repair that loses the lead takes back what it has added, by its version, and where
// proxies make the versions another may have stored the same one.
func (x *explorer) mayMiss() bool {
	for _, wr := range x.writers {
		if wr.full || wr.name == "invalidate" || wr.name == "vivify" {
			return true
		}
	}
	return x.expl || x.from[0].present && !x.from[1].present
}

// final is same for writers of which the second began once the first had been
// answered: when it has been answered too, the first is history at every node.
func final(x *explorer, w *world) string {
	why := same(x, w)
	n := &w.nodes[0]
	if n.dead {
		n = &w.nodes[1]
	}
	first, second := x.writers[0], x.writers[1]
	switch {
	case why != "" || n.dead || n == &w.nodes[1] && !w.actors[1].early:
	case first.value != "" && strings.HasPrefix(n.it.value, first.value) && second.name != "append" && second.name != "incr":
		return "what was written over is back"
	case n == &w.nodes[1] && !n.it.present && w.mayLack():
	case n == &w.nodes[1] && second.value != "" && w.actors[1].done && !strings.Contains(n.it.value, second.value):
		return "what was acknowledged is lost"
	}
	return why
}

func demand(t *testing.T, start func() world, death int, check func(*explorer, *world) string, ws []*writer) {
	t.Helper()
	if x := explore(t, start(), death, check, ws...); x.bad != "" {
		t.Error(x.bad)
	}
}

func asking(ws []*writer) []*writer {
	for _, wr := range ws {
		wr.ask = true
	}
	return ws
}

// inquiring has those ask that may, and reports whether anybody does.
func inquiring(ws []*writer) bool {
	may := false
	for _, wr := range asking(ws) {
		may = may || Relative(&wr.req) || Conditional(&wr.req)
	}
	return may
}

// A death at any time includes that of nobody.
func TestTwoWritersConverge(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		for _, b := range everyKind[i:] {
			for _, s := range []func() world{equal, cold, empty} {
				for death := 0; death <= 1; death++ {
					ws := cast(a, b)
					asks := inquiring(ws)
					demand(t, s, death, serial, ws)
					if asks && !testing.Short() {
						demand(t, s, death, serial, cast(a, b))
					}
				}
			}
		}
	}
}

// TestThreeWritersConverge takes every three kinds, and has the lead die on the way
// if all are among the first six; with -long, either node, always, and from every
// start.
func TestThreeWritersConverge(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		t.Run(a, func(t *testing.T) {
			t.Parallel()
			for j, b := range everyKind[i:] {
				for k, c := range everyKind[i+j:] {
					switch {
					case *long:
						threeWriters(t, a, b, c)
					case !testing.Short():
						demand(t, equal, -1, same, cast(a, b, c))
						death := -1
						if i+j+k < 6 {
							death = 0
						}
						demand(t, equal, death, serial, asking(cast(a, b, c)))
					case a == "set" && (b == "set" || b == "incr"):
						demand(t, equal, -1, same, cast(a, b, c))
					}
				}
			}
		})
	}
}

func threeWriters(t *testing.T, names ...string) {
	for death := 0; death <= 1; death++ {
		for _, s := range []func() world{equal, empty} {
			demand(t, s, death, serial, cast(names...))
			if ws := cast(names...); inquiring(ws) {
				demand(t, s, death, serial, ws)
			}
		}
		// A survivor without a copy may be left with what a third party made of an item
		// that was about to be taken back: same is all that is promised.
		demand(t, cold, death, same, cast(names...))
		demand(t, cold, death, same, asking(cast(names...)))
	}
}

// What get into each other's way most, with a death.
func TestThreeWritersAndADeath(t *testing.T) {
	t.Parallel()
	casts := [][]string{{"vivify", "add", "delete"}}
	if !testing.Short() {
		casts = append(casts, []string{"add", "append", "md C"}, []string{"set", "invalidate", "append"}, []string{"vivify", "invalidate", "incr"}, []string{"cas", "incr", "append"})
	}
	for _, names := range casts {
		for death := 0; death <= 1; death++ {
			demand(t, equal, death, serial, cast(names...))
		}
	}
}

// joined puts the first n writers into one loop.
func joined(n int, ws []*writer) []*writer {
	for _, wr := range ws[:n] {
		wr.loop = 1
	}
	return ws
}

// TestJoinedRepairsConverge has writers of one loop, whose repairs stand for each
// other's as in a repair.Queue, and one of another proxy.
func TestJoinedRepairsConverge(t *testing.T) {
	t.Parallel()
	last := -1
	if *long {
		last = 1
	}
	for i, a := range everyKind {
		for j, b := range everyKind[i:] {
			check := serial
			if steps[a] && steps[b] {
				check = kept
			}
			for _, s := range []func() world{equal, cold} {
				for death := 0; death <= 1; death++ {
					demand(t, s, death, check, joined(2, cast(a, b)))
					if ws := cast(a, b); inquiring(ws) && !testing.Short() {
						demand(t, s, death, check, joined(2, ws))
					}
				}
			}
			if testing.Short() && (a != "incr" || b != "append") {
				continue
			}
			for death := -1; death <= last; death++ {
				for _, c := range everyKind {
					demand(t, equal, death, same, joined(2, cast(a, b, c)))
				}
				for _, c := range everyKind[i+j:] {
					demand(t, equal, death, same, joined(3, cast(a, b, c)))
				}
			}
		}
	}
}

// TestFullQueuesConverge has writers give the follower's copy up in place of a
// repair.
func TestFullQueuesConverge(t *testing.T) {
	t.Parallel()
	for _, a := range everyKind {
		for i, b := range everyKind {
			for death := 0; death <= 1; death++ {
				ws := cast(a, b)
				ws[0].full = true
				demand(t, equal, death, serial, ws)
			}
			for _, c := range everyKind[i:] {
				if !testing.Short() {
					ws := cast(a, b, c)
					ws[0].full = true
					demand(t, equal, -1, same, ws)
				}
			}
		}
	}
}

// Repairs that somebody else asked for, as who pays a debt does, and refills, among writers.
func TestRepairsConverge(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		for _, b := range everyKind[i:] {
			if testing.Short() && a != "delete" {
				continue
			}
			demand(t, cold, -1, same, cast("refill", a, b))
			demand(t, equal, -1, same, cast("repair", a, b))
			demand(t, cold, -1, same, cast("repair", a, b))
			demand(t, cold, 0, same, cast("refill", a))
			demand(t, cold, -1, same, cast("refill twice", a, b))
			demand(t, cold, -1, same, cast("quiet refill", a, b))
			demand(t, cold, -1, same, cast("quiet refill twice", a, b))
		}
	}
	for _, a := range everyKind {
		for death := 0; death <= 1; death++ {
			demand(t, cold, death, serial, cast("quiet refill", a))
			demand(t, cold, death, serial, cast("quiet refill twice", a))
		}
		if testing.Short() && a != "delete" {
			continue
		}
		demand(t, cold, -1, same, cast("refill", "refill", a))
		demand(t, cold, -1, same, cast("refill", "repair", a))
		demand(t, cold, -1, same, cast("quiet refill", "quiet refill", a))
		demand(t, cold, -1, same, cast("quiet refill", "repair", a))
		demand(t, apart, -1, same, cast("repair", a))
	}
}

// heirs has the first writer's process die anywhere, and the second take over.
func heirs(ws []*writer) []*writer {
	ws[0].quits, ws[1].heir = true, 1
	return ws
}

// TestRefillersMayDie has the process that refills die at any step. Its heir has the
// follower forget everything first; or the key was noted as debt, and is repaired.
func TestRefillersMayDie(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		for _, heir := range []string{"heir", "repair"} {
			demand(t, cold, 0, same, heirs(cast("refill", heir, a)))
			demand(t, cold, 0, same, heirs(cast("quiet refill", heir, a)))
			demand(t, cold, -1, same, heirs(cast("quiet refill", heir, a)))
			demand(t, cold, -1, same, heirs(cast("refill", heir, a)))
			for _, b := range everyKind[i:] {
				if *long || a == "delete" && !testing.Short() {
					demand(t, cold, -1, same, heirs(cast("refill", heir, a, b)))
				}
			}
		}
	}
}

func TestAcknowledgedStepsSurvive(t *testing.T) {
	t.Parallel()
	casts := [][]string{{"incr", "incr"}, {"append", "append"}, {"incr", "refill"}, {"incr", "quiet refill"}, {"incr", "repair"}}
	if !testing.Short() {
		casts = append(casts, []string{"append", "touch", "repair"}, []string{"incr", "incr", "incr"}, []string{"append", "append", "touch"}, []string{"append", "append", "repair"})
	}
	for _, names := range casts {
		demand(t, equal, 0, kept, cast(names...))
		demand(t, equal, 0, kept, asking(cast(names...)))
		if len(names) == 2 || *long {
			demand(t, cold, 0, kept, cast(names...))
			demand(t, cold, 0, kept, asking(cast(names...)))
		}
	}
}

// TestNothingComesBack has the second writer begin when the first has been answered.
func TestNothingComesBack(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"put", "delete", "append"} {
		for _, b := range []string{"put", "delete", "append"} {
			for _, c := range []string{"refill", "quiet refill", "repair", "touch"} {
				if testing.Short() && c != "refill" {
					continue
				}
				for _, s := range []func() world{equal, cold} {
					for death := -1; death <= 0; death++ {
						ws := cast(a, b, c)
						ws[1].after = 1
						demand(t, s, death, final, ws)
					}
				}
			}
		}
	}
}

// TestExplicitVersionsConverge has followers take the lead's versions (E), which
// makes it possible that one returns to a version it had.
func TestExplicitVersionsConverge(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		for j, b := range everyKind[i:] {
			demandExplicit(t, equal, -1, cast(a, b))
			if !testing.Short() || a == "cas" {
				demandExplicit(t, known, 0, asking(cast(a, b)))
			}
			if !testing.Short() {
				demandExplicit(t, known, 0, cast(a, b))
				demandExplicit(t, cold, -1, cast("refill", a, b))
			}
			for _, c := range everyKind[i+j:] {
				if *long || !testing.Short() && a != b && b != c && i < 4 {
					demandExplicit(t, equal, -1, cast(a, b, c))
				}
				if *long || !testing.Short() && a == "cas" && (b == "cas" || b == "incr") && c == "incr" {
					demandExplicit(t, known, 0, asking(cast(a, b, c)))
				}
			}
		}
	}
}

func demandExplicit(t *testing.T, start func() world, death int, ws []*writer) {
	t.Helper()
	if x := exploreExplicit(t, start(), death, ws); x.bad != "" {
		t.Error(x.bad)
	}
}

// wrong is a scenario in which the explorer must find the mistake.
func wrong(t *testing.T, m mistake, start func() world, death int, names ...string) {
	t.Helper()
	ws := cast(names...)
	for _, wr := range ws {
		wr.mistake = m
	}
	if m == joinRunning || m == staleBegin {
		joined(len(ws), ws)
	}
	if m == noFlush {
		heirs(ws)
	}
	if m == followerAlone { // the legs go out at once: one arrives so, one so
		ws[0].mistake = noLook
	}
	if m == blindEffect {
		asking(ws)
	}
	x := explore(t, start(), death, serial, ws...)
	if x.bad == "" {
		t.Errorf("%s: nobody noticed mistake %d in %d states", x.name, m, len(x.seen))
	}
	t.Log(x.bad)
}

// TestMistakesAreFound leaves out, one by one, what the protocol is made of.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	wrong(t, noLook, equal, -1, "set", "set")
	wrong(t, noLook, equal, -1, "set", "delete")
	wrong(t, followerFirst, equal, -1, "set", "set")
	wrong(t, followerFirst, equal, -1, "set", "delete")
	wrong(t, followerAlone, equal, -1, "set", "set")
	wrong(t, followerAlone, equal, -1, "set", "delete")
	wrong(t, noGuard, equal, -1, "put", "put", "put")
	wrong(t, noGuard, equal, -1, "incr", "incr")
	wrong(t, noGuard, equal, -1, "repair", "put")
	wrong(t, noVerify, cold, -1, "repair", "delete")
	wrong(t, noVerify, cold, -1, "refill", "delete")
	wrong(t, noGuard, cold, -1, "refill", "put", "put")
	wrong(t, noGuard, cold, -1, "refill twice", "put")
	wrong(t, noVerify, cold, -1, "quiet refill", "delete")
	wrong(t, hasty, cold, -1, "quiet refill", "delete")
	wrong(t, hasty, cold, -1, "quiet refill", "touch")
	wrong(t, noFlush, cold, -1, "quiet refill", "heir", "delete")
	wrong(t, noFlush, cold, -1, "refill", "heir", "delete")
	wrong(t, noFlush, cold, -1, "refill", "heir", "touch")
	ws := cast("put", "put", "quiet refill")
	ws[1].after, ws[2].mistake = 1, takesAll
	if x := explore(t, cold(), 0, final, ws...); x.bad == "" {
		t.Errorf("%s: nobody noticed that too much is taken back", x.name)
	}
	wrong(t, blindTTL, equal, -1, "set", "touch")
	wrong(t, blindTTL, equal, -1, "touch", "touch")
	wrong(t, repeatStep, equal, 0, "append", "append")
	if !testing.Short() {
		wrong(t, repeatStep, equal, 0, "incr", "set", "set")
	}
	wrong(t, resend, equal, 0, "incr", "incr")
	wrong(t, blindEffect, equal, 0, "cas", "incr")
	wrong(t, blindEffect, equal, 0, "cas", "append")
	wrong(t, blindEffect, equal, 0, "md C", "incr")
	wrong(t, blindEffect, empty, 0, "add", "add")
	wrong(t, ackLost, equal, 0, "cas", "incr")
	wrong(t, ackLost, equal, 0, "md C", "incr")
	wrong(t, ackLost, empty, 0, "add", "add")
	wrong(t, joinRunning, equal, -1, "incr", "append")
	wrong(t, joinRunning, equal, -1, "set", "set", "delete")
	wrong(t, staleBegin, equal, -1, "set", "set", "touch")
}
