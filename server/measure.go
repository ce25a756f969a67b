package server

import (
	"time"

	"magent/codec"
)

// How long commands take, as clients find it: from the batch of events in which a command
// came to what ends its answer. The clock is read once for a batch, and once for what a
// node sent (upstream.Group.Now). A command that came while the batch before was being
// served counts from the beginning of that: it was waiting, perhaps since then.

// micros is a time as a slot keeps it, in µs, and never 0. Between two that are less than
// 71 minutes apart the difference is right.
func micros(t time.Duration) uint32 { return max(uint32(t/time.Microsecond), 1) }

// timed is a slot of a command that nodes are asked for.
func (s *session) timed(op codec.Op, flags slotFlags) slot {
	l := s.loop
	if !l.deferred || l.batch == 0 {
		l.batch = micros(l.group.Now())
	}
	return slot{op: op, flags: flags, began: l.batch}
}

// ended counts a slot that is done.
func (s *session) ended(sl *slot) {
	s.count.Answers[sl.op][sl.result]++
	if sl.began == 0 {
		return
	}
	took := time.Duration(micros(s.loop.group.Now())-sl.began) * time.Microsecond
	if sl.op.Class() == codec.ClassRead || sl.op.MultiKey() {
		s.count.Reads.Record(took, 1)
	} else {
		s.count.Writes.Record(took, 1)
	}
}
