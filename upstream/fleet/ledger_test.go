package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/upstream/memnode"
	"magent/upstream/probe"
)

// bench is where Ledgers are kept, by a clock that is moved by hand.
type bench struct {
	t   *testing.T
	now time.Time
	at  []string // sources
}

func newBench(t *testing.T, sources ...string) *bench {
	return &bench{t: t, now: time.UnixMilli(1_700_000_000_123), at: sources}
}

func (b *bench) ledger(id string) *Ledger {
	cfg := LedgerConfig{Address: "10.0.0.1:11211", ID: id}
	for _, s := range b.at {
		cfg.Sources = append(cfg.Sources, target(s))
	}
	l := NewLedger(cfg)
	l.clock = func() time.Time { return b.now }
	b.t.Cleanup(l.Forget)
	return l
}

func (b *bench) enter(l *Ledger) {
	b.t.Helper()
	if err := l.Enter(context.Background(), b.now); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) leave(l *Ledger) {
	b.t.Helper()
	if err := l.Leave(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

// pass has time go on, and all who are given renew.
func (b *bench) pass(d time.Duration, who ...*Ledger) {
	b.t.Helper()
	b.now = b.now.Add(d)
	for _, l := range who {
		b.enter(l)
	}
}

const (
	nobody = "" // owes; and no moment was told
	doubt  = "?"
)

// finds demands who owes, those that are dead in brackets, or a moment, from now, or none.
func (b *bench) finds(l *Ledger, want string) {
	b.t.Helper()
	s := l.Settled(context.Background(), b.now)
	got := strings.Join(s.Waiting, " ")
	if len(s.Dead) > 0 {
		got += fmt.Sprint(s.Dead)
	}
	switch {
	case s.Err != nil:
		got = s.Err.Error()
	case s.Settled && got == "" && !s.At.IsZero():
		got = s.At.Sub(b.now).String()
	case !s.Settled && got == "":
		got = doubt
	case s.Settled && got != "":
		got += ", and settled"
	}
	if got != want {
		b.t.Fatalf("%s finds %q, want %q", l.cfg.ID, got, want)
	}
}

// lists demands what the list at a source says.
func (b *bench) lists(source, want string) {
	b.t.Helper()
	a := asking((*answer).get)
	p := probe.New(target(source), "", false)
	defer p.Forget()
	if err := p.Ask(context.Background(), "the list", "mg "+b.key()+" v\r\n", a.take); err != nil {
		b.t.Fatal(err)
	}
	if a.value != want {
		b.t.Fatalf("the list says %q, want %q", a.value, want)
	}
}

func (b *bench) key() string { return "magent:debt:10.0.0.1:11211" }

func TestLedger(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, addr string) {
		b := newBench(t, addr)
		a, c, d := b.ledger("a/1/1"), b.ledger("c/1/1"), b.ledger("d/1/1")
		b.finds(d, nobody)
		b.leave(a)
		b.lists(addr, "")
		b.enter(a)
		b.enter(c)
		b.lists(addr, "a/1/1=1 c/1/1=1")
		if got := do(t, addr, "mg "+b.key()+" t"); got != "HD t86400" && got != "HD t86399" {
			t.Errorf("the list lives for %q", got)
		}
		b.pass(999*time.Millisecond, a, c)
		b.lists(addr, "a/1/1=1 c/1/1=1")
		b.pass(time.Millisecond, c, a)
		b.lists(addr, "a/1/1=2 c/1/1=2")
		for _, l := range []*Ledger{a, c, d} {
			b.finds(l, "a/1/1 c/1/1")
		}
		b.leave(a)
		b.leave(a)
		for _, l := range []*Ledger{a, c, d} {
			b.finds(l, "c/1/1")
		}
		b.leave(c)
		b.lists(addr, "settled at 1700000001423")
		b.pass(100 * time.Millisecond)
		for _, l := range []*Ledger{a, c, d} {
			b.finds(l, "200ms")
		}
		b.enter(a)
		b.lists(addr, "a/1/1=3")
		b.finds(d, "a/1/1")
		b.pass(time.Second)
		b.leave(a)
		b.pass(time.Minute)
		b.finds(d, "-59.7s")
		b.enter(a)
		b.finds(d, "a/1/1")
	})
}

// Who has joined is waited for until it closes, whether it owes anything or not; nobody joins
// for a moment that has come.
func TestRollCall(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	both(t, func(t *testing.T, addr string) {
		b := newBench(t, addr)
		a, c, d := b.ledger("a"), b.ledger("c"), b.ledger("d")
		join := func(l *Ledger) {
			t.Helper()
			for range 2 {
				if err := l.Join(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		shut := func(l *Ledger) {
			t.Helper()
			for range 2 {
				if err := l.Close(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		open := func(want ...string) {
			t.Helper()
			if s := d.Settled(ctx, b.now); s.Err != nil || !slices.Equal(s.Open, want) {
				t.Fatalf("%q are waited for, %v, want %q", s.Open, s.Err, want)
			}
		}
		shut(a)
		b.lists(addr, "")
		b.enter(a)
		b.enter(c)
		join(a)
		b.leave(a)
		join(c)
		join(d)
		b.lists(addr, "c=1 a=open c=open d=open")
		b.leave(c)
		b.lists(addr, "settled at 1700000000423 a=open c=open d=open")
		shut(c)
		shut(d)
		b.finds(d, "300ms")
		open("a")
		b.pass(300 * time.Millisecond)
		join(c)
		open("a")
		shut(c)
		b.enter(c)
		b.lists(addr, "c=2 a=open")
		join(c)
		b.leave(c)
		open("a", "c")
		b.pass(6 * time.Second) // a is gone
		b.enter(d)
		b.lists(addr, "d=1")
		shut(c)
		b.lists(addr, "d=1")
	})
}

// Where the list cannot be written nobody joins, and nobody is waited for.
func TestRollCallWhereNothingIsWritten(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBench(t, startNode(t, `(on ms (reply "SERVER_ERROR out of memory storing object"))`))
	a := b.ledger("a")
	for range 2 {
		if err := a.Join(ctx); err == nil {
			t.Error("it has joined a list that cannot be written")
		}
	}
	if err := a.Close(ctx); err != nil {
		t.Errorf("it does not stand there, and cannot close: %v", err)
	}
	if s := a.Settled(ctx, b.now); s.Err != nil || len(s.Open) != 0 {
		t.Errorf("%q are waited for, %v", s.Open, s.Err)
	}
}

// Nobody is waited for who was buried, or whose word is of a moment long ago; nobody waits for
// itself; and a list in which some have joined, and that tells nothing else, is a lost one.
func TestRollCallOfThoseWhoAreGone(t *testing.T) {
	t.Parallel()
	ctx, addr, second := context.Background(), startNode(t, ""), startNode(t, "")
	b := newBench(t, addr, second)
	a, c, d := b.ledger("a"), b.ledger("c"), b.ledger("d")
	for _, l := range []*Ledger{a, c} {
		b.enter(l)
		if err := l.Join(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		b.finds(d, "a c")
		b.pass(time.Second, c)
	}
	b.finds(d, "c[a]")
	if err := d.Bury(ctx, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	b.lists(addr, "c=6 c=open")
	if s := c.Settled(ctx, b.now); len(s.Open) != 0 {
		t.Errorf("c waits for %q", s.Open)
	}
	b.leave(c)
	b.pass(6 * time.Second)
	if s := d.Settled(ctx, b.now); len(s.Open) != 0 {
		t.Errorf("after the moment d waits for %q", s.Open)
	}
	put(t, addr, b.key(), "x=1 d=open") // from before a source was away
	b.finds(d, "x")
	b.lists(addr, "x=1")
	do(t, addr, "md "+b.key())
	if err := a.Join(ctx); err != nil {
		t.Fatal(err)
	}
	b.finds(d, doubt)
}

func TestDead(t *testing.T) {
	t.Parallel()
	addr := startNode(t, "")
	b := newBench(t, addr)
	a, c, d := b.ledger("a"), b.ledger("c"), b.ledger("d")
	b.enter(a)
	b.enter(c)
	b.enter(d)
	for range 4 {
		b.finds(d, "a c d")
		b.pass(time.Second, c, d)
	}
	b.finds(d, "a c d")
	b.pass(time.Second, c, d)
	b.finds(d, "c d[a]")
	b.finds(a, "a c d") // which has not looked for so long
	b.leave(c)
	b.leave(d)
	b.finds(d, "[a]")
	b.pass(0, a) // it has only stood still
	if err := d.Bury(context.Background(), []string{"a", "x"}); err != nil {
		t.Error(err)
	}
	b.finds(d, "a")
	b.lists(addr, "a=2")
	b.pass(3 * time.Second)
	b.finds(d, "a")
	b.pass(2 * time.Second)
	b.finds(d, "[a]")
	for range 2 {
		if err := d.Bury(context.Background(), []string{"a", "x"}); err != nil {
			t.Error(err)
		}
	}
	b.finds(d, "300ms")
	b.enter(a) // it is alive, and counts on
	b.lists(addr, "a=3")
}

func TestSourceDies(t *testing.T) {
	t.Parallel()
	first, second := startMemcached(t), startMemcached(t)
	b := newBench(t, first.addr, second.addr)
	a, c, d := b.ledger("a"), b.ledger("c"), b.ledger("d")
	b.enter(a)
	b.enter(c)
	b.finds(d, "a c")
	first.kill()
	b.finds(d, doubt)
	b.pass(time.Second, c)
	b.lists(second.addr, "c=2")
	b.finds(d, "c")
	b.pass(time.Second, a)
	b.leave(c)
	b.finds(d, "a")
	b.leave(a)
	b.finds(d, doubt)
	b.pass(2999 * time.Millisecond)
	b.finds(d, doubt)
	b.pass(time.Millisecond)
	b.finds(d, "2.3s")

	b.enter(a)
	b.lists(second.addr, "a=3")
	first.run(t, first.addr[strings.LastIndexByte(first.addr, ':')+1:])
	b.pass(time.Second, a)
	b.lists(first.addr, "a=4")
	b.leave(a)
	b.lists(first.addr, "settled at 1700000011423")
	b.lists(second.addr, "settled at 1700000011423")
	b.finds(a, doubt)
	b.finds(d, doubt)
	first.kill()
	second.kill()
	ctx := context.Background()
	want := fmt.Sprintf("no source answers: %s: ", first.addr)
	if err := a.Enter(ctx, b.now); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("nobody answers: %v", err)
	}
	if err := a.Leave(ctx); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("nobody answers: %v", err)
	}
	if s := a.Settled(ctx, b.now); s.Settled || s.Err == nil || !strings.HasPrefix(s.Err.Error(), want) {
		t.Errorf("nobody answers: %+v", s)
	}
	ctx, stop := context.WithCancel(ctx)
	stop()
	if err := a.Enter(ctx, b.now); !errors.Is(err, context.Canceled) {
		t.Errorf("it is over: %v", err)
	}
}

// One that leaves is gone from every source where it stood, and goes on by the first.
func TestSourceComesBack(t *testing.T) {
	t.Parallel()
	first, err := memnode.Start(memnode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() })
	second := startNode(t, "")
	b := newBench(t, first.Addr(), second)
	a, c := b.ledger("a"), b.ledger("c")
	first.Kill()
	b.enter(a)
	b.enter(c)
	if err := first.Restart(); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		b.pass(time.Second, a, c)
	}
	b.leave(a)
	b.lists(first.Addr(), "c=7")
	b.lists(second, "c=1")
	b.leave(c)
	b.lists(first.Addr(), "settled at 1700000006423")
	b.finds(a, "300ms")
	b.finds(c, "300ms")
}

// What was listed and is lost is not taken for settled before all had time to say so again.
func TestListIsLost(t *testing.T) {
	t.Parallel()
	addr := startNode(t, "")
	b := newBench(t, addr)
	a, c := b.ledger("a"), b.ledger("c")
	b.enter(a)
	b.enter(c)
	if got := do(t, addr, "md "+b.key()); got != "HD" {
		t.Fatal(got)
	}
	b.leave(a)
	b.finds(a, doubt)
	b.finds(b.ledger("d"), "5.3s")
	b.pass(time.Second, c)
	b.finds(a, "c")
	b.leave(c)
	b.finds(a, doubt)
	b.finds(c, doubt)
	b.pass(4 * time.Second)
	b.finds(a, "1.3s")
	b.finds(c, doubt)
	b.pass(time.Second)
	b.finds(c, "300ms")

	b.enter(a)
	if got := do(t, addr, "md "+b.key()); got != "HD" {
		t.Fatal(got)
	}
	b.finds(a, doubt)
}

// An entry of this magent's own that it does not know of is not waited for.
func TestOwnEntry(t *testing.T) {
	t.Parallel()
	addr := startNode(t, "")
	b := newBench(t, addr)
	b.enter(b.ledger("a"))
	again, c := b.ledger("a"), b.ledger("c")
	b.enter(again)
	b.lists(addr, "a=2")
	b.finds(again, "a")
	b.enter(c)
	b.finds(b.ledger("a"), "c")
	b.lists(addr, "c=1")
	b.finds(again, "c")
	b.leave(c)
	b.pass(time.Hour, b.ledger("a"))
	b.finds(b.ledger("a"), "300ms")
}

// An answer that is lost leaves nobody in the list who has left.
func TestLedgersAnswersAreLost(t *testing.T) {
	t.Parallel()
	n, err := memnode.Start(memnode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	b := newBench(t, n.Addr())
	a, c := b.ledger("a"), b.ledger("c")
	b.enter(c)
	if err := n.SetFault(`(on ms (times 1 truncate 1))`); err != nil {
		t.Fatal(err)
	}
	if err := a.Enter(context.Background(), b.now); err == nil {
		t.Error("no answer is one")
	}
	b.lists(n.Addr(), "c=1 a=1")
	b.enter(a)
	b.lists(n.Addr(), "c=1 a=2")
	if err := n.SetFault(`(on ms (times 1 truncate 1))`); err != nil {
		t.Fatal(err)
	}
	if err := a.Leave(context.Background()); err == nil {
		t.Error("no answer is one")
	}
	version := do(t, n.Addr(), "mg "+b.key()+" c")
	b.leave(a)
	if now := do(t, n.Addr(), "mg "+b.key()+" c"); now == version {
		t.Errorf("what may come late finds the same version, %s", version)
	}
	b.finds(a, "c")
}

// What is no list is said to be none, and no other source is asked, as all magents are to
// ask the same.
func TestNoList(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	both(t, func(t *testing.T, addr string) {
		for _, garbage := range []string{"hello", "two\r\nlines", "a=1 a=2", "ends oddly\r", strings.Repeat("x", 65<<10), strings.Repeat("x", 200<<10)} {
			b := newBench(t, addr, startNode(t, ""))
			put(t, addr, b.key(), garbage)
			a := b.ledger("a")
			s := a.Settled(ctx, b.now)
			for what, err := range map[string]error{"settled": s.Err, "enter": a.Enter(ctx, b.now), "leave": a.Leave(ctx), "bury": a.Bury(ctx, nil)} {
				if err == nil || !strings.Contains(err.Error(), "no list of who owes writes") || s.Settled || len(err.Error()) > 200 {
					t.Errorf("%.20q: %s: %v", garbage, what, err)
				}
			}
			do(t, addr, "md "+b.key())
			b.leave(a)
			b.finds(a, "300ms")
		}
	})
}

func TestSourceRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fault, want string }{
		{`(on ms (reply "SERVER_ERROR out of memory storing object"))`, `answered "SERVER_ERROR out of memory storing object" to who owes writes`},
		{`(on ms (reply "EX"))`, "the list of who owes writes keeps changing"},
	} {
		b := newBench(t, startNode(t, c.fault), startNode(t, ""))
		if err := b.ledger("a").Enter(context.Background(), b.now); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.fault, err)
		}
	}
}

// Who does not stand in a list that cannot be written has left it. Who stands there has not,
// until it can.
func TestLeaveWhereNothingIsWritten(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n, err := memnode.Start(memnode.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	b := newBench(t, n.Addr())
	a, c := b.ledger("a"), b.ledger("c")
	b.enter(c)
	full := func(script string) {
		t.Helper()
		if err := n.SetFault(script); err != nil {
			t.Fatal(err)
		}
	}
	full(`(on ms (reply "SERVER_ERROR out of memory storing object"))`)
	for who, l := range map[string]*Ledger{"one more": a, "who stands there": c} {
		b.pass(time.Second)
		if err := l.Enter(ctx, b.now); err == nil {
			t.Errorf("%s has entered a list that cannot be written", who)
		}
	}
	b.leave(a)
	b.finds(a, "c")
	if err := c.Leave(ctx); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("who stands there leaves: %v", err)
	}
	full("")
	b.leave(c)
	b.finds(a, "300ms")
}

// A moment that is far off is of a clock that is wrong.
func TestClockIsWrong(t *testing.T) {
	t.Parallel()
	addr := startNode(t, "")
	b := newBench(t, addr)
	put(t, addr, b.key(), fmt.Sprint(settledValue, b.now.Add(time.Hour).UnixMilli()))
	b.finds(b.ledger("a"), "5.3s")
}

// Magents that come and go all at once wait for each other, and nobody is lost.
func TestCrowd(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, addr string) {
		ctx, b := context.Background(), newBench(t, addr)
		var crowd sync.WaitGroup
		for i := range 8 {
			l := b.ledger(fmt.Sprint("m", i))
			crowd.Go(func() {
				for turn := range 20 {
					now := b.now.Add(time.Duration(turn) * time.Minute)
					if err := l.Enter(ctx, now); err != nil {
						t.Error(err)
					}
					if s := l.Settled(ctx, now); s.Err != nil || s.Settled || !slices.Contains(s.Waiting, l.cfg.ID) {
						t.Errorf("%s is not in the list: %+v", l.cfg.ID, s)
					}
					if err := l.Leave(ctx); err != nil {
						t.Error(err)
					}
					if s := l.Settled(ctx, now); s.Err != nil || slices.Contains(s.Waiting, l.cfg.ID) {
						t.Errorf("%s is in the list: %+v", l.cfg.ID, s)
					}
				}
			})
		}
		crowd.Wait()
		b.finds(b.ledger("late"), "300ms")
	})
}
