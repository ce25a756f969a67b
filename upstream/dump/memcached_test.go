package dump

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/upstream/dial"
)

// memcached starts one of the system's, until the test ends.
func memcached(t testing.TB, args ...string) Target {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dump") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // memcached may become nobody
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	cmd := exec.Command("memcached", append(args, "-s", path)...)
	if err := cmd.Start(); err != nil {
		t.Fatalf("this test needs memcached 1.6.18, Debian's package memcached: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return Target{Target: dial.Target{Network: "unix", Address: path, Connect: patience}, Silence: patience}
		}
	}
	t.Fatal("memcached takes no connections")
	return Target{}
}

// calm keeps memcached from moving items, and from crawling on its own account.
var calm = []string{"-o", "no_lru_maintainer,lru_crawler"}

// client speaks to a memcached line by line.
type client struct {
	t  testing.TB
	c  net.Conn
	in *bufio.Reader
}

func dialTo(t testing.TB, target Target) *client {
	t.Helper()
	c, err := net.Dial(target.Network, target.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t, c, bufio.NewReader(c)}
}

// do sends a request and returns the first line of its answer.
func (c *client) do(format string, args ...any) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.c, format, args...); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

func TestMemcachedListsEachKeyOnce(t *testing.T) {
	t.Parallel()
	const n = 5000
	target := memcached(t, calm...)
	fill(t, target, n)
	c := dialTo(t, target)
	c.do("set key:1 7 10000 5000\r\n%05000d\r\n", 1) // of another class
	c.do("set key:2 0 -1 1\r\nx\r\n")
	c.do("delete key:3\r\n")
	c.do("mg key:4 s\r\n")
	c.do("mn\r\n") // now nothing of the answers before holds an item any more

	seen := map[string]Entry{}
	l, err := Crawl(t.Context(), target, func(e Entry) {
		key := string(e.Key)
		if _, ok := seen[key]; ok {
			t.Errorf("%s is listed twice", key)
		}
		e.Key = nil
		seen[key] = e
	})
	if err != nil || l.Keys != n-2 || len(seen) != n-2 {
		t.Errorf("%d keys, %+v, %v", len(seen), l, err)
	}
	for i := range n {
		key := fmt.Sprintf("key:%d", i)
		e, ok := seen[key]
		if ok == (i == 2 || i == 3) {
			t.Errorf("%s is listed: %v", key, ok)
		}
		if ok && (e.LastAccess > l.Began || e.LastAccess < l.Began-60 || e.Size < 50 || e.Class == 0 || e.CAS == 0) {
			t.Errorf("%s at %d: %+v", key, l.Began, e)
		}
		if ok && i != 1 && (e.Exp != -1 || e.Fetched != (i == 4)) {
			t.Errorf("%s: %+v", key, e)
		}
	}
	if e := seen["key:1"]; e.Exp < l.Began+9000 || e.Exp > l.Began+10000 || e.Size < 5000 || e.Class == seen["key:0"].Class {
		t.Errorf("key:1 at %d: %+v", l.Began, e)
	}
}

func TestMemcachedWithoutKeys(t *testing.T) {
	t.Parallel()
	if l, err := Crawl(t.Context(), memcached(t, calm...), none); err != nil || l.Keys != 0 || l.Began == 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestMemcachedListsAnyByte stores keys with every byte there is, in base64 and, but for
// those that end a key or a line, as they are, and finds each again by its entry.
func TestMemcachedListsAnyByte(t *testing.T) {
	t.Parallel()
	target := memcached(t, calm...)
	c := dialTo(t, target)
	stored := map[string]bool{}
	for b := range 256 {
		key := "in" + string([]byte{byte(b)}) + "b"
		if got := c.do("ms %s 1 b\r\nx\r\n", base64.StdEncoding.EncodeToString([]byte(key))); got != "HD" {
			t.Fatalf("%q: %s", key, got)
		}
		stored[key] = true
		if e := (Entry{Key: []byte(key)}); e.Base64() {
			continue
		}
		key = "as" + string([]byte{byte(b)}) + "b"
		if got := c.do("set %s 0 0 1\r\nx\r\n", key); got != "STORED" {
			t.Fatalf("%q: %s", key, got)
		}
		stored[key] = true
	}
	long := strings.Repeat("\xff", 250) // whose base64 would be too long a key
	c.do("set %s 0 0 1\r\nx\r\n", long)
	stored[long] = true
	var all []Entry
	if _, err := Crawl(t.Context(), target, func(e Entry) {
		e.Key = append([]byte(nil), e.Key...)
		all = append(all, e)
	}); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !stored[string(e.Key)] {
			t.Errorf("%q is listed", e.Key)
		}
		delete(stored, string(e.Key))
		got := ""
		if e.Base64() {
			got = c.do("mg %s b c\r\n", base64.StdEncoding.EncodeToString(e.Key))
		} else {
			got = c.do("mg %s c\r\n", e.Key)
		}
		if got != fmt.Sprintf("HD c%d", e.CAS) {
			t.Errorf("%q: %s, want %d", e.Key, got, e.CAS)
		}
	}
	if len(stored) != 0 {
		t.Errorf("not listed: %v", stored)
	}
}

// TestMemcachedIsBusy has a crawler that rests for a while after every thousand steps, so
// that it is still at work on another list, to whose end it comes while Crawl waits.
func TestMemcachedIsBusy(t *testing.T) {
	t.Parallel()
	const n = 10_000
	target := memcached(t, "-o", "no_lru_maintainer,lru_crawler,lru_crawler_sleep=15000")
	fill(t, target, n)
	other := dialTo(t, target)
	if got := other.do("lru_crawler metadump hash\r\n"); !strings.HasPrefix(got, "key=") && got != "OK" {
		t.Fatal(got)
	}
	taken := make(chan error, 1) // a crawler that waits for its reader has whoever asks wait, too
	go func() {
		var line string
		var err error
		for err == nil && line != "END\r\n" {
			line, err = other.in.ReadString('\n')
		}
		taken <- err
	}()
	waits := 0
	target.Wait = func(context.Context, time.Duration) error {
		if waits++; waits == 1 {
			return <-taken
		}
		return nil
	}
	if l, err := Crawl(t.Context(), target, none); err != nil || l.Keys != n || waits == 0 {
		t.Errorf("%+v after %d waits, %v", l, waits, err)
	}
}

// TestMemcachedListsEachKeyUnderTraffic reads and writes keys that stay meanwhile. With
// metadump all in place of metadump hash, one key in ten is not listed.
func TestMemcachedListsEachKeyUnderTraffic(t *testing.T) {
	t.Parallel()
	const n = 20_000
	target := memcached(t)
	fill(t, target, n)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	c := dialTo(t, target)
	go func() {
		defer close(over)
		rng := rand.New(rand.NewPCG(1, 1))
		for ctx.Err() == nil {
			var b []byte
			for range 50 {
				b = fmt.Appendf(b, "mg key:%d v q\r\nms key:%d 1 q\r\nx\r\n", rng.IntN(n), rng.IntN(n))
			}
			if _, err := c.c.Write(append(b, "mn\r\n"...)); err != nil {
				t.Error(err)
				return
			}
			for line := ""; line != "MN\r\n"; {
				var err error
				if line, err = c.in.ReadString('\n'); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for range 5 {
		listed := map[string]int{}
		l, err := Crawl(t.Context(), target, func(e Entry) { listed[string(e.Key)]++ })
		if err != nil || l.Keys != n || len(listed) != n {
			t.Errorf("%d of %d keys, %+v, %v", len(listed), n, l, err)
		}
	}
	cancel()
	<-over
}

// TestMemcachedRefuses is refused for good.
func TestMemcachedRefuses(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"-X":               "ERROR metadump not allowed",
		"-ono_lru_crawler": "CLIENT_ERROR lru crawler disabled",
	} {
		_, err := Crawl(t.Context(), memcached(t, arg), none)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", want)) {
			t.Errorf("%s: got %v", arg, err)
		}
	}
}

// TestPassesOverMemcached takes the keys of a node in bounded memory.
func TestPassesOverMemcached(t *testing.T) {
	t.Parallel()
	const n = 5000
	target := memcached(t, calm...)
	fill(t, target, n)
	h := NewHottest(Limits{Keys: 700, Bytes: 1 << 20})
	had, passes := map[string]bool{}, 0
	for more := true; more; passes++ {
		l, err := Crawl(t.Context(), target, h.Add)
		if err != nil || l.Keys != n || passes > 2*n/500 {
			t.Fatalf("pass %d: %+v, %v", passes, l, err)
		}
		for _, k := range pass(h) {
			had[string(k.Key)] = true
		}
		more = h.Next(l.Began)
	}
	if len(had) != n {
		t.Errorf("%d of %d keys had their turn", len(had), n)
	}
}

// BenchmarkCrawl lists the keys of a memcached.
func BenchmarkCrawl(b *testing.B) {
	const n = 200_000
	target := memcached(b, calm...)
	fill(b, target, n)
	for _, c := range []struct {
		name string
		each func(Entry)
	}{
		{"none", none},
		{"hottest", NewHottest(Limits{Keys: n / 4, Bytes: 8 * n}).Add},
	} {
		b.Run(fmt.Sprintf("keys=%d/each=%s", n, c.name), func(b *testing.B) {
			for b.Loop() {
				if l, err := Crawl(b.Context(), target, c.each); err != nil || l.Keys != n {
					b.Fatal(l, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
