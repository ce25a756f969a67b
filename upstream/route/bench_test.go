package route

import (
	"fmt"
	"testing"
)

// BenchmarkPick has every distribution with every hash that it takes: the nodes make
// the work of a distribution, the key that of a hash.
func BenchmarkPick(b *testing.B) {
	eachSpec(func(spec Spec) {
		name := "dist=" + spec.Distribution
		if spec.Hash != "" {
			name += "/hash=" + spec.Hash
		}
		for _, nodes := range []int{2, 8, 100} {
			b.Run(fmt.Sprintf("%s/nodes=%d/key=20", name, nodes), func(b *testing.B) { benchmarkPick(b, spec, nodes, 20) })
		}
		for _, size := range []int{100, 250} {
			b.Run(fmt.Sprintf("%s/nodes=8/key=%d", name, size), func(b *testing.B) { benchmarkPick(b, spec, 8, size) })
		}
	})
	b.Run("dist=jump/tag={}/nodes=8/key=20", func(b *testing.B) { benchmarkPick(b, Spec{Distribution: "jump", Tag: "{}"}, 8, 20) })
}

// benchmarkPick goes round many keys, so that no branch can be learnt.
func benchmarkPick(b *testing.B, spec Spec, nodes, size int) {
	p := mustNew(b, spec, loopback(11211, nodes))
	var keys [1 << 12][]byte
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "{%0*d}:x", size-4, i*7919)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p.Pick(keys[i%len(keys)])
		i++
	}
}
