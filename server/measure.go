package server

import (
	"time"

	"magent/codec"
)

// How long commands take, as clients find it: from the batch of events in which a command
// came to what ends its answer. The clock is read once for a batch, and once for what a
// node sent (upstream.Group.Micros). A command that came while the batch before was being
// served counts from the beginning of that: it was waiting, perhaps since then.

// waits is commands that came and were answered at the same time. They are counted
// together, which is next to nothing for each.
type waits struct {
	count        *Counters // whose they are
	began, ended uint32
	write        bool
	n            uint64
}

// arrived is when the batch at hand began to come.
func (l *loop) arrived() uint32 {
	if !l.deferred || l.batch == 0 {
		l.batch = l.lanes[0].group.Micros()
	}
	return l.batch
}

// ended counts the slot numbered seq, which is done.
func (s *session) ended(seq uint32, sl *slot) {
	s.count.Answers[sl.op][sl.result]++
	if sl.began == 0 {
		return
	}
	l, of := s.loop, sl.lane
	if of == nil {
		of = l.lanes[0]
	}
	now := of.group.Micros()
	if l.witness != nil {
		l.witness.judge(s, seq, sl, now)
	}
	write := sl.op.Class() != codec.ClassRead && !sl.op.MultiKey()
	if w := &l.waits; w.began != sl.began || w.ended != now || w.write != write || w.count != s.count {
		l.waited()
		*w = waits{count: s.count, began: sl.began, ended: now, write: write}
	}
	l.waits.n++
}

// waited puts the commands that were gathered last into the histograms.
func (l *loop) waited() {
	w := &l.waits
	if w.n == 0 {
		return
	}
	h := &w.count.Reads
	if w.write {
		h = &w.count.Writes
	}
	h.Record(time.Duration(w.ended-w.began)*time.Microsecond, w.n)
	w.n = 0
}
