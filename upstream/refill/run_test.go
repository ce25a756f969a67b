package refill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/upstream/memnode"
	"magent/upstream/repair"
)

// crowd is n keys of mixed sizes, flags and TTLs, some of them odd.
type crowd struct {
	keys []Key
	form []string // as a line names them, with b behind those in base64
}

// load stores a crowd. Every key's value is told by its number and a turn.
func load(t testing.TB, c *client, n int) *crowd {
	rng := rand.New(rand.NewPCG(1, 2))
	crowd := &crowd{}
	var lines []byte
	for i := range n {
		name, coded := fmt.Appendf(nil, "key:%06d", i), ""
		if i%50 == 0 {
			name = fmt.Appendf(nil, "odd \r\n\x00%06d", i)
			coded = " b"
		}
		size := rng.IntN(200)
		switch {
		case i%1000 == 999:
			size = 500 << 10
		case i%20 == 19:
			size = rng.IntN(20_000)
		}
		ttl := int64(0)
		switch i % 4 {
		case 1:
			ttl = 600 + int64(i)
		case 2:
			ttl = 2592000
		case 3:
			ttl = time.Now().Unix() + 86400*60
		}
		crowd.keys = append(crowd.keys, Key{Name: name, Size: size + 60})
		crowd.form = append(crowd.form, written(name, coded != ""))
		lines = fmt.Appendf(lines, "ms %s %d%s F%d T%d\r\n%s\r\n", crowd.form[i], size, coded, rng.Uint32(), ttl, valueOf(i, size))
	}
	c.pour(lines, n)
	return crowd
}

func valueOf(i, size int) []byte {
	unit := fmt.Appendf(nil, "%d;", i)
	return bytes.Repeat(unit, size/len(unit)+1)[:size]
}

func (c *crowd) all() func() (Key, bool) { return each(c.keys) }

// compare counts the keys that both have, and finds fault with every one that is
// unlike, or that one alone has. A writer may have been slow to tell the second node.
func (c *crowd) compare(t *testing.T, source, target *client, slow time.Duration) (both int) {
	t.Helper()
	var apart []int // seem to expire at other times
	for i := range c.form {
		for try := 0; ; try++ {
			is, value := target.do(c.ask(i, "s v f t"))
			want, wanted := source.do(c.ask(i, "s v f t"))
			a, b := repair.ParseReply(is), repair.ParseReply(want)
			if a.Code == repair.CodeEN && b.Code == repair.CodeEN {
				break
			}
			if a.Code == b.Code && a.Flags == b.Flags && bytes.Equal(value, wanted) && (a.TTL < 0) == (b.TTL < 0) {
				if both++; a.TTL != b.TTL {
					apart = append(apart, i)
				}
				break
			}
			if try == 3 { // one may have just been written to
				t.Errorf("key %q: source %q %.40q, target %q %.40q", c.keys[i].Name, want, wanted, is, value)
				break
			}
		}
	}
	first, second := c.expiries(apart, source, target)
	for n, i := range apart {
		if d := second[n].Sub(first[n]); d.Abs() > sameExpiry+slow {
			t.Errorf("key %q expires %v later at the target", c.keys[i].Name, d)
		}
	}
	return both
}

// ask is the request for what flags say of key i.
func (c *crowd) ask(i int, flags string) []byte {
	coded := ""
	if c.form[i] != string(c.keys[i].Name) {
		coded = " b"
	}
	return fmt.Appendf(nil, "mg %s%s %s\r\n", c.form[i], coded, flags)
}

// sameExpiry is by how much the times may differ at which an item expires at two nodes: a
// second, and that by which a tick of their clocks may have been put off since it was
// copied, or the copy was late.
const sameExpiry = 1750 * time.Millisecond

// expiries is when keys expire at both nodes. A node counts whole seconds, and goes on to the
// next one late if the machine is busy; then it says that more is left than is. So it is
// asked over and over for more than two seconds, and the least is believed.
func (c *crowd) expiries(keys []int, source, target *client) (first, second []time.Time) {
	first, second = make([]time.Time, len(keys)), make([]time.Time, len(keys))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2200 * time.Millisecond); len(keys) > 0 && time.Now().Before(end); <-tick.C {
		for n, i := range keys {
			for client, times := range map[*client][]time.Time{source: first, target: second} {
				line, _ := client.do(c.ask(i, "t"))
				at := time.Now().Add(time.Duration(repair.ParseReply(line).TTL) * time.Second)
				if times[n].IsZero() || at.Before(times[n]) {
					times[n] = at
				}
			}
		}
	}
	return first, second
}

func written(name []byte, coded bool) string {
	c := NewCopier(Limits{Keys: 1})
	c.Add(Key{Name: name}, epoch)
	_, form, _ := strings.Cut(string(c.Requests(Source, nil)), " ")
	form, _, _ = strings.Cut(form, " ")
	if coded == (form == string(name)) {
		panic("not written as expected: " + form)
	}
	return form
}

func TestRunCopiesExactly(t *testing.T) {
	source, target := memcached(t, "-I", "4m"), memcached(t, "-I", "4m")
	from, to := source.client(t), target.client(t)
	crowd := load(t, from, 20_000)
	large := bytes.Repeat([]byte("large"), 600<<10) // 3 MB
	if line, _ := from.do(append(fmt.Appendf(nil, "ms large %d\r\n", len(large)), append(large, "\r\n"...)...)); string(line) != "HD" {
		t.Fatal(string(line))
	}
	crowd.keys, crowd.form = append(crowd.keys, Key{Name: []byte("large")}), append(crowd.form, "large")
	var last Counts
	threads := 0
	counts, err := Run(t.Context(), Config{Source: source.dial, Target: target.dial, Keys: crowd.all(), Progress: func(c Counts, factor float64) {
		if last = c; factor != 1 {
			t.Errorf("factor %v", factor)
		}
	}, Thread: func() { threads++ }})
	if err != nil {
		t.Fatal(err)
	}
	if threads != 1 {
		t.Errorf("%d threads", threads)
	}
	if counts.Ended[Copied] != 20_001 || counts.Keys() != 20_001 || last != counts {
		t.Errorf("%+v, last told %+v", counts, last)
	}
	if n := crowd.compare(t, from, to, 0); n != 20_001 {
		t.Errorf("%d keys of 20001 are on both", n)
	}
	if counts, err = Run(t.Context(), Config{Source: source.dial, Target: target.dial, Keys: crowd.all()}); err != nil || counts.Ended[Present] != 20_001 {
		t.Errorf("once more: %+v, %v", counts, err)
	}
}

// TestRunAmongWriters has somebody set, delete, touch and count while keys are copied,
// at the source first and then at the target, as every writer does.
func TestRunAmongWriters(t *testing.T) {
	source, target := memcached(t), memcached(t)
	from, to := source.client(t), target.client(t)
	crowd := load(t, from, 20_000)
	deleted := make(map[int]bool)
	stop, stopped := make(chan struct{}), make(chan int)
	w := &writer{source: source.client(t), target: target.client(t), rng: rand.New(rand.NewPCG(3, 4))}
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				w.write(crowd, deleted)
			}
		}
	}()
	cfg := Config{Source: source.dial, Target: target.dial, Keys: crowd.all(), Rate: Rate{Keys: 10_000}}
	counts, err := Run(t.Context(), cfg)
	close(stop)
	if writes := <-stopped; writes < 100 {
		t.Errorf("only %d writes", writes)
	}
	if err != nil {
		t.Fatal(err)
	}
	both := crowd.compare(t, from, to, w.slowest)
	for i := range deleted {
		if got := to.say("mg %s", crowd.form[i]); got != "EN" {
			t.Errorf("deleted, and there: %s, %s", crowd.form[i], got)
		}
	}
	t.Logf("%+v, %d on both", counts, both)
	if len(deleted) == 0 || both < 10_000 || counts.Ended[Present] == 0 {
		t.Errorf("%d deleted, %d on both, %+v", len(deleted), both, counts)
	}
}

// writer is one client through a proxy: its writes reach the source first.
type writer struct {
	source, target *client
	rng            *rand.Rand
	slowest        time.Duration
}

func (w *writer) write(crowd *crowd, deleted map[int]bool) {
	began := time.Now()
	defer func() { w.slowest = max(w.slowest, time.Since(began)) }()
	i := w.rng.IntN(len(crowd.keys))
	// A repair gives a TTL of more than 30 days by the clock: not within a second.
	if form := crowd.form[i]; form == string(crowd.keys[i].Name) && !deleted[i] && i%4 != 3 {
		switch w.rng.IntN(10) {
		default:
			value := valueOf(i, w.rng.IntN(500))
			for _, c := range []*client{w.source, w.target} {
				c.say("ms %s %d F%d T%d\r\n%s", form, len(value), i, 1000+i, value)
			}
		case 1:
			deleted[i] = true
			for _, c := range []*client{w.source, w.target} {
				c.say("md %s", form)
			}
		case 2:
			for _, c := range []*client{w.source, w.target} {
				c.say("mg %s T%d", form, 5000+i)
			}
		case 3:
			w.source.say("ms %s 1 MA\r\nx", form)
			w.repair(form)
		case 4:
			w.source.say("ms %s 1 T77777\r\n1", form)
			w.source.say("incr %s %d", form, i)
			w.repair(form)
		}
	}
}

// repair gives the target what a relative write has made at the source.
func (w *writer) repair(form string) {
	var r repair.Repair
	r.Reset([]byte(form), repair.Options{})
	now := time.Now().Unix()
	request, step := r.Start(nil, repair.Ask(), now)
	for value := []byte(nil); step.Outcome == repair.Running; {
		c := []*client{Source: w.source, Target: w.target}[step.To]
		if step.Value == repair.LeadValue {
			request = append(append(request, value...), "\r\n"...)
		}
		var line []byte
		line, value = c.do(request)
		request, step = r.Answer(nil, line, now)
	}
}

// small loads n small keys and gives their names.
func small(t *testing.T, p place, n int) []string {
	t.Helper()
	var lines []byte
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("k%05d", i))
		lines = fmt.Appendf(lines, "ms %s 1000 T1000\r\n%s\r\n", names[i], valueOf(i, 1000))
	}
	p.client(t).pour(lines, n)
	return names
}

// TestRunEndsWithItsNodes: whatever befalls a node midway, Run says which, and how far
// it was; what the target has was not deleted at the source, or is in doubt; and a
// second Run makes it whole.
func TestRunEndsWithItsNodes(t *testing.T) {
	const n = 3 * defaultKeys // a key is read twice, and so many are under way at once: some have ended when the source has been asked 5200 times
	for _, c := range []struct {
		name           string
		source, target string // faults
		side           Side
		says           string
	}{
		{"the source dies", "(on mg (after 5200 kill))", "", Source, ""},
		{"the source resets mid-value", "(on mg (after 5200 times 1 truncate 300))", "", Source, ""},
		{"the source freezes", "(on mg (after 5200 times 1 freeze 1h))", "", Source, "no answer within 1s"},
		{"the source answers for another key", "(on mg (after 5200 times 1 wrongkey))", "", Source, "out of step"},
		{"the target dies", "", "(on ms (after 3000 kill))", Target, ""},
		{"the target resets", "", "(on ms (after 3000 times 1 reset))", Target, ""},
		{"the target freezes", "", "(on ms (after 3000 times 1 freeze 1h))", Target, "no answer within 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			source, from := node(t, memnode.Config{})
			target, to := node(t, memnode.Config{})
			names := small(t, from, n)
			if err := errors.Join(source.SetFault(c.source), target.SetFault(c.target)); err != nil {
				t.Fatal(err)
			}
			cfg := Config{Source: from.dial, Target: to.dial, Keys: named(names...), Silence: time.Second}
			counts, err := Run(t.Context(), cfg)
			var e *Error
			if !errors.As(err, &e) || e.Side != c.side || e.Err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want the %s and %q", err, sides[c.side], c.says)
			}
			t.Log(err)
			if counts.Ended[Copied] == 0 || counts.Keys() >= n || len(e.Rest) == 0 || e.Counts != counts {
				t.Errorf("%+v, %d left", counts, len(e.Rest))
			}
			if c.side == Source && len(e.Doubt) > 0 {
				t.Errorf("%d keys are in doubt though the target lives", len(e.Doubt))
			}
			if err := errors.Join(source.SetFault(""), target.SetFault("")); err != nil {
				t.Fatal(err)
			}
			if c.source == "" { // what is in doubt is a subset of what is not done
				leftAlone(t, target, e)
			}
		})
	}
}

// leftAlone looks whether everything at a target is done, or in doubt.
func leftAlone(t *testing.T, target *memnode.Node, e *Error) {
	t.Helper()
	doubt := make(map[string]bool)
	for _, k := range e.Doubt {
		doubt[string(k.Name)] = true
	}
	for _, k := range e.Rest {
		if _, there := target.Get(string(k.Name)); there && !doubt[string(k.Name)] {
			t.Errorf("%s is at the target, not verified and not in doubt", k.Name)
		}
	}
}

// TestRunTakesBack: what was added and cannot be verified, as the source is lost, is
// taken back.
func TestRunTakesBack(t *testing.T) {
	source, from := node(t, memnode.Config{})
	target, to := node(t, memnode.Config{})
	names := small(t, from, 100)
	// The source dies at the second look at a key.
	if err := source.SetFault("(on mg key \"k00050\" (after 1 kill))"); err != nil {
		t.Fatal(err)
	}
	counts, err := Run(t.Context(), Config{Source: from.dial, Target: to.dial, Keys: named(names...)})
	var e *Error
	if !errors.As(err, &e) || e.Side != Source || len(e.Rest) == 0 || len(e.Doubt) != 0 {
		t.Fatal(err)
	}
	if n := target.Len(); n != int(counts.Ended[Copied]) {
		t.Errorf("the target has %d keys, %+v", n, counts)
	}
	if _, there := target.Get("k00050"); there || target.Stats().Commands["md"] == 0 {
		t.Error("what was added is not taken back")
	}
}

// TestSourceLeadsNoMore: when another leads the keys, what the source says is of the past,
// whether it answers or stands still. What it has not verified by then is taken back, and
// nobody waits for it.
func TestSourceLeadsNoMore(t *testing.T) {
	gone := errors.New("another leads")
	for name, fault := range map[string]string{
		"it answers late": "(on mg key \"k00050\" (after 1 times 1 stall 300ms))",
		"it stands still": "(on mg key \"k00050\" (after 1 times 1 freeze 1h))",
	} {
		t.Run(name, func(t *testing.T) {
			source, from := node(t, memnode.Config{})
			target, to := node(t, memnode.Config{})
			names := small(t, from, 2000)
			if err := source.SetFault(fault); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			moved := func() bool { return source.Stats().Faults > 0 }
			began := time.Now()
			counts, err := Run(ctx, Config{
				Source: from.dial, Target: to.dial, Keys: named(names...), Limits: Limits{Keys: 100}, Silence: time.Hour,
				Suffers: func() bool {
					if moved() {
						cancel()
					}
					return false
				},
				Lead: func() error {
					if moved() {
						return gone
					}
					return nil
				},
			})
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, gone) || e.Side != Source || len(e.Doubt) > 0 {
				t.Fatal(err)
			}
			if n := target.Len(); n != int(counts.Ended[Copied]) || n == len(names) {
				t.Errorf("the target has %d keys, %+v", n, counts)
			}
			if _, there := target.Get("k00050"); there {
				t.Error("what was added is not taken back")
			}
			if took := time.Since(began); took > patience {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestRunHurries: who gives up does not wait for a node that stands still.
func TestRunHurries(t *testing.T) {
	for side := range 2 {
		source, from := node(t, memnode.Config{})
		target, to := node(t, memnode.Config{})
		names := small(t, from, 2000)
		still := []*memnode.Node{source, target}[side]
		if err := still.SetFault("(on " + []string{"mg", "ms"}[side] + " (after 500 times 1 freeze 1h))"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		_, err := Run(ctx, Config{Source: from.dial, Target: to.dial, Keys: named(names...), Silence: time.Hour, Limits: Limits{Keys: 100},
			Suffers: func() bool {
				if still.Stats().Faults > 0 {
					cancel()
				}
				return false
			}})
		var e *Error
		if !errors.As(err, &e) || e.Side != Side(side) || !strings.Contains(err.Error(), "no answer within 1s") {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > patience {
			t.Errorf("it took %v", took)
		}
	}
}

// TestSourceWaitsForTarget: while the target stands still, no more is read than has room, and
// it is the target that is said to be silent.
func TestSourceWaitsForTarget(t *testing.T) {
	source, from := node(t, memnode.Config{})
	target, to := node(t, memnode.Config{})
	const size, n = 500_000, 100
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("k", i))
		from.client(t).say("ms k%d %d\r\n%s", i, size, valueOf(i, size))
	}
	if err := target.SetFault("(on ms (times 1 freeze 1h))"); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Source: from.dial, Target: to.dial, Keys: named(names...), Silence: 300 * time.Millisecond}
	counts, err := Run(t.Context(), cfg)
	var e *Error
	if !errors.As(err, &e) || e.Side != Target || !strings.Contains(err.Error(), "no answer within 300ms") {
		t.Fatal(err)
	}
	if counts.Bytes == 0 || counts.Bytes >= size*n/2 {
		t.Errorf("%d bytes were read", counts.Bytes)
	}
	if err := target.SetFault(""); err != nil {
		t.Fatal(err)
	}
	cfg.Silence, cfg.Keys = 0, named(names...)
	if counts, err = Run(t.Context(), cfg); err != nil || counts.Keys() != n || target.Len() != source.Len() {
		t.Errorf("%+v, %v: the target has %d keys", counts, err, target.Len())
	}
}

// TestUnreadSourceIsNotSilent: a source that is left unread, as much waits for the target,
// may have answered long ago. Its silence counts from when it is read again.
func TestUnreadSourceIsNotSilent(t *testing.T) {
	r := &run{copier: NewCopier(Limits{}), ctx: t.Context(), now: epoch, silence: time.Second, limit: 100}
	for side := range r.links {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.links[side] = link{fd: pair[0], heard: epoch}
		t.Cleanup(func() { r.links[side].close(); unix.Close(pair[1]) })
	}
	for _, name := range []string{"a", "b"} { // of which the source owes the second
		r.copier.Add(Key{Name: []byte(name)}, r.now)
	}
	r.copier.Requests(Source, nil)
	if err := r.copier.Answer(Source, []byte("VA 200 f0 t-1 c7 h0 ka\r\n"+strings.Repeat("x", 200)+"\r\n"), r.now); err != nil {
		t.Fatal(err)
	}
	pass := func(d time.Duration, read bool) (lost bool) {
		t.Helper()
		if fd := r.interests()[Source].Fd; (fd >= 0) != read {
			t.Fatalf("the source is polled for what it has: %v, want %v", fd >= 0, read)
		}
		r.now = r.now.Add(d)
		r.serve(Source)
		return r.links[Source].lost
	}
	for range 10 {
		if pass(900*time.Millisecond, false) {
			t.Fatal("it is taken for dead while nobody reads it")
		}
	}
	r.copier.Requests(Target, nil)
	if pass(900*time.Millisecond, true) {
		t.Error("it is taken for dead for the time in which nobody read it")
	}
	if !pass(200*time.Millisecond, true) || r.failed.Side != Source {
		t.Errorf("it is silent, and not taken for dead: %v", r.failed)
	}
}

// TestRunGoesOn copies the rest after a failure.
func TestRunGoesOn(t *testing.T) {
	_, from := node(t, memnode.Config{})
	target, to := node(t, memnode.Config{Fault: "(on ms (after 1000 times 1 reset))"})
	names := small(t, from, 3000)
	cfg := Config{Source: from.dial, Target: to.dial, Keys: named(names...)}
	first, err := Run(t.Context(), cfg)
	if err == nil {
		t.Fatal("the target's reset was not noticed")
	}
	cfg.Keys = named(names...)
	second, err := Run(t.Context(), cfg)
	if err != nil || second.Keys() != 3000 || second.Ended[Present] < first.Ended[Copied] || target.Len() != 3000 {
		t.Errorf("%+v, then %+v, %v: the target has %d keys", first, second, err, target.Len())
	}
}

// TestRunWaitsOutAPause: a target that stands still for a moment does not make TTLs
// older than they are.
func TestRunWaitsOutAPause(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	source, from := node(t, memnode.Config{Clock: clock})
	target, to := node(t, memnode.Config{Clock: clock})
	names := small(t, from, 200)
	if err := target.SetFault("(on ms (after 100 times 1 freeze 700ms))"); err != nil {
		t.Fatal(err)
	}
	passed := make(chan struct{})
	go func() { // the nodes' clocks go on by 5 s while the target is frozen
		defer close(passed)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(patience); target.Stats().Faults == 0 && time.Now().Before(end); <-tick.C {
		}
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(5 * time.Second)
	}()
	counts, err := Run(t.Context(), Config{Source: from.dial, Target: to.dial, Keys: named(names...)})
	<-passed
	if err != nil || counts.Ended[Copied] != 200 {
		t.Fatalf("%+v, %v", counts, err)
	}
	if counts.Retried == 0 {
		t.Error("nothing was read again")
	}
	for _, name := range names {
		a, _ := source.Get(name)
		b, _ := target.Get(name)
		if d := b.Exptime.Sub(a.Exptime).Abs(); d > time.Second {
			t.Errorf("%s expires %v apart", name, d)
		}
	}
}

// TestRunSkipsWhatDoesNotFit: a target that takes smaller items only.
func TestRunSkipsWhatDoesNotFit(t *testing.T) {
	source, target := memcached(t, "-I", "4m"), memcached(t, "-I", "1m")
	from, to := source.client(t), target.client(t)
	var names []string
	for i, size := range []int{10, 1_000_000, 1_100_000, 2_000_000, 3_000_000, 10, 20} {
		names = append(names, fmt.Sprint("k", i))
		from.say("ms k%d %d\r\n%s", i, size, valueOf(i, size))
	}
	counts, err := Run(t.Context(), Config{Source: source.dial, Target: target.dial, Keys: named(names...)})
	if err != nil || counts.Ended[Failed] != 3 || counts.Ended[Copied] != 4 {
		t.Errorf("%+v, %v", counts, err)
	}
	if got := to.say("mg k6 v"); got != "VA 20"+string(valueOf(6, 20)) {
		t.Error(got)
	}
}

// TestRunKeepsItsPace looks at the clock: 2000 keys a second, and less when live
// traffic suffers.
func TestRunKeepsItsPace(t *testing.T) {
	_, from := node(t, memnode.Config{})
	_, to := node(t, memnode.Config{})
	names := small(t, from, 1000)
	began, factor := time.Now(), 1.0
	counts, err := Run(t.Context(), Config{
		Source: from.dial, Target: to.dial, Keys: named(names...), Rate: Rate{Keys: 2000},
		Suffers:  func() bool { return true },
		Progress: func(_ Counts, f float64) { factor = f },
	})
	if took := time.Since(began); err != nil || counts.Ended[Copied] != 1000 || took < 400*time.Millisecond || factor >= 1 {
		t.Errorf("%+v, %v, in %v, factor %v", counts, err, took, factor)
	}
}

// TestRunIsGivenUp ends the context midway: what is under way is brought to its end.
func TestRunIsGivenUp(t *testing.T) {
	_, from := node(t, memnode.Config{})
	target, to := node(t, memnode.Config{})
	names := small(t, from, 2000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, given := named(names...), 0
	keys := func() (Key, bool) {
		if given++; given > 1000 {
			cancel()
		}
		return next()
	}
	counts, err := Run(ctx, Config{Source: from.dial, Target: to.dial, Keys: keys})
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, context.Canceled) || len(e.Rest) > 0 {
		t.Fatalf("%v", err)
	}
	if int(counts.Ended[Copied]) != target.Len() || counts.Keys() < 900 || counts.Keys() > 1001 {
		t.Errorf("%+v, and the target has %d", counts, target.Len())
	}
}

func TestRunCannotDial(t *testing.T) {
	_, from := node(t, memnode.Config{})
	gone := errors.New("nobody there")
	_, err := Run(t.Context(), Config{Source: from.dial, Target: func(context.Context) (net.Conn, error) { return nil, gone }})
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "target") {
		t.Error(err)
	}
	pipe := func(context.Context) (net.Conn, error) { c, _ := net.Pipe(); return c, nil }
	if _, err = Run(t.Context(), Config{Source: from.dial, Target: pipe}); err == nil || !strings.Contains(err.Error(), "target: what was dialed is no socket") {
		t.Error(err)
	}
}

// TestAnswersGather while many keys are under way and there is room for no more: not where few
// large ones take it, nor where others may begin.
func TestAnswersGather(t *testing.T) {
	for _, c := range []struct {
		keys, size int
		rate       Rate
		rest       time.Duration
	}{
		{keys: 2 * defaultKeys, size: 100, rest: gather},
		{keys: 2 * defaultKeys, size: 100 << 10},
		{keys: defaultKeys - 1, size: 100},
		{keys: 2 * defaultKeys, size: 100, rate: Rate{Keys: 100}, rest: quantum},
	} {
		r := &run{ctx: t.Context(), copier: NewCopier(Limits{}), pace: NewPace(c.rate, 1, epoch), now: epoch}
		left := c.keys
		r.cfg.Keys = func() (Key, bool) {
			left--
			return Key{Name: strconv.AppendInt(nil, int64(left), 10), Size: c.size}, left >= 0
		}
		if rest, _ := r.add(); rest != c.rest {
			t.Errorf("%+v: answers gather for %v", c, rest)
		}
	}
}
