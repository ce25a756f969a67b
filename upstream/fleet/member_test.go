package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/upstream/dial"
	"magent/upstream/probe"
)

// patience bounds every wait in the tests; it is only ever reached by a failure.
const patience = 20 * time.Second

// memcached is one of the system's, on a port of its own.
type memcached struct {
	addr string
	cmd  *exec.Cmd
}

func startMemcached(t *testing.T) *memcached {
	t.Helper()
	m := &memcached{}
	m.run(t, "-1")
	t.Cleanup(m.kill)
	return m
}

// run starts a process on port, and returns when it takes connections.
func (m *memcached) run(t *testing.T, port string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fleet")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o777) // memcached may become nobody
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-U", "0", "-l", "127.0.0.1", "-p", port}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	file := filepath.Join(dir, "port")
	m.cmd = exec.Command("memcached", args...)
	m.cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+file)
	m.cmd.Stderr = t.Output()
	if err := m.cmd.Start(); err != nil {
		t.Fatalf("these tests need memcached 1.6.18, Debian's package memcached: %v", err)
	}
	eventually(t, "memcached takes connections", func() bool {
		text, _ := os.ReadFile(file)
		_, port, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
		m.addr = net.JoinHostPort("127.0.0.1", port)
		c, err := net.Dial("tcp", m.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (m *memcached) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

func (m *memcached) restart(t *testing.T) {
	t.Helper()
	m.kill()
	_, port, _ := net.SplitHostPort(m.addr)
	m.run(t, port)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatalf("it never happened that %s", what)
}

func target(addr string) probe.Target {
	return probe.Target{Target: dial.Target{Network: "tcp", Address: addr, Connect: patience}, Timeout: patience}
}

func prober(t *testing.T, addr string) *probe.Prober {
	t.Helper()
	p := probe.New(target(addr), "", false)
	t.Cleanup(p.Forget)
	return p
}

// do sends one command, whose answer has one line, and returns that.
func do(t *testing.T, addr, command string) (answer string) {
	t.Helper()
	p := probe.New(target(addr), "", false)
	defer p.Forget()
	err := p.Ask(context.Background(), command, command+"\r\n", func(line []byte) (last, ok bool) {
		answer = string(line)
		return true, true
	})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// look is Look, which must succeed.
func look(t *testing.T, addr string) Mark {
	t.Helper()
	p := probe.New(target(addr), "", false)
	defer p.Forget()
	m, err := Look(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// quick is for tests that wait for a poll, or for a lease to end.
var quick = Times{TTL: 3 * time.Second, Poll: 20 * time.Millisecond, Lead: time.Second}

// magent is a Member that runs.
type magent struct {
	*Member
	begun  chan uint64 // tells the life whose refill begins
	finish chan error  // ends it
	stop   context.CancelFunc
	life   uint64
	at     time.Time
	err    error
	over   chan struct{}
}

func startMagent(t *testing.T, node string, sources ...string) *magent {
	t.Helper()
	m := &magent{begun: make(chan uint64, 16), finish: make(chan error), over: make(chan struct{})}
	cfg := Config{ID: NewID(), Target: target(node), Times: quick, Refill: func(ctx context.Context, life uint64) error {
		m.begun <- life
		select {
		case err := <-m.finish:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	for _, s := range sources {
		cfg.Sources = append(cfg.Sources, target(s))
	}
	m.Member = NewMember(cfg)
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		m.life, m.at, m.err = m.Run(ctx)
		close(m.over)
	}()
	t.Cleanup(func() { stop(); <-m.over })
	return m
}

func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
	return v
}

// ends demands that m ends, and has found life warm.
func (m *magent) ends(t *testing.T, life uint64) {
	t.Helper()
	within(t, "it is warm", m.over)
	if m.err != nil || m.life != life {
		t.Fatalf("ends with life %x, %v; want %x", m.life, m.err, life)
	}
}

// one demands that exactly one of a and b refills.
func one(t *testing.T, a, b *magent) (holder, other *magent, life uint64) {
	t.Helper()
	select {
	case life = <-a.begun:
		holder, other = a, b
	case life = <-b.begun:
		holder, other = b, a
	case <-time.After(patience):
		t.Fatal("nobody refills")
	}
	return holder, other, life
}

func (m *magent) idle(t *testing.T) {
	t.Helper()
	if len(m.begun) > 0 {
		t.Error("two refill")
	}
}

func TestOneRefillsAndTheOthersHear(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	holder, other, life := one(t, startMagent(t, node.addr, source.addr), startMagent(t, node.addr, source.addr))
	key := leaseKey(node.addr, life)
	if got := do(t, source.addr, "mg "+key+" t"); got != "HD t3" && got != "HD t2" {
		t.Errorf("the lease is %q", got)
	}
	if got := do(t, node.addr, "mg "+markerKey+" t"); got != "HD t-1" {
		t.Errorf("the mark of the beginning is %q", got)
	}
	eventually(t, "the other asks", func() bool { return do(t, source.addr, "mg "+key+" h") == "HD h1" })
	holder.finish <- nil
	holder.ends(t, life)
	other.ends(t, life)
	other.idle(t)
	if got := do(t, source.addr, "mg "+key); got != "EN" {
		t.Errorf("the lease is left: %q", got)
	}
	late := startMagent(t, node.addr, source.addr)
	late.ends(t, life)
	late.idle(t)
	for who, m := range map[string]*magent{"the holder": holder, "the other": other, "one that comes later": late} {
		if want := (Mark{life, Warm, m.at}); look(t, node.addr) != want {
			t.Errorf("%s ends with %v; marked %v", who, want, look(t, node.addr))
		}
	}
}

func TestHolderLeavesOrFails(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	holder, other, life := one(t, startMagent(t, node.addr, source.addr), startMagent(t, node.addr, source.addr))
	holder.stop()
	within(t, "the holder ends", holder.over)
	if !errors.Is(holder.err, context.Canceled) {
		t.Errorf("ends with %v", holder.err)
	}
	if got := within(t, "the other takes over", other.begun); got != life {
		t.Errorf("refills life %x, want %x", got, life)
	}
	other.finish <- errors.New("the source has died")
	within(t, "it tries again", other.begun)
	other.finish <- nil
	other.ends(t, life)
}

// A lease whose holder has died is one that nobody renews.
func TestHolderDies(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	life := look(t, node.addr).Life
	r, err := lease(context.Background(), prober(t, source.addr), leaseKey(node.addr, life), "the dead", 2*time.Second, " ME")
	if !r.Stored || r.Holder != "the dead" || r.CAS == 0 || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	began := time.Now()
	m := startMagent(t, node.addr, source.addr)
	within(t, "it takes over", m.begun)
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("took a lease that was another's for %v", took)
	}
	m.finish <- nil
	m.ends(t, life)
}

func TestLeaseIsTaken(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	m := startMagent(t, node.addr, source.addr)
	life := within(t, "it refills", m.begun)
	key := leaseKey(node.addr, life)
	if got := do(t, source.addr, "ms "+key+" 2 T2\r\nme"); got != "HD" {
		t.Fatal(got)
	}
	within(t, "it begins again when the other lets go", m.begun)
	if got := do(t, source.addr, "mg "+key+" v"); got != fmt.Sprintf("VA %d", len(m.cfg.ID)) {
		t.Errorf("the lease is %q", got)
	}
}

// What was refilled and flushed, or lost by a restart, is refilled again.
func TestContentsAreLost(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	m := startMagent(t, node.addr, source.addr)
	life := within(t, "it refills", m.begun)
	if got := do(t, node.addr, "flush_all"); got != "OK" {
		t.Fatal(got)
	}
	m.finish <- nil
	if again := within(t, "it refills what was flushed", m.begun); again != life {
		t.Errorf("life %x became %x", life, again)
	}
	node.restart(t)
	m.finish <- nil
	next := within(t, "it refills the next life", m.begun)
	if next == life {
		t.Error("the life is the same")
	}
	old := fmt.Sprintf(warmValue, life, 7, "another/7/9") // is nothing
	put(t, node.addr, markerKey, old)
	m.finish <- nil
	if again := within(t, "its mark is gone", m.begun); again != next {
		t.Errorf("life %x became %x", next, again)
	}
	m.finish <- nil
	m.ends(t, next)
}

func TestNextSource(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	dead := startMemcached(t)
	dead.kill()
	m := startMagent(t, node.addr, dead.addr, source.addr)
	life := within(t, "it refills", m.begun)
	if got := do(t, source.addr, "mg "+leaseKey(node.addr, life)); got != "HD" {
		t.Errorf("the lease at the next source is %q", got)
	}
	m.finish <- nil
	m.ends(t, life)
}

// A source that stores no lease, as it is full, is like one that does not answer. Where no
// other is left nobody refills, and it is said why.
func TestSourceStoresNoLease(t *testing.T) {
	t.Parallel()
	const full = `(on ms (reply "SERVER_ERROR out of memory storing object"))`
	node, second := startNode(t, ""), startNode(t, "")
	m := startMagent(t, node, startNode(t, full), second)
	life := within(t, "it refills", m.begun)
	if got := do(t, second, "mg "+leaseKey(node, life)); got != "HD" {
		t.Errorf("the lease at the next source is %q", got)
	}
	m.finish <- nil
	m.ends(t, life)

	node = startNode(t, "")
	heard, tried := make(chan News, 64), false
	alone := NewMember(Config{ID: NewID(), Target: target(node), Sources: []probe.Target{target(startNode(t, full))}, Times: quick,
		Refill: func(context.Context, uint64) error { tried = true; return nil },
		Notify: func(n News) { heard <- n },
	})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { _, _, err := alone.Run(ctx); over <- err }()
	for {
		if n := within(t, "it says why", heard); n.Verdict != Wait {
			t.Errorf("without a lease: %+v", n)
		} else if strings.Contains(n.Trouble, "out of memory") {
			break
		}
	}
	stop()
	if err := within(t, "it ends", over); err != context.Canceled || tried {
		t.Errorf("it ends with %v; refilled: %v", err, tried)
	}
}

// An heir whose flush fails has it done the next time: what the dead one has left there is
// still the dead one's.
func TestHeirsFlushFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"(on flush_all (times 2 reset))", `(on flush_all (times 2 reply "SERVER_ERROR busy"))`} {
		node := startNode(t, fault)
		life := look(t, node).Life
		put(t, node, markerKey, fmt.Sprintf(begunValue, life, "the dead"))
		put(t, node, "k", "old")
		m := startMagent(t, node, startNode(t, ""))
		within(t, "it refills", m.begun)
		if got := do(t, node, "mg k"); got != "EN" {
			t.Errorf("%s: it refills what the dead one has left: %q", fault, got)
		}
		m.finish <- nil
		m.ends(t, life)
	}
}

// Faults of single answers lead to the same end.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ node, source string }{
		{node: `(on mg (times 2 close))`},
		{node: `(on ms (times 1 reset))`},
		{node: `(on stats (times 1 truncate 30))`},
		{node: `(on ms (times 1 reply "SERVER_ERROR out of memory storing object"))`},
		{node: `(on mg (times 1 reply "ERROR"))`},
		{node: `(on stats (after 2 times 1 restart))`},
		{source: `(on ms (times 1 reset))`},
		{source: `(on mg (times 1 truncate 5))`},
		{source: `(on ms (times 2 reply "SERVER_ERROR out of memory storing object"))`},
		{source: `(on md (reset))`},
		{source: `(on mg (times 1 restart))`},
	} {
		t.Run(c.node+c.source, func(t *testing.T) {
			t.Parallel()
			node := startNode(t, c.node)
			m := startMagent(t, node, startNode(t, c.source))
			for done := false; !done; {
				select {
				case <-m.begun:
				case m.finish <- nil:
				case <-m.over:
					done = true
				case <-time.After(patience):
					t.Fatal("it never ends")
				}
			}
			if got, want := look(t, node), (Mark{m.life, Warm, m.at}); m.err != nil || got != want {
				t.Errorf("ends with %v, %v; marked %v", m.err, want, got)
			}
		})
	}
}

func TestNews(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	var heard []News
	tries := 0
	m := NewMember(Config{ID: NewID(), Target: target(node.addr), Sources: []probe.Target{target(source.addr)}, Times: quick,
		Refill: func(context.Context, uint64) error {
			if tries++; tries == 1 {
				return errors.New("no room")
			}
			return nil
		},
		Notify: func(n News) { heard = append(heard, n) },
	})
	life, _, err := m.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if last := heard[len(heard)-1]; last != (News{Trust, life, m.cfg.ID, ""}) {
		t.Errorf("the last news is %+v", last)
	}
	for _, want := range []News{{Refill, life, m.cfg.ID, ""}, {Wait, life, m.cfg.ID, "no room"}} {
		if !slices.Contains(heard, want) {
			t.Errorf("no news of %+v: %+v", want, heard)
		}
	}
	if tries != 2 {
		t.Errorf("%d refills", tries)
	}
}
