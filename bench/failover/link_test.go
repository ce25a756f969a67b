package failover

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// linked is a connection to a memcached by a link.
func linked(t *testing.T) (*link, net.Conn, *bufio.Reader) {
	t.Helper()
	l, err := newLink(node(t).Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	c, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return l, c, bufio.NewReader(c)
}

func do(t *testing.T, s Step) {
	t.Helper()
	if _, err := s.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Answers of a slow link are late, all of them by the same: two that are asked for at
// once do not wait for each other.
func TestLinkIsSlow(t *testing.T) {
	const by = 60 * ms
	l, c, r := linked(t)
	steps := l.slow(0, time.Second, by)
	ask := func() (took time.Duration) {
		t.Helper()
		began := time.Now()
		for range 5 {
			fmt.Fprint(c, "mn\r\n")
		}
		for range 5 {
			if line, err := r.ReadString('\n'); err != nil || line != "MN\r\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
		return time.Since(began)
	}
	ask()
	do(t, steps[0])
	if took := ask(); took < by || took >= 5*by {
		t.Errorf("five answers came after %v, each is %v late", took, by)
	}
	do(t, steps[1])
	if took := ask(); took >= by {
		t.Errorf("they are still late: %v", took)
	}
}

// One request in so many resets its connection, and no other.
func TestLinkResets(t *testing.T) {
	l, c, r := linked(t)
	steps := l.resetting(0, time.Second, 3)
	do(t, steps[0])
	for i := range 3 {
		fmt.Fprint(c, "mn\r\n")
		line, err := r.ReadString('\n')
		if i < 2 && line != "MN\r\n" || i == 2 && !errors.Is(err, unix.ECONNRESET) {
			t.Fatalf("request %d: %q, %v", i+1, line, err)
		}
	}
}

// A link that is closed ends what it carries, and takes no more.
func TestLinkCloses(t *testing.T) {
	l, _, r := linked(t)
	l.close()
	if _, err := r.ReadByte(); err == nil || errors.Is(err, io.ErrNoProgress) {
		t.Errorf("reading from it: %v", err)
	}
	if c, err := net.Dial("tcp", l.addr()); err == nil {
		c.Close()
		t.Error("it takes connections")
	}
}
