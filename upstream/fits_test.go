package upstream

import (
	"strings"
	"testing"

	"magent/codec"
	"magent/codec/text"
)

// TestFits names every answer of memcached to every operation, and demands that no
// other operation takes it.
func TestFits(t *testing.T) {
	const errors = "|ERROR|CLIENT_ERROR x|SERVER_ERROR x"
	answers := map[codec.Op]string{
		codec.OpSet: "STORED|NOT_STORED", codec.OpAdd: "STORED|NOT_STORED", codec.OpReplace: "STORED|NOT_STORED",
		codec.OpAppend: "STORED|NOT_STORED", codec.OpPrepend: "STORED|NOT_STORED", codec.OpCas: "STORED|NOT_STORED|EXISTS|NOT_FOUND",
		codec.OpIncr: "0|18446744073709551615|NOT_FOUND", codec.OpDecr: "0|18446744073709551615|NOT_FOUND",
		codec.OpTouch: "TOUCHED|NOT_FOUND", codec.OpDelete: "DELETED|NOT_FOUND",
		codec.OpMetaGet: "HD|VA 1|EN", codec.OpMetaSet: "HD|NS|EX|NF", codec.OpMetaDelete: "HD|NF|EX",
		codec.OpMetaArith: "HD|VA 1|NF|NS|EX", codec.OpMetaDebug: "ME k exp=-1|EN", codec.OpMetaNoop: "MN",
		codec.OpFlushAll: "OK", codec.OpVerbosity: "OK", codec.OpVersion: "VERSION 1.6.18",
	}
	all := map[string]bool{}
	for _, lines := range answers {
		for _, l := range strings.Split(lines, "|") {
			all[l] = true
		}
	}
	for op, lines := range answers {
		for _, line := range strings.Split(strings.TrimPrefix(errors, "|"), "|") {
			if !takes(op, line) {
				t.Errorf("%v refuses %s", op, line)
			}
		}
		right := "|" + lines + "|"
		for line := range all {
			if got, want := takes(op, line), strings.Contains(right, "|"+line+"|"); got != want {
				t.Errorf("%v takes %s: %v", op, line, got)
			}
		}
	}
}

// takes reports whether a Conn would take line as the answer to op.
func takes(op codec.Op, line string) bool {
	var r codec.Reply
	b := []byte(line + "\r\n")
	return text.ParseReply(b, op.Shape(), &r) == nil && fits(op, r.Kind, b)
}
