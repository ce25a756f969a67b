package repair

import (
	"strings"
	"testing"
	"testing/quick"

	"magent/codec"
)

const now = int64(1_700_000_000)

// conversations is what is sent, to whom, for every answer that matters. L is the
// lead, F the follower; + stands for the lead's value, ! for an answer that will
// not come.
var conversations = []struct {
	name  string
	begin Begin
	opt   Options
	talk  string
	want  Outcome
}{
	{"over an older copy", Ask(), Options{}, `
			F mg k c u k                   HD c7
			L mg k v f t c h u k           VA 5 f3 t60 c9 h0
			F ms k 5 F3 T60 C7 c +         HD c8
			L mg k c t u k                 HD c9 t60`, Copied},
	{"where nothing was, and the lead moved meanwhile", Ask(), Options{}, `
			F mg k c u k                   EN
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 ME c +          HD c8
			L mg k c t u k                 HD c10 t-1
			L mg k v f t c h u k           VA 6 f0 t-1 c10 h0
			F ms k 6 F0 T0 C8 c +          HD c11
			L mg k c t u k                 HD c12 t-1`, Copied},
	{"where nothing was, and it is deleted meanwhile", Ask(), Options{}, `
			F mg k c u k                   EN
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 ME c +          HD c8
			L mg k c t u k                 EN
			F md k C8                      HD`, Absent},
	{"a touch meanwhile", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t100 c9 h0
			F ms k 5 F0 T100 C7 c +        HD c8
			L mg k c t u k                 HD c9 t500
			L mg k v f t c h u k           VA 5 f0 t500 c9 h0
			F ms k 5 F0 T500 C8 c +        HD c9
			L mg k c t u k                 HD c9 t499`, Copied},
	{"refused twice", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          EX c0
			F mg k c u k                   HD c12
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C12 c +         EX c0
			L mg k c t u k                 HD c10 t-1`, Overtaken},
	{"refused twice, the second time by somebody who has lost the lead", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          EX c0
			F mg k c u k                   HD c12
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C12 c +         EX c0
			L mg k c t u k                 !`, LeadLost},
	{"refused twice, and stale", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          EX c0
			F mg k c u k                   HD c12
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C12 c +         EX c0
			L mg k c t u k                 HD c10 t-1 X W
			L md k I C10                   HD
			F md k                         HD`, Dropped},
	{"an old version does not count as refused", Before(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          EX c0
			F mg k c u k                   EN
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 ME c +          NS c0
			F mg k c u k                   HD c13
			L mg k v f t c h u k           EN
			F md k C13                     EX
			L mg k c t u k                 EN`, Overtaken},
	{"an old version of nothing says nothing of now", Before(0), Options{}, `
			L mg k v f t c h u k           EN
			F mg k c u k                   HD c7
			L mg k v f t c h u k           EN
			F md k C7                      HD`, Absent},
	{"base64, more than 30 days, explicit versions", Ask(), Options{Base64: true, Explicit: true}, `
			F mg k b c u Ok                EN
			L mg k b v f t c h u Ok        VA 0 f4294967295 t2592001 c72057594037927936 h1
			F ms k 0 b F4294967295 T1702592001 ME E72057594037927936 c + HD c72057594037927936
			L mg k b c t u Ok              HD c72057594037927936 t2592000`, Copied},
	{"a version that the lead has counted stays there", Held(7), Options{Explicit: true}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          HD c8
			L mg k c t u k                 HD c9 t-1`, Copied},
	{"no room for a repair", Drop(), Options{Base64: true}, `
			F md k b                       NF`, Dropped},
	{"no room, and the follower is lost", Drop(), Options{}, `
			F md k                         !`, Debt},
	{"the copy went to make room", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          NF c0
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 ME c +          HD c8
			L mg k c t u k                 HD c9 t-1`, Copied},
	{"refill finds a newer item", Cold(), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 ME c +          NS c0`, Overtaken},
	{"refill finds nothing to copy", Cold(), Options{}, `
			L mg k v f t c h u k           EN`, Absent},
	{"stale, and the W is ours", Ask(), Options{}, `
			F mg k c u k                   HD c7
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0 X W
			L md k I C9                    HD
			F md k                         HD`, Dropped},
	{"a look was handed the W", Stale(9), Options{}, `
			L md k I C9                    EX
			F md k                         NF`, Dropped},
	{"stale when verified", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          HD c8
			L mg k c t u k                 HD c10 t-1 Z X
			F md k                         HD`, Dropped},
	{"a placeholder", Ask(), Options{}, `
			F mg k c u k                   HD c7
			L mg k v f t c h u k           VA 0 f0 t30 c9 h0 Z
			F md k                         HD`, Dropped},
	{"being made anew, with a value", Held(7), Options{}, `
			L mg k v f t c h u k           VA 1 f0 t30 c9 h0 Z
			F ms k 1 F0 T30 C7 c +         HD c8
			L mg k c t u k                 HD c9 t30 Z`, Copied},
	{"expires this moment", Ask(), Options{}, `
			F mg k c u k                   HD c7
			L mg k v f t c h u k           VA 5 f0 t4294967295 c9 h0
			F md k C7                      HD`, Absent},
	{"no room at the follower", Held(7), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 C7 c +          SERVER_ERROR out of memory storing object
			F md k                         NF`, Dropped},
	{"it cannot even delete", Held(7), Options{}, `
			L mg k v f t c h u k           SERVER_ERROR refcount overflow during fetch
			F md k                         SERVER_ERROR`, Debt},
	{"the follower is lost", Ask(), Options{}, `
			F mg k c u k                   !`, Debt},
	{"the lead is lost", Ask(), Options{}, `
			F mg k c u k                   HD c7
			L mg k v f t c h u k           !`, LeadLost},
	{"the lead is lost behind an add", Cold(), Options{}, `
			L mg k v f t c h u k           VA 5 f0 t-1 c9 h0
			F ms k 5 F0 T0 ME c +          HD c8
			L mg k c t u k                 !
			F md k C8                      EX`, LeadLost},
	{"the TTL alone", TTL(100), Options{}, `
			F mg k T100                    HD
			L mg k c t u k                 HD c9 t300
			F mg k T300                    HD
			L mg k c t u k                 HD c10 t299`, Copied},
	{"the TTL of what is gone", TTL(-1), Options{}, `
			F mg k T0                      HD
			L mg k c t u k                 EN
			F mg k c u k                   HD c3
			L mg k v f t c h u k           EN
			F md k C3                      HD`, Absent},
}

func TestConversations(t *testing.T) {
	for _, c := range conversations {
		var r Repair
		r.Reset([]byte("k"), c.opt)
		dst, s := r.Start(nil, c.begin, now)
		for line := range strings.Lines(strings.TrimSpace(c.talk)) {
			line = strings.TrimSpace(line)
			ask, answer := split(line)
			if got := said(dst, s); got != ask {
				t.Fatalf("%s: sent %q, want %q", c.name, got, ask)
			}
			if answer == "!" {
				dst, s = r.Lost(nil)
			} else {
				dst, s = r.Answer(nil, []byte(answer+"\r\n"), now)
			}
		}
		if s.Outcome != c.want || len(dst) > 0 {
			t.Errorf("%s: ended as %v with %q, want %v", c.name, s.Outcome, dst, c.want)
		}
	}
}

// split takes a line of a conversation apart at what looks like an answer.
func split(line string) (ask, answer string) {
	for _, word := range []string{" HD", " VA ", " EN", " NS", " EX", " NF", " SERVER_ERROR", " !"} {
		if i := strings.Index(line, word); i >= 0 {
			return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i:])
		}
	}
	return line, ""
}

func said(dst []byte, s Step) string {
	if s.Outcome != Running {
		return s.Outcome.String()
	}
	who := "L "
	if s.To == Follower {
		who = "F "
	}
	line := who + strings.TrimSuffix(string(dst), "\r\n")
	if s.Value != NoValue {
		line += " +"
	}
	return line
}

func TestEndlessChangeIsDropped(t *testing.T) {
	var r Repair
	r.Reset([]byte("k"), Options{})
	dst, s := r.Start(nil, Held(1), now)
	for n := int64(1); s.Outcome == Running; n++ {
		answer := "HD c9 t" + string(rune('0'+n%10)) + "00"
		switch {
		case s.Op == codec.OpMetaDelete:
			answer = "HD"
		case s.To == Follower:
			answer = "HD c8"
		case strings.Contains(string(dst), " v "):
			answer = "VA 1 f0 c9 t999" // no TTL that comes is this one
		}
		if dst, s = r.Answer(nil, []byte(answer), now); n > 50 {
			t.Fatal("it does not end")
		}
	}
	if s.Outcome != Dropped {
		t.Errorf("ended as %v", s.Outcome)
	}
}

func TestTTLsAreKept(t *testing.T) {
	// What a node makes of the T that it is sent must be what the lead said.
	exact := func(seconds uint32) bool {
		ttl := int64(seconds%(60*60*24*365)) + 1
		got := string(appendTTL(nil, ttl, now))
		n := int64(0)
		for _, c := range got[2:] {
			n = n*10 + int64(c-'0')
		}
		if n > relative {
			n -= now
		}
		return n == ttl
	}
	if err := quick.Check(exact, nil); err != nil {
		t.Error(err)
	}
	if got := string(appendTTL(nil, Forever, now)); got != " T0" {
		t.Errorf("no TTL is sent as %q", got)
	}
	if got := string(appendTTL(nil, 1<<31, now)); got != " T2147483647" {
		t.Errorf("a TTL beyond 32 bits is sent as %q", got)
	}
}

func TestSameTTL(t *testing.T) {
	for _, c := range []struct {
		then, is, elapsed int64
		same              bool
	}{
		{Forever, Forever, 0, true}, {Forever, 10, 0, false}, {10, Forever, 0, false},
		{100, 100, 0, true}, {100, 98, 0, true}, {100, 97, 0, false}, {100, 102, 0, true}, {100, 103, 0, false},
		{100, 90, 8, true}, {100, 89, 8, false}, {100, 100, -5, true},
	} {
		if SameTTL(c.then, c.is, c.elapsed) != c.same {
			t.Errorf("%d, then %d after %d s: not %v", c.then, c.is, c.elapsed, c.same)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	for _, s := range []string{"HD c5\r\n", "VA 5 f1 t-1 c18446744073709551615 h0 W X Z\r\n", "EN\r\n", "NS c0", "EX", "NF\r\n",
		"SERVER_ERROR out of memory\r\n", "HD kkey b O1 t4294967295", "VA 2147483646", "HD c18446744073709551616", "12\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r := ParseReply(line)
		// The naive twin: split at spaces.
		words := strings.FieldsFunc(string(line), func(c rune) bool { return c == ' ' || c == '\r' || c == '\n' })
		if r.Code == CodeError {
			if r != (Reply{}) {
				t.Fatalf("%q is no answer and says %+v", line, r)
			}
			return
		}
		codes := map[string]Code{"HD": CodeHD, "VA": CodeVA, "EN": CodeEN, "NS": CodeNS, "EX": CodeEX, "NF": CodeNF}
		if len(words) == 0 || codes[words[0]] != r.Code {
			t.Fatalf("%q is read as code %d", line, r.Code)
		}
		for i, m := range []string{"W", "X", "Z"} {
			has := false
			for _, w := range words[1:] {
				has = has || strings.HasPrefix(w, m)
			}
			if r.Has(1<<i) != has {
				t.Fatalf("%q: mark %s is %v", line, m, !has)
			}
		}
		if r.TTL < Forever || r.TTL > 1<<31 {
			t.Fatalf("%q: TTL %d", line, r.TTL)
		}
	})
}
