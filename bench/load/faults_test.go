package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/keys"
	"magent/bench/wire"
)

// oldest answers every n-th get with the first value that its key ever had, and counts
// those that were written over.
type oldest struct {
	every    int
	firsts   map[string]string
	outdated int64
}

func (o *oldest) hook(c call) (string, error) {
	if c.words[0] != "get" || c.reply == "END\r\n" {
		return c.reply, nil
	}
	first, ok := o.firsts[c.words[1]]
	if !ok {
		o.firsts[c.words[1]] = c.reply
		return c.reply, nil
	}
	if c.n%o.every != 0 {
		return c.reply, nil
	}
	if first != c.reply {
		o.outdated++
	}
	return first, nil
}

// One connection knows for every value which it must be at least; so does the target,
// and they agree.
func TestStaleValuesAreFound(t *testing.T) {
	o := &oldest{every: 3, firsts: map[string]string{}}
	tg := startTarget(t, o.hook)
	cfg := Config{Targets: []string{tg.addr}, Conns: 1, Keys: keys.Config{Max: 9}, Mix: Mix{wire.Get: 3, wire.Set: 1}, Requests: 2000}
	if err := Preload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	rep := mustRun(t, cfg)
	tg.mu.Lock()
	defer tg.mu.Unlock()
	if rep.Stale == 0 || rep.Stale != o.outdated || rep.Wrong != 0 || rep.Errors != 0 {
		t.Errorf("stale %d, wrong %d, errors %d; want %d, 0, 0", rep.Stale, rep.Wrong, rep.Errors, o.outdated)
	}
	if !strings.HasPrefix(rep.FirstError, "stale: get of key:") || !strings.Contains(rep.FirstError, "want the value of write") {
		t.Errorf("first error %q", rep.FirstError)
	}
}

// Several connections and workers, several keys to a get: what is stale is found, and
// where nothing is, nothing is found.
func TestStaleValuesAreFoundBetweenWorkers(t *testing.T) {
	cfg := Config{
		Conns: 4, Threads: 2, Pipeline: 3, MultiGet: 4, Keys: keys.Config{Max: 19}, Requests: 4000,
		Mix: Mix{wire.Get: 3, wire.Gets: 1, wire.Set: 2, wire.CAS: 1, wire.Delete: 1},
	}
	honest := startTarget(t, nil)
	cfg.Targets = []string{honest.addr}
	if rep := mustRun(t, cfg); rep.Stale != 0 || rep.FirstError != "" {
		t.Errorf("an honest target: stale %d, first error %q", rep.Stale, rep.FirstError)
	}
	// Deletes are acknowledged and not done, the value before is told for ever.
	frozen := map[string]string{}
	liar := startTarget(t, func(c call) (string, error) {
		if c.words[0] != "get" {
			return c.reply, nil
		}
		var b strings.Builder
		for i, v := range strings.SplitAfter(strings.TrimSuffix(c.reply, "END\r\n"), "VALUE ") {
			name, _, _ := strings.Cut(v, " ")
			if i > 0 && frozen[name] == "" {
				frozen[name] = strings.TrimSuffix(v, "VALUE ")
			}
		}
		for _, name := range c.words[1:] {
			if frozen[name] != "" {
				b.WriteString("VALUE " + frozen[name])
			}
		}
		return b.String() + "END\r\n", nil
	})
	cfg.Targets = []string{liar.addr}
	if rep := mustRun(t, cfg); rep.Stale == 0 || rep.Wrong != 0 {
		t.Errorf("a target that lies: stale %d, wrong %d, first error %q", rep.Stale, rep.Wrong, rep.FirstError)
	}
}

// Where no write was acknowledged, or nobody owns the keys, any value may be the one.
func TestWhatCannotBeKnownIsNotStale(t *testing.T) {
	o := &oldest{every: 2, firsts: map[string]string{}}
	for name, c := range map[string]struct {
		hook hook
		cfg  Config
	}{
		"no write acknowledged": {
			func(c call) (string, error) {
				if c.words[0] == "set" {
					return "SERVER_ERROR no\r\n", nil // and stored
				}
				return o.hook(c)
			},
			Config{Conns: 2, Mix: Mix{wire.Get: 1, wire.Set: 1}, Requests: 1000, Keys: keys.Config{Max: 9}},
		},
		"more connections than keys": {
			(&oldest{every: 2, firsts: map[string]string{}}).hook,
			Config{Conns: 4, Mix: Mix{wire.Get: 1, wire.Set: 1}, Requests: 1000, Keys: keys.Config{Max: 2}},
		},
		"values too short to name a write": {
			(&oldest{every: 2, firsts: map[string]string{}}).hook,
			Config{Conns: 2, Mix: Mix{wire.Get: 1, wire.Set: 1}, Requests: 1000, Keys: keys.Config{Max: 9}, Values: keys.Fixed(20)},
		},
	} {
		tg := startTarget(t, c.hook)
		c.cfg.Targets = []string{tg.addr}
		if rep := mustRun(t, c.cfg); rep.Stale != 0 || rep.Hits == 0 {
			t.Errorf("%s: stale %d, hits %d, first error %q", name, rep.Stale, rep.Hits, rep.FirstError)
		}
	}
}

// A write of unknown fate may turn up late; what was before the last acknowledged write
// and is not such a one may not.
func TestLedgerDoubts(t *testing.T) {
	l := newLedger(2)
	for want := range uint32(7) {
		if got := l.issue(1); got != want+1 {
			t.Fatalf("write %d is numbered %d", want+1, got)
		}
	}
	l.ack(1, 2)
	l.doubt(1, 4)
	l.doubt(1, 5)
	l.ack(1, 7)
	l.doubt(1, 9)
	for seq, want := range []bool{false, false, false, false, true, true, false, false, false, true} {
		if got := l.doubtful(1, uint32(seq)); got != want {
			t.Errorf("write %d is doubtful: %v, want %v", seq, got, want)
		}
	}
	if l.acked(1) != 7 || l.acked(0) != 0 || l.doubtful(0, 4) {
		t.Errorf("acknowledged %d and %d, want 7 and 0", l.acked(1), l.acked(0))
	}
	for seq := uint32(11); seq < 1000; seq += 2 { // memory has a bound; beyond it the judge is lenient
		l.doubt(1, seq)
	}
	if n := len(l.doubts[1]); n != mostDoubts || !l.doubtful(1, 999) || !l.doubtful(1, 501) || l.doubtful(1, 8) {
		t.Errorf("%d doubts", n)
	}
}

// What a write comes to decides what may be read after it.
func TestWritesAreBooked(t *testing.T) {
	w := newWorker(newShared(Config{Targets: []string{"x:1"}, Mix: Mix{wire.Set: 1}, Requests: 1}.withDefaults()), 0, -1)
	book := func(op wire.Op, seq uint32, is wire.Status) {
		f := flight{Request: wire.Request{Op: op, Keys: 1, Key: 3}}
		f.Mark.Seq = seq
		w.judgeWrite(&f, &wire.Reply{Status: is})
	}
	lose := func(seq uint32) {
		f := flight{Request: wire.Request{Op: wire.Set, Keys: 1, Key: 3}}
		f.Mark.Seq = seq
		w.abandon(&f, 0)
	}
	for _, c := range []struct {
		what     string
		book     func()
		acked    uint32
		seq      uint32
		doubtful bool
	}{
		{"refused", func() { book(wire.Set, 1, wire.Failed) }, 0, 1, true},
		{"stored", func() { book(wire.Set, 2, wire.OK) }, 2, 2, false},
		{"lost", func() { lose(3) }, 2, 3, true},
		{"overtaken", func() { book(wire.CAS, 4, wire.Exists) }, 2, 4, false},
		{"a cas of nothing", func() { book(wire.CAS, 5, wire.NotFound) }, 2, 5, false},
		{"a delete of nothing", func() { book(wire.Delete, 6, wire.NotFound) }, 6, 6, false},
	} {
		c.book()
		if acked, doubtful := w.ledger.acked(3), w.ledger.doubtful(3, c.seq); acked != c.acked || doubtful != c.doubtful {
			t.Errorf("%s: acknowledged %d, %d doubtful: %v; want %d, %v", c.what, acked, c.seq, doubtful, c.acked, c.doubtful)
		}
	}
}

func TestCounters(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		switch {
		case c.words[0] != "incr":
		case c.n%100 == 20: // 5 is skipped
			var n int
			fmt.Sscan(c.reply, &n)
			return fmt.Sprintf("%d\r\n", n+5), nil
		case c.n%100 == 50:
			return "SERVER_ERROR busy\r\n", nil
		}
		return c.reply, nil
	})
	cfg := Config{Targets: []string{tg.addr}, Conns: 2, Pipeline: 3, Mix: Mix{wire.Incr: 1}, Requests: 1000}
	missing := cfg
	missing.Requests = 10
	if rep := mustRun(t, missing); rep.Ops["incr"].Misses != 10 || rep.Misses != 0 || rep.Wrong != 0 {
		t.Errorf("counters that are not there: %+v", rep)
	}
	if err := Preload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	rep := mustRun(t, cfg)
	// Each hundred of a connection has one refusal and one step too far. A number ahead
	// by five is wrong, and so is the next, four behind; the one after a refusal is
	// taken as it comes.
	if rep.Errors < 8 || rep.Errors > 12 || rep.Wrong < 16 || rep.Wrong > 24 {
		t.Errorf("errors %d, wrong %d; want about 10, 20", rep.Errors, rep.Wrong)
	}
	if !strings.HasPrefix(rep.FirstError, "wrong: incr of key:counter:") || !strings.Contains(rep.FirstError, "want 20, came 25") {
		t.Errorf("first error %q", rep.FirstError)
	}
}

func TestConflictsAreNoErrors(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		if c.words[0] == "cas" && c.n%2 == 0 {
			return "EXISTS\r\n", nil
		}
		return c.reply, nil
	})
	cfg := Config{Targets: []string{tg.addr}, Conns: 1, Mix: Mix{wire.CAS: 1}, Keys: keys.Config{Max: 99}, Requests: 1000}
	if err := Preload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	rep := mustRun(t, cfg)
	// Each gets is followed by its cas, which is an even command.
	if rep.Conflicts != 500 || rep.Ops["cas"].Requests != 500 || rep.Ops["gets"].Hits != 500 {
		t.Errorf("%d conflicts in %d cases after %d hits, want 500 each", rep.Conflicts, rep.Ops["cas"].Requests, rep.Ops["gets"].Hits)
	}
	if rep.Errors+rep.Wrong+rep.Stale != 0 {
		t.Errorf("errors %d, wrong %d, stale %d", rep.Errors, rep.Wrong, rep.Stale)
	}
	// Several in flight for one key: the second finds its version gone.
	cfg.Targets = []string{startTarget(t, nil).addr}
	cfg.Keys.Max, cfg.Pipeline = 0, 8
	cfg.Keys.Min, cfg.Keys.Max = 5, 5
	if err := Preload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if rep := mustRun(t, cfg); rep.Conflicts == 0 || rep.Conflicts >= rep.Ops["cas"].Requests || rep.Errors+rep.Stale != 0 {
		t.Errorf("one key: %d conflicts in %d, errors %d, stale %d", rep.Conflicts, rep.Ops["cas"].Requests, rep.Errors, rep.Stale)
	}
}

func TestLostConnectionsAreOpenedAgain(t *testing.T) {
	hang := func(c call) (string, error) {
		if c.n == 50 {
			return "", errHangUp
		}
		return c.reply, nil
	}
	for _, cfg := range []Config{
		{Conns: 3, Requests: 1000, Pipeline: 2, Reopen: true, Threads: 2, Mix: Mix{wire.Set: 1, wire.Incr: 1, wire.Get: 1}},
		{Conns: 3, Requests: 1000, Rate: 5000, Reopen: true},
	} {
		for _, tg := range []*target{startTarget(t, hang), startUnixTarget(t, hang)} {
			cfg.Targets = []string{tg.addr}
			cfg.Samples = true
			rep := mustRun(t, cfg)
			if rep.Lost < 3 || rep.Reopened < rep.Lost-cfg.Conns || rep.Reopened > rep.Lost || rep.Errors < int64(rep.Lost) {
				t.Errorf("%+v: lost %d, reopened %d, errors %d", cfg, rep.Lost, rep.Reopened, rep.Errors)
			}
			if rep.Requests+rep.Errors != cfg.Requests || rep.Wrong+rep.Stale+rep.Unsent != 0 {
				t.Errorf("%+v: %d requests, %d errors, %d wrong, %d stale, %d unsent; want %d in all, and no others",
					cfg, rep.Requests, rep.Errors, rep.Wrong, rep.Stale, rep.Unsent, cfg.Requests)
			}
			lost := int64(0)
			for _, s := range rep.Samples {
				if s.Verdict == Lost {
					lost++
				}
			}
			if int64(len(rep.Samples)) != cfg.Requests || lost != rep.Errors {
				t.Errorf("%+v: %d samples, %d lost; want %d, %d", cfg, len(rep.Samples), lost, cfg.Requests, rep.Errors)
			}
		}
	}
}

// While nobody listens, what is due is lost; when somebody does, all goes on.
func TestOpenLoopOutlivesItsTarget(t *testing.T) {
	back := make(chan struct{})
	tg := startUnixTarget(t, func(c call) (string, error) {
		switch tg := c.to; tg.served["get"] {
		case 100:
			tg.leave()
			tg.wg.Go(func() {
				<-time.After(100 * time.Millisecond)
				if err := tg.listen("unix", tg.addr); err != nil {
					t.Error(err)
				}
			})
			return "", errHangUp
		case 300:
			close(back)
		}
		return c.reply, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-back; cancel() }()
	rep, err := Run(ctx, Config{Targets: []string{tg.addr}, Conns: 4, Rate: 2000, Duration: time.Hour, Reopen: true, Samples: true})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if rep.Lost != 4 || rep.Reopened != 4 || rep.Errors < 10 {
		t.Errorf("lost %d, reopened %d, errors %d; want 4, 4, and some 100", rep.Lost, rep.Reopened, rep.Errors)
	}
	if last := rep.Samples[len(rep.Samples)-1]; last.Verdict != Miss {
		t.Errorf("the last request is %v", last)
	}
}

func TestSilentConnectionsAreOpenedAgain(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		if c.n == 20 {
			return "", nil
		}
		return c.reply, nil
	})
	rep := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 2, Requests: 100, Duration: time.Hour, Reopen: true, Timeout: 100 * time.Millisecond})
	if rep.Lost < 2 || rep.Requests+rep.Errors != 100 || !strings.Contains(rep.FirstError, "no answer in 100ms") {
		t.Errorf("lost %d, requests %d, errors %d, first %q", rep.Lost, rep.Requests, rep.Errors, rep.FirstError)
	}
}

// Nor does a run with an hour to go wait for a target that says nothing, though its
// timer wakes it for what is due.
func TestOpenLoopGivesUpOnSilence(t *testing.T) {
	tg := startTarget(t, func(call) (string, error) { return "", nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	rep, err := Run(ctx, Config{Targets: []string{tg.addr}, Conns: 1, Rate: 500, Duration: time.Hour, Timeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer from") || rep.Interrupted {
		t.Errorf("a silent target: %v", err)
	}
}

// Where nobody comes back and no end is set, the run ends all the same.
func TestReopeningEnds(t *testing.T) {
	tg := startUnixTarget(t, func(c call) (string, error) {
		if c.to.served["get"] == 10 {
			c.to.leave()
		}
		return c.reply, nil
	})
	rep, err := Run(t.Context(), Config{Targets: []string{tg.addr}, Conns: 2, Requests: 1000, Reopen: true, Timeout: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer from "+tg.addr) || rep.Requests > 10 {
		t.Errorf("%d requests, and %v", rep.Requests, err)
	}
}

func TestConnectionsAreOpenedAnew(t *testing.T) {
	tg := startTarget(t, nil)
	rep := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 2, Requests: 1000, Pipeline: 4, ReopenEvery: 10})
	if rep.Requests != 1000 || rep.Lost != 0 || rep.Errors != 0 || rep.Reopened < 97 || rep.Reopened > 100 {
		t.Errorf("requests %d, lost %d, errors %d, reopened %d; want 1000, 0, 0, 98", rep.Requests, rep.Lost, rep.Errors, rep.Reopened)
	}
	if n := tg.connections(); n < 99 || n > 102 {
		t.Errorf("%d connections accepted, want 100", n)
	}
}

func TestTargetsAreDealtRound(t *testing.T) {
	a, b := startTarget(t, nil), startUnixTarget(t, nil)
	rep := mustRun(t, Config{Targets: []string{a.addr, b.addr}, Conns: 5, Threads: 2, Requests: 1000})
	if a.connections() != 3 || b.connections() != 2 || a.count("get") == 0 || a.count("get")+b.count("get") != 1000 || rep.Requests != 1000 {
		t.Errorf("%d and %d connections, %d and %d gets; want 3, 2 and 1000 in all", a.connections(), b.connections(), a.count("get"), b.count("get"))
	}
}

// A preload that the target refuses ends with its first refusal, and says what it is.
func TestPreloadGivesUp(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		if c.n > 100 || strings.Contains(c.words[1], "counter") {
			return "SERVER_ERROR object too large for cache\r\n", nil
		}
		return c.reply, nil
	})
	cfg := Config{Targets: []string{tg.addr}, Values: keys.Fixed(77), Keys: keys.Config{Max: 99_999}}
	err := Preload(t.Context(), cfg)
	want := fmt.Sprintf(`preload of %s: key:100 (77 bytes) was answered "SERVER_ERROR object too large for cache"`, tg.addr)
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v; want %s", err, want)
	}
	if sets := tg.count("set"); sets > 1000 {
		t.Errorf("%d keys were written before the end", sets)
	}
	cfg.Keys.Max, cfg.Mix, cfg.Conns = 9, Mix{wire.Incr: 1}, 3
	if err := Preload(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "key:counter:0 (1 bytes)") {
		t.Errorf("counters: %v", err)
	}
}

// What failed of what was measured is told apart from all the rest.
func TestWhatFailedIsCounted(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		switch {
		case c.n%10 == 0:
			return "SERVER_ERROR no\r\n", nil
		case c.n == 55:
			return "", errHangUp
		}
		return c.reply, nil
	})
	cfg := Config{Targets: []string{tg.addr}, Conns: 1, Requests: 100, Reopen: true}
	rep := mustRun(t, cfg)
	if rep.Requests != 99 || rep.Served != 90 || rep.Failed != 10 || rep.Errors != 10 {
		t.Errorf("of %d requests %d served, %d failed, %d errors; want 99, 90, 10, 10", rep.Requests, rep.Served, rep.Failed, rep.Errors)
	}
	s := newShared(cfg.withDefaults())
	w := newWorker(s, 0, -1)
	w.add(0, -1, nil)
	f := flight{Request: wire.Request{Op: wire.Get, Keys: 1}}
	for _, w.phase = range []phase{warming, measuring, draining} {
		w.settle(&w.conns[0], &f, nil, &wire.Reply{Status: wire.Failed}, nil, 1)
		w.loss(wire.Get, 0, 1)
	}
	if rep := collect(s, []*worker{w}); rep.Errors != 6 || rep.Failed != 2 || rep.Served != 0 || rep.Requests != 1 {
		t.Errorf("in three phases %d errors, of %d requests %d served, %d failed; want 6, 1, 0, 2", rep.Errors, rep.Requests, rep.Served, rep.Failed)
	}
}

// Bytes count while measuring, and neither before nor after.
func TestBytesOfWhatIsMeasured(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	w := newWorker(newShared(Config{Targets: []string{"x:1"}, Conns: 1, Requests: 1}.withDefaults()), 0, -1)
	defer w.close()
	w.add(0, pair[0], nil)
	c := &w.conns[0]
	asked := int64(0)
	for _, w.phase = range []phase{warming, measuring, draining} {
		w.ask(c, 0, 0)
		if w.phase == measuring {
			asked = int64(len(c.out))
		}
		if !w.flush(c) {
			t.Fatal(w.fault.text)
		}
		if _, err := unix.Write(pair[1], []byte("END\r\n")); err != nil {
			t.Fatal(err)
		}
		if !w.read(c) || w.flying != 0 {
			t.Fatalf("%d in flight; %s", w.flying, w.fault.text)
		}
	}
	if w.in != 5 || w.out != asked {
		t.Errorf("%d bytes came and %d went, want 5 and %d", w.in, w.out, asked)
	}
}
