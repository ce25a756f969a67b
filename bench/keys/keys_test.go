package keys

import (
	"bytes"
	"testing"
)

// Every value is found good in whatever pieces it comes, and wrong when a byte of it
// differs, when it is cut short, and when it is another key's.
func TestValues(t *testing.T) {
	s := NewSpace(Config{Size: 20, MaxValue: 300})
	m := Mark{Run: 0xdeadbeef, Seq: 7}
	for size := range 301 {
		v := s.AppendValue(nil, 42, m, size)
		if len(v) != size {
			t.Fatalf("a value of %d bytes has %d", size, len(v))
		}
		var c Check
		for cut := range size + 1 {
			c.Begin(s, 42, size)
			c.Feed(v[:cut])
			c.Feed(v[cut:])
			got, ok := c.End()
			if want := m; !ok || size >= 20+Overhead && got != want || size < 20+Overhead && got != (Mark{}) {
				t.Fatalf("size %d, cut at %d: %+v, %v", size, cut, got, ok)
			}
		}
		for at := range size {
			w := bytes.Clone(v)
			w[at] ^= 1
			c.Begin(s, 42, size)
			if c.Feed(w); size > 0 {
				if _, ok := c.End(); ok {
					t.Fatalf("size %d: byte %d spoilt, and found good", size, at)
				}
			}
		}
		if c.Begin(s, 43, size); size > 0 {
			c.Feed(v)
			if _, ok := c.End(); ok && size > 0 {
				t.Fatalf("size %d: another key's value found good", size)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []Config{{}, {Size: 20}, {Prefix: "memtier-", Min: 5, Max: 12345}} {
		s := NewSpace(c)
		for k := range s.Len() {
			name := s.AppendKey(nil, k)
			if got, ok := s.Index(name); !ok || got != k {
				t.Fatalf("%+v: key %d is %s and found as %d, %v", c, k, name, got, ok)
			}
		}
	}
	s := NewSpace(Config{Size: 20, Max: 99})
	for _, bad := range []string{"", "key:", "key:0000000000000100", "key:000000000000000x", "kex:0000000000000001", "key:01"} {
		if k, ok := s.Index([]byte(bad)); ok {
			t.Errorf("Index(%q) = %d", bad, k)
		}
	}
}
