package stats

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

// proxy answers each command of one connection with the next of answers, and the last of
// them for ever.
func proxy(t *testing.T, answers ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for r := bufio.NewReader(c); ; answers = answers[min(1, len(answers)-1):] {
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			if _, err := c.Write([]byte(strings.ReplaceAll(answers[0], "\n", "\r\n"))); err != nil {
				return
			}
		}
	}()
	return l.Addr().String()
}

// A node that is waited for is asked after until it is as it should be.
func TestAwait(t *testing.T) {
	const other = "STAT 10.0.0.2:11211:state up\n"
	addr := proxy(t,
		other+"STAT 10.0.0.1:11211:state down\nEND\n",
		other+"STAT 10.0.0.1:11211:state warming\nSTAT 10.0.0.1:11211:refill_phase copying\n"+
			"STAT 10.0.0.1:11211:refill_done 5\nSTAT 10.0.0.1:11211:refill_total 9\nEND\n",
		other+"STAT 10.0.0.1:11211:state up\nEND\n")
	var seen []Node
	err := Await(t.Context(), addr, "10.0.0.1:11211", Often, func(n Node) bool {
		seen = append(seen, n)
		return n.Up()
	})
	if err != nil || len(seen) != 3 || seen[0] != (Node{State: "down"}) || seen[1] != (Node{"warming", "copying", 5, 9}) || seen[2] != (Node{State: "up"}) {
		t.Errorf("%+v, %v", seen, err)
	}
}

// Whoever waits in vain is told how the node was.
func TestAwaitInVain(t *testing.T) {
	for answer, want := range map[string]string{
		"STAT n:1:state warming\nEND\n": `the node n:1 is "warming": context deadline exceeded`,
		"STAT n:1:state warming\nSTAT n:1:refill_phase listing\nSTAT n:1:refill_total 7\nEND\n": `is "warming", its refill "listing", with 0 of 7 keys done: `,
		"STAT n:2:state up\nEND\n": "knows no node n:1",
		"ERROR\n":                  `stats nodes is answered with "ERROR"`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := Await(ctx, proxy(t, answer), "n:1", Often, Node.Up); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

func TestItems(t *testing.T) {
	node := proctest.Memcached(t, process.MemcachedConfig{})
	c, err := net.Dial("tcp", node.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\n")); err != nil {
		t.Fatal(err)
	}
	proctest.Eventually(t, "two items", func() bool {
		n, err := Items(t.Context(), node.Addr)
		return err == nil && n == 2
	})
	if err := AwaitItems(t.Context(), node.Addr, 2); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := AwaitItems(ctx, node.Addr, 3); err == nil || !strings.Contains(err.Error(), "holds 2 items: context deadline exceeded") {
		t.Error(err)
	}
	if _, err := Items(t.Context(), proxy(t, "END\n")); err == nil || !strings.Contains(err.Error(), `has "" for curr_items`) {
		t.Error(err)
	}
	node.Kill()
	var refused *net.OpError
	if _, err := Items(t.Context(), node.Addr); !errors.As(err, &refused) {
		t.Error(err)
	}
}
