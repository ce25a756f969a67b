package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server"
	"magent/server/config"
	"magent/server/e2e/harness"
	"magent/server/succession"
)

// TestAPoolGrows has a pool of two memcacheds become one of three, in place, while clients read
// all that it holds and change some of it: they keep their connections, hardly any read misses,
// and none is of what was before a change that was answered. The nodes ask who comes, those that
// keys leave, too.
func TestAPoolGrows(t *testing.T) {
	keys := amount(2000, 5000, 100_000)
	cfg := config.Default()
	cfg.Loops = 2
	pool := config.DefaultPool()
	pool.Timeout, pool.ConnectTimeout = harness.Patience/4, harness.Patience/4
	pool.Access.AuthFile = users(t, "magent:secret")
	node := func() config.Node { return harness.Memcached(t, "-Y", pool.Access.AuthFile).Config() }
	pool.Copies = [][]config.Node{{node(), node()}}
	cfg.Pools = []config.Pool{pool}
	old := harness.Serve(t, cfg)
	fill := dial(t, old.Addr)
	for i := range keys {
		if got, err := fill.Do(fmt.Sprintf("set key:%d 0 0 1\r\n0\r\n", i), 1); err != nil || got != "STORED" {
			t.Fatal(got, err)
		}
	}
	crowd := &readers{keys: keys}
	for range 8 {
		c := dial(t, old.Addr)
		crowd.Go(func() { crowd.read(t, c) })
	}
	writer := dial(t, old.Addr)
	write := func(version int) {
		for i := 0; i < keys; i += 10 {
			if got, err := writer.Do(fmt.Sprintf("set key:%d 0 0 1\r\n%d\r\n", i, version), 1); err != nil || got != "STORED" {
				t.Fatal(got, err)
			}
		}
		crowd.least.Store(int64(version))
	}
	write(1)
	pool.Copies = [][]config.Node{append(pool.Copies[0], node())}
	cfg.Pools = []config.Pool{pool}
	s := inherits(t, old, cfg)
	write(2)
	moved := func() bool { return s.Snapshot().Moved > uint64(keys/3) }
	if !proctest.Within(4*harness.Patience, moved) {
		t.Error("keys do not move")
	}
	write(3)
	crowd.over.Store(true)
	crowd.Wait()
	reads, misses := crowd.reads.Load(), crowd.misses.Load()
	if stale := crowd.stale.Load(); stale > 0 || misses*100 > reads || reads == 0 {
		t.Errorf("of %d reads %d missed, and %d were of what was no more", reads, misses, stale)
	}
	t.Logf("%d reads, %d misses, %d keys moved", reads, misses, s.Snapshot().Moved)
}

// readers read keys at random. Every tenth is written, in versions.
type readers struct {
	sync.WaitGroup
	keys                 int
	least                atomic.Int64 // the version that all of these have, at least
	over                 atomic.Bool
	reads, misses, stale atomic.Int64
}

func (r *readers) read(t *testing.T, c *harness.Client) {
	for !r.over.Load() {
		i, least := rand.IntN(r.keys), r.least.Load()
		if err := c.Send(fmt.Appendf(nil, "get key:%d\r\n", i)); err != nil {
			t.Errorf("a client loses its connection: %v", err)
			return
		}
		got, err := c.Until("END\r\n")
		if err != nil {
			t.Errorf("a client is not answered: %v", err)
			return
		}
		lines := strings.Split(string(got), "\r\n")
		r.reads.Add(1)
		switch {
		case len(lines) < 3:
			r.misses.Add(1)
		case i%10 == 0 && lines[1] < fmt.Sprint(least):
			r.stale.Add(1)
		}
	}
}

// inherits starts a server of cfg that takes the place of old, as another process does, and
// returns it when it has.
func inherits(t *testing.T, old *harness.Proxied, cfg config.Config) *server.Server {
	t.Helper()
	cfg.Listen = []config.Listen{{Network: "tcp", Address: old.Addr}, {Network: "unix", Address: old.Unix}}
	ours, f, err := succession.Pair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := succession.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	var given succession.Sockets
	for _, ln := range old.Server.Listeners() {
		f, err := succession.File(ln)
		if err != nil {
			t.Fatal(err)
		}
		same, err := succession.Listen(f)
		if err != nil {
			t.Fatal(err)
		}
		succession.Keep(ln, true)
		given = append(given, same)
	}
	s, err := server.NewOn(&given, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	must(old.Server.Instruct(ours))
	must(s.Succeed(theirs, time.Now().Add(harness.Patience)))
	must(s.Start())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	adopted := make(chan error, 1)
	go func() { adopted <- s.Adopt(theirs) }()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	must(old.Server.Yield(ctx, ours))
	ours.Close()
	must(<-adopted)
	return s
}
