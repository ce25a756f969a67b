package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// sink is a writer that may be held up.
type sink struct {
	mu    sync.Mutex // held while it is
	lines []string
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(b))
	return len(b), nil
}

func closed(t *testing.T, h *Handler) {
	t.Helper()
	if err := h.Close(proctest.Patience); err != nil {
		t.Fatal(err)
	}
}

func TestLinesComeInOrder(t *testing.T) {
	var to sink
	h := New(&to, Text, slog.LevelInfo)
	log := slog.New(h).With("a", 1).WithGroup("g")
	for i := range queued / 2 {
		log.Info("line", "i", i)
		log.Debug("too low")
	}
	closed(t, h)
	if len(to.lines) != queued/2 {
		t.Fatalf("%d lines are written, want %d", len(to.lines), queued/2)
	}
	for i, line := range to.lines {
		if want := fmt.Sprintf("level=INFO msg=line a=1 g.i=%d\n", i); !strings.HasSuffix(line, want) {
			t.Fatalf("line %d is %q, want %q", i, line, want)
		}
	}
	if n := h.Lost(); n != 0 {
		t.Errorf("%d lines are lost", n)
	}
}

func TestJSON(t *testing.T) {
	var to sink
	h := New(&to, JSON, slog.LevelInfo)
	slog.New(h).Warn("node down", "took", 1500*time.Millisecond, "key", "a\xff\"\n", "err", io.EOF)
	closed(t, h)
	var got map[string]any
	if err := json.Unmarshal([]byte(to.lines[0]), &got); err != nil {
		t.Fatalf("%q: %v", to.lines[0], err)
	}
	for key, want := range map[string]any{"level": "WARN", "msg": "node down", "took": 1.5, "key": "a\ufffd\"\n", "err": "EOF"} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

// A writer that stands still holds nobody up, and when it goes on it is said what is
// missing.
func TestNobodyWaits(t *testing.T) {
	var to sink
	to.mu.Lock()
	h := New(&to, Text, slog.LevelInfo)
	log := slog.New(h)
	for range 3 * queued {
		log.Info("line")
	}
	lost := h.Lost()
	if lost < 2*queued-1 || lost > 2*queued {
		t.Errorf("%d lines are lost, want %d", lost, 2*queued)
	}
	if err := h.Close(time.Millisecond); err == nil {
		t.Error("it was closed although nothing is written")
	}
	to.mu.Unlock()
	proctest.Eventually(t, "it is said what is missing", func() bool {
		to.mu.Lock()
		defer to.mu.Unlock()
		return len(to.lines) >= 2 && strings.HasSuffix(to.lines[1], fmt.Sprintf("lines of the log were lost\" lines=%d\n", lost))
	})
}

// The same with a pipe that nobody reads, as a stuck log shipper leaves it.
func TestPipeThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h := New(w, JSON, slog.LevelInfo)
	log := slog.New(h)
	for h.Lost() == 0 {
		log.Info("line", "of", strings.Repeat("x", 1000))
	}
	var got bytes.Buffer
	read := make(chan struct{})
	go func() { _, _ = io.Copy(&got, r); close(read) }()
	closed(t, h)
	w.Close()
	<-read
	if n := bytes.Count(got.Bytes(), []byte(`"msg":"lines of the log were lost","lines":`)); n == 0 {
		t.Error("nothing is said of what is missing")
	}
	for line := range bytes.Lines(got.Bytes()) {
		if !json.Valid(line) {
			t.Fatalf("%q is no line", line)
		}
	}
}
