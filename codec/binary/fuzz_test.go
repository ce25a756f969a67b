package binary

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"magent/codec"
	"magent/codec/codectest"
	"magent/codec/text"
)

var faultNames = map[Fault]string{
	FaultNone: "", FaultUnknown: codectest.BinaryUnknown, FaultKey: codectest.BinaryKey,
	FaultLengths: codectest.BinaryLengths, FaultShape: codectest.BinaryInvalid, FaultSize: codectest.BinaryHuge,
}

// FuzzParse holds Parse and AppendLine against the twin: over a stream of requests, each
// whole and cut anywhere.
func FuzzParse(f *testing.F) {
	for _, c := range requests {
		f.Add(bytes.Repeat(c.in, 2), uint16(len(c.in)/2))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		for rest := in; ; {
			var r Request
			err := Parse(rest, &r)
			p, ok := codectest.ReadPacket(rest)
			switch magic := len(rest) > 0 && rest[0] != Magic; {
			case magic != (err == ErrMagic), !magic && ok != (err == nil):
				t.Fatalf("%q: got %v", rest, err)
			case err == nil:
				checkRequest(t, rest, &r, p)
			}
			checkCut(t, rest, int(cut)%(len(rest)+1), r, err)
			if err != nil || r.Fault.Closes() || int(r.Head)+int(r.Value) > len(rest) {
				return
			}
			if r.Head < HeaderSize {
				t.Fatalf("%q: no progress: %d", rest, r.Head)
			}
			rest = rest[r.Head+r.Value:]
		}
	})
}

// checkRequest compares what was made of the request that buf begins with to what the
// twin makes of it.
func checkRequest(t *testing.T, buf []byte, r *Request, p codectest.Packet) {
	line, fault := codectest.BinaryRequest(p)
	if faultNames[r.Fault] != fault || int(r.Head) != p.BeforeValue || r.Opaque != p.Opaque || byte(r.Opcode) != p.Opcode {
		t.Fatalf("%q:\n got %+v\nwant %q, %+v", buf, r, fault, p)
	}
	if fault != "" {
		return
	}
	if int(r.Value) != len(p.Value)+p.Short {
		t.Fatalf("%q: the value has %d bytes, want %d", buf, r.Value, len(p.Value)+p.Short)
	}
	var req, again codec.Request
	got := AppendLine([]byte("before"), buf, r, &req)
	switch req.Op {
	case codec.OpMetaNoop, codec.OpVersion, codec.OpQuit:
		return
	}
	if string(got) != line {
		t.Fatalf("%q: got %q, want %q", buf, got, line)
	}
	if req.Op == codec.OpGets { // the key alone
		if string(req.Key.In(got)) != p.Key || req.Rest != req.Key {
			t.Fatalf("%q: %+v is not the key", buf, req)
		}
		return
	}
	if len(got) > int(r.Key.Len)+Room {
		t.Fatalf("%q: %q has outgrown its room", buf, got)
	}
	text.Parse(got, &again)
	if again != req || req.Op == codec.OpNone || req.Quiet() {
		t.Fatalf("%q: %q is not in order: %+v", buf, got, req)
	}
	var key [text.MaxKey]byte
	if req.Op == codec.OpFlushAll || req.Op == codec.OpStats {
		return
	}
	if named := text.RouteKey(req.Key.In(got), req.Meta, key[:]); string(named) != p.Key {
		t.Fatalf("%q: %q is about %q", buf, got, named)
	}
}

// checkCut demands of the first n bytes of buf that they say the same as the whole did,
// or that they are too short to say.
func checkCut(t *testing.T, buf []byte, n int, whole Request, wholeErr error) {
	var r Request
	err := Parse(buf[:n:n], &r)
	switch {
	case err == ErrShort && (wholeErr == ErrShort || n == 0 || n < int(whole.Head)):
		if head := Head(buf[:n]); head <= n || wholeErr == nil && head > int(whole.Head) {
			t.Fatalf("%q: of %d bytes Head says %d", buf, n, head)
		}
	case err == wholeErr && (err != nil || r == whole):
	default:
		t.Fatalf("%q: the first %d bytes give %+v, %v, all give %+v, %v", buf, n, r, err, whole, wholeErr)
	}
}

// FuzzAppendReply puts hits, misses and counts of any content as responses, and reads
// them again.
func FuzzAppendReply(f *testing.F) {
	for _, c := range requests {
		f.Add(c.in[1], []byte("a b"), []byte("value"), uint32(5), uint64(77))
	}
	f.Fuzz(func(t *testing.T, opcode byte, key, value []byte, flags uint32, cas uint64) {
		asked := Asked{Opcode(opcode), 0xbeef}
		r := Request{Opcode: Get, Key: codec.Span{Len: uint32(len(key))}, Plain: text.Printable(key)}
		if len(key) == 0 || !r.Plain && len(key) > maxCoded || len(key) > text.MaxKey {
			return
		}
		word := appendKey(nil, key, &r)
		if !r.Plain {
			word = bytes.TrimSuffix(word, []byte(" b"))
		}
		want := codectest.Packet{Magic: magicReply, Opcode: opcode, Opaque: 0xbeef, Cas: cas}
		if asked.Opcode.Named() {
			want.Key = string(key)
		}
		miss := AppendKey([]byte("EN"), word, !r.Plain)
		checkReply(t, miss, nil, asked, missOf(want, asked))

		want.Extras = string([]byte{byte(flags >> 24), byte(flags >> 16), byte(flags >> 8), byte(flags)})
		want.Value = string(value)
		if loud := asked.Opcode.Loud(); loud == Increment || loud == Decrement {
			return // its answer is a number: the table has it
		}
		line := AppendKey(fmt.Appendf(nil, "VA %d f%d c%d", len(value), flags, cas), word, !r.Plain)
		checkReply(t, line, value, asked, &want)
		if r.Plain {
			checkReply(t, fmt.Appendf(nil, "VALUE %s %d %d %d\r\n", key, flags, len(value), cas), value, asked, &want)
		}
	})
}

// missOf is the answer to a read that finds nothing; nil for none.
func missOf(p codectest.Packet, asked Asked) *codectest.Packet {
	if asked.Opcode.Quiet() {
		return nil
	}
	p.Status, p.Cas = 1, 0
	if p.Key == "" {
		p.Value = "Not found"
	}
	return &p
}

// checkReply demands that line, and value behind it, become want.
func checkReply(t *testing.T, line, value []byte, asked Asked, want *codectest.Packet) {
	t.Helper()
	out, n, size := AppendReply(nil, line, asked)
	if size != NoValue {
		if size != len(value) {
			t.Fatalf("%q: the value has %d bytes", line, size)
		}
		out = append(out, value...)
	}
	if want == nil {
		if len(out) > 0 {
			t.Fatalf("%q: got %q, want silence", line, out)
		}
		return
	}
	want.BeforeValue = HeaderSize + len(want.Extras) + len(want.Key)
	want.All = want.BeforeValue + len(want.Value)
	if got, ok := codectest.ReadPacket(out); !ok || got != *want || n != len(line) || len(out) != got.All {
		t.Fatalf("%q:\n got %+v, %v, %d bytes of %d\nwant %+v", line, got, ok, len(out), n, *want)
	}
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "18446744073709551615", "007", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if want, err := strconv.ParseUint(s, 10, 64); err == nil && number([]byte(s)) != want {
			t.Fatalf("%q: got %d", s, number([]byte(s)))
		}
	})
}
