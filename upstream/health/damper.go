package health

import "time"

// damper counts how often a node failed of late, and how long that holds it back.
//
// Holds double with each failure, and time spent well takes failures off again, one
// each forget. So the hold that a node has earned is halved each forget: it is the
// exponential decay of BGP route flap damping (RFC 2439, section 2.2) in whole
// numbers, with forget as its half-life. As there, what can be earned is limited, so
// that the past is forgiven within a known time; unlike there, a node that is away
// does not better itself. memcached's proxy (backend_flap_time,
// backend_flap_backoff_ramp, backend_flap_backoff_max) has its wait grow alike, but
// forgets all at once.
type damper struct {
	first  time.Duration // the hold of the first failure that has one
	most   time.Duration // the longest hold
	forget time.Duration // 0: never
	free   int           // failures that have none
	limit  int           // of count: the failures that earn most

	count int
	calm  time.Duration // spent well since a failure was forgotten
	well  bool
	at    time.Duration // calm is reckoned up to here
}

func newDamper(first, most, forget time.Duration, free int) damper {
	d := damper{first: first, most: most, forget: forget, free: free, limit: free + 1}
	for h := first; h > 0 && h < most; h *= 2 {
		d.limit++
	}
	return d
}

// flaps is the count at now.
func (d *damper) flaps(now time.Duration) int {
	if d.well {
		d.calm += now - d.at
	}
	d.at = now
	if d.forget > 0 {
		d.count -= min(d.count, int(d.calm/d.forget))
		d.calm %= d.forget
	}
	return d.count
}

// mark says whether the node is well from now on.
func (d *damper) mark(now time.Duration, well bool) {
	d.flaps(now)
	d.well = well
}

// fail counts one more, and returns how long it holds the node back.
func (d *damper) fail(now time.Duration) time.Duration {
	d.count = min(d.flaps(now)+1, d.limit)
	if d.count <= d.free {
		return 0
	}
	return min(d.first<<(d.count-d.free-1), d.most)
}
