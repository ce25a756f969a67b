package refill

import (
	"math"
	"time"
)

// Rate bounds how much is copied per second. A zero is no bound.
type Rate struct {
	Keys  float64
	Bytes float64 // of values
}

// Floor is the part of the rate that is left whatever happens.
const Floor = 1.0 / 32

const (
	burst   = 100 * time.Millisecond // of what the factor leaves of the rate may come at once, after a pause
	quantum = time.Millisecond       // is waited at least: what begins together is sent together, and clients wait behind it
	yields  = 0.5                    // the factor by which the rate gives way
	regains = 1.125                  // times as much after each second: in larger steps it went far beyond what clients bear, before that was seen
	patient = time.Second            // before it gives way again, or begins to regain
)

// Pace says when a further key may begin: a bucket of keys and a bucket of bytes, which
// fill at the rate times a factor. The factor grows by an eighth in each second. It is
// halved when live traffic suffers, once a second at most, and does not grow in the second
// after that. What a key holds is known when it was read, so the bucket of bytes goes below
// nothing by what was in flight. Where there is no bound, there is nothing to give way.
type Pace struct {
	rate   Rate
	factor float64
	keys   float64 // in the bucket
	bytes  float64
	filled time.Time
	gave   time.Time // when it gave way last
}

// NewPace makes a Pace with full buckets, which begins with the part factor of the rate.
func NewPace(r Rate, factor float64, now time.Time) *Pace {
	p := &Pace{rate: r, factor: min(1, max(Floor, factor)), filled: now}
	p.keys, p.bytes = p.room(r.Keys), p.room(r.Bytes)
	return p
}

// room is what the bucket of a rate holds.
func (p *Pace) room(rate float64) float64 { return max(1, rate*p.factor*burst.Seconds()) }

// Factor is by what the rate is multiplied, 1 if live traffic has not suffered of late.
func (p *Pace) Factor() float64 { return p.factor }

// Suffers takes the news that live traffic suffers.
func (p *Pace) Suffers(now time.Time) {
	if p.gave.IsZero() || now.Sub(p.gave) >= patient {
		p.fill(now)
		p.factor, p.gave = max(Floor, p.factor*yields), now
	}
}

// Wait is how long it is until a further key may begin: 0 for now.
func (p *Pace) Wait(now time.Time) time.Duration {
	p.fill(now)
	var wait float64
	if p.rate.Keys > 0 && p.keys < 1 {
		wait = (1 - p.keys) / (p.rate.Keys * p.factor)
	}
	if p.rate.Bytes > 0 && p.bytes < 0 {
		wait = max(wait, -p.bytes/(p.rate.Bytes*p.factor))
	}
	if wait == 0 {
		return 0
	}
	return max(quantum, time.Duration(wait*float64(time.Second)))
}

// Spend takes keys that have begun and bytes that were read.
func (p *Pace) Spend(keys, bytes uint64) {
	p.keys -= float64(keys)
	p.bytes -= float64(bytes)
}

// fill brings buckets and factor up to now.
func (p *Pace) fill(now time.Time) {
	from := p.filled
	if !now.After(from) {
		return
	}
	p.filled = now
	passed := now.Sub(from).Seconds() * p.factor
	p.keys = min(p.room(p.rate.Keys), p.keys+passed*p.rate.Keys)
	p.bytes = min(p.room(p.rate.Bytes), p.bytes+passed*p.rate.Bytes)
	calm := from
	if !p.gave.IsZero() {
		calm = p.gave.Add(patient)
	}
	if now.After(calm) {
		if calm.After(from) {
			from = calm
		}
		p.factor = min(1, p.factor*math.Pow(regains, now.Sub(from).Seconds()))
	}
}
