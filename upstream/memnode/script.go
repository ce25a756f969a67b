package memnode

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Language documents the fault language: `magent help faults` prints it. A test has
// the parser read its examples, and wants a line that begins with each of the
// parser's words.
const Language = `A fault script tells a built-in node how to fail. It is one line of rules, and the node
follows every rule that matches, in the order of the script:

  (on get (after 100 reset)) (on set (1/20 stall 300ms)) (always (chunk 1))
  (every 600ms (freeze 300ms))                       stand still every other 300 ms
  (seed 7) (every exp 2s (restart 50ms..500ms))      restart empty, now and then
  (on accept (1/3 reset 4096))                       break one connection in three off
  (always (from 5s until 10s slow pareto 2ms 1.5))   be slow for 5 s, at times very
  (every 3s (times 1 kill))                          die 3 s after the start

  script = { "(" "seed" N ")" | rule }
  rule   = "(" where "(" { when } what ")" ")"

where - what the rule is about:
  always          every command
  on VERB         the commands of this verb; of every verb, if VERB is *
  on VERB key "K" those of them whose first key is K
  on accept       new connections
  every D         the node, each D; 1ms or more

when - if it is to fail now; all that is said must hold:
  from D          not in the first D of the script, which begins when the node gets it
  until D         only in the first D of the script
  after N         not the first N times it could
  times N         only N times
  1/N             one time in N, by chance

what - how it fails. About a command:
  stall D         wait for D, then execute and answer
  slow D          execute, and hold the answer back for D
  reset           reset the connection; the command is not executed
  reset N         execute, and reset the connection when it has sent N more bytes
  truncate N      execute, send N bytes of the answer at most, then reset
  close           send the answers so far, then close; the command is not executed
  reply "TEXT"    answer TEXT and CRLF; the command is not executed
  drop            execute, but do not answer
  swap            execute, but answer after the next command's answer
  lie N           announce the first VALUE or VA as N bytes longer than it is
  wrongkey        name another key in the first VALUE or k flag
  chunk N         write the answer N bytes at a time

About a new connection: stall D, reset, reset N, close. Every so often: reset, which
strikes all connections. About the node, whatever the rule is about:
  freeze D        stand still for D, as under SIGSTOP; what has come meanwhile is
                  executed then, even if its client has gone
  refuse D        take no connections for D: they are refused; those there are stay
  restart         die as by kill -9, and come back empty, with another pid
  restart D       the same, but after D
  kill            die as by kill -9, for good

D is a duration, or a law to draw one by, from the seed:
  300ms           a constant
  1ms..5ms        anything between these
  exp 5ms         exponential, of this mean
  normal 5ms 1ms  normal, of this mean and standard deviation; nothing below 0
  pareto 2ms 1.5  heavy-tailed, from 2ms up, of this shape
Of the last three the longest 1 in 10 000 are left out, and all beyond 24h. from and
until take constants.

Times are counted for each rule, over all connections. Only the first of reset without N,
close, reply, drop, swap and truncate that strikes a command is done; all else adds up. What
befalls the node does so one after the other. noreply and quiet commands have an empty
answer, which only reply and truncate change. A unix socket knows no reset: it is closed.
`

// Script is a parsed fault script. Its String parses to an equal Script.
type Script struct {
	Seed  uint64
	Rules []Rule
}

// Rule is one fault: where and when it strikes, and what it does.
type Rule struct {
	On          string // a verb, * or accept; "" for always and for every
	Key         string // "" for any
	Every       Delay  // zero: not a rule of time
	From, Until time.Duration
	After       uint64
	Times       uint64 // 0: no bound
	OneIn       uint64 // 0: always
	Action
}

// Action is what a rule does: a name of the language and its argument.
type Action struct {
	Name  string
	N     int    // of truncate, lie, chunk and reset; 0 for a reset at once
	Delay Delay  // of stall, slow, freeze, refuse and restart
	Text  string // of reply
}

// onAccept stands where a verb may.
const onAccept = "accept"

// place is what a rule is about.
type place uint8

const (
	aCommand place = 1 << iota
	aConnection
	aTime
	anything = aCommand | aConnection | aTime
)

var placeText = map[place]string{aConnection: "new connections", aTime: "a rule of time"}

// place says what the rule is about.
func (r *Rule) place() place {
	switch {
	case r.Every != Delay{}:
		return aTime
	case r.On == onAccept:
		return aConnection
	}
	return aCommand
}

// argument is the kind of argument that an action takes.
type argument uint8

const (
	noArgument argument = iota
	countArgument
	maybeCountArgument
	offsetArgument
	delayArgument
	maybeDelayArgument
	textArgument
)

// actions is every action by name: its argument, and what it may be done to.
var actions = map[string]struct {
	argument argument
	place    place
}{
	"stall": {delayArgument, aCommand | aConnection}, "slow": {delayArgument, aCommand},
	"reset": {maybeCountArgument, anything}, "close": {noArgument, aCommand | aConnection},
	"truncate": {countArgument, aCommand}, "chunk": {countArgument, aCommand},
	"lie": {offsetArgument, aCommand}, "wrongkey": {noArgument, aCommand},
	"reply": {textArgument, aCommand}, "drop": {noArgument, aCommand}, "swap": {noArgument, aCommand},
	"freeze": {delayArgument, anything}, "refuse": {delayArgument, anything},
	"restart": {maybeDelayArgument, anything}, "kill": {noArgument, anything},
}

// String prints the script in the form in which it was parsed, conditions in the
// order of Language.
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
	switch {
	case r.place() == aTime:
		fmt.Fprintf(&b, "(every %v", r.Every)
	case r.On == "":
		b.WriteString("(always")
	default:
		b.WriteString("(on " + r.On)
	}
	if r.Key != "" {
		b.WriteString(" key " + strconv.Quote(r.Key))
	}
	b.WriteString(" (")
	if r.From > 0 {
		fmt.Fprintf(&b, "from %v ", r.From)
	}
	if r.Until > 0 {
		fmt.Fprintf(&b, "until %v ", r.Until)
	}
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
	arg := actions[a.Name].argument
	switch {
	case arg == countArgument, arg == offsetArgument, arg == maybeCountArgument && a.N > 0:
		return fmt.Sprintf("%s %d", a.Name, a.N)
	case arg == delayArgument, arg == maybeDelayArgument && a.Delay != Delay{}:
		return fmt.Sprintf("%s %v", a.Name, a.Delay)
	case arg == textArgument:
		return a.Name + " " + strconv.Quote(a.Text)
	}
	return a.Name
}
