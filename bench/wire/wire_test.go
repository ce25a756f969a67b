package wire

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"magent/bench/keys"
)

// Every operation in both dialects, byte for byte.
func TestRequests(t *testing.T) {
	s := testSpace()
	m := keys.Mark{Run: 1, Seq: 2}
	value := string(s.AppendValue(nil, 7, m, 40))
	for _, c := range []struct {
		req        Request
		text, meta string
	}{
		{get(7), "get key:0007\r\n", "mg key:0007 k f v\r\n"},
		{gets(7), "gets key:0007\r\n", "mg key:0007 k f v c\r\n"},
		{get(998, 1001), "get key:0998 key:0001\r\n", "mg key:0998 k f v q\r\nmg key:0001 k f v q\r\nmn\r\n"},
		{gets(3, 5, 7), "gets key:0003 key:0005 key:0007\r\n",
			"mg key:0003 k f v c q\r\nmg key:0005 k f v c q\r\nmg key:0007 k f v c q\r\nmn\r\n"},
		{Request{Op: Set, Keys: 1, Key: 7, Size: 40, Mark: m, TTL: 60},
			"set key:0007 7 60 40\r\n" + value + crlf, "ms key:0007 40 F7 T60\r\n" + value + crlf},
		{Request{Op: Set, Keys: 1, Key: 7}, "set key:0007 7 0 0\r\n\r\n", "ms key:0007 0 F7 T0\r\n\r\n"},
		{Request{Op: CAS, Keys: 1, Key: 7, Size: 40, Mark: m, Version: maxVersion},
			"cas key:0007 7 0 40 18446744073709551615\r\n" + value + crlf, "ms key:0007 40 F7 T0 C18446744073709551615\r\n" + value + crlf},
		{one(Incr), "incr key:counter:7 1\r\n", "ma key:counter:7 v\r\n"},
		{one(SetCounter), "set key:counter:7 0 0 1\r\n0\r\n", "ms key:counter:7 1\r\n0\r\n"},
		{one(Delete), "delete key:0007\r\n", "md key:0007\r\n"},
		{Request{Op: Touch, Keys: 1, Key: 7, TTL: 60}, "touch key:0007 60\r\n", "mg key:0007 T60\r\n"},
	} {
		for d, want := range []string{Text: c.text, Meta: c.meta} {
			e := Encoder{Space: s, Dialect: Dialect(d)}
			if got := string(e.Append([]byte("before "), &c.req)); got != "before "+want {
				t.Errorf("%s, %s: %q, want %q", c.req.Op, e.Dialect, got, want)
			}
		}
	}
}

// The keys that a Get asks for differ, and each is found at its place; no other is.
func TestAsked(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		n := 1 + r.IntN(200)
		many := 1 + r.IntN(min(n, MaxKeys))
		req := Request{Op: Get, Keys: uint8(many), Key: uint32(r.IntN(n))}
		if many > 1 {
			req.Step = uint32(1 + r.IntN(n/many))
		}
		place := map[int]int{}
		for i := range many {
			place[req.key(i, n)] = i
		}
		if len(place) != many {
			t.Fatalf("%+v of %d keys names %d", req, n, len(place))
		}
		for k := range n {
			i, ok := req.asked(k, n)
			if want, yes := place[k]; ok != yes || ok && i != want {
				t.Fatalf("%+v of %d keys: key %d is found at %d, %v; it is at %d, %v", req, n, k, i, ok, want, yes)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, d := range []Dialect{Text, Meta, Binary} {
		for _, name := range []string{d.String(), "memcache_" + d.String()} {
			if got, err := ParseDialect(name); err != nil || got != d {
				t.Errorf("ParseDialect(%q) = %v, %v", name, got, err)
			}
		}
	}
	if d, err := ParseDialect("redis"); err == nil || !strings.Contains(err.Error(), `"redis"`) {
		t.Errorf("redis is %v, %v", d, err)
	}
	seen := map[string]bool{}
	for op := range Op(Ops) {
		seen[op.String()] = true
	}
	if len(seen) != Ops || seen[""] {
		t.Errorf("operations are called %v", seen)
	}
}

// exchanges are requests and the replies of one who holds every key, depth at a time.
func exchanges(s *keys.Space, d Dialect, op Op, multi, size, depth int) (reqs []Request, replies [][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 64 * depth {
		req := Request{Op: op, Keys: uint8(multi), Key: uint32(r.IntN(s.Len())), Size: uint32(size), Version: 7}
		if multi > 1 {
			req.Step = uint32(1 + r.IntN(s.Len()/multi))
		}
		if i%depth == 0 {
			replies = append(replies, nil)
		}
		to := &replies[i/depth]
		for k := range multi {
			switch {
			case op != Get && op != Gets:
			case d == Binary:
				*to = append(*to, storedPacket(s, &req, k, size)...)
			default:
				*to = append(*to, stored(s, d, op, req.key(k, s.Len()), size)...)
			}
		}
		if d == Binary {
			*to = append(*to, lastPacket(&req, multi)...)
			reqs = append(reqs, req)
			continue
		}
		switch op {
		case Get, Gets:
			if d == Text {
				*to = append(*to, "END\r\n"...)
			} else if multi > 1 {
				*to = append(*to, "MN\r\n"...)
			}
		case Incr:
			*to = append(*to, map[Dialect]string{Text: "12345\r\n", Meta: "VA 5\r\n12345\r\n"}[d]...)
		default:
			*to = append(*to, endings[d][op][0].text+crlf...)
		}
		reqs = append(reqs, req)
	}
	return reqs, replies
}

// BenchmarkRequest is the generator's own work on one request, without choosing it and
// without the system calls: render, read the reply, check the value.
func BenchmarkRequest(b *testing.B) {
	const depth = 16
	type work struct {
		op          Op
		multi, size int
	}
	for _, d := range []Dialect{Text, Meta, Binary} {
		for _, c := range []work{
			{Get, 1, 100}, {Get, 1, 32 << 10}, {Get, 20, 100}, {Gets, 1, 100},
			{Set, 1, 100}, {Set, 1, 32 << 10}, {CAS, 1, 100}, {Incr, 1, 0}, {Delete, 1, 0}, {Touch, 1, 0},
		} {
			b.Run(fmt.Sprintf("dialect=%s/op=%s/keys=%d/value=%d", d, c.op, c.multi, c.size), func(b *testing.B) {
				s := keys.NewSpace(keys.Config{MaxValue: c.size})
				reqs, replies := exchanges(s, d, c.op, c.multi, c.size, depth)
				e, sc := Encoder{Space: s, Dialect: d}, Scanner{Space: s, Dialect: d}
				var out []byte
				b.ReportAllocs()
				for i := 0; b.Loop(); i = (i + depth) % len(reqs) {
					out = out[:0]
					in := replies[i/depth]
					for at := range depth {
						req := &reqs[i+at]
						out = e.Append(out, req)
						n, got, done, err := sc.Next(in, req)
						if err != nil || !done || got.Status != OK || got.Wrong+got.Misses > 0 {
							b.Fatalf("%+v, done %v, %v", got, done, err)
						}
						in = in[n:]
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/depth, "ns/req")
			})
		}
	}
}
