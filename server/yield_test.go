package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/server/succession"
	"magent/upstream/health"
)

// successor starts a magent on the sockets of old, which has told it what is wanted, and
// returns it with the links of the two.
func (at *site) successor(old *Server) (s *Server, ours, theirs *succession.Link) {
	at.t.Helper()
	ours, f, err := succession.Pair()
	if err != nil {
		at.t.Fatal(err)
	}
	if theirs, err = succession.Open(f); err != nil {
		at.t.Fatal(err)
	}
	at.t.Cleanup(func() { ours.Close(); theirs.Close() })
	var given succession.Sockets
	for _, ln := range old.Listeners() {
		f, err := succession.File(ln)
		if err != nil {
			at.t.Fatal(err)
		}
		same, err := succession.Listen(f)
		if err != nil {
			at.t.Fatal(err)
		}
		given = append(given, same)
	}
	s = at.buildOn(&given, at.cfg)
	if err := old.Instruct(ours); err != nil {
		at.t.Fatal(err)
	}
	if err := s.Succeed(theirs, time.Now().Add(10*time.Second)); err != nil {
		at.t.Fatal(err)
	}
	at.serve(s)
	return s, ours, theirs
}

// handsOver has old give everything to s. The error is of either.
func (at *site) handsOver(old, s *Server, ours, theirs *succession.Link) <-chan error {
	ended := make(chan error, 1)
	adopted := make(chan error, 1)
	go func() { adopted <- s.Adopt(theirs) }()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := old.Yield(ctx, ours)
		ours.Close()
		if failed := <-adopted; failed != nil {
			err = errors.Join(err, failed)
		}
		ended <- err
	}()
	return ended
}

// Every client keeps its connection, whatever it is in the middle of: at rest it is given
// away with what was read of it, and else it is served first.
func TestClientsAreGivenAway(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.MaxValue = 1000
	old := at.magent()
	old.fill(t, 10)
	trusted(t, old)
	big := strings.Repeat("b", 2000)
	cases := []struct{ name, before, after, answer string }{
		{"idle", "", "get key:00001\r\n", "VALUE key:00001 0 1\r\n1\r\nEND\r\n"},
		{"half a line", "get key:0", "0001\r\n", "VALUE key:00001 0 1\r\n1\r\nEND\r\n"},
		{"half a value", "set a 0 0 10\r\n01234", "56789\r\nget a\r\n", "STORED\r\nVALUE a 0 10\r\n0123456789\r\nEND\r\n"},
		{"half a value, and more behind it", "set b 0 0 2\r\n0", "1\r\nget b\r\nset b 0 0 2\r\n2", "STORED\r\nVALUE b 0 2\r\n01\r\nEND\r\n"},
		{"half of what is too large", "set c 0 0 2000\r\n" + big[:1000], big[1000:] + "\r\nmn\r\n", "SERVER_ERROR object too large for cache\r\nMN\r\n"},
		{"without an answer", "set d 0 0 1 noreply\r\n1\r\n", "get d\r\n", "VALUE d 0 1\r\n1\r\nEND\r\n"},
	}
	var clients []*caller
	due := old.Snapshot().BytesIn
	for _, c := range cases {
		clients = append(clients, old.caller(t))
		io.WriteString(clients[len(clients)-1].conn, c.before)
		due += uint64(len(c.before))
	}
	eventually(t, "all has been read", func() bool { return old.Snapshot().BytesIn == due && old.clients() >= int64(len(cases)) })
	s, ours, theirs := at.successor(old)
	ended := at.handsOver(old, s, ours, theirs)
	eventually(t, "those at rest are given away", func() bool { return s.clients() >= 2 })
	for i, c := range cases {
		clients[i].conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(clients[i].conn, c.after)
		got := make([]byte, len(c.answer))
		if _, err := io.ReadFull(clients[i].in, got); string(got) != c.answer {
			t.Errorf("%s: answered %q, %v, want %q", c.name, got, err, c.answer)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	eventually(t, "all are with the successor", func() bool { return s.clients() >= int64(len(cases)) })
	s.caller(t).wants("get key:00002", "VALUE key:00002 0 1")
	for _, c := range clients {
		c.conn.Close() // some are in the middle of a value, and would be waited for
	}
}

// A request that waits for a node is answered by whom it was asked, and the next by the
// successor.
func TestRequestsInFlightAreAnswered(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1)
	at.cfg.Pools[0].Timeout = 20 * time.Second
	old := at.magent()
	c := old.caller(t)
	c.wants("set k 0 0 1\r\n1", "STORED")
	at.nodes[0].Freeze()
	io.WriteString(c.conn, "get k\r\nget k\r\n")
	eventually(t, "it is on its way", func() bool {
		flying := make(chan int, len(old.loops))
		_ = old.onLoops(t.Context(), func(l *loop) { n, _ := l.lanes[0].group.InFlight(0); flying <- n })
		return <-flying+<-flying > 0
	})
	s, ours, theirs := at.successor(old)
	ended := at.handsOver(old, s, ours, theirs)
	io.WriteString(c.conn, "get k\r\n") // it is not to be lost, whoever reads it
	eventually(t, "nobody is accepted there", func() bool { _, err := old.listeners[0].Accept(); return err != nil })
	at.nodes[0].Thaw()
	c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	for i := range 3 {
		got := make([]byte, len("VALUE k 0 1\r\n1\r\nEND\r\n"))
		if _, err := io.ReadFull(c.in, got); string(got) != "VALUE k 0 1\r\n1\r\nEND\r\n" {
			t.Errorf("request %d: %q, %v", i, got, err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a frozen node has missed is known to the successor, and nobody else owes it then.
// What cannot be told has it flushed, as ever.
func TestDebtsAreBequeathed(t *testing.T) {
	for _, untold := range []bool{false, true} {
		t.Run(fmt.Sprintf("untold %v", untold), func(t *testing.T) {
			t.Parallel()
			at := newSite(t, 1, 1)
			at.cfg.Pools[0].Timeout, at.cfg.Pools[0].ConnectTimeout = 100*time.Millisecond, 100*time.Millisecond
			old := at.magent()
			old.fill(t, 200)
			at.vouched()
			at.nodes[0].Freeze()
			c := old.caller(t)
			other := map[int]string{}
			for i := range 100 {
				c.wants(fmt.Sprintf("set %s 0 0 3\r\nnew", mix(i)), "STORED")
				other[i] = "new"
			}
			if untold {
				old.owed(t, func(l *loop) { l.lanes[0].debts[0].Forfeit() })
			}
			s, ours, theirs := at.successor(old)
			if state := s.pools[0].pool.Health.Load(0).State(); state != health.Down {
				t.Errorf("the node is %s from the start, want down", state)
			}
			if err := <-at.handsOver(old, s, ours, theirs); err != nil {
				t.Fatal(err)
			}
			if st := s.pools[0].keepers[0].debtors.look(t.Context()); !slices.Equal(st.Waiting, []string{s.id}) || len(st.Dead) > 0 {
				t.Errorf("the ledger is %+v, want %s alone in it", st, s.id)
			}
			if n := s.Snapshot().Nodes[0].Debt; n < 90 && !untold {
				t.Errorf("the successor knows of %d keys, want 100", n)
			}
			c.wants("get "+mix(1), "VALUE "+mix(1)+" 0 3") // it has moved
			at.nodes[0].Thaw()
			trusted(t, s)
			at.holds(s, 200, other)
		})
	}
}

// A magent whose successor does not answer for its debts goes as one that has died.
func TestDebtsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].Timeout, at.cfg.Pools[0].ConnectTimeout = 100*time.Millisecond, 100*time.Millisecond
	old := at.magent()
	old.fill(t, 10)
	at.vouched()
	at.nodes[0].Freeze()
	old.caller(t).wants("set k 0 0 1\r\n1", "STORED")
	s, ours, theirs := at.successor(old)
	s.awaits(t, 0, health.Down)
	theirs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := old.Yield(ctx, ours); err == nil {
		t.Error("nobody took it, and that is no error")
	}
	if st := s.pools[0].keepers[0].debtors.look(t.Context()); !slices.Contains(slices.Concat(st.Waiting, st.Dead), old.id) {
		t.Errorf("the ledger is %+v, want %s in it", st, old.id)
	}
	at.nodes[0].Thaw()
	trusted(t, s)
	s.caller(t).wants("get k", "VALUE k 0 1")
}

// What was left at a node is waited for by the successor, whatever name it has, and with one copy, too.
func TestWhatWasLeftIsBequeathed(t *testing.T) {
	t.Parallel()
	for _, copies := range [][]int{{1}, {1, 1}} {
		at := newSite(t, copies...)
		old := at.magent()
		trusted(t, old)
		for _, addr := range []string{"127.0.0.1:1", ""} {
			old.pools[0].keepers[0].node.Left(addr)
		}
		k := at.replaced(old).pools[0].keepers[0]
		k.leaving.Lock()
		if len(k.left) != 1 || k.left[0].String() != "127.0.0.1:1" || !k.unnamed {
			t.Errorf("of %v: left are %v, and more that have no name: %v", copies, k.left, k.unnamed)
		}
		k.leaving.Unlock()
	}
}

// A node that has missed writes of a client is not read for it by the successor either.
func TestNodesThatAreAwayAreToldFirst(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	old := at.magent()
	at.vouched()
	s, ours, theirs := at.successor(old)
	trusted(t, s)
	seen := old.pools[0].pool.Health.Load(0)
	old.pools[0].keepers[0].debtors.enter()
	old.pools[0].keepers[0].debtors.renew(t.Context())
	if !old.pools[0].pool.Monitor.Trip(0, seen, "as the test says") {
		t.Fatal("it is not down")
	}
	g := &giver{srv: old, successor: ours}
	at.nodes[0].Freeze() // it is not to come back
	adopted := make(chan error, 1)
	go func() { adopted <- s.Adopt(theirs) }()
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // any file will do, and give closes it
	if err != nil {
		t.Fatal(err)
	}
	g.give(passed{fd: fd})
	s.awaits(t, 0, health.Stale, health.Down)
	ours.Close()
	if err := <-adopted; err == nil {
		t.Error("the predecessor has ended early, and that is no error")
	}
}

// What an operator wants outlives the process.
func TestWishesAreHandedOn(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	old := at.magent()
	trusted(t, old)
	if err := old.Drain(at.nodes[1].Addr(), true); err != nil {
		t.Fatal(err)
	}
	old.readiness.given.Store(newSurrender(givenAway))
	s, ours, theirs := at.successor(old)
	if n := s.Snapshot().Nodes[1]; !n.Drained || n.State != health.Warming.String() {
		t.Errorf("the drained node is %s, drained: %v", n.State, n.Drained)
	}
	if got := s.readiness.given.Load(); got == nil || got.why != givenAway {
		t.Error("the address that was given up is wanted again")
	}
	// What would be wished for now would be lost with the old process; unless that stays.
	if drain, resume := old.Drain(at.nodes[1].Addr(), false), old.Resume(); drain != errSucceeded || resume != errSucceeded {
		t.Errorf("answered %v, %v", drain, resume)
	}
	old.Stay()
	if err := old.Resume(); err != nil {
		t.Error(err)
	}
	if err := <-at.handsOver(old, s, ours, theirs); err != nil {
		t.Error(err)
	}
}

// A node that nobody has marked, beside one that is marked, passes for one that has yet to be
// refilled, but not for who takes the place of a magent that reads it.
func TestTrustedAsBefore(t *testing.T) {
	t.Parallel()
	at := newSite(t, 1, 1)
	at.cfg.Pools[0].ProbeInterval = time.Hour // so that nobody marks any
	old := at.magent()
	old.fill(t, 10)
	at.vouchFor(1)
	s := at.replaced(old)
	if word := s.pools[0].pool.Health.Load(0); word.State() != health.Up || word.Epoch() != 0 {
		t.Errorf("the node is %s, in epoch %d", word.State(), word.Epoch())
	}
	at.cfg.Listen[0].Address = "127.0.0.1:0"
	if word := at.magent().pools[0].pool.Health.Load(0); word.State() == health.Up {
		t.Error("one that comes from nowhere trusts it, too")
	}
}
