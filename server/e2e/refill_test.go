package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
	"magent/server/e2e/model"
)

// A stock is what a cache holds in a test: many keys that follow from their number.
type stock struct {
	keys   int
	doomed int // the first of them are deleted in the course of the test
}

func (s *stock) key(i int) string { return fmt.Sprintf("stock:%07d", i) }

// size is of the value of key i: mostly some ten bytes, here and there a large one.
func (s *stock) size(i int) int {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	switch {
	case i%2000 == 1999:
		return 100<<10 + r.IntN(400<<10)
	case i%100 == 99:
		return 1<<10 + r.IntN(20<<10)
	}
	return 10 + r.IntN(290)
}

func (s *stock) flags(i int) uint32 { return uint32(i) * 2654435761 }

// ttl is of key i: none, some minutes, and more than the thirty days up to which
// memcached takes a number for a time to live.
func (s *stock) ttl(i int) int {
	switch i % 5 {
	case 0:
		return 0
	case 1:
		return 40 * 24 * 60 * 60
	}
	return 600 + i%3000
}

// value is of key i. It begins with its number, so that a wrong one shows.
func (s *stock) value(i int) []byte {
	v := fmt.Appendf(make([]byte, 0, s.size(i)), "%d:", i)
	for len(v) < s.size(i) {
		v = append(v, 'a'+byte(len(v)+i)%26)
	}
	return v[:max(s.size(i), 0)]
}

func (s *stock) store(i int) []byte {
	exptime := s.ttl(i)
	if exptime > 30*24*60*60 {
		exptime += int(time.Now().Unix())
	}
	v := s.value(i)
	out := fmt.Appendf(nil, "set %s %d %d %d\r\n", s.key(i), s.flags(i), exptime, len(v))
	return append(append(out, v...), "\r\n"...)
}

// bulk is a connection for many requests at once, which are answered in order.
type bulk struct {
	conn net.Conn
	in   *bufio.Reader
}

func newBulk(t *testing.T, addr string) *bulk {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &bulk{conn, bufio.NewReaderSize(conn, 1<<20)}
}

// each sends what request says for each of n numbers, some hundred at a time, and has
// take read each answer.
func (b *bulk) each(n int, request func(i int) []byte, take func(i int, in *bufio.Reader) error) error {
	for from := 0; from < n; {
		var out []byte
		to := from
		for ; to < n && to-from < 500 && len(out) < 256<<10; to++ {
			out = append(out, request(to)...)
		}
		_ = b.conn.SetDeadline(time.Now().Add(harness.Patience))
		if _, err := b.conn.Write(out); err != nil {
			return err
		}
		for ; from < to; from++ {
			if err := take(from, b.in); err != nil {
				return fmt.Errorf("request %d: %w", from, err)
			}
		}
	}
	return nil
}

func wantLine(want string) func(int, *bufio.Reader) error {
	return func(_ int, in *bufio.Reader) error {
		line, err := in.ReadString('\n')
		if err == nil && line != want+"\r\n" {
			err = fmt.Errorf("answered %q", line)
		}
		return err
	}
}

// fill stores all of s.
func (s *stock) fill(t *testing.T, addr string) {
	t.Helper()
	if err := newBulk(t, addr).each(s.keys, s.store, wantLine("STORED")); err != nil {
		t.Fatal(err)
	}
}

// An item is what a node says of a key.
type item struct {
	found   bool
	sum     uint64 // of its value
	size    int
	flags   string
	ttl     int
	expires time.Time // if ttl is right
}

// readItem reads the answer to mg with s, f, t and v.
func readItem(in *bufio.Reader) (it item, value []byte, err error) {
	line, err := in.ReadString('\n')
	if err != nil || line == "EN\r\n" {
		return it, nil, err
	}
	words := strings.Fields(line)
	if len(words) != 5 || words[0] != "VA" {
		return it, nil, fmt.Errorf("answered %q", line)
	}
	it.found, it.flags = true, words[3]
	if it.size, err = strconv.Atoi(words[1]); err != nil {
		return it, nil, err
	}
	if it.ttl, err = strconv.Atoi(words[4][1:]); err != nil {
		return it, nil, err
	}
	it.expires = time.Now().Add(time.Duration(it.ttl) * time.Second)
	value = make([]byte, it.size+2)
	if _, err = io.ReadFull(in, value); err != nil {
		return it, nil, err
	}
	value = value[:it.size]
	for _, c := range value {
		it.sum = it.sum*31 + uint64(c) + 1
	}
	return it, value, nil
}

// items is what is held of keys at addr.
func itemsAt(t *testing.T, addr string, keys []string) []item {
	t.Helper()
	all := make([]item, len(keys))
	err := newBulk(t, addr).each(len(keys), func(i int) []byte { return fmt.Appendf(nil, "mg %s s f t v\r\n", keys[i]) },
		func(i int, in *bufio.Reader) (err error) {
			all[i], _, err = readItem(in)
			return err
		})
	if err != nil {
		t.Fatalf("%s: %v", addr, err)
	}
	return all
}

// An audience is clients that use a stock without changing its values.
type audience struct {
	t     *testing.T
	stock *stock
	over  atomic.Bool
	all   sync.WaitGroup
	reads atomic.Int64
	gone  []atomic.Bool // the doomed keys whose deletion was acknowledged
	began []atomic.Bool // and of which it was begun
}

// attend has clients read at the addresses by turns, two touch, and one delete the
// doomed keys, a few every millisecond.
func (s *stock) attend(t *testing.T, clients int, addrs ...string) *audience {
	a := &audience{t: t, stock: s, gone: make([]atomic.Bool, s.doomed), began: make([]atomic.Bool, s.doomed)}
	for id := range clients {
		c := dial(t, addrs[id%len(addrs)])
		a.all.Go(func() { a.read(id, c) })
	}
	for id, addr := range addrs {
		c := dial(t, addr)
		a.all.Go(func() { a.touch(id, c) })
	}
	c := dial(t, addrs[0])
	a.all.Go(func() { a.remove(c) })
	return a
}

// thought is a client's pause, which nothing is awaited by: without it the clients alone
// would fill the machine.
func thought(r *rand.Rand) time.Duration { return time.Duration(r.IntN(int(2 * time.Millisecond))) }

func (a *audience) read(id int, c *harness.Client) {
	r := rand.New(rand.NewPCG(*seedFlag, uint64(id)))
	for !a.over.Load() {
		i := r.IntN(a.stock.keys)
		mayMiss := i < a.stock.doomed && a.began[i].Load()
		mustMiss := i < a.stock.doomed && a.gone[i].Load()
		if err := c.Send(fmt.Appendf(nil, "get %s\r\n", a.stock.key(i))); err != nil {
			a.t.Errorf("a reader: %v", err)
			return
		}
		reply, err := c.Until("END\r\n")
		want := fmt.Appendf(nil, "VALUE %s %d %d\r\n%s\r\nEND\r\n", a.stock.key(i), a.stock.flags(i), a.stock.size(i), a.stock.value(i))
		mayMiss = mayMiss || i < a.stock.doomed && a.began[i].Load()
		switch missed := string(reply) == "END\r\n"; {
		case err != nil:
			a.t.Errorf("a reader: %v", err)
			return
		case missed && !mayMiss:
			a.t.Errorf("a miss of %s, which is there", a.stock.key(i))
		case !missed && mustMiss:
			a.t.Errorf("%s is deleted, and read", a.stock.key(i))
		case !missed && !bytes.Equal(reply, want):
			a.t.Errorf("%s is read as %s", a.stock.key(i), brief(string(reply)))
		}
		a.reads.Add(1)
		time.Sleep(thought(r)) // a pause, which nothing is awaited by
	}
}

// touch changes times to live, of keys of its own.
func (a *audience) touch(id int, c *harness.Client) {
	r := rand.New(rand.NewPCG(*seedFlag, uint64(1000+id)))
	for !a.over.Load() {
		i := a.stock.doomed + r.IntN(a.stock.keys-a.stock.doomed)
		if i%2 != id%2 {
			continue
		}
		reply, err := c.Do(fmt.Sprintf("touch %s %d\r\n", a.stock.key(i), 1000+r.IntN(5000)), 1)
		if err != nil || reply != "TOUCHED" {
			a.t.Errorf("a touch of %s: %q, %v", a.stock.key(i), reply, err)
			return
		}
		time.Sleep(thought(r)) // a pause, which nothing is awaited by
	}
}

// remove deletes the doomed keys in an order of chance.
func (a *audience) remove(c *harness.Client) {
	r := rand.New(rand.NewPCG(*seedFlag, 2000))
	for order := r.Perm(a.stock.doomed); len(order) > 0 && !a.over.Load(); order = order[1:] {
		i := order[0]
		a.began[i].Store(true)
		reply, err := c.Do(fmt.Sprintf("delete %s\r\n", a.stock.key(i)), 1)
		if err != nil || reply != "DELETED" {
			a.t.Errorf("the deletion of %s: %q, %v", a.stock.key(i), reply, err)
			return
		}
		a.gone[i].Store(true)
		time.Sleep(thought(r)) // a pause, which nothing is awaited by
	}
}

// leave ends it.
func (a *audience) leave() {
	a.over.Store(true)
	a.all.Wait()
}

// compare holds the stock's items at a node that came back against those at its peer.
func (s *stock) compare(t *testing.T, a *audience, back, peer string) {
	t.Helper()
	keys := make([]string, s.keys)
	for i := range keys {
		keys[i] = s.key(i)
	}
	// What a time to live is differs by the second in which it is asked for: the node that
	// came back is asked before the other and after it.
	first, other, last := itemsAt(t, back, keys), itemsAt(t, peer, keys), itemsAt(t, back, keys)
	faults := 0
	var apart []string // seem to expire at other times
	fault := func(format string, args ...any) {
		if faults++; faults <= 10 {
			t.Errorf(format, args...)
		}
	}
	for i := range keys {
		got, want := first[i], other[i]
		switch {
		case i < s.doomed && a.gone[i].Load():
			if got.found || want.found {
				fault("%s was deleted, and is at the node: %v, at its peer: %v", keys[i], got.found, want.found)
			}
			continue
		case !got.found || !want.found:
			fault("%s is at the node: %v, at its peer: %v", keys[i], got.found, want.found)
			continue
		case got.sum != want.sum || got.flags != want.flags || got.size != want.size:
			fault("%s is %+v at the node, and %+v at its peer", keys[i], got, want)
		}
		switch {
		case (got.ttl < 0) != (want.ttl < 0):
			fault("%s lives for %d s at the node, and for %d at its peer", keys[i], got.ttl, want.ttl)
		case want.ttl > got.ttl+1 || want.ttl < last[i].ttl-1:
			apart = append(apart, keys[i])
		}
	}
	if len(apart) > 0 {
		times := expiries(t, apart, back, peer)
		for i, key := range apart {
			if d := times[0][i].Sub(times[1][i]); d.Abs() > sameExpiry {
				fault("%s expires %v later at the node than at its peer", key, d)
			}
		}
	}
	if faults > 0 {
		t.Errorf("%d of %d keys are not as at the peer", faults, len(keys))
	}
}

// sameExpiry is by how much the times may differ at which an item expires at two nodes: a
// second, and that by which a tick of their clocks may have been put off since it was copied.
const sameExpiry = 1750 * time.Millisecond

// expiries is when keys expire at each address. A node counts whole seconds, and goes on to
// the next one late if the machine is busy; then it says that more is left than is. So it is
// asked over and over for more than two seconds, and the least is believed.
func expiries(t *testing.T, keys []string, addrs ...string) [][]time.Time {
	t.Helper()
	times := make([][]time.Time, len(addrs))
	for i := range times {
		times[i] = make([]time.Time, len(keys))
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2200 * time.Millisecond); time.Now().Before(end); <-tick.C {
		for n, addr := range addrs {
			for i, it := range itemsAt(t, addr, keys) {
				if at := it.expires; times[n][i].IsZero() || at.Before(times[n][i]) {
					times[n][i] = at
				}
			}
		}
	}
	return times
}

// A large memcached holds the stock of these tests.
func roomyTarget(t *testing.T) *target {
	m := harness.Memcached(t, "-m", "1024")
	return &target{addr: m.Addr, kill: m.Kill, restart: m.Restart, freeze: m.Freeze, thaw: m.Thaw}
}

// TestPrimaryRestartsAtPeak kills the primary while clients of two proxies read, write,
// delete, count and touch, and starts it again, empty. No client notices; and when it is
// trusted, it holds what its peer holds, and nothing that has been deleted.
func TestPrimaryRestartsAtPeak(t *testing.T) {
	s := &stock{keys: amount(20_000, 60_000, 200_000), doomed: amount(500, 1500, 4000)}
	patience := 2 * time.Minute
	flags := []string{"--timeout", "2s"} // two busy cores are no fault of a node
	one := newCluster(t, roomyTarget, []int{1, 1}, flags...)
	two := one.join(t, flags...)
	s.fill(t, one.addr)
	began := time.Now()
	e := &episode{cluster: one, began: began}
	e.invite(t, *seedFlag)
	var a *audience
	e.during(t, func() {
		a = s.attend(t, 8, one.addr, two.addr)
		node := one.nodes[0]
		e.marks = append(e.marks, model.Mark{At: time.Since(began), Text: "kill " + node.String()})
		node.kill()
		e.strikes++
		proctest.Eventually(t, "both proxies have found the primary dead", func() bool {
			return one.states(t)[0] == "down" && two.states(t)[0] == "down"
		})
		node.restart()
		back := time.Now()
		one.healedWithin(t, patience)
		t.Logf("trusted %v after its return, %d reads", time.Since(back).Round(time.Millisecond), a.reads.Load())
		e.marks = append(e.marks, model.Mark{At: time.Since(began), Text: "trusted"})
	})
	a.leave()
	one.repaired(t)
	s.compare(t, a, one.nodes[0].addr, one.nodes[1].addr)
	e.judge(t)
}
