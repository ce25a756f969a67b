package repair

import (
	"bytes"
	"hash/maphash"
	"time"
)

// Cause is why a key is to be repaired.
type Cause uint8

const (
	CauseRace       Cause = iota // the lead has moved on while the write was under way
	CauseTTL                     // the lead's TTL is not the one that was written
	CauseRelative                // a relative or conditional write, which followers get as its result
	CauseUnversed                // the lead did not name the version it made
	CauseFate                    // a follower failed, and whether it has the write is not known
	CauseDebt                    // the node missed writes while it was away
	CauseRefill                  // the node came back empty
	CauseDifference              // somebody compared the copies
	CausePlacement               // the key has another place than before
	NumCauses
)

var causes = [NumCauses]string{"lost race", "ttl differs", "relative write", "no version", "unknown fate", "debt", "refill", "difference", "placement"}

func (c Cause) String() string { return causes[c] }

// Job is one wish to have a key repaired at one follower. It is a field of its
// Owner, who fills it in, leaves it alone from Add until it has ended, and may then
// use it again.
//
//	      ┌── its turn ──▶ runs ─── Done ───▶ ended
//	waits ┤                                     ▲
//	      └── joins one that waits ── Covered ──┘
type Job struct {
	Key            []byte // as written, good until the job ends
	Base64         bool   // the key is in base64
	Lead, Follower int    // nodes
	Cause          Cause
	Urgent         bool // somebody waits for it: it goes first and does not count against the rate
	Alone          bool // it neither joins another nor is joined
	Owner          JobOwner

	state  jobState
	urgent bool   // it, or one that has joined it, is Urgent
	stale  bool   // what its owner knew when it was added is not enough to begin with
	hash   uint64 // of Key
	chain  *Job   // the next one in its bucket
	behind *Job   // the one that waits for this run to end
	joined list   // those this one stands for
	told   list   // and those of them that have heard that the follower holds
	next   *Job   // in the list it is in
	prev   *Job
}

// JobOwner is whoever wants a repair, and carries it out if its turn comes.
type JobOwner interface {
	// Begin says that the turn of j has come: the repair is to be started, and Done
	// called when it has ended. fresh reports that it stands for nobody else and
	// that no other run came first; if not, it starts with Ask.
	Begin(j *Job, fresh bool)
	// Covered tells of the run of another job, which began after j was added and
	// stands for it. With Running, the follower holds. With any other Outcome the run,
	// and with it j, has ended so; held says that the follower holds, or that j was
	// told so before.
	Covered(j *Job, held bool, o Outcome)
}

type jobState uint8

const (
	jobIdle   jobState = iota
	jobWaits           // in one of the queue's lists
	jobBehind          // for the run of the same key to end
	jobRuns
	jobJoined // in another's list
)

// list is jobs in the order in which they came.
type list struct{ first, last *Job }

func (l *list) push(j *Job) {
	if j.prev = l.last; l.last == nil {
		l.first = j
	} else {
		l.last.next = j
	}
	l.last = j
}

func (l *list) remove(j *Job) {
	if j.prev == nil {
		l.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		l.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.next, j.prev = nil, nil
}

// pop takes the first job out, nil if there is none.
func (l *list) pop() *Job {
	j := l.first
	if j != nil {
		l.remove(j)
	}
	return j
}

// Limits bound what a Queue does.
type Limits struct {
	Running int     // repairs under way at once; default 1024
	Waiting int     // keys that wait; default 65536
	Rate    float64 // repairs begun per second, urgent ones aside; 0 is no bound
	Burst   int     // repairs that may begin at once after a pause; default Running
}

// Counts is what a Queue has seen since it was made.
type Counts struct {
	Asked   [NumCauses]uint64   // jobs by cause, refused ones included
	Joined  uint64              // jobs that another's run stands for
	Refused uint64              // jobs that found the queue full
	Ended   [NumOutcomes]uint64 // runs by outcome
}

// Queue decides which keys are repaired when. At most one run per lead, follower
// and key is under way. A job is stood for by a run that began after it was added,
// never by one that had begun: that may have read the lead too early. So those that
// come while the first waits join it, and those that come while it runs wait for
// one further run, of which the first of them is the runner.
//
// It is used by one goroutine. Owners may call Add, Done, Held and Run from within
// Begin and Covered, but Done and Held for no job but their own.
//
// Invariants, jobs that are Alone aside: of the jobs that wait and run, one per lead,
// follower and key is in a bucket, the running one if one runs; then the one that
// waits, if any, is behind it, else in a list. running <= Limits.Running.
type Queue struct {
	limits  Limits
	urgent  list
	rest    list
	waiting int // in the lists and behind
	running int
	inside  bool // Run is on

	buckets []*Job // a power of two
	keys    int    // in them
	seed    maphash.Seed

	tokens float64
	filled time.Duration
	counts Counts
}

// NewQueue makes an empty queue.
func NewQueue(l Limits) *Queue {
	if l.Running <= 0 {
		l.Running = 1024
	}
	if l.Waiting <= 0 {
		l.Waiting = 1 << 16
	}
	if l.Burst <= 0 {
		l.Burst = l.Running
	}
	return &Queue{limits: l, tokens: float64(l.Burst), buckets: make([]*Job, 64), seed: maphash.MakeSeed()}
}

// Add asks for a repair. It calls nobody: Run does. It reports false, and takes
// nothing, if the queue is full: the follower's copy must then be dropped, or the
// key become debt.
func (q *Queue) Add(j *Job) bool {
	if j.state != jobIdle {
		panic("repair: a job is added that has not ended")
	}
	q.counts.Asked[j.Cause]++
	var at *Job // the one in the bucket
	if !j.Alone {
		j.hash = maphash.Bytes(q.seed, j.Key)
		at = q.find(j)
	}
	if r := at; r != nil {
		if r.state == jobRuns {
			r = r.behind
		}
		if r != nil {
			q.join(j, r)
			return true
		}
	}
	if q.waiting >= q.limits.Waiting {
		q.counts.Refused++
		return false
	}
	q.waiting++
	j.urgent, j.stale = j.Urgent, at != nil
	if at != nil {
		j.state, at.behind = jobBehind, j
		return true
	}
	if !j.Alone {
		q.insert(j)
	}
	q.wait(j)
	return true
}

// join has the run of r, which waits, stand for j too.
func (q *Queue) join(j, r *Job) {
	q.counts.Joined++
	j.state, r.stale = jobJoined, true
	r.joined.push(j)
	if !j.Urgent || r.urgent {
		return
	}
	r.urgent = true
	if r.state == jobWaits {
		q.rest.remove(r)
		q.urgent.push(r)
	}
}

func (q *Queue) wait(j *Job) {
	j.state = jobWaits
	if j.urgent {
		q.urgent.push(j)
	} else {
		q.rest.push(j)
	}
}

// Run begins what may begin: it is called after Add and Done, and when the time it
// asked for is over. If jobs wait for the rate alone, wait is for how long. now is
// any clock that does not go back. From within Begin it does nothing, as the outer
// call goes on.
func (q *Queue) Run(now time.Duration) (wait time.Duration) {
	if q.inside {
		return 0
	}
	q.inside = true
	for q.running < q.limits.Running {
		j := q.urgent.pop()
		if j == nil {
			if q.rest.first == nil {
				break
			}
			if wait = q.take(now); wait > 0 {
				break
			}
			j = q.rest.pop()
		}
		q.waiting--
		q.running++
		j.state = jobRuns
		j.Owner.Begin(j, !j.stale) // it may be over, and another job, when this returns
	}
	q.inside = false
	return wait
}

// Held tells those that the run of j stands for that the follower holds, once.
func (q *Queue) Held(j *Job) {
	for c := j.joined.pop(); c != nil; c = j.joined.pop() {
		j.told.push(c)
		c.Owner.Covered(c, true, Running)
	}
}

// Done ends the run of j, and with it j and those it stands for, who hear of it. The
// one that waits behind it is next in line.
func (q *Queue) Done(j *Job, o Outcome) {
	if j.state != jobRuns || o <= Needed {
		panic("repair: a job ends that does not run, or so that it is no end")
	}
	q.counts.Ended[o]++
	q.running--
	if !j.Alone {
		q.delete(j)
	}
	if b := j.behind; b != nil {
		q.insert(b)
		q.wait(b)
	}
	told, joined := j.told, j.joined
	j.state, j.behind, j.told, j.joined = jobIdle, nil, list{}, list{}
	for c := told.pop(); c != nil; c = told.pop() {
		c.state = jobIdle
		c.Owner.Covered(c, true, o)
	}
	for c := joined.pop(); c != nil; c = joined.pop() {
		c.state = jobIdle
		c.Owner.Covered(c, o.holds(), o)
	}
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

// find gives the job of j's lead, follower and key that is in a bucket.
func (q *Queue) find(j *Job) *Job {
	for at := *q.bucket(j); at != nil; at = at.chain {
		if at.Lead == j.Lead && at.Follower == j.Follower && at.Base64 == j.Base64 && bytes.Equal(at.Key, j.Key) {
			return at
		}
	}
	return nil
}

func (q *Queue) bucket(j *Job) **Job { return &q.buckets[j.hash&uint64(len(q.buckets)-1)] }

func (q *Queue) insert(j *Job) {
	if q.keys++; q.keys > len(q.buckets) {
		q.grow()
	}
	b := q.bucket(j)
	j.chain, *b = *b, j
}

func (q *Queue) delete(j *Job) {
	at := q.bucket(j)
	for *at != j {
		at = &(*at).chain
	}
	*at, j.chain = j.chain, nil
	q.keys--
}

// grow doubles the buckets; they are never given back, as what was needed once is
// needed again when the next node fails.
func (q *Queue) grow() {
	old := q.buckets
	q.buckets = make([]*Job, 2*len(old))
	for _, j := range old {
		for j != nil {
			next, b := j.chain, q.bucket(j)
			j.chain, *b = *b, j
			j = next
		}
	}
}
