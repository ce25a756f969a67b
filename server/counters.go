package server

import (
	"time"

	"magent/upstream/health"
	"magent/upstream/repair"
)

// Counters is what one loop has seen. The loop alone touches its own; Snapshot
// asks for copies.
type Counters struct {
	Requests  uint64 // commands read from clients
	Hits      uint64 // keys found
	Misses    uint64 // keys not found
	Errors    uint64 // commands answered with an error of the proxy's or a node's
	Failovers uint64 // requests moved from a node that did not answer to another
	Overruns  uint64 // clients closed because they did not read their replies
	BytesIn   uint64 // from clients
	BytesOut  uint64 // to clients

	Retries        uint64 // reads asked again of another replica, or of the only one
	RetriesRefused uint64 // reads failed because too many were being asked again
	Hedges         uint64 // reads asked of a second replica because the first was late
	HedgesWon      uint64 // of these, answered first by the second
	HedgesRefused  uint64 // late reads not hedged because too many were
	Missed         uint64 // keys noted as debt: writes that a node missed, or may have
}

func (c *Counters) add(o Counters) {
	c.Requests += o.Requests
	c.Hits += o.Hits
	c.Misses += o.Misses
	c.Errors += o.Errors
	c.Failovers += o.Failovers
	c.Overruns += o.Overruns
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	c.Retries += o.Retries
	c.RetriesRefused += o.RetriesRefused
	c.Hedges += o.Hedges
	c.HedgesWon += o.HedgesWon
	c.HedgesRefused += o.HedgesRefused
	c.Missed += o.Missed
}

// Snapshot is the state of a server at one moment.
type Snapshot struct {
	Counters
	Uptime   time.Duration
	Sessions uint64 // clients connected
	Accepted uint64 // clients ever taken
	Refused  uint64 // clients turned away because there were too many
	Repairs  Repairs
	Nodes    []NodeSnapshot
}

// Repairs is what has become, and is becoming, of keys whose copies differed.
type Repairs struct {
	repair.Counts
	Waiting int // keys
	Running int // keys
}

func (r *Repairs) add(o Repairs) {
	r.Waiting += o.Waiting
	r.Running += o.Running
	r.Joined += o.Joined
	r.Refused += o.Refused
	for i, n := range o.Asked {
		r.Asked[i] += n
	}
	for i, n := range o.Ended {
		r.Ended[i] += n
	}
}

// NodeSnapshot is the state of one node as the proxy sees it.
type NodeSnapshot struct {
	Name  string
	Copy  int    // the first copy it serves; 0 are the primaries
	State string // up, down or warming
	Since time.Time
	Cause string // why it came into this state
	Epoch uint64 // how many times the state has changed
	health.Report

	Drained  bool          // an operator has it drained
	Refill   *Refill       // how far this magent's refill of it is; nil: there is none
	Debt     int           // keys that it may not have, of which the proxy knows
	Latency  time.Duration // mean of what the loop that finds it slowest has measured; 0: nothing yet
	P99      time.Duration // the same loop's 99th percentile
	Version  string        // what it answered to version, empty if it has not
	Conns    int           // connections open
	InFlight int           // requests awaiting an answer
}

// add takes in what a loop knows of the node.
func (n *NodeSnapshot) add(o NodeSnapshot) {
	n.Conns += o.Conns
	n.InFlight += o.InFlight
	n.Debt += o.Debt
	if o.Latency > n.Latency {
		n.Latency, n.P99 = o.Latency, o.P99
	}
}

// part is what one loop contributes to a Snapshot.
type part struct {
	count   Counters
	repairs Repairs
	nodes   []NodeSnapshot // what the loops know: Conns, InFlight, Debt, Latency, P99
}

func (l *loop) part() part {
	p := part{count: l.count, repairs: Repairs{Counts: *l.repairs.Counts()}, nodes: make([]NodeSnapshot, len(l.pool.Nodes))}
	p.repairs.Waiting, p.repairs.Running = l.repairs.Len()
	for i := range p.nodes {
		n := &p.nodes[i]
		n.InFlight, n.Conns = l.group.InFlight(i)
		n.Latency, n.P99 = l.group.Latency(i)
		n.Debt = l.debts[i].Len()
	}
	return p
}

// Snapshot sums what the loops have counted. It may be called from any goroutine
// but a loop's, before Start and after Shutdown too.
func (s *Server) Snapshot() Snapshot {
	snap := Snapshot{
		Uptime:   time.Since(s.started),
		Accepted: s.accepted.Load(),
		Refused:  s.refused.Load(),
		Nodes:    make([]NodeSnapshot, len(s.pool.Nodes)),
	}
	for i, n := range s.pool.Nodes {
		report := s.pool.Monitor.Report(i)
		last := report.Last
		snap.Nodes[i] = NodeSnapshot{Name: n.Name, Copy: s.pool.FirstCopy(i), State: last.To.String(), Report: report,
			Since: last.At, Cause: last.Cause, Epoch: last.Epoch, Drained: s.keepers[i].drain.Load(), Refill: s.keepers[i].progress.Load(), Version: n.Version()}
	}
	for _, l := range s.loops {
		snap.Sessions += uint64(l.any.clients.Load())
		p := s.ask(l)
		snap.add(p.count)
		snap.Repairs.add(p.repairs)
		for i := range p.nodes {
			snap.Nodes[i].add(p.nodes[i])
		}
	}
	return snap
}

// Summary is how many nodes are up (or slow), of how many, and how many clients there
// are. It waits for nobody.
func (s *Server) Summary() (up, nodes, clients int) {
	for i := range s.pool.Nodes {
		if s.pool.Health.Load(i).State() <= health.Slow {
			up++
		}
	}
	return up, len(s.pool.Nodes), int(s.clients())
}

// ask has loop l tell its part; an empty one if the loop is not running.
func (s *Server) ask(l *loop) part {
	got := make(chan part, 1)
	if !s.running.Load() || l.do(func() { got <- l.part() }) != nil {
		return part{}
	}
	select {
	case p := <-got:
		return p
	case <-s.done:
	case <-s.died:
	}
	return part{}
}
