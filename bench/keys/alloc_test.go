//go:build !race

package keys

import (
	"math/rand/v2"
	"testing"
)

// This file is built without the race detector, which allocates on its own account.

func TestNothingAllocates(t *testing.T) {
	mustNotAlloc := func(what string, f func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", what, n)
		}
	}
	r := rand.NewPCG(1, 2)
	for _, p := range benchPatterns {
		d := p.Draw(1000, 0, 1)
		mustNotAlloc("Draw "+p.name, func() { d.Next(r) })
	}
	sizes, err := ParseSizes("32:90,1024:9,65536:1")
	if err != nil {
		t.Fatal(err)
	}
	mustNotAlloc("Sizes", func() { sizes.Next(r) })
	mustNotAlloc("TTLs", func() { TTLs{Min: 1, Max: 9}.Next(r) })

	s := NewSpace(Config{Size: 30, MaxValue: 1000})
	buf := make([]byte, 0, 2000)
	name := s.AppendKey(nil, 7)
	mustNotAlloc("AppendKey", func() { s.AppendKey(buf, 7) })
	mustNotAlloc("AppendCounter", func() { s.AppendCounter(buf, 7) })
	mustNotAlloc("Index", func() { s.Index(name) })
	for _, size := range []int{0, 20, 1000} {
		var c Check
		mustNotAlloc("AppendValue", func() { s.AppendValue(buf, 7, Mark{Run: 1, Seq: 2}, size) })
		v := s.AppendValue(nil, 7, Mark{Run: 1, Seq: 2}, size)
		mustNotAlloc("Check", func() {
			c.Begin(s, 7, size)
			c.Feed(v)
			c.End()
		})
	}
}
