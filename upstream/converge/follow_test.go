package converge

import (
	"strings"
	"testing"

	"magent/upstream/repair"
)

// conversations is what is sent, to whom, for every answer. L is the lead, F the
// follower; + stands for the client's value, * for the lead's, ! for an answer that
// will not come. A line that begins with - says what is done about a repair that is
// needed, or what a Step says beside what is sent.
var conversations = []struct {
	name, line, answer string
	write              Write // Line, Request, Answer and At aside
	talk               string
	want               repair.Outcome
}{
	{"a set that nobody disturbs", "set k 7 60 5", "HD c5", Write{}, `
			F ms k 5 F7 T60 c +            HD c8
			- held
			L mg k c t u k                 HD c5 t60`, repair.Copied},
	{"no second look", "set k 7 60 5", "HD c5", Write{Once: true}, `
			F ms k 5 F7 T60 c +            HD c8`, repair.Copied},
	{"no second look at a delete", "delete k", "DELETED", Write{Once: true}, `
			F md k                         HD`, repair.Copied},
	{"no second look, and the follower has no room", "set k 7 60 5", "HD c5", Write{Once: true}, `
			F ms k 5 F7 T60 c +            SERVER_ERROR out of memory
			- needed: unknown fate
			- begin
			F mg k c u k                   EN
			L mg k v f t c h u k           EN`, repair.Absent},
	{"a version that the lead was given", "ms k 5 T9", "HD c72057594037927936", Write{Explicit: true}, `
			F ms k 5 T9 E72057594037927936 c + HD c72057594037927936
			- held
			L mg k c t u k                 HD c72057594037927936 t9`, repair.Copied},
	{"a version that the lead has counted", "ms k 5 T9", "HD c5", Write{Explicit: true}, `
			F ms k 5 T9 c +                HD c8
			- held
			L mg k c t u k                 HD c5 t9`, repair.Copied},
	{"a lost race, begun at once", "set k 0 0 5", "HD c5", Write{}, `
			F ms k 5 F0 T0 c +             HD c8
			- held
			L mg k c t u k                 HD c6 t-1
			- needed: lost race
			- begin
			L mg k v f t c h u k           VA 5 f0 t-1 c6 h0
			F ms k 5 F0 T0 C8 c *          HD c9
			- held
			L mg k c t u k                 HD c6 t-1`, repair.Copied},
	{"a lost race, begun for others too", "set k 0 0 5", "HD c5", Write{}, `
			F ms k 5 F0 T0 c +             HD c8
			- held
			L mg k c t u k                 HD c6 t-1
			- needed: lost race
			- begin late
			F mg k c u k                   HD c9
			L mg k v f t c h u k           EN
			F md k C9                      HD`, repair.Absent},
	{"a relative step whose follower was asked before", "incr k 1", "10", Write{Asked: true, Version: 4}, `
			- needed: relative write
			- begin
			L mg k v f t c h u k           VA 2 f0 t-1 c6 h0
			F ms k 2 F0 T0 C4 c *          HD c9
			- held
			L mg k c t u k                 HD c6 t-1`, repair.Copied},
	{"a cas whose follower was asked before", "cas k 7 60 5 99", "HD c5", Write{Asked: true, Version: 4}, `
			F ms k 5 F7 T60 C4 c +         HD c8
			- held
			L mg k c t u k                 HD c5 t60`, repair.Copied},
	{"a cas as the lead got it", "ms k 5 F7 T60 C99 c", "HD c5", Write{Asked: true, Version: 4, Once: true}, `
			F ms k 5 F7 T60 C4 c +         HD c8`, repair.Copied},
	{"a cas, the versions made by proxies", "ms k 5 T9 C72057594037927930 E72057594037927936 c", "HD c72057594037927936",
		Write{Asked: true, Version: 72057594037927931, Explicit: true}, `
			F ms k 5 T9 C72057594037927931 E72057594037927936 c + HD c72057594037927936
			- held
			L mg k c t u k                 HD c72057594037927936 t9`, repair.Copied},
	{"a cas whose follower was not asked", "cas k 7 60 5 99", "HD c5", Write{}, `
			- needed: relative write
			- begin
			F mg k c u k                   HD c4
			L mg k v f t c h u k           VA 5 f7 t60 c5 h0
			F ms k 5 F7 T60 C4 c *         HD c8
			- held
			L mg k c t u k                 HD c5 t60`, repair.Copied},
	{"a cas whose follower had nothing", "ms k 5 C99 c", "HD c5", Write{Asked: true}, `
			- needed: relative write
			- begin
			L mg k v f t c h u k           VA 5 f0 t-1 c5 h0
			F ms k 5 F0 T0 ME c *          HD c8
			L mg k c t u k                 HD c5 t-1`, repair.Copied},
	{"a cas that another was faster than", "cas k 7 60 5 99", "HD c5", Write{Asked: true, Version: 4}, `
			F ms k 5 F7 T60 C4 c +         EX c0
			- needed: lost race
			- begin
			F mg k c u k                   HD c8
			L mg k v f t c h u k           VA 5 f7 t60 c5 h0
			F ms k 5 F7 T60 C8 c *         HD c9
			- held
			L mg k c t u k                 HD c5 t60`, repair.Copied},
	{"a cas that another was faster than, who has lost the lead", "cas k 7 60 5 99", "HD c5", Write{Asked: true, Version: 4}, `
			F ms k 5 F7 T60 C4 c +         NF c0
			- needed: lost race
			- begin
			F mg k c u k                   EN
			L mg k v f t c h u k           !`, repair.LeadLost},
	{"an add", "add k 7 60 5", "HD c5", Write{Asked: true, Version: 4}, `
			F ms k 5 F7 T60 ME c +         HD c8
			- held
			L mg k c t u k                 HD c5 t60`, repair.Copied},
	{"an add as the lead got it, refused", "ms k 5 F7 ME E72057594037927936 c", "HD c72057594037927936", Write{Explicit: true}, `
			F ms k 5 F7 ME E72057594037927936 c + NS c0
			- needed: lost race
			- begin
			F mg k c u k                   HD c8
			L mg k v f t c h u k           !`, repair.LeadLost},
	{"an add and a condition", "ms k 5 Me C99 c", "HD c5", Write{Asked: true, Version: 4, Once: true}, `
			F ms k 5 C4 c +                HD c8`, repair.Copied},
	{"a delete on a condition", "md k C99", "HD", Write{Asked: true, Version: 4}, `
			- needed: relative write
			- begin
			L mg k v f t c h u k           EN
			F md k C4                      HD`, repair.Absent},
	{"no room in the queue", "set k 0 0 5", "HD c5", Write{}, `
			F ms k 5 F0 T0 c +             HD c8
			- held
			L mg k c t u k                 HD c6 t-1
			- needed: lost race
			- drop
			F md k                         HD`, repair.Dropped},
	{"a W goes back, whoever else repairs", "set k 0 0 5", "HD c5", Write{}, `
			F ms k 5 F0 T0 c +             HD c8
			- held
			L mg k c t u k                 HD c6 t-1 X W
			- needed alone: lost race
			- begin late
			L md k I C6                    HD
			F md k                         HD`, repair.Dropped},
	{"a W goes back, even without room", "touch k 50", "TOUCHED", Write{}, `
			F mg k T50                     HD
			- held
			L mg k c t u k                 HD c6 t50 X W
			- needed alone: ttl differs
			- drop
			L md k I C6                    HD
			F md k                         HD`, repair.Dropped},
	{"stale, and the W is another's", "set k 0 0 5", "HD c5", Write{}, `
			F ms k 5 F0 T0 c +             HD c8
			- held
			L mg k c t u k                 HD c6 t-1 X Z
			- needed: lost race
			- begin
			F md k                         HD`, repair.Dropped},
	{"another lead", "append k 0 0 5", "STORED", Write{}, `
			- needed: relative write
			- begin
			F mg k c u k                   HD c7
			L mg k v f t c h u k           !
			- again
			F mg k c u k                   HD c7
			L mg k v f t c h u k           VA 5 f0 t-1 c3 h0
			F ms k 5 F0 T0 C7 c *          HD c8
			- held
			L mg k c t u k                 HD c3 t-1`, repair.Copied},
	{"the lead is lost before the look", "set k 0 0 5", "HD c5", Write{}, `
			F ms k 5 F0 T0 c +             HD c8
			- held
			L mg k c t u k                 !
			- again
			F mg k c u k                   HD c8
			L mg k v f t c h u k           EN
			F md k C8                      HD`, repair.Absent},
}

func TestFollows(t *testing.T) {
	for _, c := range conversations {
		var f Follow
		w := c.write
		w.Line, w.Request, w.Answer, w.At = []byte(c.line+"\r\n"), parsed(c.line), []byte(c.answer+"\r\n"), simNow
		dst, s := f.Start(nil, EffectOf(w.Request, w.Answer), &w)
		for line := range strings.Lines(strings.TrimSpace(c.talk)) {
			line = strings.TrimSpace(line)
			switch ask, answer := splitTalk(line); line {
			case "- held":
				if !s.Held {
					t.Errorf("%s: the follower does not hold when %q is sent", c.name, dst)
				}
			case "- begin", "- begin late":
				dst, s = f.Begin(nil, simNow, line == "- begin")
			case "- drop":
				dst, s = f.Drop(nil)
			case "- again":
				if s.Outcome != repair.LeadLost {
					t.Errorf("%s: %v before another lead", c.name, s.Outcome)
				}
				dst, s = f.Again(nil, simNow)
			default:
				if got := said(&f, dst, s); got != ask {
					t.Fatalf("%s: %q, want %q", c.name, got, ask)
				}
				switch answer {
				case "":
				case "!":
					dst, s = f.Lost(nil)
				default:
					dst, s = f.Answer(nil, []byte(answer+"\r\n"), simNow)
				}
			}
		}
		if s.Outcome != c.want || len(dst) > 0 {
			t.Errorf("%s: ended as %v with %q, want %v", c.name, s.Outcome, dst, c.want)
		}
	}
}

// splitTalk takes a line of a conversation apart at what looks like an answer.
func splitTalk(line string) (ask, answer string) {
	for _, word := range []string{" HD", " VA ", " EN", " NS", " EX", " NF", " SERVER_ERROR", " !"} {
		if i := strings.Index(line, word); i >= 0 {
			return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i:])
		}
	}
	return line, ""
}

func said(f *Follow, dst []byte, s repair.Step) string {
	switch {
	case s.Outcome == repair.Needed && f.Alone():
		return "- needed alone: " + f.Cause().String()
	case s.Outcome == repair.Needed:
		return "- needed: " + f.Cause().String()
	case s.Outcome != repair.Running:
		return s.Outcome.String()
	}
	who := map[repair.Side]string{repair.Lead: "L ", repair.Follower: "F "}[s.To]
	behind := map[repair.Value]string{repair.NoValue: "", repair.ClientValue: " +", repair.LeadValue: " *"}[s.Value]
	return who + strings.TrimSuffix(string(dst), "\r\n") + behind
}

func TestNoRepairBeginsUnneeded(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("nobody minds")
		}
	}()
	var f Follow
	f.Begin(nil, simNow, true)
}
