package repair

import (
	"encoding/binary"
	"time"
)

// Cause is why a key is to be repaired.
type Cause uint8

const (
	CauseRace       Cause = iota // the lead has moved on while the write was under way
	CauseTTL                     // the lead's TTL is not the one that was written
	CauseRelative                // a relative write, which followers get as its result
	CauseUnversed                // the lead did not name the version it made
	CauseFate                    // a follower failed, and whether it has the write is not known
	CauseDebt                    // the node missed writes while it was away
	CauseRefill                  // the node came back empty
	CauseDifference              // somebody compared the copies
	NumCauses
)

var causes = [NumCauses]string{"lost race", "ttl differs", "relative write", "no version", "unknown fate", "debt", "refill", "difference"}

func (c Cause) String() string { return causes[c] }

// Job is one key to be repaired at one follower.
type Job struct {
	Key            []byte // as written; owned by the Queue, good until Done
	Options        Options
	Lead, Follower int // nodes
	Begin          Begin
	Cause          Cause
	again          bool
	next           *Job
	id             []byte
}

// Limits bound what a Queue does.
type Limits struct {
	Running int     // repairs under way at once; default 64
	Waiting int     // keys that wait; default 65536
	Rate    float64 // repairs begun per second; 0 is no bound
	Burst   int     // repairs that may begin at once after a pause; default Running
}

// Counts is what a Queue has seen since it was made.
type Counts struct {
	Asked   [NumCauses]uint64   // by cause, repeated and refused ones included
	Joined  uint64              // asked for while the key waited or was under repair
	Refused uint64              // asked for while the queue was full
	Ended   [NumOutcomes]uint64 // by outcome
}

// Queue holds the keys to be repaired, each once. It is used by one goroutine.
//
// Invariants: every job is in jobs; it is in the list too unless it runs;
// running <= Limits.Running.
type Queue struct {
	limits      Limits
	jobs        map[string]*Job
	first, last *Job
	waiting     int
	running     int
	tokens      float64
	filled      time.Duration
	counts      Counts
	id          []byte
}

// NewQueue makes an empty queue.
func NewQueue(l Limits) *Queue {
	if l.Running <= 0 {
		l.Running = 64
	}
	if l.Waiting <= 0 {
		l.Waiting = 1 << 16
	}
	if l.Burst <= 0 {
		l.Burst = l.Running
	}
	return &Queue{limits: l, jobs: map[string]*Job{}, tokens: float64(l.Burst)}
}

// Add asks for a repair; j.Key is copied. One that waits already stands for this
// one too, one that runs is run again: it may have read the lead too early. It
// reports false, and takes nothing, if the queue is full: the follower's copy
// must then be deleted, or the key become debt.
func (q *Queue) Add(j Job) bool {
	q.counts.Asked[j.Cause]++
	q.id = appendID(q.id[:0], &j)
	if old, ok := q.jobs[string(q.id)]; ok {
		q.counts.Joined++
		old.again = old.again || old.next == nil && q.last != old // it runs
		old.Begin = Ask()
		return true
	}
	if q.waiting >= q.limits.Waiting {
		q.counts.Refused++
		return false
	}
	n := &Job{Options: j.Options, Lead: j.Lead, Follower: j.Follower, Begin: j.Begin, Cause: j.Cause}
	n.id = append(n.id, q.id...)
	n.Key = n.id[len(n.id)-len(j.Key):]
	q.jobs[string(n.id)] = n
	q.push(n)
	return true
}

// Next takes out the job to be begun now, nil if there is none. If a job waits
// for the rate alone, wait is for how long: now is any clock that does not go back.
func (q *Queue) Next(now time.Duration) (j *Job, wait time.Duration) {
	if q.first == nil || q.running >= q.limits.Running {
		return nil, 0
	}
	if wait = q.take(now); wait > 0 {
		return nil, wait
	}
	j = q.first
	q.first, j.next = j.next, nil
	if q.first == nil {
		q.last = nil
	}
	q.waiting--
	q.running++
	return j, 0
}

// Done ends the job j, which Next returned. One that was asked for meanwhile
// waits anew.
func (q *Queue) Done(j *Job, o Outcome) {
	q.counts.Ended[o]++
	q.running--
	if j.again {
		j.again = false
		q.push(j)
		return
	}
	delete(q.jobs, string(j.id))
}

// Len is how many keys wait and how many are under repair.
func (q *Queue) Len() (waiting, running int) { return q.waiting, q.running }

// Counts is what has been seen so far.
func (q *Queue) Counts() *Counts { return &q.counts }

// take takes one token, or says how long it is until there is one.
func (q *Queue) take(now time.Duration) time.Duration {
	if q.limits.Rate <= 0 {
		return 0
	}
	q.tokens = min(float64(q.limits.Burst), q.tokens+(now-q.filled).Seconds()*q.limits.Rate)
	q.filled = now
	if q.tokens < 1 {
		return max(1, time.Duration((1-q.tokens)/q.limits.Rate*float64(time.Second)))
	}
	q.tokens--
	return 0
}

func (q *Queue) push(j *Job) {
	if q.last == nil {
		q.first = j
	} else {
		q.last.next = j
	}
	q.last = j
	q.waiting++
}

// appendID appends what tells jobs apart; it ends with the key.
func appendID(b []byte, j *Job) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(j.Lead))
	b = binary.LittleEndian.AppendUint32(b, uint32(j.Follower))
	form := byte(0)
	if j.Options.Base64 {
		form = 1
	}
	return append(append(b, form), j.Key...)
}
