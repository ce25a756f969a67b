package binary

import (
	"testing"

	"magent/codec"
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
