package refill

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/bench/failover"
)

// measured is a round of such figures: keys per second, those of the copy, and p99 before
// and during in ms.
func measured(rate, raw float64, calm, busy int) Round {
	seen := &failover.Result{Phases: []failover.Phase{{Name: "before", Requests: 1}, {Name: "back", Requests: 1}}}
	seen.Phases[0].Net.P99 = failover.Millis(time.Duration(calm) * time.Millisecond)
	seen.Phases[1].Net.P99 = failover.Millis(time.Duration(busy) * time.Millisecond)
	return Round{
		Copy: Trial{Rate: raw, Keys: 10, Warming: failover.Never}, Idle: Trial{Rate: rate, Keys: 10},
		Loaded: Loaded{Trial: Trial{Keys: 10}, Seen: seen},
	}
}

func promised(rounds ...Round) *Set {
	return &Set{Keys: 10, Bounds: Bounds{MinRate: 100, MinRatio: 0.6, MaxP99Ratio: 2}, Rounds: rounds}
}

// Of the rounds the median is judged, and of what must be nothing each.
func TestCheck(t *testing.T) {
	good := measured(120, 150, 10, 15)
	broken := func(change func(*Round)) Round {
		r := measured(120, 150, 10, 15)
		change(&r)
		return r
	}
	for want, s := range map[string]*Set{
		"": promised(measured(50, 50, 1, 9), good, good),
		"refill: 90 keys/s [80–120], and at least 100 promised":                        promised(measured(90, 100, 1, 1), measured(80, 100, 1, 1), good),
		"refill: 0.50 [0.50–0.50] of the pace of a raw copy, and at least 0.60":        promised(measured(110, 220, 1, 1)),
		"refill: p99 of clients is multiplied by 2.00 [2.00–2.00], and less than 2.00": promised(measured(110, 110, 2, 4)),
		"refill: p99 of clients is multiplied by NaN":                                  promised(broken(func(r *Round) { r.Loaded.Seen.Phases = nil })),
		"refill: round 2: clients saw 3 errors, 0 misses, 0 old or wrong values":       promised(good, broken(func(r *Round) { r.Loaded.Seen.Total.Failed, r.Loaded.Seen.Unsent = 2, 1 })),
		"refill: round 1: clients saw 0 errors, 1 misses, 5 old or wrong values":       promised(broken(func(r *Round) { r.Loaded.Seen.Total.Counts = failover.Counts{Misses: 1, Stale: 2, Wrong: 3} })),
		"refill: round 1: after the idle refill the node holds 9 of 10 keys":           promised(broken(func(r *Round) { r.Idle.Keys = 9 })),
		"refill: round 1: after the refill under load the node holds 8 of 10 keys":     promised(broken(func(r *Round) { r.Loaded.Keys = 8 })),
		"refill: round 1: after the raw copy the node holds 7 of 10 keys":              promised(broken(func(r *Round) { r.Copy.Keys = 7 })),
	} {
		if err := s.Check(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	s := promised(measured(1, 100, 1, 9))
	s.Bounds = Bounds{}
	if err := s.Check(); err != nil {
		t.Errorf("without bounds: %v", err)
	}
}

func TestLines(t *testing.T) {
	s := promised(measured(90, 100, 10, 30), measured(120, 150, 10, 15), measured(130, 150, 10, 11))
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"idle: keys refilled per second 120 90 130 at least 100 holds",
		"idle: refill beside raw copy 0.87 0.80 0.90 at least 0.60 holds",
		"under load: p99 during the refill, µs 15000 11000 30000 – –",
		"under load: p99 during beside before 1.50 1.10 3.00 below 2.00 holds",
		"under load: misses 0 0 0 0 holds",
		"keys that the node lacked once it was up 0 0 0 0 holds",
	} {
		if text := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	s.Rounds[0].Idle.Keys, s.Rounds[1].Loaded.Seen.Total.Lost = 5, 1
	s.Bounds = Bounds{MinRate: 1000}
	b.Reset()
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"120 90 130 at least 1000 missed", "0.87 0.80 0.90 – –", "1.50 1.10 3.00 – –",
		"under load: errors 0 0 1 0 missed", "once it was up 0 0 5 0 missed",
	} {
		if text := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

func TestLoadChecks(t *testing.T) {
	dir := t.TempDir()
	for text, word := range map[string]string{
		`{`:               "unexpected end",
		`{"rounds":[]}`:   "no rounds",
		`{"rounds":[{}]}`: "not whole",
	} {
		if err := os.WriteFile(filepath.Join(dir, RawFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory without one is read")
	}
}
