package model

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// parse reads a history of one key, an Op a line:
//
//	kind start end [what] [outcome]
//
// what is writer.seq of a value or the count; done is the outcome if none is named.
func parse(t *testing.T, text string) (ops []Op) {
	t.Helper()
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		o := Op{Client: len(ops), Key: "k"}
		for o.Kind = Read; o.Kind.String() != words[0]; o.Kind++ {
			continue
		}
		var start, end int
		if _, err := fmt.Sscan(words[1]+" "+words[2], &start, &end); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		o.Start, o.End = time.Duration(start), time.Duration(end)
		for _, w := range words[3:] {
			if _, err := fmt.Sscanf(w, "%d.%d", &o.ID.Writer, &o.ID.Seq); err == nil {
				continue
			}
			if _, err := fmt.Sscan(w, &o.Count); err == nil {
				continue
			}
			for o.Outcome = Done; o.Outcome.String() != w; o.Outcome++ {
				continue
			}
		}
		ops = append(ops, o)
	}
	return ops
}

// histories has one for each way in which a cache can be at fault, and beside it one
// that is nearly the same and right.
var histories = []struct {
	name, history string
	want          string // how the first fault begins: "line: why"; empty for none
}{
	{"nothing happened", ``, ""},
	{"never written", `read 1 2 nothing`, ""},
	{"read what was written", `
		write 1 2 1.1
		read 3 4 1.1`, ""},
	{"wrong bytes", `
		write 1 2 1.1
		read 3 4 wrong`, "1: wrong value"},
	{"a value of nobody", `
		write 1 2 1.1
		read 3 4 2.1`, "1: nobody wrote this"},
	{"a value from the future", `
		read 1 2 1.1
		write 3 4 1.1`, "0: read before it was written"},
	{"a value under way", `
		write 1 9 1.1
		read 3 4 1.1
		read 5 6 nothing`, ""},
	{"an acknowledged write is lost", `
		write 1 2 1.1
		read 3 4 nothing`, "1: miss"},
	{"an acknowledged write is lost to the one before", `
		write 1 2 1.1
		write 3 4 1.2
		read 5 6 1.1`, "2: stale: it was overwritten"},
	{"a write is not yet acknowledged", `
		write 1 2 1.1
		write 3 6 1.2
		read 5 7 1.1`, ""},
	{"writes that cross may take effect in any order", `
		write 1 4 1.1
		write 2 5 2.1
		read 6 7 1.1
		read 8 9 2.1`, ""},
	{"one of two that cross is overwritten for sure", `
		write 1 4 1.1
		write 2 5 2.1
		write 5 6 3.1
		read 7 8 1.1`, "3: stale"},
	{"one of two that cross may be overwritten", `
		write 1 4 1.1
		write 2 5 2.1
		write 5 6 3.1
		read 7 8 2.1`, ""},
	{"an overwriting far back counts", `
		write 1 2 1.1
		write 3 4 1.2
		write 1 6 2.1
		read 7 8 1.1`, "3: stale"},
	{"a write with an error may count later", `
		write 1 2 1.1 failed
		write 3 4 2.1
		read 5 6 2.1
		read 7 8 1.1`, "0: error"},
	{"a read with an error", `
		write 1 2 1.1
		read 3 4 failed`, "1: error"},
	{"deleted", `
		write 1 2 1.1
		delete 3 4
		read 5 6 nothing`, ""},
	{"a deleted value is back", `
		write 1 2 1.1
		delete 3 4
		read 5 6 1.1`, "2: stale: it was deleted"},
	{"a delete is under way", `
		write 1 2 1.1
		delete 3 6
		read 4 5 1.1
		read 4 5 nothing`, ""},
	{"a delete does not excuse the loss of a later write", `
		write 1 2 1.1
		delete 3 4
		write 5 6 1.2
		read 7 8 nothing`, "3: miss"},
	{"a delete that crosses the write excuses its loss", `
		delete 3 6
		write 4 5 1.1
		read 7 8 nothing`, ""},
	{"a delete to come excuses nothing", `
		write 1 2 1.1
		read 3 4 nothing
		delete 5 6`, "1: miss"},
	{"a write that is refused", `write 1 2 1.1 nothing`, "0: not stored"},
	{"doubt about a write", `write 1 2 1.1 doubt`, "0: doubt"},
	{"one value written twice", `
		write 1 2 1.1
		write 3 4 1.1`, "1: written twice"},

	{"counting", `
		incr 1 2 1
		incr 3 6 3
		incr 4 5 2
		count 7 8 3`, ""},
	{"a counter is lost to an increment", `
		incr 1 2 1
		incr 3 4 nothing`, "1: miss"},
	{"a counter is lost to a read", `count 3 4 nothing`, "0: miss"},
	{"an increment is lost", `
		incr 1 2 1
		incr 3 4 1`, "1: the same count"},
	{"a count runs backwards", `
		incr 1 2 2
		incr 3 4 1`, "1: stale"},
	{"an increment counts twice", `
		incr 1 2 1
		incr 3 4 3`, "1: counted too far"},
	{"an increment in doubt may count", `
		incr 1 2 1
		incr 2 3 doubt
		incr 3 4 3`, ""},
	{"an increment in doubt counts once", `
		incr 1 2 1
		incr 2 3 doubt
		incr 3 4 4`, "2: counted too far"},
	{"an increment in doubt counts after it began", `
		incr 1 2 2
		incr 3 4 doubt`, "0: counted too far"},
	{"a read of a count that was told before", `
		incr 1 2 1
		incr 3 4 2
		count 5 6 1`, "2: stale"},
	{"a read of a count to come", `
		count 1 2 1
		incr 3 4 1`, "0: counted too far"},
	{"a read of a count under way", `
		incr 1 5 1
		count 2 3 1
		count 3 4 0`, ""},
	{"an increment is refused", `incr 1 2 failed`, "0: error"},
	{"a counter is written", `
		incr 1 2 1
		write 3 4 1.1`, "1: write of a counter"},
}

func TestFaultsAreFound(t *testing.T) {
	for _, c := range histories {
		got := ""
		if faults := Check(parse(t, c.history)); len(faults) > 0 {
			got = fmt.Sprintf("%d: %s", faults[0].Op.Client, faults[0].Why)
		}
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestKeysAreApart has the same ops for other keys change nothing.
func TestKeysAreApart(t *testing.T) {
	history := parse(t, "write 1 2 1.1\nread 3 4 1.1\nwrite 5 6 1.1\nread 7 8 nothing")
	for i := range history {
		history[i].Key = []string{"a", "a", "b", "c"}[i]
	}
	if faults := Check(history); len(faults) > 0 {
		t.Errorf("found %+v", faults)
	}
}

func TestExplain(t *testing.T) {
	history := parse(t, "write 1000 2000 1.1\nread 2100 2200 1.1\nwrite 3000 4000 1.2\nread 5000 6000 1.1\nread 7000 8000 1.1")
	faults := Check(history)
	if len(faults) != 2 {
		t.Fatalf("found %+v", faults)
	}
	got := Explain(&faults[0], history, []Mark{{500, "before"}, {2300, "kill"}, {9000, "after"}})
	want := strings.Join([]string{
		"k: stale: it was overwritten",
		" *   0.000000  before",
		" >   0.000001   0.000002  client 0   write  1.1      done",
		"     0.000002   0.000002  client 1   read   1.1      done",
		" *   0.000002  kill",
		" >   0.000003   0.000004  client 2   write  1.2      done",
		">>   0.000005   0.000006  client 3   read   1.1      done",
		"",
	}, "\n")
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestExplainIsBounded(t *testing.T) {
	history := []Op{{Key: "k", Kind: Write, ID: ID{1, 1}, Start: 1, End: 2}, {Key: "k", Kind: Write, ID: ID{1, 2}, Start: 3, End: 4}}
	for i := range 1000 {
		history = append(history, Op{Key: "k", Kind: Read, ID: ID{1, 2}, Start: time.Duration(5 + i), End: time.Duration(6 + i)})
	}
	history = append(history, Op{Key: "k", Kind: Read, ID: ID{1, 1}, Start: 2000, End: 2001})
	faults := Check(history)
	if len(faults) != 1 {
		t.Fatalf("found %d faults", len(faults))
	}
	if got := strings.Count(Explain(&faults[0], history, nil), "\n"); got != around+3 {
		t.Errorf("%d lines, want %d, the two writes and the fault's", got, around)
	}
}

func TestValues(t *testing.T) {
	for _, size := range []int{0, 60, 400} {
		b := AppendValue(nil, "a-key", ID{12, 345}, size)
		if len(b) < size || size > 40 && len(b) != size {
			t.Errorf("%d bytes, want %d", len(b), size)
		}
		if id, err := ParseValue(b, "a-key"); err != nil || id != (ID{12, 345}) {
			t.Errorf("%q is %v, %v", b, id, err)
		}
		for i := range b {
			for _, bit := range []byte{1, 0x20, 0x80} {
				bad := append([]byte(nil), b...)
				bad[i] ^= bit
				// The hex digits of the sum may be of either case.
				if id, err := ParseValue(bad, "a-key"); err == nil && !(bit == 0x20 && i >= len(b)-sumLength) {
					t.Fatalf("%q passes as %v: byte %d is changed", bad, id, i)
				}
			}
			if _, err := ParseValue(b[:i], "a-key"); err == nil {
				t.Fatalf("the first %d bytes of %q pass", i, b)
			}
		}
		for _, key := range []string{"a-ke", "a-key ", "b-key", ""} {
			if _, err := ParseValue(b, key); err == nil {
				t.Errorf("%q passes as a value of %q", b, key)
			}
		}
	}
}
