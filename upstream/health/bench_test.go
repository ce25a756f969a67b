package health

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkLoad is what every request pays: on one goroutine, on all cores at once, and
// with nodes that rise and fall without a pause on the same cache line.
func BenchmarkLoad(b *testing.B) {
	b.Run("loops=1/moves=0", func(b *testing.B) {
		t := NewTable(8)
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			t.Load(i & 7)
			i++
		}
	})
	for _, movers := range []int{0, 1} {
		b.Run(fmt.Sprintf("loops=all/moves=%d", movers), func(b *testing.B) {
			t := NewTable(8)
			stop, moving := make(chan struct{}), new(sync.WaitGroup)
			for range movers {
				moving.Go(func() { rock(t, stop) })
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					t.Load(i & 7)
				}
			})
			close(stop)
			moving.Wait()
		})
	}
}

// rock moves node 0 down and up until stop is closed.
func rock(t *Table, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			w, _ := t.Move(0, t.Load(0), Down)
			t.Move(0, w, Up)
		}
	}
}

// BenchmarkMove has a node fall and rise: by one that is alone with the table, by all
// cores, of which one wins each time, and with news that comes too late.
func BenchmarkMove(b *testing.B) {
	b.Run("loops=1/late=0", func(b *testing.B) {
		t := NewTable(8)
		b.ReportAllocs()
		for b.Loop() {
			w := t.Load(0)
			t.Move(0, w, Down-w.State())
		}
	})
	b.Run("loops=1/late=1", func(b *testing.B) {
		t := NewTable(8)
		old := t.Load(0)
		t.Move(0, old, Slow)
		b.ReportAllocs()
		for b.Loop() {
			t.Move(0, old, Down)
		}
	})
	b.Run("loops=all/late=0", func(b *testing.B) {
		t := NewTable(8)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				w := t.Load(0)
				t.Move(0, w, Down-w.State())
			}
		})
	})
}

// BenchmarkLook is what each tick pays for each node.
func BenchmarkLook(b *testing.B) {
	for _, own := range []time.Duration{time.Millisecond, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("own=%v/peer=1ms", own), func(b *testing.B) {
			o, now := NewOutlier(DefaultLimits.Slow), time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now += 5 * time.Millisecond
				o.Look(now, own, time.Millisecond)
			}
		})
	}
}
