package binary

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/text"
)

// orders are lines as nodes are sent them.
var orders = []struct {
	line    string
	packets []byte // but for the value
	refused string
}{
	{"get key\r\n", packet(GetK, 0, "", "key", ""), ""},
	{"gets a b c\r\n", slicesOf(packet(GetKQ, 0, "", "a", ""), packet(GetKQ, 0, "", "b", ""), packet(GetK, 0, "", "c", "")), ""},
	{"gat 100 a b\r\n", slicesOf(packet(GATKQ, 0, time, "a", ""), packet(GATK, 0, time, "b", "")), ""},
	{"set key 5 100 0\r\n", packet(Set, 0, sets, "key", ""), ""},
	{"add key 5 100 3\r\n", lying(8+3+3, packet(Add, 0, sets, "key", "")), ""},
	{"set key 5 -1 0\r\n", packet(Set, 0, "\x00\x00\x00\x05\x00\x27\x8d\x01", "key", ""), ""},
	{"cas key 5 100 0 77\r\n", packet(Replace, 77, sets, "key", ""), ""},
	{"cas key 5 100 0 0\r\n", packet(Replace, 1<<64-1, sets, "key", ""), ""},
	{"append key 9 9 0\r\n", packet(Append, 0, "", "key", ""), ""},
	{"delete key\r\n", packet(Delete, 0, "", "key", ""), ""},
	{"touch key 100\r\n", packet(Touch, 0, time, "key", ""), ""},
	{"incr key 1\r\n", packet(Increment, 0, "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", "key", ""), ""},
	{"flush_all\r\n", packet(Flush, 0, "\x00\x00\x00\x00", "", ""), ""},
	{"flush_all 100\r\n", packet(Flush, 0, time, "", ""), ""},
	{"flush_all -1\r\n", packet(Flush, 0, "\x00\x00\x00\x00", "", ""), ""},
	{"gat 100\r\n", nil, "END\r\n"}, {"incr key one\r\n", nil, "CLIENT_ERROR invalid numeric delta argument\r\n"},
	{"GET / HTTP/1.1\r\n", nil, refusedUnsaid},
	{"incr key +5\r\n", packet(Increment, 0, "\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", "key", ""), ""},
	{"touch key +100\r\n", packet(Touch, 0, time, "key", ""), ""},
	{"touch key 4294967396\r\n", packet(Touch, 0, time, "key", ""), ""},
	{"set key +5 \t100 0\r\n", packet(Set, 0, sets, "key", ""), ""},
	{"mg key v T+100\r\n", packet(GAT, 0, time, "key", ""), ""},
	{"mg key v T2147483648\r\n", packet(GAT, 0, "\x00\x27\x8d\x01", "key", ""), ""},
	{"stats\r\n", packet(Stat, 0, "", "", ""), ""},
	{"stats items\r\n", packet(Stat, 0, "", "items", ""), ""},
	{"version\r\n", packet(Version, 0, "", "", ""), ""},
	{"mn\r\n", packet(Noop, 0, "", "", ""), ""},
	{"mg key v k\r\n", packet(Get, 0, "", "key", ""), ""},
	{"mg key v T100\r\n", packet(GAT, 0, time, "key", ""), ""},
	{"mg key c T100\r\n", packet(Touch, 0, time, "key", ""), ""},
	{"mg YSBi b s\r\n", packet(Get, 0, "", "a b", ""), ""},
	{"ms key 0 F5 T100 MR C7\r\n", packet(Replace, 7, sets, "key", ""), ""},
	{"ms key 0 F5 T100 ME C7\r\n", packet(Add, 0, sets, "key", ""), ""},
	{"ms key 0 MA\r\n", packet(Append, 0, "", "key", ""), ""},
	{"md key C0\r\n", packet(Delete, 1<<64-1, "", "key", ""), ""},
	{"ma key J10 N0 C0\r\n", packet(Increment, 0, steps, "key", ""), ""},
	{"ma key MD\r\n", packet(Decrement, 0, "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", "key", ""), ""},
	{"mg key t\r\n", nil, refusedUnsaid}, {"ms key 0 E7\r\n", nil, refusedUnsaid}, {"md key I\r\n", nil, refusedUnsaid},
	{"me key\r\n", nil, refusedUnsaid}, {"verbosity 1\r\n", nil, refusedUnsaid},
	{"mg key v v\r\n", nil, refusedTwice}, {"mg key 5\r\n", nil, refusedFlag}, {"mg key T9223372036854775808\r\n", nil, refusedNumber},
	{"ms key 0 T\r\n", nil, refusedNumber}, {"ms key 0 F-\r\n", nil, "CLIENT_ERROR bad command line format\r\n"},
	{"ms key 0 C- F-\r\n", nil, refusedNumber}, {"ms key 0 F- C-\r\n", nil, refusedNumber},
	{"ma key D- N0\r\n", nil, "CLIENT_ERROR invalid or duplicate flag\r\n"}, {"md ! b\r\n", nil, "CLIENT_ERROR invalid or duplicate flag\r\n"},
	{"mg ! b\r\n", nil, refusedKey}, {"mg key O" + strings.Repeat("o", 32) + "\r\n", nil, refusedOpaque},
	{"ms key 0 MX\r\n", nil, "CLIENT_ERROR invalid mode for ms M token\r\n"}, {"ma key MX\r\n", nil, "CLIENT_ERROR invalid mode for ma M token\r\n"},
}

func slicesOf(packets ...[]byte) []byte { return bytes.Join(packets, nil) }

func TestAppendRequest(t *testing.T) {
	for _, c := range orders {
		var req codec.Request
		text.Parse([]byte(c.line), &req)
		want := c.packets
		if c.refused != "" {
			want = packet(Noop, 0, "", "", "")
		}
		got, sent := AppendRequest([]byte("before"), []byte(c.line), &req, 0xbeef)
		if got, _ := bytes.CutPrefix(got, []byte("before")); !bytes.Equal(got, want) || sent.Refused != c.refused {
			t.Errorf("%q is\n%q, %q, want\n%q, %q", c.line, got, sent.Refused, want, c.refused)
		}
	}
}

// FuzzAppendRequest reads again what a line was put as: requests that are in order, are about
// its keys, and of which the last alone is answered in any case.
func FuzzAppendRequest(f *testing.F) {
	for _, c := range orders {
		f.Add([]byte(c.line), uint32(5))
	}
	f.Fuzz(func(t *testing.T, line []byte, opaque uint32) {
		line = append(line[:max(0, bytes.IndexByte(line, '\n'))], "\r\n"...)
		var req codec.Request
		text.Parse(line, &req)
		out, sent := AppendRequest(nil, line, &req, opaque)
		refused, n := sent.Refused, 0
		for last := false; n == 0 || len(out) > 0; n++ {
			var r Request
			err := Parse(out, &r)
			if err != nil || r.Fault != FaultNone || r.Opaque != opaque || last {
				t.Fatalf("%q, %q: request %d is %+v, %v, after the last: %v", line, refused, n, r, err, last)
			}
			last = !r.Opcode.Quiet()
			value := req.Value
			if refused != "" {
				value = 0
			} else if key := keyOf(line, &req, n); !bytes.Equal(r.Key.In(out), key) {
				t.Fatalf("%q is about %q", line, r.Key.In(out))
			}
			if r.Value != value {
				t.Fatalf("%q: the value has %d bytes", line, r.Value)
			}
			if out = out[r.Head:]; last != (len(out) == 0) {
				t.Fatalf("%q: of what is asked, %q is left behind the last", line, out)
			}
		}
	})
}

// keyOf is the n-th key of a command, or the name of statistics.
func keyOf(line []byte, req *codec.Request, n int) []byte {
	switch {
	case req.Op == codec.OpStats:
		return req.Arg.In(line)
	case !req.Op.MultiKey():
		return text.RouteKey(req.Key.In(line), req.Meta, make([]byte, text.MaxKey))
	}
	at := req.Rest.Off
	for range n {
		text.NextKey(line, req.Rest, &at)
	}
	key, _ := text.NextKey(line, req.Rest, &at)
	return key.In(line)
}

// response is one, with a status for which there is no room in packet.
func response(opcode Opcode, s Status, cas uint64, extras, key, value string) []byte {
	b := packet(opcode, cas, extras, key, value)
	b[0] = magicReply
	binary.BigEndian.PutUint16(b[6:], uint16(s))
	return b
}

const flags5 = "\x00\x00\x00\x05"

var tellings = []struct {
	line string
	in   []byte
	out  string // with the value
}{
	{"get key\r\n", response(GetK, 0, 7, flags5, "key", "value"), "VALUE key 5 5\r\nvalue\r\nEND\r\n"},
	{"gets a key\r\n", response(GetKQ, 0, 7, flags5, "a", ""), "VALUE a 5 0 7\r\n\r\n"},
	{"get key\r\n", response(GetK, StatusNotFound, 0, "", "", "Not found"), "END\r\n"},
	{"gats 1 key\r\n", response(GATK, 0, 7, flags5, "key", "v"), "VALUE key 5 1 7\r\nv\r\nEND\r\n"},
	{"set key 0 0 1\r\n", response(Set, 0, 7, "", "", ""), "STORED\r\n"},
	{"set key 0 0 1\r\n", response(Set, StatusTooLarge, 0, "", "", "Too large."), "SERVER_ERROR object too large for cache\r\n"},
	{"set key 0 0 1\r\n", response(Set, StatusNoMemory, 0, "", "", "Out of memory"), "SERVER_ERROR out of memory storing object\r\n"},
	{"set key 0 0 1\r\n", response(Set, StatusNotKnown, 0, "", "", "Auth failure."), "CLIENT_ERROR unauthenticated\r\n"},
	{"set key 0 0 1\r\n", response(Set, 0x99, 0, "", "", ""), "SERVER_ERROR the node answered with status 0x99\r\n"},
	{"add key 0 0 1\r\n", response(Add, StatusExists, 0, "", "", "Data exists for key."), "NOT_STORED\r\n"},
	{"replace key 0 0 1\r\n", response(Replace, StatusNotFound, 0, "", "", "Not found"), "NOT_STORED\r\n"},
	{"append key 0 0 1\r\n", response(Append, StatusNotStored, 0, "", "", "Not stored."), "NOT_STORED\r\n"},
	{"cas key 0 0 1 7\r\n", response(Replace, StatusExists, 0, "", "", "Data exists for key."), "EXISTS\r\n"},
	{"cas key 0 0 1 7\r\n", response(Replace, StatusNotFound, 0, "", "", "Not found"), "NOT_FOUND\r\n"},
	{"delete key\r\n", response(Delete, 0, 0, "", "", ""), "DELETED\r\n"},
	{"touch key 1\r\n", response(Touch, 0, 7, flags5, "", ""), "TOUCHED\r\n"},
	{"touch key 1\r\n", response(Touch, StatusNotFound, 0, "", "", "Not found"), "NOT_FOUND\r\n"},
	{"incr key 1\r\n", response(Increment, 0, 7, "", "", "\x00\x00\x00\x00\x00\x00\x00\x11"), "17\r\n"},
	{"incr key 1\r\n", response(Increment, StatusNoNumber, 0, "", "", "?"), "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"},
	{"flush_all\r\n", response(Flush, 0, 0, "", "", ""), "OK\r\n"},
	{"version\r\n", response(Version, 0, 0, "", "", "1.6.18"), "VERSION 1.6.18\r\n"},
	{"stats\r\n", response(Stat, 0, 0, "", "pid", "17"), "STAT pid 17\r\n"},
	{"stats\r\n", response(Stat, 0, 0, "", "", ""), "END\r\n"},
	{"stats reset\r\n", response(Stat, 0, 0, "", "", ""), "RESET\r\n"},
	{"stats x\r\n", response(Stat, StatusNotFound, 0, "", "", "Not found"), "ERROR\r\n"},
	{"mn\r\n", response(Noop, 0, 0, "", "", ""), "MN\r\n"},
	{"mg key v f c k s Oo\r\n", response(Get, 0, 7, flags5, "", "value"), "VA 5 f5 c7 kkey s5 Oo\r\nvalue\r\n"},
	{"mg YSBi b k s\r\n", response(Get, 0, 7, flags5, "", "value"), "HD kYSBi b s5\r\n"},
	{"mg key f c T1\r\n", response(Touch, 0, 7, flags5, "", ""), "HD f5 c7\r\n"},
	{"mg key k Oo\r\n", response(Get, StatusNotFound, 0, "", "", "Not found"), "EN kkey Oo\r\n"},
	{"ms key 1 c Oo\r\n", response(Set, 0, 7, "", "", ""), "HD c7 Oo\r\n"},
	{"ms key 1 ME C7\r\n", response(Add, StatusExists, 0, "", "", "?"), "NS\r\n"},
	{"ms key 1 C7\r\n", response(Set, StatusExists, 0, "", "", "?"), "EX\r\n"},
	{"ms key 1 C7\r\n", response(Set, StatusNotFound, 0, "", "", "?"), "NF\r\n"},
	{"md key k\r\n", response(Delete, StatusNotFound, 0, "", "", "?"), "NF kkey\r\n"},
	{"md key C7\r\n", response(Delete, StatusExists, 0, "", "", "?"), "EX\r\n"},
	{"ma key v c\r\n", response(Increment, 0, 7, "", "", "\x00\x00\x00\x00\x00\x00\x00\x11"), "VA 2 c7\r\n17\r\n"},
	{"ma key k\r\n", response(Increment, 0, 7, "", "", "\x00\x00\x00\x00\x00\x00\x00\x11"), "HD kkey\r\n"},

	{"mg key t\r\n", response(Noop, StatusNotKnown, 0, "", "", ""), refusedUnsaid},

	// What is no answer gives nothing.
	{"get a key\r\n", response(GetKQ, StatusNotFound, 0, "", "", "Not found"), ""},
	{"get key\r\n", response(GetK, 0, 7, "", "key", "value"), ""},
	{"get key\r\n", response(GetK, 0, 7, flags5, "k\r\n", "value"), ""},
	{"get key\r\n", response(GetK, 0, 7, flags5, "", "value"), ""},
	{"incr key 1\r\n", response(Increment, 0, 7, "", "", "17"), ""},
	{"version\r\n", response(Version, 0, 0, "", "", "1\r\nEND"), ""},
	{"stats\r\n", response(Stat, 0, 0, "", "pid", "1\n2"), ""},

	// Nor does what answers something else.
	{"incr key 1\r\n", response(Noop, 0, 0, "", "", ""), ""},
	{"incr key 1\r\n", response(IncrementQ, 0, 0, "", "", "\x00\x00\x00\x00\x00\x00\x00\x11"), ""},
	{"ma key v\r\n", response(Set, 0, 7, "", "", ""), ""},
	{"get key\r\n", response(Set, 0, 7, "", "", ""), ""},
	{"get key\r\n", response(Get, 0, 7, flags5, "", "value"), ""},
	{"get key\r\n", response(GetKQ, 0, 7, flags5, "key", "value"), ""},
	{"get a key\r\n", response(GATK, 0, 7, flags5, "key", "value"), ""},
	{"mg key v\r\n", response(GetK, 0, 7, flags5, "key", "value"), ""},
	{"set key 0 0 1\r\n", response(Get, 0, 7, flags5, "", "value"), ""},
	{"mg key t\r\n", response(Get, 0, 7, flags5, "", "value"), ""},
}

// told is what is made of the responses that in consists of, to line, and of the values in them.
func told(line string, in []byte) (all []byte, req codec.Request, err error) {
	text.Parse([]byte(line), &req)
	_, sent := AppendRequest(nil, []byte(line), &req, 0)
	for len(in) > 0 {
		r, err := ParseResponse(in)
		if err != nil {
			return nil, req, err
		}
		head, value := in[HeaderSize:][:int(r.Extras)+int(r.Key)], in[HeaderSize+int(r.Extras)+int(r.Key):][:r.Value]
		in = in[HeaderSize+len(head)+len(value):]
		out, follows, end, err := AppendAnswer(all, []byte(line), &req, &sent, &r, head, value)
		if follows {
			out = append(append(out, value...), "\r\n"+end...)
		}
		if all = out; err != nil {
			return all, req, err
		}
	}
	return all, req, nil
}

func TestAppendAnswer(t *testing.T) {
	for _, c := range tellings {
		got, _, err := told(c.line, c.in)
		if string(got) != c.out || (err == ErrResponse) != (c.out == "") {
			t.Errorf("%q, answered with %q, is\n%q, %v, want\n%q", c.line, c.in, got, err, c.out)
		}
	}
	hit, memory := response(GetKQ, 0, 7, flags5, "a", "v"), response(GetKQ, StatusNoMemory, 0, "", "", "Out of memory")
	const value, failed = "VALUE a 5 1\r\nv\r\n", "SERVER_ERROR out of memory writing get response\r\n"
	for _, c := range []struct { // to a quiet read nodes answer with errors, too
		what string
		in   []byte
		out  string
	}{
		{"a hit behind it", slicesOf(hit, memory, response(GetK, 0, 7, flags5, "a", "v")), value + value + failed},
		{"a miss behind it", slicesOf(memory, hit, response(GetK, StatusNotFound, 0, "", "", "")), value + failed},
		{"another", slicesOf(memory, memory, response(GetK, 0x99, 0, "", "", "")), "SERVER_ERROR the node answered with status 0x99\r\n"},
		{"nothing of it", slicesOf(hit, response(GetK, StatusNotFound, 0, "", "", "")), value + "END\r\n"},
	} {
		if got, _, err := told("get a b c\r\n", c.in); string(got) != c.out || err != nil {
			t.Errorf("an error to a quiet read, %s: told\n%q, %v, want\n%q", c.what, got, err, c.out)
		}
	}
	if _, err := ParseResponse(packet(Get, 0, "", "", "")); err != ErrResponse {
		t.Errorf("a request is taken for a response: %v", err)
	}
	if _, err := ParseResponse(lying(3, response(GetK, 0, 0, flags5, "key", ""))); err != ErrResponse {
		t.Errorf("lengths that contradict each other: %v", err)
	}
}

// FuzzAppendAnswer reads again, as the answer of a node that speaks text, what a response was
// put as.
func FuzzAppendAnswer(f *testing.F) {
	for _, c := range tellings {
		f.Add(c.line, c.in)
	}
	f.Fuzz(func(t *testing.T, line string, in []byte) {
		line, _, _ = strings.Cut(line, "\n")
		if len(in) < HeaderSize || len(line) > 1000 {
			return
		}
		r, err := ParseResponse(in)
		if err != nil || HeaderSize+int(r.Extras)+int(r.Key)+int(r.Value) != len(in) || len(in) > 4096 {
			return
		}
		var asked codec.Request
		if text.Parse([]byte(line+"\n"), &asked); asked.Op == codec.OpNone || asked.Quiet() {
			return
		}
		out, req, err := told(line+"\n", in)
		if err != nil || len(out) == 0 && !r.Last() {
			return
		}
		for rest := out; ; {
			var reply codec.Reply
			if err := text.ParseReply(rest, req.Op.Shape(), &reply); err != nil || reply.Size() > len(rest) {
				t.Fatalf("%q, answered with %q, is %q: %v", line, in, out, err)
			}
			if rest = rest[reply.Size():]; len(rest) == 0 {
				return
			}
		}
	})
}

func TestAppendPlain(t *testing.T) {
	b := AppendPlain(nil, "user", "pass")
	var r Request
	if err := Parse(b, &r); err != nil || r.Opcode != SASLAuth || int(r.Head+r.Value) != len(b) {
		t.Fatalf("%q is %+v, %v", b, r, err)
	}
	name, password, ok := Plain(b[r.Head:])
	if _, plain := r.Mechanism(b); !plain || !ok || string(name) != "user" || string(password) != "pass" {
		t.Errorf("it says %q, %q, %v", name, password, ok)
	}
}
