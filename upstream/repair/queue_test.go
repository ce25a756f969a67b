package repair

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// wisher writes down what the queue tells it.
type wisher struct {
	Job
	onBegin func()
	begun   []bool // fresh
	covered []told
}

type told struct {
	held bool
	o    Outcome
}

func (w *wisher) Begin(j *Job, fresh bool) {
	w.begun = append(w.begun, fresh)
	if w.onBegin != nil {
		w.onBegin()
	}
}

func (w *wisher) Covered(j *Job, held bool, o Outcome) {
	w.covered = append(w.covered, told{held, o})
}

// wish makes a wish for key.
func wish(key string) *wisher {
	w := &wisher{Job: Job{Key: []byte(key), Lead: 1, Follower: 2, Cause: CauseRace}}
	w.Owner = w
	return w
}

// wished makes a wish for key and adds it.
func wished(t *testing.T, q *Queue, key string) *wisher {
	t.Helper()
	w := wish(key)
	if !q.Add(&w.Job) {
		t.Fatalf("%s does not get in", key)
	}
	return w
}

func (w *wisher) want(t *testing.T, begun []bool, covered ...told) {
	t.Helper()
	if !slices.Equal(w.begun, begun) || !slices.Equal(w.covered, covered) {
		t.Errorf("%s began %v and was told %v, want %v and %v", w.Key, w.begun, w.covered, begun, covered)
	}
}

func length(t *testing.T, q *Queue, waiting, running int) {
	t.Helper()
	if w, r := q.Len(); w != waiting || r != running {
		t.Errorf("%d wait and %d run, want %d and %d", w, r, waiting, running)
	}
}

func TestOneRunStandsForThoseThatWait(t *testing.T) {
	q := NewQueue(Limits{})
	lone, first, second := wished(t, q, "lone"), wished(t, q, "k"), wished(t, q, "k")
	length(t, q, 2, 0)
	q.Run(0)
	length(t, q, 0, 2)
	lone.want(t, []bool{true})
	first.want(t, []bool{false})
	second.want(t, nil)
	q.Held(&first.Job)
	q.Held(&first.Job)
	second.want(t, nil, told{true, Running})
	q.Done(&first.Job, LeadLost)
	second.want(t, nil, told{true, Running}, told{true, LeadLost})
	q.Done(&lone.Job, Copied)
	length(t, q, 0, 0)
	if c := q.Counts(); c.Joined != 1 || c.Asked[CauseRace] != 3 || c.Ended[LeadLost] != 1 || c.Ended[Copied] != 1 {
		t.Errorf("counted %+v", *c)
	}
}

func TestThoseThatComeDuringARunWaitForAnother(t *testing.T) {
	q := NewQueue(Limits{})
	first := wished(t, q, "k")
	q.Run(0)
	second, third := wished(t, q, "k"), wished(t, q, "k")
	q.Run(0)
	q.Held(&first.Job)
	length(t, q, 1, 1)
	second.want(t, nil)
	third.want(t, nil)
	q.Done(&first.Job, Copied)
	q.Run(0)
	first.want(t, []bool{true})
	second.want(t, []bool{false})
	fourth := wished(t, q, "k")
	q.Done(&second.Job, Overtaken)
	third.want(t, nil, told{true, Overtaken})
	q.Run(0)
	fourth.want(t, []bool{false})
	q.Done(&fourth.Job, Debt)
	// All is over: it is as if nothing had been.
	again := wished(t, q, "k")
	q.Run(0)
	again.want(t, []bool{true})
}

func TestHowARunEndsIsToldAsItIs(t *testing.T) {
	for o := Copied; o < NumOutcomes; o++ {
		q := NewQueue(Limits{})
		w, joined := wished(t, q, "k"), wished(t, q, "k")
		q.Run(0)
		q.Done(&w.Job, o)
		joined.want(t, nil, told{o <= Overtaken, o})
	}
}

func TestJobsAreToldApart(t *testing.T) {
	q := NewQueue(Limits{})
	ws := []*wisher{wish("k"), wish("k"), wish("k"), wish("k"), wish("kk"), wish("k"), wish("k")}
	ws[1].Lead = 2
	ws[2].Follower = 1
	ws[3].Base64 = true
	ws[5].Alone, ws[6].Alone = true, true
	for _, w := range ws {
		q.Add(&w.Job)
	}
	q.Run(0)
	for _, w := range ws {
		w.want(t, []bool{true})
	}
	for _, w := range ws {
		q.Done(&w.Job, Copied)
	}
	length(t, q, 0, 0)
}

func TestQueueIsBounded(t *testing.T) {
	q := NewQueue(Limits{Running: 2, Waiting: 3})
	var ws []*wisher
	for i := range 5 {
		w := wish(fmt.Sprint(i))
		if ok := q.Add(&w.Job); ok != (i < 3) {
			t.Errorf("job %d is taken: %v", i, ok)
		}
		ws = append(ws, w)
	}
	wished(t, q, "0") // it joins, which takes no room
	if wait := q.Run(0); wait != 0 {
		t.Errorf("it waits for %v without a rate", wait)
	}
	length(t, q, 1, 2)
	q.Done(&ws[0].Job, Copied)
	q.Run(0)
	ws[2].want(t, []bool{true})
	if q.Counts().Refused != 2 {
		t.Errorf("%d refused", q.Counts().Refused)
	}
	q.Done(&ws[1].Job, Copied)
	if !q.Add(&ws[3].Job) {
		t.Error("one that was refused does not get in when there is room")
	}
}

func TestUrgentJobsGoFirst(t *testing.T) {
	q := NewQueue(Limits{Running: 1, Rate: 1, Burst: 1})
	ws := []*wisher{wished(t, q, "a"), wished(t, q, "b"), wished(t, q, "c"), wished(t, q, "d")}
	q.Run(0) // a takes what the rate gives for this second
	for _, key := range []string{"e", "c"} {
		w := wish(key)
		w.Urgent = true
		q.Add(&w.Job)
		ws = append(ws, w)
	}
	q.Done(&ws[0].Job, Copied)
	q.Run(0)
	ws[4].want(t, []bool{true}) // e
	q.Done(&ws[4].Job, Copied)
	q.Run(0)
	ws[2].want(t, []bool{false}) // c, as the urgent one has joined it
	q.Done(&ws[2].Job, Copied)
	ws[5].want(t, nil, told{true, Copied})
	if wait := q.Run(0); wait != time.Second {
		t.Errorf("it waits for %v, want 1s", wait)
	}
	q.Run(time.Second)
	ws[1].want(t, []bool{true}) // b
	// One that waits behind a run is made urgent too.
	behind := wished(t, q, "b")
	hurry := wish("b")
	hurry.Urgent = true
	q.Add(&hurry.Job)
	q.Done(&ws[1].Job, Copied)
	q.Run(time.Second)
	behind.want(t, []bool{false})
	length(t, q, 1, 1)
}

func TestRateIsKept(t *testing.T) {
	q := NewQueue(Limits{Running: 1000, Rate: 100, Burst: 5})
	for i := range 500 {
		wished(t, q, fmt.Sprint(i))
	}
	for now := time.Duration(0); now < time.Second; {
		wait := q.Run(now)
		if wait <= 0 || wait > 11*time.Millisecond {
			t.Fatalf("at %v it waits for %v", now, wait)
		}
		now += wait
	}
	if _, begun := q.Len(); begun < 104 || begun > 105 {
		t.Errorf("%d began in a second, want 5 and 100", begun)
	}
}

func TestRunsMayEndWhereTheyBegin(t *testing.T) {
	q := NewQueue(Limits{Running: 1})
	w, next := wish("k"), wish("k")
	left := 3
	w.onBegin = func() {
		if left == 2 {
			q.Add(&next.Job) // while it runs
		}
		q.Done(&w.Job, Copied)
		if left--; left > 0 {
			q.Add(&w.Job)
		}
		q.Run(0)
	}
	next.onBegin = func() { q.Done(&next.Job, Debt) }
	q.Add(&w.Job)
	q.Run(0)
	// The third time it comes when next waits, and joins it.
	w.want(t, []bool{true, true}, told{false, Debt})
	next.want(t, []bool{false})
	length(t, q, 0, 0)
}

func TestMisuseOfAQueuePanics(t *testing.T) {
	for name, misuse := range map[string]func(*Queue, *wisher){
		"added twice":         func(q *Queue, w *wisher) { q.Add(&w.Job); q.Add(&w.Job) },
		"done before begun":   func(q *Queue, w *wisher) { q.Add(&w.Job); q.Done(&w.Job, Copied) },
		"done without an end": func(q *Queue, w *wisher) { q.Add(&w.Job); q.Run(0); q.Done(&w.Job, Running) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: nobody minds", name)
				}
			}()
			q := NewQueue(Limits{})
			misuse(q, wish("k"))
		}()
	}
}
