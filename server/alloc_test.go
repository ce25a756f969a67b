//go:build !race && !invariants

// The race detector and the invariants allocate on their own account.

package server

import (
	"strings"
	"testing"
)

// TestNoRequestAllocates has every verb's exchange many times over and demands that
// nothing is allocated from the client's bytes to its reply. gnet's own share (a
// task and a closure per Execute) is not in it.
func TestNoRequestAllocates(t *testing.T) {
	const set, data = "set key-1 0 0 5\r\n", "hello\r\n"
	big := strings.Repeat("v", 32<<10) + "\r\n"
	bigSet := "set key-1 0 0 32768\r\n"
	for _, e := range []exchange{
		simple("get, hit", "get key-1\r\n", value("key-1", 100, "")+"END\r\n", 1),
		simple("get, miss", "get key-1\r\n", "END\r\n", 1),
		simple("gets", "gets key-1\r\n", value("key-1", 100, " 77")+"END\r\n", 1),
		{"get, pipelined", []int{1}, 16, []step{{"client", strings.Repeat("get key-1\r\n", 16)}, {"p1", strings.Repeat(value("key-1", 100, ""), 16) + "END\r\n"}},
			strings.Repeat(value("key-1", 100, "")+"END\r\n", 16)},
		multiGet(10, 100),
		multiGet(26, 100),
		{"get, pipelined deep", []int{1}, 600, []step{{"client", strings.Repeat("get key-1\r\nmn\r\n", 300)}, {"p1", strings.Repeat(value("key-1", 1, ""), 300) + "END\r\n"}},
			strings.Repeat(value("key-1", 1, "")+"END\r\nMN\r\n", 300)},
		simple("get of 32 KiB", "get key-1\r\n", value("key-1", 32<<10, "")+"END\r\n", 1),
		{"get of 32 KiB in pieces", []int{1}, 1, []step{{"client", "get key-1\r\n"}, {"p1", "VALUE key-1 0 32768\r\n" + big[:20000]}, {"p1", big[20000:] + "END\r\n"}},
			"VALUE key-1 0 32768\r\n" + big + "END\r\n"},
		simple("mg", "mg key-1 v t k Oq\r\n", "VA 5 t-1 kkey-1 Oq\r\nhello\r\n", 1),
		simple("mg, base64", "mg a2V5LTE= b v k\r\n", "VA 5 ka2V5LTE= b\r\nhello\r\n", 1),
		quietly(simple("mg q, miss", "mg key-1 v q\r\n", "EN\r\n", 1)),
		{"mg q, mn", []int{1}, 2, []step{{"client", "mg key-1 v q\r\nmn\r\n"}, {"p1", "EN\r\n"}}, "MN\r\n"},
		simple("gat", "gat 100 key-1\r\n", value("key-1", 100, "")+"END\r\n", 1),
		written("gat, two copies", "gat 100 key-1\r\n", value("key-1", 100, "")+"END\r\n", "TOUCHED\r\n"),
		written("mg T, two copies", "mg key-1 v T30\r\n", "VA 5\r\nhello\r\n", "HD\r\n"),
		simple("set", set+data, "STORED\r\n", 1),
		quietly(simple("set noreply", "set key-1 0 0 5 noreply\r\n"+data, "STORED\r\n", 1)),
		written("set, two copies", set+data, "STORED\r\n", "STORED\r\n"),
		quietly(written("set noreply, two copies", "set key-1 0 0 5 noreply\r\n"+data, "STORED\r\n", "STORED\r\n")),
		simple("set of 32 KiB", bigSet+big, "STORED\r\n", 1),
		{"set of 32 KiB in pieces", []int{1}, 1, []step{{"client", bigSet + big[:20000]}, {"client", big[20000:]}, {"p1", "STORED\r\n"}}, "STORED\r\n"},
		written("set of 32 KiB, two copies", bigSet+big, "STORED\r\n", "STORED\r\n"),
		{"set cut anywhere", []int{1}, 1, []step{{"client", set[:7]}, {"client", set[7:] + data[:2]}, {"client", data[2:]}, {"p1", "STO"}, {"p1", "RED\r\n"}}, "STORED\r\n"},
		written("add", "add key-1 0 0 5\r\n"+data, "STORED\r\n", "STORED\r\n"),
		written("replace", "replace key-1 0 0 5\r\n"+data, "STORED\r\n", "STORED\r\n"),
		written("append", "append key-1 0 0 5\r\n"+data, "STORED\r\n", "STORED\r\n"),
		written("prepend", "prepend key-1 0 0 5\r\n"+data, "STORED\r\n", "STORED\r\n"),
		written("cas", "cas key-1 0 0 5 77\r\n"+data, "STORED\r\n", "STORED\r\n"),
		written("incr", "incr key-1 1\r\n", "12\r\n", "12\r\n"),
		written("incr, other outcome", "incr key-1 1\r\n", "12\r\n", "13\r\nHD\r\n"),
		written("decr", "decr key-1 1\r\n", "12\r\n", "12\r\n"),
		written("touch", "touch key-1 100\r\n", "TOUCHED\r\n", "TOUCHED\r\n"),
		written("delete", "delete key-1\r\n", "DELETED\r\n", "DELETED\r\n"),
		written("ms", "ms key-1 5 T30 c\r\n"+data, "HD c77\r\n", "HD\r\n"),
		quietly(written("ms q", "ms key-1 5 q\r\n"+data, "HD\r\n", "HD\r\n")),
		written("ms of 32 KiB", "ms key-1 32768\r\n"+big, "HD\r\n", "HD\r\n"),
		written("md", "md key-1\r\n", "HD\r\n", "HD\r\n"),
		written("ma", "ma key-1 v t\r\n", "VA 2 t-1\r\n12\r\n", "VA 2\r\n12\r\n"),
		simple("me", "me key-1\r\n", "ME key-1 exp=-1\r\n", 1),
		written("flush_all", "flush_all\r\n", "OK\r\n", "OK\r\n"),
		{"answered here", []int{1}, 5, []step{{"client", "version\r\nmn\r\nnonsense\r\nget\r\ngat 0\r\n"}}, "VERSION 1.6.18\r\nMN\r\nERROR\r\nERROR\r\nEND\r\n"},
		{"answered here, in turn", []int{1}, 3, []step{{"client", "get key-1\r\nversion\r\nnonsense\r\n"}, {"p1", "END\r\n"}}, "END\r\nVERSION 1.6.18\r\nERROR\r\n"},
	} {
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t, e)
			for range 5000 { // pools that learn what is usual have learned it then
				r.run()
			}
			if n := testing.AllocsPerRun(300, r.run); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}
