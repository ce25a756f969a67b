//go:build !race && !invariants

// The race detector and the invariants allocate on their own account.

package server

import (
	"fmt"
	"strings"
	"testing"
)

// TestNoRequestAllocates has every verb's exchange many times over and demands that
// nothing is allocated from the client's bytes to its reply. gnet's own share (a
// task and a closure per Execute) is not in it.
func TestNoRequestAllocates(t *testing.T) {
	for _, group := range [][]exchange{aloneExchanges(), readExchanges(), writeExchanges(), stepExchanges(), repairExchanges(), otherExchanges()} {
		for _, e := range group {
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
}

const (
	set  = "set key-1 0 0 5\r\n"
	data = "hello\r\n"
	size = 32 << 10
)

var (
	big    = strings.Repeat("v", size) + "\r\n"
	bigSet = fmt.Sprintf("set key-1 0 0 %d\r\n", size)
	bigHit = fmt.Sprintf("VALUE key-1 0 %d\r\n", size) + big + "END\r\n"
)

// aloneExchanges are those of a pool of one copy.
func aloneExchanges() []exchange {
	one := func(name string, requests int, reply string, steps ...step) exchange {
		return exchange{name: name, copies: []int{1}, requests: requests, reply: reply, steps: steps}
	}
	return []exchange{
		simple("get, hit", "get key-1\r\n", value("key-1", 100, "")+"END\r\n", 1),
		simple("get, miss", "get key-1\r\n", "END\r\n", 1),
		simple("gets", "gets key-1\r\n", value("key-1", 100, " 77")+"END\r\n", 1),
		one("get, pipelined", 16, strings.Repeat(value("key-1", 100, "")+"END\r\n", 16),
			step{"client", strings.Repeat("get key-1\r\n", 16)}, step{"p1", strings.Repeat(value("key-1", 100, ""), 16) + "END\r\n"}),
		multiGet(10, 100),
		multiGet(26, 100),
		one("get, pipelined deep", 600, strings.Repeat(value("key-1", 1, "")+"END\r\nMN\r\n", 300),
			step{"client", strings.Repeat("get key-1\r\nmn\r\n", 300)}, step{"p1", strings.Repeat(value("key-1", 1, ""), 300) + "END\r\n"}),
		simple("get of 32 KiB", "get key-1\r\n", bigHit, 1),
		one("get of 32 KiB in pieces", 1, bigHit, step{"client", "get key-1\r\n"}, step{"p1", bigHit[:20000]}, step{"p1", bigHit[20000:]}),
		simple("mg", "mg key-1 v t k Oq\r\n", "VA 5 t-1 kkey-1 Oq\r\nhello\r\n", 1),
		simple("mg, base64", "mg a2V5LTE= b v k\r\n", "VA 5 ka2V5LTE= b\r\nhello\r\n", 1),
		quietly(simple("mg q, miss", "mg key-1 v q\r\n", "EN\r\n", 1)),
		one("mg q, mn", 2, "MN\r\n", step{"client", "mg key-1 v q\r\nmn\r\n"}, step{"p1", "EN\r\n"}),
		simple("gat", "gat 100 key-1\r\n", value("key-1", 100, "")+"END\r\n", 1),
		simple("set", set+data, "STORED\r\n", 1),
		quietly(simple("set noreply", "set key-1 0 0 5 noreply\r\n"+data, "STORED\r\n", 1)),
		simple("set of 32 KiB", bigSet+big, "STORED\r\n", 1),
		one("set of 32 KiB in pieces", 1, "STORED\r\n", step{"client", bigSet + big[:20000]}, step{"client", big[20000:]}, step{"p1", "STORED\r\n"}),
		one("set cut anywhere", 1, "STORED\r\n", step{"client", set[:7]}, step{"client", set[7:] + data[:2]}, step{"client", data[2:]},
			step{"p1", "STO"}, step{"p1", "RED\r\n"}),
		simple("cas", "cas key-1 0 0 5 77\r\n"+data, "EXISTS\r\n", 1),
		simple("incr", "incr key-1 1\r\n", "12\r\n", 1),
		simple("ma", "ma key-1 v t\r\n", "VA 2 t-1\r\n12\r\n", 1),
		simple("me", "me key-1\r\n", "ME key-1 exp=-1\r\n", 1),
		one("answered here", 5, "VERSION 1.6.18\r\nMN\r\nERROR\r\nERROR\r\nEND\r\n", step{"client", "version\r\nmn\r\nnonsense\r\nget\r\ngat 0\r\n"}),
		one("answered here, in turn", 3, "END\r\nVERSION 1.6.18\r\nERROR\r\n",
			step{"client", "get key-1\r\nversion\r\nnonsense\r\n"}, step{"p1", "END\r\n"}),
	}
}

// readExchanges are reads in pools of two copies: versions are told as tokens, and a
// read that changes its item concerns the follower.
func readExchanges() []exchange {
	touched := []string{"b1> HD\r\n", "p1> HD c5 t100 kkey-1\r\n"}
	at := func(lead string) []string { return append([]string{"p1> " + lead}, touched...) }
	return []exchange{
		duo("get, two copies", "get key-1\r\n", value("key-1", 100, "")+"END\r\n", "p1> "+value("key-1", 100, "")+"END\r\n"),
		duo("get, hedged", "get key-1\r\n", value("key-1", 100, "")+"END\r\n", "clock> ", "clock> ",
			"b1> "+value("key-1", 100, "")+"END\r\n", "p1> "+value("key-1", 100, "")+"END\r\n").with("", hedging),
		duo("gets, two copies", "gets key-1 key-2\r\n", value("key-1", 100, " {p1:77}")+value("key-2", 100, " {p1:78}")+"END\r\n",
			"p1> "+value("key-1", 100, " 77")+value("key-2", 100, " 78")+"END\r\n"),
		duo("gets of 32 KiB", "gets key-1\r\n", value("key-1", size, " {p1:77}")+"END\r\n", "p1> "+value("key-1", size, " 77")+"END\r\n"),
		duo("mg c", "mg key-1 v k c t\r\n", "VA 5 kkey-1 c{p1:77} t-1\r\nhello\r\n", "p1> VA 5 kkey-1 c77 t-1\r\nhello\r\n"),
		duo("mg C", "mg key-1 c C{p1:77}\r\n", "HD c{p1:77}\r\n", "p1> HD c77\r\n"),
		duo("gat, two copies", "gat 100 key-1\r\n", value("key-1", 100, "")+"END\r\n", at(value("key-1", 100, "")+"END\r\n")...),
		duo("gats, two copies", "gats 100 key-1\r\n", value("key-1", 100, " {p1:5}")+"END\r\n", at(value("key-1", 100, " 5")+"END\r\n")...),
		duo("mg T", "mg key-1 v T100\r\n", "VA 5\r\nhello\r\n", at("VA 5\r\nhello\r\n")...),
		duo("mg N", "mg key-1 v N100\r\n", "VA 0 W\r\n\r\n", "p1> VA 0 W\r\n\r\n", "b1> EN kkey-1\r\n", "p1> VA 0 f0 t100 c5 h0 kkey-1 Z\r\n\r\n", "b1> NF\r\n"),
	}
}

// writeExchanges are writes in two copies that are no steps.
func writeExchanges() []exchange {
	put := stores("set, two copies", set+data, "STORED\r\n")
	gone := func(name, request, lead string) exchange {
		return duo(name, request, lead, "p1> "+lead, "b1> HD\r\n", none)
	}
	once := func(name, request, lead, follower string) exchange {
		return duo(name+", parallel", request, lead, "p1> "+lead, "b1> "+follower).with("", parallel)
	}
	return []exchange{
		put, put.explicit(), put.with("ack lead", ackLead),
		quietly(stores("set noreply, two copies", "set key-1 0 0 5 noreply\r\n"+data, "")),
		stores("set of 32 KiB, two copies", bigSet+big, "STORED\r\n"),
		{name: "set of 32 KiB in pieces, two copies", copies: []int{1, 1}, requests: 1, reply: "STORED\r\n", steps: []step{
			{"client", bigSet + big[:20000]}, {"client", big[20000:]}, {"p1", "HD c5\r\n"}, {"b1", "HD c6\r\n"}, {"p1", seen}}},
		stores("add", "add key-1 0 0 5\r\n"+data, "STORED\r\n"),
		stores("replace", "replace key-1 0 0 5\r\n"+data, "STORED\r\n"),
		duo("cas, two copies", "cas key-1 0 0 5 {p1:77}\r\n"+data, "STORED\r\n", has, "p1> HD c5\r\n", followed, looked),
		duo("cas, exists", "cas key-1 0 0 5 77\r\n"+data, "EXISTS\r\n", has, "p1> EX c0\r\n"),
		duo("ms C", "ms key-1 5 C{p1:77} k c\r\n"+data, "HD kkey-1 c{p1:5}\r\n", has, "p1> HD kkey-1 c5\r\n", followed, looked),
		stores("ms, two copies", "ms key-1 5 F7\r\n"+data, "HD\r\n").says("HD c5\r\n", "HD\r\n"),
		stores("ms, E", "ms key-1 5 c\r\n"+data, "HD c{p1:5}\r\n").explicit(),
		quietly(stores("ms q", "ms key-1 5 q\r\n"+data, "HD\r\n")),
		stores("ms of 32 KiB", fmt.Sprintf("ms key-1 %d\r\n", size)+big, "HD\r\n"),
		duo("touch", "touch key-1 100\r\n", "TOUCHED\r\n", "p1> TOUCHED\r\n", "b1> HD\r\n", "p1> HD c5 t100 kkey-1\r\n"),
		gone("delete", "delete key-1\r\n", "DELETED\r\n"),
		gone("md", "md key-1\r\n", "HD\r\n"),
		duo("md C", "md key-1 C{p1:4}\r\n", "HD\r\n", has, "p1> HD\r\n", none, "b1> HD\r\n"),
		duo("md I", "md key-1 I T30\r\n", "HD\r\n", "p1> HD\r\n", "b1> HD\r\n"),
		once("set", set+data, "STORED\r\n", "STORED\r\n"),
		once("set of 32 KiB", bigSet+big, "STORED\r\n", "STORED\r\n"),
		once("delete", "delete key-1\r\n", "DELETED\r\n", "NOT_FOUND\r\n"),
		once("touch", "touch key-1 100\r\n", "TOUCHED\r\n", "TOUCHED\r\n"),
		once("ms", "ms key-1 5\r\n"+data, "HD\r\n", "HD\r\n"),
		once("md", "md key-1\r\n", "HD\r\n", "HD\r\n"),
		duo("set, parallel, out of memory", set+data, "SERVER_ERROR out of memory storing object\r\n",
			"b1> STORED\r\n", "p1> SERVER_ERROR out of memory storing object\r\n", "b1> HD\r\n").with("", parallel),
		duo("add, parallel", "add key-1 0 0 5\r\n"+data, "STORED\r\n", "p1> HD c5\r\n", followed).with("", parallel),
	}
}

// stepExchanges are steps in two copies.
func stepExchanges() []exchange {
	incr := steps("incr, two copies", "incr key-1 1\r\n", "12\r\n")
	return []exchange{
		incr, incr.explicit(),
		steps("decr", "decr key-1 1\r\n", "12\r\n"),
		steps("append", "append key-1 0 0 5\r\n"+data, "STORED\r\n"),
		steps("append", "append key-1 0 0 5\r\n"+data, "STORED\r\n").explicit().of("HD\r\n"),
		steps("prepend", "prepend key-1 0 0 5\r\n"+data, "STORED\r\n"),
		steps("append of 32 KiB", fmt.Sprintf("append key-1 0 0 %d\r\n", size)+big, "STORED\r\n"),
		steps("ma, two copies", "ma key-1 v t\r\n", "VA 2 t-1\r\n12\r\n"),
		steps("ms MA", "ms key-1 5 MA\r\n"+data, "HD\r\n").of("HD c5\r\n"),
		duo("incr, not found", "incr key-1 1\r\n", "NOT_FOUND\r\n", "b1> EN kkey-1\r\n", "p1> NOT_FOUND\r\n"),
		duo("incr, ack lead", "incr key-1 1\r\n", "12\r\n", has, "p1> 12\r\n", "b1> HD c4 kkey-1\r\n", read, followed, looked).with("", ackLead),
		duo("incr, parallel", "incr key-1 1\r\n", "12\r\n", "p1> 12\r\n", "b1> HD c4 kkey-1\r\n", read, followed, looked).with("", parallel),
		{name: "incr, incr of another key, get of a third", copies: []int{1, 1}, requests: 3, reply: "12\r\n12\r\nEND\r\n", steps: []step{
			{"client", "incr key-1 1\r\nincr key-2 1\r\nget key-3\r\n"}, {"b1", asked + key2(asked)}, {"p1", "END\r\n12\r\n12\r\n"},
			{"p1", result + key2(result)}, {"b1", "HD c6\r\nHD c7\r\n"}, {"p1", seen + key2(seen)}}},
	}
}

// key2 is s about another key.
func key2(s string) string { return strings.ReplaceAll(s, "key-1", "key-2") }

// repairExchanges are writes in two copies after which the follower is repaired.
func repairExchanges() []exchange {
	race := func(name, request, reply, lead, follower string) exchange {
		return duo(name, request, reply, "p1> "+lead, "b1> "+follower, moved, reread, "b1> HD c9\r\n", "p1> HD c8 t-1 kkey-1\r\n")
	}
	bigRead := fmt.Sprintf("VA %d f0 t-1 c8 h0 kkey-1\r\n", size) + big
	wish := "p1> HD c8 t-1 kkey-1\r\n"
	return []exchange{
		race("set, overtaken", set+data, "STORED\r\n", "HD c5\r\n", "HD c6\r\n"),
		race("set, overtaken, E", set+data, "STORED\r\n", "HD c5\r\n", "HD c6\r\n").explicit(),
		duo("set, overtaken by 32 KiB in pieces", set+data, "STORED\r\n", "p1> HD c5\r\n", followed, moved,
			"p1> "+bigRead[:20000], "p1> "+bigRead[20000:], "b1> HD c9\r\n", wish),
		duo("delete, overtaken", "delete key-1\r\n", "DELETED\r\n", "p1> DELETED\r\n", "b1> HD\r\n", moved, "b1> EN kkey-1\r\n", reread, "b1> HD c9\r\n", wish),
		duo("touch, overtaken", "touch key-1 100\r\n", "TOUCHED\r\n", "p1> TOUCHED\r\n", "b1> HD\r\n", "p1> HD c5 t500 kkey-1\r\n", "b1> HD\r\n", "p1> HD c5 t500 kkey-1\r\n"),
		duo("set, deleted", set+data, "STORED\r\n", "p1> HD c5\r\n", followed, none, "p1> EN kkey-1\r\n", "b1> HD\r\n"),
		duo("set, refused twice", set+data, "STORED\r\n", "p1> HD c5\r\n", followed, moved, reread, "b1> EX\r\n", "b1> HD c10 kkey-1\r\n", reread, "b1> EX\r\n", wish),
		duo("set, the follower cannot", set+data, "STORED\r\n", "p1> HD c5\r\n", "b1> SERVER_ERROR out of memory storing object\r\n",
			"b1> EN kkey-1\r\n", "p1> VA 5 f0 t-1 c5 h0 kkey-1\r\nhello\r\n", "b1> HD c6\r\n", looked),
		duo("set, stale", set+data, "STORED\r\n", "p1> HD c5\r\n", followed, "p1> HD c8 t-1 kkey-1 X W\r\n", "p1> HD\r\n", "b1> HD\r\n"),
	}
}

// otherExchanges concern all nodes.
func otherExchanges() []exchange {
	return []exchange{
		duo("flush_all", "flush_all\r\n", "OK\r\n", "p1> OK\r\n", "b1> OK\r\n"),
		{name: "set, three copies", copies: []int{1, 1, 1}, requests: 1, reply: "STORED\r\n", steps: []step{
			{"client", set + data}, {"p1", "HD c5\r\n"}, {"b1", "HD c6\r\n"}, {"c1", "HD c7\r\n"}, {"p1", seen + seen}}},
		{name: "incr, three copies", copies: []int{1, 1, 1}, requests: 1, reply: "12\r\n", steps: []step{
			{"client", "incr key-1 1\r\n"}, {"b1", asked}, {"p1", "12\r\n"}, {"c1", asked},
			{"p1", result + result}, {"b1", "HD c6\r\n"}, {"c1", "HD c7\r\n"}, {"p1", seen + seen}}},
	}
}
