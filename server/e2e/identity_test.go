package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server"
	"magent/server/config"
	"magent/server/e2e/harness"
	"magent/upstream/memnode"
)

// An asker is one client that knows which reply belongs to which of its requests:
// every value names its key, every opaque its request, every counter its client.
type asker struct {
	*rand.Rand
	id     int
	addr   string
	faulty bool // errors, misses and old values are tolerated; wrong ones never

	c       *harness.Client
	seq     int
	own     map[string]int // key -> seq stored, 0 if deleted
	counter uint64         // what the node should hold
	told    *tally
}

// tally counts the replies of all askers.
type tally struct{ good, errors, lost atomic.Uint64 }

// An ask is a request and the judge of its reply.
type ask struct {
	request []byte
	judge   func() error
}

// counterBase is where the counter of a client starts: no two meet.
func (a *asker) counterBase() uint64 { return uint64(a.id+1) * 1e9 }

// text is the value that client id stored under key with number seq: it names all
// three and its own length, so that one byte out of place shows.
func text(key string, id, seq, length int) []byte {
	v := fmt.Appendf(nil, "%s/%d/%d/%d/", key, id, seq, length)
	return append(v, bytes.Repeat([]byte{byte('a' + seq%26)}, max(0, length-len(v)))...)
}

// verify checks a value that came for key and returns the numbers it names.
func verify(key string, value []byte) (id, seq int, err error) {
	var length int
	words := strings.SplitN(string(value), "/", 5)
	if len(words) == 5 && words[0] == key {
		id, _ = strconv.Atoi(words[1])
		seq, _ = strconv.Atoi(words[2])
		length, _ = strconv.Atoi(words[3])
	}
	if !bytes.Equal(value, text(key, id, seq, length)) {
		return 0, 0, fmt.Errorf("for key %s came the value %s", key, brief(string(value)))
	}
	return id, seq, nil
}

// run asks in batches, each sent at once, and judges every reply in its order.
func (a *asker) run(batches, size int) error {
	a.own = map[string]int{}
	// Errors are quick: where both replicas of a key fail all the time, most are.
	for i := 0; i < batches || a.faulty && i < 200*batches && a.told.good.Load() < enoughGood(); i++ {
		if a.c == nil {
			var err error
			if a.c, err = harness.Dial(a.addr); err != nil {
				return err
			}
			if err := a.judge(a.reset()); err != nil {
				return err
			}
		}
		asks := make([]ask, size)
		for i := range asks {
			asks[i] = a.any()
		}
		good := a.told.good.Load()
		if err := a.judge(asks...); err != nil {
			return err
		}
		if a.told.good.Load() == good {
			time.Sleep(time.Millisecond) // a pause, which nothing is awaited by: the nodes are away
		}
	}
	a.c.Close()
	return nil
}

// judge sends asks in one write and judges the replies. Under faults a connection
// may be lost, for a reply that was half relayed has no other end.
func (a *asker) judge(asks ...ask) error {
	var batch []byte
	for _, q := range asks {
		batch = append(batch, q.request...)
	}
	err := a.c.Send(batch)
	for i := 0; i < len(asks) && err == nil; i++ {
		if err = asks[i].judge(); err != nil {
			err = fmt.Errorf("client %d, %s: %w", a.id, brief(string(asks[i].request)), err)
		}
	}
	if err != nil && a.faulty && isClosed(err) {
		a.told.lost.Add(1)
		a.c.Close()
		a.c = nil
		return nil
	}
	return err
}

// reset puts the counter back to where it is known to be.
func (a *asker) reset() ask {
	a.counter = a.counterBase()
	return ask{fmt.Appendf(nil, "set c%d 0 0 %d\r\n%d\r\n", a.id, len(fmt.Sprint(a.counter)), a.counter), func() error {
		_, err := a.oneOf("STORED")
		return err
	}}
}

func (a *asker) any() ask {
	switch n := a.IntN(100); {
	case n < 30:
		return a.get()
	case n < 55:
		return a.metaGet()
	case n < 80:
		return a.set()
	case n < 90:
		return a.delete()
	default:
		return a.incr()
	}
}

// key is one of the client's own keys or one that all share.
func (a *asker) key() string {
	if a.IntN(4) == 0 {
		return "shared" + strconv.Itoa(a.IntN(20))
	}
	return fmt.Sprintf("own%d.%d", a.id, a.IntN(8))
}

// stored says what must be stored under key: the seq of an own key (0: nothing),
// -1 if that is not for this client to say.
func (a *asker) stored(key string) int {
	if seq, mine := a.own[key]; !a.faulty && (mine || strings.HasPrefix(key, "own")) {
		return seq
	}
	return -1
}

// oneOf reads a line, which must be one of words or, under faults, an error.
func (a *asker) oneOf(words ...string) (string, error) {
	line, err := a.c.Line()
	if err != nil {
		return "", err
	}
	if a.faulty && strings.HasPrefix(line, "SERVER_ERROR ") {
		a.told.errors.Add(1)
		return line, nil
	}
	if !slices.Contains(words, line) {
		return "", fmt.Errorf("got %s, want one of %q", brief(line), words)
	}
	a.told.good.Add(1)
	return line, nil
}

func (a *asker) set() ask {
	key := a.key()
	a.seq++
	length := 40 + a.IntN(100)
	if a.IntN(20) == 0 {
		length = a.IntN(30000)
	}
	value := text(key, a.id, a.seq, length)
	if strings.HasPrefix(key, "own") {
		a.own[key] = a.seq
	}
	return ask{fmt.Appendf(nil, "set %s 0 0 %d\r\n%s\r\n", key, len(value), value), func() error {
		_, err := a.oneOf("STORED")
		return err
	}}
}

func (a *asker) delete() ask {
	key := a.key()
	words := []string{"DELETED", "NOT_FOUND"}
	if seq := a.stored(key); seq == 0 {
		words = words[1:]
	} else if seq > 0 {
		words = words[:1]
	}
	if strings.HasPrefix(key, "own") {
		a.own[key] = 0
	}
	return ask{[]byte("delete " + key + "\r\n"), func() error {
		_, err := a.oneOf(words...)
		return err
	}}
}

func (a *asker) incr() ask {
	a.counter++
	want := a.counter
	return ask{fmt.Appendf(nil, "incr c%d 1\r\n", a.id), func() error {
		if !a.faulty {
			_, err := a.oneOf(strconv.FormatUint(want, 10))
			return err
		}
		line, err := a.c.Line()
		if err != nil || strings.HasPrefix(line, "SERVER_ERROR ") || line == "NOT_FOUND" {
			return err
		}
		n, err := strconv.ParseUint(line, 10, 64)
		if base := a.counterBase(); err != nil || n <= base || n > want {
			return fmt.Errorf("got %s, want a count from %d to %d", brief(line), base+1, want)
		}
		return nil
	}}
}

// get asks for one key or many, some twice; gets asks for tokens too.
func (a *asker) get() ask {
	verb, fields := "get", 4
	if a.IntN(3) == 0 {
		verb, fields = "gets", 5
	}
	var keys []string
	for range 1 + a.IntN(2)*a.IntN(12) {
		keys = append(keys, a.key())
	}
	var must []int // what own keys hold when the request is executed
	for _, key := range keys {
		must = append(must, a.stored(key))
	}
	return ask{[]byte(verb + " " + strings.Join(keys, " ") + "\r\n"), func() error { return a.values(keys, must, fields) }}
}

// values reads the reply to a get: the values of some of keys, in their order.
func (a *asker) values(keys []string, must []int, fields int) error {
	at := 0
	absent := func(upto int) error {
		for ; at < upto; at++ {
			if must[at] > 0 {
				return fmt.Errorf("key %s is missing, want its seq %d", keys[at], must[at])
			}
		}
		return nil
	}
	for {
		line, err := a.c.Line()
		if err != nil {
			return err
		}
		words := strings.Split(line, " ")
		if line == "END" {
			a.told.good.Add(1)
			return absent(len(keys))
		}
		if a.faulty && words[0] == "SERVER_ERROR" {
			a.told.errors.Add(1)
			return nil
		}
		if words[0] != "VALUE" || len(words) != fields {
			return fmt.Errorf("got %s among the values", brief(line))
		}
		i := slices.Index(keys[at:], words[1])
		if i < 0 {
			return fmt.Errorf("got key %s, which was not asked for or not now, of %q", words[1], keys)
		}
		if err := absent(at + i); err != nil {
			return err
		}
		if err := a.value(words[1], words[3], must[at]); err != nil {
			return err
		}
		at++
	}
}

// value reads a value of the length given as text and verifies it.
func (a *asker) value(key, length string, must int) error {
	n, err := strconv.Atoi(length)
	if err != nil {
		return err
	}
	value, err := a.c.Full(n + 2)
	if err != nil {
		return err
	}
	id, seq, err := verify(key, bytes.TrimSuffix(value, []byte("\r\n")))
	if err != nil {
		return err
	}
	mine := strings.HasPrefix(key, "own")
	if mine && id != a.id || mine && seq > a.seq || must >= 0 && seq != must {
		return fmt.Errorf("key %s has client %d, seq %d; want client %d, seq %d", key, id, seq, a.id, must)
	}
	return nil
}

func (a *asker) metaGet() ask {
	key := a.key()
	must := a.stored(key)
	a.seq++
	opaque := fmt.Sprintf("O%d.%d", a.id, a.seq)
	return ask{fmt.Appendf(nil, "mg %s v k %s\r\n", key, opaque), func() error {
		line, err := a.c.Line()
		if err != nil {
			return err
		}
		words := strings.Split(line, " ")
		switch {
		case a.faulty && words[0] == "SERVER_ERROR":
			a.told.errors.Add(1)
			return nil
		case line == "EN k"+key+" "+opaque && must <= 0:
		case len(words) == 4 && words[0] == "VA" && words[2] == "k"+key && words[3] == opaque && must != 0:
			if err := a.value(key, words[1], must); err != nil {
				return err
			}
		default:
			return fmt.Errorf("got %s (seq %d should be stored)", brief(line), must)
		}
		a.told.good.Add(1)
		return nil
	}}
}

// isClosed reports whether err is the end of a connection and no wrong answer.
func isClosed(err error) bool {
	for _, end := range []string{"EOF", "reset by peer", "broken pipe"} {
		if strings.HasSuffix(err.Error(), end) {
			return true
		}
	}
	return false
}

// askers lets n clients ask at once, beside clients that reset their connection
// in the middle of everything, and counts the replies in told.
func askers(t *testing.T, addr string, n, batches, size int, faulty bool, told *tally) {
	t.Helper()
	over := make(chan struct{})
	var polite, rude sync.WaitGroup
	for id := range n {
		polite.Go(func() {
			a := &asker{Rand: rand.New(rand.NewPCG(*seedFlag, uint64(id))), id: id, addr: addr, faulty: faulty, told: told}
			if err := a.run(batches, size); err != nil {
				t.Errorf("seed %d: %v", *seedFlag, err)
			}
		})
	}
	for id := n; id < n+4; id++ {
		rude.Go(func() {
			a := &asker{Rand: rand.New(rand.NewPCG(*seedFlag, uint64(id))), id: id, own: map[string]int{}}
			for {
				select {
				case <-over:
					return
				default:
				}
				c, err := harness.Dial(addr)
				if err != nil {
					t.Error(err)
					return
				}
				var batch []byte
				for range size {
					batch = append(batch, a.any().request...)
				}
				_ = c.Send(batch[:len(batch)-a.IntN(20)])
				_, _ = c.Lines(a.IntN(3))
				c.Reset()
				if faulty {
					time.Sleep(time.Millisecond) // a pause, which nothing is awaited by: who is rude is not to be all that is served
				}
			}
		})
	}
	polite.Wait()
	close(over)
	rude.Wait()
	t.Logf("%d good replies, %d errors, %d connections lost", told.good.Load(), told.errors.Load(), told.lost.Load())
}

// TestIdentity has 64 clients ask three nodes in two copies and finds each reply
// to be the one to its request.
func TestIdentity(t *testing.T) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) {
			p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 3, Loops: loops})
			askers(t, p.Addr, 64, 10, 40, false, &tally{})
		})
	}
}

// enoughGood is how many replies are looked at, errors aside, while nodes fail.
func enoughGood() uint64 { return uint64(amount(1000, 2000, 2000)) }

// TestIdentityUnderFaults does so while nodes reset connections, cut replies
// short, lose and swap them, and answer with other keys.
func TestIdentityUnderFaults(t *testing.T) {
	for _, fault := range []string{
		"(always (1/150 reset))",
		"(always (1/150 close))",
		"(on mg (1/60 truncate 9)) (on get (1/60 truncate 60)) (on ms (1/60 truncate 1)) (on incr (1/60 truncate 3))",
		"(on get (1/50 wrongkey)) (on mg (1/50 wrongkey)) (on gets (1/50 wrongkey))",
		"(on get (1/50 lie 3)) (on mg (1/50 lie 7))",
		"(on mg (1/200 swap))", // of replies that name neither key nor request, nobody could tell
		"(on mg (1/500 drop))",
		"(always (chunk 7)) (always (1/150 reset))",
		"(always (1/100 reply \"SERVER_ERROR out of memory\"))",
	} {
		t.Run(fault, func(t *testing.T) {
			p, _ := faultyPool(t, harness.Topology{Copies: 2, Nodes: 3, Loops: 2}, fmt.Sprintf("(seed %d) %s", *seedFlag, fault))
			told := &tally{}
			askers(t, p.Addr, 16, amount(5, 10, 10), 40, true, told)
			if good := told.good.Load(); good < enoughGood() {
				t.Errorf("only %d good replies", good)
			}
		})
	}
}

// faultyPool is a proxy over nodes in this process, each under a fault script.
func faultyPool(t *testing.T, top harness.Topology, fault string) (*harness.Proxied, [][]*memnode.Node) {
	t.Helper()
	cfg := config.Default()
	cfg.Loops, cfg.Pools = top.Loops, []config.Pool{config.DefaultPool()}
	nodes := make([][]*memnode.Node, top.Copies)
	cfg.Pools[0].Copies = make([][]config.Node, top.Copies)
	for i := range nodes {
		for range top.Nodes {
			n, err := memnode.Start(memnode.Config{Fault: fault})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.Close() })
			nodes[i] = append(nodes[i], n)
			cfg.Pools[0].Copies[i] = append(cfg.Pools[0].Copies[i], harness.NodeAt(n.Addr()))
		}
	}
	return harness.Serve(t, cfg), nodes
}

// TestOnceOnly loses the answers to relative ops, which the primary has executed,
// again and again: whoever answers the client, no node may execute one twice. A node
// that fell twice is held down for a while, so that there are many pools.
func TestOnceOnly(t *testing.T) {
	t.Parallel()
	for range 10 {
		loseAnswers(t, 2)
	}
}

func loseAnswers(t *testing.T, rounds int) {
	t.Helper()
	p, nodes := faultyPool(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1}, "")
	c := dial(t, p.Addr)
	n, v := 100, "."
	for round := range rounds {
		// The primary, which has missed steps, is told anew.
		converse(t, c, []exchange{
			{fmt.Sprintf("set n 0 0 %d\r\n%d\r\n", len(strconv.Itoa(n)), n), "STORED"},
			{fmt.Sprintf("set v 0 0 %d\r\n%s\r\n", len(v), v), "STORED"},
		})
		if err := nodes[0][0].SetFault("(on get key \"n\" (times 1 wrongkey))"); err != nil {
			t.Fatal(err)
		}
		if err := c.Send([]byte("get n\r\nincr n 1\r\nappend v 0 0 1\r\n+\r\nmn\r\n")); err != nil {
			t.Fatal(err)
		}
		reply, err := c.Until("MN\r\n")
		if err != nil {
			t.Fatal(err)
		}
		n, v = n+1, v+"+"
		if bytes.Contains(reply, []byte("ERROR")) { // executed somewhere or nowhere, but it is said
			t.Errorf("round %d: %s, with a replica alive", round, brief(string(reply)))
		}
		held := false
		for i, copy := range nodes {
			// The primary is down as the step is made, and misses it or has made it.
			counted, ok := copy[0].Get("n")
			if ok && string(counted.Value) != strconv.Itoa(n) && (i > 0 || string(counted.Value) != strconv.Itoa(n-1)) {
				t.Errorf("round %d: copy %d has counted to %s, want %d", round, i, counted.Value, n)
			}
			appended, ok := copy[0].Get("v")
			if ok && string(appended.Value) != v && (i > 0 || string(appended.Value) != v[:len(v)-1]) {
				t.Errorf("round %d: copy %d has appended to %s, want %s", round, i, appended.Value, v)
			}
			held = held || string(counted.Value) == strconv.Itoa(n) && string(appended.Value) == v
		}
		if !held {
			t.Errorf("round %d: no copy has counted to %d and appended to %s", round, n, v)
		}
		if t.Failed() {
			return
		}
		proctest.Eventually(t, "every node is up again", func() bool {
			return !slices.ContainsFunc(p.Server.Snapshot().Nodes, func(n server.NodeSnapshot) bool { return n.State != "up" })
		})
	}
}
