package keys

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

var benchPatterns = []struct {
	name string
	Pattern
}{
	{"uniform", Pattern{}},
	{"sequential", Pattern{Kind: Sequential}},
	{"zipf,exponent=0.99", Pattern{Kind: Zipf, Exponent: 0.99}},
	{"zipf,exponent=1", Pattern{Kind: Zipf}},
	{"gaussian", Pattern{Kind: Gaussian}},
	{"hot", Pattern{Kind: Hot}},
}

func BenchmarkDraw(b *testing.B) {
	for _, p := range benchPatterns {
		b.Run("pattern="+p.name, func(b *testing.B) {
			d := p.Draw(1_000_000, 0, 1)
			r := rand.NewPCG(1, 2)
			b.ReportAllocs()
			for b.Loop() {
				d.Next(r)
			}
		})
	}
}

func BenchmarkAppendKey(b *testing.B) {
	for _, size := range []int{0, 20, 100} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			s := NewSpace(Config{Size: size, Max: 999_999})
			buf := make([]byte, 0, MaxKey)
			b.ReportAllocs()
			k := 0
			for b.Loop() {
				buf = s.AppendKey(buf[:0], k)
				if k += 7919; k >= s.Len() {
					k -= s.Len()
				}
			}
		})
	}
}

func BenchmarkIndex(b *testing.B) {
	s := NewSpace(Config{Max: 999_999})
	name := s.AppendKey(nil, 123456)
	b.ReportAllocs()
	for b.Loop() {
		s.Index(name)
	}
}

func BenchmarkAppendValue(b *testing.B) {
	for _, size := range []int{20, 100, 32 << 10} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			s := NewSpace(Config{MaxValue: size})
			buf := make([]byte, 0, size+MaxKey+Overhead)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			seq := uint32(0)
			for b.Loop() {
				seq++
				buf = s.AppendValue(buf[:0], 1234, Mark{Run: 1, Seq: seq}, size)
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{20, 100, 32 << 10} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			s := NewSpace(Config{MaxValue: size})
			v := s.AppendValue(nil, 1234, Mark{Run: 1, Seq: 1}, size)
			var c Check
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				c.Begin(s, 1234, size)
				c.Feed(v)
				if _, ok := c.End(); !ok {
					b.Fatal("a good value found wrong")
				}
			}
		})
	}
}
