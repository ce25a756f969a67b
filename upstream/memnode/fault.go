package memnode

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// faults is a script at work on a node: each rule counts its own matches and draws
// from its own generator, so that one rule's draws do not shift another's.
type faults struct {
	node  *Node // immutable, as are the next three
	began time.Time
	rules []*ruleState
	ended chan struct{} // closed by stop
	fired atomic.Uint64

	turn  sync.Mutex // held by whoever does something to the node
	tasks sync.WaitGroup

	mu   sync.Mutex // guards the rules' counts and generators, and over
	over bool
}

type ruleState struct {
	Rule
	matches, fires uint64
	draw           *rand.Rand
}

// newFaults returns nil for a script without rules.
func newFaults(n *Node, s *Script) *faults {
	if len(s.Rules) == 0 {
		return nil
	}
	f := &faults{node: n, began: time.Now(), ended: make(chan struct{})}
	for i, r := range s.Rules {
		f.rules = append(f.rules, &ruleState{Rule: r, draw: rand.New(rand.NewPCG(s.Seed, uint64(i)))})
	}
	return f
}

// event is what a rule may match: a new connection, or a command.
type event struct {
	accept bool
	verb   *command // nil for an unknown one
	key    []byte
	doomed bool // a rule has bounded what the connection will send
}

func (r *Rule) meets(e event) bool {
	switch {
	case r.place() == aTime, e.accept != (r.place() == aConnection):
		return false
	case r.Name == "reset" && r.N > 0 && e.doomed:
		return false
	case r.Key != "" && r.Key != string(e.key):
		return false
	}
	return e.accept || r.On == "" || r.On == "*" || e.verb != nil && r.On == e.verb.name
}

// strikes counts a match at a time of the script, and decides whether the rule
// fires. Under f.mu.
func (f *faults) strikes(r *ruleState, at time.Duration) bool {
	if at < r.From || r.Until > 0 && at >= r.Until {
		return false
	}
	r.matches++
	if r.matches <= r.After || r.Times > 0 && r.fires == r.Times {
		return false
	}
	if r.OneIn > 0 && r.draw.Uint64N(r.OneIn) != 0 {
		return false
	}
	r.fires++
	f.fired.Add(1)
	return true
}

// plan is what is to happen to one command or new connection.
type plan struct {
	outages     []outage
	stall, slow time.Duration
	sends       int    // reset after so many bytes; 0: no bound
	ending      Action // reset, close, reply, drop, swap or truncate; Name "" for none
	chunk, lie  int
	wrongKey    bool
	fired       bool
}

func (f *faults) plan(e event) (p plan) {
	at := time.Since(f.began)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if !r.meets(e) || !f.strikes(r, at) {
			continue
		}
		p.fired = true
		switch r.Name {
		case "freeze", "refuse", "restart", "kill":
			p.outages = append(p.outages, r.outage())
		case "stall":
			p.stall += r.Delay.draw(r.draw)
		case "slow":
			p.slow += r.Delay.draw(r.draw)
		case "chunk":
			p.chunk = r.N
		case "lie":
			p.lie += r.N
		case "wrongkey":
			p.wrongKey = true
		default:
			switch {
			case r.N > 0 && r.Name == "reset":
				p.sends, e.doomed = r.N, true
			case p.ending.Name == "":
				p.ending = r.Action
			}
		}
	}
	return p
}

// keyOf is the key a rule's key is compared with: the first one, as sent.
func keyOf(cmd *command, words [][]byte) []byte {
	at := 1
	if cmd != nil && (cmd.name == "gat" || cmd.name == "gats") {
		at = 2
	}
	if at < len(words) {
		return words[at]
	}
	return nil
}

// faulty runs a command under a script. Replies to earlier commands leave first,
// so that what remains is this command's.
func (c *conn) faulty(f *faults, cmd *command, words [][]byte) bool {
	p := f.plan(event{verb: cmd, key: keyOf(cmd, words), doomed: c.sends > 0})
	if !p.fired && c.held == nil {
		return c.run(cmd, words)
	}
	if !c.wire.flush() || !c.suffer(f, p) {
		return false
	}
	c.hold, c.mute = true, p.ending.Name == "reply"
	ok := c.run(cmd, words)
	c.hold, c.mute = false, false
	return ok && c.deliver(p)
}

// suffer does what comes before a command is executed, or a new connection served.
// False ends the connection.
func (c *conn) suffer(f *faults, p plan) bool {
	for _, o := range p.outages {
		if !c.await(f.begin(o)) {
			return false
		}
	}
	if p.stall > 0 && !c.sleep(p.stall) {
		return false
	}
	if p.sends > 0 {
		c.sends = p.sends
	}
	if p.ending.Name == "reset" {
		reset(c.c)
	}
	return p.ending.Name != "reset" && p.ending.Name != "close"
}

// deliver sends the reply in out as the plan wants it.
func (c *conn) deliver(p plan) bool {
	if p.lie != 0 {
		c.out = lie(c.out, p.lie)
	}
	if p.wrongKey {
		c.out = otherKey(c.out)
	}
	switch p.ending.Name {
	case "reply":
		c.out = append(append(c.out[:0], p.ending.Text...), "\r\n"...)
	case "drop":
		c.out = c.out[:0]
	case "truncate":
		c.out = c.out[:min(len(c.out), p.ending.N)]
	case "swap":
		if c.held == nil && len(c.out) > 0 {
			c.held = bytes.Clone(c.out)
			c.out = c.out[:0]
			return true
		}
	}
	if len(c.out) > 0 {
		c.out = append(c.out, c.held...)
		c.held = nil
	}
	if p.slow > 0 && !c.sleep(p.slow) {
		return false
	}
	for p.chunk > 0 && len(c.out) > 0 {
		n := min(p.chunk, len(c.out))
		if !c.write(c.out[:n]) {
			return false
		}
		c.out = c.out[n:]
	}
	if p.ending.Name != "truncate" {
		return c.batchEnds()
	}
	if c.wire.flush() {
		reset(c.c) // on loopback the bytes are with the peer already
	}
	return false
}

// lie changes the length that the first VALUE or VA of a reply announces.
func lie(reply []byte, by int) []byte {
	head, rest, ok := bytes.Cut(reply, []byte("\r\n"))
	fields := bytes.Fields(head)
	at := 0
	switch {
	case !ok || len(fields) < 2:
		return reply
	case string(fields[0]) == "VALUE" && len(fields) > 3:
		at = 3
	case string(fields[0]) == "VA":
		at = 1
	default:
		return reply
	}
	n, err := strconv.Atoi(string(fields[at]))
	if err != nil {
		return reply
	}
	fields[at] = strconv.AppendInt(nil, int64(max(0, n+by)), 10)
	return joined(fields, rest)
}

// otherKey replaces the first key that a reply names by one nobody asked for.
func otherKey(reply []byte) []byte {
	head, rest, ok := bytes.Cut(reply, []byte("\r\n"))
	fields := bytes.Fields(head)
	if !ok || len(fields) == 0 {
		return reply
	}
	if string(fields[0]) == "VALUE" && len(fields) > 1 {
		fields[1] = another(fields[1])
		return joined(fields, rest)
	}
	if len(fields[0]) != len("HD") {
		return reply
	}
	for i, f := range fields[1:] {
		if f[0] == 'k' {
			fields[i+1] = append([]byte("k"), another(f[1:])...)
			return joined(fields, rest)
		}
	}
	return reply
}

// another is a key of the same length as key, and not it.
func another(key []byte) []byte {
	out := bytes.Clone(key)
	if len(out) > 0 {
		last := &out[len(out)-1]
		if *last == 'X' {
			*last = 'Y'
		} else {
			*last = 'X'
		}
	}
	return out
}

func joined(fields [][]byte, rest []byte) []byte {
	out := append(bytes.Join(fields, []byte(" ")), "\r\n"...)
	return append(out, rest...)
}
