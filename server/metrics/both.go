package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"magent/upstream/latency"
)

// both is one histogram as a native and as a classic one. Prometheus takes what it is
// configured for; in the text format there is the classic one only.
type both struct{ native, classic prometheus.Metric }

// The classic buckets are those native ones that end at a power of two of a second,
// from 31 µs to 8 s: whatever is read of either is true of both.
const (
	perPower     = 1 << latency.Schema
	classicFirst = -15
	classicLast  = 3
)

func newBoth(desc *prometheus.Desc, h *latency.Histogram, since time.Time, labels ...string) both {
	native, classic := make(map[int]int64), make(map[float64]uint64)
	total := uint64(0)
	for i, n := range &h.Counts {
		total += n
		index := latency.Index(i)
		if n > 0 {
			native[index] = int64(n)
		}
		if index%perPower == 0 && index >= classicFirst*perPower && index <= classicLast*perPower {
			classic[latency.End(i)] = total
		}
	}
	sum := h.Sum.Seconds()
	return both{
		native: prometheus.MustNewConstNativeHistogram(desc, total, sum, native, nil, 0, latency.Schema,
			prometheus.DefNativeHistogramZeroThreshold, since, labels...),
		classic: prometheus.MustNewConstHistogram(desc, total, sum, classic, labels...),
	}
}

// Desc is the same of both.
func (b both) Desc() *prometheus.Desc { return b.native.Desc() }

// Write fills in the native histogram, and the buckets of the classic one.
func (b both) Write(out *dto.Metric) error {
	var classic dto.Metric
	if err := b.classic.Write(&classic); err != nil {
		return err
	}
	if err := b.native.Write(out); err != nil {
		return err
	}
	out.Histogram.Bucket = classic.Histogram.Bucket
	return nil
}
