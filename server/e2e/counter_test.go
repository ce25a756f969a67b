package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"magent/server/e2e/harness"
)

// A relative is a contest of relative ops on a few keys, and what its clients know:
// by key, what was acknowledged and what was answered with an error. That is the
// count for a counter and the mark for a key that marks are appended to.
type relative struct {
	keys   int
	marks  bool
	acked  []map[string]int // by key: how often each was acknowledged
	doubts []map[string]int
	mu     sync.Mutex
}

func newRelative(keys int, marks bool) *relative {
	r := &relative{keys: keys, marks: marks}
	for range keys {
		r.acked, r.doubts = append(r.acked, map[string]int{}), append(r.doubts, map[string]int{})
	}
	return r
}

func relativeKey(i int) string { return "relative" + strconv.Itoa(i) }

// step is a contest's. Half of those who count do it by incr, half by ma.
func (r *relative) step(c *harness.Client, id, seq int) (verdict, error) {
	key := (id + seq) % r.keys
	mark := fmt.Sprintf("%d.%d;", id, seq)
	request := "incr " + relativeKey(key) + " 1\r\n"
	switch {
	case r.marks && id/2%2 == 0:
		request = fmt.Sprintf("append %s 0 0 %d\r\n%s\r\n", relativeKey(key), len(mark), mark)
	case r.marks:
		request = fmt.Sprintf("ms %s %d MA\r\n%s\r\n", relativeKey(key), len(mark), mark)
	case id/2%2 == 0:
		request = "ma " + relativeKey(key) + " v\r\n"
	}
	line, err := c.Do(request, 1)
	if err == nil && strings.HasPrefix(line, "VA ") {
		line, err = c.Line()
	}
	if err != nil {
		return refused, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, notNumber := strconv.ParseUint(line, 10, 64); {
	case !r.marks && notNumber == nil:
		r.acked[key][line]++
	case r.marks && (line == "STORED" || line == "HD"):
		r.acked[key][mark]++
	case strings.HasPrefix(line, "SERVER_ERROR "):
		r.doubts[key][mark]++
		return unknown, nil
	default:
		return refused, fmt.Errorf("%s: got %s", brief(request), brief(line))
	}
	return done, nil
}

// check holds what a node has under key i against what the clients know.
func (r *relative) check(i int, h *held) error {
	value := strings.TrimRight(string(h.value), " ")
	if r.marks {
		held := map[string]int{}
		for mark := range strings.SplitAfterSeq(value, ";") {
			if held[mark]++; mark != "" && (held[mark] > 1 || r.acked[i][mark]+r.doubts[i][mark] == 0) {
				return fmt.Errorf("it has the mark %s, %d times now", mark, held[mark])
			}
		}
		for mark := range r.acked[i] {
			if held[mark] == 0 {
				return fmt.Errorf("the mark %s is lost", mark)
			}
		}
		return nil
	}
	n, err := strconv.Atoi(value)
	if most := len(r.acked[i]) + len(r.doubts[i]); err != nil || n < len(r.acked[i]) || n > most {
		return fmt.Errorf("it has counted to %s; %d steps were acknowledged, and %d may have been done", brief(value), len(r.acked[i]), most)
	}
	for count, times := range r.acked[i] {
		if c, err := strconv.Atoi(count); times > 1 || err != nil || c < 1 || c > n {
			return fmt.Errorf("%d clients were told %s, and it has counted to %d", times, count, n)
		}
	}
	return nil
}

// TestCountersSurviveTheirLead has clients count through two proxies while the lead
// goes away. What was acknowledged is counted once at each node that is left, and
// what was answered with an error once at most; no count is given out twice.
func TestCountersSurviveTheirLead(t *testing.T) {
	one := func() *relative { return newRelative(1, false) }
	eight := func() *relative { return newRelative(8, false) }
	marks := func() *relative { return newRelative(2, true) }
	type run struct {
		times  int
		loss   loss
		nodes  makeOf
		copies int
		ways   []func() *relative
	}
	runs := []run{
		{4, killed, debian, 2, []func() *relative{one, eight, marks}},
		{4, killed, debian, 3, []func() *relative{one, marks}},
		{4, killed, mixed, 2, []func() *relative{eight}},
		{1, frozen, debian, 2, []func() *relative{one, marks}},
		{1, frozen, debian, 3, []func() *relative{eight}},
	}
	for _, m := range versioning() {
		runs = append(runs, run{4, killed, m, 2, []func() *relative{one, eight, marks}}, run{1, frozen, m, 2, []func() *relative{eight}})
	}
	for _, x := range runs {
		for _, way := range x.ways {
			r := way()
			t.Run(fmt.Sprintf("%s/%s/copies=%d/keys=%d/marks=%v", x.loss.name, x.nodes.name, x.copies, r.keys, r.marks), func(t *testing.T) {
				repeat(t, x.times, func(t *testing.T) {
					way().survive(t, newDuo(t, x.nodes.start(t, x.copies), "--timeout", x.loss.timeout), x.loss)
				})
			})
		}
	}
}

// survive has the clients of r at work and takes the lead away from them.
func (r *relative) survive(t *testing.T, d *duo, l loss) {
	t.Helper()
	first := "0"
	if r.marks {
		first = ""
	}
	var keys []raceKey
	for i := range r.keys {
		keys = append(keys, raceKey{name: relativeKey(i)})
		converse(t, d.asks[0], []exchange{{fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", relativeKey(i), len(first), first), "STORED"}})
	}
	g := contest{clients: 32, before: 1000, after: 500, midway: func() { l.take(d.nodes[0]) }, step: r.step}
	g.run(t, d)
	for copy, node := range d.judges[1:] {
		for i, h := range itemsOf(t, node, keys) {
			if err := r.check(i, &h); err != nil {
				t.Errorf("copy %d, %s: %v", 1+copy, keys[i].name, err)
			}
		}
	}
}
