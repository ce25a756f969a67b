package dump

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/upstream/dial"
	"magent/upstream/memnode"
)

// patience bounds every wait in the tests; it is only ever reached by a failure.
const patience = 20 * time.Second

// node has answer speak for a node on each connection, which it closes then, and returns
// how to reach it. The stats have been answered when answer is called.
func node(t *testing.T, answer func(c net.Conn)) Target {
	t.Helper()
	return rawNode(t, func(c net.Conn, in *bufio.Reader) {
		expect(t, in, "stats\r\n")
		io.WriteString(c, "STAT pid 1\r\nSTAT time 1700000000\r\nSTAT version 1.6.18\r\nEND\r\n")
		expect(t, in, "lru_crawler metadump hash\r\n")
		answer(c)
	})
}

func rawNode(t *testing.T, speak func(c net.Conn, in *bufio.Reader)) Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			speak(c, bufio.NewReader(c))
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-over
	})
	return Target{Target: dial.Target{Network: "tcp", Address: l.Addr().String(), Connect: patience}, Silence: patience}
}

func expect(t *testing.T, in *bufio.Reader, want string) {
	if got, err := in.ReadString('\n'); got != want {
		t.Errorf("the node was asked %q (%v), want %q", got, err, want)
	}
}

// items are n lines of a list.
func items(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key=k%%20%d exp=-1 la=1700000000 cas=%d fetch=no cls=1 size=67\n", i, i+1)
	}
	return b.String()
}

func none(Entry) {}

func TestCrawlHandsOnEveryEntry(t *testing.T) {
	target := node(t, func(c net.Conn) { io.WriteString(c, "OK\r\n"+items(5000)+"END\r\n") })
	var got []string
	l, err := Crawl(t.Context(), target, func(e Entry) { got = append(got, string(e.Key)) })
	if err != nil || l != (Listing{Keys: 5000, Began: 1700000000}) || len(got) != 5000 {
		t.Fatalf("%d entries, %+v, %v", len(got), l, err)
	}
	for i, key := range got {
		if key != fmt.Sprintf("k %d", i) {
			t.Fatalf("entry %d is %q", i, key)
		}
	}
}

func TestCrawlAsksABusyNodeAgain(t *testing.T) {
	asked := 0
	target := node(t, func(c net.Conn) {
		if asked++; asked < 9 {
			io.WriteString(c, "BUSY currently processing crawler request\r\n")
			return
		}
		io.WriteString(c, items(1)+"END\r\n")
	})
	var waits []time.Duration
	target.Wait = func(_ context.Context, d time.Duration) error {
		waits = append(waits, d/time.Millisecond)
		return nil
	}
	if l, err := Crawl(t.Context(), target, none); err != nil || l.Keys != 1 {
		t.Fatal(l, err)
	}
	if want := []time.Duration{50, 100, 200, 400, 800, 1600, 2000, 2000}; !slices.Equal(waits, want) {
		t.Errorf("waited %d ms, want %d", waits, want)
	}
}

func TestCrawlAsksABusyNodeNoLongerThanItMay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := node(t, func(c net.Conn) {
		io.WriteString(c, "BUSY currently processing crawler request\r\n")
		cancel()
	})
	_, err := Crawl(ctx, target, none) // the timer itself, as there is no Wait
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	target.Wait = func(context.Context, time.Duration) error { return context.DeadlineExceeded }
	_, err = Crawl(t.Context(), target, none)
	var r Refused
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &r) || !r.Busy() {
		t.Errorf("got %v", err)
	}
}

func TestCrawlSaysHowFarItCame(t *testing.T) {
	for _, c := range []struct {
		answer, want string
		keys         int
	}{
		{"", "no list of keys: connection closed", 0},
		{"OK\r\n", "no list of keys: connection closed", 0},
		{items(7), "the list of keys broke off after 7: connection closed", 7},
		{items(7) + "key=k", "the list of keys broke off after 7: connection closed", 7},
		{items(3000) + "EN", "the list of keys broke off after 3000: connection closed", 3000},
		{items(2) + "BUSY\r\n", `the list of keys broke off after 2: the node answered "BUSY"`, 2},
		{items(2) + "VALUE\r\n", `the list of keys broke off after 2: no line of a list of keys: "VALUE"`, 2},
		{"ERROR\r\n", `no list of keys: the node answered "ERROR"`, 0},
		{"CLIENT_ERROR lru crawler disabled\r\n", `no list of keys: the node answered "CLIENT_ERROR lru crawler disabled"`, 0},
	} {
		target := node(t, func(conn net.Conn) { io.WriteString(conn, c.answer) })
		l, err := Crawl(t.Context(), target, none)
		if err == nil || err.Error() != c.want || l.Keys != c.keys {
			t.Errorf("%.40q: %d keys, %v; want %d, %s", c.answer, l.Keys, err, c.keys, c.want)
		}
	}
}

func TestCrawlNeedsTheClock(t *testing.T) {
	for answer, want := range map[string]string{
		"STAT pid 1\r\nEND\r\n":            `no list of keys: no line of a list of keys: "END"`,
		"STAT time x\r\nEND\r\n":           `no list of keys: no line of a list of keys: "STAT time x"`,
		"CLIENT_ERROR unauthenticated\r\n": `no list of keys: the node answered "CLIENT_ERROR unauthenticated"`,
		"STAT time 1700000000\r\n":         "no list of keys: connection closed",
	} {
		target := rawNode(t, func(c net.Conn, in *bufio.Reader) {
			expect(t, in, "stats\r\n")
			io.WriteString(c, answer)
		})
		if _, err := Crawl(t.Context(), target, none); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", answer, err, want)
		}
	}
}

func TestCrawlDoesNotWaitForASilentNode(t *testing.T) {
	for _, sent := range []int{0, 5} {
		target := node(t, func(c net.Conn) {
			io.WriteString(c, items(sent))
			io.Copy(io.Discard, c) // until the other end closes
		})
		target.Silence = 30 * time.Millisecond
		l, err := Crawl(t.Context(), target, none)
		if !errors.Is(err, os.ErrDeadlineExceeded) || l.Keys != sent || !strings.Contains(err.Error(), "silent for 30ms") {
			t.Errorf("%d sent: got %+v, %v", sent, l, err)
		}
	}
}

// TestCrawlTakesTheRestOfAListItLeaves has ctx end midway, and a node that can only go on
// when Crawl has returned: all of the list is taken nevertheless.
func TestCrawlTakesTheRestOfAListItLeaves(t *testing.T) {
	left, taken := make(chan struct{}), make(chan error, 1)
	target := node(t, func(c net.Conn) {
		io.WriteString(c, items(10))
		<-left
		rest := items(1000)
		for range 400 { // 25 MB, more than sockets hold
			if _, err := io.WriteString(c, rest); err != nil {
				taken <- err
				return
			}
		}
		taken <- nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Crawl(ctx, target, func(e Entry) {
		if e.CAS == 10 {
			cancel()
		}
	})
	close(left)
	if !errors.Is(err, context.Canceled) || l.Keys != 10 {
		t.Errorf("got %+v, %v", l, err)
	}
	if err := <-taken; err != nil {
		t.Errorf("the rest was not taken: %v", err)
	}
}

func TestCrawlDoesNotBeginWhenItIsOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Crawl(ctx, Target{Target: dial.Target{Network: "tcp", Address: "127.0.0.1:1"}}, none); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestCrawlOfANodeThatDies has a memnode reset the connection in the middle of a list.
func TestCrawlOfANodeThatDies(t *testing.T) {
	n, err := memnode.Start(memnode.Config{Fault: "(on lru_crawler (times 1 reset 10000))"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	target := Target{Target: dial.Target{Network: "tcp", Address: n.Addr(), Connect: patience}, Silence: patience}
	fill(t, target, 1000)
	h := NewHottest(Limits{Keys: 2000, Bytes: 1 << 16})
	l, err := Crawl(t.Context(), target, h.Add)
	if err == nil || l.Keys > 200 || h.Len() != l.Keys {
		t.Fatalf("%d keys in 10000 bytes, %d taken, %v", l.Keys, h.Len(), err)
	}
	h.Again()
	if l, err = Crawl(t.Context(), target, h.Add); err != nil || l.Keys != 1000 || h.Len() != 1000 {
		t.Errorf("%d keys, %d taken, %v", l.Keys, h.Len(), err)
	}
}

// fill stores n keys.
func fill(t testing.TB, target Target, n int) {
	t.Helper()
	c, err := net.Dial(target.Network, target.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	w := bufio.NewWriter(c)
	for i := range n {
		fmt.Fprintf(w, "set key:%d 0 0 1 noreply\r\nx\r\n", i)
	}
	fmt.Fprintf(w, "mn\r\n")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "MN\r\n" {
		t.Fatalf("got %q, %v", got, err)
	}
}
