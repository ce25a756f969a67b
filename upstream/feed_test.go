package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/codec"
)

// asked is what the fuzzer's node was asked: every shape of reply, shared commands,
// a key that is a prefix of another and one in base64.
var asked = []struct {
	op   codec.Op
	line string // empty for a key of a get
	key  string
}{
	{codec.OpGet, "", "a"}, {codec.OpGet, "", "ab"}, {codec.OpGet, "", "a"},
	{codec.OpSet, "set k 0 0 1\r\nx\r\n", ""},
	{codec.OpMetaGet, "mg k v k\r\n", "k"},
	{codec.OpGets, "", "c"},
	{codec.OpMetaGet, "mg azE= b v\r\n", "azE="},
	{codec.OpMetaArith, "ma n v\r\n", "n"},
	{codec.OpStats, "stats\r\n", ""},
	{codec.OpIncr, "incr n 1\r\n", "n"},
	{codec.OpGet, "", "d"},
}

// hears feeds a Conn that has all of asked in flight with parts, and returns what
// the owners heard: the fate of each request, in order.
func hears(t testing.TB, parts ...[]byte) []string {
	r := newRig(1)
	c, _ := r.open(t, 0)
	var e ear
	for i, a := range asked {
		if a.line == "" {
			c.Get(Pending{Owner: &e, Seq: uint32(i), Op: a.op}, nil, []byte(a.key))
		} else {
			at := max(0, strings.Index(a.line, a.key))
			send(c, &e, uint32(i), a.op, a.line, codec.Span{Off: uint32(at), Len: uint32(len(a.key))})
		}
	}
	r.group.Flush()
	for _, p := range parts {
		p = slices.Clone(p)
		c.Feed(p)
		for i := range p { // a view that was kept shows
			p[i] = 0xDB
		}
	}
	if n := len(e.heard) + c.ring.len(); n != len(asked) {
		t.Fatalf("%d requests have an end or are in flight, of %d: %q", n, len(asked), e.heard)
	}
	if c.wire == nil && c.ring.len() > 0 {
		t.Fatal("a closed connection has requests in flight")
	}
	// What has come of a request that is not at its end.
	for seq, open := range e.open {
		e.heard = append(e.heard, fmt.Sprintf("%d under way %s", seq, open))
	}
	return e.heard
}

const goodReplies = "VALUE ab 0 3\r\nabc\r\nEND\r\nSTORED\r\nVA 2 kk\r\nxy\r\nVALUE c 5 0 99\r\n\r\nEND\r\nEN\r\nVA 1\r\n7\r\nSTAT a 1\r\nSTAT b 2\r\nEND\r\n8\r\nEND\r\n"

// FuzzFeed demands that it does not matter how a node's bytes are cut: requests end
// in the same way, in the same order. Only a request whose reply turns out bad may
// have been told a part of it before it fails.
func FuzzFeed(f *testing.F) {
	for _, s := range []string{goodReplies,
		"VALUE a 0 1\r\nx\r\nVALUE ab 0 1\r\ny\r\nVALUE a 0 1\r\nz\r\nEND\r\nSERVER_ERROR out of memory storing object\r\nHD\r\n",
		"END\r\nEND\r\n", "VALUE a 0 3\r\nabcd\r\nEND\r\n", "VALUE a 0 1\r\nx\r\nERROR\r\n", "SERVER_ERROR busy\r\nSTORED\r\nEN\r\n",
		"END\r\nSTORED\r\nVA 1 kz\r\nx\r\n", "END\r\nSTORED\r\nEN\r\nEND\r\nVA 3 b kazE=\r\nabc\r\n", goodReplies + "X", "\n", "\r\n", "VALUE a 0 99999999999\r\n",
		"VALUE " + strings.Repeat("k", 9000)} {
		f.Add([]byte(s), uint16(1), uint16(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, first, every uint16) {
		var parts [][]byte
		rest := in
		for n := int(first); len(rest) > 0; n = int(every) {
			n = min(max(n, 1), len(rest))
			parts = append(parts, rest[:n])
			rest = rest[n:]
		}
		whole, cut := hears(t, in), hears(t, parts...)
		if !slices.Equal(whole, cut) {
			t.Errorf("whole: %q\ncut:   %q", whole, cut)
		}
	})
}

// TestFeedCutAnywhere cuts a good stream at every place, and into single bytes.
func TestFeedCutAnywhere(t *testing.T) {
	in := []byte(goodReplies)
	want := hears(t, in)
	if len(want) != len(asked) || strings.Contains(strings.Join(want, " "), "fail") {
		t.Fatalf("the good stream is not: %q", want)
	}
	var bytes [][]byte
	for i := range in {
		bytes = append(bytes, in[i:i+1])
		if got := hears(t, in[:i], in[i:]); !slices.Equal(got, want) {
			t.Errorf("cut at %d: %q", i, got)
		}
	}
	if got := hears(t, bytes...); !slices.Equal(got, want) {
		t.Errorf("byte by byte: %q", got)
	}
}
