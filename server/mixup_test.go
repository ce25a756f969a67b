package server

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestNothingIsMixedUp lets many clients pipeline commands over several nodes that
// die, stall, cut their replies and garble them at random, and reads what every
// client got: each command is answered once, in order, and no value is another
// key's. A value says its key; a node that is asked for a key makes it up.
func TestNothingIsMixedUp(t *testing.T) {
	seeds := uint64(50)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { newChaos(t, seed).play() })
	}
}

// chaos is one run of it.
type chaos struct {
	*world
	rng     *rand.Rand
	clients []*chatter
	owed    map[*fakeConn][]byte // what a node has still to say
}

// chatter is a client that remembers what it asked, as what the answer must be.
type chatter struct {
	conn *fakeConn
	asks []ask
	got  []byte
	next int
}

// ask is a command: how many keys it fetches, or which lines may answer it.
type ask struct {
	keys  []string
	lines []string
}

func newChaos(t *testing.T, seed uint64) *chaos {
	rng := rand.New(rand.NewPCG(seed, 1))
	copies := [][]int{{1}, {3}, {2, 2}, {3, 1}, {1, 1, 1}, {2, 2, 2}}[rng.IntN(6)]
	c := &chaos{world: newWorld(t, nil, copies...), rng: rng, owed: map[*fakeConn][]byte{}}
	c.loop.streamAbove = []int{0, 1000, defaultStreamAbove}[rng.IntN(3)]
	c.start()
	return c
}

func (c *chaos) play() {
	for range 3 {
		c.clients = append(c.clients, &chatter{})
	}
	for range 300 {
		switch c.rng.IntN(10) {
		case 0, 1, 2:
			c.speak(c.clients[c.rng.IntN(len(c.clients))])
		case 9:
			c.harm(c.nodes[c.rng.IntN(len(c.nodes))])
		default:
			c.hear(c.nodes[c.rng.IntN(len(c.nodes))], false)
		}
		if c.rng.IntN(3) > 0 {
			c.settle()
		}
		c.read()
		if c.rng.IntN(8) == 0 {
			c.mend()
		}
	}
	c.end()
}

// mend brings nodes back that are down.
func (c *chaos) mend() {
	for i, n := range c.nodes {
		if !c.loop.pool.Health.Up(i) {
			n.refuse = n.refuse && c.rng.IntN(4) == 0
			c.revive(n)
		}
	}
}

// end lets everything be answered and demands that everything was.
func (c *chaos) end() {
	for i := 0; i < 400 && (i < 60 || c.loop.group.Pending() > 0); i++ {
		c.settle()
		for _, n := range c.nodes {
			c.hear(n, true)
		}
		c.tick()
		c.read()
	}
	for _, ch := range c.clients {
		if ch.conn != nil && !ch.conn.closed && ch.next < len(ch.asks) {
			c.t.Fatalf("a client waits for %d of %d answers; it has %.100q", len(ch.asks)-ch.next, len(ch.asks), ch.got)
		}
	}
	if n := c.loop.group.Pending(); n != 0 {
		c.t.Fatalf("%d requests are in flight", n)
	}
	c.loop.group.Close()
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
		*ch = chatter{conn: c.client(fmt.Sprint("client", c.rng.Uint64()))}
	}
	var in bytes.Buffer
	for range 1 + c.rng.IntN(12) {
		key := c.key()
		switch v := lasting(key); c.rng.IntN(12) {
		case 0, 1, 2:
			ch.say(&in, ask{keys: []string{key}}, "get %s\r\n", key)
		case 3, 4:
			keys := make([]string, 2+c.rng.IntN(6))
			for i := range keys {
				keys[i] = c.key()
			}
			ch.say(&in, ask{keys: keys}, "gets %s\r\n", strings.Join(keys, " "))
		case 5:
			ch.say(&in, ask{lines: []string{"VA " + fmt.Sprint(len(v)) + " k" + key + "\r\n" + v, "EN"}}, "mg %s k v\r\n", key)
		case 6:
			ch.say(&in, ask{lines: []string{"STORED", "NOT_STORED"}}, "set %s 0 0 %d\r\n%s\r\n", key, len(v), v)
		case 7:
			ch.say(&in, ask{lines: []string{"HD", "NS"}}, "ms %s %d\r\n%s\r\n", key, len(v), v)
		case 8:
			ch.say(&in, ask{lines: []string{"DELETED", "NOT_FOUND"}}, "delete %s\r\n", key)
		case 9:
			ch.say(&in, ask{lines: []string{"1", "2", "NOT_FOUND"}}, "incr %s 1\r\n", key)
		case 10:
			ch.say(&in, ask{lines: []string{"MN"}}, "mn\r\n")
		case 11:
			fmt.Fprintf(&in, "set %s 0 0 %d noreply\r\n%s\r\n", key, len(v), v)
		}
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
	writes, _ := conn.take()
	say := append(c.owed[conn], c.answers(bytes.Join(writes, nil))...)
	cut := len(say)
	if !all && cut > 0 {
		cut = c.rng.IntN(cut + 1)
	}
	c.owed[conn] = bytes.Clone(say[cut:])
	c.deliver(conn, say[:cut])
}

// deliver has say arrive in one or two parts.
func (c *chaos) deliver(conn *fakeConn, say []byte) {
	cut := c.rng.IntN(len(say) + 1)
	conn.traffic(say[:cut])
	conn.traffic(say[cut:])
}

// answers is what a node says to commands that came whole.
func (c *chaos) answers(in []byte) []byte {
	var out bytes.Buffer
	for len(in) > 0 {
		line, rest, _ := bytes.Cut(in, []byte("\r\n"))
		f := strings.Fields(string(line))
		miss := c.rng.IntN(4) == 0
		switch f[0] {
		case "version":
			out.WriteString("VERSION 1.6.18\r\n")
		case "get", "gets":
			for _, key := range f[1:] {
				if c.rng.IntN(4) > 0 {
					fmt.Fprintf(&out, "VALUE %s 0 %d\r\n%s\r\n", key, len(lasting(key)), lasting(key))
				}
			}
			out.WriteString("END\r\n")
		case "mg":
			out.WriteString(pick(miss, "EN\r\n", fmt.Sprintf("VA %d k%s\r\n%s\r\n", len(lasting(f[1])), f[1], lasting(f[1]))))
		case "set":
			rest = rest[len(lasting(f[1]))+2:]
			out.WriteString(pick(miss, "NOT_STORED\r\n", "STORED\r\n"))
		case "ms":
			rest = rest[len(lasting(f[1]))+2:]
			out.WriteString(pick(miss, "NS\r\n", "HD\r\n"))
		case "md":
			out.WriteString("HD\r\n")
		case "incr":
			out.WriteString([]string{"1\r\n", "2\r\n", "NOT_FOUND\r\n"}[c.rng.IntN(3)])
		default:
			out.WriteString(pick(miss, "NOT_FOUND\r\n", "DELETED\r\n"))
		}
		in = rest
	}
	return out.Bytes()
}

func pick(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// harm does something bad to a node.
func (c *chaos) harm(n *fakeNode) {
	switch c.rng.IntN(6) {
	case 0:
		n.refuse = !n.refuse
	case 1:
		n.frail = true
	case 2:
		for range 60 {
			c.tick()
		}
	case 3:
		n.conn.broken = true
	case 4:
		if len(c.owed[n.conn]) > 0 {
			return // in the middle of a value nobody could tell
		}
		n.conn.traffic([]byte([]string{"END\r\n", "STORED\r\n", "VALUE key-zz 0 1\r\nx\r\n", "\xff", "VA 1 kkey-z9\r\ny\r\n"}[c.rng.IntN(5)]))
	case 5:
		n.conn.end(errLost)
	}
}

// read checks what the clients have got so far.
func (c *chaos) read() {
	for _, ch := range c.clients {
		if ch.conn == nil {
			continue
		}
		ch.got = append(ch.got, ch.conn.sent()...)
		for ch.next < len(ch.asks) {
			n := ch.asks[ch.next].answered(c.t, ch.got)
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

// answered is the length of the answer to a at the front of b, 0 if it has not come
// whole. An answer that is none fails the test.
func (a *ask) answered(t testing.TB, b []byte) int {
	keys := a.keys
	for at := 0; ; {
		line, _, whole := bytes.Cut(b[at:], []byte("\r\n"))
		if !whole {
			return 0
		}
		if bytes.HasPrefix(line, []byte("SERVER_ERROR node ")) || a.keys != nil && string(line) == "END" {
			return at + len(line) + 2
		}
		if a.keys == nil {
			return a.one(t, b)
		}
		f := strings.Fields(string(line))
		for len(keys) > 0 && (len(f) < 2 || keys[0] != f[1]) {
			keys = keys[1:]
		}
		if len(keys) == 0 {
			t.Fatalf("get of %v: got %.200q", a.keys, b)
		}
		frame := fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\n", f[1], len(lasting(f[1])), lasting(f[1]))
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
