package admin

import (
	"strings"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"user:1": "user:1", "café": "café", "a b": `"a b"`, "": "", `"`: `"\""`, "\xff": `"\xff"`, "a\tb": `"a\tb"`,
	} {
		if got := Text([]byte(key)); got != want {
			t.Errorf("%q is %s, want %s", key, got, want)
		}
	}
}

func explanation() Explanation {
	hash := uint64(193491849)
	sum := strings.Repeat("0123456789abcdef", 4)
	return Explanation{Key: "a{foo}b", KeyBytes: []byte("a{foo}b"), Pool: "default", Verdict: Differ,
		Placement: Placement{Distribution: "ketama", Hash: "md5", Part: "foo", Value: &hash},
		Lead:      "10.0.0.2:11211", Why: "it is slow, and 10.0.0.1:11211 is down", Reads: "cache-c",
		Replicas: []Replica{
			{Copy: 0, Place: 1, Of: 3, Node: "10.0.0.1:11211", State: "down", Debt: Owed, Error: "it is down: timeout"},
			{Copy: 1, Place: 2, Of: 2, Node: "10.0.0.2:11211", State: "slow", Debt: NoDebt, Drain: true,
				Item: &Item{Size: 5, SHA256: sum, Flags: 7, TTL: -1, Version: 12, Idle: 75, Fetched: true, Front: []byte("he\n")}},
			{Copy: 2, Place: 1, Of: 1, Node: "cache-c", State: "up", Debt: SomeDebt, Item: &Item{SHA256: sum, TTL: 59, Version: 9, Stale: true}, Differ: "value"},
			{Copy: 3, Place: 1, Of: 1, Node: "cache-d", State: "up", Debt: NoDebt, Differ: "missing"},
		}}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := WriteExplanation(&out, explanation()); err != nil {
		t.Fatal(err)
	}
	const want = `key        a{foo}b (7 bytes)
pool       default
placement  ketama of md5: hash 193491849 of foo
lead       10.0.0.2:11211: it is slow, and 10.0.0.1:11211 is down
reads      cache-c: the lead is slow

COPY  PLACE   NODE            STATE          DEBT              BYTES    SHA-256           FLAGS  TTL         VERSION  ACCESSED   READ
0     1 of 3  10.0.0.1:11211  down           owed              ?        -                 -      -           -        -          -
1     2 of 2  10.0.0.2:11211  slow, drained  none              5        0123456789abcdef  7      never ends  12       1m15s ago  yes
2     1 of 1  cache-c         up             too much to tell  0        0123456789abcdef  0      59s         9        0s ago     no, stale
3     1 of 1  cache-d         up             none              nothing  -                 -      -           -        -          -

The copies differ, at three looks: cache-c differs from the lead: another value; cache-d differs from the lead: it has no such item.
What 10.0.0.1:11211 holds is not known: it is down: timeout.
10.0.0.2:11211: "he\n" and 2 bytes more
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	for _, c := range []struct {
		e    Explanation
		want []string
	}{
		{Explanation{Verdict: Agree, Why: "nobody leads it", Note: "of its own"}, []string{"lead       nobody leads it\n", "note       of its own\n", "The copies agree."}},
		{Explanation{Verdict: Alone, Placement: Placement{Distribution: "jump"}}, []string{"jump: each copy has one node", "There is one copy."}},
		{Explanation{Verdict: Unknown, Replicas: []Replica{{Since: time.Now()}}}, []string{"Whether the copies agree is not known."}},
	} {
		out.Reset()
		if err := WriteExplanation(&out, c.e); err != nil {
			t.Error(err)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("without %q:\n%s", w, out.String())
			}
		}
	}
}
