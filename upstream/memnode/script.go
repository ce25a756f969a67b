package memnode

// The fault language. A script is a line of rules; the node follows every rule
// that matches a command, in the order of the script.
//
//	(on get (after 100 reset)) (on set (1/20 stall 300ms)) (always (chunk 1))
//
//	script = { "(" "seed" N ")" | rule }
//	rule   = "(" where "(" { when } action ")" ")"
//	where  = "always" | "on" VERB [ "key" "TEXT" ]
//	when   = "after" N     not the first N matches of this rule
//	       | "times" N     only N times
//	       | "1/N"         each time with this chance, drawn from the seed
//
// VERB is a verb of the protocol or *, which like always means every command.
// Matches are counted per rule, over all connections. The actions:
//
//	stall D          wait for D, then execute and answer
//	reset            reset the connection (RST); the command is not executed
//	close            send what was answered so far, then close; not executed
//	reply "TEXT"     answer with TEXT and CRLF; not executed
//	drop             execute, but do not answer
//	swap             execute, but answer after the next command's answer
//	truncate N       execute, send N bytes of the answer, then reset
//	lie N            announce a first VALUE or VA as N bytes longer than it is
//	wrongkey         answer the first VALUE or k flag with another key
//	slow D, slow D..D  execute, and hold the answer back for D
//	chunk N          write the answer N bytes at a time
//	refuse           close a connection at accept; only with always, which then
//	                 counts connections
//
// D is a duration such as 300ms. reset, close, reply, drop, swap and truncate
// exclude each other: the first one that fires is done. The other actions add
// up. noreply and quiet commands have an empty answer, which only reply and
// truncate change.

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Script is a parsed fault script. Its String parses to an equal Script.
type Script struct {
	Seed  uint64
	Rules []Rule
}

// Rule is one fault: where and when it strikes, and what it does.
type Rule struct {
	Verb  string // "" for always
	Key   string // "" for any
	After uint64
	Times uint64 // 0: no bound
	OneIn uint64 // 0: always
	Action
}

// Action is what a rule does: a name of the language and its argument.
type Action struct {
	Name   string
	N      int           // of truncate, lie and chunk
	Lo, Hi time.Duration // of stall (equal) and slow
	Text   string        // of reply
}

// argument is the kind of argument that an action takes.
type argument uint8

const (
	noArgument argument = iota
	countArgument
	offsetArgument
	durationArgument
	rangeArgument
	textArgument
)

// actions is every action, with its argument, by name.
var actions = map[string]argument{
	"stall": durationArgument, "slow": rangeArgument, "truncate": countArgument,
	"chunk": countArgument, "lie": offsetArgument, "reply": textArgument,
	"reset": noArgument, "close": noArgument, "drop": noArgument, "swap": noArgument,
	"wrongkey": noArgument, "refuse": noArgument,
}

// String prints the script in the form in which it was parsed, conditions in the
// order after, times, chance.
func (s *Script) String() string {
	var parts []string
	if s.Seed != 0 {
		parts = append(parts, fmt.Sprintf("(seed %d)", s.Seed))
	}
	for _, r := range s.Rules {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, " ")
}

// String prints the rule as the language writes it.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString("(always")
	if r.Verb != "" {
		b.Reset()
		b.WriteString("(on " + r.Verb)
		if r.Key != "" {
			b.WriteString(" key " + strconv.Quote(r.Key))
		}
	}
	b.WriteString(" (")
	if r.After > 0 {
		fmt.Fprintf(&b, "after %d ", r.After)
	}
	if r.Times > 0 {
		fmt.Fprintf(&b, "times %d ", r.Times)
	}
	if r.OneIn > 0 {
		fmt.Fprintf(&b, "1/%d ", r.OneIn)
	}
	b.WriteString(r.Action.String() + "))")
	return b.String()
}

// String prints the action and its argument.
func (a Action) String() string {
	switch actions[a.Name] {
	case countArgument, offsetArgument:
		return fmt.Sprintf("%s %d", a.Name, a.N)
	case durationArgument:
		return fmt.Sprintf("%s %v", a.Name, a.Lo)
	case rangeArgument:
		if a.Lo != a.Hi {
			return fmt.Sprintf("%s %v..%v", a.Name, a.Lo, a.Hi)
		}
		return fmt.Sprintf("%s %v", a.Name, a.Lo)
	case textArgument:
		return a.Name + " " + strconv.Quote(a.Text)
	}
	return a.Name
}
