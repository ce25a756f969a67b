// Package metrics shows Prometheus what a magent has counted. The loops count for
// themselves; here it is summed when somebody asks, on the goroutine of who does.
//
// There is no global registry, and nothing is kept from one scrape to the next. It
// imports server, and what that counts with, client_golang and client_model.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"magent/codec"
	"magent/server"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/latency"
	"magent/upstream/repair"
)

// Source is a magent to be shown. Server is one.
type Source interface{ Snapshot() server.Snapshot }

// Build says what is running.
type Build struct{ Version, Commit string }

// Reloads is how often the configuration file was to be read anew, in this process and in those
// whose place it has taken.
type Reloads struct {
	Done, Refused, Failed uint64    // put in force; faulty; what was to put it in force did not come to serve
	Read                  time.Time // when what is in force was read
}

// scrapes is how many are answered at a time; who comes beyond that is told to come again.
const scrapes = 4

// NewHandler answers GET /metrics for s: what it has counted, and what the Go runtime
// and the kernel say of this process, and how often it was reloaded.
func NewHandler(s Source, b Build, reloads func() Reloads) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{s, b, reloads}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// To compress it would cost more than all the rest.
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, DisableCompression: true})
}

// collector is a prometheus.Collector.
type collector struct {
	source  Source
	build   Build
	reloads func() Reloads
}

// Describe tells all metrics there are.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range all {
		to <- m.desc
	}
}

// Collect sums what has been counted up to now.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	e := emitter{to, s.Started}
	e.put(buildInfo, 1, c.build.Version, c.build.Commit, runtime.Version())
	r := c.reloads()
	e.count(reloads, r.Done, "done")
	e.count(reloads, r.Refused, "refused")
	e.count(reloads, r.Failed, "failed")
	e.put(configRead, float64(r.Read.Unix()))
	e.count(logWithheld, s.Withheld)
	e.count(logLost, s.LogLost)
	e.put(loops, float64(s.Loops))
	e.put(loopsSilent, float64(s.Silent))
	e.clients(&s)
	e.trouble(&s)
	e.put(chunks, float64(s.Buffers.Chunks))
	e.put(bufferSpare, float64(s.Buffers.SpareRequests), "requests")
	e.put(bufferSpare, float64(s.Buffers.SpareReplies), "replies")
	e.put(bufferSpare, float64(s.Buffers.SpareHeld), "held")
	for i := range s.Nodes {
		e.node(&s.Nodes[i])
	}
}

// emitter gives away what is collected.
type emitter struct {
	to      chan<- prometheus.Metric
	started time.Time // when all was 0
}

func (e emitter) put(m *metric, v float64, labels ...string) {
	t := prometheus.GaugeValue
	if m.kind == counter {
		t = prometheus.CounterValue
	}
	e.to <- prometheus.MustNewConstMetric(m.desc, t, v, labels...)
}

func (e emitter) count(m *metric, n uint64, labels ...string) { e.put(m, float64(n), labels...) }

func (e emitter) clients(s *server.Snapshot) {
	e.count(clients, s.Sessions)
	e.count(clientsAccepted, s.Accepted)
	e.count(clientsRefused, s.Refused)
	e.count(clientsBarred, s.Barred)
	e.count(clientsCrowded, s.Crowded)
	e.count(clientsIdle, s.Idled)
	e.count(clientSlowed, s.Slowed)
	e.count(slow, s.Slow)
	e.count(denied, s.Forbidden)
	e.count(lowered, s.Lowered)
	e.count(clientsOverrun, s.Overruns)
	e.count(handshakes, s.Shaken, "done")
	e.count(handshakes, s.Unshaken, "failed")
	e.count(authentications, s.Authenticated, "known")
	e.count(authentications, s.Denied, "denied")
	e.count(clientReceived, s.BytesIn)
	e.count(clientSent, s.BytesOut)
	for op := codec.OpNone; op < codec.NumOps; op++ {
		e.count(commands, s.Commands[op], op.String())
		for r, n := range s.Answers[op] {
			if r := server.Result(r); n > 0 || usual(op, r) {
				e.count(answers, n, op.String(), r.String())
			}
		}
	}
	e.latencies(took, &s.Reads, "read")
	e.latencies(took, &s.Writes, "write")
}

// usual reports whether r is shown of op before it has happened, so that its first time
// is seen as an increase.
func usual(op codec.Op, r server.Result) bool {
	if r == server.ResultError {
		return true
	}
	read := r == server.ResultHit || r == server.ResultMiss
	switch op.Class() {
	case codec.ClassRead:
		return read
	case codec.ClassStore, codec.ClassWrite:
		return read == op.MultiKey()
	}
	return r == server.ResultOK && op != codec.OpNone
}

func (e emitter) trouble(s *server.Snapshot) {
	for cause := upstream.CauseNone + 1; cause < upstream.NumCauses; cause++ {
		e.count(failovers, s.Failovers[cause], cause.String())
	}
	e.count(retries, s.Retries)
	e.count(retriesRefused, s.RetriesRefused)
	e.count(hedges, s.Hedges)
	e.count(hedgesWon, s.HedgesWon)
	e.count(hedgesRefused, s.HedgesRefused)
	e.count(debtNoted, s.Missed)
	e.count(foundFormerly, s.Former)
	e.count(moved, s.Moved)
	for cause, n := range s.Repairs.Asked {
		e.count(repairsAsked, n, repair.Cause(cause).String())
	}
	e.count(repairsJoined, s.Repairs.Joined)
	e.count(repairsRefused, s.Repairs.Refused)
	for o := repair.Needed + 1; o < repair.NumOutcomes; o++ {
		e.count(repairsEnded, s.Repairs.Ended[o], o.String())
	}
	e.put(repairsWaiting, float64(s.Repairs.Waiting))
	e.put(repairsRunning, float64(s.Repairs.Running))
}

func (e emitter) node(n *server.NodeSnapshot) {
	e.put(nodeInfo, 1, n.Pool, n.Name, strconv.Itoa(n.Copy), n.Version)
	for state := health.Up; state <= health.Down; state++ {
		e.put(nodeState, bit(n.State == state.String()), n.Pool, n.Name, state.String())
	}
	e.put(nodeSince, float64(n.Since.UnixMilli())/1000, n.Pool, n.Name)
	e.count(nodeChanges, n.Epoch, n.Pool, n.Name)
	for cause, times := range n.Falls {
		e.count(nodeFalls, times, n.Pool, n.Name, cause)
	}
	e.put(nodeFlaps, float64(n.Flaps), n.Pool, n.Name)
	e.put(nodeHeld, max(0, time.Until(n.HeldUntil).Seconds()), n.Pool, n.Name)
	e.put(nodeDrained, bit(n.Drained), n.Pool, n.Name)
	e.count(nodeProbes, n.Probes, n.Pool, n.Name)
	e.count(nodeProbesBad, n.ProbesBad, n.Pool, n.Name)
	e.put(nodeProbeTook, n.RTT.Seconds(), n.Pool, n.Name)
	e.put(nodeDebt, float64(n.Debt), n.Pool, n.Name)
	e.put(nodeConns, float64(n.Conns), n.Pool, n.Name)
	e.put(nodeInFlight, float64(n.InFlight), n.Pool, n.Name)
	e.latencies(nodeTook, &n.Traffic.Took, n.Pool, n.Name)
	e.count(nodeReads, n.Traffic.Hits, n.Pool, n.Name, server.ResultHit.String())
	e.count(nodeReads, n.Traffic.Misses, n.Pool, n.Name, server.ResultMiss.String())
	e.count(nodeReceived, n.Traffic.Received, n.Pool, n.Name)
	e.count(nodeSent, n.Traffic.Sent, n.Pool, n.Name)
	r := n.Refill
	if r == nil {
		return
	}
	e.count(refillDone, r.Done, n.Pool, n.Name)
	e.count(refillTotal, r.Total, n.Pool, n.Name)
	e.put(refillKeys, r.Keys, n.Pool, n.Name)
	e.put(refillBytes, r.Bytes, n.Pool, n.Name)
	e.put(refillRate, r.Full, n.Pool, n.Name)
	if eta, ok := r.ETA(); ok {
		e.put(refillETA, eta.Seconds(), n.Pool, n.Name)
	}
}

// bit is 1 for yes.
func bit(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// latencies shows h both ways that Prometheus knows.
func (e emitter) latencies(m *metric, h *latency.Histogram, labels ...string) {
	e.to <- newBoth(m.desc, h, e.started, labels...)
}
