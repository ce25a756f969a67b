package inspect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
	"magent/upstream/dial"
	"magent/upstream/repair"
)

// ages is how long ago a memcached says that something was.
var ages = regexp.MustCompile(`la=\d+`)

func at(addr string) Target {
	return Target{Target: dial.Target{Network: "tcp", Address: addr, Connect: proctest.Patience}, Silence: proctest.Patience}
}

// told says request to a memcached, and returns lines of its answer.
func told(t *testing.T, addr, request string, lines int) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(proctest.Patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	in, all := bufio.NewReader(c), ""
	for range lines {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		all += line
	}
	return strings.ReplaceAll(strings.TrimSuffix(all, "\r\n"), "\r\n", "|")
}

func keys(t *testing.T, names ...string) (all []Key) {
	t.Helper()
	for _, n := range names {
		k, err := NewKey([]byte(n))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	return all
}

func look(t *testing.T, n *Node, o Options, names ...string) []Item {
	t.Helper()
	items, err := n.Look(t.Context(), keys(t, names...), o)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// A memcached is looked at, and nothing of it has changed afterwards.
func TestLook(t *testing.T) {
	m := proctest.Memcached(t, process.MemcachedConfig{Args: []string{"-I", "4m"}})
	big := strings.Repeat("big", 1<<20)
	told(t, m.Addr, "set plain 5 100 3\r\nabc\r\n", 1)
	told(t, m.Addr, "ms YSBi 2 b F9 T0\r\nzz\r\n", 1)
	told(t, m.Addr, fmt.Sprintf("set big 0 0 %d\r\n%s\r\n", len(big), big), 1)
	told(t, m.Addr, "set old 0 0 1\r\nx\r\nmd old I\r\n", 2)
	told(t, m.Addr, "set read 0 0 0\r\n\r\nget read\r\n", 4)
	n := New(at(m.Addr))
	t.Cleanup(n.Close)
	names := []string{"plain", "none", "a b", "big", "read", "s5 h7", "kk"}
	before := told(t, m.Addr, "me plain\r\nme read\r\nmg YSBi b c h k u O1\r\n", 3)
	for range 2 {
		items := look(t, n, Options{Value: true, Front: 2}, names...)
		for i, want := range []struct {
			value   string
			flags   uint64
			ttl     int64
			fetched bool
		}{{"abc", 5, 100, false}, {}, {"zz", 9, repair.Forever, false}, {big, 0, repair.Forever, false}, {"", 0, repair.Forever, true}, {}, {}} {
			it := &items[i]
			if it.Found != (want.ttl != 0) || it.At.IsZero() || it.Refused != "" {
				t.Errorf("%s: %+v", names[i], it)
			}
			if !it.Found {
				continue
			}
			front := want.value[:min(2, len(want.value))]
			if it.Size != len(want.value) || it.Sum != sha256.Sum256([]byte(want.value)) || string(it.Front) != front ||
				it.Flags != want.flags || it.CAS == 0 || it.Fetched != want.fetched || it.Marks != 0 || !repair.SameTTL(want.ttl, it.TTL, 20) {
				t.Errorf("%s: %+v", names[i], it)
			}
		}
	}
	if it := look(t, n, Options{}, "plain")[0]; it.Size != 3 || it.Sum != [sha256.Size]byte{} || it.Front != nil {
		t.Errorf("without its value: %+v", it)
	}
	if after := told(t, m.Addr, "me plain\r\nme read\r\nmg YSBi b c h k u O1\r\n", 3); ages.ReplaceAllString(after, "") != ages.ReplaceAllString(before, "") {
		t.Errorf("it was %s, and is %s", before, after)
	}
	it := look(t, n, Options{Value: true}, "old")[0]
	if !it.Has(repair.MarkStale | repair.MarkWon) {
		t.Errorf("stale: %+v", it)
	}
	if got := told(t, m.Addr, "mg old\r\n", 1); got != "HD W X" && got != "HD X W" {
		t.Errorf("a client is not the first to read what is stale: %s", got)
	}
}

// A connection that the node has closed meanwhile is no fault; that it is gone is.
func TestLookAgain(t *testing.T) {
	m := proctest.Memcached(t, process.MemcachedConfig{})
	told(t, m.Addr, "set k 0 0 1\r\na\r\n", 1)
	n := New(at(m.Addr))
	t.Cleanup(n.Close)
	look(t, n, Options{}, "k")
	m.Kill()
	m.Restart()
	if it := look(t, n, Options{}, "k")[0]; it.Found {
		t.Errorf("the empty one has %+v", it)
	}
	m.Kill()
	if _, err := n.Look(t.Context(), keys(t, "k"), Options{}); err == nil || err.Error() != "connection refused" {
		t.Errorf("of one that is gone: %v", err)
	}
}

// Many keys at once, whose answers are more than sockets hold.
func TestLookAtMany(t *testing.T) {
	m := proctest.Memcached(t, process.MemcachedConfig{})
	value := bytes.Repeat([]byte("v"), 100_000)
	told(t, m.Addr, fmt.Sprintf("set k 0 0 %d\r\n%s\r\n", len(value), value), 1)
	names := make([]string, 1000)
	for i := range names {
		names[i] = []string{"k", strings.Repeat("n", 250)}[i%2]
	}
	n := New(at(m.Addr))
	t.Cleanup(n.Close)
	for i, it := range look(t, n, Options{Value: true}, names...) {
		if it.Found != (i%2 == 0) || it.Found && it.Sum != sha256.Sum256(value) {
			t.Fatalf("key %d: %+v", i, it)
		}
	}
}

// What is no answer ends the look in a sentence, and what the node refuses is said of the
// key alone.
func TestStrangeAnswers(t *testing.T) {
	const rest = " f0 t-1 c1 h0 l0 s1"
	for _, c := range []struct{ answer, want string }{
		{"VA 1" + rest + " kother\r\nx\r\n", `the node answered "VA 1`},
		{"VA 1" + rest + "\r\nx\r\n", `the node answered "VA 1`},
		{"VA 1" + rest + " kkey\r\nxyz\r\n", `the node answered "yz`},
		{"VA 1 f0 t-1 c1 kkey\r\nx\r\n", `the node answered "VA 1`},
		{"VA 1 f0 t-1 c1 hx l0 s1 kkey\r\nx\r\n", `the node answered "VA 1`},
		{"HD" + rest + " kkey\r\n", `the node answered "HD`},
		{"HTTP/1.1 400 Bad Request\r\n", `the node answered "HTTP`},
		{strings.Repeat("x", readSize+1), "buffer full"},
		{"VA 5" + rest + " kkey\r\nx", "the node closed the connection"},
		{"", "the node closed the connection"},
	} {
		ln := listen(t, func(conn net.Conn) {
			bufio.NewReader(conn).ReadString('\n')
			io.WriteString(conn, c.answer)
		})
		n := New(at(ln))
		_, err := n.Look(t.Context(), keys(t, "key"), Options{Value: true})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.answer, err, c.want)
		}
		n.Close()
	}
	n := New(at(listen(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		in.ReadString('\n')
		in.ReadString('\n')
		io.WriteString(conn, "SERVER_ERROR out of memory\r\nEN\r\n")
	})))
	defer n.Close()
	if items := look(t, n, Options{Value: true}, "a", "b"); items[0].Refused != "SERVER_ERROR out of memory" || items[1].Refused != "" {
		t.Errorf("%+v", items)
	}
}

func TestSilence(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	addr := listen(t, func(net.Conn) { <-over })
	hasty := at(addr)
	hasty.Silence = time.Millisecond
	n := New(hasty)
	defer n.Close()
	if _, err := n.Look(t.Context(), keys(t, "k"), Options{}); err == nil || err.Error() != "the node was silent for 1ms" {
		t.Errorf("silence: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	patient := New(at(addr))
	defer patient.Close()
	if _, err := patient.Look(ctx, keys(t, "k"), Options{}); err != context.Canceled {
		t.Errorf("ended by its caller: %v", err)
	}
}

// listen has talk speak with who connects, and returns where that is.
func listen(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proctest.Serve(t, ln, talk)
	return ln.Addr().String()
}
