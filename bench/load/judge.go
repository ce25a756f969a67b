package load

import (
	"fmt"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"magent/bench/wire"
)

// histMax is the longest latency told apart from longer ones.
const histMax = int64(time.Minute)

// newHistogram holds latencies in ns, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, histMax, 3) }

// tally is what a worker saw.
type tally struct {
	counts
	ops     [wire.Ops]opTally
	fault   fault
	samples [][]Sample // in pieces, so that none has to move
	stalls  []Stall
	lap     *lap // nil if nobody looks on
}

// counts: errors, server errors, wrong, stale, conflicts, lost and reopened count from
// the first request on; the others what is measured.
type counts struct {
	requests, inTime, misses  int64
	unsent                    int64
	errors, serverErrors      int64
	wrong, stale              int64
	conflicts, lost, reopened int64
	in, out                   int64 // bytes while measuring
	failed, dropped           int64 // answered with an error, and not at all
}

// opTally is of one operation. hist is nil before the first answer.
type opTally struct {
	requests, hits, misses int64
	hist                   *hdrhistogram.Histogram
}

// fault is the first of the worst things that were answered.
type fault struct {
	weight int
	at     int64
	text   string
}

// weigh says which faults are told of rather than others: wrong values, then stale ones,
// then the rest.
func weigh(v Verdict) int {
	switch v {
	case Wrong:
		return 3
	case Stale:
		return 2
	}
	return 1
}

// before says whether f is to be told of rather than g.
func (f fault) before(g fault) bool {
	return f.weight > g.weight || f.weight == g.weight && f.at < g.at
}

// worse says whether a fault now is to be told of. Only then is it worth its words.
func (t *tally) worse(v Verdict) bool { return weigh(v) > t.fault.weight }

func (t *tally) blame(v Verdict, now int64, text string) {
	if t.worse(v) {
		t.fault = fault{weight: weigh(v), at: now, text: text}
	}
}

// samplesPiece is how many samples are made room for at a time.
const samplesPiece = 1 << 14

func (t *tally) sample(s Sample) {
	last := len(t.samples) - 1
	if last < 0 || len(t.samples[last]) == samplesPiece {
		t.samples = append(t.samples, make([]Sample, 0, samplesPiece))
		last++
	}
	t.samples[last] = append(t.samples[last], s)
}

// measured says whether a request counts that was due then and ends now.
func (w *worker) measured(due int64) bool {
	if w.schedule != nil {
		return due >= w.begin
	}
	return w.phase == measuring
}

// settle judges and books the answer to f, which ended with text: for a fault to quote.
func (w *worker) settle(c *conn, f *flight, acked []uint32, out *wire.Reply, text []byte, now int64) {
	c.tries = 0
	verdict := Good
	switch f.Op {
	case wire.Get, wire.Gets:
		verdict = w.judgeGet(c, f, acked, out, text, now)
	case wire.Incr:
		verdict = w.judgeIncr(c, f, out, now)
	default:
		verdict = w.judgeWrite(f, out)
	}
	if out.Status == wire.Failed {
		verdict = Failed
		w.errors++
		if w.worse(Failed) {
			w.blame(Failed, now, c.scan.ErrLine)
		}
		if strings.HasPrefix(c.scan.ErrLine, "SERVER_ERROR ") {
			w.serverErrors++
		}
		if w.fill && w.refusal == nil {
			w.refusal = w.unstored(f, c.scan.ErrLine)
		}
		c.scan.ErrLine = "" // so that the next has its own
	}
	took := min(now-f.due, histMax)
	if w.lap != nil {
		w.lap.record(took)
	}
	if !w.measured(f.due) {
		return
	}
	w.requests++
	if verdict == Failed {
		w.failed++
	}
	if now <= w.end {
		w.inTime++
	}
	op := &w.ops[f.Op]
	op.requests++
	op.hits += int64(out.Hits)
	op.misses += int64(out.Misses)
	w.misses += int64(out.Misses)
	if out.Status == wire.NotFound {
		op.misses++
	}
	if op.hist == nil {
		op.hist = newHistogram()
	}
	// The value is in range by construction, so this cannot fail.
	_ = op.hist.RecordValue(took)
	if w.cfg.Samples {
		w.sample(Sample{Due: time.Duration(f.due - w.begin), Took: time.Duration(now - f.due), Op: f.Op, Verdict: verdict})
	}
}

// unstored is why a preload ends: f was answered with line.
func (w *worker) unstored(f *flight, line string) error {
	name, size := w.space.AppendKey(nil, int(f.Key)), int(f.Size)
	if f.Op == wire.SetCounter {
		name, size = w.space.AppendCounter(nil, int(f.Key)), len("0")
	}
	return fmt.Errorf("load: preload of %s: %s (%d bytes) was answered %q", w.cfg.Targets[0], name, size, line)
}

// judgeGet holds the values that came against the ledger.
func (w *worker) judgeGet(c *conn, f *flight, acked []uint32, out *wire.Reply, text []byte, now int64) Verdict {
	verdict := Good
	if out.Misses > 0 {
		verdict = Miss
	}
	if f.forCAS && out.Version != 0 {
		c.follow = append(c.follow, wire.Request{Op: wire.CAS, Keys: 1, Key: f.Key, Version: out.Version})
	}
	if w.ledger != nil && out.Hits > 0 {
		for i := range int(f.Keys) {
			if c.scan.Seen&(1<<i) != 0 && w.isStale(c, f, i, acked[i], now) {
				verdict = Stale
				w.stale++
			}
		}
	}
	if out.Wrong > 0 {
		verdict = Wrong
		w.wrong += int64(out.Wrong)
		if w.worse(Wrong) {
			w.blame(Wrong, now, w.wrongText(c, f, out, text))
		}
	}
	return verdict
}

// isStale judges the i-th value of a get, of whose key write acked had been answered
// when it was sent. A value too short to name its write is not judged.
func (w *worker) isStale(c *conn, f *flight, i int, acked uint32, now int64) bool {
	mark := c.scan.Marks[i]
	if acked == 0 || mark.Run == 0 || mark.Run == w.mark && mark.Seq >= acked {
		return false
	}
	key := w.key(f, i)
	if mark.Run == w.mark && w.ledger.doubtful(key, mark.Seq) {
		return false
	}
	if w.worse(Stale) {
		came := fmt.Sprintf("that of write %d", mark.Seq)
		if mark.Run != w.mark {
			came = "one that was there before the run"
		}
		w.blame(Stale, now, fmt.Sprintf("stale: %s of %s: want the value of write %d, which was acknowledged before, or of a later one; came %s",
			f.Op, w.space.AppendKey(nil, int(key)), acked, came))
	}
	return true
}

// wrongText tells of a get with a wrong value in its answer. Of several keys, the first
// without a good value may have been a miss.
func (w *worker) wrongText(c *conn, f *flight, out *wire.Reply, text []byte) string {
	key := f.Key
	for i := range int(f.Keys) {
		if c.scan.Seen&(1<<i) == 0 {
			key = w.key(f, i)
			break
		}
	}
	return fmt.Sprintf("wrong: %s of %s (%d of %d keys): want the key's own value, with the right checksum; came an answer that ends in %q",
		f.Op, w.space.AppendKey(nil, int(key)), out.Wrong, f.Keys, tail(text, 200))
}

// tail is the last n bytes of b, or all.
func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// judgeIncr holds a counter against its last number, which is unknown at first and after
// anything but a number.
func (w *worker) judgeIncr(c *conn, f *flight, out *wire.Reply, now int64) Verdict {
	if out.Status != wire.OK {
		c.counting = false
		if out.Status == wire.NotFound {
			return Miss
		}
		return Failed
	}
	want, known := c.count+1, c.counting
	c.count, c.counting = out.Number, true
	if !known || out.Number == want {
		return Good
	}
	w.wrong++
	if w.worse(Wrong) {
		w.blame(Wrong, now, fmt.Sprintf("wrong: incr of %s: want %d, came %d", w.space.AppendCounter(nil, int(f.Key)), want, out.Number))
	}
	return Wrong
}

// judgeWrite books in the ledger what became of a write.
func (w *worker) judgeWrite(f *flight, out *wire.Reply) Verdict {
	if w.ledger != nil && f.Mark.Seq > 0 {
		switch {
		case out.Status == wire.Failed:
			w.ledger.doubt(f.Key, f.Mark.Seq)
		case out.Status == wire.OK, out.Status == wire.NotFound && f.Op == wire.Delete:
			w.ledger.ack(f.Key, f.Mark.Seq)
		}
	}
	switch out.Status {
	case wire.Exists:
		w.conflicts++
	case wire.NotFound:
		return Miss
	}
	return Good
}

// abandon books a request whose connection died before the answer.
func (w *worker) abandon(f *flight, now int64) {
	if w.ledger != nil && f.Mark.Seq > 0 {
		w.ledger.doubt(f.Key, f.Mark.Seq)
	}
	w.loss(f.Op, f.due, now)
}

// forgo books a request that never was sent, since its connection could not be opened.
func (w *worker) forgo(c *conn, due, now int64) {
	var f flight
	c.source.next(&f) // which it would have been
	w.loss(f.Op, due, now)
}

func (w *worker) loss(op wire.Op, due, now int64) {
	w.errors++
	if !w.measured(due) {
		return
	}
	w.dropped++
	if w.cfg.Samples {
		w.sample(Sample{Due: time.Duration(due - w.begin), Took: time.Duration(now - due), Op: op, Verdict: Lost})
	}
}
