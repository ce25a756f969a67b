package health

import "time"

// damper remembers how often a node failed of late, and holds it back the longer.
//
// It is a leaky bucket: each failure fills in forget, and the time that the node is
// well takes it out again. How many forget there are in it is the count, with which
// the hold doubles. So the hold that was earned is halved each forget: it is the
// exponential decay of BGP route flap damping (RFC 2439) in whole steps, with forget
// as its half-life. As there, what can be earned has a limit, so that all is forgiven
// within a known time; unlike there, a node does not better itself while it is away.
// memcached's proxy (backend_flap_time, backend_flap_backoff_ramp and
// backend_flap_backoff_max) has waits grow likewise, and forgets all at once.
type damper struct {
	first  time.Duration // the hold of the first failure that has one
	most   time.Duration // the longest hold
	forget time.Duration // 0: nothing is remembered
	free   int           // failures that have no hold
	limit  int           // of the count, which earns most

	level time.Duration // of the bucket, at the time at
	at    time.Duration
	well  bool
}

func newDamper(first, most, forget time.Duration, free int) damper {
	d := damper{first: first, most: most, forget: forget, free: free, limit: free + 1}
	for h := first; h > 0 && h < most; h *= 2 {
		d.limit++
	}
	return d
}

// count is how many failures are remembered at now.
func (d *damper) count(now time.Duration) int {
	if d.well {
		d.level = max(d.level-(now-d.at), 0)
	}
	d.at = now
	if d.forget <= 0 {
		return 0
	}
	return int((d.level + d.forget - 1) / d.forget)
}

// mark says whether the node is well from now on.
func (d *damper) mark(now time.Duration, well bool) {
	d.count(now)
	d.well = well
}

// fail adds one, and returns how long it holds the node back.
func (d *damper) fail(now time.Duration) time.Duration {
	n := min(d.count(now)+1, d.limit)
	d.level = min(d.level+d.forget, time.Duration(d.limit)*d.forget)
	if n <= d.free {
		return 0
	}
	return min(d.first<<(n-d.free-1), d.most)
}
