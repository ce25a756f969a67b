package converge

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/upstream/repair"
)

// The explorer of moves drives Move through every order in which the messages of clients and of
// those that move a key can be carried out by two nodes: the one that had the key, and the one
// that is to have it.
const (
	formerly = iota // the node that had it
	now             // the node that is to have it
)

// mover is somebody at work on the key, by steps. A step is one message, but for "move", which is
// those of a Move; "bring" is a Move that begins again if another's add was there before it; "gone"
// is given only if the Move has copied.
type mover struct {
	steps []string
	quick bool // its Move does not look a second time
}

var movers = map[string]mover{
	"beside":     {steps: []string{"move", "gone"}},
	"blind":      {steps: []string{"move", "gone"}, quick: true},
	"set":        {steps: []string{"lose", "set", "ack"}},
	"delete":     {steps: []string{"bring", "lose", "delete", "ack"}},
	"incr":       {steps: []string{"bring", "lose", "incr", "ack"}},
	"late":       {steps: []string{"bring", "delete", "lose", "ack"}}, // the former owner keeps it too long
	"once":       {steps: []string{"move", "lose", "incr", "ack"}},    // what another mover has added counts
	"read":       {steps: []string{"get", "former", "get", "read"}},
	"read twice": {steps: []string{"get", "former", "read"}},
}

var moveMessages = map[string]struct {
	to   int
	line string
}{
	"gone": {formerly, "md k"}, "lose": {formerly, "md k"}, "set": {now, "ms k 1 c"}, "delete": {now, "md k"}, "incr": {now, "incr k 1"},
	"get": {now, "mg k v"}, "former": {formerly, "mg k v"},
}

// moveActor is a mover on its way.
type moveActor struct {
	mover
	at       int
	late     bool // it began when the writer had been answered
	added    bool // it has added, and not come to its end yet
	read     string
	doubtful bool // when it read that, a mover had
	follow   Follow
	outcome  repair.Outcome
	line     string
	to       repair.Side
	value    bool
	had      string // the value of the VA
	underway bool
}

type moveWorld struct {
	nodes  [2]simNode
	actors []moveActor
	acked  bool
}

// moveExplorer looks at every world there is, and says what is wrong with the first bad one.
type moveExplorer struct {
	seen map[string]struct{}
	want string // what the key is when the writer is done
	bad  string
	ends int
	odd  int // reads of what a mover has added, and is about to take back
}

func (x *moveExplorer) explore(w *moveWorld) {
	key := w.key()
	if _, been := x.seen[key]; been || x.bad != "" {
		return
	}
	x.seen[key] = struct{}{}
	over := true
	for i := range w.actors {
		if w.actors[i].at < len(w.actors[i].steps) {
			over = false
			next := moveWorld{nodes: w.nodes, actors: slices.Clone(w.actors), acked: w.acked}
			x.step(&next, i)
			x.explore(&next)
		}
	}
	if over {
		x.ends++
		x.end(w)
	}
}

// end looks at what is left when everybody is done.
func (x *moveExplorer) end(w *moveWorld) {
	if got := w.nodes[now].it.value; got != x.want {
		x.bad = fmt.Sprintf("in the end it is %q, want %q", got, x.want)
	}
	if w.nodes[formerly].it.present {
		x.bad = "in the end the node that had it still has it"
	}
}

// step has actor i take one.
func (x *moveExplorer) step(w *moveWorld, i int) {
	a := &w.actors[i]
	if a.at == 0 && !a.underway {
		a.late = w.acked
	}
	switch step := a.steps[a.at]; step {
	case "move", "bring":
		x.move(w, a)
		return
	case "ack":
		w.acked = true
	case "read":
		x.judge(w, a)
	case "gone":
		if a.outcome == repair.Copied {
			w.nodes[formerly].exec(moveMessages[step].line, "")
		}
	case "get", "former":
		if a.read == "" {
			_, a.read = w.nodes[moveMessages[step].to].exec(moveMessages[step].line, "")
			a.doubtful = slices.ContainsFunc(w.actors, func(o moveActor) bool { return o.added })
		}
	default:
		w.nodes[moveMessages[step].to].exec(moveMessages[step].line, "9")
	}
	a.at++
}

// judge looks at what a client has read.
func (x *moveExplorer) judge(w *moveWorld, a *moveActor) {
	switch {
	case a.read == x.want, !a.late && a.read == "5":
	case !a.late && a.read == "" && x.want == "9": // the value is on its way
	case a.late && a.read == "5" && a.doubtful:
		x.odd++ // a mover's add came after what the writer did here
	default:
		x.bad = fmt.Sprintf("a client reads %q; late: %v", a.read, a.late)
	}
}

// move carries out one message of a Move.
func (x *moveExplorer) move(w *moveWorld, a *moveActor) {
	if !a.underway {
		a.underway = true
		a.follow.Move([]byte("k"), repair.Options{})
		line, s := a.follow.Begin(nil, simNow, true)
		a.takes(line, s)
	}
	node := &w.nodes[a.to] // repair.Lead is the node that had it
	body := ""
	if a.value {
		body = a.had
	}
	answer, got := node.exec(a.line, body)
	if got != "" {
		a.had = got
	}
	if strings.HasPrefix(a.line, "ms ") {
		a.added = a.added || strings.HasPrefix(answer, "HD")
	}
	line, s := a.follow.Answer(nil, []byte(answer), simNow)
	if a.added && a.quick {
		s.Outcome = repair.Copied
	}
	a.takes(line, s)
}

// takes notes what is sent next, or that there is no more.
func (a *moveActor) takes(line []byte, s repair.Step) {
	if s.Outcome != repair.Running {
		a.underway, a.added, a.outcome, a.follow, a.line = false, false, s.Outcome, Follow{}, ""
		if a.steps[a.at] != "bring" || s.Outcome != repair.Overtaken {
			a.at++
		}
		return
	}
	a.line, a.to, a.value = strings.TrimRight(string(line), "\r\n"), s.To, s.Value == repair.LeadValue
}

// key tells the world from others.
func (w *moveWorld) key() string {
	var b []byte
	for _, n := range w.nodes {
		b = fmt.Appendf(b, "%v|", n)
	}
	for i := range w.actors {
		a := &w.actors[i]
		b = binary.LittleEndian.AppendUint32(b, uint32(a.at))
		b = fmt.Appendf(b, "%v%v%s%v%v%s%s|", a.late, a.added, a.read, a.doubtful, a.outcome, a.line, a.had)
		b = a.follow.AppendState(b)
	}
	return string(append(b, fmt.Sprint(w.acked)...))
}

func exploreMoves(names ...string) *moveExplorer {
	x := &moveExplorer{seen: map[string]struct{}{}, want: "5"}
	w := &moveWorld{}
	w.nodes[formerly].exec("ms k 1 c", "5")
	for _, name := range names {
		w.actors = append(w.actors, moveActor{mover: movers[name]})
		switch name {
		case "set":
			x.want = "9"
		case "delete", "late":
			x.want = ""
		case "incr", "once":
			x.want = "6"
		}
	}
	x.explore(w)
	return x
}

// However the messages of all come to the nodes, a key that moves is found by who reads it, and
// what it was before a write never stays.
func TestMoves(t *testing.T) {
	for _, names := range [][]string{
		{"beside", "beside", "read"},
		{"beside", "set", "read"}, {"beside", "beside", "set"},
		{"beside", "delete", "read"}, {"beside", "beside", "delete"},
		{"beside", "incr", "read"}, {"beside", "beside", "incr"},
	} {
		x := exploreMoves(names...)
		if x.bad != "" {
			t.Errorf("%v: %s", names, x.bad)
		}
		t.Logf("%v: %d worlds, %d ends, %d reads of what is about to be taken back", names, len(x.seen), x.ends, x.odd)
	}
}

// Mistakes are found.
func TestMistakenMoves(t *testing.T) {
	for _, names := range [][]string{{"blind", "delete"}, {"beside", "late"}, {"beside", "once"}, {"beside", "read twice"}} {
		if x := exploreMoves(names...); x.bad == "" {
			t.Errorf("%v: nothing is wrong with %d worlds", names, len(x.seen))
		}
	}
}
