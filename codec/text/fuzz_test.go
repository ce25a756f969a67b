package text

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/codectest"
)

// verdict copies what Parse found into the words of the twin.
func verdict(line []byte, req *codec.Request) codectest.Verdict {
	v := codectest.Verdict{Op: req.Op, Fault: req.Fault, Quiet: req.Quiet()}
	if req.Op == codec.OpNone {
		return v
	}
	v.Value, v.Mode, v.Base64 = req.Value, req.Mode, req.Meta.Has('b')
	v.Arg, v.Client, v.Expiry = string(req.Arg.In(line)), string(req.Client.In(line)), string(req.Expiry.In(line))
	switch {
	case req.Op.MultiKey():
		for at := req.Rest.Off; ; {
			key, ok := NextKey(line, req.Rest, &at)
			if !ok {
				break
			}
			v.Keys = append(v.Keys, string(key.In(line)))
		}
	case req.Key.Len > 0:
		v.Keys = []string{string(req.Key.In(line))}
	}
	for c := byte('A'); c <= 'z'; c++ {
		if isLetter(c) && req.Meta.Has(c) {
			v.Letters += string(c)
		}
	}
	return v
}

// normal brings the twin's verdict to what Parse tells: the flags are a set of
// letters there. The words of stats are compared one by one.
func normal(v codectest.Verdict) codectest.Verdict {
	if v.Op == codec.OpMetaDebug && v.Base64 {
		v.Letters = "b"
	}
	set := ""
	for c := byte('A'); c <= 'z'; c++ {
		if isLetter(c) && strings.IndexByte(v.Letters, c) >= 0 {
			set += string(c)
		}
	}
	v.Letters = set
	v.Arg = strings.Join(strings.FieldsFunc(v.Arg, func(r rune) bool { return r == ' ' }), " ")
	if len(v.Keys) == 0 {
		v.Keys = nil
	}
	return v
}

func FuzzParse(f *testing.F) {
	for _, c := range lines {
		f.Add([]byte(c.line))
	}
	for _, bm := range benchLines {
		f.Add([]byte(bm.line))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		line, _, _ := bytes.Cut(in, []byte("\n"))
		line = append(bytes.Clone(line), '\n')
		var req codec.Request
		Parse(line, &req)
		if int(req.Line) != len(line) {
			t.Fatalf("Line is %d, want %d", req.Line, len(line))
		}
		for _, s := range []codec.Span{req.Key, req.Rest, req.Arg, req.Expiry, req.Client} {
			if uint64(s.Off)+uint64(s.Len) > uint64(len(line)-1) {
				t.Fatalf("%q: span %v is outside", line, s)
			}
		}
		got, want := normal(verdict(line, &req)), normal(codectest.Request(line))
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n got %+v\nwant %+v", line, got, want)
		}
		if req.Op != codec.OpNone {
			checkAppend(t, line, &req, got)
		}
	})
}

// checkAppend writes the request for a node in each way there is, and reads it again.
func checkAppend(t *testing.T, line []byte, req *codec.Request, v codectest.Verdict) {
	if v.Quiet {
		v.Quiet = false
		v.Letters = strings.ReplaceAll(v.Letters, "q", "")
	}
	if req.Op == codec.OpGet || req.Op == codec.OpGets {
		one := v
		for _, key := range v.Keys {
			one.Keys = []string{key}
			checkLine(t, line, AppendKeyed(nil, v.Op.String(), []byte(key)), one)
		}
	}
	if !req.Op.MultiKey() || req.Flags&codec.FlagClean != 0 {
		checkLine(t, line, AppendLine(nil, line, req), v)
	}
}

// checkLine demands that out, written for line, is a line that may go to a node
// and says want.
func checkLine(t *testing.T, line, out []byte, want codectest.Verdict) {
	t.Helper()
	if !bytes.HasSuffix(out, []byte("\r\n")) || bytes.Count(out, []byte("\n")) != 1 ||
		bytes.Contains(out, []byte("  ")) || bytes.IndexByte(out, 0) >= 0 {
		t.Fatalf("%q became %q, which is not in order", line, out)
	}
	if len(out) > len(line)+1 { // a bare LF gets its CR
		t.Fatalf("%q grew to %q", line, out)
	}
	var req codec.Request
	Parse(out, &req)
	if got := normal(verdict(out, &req)); !reflect.DeepEqual(got, want) {
		t.Fatalf("%q became %q:\n got %+v\nwant %+v", line, out, got, want)
	}
	if again := AppendLine(nil, out, &req); req.Flags&codec.FlagClean == 0 || !bytes.Equal(again, out) {
		t.Fatalf("%q became %q, which is not clean: %q", line, out, again)
	}
}

func FuzzParseReply(f *testing.F) {
	for _, c := range replies {
		for s := codec.ShapeLine; s <= codec.ShapeStats; s++ {
			f.Add([]byte(c.in), byte(s), uint16(len(c.in)/2))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, shape byte, cut uint16) {
		s := codec.Shape(shape % 4)
		for rest := in; ; {
			var r codec.Reply
			err := ParseReply(rest, s, &r)
			got := codectest.Frame{}
			if err == nil {
				if r.Key.End() > r.Line {
					t.Fatalf("%q: key %v is outside", rest, r.Key)
				}
				got = codectest.Frame{Kind: r.Kind, Key: string(r.Key.In(rest)), Line: int(r.Line), Value: int(r.Value), Echo: r.Echo}
			}
			want, short, ok := codectest.Reply(rest, s, MaxReplyLine)
			if (err == nil) != ok || (err == ErrShort) != short || ok && got != want {
				t.Fatalf("%q:\n got %+v, %v\nwant %+v, short %v, ok %v", rest, got, err, want, short, ok)
			}
			checkCut(t, rest, s, int(cut)%(len(rest)+1), r, err)
			if err != nil || r.Size() > len(rest) {
				return
			}
			if r.Size() < 2 || r.Size() < int(r.Line) {
				t.Fatalf("%q: no progress: %d", rest, r.Size())
			}
			rest = rest[r.Size():]
		}
	})
}

// checkCut demands of the first n bytes of buf that they say the same as the whole
// did, or that they are too short to say.
func checkCut(t *testing.T, buf []byte, s codec.Shape, n int, whole codec.Reply, wholeErr error) {
	var r codec.Reply
	err := ParseReply(buf[:n:n], s, &r)
	switch {
	case err == ErrShort && (wholeErr != nil || n < int(whole.Line)):
	case err == wholeErr && (err != nil || r == whole):
	default:
		t.Fatalf("%q: the first %d bytes give %+v, %v, all give %+v, %v", buf, n, r, err, whole, wholeErr)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Z m-9v", "====", "A===", "=AAA", "AA==AAAA", "!!!!", "Zm9"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if plain := decode([]byte(base64.StdEncoding.EncodeToString(in)), nil); !bytes.Equal(plain, in) {
			t.Fatalf("%q came back as %q", in, plain)
		}
		front := []byte("front")
		got := decode(in, front)
		want, ok := codectest.Decode(string(in))
		if string(got) != "front"+want {
			t.Fatalf("%q: got %q, want %q, %v", in, got, want, ok)
		}
		if strict, err := base64.StdEncoding.DecodeString(string(in)); err == nil && want != string(strict) && !bytes.ContainsAny(in, "\r\n") {
			t.Fatalf("%q: got %q, encoding/base64 says %q", in, want, strict)
		}
		if len(in) > MaxKey {
			return
		}
		var buf [MaxKey]byte
		if key := RouteKey(in, codec.Letter('b'), buf[:]); string(key) != want {
			t.Fatalf("RouteKey of %q is %q, want %q", in, key, want)
		}
	})
}

func FuzzNumbers(f *testing.F) {
	for _, n := range numbers {
		f.Add(n.text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i, ok := Int([]byte(s))
		if want, wantOK := codectest.Int(s); i != want && wantOK || ok != wantOK {
			t.Fatalf("Int(%q) is %d, %v, want %d, %v", s, i, ok, want, wantOK)
		}
		if plain, err := strconv.ParseInt(s, 10, 64); err == nil && (!ok || i != plain) {
			t.Fatalf("Int(%q) is %d, %v, strconv says %d", s, i, ok, plain)
		}
		u, ok := Uint([]byte(s))
		if want, wantOK := codectest.Uint(s); u != want || ok != wantOK {
			t.Fatalf("Uint(%q) is %d, %v, want %d, %v", s, u, ok, want, wantOK)
		}
		if plain, err := strconv.ParseUint(s, 10, 64); err == nil && (!ok || u != plain) {
			t.Fatalf("Uint(%q) is %d, %v, strconv says %d", s, u, ok, plain)
		}
	})
}
