package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	proto "magent/codec/binary"
	"magent/server/admin"
	"magent/server/config"
)

// counts starts a count that goes on until the test has it end, and returns what has been
// counted then.
func (s *Server) counts(t *testing.T) (end func() admin.Top) {
	t.Helper()
	all := make([]*census, len(s.loops))
	for i := range all {
		all[i] = newCensus()
	}
	s.owed(t, func(l *loop) { l.begin(all[l.index]) })
	return func() admin.Top {
		t.Helper()
		s.owed(t, (*loop).end)
		return s.topOf(all, admin.TopQuestion{Keys: 100, Clients: 100}, time.Second)
	}
}

func TestTop(t *testing.T) {
	at := newSite(t, 1, 1)
	path := filepath.Join(t.TempDir(), "s")
	at.cfg.Listen = append(at.cfg.Listen, config.Listen{Network: "unix", Address: path})
	s := at.magent()
	early := s.caller(t)
	early.wants("set before 0 0 1\r\na", "STORED")
	end := s.counts(t)
	late := s.caller(t)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		early.line("get a b a")
		late.line("mg YSBi b v")
		(&caller{t: t, conn: conn, in: bufio.NewReader(conn)}).line("incr b 1")
	}
	late.line("set a 0 0 5\r\nhello")
	late.line("get a")
	late.line("get " + fmt.Sprintf("%0251d", 0)) // which is no key
	s.Ready()                                    // has our own client ask, too
	top := end()
	early.line("get after")
	got := map[string]string{}
	for _, k := range top.Hot {
		got[string(k.KeyBytes)] = fmt.Sprintf("%d %d %d", k.Least, k.Most, k.Writes)
		if k.Pool != at.cfg.Pools[0].Name || k.Lead != at.nodes[0].Addr() {
			t.Errorf("%+v", k)
		}
	}
	want := map[string]string{"a": "8 8 1", "b": "6 6 3", "a b": "3 3 0"}
	if fmt.Sprint(got) != fmt.Sprint(want) || top.Keys != 17 || string(top.Hot[0].KeyBytes) != "a" {
		t.Errorf("keys %v, want %v, %d in all", got, want, top.Keys)
	}
	// Each caller's line has an mn behind it.
	if len(top.Clients) != 2 || top.Addresses != 2 || top.Requests != 24 {
		t.Fatalf("%+v", top)
	}
	tcp, unix := top.Clients[0], top.Clients[1]
	if tcp.Address != "127.0.0.1" || tcp.Connections != 2 || tcp.Requests != 18 || unix.Address != unixClients || unix.Connections != 1 || unix.Requests != 6 {
		t.Errorf("%+v", top.Clients)
	}
	if in, out := uint64(3*len("incr b 1\r\nmn\r\n")), uint64(3*len("NOT_FOUND\r\nMN\r\n")); unix.In != in || unix.Out != out {
		t.Errorf("%+v, want %d in and %d out", unix, in, out)
	}
	s.owed(t, func(l *loop) {
		for session := range l.sessions {
			if session.tally != nil || l.census != nil {
				t.Error("it is counted yet")
			}
		}
	})
}

// What a client of the binary protocol asks for counts, too.
func TestTopOfBinary(t *testing.T) {
	s := newSite(t, 1, 1).magent()
	conn, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	end := s.counts(t)
	asked := packets(t, `get a|getk a|getkq a|gat a exp=100|set a = value|incr b delta=1 initial=1 exp=0|get a\x20b|noop`)
	if _, err := conn.Write(asked); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewReader(conn); ; {
		head := make([]byte, proto.HeaderSize)
		if _, err := io.ReadFull(in, head); err != nil {
			t.Fatal(err)
		}
		if head[1] == byte(proto.Noop) {
			break
		}
		if _, err := in.Discard(int(binary.BigEndian.Uint32(head[8:]))); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{}
	for _, k := range end().Hot {
		got[string(k.KeyBytes)] = fmt.Sprintf("%d %d", k.Most, k.Writes)
	}
	if want := map[string]string{"a": "5 2", "b": "1 1", "a b": "1 0"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys %v, want %v", got, want)
	}
}

// A count ends with its time, and with who wants it; the next one waits for it.
func TestTopEnds(t *testing.T) {
	s, _ := proxied(t, 1, 1)
	q := admin.TopQuestion{Millis: 1, Keys: 1, Clients: 1}
	if top, err := s.Top(t.Context(), q); err != nil || top.Seconds < 0.001 {
		t.Errorf("%+v, %v", top, err)
	}
	long := admin.TopQuestion{Millis: 60_000}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.Top(ctx, long)
		ended <- err
	}()
	eventually(t, "it is counted", func() bool { return len(s.counting) == 1 })
	hasty, over := context.WithTimeout(t.Context(), time.Millisecond)
	defer over()
	if _, err := s.Top(hasty, q); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside another: %v", err)
	}
	second := make(chan error)
	go func() {
		_, err := s.Top(t.Context(), q)
		second <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended by its caller: %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("after it: %v", err)
	}
}

// There may be more addresses than are told apart.
func TestTopOfManyClients(t *testing.T) {
	w := newWorld(t, nil, 1)
	c := newCensus()
	for i := range topClients {
		c.clients[netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})] = new(activity)
	}
	w.loop.begin(c)
	w.client("c")
	w.finish()
	if c.others.conns != 1 {
		t.Errorf("%+v", c.others)
	}
}

// BenchmarkTop times requests with and without a count of them.
func BenchmarkTop(b *testing.B) {
	for _, e := range []exchange{simple("get key-a1\r\n", value("key-a1", 32, "")+"END\r\n"), multiGet(10, 32)} {
		for _, on := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/count=%v", e, on), func(b *testing.B) {
				r := newRig(b, e)
				if on {
					r.world.loop.begin(newCensus())
				}
				b.ReportAllocs()
				for b.Loop() {
					r.run()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*e.requests), "ns/req")
			})
		}
	}
}
