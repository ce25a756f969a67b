package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/codec"
	"magent/upstream/probe"
)

// A pool of one copy has no use for lives, and does not ask for what makes them.
func TestGreetingIsOneWrite(t *testing.T) {
	for nodes, want := range map[int]string{1: "version\r\n", 2: "version\r\nstats\r\n"} {
		r := newRig(nodes)
		r.group.Connect(0)
		_, w := r.accept(t)
		if got := w.taken(); got != want || w.writes != 1 {
			t.Errorf("%d nodes: %d writes, %q", nodes, w.writes, got)
		}
	}
}

func TestLifeIsThatOfTheConnection(t *testing.T) {
	r := newRig(2)
	c := r.group.Conn(0, 0)
	unknown := func(when string) {
		t.Helper()
		if life, ok := c.Life(); ok {
			t.Errorf("%s the life is %x", when, life)
		}
	}
	meet := func(stats string) uint64 {
		t.Helper()
		_, w := r.accept(t)
		unknown("before the greeting is answered")
		c.Feed([]byte("VERSION 1.6.18\r\n"))
		unknown("before the stats have come")
		c.Feed([]byte(stats[:len(stats)-1]))
		unknown("before the stats have come whole")
		c.Feed([]byte(stats[len(stats)-1:]))
		life, ok := c.Life()
		if !ok || r.group.Pending() != 0 {
			t.Fatalf("after the greeting: life %v, %d in flight", ok, r.group.Pending())
		}
		c.Lost(w, true)
		unknown("after the connection was lost")
		c.node.SetLife(0) // another may come
		return life
	}
	unknown("before the dial")
	r.group.Connect(0)
	unknown("during the dial")
	born := meet(stats("4711", "1700000100", "40"))
	if again := meet(stats("4711", "1700009060", "9000")); again != born {
		t.Error("another life of the same process")
	}
	if meet(stats("4712", "1700000100", "40")) == born {
		t.Error("another process has the same life")
	}
	if meet(stats("4711", "1700000100", "39")) == born {
		t.Error("a process that began later has the same life")
	}

	// Two proxies, or loops, find the same.
	other := newRig(2)
	oc, _ := other.open(t, 1)
	if life, ok := oc.Life(); !ok || life != born {
		t.Errorf("elsewhere the life is %x, not %x", life, born)
	}
}

// A request that fails the connection takes its life along before the owner hears.
func TestLifeEndsBeforeOwnersHear(t *testing.T) {
	r := newRig(2)
	c, w := r.open(t, 0)
	e := ear{fail: func(c *Conn, _ *Pending, _ Cause, _ bool) {
		if _, ok := c.Life(); ok {
			t.Error("there is a life without a connection")
		}
	}}
	send(c, &e, 1, codec.OpDelete, "delete a\r\n", codec.Span{Off: 7, Len: 1})
	if _, ok := c.Life(); !ok {
		t.Error("there is no life on a good connection")
	}
	c.Lost(w, true)
	if len(e.heard) != 1 {
		t.Errorf("heard %q", e.heard)
	}
}

// A token keeps few bits of a life: those of a node restarted now and then must differ.
func TestLivesSpread(t *testing.T) {
	const bits, n = 11, 5000
	life := func(i int) uint64 {
		var id probe.Identity
		for _, l := range strings.SplitAfter(stats(fmt.Sprint(1000+7*i), fmt.Sprint(1_700_000_000+10*i), "0"), "\n") {
			id.Stat([]byte(l))
		}
		life, ok := id.Life()
		if !ok {
			t.Fatal("no life")
		}
		return life & (1<<bits - 1)
	}
	same := 0
	for i := range n {
		if life(i) == life(i+1) {
			same++
		}
	}
	if same > 3*n>>bits {
		t.Errorf("%d of %d restarts do not show", same, n)
	}
}

// behind connects node 0 with a request queued, and feeds it parts.
func behind(t *testing.T, parts ...string) (*Conn, *wire, *ear) {
	t.Helper()
	r, e := newRig(2), &ear{}
	c := r.group.Conn(0, 0)
	send(c, e, 1, codec.OpDelete, "delete a\r\n", codec.Span{Off: 7, Len: 1})
	_, w := r.accept(t)
	r.group.Flush()
	if got := w.taken(); got != "version\r\nstats\r\ndelete a\r\n" {
		t.Fatalf("sent %q", got)
	}
	for _, p := range parts {
		b := []byte(p)
		c.Feed(b)
		for i := range b { // a view that was kept shows
			b[i] = 0xDB
		}
	}
	return c, w, e
}

const deleted = `1 "a" line:"DELETED\r\n" `

func TestGreetingCutAnywhere(t *testing.T) {
	in := newRig(2).greeting() + "DELETED\r\n"
	c, _, _ := behind(t, in)
	want, ok := c.Life()
	if !ok {
		t.Fatal("no life")
	}
	for i := range in {
		c, w, e := behind(t, in[:i], in[i:])
		if life, ok := c.Life(); !ok || life != want || !c.On(w) || !slices.Equal(e.heard, []string{deleted}) {
			t.Errorf("cut at %d: life %x, %v, heard %q", i, life, ok, e.heard)
		}
	}
	c, w, e := behind(t, strings.Split(in, "")...)
	if life, ok := c.Life(); !ok || life != want || !c.On(w) || !slices.Equal(e.heard, []string{deleted}) {
		t.Errorf("byte by byte: life %x, %v, heard %q", life, ok, e.heard)
	}
}

// A node that does not say enough of itself serves all the same.
func TestGreetingWithoutALife(t *testing.T) {
	whole := stats("4711", "1700000100", "40")
	for _, answer := range []string{
		"ERROR\r\n", "CLIENT_ERROR unauthenticated\r\n", "SERVER_ERROR out of memory writing stats\r\n", "END\r\n", "RESET\r\n",
		strings.Replace(whole, "pid", "pip", 1), strings.Replace(whole, "STAT time", "STAT tame", 1), strings.Replace(whole, "uptime", "downtime", 1),
		stats("none", "1700000100", "40"), stats("4711", "-1", "40"), stats("4711", "1700000100", ""), stats("4711", "1700000100", "99999999999999999999"),
		strings.Replace(whole, "STAT pid", "ITEM pid", 1), strings.Replace(whole, "STAT uptime", "SERVER_ERROR uptime\r\nSTAT", 1)[:len("STAT pid 4711\r\nSERVER_ERROR uptime\r\n")],
	} {
		c, w, e := behind(t, aloneGreeting+answer+"DELETED\r\n")
		if life, ok := c.Life(); ok || !c.On(w) || !slices.Equal(e.heard, []string{deleted}) {
			t.Errorf("%q: life %x, %v, connected %v, heard %q", answer, life, ok, c.On(w), e.heard)
		}
	}
}

// What is no answer to the greeting ends the connection.
func TestGreetingRefused(t *testing.T) {
	for answer, cause := range map[string]Cause{
		"ERROR\r\n": CauseRefused, "STORED\r\n": CauseRefused, "SMTP ready\r\n": CauseDesync, "\n": CauseDesync,
		aloneGreeting + "STORED\r\n": CauseDesync, aloneGreeting + aloneGreeting: CauseDesync,
		aloneGreeting + "VALUE a 0 1\r\nx\r\nEND\r\n": CauseDesync, aloneGreeting + "STAT pid 1\r\n\r\n": CauseDesync,
	} {
		c, w, e := behind(t, answer)
		_, ok := c.Life()
		if want := fmt.Sprintf("1 fail %v sent=true", cause); ok || c.On(w) || !w.closed || !slices.Equal(e.heard, []string{want}) {
			t.Errorf("%q: life %v, heard %q, want %q", answer, ok, e.heard, want)
		}
	}
}

func TestExplicitNeedsEveryNode(t *testing.T) {
	r := newRig(2)
	name := func(node int, version string) {
		t.Helper()
		r.group.Connect(node)
		c, w := r.accept(t)
		c.Feed([]byte("VERSION " + version + "\r\n"))
		c.Lost(w, true) // with the stats unanswered, so that it is not dialled again
	}
	for _, step := range []struct {
		node    int
		version string
		want    bool
	}{
		{0, "1.6.27", false}, // the other has not said
		{1, "1.6.18", false},
		{1, "1.6.45", true},
		{0, "1.6.26", false},
		{0, "1.7.0", true},
		{1, "unknown", false},
		{1, "1.6.27-5-gabcdef", true},
	} {
		if name(step.node, step.version); r.group.Explicit() != step.want {
			t.Errorf("after node %d named %s: %v", step.node, step.version, !step.want)
		}
	}
	if NewGroup(r.group.pool, r, Limits{}).Explicit() {
		t.Error("a group believes what another was told")
	}

	r = newRig(1)
	name(0, "1.6.45")
	if r.group.Explicit() {
		t.Error("versions are made for a pool of one copy")
	}
}
