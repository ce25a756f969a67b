package failover

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/bench/load"
	"magent/bench/wire"
)

// outage is a drill in which clients see all there is to see.
func outage() *Result {
	o := Observation{Length: 4 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(2000 * ms)}, Stalls: []load.Stall{{From: 500 * ms, To: 502 * ms}}}
	o.Marks[1].From = Millis(1500 * ms)
	o.Samples = steady(o.Length, func(s *load.Sample) {
		switch {
		case s.Due == 999*ms:
			s.Took, s.Op = 40*ms, wire.Set
		case s.Due == 1000*ms:
			s.Verdict = load.Lost
		case between(s, 1001*ms, 2001*ms):
			s.Verdict = load.Failed
		case between(s, 2001*ms, 2400*ms):
			s.Verdict = load.Miss
		}
	})
	r := Analyse(o)
	r.Name, r.Rate, r.Unsent = "a drill", 1000, 2
	return r
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := outage().Write(&b); err != nil {
		t.Fatal(err)
	}
	want := `
a drill
1000 requests/s for 4.000 s

   phase     from  requests  good/s  errors  misses  stale  wrong      hits  p50 ms  p99 ms  slowest ms
  before  0.000 s       999     999       0       0      0      0  100.00 %    0.50    0.50        0.50
    down  1.000 s      1001       1    1000       0      0      0    0.00 %    0.50    0.50       40.00
    back  2.000 s       399       0       1     398      0      0    0.00 %    0.50    0.50        0.50
    warm  2.399 s      1601     999       0       1      0      0   99.93 %    0.50    0.50        0.50
   total  0.000 s      4000     650    1001     399      0      0   64.99 %    0.50    0.50       40.00

1.000 s            kill
1.500 s            restart (took 500.0 ms)
first error        0.5 ms after the fault
last error         1000.5 ms after the fault, 0.5 ms after the return
first good answer  1400.5 ms after the fault
errors             1000 answered with an error line, 1 not answered
longest gap        1361.5 ms without a good answer, from 1.039 s on
warm               399.0 ms after the return
slowest            40.0 ms, a set due at 0.999 s (good)
unsent             2 requests were due, and not sent before the end
own stalls         1, the longest 2.0 ms, taken off above; with them the slowest took 40.0 ms, and the gap 1361.5 ms
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got:%s", got)
	}
	b.Reset()
	if err := Analyse(Observation{Length: time.Second}).Write(&b); err != nil || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "-1") {
		t.Errorf("%v, of nothing: %s", err, b.String())
	}
	b.Reset()
	o := Observation{Length: time.Second, Samples: steady(time.Second, nil), Marks: []Mark{fault(100 * ms), {Name: "restart", From: Millis(200 * ms), To: Never, Returns: true, Error: "exit status 1"}}}
	if err := Analyse(o).Write(&b); err != nil || !strings.Contains(b.String(), "restart: failed: exit status 1") || !strings.Contains(b.String(), "none after the fault") {
		t.Errorf("%v: %s", err, b.String())
	}
}

// What a command did that was not over with the drill is said, and so is it that nothing
// was made to fail; a rate below one is not 0.
func TestTextOfCommands(t *testing.T) {
	text := func(marks ...Mark) string {
		var b bytes.Buffer
		r := Analyse(Observation{Length: time.Second, Samples: steady(time.Second, nil), Marks: marks})
		r.Rate = 0.5
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	exec := Mark{Name: "exec", From: Millis(100 * ms), To: Never, Fails: true}
	restart := Mark{Name: "restart", From: Millis(200 * ms), To: Never, Returns: true}
	exec.RunsOn, restart.RunsOn = true, true
	got := text(exec, restart)
	for _, want := range []string{"0.5 requests/s for", "exec (still running at the end, and ended)", "restart (still running at the end, and left running)", "warm               at once", "warm  0.200 s"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	exec.RunsOn, exec.Error = false, "exit status 1"
	restart.RunsOn, restart.To = false, Millis(300*ms) // which is owed
	got = text(exec, restart)
	if !strings.Contains(got, "none was made") || strings.Contains(got, "never") || strings.Contains(got, "first good") || strings.Contains(got, "down") {
		t.Errorf("of no fault:\n%s", got)
	}
}

// The JSON has every figure, in ms, and null for what did not happen.
func TestJSON(t *testing.T) {
	b, err := json.Marshal(outage())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"name": "a drill", "fault_ms": 1000.0, "back_ms": 2000.0, "first_error_ms": 0.5, "last_error_since_back_ms": 0.5, "gap_ms": 1361.5, "warm_after_ms": 399.0, "unsent": 2.0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, and should be %v", name, got[name], want)
		}
	}
	down := got["phases"].([]any)[1].(map[string]any)
	if down["name"] != "down" || down["failed"] != 999.0 || down["lost"] != 1.0 || down["hits"] != 0.0 || down["net"].(map[string]any)["slowest_ms"] != 40.0 {
		t.Errorf("down: %v", down)
	}
	if bins := got["timeline"].([]any); len(bins) != 40 || bins[15].(map[string]any)["failed"] != 100.0 {
		t.Errorf("%d bins: %v", len(bins), bins)
	}
	b, err = json.Marshal(Analyse(Observation{Length: time.Second}))
	if err != nil || !strings.Contains(string(b), `"fault_ms":null`) || !strings.Contains(string(b), `"p99_ms":null`) {
		t.Errorf("%v: %s", err, b)
	}
}

// A time is printed the same when it was written and read, also on the edge of a digit.
func TestMillis(t *testing.T) {
	for _, m := range []Millis{54_549_999, 54_549_500, 54_550_000, 54_549_499, 0} {
		b, err := json.Marshal(m)
		var again Millis
		if err = errors.Join(err, json.Unmarshal(b, &again)); err != nil || again.String() != m.String() {
			t.Errorf("%d ns is %v, and %s is %v: %v", m, m, b, again, err)
		}
	}
}

// The plot is XML whatever there is to draw, and names what the steps did.
func TestPlot(t *testing.T) {
	endless := outage()
	endless.Back, endless.WarmAfter = Never, Never
	for name, r := range map[string]*Result{
		"an outage": outage(), "no end of it": endless, "nothing": Analyse(Observation{}), "no samples": Analyse(Observation{Length: time.Second}),
		"no fault": Analyse(Observation{Length: time.Second, Samples: steady(time.Second, nil)}),
	} {
		var b bytes.Buffer
		if err := r.Plot(&b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Fault >= 0 {
			for _, want := range []string{"1 at 1.00 s: kill", "2 at 2.00 s: restart", "good answers per second", "seconds since the load began", ">errors<", ">misses<", ">p99<"} {
				if !strings.Contains(b.String(), want) && !(r.Back < 0 && strings.HasSuffix(want, "restart")) {
					t.Errorf("%s: %q is not in the plot", name, want)
				}
			}
		}
		if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
			t.Errorf("%s: the plot has a number in it that is none", name)
		}
		for d := xml.NewDecoder(&b); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// The legend says what each number stands for, in order of time, of many marks only the
// first; and no command is too long for it, nor for its title.
func TestLegend(t *testing.T) {
	r := outage()
	r.Name = strings.Repeat("a long command ", 30)
	r.Marks[0].Name = r.Name
	var b bytes.Buffer
	if err := r.Plot(&b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Count(text, "…</text>") != 2 || strings.Contains(text, strings.Repeat("a long command ", 15)) || !strings.Contains(text, "2 at 2.00 s: restart") {
		t.Errorf("the legend does not fit:\n%s", text)
	}
	r.Marks = slices.Repeat([]Mark{{Name: "at most", To: Millis(1), Fails: true}, {Name: "between", To: Millis(1)}}, 20)
	r.WarmAfter = Millis(7 * time.Second)
	if lines := r.legend(); len(lines) != legendMost+1 || lines[legendMost-1] != "and 12 more" || !strings.HasPrefix(lines[legendMost], "dotted") {
		t.Errorf("of many marks: %q", lines)
	}
}
