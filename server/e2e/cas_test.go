package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

// A casWay is one turn of a loop that reads a counter, and stores the number after it
// if it is still the same.
type casWay struct {
	name string
	read func(c *harness.Client, key string) (tokened, error)
	// write is the request that depends on the token read; next is the number to store.
	write func(key, token, next string) string
}

// A tokened item is what a client reads before it changes it.
type tokened struct{ value, token string }

var casWays = []casWay{
	{"gets and cas", readBy("gets "), writeCas},
	{"gats and cas", readBy("gats 0 "), writeCas},
	{"mg and ms C", readMeta, func(key, token, next string) string {
		return fmt.Sprintf("ms %s %d C%s\r\n%s\r\n", key, len(next), token, next)
	}},
	{"mg and ma C", readMeta, func(key, token, _ string) string { return "ma " + key + " C" + token + "\r\n" }},
}

func readBy(verb string) func(c *harness.Client, key string) (tokened, error) {
	return func(c *harness.Client, key string) (tokened, error) { return classicItem(c, verb+key) }
}

func readMeta(c *harness.Client, key string) (tokened, error) { return metaItem(c, key, "v") }

func writeCas(key, token, next string) string {
	return fmt.Sprintf("cas %s 0 0 %d %s\r\n%s\r\n", key, len(next), token, next)
}

// turn takes the counter one further.
func (w *casWay) turn(c *harness.Client, key string) (verdict, error) {
	it, err := w.read(c, key)
	if err != nil {
		return refused, err
	}
	n, err := strconv.Atoi(strings.TrimRight(it.value, " "))
	if err != nil {
		return refused, err
	}
	return judgeTurn(c.Do(w.write(key, it.token, strconv.Itoa(n+1)), 1))
}

// judgeTurn is what the answer to a conditional write means.
func judgeTurn(line string, err error) (verdict, error) {
	word, _, _ := strings.Cut(line, " ")
	switch {
	case err != nil:
	case word == "STORED", word == "HD":
		return done, nil
	case word == "EXISTS", word == "EX":
		return refused, nil
	case word == "SERVER_ERROR":
		return unknown, nil
	default:
		err = fmt.Errorf("a conditional write is answered %s", brief(line))
	}
	return refused, err
}

// classicItem is the item that request, a gets or gats of one key, finds.
func classicItem(c *harness.Client, request string) (it tokened, err error) {
	if err := c.Send([]byte(request + "\r\n")); err != nil {
		return it, err
	}
	line, err := c.Line()
	if err != nil {
		return it, err
	}
	words := strings.Fields(line)
	if len(words) != 5 {
		return it, fmt.Errorf("%s: got %s", request, brief(line))
	}
	if it.value, err = c.Line(); err != nil {
		return it, err
	}
	if _, err = c.Line(); err != nil {
		return it, err
	}
	it.token = words[4]
	return it, asToken(it.token)
}

// metaItem is what mg finds under key; flags asks for v, the value, or not.
func metaItem(c *harness.Client, key, flags string) (it tokened, err error) {
	line, err := c.Do(fmt.Sprintf("mg %s c %s\r\n", key, flags), 1)
	if err != nil {
		return it, err
	}
	if strings.HasPrefix(line, "VA ") {
		if it.value, err = c.Line(); err != nil {
			return it, err
		}
	}
	it.token, err = metaToken(line)
	return it, err
}

// metaToken is the token that a meta reply names.
func metaToken(line string) (string, error) {
	for _, w := range strings.Fields(line) {
		if w[0] == 'c' {
			return w[1:], asToken(w[1:])
		}
	}
	return "", fmt.Errorf("no token in %s", brief(line))
}

// asToken complains of a token that a client with signed numbers could not keep.
func asToken(token string) error {
	if n, err := strconv.ParseInt(token, 10, 64); err != nil || n <= 0 {
		return fmt.Errorf("the token %s is no positive number of 64 bits", brief(token))
	}
	return nil
}

// casNodes are what CAS is tested on.
func casNodes() []makeOf { return append(versioning(), debian, mixed) }

const casKeys = 4

func casKey(i int) string { return "cas" + strconv.Itoa(i%casKeys) }

// A casRun is a contest on casKeys, in which the lead is killed or nothing is.
type casRun struct {
	name  string
	kill  bool
	times int
}

var casRuns = []casRun{{"healthy", false, 1}, {"the lead is killed", true, 4}}

// run has the clients take step and returns what is left to judge: how many steps were
// done, by how many the items may be off, and what they are.
func (x *casRun) run(t *testing.T, d *duo, step func(c *harness.Client, key string) (verdict, error)) (acked, slack int64, left []held) {
	t.Helper()
	var keys []raceKey
	for i := range casKeys {
		keys = append(keys, raceKey{name: casKey(i)})
	}
	g := contest{clients: 16, before: 400, after: 200, step: func(c *harness.Client, id, seq int) (verdict, error) {
		return step(c, casKey(id/2+seq))
	}}
	node := d.judges[0]
	if x.kill {
		g.midway, slack, node = d.nodes[0].kill, int64(g.clients), d.judges[1]
	}
	acked, _ = g.run(t, d)
	return acked, slack, itemsOf(t, node, keys)
}

// TestCasLosesNothing has clients add one by read and conditional write through both
// proxies: the counters hold the number of writes that were said to be stored. If the
// lead is killed in the middle, that and at most what was in flight then.
func TestCasLosesNothing(t *testing.T) {
	for _, m := range casNodes() {
		t.Run(m.name, func(t *testing.T) {
			healthy := newDuo(t, m.start(t, 2)) // and stays so, whatever is counted
			for _, way := range casWays {
				for _, x := range casRuns {
					t.Run(way.name+"/"+x.name, func(t *testing.T) {
						if !x.kill {
							x.count(t, healthy, way)
							return
						}
						repeat(t, x.times, func(t *testing.T) { x.count(t, newDuo(t, m.start(t, 2)), way) })
					})
				}
			}
		})
	}
}

// count has the clients count in one way, and checks what they have counted to.
func (x *casRun) count(t *testing.T, d *duo, way casWay) {
	t.Helper()
	for i := range casKeys {
		converse(t, d.asks[0], []exchange{{"set " + casKey(i) + " 0 0 1\r\n0\r\n", "STORED"}})
	}
	acked, slack, left := x.run(t, d, way.turn)
	sum := int64(0)
	for _, h := range left {
		n, err := strconv.ParseInt(strings.TrimRight(string(h.value), " "), 10, 64)
		if err != nil {
			t.Errorf("a counter holds %v", &h)
		}
		sum += n
	}
	if sum < acked || sum > acked+slack {
		t.Errorf("the counters hold %d; %d writes were stored, and at most %d in flight as the lead died", sum, acked, slack)
	}
}

// TestDeletedOnce has clients make an item where there is none, and delete it on the
// condition of its version where there is one: as many are made as are deleted.
func TestDeletedOnce(t *testing.T) {
	for _, m := range casNodes() {
		for _, x := range casRuns {
			t.Run(m.name+"/"+x.name, func(t *testing.T) {
				repeat(t, x.times, func(t *testing.T) { x.makeAndDelete(t, newDuo(t, m.start(t, 2))) })
			})
		}
	}
}

// makeAndDelete has the clients make and delete, and counts what is left.
func (x *casRun) makeAndDelete(t *testing.T, d *duo) {
	t.Helper()
	var made, deleted atomic.Int64
	_, slack, left := x.run(t, d, func(c *harness.Client, key string) (verdict, error) {
		return makeOrDelete(c, key, &made, &deleted)
	})
	held := int64(0)
	for _, h := range left {
		if h.found {
			held++
		}
	}
	if off := made.Load() - deleted.Load() - held; off < -slack || off > slack {
		t.Errorf("%d were made, %d deleted, and %d are left", made.Load(), deleted.Load(), held)
	}
}

// makeOrDelete makes key if it has no item, and deletes the one that it has, and
// counts what it did.
func makeOrDelete(c *harness.Client, key string, made, deleted *atomic.Int64) (verdict, error) {
	line, err := c.Do("mg "+key+" c\r\n", 1)
	if err != nil {
		return refused, err
	}
	request, count := "ms "+key+" 1 ME\r\nx\r\n", made
	if line != "EN" {
		token, err := metaToken(line)
		if err != nil {
			return refused, err
		}
		request, count = "md "+key+" C"+token+"\r\n", deleted
	}
	line, err = c.Do(request, 1)
	if line == "NS" || line == "NF" {
		return refused, err
	}
	v, err := judgeTurn(line, err)
	if v == done {
		count.Add(1)
	}
	return v, err
}

// tokenOf asks every proxy for the token of key in every way there is, and wants the
// same from all.
func tokenOf(t *testing.T, d *duo, key string) string {
	t.Helper()
	token := ""
	for i, c := range d.asks {
		for _, way := range []string{"gets", "gats 0", "mg c", "mg v c"} {
			var it tokened
			var err error
			if flags, meta := strings.CutPrefix(way, "mg "); meta {
				it, err = metaItem(c, key, strings.TrimSuffix(flags, "c"))
			} else {
				it, err = classicItem(c, way+" "+key)
			}
			if err != nil {
				t.Fatal(err)
			}
			if token == "" {
				token = it.token
			}
			if it.token != token {
				t.Errorf("proxy %d, %s: %s has the token %s, and %s elsewhere", i, way, key, it.token, token)
			}
		}
	}
	return token
}

// write sends a meta write that asks for the token it makes, and wants that to be
// the token of key from then on.
func write(t *testing.T, d *duo, c *harness.Client, key, request string) string {
	t.Helper()
	line, err := c.Do(request, 1)
	if err == nil && strings.HasPrefix(line, "VA ") {
		_, err = c.Line()
	}
	if err != nil {
		t.Fatal(err)
	}
	made, err := metaToken(line)
	if err != nil || line[:2] != "HD" && line[:2] != "VA" {
		t.Fatalf("%q: got %s, %v", request, line, err)
	}
	if token := tokenOf(t, d, key); token != made {
		t.Errorf("%q has made the token %s, and it is %s", request, made, token)
	}
	return made
}

// TestTokensAgree takes the token of an item every way there is, at both proxies, and
// depends on it every way there is.
func TestTokensAgree(t *testing.T) {
	for _, m := range casNodes() {
		t.Run(m.name, func(t *testing.T) {
			d := newDuo(t, m.start(t, 2))
			a, b := d.asks[0], d.asks[1]
			first := write(t, d, a, "k", "ms k 1 c\r\n1\r\n")
			second := write(t, d, b, "k", "ms k 1 c C"+first+"\r\n2\r\n")
			third := write(t, d, a, "k", "ma k c v C"+second+"\r\n")
			for _, old := range []string{first, second, "1", "7", "9223372036854775807", "18446744073709551615"} {
				for _, c := range d.asks {
					converse(t, c, []exchange{
						{"cas k 0 0 1 " + old + "\r\nx\r\n", "EXISTS"},
						{"ms k 1 C" + old + "\r\nx\r\n", "EX"},
						{"md k C" + old + "\r\n", "EX"},
						{"ma k C" + old + "\r\n", "EX"},
						{"cas none 0 0 1 " + old + "\r\nx\r\n", "NOT_FOUND"},
						{"get k\r\n", "VALUE k 0 1\n3\nEND"},
					})
				}
			}
			converse(t, b, []exchange{{"cas k 9 0 1 " + third + "\r\n4\r\n", "STORED"}})
			fourth := tokenOf(t, d, "k")
			converse(t, a, []exchange{{"cas k 0 0 1 " + third + "\r\nx\r\n", "EXISTS"}, {"touch k 0\r\n", "TOUCHED"}})
			if token := tokenOf(t, d, "k"); token != fourth {
				t.Errorf("a touch has made %s of the token %s", token, fourth)
			}
			converse(t, a, []exchange{{"get k\r\n", "VALUE k 9 1\n4\nEND"}, {"md k C" + fourth + "\r\n", "HD"}, {"get k\r\n", "END"}})
			write(t, d, b, "n", "ma n N0 J5 c v\r\n")
			write(t, d, a, "n", "ma n c v D2\r\n")
			converse(t, b, []exchange{{"incr n 1\r\n", "8"}})
			write(t, d, a, "foo", "ms Zm9v 1 b c\r\nx\r\n")
		})
	}
}

// TestVersionsOutliveTheirLead takes a token, kills the lead, and uses the token: on
// nodes that take versions from the proxy all copies have the same.
func TestVersionsOutliveTheirLead(t *testing.T) {
	for _, m := range versioning() {
		t.Run(m.name, func(t *testing.T) {
			d := newDuo(t, m.start(t, 2))
			for range 100 { // so that the nodes do not agree by counting in step
				rawCas(t, d.judges[1], "x")
			}
			old := write(t, d, d.asks[0], "k", "ms k 1 c\r\n1\r\n")
			token := write(t, d, d.asks[1], "k", "ms k 1 c\r\n2\r\n")
			var made []string
			for i, request := range []string{"append n%d 0 0 1\r\n5\r\n", "ms n%d 1 MP\r\n5\r\n", "set n%d 0 0 1\r\n7\r\n", "cas n%d 0 0 1 {cas}\r\n7\r\n"} {
				key := fmt.Sprintf("n%d", i)
				converse(t, d.asks[0], []exchange{{"set " + key + " 0 0 1\r\n1\r\n", "STORED"}})
				request = strings.Replace(fmt.Sprintf(request, i), "{cas}", tokenOf(t, d, key), 1)
				if _, err := d.asks[1].Do(request, 1); err != nil {
					t.Fatal(err)
				}
				made = append(made, tokenOf(t, d, key))
			}
			// A counter's is the node's own: the nodes cannot be trusted to take another.
			converse(t, d.asks[0], []exchange{{"ma n N0 J5\r\n", "HD"}})
			counter := tokenOf(t, d, "n")
			proctest.Eventually(t, "nothing is left to repair", func() bool { return d.idle(t) })
			d.nodes[0].kill()
			if after := tokenOf(t, d, "k"); after != token {
				t.Errorf("the token was %s, and is %s when the lead is dead", token, after)
			}
			for i, want := range made {
				if after := tokenOf(t, d, fmt.Sprintf("n%d", i)); after != want {
					t.Errorf("the token of n%d was %s, and is %s when the lead is dead", i, want, after)
				}
			}
			converse(t, d.asks[0], []exchange{
				{"cas k 0 0 1 " + old + "\r\nx\r\n", "EXISTS"},
				{"cas k 0 0 1 " + token + "\r\n3\r\n", "STORED"},
				{"cas k 0 0 1 " + token + "\r\nx\r\n", "EXISTS"},
				{"get k\r\n", "VALUE k 0 1\n3\nEND"},
				{"cas n 0 0 1 " + counter + "\r\nx\r\n", "EXISTS"},
			})
		})
	}
}

// rawCas stores value under k at a node and returns the version that the node counts.
func rawCas(t *testing.T, node *harness.Client, value string) int {
	t.Helper()
	line, err := node.Do("ms k 1 c\r\n"+value+"\r\n", 1)
	if err != nil {
		t.Fatal(err)
	}
	text, err := metaToken(line)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantForeign finds that tokens are refused by both proxies in every way there is, and
// that k still has its value.
func wantForeign(t *testing.T, d *duo, value string, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		for _, c := range d.asks {
			converse(t, c, []exchange{
				{"cas k 0 0 1 " + token + "\r\nx\r\n", "EXISTS"},
				{"ms k 1 C" + token + "\r\nx\r\n", "EX"},
				{"ms k 1 MR C" + token + "\r\nx\r\n", "EX"},
				{"ma k C" + token + "\r\n", "EX"},
				{"md k C" + token + "\r\n", "EX"},
				{"get k\r\n", "VALUE k 0 1\n" + value + "\nEND"},
			})
		}
	}
}

// TestTokenOfAnotherNode brings a key to the same version number on both nodes, takes
// the token from the lead, and kills that: its token is nobody's then.
func TestTokenOfAnotherNode(t *testing.T) {
	d := newDuo(t, debian.start(t, 2))
	lead, follower := rawCas(t, d.judges[0], "1"), rawCas(t, d.judges[1], "2")
	for lead != follower {
		if lead < follower {
			lead = rawCas(t, d.judges[0], "1")
		} else {
			follower = rawCas(t, d.judges[1], "2")
		}
	}
	token := tokenOf(t, d, "k")
	d.nodes[0].kill()
	wantForeign(t, d, "2", token, strconv.Itoa(lead))
	converse(t, d.asks[0], []exchange{{"cas k 0 0 1 " + tokenOf(t, d, "k") + "\r\n3\r\n", "STORED"}})
}

// TestTokenOfAnotherLife takes a token from the lead, restarts it empty, and has it
// count to the same version number again: the token is of the life before. It leads
// only when nobody else is left.
func TestTokenOfAnotherLife(t *testing.T) {
	nodes := debian.start(t, 2)
	d := newDuo(t, nodes)
	const enough = 500 // versions, more than anybody else makes before the lead is back
	was := 0
	for was < enough {
		was = rawCas(t, d.judges[0], "1")
	}
	tokens := map[int]string{was: tokenOf(t, d, "k")} // some, as a magent's own write may be what gets to one
	for range 10 {
		was = rawCas(t, d.judges[0], "1")
		tokens[was] = tokenOf(t, d, "k")
	}
	nodes[0].kill()
	for _, c := range d.asks { // so that both have seen it gone
		if err := c.Send([]byte("get k\r\nmn\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Until("MN\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	nodes[0].restart()
	again := dial(t, nodes[0].addr)
	rawCas(t, again, "2")
	nodes[1].kill()
	proctest.Eventually(t, "the node that is back leads", func() bool {
		for _, c := range d.asks { // an error until it is back
			if it, err := metaItem(c, "k", "v"); err != nil || it.value != "2" {
				return false
			}
		}
		return true
	})
	is := 0
	for tokens[is] == "" {
		if is = rawCas(t, again, "2"); is > was {
			t.Fatalf("the node has counted to %d past %v", is, tokens)
		}
	}
	wantForeign(t, d, "2", tokens[is], strconv.Itoa(is))
}
