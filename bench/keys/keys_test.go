package keys

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	for _, c := range []Config{
		{}, {Size: 20}, {Min: 7, Max: 7}, {Size: MaxKey, Max: 20},
		{Prefix: "memtier-", Min: 5, Max: 12345}, {Prefix: "k", Min: 99_990, Max: 100_010, Size: 7},
	} {
		s := NewSpace(c)
		first := c.WithDefaults().Min
		for k := range s.Len() {
			name := s.AppendKey(nil, k)
			want := c.WithDefaults().Prefix + strconv.Itoa(first+k)
			if c.Size > 0 {
				want = c.WithDefaults().Prefix + fmt.Sprintf("%0*d", c.Size-len(c.WithDefaults().Prefix), first+k)
			}
			if string(name) != want {
				t.Fatalf("%+v: key %d is %s, want %s", c, k, name, want)
			}
			if got, ok := s.Index(name); !ok || got != k {
				t.Fatalf("%+v: key %d is %s and found as %d, %v", c, k, name, got, ok)
			}
			if got, ok := s.Index(s.AppendCounter(nil, k)); ok {
				t.Fatalf("%+v: counter %d has the name of key %d", c, k, got)
			}
		}
	}
	s := NewSpace(Config{Size: 20, Max: 99})
	for _, bad := range []string{
		"", "key:", "key:0000000000000100", "key:000000000000000x", "kex:0000000000000001", "key:01",
		"key:" + strings.Repeat("9", 40), "key:00000000000000001", "key:" + strings.Repeat("0", 300),
	} {
		if k, ok := s.Index([]byte(bad)); ok {
			t.Errorf("Index(%q) = %d", bad, k)
		}
	}
	s = NewSpace(Config{Min: 5, Max: 99})
	for _, bad := range []string{"key:4", "key:100", "key:05", "key:+5", "key:18446744073709551621"} {
		if k, ok := s.Index([]byte(bad)); ok {
			t.Errorf("Index(%q) = %d", bad, k)
		}
	}
	if got := s.AppendCounter([]byte("incr "), 2); string(got) != "incr key:counter:7" {
		t.Errorf("the third counter is %q", got)
	}
}

// Flags tell a key from as many others as fit into 16 bits: so many have always been kept,
// whatever the server (doc/protocol.txt).
func TestFlags(t *testing.T) {
	s := NewSpace(Config{Max: 1 << 20})
	for k, want := range map[int]uint32{0: 0, 1: 1, 0x8000: 0x8000, 0xffff: 0xffff, 0x10000: 0, 0xabcde: 0xbcde} {
		if got := s.Flags(k); got != want {
			t.Errorf("key %#x has flags %#x, want %#x", k, got, want)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	for _, c := range []struct {
		Config
		want string
	}{
		{Config{Min: -1, Max: 5}, "numbers -1 to 5"},
		{Config{Min: 6, Max: 5}, "numbers 6 to 5"},
		{Config{Max: math.MaxInt32}, "numbers 0 to 2147483647"},
		{Config{Max: 10, Size: 5}, "key size (5)"},
		{Config{Max: 10, Size: 251}, "key size (251)"},
		{Config{Max: 10, Prefix: strings.Repeat("p", 241)}, "have 251 bytes"},
		{Config{Prefix: "a b"}, `prefix "a b"`},
		{Config{Prefix: "a\x7f"}, `prefix "a\x7f"`},
		{Config{MaxValue: MaxValue + 1}, "value size"},
	} {
		if err := c.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s in it", c.Config, err, c.want)
		}
	}
	for _, c := range []Config{{}, {Min: 7}, {Prefix: strings.Repeat("p", 238)}, {Size: MaxKey}} {
		if err := c.WithDefaults().Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// checked is what a Check says of v, fed in pieces.
func checked(s *Space, k, size int, pieces ...[]byte) (Mark, bool) {
	var c Check
	c.Begin(s, k, size)
	for _, p := range pieces {
		c.Feed(p)
	}
	return c.End()
}

// plainly is what a Check should say of v, by one who has it all at once.
func plainly(s *Space, k int, v []byte) (Mark, bool) {
	name := s.AppendKey(nil, k)
	if len(v) < len(name)+Overhead {
		return Mark{}, bytes.Equal(v, s.AppendValue(nil, k, Mark{}, len(v)))
	}
	form := regexp.MustCompile(`(?s)^(` + regexp.QuoteMeta(string(name)) + ` ([0-9a-f]{8}) ([0-9a-f]{8})) ([0-9a-f]{8}) (.*)$`)
	// As text of one byte a character: a value need not be UTF-8.
	var latin strings.Builder
	for _, b := range v {
		latin.WriteRune(rune(b))
	}
	m := form.FindStringSubmatch(latin.String())
	if m == nil {
		return Mark{}, false
	}
	sum := crc32.Checksum(append(bytes.Clone(v[:len(m[1])]), v[len(m[1])+10:]...), crc32.MakeTable(crc32.Castagnoli))
	run, err1 := strconv.ParseUint(m[2], 16, 32)
	seq, err2 := strconv.ParseUint(m[3], 16, 32)
	ok := err1 == nil && err2 == nil && fmt.Sprintf("%08x", sum) == m[4]
	return Mark{Run: uint32(run), Seq: uint32(seq)}, ok
}

// Every value is found good in whatever pieces it comes, and wrong when a byte of it
// differs, when it is cut short, and when it is another key's.
func TestValues(t *testing.T) {
	s := NewSpace(Config{Size: 20, MaxValue: 300})
	m := Mark{Run: 0xdeadbeef, Seq: 7}
	for size := range 301 {
		want := m
		if size < 20+Overhead {
			want = Mark{}
		}
		v := s.AppendValue(nil, 42, m, size)
		if len(v) != size {
			t.Fatalf("a value of %d bytes has %d", size, len(v))
		}
		for cut := range size + 1 {
			if got, ok := checked(s, 42, size, v[:cut], v[cut:]); !ok || got != want {
				t.Fatalf("size %d, cut at %d: %+v, %v", size, cut, got, ok)
			}
			if _, ok := checked(s, 42, size, v[:cut]); ok && cut < size {
				t.Fatalf("size %d: %d bytes of it found good", size, cut)
			}
		}
		for at := range size {
			w := bytes.Clone(v)
			w[at] ^= 1
			if _, ok := checked(s, 42, size, w); ok {
				t.Fatalf("size %d: byte %d spoilt, and found good", size, at)
			}
		}
	}
}

// Two writes of a key differ in all that follows the key, so that a value which begins as
// one and ends as the other is wrong wherever it is torn.
func TestTornValues(t *testing.T) {
	const size = 300
	s := NewSpace(Config{Size: 20, MaxValue: size})
	first := s.AppendValue(nil, 42, Mark{Run: 1, Seq: 1}, size)
	for seq := uint32(2); seq < 100; seq++ {
		second := s.AppendValue(nil, 42, Mark{Run: 1, Seq: seq}, size)
		// Before, it is but the second; and the last bytes may be alike by chance.
		for cut := 20 + Overhead; cut < size-8; cut++ {
			if m, ok := checked(s, 42, size, first[:cut], second[cut:]); ok {
				t.Fatalf("write 1 until byte %d, then write %d, is found good and of %+v", cut, seq, m)
			}
		}
	}
}

// A Check that has seen a good value does not take what is left of it for the next.
func TestCheckForgets(t *testing.T) {
	s := NewSpace(Config{Size: 20, MaxValue: 100})
	var c Check
	for size := 1; size <= 100; size++ {
		v := s.AppendValue(nil, 42, Mark{Run: 1, Seq: 1}, size)
		c.Begin(s, 42, size)
		c.Feed(v)
		if _, ok := c.End(); !ok {
			t.Fatalf("%d bytes: found wrong", size)
		}
		for cut := range v {
			c.Begin(s, 42, size)
			c.Feed(v[:cut])
			if _, ok := c.End(); ok {
				t.Fatalf("%d of %d bytes are found good", cut, size)
			}
		}
	}
}

// A value of n bytes is another key's by chance of 1 in 16^n, until it is long enough
// to hold the key; then never.
func TestShortValuesCollide(t *testing.T) {
	const n = 20_000
	s := NewSpace(Config{Max: n - 1, Size: 10})
	for _, size := range []int{0, 1, 2, 3, 19, 37, 38, 100} {
		good := 0
		for k := range n {
			if _, ok := checked(s, k, size, s.AppendValue(nil, n/2, Mark{1, 1}, size)); ok {
				good++
			}
		}
		if size < 4 {
			p := math.Pow(16, -float64(size))
			fits(t, fmt.Sprintf("%d bytes", size), []int{good, n - good}, []float64{p, 1 - p})
		} else if good != 1 {
			t.Errorf("size %d: one key's value is good for %d keys", size, good)
		}
	}
}

// FuzzCheck: a value is found good in whatever pieces it comes, and wrong with any bit
// changed; and any other bytes are what they are to one who has them at once.
func FuzzCheck(f *testing.F) {
	s := NewSpace(Config{Max: 99_999, MaxValue: 5000})
	f.Add(uint32(0), uint32(1), uint32(1), uint16(100), uint16(9), uint16(3), uint16(7), []byte(nil))
	f.Add(uint32(99_999), uint32(0), uint32(0), uint16(37), uint16(36), uint16(1), uint16(290), []byte("\r\nEND\r\n"))
	f.Add(uint32(12), uint32(5), uint32(1<<31), uint16(20), uint16(10), uint16(2), uint16(80), s.AppendValue(nil, 12, Mark{5, 6}, 60))
	f.Add(uint32(12), uint32(5), uint32(1<<31), uint16(0), uint16(0), uint16(0), uint16(0), s.AppendValue(nil, 12, Mark{5, 6}, 20))
	f.Fuzz(func(t *testing.T, key, run, seq uint32, size, cut, step, bit uint16, other []byte) {
		k, m, n := int(key)%s.Len(), Mark{run, seq}, int(size)%5001
		v := s.AppendValue(nil, k, m, n)
		if want, ok := plainly(s, k, v); !ok || want != m && want != (Mark{}) {
			t.Fatalf("key %d, %+v, %d bytes: plainly %+v, %v: %q", k, m, n, want, ok, v)
		}
		agree := func(v []byte) (ok bool) {
			t.Helper()
			want, good := plainly(s, k, v)
			var pieces [][]byte
			rest := v[min(int(cut), len(v)):]
			pieces = append(pieces, v[:len(v)-len(rest)])
			for len(rest) > 0 {
				piece := rest[:min(len(rest), int(step)+1)]
				pieces, rest = append(pieces, piece), rest[len(piece):]
			}
			got, ok := checked(s, k, len(v), pieces...)
			if ok != good || ok && got != want {
				t.Fatalf("key %d, %q: %+v, %v; plainly %+v, %v", k, v, got, ok, want, good)
			}
			return ok
		}
		agree(v)
		agree(other)
		if n > 0 {
			v[int(bit)/8%n] ^= 1 << (bit % 8)
			if agree(v) {
				t.Fatalf("key %d, %+v, %d bytes: bit %d changed, and found good", k, m, n, bit)
			}
		}
	})
}
