package dump

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// answerOf is the list of n items, in no order.
func answerOf(n int) []byte {
	rng := rand.New(rand.NewPCG(3, 3))
	var b []byte
	for _, i := range rng.Perm(n) {
		b = fmt.Appendf(b, "key=user%%3A%d%%3Aprofile exp=-1 la=%d cas=%d fetch=yes cls=7 size=212\n", i, 1795403088+i/100, i)
	}
	return append(b, "END\r\n"...)
}

func BenchmarkParser(b *testing.B) {
	for _, c := range []struct{ name, line string }{
		{"escaped=0", "key=user_1001_profile exp=-1 la=1795403088 cas=123456 fetch=yes cls=7 size=212\n"},
		{"escaped=2", "key=user%3A1001%3Aprofile exp=-1 la=1795403088 cas=123456 fetch=yes cls=7 size=212\n"},
		{"escaped=2/flags=1", "key=user%3A1001%3Aprofile exp=1795403188 la=1795403088 cas=123456 fetch=yes cls=7 size=212 flags=0 \n"},
	} {
		line := []byte(c.line)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			var p Parser
			var e Entry
			for b.Loop() {
				p.Next(line, &e)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// BenchmarkHottest takes one list of a million keys in one pass.
func BenchmarkHottest(b *testing.B) {
	const listed = 1_000_000
	for _, order := range []string{"chance", "coldest-first"} {
		for _, limit := range []int{listed, listed / 10} {
			entries := make([]Entry, listed)
			at := rand.New(rand.NewPCG(5, 5)).Perm(listed)
			for i := range entries {
				j := i
				if order == "chance" {
					j = at[i]
				}
				entries[i] = Entry{Key: fmt.Appendf(nil, "user:%d:profile", j), LastAccess: int64(j / 1000)}
			}
			b.Run(fmt.Sprintf("order=%s/listed=%d/keys=%d", order, listed, limit), func(b *testing.B) {
				b.ReportAllocs()
				h := NewHottest(Limits{Keys: limit, Bytes: 32 * limit})
				for b.Loop() {
					h.Again()
					h.floor.set, h.since = false, 1<<40
					for i := range entries {
						h.Add(entries[i])
					}
					h.Sort()
				}
				b.ReportMetric(float64(listed)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
			})
		}
	}
}
