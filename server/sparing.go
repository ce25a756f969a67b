package server

import "time"

// sparing lets few of many lines of log through: sparingBurst at a stretch, and then one
// each gap. It counts the others. It belongs to one goroutine, or to who holds its lock.
type sparing struct {
	gap      time.Duration
	due      time.Duration // what has been said is paid for then
	withheld uint64        // lines since the last that was let through
}

// sparingBurst is how many lines there may be at a stretch.
const sparingBurst = 10

// may reports whether a line may be logged at the time now; if it may, withheld is how
// many before it were not.
func (p *sparing) may(now time.Duration) (ok bool, withheld uint64) {
	if p.due > now+(sparingBurst-1)*p.gap {
		p.withheld++
		return false, 0
	}
	p.due = max(p.due, now) + p.gap
	withheld, p.withheld = p.withheld, 0
	return true, withheld
}
