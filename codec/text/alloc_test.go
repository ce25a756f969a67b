//go:build !race

package text

import (
	"strings"
	"testing"

	"magent/codec"
)

// This file is built without the race detector, which allocates on its own account.

func mustNotAlloc(t *testing.T, what string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(100, f); n != 0 {
		t.Errorf("%s: %v allocations, want 0", what, n)
	}
}

func TestRequestsDoNotAlloc(t *testing.T) {
	dst := make([]byte, 0, 4096)
	var buf [MaxKey]byte
	seen := map[codec.Op]bool{}
	for _, bm := range benchLines {
		line := []byte(bm.line)
		loose := []byte(strings.Replace(bm.line, " ", "  ", 1)) // must be rewritten
		var req, looseReq codec.Request
		mustNotAlloc(t, "Parse "+bm.name, func() { Parse(line, &req) })
		mustNotAlloc(t, "Parse of two spaces "+bm.name, func() { Parse(loose, &looseReq) })
		seen[req.Op] = true
		key := req.Key.In(line)
		mustNotAlloc(t, "RouteKey "+bm.name, func() { RouteKey(key, req.Meta, buf[:]) })
		if req.Op.MultiKey() {
			mustNotAlloc(t, "AppendKeyed "+bm.name, func() { AppendKeyed(dst, req.Op.String(), key) })
			continue
		}
		mustNotAlloc(t, "AppendLine "+bm.name, func() { AppendLine(dst, line, &req) })
		mustNotAlloc(t, "AppendLine of two spaces "+bm.name, func() { AppendLine(dst, loose, &looseReq) })
	}
	for op := codec.OpNone + 1; op < codec.NumOps; op++ {
		if !seen[op] {
			t.Errorf("no line for %v", op)
		}
	}
}

func TestRepliesDoNotAlloc(t *testing.T) {
	for _, c := range replies {
		in := []byte(c.in)
		var r codec.Reply
		mustNotAlloc(t, "ParseReply", func() { _ = ParseReply(in, c.shape, &r) })
	}
}
