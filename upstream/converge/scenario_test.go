package converge

import (
	"fmt"
	"strings"
	"testing"

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
}

var everyKind = []string{"set", "add", "cas", "append", "incr", "delete", "touch", "invalidate", "vivify"}

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

// kept is same, and that the survivor has every relative step that was
// acknowledged before the lead died.
func kept(x *explorer, w *world) string {
	if why := same(x, w); why != "" || !w.nodes[0].dead {
		return why
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

func TestTwoWritersConverge(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		for _, b := range everyKind[i:] {
			for _, s := range []func() world{equal, cold, empty} {
				for death := -1; death <= 1; death++ {
					demand(t, s, death, same, cast(a, b))
					if !testing.Short() {
						demand(t, s, death, same, asking(cast(a, b)))
					}
				}
			}
		}
	}
}

// TestThreeWritersConverge takes every three kinds where nobody dies, or, with
// -long, where anybody may.
func TestThreeWritersConverge(t *testing.T) {
	t.Parallel()
	last, starts := -1, []func() world{equal}
	if *long {
		last, starts = 1, append(starts, cold, empty)
	}
	for i, a := range everyKind {
		for j, b := range everyKind[i:] {
			for _, c := range everyKind[i+j:] {
				if testing.Short() && (a != "set" || b == c) {
					continue
				}
				for death := -1; death <= last; death++ {
					for _, s := range starts {
						demand(t, s, death, same, cast(a, b, c))
					}
				}
			}
		}
	}
}

// The three that get into each other's way most, with a death.
func TestThreeWritersAndADeath(t *testing.T) {
	t.Parallel()
	casts := [][]string{{"cas", "append", "touch"}}
	if !testing.Short() {
		casts = append(casts, []string{"set", "incr", "delete"}, []string{"set", "append", "touch"}, []string{"set", "set", "delete"}, []string{"cas", "incr", "touch"}, []string{"set", "invalidate", "append"},
			[]string{"vivify", "add", "delete"})
	}
	for _, names := range casts {
		for death := 0; death <= 1; death++ {
			demand(t, equal, death, same, cast(names...))
		}
	}
}

// Repairs that somebody else asked for, and refills, among writers.
func TestRepairsConverge(t *testing.T) {
	t.Parallel()
	for i, a := range everyKind {
		for _, b := range everyKind[i:] {
			if testing.Short() && a != "set" {
				continue
			}
			demand(t, cold, -1, same, cast("refill", a, b))
			demand(t, equal, -1, same, cast("repair", a, b))
			demand(t, cold, -1, same, cast("repair", a, b))
			demand(t, cold, 0, same, cast("refill", a))
		}
	}
	for _, a := range everyKind {
		demand(t, cold, -1, same, cast("refill", "refill", a))
		demand(t, apart, -1, same, cast("repair", a))
	}
}

func TestAcknowledgedStepsSurvive(t *testing.T) {
	t.Parallel()
	casts := [][]string{{"incr", "incr"}, {"append", "append"}, {"incr", "refill"}, {"incr", "repair"}}
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
			for _, c := range []string{"refill", "repair", "touch"} {
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
			demandExplicit(t, equal, cast(a, b))
			if !testing.Short() {
				demandExplicit(t, cold, cast("refill", a, b))
			}
			for _, c := range everyKind[i+j:] {
				if *long || !testing.Short() && a != b && b != c && i < 4 {
					demandExplicit(t, equal, cast(a, b, c))
				}
			}
		}
	}
}

func demandExplicit(t *testing.T, start func() world, ws []*writer) {
	t.Helper()
	if x := exploreExplicit(t, start(), ws); x.bad != "" {
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
	if m == followerAlone { // the legs go out at once: one arrives so, one so
		ws[0].mistake = noLook
	}
	x := explore(t, start(), death, same, ws...)
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
	wrong(t, blindTTL, equal, -1, "set", "touch")
	wrong(t, blindTTL, equal, -1, "touch", "touch")
	wrong(t, repeatStep, equal, 0, "append", "append")
	if !testing.Short() {
		wrong(t, repeatStep, equal, 0, "incr", "set", "set")
	}
	wrong(t, resend, equal, 0, "incr", "incr")
}
