package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	var h History
	var out bytes.Buffer
	log := slog.New(h.Handler(slog.NewTextHandler(&out, nil)))
	log.Debug("node connected", "node", "a")
	log.Info("refill", "node", "a", "done", 1)
	log.With("node", "a", "pool", "p").WithGroup("").Warn("a node is not refilled now", "cause", "b is down")
	log.Info("node up", "node", "a", "was", "warming", "cause", "it is refilled", "epoch", 3)
	all, last := h.Events(0)
	if last != 2 || len(all) != 2 {
		t.Fatalf("%d: %+v", last, all)
	}
	want := []Event{
		{Number: 1, At: all[0].At, Kind: "refill", What: "a node is not refilled now", Pool: "p", Node: "a", Cause: "b is down"},
		{Number: 2, At: all[1].At, Kind: "state", What: "node up", Node: "a", Cause: "it is refilled", More: "was=warming epoch=3"},
	}
	if !reflect.DeepEqual(all, want) || time.Since(all[0].At) > time.Minute {
		t.Errorf("got %+v, want %+v", all, want)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 3 || strings.Contains(out.String(), "connected") {
		t.Errorf("the log has\n%s", &out)
	}
	for after, n := range map[uint64]int{0: 2, 1: 1, 2: 0, 100: 0} {
		if all, _ := h.Events(after); len(all) != n {
			t.Errorf("%d are after %d: %+v", len(all), after, all)
		}
	}
}

// Without a log, as in the background, there is a history all the same. It is bounded in
// events and in what is kept of each.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	var h History
	log := slog.New(h.Handler(slog.DiscardHandler))
	long := strings.Repeat("é", maxWords)
	for i := range 3 * keptEvents {
		log.Info("ready", "cause", long, "node", fmt.Sprint(i), "a", long, "b", long)
	}
	all, last := h.Events(0)
	if last != 3*keptEvents || len(all) != keptEvents || all[0].Number != 2*keptEvents+1 || all[0].Node != fmt.Sprint(2*keptEvents) {
		t.Errorf("%d, %d, %+v", last, len(all), all[0])
	}
	for _, text := range []string{all[0].Cause, all[0].More} {
		if len(text) > maxWords || len(text) < maxWords-3 || !utf8.ValidString(text) {
			t.Errorf("%d bytes are kept: %q", len(text), text)
		}
	}
}

func TestHistoryIsHandedOver(t *testing.T) {
	t.Parallel()
	var before, after History
	for i := range keptEvents + 10 {
		before.add(Event{What: fmt.Sprint(i)})
	}
	saved, err := before.Save()
	if err != nil {
		t.Fatal(err)
	}
	after.add(Event{What: "new"})
	if err := after.Load(saved); err != nil {
		t.Fatal(err)
	}
	all, last := after.Events(0)
	if end := all[len(all)-1]; len(all) != keptEvents || last != keptEvents+11 || end.Number != last || end.What != "new" {
		t.Errorf("%d, %d, %+v", len(all), last, end)
	}
	if err := after.Load([]byte("{}")); err == nil {
		t.Error("what is no history is loaded")
	}
	if again, _ := after.Events(0); !reflect.DeepEqual(again, all) {
		t.Error("what is no history has changed it")
	}
	var empty History
	if saved, err = empty.Save(); err != nil || after.Load(saved) != nil {
		t.Errorf("an empty one: %v", err)
	}
}

// Each line that is an event is one that is logged, and that OPERATIONS.md explains; and so
// is each kind.
func TestEventsAreLogged(t *testing.T) {
	t.Parallel()
	sources := new(strings.Builder)
	for _, pattern := range []string{"../*.go", "../../cmd/magent/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	document, err := os.ReadFile("../../OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	for what, kind := range eventKinds {
		logged := strings.Contains(sources.String(), `"`+what+`"`)
		if state, ok := strings.CutPrefix(what, "node "); kind == "state" {
			logged = ok && strings.Contains(sources.String(), `"node "+c.To.String()`) && state != ""
		}
		if !logged {
			t.Errorf("nobody logs %q", what)
		}
		for _, word := range []string{what, kind} {
			if !strings.Contains(string(document), "`"+word+"`") {
				t.Errorf("OPERATIONS.md does not have `%s`", word)
			}
		}
	}
}
