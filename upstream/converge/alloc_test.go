//go:build !race

package converge

import (
	"testing"

	"magent/upstream/repair"
)

// The race runtime allocates on its own account.
func TestWritesDoNotAllocate(t *testing.T) {
	for _, text := range []string{"set k 7 60 5", "add k 7 60 5", "cas k 7 60 5 99", "ms k 5 T60 C99 c"} {
		line, req, buf := []byte(text+"\r\n"), parsed(text), make([]byte, 0, 512)
		answer, held, look := []byte("HD c5\r\n"), []byte("HD c8\r\n"), []byte("HD c5 t60\r\n")
		var f Follow
		if n := testing.AllocsPerRun(1000, func() {
			AppendLead(buf, line, req, Lead{})
			AppendReply(buf, answer, req, 0)
			_, s := f.Start(buf, EffectOf(req, answer), &Write{Line: line, Request: req, Answer: answer, At: simNow, Asked: true, Version: 4})
			_, s = f.Answer(buf, held, simNow)
			if _, s = f.Answer(buf, look, simNow); s.Outcome != repair.Copied {
				t.Fatalf("%s: ended as %v", text, s.Outcome)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", text, n)
		}
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
