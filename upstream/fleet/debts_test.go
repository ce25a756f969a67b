package fleet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDebtsAsText(t *testing.T) {
	for value, want := range map[string]debts{
		"":                               {},
		"a/1/2=1":                        {owing: []debtor{{"a/1/2", 1}}},
		"a/1/2=1 b=18446744073709551615": {owing: []debtor{{"a/1/2", 1}, {"b", 1<<64 - 1}}},
		"a=b=3":                          {owing: []debtor{{"a=b", 3}}},
		"settled=3":                      {owing: []debtor{{"settled", 3}}},
		"settled at 1700000000123":       {settled: 1700000000123},
		"a=1 b=2 b=open c=open":          {owing: []debtor{{"a", 1}, {"b", 2}}, open: []string{"b", "c"}},
		"a=open":                         {open: []string{"a"}},
		"settled at 5 a=open b=open":     {settled: 5, open: []string{"a", "b"}},
	} {
		d, err := parseDebts(value)
		if err != nil || !d.same(want) || d.String() != value {
			t.Errorf("%q is %v, %v", value, d, err)
		}
	}
	for _, value := range []string{"a", "=1", "a=", "a=x", "a=-1", "a=1 a=2", "a=1 settled at 3", "settled at 3 a=1", "settled at 3 a", "a=open a=open", "=open", "a=opened", "settled at", "settled at ",
		"settled at noon", "settled at 0", "settled at -5", "settled at 99999999999999999999", "a=18446744073709551616", "\x00\xff"} {
		if d, err := parseDebts(value); err == nil || len(d.owing) != 0 || d.settled != 0 {
			t.Errorf("%q is %v", value, d)
		}
	}
}

func (d debts) same(o debts) bool {
	return d.settled == o.settled && slices.Equal(d.owing, o.owing) && slices.Equal(d.open, o.open)
}

func FuzzDebts(f *testing.F) {
	f.Add("a/1/2=1 b=3")
	f.Add("settled at 1700000000123")
	f.Add("  a=1\tb==2 ")
	f.Add("settled at 7 a=open")
	f.Add("a=3 me=open")
	f.Fuzz(func(t *testing.T, value string) {
		d, err := parseDebts(value)
		if err != nil {
			return
		}
		again, err := parseDebts(d.String())
		if err != nil || !again.same(d) {
			t.Fatalf("%q is %v, and that is %v, %v", value, d, again, err)
		}
		if after := d.with("me", 7); after.settled != 0 || after.place("me") < 0 || len(after.owing) > len(d.owing)+1 {
			t.Fatalf("%q: with another %v", value, after)
		}
		if after := d.without(func(debtor) bool { return true }, 5); len(after.owing) != 0 || after.settled == 0 {
			t.Fatalf("%q: without all %v", value, after)
		}
		joined := d.joined("me", 7)
		if due := d.settled != 0 && d.settled <= 7; slices.Contains(joined.open, "me") == due && !slices.Contains(d.open, "me") {
			t.Fatalf("%q: joined at 7 it is %v", value, joined)
		}
		if after := joined.closed("me"); slices.Contains(after.open, "me") || !after.same(d.closed("me")) {
			t.Fatalf("%q: closed it is %v", value, after)
		}
	})
}

// Steps do what a set does, and who stands in the list keeps its place.
func TestStepsAgreeWithASet(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		value, set, order, at := "", map[string]uint64{}, []string{}, int64(0)
		for i := range 50 {
			id, n := fmt.Sprint("m/", r.IntN(4)), uint64(r.IntN(20))
			var s step
			if r.IntN(2) == 0 {
				s = func(d debts) debts { return d.with(id, n) }
				if _, ok := set[id]; !ok {
					order = append(order, id)
				}
				set[id], at = max(set[id], n)+1, 0
			} else {
				s = func(d debts) debts {
					return d.without(func(o debtor) bool { return o.id == id }, int64(i+1))
				}
				order = slices.DeleteFunc(order, func(o string) bool { return o == id })
				if delete(set, id); len(set) == 0 && at == 0 {
					at = int64(i + 1)
				}
			}
			var err error
			if value, err = s.value(value); err != nil {
				t.Fatal(err)
			}
			d, err := parseDebts(value)
			got := map[string]uint64{}
			for j, o := range d.owing {
				if got[o.id] = o.n; o.id != order[j] {
					t.Fatalf("seed %d: %q, want the order %v", seed, value, order)
				}
			}
			if err != nil || !maps.Equal(got, set) || d.settled != at {
				t.Fatalf("seed %d: %q, %v, want %v or settled at %d", seed, value, err, set, at)
			}
		}
	}
}

func TestListHasABound(t *testing.T) {
	enter := step(func(d debts) debts { return d.with(strings.Repeat("x", maxAddress), 0) })
	long := strings.Repeat("y", maxValue-maxAddress-5)
	if after, err := enter.value(long + "=1"); err != nil || len(after) != maxValue {
		t.Errorf("%d bytes, %v", len(after), err)
	}
	if after, err := enter.value(long + "y=1"); err != errFull {
		t.Errorf("%d bytes, %v", len(after), err)
	}
}

func TestWatch(t *testing.T) {
	began := time.Unix(1_700_000_000, 0)
	w := newWatch(5 * time.Second)
	a, b := debtor{"a", 1}, debtor{"b", 1}
	for _, c := range []struct {
		at     time.Duration // from the one before
		source int
		owing  []debtor // nil: no list
		dead   string
		doubt  bool
	}{
		{0, 0, []debtor{a, b}, "", false},
		{4 * time.Second, 0, []debtor{a, {"b", 2}}, "", false},
		{time.Second, 0, []debtor{a, {"b", 2}}, "a", false},
		{3 * time.Second, 0, []debtor{{"a", 2}, {"b", 2}}, "", false}, // it has only stood still
		{time.Second, 0, []debtor{{"b", 2}}, "b", false},
		{time.Second, 0, []debtor{a, {"b", 2}}, "b", false},    // a has entered anew
		{6 * time.Second, 0, []debtor{a, {"b", 2}}, "", false}, // not watched in between
		{5 * time.Second, 0, []debtor{a, {"b", 2}}, "a b", false},
		{time.Second, 1, []debtor{a, {"b", 2}}, "", true}, // another list
		{4 * time.Second, 1, []debtor{a}, "", true},
		{time.Second, 1, []debtor{a}, "a", false},
		{time.Second, 1, nil, "", true}, // it is lost
		{4 * time.Second, 1, nil, "", true},
		{time.Second, 1, nil, "", false},
	} {
		began = began.Add(c.at)
		w.see(c.source, debts{owing: c.owing}, c.owing != nil, began)
		var dead []string
		for _, o := range c.owing {
			if w.dead(o, began) {
				dead = append(dead, o.id)
			}
		}
		if got, doubt := strings.Join(dead, " "), began.Before(w.doubt); got != c.dead || doubt != c.doubt {
			t.Errorf("%v: dead: %q, in doubt: %v, want %q, %v", c, got, doubt, c.dead, c.doubt)
		}
	}
	w.see(1, debts{owing: []debtor{a}}, true, began)
	w.blink()
	w.see(1, debts{owing: []debtor{a}}, true, began.Add(5*time.Second))
	if w.dead(a, began.Add(5*time.Second)) {
		t.Error("one is dead that was not watched all the time")
	}
}

// The rest drives several magents through every order in which what they ask of a source
// can be carried out, answered, or be left without an answer and carried out late.

// clerk is a magent that enters, renews, and leaves.
type clerk struct {
	done   int // of its changes
	count  uint64
	looked bool // what follows is what it has seen, and the change is tried next
	value  string
	cas    uint64
	late   string // a value that was given up, and may be written over version since yet
	since  uint64
	waits  bool // there is one
	gone   bool // it has asked to leave
}

// changes are what each clerk does.
const (
	enters = iota
	renews
	leaves
	changes
)

type desk struct {
	value  string
	cas    uint64
	clerks [3]clerk
	losses int
}

// slip is a fault of the clerks, to see that it is found.
type slip uint8

const (
	noSlip  slip = iota
	blindly      // what a clerk writes, it writes over anything
	lazily       // one that leaves, and finds itself gone, writes nothing
)

type office struct {
	slip  slip
	n     int
	seen  map[desk]bool
	bad   string
	ended int
}

func (x *office) visit(d desk) {
	if k := d.canon(); x.bad != "" || x.seen[k] {
		return
	} else {
		x.seen[k] = true
	}
	if x.bad = x.judge(d); x.bad != "" {
		return
	}
	for i := range x.n {
		c := d.clerks[i]
		if c.waits {
			x.late(d, i)
		}
		switch {
		case c.done == changes:
		case !c.looked:
			d := d
			c := &d.clerks[i]
			c.looked, c.value, c.cas = true, d.value, d.cas
			x.visit(d)
		default:
			x.change(d, i)
		}
	}
}

// canon is d with its versions numbered in the order in which they are met.
func (d desk) canon() desk {
	seen := number([]uint64{0}, &d.cas)
	for i := range d.clerks {
		seen = number(seen, &d.clerks[i].cas)
		seen = number(seen, &d.clerks[i].since)
	}
	return d
}

// change has clerk i write what comes of the list that it has seen.
func (x *office) change(d desk, i int) {
	c := &d.clerks[i]
	id := fmt.Sprint(i)
	s := step(func(l debts) debts { return l.with(id, c.count) })
	if c.done == leaves {
		s = func(l debts) debts { return l.without(func(o debtor) bool { return o.id == id }, 1) }
	}
	value, err := s.value(c.value)
	if err != nil {
		x.bad = err.Error()
		return
	}
	if x.slip == lazily && value == c.value {
		c.done, c.looked = c.done+1, false
		x.visit(d)
		return
	}
	if n := d; n.losses > 0 && !c.waits {
		n.losses--
		c := &n.clerks[i]
		c.late, c.since, c.waits, c.looked = value, c.cas, true, false
		c.value, c.cas, c.gone = "", 0, c.done == leaves
		x.visit(n)
		c.done, c.gone = leaves, true // rather than try again
		x.visit(n)
	}
	if d.cas != c.cas && x.slip != blindly {
		c.value, c.cas = d.value, d.cas // the answer tells
		x.visit(d)
		return
	}
	d.store(value)
	if c.done != leaves {
		list, _ := parseDebts(value)
		c.count = list.owing[list.place(id)].n
	}
	c.done, c.looked, c.value, c.cas = c.done+1, false, "", 0
	x.visit(d)
}

// late has what clerk i has given up carried out, or lost for good.
func (x *office) late(d desk, i int) {
	c := &d.clerks[i]
	value, since := c.late, c.since
	c.late, c.since, c.waits = "", 0, false
	x.visit(d)
	if d.cas == since || x.slip == blindly {
		d.store(value)
		x.visit(d)
	}
}

func (d *desk) store(value string) {
	d.cas++
	for _, c := range d.clerks { // versions are given once
		d.cas = max(d.cas, c.cas+1, c.since+1)
	}
	d.value = value
}

func (x *office) judge(d desk) string {
	list, err := parseDebts(d.value)
	if err != nil {
		return err.Error()
	}
	all := true
	for i, c := range d.clerks[:x.n] {
		listed := list.place(fmt.Sprint(i)) >= 0
		if c.done > enters && c.done <= leaves && !c.gone && !listed {
			return fmt.Sprintf("%d has entered, and is not listed: %q", i, d.value)
		}
		if c.done == changes && listed {
			return fmt.Sprintf("%d has left, and is listed: %q", i, d.value)
		}
		all = all && c.done == changes
	}
	if all {
		x.ended++
		if list.settled == 0 {
			return fmt.Sprintf("all have left, and it is not settled: %q", d.value)
		}
	}
	return ""
}

func TestNobodyIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		clerks, losses int
		slip           slip
		want           string
	}{
		{3, 0, noSlip, ""},
		{2, 2, noSlip, ""},
		{2, 0, blindly, "listed"},
		{2, 1, lazily, "has left, and is listed"},
	} {
		x := &office{slip: c.slip, n: c.clerks, seen: map[desk]bool{}}
		x.visit(desk{losses: c.losses})
		if (x.bad == "") != (c.want == "") || !strings.Contains(x.bad, c.want) {
			t.Errorf("%+v: %s", c, x.bad)
		}
		t.Logf("%+v: %d orders, %d ends", c, len(x.seen), x.ended)
	}
}
