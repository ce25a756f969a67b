//go:build !race

package converge

import (
	"testing"

	"magent/upstream/repair"
)

// The race runtime allocates on its own account.
func TestWritesDoNotAllocate(t *testing.T) {
	line := []byte("set k 7 60 5\r\n")
	req, buf := parsed("set k 7 60 5"), make([]byte, 0, 512)
	answer, held, look := []byte("HD c5\r\n"), []byte("HD c8\r\n"), []byte("HD c5 t60\r\n")
	var f Follow
	if n := testing.AllocsPerRun(1000, func() {
		AppendLead(buf, line, req, Lead{})
		AppendReply(buf, answer, req, 0)
		_, s := f.Start(buf, EffectOf(req, answer), &Write{Line: line, Request: req, Answer: answer, At: simNow})
		_, s = f.Answer(buf, held, simNow)
		if _, s = f.Answer(buf, look, simNow); s.Outcome != repair.Copied {
			t.Fatalf("ended as %v", s.Outcome)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkFollow(b *testing.B) {
	line := []byte("set k 7 60 5\r\n")
	req, buf := parsed("set k 7 60 5"), make([]byte, 0, 512)
	answer, held, look := []byte("HD c5\r\n"), []byte("HD c8\r\n"), []byte("HD c5 t60\r\n")
	var f Follow
	for b.Loop() {
		f.Start(buf, EffectOf(req, answer), &Write{Line: line, Request: req, Answer: answer, At: simNow})
		f.Answer(buf, held, simNow)
		f.Answer(buf, look, simNow)
	}
}
