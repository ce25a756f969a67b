package repair

import (
	"testing"
	"time"
)

// TestClock has a clock read that is 5 s ahead, counts seconds, and is late now and then:
// late readings teach nothing, and a clock that has stood still is believed after a while.
func TestClock(t *testing.T) {
	var c Clock
	if c.Ahead() != 0 {
		t.Errorf("one that was never seen is %v ahead", c.Ahead())
	}
	start := time.Unix(1_700_000_000, 0)
	saw := func(after, late time.Duration, ahead int64) {
		now := start.Add(after)
		c.Saw(now.Add(-late).Unix()+ahead, now)
	}
	saw(300*time.Millisecond, 3*time.Second, 5)
	if got, want := c.Ahead(), 1700*time.Millisecond; got != want {
		t.Errorf("at first %v ahead, want %v", got, want)
	}
	for i := range 100 {
		late := time.Duration(i%3) * time.Second
		saw(time.Second+time.Duration(i)*310*time.Millisecond, late, 5)
	}
	if got := c.Ahead(); got < 4900*time.Millisecond || got > 5*time.Second {
		t.Errorf("%v ahead, want 5 s", got)
	}
	saw(2*window, 0, 2)
	if got := c.Ahead(); got < 4900*time.Millisecond {
		t.Errorf("one reading makes it %v ahead", got)
	}
	saw(4*window, 0, 2)
	if got := c.Ahead(); got != 2*time.Second {
		t.Errorf("%v ahead though it has stood still for 3 s", got)
	}
}
