package server

import (
	"time"

	"magent/codec"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/latency"
	"magent/upstream/repair"
)

// Result is what a command came to, as its client was told.
type Result uint8

const (
	ResultOK        Result = iota // done, or answered by the proxy itself
	ResultHit                     // a read: found
	ResultMiss                    // a read: not found
	ResultNotFound                // a write: there was no such key
	ResultNotStored               // a write: its condition did not hold
	ResultExists                  // a write: the item has another version
	ResultError                   // an error of the proxy's or a node's
	NumResults
)

var results = [NumResults]string{
	ResultOK:        "ok",
	ResultHit:       "hit",
	ResultMiss:      "miss",
	ResultNotFound:  "not_found",
	ResultNotStored: "not_stored",
	ResultExists:    "exists",
	ResultError:     "error",
}

func (r Result) String() string { return results[r] }

// resultOf is what the answer b to a write means.
func resultOf(b []byte) Result {
	if len(b) < 2 {
		return ResultOK
	}
	switch [2]byte(b) {
	case [2]byte{'N', 'O'}: // NOT_FOUND, NOT_STORED
		if len(b) > 4 && b[4] == 'F' {
			return ResultNotFound
		}
		return ResultNotStored
	case [2]byte{'N', 'F'}:
		return ResultNotFound
	case [2]byte{'N', 'S'}:
		return ResultNotStored
	case [2]byte{'E', 'X'}: // and EXISTS
		return ResultExists
	case [2]byte{'E', 'R'}, [2]byte{'C', 'L'}, [2]byte{'S', 'E'}:
		return ResultError
	}
	return ResultOK
}

// Counters is what one loop has seen. The loop alone touches its own; Snapshot
// asks for copies.
type Counters struct {
	Commands  [codec.NumOps]uint64             // read from clients
	Answers   [codec.NumOps][NumResults]uint64 // what became of them; of a get of several keys, of each key
	Reads     latency.Histogram                // from the arrival of a get, gat, mg or me to the end of its answer; of each key
	Writes    latency.Histogram                // the same of what else the nodes were asked for
	Hits      uint64                           // keys found
	Misses    uint64                           // keys not found
	Errors    uint64                           // commands answered with an error of the proxy's or a node's
	Failovers [upstream.NumCauses]uint64       // requests moved from a node that did not answer, for this, to another
	Overruns  uint64                           // clients closed because they did not read their replies
	BytesIn   uint64                           // from clients
	BytesOut  uint64                           // to clients

	Retries        uint64 // reads asked again of another replica, or of the only one
	RetriesRefused uint64 // reads failed because too many were being asked again
	Hedges         uint64 // reads asked of a second replica because the first was late
	HedgesWon      uint64 // of these, answered first by the second
	HedgesRefused  uint64 // late reads not hedged because too many were
	Former         uint64 // reads that missed, and found the key where it was before a change of placement
	Moved          uint64 // keys moved from there
	Forbidden      uint64 // commands refused as clients are not to give them
	Lowered        uint64 // commands whose exptime was lowered
	Slowed         uint64 // times that a client had to wait as its address asked for too much
	Slow           uint64 // requests that took as long as is logged
	Withheld       uint64 // slow and failed requests that were not logged, as too many were
	Idled          uint64 // clients closed as they were silent
	Missed         uint64 // keys noted as debt: writes that a node missed, or may have

	Authenticated uint64 // times that a client has said who it is
	Denied        uint64 // times that one was not who it said
}

// Requests is how many commands were read from clients.
func (c *Counters) Requests() uint64 { return sum(c.Commands[:]) }

// FailedOver is how many requests were moved from a node that did not answer to another.
func (c *Counters) FailedOver() uint64 { return sum(c.Failovers[:]) }

func sum(all []uint64) (total uint64) {
	for _, n := range all {
		total += n
	}
	return total
}

func (c *Counters) add(o *Counters) {
	for op := range c.Commands {
		c.Commands[op] += o.Commands[op]
		for r := range c.Answers[op] {
			c.Answers[op][r] += o.Answers[op][r]
		}
	}
	c.Reads.Add(&o.Reads)
	c.Writes.Add(&o.Writes)
	c.Hits += o.Hits
	c.Misses += o.Misses
	c.Errors += o.Errors
	for cause := range c.Failovers {
		c.Failovers[cause] += o.Failovers[cause]
	}
	c.Overruns += o.Overruns
	c.BytesIn += o.BytesIn
	c.BytesOut += o.BytesOut
	c.Retries += o.Retries
	c.RetriesRefused += o.RetriesRefused
	c.Hedges += o.Hedges
	c.HedgesWon += o.HedgesWon
	c.HedgesRefused += o.HedgesRefused
	c.Forbidden += o.Forbidden
	c.Lowered += o.Lowered
	c.Slowed += o.Slowed
	c.Idled += o.Idled
	c.Slow += o.Slow
	c.Withheld += o.Withheld
	c.Missed += o.Missed
	c.Former += o.Former
	c.Moved += o.Moved
	c.Authenticated += o.Authenticated
	c.Denied += o.Denied
}

// Snapshot is the state of a server at one moment.
type Snapshot struct {
	Counters
	Uptime   time.Duration
	Started  time.Time
	Sessions uint64 // clients connected
	Accepted uint64 // clients ever taken
	Refused  uint64 // clients turned away because there were too many
	Shaken   uint64 // handshakes of TLS with clients
	Unshaken uint64 // of those that began, failed
	Barred   uint64 // clients turned away because of their address
	Crowded  uint64 // clients turned away because there were too many of their address
	LogLost  uint64 // lines of the log that were lost as they were not written fast enough
	Loops    int
	Silent   int // loops that did not answer in time: they count as when they last did
	Repairs  Repairs
	Buffers  Buffers
	Nodes    []NodeSnapshot // of one pool after the other, as configured
}

// Buffers is the memory that the loops have for requests and replies.
type Buffers struct {
	Chunks        int // in use, see upstream.Group
	SpareRequests int // bytes of chunks that wait to be used again
	SpareReplies  int // bytes of buffers that replies are put together in, that do
	SpareHeld     int // bytes of buffers for replies that wait for their turn, that do
}

func (b *Buffers) add(o Buffers) {
	b.Chunks += o.Chunks
	b.SpareRequests += o.SpareRequests
	b.SpareReplies += o.SpareReplies
	b.SpareHeld += o.SpareHeld
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
	Pool  string // its name
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
	Traffic  upstream.Traffic
}

// add takes in what a loop knows of the node.
func (n *NodeSnapshot) add(o *NodeSnapshot) {
	n.Traffic.Add(&o.Traffic)
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
	buffers Buffers
	nodes   []NodeSnapshot // of all pools; what the loops know: Conns, InFlight, Debt, Latency, P99, Traffic
}

func (l *loop) part() *part {
	l.waited()
	p := &part{count: l.count}
	p.buffers.SpareReplies, p.buffers.SpareHeld = l.spare, l.held.size
	for _, lane := range l.lanes {
		lane.contribute(p)
	}
	return p
}

// contribute adds to p what the lane knows.
func (l *lane) contribute(p *part) {
	repairs := Repairs{Counts: *l.repairs.Counts()}
	repairs.Waiting, repairs.Running = l.repairs.Len()
	p.repairs.add(repairs)
	p.buffers.add(Buffers{Chunks: l.group.Chunks(), SpareRequests: l.group.Spare()})
	for i := range l.pool.Nodes {
		n := NodeSnapshot{Debt: l.debts[i].Len(), Traffic: *l.group.Traffic(i)}
		n.InFlight, n.Conns = l.group.InFlight(i)
		n.Latency, n.P99 = l.group.Latency(i)
		p.nodes = append(p.nodes, n)
	}
}

// Snapshot sums what the loops have counted. It may be called from any goroutine
// but a loop's, before Start and after Shutdown too, and takes a second at most.
func (s *Server) Snapshot() Snapshot {
	snap := Snapshot{
		Uptime:   time.Since(s.started),
		Started:  s.started,
		Accepted: s.accepted.Load(),
		Refused:  s.refused.Load(),
		Shaken:   s.shaken.Load(),
		Unshaken: s.unshaken.Load(),
		Barred:   s.doorman.barred.Load(),
		Crowded:  s.doorman.crowded.Load(),
		LogLost:  s.logLost(),
		Loops:    len(s.loops),
	}
	for _, k := range s.keepers() {
		snap.Nodes = append(snap.Nodes, k.snapshot())
	}
	asked := make([]<-chan *part, len(s.loops)) // all at once: they answer side by side
	for i, l := range s.loops {
		asked[i] = s.ask(l)
	}
	late := time.NewTimer(snapshotPatience)
	defer late.Stop()
	over := false
	for i, l := range s.loops {
		snap.Sessions += uint64(l.any.clients.Load())
		p := (*part)(nil)
		if !over {
			p, over = s.told(asked[i], late.C)
		}
		if p == nil {
			snap.Silent++
			p = l.any.told.Load()
		}
		if p != nil {
			snap.take(p)
		}
	}
	return snap
}

// LogLoses says who knows how many lines the log has lost so far, for Snapshot to tell. It is
// called before Start.
func (s *Server) LogLoses(lost func() uint64) { s.loses = lost }

// logLost is how many lines of the log are known to be lost.
func (s *Server) logLost() uint64 {
	if s.loses == nil {
		return 0
	}
	return s.loses()
}

// snapshot is what the loops need not be asked.
func (k *keeper) snapshot() NodeSnapshot {
	report := k.srv.pool.Monitor.Report(k.node.Index)
	last := report.Last
	return NodeSnapshot{Pool: k.srv.conf.Name, Name: k.node.Name, Copy: k.srv.pool.FirstCopy(k.node.Index), State: last.To.String(), Report: report,
		Since: last.At, Cause: last.Cause, Epoch: last.Epoch, Drained: k.drain.Load(), Refill: k.progress.Load(), Version: k.node.Version()}
}

// Summary is how many nodes are up (or slow), of how many, and how many clients there
// are. It waits for nobody.
func (s *Server) Summary() (up, nodes, clients int) {
	all := s.keepers()
	for _, k := range all {
		if k.srv.pool.Health.Load(k.node.Index).State() <= health.Slow {
			up++
		}
	}
	return up, len(all), int(s.clients())
}

// take adds what one loop contributes.
func (s *Snapshot) take(p *part) {
	s.add(&p.count)
	s.Repairs.add(p.repairs)
	s.Buffers.add(p.buffers)
	for i := range p.nodes {
		s.Nodes[i].add(&p.nodes[i])
	}
}

// snapshotPatience is how long the loops may take to tell their parts: a thousand times
// what they need. One that takes longer hangs, and who watches must hear of it.
const snapshotPatience = time.Second

// ask has loop l tell its part; nil is returned if it is not running.
func (s *Server) ask(l *loop) <-chan *part {
	got := make(chan *part, 1)
	tell := func() {
		p := l.part()
		l.any.told.Store(p)
		got <- p
	}
	if !s.running.Load() || l.do(tell) != nil {
		return nil
	}
	return got
}

// told waits for what a loop that was asked tells; nil if it does not. over says that
// nobody else need be waited for either.
func (s *Server) told(asked <-chan *part, late <-chan time.Time) (p *part, over bool) {
	if asked == nil {
		return nil, false
	}
	select {
	case p := <-asked:
		return p, false
	case <-s.done:
	case <-s.died:
	case <-late:
		return nil, true
	}
	return nil, false
}
