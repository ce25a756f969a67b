package failover

import (
	"errors"
	"fmt"
	"time"
)

// Unbounded is a bound that is none.
const Unbounded = -1

// Bounds are what a drill may cost, over all of it; each may be Unbounded. The zero
// value allows nothing.
type Bounds struct {
	// MaxErrors is how many requests may get an error line or no answer, MaxMiss how
	// many may find nothing, MaxStale and MaxWrong how many something old or wrong.
	MaxErrors, MaxMiss, MaxStale, MaxWrong int
	// MaxGap is for how long nobody may get a good answer: see Result.Gap.
	MaxGap time.Duration
}

// Check says which bounds were passed, all of them, and by what.
func (r *Result) Check(b Bounds) error {
	var errs []error
	check := func(got, most int, what string) {
		if most >= 0 && got > most {
			errs = append(errs, fmt.Errorf("failover: %d %s, and at most %d allowed", got, what, most))
		}
	}
	check(r.Total.Errors()+int(r.Unsent), b.MaxErrors, "errors")
	check(r.Total.Misses, b.MaxMiss, "misses")
	check(r.Total.Stale, b.MaxStale, "stale values")
	check(r.Total.Wrong, b.MaxWrong, "wrong values")
	if b.MaxGap >= 0 && time.Duration(r.Gap) > b.MaxGap {
		errs = append(errs, fmt.Errorf("failover: no good answer for %v, and at most %v allowed", r.Gap, Millis(b.MaxGap)))
	}
	return errors.Join(errs...)
}
