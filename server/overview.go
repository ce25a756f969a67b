package server

import (
	"time"

	"magent/server/admin"
	"magent/upstream/latency"
)

// Overview says what has been counted, for the status page. It asks each loop for a copy of
// its counters, as a scrape of the metrics does.
func (s *Server) Overview() admin.Overview {
	snap := s.Snapshot()
	o := admin.Overview{
		Started: s.started, Now: time.Now(), Ready: s.Ready(), Loops: snap.Loops, Silent: snap.Silent,
		Clients: clientsOf(&snap),
	}
	rest := snap.Nodes
	for _, p := range s.pools {
		n := len(p.pool.Nodes)
		o.Pools = append(o.Pools, p.overview(rest[:n]))
		rest = rest[n:]
	}
	return o
}

func clientsOf(snap *Snapshot) admin.Clients {
	return admin.Clients{Connected: snap.Sessions, Accepted: snap.Accepted, Refused: snap.Refused + snap.Barred + snap.Crowded, Received: snap.BytesIn, Sent: snap.BytesOut,
		Requests: snap.Requests(), Hits: snap.Hits, Misses: snap.Misses, Errors: snap.Errors,
		FailedOver: snap.FailedOver(), Retries: snap.Retries, Hedges: snap.Hedges, Repairs: snap.Repairs.Waiting + snap.Repairs.Running,
		Reads: latencyOf(&snap.Reads), Writes: latencyOf(&snap.Writes)}
}

// overview is of the pool with these nodes, as a Snapshot has them.
func (s *poolServer) overview(nodes []NodeSnapshot) admin.Pool {
	var all NodeSnapshot
	for i := range nodes {
		all.add(&nodes[i])
	}
	p := admin.Pool{Name: s.conf.Name, Hits: all.Traffic.Hits, Misses: all.Traffic.Misses, Debt: all.Debt, Took: latencyOf(&all.Traffic.Took)}
	for c, pl := range s.pool.Copies {
		copied := admin.Copy{Number: c}
		for _, i := range pl.Nodes {
			copied.Nodes = append(copied.Nodes, memberOf(&nodes[i]))
		}
		p.Copies = append(p.Copies, copied)
	}
	return p
}

func memberOf(n *NodeSnapshot) admin.Member {
	return admin.Member{Node: n.told(), Version: n.Version, Connections: n.Conns, InFlight: n.InFlight,
		Hits: n.Traffic.Hits, Misses: n.Traffic.Misses,
		Received: n.Traffic.Received, Sent: n.Traffic.Sent, Took: latencyOf(&n.Traffic.Took),
		ProbeError: n.Err, Held: max(0, time.Until(n.HeldUntil).Seconds())}
}

// told is n as operators are told.
func (n *NodeSnapshot) told() admin.Node {
	return admin.Node{Pool: n.Pool, Name: n.Name, Copy: n.Copy, State: n.State, Cause: n.Cause, Since: n.Since,
		Epoch: n.Epoch, Debt: n.Debt, Drain: n.Drained, Refill: n.Refill.told()}
}

func latencyOf(h *latency.Histogram) admin.Latency {
	l := admin.Latency{Sum: h.Sum.Seconds(), Buckets: []admin.Bucket{}}
	for i, n := range &h.Counts {
		if n > 0 {
			l.Count += n
			l.Buckets = append(l.Buckets, admin.Bucket{int64(latency.Index(i)), int64(n)})
		}
	}
	return l
}
