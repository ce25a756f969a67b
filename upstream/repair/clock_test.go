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

// TestSkew: a time of the follower's clock is one of that, and nothing else is.
func TestSkew(t *testing.T) {
	const now = 1_700_000_000
	for _, c := range []struct {
		item, touched string // as the lead says
		write, touch  string
	}{
		{"VA 1 f0 t3000000 c7", "HD c7 t4000000", "ms k 1 F0 T1703000060 ME c\r\n", "mg k T1704000060\r\n"},
		{"VA 1 f0 t2592000 c7", "HD c7 t100", "ms k 1 F0 T2592000 ME c\r\n", "mg k T100\r\n"},
		{"VA 1 f0 t-1 c7", "HD c7 t-1", "ms k 1 F0 T0 ME c\r\n", "mg k T0\r\n"},
	} {
		var r Repair
		r.Reset([]byte("k"), Options{Skew: 59})
		r.SetSkew(60)
		r.Start(nil, Ask(), now)
		r.Answer(nil, []byte("EN\r\n"), now)
		if got, _ := r.Answer(nil, []byte(c.item+"\r\n"), now); string(got) != c.write {
			t.Errorf("%s is written by %q, want %q", c.item, got, c.write)
		}
		r.Start(nil, TTL(50), now)
		r.Answer(nil, []byte("HD\r\n"), now)
		if got, _ := r.Answer(nil, []byte(c.touched+"\r\n"), now); string(got) != c.touch {
			t.Errorf("%s is said by %q, want %q", c.touched, got, c.touch)
		}
	}
}
