package refill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

// tell sends lines to the memcached at addr, and returns its answers up to that to mn.
func tell(t testing.TB, addr string, lines string) string {
	t.Helper()
	n, err := dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	go io.WriteString(n.c, strings.ReplaceAll(lines+"mn\n", "\n", "\r\n"))
	var all strings.Builder
	for {
		line, err := n.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "MN\r\n" {
			return strings.ReplaceAll(all.String(), "\r\n", "\n")
		}
		all.WriteString(line)
	}
}

// filled is a memcached with these keys: key%d, of flags and TTLs of their own.
func filled(t testing.TB, count, size int) *proctest.Process {
	t.Helper()
	n := proctest.Memcached(t, process.MemcachedConfig{MemoryMB: 256})
	var lines strings.Builder
	for i := range count {
		ttl := int64(0)
		if i%2 > 0 {
			ttl = time.Now().Unix() + int64(1000*i) // a point in time, for some are beyond a month
		}
		fmt.Fprintf(&lines, "ms key%d %d F%d T%d q\n%s\n", i, size, i, ttl, bytes.Repeat([]byte{byte('a' + i%26)}, size))
	}
	if said := tell(t, n.Addr, lines.String()); said != "" {
		t.Fatal(said)
	}
	return n
}

// All that one holds is at the other then: keys, values, flags, and what is left of TTLs,
// those that are longer than memcached counts in seconds among them.
func TestCopy(t *testing.T) {
	const count = 5000
	from := filled(t, count, 300)
	to := proctest.Memcached(t, process.MemcachedConfig{MemoryMB: 256})
	if copied, err := Copy(t.Context(), from.Addr, to.Addr); copied != count || err != nil {
		t.Fatalf("%d copied, %v", copied, err)
	}
	all, err := list(t.Context(), to.Addr)
	if err != nil || all.len() != count || all.beginning("key") != count || all.beginning("key1") != 1111 {
		t.Errorf("%d keys, %v", all.len(), err)
	}
	var gets strings.Builder
	for i := range count {
		fmt.Fprintf(&gets, "mg key%d k v f t\n", i)
	}
	want := strings.Split(tell(t, from.Addr, gets.String()), "\n")
	got := strings.Split(tell(t, to.Addr, gets.String()), "\n")
	if len(want) != 2*count+1 || len(got) != len(want) {
		t.Fatalf("%d lines, and %d of the copy", len(want), len(got))
	}
	for i := range want {
		if !alike(want[i], got[i]) {
			t.Errorf("%s is copied as %s", want[i], got[i])
		}
	}
}

// alike says whether two lines are the same, but for a second or two of the TTL.
func alike(a, b string) bool {
	startA, ttlA, okA := strings.Cut(a, " t")
	startB, ttlB, okB := strings.Cut(b, " t")
	var secondsA, secondsB int
	fmt.Sscan(ttlA, &secondsA)
	fmt.Sscan(ttlB, &secondsB)
	return startA == startB && okA == okB && secondsA >= secondsB-2 && secondsA <= secondsB+2 && (secondsA < 0) == (secondsB < 0)
}

// Names with bytes that a list has in another form, values larger than a buffer, and a
// key that is gone when its turn comes.
func TestCopyOdd(t *testing.T) {
	from, to := filled(t, 3, 500_000), filled(t, 0, 0)
	tell(t, from.Addr, "ms a%b=é/+ 2 F4294967295\nhi\nms empty 0\n\n")
	if copied, err := Copy(t.Context(), from.Addr, to.Addr); copied != 5 || err != nil {
		t.Fatalf("%d copied, %v", copied, err)
	}
	if got := tell(t, to.Addr, "mg a%b=é/+ v f\nmg empty v\nmg key2 s\n"); got != "VA 2 f4294967295\nhi\nVA 0\n\nHD s500000\n" {
		t.Errorf("%.100q", got)
	}
	source, err := dial(t.Context(), from.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer source.close()
	target, err := dial(t.Context(), to.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer target.close()
	some := &names{bytes: []byte("gonekey1"), ends: []int{4, 8}}
	if err := source.ask(some); err != nil {
		t.Fatal(err)
	}
	if copied, err := target.take(source, some); copied != 1 || err != nil {
		t.Errorf("%d copied, %v", copied, err)
	}
	if err := target.settle(); err != nil {
		t.Error(err)
	}
}

// A node that has no room, none at all, and a caller that gives up.
func TestCopyBreaksOff(t *testing.T) {
	from := filled(t, 3, 500_000)
	narrow := proctest.Memcached(t, process.MemcachedConfig{Args: []string{"-I", "1k", "-o", "slab_chunk_max=512"}})
	if _, err := Copy(t.Context(), from.Addr, narrow.Addr); err == nil || !strings.Contains(err.Error(), "not stored: \"SERVER_ERROR object too large") {
		t.Error(err)
	}
	gone, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	var refused *net.OpError
	if _, err := Copy(t.Context(), from.Addr, fmt.Sprintf("127.0.0.1:%d", gone)); !errors.As(err, &refused) {
		t.Error(err)
	}
	frozen := filled(t, 0, 0)
	frozen.Freeze()
	defer frozen.Thaw()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := Copy(ctx, from.Addr, frozen.Addr)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// BenchmarkCopy is the pace of the yardstick itself.
func BenchmarkCopy(b *testing.B) {
	const count = 200_000
	from, to := filled(b, count, 66), filled(b, 0, 0)
	for b.Loop() {
		if _, err := Copy(b.Context(), from.Addr, to.Addr); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}
