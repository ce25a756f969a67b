//go:build !race

package binary

import (
	"testing"

	"magent/codec"
	"magent/codec/text"
)

// This file is built without the race detector, which allocates on its own account.

func TestNothingAllocates(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, c := range requests {
		var r Request
		var req codec.Request
		if n := testing.AllocsPerRun(100, func() {
			if Parse(c.in, &r) == nil && r.Fault == FaultNone {
				AppendLine(dst, c.in, &r, &req)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", c.name, n)
		}
	}
	for _, c := range replies {
		in := []byte(c.in)
		if n := testing.AllocsPerRun(100, func() { AppendReply(dst, in, Asked{c.opcode, 1}) }); n != 0 {
			t.Errorf("%#x %q: %v allocations, want 0", c.opcode, c.in, n)
		}
	}
	for _, c := range orders {
		line := []byte(c.line)
		var req codec.Request
		if n := testing.AllocsPerRun(100, func() {
			text.Parse(line, &req)
			AppendRequest(dst, line, &req, 1)
		}); n != 0 && c.packets != nil {
			t.Errorf("%q: %v allocations, want 0", c.line, n)
		}
	}
	for _, c := range tellings {
		line, at := []byte(c.line), HeaderSize+int(c.in[4])+int(c.in[3])
		var req codec.Request
		text.Parse(line, &req)
		_, sent := AppendRequest(nil, line, &req, 1)
		if n := testing.AllocsPerRun(100, func() {
			if r, err := ParseResponse(c.in); err == nil {
				AppendAnswer(dst, line, &req, &sent, &r, c.in[HeaderSize:at], c.in[at:])
			}
		}); n != 0 {
			t.Errorf("%q, answered with %q: %v allocations, want 0", c.line, c.in, n)
		}
	}
}
