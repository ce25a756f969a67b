package token

import (
	"fmt"
	"testing"
)

// benchVersions are one that a node has counted, and one that a Source has made.
var benchVersions = []uint64{123_456, sourcedMin + 7}

func BenchmarkEncode(b *testing.B) {
	for _, version := range benchVersions {
		b.Run(fmt.Sprintf("sourced=%v", Sourced(version)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Encode(1, 99, version)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, version := range benchVersions {
		for _, copy := range []int{1, 2} { // its own, or another's
			b.Run(fmt.Sprintf("sourced=%v/copy=%d", Sourced(version), copy), func(b *testing.B) {
				v := Encode(1, 99, version)
				b.ReportAllocs()
				for b.Loop() {
					Decode(v, copy, 99)
				}
			})
		}
	}
}

// BenchmarkNext is with a clock that goes on, and with one that stands still, as in a
// batch of requests.
func BenchmarkNext(b *testing.B) {
	for _, step := range []int64{0, 1} {
		b.Run(fmt.Sprintf("step=%dus", step), func(b *testing.B) {
			s, now := NewSource(7), int64(epoch+1_000_000)
			b.ReportAllocs()
			for b.Loop() {
				now += step
				s.Next(now)
			}
		})
	}
}
