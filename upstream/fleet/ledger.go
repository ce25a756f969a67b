package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"magent/upstream/probe"
)

// LedgerConfig says what a Ledger is about.
type LedgerConfig struct {
	Address string         // of the node that may be owed writes, as in its probe.Target
	Sources []probe.Target // where the list may lie, one at least: nodes of other copies, in the same order for all magents
	ID      string         // of the magent, of NewID

	Lead     time.Duration // from when the last leaves to the moment; default 300 ms
	Patience time.Duration // a magent that has not renewed for so long has died; default 5 s
}

// Ledger is one magent's part in the list of those that owe a node writes: they have
// skipped some while they had the node for down, know which in their own memory alone,
// and have not made up for all of them yet. Until the list is settled nobody reads the
// node, or leads writes there. It is one list whichever life the node is in: who has not
// seen yet that the node is another owes to the one before, and skips writes for this.
//
// The list is on the first of the sources that answers. If that dies another takes its
// place, which has none of the entries that were on the first until their magents renew.
// So for Patience from when a Ledger finds that the source has changed, or that a list,
// or this magent's entry, has gone, nothing is settled for it; if it is the last to leave
// meanwhile, it tells a moment after that. One that has not seen the list before cannot
// tell.
//
// A moment by a clock is not enough for writes to have one lead at a time: who stands still
// just then hands the lead over later than the others. So whoever is to hand it over joins
// first, and closes when its writes wait, and nobody's go on before all who have joined have
// closed, or too much time has passed. What it says of that is lost with the source.
//
// A Ledger belongs to one goroutine, and a magent has one per node.
type Ledger struct {
	cfg     LedgerConfig
	sources []*probe.Prober
	clock   func() time.Time

	owes  bool      // has entered, or may have, and has not left
	open  bool      // has joined, or may have, and has not closed
	told  bool      // has joined, for all that is known
	mine  []bool    // by source: this magent's entry may be there
	count uint64    // its last number
	wrote time.Time // when; zero: it is not there for all that is known
	at    int       // and at which source
	watch watch
}

// State is what is known of a node's debts.
type State struct {
	Settled bool      // nobody owes the node anything
	At      time.Time // if Settled: from which moment on, with all magents; it may have passed, and is zero if none was told
	Waiting []string  // the ids of those that owe, this magent's own among them
	Open    []string  // the ids of the others that have joined, and not closed
	Dead    []string  // of those that owe and have been watched for Patience without a sign of life
	Err     error     // no source has answered, or one with what is no list: nothing is known
}

// Owed reports whether anybody stands in the list.
func (s State) Owed() bool { return len(s.Waiting)+len(s.Dead) > 0 }

const (
	listTTL  = 24 * time.Hour // of a list, from each change
	maxTries = 64             // how often a change is tried, as others change the list meanwhile
)

// NewLedger makes one, which asks nobody yet.
func NewLedger(cfg LedgerConfig) *Ledger {
	if cfg.Lead == 0 {
		cfg.Lead = 300 * time.Millisecond
	}
	if cfg.Patience == 0 {
		cfg.Patience = 5 * time.Second
	}
	l := &Ledger{cfg: cfg, clock: time.Now, mine: make([]bool, len(cfg.Sources)), watch: newWatch(cfg.Patience)}
	for _, s := range cfg.Sources {
		l.sources = append(l.sources, probe.New(s, "", false))
	}
	return l
}

// Enter says that this magent owes the node writes, and is alive. It is to be
// called again all the time, and asks nobody if it has done so within a fifth of Patience.
// After an error the entry may be there, or not.
func (l *Ledger) Enter(ctx context.Context, now time.Time) error {
	if l.owes && now.Sub(l.wrote) < l.cfg.Patience/5 {
		return nil
	}
	l.owes = true
	return l.first(ctx, func(i int) error {
		l.mine[i] = true
		d, err := l.change(ctx, i, now, func(d debts) debts {
			if d.settled != 0 && now.Sub(time.UnixMilli(d.settled)) > l.cfg.Patience {
				d.open = nil // who did not close then is waited for no longer
			}
			return d.with(l.cfg.ID, l.count)
		})
		if err == nil {
			l.count, l.wrote, l.at = d.owing[d.place(l.cfg.ID)].n, now, i
		}
		return err
	})
}

// Leave says that this magent owes the node nothing any more. The last one to leave
// tells the moment. An entry on a source that does not answer now, and is not restarted
// either, stays there, until somebody takes its magent for dead or this Ledger meets it.
func (l *Ledger) Leave(ctx context.Context) error {
	if !l.owes {
		return nil
	}
	now, left := l.clock(), -1
	err := l.first(ctx, func(i int) error {
		left = i
		_, err := l.strike(ctx, i, now)
		return err
	})
	if err != nil {
		return err
	}
	l.owes = false
	seen := l.watch
	for i := left + 1; i < len(l.sources); i++ {
		if l.mine[i] {
			l.strike(ctx, i, now) // as far as it can be done
		}
	}
	l.watch = seen // of the list that counts
	return nil
}

// Join says that this magent's writes will wait at the moment, before they go to the node, and
// do not wait yet. It is to be called before Leave, so that nobody finds the list settled
// without it. Where the moment has come already it says nothing.
func (l *Ledger) Join(ctx context.Context) error {
	if l.told {
		return nil
	}
	l.open = true
	now := l.clock()
	return l.first(ctx, func(i int) error {
		d, err := l.change(ctx, i, now, func(d debts) debts { return d.joined(l.cfg.ID, now.UnixMilli()) })
		l.told = err == nil && slices.Contains(d.open, l.cfg.ID)
		return err
	})
}

// Close says that they wait, or have no reason to.
func (l *Ledger) Close(ctx context.Context) error {
	if !l.open {
		return nil
	}
	now := l.clock()
	err := l.first(ctx, func(i int) error { return l.withdraw(ctx, i, now) })
	if err == nil {
		l.open, l.told = false, false
	}
	return err
}

// withdraw takes this magent out of those who have joined at source i. Where nothing can be
// written, not standing there will do.
func (l *Ledger) withdraw(ctx context.Context, i int, now time.Time) error {
	_, err := l.change(ctx, i, now, func(d debts) debts { return d.closed(l.cfg.ID) })
	if _, heard := err.(heardError); heard {
		if is, _, unread := l.look(ctx, i, now); unread == nil && !slices.Contains(is.open, l.cfg.ID) {
			return nil
		}
	}
	return err
}

// strike removes this magent's own entry from source i. It writes even if there is none:
// a request of before that was given up, and may be carried out yet, is to find another
// version. Where nothing can be written, as the source is full, having no entry will do.
func (l *Ledger) strike(ctx context.Context, i int, now time.Time) (debts, error) {
	d, err := l.change(ctx, i, now, l.removal(now, func(o debtor) bool { return o.id == l.cfg.ID }))
	if _, heard := err.(heardError); heard {
		if is, _, unread := l.look(ctx, i, now); unread == nil && is.place(l.cfg.ID) < 0 {
			d, err = is, nil
		}
	}
	if err == nil {
		l.mine[i], l.wrote = false, time.Time{}
	}
	return d, err
}

// removal takes out who is gone. While there is doubt the moment comes after it.
func (l *Ledger) removal(now time.Time, gone func(debtor) bool) step {
	return func(d debts) debts {
		if l.watch.doubt.After(now) {
			now = l.watch.doubt
		}
		return d.without(gone, now.Add(l.cfg.Lead).UnixMilli())
	}
}

// Settled asks whether anybody owes the node writes. It is to be asked again and
// again, no less than once in Patience, for only what is watched can be found dead; and
// once more when the moment has come, since somebody may have entered. An entry of
// this magent's own that it has not entered, or has left, is taken out.
//
// For the dead the caller has the node forget everything, as nobody knows which writes
// it has missed, and then buries them.
func (l *Ledger) Settled(ctx context.Context, now time.Time) (s State) {
	var d debts
	s.Err = l.first(ctx, func(i int) (err error) {
		if d, _, err = l.look(ctx, i, now); err == nil && !l.owes && d.place(l.cfg.ID) >= 0 {
			d, err = l.strike(ctx, i, now)
		}
		if joined := slices.Contains(d.open, l.cfg.ID); err == nil && joined && !l.open {
			_ = l.withdraw(ctx, i, now) // it is tried again
		} else {
			l.told = joined
		}
		return err
	})
	if s.Err != nil {
		return s
	}
	for _, o := range d.owing {
		if o.id != l.cfg.ID && l.watch.dead(o, now) {
			s.Dead = append(s.Dead, o.id)
		} else {
			s.Waiting = append(s.Waiting, o.id)
		}
	}
	if d.settled == 0 || now.Sub(time.UnixMilli(d.settled)) <= l.cfg.Patience { // else they are gone
		s.Open = d.closed(l.cfg.ID).open
	}
	s.Settled = len(d.owing) == 0 && !now.Before(l.watch.doubt)
	if s.Settled && d.settled != 0 {
		s.At = soon(d.settled, now, l.cfg.Patience+l.cfg.Lead)
	}
	return s
}

// Bury removes entries that this Ledger has found dead, after the node was flushed on
// their account. One whose magent has renewed since is alive, and stays: what it has
// skipped since the flush is its own to make up for.
func (l *Ledger) Bury(ctx context.Context, ids []string) error {
	stands, now := l.watch.stands, l.clock()
	gone := func(o debtor) bool {
		s, ok := stands[o.id]
		return ok && s.n == o.n && slices.Contains(ids, o.id)
	}
	return l.first(ctx, func(i int) error {
		_, err := l.change(ctx, i, now, func(d debts) debts {
			for _, o := range d.owing {
				if gone(o) {
					d = d.closed(o.id)
				}
			}
			return l.removal(now, gone)(d)
		})
		return err
	})
}

// Forget closes the connections. The next question makes new ones.
func (l *Ledger) Forget() {
	for _, s := range l.sources {
		s.Forget()
	}
}

// heardError is of a source that has answered, which is why no other is asked.
type heardError struct{ error }

func (e heardError) Unwrap() error { return e.error }

// first does what is to be done at the first source that answers.
func (l *Ledger) first(ctx context.Context, do func(source int) error) error {
	silent := make([]string, 0, len(l.sources))
	for i := range l.sources {
		err := do(i)
		if _, heard := err.(heardError); err == nil || heard {
			return err
		}
		if ctx.Err() != nil {
			l.watch.blink()
			return ctx.Err()
		}
		silent = append(silent, fmt.Sprintf("%s: %v", l.cfg.Sources[i].Address, err))
	}
	l.watch.blink()
	return fmt.Errorf("no source answers: %s", strings.Join(silent, "; "))
}

// look reads the list at source i.
func (l *Ledger) look(ctx context.Context, i int, now time.Time) (debts, *answer, error) {
	a := asking((*answer).get)
	if err := l.ask(ctx, i, a, "mg "+l.key()+" v c\r\n"); err != nil {
		return debts{}, nil, err
	}
	d, err := parseDebts(a.value)
	if err != nil {
		return debts{}, nil, heardError{err}
	}
	l.watch.see(i, d, d.told(), now)
	if !l.wrote.IsZero() && l.at == i && d.place(l.cfg.ID) < 0 {
		l.watch.suspect(now)
	}
	return d, a, nil
}

// change changes the list at source i, and returns what it says then.
func (l *Ledger) change(ctx context.Context, i int, now time.Time, s step) (debts, error) {
	_, a, err := l.look(ctx, i, now)
	if err != nil {
		return debts{}, err
	}
	for range maxTries {
		value, err := s.value(a.value)
		if err != nil {
			return debts{}, heardError{err}
		}
		flags := fmt.Sprintf(" T%d%s", listTTL/time.Second, fresh(a.cas))
		a = asking((*answer).change, (*answer).get)
		if err := l.ask(ctx, i, a, store(l.key(), value, flags)+"mg "+l.key()+" v c\r\n"); err != nil {
			return debts{}, err
		}
		switch {
		case a.stored:
			d, err := parseDebts(value)
			l.watch.known = l.watch.known || d.told()
			return d, err
		case a.refused != "":
			return debts{}, heardError{fmt.Errorf("%s answered %q to who owes writes", l.cfg.Sources[i].Address, a.refused)}
		}
	}
	return debts{}, heardError{errors.New("the list of who owes writes keeps changing")}
}

// ask asks source i.
func (l *Ledger) ask(ctx context.Context, i int, a *answer, request string) error {
	err := l.sources[i].Ask(ctx, "who owes writes", request, a.take)
	if err != nil && a.garbage {
		return heardError{errors.New("what is there is no list of who owes writes")}
	}
	return err
}

// key is where the list lies.
func (l *Ledger) key() string { return Prefix + "debt:" + named(l.cfg.Address) }
