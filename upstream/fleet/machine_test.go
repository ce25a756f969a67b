package fleet

import (
	"strings"
	"testing"
	"time"
)

// A diary is what a Machine asks, when, and what it is told.
type diary struct {
	t   *testing.T
	m   Machine
	now time.Duration
}

// wall is what the wall clock shows at now.
func wall(now time.Duration) int64 { return 1_700_000_000_000 + now.Milliseconds() }

func newDiary(t *testing.T, sources int) *diary {
	return &diary{t: t, m: NewMachine(DefaultTimes, "me", sources)}
}

// asks demands that the Machine asks q at at, and not before.
func (d *diary) asks(at time.Duration, q Question) Ask {
	d.t.Helper()
	a, wait := d.m.Next(d.now, wall(d.now))
	if a.Question == Nothing {
		if d.now += wait; wait > time.Nanosecond {
			if early, _ := d.m.Next(d.now-1, wall(d.now)); early.Question != Nothing {
				d.t.Fatalf("%v: asks %v too early", d.now, early)
			}
		}
		a, _ = d.m.Next(d.now, wall(d.now))
	}
	if a.Question != q || d.now != at {
		d.t.Fatalf("asks %v at %v, want %v at %v", a.Question, d.now, q, at)
	}
	return a
}

// told answers, and demands a verdict.
func (d *diary) told(r Reply, want Verdict) {
	d.t.Helper()
	d.m.Replied(d.now, r, 0.5)
	d.is(want)
}

func (d *diary) is(want Verdict) {
	d.t.Helper()
	if got := d.m.Verdict(d.now); got != want {
		d.t.Fatalf("%v: %v, want %v", d.now, got, want)
	}
}

// over demands that the Machine is, with a moment.
func (d *diary) over(moment int64) {
	d.t.Helper()
	if !d.m.Over() || d.m.Moment() != moment {
		d.t.Fatalf("over: %v, with the moment %d, want %d", d.m.Over(), d.m.Moment(), moment)
	}
}

// begins has the Machine take the lease at at, in version 5, and mark that, in version 7.
func (d *diary) begins(at time.Duration) {
	d.t.Helper()
	d.asks(at, Inspect)
	d.told(Reply{Life: 1}, Wait)
	d.asks(at, Take)
	d.told(Reply{Stored: true, Holder: "me", CAS: 5}, Wait)
	d.asks(at, Inspect)
	d.told(Reply{Life: 1}, Wait)
	d.asks(at, Begin)
	d.told(Reply{Life: 1, Stored: true, CAS: 7}, Refill)
}

const (
	renewal = 10 * time.Second / 3
	poll    = 500 * time.Millisecond
)

func TestRefill(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	if a := d.asks(renewal, Renew); a.CAS != 5 {
		t.Errorf("renews version %d", a.CAS)
	}
	d.told(Reply{Stored: true, Holder: "me", CAS: 6}, Refill)
	d.asks(renewal, Inspect)
	d.told(Reply{Failed: true}, Refill)
	d.asks(2*renewal, Renew)
	d.told(Reply{Stored: true, Holder: "me", CAS: 8}, Refill)
	d.asks(2*renewal, Inspect)
	d.told(Reply{Life: 1}, Refill)
	d.m.Refilled(d.now, true)
	d.is(Wait)
	a := d.asks(2*renewal, Finish)
	if at := wall(2*renewal + time.Second); a.CAS != 7 || a.At != at {
		t.Errorf("marks version %d warm at %d, want %d", a.CAS, a.At, at)
	}
	d.told(Reply{Life: 1, Marked: true, At: a.At}, Trust)
	if a := d.asks(2*renewal, Release); a.CAS != 8 {
		t.Errorf("releases version %d", a.CAS)
	}
	d.told(Reply{}, Trust)
	d.over(a.At)
}

func TestAnotherRefills(t *testing.T) {
	d := newDiary(t, 1)
	for at := time.Duration(0); at < 5*poll; at += poll {
		d.asks(at, Inspect)
		d.told(Reply{Life: 1}, Wait)
		d.asks(at, Take)
		d.told(Reply{Holder: "you", CAS: 3}, Wait)
		if d.m.Holder() != "you" {
			t.Errorf("%q refills it", d.m.Holder())
		}
	}
	d.asks(5*poll, Inspect)
	d.told(Reply{Life: 1, Marked: true, At: 4711}, Trust)
	d.over(4711)
}

func TestLeaseIsLost(t *testing.T) {
	for _, c := range []struct {
		name string
		hear Reply
	}{
		{"another's", Reply{Holder: "you", CAS: 9}},
		{"gone", Reply{}},
		{"another's as soon as it was renewed", Reply{Stored: true, Holder: "you", CAS: 9}},
	} {
		d := newDiary(t, 1)
		d.begins(0)
		d.asks(renewal, Renew)
		d.told(c.hear, Wait)
		d.asks(renewal, Inspect)
	}
	d := newDiary(t, 1)
	d.begins(0)
	for at := renewal; at < 9*time.Second; at += poll {
		d.asks(at, Renew)
		d.told(Reply{Failed: true}, Refill)
	}
	d.asks(9*time.Second, Inspect) // when it may have ended
	d.is(Wait)
}

// A lease may be ours by a request of which no answer came.
func TestLostAnswers(t *testing.T) {
	d := newDiary(t, 1)
	d.asks(0, Inspect)
	d.told(Reply{Life: 1}, Wait)
	d.asks(0, Take)
	d.told(Reply{Failed: true}, Wait)
	d.asks(poll, Inspect)
	d.told(Reply{Life: 1}, Wait)
	d.asks(poll, Take)
	d.told(Reply{Holder: "me", CAS: 4}, Wait)
	if a := d.asks(poll, Renew); a.CAS != 4 {
		t.Errorf("claims version %d", a.CAS)
	}
	d.told(Reply{Stored: true, Holder: "me", CAS: 5}, Wait)
	d.asks(poll, Inspect)
	d.told(Reply{Life: 1}, Wait)
	d.asks(poll, Begin)
	d.told(Reply{Life: 1, Stored: true, CAS: 7}, Refill)
	d.asks(poll+renewal, Renew)
	d.told(Reply{Failed: true}, Refill)
	d.asks(2*poll+renewal, Renew)
	d.told(Reply{Holder: "me", CAS: 6}, Refill) // the first was carried out
	if a := d.asks(2*poll+renewal, Renew); a.CAS != 6 {
		t.Errorf("renews version %d", a.CAS)
	}
	d.told(Reply{Stored: true, Holder: "me", CAS: 7}, Refill)
}

// So may the marker, whose moment is that of the request that was carried out.
func TestMarkersAnswerIsLost(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	d.m.Refilled(d.now, true)
	first := d.asks(0, Finish)
	d.told(Reply{Failed: true}, Wait)
	if a := d.asks(poll, Finish); a.CAS != 7 || a.At != first.At+poll.Milliseconds() {
		t.Errorf("marks version %d warm at %d, after %d", a.CAS, a.At, first.At)
	}
	d.told(Reply{Life: 1, Marked: true, At: first.At}, Trust)
	d.asks(poll, Release)
	d.told(Reply{}, Trust)
	d.over(first.At)
}

// Another magent may finish while this one believes that it has the lease, or before.
func TestAnotherFinishes(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	d.asks(renewal, Renew)
	d.told(Reply{Stored: true, Holder: "me", CAS: 6}, Refill)
	d.asks(renewal, Inspect)
	d.told(Reply{Life: 1, Marked: true, At: 4711}, Trust)
	d.asks(renewal, Release)
	d.told(Reply{Failed: true}, Trust)
	d.over(4711)
}

// All who look see a marker before its moment, however chance spreads the looks.
func TestMarkerIsSeenInTime(t *testing.T) {
	m := NewMachine(DefaultTimes, "me", 1)
	m.Next(0, wall(0))
	m.Replied(0, Reply{Failed: true}, 1)
	if _, wait := m.Next(0, wall(0)); wait > DefaultTimes.Lead-250*time.Millisecond {
		t.Errorf("looks again after %v, and a marker leads by %v", wait, DefaultTimes.Lead)
	}
}

func TestAnotherLife(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	d.asks(renewal, Renew)
	d.told(Reply{Stored: true, Holder: "me", CAS: 6}, Refill)
	d.asks(renewal, Inspect)
	d.told(Reply{Life: 2}, Wait)
	if a := d.asks(renewal, Take); a.Life != 2 {
		t.Errorf("takes the lease of life %d", a.Life)
	}
	d = newDiary(t, 1)
	d.begins(0)
	d.m.Refilled(d.now, true)
	d.asks(0, Finish)
	d.told(Reply{Life: 2, Stored: true, Marked: true}, Wait) // by chance the versions are the same
	d.asks(0, Take)
}

func TestSourcesAreAskedInOrder(t *testing.T) {
	d := newDiary(t, 3)
	d.asks(0, Inspect)
	d.told(Reply{Life: 1}, Wait)
	for i := range 3 {
		if a := d.asks(0, Take); a.Source != i {
			t.Errorf("asks source %d, want %d", a.Source, i)
		}
		d.told(Reply{Failed: true}, Wait)
	}
	d.asks(poll, Inspect)
	d.told(Reply{Life: 1}, Wait)
	if a := d.asks(poll, Take); a.Source != 0 {
		t.Errorf("begins with source %d", a.Source)
	}
}

// A node that loses the mark of the beginning each time is marked at last all the same.
func TestMarkIsGone(t *testing.T) {
	d := newDiary(t, 1)
	for i := range maxSpoiled {
		at := time.Duration(i) * poll
		d.begins(at)
		d.m.Refilled(d.now, true)
		d.asks(at, Finish)
		d.told(Reply{Life: 1}, Wait)
		d.asks(at, Release)
		d.told(Reply{}, Wait)
	}
	d.begins(maxSpoiled * poll)
	d.m.Refilled(d.now, true)
	if a := d.asks(maxSpoiled*poll, Finish); a.CAS != 0 {
		t.Errorf("still guarded by version %d", a.CAS)
	}
	d.told(Reply{Life: 1}, Trust)
	d.asks(maxSpoiled*poll, Release)
	d.told(Reply{}, Trust)
	d.over(0)
}

// A mark that came after the look is looked at before a refill begins, within reason.
func TestMarkIsAnothers(t *testing.T) {
	d := newDiary(t, 1)
	for i := range maxSpoiled + 1 {
		at := time.Duration(i) * poll
		d.asks(at, Inspect)
		d.told(Reply{Life: 1, CAS: 20}, Wait)
		d.asks(at, Take)
		d.told(Reply{Stored: true, Holder: "me", CAS: 5}, Wait)
		d.asks(at, Inspect)
		d.told(Reply{Life: 1, CAS: 21}, Wait)
		if a := d.asks(at, Begin); a.CAS != 21 {
			t.Errorf("marks over version %d", a.CAS)
		}
		if i == maxSpoiled {
			d.told(Reply{Life: 1, CAS: 22}, Refill)
			break
		}
		d.told(Reply{Life: 1, CAS: 22}, Wait)
		d.asks(at, Release)
		d.told(Reply{}, Wait)
	}
	d.m.Refilled(d.now, true)
	if a := d.asks(maxSpoiled*poll, Finish); a.CAS != 0 {
		t.Errorf("marks version %d", a.CAS)
	}
}

func TestFailedRefillLetsOthersTry(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	d.m.Refilled(d.now, false)
	d.asks(0, Release)
	d.told(Reply{Failed: true}, Wait)
	d.asks(poll, Inspect)
}

func TestLeaseKey(t *testing.T) {
	const life = 0x1234
	for address, want := range map[string]string{
		"10.0.0.1:11211":                     "magent:refill:10.0.0.1:11211:0000000000001234",
		"[fe80::1%eth0]:11211":               "magent:refill:[fe80::1%eth0]:11211:0000000000001234",
		"/run/a b.sock":                      "magent:refill:#8128dea89659bf75:0000000000001234",
		strings.Repeat("x", 1000) + ":11211": "magent:refill:#985ce58dbd95cd39:0000000000001234",
	} {
		if got := leaseKey(address, life); got != want {
			t.Errorf("%.30s: %s, want %s", address, got, want)
		}
	}
	if n := len(leaseKey(strings.Repeat("x", maxAddress), life)); n > 250 {
		t.Errorf("a key of %d bytes", n)
	}
	if id := NewID(); len(id) > 200 || strings.ContainsAny(id, " \r\n") || id == NewID() {
		t.Errorf("an id is %q", id)
	}
}
