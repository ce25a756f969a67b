package health

import "time"

// Limits says how soon a node goes and comes back. All but Backoff and Ceiling,
// which are not to be 0, may be left out: then nothing is waited for.
type Limits struct {
	// Interval is the time between probes of a node that is not Down, 10% more or
	// less, so that proxies that were started together do not ask together. 0: such
	// a node is not probed, unless it is Slow: that has no other way back.
	Interval time.Duration
	Fall     int // bad probes in a row that take a node down, as HAProxy's fall
	Rise     int // good probes in a row that bring it back

	Backoff time.Duration // wait before the second probe of a Down node; doubles up to Ceiling
	Ceiling time.Duration // longest wait between probes of a Down node

	// A node that falls again and again is held Down: at its second fall within
	// memory for Hold, at each further one twice as long, at most MaxHold. For each
	// Forget that it is not Down one fall is forgotten; 0: all are, at once.
	Hold    time.Duration
	MaxHold time.Duration
	Forget  time.Duration

	Slow OutlierLimits
}

// LastPatience is how many times as long as another a node may be late before it is taken
// for down, if it is the last that has some keys: late answers are better than none. But who
// is frozen must not keep clients waiting for ever.
const LastPatience = 4

// OutlierLimits says what is too slow, which takes a node from Up to Slow, and what
// is fast enough, which brings it back. That there is room between them keeps a
// node that is neither from going to and fro.
type OutlierLimits struct {
	// The way down is an Outlier's: a node is too slow if its requests take longer
	// than Above, and than Ratio times those of its best peer, for all of Patience.
	Above    time.Duration
	Ratio    float64
	Patience time.Duration

	// The way back is the prober's: a probe is fast enough if it takes no longer
	// than Below, or than BackRatio times that of the best peer. The node must have
	// been Slow for Dwell, which doubles with each time within memory, up to
	// Limits.MaxHold; for each Limits.Forget that it is Up one time is forgotten.
	Below     time.Duration
	BackRatio float64
	Dwell     time.Duration
}

// DefaultLimits suit nodes on the local network.
var DefaultLimits = Limits{
	Interval: 500 * time.Millisecond, Fall: 3, Rise: 1,
	Backoff: 20 * time.Millisecond, Ceiling: 500 * time.Millisecond,
	Hold: 500 * time.Millisecond, MaxHold: 30 * time.Second, Forget: 10 * time.Second,
	Slow: OutlierLimits{
		Above: 20 * time.Millisecond, Ratio: 4, Patience: 100 * time.Millisecond,
		Below: 10 * time.Millisecond, BackRatio: 2, Dwell: time.Second,
	},
}

// slow reports whether own is an outlier against peer, the best of the peers. With
// no peer known (0) nobody is: it is to be compared with whoever could take over.
func (l OutlierLimits) slow(own, peer time.Duration) bool {
	return peer > 0 && own > max(l.Above, time.Duration(l.Ratio*float64(peer)))
}

// fast reports whether own is no outlier any more. With no peer known Below decides.
func (l OutlierLimits) fast(own, peer time.Duration) bool {
	return own <= max(l.Below, time.Duration(l.BackRatio*float64(peer)))
}
