package refill

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0)

// A conversation: what the source (s) and the target (t) are sent (<) and answer (>),
// with | for a line's end; "+1s" lets time pass, "s!" loses the source.
var conversations = []struct {
	name, key string
	want      string // outcomes, as in told
	talk      string
}{
	{"copied", "k", "copied", `
		s< mg k v f t c h u k|
		s> VA 5 f7 t-1 c7 h0 kk|value|
		t< ms k 5 F7 T0 ME c O0|value|
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c7 t-1 kk|`},
	{"a TTL of 30 days", "k", "copied", `
		s< mg k v f t c h u k|
		s> VA 0 f0 t2592000 c7 h0 kk||
		t< ms k 0 F0 T2592000 ME c O0||
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c7 t2592000 kk|`},
	{"a longer one is a time of the clock, which is to be known", "k", "copied", knownClocks(0) + `
		s< mg k v f t c h u k|
		s> VA 0 f4294967295 t2592001 c7 h0 kk||
		t< ms k 0 F4294967295 T1702592003 ME c O3||
		t> HD c4 O3|
		s< mg k c t u k|
		s> HD c7 t2592001 kk|
		s< stats|
		s> STAT time 1700000002|END|`},
	{"the target's clock is another", "k", "copied", knownClocks(60) + `
		s< mg k v f t c h u k|
		s> VA 1 f0 t3000000 c7 h0 kk|x|
		t< ms k 1 F0 T1703000062 ME c O3|x|
		t> HD c4 O3|
		s< mg k c t u k|
		s> HD c7 t3000000 kk|
		s< stats|
		s> STAT time 1700000002|END|`},
	{"a tick of the source is late", "k", "copied, 1 again", knownClocks(0) + `
		s< mg k v f t c h u k|
		+1s
		s> VA 1 f0 t3000000 c7 h0 kk|x|
		s< stats|
		t< stats|ms k 1 F0 T1703000003 ME c O4|x|
		s> STAT time 1700000002|END|
		t> STAT time 1700000003|END|HD c4 O4|
		s< mg k c t u k|
		s> HD c7 t3000000 kk|
		s< stats|
		s> STAT time 1700000002|END|
		s< mg k v f t c h u k|
		+1s
		s> VA 1 f0 t2999998 c7 h0 kk|x|
		s< stats|
		t< stats|ms k 1 F0 T1703000002 C4 c|x|
		s> STAT time 1700000004|END|
		t> STAT time 1700000004|END|HD c5|
		s< mg k c t u k|
		s> HD c7 t2999998 kk|
		s< stats|
		s> STAT time 1700000004|END|`},
	{"a tick of the source comes at the look", "k", "copied, 1 again", knownClocks(0) + `
		s< mg k v f t c h u k|
		s> VA 1 f0 t3000000 c7 h0 kk|x|
		t< ms k 1 F0 T1703000002 ME c O3|x|
		t> HD c4 O3|
		s< mg k c t u k|
		s> HD c7 t3000000 kk|
		s< stats|
		+1s
		s> STAT time 1700000003|END|
		s< mg k v f t c h u k|
		s> VA 1 f0 t2999999 c7 h0 kk|x|
		t< stats|ms k 1 F0 T1703000002 C4 c|x|
		t> STAT time 1700000003|END|HD c5|
		s< stats|mg k c t u k|
		s> STAT time 1700000003|END|HD c7 t2999999 kk|
		s< stats|
		s> STAT time 1700000003|END|`},
	{"a clock that does not tell is ours", "k", "copied", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t3000000 c7 h0 kk|x|
		s< stats|
		t< stats|
		s> END|
		t> END|
		+1s
		s< stats|
		t< stats|
		s> END|
		t> END|
		+1s
		s< stats|
		t< stats|
		s> END|
		t> END|
		+10ms
		s< mg k v f t c h u k|
		s> VA 1 f0 t2999998 c7 h0 kk|x|
		t< ms k 1 F0 T1703000000 ME c O3|x|
		t> HD c4 O3|
		s< mg k c t u k|
		s> HD c7 t2999998 kk|
		s< stats|
		s> END|`},
	{"the source is lost while the clocks are not known", "k", "1 left", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t3000000 c7 h0 kk|x|
		s< stats|
		t< stats|
		s!
		t> END|`},
	{"the target is lost while the source is asked for its time", "k", "copied", knownClocks(0) + `
		s< mg k v f t c h u k|
		s> VA 1 f0 t3000000 c7 h0 kk|x|
		t< ms k 1 F0 T1703000002 ME c O3|x|
		t> HD c4 O3|
		s< mg k c t u k|
		s> HD c7 t3000000 kk|
		s< stats|
		t!`},
	{"the target has it", "k", "present", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t9 c7 h0 kk|x|
		t< ms k 1 F0 T9 ME c O0|x|
		t> NS c0 O0|`},
	{"the source has it not", "k", "gone", `
		s< mg k v f t c h u k|
		s> EN kk|`},
	{"it has just expired", "k", "gone", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t0 c7 h0 kk|x|`},
	{"deleted meanwhile", "k", "withdrawn", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s> EN|
		t< md k C4|
		t> HD|`},
	{"deleted meanwhile, at the target too", "k", "withdrawn", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s> EN|
		t< md k C4|
		t> NF|`},
	{"deleted meanwhile, and set anew", "k", "present", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s> EN|
		t< md k C4|
		t> EX|`},
	{"changed meanwhile", "k", "copied, 1 again", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c9 t-1 kk|
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c9 h0 kk|y|
		t< ms k 1 F0 T0 C4 c|y|
		t> HD c6|
		s< mg k c t u k|
		s> HD c9 t-1 kk|`},
	{"touched meanwhile", "k", "copied, 1 again", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t100 c7 h0 kk|x|
		t< ms k 1 F0 T100 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c7 t500 kk|
		s< mg k v f t c h u k|
		s> VA 1 f0 t500 c7 h0 kk|x|
		t< ms k 1 F0 T500 C4 c|x|
		t> HD c6|
		s< mg k c t u k|
		s> HD c7 t500 kk|`},
	{"touched by a second", "k", "copied, 1 again", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t100 c7 h0 kk|x|
		t< ms k 1 F0 T100 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c7 t101 kk|
		s< mg k v f t c h u k|
		s> VA 1 f0 t101 c7 h0 kk|x|
		t< ms k 1 F0 T101 C4 c|x|
		t> HD c6|
		s< mg k c t u k|
		s> HD c7 t100 kk|`},
	{"the target stood still", "k", "copied, 1 again", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t100 c7 h0 kk|x|
		t< ms k 1 F0 T100 ME c O0|x|
		+2s
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c7 t98 kk|
		s< mg k v f t c h u k|
		s> VA 1 f0 t98 c7 h0 kk|x|
		t< ms k 1 F0 T98 C4 c|x|
		t> HD c6|
		s< mg k c t u k|
		s> HD c7 t98 kk|`},
	{"the target stood still, but nothing expires", "k", "copied", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		+2s
		t> HD c4 O0|
		s< mg k c t u k|
		s> HD c7 t-1 kk|`},
	{"stale, and the W is given back", "k", "unfit", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk X W|x|
		s< md k I C7|
		s> HD|
		t< md k|
		t> NF|`},
	{"no room at the target", "k", "failed", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> SERVER_ERROR out of memory storing object|
		t< md k|
		t> NF|`},
	{"too large for the target", "k", "failed", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> SERVER_ERROR object too large for cache|
		t< md k|
		t> NF|`},
	{"a key of odd bytes", "a b", "copied", `
		s< mg YSBi b v f t c h u OYSBi|
		s> VA 1 b f0 t-1 c7 h0 OYSBi|x|
		t< ms YSBi 1 b F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg YSBi b c t u OYSBi|
		s> HD b c7 t-1 OYSBi|`},
	{"a key that was written in base64 without need", "key", "copied", `
		s< mg key v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 ka2V5 b|x|
		s< mg a2V5 b v f t c h u Oa2V5|
		s> VA 1 f0 t-1 c7 h0 Oa2V5|x|
		t< ms a2V5 1 b F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg a2V5 b c t u Oa2V5|
		s> HD c7 t-1 Oa2V5|`},
	{"a key that no line can name", strings.Repeat("a b", 83), "failed", ``},
	{"the source is lost before it was read", "k", "1 left", `
		s< mg k v f t c h u k|
		s!`},
	{"the source is lost behind the add", "k", "1 left", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		s!
		t> HD c4 O0|
		t< md k C4|
		t> HD|`},
	{"the source is lost at the second look", "k", "1 left", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s!
		t< md k C4|
		t> HD|`},
	{"both are lost", "k", "1 left, 1 in doubt", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		s!
		t< md k C4|
		t!`},
	{"the target is lost while the source is read", "k", "1 left", `
		s< mg k v f t c h u k|
		t!`},
	{"the target is lost with the add", "k", "1 left, 1 in doubt", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t!`},
	{"the target is lost before the second look", "k", "1 left, 1 in doubt", `
		s< mg k v f t c h u k|
		s> VA 1 f0 t-1 c7 h0 kk|x|
		t< ms k 1 F0 T0 ME c O0|x|
		t> HD c4 O0|
		s< mg k c t u k|
		t!`},
}

// knownClocks is how a conversation about a TTL above a month begins, with a target whose
// clock is seconds ahead: two ticks of both clocks are looked at first.
func knownClocks(ahead int) string {
	talk := `
		s< mg k v f t c h u k|
		s> VA 1 f0 t3000002 c7 h0 kk|x|`
	for i := range 3 {
		talk += fmt.Sprintf(`
		s< stats|
		t< stats|
		s> STAT pid 1|STAT time %d|STAT threads 1|END|
		t> STAT pid 1|STAT time %d|STAT threads 1|END|
		+%ds`, 1_700_000_000+i, 1_700_000_000+i+ahead, 1-i/2)
	}
	return talk
}

// told is what a Copier has to say of its keys.
func told(c *Copier) string {
	var say []string
	for o, n := range c.Counts().Ended {
		switch {
		case n == 1:
			say = append(say, Outcome(o).String())
		case n > 1:
			say = append(say, fmt.Sprintf("%d %v", n, Outcome(o)))
		}
	}
	rest, doubt := c.Unfinished()
	for _, s := range []struct {
		n    int
		what string
	}{{c.InFlight(), "in flight"}, {int(c.Counts().Retried), "again"}, {len(rest), "left"}, {len(doubt), "in doubt"}} {
		if s.n > 0 {
			say = append(say, fmt.Sprintf("%d %s", s.n, s.what))
		}
	}
	return strings.Join(say, ", ")
}

func wire(s string) string { return strings.ReplaceAll(s, "|", "\r\n") }

// talk has a Copier go through a conversation; answer gives it what a side says.
func talk(t *testing.T, c *Copier, lines string, answer func(s Side, b []byte, now time.Time) error) {
	t.Helper()
	now := epoch
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		side := Source
		if line[0] == 't' {
			side = Target
		}
		switch verb := line[1]; {
		case line[0] == '+':
			d, err := time.ParseDuration(line[1:])
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(d)
			c.Wake(now)
		case verb == '!':
			c.Lose(side, now)
		case verb == '<':
			if got, want := string(c.Requests(side, nil)), wire(line[3:]); got != want {
				t.Fatalf("sent to the %s:\n%q, want\n%q", sides[side], got, want)
			}
		case verb == '>':
			if err := answer(side, []byte(wire(line[3:])), now); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	for side := range sides {
		if got := c.Requests(Side(side), nil); len(got) > 0 {
			t.Errorf("at last the %s is sent %q", sides[side], got)
		}
	}
}

func TestConversations(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			copier := NewCopier(Limits{})
			copier.Add(Key{Name: []byte(c.key)}, epoch)
			talk(t, copier, c.talk, copier.Answer)
			if got := told(copier); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestAnswersInPieces has every answer come byte by byte, and so that each piece
// ends in the next answer.
func TestAnswersInPieces(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			copier := NewCopier(Limits{})
			copier.Add(Key{Name: []byte(c.key)}, epoch)
			talk(t, copier, c.talk, func(s Side, b []byte, now time.Time) error {
				for i := range b {
					if err := copier.Answer(s, b[i:i+1], now); err != nil {
						return err
					}
				}
				return nil
			})
			if got := told(copier); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var ask, answers, store string
	for i := range 200 {
		value, flag, end := strings.Repeat("v", rng.IntN(900)), "q", ""
		if i%batchKeys == batchKeys-1 || i == 199 {
			flag, end = "c", "mn|"
		}
		ask += fmt.Sprintf("mg k%d v f t c h u k|", i)
		answers += fmt.Sprintf("VA %d f1 t-1 c%d h0 kk%d|%s|", len(value), i+1, i, value)
		store += fmt.Sprintf("ms k%d %d F1 T0 ME %s O%d|%s|%s", i, len(value), flag, i, value, end)
	}
	for range 50 {
		copier := NewCopier(Limits{Keys: 200})
		for i := range 200 {
			copier.Add(Key{Name: fmt.Append(nil, "k", i)}, epoch)
		}
		talk(t, copier, "s< "+ask+"\ns> "+answers+"\nt< "+store, func(s Side, b []byte, now time.Time) error {
			for len(b) > 0 {
				n := min(len(b), 1+rng.IntN(5000))
				if err := copier.Answer(s, b[:n], now); err != nil {
					return err
				}
				b = b[n:]
			}
			return nil
		})
	}
}

// TestOutOfStep: each of these is no answer to the request that is sent.
func TestOutOfStep(t *testing.T) {
	upToAdd := "s< mg k v f t c h u k|\ns> VA 1 f0 t-1 c7 h0 kk|x|\nt< ms k 1 F0 T0 ME c O0|x|\n"
	upToLook := upToAdd + "t> HD c4 O0|\ns< mg k c t u k|\n"
	odd := "s< mg YSBi b v f t c h u OYSBi|\n"
	for _, c := range []struct {
		key, before string
		side        Side
		answer      string
	}{
		{"k", "", Target, "HD c1|"}, // unasked
		{"k", "s< mg k v f t c h u k|\n", Source, "VA 1 f0 t-1 c7 h0 kother|x|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "VA 1 f0 t-1 c7 h0|x|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "VA 1 f0 t-1 c7 h0 kk|xyz|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "HD c7 t-1 kk|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "EN kother|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "NS|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "NF|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "ERROR|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "CLIENT_ERROR bad command line format|"},
		{"k", "s< mg k v f t c h u k|\n", Source, "nonsense|"},
		{"k", "s< mg k v f t c h u k|\n", Source, strings.Repeat("x", 10_000)},
		{"k", upToAdd, Target, "VA 1|x|"},
		{"k", upToAdd, Target, "EN|"},
		{"k", upToAdd, Target, "HD c4|"},
		{"k", upToAdd, Target, "HD c4 O1|"},
		{"k", upToAdd, Target, "NS c0 O5000|"},
		{"k", upToAdd, Target, "MN|"},
		{"k", upToAdd, Target, "CLIENT_ERROR bad data chunk|"},
		{"k", upToLook, Source, "VA 1 c7 t-1 kk|x|"},
		{"k", upToLook, Source, "HD c7 t-1 kj|"},
		{"a b", odd, Source, "VA 1 f0 t-1 c7 h0 OZZZZ|x|"},
		{"a b", odd, Source, "VA 1 f0 t-1 c7 h0|x|"},
		{"a b", odd, Source, "EN OZZZZ|"},
	} {
		copier := NewCopier(Limits{})
		copier.Add(Key{Name: []byte(c.key)}, epoch)
		if c.before == "" {
			copier.Requests(Source, nil)
		}
		talk(t, copier, c.before, copier.Answer)
		if err := copier.Answer(c.side, []byte(wire(c.answer)), epoch); err == nil {
			t.Errorf("%q is taken after %q", c.answer, c.before)
		}
	}
}

// TestAHotKeyFails: what is touched all the time is not copied for ever.
func TestAHotKeyFails(t *testing.T) {
	copier := NewCopier(Limits{})
	copier.Add(Key{Name: []byte("k")}, epoch)
	for cas := 1; copier.InFlight() > 0; cas++ {
		if cas > 20 {
			t.Fatal("it does not end")
		}
		for side := range sides {
			request, answer := string(copier.Requests(Side(side), nil)), ""
			switch {
			case strings.Contains(request, " v "):
				answer = fmt.Sprintf("VA 1 f0 t%d c7 h0 kk|x|", 100*cas)
			case strings.HasPrefix(request, "mg"):
				answer = fmt.Sprintf("HD c7 t%d kk|", 100*cas)
			case strings.HasPrefix(request, "ms"):
				answer = fmt.Sprintf("HD c%d O0|", cas)
			case strings.HasPrefix(request, "md"):
				answer = "HD|"
			default:
				continue
			}
			if err := copier.Answer(Side(side), []byte(wire(answer)), epoch); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := told(copier); got != "failed, 5 again" {
		t.Error(got)
	}
}

// TestRoom bounds what is in flight by keys and by bytes.
func TestRoom(t *testing.T) {
	fill := func(c *Copier, size int) (n int) {
		for ; c.Room(); n++ {
			c.Add(Key{Name: fmt.Append(nil, "k", n), Size: size}, epoch)
		}
		return n
	}
	for _, c := range []struct {
		limits Limits
		size   int
		want   int
	}{
		{Limits{}, 100, defaultKeys},
		{Limits{}, 1 << 20, 2},
		{Limits{}, 3 << 20, 1},
		{Limits{Keys: 7}, 0, 7},
		{Limits{Bytes: 1000}, 300, 4},
	} {
		if got := fill(NewCopier(c.limits), c.size); got != c.want {
			t.Errorf("%+v: %d keys of %d bytes, want %d", c.limits, got, c.size, c.want)
		}
	}
	// A value that was not known to be large counts as soon as it is read.
	copier := NewCopier(Limits{Bytes: 1000})
	copier.Add(Key{Name: []byte("k")}, epoch)
	if err := copier.Answer(Source, []byte("VA 1000 f0 t-1 c7 h0 kk\r\n"+strings.Repeat("x", 1000)+"\r\n"), epoch); err != nil {
		t.Fatal(err)
	}
	if copier.Room() {
		t.Error("there is room beside a value of 1000 bytes")
	}
}

// TestLongestOddKey: 187 bytes in base64 are 250 at the most.
func TestLongestOddKey(t *testing.T) {
	for n, want := range map[int]string{186: "1 in flight", 187: "failed"} {
		name := []byte(" " + strings.Repeat("x", n-1))
		copier := NewCopier(Limits{})
		copier.Add(Key{Name: name}, epoch)
		if got := told(copier); got != want {
			t.Errorf("%d bytes, %d in base64: %s, want %s", n, base64.StdEncoding.EncodedLen(n), got, want)
		}
	}
}
