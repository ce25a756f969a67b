package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// debts is what a list says: who owes a node writes, in the order in which they came, or,
// if nobody does, from which moment on, in Unix milliseconds; and who is to hold its writes
// at that moment, and does not do so yet. Its zero value is a list that is not there, or not any
// more.
type debts struct {
	owing   []debtor
	settled int64
	open    []string
}

// debtor is a magent that owes; n counts up when it renews.
type debtor struct {
	id string
	n  uint64
}

// settledValue begins the value of a list that the last has left; openWord stands in place of a
// number behind who does not hold its writes.
const (
	settledValue = "settled at "
	openWord     = "open"
)

// parseDebts reads a list's value. It is the inverse of String.
func parseDebts(value string) (d debts, err error) {
	garbage := fmt.Errorf("%.80q is no list of who owes writes", value)
	words, settled := strings.CutPrefix(value, settledValue)
	if settled {
		at, rest, _ := strings.Cut(words, " ")
		if d.settled, err = strconv.ParseInt(at, 10, 64); err != nil || d.settled <= 0 {
			return debts{}, garbage
		}
		words = rest
	}
	for _, word := range strings.Fields(words) {
		i := strings.LastIndexByte(word, '=')
		if i <= 0 || !d.take(word[:i], word[i+1:]) {
			return debts{}, garbage
		}
	}
	if settled && len(d.owing) > 0 {
		return debts{}, garbage
	}
	return d, nil
}

// take takes what stands behind id in a list. It reports whether that may stand there.
func (d *debts) take(id, what string) bool {
	if what == openWord {
		twice := slices.Contains(d.open, id)
		d.open = append(d.open, id)
		return !twice
	}
	n, err := strconv.ParseUint(what, 10, 64)
	twice := d.place(id) >= 0
	d.owing = append(d.owing, debtor{id, n})
	return err == nil && !twice
}

func (d debts) String() string {
	var words []string
	if d.settled != 0 {
		words = append(words, fmt.Sprint(settledValue, d.settled))
	}
	for _, o := range d.owing {
		words = append(words, fmt.Sprintf("%s=%d", o.id, o.n))
	}
	for _, id := range d.open {
		words = append(words, id+"="+openWord)
	}
	return strings.Join(words, " ")
}

// place is where id stands, or -1.
func (d debts) place(id string) int {
	return slices.IndexFunc(d.owing, func(o debtor) bool { return o.id == id })
}

// with is d after id has entered, or renewed, with a number above n and its last.
func (d debts) with(id string, n uint64) debts {
	owing := slices.Clone(d.owing)
	i := d.place(id)
	if i < 0 {
		i = len(owing)
		owing = append(owing, debtor{id: id})
	}
	owing[i].n = max(owing[i].n, n) + 1
	return debts{owing: owing, open: d.open}
}

// without is d after all who are gone have left. If nobody is left it is settled at at.
func (d debts) without(gone func(debtor) bool, at int64) debts {
	d.owing = slices.DeleteFunc(slices.Clone(d.owing), gone)
	if len(d.owing) == 0 && d.settled == 0 {
		d.settled = at
	}
	return d
}

// told reports whether d says anything of debts: one that is lost, and was joined since, does not.
func (d debts) told() bool { return len(d.owing) > 0 || d.settled != 0 }

// joined is d after id has said that it is to hold its writes, at a moment that must not have come
// at now.
func (d debts) joined(id string, now int64) debts {
	if !slices.Contains(d.open, id) && (d.settled == 0 || now < d.settled) {
		d.open = append(slices.Clone(d.open), id)
	}
	return d
}

// closed is d after id has said that it holds them, or does not need to.
func (d debts) closed(id string) debts {
	d.open = slices.DeleteFunc(slices.Clone(d.open), func(o string) bool { return o == id })
	return d
}

// errFull is of a list that would be longer than what can be read.
var errFull = errors.New("too many owe writes to be listed")

// step is what a change makes of a list.
type step func(debts) debts

// value is the list's value after the change, if it was value before.
func (s step) value(before string) (after string, err error) {
	d, err := parseDebts(before)
	if err != nil {
		return "", err
	}
	if after = s(d).String(); len(after) > maxValue {
		return "", errFull
	}
	return after, nil
}

// watch is what one magent has seen of the lists: at which source, for how
// long each of the others has stood there without a change, and whether one was lost.
type watch struct {
	patience time.Duration
	source   int // the last; -1: none
	known    bool
	looked   time.Time // when; zero: not, or there was no answer since
	stands   map[string]stand
	doubt    time.Time // until then others may have to enter again
}

// stand is of one magent: its number, and since when that has been seen.
type stand struct {
	n     uint64
	since time.Time
}

func newWatch(patience time.Duration) watch {
	return watch{patience: patience, source: -1}
}

// see takes what a source had at now; known is false if it had no list. Who stood in a
// list that is gone, or at a source that answers no more, has to enter again. Nobody is
// watched over a time in which this magent did not look: it may have stood still itself.
func (w *watch) see(source int, d debts, known bool, now time.Time) {
	if w.source >= 0 && w.source != source || w.known && !known {
		w.suspect(now)
	}
	if w.source != source || now.Sub(w.looked) > w.patience {
		w.stands = nil
	}
	w.source, w.known, w.looked = source, known, now
	stands := make(map[string]stand, len(d.owing))
	for _, o := range d.owing {
		s, ok := w.stands[o.id]
		if !ok || s.n != o.n {
			s = stand{o.n, now}
		}
		stands[o.id] = s
	}
	w.stands = stands
}

// suspect is for when entries were seen to be lost.
func (w *watch) suspect(now time.Time) { w.doubt = now.Add(w.patience) }

// blink is for a look that had no answer.
func (w *watch) blink() { w.looked = time.Time{} }

// dead reports whether o has not renewed for as long as there is patience.
func (w *watch) dead(o debtor, now time.Time) bool {
	s, ok := w.stands[o.id]
	return ok && s.n == o.n && now.Sub(s.since) >= w.patience
}
