package server

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/memnode"
)

// TestNothingIsMixedUp lets clients of two proxies pipeline commands over nodes that
// die, stall, cut their replies and garble them at random, and reads what every
// client got: each command is answered once, in order, and no value is another
// key's. What the nodes say is memcached's. If no node died, or none came back, the
// copies of every key are equal in the end, or absent on a follower, and no step that
// a client was told of is missing or counted twice.
func TestNothingIsMixedUp(t *testing.T) {
	seeds := uint64(45)
	if testing.Short() {
		seeds = 9
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { newChaos(t, seed).play() })
	}
}

// chaos is one run of it.
type chaos struct {
	t       *testing.T
	rng     *rand.Rand
	fate    fate
	proxies [2]*world // their nodes are the same
	clients []*chatter
	owed    map[*fakeConn][]byte // what a node has still to say
	steps   map[string]*tally
}

// fate is what happens to nodes.
type fate int

const (
	calm   fate = iota // nothing
	mortal             // they die for good
	wild               // they come back
)

// chatter is a client that remembers what it asked, as what the answer must be.
type chatter struct {
	proxy *world
	conn  *fakeConn
	asks  []ask
	got   []byte
	next  int
	known map[*tally]version
}

// version is what a client was told of a counter.
type version struct{ value, cas uint64 }

// ask is a command: which keys it fetches, or which lines may answer it, or the
// counter that it asks for or makes a step of.
type ask struct {
	keys  []string
	lines []string
	gets  *tally
	step  *tally
	digit int
}

// tally is a counter: every step adds 1 to a digit of its own, to the base of 4.
type tally struct {
	key     string
	next    int
	acked   uint64 // a bit for each step that a client was told of,
	refused uint64 // and of those that it was told had not been made
}

// digits is how many steps of a counter fit 64 bits.
const digits = 31

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fate: fate(seed % 3), owed: map[*fakeConn][]byte{}, steps: map[string]*tally{}}
	copies := [][]int{{1}, {3}, {2, 2}, {3, 1}, {1, 1, 1}, {2, 2, 2}}[c.rng.IntN(6)]
	version := []string{oldVersion, newVersion}[c.rng.IntN(2)]
	for i := range c.proxies {
		w := newWorld(t, func(cfg *config.Config) {
			if c.fate == wild && c.rng.IntN(4) == 0 {
				cfg.Pools[0].Writes = config.WritesParallel
			}
			if c.fate != mortal && c.rng.IntN(4) == 0 {
				cfg.Pools[0].Ack = config.AckLead
			} else if c.rng.IntN(2) == 0 {
				cfg.Pools[0].Hedge.After = 2 * hedgeBeat
				cfg.Pools[0].Timeout = cfg.Pools[0].Timeout / tick * hedgeBeat
			}
		}, copies...)
		for j, n := range w.nodes {
			n.version = version
			if i > 0 {
				n.behind = c.proxies[0].nodes[j].honest(t)
			}
		}
		w.loop.streamAbove = []int{0, 1000, defaultStreamAbove}[c.rng.IntN(3)]
		c.proxies[i] = w
	}
	c.begin()
	for _, w := range c.proxies {
		w.start()
	}
	return c
}

// begin gives every counter its item, at all its replicas.
func (c *chaos) begin() {
	w := c.proxies[0]
	for i := range 9 {
		key := fmt.Sprintf("num-%c%d", 'a'+i/3, 1+i%3)
		c.steps[key] = &tally{key: key}
		for copy := range w.lane.pool.Copies {
			n := w.nodes[w.lane.pool.Replica(copy, []byte(key))]
			n.honest(c.t).answer(fmt.Appendf(nil, "set %s 0 0 1\r\n0\r\n", key))
		}
	}
}

func (c *chaos) play() {
	for i := range 4 {
		c.clients = append(c.clients, &chatter{proxy: c.proxies[i%2]})
	}
	for range 400 {
		w := c.proxies[c.rng.IntN(2)]
		i := c.rng.IntN(len(w.nodes))
		switch c.rng.IntN(10) {
		case 0, 1, 2:
			c.speak(c.clients[c.rng.IntN(len(c.clients))])
		case 9:
			if c.fate == wild {
				c.harm(w, w.nodes[i])
			} else if c.fate == mortal && c.rng.IntN(6) == 0 {
				c.kill(i)
			}
		case 8:
			for range 3 { // reads become late
				w.tick()
			}
		default:
			c.hear(w.nodes[i], false)
		}
		if c.rng.IntN(3) > 0 {
			w.settle()
		}
		c.read()
		if c.fate == wild && c.rng.IntN(8) == 0 {
			c.mend(w)
		}
	}
	c.end()
}

// mend brings nodes back that are down.
func (c *chaos) mend(w *world) {
	for i, n := range w.nodes {
		if !w.lane.pool.Health.Writable(i) {
			n.refuse = n.refuse && c.rng.IntN(4) == 0
			w.revive(n)
		}
	}
}

// end lets everything be answered and demands that everything was.
func (c *chaos) end() {
	pending := func() (n int) {
		for _, w := range c.proxies {
			n += w.lane.group.Pending()
		}
		return n
	}
	for i := 0; i < 400 && (i < 60 || pending() > 0); i++ {
		for _, w := range c.proxies {
			w.settle()
			for _, n := range w.nodes {
				c.hear(n, true)
			}
			w.tick()
		}
		c.read()
	}
	for _, ch := range c.clients {
		if ch.conn != nil && !ch.conn.closed && ch.next < len(ch.asks) {
			c.t.Fatalf("a client waits for %d of %d answers; it has %.100q", len(ch.asks)-ch.next, len(ch.asks), ch.got)
		}
	}
	if n := pending(); n != 0 {
		c.t.Fatalf("%d requests are in flight", n)
	}
	if c.fate != wild {
		c.compare()
	}
}

// compare demands that the copies of every key agree at the nodes that are left, and
// that the counters add up.
func (c *chaos) compare() {
	pool, keys := c.proxies[0].lane.pool, map[string]bool{}
	for i := range 36 {
		keys[fmt.Sprintf("key-%c%d", 'a'+i/3, 1+i%3)] = true
	}
	for key := range c.steps {
		keys[key] = true
	}
	for key := range keys {
		var first *memnode.Item
		for copy := range pool.Copies {
			i := pool.Replica(copy, []byte(key))
			if !c.up(i) {
				continue
			}
			item, ok := c.proxies[0].nodes[i].honest(c.t).node.Get(key)
			switch {
			case first == nil && ok:
				first = &item
				c.adds(key, &item)
			case first == nil:
				first = &memnode.Item{}
			case ok && (!bytes.Equal(item.Value, first.Value) || item.Flags != first.Flags || item.Exptime.Sub(first.Exptime).Abs() > ttlSlack):
				c.t.Errorf("%s is %.50q, flags %d, until %v at its lead and %.50q, flags %d, until %v at copy %d", key,
					first.Value, first.Flags, first.Exptime, item.Value, item.Flags, item.Exptime, copy)
			}
		}
	}
}

// ttlSlack is what a second look at a TTL cannot see.
const ttlSlack = 3 * time.Second

// adds demands that an item which is a counter has every step that was told, and none
// twice.
func (c *chaos) adds(key string, item *memnode.Item) {
	n := c.steps[key]
	if n == nil {
		return
	}
	v, err := strconv.ParseUint(strings.TrimRight(string(item.Value), " "), 10, 64)
	if err != nil {
		c.t.Errorf("%s is %q", key, item.Value)
	}
	for digit := range digits {
		times := v >> (2 * digit) & 3
		told, refused := n.acked>>digit&1 == 1, n.refused>>digit&1 == 1
		if times > 1 || times == 0 && told || times == 1 && (digit >= n.next || refused) {
			c.t.Errorf("step %d of %s, told %v, refused %v, is in it %d times", digit, key, told, refused, times)
		}
	}
}

var valueSizes = []int{0, 1, 50, 3000, 9000, 80000}

// lasting is the value of key: it says which, and has always the same length.
func lasting(key string) string {
	size := valueSizes[int(key[4]-'a')%len(valueSizes)]
	return strings.Repeat(key+".", size/(len(key)+1)+1)
}

// speak has a client pipeline some commands, in pieces.
func (c *chaos) speak(ch *chatter) {
	if ch.conn == nil || ch.conn.closed {
		*ch = chatter{proxy: ch.proxy, known: map[*tally]version{}, conn: ch.proxy.client(fmt.Sprint("client", c.rng.Uint64()))}
	}
	var in bytes.Buffer
	for range 1 + c.rng.IntN(12) {
		c.utter(ch, &in)
	}
	for b := in.Bytes(); len(b) > 0; {
		n := len(b)
		if c.rng.IntN(2) == 0 {
			n = 1 + c.rng.IntN(len(b))
		}
		ch.conn.traffic(b[:n])
		b = b[n:]
	}
	if c.rng.IntN(20) == 0 {
		ch.conn.end(errLost)
	}
}

// utter is one command.
func (c *chaos) utter(ch *chatter, in *bytes.Buffer) {
	key := c.key()
	line := func(lines ...string) ask { return ask{lines: lines} }
	switch v := lasting(key); c.rng.IntN(18) {
	case 0, 1:
		ch.say(in, ask{keys: []string{key}}, "get %s\r\n", key)
	case 2, 3:
		keys := make([]string, 2+c.rng.IntN(6))
		for i := range keys {
			keys[i] = c.key()
		}
		ch.say(in, ask{keys: keys}, "get %s\r\n", strings.Join(keys, " "))
	case 4:
		ch.say(in, line("VA "+fmt.Sprint(len(v))+" k"+key+"\r\n"+v, "EN k"+key), "mg %s k v\r\n", key)
	case 5:
		ch.say(in, line("STORED", "NOT_STORED"), "add %s 7 0 %d\r\n%s\r\n", key, len(v), v)
	case 6:
		ch.say(in, line("HD", "NS"), "ms %s %d T%d\r\n%s\r\n", key, len(v), 1000+c.rng.IntN(1000), v)
	case 7:
		ch.say(in, line("STORED"), "set %s %d 0 %d\r\n%s\r\n", key, c.rng.IntN(100), len(v), v)
	case 8:
		ch.say(in, line("DELETED", "NOT_FOUND"), "delete %s\r\n", key)
	case 9:
		ch.say(in, line("HD", "NF"), "md %s\r\n", key)
	case 10:
		ch.say(in, line("MN"), "mn\r\n")
	case 11:
		fmt.Fprintf(in, "set %s 0 0 %d noreply\r\n%s\r\n", key, len(v), v)
	case 12:
		ch.say(in, line("TOUCHED", "NOT_FOUND"), "touch %s %d\r\n", key, 3000+c.rng.IntN(1000))
	case 13:
		ch.say(in, ask{keys: []string{key}}, "gat %d %s\r\n", 5000+c.rng.IntN(1000), key)
	case 14:
		ch.say(in, line("STORED", "NOT_STORED"), "append %s 0 0 0\r\n\r\n", key)
	case 15:
		ch.say(in, line("EXISTS", "NOT_FOUND"), "cas %s 0 0 3 123456\r\nabc\r\n", key)
	default:
		c.step(ch, in)
	}
}

// step is a step of a counter that has one left, in one of three ways, or asks for it.
func (c *chaos) step(ch *chatter, in *bytes.Buffer) {
	n := c.steps[fmt.Sprintf("num-%c%d", 'a'+c.rng.IntN(3), 1+c.rng.IntN(3))]
	known, isKnown := ch.known[n]
	how := c.rng.IntN(4)
	if n.next == digits || how == 0 || how == 1 && !isKnown {
		ch.say(in, ask{gets: n}, "gets %s\r\n", n.key)
		return
	}
	a := ask{step: n, digit: n.next}
	by := uint64(1) << (2 * a.digit)
	n.next++
	switch how {
	case 1:
		v := strconv.FormatUint(known.value+by, 10)
		ch.say(in, a, "cas %s 0 0 %d %d\r\n%s\r\n", n.key, len(v), known.cas, v)
	case 2:
		ch.say(in, a, "incr %s %d\r\n", n.key, by)
	default:
		ch.say(in, a, "ma %s D%d\r\n", n.key, by)
	}
}

func (c *chaos) key() string {
	return fmt.Sprintf("key-%c%d", 'a'+c.rng.IntN(12), 1+c.rng.IntN(3))
}

func (ch *chatter) say(in *bytes.Buffer, a ask, format string, args ...any) {
	fmt.Fprintf(in, format, args...)
	ch.asks = append(ch.asks, a)
}

// hear has a node read what it was sent and say some of its answers, all of them if
// it must.
func (c *chaos) hear(n *fakeNode, all bool) {
	conn := n.conn
	if conn == nil || conn.closed {
		return
	}
	say := append(c.owed[conn], c.answers(n)...)
	cut := len(say)
	if !all && cut > 0 {
		cut = c.rng.IntN(cut + 1)
	}
	c.owed[conn] = bytes.Clone(say[cut:])
	c.deliver(conn, say[:cut])
}

// answers is what n says to what it has been sent.
func (c *chaos) answers(n *fakeNode) []byte {
	writes, _ := n.conn.take()
	return n.honest(c.t).answer(bytes.Join(writes, nil))
}

// deliver has say arrive in one or two parts.
func (c *chaos) deliver(conn *fakeConn, say []byte) {
	cut := c.rng.IntN(len(say) + 1)
	conn.traffic(say[:cut])
	conn.traffic(say[cut:])
}

// harm does something bad to a node of w. One whose connection has ended may have
// carried out what it was sent.
func (c *chaos) harm(w *world, n *fakeNode) {
	switch c.rng.IntN(6) {
	case 0:
		n.refuse = !n.refuse
	case 1:
		n.frail = true
	case 2:
		for range 60 {
			w.tick()
		}
	case 3:
		n.conn.broken = true
	case 4:
		if len(c.owed[n.conn]) > 0 {
			return // in the middle of a value nobody could tell
		}
		n.conn.traffic([]byte([]string{"END\r\n", "RESET\r\n", "VALUE key-zz 0 1\r\nx\r\n", "\xff", "VA 1 kkey-z9\r\ny\r\n"}[c.rng.IntN(5)]))
	case 5:
		if c.rng.IntN(2) == 0 {
			c.answers(n)
		}
		n.conn.end(errLost)
	}
}

// kill ends node i for both proxies, if there is another copy of what it holds.
func (c *chaos) kill(i int) {
	pool := c.proxies[0].lane.pool
	for _, pl := range pool.Copies {
		if slices.Contains(pl.Nodes, i) || slices.ContainsFunc(pl.Nodes, func(j int) bool { return !c.up(j) }) {
			continue
		}
		for _, w := range c.proxies {
			n := w.nodes[i]
			if n.refuse = true; !n.conn.closed {
				if c.rng.IntN(2) == 0 {
					c.answers(n)
				}
				n.conn.end(errLost)
			}
		}
		return
	}
}

// up reports whether node i has not been killed.
func (c *chaos) up(i int) bool { return !c.proxies[0].nodes[i].refuse }

// read checks what the clients have got so far.
func (c *chaos) read() {
	for _, ch := range c.clients {
		if ch.conn == nil {
			continue
		}
		ch.got = append(ch.got, ch.conn.sent()...)
		for ch.next < len(ch.asks) {
			n := ch.asks[ch.next].answered(c.t, ch)
			if n == 0 {
				break
			}
			ch.got = ch.got[n:]
			ch.next++
		}
		if ch.next == len(ch.asks) && len(ch.got) > 0 {
			c.t.Fatalf("a client got %.200q and asked for nothing", ch.got)
		}
	}
}

// answered is the length of the answer to a at the front of what ch has got, 0 if it
// has not come whole. An answer that is none fails the test.
func (a *ask) answered(t testing.TB, ch *chatter) int {
	keys, b := a.keys, ch.got
	for at := 0; ; {
		line, _, whole := bytes.Cut(b[at:], []byte("\r\n"))
		if !whole {
			return 0
		}
		if bytes.HasPrefix(line, []byte("SERVER_ERROR node ")) || a.keys != nil && string(line) == "END" {
			return at + len(line) + 2
		}
		if a.gets != nil {
			return a.told(t, ch)
		}
		if a.keys == nil {
			return a.one(t, b)
		}
		f := strings.Fields(string(line))
		for len(keys) > 0 && (len(f) < 2 || keys[0] != f[1]) {
			keys = keys[1:]
		}
		if len(keys) == 0 || len(f) != 4 {
			t.Fatalf("get of %v: got %.200q", a.keys, b)
		}
		frame := fmt.Sprintf("VALUE %s %s %d\r\n%s\r\n", f[1], f[2], len(lasting(f[1])), lasting(f[1]))
		if rest := b[at:]; !bytes.HasPrefix(rest, []byte(frame)) {
			if !strings.HasPrefix(frame, string(rest)) {
				t.Fatalf("get of %v: got %.200q", a.keys, b)
			}
			return 0
		}
		at += len(frame)
		keys = keys[1:]
	}
}

// one is answered for a command with one of a few answers.
func (a *ask) one(t testing.TB, b []byte) int {
	if a.step != nil {
		return a.stepped(t, b)
	}
	for _, want := range a.lines {
		want += "\r\n"
		switch {
		case bytes.HasPrefix(b, []byte(want)):
			return len(want)
		case strings.HasPrefix(want, string(b)):
			return 0
		}
	}
	t.Fatalf("want one of %.200q, got %.200q", a.lines, b)
	return 0
}

// stepped is answered for a step.
func (a *ask) stepped(t testing.TB, b []byte) int {
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	_, err := strconv.ParseUint(string(line), 10, 64)
	switch s := string(line); {
	case err == nil, s == "HD", s == "STORED":
		a.step.acked |= 1 << a.digit
	case s == "NOT_FOUND", s == "NF", s == "EXISTS":
		a.step.refused |= 1 << a.digit
	default:
		t.Fatalf("a step got %.200q", b)
	}
	return len(line) + 2
}

// told is answered for a gets of a counter.
func (a *ask) told(t testing.TB, ch *chatter) int {
	delete(ch.known, a.gets)
	if bytes.HasPrefix(ch.got, []byte("END\r\n")) {
		return len("END\r\n")
	}
	head, rest, _ := bytes.Cut(ch.got, []byte("\r\n"))
	value, rest, _ := bytes.Cut(rest, []byte("\r\n"))
	f := strings.Fields(string(head))
	if len(f) != 5 || f[1] != a.gets.key {
		t.Fatalf("gets of %s got %.200q", a.gets.key, ch.got)
	}
	size := len(head) + 2 + len(value) + 2
	switch {
	case bytes.HasPrefix(rest, []byte("END\r\n")):
		var v version
		v.value, _ = strconv.ParseUint(strings.TrimRight(string(value), " "), 10, 64)
		v.cas, _ = strconv.ParseUint(f[4], 10, 64)
		ch.known[a.gets] = v
		return size + len("END\r\n")
	case bytes.HasPrefix(rest, []byte("SERVER_ERROR ")) && bytes.HasSuffix(rest, []byte("\r\n")):
		line, _, _ := bytes.Cut(rest, []byte("\r\n"))
		return size + len(line) + 2
	}
	return 0
}
