package converge

import (
	"bytes"
	"testing"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream/repair"
)

func parsed(line string) *codec.Request {
	var req codec.Request
	text.Parse([]byte(line+"\r\n"), &req)
	return &req
}

func TestEffects(t *testing.T) {
	for _, c := range []struct {
		line, answer string
		want         Effect
	}{
		{"set k 0 0 1", "HD c5", Set},
		{"set k 0 0 1", "HD", Copy},
		{"set k 0 0 1", "SERVER_ERROR out of memory storing object", Delete},
		{"set k 0 0 1", "CLIENT_ERROR bad data chunk", Nothing},
		{"add k 0 0 1", "HD c5", Set},
		{"add k 0 0 1", "NS c0", Nothing},
		{"replace k 0 0 1", "NS c0", Nothing},
		{"cas k 0 0 1 7", "HD c5", Set},
		{"cas k 0 0 1 7", "EX c0", Nothing},
		{"cas k 0 0 1 7", "NF c0", Nothing},
		{"append k 0 0 1", "STORED", Copy},
		{"append k 0 0 1", "NOT_STORED", Nothing},
		{"prepend k 0 0 1", "HD c5", Copy},
		{"incr k 1", "10", Copy},
		{"incr k 1", "VA 2", Copy},
		{"decr k 1", "NOT_FOUND", Nothing},
		{"incr k 1", "CLIENT_ERROR cannot increment or decrement non-numeric value", Nothing},
		{"delete k", "DELETED", Delete},
		{"delete k", "NOT_FOUND", Delete},
		{"touch k 5", "TOUCHED", Touch},
		{"touch k 5", "NOT_FOUND", Nothing},
		{"gat 5 k", "VALUE k 0 1", Touch},
		{"gat 5 k", "END", Nothing},
		{"get k", "VALUE k 0 1", Nothing},
		{"ms k 1 c", "HD c5", Set},
		{"ms k 1 MA c", "HD c5", Copy},
		{"ms k 1 MP", "HD", Copy},
		{"ms k 1 MA", "SERVER_ERROR out of memory storing object", Delete},
		{"ms k 1 C5 I c", "HD c6", Copy},
		{"ms k 1 C5 c", "EX c0", Nothing},
		{"md k", "HD", Delete},
		{"md k", "NF", Delete},
		{"md k C5", "HD", Copy},
		{"md k C5", "NF", Nothing},
		{"md k C5", "EX", Nothing},
		{"md k C5 I", "HD", Forget},
		{"md k C5 I", "NF", Nothing},
		{"md k I T5", "HD", Forget},
		{"md k I", "NF", Delete},
		{"md k x", "HD", Forget},
		{"ma k v", "VA 1", Copy},
		{"ma k", "HD", Copy},
		{"ma k", "NF", Nothing},
		{"ma k", "EX", Nothing},
		{"mg k v", "VA 1", Nothing},
		{"mg k v T5", "VA 1", Touch},
		{"mg k T5", "EN", Nothing},
		{"mg k v N5", "VA 0 W", Copy},
		{"mg k v N5 T5", "VA 0 Z", Touch},
		{"mg k v OW N5", "VA 0 OW Z", Nothing},
	} {
		if got := EffectOf(parsed(c.line), []byte(c.answer+"\r\n")); got != c.want {
			t.Errorf("%s, answered %s: %v, want %v", c.line, c.answer, got, c.want)
		}
	}
}

func TestLeadLines(t *testing.T) {
	for _, c := range []struct {
		line string
		lead Lead
		want string
	}{
		{"set k 7 60 5", Lead{}, "ms k 5 F7 T60 c"},
		{"set k 7 60 5 noreply", Lead{Explicit: 9}, "ms k 5 F7 T60 E9 c"},
		{"add k 7 0 5", Lead{}, "ms k 5 F7 T0 ME c"},
		{"replace k 7 0 5", Lead{}, "ms k 5 F7 T0 MR c"},
		{"cas k 7 0 5 123", Lead{Cas: 4}, "ms k 5 F7 T0 C4 c"},
		{"append k 0 0 5", Lead{}, "append k 0 0 5"},
		{"append k 0 0 5", Lead{Explicit: 9}, "ms k 5 MA E9"},
		{"incr k 5", Lead{}, "incr k 5"},
		{"decr k 5 noreply", Lead{Explicit: 9}, "decr k 5"},
		{"touch k 5", Lead{Explicit: 9}, "touch k 5"},
		{"ms k 5", Lead{}, "ms k 5 c"},
		{"ms k 5 c", Lead{}, "ms k 5 c"},
		{"ms k  5 T9 q C77 Oq", Lead{Cas: 4}, "ms k 5 T9 C4 Oq c"},
		{"ms Ck 5 b", Lead{Explicit: 9}, "ms Ck 5 b E9 c"},
		{"ms k 5 E3 c", Lead{Explicit: 9}, "ms k 5 E3 c"},
		{"md k C77", Lead{Cas: 4, Explicit: 9}, "md k C4"},
		{"md k I q", Lead{Explicit: 9}, "md k I E9"},
		{"ma k v C77", Lead{Cas: 4}, "ma k v C4"},
		{"mg k v", Lead{Explicit: 9}, "mg k v"},
	} {
		got := string(AppendLead(nil, []byte(c.line+"\r\n"), parsed(c.line), c.lead))
		if got != c.want+"\r\n" {
			t.Errorf("%s: the lead gets %q, want %q", c.line, got, c.want)
		}
	}
}

func TestClientReplies(t *testing.T) {
	for _, c := range []struct{ line, answer, want string }{
		{"set k 0 0 1", "HD c5\r\n", "STORED\r\n"},
		{"cas k 0 0 1 5", "EX c0\r\n", "EXISTS\r\n"},
		{"incr k 1", "VA 2\r\n", ""},
		{"incr k 1", "10\r\n", "10\r\n"},
		{"touch k 1", "TOUCHED\r\n", "TOUCHED\r\n"},
		{"set k 0 0 1", "SERVER_ERROR out of memory storing object\r\n", "SERVER_ERROR out of memory storing object\r\n"},
		{"ms k 1 Oc5", "HD Oc5 c7\r\n", "HD Oc5\r\n"},
		{"ms k 1 Oc5", "HD c7 Oc5\r\n", "HD Oc5\r\n"},
		{"ms k 1 c k", "HD c7 kc\r\n", "HD c42 kc\r\n"},
		{"mg k v c", "VA 1 c7\r\n", "VA 1 c42\r\n"},
		{"mg k", "EN\r\n", "EN\r\n"},
		{"ma k c", "CLIENT_ERROR cannot increment\r\n", "CLIENT_ERROR cannot increment\r\n"},
	} {
		if got := string(AppendReply(nil, []byte(c.answer), parsed(c.line), 42)); got != c.want {
			t.Errorf("%s, answered %q: the client gets %q, want %q", c.line, c.answer, got, c.want)
		}
	}
}

func TestGuardedSteps(t *testing.T) {
	for line, want := range map[string]string{
		"incr k 5":       "ma k v D5 MI C7\r\n",
		"decr k 5":       "ma k v D5 MD C7\r\n",
		"append k 0 0 3": "ms k 3 MA C7\r\n",
		"ms k 3 MP b":    "ms k 3 MP b C7\r\n",
		"ma k v N5":      "ma k v N5 C7\r\n",
		"ma k v C3":      "",
		"ms k 3":         "",
		"set k 0 0 3":    "",
	} {
		got, ok := AppendGuarded(nil, []byte(line+"\r\n"), parsed(line), 7)
		if string(got) != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", line, got, ok, want)
		}
		if _, ok := AppendGuarded(nil, []byte(line+"\r\n"), parsed(line), 0); ok {
			t.Errorf("%s is guarded by no version", line)
		}
	}
}

func TestWhatWritesDependOn(t *testing.T) {
	for line, want := range map[string][2]bool{ // the item that is there, its version
		"set k 0 0 1": {}, "add k 0 0 1": {}, "cas k 0 0 1 5": {false, true}, "delete k": {}, "touch k 5": {}, "incr k 1": {true, false},
		"prepend k 0 0 1": {true, false}, "ms k 1": {}, "ms k 1 C5": {false, true}, "ms k 1 Mp C5": {true, true}, "ms k 1 ME OC5": {},
		"md k": {}, "md k C5": {false, true}, "ma k": {true, false}, "ma k C5": {true, true}, "mg k c": {},
	} {
		req := parsed(line)
		if got := [2]bool{Relative(req), Conditional(req)}; got != want {
			t.Errorf("%s: relative, conditional %v, want %v", line, got, want)
		}
	}
}

func TestTTLOf(t *testing.T) {
	for exptime, want := range map[string]int64{
		"": repair.Forever, "0": repair.Forever, "-1": Gone, "-0": repair.Forever, "+60": 60, "2592000": 2592000,
		"1700000100": 100, "1600000000": Gone, "2592001": Gone, "99999999999999999999": 1<<40 - simNow,
	} {
		if got := TTLOf([]byte(exptime), simNow); got != want {
			t.Errorf("exptime %q is a TTL of %d, want %d", exptime, got, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	set, gone, del, touch := Look{Cas: 5, TTL: 100, At: simNow}, Look{Cas: 5, TTL: Gone}, Look{}, Look{TTL: 100, Touched: true, At: simNow}
	for _, c := range []struct {
		look   Look
		answer string
		want   Verdict
	}{
		{set, "HD c5 t100", Verdict{Settled: true}},
		{set, "HD c5 t99", Verdict{Settled: true}},
		{set, "HD c6 t100", Verdict{Begin: repair.Held(8)}},
		{set, "HD c5 t500", Verdict{Begin: repair.TTL(500)}},
		{set, "HD c5 t-1", Verdict{Begin: repair.TTL(repair.Forever)}},
		{set, "EN", Verdict{Begin: repair.Held(8)}},
		{set, "SERVER_ERROR", Verdict{Begin: repair.Held(8)}},
		{set, "HD c6 t100 X W", Verdict{Begin: repair.Stale(6)}},
		{set, "HD c6 t100 Z X", Verdict{Begin: repair.Stale(0)}},
		{gone, "EN", Verdict{Settled: true}},
		{gone, "HD c6 t-1", Verdict{Begin: repair.Held(8)}},
		{del, "EN", Verdict{Settled: true}},
		{del, "HD c6 t-1", Verdict{Begin: repair.Held(8)}},
		{touch, "HD c77 t100", Verdict{Settled: true}},
		{touch, "HD c77 t9", Verdict{Begin: repair.TTL(9)}},
		{touch, "EN", Verdict{Begin: repair.Held(8)}},
	} {
		a := repair.ParseReply([]byte(c.answer))
		if got := c.look.Judge(&a, 8, simNow); got != c.want {
			t.Errorf("%+v, %s: %+v, want %+v", c.look, c.answer, got, c.want)
		}
	}
}

// FuzzAppendLead: whatever a client writes, its lead gets one line about the same key.
func FuzzAppendLead(f *testing.F) {
	for _, s := range []string{"set k 0 0 1 noreply", "cas k 1 2 3 4", "ms k 5 q C5 T0", "md k q", "ma k  v D5", "incr k 5", "ms k 010 b", "append k 0 0 2"} {
		f.Add([]byte(s+"\r\n"), uint64(0))
		f.Add([]byte(s+"\n"), uint64(7))
	}
	f.Fuzz(func(t *testing.T, line []byte, explicit uint64) {
		n := bytes.IndexByte(line, '\n')
		if n < 0 || bytes.IndexByte(line, 0) >= 0 {
			return
		}
		line = line[:n+1]
		var req, sent codec.Request
		text.Parse(line, &req)
		if req.Op.Class() != codec.ClassStore && req.Op.Class() != codec.ClassWrite || req.Op.MultiKey() {
			return
		}
		out := AppendLead(nil, line, &req, Lead{Cas: 3, Explicit: explicit})
		if bytes.IndexByte(out, '\n') != len(out)-1 {
			t.Fatalf("%q becomes %q", line, out)
		}
		text.Parse(out, &sent)
		if sent.Op == codec.OpNone || !bytes.Equal(sent.Key.In(out), req.Key.In(line)) || sent.Value != req.Value {
			t.Fatalf("%q becomes %q", line, out)
		}
		if sent.Op != codec.OpMetaSet && sent.Op.Class() == codec.ClassStore && sent.Op != req.Op {
			t.Fatalf("%q becomes %q", line, out)
		}
	})
}
