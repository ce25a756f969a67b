package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

var (
	seedFlag    = flag.Uint64("seed", 1, "first seed of the random tests")
	scriptsFlag = flag.Int("scripts", 0, "how many random scripts each topology is given; 0 is a few, or 120 if the run is long")
)

// A pair is memcached and a proxy, to be compared.
type pair struct {
	proxy                            *harness.Proxied
	direct                           string // memcached's address
	flushDirect, flushTCP, flushUnix func() error
}

func newPair(t testing.TB, top harness.Topology) *pair {
	node, p := harness.Memcached(t), harness.Proxy(t, top)
	return &pair{
		proxy: p, direct: node.Addr,
		flushDirect: flusher(t, node.Addr), flushTCP: flusher(t, p.Addr), flushUnix: flusher(t, p.Unix),
	}
}

// differ has d with both, with the proxy whole and cut, and says where the
// replies part, or "".
func (p *pair) differ(d *dialog, cuts []int) string {
	return p.proxy.Steadily(func() string { return p.differNow(d, cuts) })
}

func (p *pair) differNow(d *dialog, cuts []int) string {
	if err := errors.Join(p.flushDirect(), p.flushTCP()); err != nil {
		return err.Error()
	}
	want, err := talk(p.direct, d, d.steps, nil)
	if err != nil {
		return fmt.Sprintf("memcached itself: %v", err)
	}
	if diff := replyOf(p.proxy.Addr, d, nil, want); diff != "" {
		return diff
	}
	if err := p.flushUnix(); err != nil {
		return err.Error()
	}
	if diff := replyOf(p.proxy.Unix, d, cuts, want); diff != "" {
		return fmt.Sprintf("cut at %v: %s", cuts, diff)
	}
	return ""
}

func replyOf(addr string, d *dialog, cuts []int, want [][]string) string {
	got, err := talk(addr, d, d.steps, cuts)
	for i := range got {
		if diff := differ(got[i], want[i]); diff != "" {
			return fmt.Sprintf("stage %d: %s", i+1, diff)
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// someCuts cuts a stream of n bytes at a few places, or after each byte.
func someCuts(rng *rand.Rand, n int) (cuts []int) {
	step := 1 + rng.IntN(1+n/2)
	if n < 500 && rng.IntN(4) == 0 {
		step = 1
	}
	for at := 1 + rng.IntN(step); at < n && len(cuts) < 500; at += 1 + rng.IntN(step) {
		cuts = append(cuts, at)
	}
	return cuts
}

// TestRandom gives memcached and the proxy the same generated scripts.
func TestRandom(t *testing.T) {
	for _, top := range topologies {
		t.Run(nameOf(top), func(t *testing.T) {
			p := newPair(t, top)
			scripts := cmp.Or(*scriptsFlag, amount(40, 80, 120))
			for seed := *seedFlag; seed < *seedFlag+uint64(scripts); seed++ {
				g := generator{rand.New(rand.NewPCG(seed, 0))}
				s := g.script()
				d := s.dialog()
				cuts := someCuts(g.Rand, d.size())
				if p.differ(d, cuts) != "" {
					s, diff := p.shrink(s, g.Rand)
					t.Fatalf("seed %d, shrunk:\n%s\n%s", seed, s, diff)
				}
			}
		})
	}
}

// TestSlowNodesMakeNoDifference has the proxy find a node slow, and compares then what it
// answers otherwise while it does.
func TestSlowNodesMakeNoDifference(t *testing.T) {
	t.Parallel()
	p := newPair(t, topologies[1])
	node, c := p.proxy.Nodes[0][0], dial(t, p.proxy.Addr)
	node.Freeze()
	if err := c.Send([]byte("get k\r\n")); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "the node is slow", func() bool { return p.proxy.Server.Snapshot().Nodes[0].State == "slow" })
	node.Thaw()
	if reply, err := c.Until("END\r\n"); err != nil {
		t.Fatalf("%q, %v", reply, err)
	}
	d := &dialog{steps: []step{{send: []byte("mg k N600\r\n")}, {send: []byte("mg k\r\n")}}}
	if diff := p.differ(d, nil); diff != "" {
		t.Error(diff)
	}
}

// shrink takes commands away as long as the replies still differ.
func (p *pair) shrink(s script, rng *rand.Rand) (script, string) {
	last := "not seen again"
	deadline := time.Now().Add(30 * time.Second)
	for again := true; again && time.Now().Before(deadline); {
		again = false
		for i := range s {
			for j := range s[i] {
				less := slices.Clone(s)
				less[i] = slices.Delete(slices.Clone(s[i]), j, j+1)
				d := less.dialog()
				if diff := p.differ(d, someCuts(rng, d.size())); diff != "" {
					s, last, again = less, diff, true
					break
				}
			}
		}
	}
	return s, last
}

func (s script) String() string {
	var out bytes.Buffer
	for _, stage := range s {
		for _, c := range stage {
			fmt.Fprintf(&out, "%s\n", brief(string(c.text)))
		}
		if len(stage) > 0 {
			out.WriteString("--\n")
		}
	}
	return out.String()
}

var (
	// unfit matches what the generator leaves out, and why is said there.
	unfit = regexp.MustCompile(`(?i)watch|lru|slabs|cache_memlimit|extstore|shutdown|refresh_certs|stats|verbosity|quit|HTTP/|flush_all[^\n]*[1-9]`)
	// counts matches the line of a command that counts.
	counts = regexp.MustCompile(`(?m)^[ \x00]*(incr|decr|ma)\b`)
	// blank matches a line of white space, which might be a value to count in.
	blank = regexp.MustCompile(`(^|\n)[ \t\v\f\r]*\n`)
)

// stagesOf cuts a stream before each line that counts, and closes each piece; nil
// if memcached's own answer to the stream would depend on time or segmentation.
func stagesOf(stream []byte) *dialog {
	if unfit.Match(stream) || bytes.HasPrefix(stream, []byte{0x80}) || len(stream) > 1<<16 {
		return nil
	}
	if counts.Match(stream) && blank.Match(stream) {
		return nil
	}
	for line := range bytes.SplitSeq(stream, []byte("\n")) {
		long := func(word []byte) bool { return len(word) > 250 }
		if len(line) > 2000 || slices.ContainsFunc(bytes.Split(line, []byte(" ")), long) {
			return nil
		}
	}
	for _, word := range bytes.FieldsFunc(stream, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, ok := asLength(string(word)); ok && n > longest {
			return nil
		}
	}
	d := &dialog{apart: true}
	at := 0
	for _, m := range append(counts.FindAllIndex(stream, -1), []int{len(stream)}) {
		if m[0] > at {
			piece := stream[at:m[0]]
			d.steps = append(d.steps, step{send: slices.Concat(piece, closing(piece))})
			at = m[0]
		}
	}
	return d
}

// FuzzDifferential makes streams of the transcripts and compares the answers to
// them. An answer that differs must differ again and again: a stream may hold times that
// pass while it runs, and memcached keeps blanks behind a count that got shorter unless the item
// is being read just then, which a proxy does to have its copies alike.
func FuzzDifferential(f *testing.F) {
	for _, d := range loadTranscripts(f) {
		if d.size() < 4096 && !d.closes {
			var stream []byte
			for _, s := range d.steps {
				stream = append(stream, s.send...)
			}
			f.Add(stream, uint64(d.size()))
		}
	}
	p := newPair(f, harness.Topology{Copies: 2, Nodes: 3, Loops: 1})
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		d := stagesOf(stream)
		if d == nil {
			return
		}
		cuts := someCuts(rand.New(rand.NewPCG(seed, 0)), d.size())
		diff := ""
		for range 4 {
			if diff = p.differ(d, cuts); diff == "" {
				return
			}
		}
		t.Errorf("%s\nstream %q", diff, stream)
	})
}
