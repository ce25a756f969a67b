package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"magent/server/e2e/harness"
	"magent/server/e2e/model"
)

// Keys of histories: some are never deleted, so that every miss of them is a loss.
const (
	keptKeys    = 24
	deletedKeys = 12
	counterKeys = 6
)

func historyKey(i int) string { return fmt.Sprintf("history%02d", i) }
func counterKey(i int) string { return fmt.Sprintf("counter%02d", i) }

// historyKeys are all, as a race's, with those of counters last.
func historyKeys() (keys []raceKey) {
	for i := range keptKeys + deletedKeys {
		keys = append(keys, raceKey{name: historyKey(i)})
	}
	for i := range counterKeys {
		keys = append(keys, raceKey{name: counterKey(i)})
	}
	return keys
}

// A historian is a client that writes down what it asks and is told.
type historian struct {
	addr  string
	id    int
	began time.Time // of the history
	rng   *rand.Rand
	c     *harness.Client
	seq   int
	out   []byte
	asked []question // what is in out
	ops   []model.Op
}

// A question is a request under way, and how its answer is noted, once for each key.
type question struct {
	keys []string
	note func(o *model.Op, a *answer)
}

func newHistorian(addr string, id int, began time.Time, seed uint64) *historian {
	return &historian{addr: addr, id: id, began: began, rng: rand.New(rand.NewPCG(seed, uint64(id)))}
}

func (h *historian) chance(in int) bool { return h.rng.IntN(in) == 0 }

// pick is a key of the first n, the lower the likelier.
func (h *historian) pick(n int) string { return historyKey(h.rng.IntN(1 + h.rng.IntN(n))) }

// batchMost is how many requests a historian sends at once.
const batchMost = 8

// step sends a request or some, and takes the answers. The error is one of connecting:
// all others are part of the history.
func (h *historian) step() error {
	for range 1 + h.rng.IntN(1+h.rng.IntN(batchMost)) {
		h.any()
	}
	return h.exchange()
}

// any asks something.
func (h *historian) any() {
	const all = keptKeys + deletedKeys
	switch n := h.rng.IntN(100); {
	case n < 50:
		h.read(h.pick(all))
	case n < 55:
		h.read(h.pick(all), historyKey(h.rng.IntN(all)), historyKey(h.rng.IntN(all)))
	case n < 75:
		h.write(h.pick(all))
	case n < 80:
		h.delete(historyKey(keptKeys + h.rng.IntN(deletedKeys)))
	case n < 90:
		h.incr(counterKey(h.rng.IntN(counterKeys)))
	default:
		h.count(counterKey(h.rng.IntN(counterKeys)))
	}
}

// An answer is what came for one request.
type answer struct {
	line   string            // the last one
	values map[string][]byte // by key; that of a VA is under the key that was asked for
}

// ask has a request sent by the next exchange.
func (h *historian) ask(keys []string, note func(o *model.Op, a *answer), format string, args ...any) {
	h.out = fmt.Appendf(h.out, format, args...)
	h.asked = append(h.asked, question{keys, note})
}

// exchange sends what has been asked and notes the answers. A connection on which
// something went wrong is left for a new one, and what was behind it has failed too.
func (h *historian) exchange() error {
	if h.c == nil {
		var err error
		if h.c, err = harness.Dial(h.addr); err != nil {
			return err
		}
	}
	start := time.Since(h.began)
	err := h.c.Send(h.out)
	for _, q := range h.asked {
		a := &answer{values: map[string][]byte{}}
		if err == nil {
			err = h.answer(a, q.keys[0])
		}
		h.note(&q, a, start, err)
		if err == nil && strings.Contains(a.line, "ERROR") && !strings.HasSuffix(a.line, fateUnknown) {
			err = errors.New("behind an error")
		}
	}
	if err != nil {
		h.c.Close()
		h.c = nil
	}
	h.out, h.asked = h.out[:0], h.asked[:0]
	return nil
}

// note writes down what came of a question.
func (h *historian) note(q *question, a *answer, start time.Duration, err error) {
	end := time.Since(h.began)
	for _, key := range q.keys {
		o := model.Op{Client: h.id, Key: key, Start: start, End: end}
		q.note(&o, a)
		switch {
		case err != nil:
			o.Outcome, o.Note = model.Failed, err.Error()
		case strings.HasSuffix(a.line, fateUnknown) && o.Kind == model.Incr:
			o.Outcome, o.Note = model.Doubt, ""
		case strings.Contains(a.line, "ERROR") && a.values[key] == nil:
			o.Outcome, o.Note = model.Failed, a.line
		}
		h.ops = append(h.ops, o)
	}
}

// fateUnknown ends the line that tells of a write that may have been carried out and
// must not be twice.
const fateUnknown = "whether the write counts is not known"

// answer reads up to the line that ends an answer.
func (h *historian) answer(a *answer, key string) error {
	for {
		line, err := h.c.Line()
		if err != nil {
			return err
		}
		words := strings.Split(line, " ")
		size, last := "", false
		switch {
		case words[0] == "VALUE" && len(words) > 3:
			key, size = words[1], words[3]
		case words[0] == "VA" && len(words) > 1:
			size, last = words[1], true
		default:
			a.line = line
			return nil
		}
		n, err := strconv.Atoi(size)
		if err != nil {
			return fmt.Errorf("the line %s", brief(line))
		}
		value, err := h.c.Full(n + 2)
		if err != nil {
			return err
		}
		a.line, a.values[key] = line, value[:n]
		if last {
			return nil
		}
	}
}

func (h *historian) read(keys ...string) {
	request := "get " + strings.Join(keys, " ")
	if len(keys) == 1 && h.chance(3) {
		request = "mg " + keys[0] + " v"
	}
	h.ask(keys, func(o *model.Op, a *answer) {
		value, found := a.values[o.Key]
		if o.Outcome = model.Nothing; !found {
			return
		}
		var err error
		if o.ID, err = model.ParseValue(value, o.Key); err != nil {
			o.Outcome, o.Note = model.Wrong, err.Error()
			return
		}
		o.Outcome = model.Done
	}, "%s\r\n", request)
}

// answered notes the outcome of what has no value: done at one of these lines, and
// nothing at any other.
func answered(o *model.Op, a *answer, done ...string) {
	if o.Outcome = model.Done; !slices.Contains(done, a.line) {
		o.Outcome, o.Note = model.Nothing, a.line
	}
}

// form is one of two ways to ask the same.
func (h *historian) form(classic, meta string) string {
	if h.chance(3) {
		return meta
	}
	return classic
}

func (h *historian) write(key string) {
	h.seq++
	id := model.ID{Writer: h.id, Seq: h.seq}
	size := 40 + h.rng.IntN(200)
	if h.chance(50) {
		size = h.rng.IntN(50 << 10)
	}
	value := model.AppendValue(nil, key, id, size)
	h.ask([]string{key}, func(o *model.Op, a *answer) {
		o.Kind, o.ID = model.Write, id
		answered(o, a, "STORED", "HD")
	}, h.form("set %s 0 0 %d\r\n%s\r\n", "ms %s %d\r\n%s\r\n"), key, len(value), value)
}

// delete makes no difference between what was there and what was not: if the lead died
// with it, the next one may have nothing to delete.
func (h *historian) delete(key string) {
	h.ask([]string{key}, func(o *model.Op, a *answer) {
		o.Kind = model.Delete
		answered(o, a, "DELETED", "HD", "NOT_FOUND", "NF")
	}, h.form("delete %s\r\n", "md %s\r\n"), key)
}

func (h *historian) incr(key string) {
	h.ask([]string{key}, func(o *model.Op, a *answer) {
		o.Kind = model.Incr
		text := a.line
		if value, found := a.values[key]; found {
			text = string(value)
		}
		number(o, text)
	}, h.form("incr %s 1\r\n", "ma %s v\r\n"), key)
}

func (h *historian) count(key string) {
	h.ask([]string{key}, func(o *model.Op, a *answer) {
		o.Kind = model.Count
		if number(o, a.line); a.values[key] != nil {
			number(o, string(a.values[key]))
		}
	}, "get %s\r\n", key)
}

// number notes a count.
func number(o *model.Op, text string) {
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err == nil:
		o.Outcome, o.Count, o.Note = model.Done, n, ""
	case text == "NOT_FOUND" || text == "NF" || text == "END":
		o.Outcome, o.Note = model.Nothing, text
	default:
		o.Outcome, o.Note = model.Wrong, brief(text)
	}
}

// prepare writes every key.
func (h *historian) prepare() error {
	for i := range counterKeys {
		line, err := h.c.Do(fmt.Sprintf("set %s 0 0 1\r\n0\r\n", counterKey(i)), 1)
		if err != nil || line != "STORED" {
			return fmt.Errorf("a counter's making: %s, %w", line, err)
		}
	}
	for i := range keptKeys + deletedKeys {
		h.write(historyKey(i))
	}
	return h.exchange()
}

// conclude reads every key.
func (h *historian) conclude() error {
	for i := range counterKeys {
		h.count(counterKey(i))
	}
	for i := range keptKeys + deletedKeys {
		h.read(historyKey(i))
	}
	return h.exchange()
}
