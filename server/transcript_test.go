package server

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/repair"
)

var rewrite = flag.Bool("rewrite", false, "write what the proxy does into the transcripts: read the diff")

// TestTranscripts plays testdata/transcripts/*/*.txt: clients, the proxy and nodes
// in one file. What a line makes the proxy write follows it, so the whole file is
// demanded, and nothing can be left on a wire unseen.
//
//	# comment
//	pool 3 2                    3 nodes p1 p2 p3 and their backups b1 b2; "1 1" if not given
//	option max-value 100        or timeout (ticks), hedge (ticks), client-buffer, client-timeout (ticks),
//	                            writes, ack, greeting by-hand,
//	                            slow (ticks; the world has a clock then, and a log), log-keys,
//	                            deny, max-ttl (seconds), client-rate (per second; all clients have one address),
//	                            version 1.6.45 (of all nodes, or of those named behind it),
//	                            auth foo:bar (a user, whom clients have to be),
//	                            repairs waiting=1 running=1 rate=1 burst=1 (limits of the queue),
//	                            stream-above (0 unless set: every value is relayed as it comes)
//	client> get k1|get k2       a client sends; | is CRLF, and one is added at the end
//	client>- ge                 the same without the CRLF at the end
//	p1< get k1 k2               one write to p1; the key's last digit names its node
//	p1> VALUE k1 0 1|x|END      p1 sends
//	p1> ?                       p1 sends what memcached would, ?1 to the first command only:
//	                            -rewrite puts that in its place
//	?                           so do all nodes, until nothing is asked
//	p1* set k1 0 0 1|y          another proxy has p1 do this; it shows in what p1 sends
//	client< END                 one write to the client
//	clientb> get k1|noop        a client of the binary protocol: packet_test.go tells how
//	log< slow request …         a line of the log
//	p1< <closed>                the proxy closed the connection
//	p1! reset                   also: eof, break (the next write fails), refuse, accept,
//	                            silent (dials are left unanswered), up (a probe succeeds,
//	                            and the node owes nothing), back (it owes what it missed),
//	                            stillborn (the next connection fails its first write),
//	                            restart (reset, and it has another life), slow (it is found so),
//	                            cold (it is found to have lost everything: it is warming)
//	client! reset               also: eof (half-close), break, deaf (does not read), read
//	tick 51                     time passes
//	look 9                      idle clients are looked for, so many times
//	drain                       the proxy begins to shut down
//	shutdown                    its time for that is over
//	metric failovers 1          a counter, as in "stats proxy"
//	repairs 0 wait, 1 run, …    the queue of repairs, and what it has seen
//	health p1 down
//	& p1! reset                 in one batch of events with the next line
//
// Go's escapes are understood; {x*1000} repeats x, {k1..k9} counts. A token is
// {p1:7}, the version 7 of p1, {p1':7} if p1 has been restarted since it started;
// {v1} is the first version that the proxy made, {foreign} the one that no item has.
// Dials succeed and greetings are answered unless the file says otherwise.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(filepath.Base(filepath.Dir(file))+"/"+name, func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			differ(t, file, string(want), got)
		})
	}
}

func differ(t *testing.T, file, want, got string) {
	t.Helper()
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			t.Errorf("%s:%d: from here on the proxy did\n%s", file, i+1, strings.Join(g[min(i, len(g)):min(i+6, len(g))], "\n"))
			return
		}
	}
}

// player is a transcript being played.
type player struct {
	t      testing.TB
	world  *world
	copies []int
	set    []func(*config.Config)
	byHand bool
	users  []string
	stream int // loop.streamAbove
	limits *repair.Limits
	full   int
	said   map[string]string    // versions by node
	asked  map[*fakeNode][]byte // what has no answer
}

var observed = regexp.MustCompile(`^[a-z]+[0-9]*<-? `)

// play plays the lines of a transcript that are not the proxy's, and returns them
// with what the proxy did.
func play(t testing.TB, text string) string {
	p := &player{t: t, copies: []int{1, 1}, said: map[string]string{}, asked: map[*fakeNode][]byte{}}
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if observed.MatchString(line) {
			continue
		}
		if line == "" || line[0] == '#' || p.setting(line) {
			out.WriteString(line + "\n")
			continue
		}
		if p.world == nil {
			p.begin()
		}
		if line == "?" {
			for n := p.nextAsked(); n != nil; n = p.nextAsked() {
				out.WriteString(p.step(n.name+"> ?") + "\n" + p.observe())
			}
			continue
		}
		out.WriteString(p.step(line) + "\n")
		out.WriteString(p.observe())
	}
	p.world.finish()
	return out.String()
}

// nextAsked is a node that has been asked something and has not answered.
func (p *player) nextAsked() *fakeNode {
	for _, n := range p.world.nodes {
		if len(p.asked[n]) > 0 {
			return n
		}
	}
	return nil
}

// setting takes a line that says what the world is like.
func (p *player) setting(line string) bool {
	f := strings.Fields(line)
	switch {
	case f[0] == "pool":
		p.copies = nil
		for _, n := range f[1:] {
			p.copies = append(p.copies, p.number(n))
		}
	case f[0] != "option":
		return false
	case f[1] == "greeting":
		p.byHand = true
	case f[1] == "stream-above":
		p.stream = p.number(f[2])
	case f[1] == "auth":
		p.users = append(p.users, strings.SplitN(line, " ", 3)[2])
	case f[1] == "pending":
		p.full = p.number(f[2])
	case f[1] == "repairs":
		p.limits = p.queue(f[2:])
	case f[1] == "version":
		for _, name := range append(f[3:], "")[:max(1, len(f)-3)] {
			p.said[name] = f[2]
		}
	default:
		p.set = append(p.set, p.option(f[1], f[2]))
	}
	return true
}

func (p *player) number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// option is a setting of the proxy's own.
func (p *player) option(name, value string) func(*config.Config) {
	switch name {
	case "max-value":
		return func(c *config.Config) { c.MaxValue = p.number(value) }
	case "client-buffer":
		return func(c *config.Config) { c.ClientBuffer = p.number(value) }
	case "client-timeout":
		return func(c *config.Config) { c.ClientTimeout = time.Duration(p.number(value)) * tick }
	case "timeout":
		return func(c *config.Config) { c.Pools[0].Timeout = time.Duration(p.number(value)) * tick }
	case "hedge":
		return func(c *config.Config) {
			c.Pools[0].Hedge.After = time.Duration(p.number(value)) * hedgeBeat
			c.Pools[0].Timeout = c.Pools[0].Timeout / tick * hedgeBeat // a beat of such a loop is shorter
		}
	case "writes":
		return func(c *config.Config) { c.Pools[0].Writes = config.Writes(value) }
	case "slow":
		return func(c *config.Config) { c.Slow = time.Duration(p.number(value)) * tick }
	case "log-keys":
		return func(c *config.Config) { c.LogKeys = config.LogKeys(value) }
	case "deny":
		return func(c *config.Config) { c.Clients.Deny = strings.Split(value, ",") }
	case "max-ttl":
		return func(c *config.Config) { c.Pools[0].MaxTTL = time.Duration(p.number(value)) * time.Second }
	case "client-rate":
		return func(c *config.Config) { c.Clients.Rate = p.number(value) }
	case "ack":
		return func(c *config.Config) { c.Pools[0].Ack = config.Ack(value) }
	}
	p.t.Fatalf("there is no option %q", name)
	return nil
}

// queue reads the limits of the queue of repairs.
func (p *player) queue(words []string) *repair.Limits {
	var l repair.Limits
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		switch n := p.number(value); name {
		case "waiting":
			l.Waiting = n
		case "running":
			l.Running = n
		case "rate":
			l.Rate = float64(n)
		case "burst":
			l.Burst = n
		}
	}
	return &l
}

func (p *player) begin() {
	p.world = newWorld(p.t, func(c *config.Config) {
		for _, set := range p.set {
			set(c)
		}
	}, p.copies...)
	p.world.byHand = p.byHand
	if p.users != nil {
		p.world.loop.srv.users = openUsers(p.t, p.users...)
	}
	p.world.loop.streamAbove = p.stream
	if p.full > 0 {
		limits := p.world.lane.limits()
		limits.Pending = p.full
		p.world.regroup(limits)
	}
	if p.limits != nil {
		p.world.lane.repairs = repair.NewQueue(*p.limits)
	}
	for _, n := range p.world.nodes {
		n.version = cmp.Or(p.said[n.name], p.said[""])
	}
	p.world.start()
	p.world.meet()
}

var event = regexp.MustCompile(`^([a-z]+[0-9]*)(>-?|!|\*) (.*)$`)

// step plays one line and returns it, with what it asks for filled in.
func (p *player) step(line string) string {
	w := p.world
	rest, batch := strings.CutPrefix(line, "& ")
	f := strings.Fields(rest)
	switch {
	case f[0] == "tick":
		n, _ := strconv.Atoi(f[1])
		for range n {
			w.tick()
		}
	case f[0] == "look":
		for range p.number(f[1]) {
			w.loop.closeIdle()
			w.loop.settle()
		}
	case f[0] == "drain":
		w.loop.drain()
		w.loop.settle()
	case f[0] == "shutdown":
		w.loop.close()
	case f[0] == "repairs":
		return "repairs " + w.repairs()
	case f[0] == "metric":
		return "metric " + f[1] + " " + w.metric(f[1])
	case f[0] == "health":
		return "health " + f[1] + " " + p.health(f[1])
	default:
		m := event.FindStringSubmatch(rest)
		if m == nil {
			p.t.Fatalf("what is %q?", line)
		}
		line = strings.TrimSuffix(line, m[3]) + p.event(m[1], m[2], m[3])
	}
	if !batch {
		w.settle()
	}
	return line
}

func (p *player) health(name string) string {
	for i, n := range p.world.nodes {
		if n.name == name {
			return p.world.lane.pool.Health.Load(i).State().String()
		}
	}
	return "unknown"
}

// event has text come from, or happen to, who, and returns it as it is to be written.
func (p *player) event(who, what, text string) string {
	w := p.world
	isClient := strings.HasPrefix(who, "client")
	if what == "!" && isClient {
		p.client(w.client(who), text)
		return text
	}
	switch {
	case isBinary(who):
		w.client(who).traffic(packets(p.t, w.names.meant(text)))
		return text
	case isClient:
		w.client(who).traffic(p.bytes(text, what))
		return text
	}
	n := w.node(who)
	switch {
	case what == "!":
		p.node(n, text)
	case what == "*":
		if b := p.bytes(text, what); *rewrite {
			n.honest(p.t).answer(b)
		}
	case text[0] == '?':
		answer := p.answer(n, text[1:])
		text = p.text(bytes.TrimSuffix(answer, []byte("\r\n")))
		n.conn.traffic(answer)
	case n.conn != nil:
		p.asked[n] = nil
		n.conn.traffic(p.bytes(text, what))
	}
	return text
}

// bytes is what text stands for, as whole lines unless what ends with -.
func (p *player) bytes(text, what string) []byte {
	b := parse(p.t, p.world.names.meant(text))
	if !strings.HasSuffix(what, "-") {
		b = append(b, "\r\n"...)
	}
	return b
}

// text is how b is written.
func (p *player) text(b []byte) string { return render(p.world.names.named(b)) }

// answer is what memcached says in place of n to what n has been asked; count is of
// how many commands, if not of all.
func (p *player) answer(n *fakeNode, count string) []byte {
	ask := p.asked[n]
	if len(ask) == 0 {
		p.t.Fatalf("%s has not been asked anything", n.name)
	}
	cut := len(ask)
	if count != "" {
		cut = 0
		for range p.number(count) {
			cut += commandLen(ask[cut:])
		}
	}
	p.asked[n] = ask[cut:]
	return n.honest(p.t).answer(ask[:cut])
}

// commandLen is the length of the command that b, as a proxy sends it, begins with.
func commandLen(b []byte) int {
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	size := 0
	switch f := strings.Fields(string(line)); f[0] {
	case "ms":
		size, _ = strconv.Atoi(f[2])
		size += 2
	case "set", "add", "replace", "append", "prepend", "cas":
		size, _ = strconv.Atoi(f[4])
		size += 2
	}
	return len(line) + 2 + size
}

func (p *player) client(c *fakeConn, what string) {
	switch what {
	case "reset":
		c.end(errLost)
	case "eof":
		c.end(io.EOF)
	case "break":
		c.broken = true
	case "deaf":
		c.deaf = true
	case "read":
		c.deaf = false
	default:
		p.t.Fatalf("what is %q?", what)
	}
}

func (p *player) node(n *fakeNode, what string) {
	switch what {
	case "reset":
		n.conn.end(errLost)
	case "eof":
		n.conn.end(io.EOF)
	case "break":
		n.conn.broken = true
	case "refuse":
		n.refuse, n.silent = true, false
	case "accept":
		n.refuse, n.silent = false, false
	case "stillborn":
		n.frail = true
	case "silent":
		n.silent = true
	case "restart":
		n.life++
		if n.behind != nil {
			n.behind.restart()
		}
		n.conn.end(errLost)
	case "trip":
		for i := range p.world.nodes {
			if p.world.nodes[i] == n {
				p.world.lane.pool.Monitor.Trip(i, p.world.lane.pool.Health.Load(i), "another loop")
			}
		}
	case "slow":
		for i := range p.world.nodes {
			if p.world.nodes[i] == n {
				p.world.lane.pool.Monitor.Demote(i, p.world.lane.pool.Health.Load(i), "slow")
			}
		}
	case "cold":
		for i := range p.world.nodes {
			if p.world.nodes[i] == n {
				p.world.lane.pool.Monitor.Distrust(i, p.world.lane.pool.Health.Load(i), health.Warming, "flushed")
			}
		}
	case "local":
		d := n.dials[0]
		n.dials = n.dials[1:]
		d.conn.Refused(d.attempt, upstream.CauseLocal)
		p.world.lane.group.Flush()
		p.world.loop.settle()
	case "up":
		p.world.forgive(n)
		p.world.revive(n)
	case "back":
		p.world.revive(n)
	default:
		p.t.Fatalf("what is %q?", what)
	}
}

// observe renders what the proxy has written since the last call.
func (p *player) observe() string {
	var out strings.Builder
	p.world.meet()
	for _, n := range p.world.nodes {
		if n.conn != nil {
			p.asked[n] = append(p.asked[n], p.look(&out, n.conn)...)
			if n.conn.closed {
				p.asked[n] = nil
			}
		}
	}
	for _, c := range p.world.clients {
		p.look(&out, c)
	}
	for line := range strings.Lines(p.world.logged.String()) {
		out.WriteString("log< " + line)
	}
	p.world.logged.Reset()
	return out.String()
}

// look renders what has been written to c, and returns it.
func (p *player) look(out *strings.Builder, c *fakeConn) []byte {
	writes, ended := c.take()
	for _, b := range writes {
		if isBinary(c.name) {
			fmt.Fprintf(out, "%s< %s\n", c.name, p.world.names.named([]byte(packetText(b))))
			continue
		}
		text, whole := bytes.CutSuffix(b, []byte("\r\n"))
		op := "<"
		if !whole {
			op = "<-"
		}
		fmt.Fprintf(out, "%s%s %s\n", c.name, op, p.text(text))
	}
	if ended {
		fmt.Fprintf(out, "%s< <closed>\n", c.name)
	}
	return bytes.Join(writes, nil)
}

var (
	repeat = regexp.MustCompile(`\{([^{}]+)\*([0-9]+)\}`)
	count  = regexp.MustCompile(`\{([a-z]+)([0-9]+)\.\.[a-z]+([0-9]+)\}`)
)

// parse turns the text of a line into what is sent.
func parse(t testing.TB, text string) []byte {
	text = strings.ReplaceAll(text, "|", "\r\n")
	if strings.Contains(text, `\`) {
		s, err := strconv.Unquote(`"` + strings.NewReplacer("\r", `\r`, "\n", `\n`, `"`, `\"`).Replace(text) + `"`)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		text = s
	}
	text = count.ReplaceAllStringFunc(text, func(m string) string {
		f := count.FindStringSubmatch(m)
		from, _ := strconv.Atoi(f[2])
		to, _ := strconv.Atoi(f[3])
		var keys []string
		for i := from; i <= to; i++ {
			keys = append(keys, fmt.Sprint(f[1], i))
		}
		return strings.Join(keys, " ")
	})
	return []byte(repeat.ReplaceAllStringFunc(text, func(m string) string {
		f := repeat.FindStringSubmatch(m)
		n, _ := strconv.Atoi(f[2])
		return strings.Repeat(f[1], n)
	}))
}

// render is the other way, but for counting.
func render(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		run := 1
		for run < len(b) && b[run] == b[0] {
			run++
		}
		switch {
		case bytes.HasPrefix(b, []byte("\r\n")):
			out.WriteByte('|')
			run = 2
		case run >= 16:
			fmt.Fprintf(&out, "{%c*%d}", b[0], run)
		default:
			run = 1
			q := strconv.Quote(string(b[:1]))
			switch b[0] {
			case '|':
				q = `"\x7c"`
			case '"':
				q = `"""`
			}
			out.WriteString(q[1 : len(q)-1])
		}
		b = b[run:]
	}
	return out.String()
}

// TestTranscriptText checks that what is rendered is read as the same bytes.
func TestTranscriptText(t *testing.T) {
	for _, s := range []string{"", "get k", "a\r\nb", "a|b", "\x00\xff\r", strings.Repeat("x", 40) + "y", `back\slash "q"`} {
		if got := string(parse(t, render([]byte(s)))); got != s {
			t.Error(errors.New("not the same"), strconv.Quote(s), strconv.Quote(got), render([]byte(s)))
		}
	}
}
