package binary

import (
	"testing"

	"magent/codec"
	"magent/codec/text"
)

// BenchmarkRequest reads a request and puts it as text, as it is done for every one.
func BenchmarkRequest(b *testing.B) {
	for _, c := range requests {
		if c.fault != FaultNone {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			var r Request
			var req codec.Request
			b.SetBytes(int64(len(c.in)))
			b.ReportAllocs()
			for b.Loop() {
				_ = Parse(c.in, &r)
				AppendLine(dst, c.in, &r, &req)
			}
		})
	}
}

func BenchmarkReply(b *testing.B) {
	for _, c := range []struct {
		name string
		op   Opcode
		in   string
	}{
		{"hit", Get, "VALUE key-1 0 100 1234567890\r\n"},
		{"stored", Set, "HD c1234567890\r\n"},
		{"counted", Increment, "VA 2 c1234567890\r\n12\r\n"},
		{"missed", Get, "EN\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			dst, in := make([]byte, 0, 1024), []byte(c.in)
			b.ReportAllocs()
			for b.Loop() {
				AppendReply(dst, in, Asked{c.op, 1})
			}
		})
	}
}

// BenchmarkNode is what a command and its answer cost more at a node that speaks binary.
func BenchmarkNode(b *testing.B) {
	for _, c := range []struct {
		name, line string
		answer     []byte
	}{
		{"get", "get key\r\n", response(GetK, 0, 7, flags5, "key", "")},
		{"set", "set key 0 0 100\r\n", response(Set, 0, 7, "", "", "")},
		{"incr", "incr key 1\r\n", response(Increment, 0, 7, "", "", "\x00\x00\x00\x00\x00\x00\x00\x11")},
		{"ms", "ms key 100 F5 T100 c\r\n", response(Set, 0, 7, "", "", "")},
	} {
		b.Run(c.name, func(b *testing.B) {
			dst, line, at := make([]byte, 0, 1024), []byte(c.line), HeaderSize+int(c.answer[4])+int(c.answer[3])
			var req codec.Request
			b.ReportAllocs()
			for b.Loop() {
				text.Parse(line, &req)
				_, sent := AppendRequest(dst, line, &req, 1)
				r, _ := ParseResponse(c.answer)
				AppendAnswer(dst, line, &req, &sent, &r, c.answer[HeaderSize:at], c.answer[at:])
			}
		})
	}
}
