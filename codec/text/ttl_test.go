package text

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/codectest"
)

// The time of these tests, and a cap that counts from now.
const (
	testNow  = 1_800_000_000
	testMost = 3600
)

var ttlLines = []struct{ line, want string }{ // an empty want: the line stays
	{"set k 0 0 1", "set k 0 3600 1"},
	{"set k 0 3600 1", ""},
	{"set k 0 3601 1 noreply", "set k 0 3600 1 noreply"},
	{"add k 7 2592000 1", "add k 7 3600 1"},
	{"replace k 0 2592001 1", ""}, // long ago
	{"replace k 0 1800003600 1", ""},
	{"cas k 0 1800003601 1 99", "cas k 0 3600 1 99"},
	{"set k 0 -1 1", ""},
	{"set k 0 +0 1", "set k 0 3600 1"},
	{"set k 0 4294967296 1", "set k 0 3600 1"}, // 0 to a node
	{"set k 0 -4294967296 1", "set k 0 -1 1"},  // the same
	{"append k 0 0 1", ""},
	{"prepend k 0 0 1", ""},
	{"touch k 0", "touch k 3600"},
	{"touch k 9999 noreply", "touch k 3600 noreply"},
	{"touch k 10", ""},
	{"gat 0 k l", "gat 3600 k l"},
	{"gats  9999 k", "gats  3600 k"},
	{"get k", ""},
	{"incr k 0", ""},
	{"delete k 0", ""},
	{"flush_all 0", ""},
	{"mg k t v", ""},
	{"mg k T0 v", "mg k T3600 v"},
	{"mg k v  N9999 T5", "mg k v N3600 T5"},
	{"mg T0 v", ""}, // a key
	{"ms k 1", "ms k 1 T3600"},
	{"ms k 1 T0", "ms k 1 T3600"},
	{"ms k 1 T60 I", ""},
	{"ms k 1 T", ""},  // a node refuses it
	{"ms k 1 Tx", ""}, // the same
	{"ms k 1 T0 T0", "ms k 1 T3600 T3600"},
	{"ms k 1 q ME", "ms k 1 q ME T3600"},
	{"ms k 1 MA", ""},
	{"ms k 1 Mp", ""},
	{"ms k 1 MA N0", "ms k 1 MA N3600"},
	{"ma k N0 J1", "ma k N3600 J1"},
	{"ma k T9999", "ma k T3600"},
	{"ma k", ""},
	{"md k I T0", "md k I T3600"},
	{"md k", ""},
	{"me k", ""},
}

func TestLongLivesAreLowered(t *testing.T) {
	for _, c := range ttlLines {
		line := []byte(c.line + "\r\n")
		want := ""
		if c.want != "" {
			want = c.want + "\r\n"
		}
		var req codec.Request
		Parse(line, &req)
		got, low := AppendLowered(nil, line, &req, testMost, testNow)
		if string(got) != want || low != (want != "") {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
		if low && !Timed(req.Op) {
			t.Errorf("%q has an exptime, says AppendLowered, and Timed says that it has none", line)
		}
	}
}

// A cap of more than 30 days is told as a Unix time, and never as one that nodes cannot
// keep.
func TestLongCapsAreTimes(t *testing.T) {
	for _, c := range []struct {
		exptime   string
		most, now int64
		want      string
	}{
		{"0", maxDelta, testNow, "2592000"},
		{"0", maxDelta + 1, testNow, "1802592001"},
		{"2592000", maxDelta + 1, testNow, ""},
		{"1802592001", maxDelta + 1, testNow, ""},
		{"1802592002", maxDelta + 1, testNow, "1802592001"},
		{"0", math.MaxInt32, testNow, "2147483647"},
	} {
		line := []byte("touch k " + c.exptime + "\r\n")
		var req codec.Request
		Parse(line, &req)
		got, low := AppendLowered(nil, line, &req, c.most, c.now)
		if want := "touch k " + c.want + "\r\n"; low != (c.want != "") || low && string(got) != want {
			t.Errorf("%q, of %d at most, becomes %q, want %q", line, c.most, got, want)
		}
	}
}

// livesFor is for how long an item lives that a node was told of with this exptime; ok is
// false for ever, or if it is no number.
func livesFor(exptime string, now int64) (seconds int64, ok bool) {
	wide, ok := codectest.Int(exptime)
	n := int64(int32(wide))
	switch {
	case !ok || n == 0:
		return 0, false
	case n < 0:
		return 0, true
	case n > 30*24*60*60:
		return max(0, n-now), true
	}
	return n, true
}

// exptimes is every exptime of the request that line is, as a reader of words finds them;
// forever is that there would have to be one, and is not.
func exptimes(line []byte, v codectest.Verdict) (all []string, forever bool) {
	switch v.Op {
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpCas:
		return []string{v.Expiry}, false
	case codec.OpTouch, codec.OpGat, codec.OpGats:
		return []string{v.Arg}, false
	case codec.OpMetaGet, codec.OpMetaSet, codec.OpMetaDelete, codec.OpMetaArith:
	default:
		return nil, false
	}
	text, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), "\x00")
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' })[2:]
	forever = v.Op == codec.OpMetaSet && !strings.ContainsRune("aApP", rune(max(v.Mode, ' ')))
	for i, w := range words {
		if (w[0] == 'T' || w[0] == 'N') && (i > 0 || v.Op != codec.OpMetaSet) {
			all = append(all, w[1:])
			forever = forever && w[0] != 'T'
		}
	}
	return all, forever
}

// FuzzLowered: what is lowered asks for the same but for its times, of which none is
// beyond the cap; and what has none beyond it stays.
func FuzzLowered(f *testing.F) {
	for _, c := range ttlLines {
		f.Add([]byte(c.line), uint32(testMost))
		f.Add([]byte(c.line), uint32(maxDelta+testMost))
	}
	f.Fuzz(func(t *testing.T, in []byte, most uint32) {
		head, _, _ := bytes.Cut(in, []byte("\n"))
		line := append(bytes.Clone(head), '\n')
		limit := int64(most%(1<<28)) + 1
		var req, again codec.Request
		Parse(line, &req)
		out, low := AppendLowered([]byte("before"), line, &req, limit, testNow)
		if !bytes.HasPrefix(out, []byte("before")) || !low && len(out) != len("before") {
			t.Fatalf("%q spoils what was there: %q", line, out)
		}
		if out = out[len("before"):]; !low {
			out = line
		}
		Parse(out, &again)
		v, was := codectest.Request(out), codectest.Request(line)
		if low && again.Op == codec.OpNone { // one word more than there may be
			if n := len(bytes.Fields(line)); n < maxMetaTokens {
				t.Fatalf("%q became %q, which is refused", line, out)
			}
			return
		}
		if req.Op != again.Op || req.Value != again.Value || req.Quiet() != again.Quiet() || req.Mode != again.Mode ||
			req.Meta|codec.Letter('T') != again.Meta|codec.Letter('T') || strings.Join(v.Keys, " ") != strings.Join(was.Keys, " ") {
			t.Fatalf("%q became %q", line, out)
		}
		all, forever := exptimes(out, v)
		if forever {
			t.Fatalf("%q, from %q, makes an item that lives for ever", out, line)
		}
		for _, e := range all {
			if _, ok := codectest.Int(e); !ok {
				continue
			}
			if n, ok := livesFor(e, testNow); !ok || n > limit {
				t.Fatalf("%q, from %q, makes an item that lives for %d s, or for ever; the most is %d", out, line, n, limit)
			}
		}
		before, forever := exptimes(line, was)
		for _, e := range before {
			wide, isNumber := codectest.Int(e)
			n, ok := livesFor(e, testNow)
			forever = forever || isNumber && (!ok || n > limit || wide != int64(int32(wide)))
		}
		if low != forever {
			t.Fatalf("%q became %q: lowered is %v", line, strconv.Quote(string(out)), low)
		}
	})
}
