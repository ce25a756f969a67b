package repair

import (
	"fmt"
	"testing"
)

// copying returns what repairs a key whose item is to be copied.
func copying() func() Outcome {
	var r Repair
	buf := make([]byte, 0, 512)
	key := []byte("k")
	answers := [][]byte{[]byte("HD c7\r\n"), []byte("VA 5 f3 t60 c9 h0\r\n"), []byte("HD c8\r\n"), []byte("HD c9 t60\r\n")}
	return func() Outcome {
		r.Reset(key, Options{})
		_, s := r.Start(buf, Ask(), now)
		for _, a := range answers {
			_, s = r.Answer(buf, a, now)
		}
		return s.Outcome
	}
}

func BenchmarkRepair(b *testing.B) {
	b.Run("ends="+Copied.String(), func(b *testing.B) {
		repair := copying()
		b.ReportAllocs()
		for b.Loop() {
			repair()
		}
	})
}

// BenchmarkParseReply reads what comes with every write in two copies.
func BenchmarkParseReply(b *testing.B) {
	for _, bm := range []struct{ name, line string }{
		{"reply=HD", "HD c123456\r\n"},
		{"reply=HD/flags=3", "HD c123456 t-1 kuser:1001:profile\r\n"},
		{"reply=VA/flags=5", "VA 1024 f0 t299 c123456 h1 kuser:1001:profile\r\n"},
		{"reply=EN", "EN kuser:1001:profile\r\n"},
	} {
		line := []byte(bm.line)
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				ParseReply(line)
			}
		})
	}
}

// clerk has runs end as soon as the queue has no more to begin.
type clerk struct{ begun []*Job }

func (c *clerk) Begin(j *Job, _ bool)        { c.begun = append(c.begun, j) }
func (c *clerk) Covered(*Job, bool, Outcome) {}

// BenchmarkQueue has jobs wish for keys at once, each key by some of them, and all repaired.
func BenchmarkQueue(b *testing.B) {
	for _, keys := range []int{1, 1000, 10_000} {
		for _, each := range []int{1, 4} {
			b.Run(fmt.Sprintf("keys=%d/jobs=%d", keys, each), func(b *testing.B) {
				q, c := NewQueue(Limits{}), &clerk{}
				jobs := make([]Job, keys*each)
				for i := range jobs {
					jobs[i] = Job{Key: fmt.Appendf(nil, "user:%d:profile", i%keys), Lead: 1, Follower: 2, Owner: c}
				}
				b.ReportAllocs()
				for b.Loop() {
					for i := range jobs {
						q.Add(&jobs[i])
					}
					for q.Run(0); len(c.begun) > 0; q.Run(0) {
						for _, j := range c.begun {
							q.Held(j)
							q.Done(j, Copied)
						}
						c.begun = c.begun[:0]
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(jobs)), "ns/job")
			})
		}
	}
}
