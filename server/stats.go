package server

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/valyala/bytebufferpool"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/repair"
)

// stats answers as one memcached would: what the nodes of the lead copy say,
// summed. "stats proxy" and "stats nodes" are the proxy's own.
func (s *session) stats(line []byte, req *codec.Request) {
	l := s.loop
	word, _, _ := bytes.Cut(req.Arg.In(line), []byte(" ")) // what follows is not looked at
	switch what := string(word); what {
	case "", "items", "slabs", "settings", "conns", "sizes":
		s.gatherStats(line, req, what)
	case "reset":
		s.everyone(line, req)
	case "proxy", "nodes":
		seq := s.open(slot{op: codec.OpStats, began: l.arrived()})
		go func() {
			out := proxyStats(what, l.srv.Snapshot(), what == "proxy" && l.srv.Ready().Ready)
			l.do(func() {
				s.emit(seq, out)
				s.finish(seq)
			})
		}()
	default:
		s.refuse(req.Op, codec.FaultError.Line())
	}
}

// statsCall collects one stats command from several nodes.
type statsCall struct {
	patient
	session *session
	seq     uint32
	what    string
	nodes   []*bytebufferpool.ByteBuffer // the STAT lines of each, in the order of the pools and of the copy
	left    int
	spoke   bool   // a node has answered to the end
	failed  []byte // an error, if none did
}

// statsCopy is the copy that speaks for the pool: the first whose nodes are all up,
// else the one with most that are.
func (l *lane) statsCopy() upstream.Placement {
	best, most := 0, 0
	for i, pl := range l.pool.Copies {
		up := 0
		for _, node := range pl.Nodes {
			if l.pool.Health.Load(node).State() <= health.Slow {
				up++
			}
		}
		if up == len(pl.Nodes) {
			return pl
		}
		if up > most {
			best, most = i, up
		}
	}
	return l.pool.Copies[best]
}

// gatherStats asks the nodes of one copy of each pool that the client reaches.
func (s *session) gatherStats(line []byte, req *codec.Request, what string) {
	call := &statsCall{session: s, seq: s.open(slot{op: codec.OpStats, began: s.loop.arrived()}), what: what}
	for _, l := range s.routes.lanes {
		call.ask(l, line, req)
	}
	if call.left == 0 {
		s.fail(call.seq, call.failed)
	}
}

// ask asks the nodes of one copy of a pool.
func (t *statsCall) ask(l *lane, line []byte, req *codec.Request) {
	for _, node := range l.statsCopy().Nodes {
		if !l.pool.Health.Writable(node) {
			t.failed = l.pool.Nodes[node].Down()
			continue
		}
		c := l.group.Conn(node, t.session.id)
		p := upstream.Pending{Owner: t, Seq: uint32(len(t.nodes)), Op: codec.OpStats}
		if c.Send(text.AppendLine(c.Room(len(line)+8), line, req), p, codec.Span{}) {
			t.nodes = append(t.nodes, bytebufferpool.Get())
			t.left++
		} else {
			t.failed = c.Node().Error(upstream.CauseFull)
		}
	}
}

// Reply hears a line of one node's statistics.
func (t *statsCall) Reply(_ *upstream.Conn, p *upstream.Pending, r *codec.Reply, b []byte) {
	switch r.Kind {
	case codec.KindStat:
		t.nodes[p.Seq].Write(b)
		return
	case codec.KindError:
		t.failed = bytes.Clone(b)
	default:
		t.spoke = true
	}
	t.answered()
}

// Body hears nothing: statistics have no values.
func (t *statsCall) Body(*upstream.Conn, *upstream.Pending, []byte, int) {}

// Fail hears that a node will not answer: the others speak for the pool.
func (t *statsCall) Fail(c *upstream.Conn, p *upstream.Pending, cause upstream.Cause, _ bool) {
	t.nodes[p.Seq].Reset()
	t.failed = c.Node().Error(cause)
	t.answered()
}

func (t *statsCall) answered() {
	if t.left--; t.left > 0 {
		return
	}
	if !t.spoke {
		t.session.fail(t.seq, t.failed)
		return
	}
	lines := make([][]byte, len(t.nodes))
	for i, b := range t.nodes {
		lines[i] = b.B
	}
	merged := slices.Concat(mergeStats(t.what, lines), lineEnd) // a copy: the lines go back to their pool
	for _, b := range t.nodes {
		bytebufferpool.Put(b)
	}
	t.session.emit(t.seq, merged)
	t.session.finish(t.seq)
}

// statWord is what s is called in the name of a statistic.
func statWord(s string) string { return strings.ReplaceAll(s, " ", "_") }

// bit is 1 for yes.
func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// proxyStats is "stats proxy" or "stats nodes".
func proxyStats(what string, snap Snapshot, ready bool) []byte {
	var out []byte
	stat := func(name string, value any) { out = fmt.Appendf(out, "STAT %s %v\r\n", name, value) }
	if what == "proxy" {
		ownStats(snap, ready, stat)
	} else {
		nodeStats(snap, stat)
	}
	return append(out, lineEnd...)
}

// ownStats is "stats proxy".
func ownStats(snap Snapshot, ready bool, stat func(name string, value any)) {
	stat("uptime", int(snap.Uptime.Seconds()))
	stat("ready", bit(ready))
	stat("curr_connections", snap.Sessions)
	stat("total_connections", snap.Accepted)
	ruleStats(&snap, stat)
	logStats(&snap, stat)
	stat("requests", snap.Requests())
	stat("hits", snap.Hits)
	stat("misses", snap.Misses)
	stat("errors", snap.Errors)
	stat("failovers", snap.FailedOver())
	stat("retries", snap.Retries)
	stat("retries_refused", snap.RetriesRefused)
	stat("hedges", snap.Hedges)
	stat("hedges_won", snap.HedgesWon)
	stat("hedges_refused", snap.HedgesRefused)
	stat("debt_noted", snap.Missed)
	stat("found_formerly", snap.Former)
	stat("moved", snap.Moved)
	stat("overruns", snap.Overruns)
	stat("tls_handshakes", snap.Shaken)
	stat("tls_handshake_failures", snap.Unshaken)
	stat("authenticated", snap.Authenticated)
	stat("authentication_failures", snap.Denied)
	for c, n := range snap.Repairs.Asked {
		stat("repairs_for_"+statWord(repair.Cause(c).String()), n)
	}
	stat("repairs_joined", snap.Repairs.Joined)
	stat("repairs_refused", snap.Repairs.Refused)
	stat("repairs_waiting", snap.Repairs.Waiting)
	stat("repairs_running", snap.Repairs.Running)
	for o := repair.Needed + 1; o < repair.NumOutcomes; o++ {
		stat("repairs_"+statWord(o.String()), snap.Repairs.Ended[o])
	}
	stat("bytes_read", snap.BytesIn)
	stat("bytes_written", snap.BytesOut)
}

// nodeStats is "stats nodes".
func nodeStats(snap Snapshot, stat func(name string, value any)) {
	several := slices.ContainsFunc(snap.Nodes, func(n NodeSnapshot) bool { return n.Pool != snap.Nodes[0].Pool })
	for _, n := range snap.Nodes {
		if several {
			n.Name = n.Pool + "/" + n.Name
		}
		stat(n.Name+":copy", n.Copy)
		stat(n.Name+":state", n.State)
		stat(n.Name+":since", n.Since.Unix())
		stat(n.Name+":cause", n.Cause)
		stat(n.Name+":epoch", n.Epoch)
		stat(n.Name+":drained", bit(n.Drained))
		for _, cause := range slices.Sorted(maps.Keys(n.Falls)) {
			stat(n.Name+":falls_"+statWord(cause), n.Falls[cause])
		}
		stat(n.Name+":flaps", n.Flaps)
		stat(n.Name+":held", max(0, int(math.Ceil(time.Until(n.HeldUntil).Seconds()))))
		stat(n.Name+":probes", n.Probes)
		stat(n.Name+":probe_failures", n.ProbesBad)
		stat(n.Name+":probe_usec", n.RTT.Microseconds())
		stat(n.Name+":probe_error", n.Err)
		stat(n.Name+":latency_usec", n.Latency.Microseconds())
		stat(n.Name+":latency_p99_usec", n.P99.Microseconds())
		stat(n.Name+":debt", n.Debt)
		refillStats(n, stat)
		stat(n.Name+":version", n.Version)
		stat(n.Name+":connections", n.Conns)
		stat(n.Name+":in_flight", n.InFlight)
	}
}

// ruleStats is the part about what clients are held to.
func ruleStats(s *Snapshot, stat func(name string, value any)) {
	stat("rejected_connections", s.Refused)
	stat("barred_connections", s.Barred)
	stat("crowded_connections", s.Crowded)
	stat("idle_kicks", s.Idled)
	stat("slowed", s.Slowed)
	stat("denied", s.Forbidden)
	stat("lowered_ttls", s.Lowered)
}

// logStats is the part about what is logged.
func logStats(s *Snapshot, stat func(name string, value any)) {
	stat("slow_requests", s.Slow)
	stat("log_withheld", s.Withheld)
	stat("log_lost", s.LogLost)
}

// refillStats is the part about a refill that this magent is at.
func refillStats(n NodeSnapshot, stat func(name string, value any)) {
	r := n.Refill
	if r == nil {
		return
	}
	stat(n.Name+":refill_phase", r.Phase)
	stat(n.Name+":refill_done", r.Done)
	stat(n.Name+":refill_total", r.Total)
	stat(n.Name+":refill_keys_per_second", int(r.Keys))
	stat(n.Name+":refill_bytes_per_second", int(r.Bytes))
	stat(n.Name+":refill_rate", r.Full)
	if eta, ok := r.ETA(); ok {
		stat(n.Name+":refill_eta", int(math.Ceil(eta.Seconds())))
	}
}
