package e2e

import (
	"fmt"
	"math/rand/v2"
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

// A historian is a client that writes down what it asks and is told. It has one
// request under way at a time.
type historian struct {
	addr  string
	id    int
	began time.Time // of the history
	rng   *rand.Rand
	c     *harness.Client
	seq   int
	value []byte
	ops   []model.Op
}

func newHistorian(addr string, id int, began time.Time, seed uint64) *historian {
	return &historian{addr: addr, id: id, began: began, rng: rand.New(rand.NewPCG(seed, uint64(id)))}
}

func (h *historian) chance(in int) bool { return h.rng.IntN(in) == 0 }

// pick is a key of the first n, the lower the likelier.
func (h *historian) pick(n int) string { return historyKey(h.rng.IntN(1 + h.rng.IntN(n))) }

// step sends one request and takes its answer. The error is one of connecting: all
// others are part of the history.
func (h *historian) step() error {
	const all = keptKeys + deletedKeys
	switch n := h.rng.IntN(100); {
	case n < 50:
		return h.read(h.pick(all))
	case n < 55:
		return h.read(h.pick(all), historyKey(h.rng.IntN(all)), historyKey(h.rng.IntN(all)))
	case n < 75:
		return h.write(h.pick(all))
	case n < 80:
		return h.delete(historyKey(keptKeys + h.rng.IntN(deletedKeys)))
	case n < 90:
		return h.incr(counterKey(h.rng.IntN(counterKeys)))
	default:
		return h.count(counterKey(h.rng.IntN(counterKeys)))
	}
}

// An answer is what came for one request.
type answer struct {
	line   string            // the last one
	values map[string][]byte // by key; that of a VA is under the key that was asked for
}

// ask sends a request and notes what note makes of the answer, once for each key. A
// connection on which something went wrong is left for a new one.
func (h *historian) ask(request string, keys []string, note func(o *model.Op, a *answer)) error {
	if h.c == nil {
		var err error
		if h.c, err = harness.Dial(h.addr); err != nil {
			return err
		}
	}
	start := time.Since(h.began)
	err := h.c.Send([]byte(request))
	a := &answer{values: map[string][]byte{}}
	if err == nil {
		err = h.answer(a, keys[0])
	}
	end := time.Since(h.began)
	if err != nil || strings.Contains(a.line, "ERROR") {
		h.c.Close()
		h.c = nil
	}
	for _, key := range keys {
		o := model.Op{Client: h.id, Key: key, Start: start, End: end}
		if note(&o, a); err != nil {
			o.Outcome, o.Note = model.Failed, err.Error()
		} else if h.c == nil && (o.Kind != model.Read || a.values[key] == nil) {
			o.Outcome, o.Note = model.Failed, a.line
			if o.Kind == model.Incr && strings.HasSuffix(a.line, fateUnknown) {
				o.Outcome = model.Doubt
			}
		}
		h.ops = append(h.ops, o)
	}
	return nil
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

func (h *historian) read(keys ...string) error {
	request := "get " + strings.Join(keys, " ") + "\r\n"
	if len(keys) == 1 && h.chance(3) {
		request = "mg " + keys[0] + " v\r\n"
	}
	return h.ask(request, keys, func(o *model.Op, a *answer) {
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
	})
}

// answered notes the outcome of what has no value: done at one of these lines, and
// nothing at any other.
func answered(o *model.Op, a *answer, done ...string) {
	for _, line := range done {
		if a.line == line {
			o.Outcome = model.Done
			return
		}
	}
	o.Outcome, o.Note = model.Nothing, a.line
}

func (h *historian) write(key string) error {
	h.seq++
	id := model.ID{Writer: h.id, Seq: h.seq}
	size := 40 + h.rng.IntN(200)
	if h.chance(50) {
		size = h.rng.IntN(50 << 10)
	}
	h.value = model.AppendValue(h.value[:0], key, id, size)
	form := "set %s 0 0 %d\r\n%s\r\n"
	if h.chance(3) {
		form = "ms %s %d\r\n%s\r\n"
	}
	return h.ask(fmt.Sprintf(form, key, len(h.value), h.value), []string{key}, func(o *model.Op, a *answer) {
		o.Kind, o.ID = model.Write, id
		answered(o, a, "STORED", "HD")
	})
}

// delete has no use for the difference between what was there and what was not: that
// of one whose lead died is found out at the next.
func (h *historian) delete(key string) error {
	request := "delete " + key + "\r\n"
	if h.chance(3) {
		request = "md " + key + "\r\n"
	}
	return h.ask(request, []string{key}, func(o *model.Op, a *answer) {
		o.Kind = model.Delete
		answered(o, a, "DELETED", "HD", "NOT_FOUND", "NF")
	})
}

func (h *historian) incr(key string) error {
	request := "incr " + key + " 1\r\n"
	if h.chance(3) {
		request = "ma " + key + " v\r\n"
	}
	return h.ask(request, []string{key}, func(o *model.Op, a *answer) {
		o.Kind = model.Incr
		text := a.line
		if value, found := a.values[key]; found {
			text = string(value)
		}
		h.number(o, text, a.line)
	})
}

func (h *historian) count(key string) error {
	return h.ask("get "+key+"\r\n", []string{key}, func(o *model.Op, a *answer) {
		o.Kind = model.Count
		value, found := a.values[key]
		if o.Outcome = model.Nothing; found {
			h.number(o, string(value), a.line)
		}
	})
}

// number notes a count.
func (h *historian) number(o *model.Op, text, line string) {
	n, err := strconv.ParseUint(strings.TrimRight(text, " "), 10, 64)
	switch {
	case err == nil:
		o.Outcome, o.Count = model.Done, n
	case line == "NOT_FOUND" || line == "NF":
		o.Outcome, o.Note = model.Nothing, line
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
		if err := h.write(historyKey(i)); err != nil {
			return err
		}
	}
	return nil
}

// conclude reads every key.
func (h *historian) conclude() error {
	for i := range counterKeys {
		if err := h.count(counterKey(i)); err != nil {
			return err
		}
	}
	for i := range keptKeys + deletedKeys {
		if err := h.read(historyKey(i)); err != nil {
			return err
		}
	}
	return nil
}
