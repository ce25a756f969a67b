package repair

import (
	"fmt"
	"testing"
	"time"
)

func job(key string) Job { return Job{Key: []byte(key), Lead: 1, Follower: 2, Cause: CauseRace} }

func TestAKeyWaitsOnce(t *testing.T) {
	q := NewQueue(Limits{})
	key := []byte("k")
	q.Add(Job{Key: key, Cause: CauseRace, Begin: Held(5)})
	key[0] = 'x' // the queue has its own
	q.Add(job2("k", 0, 0))
	j, _ := q.Next(0)
	if j == nil || string(j.Key) != "k" || j.Begin != Ask() {
		t.Fatalf("got %+v", j)
	}
	if other, _ := q.Next(0); other != nil {
		t.Fatalf("the key came twice: %+v", other)
	}
	if q.Add(job2("k", 0, 0)); q.Counts().Joined != 2 {
		t.Errorf("%d joined", q.Counts().Joined)
	}
	q.Done(j, Copied)
	if j, _ = q.Next(0); j == nil {
		t.Fatal("asked for while it ran, it does not run again")
	}
	q.Done(j, Dropped)
	if w, r := q.Len(); w+r != 0 {
		t.Errorf("%d wait, %d run", w, r)
	}
	if c := q.Counts(); c.Asked[CauseRace] != 3 || c.Ended[Copied] != 1 || c.Ended[Dropped] != 1 {
		t.Errorf("counted %+v", c)
	}
}

func job2(key string, lead, follower int) Job {
	return Job{Key: []byte(key), Lead: lead, Follower: follower}
}

func TestJobsAreToldApart(t *testing.T) {
	q := NewQueue(Limits{})
	b64 := job2("k", 1, 2)
	b64.Options.Base64 = true
	for _, j := range []Job{job2("k", 1, 2), job2("k", 2, 1), job2("kk", 1, 2), b64} {
		q.Add(j)
	}
	if w, _ := q.Len(); w != 4 {
		t.Errorf("%d of 4 wait", w)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := NewQueue(Limits{Running: 2, Waiting: 3})
	for i := range 5 {
		if ok := q.Add(job(fmt.Sprint(i))); ok != (i < 3) {
			t.Errorf("job %d is taken: %v", i, ok)
		}
	}
	var running []*Job
	for {
		j, wait := q.Next(0)
		if wait != 0 {
			t.Fatalf("it waits for %v without a rate", wait)
		}
		if j == nil {
			break
		}
		running = append(running, j)
	}
	if len(running) != 2 || string(running[0].Key) != "0" || string(running[1].Key) != "1" {
		t.Fatalf("%d run", len(running))
	}
	q.Done(running[0], Copied)
	if j, _ := q.Next(0); j == nil || string(j.Key) != "2" {
		t.Errorf("then comes %+v", j)
	}
	if q.Counts().Refused != 2 {
		t.Errorf("%d refused", q.Counts().Refused)
	}
}

func TestRateIsKept(t *testing.T) {
	q := NewQueue(Limits{Running: 1000, Rate: 100, Burst: 5})
	for i := range 500 {
		q.Add(job(fmt.Sprint(i)))
	}
	begun, now := 0, time.Duration(0)
	for now < time.Second {
		j, wait := q.Next(now)
		if j == nil {
			if wait <= 0 || wait > 11*time.Millisecond {
				t.Fatalf("at %v it waits for %v", now, wait)
			}
			now += wait
			continue
		}
		begun++
	}
	if begun < 104 || begun > 105 {
		t.Errorf("%d began in a second, want 5 and 100", begun)
	}
}
