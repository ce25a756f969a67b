package binary

import (
	"testing"

	"magent/codec/codectest"
)

// hit and count are the extras and the value of what says flags 5, and 12.
const (
	hit   = "\x00\x00\x00\x05"
	count = "\x00\x00\x00\x00\x00\x00\x00\x0c"
)

var replies = []struct {
	opcode Opcode
	in     string
	want   *codectest.Packet // nil for silence
	rest   string            // of in: a value and its line end
}{
	{Get, "VALUE key 5 3 77\r\nabc\r\n", &codectest.Packet{Cas: 77, Extras: hit}, "abc\r\n"},
	{GetQ, "VALUE key 5 3 77\r\nabc\r\n", &codectest.Packet{Cas: 77, Extras: hit}, "abc\r\n"},
	{GetK, "VALUE key 5 0 77\r\n\r\n", &codectest.Packet{Cas: 77, Extras: hit, Key: "key"}, "\r\n"},
	{GetK, "VALUE key 5 3\r\nabc\r\n", &codectest.Packet{Extras: hit, Key: "key"}, "abc\r\n"},
	{GetKQ, "VA 3 f5 c77 OYSBi kYSBi b\r\nabc\r\n", &codectest.Packet{Cas: 77, Extras: hit, Key: "a b"}, "abc\r\n"},
	{GAT, "VA 3 f5 c77 OYSBi W\r\nabc\r\n", &codectest.Packet{Cas: 77, Extras: hit}, "abc\r\n"},
	{Get, "EN\r\n", &codectest.Packet{Status: 1, Value: "Not found"}, ""},
	{GetQ, "EN\r\n", nil, ""},
	{GetK, "EN kkey\r\n", &codectest.Packet{Status: 1, Key: "key"}, ""},
	{GATK, "EN kAA== b\r\n", &codectest.Packet{Status: 1, Key: "\x00"}, ""},
	{GetKQ, "EN kkey\r\n", nil, ""},
	{Get, "SERVER_ERROR node p1: down\r\n", &codectest.Packet{Status: 0x84, Value: "node p1: down"}, ""},
	{GetQ, "SERVER_ERROR out of memory writing get response\r\n", &codectest.Packet{Status: 0x82, Value: "Out of memory"}, ""},
	{Touch, "HD f5 c77 kkey\r\n", &codectest.Packet{Cas: 77, Extras: hit}, ""},
	{Set, "HD c77\r\n", &codectest.Packet{Cas: 77}, ""},
	{SetQ, "HD\r\n", nil, ""},
	{SetQ, "EX c0\r\n", &codectest.Packet{Status: 2, Value: "Data exists for key."}, ""},
	{Set, "NF\r\n", &codectest.Packet{Status: 1, Value: "Not found"}, ""},
	{Add, "NS c0\r\n", &codectest.Packet{Status: 2, Value: "Data exists for key."}, ""},
	{ReplaceQ, "NS\r\n", &codectest.Packet{Status: 1, Value: "Not found"}, ""},
	{Append, "NS\r\n", &codectest.Packet{Status: 5, Value: "Not stored."}, ""},
	{Set, "SERVER_ERROR object too large for cache\r\n", &codectest.Packet{Status: 3, Value: "Too large."}, ""},
	{Set, "SERVER_ERROR out of memory storing object\r\n", &codectest.Packet{Status: 0x82, Value: "Out of memory allocating item"}, ""},
	{Increment, "SERVER_ERROR out of memory in incr\r\n", &codectest.Packet{Status: 0x82, Value: "Out of memory incrementing value"}, ""},
	{Increment, "VA 2 c77\r\n12\r\n", &codectest.Packet{Cas: 77, Value: count}, ""},
	{Decrement, "VA 4 c77\r\n12  \r\n", &codectest.Packet{Cas: 77, Value: count}, ""},
	{IncrementQ, "HD\r\n", nil, ""},
	{Increment, "VA 20 c18446744073709551615\r\n18446744073709551615\r\n",
		&codectest.Packet{Cas: 1<<64 - 1, Value: "\xff\xff\xff\xff\xff\xff\xff\xff"}, ""},
	{DecrementQ, "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
		&codectest.Packet{Status: 6, Value: "Non-numeric server-side value for incr or decr"}, ""},
	{Delete, "HD\r\n", &codectest.Packet{}, ""},
	{DeleteQ, "NF\r\n", &codectest.Packet{Status: 1, Value: "Not found"}, ""},
	{SASLList, LineMechanisms, &codectest.Packet{Value: "PLAIN"}, ""},
	{SASLAuth, LineContinue, &codectest.Packet{Status: 0x21}, ""},
	{SASLStep, LineKnown, &codectest.Packet{Value: "Authenticated"}, ""},
	{SetQ, LineNotKnown, &codectest.Packet{Status: 0x20, Value: "Auth failure."}, ""},
	{Stat, "STAT version 1.6.18 x\r\nEND\r\n", &codectest.Packet{Key: "version", Value: "1.6.18 x"}, "END\r\n"},
	{Stat, "END\r\n", &codectest.Packet{}, ""},
	{Stat, "RESET\r\n", &codectest.Packet{}, ""},
	{Stat, "ERROR\r\n", &codectest.Packet{Status: 1, Value: "Not found"}, ""},
	{Flush, "OK\r\n", &codectest.Packet{}, ""},
	{FlushQ, "OK\r\n", nil, ""},
	{Set, "HD c9999999999999999999\r\nHD\r\n", &codectest.Packet{Cas: 9999999999999999999}, "HD\r\n"},
	{Set, "HD c18446744073709551615\r\n", &codectest.Packet{Cas: 1<<64 - 1}, ""},
	{Set, "HD c5 b\r\n", &codectest.Packet{Cas: 5}, ""},
	{Set, "HD b c5\r\n", &codectest.Packet{Cas: 5}, ""},
	{Set, "HD c\r\n", &codectest.Packet{}, ""},
	{Flush, "CLIENT_ERROR flush_all not allowed\r\n", &codectest.Packet{Status: 0x20, Value: "Auth failure."}, ""},
	{FlushQ, "CLIENT_ERROR flush_all not allowed\r\n", &codectest.Packet{Status: 0x20, Value: "Auth failure."}, ""},
	{QuitQ, "OK\r\n", nil, ""},
	{Noop, "MN\r\n", &codectest.Packet{}, ""},
	{Version, "VERSION 1.6.18\r\n", &codectest.Packet{Value: "1.6.18"}, ""},
	{Verbosity, "ERROR\r\n", &codectest.Packet{Status: 0x81, Value: "Unknown command"}, ""},
	{Get, "CLIENT_ERROR bad command line format\r\n", &codectest.Packet{Status: 4, Value: "Invalid arguments"}, ""},
}

func TestAppendReply(t *testing.T) {
	for _, c := range replies {
		out, n, value := AppendReply([]byte("before"), []byte(c.in), Asked{c.opcode, 0xbeef})
		if string(out[:6]) != "before" || c.in[n:] != c.rest {
			t.Errorf("%#x %q: %q, %d bytes read", c.opcode, c.in, out, n)
			continue
		}
		if out = out[6:]; c.want == nil {
			if len(out) > 0 {
				t.Errorf("%#x %q: got %q, want silence", c.opcode, c.in, out)
			}
			continue
		}
		got, ok := codectest.ReadPacket(out)
		want := *c.want
		want.Magic, want.Opcode, want.Opaque = magicReply, byte(c.opcode), 0xbeef
		want.BeforeValue = HeaderSize + len(want.Extras) + len(want.Key)
		want.All = want.BeforeValue + len(want.Value)
		if value != NoValue {
			want.Short, want.All = value, want.All+value
		}
		if !ok || got != want || value != NoValue && value+2 != len(c.rest) {
			t.Errorf("%#x %q:\n got %+v, value %d\nwant %+v", c.opcode, c.in, got, value, want)
		}
	}
}
