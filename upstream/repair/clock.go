package repair

import "time"

// Clock is what is known of how far a node's clock is ahead of the caller's.
//
// A node counts whole seconds, and goes on to the next one when a timer of its own runs:
// at its own part of each second, and later if its machine is busy (clock_handler in
// memcached.c of memcached 1.6). So it says what time it is, or an earlier one, and never
// a later one; and an answer that was long under way says no more than that either. Hence
// the most that it was ever seen ahead is the nearest to the truth: of many samples one
// keeps the best, as the clock filter of NTP does (RFC 5905, section 10), and the mean
// says nothing. The zero value has seen nothing, and takes the two clocks for one.
type Clock struct {
	seen   bool
	most   time.Duration // that it was ahead since began
	before time.Duration // the same for the time from the window before to began
	began  time.Time
}

// window is for how long the most counts, and up to twice as long: the clock of a machine
// that was suspended goes on from where it was.
const window = time.Minute

// Saw takes what time it was at the node, in Unix seconds, before an answer was received.
func (c *Clock) Saw(at int64, received time.Time) {
	ahead := time.Unix(at, 0).Sub(received)
	switch {
	case !c.seen:
		c.seen, c.most, c.before, c.began = true, ahead, ahead, received
	case received.Sub(c.began) >= window:
		c.before, c.most, c.began = c.most, ahead, received
	default:
		c.most = max(c.most, ahead)
	}
}

// Ahead is how far it is ahead, as far as is known.
func (c *Clock) Ahead() time.Duration { return max(c.most, c.before) }
