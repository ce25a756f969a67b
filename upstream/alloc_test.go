//go:build !race

package upstream

import (
	"fmt"
	"testing"
	"time"

	"magent/codec"
)

// nobody hears everything and keeps nothing.
type nobody struct{}

func (*nobody) Reply(*Conn, *Pending, *codec.Reply, []byte) {}
func (*nobody) Body(*Conn, *Pending, []byte, int)           {}
func (*nobody) Fail(*Conn, *Pending, Cause, bool)           {}
func (*nobody) Late(*Conn, *Pending)                        {}

// The race runtime allocates on its own account.
func TestHoldingDoesNotAllocate(t *testing.T) {
	r := newRig(2)
	a, wa := r.open(t, 0)
	b, wb := r.open(t, 1)
	var o nobody
	line, answer := []byte("delete k\r\n"), []byte("DELETED\r\n")
	n := testing.AllocsPerRun(5000, func() {
		p := a.Hold(append(a.Room(len(line)), line...), Pending{Owner: &o, Op: codec.OpDelete}, codec.Span{Off: 7, Len: 1})
		a.Resend(&p)
		b.Resend(&p)
		again := r.group.Retain(&p)
		r.group.Drop(&p)
		ck := r.group.Gather(2 * chunkSize)
		ck.Buf = append(ck.Buf, line...)
		own := r.group.HoldChunk(ck, 0, again, codec.Span{Off: 7, Len: 1})
		b.Resend(&own)
		r.group.Drop(&own)
		a.Resend(&again)
		r.group.Drop(&again)
		r.group.Flush()
		a.Feed(answer)
		a.Feed(answer)
		b.Feed(answer)
		b.Feed(answer)
		wa.out.Reset()
		wb.out.Reset()
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if r.group.Pending() != 0 {
		t.Errorf("%d requests in flight", r.group.Pending())
	}
}

// What watches over nodes costs a request nothing that the collector would notice,
// late ones included.
func TestMeasuringDoesNotAllocate(t *testing.T) {
	r := newRigOf(2, timed(Limits{Timeout: 100, Dial: 10, HedgeAuto: true}))
	r.watch()
	ask := r.asker(t, 4)
	late := func() { r.ticks(4) }
	for range 1000 {
		ask(nil)
	}
	if n := testing.AllocsPerRun(1000, func() {
		ask(nil)
		ask(late)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if mean, _ := r.group.Latency(0); mean == 0 || r.group.paces[0].delay == 0 {
		t.Errorf("the mean is %v, a read is late after %d ticks", mean, r.group.paces[0].delay)
	}
}

// timed gives l a real clock.
func timed(l Limits) Limits {
	begun := time.Now()
	l.Tick, l.Clock = 5*time.Millisecond, func() time.Duration { return time.Since(begun) }
	return l
}

// asker returns what asks node 0 for depth keys, and has it answer after wait, if any.
func (r *rig) asker(t testing.TB, depth int) func(wait func()) {
	c, w := r.open(t, 0)
	key, o := []byte("some-key"), &nobody{}
	var answer []byte
	for range depth {
		answer = append(answer, "VALUE some-key 0 5\r\nvalue\r\n"...)
	}
	answer = append(answer, "END\r\n"...)
	return func(wait func()) {
		for range depth {
			c.Get(Pending{Owner: o, Op: codec.OpGet}, nil, key)
		}
		r.group.Flush()
		if wait != nil {
			wait()
		}
		c.Feed(answer)
		w.out.Reset()
	}
}

// A get, from the owner's call to its answer, without sockets.
func BenchmarkGet(b *testing.B) {
	limits := Limits{Timeout: 100, Dial: 10}
	for _, clock := range []string{"off", "on"} {
		if clock == "on" {
			limits = timed(limits)
		}
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprintf("clock=%s/depth=%d", clock, depth), func(b *testing.B) {
				r := newRigOf(2, limits)
				ask := r.asker(b, depth)
				b.ReportAllocs()
				for b.Loop() {
					ask(nil)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*depth), "ns/req")
			})
		}
	}
}

// What a tick costs a group all of whose nodes are being asked.
func BenchmarkTick(b *testing.B) {
	for _, nodes := range []int{2, 8} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := newRigOf(nodes, timed(Limits{Timeout: 1 << 30, Dial: 10, HedgeAuto: true}))
			r.watch()
			for i := range nodes {
				c, _ := r.open(b, i)
				c.Get(Pending{Owner: &nobody{}, Op: codec.OpGet}, nil, []byte("k"))
			}
			r.group.Flush()
			b.ReportAllocs()
			for b.Loop() {
				for i := range r.group.paces {
					r.group.paces[i].gauge.Record(time.Millisecond)
				}
				r.group.Tick()
			}
		})
	}
}
