package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/meter"
	"magent/bench/wire"
)

// found is a result whose every figure is known.
func found(t *testing.T) *result {
	t.Helper()
	histogram := func(from, to int) *hdrhistogram.Histogram {
		h := hdrhistogram.New(1, int64(time.Minute), 3)
		for us := from; us <= to; us++ {
			if err := h.RecordValue(int64(us) * 1000); err != nil {
				t.Fatal(err)
			}
		}
		return h
	}
	all := histogram(1, 100)
	all.Merge(histogram(101, 1000))
	cfg := usual()
	cfg.Warmup = time.Second
	return &result{
		Started: time.Unix(0, 0).UTC(), Settings: map[string]string{"clients": "50"}, Preloaded: 100000,
		Warnings: []string{"it was all a dream."}, cfg: cfg, percentiles: []float64{50, 99.9}, histogram: true,
		Report: &load.Report{
			Requests: 1000, Seconds: 2, Rate: 500, Hits: 890, Misses: 10,
			Errors: 1, Wrong: 2, Stale: 3, Lost: 4, Reopened: 5, Conflicts: 6, FirstError: "key bench:7 holds junk",
			Ops: map[string]load.OpReport{
				"set": {Requests: 100, Hist: histogram(1, 100)},
				"get": {Requests: 900, Hits: 890, Misses: 10, Hist: histogram(101, 1000)},
			},
			BytesIn: 4096, BytesOut: 2048, Hist: all,
			Self:  meter.Usage{CPU: 1.5, User: 0.5, System: 1, Cores: 0.25, Voluntary: 1234, Involuntary: 5},
			Procs: map[string]meter.Usage{"b": {CPU: 20}, "a": {CPU: 10}},
			Host:  meter.Host{All: meter.CPUShare{Busy: 0.5, Steal: 0.01}, CPU: make([]meter.CPUShare, 2), Noise: 0.125},
		},
	}
}

const foundText = `127.0.0.1:12000: 50 connections, 1 thread, text protocol, closed loop, pipelines of 1
10 get : 1 set over 100,000 keys (R:R), values of 100 bytes
100,000 keys written before; 1s of warm-up; measured 1,000 requests in 2.00 s

       ops/s  hits/s  misses/s   mean    p50  p99.9    max
get    450.0   445.0       5.0  0.551  0.550  0.999  1.000
set     50.0       -         -  0.051  0.050  0.100  0.100
total  500.0   445.0       5.0  0.501  0.500  0.999  1.000

latency in ms, from a request to its answer; KB/s 2.0 received, 1.0 sent
1 error, 2 wrong values, 3 stale values; 4 lost connections, 5 opened again; 6 cas overtaken
the first: key bench:7 holds junk

CPU             µs/request  user  system  cores  switches  involuntary
a                    10.00  0.00    0.00   0.00         0            0
b                    20.00  0.00    0.00   0.00         0            0
this generator        1.50  0.50    1.00   0.25     1,234            5

host: 2 CPUs, 50 % busy, 1 % stolen; 12 % went to programs that are not in the list

latency up to  requests  percent   so far
10.0 µs              10    1.000    1.000
20.0 µs              10    1.000    2.000
50.0 µs              30    3.000    5.000
100 µs               50    5.000   10.000
200 µs              100   10.000   20.000
500 µs              300   30.000   50.000
1.00 ms             500   50.000  100.000

WARNING: it was all a dream.
`

func TestText(t *testing.T) {
	got := found(t).text()
	if got != foundText {
		t.Errorf("the text is\n%s\nwant\n%s", got, foundText)
	}
}

func TestTextOfAnOpenLoop(t *testing.T) {
	r := found(t)
	r.cfg.Rate, r.cfg.Arrivals, r.cfg.Targets, r.cfg.MultiGet = 12345, load.Poisson, []string{"a:1", "/s"}, 20
	r.Preloaded, r.cfg.Warmup, r.Interrupted = 0, 0, true
	for _, want := range []string{
		"a:1, /s: 50 connections", "open loop, 12,345 requests/s, poisson\n", "10 get : 1 set of 20 keys over",
		"\nmeasured 1,000 requests in 2.00 s, then interrupted\n", "from when a request was due to its answer",
	} {
		if got := r.text(); !strings.Contains(got, want) {
			t.Errorf("there is no %q in:\n%s", want, got)
		}
	}
}

// An open loop that the target cannot follow: the rates are those of the time that was
// measured, and what was answered after it is told apart.
func TestTextOfARateThatWasMissed(t *testing.T) {
	r := found(t)
	r.cfg.Rate, r.Rate = 500, 100
	for _, want := range []string{
		"; measured 1,000 requests in 2.00 s, 800 of them answered after that\n",
		"\nget     90.0    89.0       1.0  0.551 ", "\nset     10.0       -         -  0.051 ", "\ntotal  100.0    89.0       1.0  0.501 ",
	} {
		if got := r.text(); !strings.Contains(got, want) {
			t.Errorf("there is no %q in:\n%s", want, got)
		}
	}
}

// The names in the JSON are a promise.
func TestJSON(t *testing.T) {
	var b bytes.Buffer
	o := newOutputs(&b, "-")
	if err := o.write(found(t)); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, &b)
	}
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	want := strings.Fields(`bytes_in bytes_out conflicts errors failed first_error hits host latency lost misses ops preloaded procs rate
		reopened requests seconds self served settings stale started warnings wrong`)
	if !slices.Equal(names, want) {
		t.Errorf("the fields are\n%v, want\n%v", names, want)
	}
}

func TestHistogramFiles(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "run")
	if err := found(t).writeHistograms(prefix); err != nil {
		t.Fatal(err)
	}
	for name, last := range map[string]string{"total": "1.000 1.000000 1000", "get": "1.000 1.000000 900", "set": "0.100 1.000000 100"} {
		text, err := os.ReadFile(prefix + "_" + name + ".hgrm")
		if err != nil {
			t.Error(err)
		}
		if words := strings.Join(strings.Fields(string(text)), " "); !strings.Contains(words, last) {
			t.Errorf("%s: there is no %q in:\n%s", name, last, text)
		}
	}
}

func TestWarnings(t *testing.T) {
	good := load.Report{Host: meter.Host{All: meter.CPUShare{Busy: 0.5, Idle: 0.5}}, Self: meter.Usage{Cores: 0.5}}
	cfg := usual()
	if got := warnings(cfg, &good); len(got) != 0 || got == nil {
		t.Errorf("of a good run: %q", got)
	}
	for want, spoil := range map[string]func(*load.Config, *load.Report){
		"the generator was the bottleneck: it kept 0.95 CPUs busy with 1 thread.": func(_ *load.Config, r *load.Report) { r.Self.Cores, r.Host.All.Idle = 0.95, 0 },
		"the host was saturated: 98 % of its CPUs":                                func(_ *load.Config, r *load.Report) { r.Host.All.Idle = 0.02 },
		"other programs took 20 % of the CPUs":                                    func(_ *load.Config, r *load.Report) { r.Host.Noise = 0.2 },
		"stood still for up to 12.0 ms":                                           func(_ *load.Config, r *load.Report) { r.WorstStall = 12000 },
		"900 requests/s were answered, and 1,000 were asked for":                  func(_ *load.Config, r *load.Report) { r.Rate, r.Target = 900, 1000 },
		"1 request due and never sent":                                            func(_ *load.Config, r *load.Report) { r.Unsent = 1 },
		"fewer keys than connections":                                             func(c *load.Config, _ *load.Report) { c.Keys.Max = 9 },
		"20 errors beside 1,000 requests that were answered":                      func(_ *load.Config, r *load.Report) { r.Errors, r.Requests = 20, 1000 },
		"connections were lost for good, 2 of them":                               func(_ *load.Config, r *load.Report) { r.Lost = 2 },
		"values of under 39 bytes do not name their write":                        func(c *load.Config, _ *load.Report) { c.Values = keys.Fixed(38) },
	} {
		c, r := cfg, good
		spoil(&c, &r)
		if got := warnings(c, &r); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%q, want one with %q", got, want)
		}
	}
	cfg.Reopen = true
	if got := warnings(cfg, &load.Report{Host: good.Host, Lost: 2, Reopened: 2}); len(got) != 0 {
		t.Errorf("connections are opened again, and yet %q", got)
	}
	cfg.Mix = load.Mix{wire.Get: 1}
	cfg.Values = keys.Fixed(1)
	if got := warnings(cfg, &good); len(got) != 0 {
		t.Errorf("nothing is written, and yet %q", got)
	}
}

// Keys that were written before the run must be found.
func TestWarningOfKeysThatAreGone(t *testing.T) {
	r := found(t)
	const gone = "10 of 900 keys that were asked for were not there, though all had been written"
	if got := r.lost(); len(got) != 1 || !strings.Contains(got[0], gone) {
		t.Errorf("%q, want one with %q", got, gone)
	}
	for what, change := range map[string]func(*result){
		"nothing was written before": func(r *result) { r.Preloaded = 0 },
		"all were there":             func(r *result) { r.Misses = 0 },
		"keys are deleted":           func(r *result) { r.cfg.Mix[wire.Delete] = 1 },
		"keys expire":                func(r *result) { r.cfg.TTLs = keys.TTLs{Min: 1, Max: 2} },
	} {
		r := found(t)
		change(r)
		if got := r.lost(); len(got) != 0 {
			t.Errorf("%s, and yet %q", what, got)
		}
	}
}

func TestVerdict(t *testing.T) {
	if err := verdict(&load.Report{Failed: 1234}); err == nil || !strings.Contains(err.Error(), "not one of 1,234 requests") {
		t.Errorf("nothing was answered: %v", err)
	}
	if err := verdict(&load.Report{Served: 1, Failed: 7, Errors: 7, Misses: 7, Lost: 7}); err != nil {
		t.Errorf("errors and misses are no wrong data: %v", err)
	}
	for _, r := range []load.Report{{Wrong: 1}, {Stale: 1}} {
		if verdict(&r) == nil {
			t.Errorf("%d wrong and %d stale values are none", r.Wrong, r.Stale)
		}
	}
}

func TestHistogramCountsAll(t *testing.T) {
	rows := histogram(found(t).Hist)
	if last := rows[len(rows)-1]; !slices.Equal(last, []string{"1.00 ms", "500", "50.000", "100.000"}) {
		t.Errorf("the last row is %q", last)
	}
	empty := hdrhistogram.New(1, 1000, 3)
	if rows := histogram(empty); len(rows) != 1 {
		t.Errorf("of nothing: %q", rows)
	}
}
