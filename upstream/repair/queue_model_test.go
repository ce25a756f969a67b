package repair

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is what a Queue is to do, by lists that are searched.
type model struct {
	t       *testing.T
	q       *Queue
	rng     *rand.Rand
	now     time.Duration
	keys    map[string]*modelKey
	idle    []*modelWish
	alone   []*modelWish // that wait
	runs    []*modelRun
	rated   int // runs begun that count against the rate
	covered int
	inside  bool // a Begin
}

// modelKey is the wishes for one key that no run stands for yet, in order.
type modelKey struct {
	open []*modelWish
	run  *modelRun
}

// modelRun is a run and those it stands for.
type modelRun struct {
	of    *modelWish
	key   *modelKey // nil: Alone
	cover []*modelWish
	held  bool
}

type modelWish struct {
	Job
	m      *model
	key    *modelKey
	behind bool      // a run was on when it was added
	run    *modelRun // that stands for it
	held   bool      // it was told
	end    Outcome   // of its run, once that has ended
	ended  int
}

const (
	modelRunning = 6
	modelWaiting = 20
	modelRate    = 50
	modelBurst   = 5
)

// TestQueueIsItsModel adds, begins and ends at random, from within calls too. Every
// wish must end once, by a run that began after it was added.
func TestQueueIsItsModel(t *testing.T) {
	for seed := range uint64(20) {
		m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 7)), keys: map[string]*modelKey{}}
		m.q = NewQueue(Limits{Running: modelRunning, Waiting: modelWaiting, Rate: modelRate, Burst: modelBurst})
		for range 120 {
			w := &modelWish{m: m}
			w.Owner = w
			m.idle = append(m.idle, w)
		}
		for range 5000 {
			switch m.rng.IntN(8) {
			case 0, 1, 2:
				m.add()
			case 3, 4:
				m.now += time.Duration(m.rng.IntN(int(20 * time.Millisecond)))
				m.q.Run(m.now)
			case 5:
				m.hold()
			default:
				m.done()
			}
			m.compare()
		}
		for n := 0; m.open() > 0; n++ {
			if n > 1e6 {
				t.Fatalf("seed %d: %d wishes never end", seed, m.open())
			}
			m.now += 20 * time.Millisecond
			m.q.Run(m.now)
			m.done()
		}
		m.compare()
		if len(m.idle) != 120 || m.covered == 0 || m.q.Counts().Refused == 0 {
			t.Errorf("seed %d: %d of 120 idle, %d covered, %d refused", seed, len(m.idle), m.covered, m.q.Counts().Refused)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// waiting is how many runs are to come.
func (m *model) waiting() int {
	n := len(m.alone)
	for _, k := range m.keys {
		if len(k.open) > 0 {
			n++
		}
	}
	return n
}

func (m *model) open() int { return m.waiting() + len(m.runs) }

func (m *model) compare() {
	m.t.Helper()
	if waiting, running := m.q.Len(); waiting != m.waiting() || running != len(m.runs) || running > modelRunning {
		m.t.Fatalf("%d wait and %d run, want %d and %d", waiting, running, m.waiting(), len(m.runs))
	}
	if most := modelBurst + modelRate*m.now.Seconds(); float64(m.rated) > most+0.001 {
		m.t.Fatalf("%d runs began, the rate allows %v", m.rated, most)
	}
}

// add makes a wish, if somebody has none.
func (m *model) add() {
	if len(m.idle) == 0 {
		return
	}
	i := m.rng.IntN(len(m.idle))
	w := m.idle[i]
	key := []byte{'a' + byte(m.rng.IntN(12))}
	*w = modelWish{Job: w.Job, m: m}
	w.Key, w.Base64, w.Lead, w.Follower = key, m.rng.IntN(2) == 0, m.rng.IntN(2), 2
	w.Urgent, w.Alone = m.rng.IntN(4) == 0, m.rng.IntN(10) == 0
	room := m.waiting() < modelWaiting
	if !w.Alone {
		id := string(append(key, byte(w.Lead), map[bool]byte{true: 1}[w.Base64]))
		if m.keys[id] == nil {
			m.keys[id] = &modelKey{}
		}
		w.key = m.keys[id]
		w.behind = w.key.run != nil
		room = room || len(w.key.open) > 0
	}
	if ok := m.q.Add(&w.Job); ok != room {
		m.t.Fatalf("a wish is taken: %v, want %v", ok, room)
	}
	switch {
	case !room:
		return
	case w.Alone:
		m.alone = append(m.alone, w)
	default:
		w.key.open = append(w.key.open, w)
	}
	m.idle = slices.Delete(m.idle, i, i+1)
}

// urgent reports whether something urgent could begin.
func (m *model) urgent() bool {
	isUrgent := func(w *modelWish) bool { return w.Urgent }
	for _, k := range m.keys {
		if k.run == nil && slices.ContainsFunc(k.open, isUrgent) {
			return true
		}
	}
	return slices.ContainsFunc(m.alone, isUrgent)
}

func (w *modelWish) Begin(j *Job, fresh bool) {
	m, r := w.m, &modelRun{of: w, key: w.key, cover: []*modelWish{w}}
	if j != &w.Job || w.run != nil || m.inside {
		m.t.Fatal("a wish begins that does not wait, or while another begins")
	}
	m.inside = true
	defer func() { m.inside = false }()
	hurry, wantFresh := m.urgent(), true
	if w.Alone {
		m.alone = slices.DeleteFunc(m.alone, func(o *modelWish) bool { return o == w })
	} else {
		if w.key.run != nil || len(w.key.open) == 0 || w.key.open[0] != w {
			m.t.Fatal("it is not this wish's turn, or two runs of one key are on")
		}
		r.cover, w.key.open, w.key.run = w.key.open, nil, r
		wantFresh = len(r.cover) == 1 && !w.behind
	}
	if fresh != wantFresh {
		m.t.Fatalf("it begins with fresh %v, want %v", fresh, wantFresh)
	}
	if urgent := slices.ContainsFunc(r.cover, func(o *modelWish) bool { return o.Urgent }); !urgent {
		if m.rated++; hurry {
			m.t.Fatal("something urgent waits and another begins")
		}
	}
	for _, o := range r.cover {
		o.run = r
	}
	m.runs = append(m.runs, r)
	switch m.rng.IntN(6) {
	case 0:
		m.add()
	case 1:
		m.end(r)
	case 2:
		m.q.Run(m.now)
	}
}

func (w *modelWish) Covered(j *Job, held bool, o Outcome) {
	m := w.m
	switch {
	case j != &w.Job || w.run == nil || w.run.of == w:
		m.t.Fatal("a wish is covered that no run stands for")
	case o == Running:
		if !held || !w.run.held || w.held {
			m.t.Fatal("the follower does not hold, or it is told twice")
		}
		w.held = true
		return
	case o != w.end || held != (w.held || o.holds()):
		m.t.Fatalf("the run ended as %v, held %v, told %v, held %v", w.end, w.held, o, held)
	}
	m.covered++
	w.free()
	switch m.rng.IntN(4) {
	case 0:
		m.add()
	case 1:
		m.done()
	case 2:
		m.q.Run(m.now)
	}
}

// free ends a wish, which may be another from here on.
func (w *modelWish) free() {
	w.run, w.ended = nil, w.ended+1
	if w.ended != 1 {
		w.m.t.Fatal("a wish ends twice")
	}
	w.m.idle = append(w.m.idle, w)
}

func (m *model) hold() {
	if len(m.runs) == 0 {
		return
	}
	r := m.runs[m.rng.IntN(len(m.runs))]
	r.held = true
	m.q.Held(&r.of.Job)
	for _, w := range r.cover[1:] {
		if !w.held {
			m.t.Fatal("somebody is not told that the follower holds")
		}
	}
}

func (m *model) done() {
	if len(m.runs) > 0 {
		m.end(m.runs[m.rng.IntN(len(m.runs))])
	}
}

// end ends the run r; whoever it stands for must hear of it before Done returns.
func (m *model) end(r *modelRun) {
	m.runs = slices.DeleteFunc(m.runs, func(o *modelRun) bool { return o == r })
	if r.key != nil {
		r.key.run = nil
	}
	o := Copied + Outcome(m.rng.IntN(int(NumOutcomes-Copied)))
	for _, w := range r.cover {
		w.end = o
	}
	before := m.covered
	j := &r.of.Job
	m.q.Done(j, o)
	if m.covered-before < len(r.cover)-1 {
		m.t.Fatal("somebody does not hear of the end")
	}
	for _, w := range r.cover[1:] {
		if w.run == r {
			m.t.Fatal("somebody is left with a run that has ended")
		}
	}
	r.of.free()
}
