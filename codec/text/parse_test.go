package text

import (
	"bytes"
	"strings"
	"testing"

	"magent/codec"
)

const (
	quiet = codec.FlagQuiet
	clean = codec.FlagClean
)

var (
	key250 = strings.Repeat("k", MaxKey)
	key251 = key250 + "k"
)

// lines is what Parse makes of every command and of every mistake, and what a node
// is then sent; an empty sent is the line itself, and has to be clean.
var lines = []struct {
	line  string
	op    codec.Op
	fault codec.Fault
	flags codec.Flag
	key   string
	value uint32
	sent  string
}{
	// Retrieval. A line of many keys is sent key by key, unless it is clean.
	{line: "get k\r\n", op: codec.OpGet, flags: clean, key: "k"},
	{line: "get " + key250 + "\r\n", op: codec.OpGet, flags: clean, key: key250},
	{line: "get " + key251 + "\r\n", fault: codec.FaultFormat},
	{line: "get a " + key251 + " b\r\n", fault: codec.FaultFormat},
	{line: "get " + key251 + " b\r\n", fault: codec.FaultFormat},
	{line: "get k\n", op: codec.OpGet, key: "k"},
	{line: "get  k\r\n", op: codec.OpGet, key: "k"},
	{line: " get k\r\n", op: codec.OpGet, key: "k"},
	{line: "get k \r\n", op: codec.OpGet, key: "k"},
	{line: "get k\x00 x\r\n", op: codec.OpGet, key: "k"},
	{line: "get k\tx\r\n", op: codec.OpGet, flags: clean, key: "k\tx"},
	{line: "get k\r\r\n", op: codec.OpGet, flags: clean, key: "k\r"},
	{line: "get \x00k\r\n", fault: codec.FaultError},
	{line: "get a b c\r\n", op: codec.OpGet, flags: clean, key: "a"},
	{line: "get" + strings.Repeat(" k", 30) + "\r\n", op: codec.OpGet, flags: clean, key: "k"},
	{line: "get noreply\r\n", op: codec.OpGet, flags: clean, key: "noreply"},
	{line: "gets k\r\n", op: codec.OpGets, flags: clean, key: "k"},
	{line: "bget k\r\n", op: codec.OpGet, key: "k"},
	{line: "gat 100 k\r\n", op: codec.OpGat, flags: clean, key: "k"},
	{line: "gats -1 k l\r\n", op: codec.OpGats, flags: clean, key: "k"},
	{line: "gat 100\r\n", op: codec.OpGat, flags: clean},
	{line: "gat 100 \r\n", op: codec.OpGat},
	{line: "gat 1" + strings.Repeat(" k", 30) + "\r\n", op: codec.OpGat, flags: clean, key: "k"},
	{line: "gat x k\r\n", fault: codec.FaultExptime},
	{line: "gat k\r\n", fault: codec.FaultExptime},
	{line: "gat 1 " + key251 + "\r\n", fault: codec.FaultFormat},
	{line: "get\r\n", fault: codec.FaultError},
	{line: "get \r\n", fault: codec.FaultError},
	{line: "gets\r\n", fault: codec.FaultError},
	{line: "gat\r\n", fault: codec.FaultError},
	{line: "GET k\r\n", fault: codec.FaultError},
	{line: "getx k\r\n", fault: codec.FaultError},

	// Storage.
	{line: "set k 0 0 1\r\n", op: codec.OpSet, flags: clean, key: "k", value: 1},
	{line: "add k 1 2 3\r\n", op: codec.OpAdd, flags: clean, key: "k", value: 3},
	{line: "replace k 1 2 3\r\n", op: codec.OpReplace, flags: clean, key: "k", value: 3},
	{line: "append k 1 2 3\r\n", op: codec.OpAppend, flags: clean, key: "k", value: 3},
	{line: "prepend k 1 2 3\r\n", op: codec.OpPrepend, flags: clean, key: "k", value: 3},
	{line: "cas k 1 2 3 4\r\n", op: codec.OpCas, flags: clean, key: "k", value: 3},
	{line: "cas k 1 2 3 4 noreply\r\n", op: codec.OpCas, flags: quiet, key: "k", value: 3, sent: "cas k 1 2 3 4\r\n"},
	{line: "set k 0 0 1 noreply\r\n", op: codec.OpSet, flags: quiet, key: "k", value: 1, sent: "set k 0 0 1\r\n"},
	{line: "set k 0 0 1 NOREPLY\r\n", op: codec.OpSet, key: "k", value: 1, sent: "set k 0 0 1\r\n"},
	{line: "set k 0 0 1 noreply \r\n", op: codec.OpSet, flags: quiet, key: "k", value: 1, sent: "set k 0 0 1\r\n"},
	{line: "set  k 0  0 1 \n", op: codec.OpSet, key: "k", value: 1, sent: "set k 0 0 1\r\n"},
	{line: "set noreply 0 0 1\r\n", op: codec.OpSet, flags: clean, key: "noreply", value: 1},
	{line: "set k 0 0 1\x00 9\r\n", op: codec.OpSet, key: "k", value: 1, sent: "set k 0 0 1\r\n"},
	{line: "set k 4294967296 -1 0\r\n", op: codec.OpSet, flags: clean, key: "k"},
	{line: "set k 18446744073709551615 0 0\r\n", op: codec.OpSet, flags: clean, key: "k"},
	{line: "set k -18446744073709551615 0 0\r\n", op: codec.OpSet, flags: clean, key: "k"},
	{line: "set k 0 9223372036854775807 0\r\n", op: codec.OpSet, flags: clean, key: "k"},
	{line: "set k +5 +5 +5\r\n", op: codec.OpSet, key: "k", value: 5, sent: "set k +5 +5 5\r\n"},
	{line: "set k \t0 0\t \v5\f\r\n", op: codec.OpSet, key: "k", value: 5, sent: "set k \t0 0\t 5\r\n"},
	{line: "set k 0 0 5\tjunk\r\n", op: codec.OpSet, key: "k", value: 5, sent: "set k 0 0 5\r\n"},
	{line: "set k 0 0 007\r\n", op: codec.OpSet, key: "k", value: 7, sent: "set k 0 0 7\r\n"},
	{line: "set k 0 0 -0\r\n", op: codec.OpSet, key: "k", sent: "set k 0 0 0\r\n"},
	{line: "set k 0 0 4294967297\r\n", op: codec.OpSet, key: "k", value: 1, sent: "set k 0 0 1\r\n"},
	{line: "set k 0 0 -4294967291\r\n", op: codec.OpSet, key: "k", value: 5, sent: "set k 0 0 5\r\n"},
	{line: "set k 0 0 2147483645\r\n", op: codec.OpSet, flags: clean, key: "k", value: 2147483645},
	{line: "set k 0 0 2147483646\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 4294967295\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 -1\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 9223372036854775808\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 99999999999999999999999\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 1x\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 0x1\r\n", fault: codec.FaultFormat},
	{line: "set k -1 0 1\r\n", fault: codec.FaultFormat},
	{line: "set k 18446744073709551616 0 1\r\n", fault: codec.FaultFormat},
	{line: "set k 0 x 1\r\n", fault: codec.FaultFormat},
	{line: "set k 0 0 noreply\r\n", fault: codec.FaultFormat, flags: quiet},
	{line: "set k 0 x 1 noreply\r\n", fault: codec.FaultFormat, flags: quiet},
	{line: "set " + key251 + " 0 0 1\r\n", fault: codec.FaultFormat},
	{line: "cas k 0 0 1 x\r\n", fault: codec.FaultFormat},
	{line: "cas k 0 0 1 noreply\r\n", fault: codec.FaultFormat, flags: quiet},
	{line: "cas k 0 0 1\r\n", fault: codec.FaultError},
	{line: "cas k 0 0 1 2 3 4\r\n", fault: codec.FaultError},
	{line: "set k 0 0\r\n", fault: codec.FaultError},
	{line: "set k 0 0 1 2 noreply\r\n", fault: codec.FaultError},
	{line: "set\r\n", fault: codec.FaultError},

	// Counters, touch and delete.
	{line: "incr k 1\r\n", op: codec.OpIncr, flags: clean, key: "k"},
	{line: "decr k 18446744073709551615\r\n", op: codec.OpDecr, flags: clean, key: "k"},
	{line: "incr k 1 noreply\r\n", op: codec.OpIncr, flags: quiet, key: "k", sent: "incr k 1\r\n"},
	{line: "incr k 1 2\r\n", op: codec.OpIncr, key: "k", sent: "incr k 1\r\n"},
	{line: "incr k -1\r\n", fault: codec.FaultDelta},
	{line: "incr k x\r\n", fault: codec.FaultDelta},
	{line: "decr k noreply\r\n", fault: codec.FaultDelta, flags: quiet},
	{line: "incr " + key251 + " 1\r\n", fault: codec.FaultFormat},
	{line: "incr k\r\n", fault: codec.FaultError},
	{line: "decr k 1 2 3\r\n", fault: codec.FaultError},
	{line: "touch k -1\r\n", op: codec.OpTouch, flags: clean, key: "k"},
	{line: "touch k 5 noreply\r\n", op: codec.OpTouch, flags: quiet, key: "k", sent: "touch k 5\r\n"},
	{line: "touch k 5 6\r\n", op: codec.OpTouch, key: "k", sent: "touch k 5\r\n"},
	{line: "touch k x\r\n", fault: codec.FaultExptime},
	{line: "touch " + key251 + " 1\r\n", fault: codec.FaultFormat},
	{line: "touch k\r\n", fault: codec.FaultError},
	{line: "touch k 1 2 3\r\n", fault: codec.FaultError},
	{line: "delete k\r\n", op: codec.OpDelete, flags: clean, key: "k"},
	{line: "delete noreply\r\n", op: codec.OpDelete, flags: clean, key: "noreply"},
	{line: "delete k 0\r\n", op: codec.OpDelete, key: "k", sent: "delete k\r\n"},
	{line: "delete k noreply\r\n", op: codec.OpDelete, flags: quiet, key: "k", sent: "delete k\r\n"},
	{line: "delete k 0 noreply\r\n", op: codec.OpDelete, flags: quiet, key: "k", sent: "delete k\r\n"},
	{line: "delete k 00\r\n", fault: codec.FaultDeleteUsage},
	{line: "delete k 5\r\n", fault: codec.FaultDeleteUsage},
	{line: "delete k 5 noreply\r\n", fault: codec.FaultDeleteUsage, flags: quiet},
	{line: "delete k noreply 0\r\n", fault: codec.FaultDeleteUsage},
	{line: "delete " + key251 + "\r\n", fault: codec.FaultFormat},
	{line: "delete\r\n", fault: codec.FaultError},
	{line: "delete k 0 noreply x\r\n", fault: codec.FaultError},

	// Meta.
	{line: "mg k\r\n", op: codec.OpMetaGet, flags: clean, key: "k"},
	{line: "mg k s v t f c h l k u O1 N5 R3 T9 E7 C8 Lpath Ppath\r\n", op: codec.OpMetaGet, flags: clean, key: "k"},
	{line: "mg k a b c d e f g h i j l m n o p r s\r\n", op: codec.OpMetaGet, flags: clean, key: "k"},
	{line: "mg k a b c d e f g h i j l m n o p r s t\r\n", fault: codec.FaultFlagsTooLong},
	{line: "mg k v q\r\n", op: codec.OpMetaGet, flags: quiet, key: "k", sent: "mg k v\r\n"},
	{line: "mg k qq v\r\n", op: codec.OpMetaGet, flags: quiet, key: "k", sent: "mg k v\r\n"},
	{line: "mg k q v q\r\n", op: codec.OpMetaGet, flags: clean, key: "k"},
	{line: "mg k q  v q\r\n", op: codec.OpMetaGet, key: "k", sent: "mg k q v q\r\n"},
	{line: "mg Zm9v b\r\n", op: codec.OpMetaGet, flags: clean, key: "Zm9v"},
	{line: "mg !!! b q\r\n", op: codec.OpMetaGet, flags: quiet, key: "!!!", sent: "mg !!! b\r\n"},
	{line: "mg k \x7f 1 \xff\r\n", op: codec.OpMetaGet, flags: clean, key: "k"},
	{line: "mg  k \x7f q\r\n", op: codec.OpMetaGet, flags: quiet, key: "k", sent: "mg k \x7f\r\n"},
	{line: "mg " + key251 + "\r\n", fault: codec.FaultFormat},
	{line: "mg\r\n", fault: codec.FaultError},
	{line: "ms k 5\r\n", op: codec.OpMetaSet, flags: clean, key: "k", value: 5},
	{line: "ms k 5 T30 F7 c I ME C9 E8\r\n", op: codec.OpMetaSet, flags: clean, key: "k", value: 5},
	{line: "ms k +5 q\r\n", op: codec.OpMetaSet, flags: quiet, key: "k", value: 5, sent: "ms k 5\r\n"},
	{line: "ms q 4294967301 c\r\n", op: codec.OpMetaSet, key: "q", value: 5, sent: "ms q 5 c\r\n"},
	{line: "ms k S5\r\n", fault: codec.FaultFormat},
	{line: "ms k -1\r\n", fault: codec.FaultFormat},
	{line: "ms k 2147483646\r\n", fault: codec.FaultFormat},
	{line: "ms k\r\n", fault: codec.FaultFormat},
	{line: "ms\r\n", fault: codec.FaultError},
	{line: "ms " + key251 + " 1\r\n", fault: codec.FaultFormat},
	{line: "ms k 5 b c d e f g h i j l m n o p r s t\r\n", fault: codec.FaultOptionsTooLong},
	{line: "md k q x\r\n", op: codec.OpMetaDelete, flags: quiet, key: "k", sent: "md k x\r\n"},
	{line: "md k I T30 x\r\n", op: codec.OpMetaDelete, flags: clean, key: "k"},
	{line: "md\r\n", fault: codec.FaultError},
	{line: "md " + key251 + "\r\n", fault: codec.FaultFormat},
	{line: "md k a b c d e f g h i j l m n o p r s t\r\n", fault: codec.FaultOptionsTooLong},
	{line: "ma k N0 J13 D2 MD t c v\r\n", op: codec.OpMetaArith, flags: clean, key: "k"},
	{line: "ma k q q\r\n", op: codec.OpMetaArith, flags: clean, key: "k"},
	{line: "ma\r\n", fault: codec.FaultError},
	{line: "me k\r\n", op: codec.OpMetaDebug, flags: clean, key: "k"},
	{line: "me Zm9v b\r\n", op: codec.OpMetaDebug, flags: clean, key: "Zm9v"},
	{line: "me  k q b\r\n", op: codec.OpMetaDebug, key: "k", sent: "me k q b\r\n"},
	{line: "me\r\n", fault: codec.FaultFormat},
	{line: "me " + key251 + "\r\n", fault: codec.FaultFormat},
	{line: "mn\r\n", op: codec.OpMetaNoop, flags: clean},
	{line: "mn q\r\n", op: codec.OpMetaNoop, flags: clean},
	{line: "mx k\r\n", fault: codec.FaultError},

	// The rest.
	{line: "flush_all\r\n", op: codec.OpFlushAll, flags: clean},
	{line: "flush_all 10\r\n", op: codec.OpFlushAll, flags: clean},
	{line: "flush_all -1 x\r\n", op: codec.OpFlushAll, flags: clean},
	{line: "flush_all noreply\r\n", op: codec.OpFlushAll, flags: quiet, sent: "flush_all\r\n"},
	{line: "flush_all 10 noreply\r\n", op: codec.OpFlushAll, flags: quiet, sent: "flush_all 10\r\n"},
	{line: "flush_all noreply 10\r\n", fault: codec.FaultExptime},
	{line: "flush_all noreply noreply\r\n", fault: codec.FaultExptime, flags: quiet},
	{line: "flush_all x\r\n", fault: codec.FaultExptime},
	{line: "flush_all 1 2 3\r\n", fault: codec.FaultError},
	{line: "verbosity 1\r\n", op: codec.OpVerbosity, flags: clean},
	{line: "verbosity 1 noreply\r\n", op: codec.OpVerbosity, flags: quiet, sent: "verbosity 1\r\n"},
	{line: "verbosity noreply\r\n", fault: codec.FaultFormat, flags: quiet},
	{line: "verbosity -1\r\n", fault: codec.FaultFormat},
	{line: "verbosity\r\n", fault: codec.FaultError},
	{line: "verbosity 1 2 3\r\n", fault: codec.FaultError},
	{line: "version\r\n", op: codec.OpVersion, flags: clean},
	{line: "version  x\r\n", op: codec.OpVersion, sent: "version\r\n"},
	{line: "stats\r\n", op: codec.OpStats, flags: clean},
	{line: "stats items\r\n", op: codec.OpStats, flags: clean},
	{line: "stats  detail   on \r\n", op: codec.OpStats, sent: "stats detail on\r\n"},
	{line: "stats noreply\r\n", op: codec.OpStats, flags: clean},
	{line: "quit\r\n", op: codec.OpQuit, flags: clean},
	{line: "shutdown\r\n", fault: codec.FaultShutdown},
	{line: "shutdown graceful\r\n", fault: codec.FaultShutdown},
	{line: "watch\r\n", fault: codec.FaultError},
	{line: "lru_crawler metadump all\r\n", fault: codec.FaultError},
	{line: "\r\n", fault: codec.FaultError},
	{line: "\n", fault: codec.FaultError},
	{line: "x\r\n", fault: codec.FaultError},
	{line: "  \r\n", fault: codec.FaultError},
	{line: "\x00get k\r\n", fault: codec.FaultError},
	{line: strings.Repeat("ab ", 40) + "\r\n", fault: codec.FaultError},
	{line: "GET / HTTP/1.1\r\n", fault: codec.FaultClose},
	{line: "POST  /x HTTP/1.0 \n", fault: codec.FaultClose},
	{line: "Host: a\r\n", fault: codec.FaultError},
	{line: "trace / HTTP/1.1\r\n", fault: codec.FaultError},
	{line: "watch HTTP/1.1\r\n", fault: codec.FaultError},
}

func TestParse(t *testing.T) {
	for _, c := range lines {
		var req codec.Request
		Parse([]byte(c.line), &req)
		if req.Op != c.op || req.Fault != c.fault {
			t.Errorf("%q: got %v %q, want %v %q", c.line, req.Op, req.Fault.Line(), c.op, c.fault.Line())
			continue
		}
		if req.Op == codec.OpNone {
			if req.Quiet() != (c.flags&quiet != 0) {
				t.Errorf("%q: quiet is %v", c.line, req.Quiet())
			}
			continue
		}
		if req.Flags != c.flags || req.Value != c.value || string(req.Key.In([]byte(c.line))) != c.key {
			t.Errorf("%q: got flags %b, value %d, key %q, want %b, %d, %q", c.line,
				req.Flags, req.Value, req.Key.In([]byte(c.line)), c.flags, c.value, c.key)
		}
		if req.Op.MultiKey() {
			continue
		}
		want := c.sent
		if want == "" {
			want = c.line
		}
		if got := string(AppendLine([]byte("front"), []byte(c.line), &req)); got != "front"+want {
			t.Errorf("%q: sent as %q, want %q", c.line, got[len("front"):], want)
		}
	}
}

// TestParseParts looks at the parts of a request that TestParse does not.
func TestParseParts(t *testing.T) {
	for _, c := range []struct{ line, arg, client, expiry, rest string }{
		{line: "set k 1 2 3\r\n", client: "1", expiry: "2"},
		{line: "cas k 1 2 3 4\r\n", arg: "4", client: "1", expiry: "2"},
		{line: "gat 5  a  b \r\n", arg: "5", rest: "a  b "},
		{line: "get a b\r\n", rest: "a b"},
		{line: "gat 5\r\n", arg: "5"},
		{line: "incr k 7\r\n", arg: "7"},
		{line: "touch k 7\r\n", arg: "7"},
		{line: "flush_all 7 noreply\r\n", arg: "7"},
		{line: "flush_all noreply\r\n"},
		{line: "verbosity 2\r\n", arg: "2"},
		{line: "stats detail  on \r\n", arg: "detail  on"},
	} {
		line := []byte(c.line)
		var req codec.Request
		Parse(line, &req)
		if string(req.Arg.In(line)) != c.arg || string(req.Client.In(line)) != c.client ||
			string(req.Expiry.In(line)) != c.expiry || string(req.Rest.In(line)) != c.rest {
			t.Errorf("%q: got arg %q, client %q, expiry %q, rest %q", c.line,
				req.Arg.In(line), req.Client.In(line), req.Expiry.In(line), req.Rest.In(line))
		}
	}
}

// TestMetaFlags: every letter passes to the node, because the node's version knows
// what it means; only M, q and b are looked at.
func TestMetaFlags(t *testing.T) {
	for c := byte('A'); c <= 'z'; c++ {
		if !isLetter(c) {
			continue
		}
		line := []byte("ms k 1  " + string(c) + "x v\r\n")
		var req codec.Request
		Parse(line, &req)
		if !req.Meta.Has(c) || !req.Meta.Has('v') {
			t.Errorf("%q: letters are %b", line, req.Meta)
		}
		want := "ms k 1 " + string(c) + "x v\r\n"
		if c == 'q' {
			want = "ms k 1 v\r\n"
		}
		if got := string(AppendLine(nil, line, &req)); got != want {
			t.Errorf("%q: sent as %q, want %q", line, got, want)
		}
		if (req.Mode == 'x') != (c == 'M') {
			t.Errorf("%q: mode is %q", line, req.Mode)
		}
	}
}

func TestAppendKeyed(t *testing.T) {
	if got := string(AppendKeyed(nil, "get", []byte("k"))); got != "get k\r\n" {
		t.Errorf("AppendKeyed: %q", got)
	}
}

func TestUnbounded(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		front string
		want  bool
	}{
		{"get ", true},
		{"gets ", true},
		{strings.Repeat(" ", 100) + "get ", true},
		{strings.Repeat(" ", 101) + "get ", false},
		{"gat 1 ", false},
		{"getx ", false},
		{"get\t", false},
		{"GET ", false},
		{"mg ", false},
		{"\tget ", false},
		{"set ", false},
	} {
		if got := Unbounded([]byte(c.front + long)); got != c.want {
			t.Errorf("%q…: got %v", c.front, got)
		}
	}
}

func TestRouteKey(t *testing.T) {
	var buf [MaxKey]byte
	for _, c := range []struct {
		key, flags, want string
	}{
		{"foo", "", "foo"},
		{"Zm9v", "", "Zm9v"},
		{"Zm9v", "b", "foo"},
		{"Zm9vYg==", "b", "foob"},
		{"Z-m-9-v", "b", "foo"},
		{"Zg==Zm9v", "b", "f"},
		{"Zm9", "b", ""},
		{"A===", "b", ""},
		{"-", "b", ""},
		{strings.Repeat("AAAA", 62), "b", strings.Repeat("\x00", 186)},
	} {
		var meta codec.Letters
		if c.flags != "" {
			meta = codec.Letter('b')
		}
		if got := string(RouteKey([]byte(c.key), meta, buf[:])); got != c.want {
			t.Errorf("%q %s: got %q, want %q", c.key, c.flags, got, c.want)
		}
	}
}

// numbers is what safe_strtol and safe_strtoull of memcached make of a token.
var numbers = []struct {
	text     string
	i        int64
	u        uint64
	iOK, uOK bool
}{
	{"0", 0, 0, true, true},
	{"-0", 0, 0, true, true},
	{"+5", 5, 5, true, true},
	{" \t\n\v\f\r5", 5, 5, true, true},
	{"5\tx", 5, 5, true, true},
	{"5\t-", 5, 5, true, true},
	{"0005", 5, 5, true, true},
	{"123456789012345678", 123456789012345678, 123456789012345678, true, true},
	{"1234567890123456789", 1234567890123456789, 1234567890123456789, true, true},
	{"9223372036854775807", 1<<63 - 1, 1<<63 - 1, true, true},
	{"9223372036854775808", 0, 1 << 63, false, true},
	{"-9223372036854775808", -1 << 63, 0, true, false},
	{"-9223372036854775809", 0, 1<<63 - 1, false, true},
	{"18446744073709551615", 0, 1<<64 - 1, false, true},
	{"18446744073709551615\t-", 0, 0, false, false},
	{"18446744073709551616", 0, 0, false, false},
	{"-18446744073709551615", 0, 1, false, true},
	{"-18446744073709551616", 0, 0, false, false},
	{"-1", -1, 0, true, false},
	{"", 0, 0, false, false},
	{"-", 0, 0, false, false},
	{"+-5", 0, 0, false, false},
	{"- 5", 0, 0, false, false},
	{"\t", 0, 0, false, false},
	{"5x", 0, 0, false, false},
	{"x5", 0, 0, false, false},
	{"0x5", 0, 0, false, false},
	{"1e3", 0, 0, false, false},
	{"5.0", 0, 0, false, false},
	{"5\x00", 0, 0, false, false},
	{"99999999999999999999999999", 0, 0, false, false},
	{"00000000000000000000000000000005", 5, 5, true, true},
}

func TestNumbers(t *testing.T) {
	for _, c := range numbers {
		if i, ok := Int([]byte(c.text)); i != c.i || ok != c.iOK {
			t.Errorf("Int(%q) is %d, %v, want %d, %v", c.text, i, ok, c.i, c.iOK)
		}
		if u, ok := Uint([]byte(c.text)); u != c.u || ok != c.uOK {
			t.Errorf("Uint(%q) is %d, %v, want %d, %v", c.text, u, ok, c.u, c.uOK)
		}
	}
}

// TestSpansDoNotGrow: a key that is appended to must not tread on what follows it.
func TestSpansDoNotGrow(t *testing.T) {
	line := []byte("get a b\r\n")
	var req codec.Request
	Parse(line, &req)
	_ = append(req.Key.In(line), "tread"...)
	if !bytes.Equal(line, []byte("get a b\r\n")) {
		t.Errorf("the line became %q", line)
	}
}
