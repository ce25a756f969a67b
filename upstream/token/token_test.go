package token

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/quick"
)

func TestTokenNamesItsReplica(t *testing.T) {
	same := func(copy uint8, life, cas uint64) bool {
		c := int(copy % MaxCopies)
		cas &= casMask
		tok := Make(c, life, cas)
		n, err := strconv.ParseInt(strconv.FormatUint(uint64(tok), 10), 10, 64) // as a client with signed numbers
		return err == nil && Token(n).Cas(c, life) == cas
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	never := func(a, b uint8, lifeA, lifeB, cas uint64) bool {
		ca, cb := int(a%MaxCopies), int(b%MaxCopies)
		if ca == cb && lifeA&lifeMask == lifeB&lifeMask {
			return true
		}
		return Make(ca, lifeA, cas&casMask).Cas(cb, lifeB) == Foreign
	}
	if err := quick.Check(never, nil); err != nil {
		t.Error(err)
	}
}

func TestTokensThatNobodyMade(t *testing.T) {
	for _, tok := range []Token{1, 5, casMask, 1 << 58, 1<<64 - 1} {
		if cas := tok.Cas(0, 0); cas != Foreign {
			t.Errorf("%d passes as version %d", tok, cas)
		}
	}
	if Token(0).Cas(3, 1) != 0 {
		t.Error("0 does not stay 0")
	}
	if tok := Make(0, 0, casMask+1); tok != 0 {
		t.Errorf("a version that does not fit became %d", tok)
	}
}

func TestSourcesNeverMeet(t *testing.T) {
	const start = epoch + 60_000_000
	seen := map[uint64]bool{}
	a, b := NewSource(0), NewSource(Sources-1)
	now, made := int64(start), 0
	for i := range 100_000 {
		last := a.last
		for _, v := range []uint64{a.Next(now), b.Next(now)} {
			if seen[v] || v>>63 != 0 {
				t.Fatalf("version %d at step %d", v, i)
			}
			seen[v] = true
			made++
		}
		if a.last <= last {
			t.Fatalf("a version went back at step %d", i)
		}
		now += rand.Int64N(5) - 1 // clocks step back, too
	}
	// Both are restarted a second later.
	a, b, now = NewSource(0), NewSource(Sources-1), start+1_000_000
	for range 1000 {
		for _, v := range []uint64{a.Next(now), b.Next(now)} {
			if seen[v] {
				t.Fatalf("version %d was made before the restart", v)
			}
		}
	}
	if made != 200_000 {
		t.Errorf("%d versions", made)
	}
}

func TestVersionsCompare(t *testing.T) {
	for _, c := range []struct {
		s    string
		want Version
		ok   bool
		e    bool
	}{
		{"1.6.18", V(1, 6, 18), true, false},
		{"1.6.26", V(1, 6, 26), true, false},
		{"1.6.27", V(1, 6, 27), true, true},
		{"1.6.45-5-gabcdef", V(1, 6, 45), true, true},
		{"1.6.9_beta2", V(1, 6, 9), true, false},
		{"1.10", V(1, 10, 0), true, true},
		{"2", V(2, 0, 0), true, true},
		{"", 0, false, false},
		{"one", 0, false, false},
		{"1..2", 0, false, false},
		{"1.99999999", 0, false, false},
	} {
		got, ok := ParseVersion(c.s)
		if got != c.want || ok != c.ok || got.SupportsE() != c.e {
			t.Errorf("%q is %x, %v, E %v", c.s, got, ok, got.SupportsE())
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"1.6.18", "1.6.45-5-gabc", "1.6", "", "1.6.", "1.6.1048576"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := ParseVersion(s)
		if !ok {
			return
		}
		canon := strconv.FormatUint(uint64(v>>40), 10) + "." + strconv.FormatUint(uint64(v>>20&0xfffff), 10) + "." + strconv.FormatUint(uint64(v&0xfffff), 10)
		if again, ok := ParseVersion(canon); !ok || again != v {
			t.Fatalf("%q is %q is %x, not %x", s, canon, again, v)
		}
	})
}
