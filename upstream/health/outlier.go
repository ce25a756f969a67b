package health

import "time"

// Outlier finds out whether one node is slow beside its peers, by looks at how long
// requests take. It belongs to one goroutine; it has no memory but of the run of
// slow looks that is on.
type Outlier struct {
	limits OutlierLimits
	on     bool          // a run of slow looks
	since  time.Duration // its first
	last   time.Duration // its latest
}

// NewOutlier is an Outlier that has seen nothing.
func NewOutlier(l OutlierLimits) Outlier { return Outlier{limits: l} }

// Look tells how long requests take at the node, and at the best of its peers (0 if
// that is not known), at now, which does not go back. It reports whether the node
// has been too slow without a break for OutlierLimits.Patience. A pause of that
// length between looks is a break: what nobody has looked at is no evidence.
func (o *Outlier) Look(now, own, peer time.Duration) bool {
	if !o.limits.slow(own, peer) {
		o.on = false
		return false
	}
	if !o.on || now-o.last > o.limits.Patience {
		o.on, o.since = true, now
	}
	o.last = now
	return now-o.since >= o.limits.Patience
}
