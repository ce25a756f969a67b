package token

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/quick"
)

// counted makes a version that a node may have counted of any number.
func counted(v uint64) uint64 { return max(v&casMask, 1) }

// throughClient is what comes back from a client that reads v as a signed number.
func throughClient(t *testing.T, v uint64) uint64 {
	n, err := strconv.ParseInt(strconv.FormatUint(v, 10), 10, 64)
	if err != nil {
		t.Errorf("a client cannot read %d", v)
	}
	return uint64(n)
}

func check(t *testing.T, property any) {
	t.Helper()
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

func TestVersionsComeBack(t *testing.T) {
	check(t, func(copy uint8, life, cas uint64) bool {
		c, cas := int(copy%MaxCopies), counted(cas)
		return Decode(throughClient(t, Encode(c, life, cas)), c, life) == cas
	})
	check(t, func(id uint16, now uint64, a, b uint8, lifeA, lifeB uint64) bool {
		s := NewSource(int(id))
		v := s.Next(int64(now % end2041))
		return Sourced(v) && Decode(throughClient(t, Encode(int(a%MaxCopies), lifeA, v)), int(b%MaxCopies), lifeB) == v
	})
	if Encode(3, 1, 0) != 0 || Decode(0, 3, 1) != 0 {
		t.Error("0 does not stay 0")
	}
}

func TestNothingOfAnotherNodePasses(t *testing.T) {
	check(t, func(a, b uint8, lifeA, lifeB, cas uint64) bool {
		ca, cb := int(a%MaxCopies), int(b%MaxCopies)
		same := ca == cb && lifeA&lifeMask == lifeB&lifeMask
		return same || Decode(Encode(ca, lifeA, counted(cas)), cb, lifeB) == Foreign
	})
	// Whatever a client makes up, a node is asked for nothing but what it has been told.
	check(t, func(v uint64, copy uint8, life uint64) bool {
		c := int(copy % MaxCopies)
		cas := Decode(v, c, life)
		return cas == Foreign || Encode(c, life, cas) == v
	})
	for _, v := range []uint64{1, 5, casMask, 1 << 48, sourcedMin - 1, 1 << 59, 1<<59 | casMask + 1, 9<<59 | 1, unfit, 1 << 63, Foreign} {
		if cas := Decode(v, 0, 0); cas != Foreign {
			t.Errorf("%d passes as version %d", v, cas)
		}
	}
}

func TestWhatDoesNotFitMatchesNothing(t *testing.T) {
	for _, cas := range []uint64{casMask + 1, sourcedMin - 1, sourcedMax + 1, 1 << 63, Foreign} {
		v := throughClient(t, Encode(2, 7, cas))
		for copy := range MaxCopies {
			if got := Decode(v, copy, 7); got != Foreign {
				t.Errorf("version %d passes as %d at copy %d", cas, got, copy)
			}
		}
	}
}

// end2041 is 2041-11-01T00:00:00Z in Unix microseconds.
const end2041 = 2_266_876_800 * 1_000_000

func TestSourcesNeverMeet(t *testing.T) {
	const start = 1_767_225_600 * 1_000_000 // 2026 begins
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
