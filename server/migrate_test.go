package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/memnode"
)

// grown is the magent that takes the place of old, whose first pool has one node more in
// each copy, and moves keys as they are asked for only, unless rest says that others follow.
func (at *site) grown(old *Server, rest bool) *Server {
	at.t.Helper()
	at.cfg.Pools = slices.Clone(at.cfg.Pools)
	p := &at.cfg.Pools[0]
	p.Copies = slices.Clone(p.Copies)
	for i, nodes := range p.Copies {
		m := startNode(at.t, memnode.Config{})
		at.nodes = append(at.nodes, m)
		p.Copies[i] = append(slices.Clone(nodes), nodeAt(at.t, m.Addr()))
	}
	if at.times.linger = time.Hour; rest {
		at.times.linger = 0
	}
	return at.replaced(old)
}

// replaced is the magent that takes the place of old, when it has.
func (at *site) replaced(old *Server) *Server {
	at.t.Helper()
	at.cfg.Listen = slices.Clone(at.cfg.Listen)
	at.cfg.Listen[0].Address = old.Addrs()[0].String()
	s, ours, theirs := at.successor(old)
	if err := <-at.handsOver(old, s, ours, theirs); err != nil {
		at.t.Fatal(err)
	}
	return s
}

// places is the nodes of the site that are to have key.
func (at *site) places(s *Server, key string) (nodes []int) {
	p := s.pools[0].pool
	for c := range p.Copies {
		addr := p.Nodes[p.Replica(c, []byte(key))].Address
		nodes = append(nodes, slices.IndexFunc(at.nodes, func(n *memnode.Node) bool { return n.Addr() == addr }))
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// moves waits until all keys have moved, and wants each of the n keys of fill to be where it is
// to be and nowhere else.
func (at *site) moves(s *Server, n int) {
	at.t.Helper()
	eventually(at.t, "all keys have moved", func() bool { return s.pools[0].former.Load() == nil })
	faults := 0
	for i := range n {
		key := mix(i)
		settled := func() bool { return slices.Equal(at.where(key), at.places(s, key)) }
		if !settled() && faults < 5 { // followers are not waited for
			eventuallyOr(at.t, settled, func() {
				faults++
				at.t.Errorf("%s is at the nodes %v, and should be at %v", key, at.where(key), at.places(s, key))
			})
		}
	}
}

// eventuallyOr waits until something holds, and calls otherwise if it never does.
func eventuallyOr(t *testing.T, holds func() bool, otherwise func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if waitFor(ctx, holds) != nil {
		otherwise()
	}
}

// A pool that grows keeps what it has: nothing that is read is missed, and in the end each key
// is where it is to be alone, and all else is gone.
func TestAPoolGrows(t *testing.T) {
	t.Parallel()
	for _, copies := range [][]int{{2}, {2, 2}} {
		for _, rest := range []bool{false, true} {
			t.Run(fmt.Sprintf("copies=%d/rest=%v", len(copies), rest), func(t *testing.T) {
				t.Parallel()
				n := 2000
				if testing.Short() {
					n = 400
				}
				at := newSite(t, copies...)
				old := at.magent()
				trusted(t, old)
				old.fill(t, n)
				s := at.grown(old, rest)
				c := s.caller(t)
				for i := range n {
					c.says("get "+mix(i)+"\r\n", fmt.Sprintf("VALUE %s 0 %d\r\n%d\r\nEND\r\n", mix(i), len(fmt.Sprint(i)), i))
				}
				if rest {
					at.moves(s, n)
				}
				snap := s.Snapshot()
				if snap.Hits < uint64(n) || !rest && snap.Former < uint64(n/2) || snap.Moved < uint64(n/2) {
					t.Errorf("%d of %d reads are hits; %d found the key where it was, and %d keys were moved", snap.Hits, n, snap.Former, snap.Moved)
				}
			})
		}
	}
}

// unmoved is a key that was placed by a pool of two nodes and is not where one of three has it.
func (at *site) unmoved(s *Server, i int) string {
	for n := 0; ; n++ {
		key := fmt.Sprintf("k%d:%d", i, n)
		f := s.pools[0].former.Load()
		if _, owners := f.owners(s.pools[0].pool, []byte(key)); owners > 0 {
			return key
		}
	}
}

// Every command finds a key that has not moved as if it had, and what one does to it is done for
// good: no former owner has it then.
func TestCommandsOnWhatHasNotMoved(t *testing.T) {
	t.Parallel()
	for _, copies := range [][]int{{2}, {2, 2}} {
		t.Run(fmt.Sprintf("copies=%d", len(copies)), func(t *testing.T) {
			t.Parallel()
			at := newSite(t, copies...)
			old := at.magent()
			trusted(t, old)
			w := old.caller(t)
			for i := range 20 {
				for n := range 12 {
					w.says(fmt.Sprintf("set k%d:%d 7 0 1\r\n5\r\n", i, n), "STORED\r\n")
				}
			}
			s := at.grown(old, false)
			c := s.caller(t)
			for i, of := range []struct{ ask, answer, then string }{
				{"get %s", "VALUE %s 7 1\r\n5\r\nEND", "5"},
				{"get none %s none", "VALUE %s 7 1\r\n5\r\nEND", "5"},
				{"mg %s v f", "VA 1 f7\r\n5", "5"},
				{"mg %s", "HD", "5"},
				{"mg %s v t N30", "VA 1 t-1\r\n5", "5"},
				{"mg %s v R30", "VA 1\r\n5", "5"},
				{"gat 0 %s", "VALUE %s 7 1\r\n5\r\nEND", "5"},
				{"touch %s 0", "TOUCHED", "5"},
				{"incr %s 2", "7", "7"},
				{"ma %s v", "VA 1\r\n6", "6"},
				{"append %s 0 0 1\r\nx", "STORED", "5x"},
				{"ms %s 1 MP\r\nx", "HD", "x5"},
				{"add %s 0 0 1\r\nx", "NOT_STORED", "5"},
				{"replace %s 0 0 1\r\nx", "STORED", "x"},
				{"set %s 0 0 1\r\nx", "STORED", "x"},
				{"ms %s 1\r\nx", "HD", "x"},
				{"delete %s", "DELETED", ""},
				{"md %s", "HD", ""},
				{"cas %s 0 0 1 1\r\nx", "EXISTS", "5"},
			} {
				key := at.unmoved(s, i)
				with := func(text string) string { return strings.ReplaceAll(text, "%s", key) + "\r\n" }
				c.says(with(of.ask), with(of.answer))
				last := func() string {
					item, _ := at.nodes[at.places(s, key)[0]].Get(key)
					return string(item.Value)
				}
				placed := func() bool {
					return !slices.ContainsFunc(at.where(key), func(node int) bool { return !slices.Contains(at.places(s, key), node) })
				}
				eventuallyOr(t, func() bool { return last() == of.then && placed() }, func() {
					t.Errorf("after %q it is %q where it is to be, want %q; it is at the nodes %v", with(of.ask), last(), of.then, at.where(key))
				})
			}
		})
	}
}

// A former owner that does not say which keys it has keeps those of others from nothing.
func TestOneThatDoesNotAnswerKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	const n = 300
	at := newSite(t, 2)
	old := at.magent()
	old.fill(t, n)
	if err := at.nodes[0].SetFault("(on lru_crawler (1/1 reset))"); err != nil {
		t.Fatal(err)
	}
	s := at.grown(old, true)
	of := func(node int) (keys []string) { // that are there and not where they are to be
		for i := range n {
			if key := mix(i); slices.Equal(at.where(key), []int{node}) && !slices.Equal(at.places(s, key), []int{node}) {
				keys = append(keys, key)
			}
		}
		return keys
	}
	began, lists := time.Now(), func() uint64 { return at.nodes[0].Stats().Commands["lru_crawler"] }
	before := lists()
	eventually(t, "the keys of the other have moved", func() bool { return len(of(1)) == 0 })
	eventually(t, "the one that does not answer is asked again", func() bool { return lists() >= before+4 })
	if took := time.Since(began); took < 6*retryMoves { // between four lists are pauses of 1, 2 and 4 times that at least
		t.Errorf("it is asked four times in %v", took)
	}
	if len(of(0)) == 0 {
		t.Error("nothing is left at the one that does not answer")
	}
	if err := at.nodes[0].SetFault(""); err != nil {
		t.Fatal(err)
	}
	at.moves(s, n)
}

// A read that may have its client write (mg with R) has nothing move while the gate is closed, as
// others may write where keys were.
func TestNothingMovesAtAClosedGate(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2)
	old := at.magent()
	old.fill(t, 1)
	s := at.grown(old, false)
	key := at.unmoved(s, 0)
	for node := range 2 { // one of them had it
		at.tell(node, "set "+key+" 0 10 1\r\nv", "STORED")
	}
	was := at.where(key)
	held := make(chan struct{}, len(s.loops))
	for _, l := range s.pools[0].lanes() {
		if err := l.do(func() { l.closeGate(held) }); err != nil {
			t.Fatal(err)
		}
	}
	c := s.caller(t)
	if _, err := c.conn.Write([]byte("mg " + key + " v R30\r\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it waits at the gate", func() bool {
		waiting := make(chan int, len(s.loops))
		err := s.pools[0].onLanes(t.Context(), func(l *lane) { waiting <- len(l.gate.waiting) })
		n := 0
		for range s.loops {
			n += <-waiting
		}
		return err == nil && n == 1
	})
	if now := at.where(key); !slices.Equal(now, was) {
		t.Errorf("the key was at the nodes %v, and is at %v", was, now)
	}
	for _, l := range s.pools[0].lanes() {
		if err := l.do(func() { l.openGate(held) }); err != nil {
			t.Fatal(err)
		}
	}
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if line, err := c.in.ReadString('\n'); err != nil || line != "VA 1 W\r\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// Clients that read and write at the same time read nothing old, and miss nothing, while a pool
// grows around them.
func TestAPoolGrowsUnderWrites(t *testing.T) {
	t.Parallel()
	for _, copies := range [][]int{{2}, {2, 2}} {
		t.Run(fmt.Sprintf("copies=%d", len(copies)), func(t *testing.T) {
			t.Parallel()
			keys, rounds := 200, 10
			if testing.Short() {
				keys, rounds = 100, 4
			}
			at := newSite(t, copies...)
			old := at.magent()
			trusted(t, old)
			crowd := newCrowd(t, keys)
			w := old.caller(t)
			for i := range keys {
				crowd.write(w, i)
			}
			crowd.visit(old, old)
			s := at.grown(old, true)
			for range rounds {
				for i := range keys {
					crowd.write(w, i)
				}
			}
			eventually(t, "all keys have moved", func() bool { return s.pools[0].former.Load() == nil })
			crowd.leave()
		})
	}
}

// A former owner that cannot be told to lose a key is not asked any more, whatever comes of it.
func TestAFormerOwnerThatIsNotTold(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2)
	at.cfg.Pools[0].Timeout = 100 * time.Millisecond
	old := at.magent()
	w := old.caller(t)
	for n := range 12 {
		w.says(fmt.Sprintf("set k0:%d 0 0 1\r\n5\r\nset k1:%d 0 0 1\r\n6\r\n", n, n), "STORED\r\nSTORED\r\n")
	}
	s := at.grown(old, false)
	key := at.unmoved(s, 0)
	from := at.nodes[at.where(key)[0]]
	from.Freeze()
	c := s.caller(t)
	c.wants("set "+key+" 0 0 1\r\n7", "STORED")
	c.wants("delete "+key, "DELETED")
	from.Thaw()
	for range 100 {
		c.wants("get "+key, "END")
	}
	s2 := at.unmoved(s, 1)
	if at.nodes[at.where(s2)[0]] == from {
		c.wants("get "+s2, "END")
	}
}

// Nothing comes back from before a flush_all, not even from nodes that have left the pool.
func TestFlushOfWhatHasNotMoved(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2)
	old := at.magent()
	old.fill(t, 100)
	m := startNode(t, memnode.Config{})
	at.nodes = append(at.nodes, m)
	at.cfg.Pools = slices.Clone(at.cfg.Pools)
	at.cfg.Pools[0].Copies = [][]config.Node{{nodeAt(t, m.Addr())}} // all others leave
	at.times.linger = time.Hour
	s := at.replaced(old)
	c := s.caller(t)
	c.says("get "+mix(1)+"\r\nflush_all\r\n", "VALUE "+mix(1)+" 0 1\r\n1\r\nEND\r\nOK\r\n")
	for i := range 100 {
		c.says("get "+mix(i)+"\r\n", "END\r\n")
	}
	if n := at.nodes[0].Len() + at.nodes[1].Len(); n > 0 {
		t.Errorf("nodes that have left hold %d keys yet", n)
	}
}

// A process that takes over in the middle, for the same nodes, goes on.
func TestAnotherProcessMovesTheRest(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2)
	old := at.magent()
	old.fill(t, 500)
	between := at.grown(old, false)
	between.caller(t).wants("get "+mix(1), "VALUE "+mix(1)+" 0 1")
	at.times.linger = 0
	s := at.replaced(between)
	at.moves(s, 500)
	c := s.caller(t)
	for i := range 500 {
		c.says("get "+mix(i)+"\r\n", fmt.Sprintf("VALUE %s 0 %d\r\n%d\r\nEND\r\n", mix(i), len(fmt.Sprint(i)), i))
	}
}

// What a node had missed when it was a replica is not read from it when it is a former owner.
func TestDebtOfAFormerOwner(t *testing.T) {
	t.Parallel()
	const n = 300
	at := newSite(t, 2, 2)
	at.cfg.Pools[0].Timeout = 100 * time.Millisecond
	old := at.magent()
	trusted(t, old)
	old.fill(t, n)
	at.vouched()
	p := at.prober(0)
	eventually(t, "the node is older than it will be away", func() bool { // else it is taken for one that was restarted
		id, err := p.Identity(t.Context())
		return err == nil && id.Uptime() >= 2*time.Second
	})
	at.nodes[0].Freeze()
	c := old.caller(t)
	for i := range n {
		c.wants(fmt.Sprintf("set %s 0 0 3\r\nnew", mix(i)), "STORED")
	}
	s := at.grown(old, true)
	at.nodes[0].Thaw()
	c = s.caller(t)
	for i := range n {
		c.says("get "+mix(i)+"\r\n", fmt.Sprintf("VALUE %s 0 3\r\nnew\r\nEND\r\n", mix(i)))
	}
	trusted(t, s)
	at.moves(s, n)
	for i := range n {
		c.says("get "+mix(i)+"\r\n", fmt.Sprintf("VALUE %s 0 3\r\nnew\r\nEND\r\n", mix(i)))
	}
}

// A magent that is to look for keys where they were, and does not come to serve, ends all the same.
func TestGrownAndNotStarted(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1)
	was := at.cfg.Pools[0]
	m := startNode(t, memnode.Config{})
	at.cfg.Pools = []config.Pool{was}
	at.cfg.Pools[0].Copies = [][]config.Node{{was.Copies[0][0], nodeAt(t, m.Addr())}}
	s := at.build(at.cfg)
	if err := s.pools[0].remember(&was, time.Hour); err != nil || s.pools[0].former.Load() == nil {
		t.Fatalf("%v: nothing is remembered", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Keys move only from nodes that can be asked as they could be before, and in text: of others how
// long an item lives cannot be had.
func TestGrownAndAskedInAnotherWay(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(file, []byte("user:password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, login := config.NodeAccess{Binary: true}, config.NodeAccess{AuthFile: file}
	for _, c := range []struct {
		was, now config.NodeAccess
		moves    bool
	}{
		{config.NodeAccess{}, config.NodeAccess{}, true},
		{login, login, true},
		{login, config.NodeAccess{}, false},
		{config.NodeAccess{}, login, false},
		{binary, config.NodeAccess{}, false},
		{config.NodeAccess{}, binary, false},
		{binary, binary, false},
	} {
		at := newSite(t, 1)
		at.cfg.Pools[0].Access = c.was
		old := at.build(at.cfg)
		m := startNode(t, memnode.Config{})
		at.cfg.Pools = slices.Clone(at.cfg.Pools)
		p := &at.cfg.Pools[0]
		p.Access, p.Copies = c.now, [][]config.Node{{p.Copies[0][0], nodeAt(t, m.Addr())}}
		s := at.build(at.cfg)
		if err := s.follows(old.placements()); err != nil || (s.pools[0].former.Load() != nil) != c.moves {
			t.Errorf("%+v, then %+v: %v, and there are former owners: %v", c.was, c.now, err, s.pools[0].former.Load() != nil)
		}
		for _, s := range []*Server{old, s} {
			if err := s.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// Where keys are says whether they move, and not how nodes are asked.
func TestAnotherWayToTheSame(t *testing.T) {
	now, was := config.Pool{Name: "a", Access: config.NodeAccess{TLS: true}}, config.Pool{Name: "a"}
	if !sameWhere(now, was) {
		t.Error("keys are said to be elsewhere")
	}
	if was.Name = "b"; sameWhere(now, was) {
		t.Error("keys of another pool are said to be there")
	}
}
