package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"magent/upstream/probe"
)

// Config says what a Member is about.
type Config struct {
	ID      string         // of the magent, of NewID: one for all that it has a part in
	Target  probe.Target   // the node that is Warming
	Sources []probe.Target // where the lease may lie, one at least: nodes of other copies, in the same order for all magents
	Times   Times

	// Refill refills the target in the life that it is in. It gives up soon after ctx has
	// ended, and returns nil only if the target holds all that there is.
	Refill func(ctx context.Context, life uint64) error
	// Notify, unless it is nil, hears of every News, in order, on the goroutine of Run.
	Notify func(News)
}

// News is a change of what is known about the target.
type News struct {
	Verdict Verdict
	Life    uint64 // that the verdict is about
	Holder  string // the id of who refills it, as last seen; empty: nobody
	Trouble string // why the last question had no answer, or the refill failed; empty: neither
}

// Member is one magent's part in the refill of one node that is Warming, of which it has
// one Member at a time. A Member belongs to one goroutine, and is used once.
type Member struct {
	cfg     Config
	machine Machine
	target  *probe.Prober
	sources []*probe.Prober
	began   time.Time
	news    News
	trouble string
	before  string // who had begun to refill the target when it was looked at last

	stop  context.CancelFunc // ends the refill that runs; nil: none does
	ended chan error         // says how it ended
}

// NewMember makes one, which asks nobody before Run.
func NewMember(cfg Config) *Member {
	m := &Member{cfg: cfg, target: probe.New(cfg.Target, "", false)}
	for _, s := range cfg.Sources {
		m.sources = append(m.sources, probe.New(s, "", false))
	}
	m.machine = NewMachine(cfg.Times, cfg.ID, len(cfg.Sources))
	return m
}

// Run returns as soon as the target is marked warm, in the life that it says, or when ctx
// has ended, with its error. Until then it has the target refilled here, or waits for
// another to do so. Nothing of it runs any more afterwards, and no lease is left if that
// can be helped.
//
// At the moment at, and not before, the target counts as warm, with this magent as with
// the others. It may have passed. It is the zero time if nobody else can know it, since
// the target would not store the marker: then there is nothing to wait for.
func (m *Member) Run(ctx context.Context) (life uint64, at time.Time, err error) {
	m.began = time.Now()
	defer m.leave()
	for !m.machine.Over() {
		q, wait := m.machine.Next(m.now(), time.Now().UnixMilli())
		m.heed(ctx)
		if q.Question != Nothing {
			r := m.ask(ctx, q)
			m.machine.Replied(m.now(), r, rand.Float64())
			m.heed(ctx)
			wait = 0
		}
		timer := time.NewTimer(wait)
		select {
		case err := <-m.ended:
			m.over()
			m.machine.Refilled(m.now(), err == nil)
			m.trouble = text(err)
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil && !m.machine.Over() {
			return 0, time.Time{}, ctx.Err()
		}
	}
	return m.machine.Life(), m.moment(), nil
}

// moment is that of the machine, or the zero time. One that is further off than Lead was
// told by a clock that is wrong.
func (m *Member) moment() time.Time {
	ms := m.machine.Moment()
	if ms == 0 {
		return time.Time{}
	}
	return soon(ms, time.Now(), m.cfg.Times.Lead)
}

// soon is the moment ms, or, if it is further off than lead from now, that.
func soon(ms int64, now time.Time, lead time.Duration) time.Time {
	at, latest := time.UnixMilli(ms), now.Add(lead)
	if at.After(latest) {
		return latest
	}
	return at
}

// now is the machine's time.
func (m *Member) now() time.Duration { return time.Since(m.began) }

// heed does what follows from the verdict: it starts or ends the refill, and tells.
func (m *Member) heed(ctx context.Context) {
	v := m.machine.Verdict(m.now())
	news := News{v, m.machine.Life(), m.machine.Holder(), m.trouble}
	if m.stop != nil && v != Refill {
		m.stop()
		<-m.ended
		m.over()
	}
	if m.stop == nil && v == Refill {
		refilling, stop := context.WithCancel(ctx)
		m.stop, m.ended = stop, make(chan error, 1)
		go func(ended chan<- error) { ended <- m.cfg.Refill(refilling, news.Life) }(m.ended)
	}
	if news != m.news && m.cfg.Notify != nil {
		m.cfg.Notify(news)
	}
	m.news = news
}

// over is for a refill that has ended.
func (m *Member) over() {
	m.stop()
	m.stop, m.ended = nil, nil
}

// leave ends what Run has begun. The lease is given back whatever has ended Run, or the
// others would wait for its TTL.
func (m *Member) leave() {
	if m.stop != nil {
		m.stop()
		<-m.ended
		m.over()
	}
	if a, held := m.machine.Quit(m.now()); held {
		m.ask(context.Background(), a) // which has a time limit
	}
	m.target.Forget()
	for _, s := range m.sources {
		s.Forget()
	}
}

// ask carries a question out.
func (m *Member) ask(ctx context.Context, a Ask) (r Reply) {
	key, source := leaseKey(m.cfg.Target.Address, a.Life), m.sources[a.Source]
	id, ttl := m.cfg.ID, m.cfg.Times.TTL
	var err error
	switch a.Question {
	case Inspect:
		r, err = inspect(ctx, m.target)
		m.before = r.By
	case Take:
		r, err = lease(ctx, source, key, id, ttl, " ME")
	case Renew:
		r, err = lease(ctx, source, key, id, ttl, guard(a.CAS))
	case Begin:
		// What another had begun is marked as that one's until the target has forgotten it:
		// whoever looks when this fails has to have it forgotten, too.
		heir, by := m.before != "" && m.before != id, id
		if heir {
			by = m.before
		}
		r, err = mark(ctx, m.target, fmt.Sprintf(begunValue, a.Life, by), fresh(a.CAS)+" c")
		if err == nil && r.Stored && heir {
			if r, err = forsake(ctx, m.target, a.Life, by); err == nil {
				r, err = mark(ctx, m.target, fmt.Sprintf(begunValue, a.Life, id), guard(r.CAS)+" c")
			}
		}
	case Finish:
		r, err = mark(ctx, m.target, fmt.Sprintf(warmValue, a.Life, a.At, id), guard(a.CAS))
	case Release:
		ctx, stop := context.WithTimeout(ctx, m.cfg.Times.Lead/2)
		defer stop() // a source that hangs must not have this magent miss the moment
		err = release(ctx, source, key, a.CAS)
	}
	r.Failed, m.trouble = err != nil, text(err)
	return r
}

// fresh is the flag for a write to version cas alone; 0: where there is nothing.
func fresh(cas uint64) string {
	if cas == 0 {
		return " ME"
	}
	return guard(cas)
}

// guard is the flag for a write to version cas alone; 0: to any.
func guard(cas uint64) string {
	if cas == 0 {
		return ""
	}
	return fmt.Sprintf(" C%d", cas)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
