package metrics

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"magent/server"
	"magent/upstream/health"
	"magent/upstream/latency"
)

// still is a magent of which everything can be told.
type still struct{}

func (still) Snapshot() server.Snapshot {
	s := server.Snapshot{Started: time.Unix(1700000000, 0), Loops: 2, Silent: 1}
	s.Reads.Record(3*time.Millisecond, 7)
	s.Nodes = []server.NodeSnapshot{
		{Pool: "default", Name: "10.0.0.1:11211", State: "warming", Since: time.Unix(1700000100, 5e8), Version: "1.6.18",
			Report: health.Report{Falls: map[string]uint64{"timeout": 2}, HeldUntil: time.Now().Add(time.Hour)},
			Refill: &server.Refill{Done: 10, Total: 30, Keys: 5, Bytes: 500, Full: 0.5, Since: time.Now().Add(-time.Minute)}},
		{Pool: "default", Name: "10.0.0.2:11211", Copy: 1, State: "up"},
	}
	return s
}

func families(t *testing.T, c prometheus.Collector) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range got {
		byName[f.GetName()] = f
	}
	return byName
}

func noReloads() Reloads { return Reloads{} }

func TestNamesAreAsPrometheusWantsThem(t *testing.T) {
	problems, err := testutil.CollectAndLint(&collector{source: still{}, reloads: noReloads})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEveryMetricIsShown(t *testing.T) {
	got := families(t, &collector{source: still{}, reloads: noReloads})
	for _, m := range all {
		f := got[m.name]
		if f == nil {
			t.Errorf("%s is not shown", m.name)
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != string(m.kind) {
			t.Errorf("%s is a %s, want a %s", m.name, kind, m.kind)
		}
	}
	states := map[string]float64{}
	for _, m := range got["magent_node_state"].Metric {
		if m.Label[0].GetValue() == "10.0.0.1:11211" {
			states[m.Label[2].GetValue()] = m.Gauge.GetValue()
		}
	}
	if want := map[string]float64{"up": 0, "slow": 0, "warming": 1, "stale": 0, "down": 0}; !maps.Equal(states, want) {
		t.Errorf("the states are %v", states)
	}
	if n := len(got["magent_refill_done_keys"].Metric); n != 1 {
		t.Errorf("%d nodes are refilled", n)
	}
}

// OPERATIONS.md has a table of all metrics. The lines are made here: who changes one
// takes it over from what this says.
func TestOperationsHasEveryMetric(t *testing.T) {
	text, err := os.ReadFile("../../OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range all {
		labels := ""
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "` `") + "`"
		}
		want = append(want, strings.ReplaceAll(fmt.Sprintf("| `%s` | %s | %s | %s |", m.name, m.kind, labels, m.help), "|  |", "| |"))
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `magent_") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("OPERATIONS.md, Metrics: the lines of the table are to be\n%s", strings.Join(want, "\n"))
	}
}

// A histogram is what one of Prometheus' own would have become.
func TestHistogramsAreWhatPrometheusMakes(t *testing.T) {
	var bounds []float64
	for i := classicFirst; i <= classicLast; i++ {
		bounds = append(bounds, latency.End(latencyBucket(i)))
	}
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: bounds, NativeHistogramBucketFactor: 1.1})
	var ours latency.Histogram
	r := rand.New(rand.NewPCG(1, 2))
	record := func(d time.Duration) {
		ours.Record(d, 1)
		theirs.Observe(d.Seconds())
	}
	for _, b := range bounds { // on the bound, and beside it
		d := time.Duration(b * float64(time.Second))
		record(d)
		record(d + 1)
	}
	for range 10000 {
		record(time.Microsecond + time.Duration(r.Int64N(1<<r.IntN(35))))
	}
	var got, want dto.Metric
	if err := newBoth(took.desc, &ours, time.Unix(1700000000, 0), "read").Write(&got); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Write(&want); err != nil {
		t.Fatal(err)
	}
	g, w := got.Histogram, want.Histogram
	if g.GetSchema() != w.GetSchema() || g.GetSampleCount() != w.GetSampleCount() || g.GetSampleSum()-w.GetSampleSum() > 1e-6 {
		t.Errorf("schema %d, %d samples of %v s; want %d, %d, %v", g.GetSchema(), g.GetSampleCount(), g.GetSampleSum(), w.GetSchema(), w.GetSampleCount(), w.GetSampleSum())
	}
	if got, want := native(g), native(w); !maps.Equal(got, want) {
		t.Errorf("native buckets\n%v want\n%v", got, want)
	}
	for i, b := range w.Bucket {
		if o := g.Bucket[i]; o.GetUpperBound() != b.GetUpperBound() || o.GetCumulativeCount() != b.GetCumulativeCount() {
			t.Errorf("up to %v s %d samples, want up to %v s %d", o.GetUpperBound(), o.GetCumulativeCount(), b.GetUpperBound(), b.GetCumulativeCount())
		}
	}
	if len(g.Bucket) != len(w.Bucket) {
		t.Errorf("%d classic buckets, want %d", len(g.Bucket), len(w.Bucket))
	}
	labels := []string{}
	for _, l := range got.Label {
		labels = append(labels, l.GetName()+"="+l.GetValue())
	}
	if !reflect.DeepEqual(labels, []string{"kind=read"}) {
		t.Errorf("the labels are %v", labels)
	}
}

// latencyBucket is the bucket that ends at 2^power seconds.
func latencyBucket(power int) int { return power*perPower - latency.Index(0) }

// native is how many samples each native bucket of h has.
func native(h *dto.Histogram) map[int]int64 {
	counts := make(map[int]int64)
	at, n, delta := 0, int64(0), 0
	for _, s := range h.PositiveSpan {
		at += int(s.GetOffset())
		for range s.GetLength() {
			n += h.PositiveDelta[delta]
			if n > 0 {
				counts[at] = n
			}
			at++
			delta++
		}
	}
	return counts
}
