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

func newDiary(t *testing.T, sources int) *diary {
	return &diary{t: t, m: NewMachine(DefaultTimes, "me", sources)}
}

// asks demands that the Machine asks q at at, and not before.
func (d *diary) asks(at time.Duration, q Question) Ask {
	d.t.Helper()
	a, wait := d.m.Next(d.now)
	if a.Question == Nothing {
		if d.now += wait; wait > time.Nanosecond {
			if early, _ := d.m.Next(d.now - 1); early.Question != Nothing {
				d.t.Fatalf("%v: asks %v too early", d.now, early)
			}
		}
		a, _ = d.m.Next(d.now)
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

// begins has the Machine take the lease at at, in version 5, and mark that, in version 7.
func (d *diary) begins(at time.Duration) {
	d.t.Helper()
	d.asks(at, Look)
	d.told(Reply{Life: 1}, Wait)
	d.asks(at, Take)
	d.told(Reply{Stored: true, Holder: "me", CAS: 5}, Wait)
	d.asks(at, Look)
	d.told(Reply{Life: 1}, Wait)
	d.asks(at, Begin)
	d.told(Reply{Life: 1, Stored: true, CAS: 7}, Refill)
}

const renewal = 10 * time.Second / 3

func TestRefill(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	if a := d.asks(renewal, Renew); a.CAS != 5 {
		t.Errorf("renews version %d", a.CAS)
	}
	d.told(Reply{Stored: true, Holder: "me", CAS: 6}, Refill)
	d.asks(renewal, Look)
	d.told(Reply{Failed: true}, Refill)
	d.asks(2*renewal, Renew)
	d.told(Reply{Stored: true, Holder: "me", CAS: 8}, Refill)
	d.asks(2*renewal, Look)
	d.told(Reply{Life: 1}, Refill)
	d.m.Refilled(d.now, true)
	d.is(Wait)
	if a := d.asks(2*renewal, Mark); a.CAS != 7 {
		t.Errorf("marks version %d", a.CAS)
	}
	d.told(Reply{Life: 1, Stored: true, CAS: 9}, Warm)
	if a := d.asks(2*renewal, Release); a.CAS != 8 {
		t.Errorf("releases version %d", a.CAS)
	}
	d.told(Reply{}, Warm)
	if !d.m.Over() {
		t.Error("it is not over")
	}
}

func TestAnotherRefills(t *testing.T) {
	d := newDiary(t, 1)
	for at := time.Duration(0); at < 5*time.Second; at += time.Second {
		d.asks(at, Look)
		d.told(Reply{Life: 1}, Wait)
		d.asks(at, Take)
		d.told(Reply{Holder: "you", CAS: 3}, Wait)
		if d.m.Holder() != "you" {
			t.Errorf("%q refills it", d.m.Holder())
		}
	}
	d.asks(5*time.Second, Look)
	d.told(Reply{Life: 1, Marked: true}, Warm)
	if !d.m.Over() {
		t.Error("it is not over")
	}
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
		d.asks(renewal, Look)
	}
	d := newDiary(t, 1)
	d.begins(0)
	for at := renewal; at < 9*time.Second; at += time.Second {
		d.asks(at, Renew)
		d.told(Reply{Failed: true}, Refill)
	}
	d.asks(9*time.Second, Look) // when it may have ended
	d.is(Wait)
}

// A lease may be ours by a request of which no answer came.
func TestLostAnswers(t *testing.T) {
	d := newDiary(t, 1)
	d.asks(0, Look)
	d.told(Reply{Life: 1}, Wait)
	d.asks(0, Take)
	d.told(Reply{Failed: true}, Wait)
	d.asks(time.Second, Look)
	d.told(Reply{Life: 1}, Wait)
	d.asks(time.Second, Take)
	d.told(Reply{Holder: "me", CAS: 4}, Wait)
	if a := d.asks(time.Second, Renew); a.CAS != 4 {
		t.Errorf("claims version %d", a.CAS)
	}
	d.told(Reply{Stored: true, Holder: "me", CAS: 5}, Wait)
	d.asks(time.Second, Look)
	d.told(Reply{Life: 1}, Wait)
	d.asks(time.Second, Begin)
	d.told(Reply{Life: 1, Stored: true, CAS: 7}, Refill)
	d.asks(time.Second+renewal, Renew)
	d.told(Reply{Failed: true}, Refill)
	d.asks(2*time.Second+renewal, Renew)
	d.told(Reply{Holder: "me", CAS: 6}, Refill) // the first was carried out
	if a := d.asks(2*time.Second+renewal, Renew); a.CAS != 6 {
		t.Errorf("renews version %d", a.CAS)
	}
	d.told(Reply{Stored: true, Holder: "me", CAS: 7}, Refill)
}

func TestAnotherLife(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	d.asks(renewal, Renew)
	d.told(Reply{Stored: true, Holder: "me", CAS: 6}, Refill)
	d.asks(renewal, Look)
	d.told(Reply{Life: 2}, Wait)
	if a := d.asks(renewal, Take); a.Life != 2 {
		t.Errorf("takes the lease of life %d", a.Life)
	}
	d = newDiary(t, 1)
	d.begins(0)
	d.m.Refilled(d.now, true)
	d.asks(0, Mark)
	d.told(Reply{Life: 2, Stored: true}, Wait) // by chance the versions are the same
	d.asks(0, Take)
}

func TestSourcesAreAskedInOrder(t *testing.T) {
	d := newDiary(t, 3)
	d.asks(0, Look)
	d.told(Reply{Life: 1}, Wait)
	for i := range 3 {
		if a := d.asks(0, Take); a.Source != i {
			t.Errorf("asks source %d, want %d", a.Source, i)
		}
		d.told(Reply{Failed: true}, Wait)
	}
	d.asks(time.Second, Look)
	d.told(Reply{Life: 1}, Wait)
	if a := d.asks(time.Second, Take); a.Source != 0 {
		t.Errorf("begins with source %d", a.Source)
	}
}

// A node that loses the mark of the beginning each time is marked at last all the same.
func TestMarkIsGone(t *testing.T) {
	d := newDiary(t, 1)
	for i := range maxSpoiled {
		at := time.Duration(i) * time.Second
		d.begins(at)
		d.m.Refilled(d.now, true)
		d.asks(at, Mark)
		d.told(Reply{Life: 1}, Wait)
		d.asks(at, Release)
		d.told(Reply{}, Wait)
	}
	d.begins(maxSpoiled * time.Second)
	d.m.Refilled(d.now, true)
	if a := d.asks(maxSpoiled*time.Second, Mark); a.CAS != 0 {
		t.Errorf("still guarded by version %d", a.CAS)
	}
	d.told(Reply{Life: 1}, Warm)
}

func TestFailedRefillLetsOthersTry(t *testing.T) {
	d := newDiary(t, 1)
	d.begins(0)
	d.m.Refilled(d.now, false)
	d.asks(0, Release)
	d.told(Reply{Failed: true}, Wait)
	d.asks(time.Second, Look)
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
	if id := newID(); len(id) > 200 || strings.ContainsAny(id, " \r\n") || id == newID() {
		t.Errorf("an id is %q", id)
	}
}
