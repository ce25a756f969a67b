package server

import "testing"

// BenchmarkRequest times the whole way of requests through a loop, from what gnet
// has read to what it is given to write, without gnet and the kernel. An iteration
// is one arrival of a pipeline; req/s counts commands.
func BenchmarkRequest(b *testing.B) {
	for _, e := range exchanges() {
		b.Run(e.String(), func(b *testing.B) {
			r := newRig(b, e)
			total := 0
			for _, d := range r.data {
				total += len(d)
			}
			b.SetBytes(int64(total))
			b.ReportAllocs()
			for b.Loop() {
				r.run()
			}
			n := float64(b.N * e.requests)
			b.ReportMetric(n/b.Elapsed().Seconds(), "req/s")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/req")
		})
	}
}
