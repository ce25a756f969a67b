//go:build !race

package upstream

import (
	"testing"

	"magent/codec"
)

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
