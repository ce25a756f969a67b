package bench

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func testSpace(c Config) *space { return newSpace(c.withDefaults()) }

// stored is what a memcached that holds key k answers to a get of it, or a gets,
// less END.
func stored(s *space, k int) string {
	version := ""
	if s.cas {
		version = " 18446744073709551615"
	}
	return fmt.Sprintf("VALUE %s %d %d%s\r\n%s%s\r\n", s.key(k), s.flags(k), s.valueSize, version, s.key(k), s.body(k))
}

func get(first int, more ...int) request {
	r := request{op: opGet, n: 1, first: uint32(first)}
	if len(more) > 0 {
		r.n, r.step = uint8(len(more)+1), uint32(more[0]-first)
	}
	return r
}

func set(k int) request { return request{op: opSet, n: 1, first: uint32(k)} }

// scanAll reads chunks as the replies to reqs in turn. Its account names every
// outcome, what went out of step, and what was left over.
func scanAll(t testing.TB, s *space, reqs []request, chunks ...[]byte) []string {
	t.Helper()
	sc := scanner{space: s}
	var log []string
	for _, b := range chunks {
		for len(b) > 0 {
			if len(reqs) == 0 {
				return append(log, "surplus")
			}
			n, out, done, err := sc.next(b, reqs[0])
			if err != nil {
				return append(log, "out of step")
			}
			if n == 0 || (!done && n != len(b)) {
				t.Fatalf("no progress: took %d of %d bytes, done %v", n, len(b), done)
			}
			if b = b[n:]; done {
				log = append(log, fmt.Sprintf("%+v", out))
				reqs = reqs[1:]
			}
		}
	}
	return log
}

// A gets is answered with a version of 64 bits, and a get with none.
func TestScannerVersions(t *testing.T) {
	plain, versioned := testSpace(Config{Keys: 10}), testSpace(Config{Keys: 10, CAS: true})
	reply := stored(versioned, 7) + "END\r\n"
	for _, c := range []struct {
		name, reply string
		space       *space
		want        string
	}{
		{"a version to a gets", reply, versioned, "{hits:1 misses:0 wrong:0 failed:false}"},
		{"a version to a get", reply, plain, "out of step"},
		{"no version to a gets", stored(plain, 7) + "END\r\n", versioned, "out of step"},
		{"a version past 64 bits", strings.Replace(reply, "615\r\n", "616\r\n", 1), versioned, "out of step"},
		{"a version that is no number", strings.Replace(reply, "615\r\n", "x15\r\n", 1), versioned, "out of step"},
	} {
		if got := scanAll(t, c.space, []request{get(7)}, []byte(c.reply)); !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestScanner(t *testing.T) {
	s := testSpace(Config{Keys: 1000, ValueSize: 64})
	hit := func(ks ...int) string {
		var b strings.Builder
		for _, k := range ks {
			b.WriteString(stored(s, k))
		}
		return b.String() + "END\r\n"
	}
	spoilt := func(at int) string {
		b := []byte(hit(7))
		b[at] ^= 1
		return string(b)
	}
	head := len(fmt.Sprintf("VALUE %s 7 64\r\n", s.key(7)))
	for _, c := range []struct {
		name, reply string
		req         request
		want        outcome
		lost        bool
	}{
		{"hit", hit(7), get(7), outcome{hits: 1}, false},
		{"miss", "END\r\n", get(7), outcome{misses: 1}, false},
		{"all of a multi-get", hit(3, 5, 7), get(3, 5, 7), outcome{hits: 3}, false},
		{"multi-get in another order", hit(7, 3, 5), get(3, 5, 7), outcome{hits: 3}, false},
		{"part of a multi-get", hit(7), get(3, 5, 7), outcome{hits: 1, misses: 2}, false},
		{"multi-get that wraps round", hit(999, 1), get(999, 1001), outcome{hits: 2}, false},
		{"a key twice", hit(3, 3), get(3, 5), outcome{hits: 1, wrong: 1}, false},
		{"another key", hit(8), get(7), outcome{wrong: 1}, false},
		{"a key between those asked", hit(4), get(3, 5, 7), outcome{misses: 2, wrong: 1}, false},
		{"a key past those asked", hit(9), get(3, 5, 7), outcome{misses: 2, wrong: 1}, false},
		{"an unknown key", "VALUE who 0 2\r\nhi\r\nEND\r\n", get(7), outcome{wrong: 1}, false},
		{"key spoilt in the value", spoilt(head), get(7), outcome{wrong: 1}, false},
		{"last byte of the value spoilt", spoilt(head + 63), get(7), outcome{wrong: 1}, false},
		{"another key's body", strings.Replace(hit(7), string(s.body(7)), string(s.body(8)), 1), get(7), outcome{wrong: 1}, false},
		{"other flags", strings.Replace(hit(7), " 7 64", " 8 64", 1), get(7), outcome{wrong: 1}, false},
		{"short value", fmt.Sprintf("VALUE %s 7 3\r\nabc\r\nEND\r\n", s.key(7)), get(7), outcome{wrong: 1}, false},
		{"stored", "STORED\r\n", set(7), outcome{}, false},
		{"not stored", "NOT_STORED\r\n", set(7), outcome{failed: true}, false},
		{"error", "ERROR\r\n", get(7), outcome{failed: true}, false},
		{"client error", "CLIENT_ERROR bad data chunk\r\n", set(7), outcome{failed: true}, false},
		{"server error amid values", stored(s, 3) + "SERVER_ERROR gone\r\n", get(3, 5), outcome{hits: 1, failed: true}, false},
		{"set answered like a get", "END\r\n", set(7), outcome{}, true},
		{"get answered like a set", "STORED\r\n", get(7), outcome{}, true},
		{"value with no line end", strings.Replace(hit(7), "\r\nEND", "xxEND", 1), get(7), outcome{}, true},
		{"line end of one byte", "END\n", get(7), outcome{}, true},
		{"negative length", fmt.Sprintf("VALUE %s 7 -5\r\n", s.key(7)), get(7), outcome{}, true},
		{"length beyond belief", fmt.Sprintf("VALUE %s 7 99999999999999999999\r\n", s.key(7)), get(7), outcome{}, true},
		{"VALUE line cut short", "VALUE x\r\n", get(7), outcome{}, true},
		{"endless line", strings.Repeat("x", maxLine+1), get(7), outcome{}, true},
	} {
		want := []string{fmt.Sprintf("%+v", c.want)}
		if c.lost {
			want = []string{"out of step"}
		}
		for cut := range len(c.reply) {
			in := []byte(c.reply)
			if got := scanAll(t, s, []request{c.req}, in[:cut], in[cut:]); !slices.Equal(got, want) {
				t.Errorf("%s, cut at %d: got %v, want %v", c.name, cut, got, want)
				break
			}
		}
	}
}

// FuzzScanner: the outcomes do not depend on how the stream was cut, and every
// call makes progress.
func FuzzScanner(f *testing.F) {
	s := testSpace(Config{Keys: 16, KeySize: 6, ValueSize: 9})
	reqs := []request{get(3), set(3), get(3, 5, 7), get(15, 16), set(1), get(1)}
	f.Add([]byte(stored(s, 3)+"END\r\nSTORED\r\n"+stored(s, 3)+stored(s, 7)+"END\r\nERROR\r\nSTORED\r\nEND\r\n"), uint16(30), uint16(1))
	f.Add([]byte("SERVER_ERROR out of memory\r\nNOT_STORED\r\nEND\r\nEND\r\nEND\r\n"), uint16(3), uint16(2))
	f.Add([]byte("VALUE key:03 3 9999999\r\n"), uint16(3), uint16(7))
	f.Fuzz(func(t *testing.T, in []byte, cut, step uint16) {
		whole := scanAll(t, s, reqs, in)
		at := min(int(cut), len(in))
		if split := scanAll(t, s, reqs, in[:at], in[at:]); !slices.Equal(whole, split) {
			t.Errorf("cut at %d: got %v, want %v", at, split, whole)
		}
		pieces := slices.Collect(slices.Chunk(in, max(1, int(step))))
		if split := scanAll(t, s, reqs, pieces...); !slices.Equal(whole, split) {
			t.Errorf("in pieces of %d: got %v, want %v", step, split, whole)
		}
	})
}

// What the source asks for, the space renders and finds again.
func TestRequests(t *testing.T) {
	for _, c := range []Config{
		{Keys: 7, Sets: 1, Gets: 9},
		{Keys: 7, Gets: 1, MultiGet: 7},
		{Keys: 1000, Gets: 1, MultiGet: 20},
		{Keys: 12345, Gets: 1, MultiGet: 64},
		{Keys: 7, Gets: 1, CAS: true},
		{Keys: 100, Gets: 1, MultiGet: 3, CAS: true},
	} {
		c = c.withDefaults()
		s := newSpace(c)
		src := newSource(s, c, 0)
		verb := "get"
		if c.CAS {
			verb = "gets"
		}
		sets := 0
		const n = 2000
		for range n {
			r := src.request()
			line, _, _ := bytes.Cut(s.appendRequest(nil, r), []byte(crlf))
			words := strings.Fields(string(line))
			if r.op == opSet {
				sets++
				if want := fmt.Sprintf("set %s %d 0 100", s.key(int(r.first)), s.flags(int(r.first))); string(line) != want {
					t.Fatalf("set rendered %q, want %q", line, want)
				}
				continue
			}
			if words[0] != verb || len(words) != 1+c.MultiGet {
				t.Fatalf("get of %d keys rendered %q", c.MultiGet, line)
			}
			for i, word := range words[1:] {
				if k, at, ok := s.asked(r, []byte(word)); !ok || at != i || string(s.key(k)) != word {
					t.Fatalf("key %d of %+v, %q: number %d, found as %d (%v)", i, r, word, k, at, ok)
				}
			}
		}
		if want := n * c.Sets / (c.Sets + c.Gets); sets < want*8/10 || sets > want*12/10 {
			t.Errorf("%d:%d gave %d sets of %d", c.Sets, c.Gets, sets, n)
		}
	}
	s := testSpace(Config{Keys: 100})
	for _, bad := range []string{"", "key:0000000000000100", "key:000000000000000x", "kex:0000000000000001", "key:01"} {
		if k, ok := s.index([]byte(bad)); ok {
			t.Errorf("index(%q) = %d", bad, k)
		}
	}
}

// BenchmarkRequest is the generator's own work on one request, without the
// system calls: choose, render, read the reply, check the value.
func BenchmarkRequest(b *testing.B) {
	const depth = 16
	for _, c := range []Config{{}, {ValueSize: 32 << 10, Keys: 1000}, {MultiGet: 20}} {
		c = c.withDefaults()
		s := newSpace(c)
		src := newSource(s, c, 0)
		reqs := make([]request, 1024)
		replies := make([][]byte, len(reqs)/depth)
		for i := range reqs {
			reqs[i] = src.request()
			for k := range int(reqs[i].n) {
				replies[i/depth] = append(replies[i/depth], stored(s, (int(reqs[i].first)+k*int(reqs[i].step))%s.keys)...)
			}
			replies[i/depth] = append(replies[i/depth], "END\r\n"...)
		}
		b.Run(fmt.Sprintf("op=get/keys=%d/value=%d", c.MultiGet, c.ValueSize), func(b *testing.B) {
			sc := scanner{space: s}
			var out []byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + depth) % len(reqs) {
				out = out[:0]
				in := replies[i/depth]
				for _, r := range reqs[i : i+depth] {
					src.request()
					out = s.appendRequest(out, r)
					n, got, done, err := sc.next(in, r)
					if err != nil || !done || int(got.hits) != c.MultiGet {
						b.Fatalf("outcome %+v, done %v, %v", got, done, err)
					}
					in = in[n:]
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/depth, "ns/req")
		})
	}
}
