package converge

import (
	"testing"

	"magent/codec"
	"magent/upstream/repair"
)

// followedWrite is a write with all that its follower needs, to be done again and again.
type followedWrite struct {
	line              []byte
	req               *codec.Request
	buf               []byte
	answer, held, got []byte // of the lead; of the follower; of the lead to the second look
	f                 Follow
}

// followedWrites are what alloc_test.go counts and the benchmarks time.
func followedWrites() (all []*followedWrite) {
	for _, text := range []string{"set k 7 60 5", "add k 7 60 5", "cas k 7 60 5 99", "ms k 5 T60 C99 c"} {
		all = append(all, &followedWrite{line: []byte(text + "\r\n"), req: parsed(text), buf: make([]byte, 0, 512),
			answer: []byte("HD c5\r\n"), held: []byte("HD c8\r\n"), got: []byte("HD c5 t60\r\n")})
	}
	return all
}

// lead makes the line for the lead and the reply for the client.
func (w *followedWrite) lead() {
	AppendLead(w.buf, w.line, w.req, Lead{})
	AppendReply(w.buf, w.answer, w.req, 0)
}

// follow brings the follower up to the lead.
func (w *followedWrite) follow() repair.Outcome {
	w.f.Start(w.buf, EffectOf(w.req, w.answer), &Write{Line: w.line, Request: w.req, Answer: w.answer, At: simNow, Asked: true, Version: 4})
	w.f.Answer(w.buf, w.held, simNow)
	_, s := w.f.Answer(w.buf, w.got, simNow)
	return s.Outcome
}

func BenchmarkLead(b *testing.B) {
	for _, w := range followedWrites() {
		b.Run("op="+w.req.Op.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.lead()
			}
		})
	}
}

func BenchmarkFollow(b *testing.B) {
	for _, w := range followedWrites() {
		b.Run("op="+w.req.Op.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.follow()
			}
		})
	}
}
