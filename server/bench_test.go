package server

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkRequest times the whole way of requests through a loop, from what gnet
// has read to what it is given to write, without gnet and the kernel. An iteration
// is one arrival of a pipeline; req/s counts commands.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{100, 32 << 10} {
		hit := value("key-1", size, "")
		data := strings.Repeat("v", size) + "\r\n"
		for _, depth := range []int{1, 16} {
			name := func(proto, op string, copies int) string {
				return fmt.Sprintf("proto=%s/op=%s/copies=%d/value=%d/pipeline=%d", proto, op, copies, size, depth)
			}
			get := simple(name("text", "get", 1), "get key-1\r\n", "", depth)
			get.steps[1].data = strings.Repeat(hit, depth) + "END\r\n"
			get.reply = strings.Repeat(hit+"END\r\n", depth)
			bench(b, get)
			bench(b, simple(name("meta", "mg", 1), "mg key-1 v\r\n", fmt.Sprintf("VA %d\r\n%s", size, data), depth))
			set := fmt.Sprintf("set key-1 0 0 %d\r\n%s", size, data)
			bench(b, simple(name("text", "set", 1), set, "STORED\r\n", depth))
			bench(b, stores(name("text", "set", 2), set, "STORED\r\n").deep(depth))
			bench(b, stores(name("meta", "ms", 2), fmt.Sprintf("ms key-1 %d\r\n%s", size, data), "HD\r\n").deep(depth))
			bench(b, duo(name("text", "set", 2)+"/writes=parallel", set, "STORED\r\n", "p1> STORED\r\n", "b1> STORED\r\n").with("", parallel).deep(depth))
		}
	}
	for _, depth := range []int{1, 16} {
		bench(b, duo(fmt.Sprintf("proto=text/op=delete/copies=2/pipeline=%d", depth), "delete key-1\r\n", "DELETED\r\n",
			"p1> DELETED\r\n", "b1> HD\r\n", none).deep(depth))
	}
	bench(b, steps("proto=text/op=incr/copies=2/pipeline=1", "incr key-1 1\r\n", "12\r\n"))
	for _, keys := range []int{10, 24} {
		e := multiGet(keys, 100)
		e.name = fmt.Sprintf("proto=text/op=multiget/copies=1/value=100/keys=%d/nodes=3", keys)
		bench(b, e)
	}
}

// deep is e n times in one arrival, each of its answers too.
func (e exchange) deep(n int) exchange {
	e.requests *= n
	e.reply = strings.Repeat(e.reply, n)
	for i := range e.steps {
		e.steps[i].data = strings.Repeat(e.steps[i].data, n)
	}
	return e
}

func bench(b *testing.B, e exchange) {
	b.Run(e.name, func(b *testing.B) {
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
