package server

import (
	"bytes"
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
)

var rewrite = flag.Bool("rewrite", false, "write what the proxy does into the transcripts: read the diff")

// TestTranscripts plays testdata/transcripts/*/*.txt: clients, the proxy and nodes
// in one file. What a line makes the proxy write follows it, so the whole file is
// demanded, and nothing can be left on a wire unseen.
//
//	# comment
//	pool 3 2                    3 nodes p1 p2 p3 and their backups b1 b2; "1 1" if not given
//	option max-value 100        or timeout (ticks), client-buffer, greeting by-hand,
//	                            stream-above (0 unless set: every value is relayed as it comes)
//	client> get k1|get k2       a client sends; | is CRLF, and one is added at the end
//	client>- ge                 the same without the CRLF at the end
//	p1< get k1 k2               one write to p1; the key's last digit names its node
//	p1> VALUE k1 0 1|x|END      p1 sends
//	client< END                 one write to the client
//	p1< <closed>                the proxy closed the connection
//	p1! reset                   also: eof, break (the next write fails), refuse, accept,
//	                            silent (dials are left unanswered), up (a probe succeeds),
//	                            stillborn (the next connection fails its first write)
//	client! reset               also: eof (half-close), break, deaf (does not read), read
//	tick 51                     time passes
//	drain                       the proxy begins to shut down
//	metric failovers 1          a counter, as in "stats proxy"
//	health p1 down
//	& p1! reset                 in one batch of events with the next line
//
// Go's escapes are understood; {x*1000} repeats x, {k1..k9} counts. Dials succeed
// and greetings are answered unless the file says otherwise.
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
	stream int // loop.streamAbove
}

var observed = regexp.MustCompile(`^[a-z]+[0-9]*<-? `)

// play plays the lines of a transcript that are not the proxy's, and returns them
// with what the proxy did.
func play(t testing.TB, text string) string {
	p := &player{t: t, copies: []int{1, 1}}
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
		out.WriteString(p.step(line) + "\n")
		out.WriteString(p.observe())
	}
	p.world.finish()
	return out.String()
}

// setting takes a line that says what the world is like.
func (p *player) setting(line string) bool {
	f := strings.Fields(line)
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			p.t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	switch {
	case f[0] == "pool":
		p.copies = nil
		for _, n := range f[1:] {
			p.copies = append(p.copies, number(n))
		}
	case f[0] == "option" && f[1] == "greeting":
		p.byHand = true
	case f[0] == "option" && f[1] == "max-value":
		p.set = append(p.set, func(c *config.Config) { c.MaxValue = number(f[2]) })
	case f[0] == "option" && f[1] == "client-buffer":
		p.set = append(p.set, func(c *config.Config) { c.ClientBuffer = number(f[2]) })
	case f[0] == "option" && f[1] == "stream-above":
		p.stream = number(f[2])
	case f[0] == "option" && f[1] == "timeout":
		p.set = append(p.set, func(c *config.Config) { c.Timeout = time.Duration(number(f[2])) * tick })
	default:
		return false
	}
	return true
}

func (p *player) begin() {
	p.world = newWorld(p.t, func(c *config.Config) {
		for _, set := range p.set {
			set(c)
		}
	}, p.copies...)
	p.world.byHand = p.byHand
	p.world.loop.streamAbove = p.stream
	p.world.start()
}

var event = regexp.MustCompile(`^([a-z]+[0-9]*)(>-?|!) (.*)$`)

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
	case f[0] == "drain":
		w.loop.drain()
		w.loop.settle()
	case f[0] == "metric":
		return "metric " + f[1] + " " + w.metric(f[1])
	case f[0] == "health":
		return "health " + f[1] + " " + p.health(f[1])
	default:
		m := event.FindStringSubmatch(rest)
		if m == nil {
			p.t.Fatalf("what is %q?", line)
		}
		p.event(m[1], m[2], m[3])
	}
	if !batch {
		w.settle()
	}
	return line
}

func (p *player) health(name string) string {
	for i, n := range p.world.nodes {
		if n.name == name {
			return p.world.loop.pool.Health.Load(i).State().String()
		}
	}
	return "unknown"
}

func (p *player) event(who, what, text string) {
	isClient := strings.HasPrefix(who, "client")
	switch {
	case what == "!" && isClient:
		p.client(p.world.client(who), text)
	case what == "!":
		p.node(p.world.node(who), text)
	default:
		b := parse(p.t, text)
		if what == ">" {
			b = append(b, "\r\n"...)
		}
		if isClient {
			p.world.client(who).traffic(b)
		} else if c := p.world.node(who).conn; c != nil {
			c.traffic(b)
		}
	}
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
	case "up":
		p.world.revive(n)
	default:
		p.t.Fatalf("what is %q?", what)
	}
}

// observe renders what the proxy has written since the last call.
func (p *player) observe() string {
	var out strings.Builder
	for _, c := range p.world.wires() {
		writes, ended := c.take()
		for _, b := range writes {
			text, whole := bytes.CutSuffix(b, []byte("\r\n"))
			op := "<"
			if !whole {
				op = "<-"
			}
			fmt.Fprintf(&out, "%s%s %s\n", c.name, op, render(text))
		}
		if ended {
			fmt.Fprintf(&out, "%s< <closed>\n", c.name)
		}
	}
	return out.String()
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
