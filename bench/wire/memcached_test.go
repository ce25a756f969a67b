package wire

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"magent/bench/keys"
	"magent/bench/process"
	"magent/bench/process/proctest"
)

// talk is a conversation with a real memcached.
type talk struct {
	t    *testing.T
	conn net.Conn
	enc  Encoder
	scan Scanner
	read []byte // what one read may take
	rest []byte // read, and not yet scanned
}

func dial(t *testing.T, addr string, s *keys.Space, d Dialect, read int) *talk {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &talk{t: t, conn: c, enc: Encoder{Space: s, Dialect: d}, scan: Scanner{Space: s, Dialect: d}, read: make([]byte, read)}
}

func (k *talk) send(reqs ...Request) {
	k.t.Helper()
	var out []byte
	for i := range reqs {
		out = k.enc.Append(out, &reqs[i])
	}
	if _, err := k.conn.Write(out); err != nil {
		k.t.Fatal(err)
	}
}

// reply reads until the reply to r is whole.
func (k *talk) reply(r Request) Reply {
	k.t.Helper()
	for {
		n, out, done, err := k.scan.Next(k.rest, &r)
		if err != nil {
			k.t.Fatal(err)
		}
		if k.rest = k.rest[n:]; done {
			return out
		}
		if n, err = k.conn.Read(k.read); err != nil {
			k.t.Fatalf("waiting for the reply to %+v: %v", r, err)
		}
		k.rest = k.read[:n]
	}
}

// step is a request and what memcached should make of it.
type step struct {
	req  Request
	want Reply
	good []int // places of the keys whose values should be good, of the mark in marks
	mark keys.Mark
}

func (k *talk) check(s step) {
	k.t.Helper()
	got := k.reply(s.req)
	if s.req.Op == Gets && s.req.Keys == 1 && got.Hits == 1 {
		if got.Version == 0 {
			k.t.Errorf("%s: %+v brought no version", k.enc.Dialect, s.req)
		}
		s.want.Version = got.Version
	}
	if got != s.want {
		k.t.Errorf("%s: %+v came to %+v, want %+v", k.enc.Dialect, s.req, got, s.want)
	}
	for i := range int(s.req.Keys) {
		seen := k.scan.Seen&(1<<i) != 0
		if want := slices.Contains(s.good, i); seen != want || seen && k.scan.Marks[i] != s.mark {
			k.t.Errorf("%s: %+v, key %d: seen %v as %v, want %v as %v", k.enc.Dialect, s.req, i, seen, k.scan.Marks[i], want, s.mark)
		}
	}
}

// script is every operation with every outcome that one client alone can bring about.
// version is what a Gets of the key told after the first step.
func script(m1, m2 keys.Mark) (before []step, after func(version uint64) []step) {
	const size = 200
	set := func(op Op, key uint32, m keys.Mark, version uint64) Request {
		return Request{Op: op, Keys: 1, Key: key, Size: size, TTL: 100, Mark: m, Version: version}
	}
	before = []step{
		{req: get(7), want: Reply{Misses: 1}},
		{req: gets(7), want: Reply{Misses: 1}},
		{req: one(Delete), want: Reply{Status: NotFound}},
		{req: one(Touch), want: Reply{Status: NotFound}},
		{req: one(Incr), want: Reply{Status: NotFound}},
		{req: set(CAS, 7, m1, 1), want: Reply{Status: NotFound}},
		{req: get(5, 6, 7), want: Reply{Misses: 3}},
		{req: set(Set, 7, m1, 0)},
		{req: get(7), want: Reply{Hits: 1}, good: []int{0}, mark: m1},
		{req: gets(7), want: Reply{Hits: 1}, good: []int{0}, mark: m1},
	}
	return before, func(version uint64) []step {
		return []step{
			{req: set(CAS, 7, m2, version)},
			{req: set(CAS, 7, m1, version), want: Reply{Status: Exists}},
			{req: get(7), want: Reply{Hits: 1}, good: []int{0}, mark: m2},
			{req: set(Set, 5, m2, 0)},
			{req: get(5, 6, 7), want: Reply{Hits: 2, Misses: 1}, good: []int{0, 2}, mark: m2},
			{req: gets(5, 6, 7), want: Reply{Hits: 2, Misses: 1}, good: []int{0, 2}, mark: m2},
			{req: Request{Op: Set, Keys: 1, Key: 9}},
			{req: get(9), want: Reply{Hits: 1}, good: []int{0}},
			{req: Request{Op: Touch, Keys: 1, Key: 7, TTL: 1000}},
			{req: get(7), want: Reply{Hits: 1}, good: []int{0}, mark: m2},
			{req: one(Delete)},
			{req: one(Delete), want: Reply{Status: NotFound}},
			{req: get(7), want: Reply{Misses: 1}},
			{req: one(SetCounter)},
			{req: one(Incr), want: Reply{Number: 1}},
			{req: one(Incr), want: Reply{Number: 2}},
			{req: one(SetCounter)},
			{req: one(Incr), want: Reply{Number: 1}},
			// More than an item can hold. memcached reads and forgets it.
			{req: Request{Op: Set, Keys: 1, Key: 8, Size: 2 << 20}, want: Reply{Status: Failed}},
			{req: get(8), want: Reply{Misses: 1}},
		}
	}
}

// A real memcached means by its replies what the Scanner takes them for, one at a time
// and all in one write, read in whatever pieces.
func TestMemcached(t *testing.T) {
	addr := proctest.Memcached(t, process.MemcachedConfig{}).Addr
	m1, m2 := keys.Mark{Run: 3, Seq: 1}, keys.Mark{Run: 3, Seq: 2}
	for _, d := range []Dialect{Text, Meta, Binary} {
		for _, read := range []int{1, 7, 64 << 10} {
			// Keys of its own for each, so that all begin with nothing.
			s := keys.NewSpace(keys.Config{Prefix: fmt.Sprintf("%s:%d:", d, read), Max: 99, MaxValue: 2 << 20})
			k := dial(t, addr, s, d, read)
			before, after := script(m1, m2)
			for _, st := range before {
				k.send(st.req)
				k.check(st)
			}
			version := uint64(0)
			k.send(gets(7))
			if version = k.reply(gets(7)).Version; version == 0 {
				t.Errorf("%s: no version", d)
			}
			steps := after(version)
			var reqs []Request
			for _, st := range steps {
				reqs = append(reqs, st.req)
			}
			k.send(reqs...)
			for _, st := range steps {
				k.check(st)
			}
			if len(k.rest) > 0 {
				t.Errorf("%s: left over: %q", d, k.rest)
			}
			want := "SERVER_ERROR object too large for cache"
			if d == Binary {
				want = "status 0x03: Too large."
			}
			if k.scan.ErrLine != want {
				t.Errorf("%s: the error line is %q, want %q", d, k.scan.ErrLine, want)
			}
		}
	}
}

// What is sent as TTL arrives as TTL, and what another stores is wrong.
func TestMemcachedHolds(t *testing.T) {
	addr := proctest.Memcached(t, process.MemcachedConfig{}).Addr
	for _, d := range []Dialect{Text, Meta, Binary} {
		s := keys.NewSpace(keys.Config{Prefix: d.String() + ":", Max: 99})
		k := dial(t, addr, s, d, 4096)
		plain := dial(t, addr, s, Text, 4096) // who says what no request of ours does
		ttl := func(want int) {
			t.Helper()
			fmt.Fprintf(plain.conn, "mg %s t\r\n", s.AppendKey(nil, 7))
			n, err := plain.conn.Read(plain.read)
			if err != nil {
				t.Fatal(err)
			}
			var got int
			// The clock may tick between the two requests.
			if _, err := fmt.Sscanf(string(plain.read[:n]), "HD t%d\r\n", &got); err != nil || got > want || got < want-5 {
				t.Errorf("%s: the TTL is told as %q, want %d", d, plain.read[:n], want)
			}
		}
		set := Request{Op: Set, Keys: 1, Key: 7, Size: 50, TTL: 60, Mark: keys.Mark{Run: 1, Seq: 1}}
		k.send(set)
		k.check(step{req: set})
		ttl(60)
		touch := Request{Op: Touch, Keys: 1, Key: 7, TTL: 5000}
		k.send(touch)
		k.check(step{req: touch})
		ttl(5000)

		for what, line := range map[string]string{
			"another value": fmt.Sprintf("set %s 7 0 2\r\nhi\r\n", s.AppendKey(nil, 7)),
			"other flags":   fmt.Sprintf("set %s 8 0 0\r\n\r\n", s.AppendKey(nil, 7)),
		} {
			fmt.Fprint(plain.conn, line)
			if n, err := plain.conn.Read(plain.read); err != nil || string(plain.read[:n]) != "STORED\r\n" {
				t.Fatalf("%s: %q, %v", what, plain.read[:n], err)
			}
			k.send(get(7))
			k.check(step{req: get(7), want: Reply{Wrong: 1}})
		}
		// A value that is no number cannot be counted.
		fmt.Fprintf(plain.conn, "set %s 0 0 2\r\nhi\r\n", s.AppendCounter(nil, 7))
		if n, err := plain.conn.Read(plain.read); err != nil || string(plain.read[:n]) != "STORED\r\n" {
			t.Fatalf("%q, %v", plain.read[:n], err)
		}
		k.send(one(Incr))
		k.check(step{req: one(Incr), want: Reply{Status: Failed}})
	}
}
