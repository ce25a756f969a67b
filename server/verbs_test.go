package server

import (
	"fmt"
	"strings"
	"testing"

	"magent/codec"
)

// exchanges is every command that the proxy knows, and every way that one can take:
// alloc_test.go counts what each allocates, bench_test.go times it.
func exchanges() (all []exchange) {
	for _, group := range [][]exchange{plainExchanges(), aloneExchanges(), readExchanges(), writeExchanges(), stepExchanges(), repairExchanges(), otherExchanges(), binaryExchanges(), ruledExchanges()} {
		all = append(all, group...)
	}
	return all
}

// Nobody adds a command and forgets to have it counted and timed.
func TestEveryCommandIsMeasured(t *testing.T) {
	named, measured := make(map[string]bool), make(map[codec.Op]bool)
	for _, e := range exchanges() {
		name := e.String()
		if named[name] {
			t.Errorf("%s: two exchanges have this name: say what is special about one of them", name)
		}
		named[name] = true
		req, _ := e.first()
		if req.Op == codec.OpNone {
			t.Errorf("%s: begins with no command", name)
		}
		measured[req.Op] = true
	}
	measured[codec.OpQuit] = true // which cannot be done twice
	for op := codec.OpNone + 1; op < codec.NumOps; op++ {
		if !measured[op] {
			t.Errorf("%s: add it to exchanges", op)
		}
	}
}

const (
	size = 32 << 10 // of values that are called big
	set  = "set key-1 0 0 100\r\n"
)

var (
	data   = body(100)
	big    = body(size)
	bigSet = fmt.Sprintf("set key-1 0 0 %d\r\n", size)
	bigHit = value("key-1", size, "") + "END\r\n"
)

// body is a value of n bytes as it is on the wire.
func body(n int) string { return strings.Repeat("v", n) + "\r\n" }

// plainExchanges are what most clients do most of the time, with small values and big
// ones, one by one and pipelined.
func plainExchanges() (all []exchange) {
	for _, n := range []int{100, size} {
		for _, depth := range []int{1, 16} {
			hit, data := value("key-1", n, ""), body(n)
			set, ms := fmt.Sprintf("set key-1 0 0 %d\r\n", n)+data, fmt.Sprintf("ms key-1 %d\r\n", n)+data
			all = append(all,
				exchange{copies: []int{1}, requests: depth, reply: strings.Repeat(hit+"END\r\n", depth), // one END answers all
					steps: []step{{"client", strings.Repeat("get key-1\r\n", depth)}, {"p1", strings.Repeat(hit, depth) + "END\r\n"}}},
				simple("mg key-1 v\r\n", fmt.Sprintf("VA %d\r\n", n)+data).deep(depth),
				simple(set, "STORED\r\n").deep(depth),
				simple(ms, "HD\r\n").deep(depth),
				stores(set, "STORED\r\n").deep(depth),
				stores(ms, "HD\r\n").deep(depth),
				duo(set, "STORED\r\n", "p1> STORED\r\n", "b1> STORED\r\n").with("writes=parallel", parallel).deep(depth),
			)
		}
	}
	// One END answers them all.
	many := func(copies []int, verb, said, told string) exchange {
		return exchange{copies: copies, requests: 16, reply: strings.Repeat(value("key-1", 100, told)+"END\r\n", 16),
			steps: []step{{"client", strings.Repeat(verb+" key-1\r\n", 16)}, {"p1", strings.Repeat(value("key-1", 100, said), 16) + "END\r\n"}}}
	}
	return append(all,
		many([]int{1, 1}, "get", "", ""),
		many([]int{1}, "gets", " 77", " 77"),
		many([]int{1, 1}, "gets", " 77", " {p1:77}"),
		simple("delete key-1\r\n", "DELETED\r\n").deep(16),
		duo("delete key-1\r\n", "DELETED\r\n", "p1> DELETED\r\n", "b1> HD\r\n", none).deep(16))
}

// aloneExchanges are those of a pool of one copy.
func aloneExchanges() []exchange {
	one := func(what string, requests int, reply string, steps ...step) exchange {
		return exchange{copies: []int{1}, requests: requests, reply: reply, steps: steps}.as(what)
	}
	hit := value("key-1", 100, "")
	return []exchange{
		simple("get key-1\r\n", "END\r\n").as("reply=END"),
		simple("gets key-1\r\n", value("key-1", 100, " 77")+"END\r\n"),
		multiGet(10, 100),
		multiGet(26, 100),
		one("mixed=mn", 600, strings.Repeat(value("key-1", 1, "")+"END\r\nMN\r\n", 300),
			step{"client", strings.Repeat("get key-1\r\nmn\r\n", 300)}, step{"p1", strings.Repeat(value("key-1", 1, ""), 300) + "END\r\n"}),
		one("pieces=2", 1, bigHit, step{"client", "get key-1\r\n"}, step{"p1", bigHit[:20000]}, step{"p1", bigHit[20000:]}),
		simple("mg key-1 v t k Oq\r\n", "VA 5 t-1 kkey-1 Oq\r\nhello\r\n").as("flags=vtkO"),
		simple("mg a2V5LTE= b v k\r\n", "VA 5 ka2V5LTE= b\r\nhello\r\n").as("flags=bvk"),
		simple("mg key-1 v q\r\n", "EN\r\n").quiet().as("flags=vq/reply=EN"),
		one("flags=vq/reply=EN/mixed=mn", 2, "MN\r\n", step{"client", "mg key-1 v q\r\nmn\r\n"}, step{"p1", "EN\r\n"}),
		simple("gat 100 key-1\r\n", hit+"END\r\n"),
		simple("gats 100 key-1\r\n", value("key-1", 100, " 77")+"END\r\n"),
		simple("set key-1 0 0 100 noreply\r\n"+data, "STORED\r\n").quiet().as("noreply=1"),
		one("pieces=2", 1, "STORED\r\n", step{"client", bigSet + big[:20000]}, step{"client", big[20000:]}, step{"p1", "STORED\r\n"}),
		one("pieces=3", 1, "STORED\r\n", step{"client", set[:7]}, step{"client", set[7:] + data[:2]}, step{"client", data[2:]},
			step{"p1", "STO"}, step{"p1", "RED\r\n"}),
		simple("add key-1 0 0 100\r\n"+data, "STORED\r\n"),
		simple("replace key-1 0 0 100\r\n"+data, "STORED\r\n"),
		simple("append key-1 0 0 100\r\n"+data, "STORED\r\n"),
		simple("prepend key-1 0 0 100\r\n"+data, "STORED\r\n"),
		simple("cas key-1 0 0 100 77\r\n"+data, "STORED\r\n"),
		simple("cas key-1 0 0 100 77\r\n"+data, "EXISTS\r\n").as("reply=EXISTS"),
		simple("incr key-1 1\r\n", "12\r\n"),
		simple("decr key-1 1\r\n", "12\r\n"),
		simple("touch key-1 100\r\n", "TOUCHED\r\n"),
		simple("delete key-1\r\n", "DELETED\r\n"),
		simple("md key-1\r\n", "HD\r\n"),
		simple("ma key-1 v t\r\n", "VA 2 t-1\r\n12\r\n").as("flags=vt"),
		simple("me key-1\r\n", "ME key-1 exp=-1\r\n"),
		simple("flush_all\r\n", "OK\r\n"),
		one("", 1, "MN\r\n", step{"client", "mn\r\n"}),
		one("", 1, "VERSION 1.6.18\r\n", step{"client", "version\r\n"}),
		one("mixed=faults", 5, "VERSION 1.6.18\r\nMN\r\nERROR\r\nERROR\r\nEND\r\n", step{"client", "version\r\nmn\r\nnonsense\r\nget\r\ngat 0\r\n"}),
		one("mixed=version", 3, "END\r\nVERSION 1.6.18\r\nERROR\r\n",
			step{"client", "get key-1\r\nversion\r\nnonsense\r\n"}, step{"p1", "END\r\n"}),
	}
}

// readExchanges are reads in pools of two copies: versions are told as tokens, and a
// read that changes its item concerns the follower.
func readExchanges() []exchange {
	touched := []string{"b1> HD\r\n", "p1> HD c5 t100 kkey-1\r\n"}
	at := func(lead string) []string { return append([]string{"p1> " + lead}, touched...) }
	hit := value("key-1", 100, "") + "END\r\n"
	return []exchange{
		duo("get key-1\r\n", hit, "p1> "+hit),
		duo("get key-1\r\n", hit, "clock> ", "clock> ", "b1> "+hit, "p1> "+hit).with("hedged=1", hedging),
		duo("gets key-1 key-2\r\n", value("key-1", 100, " {p1:77}")+value("key-2", 100, " {p1:78}")+"END\r\n",
			"p1> "+value("key-1", 100, " 77")+value("key-2", 100, " 78")+"END\r\n"),
		duo("gets key-1\r\n", value("key-1", size, " {p1:77}")+"END\r\n", "p1> "+value("key-1", size, " 77")+"END\r\n"),
		duo("mg key-1 v k c t\r\n", "VA 5 kkey-1 c{p1:77} t-1\r\nhello\r\n", "p1> VA 5 kkey-1 c77 t-1\r\nhello\r\n").as("flags=vkct"),
		duo("mg key-1 c C{p1:77}\r\n", "HD c{p1:77}\r\n", "p1> HD c77\r\n").as("flags=cC"),
		duo("gat 100 key-1\r\n", hit, at(hit)...),
		duo("gats 100 key-1\r\n", value("key-1", 100, " {p1:5}")+"END\r\n", at(value("key-1", 100, " 5")+"END\r\n")...),
		duo("mg key-1 v T100\r\n", "VA 5\r\nhello\r\n", at("VA 5\r\nhello\r\n")...).as("flags=vT"),
		duo("mg key-1 v N100\r\n", "VA 0 W\r\n\r\n", "p1> VA 0 W\r\n\r\n", "b1> EN kkey-1\r\n", "p1> VA 0 f0 t100 c5 h0 kkey-1 Z\r\n\r\n", "b1> NF\r\n").as("flags=vN"),
	}
}

// writeExchanges are writes in two copies that are no steps.
func writeExchanges() []exchange {
	put := stores(set+data, "STORED\r\n")
	gone := func(request, lead string) exchange { return duo(request, lead, "p1> "+lead, "b1> HD\r\n", none) }
	once := func(request, lead, follower string) exchange {
		return duo(request, lead, "p1> "+lead, "b1> "+follower).with("writes=parallel", parallel)
	}
	return []exchange{
		put.explicit(), put.with("ack=lead", ackLead),
		stores("set key-1 0 0 100 noreply\r\n"+data, "").as("noreply=1"),
		exchange{copies: []int{1, 1}, requests: 1, reply: "STORED\r\n", steps: []step{
			{"client", bigSet + big[:20000]}, {"client", big[20000:]}, {"p1", "HD c5\r\n"}, {"b1", "HD c6\r\n"}, {"p1", seen}}}.as("pieces=2"),
		stores("add key-1 0 0 100\r\n"+data, "STORED\r\n"),
		stores("replace key-1 0 0 100\r\n"+data, "STORED\r\n"),
		duo("cas key-1 0 0 100 {p1:77}\r\n"+data, "STORED\r\n", has, "p1> HD c5\r\n", followed, looked),
		duo("cas key-1 0 0 100 77\r\n"+data, "EXISTS\r\n", has, "p1> EX c0\r\n").as("reply=EXISTS"),
		duo("ms key-1 100 C{p1:77} k c\r\n"+data, "HD kkey-1 c{p1:5}\r\n", has, "p1> HD kkey-1 c5\r\n", followed, looked).as("flags=Ckc"),
		stores("ms key-1 100 F7\r\n"+data, "HD\r\n").as("flags=F"),
		stores("ms key-1 100 c\r\n"+data, "HD c{p1:5}\r\n").as("flags=c").explicit(),
		stores("ms key-1 100 q\r\n"+data, "HD\r\n").quiet().as("flags=q"),
		duo("touch key-1 100\r\n", "TOUCHED\r\n", "p1> TOUCHED\r\n", "b1> HD\r\n", "p1> HD c5 t100 kkey-1\r\n"),
		gone("delete key-1\r\n", "DELETED\r\n"),
		gone("md key-1\r\n", "HD\r\n"),
		duo("md key-1 C{p1:4}\r\n", "HD\r\n", has, "p1> HD\r\n", none, "b1> HD\r\n").as("flags=C"),
		duo("md key-1 I T30\r\n", "HD\r\n", "p1> HD\r\n", "b1> HD\r\n").as("flags=IT"),
		once("delete key-1\r\n", "DELETED\r\n", "NOT_FOUND\r\n"),
		once("touch key-1 100\r\n", "TOUCHED\r\n", "TOUCHED\r\n"),
		once("ms key-1 100\r\n"+data, "HD\r\n", "HD\r\n"),
		once("md key-1\r\n", "HD\r\n", "HD\r\n"),
		duo(set+data, "SERVER_ERROR out of memory storing object\r\n",
			"b1> STORED\r\n", "p1> SERVER_ERROR out of memory storing object\r\n", "b1> HD\r\n").with("writes=parallel", parallel).as("reply=SERVER_ERROR"),
		duo("add key-1 0 0 100\r\n"+data, "STORED\r\n", "p1> HD c5\r\n", followed).with("writes=parallel", parallel),
	}
}

// stepExchanges are steps in two copies.
func stepExchanges() []exchange {
	incr, app := steps("incr key-1 1\r\n", "12\r\n"), steps("append key-1 0 0 100\r\n"+data, "STORED\r\n")
	return []exchange{
		incr, incr.explicit(),
		steps("decr key-1 1\r\n", "12\r\n"),
		app, app.explicit().of("HD\r\n"),
		steps("prepend key-1 0 0 100\r\n"+data, "STORED\r\n"),
		steps(fmt.Sprintf("append key-1 0 0 %d\r\n", size)+big, "STORED\r\n"),
		steps("ma key-1 v t\r\n", "VA 2 t-1\r\n12\r\n").as("flags=vt"),
		steps("ms key-1 100 MA\r\n"+data, "HD\r\n").of("HD c5\r\n").as("flags=M"),
		duo("incr key-1 1\r\n", "NOT_FOUND\r\n", "b1> EN kkey-1\r\n", "p1> NOT_FOUND\r\n").as("reply=NOT_FOUND"),
		duo("incr key-1 1\r\n", "12\r\n", has, "p1> 12\r\n", "b1> HD c4 kkey-1\r\n", read, followed, looked).with("ack=lead", ackLead),
		duo("incr key-1 1\r\n", "12\r\n", "p1> 12\r\n", "b1> HD c4 kkey-1\r\n", read, followed, looked).with("writes=parallel", parallel),
		exchange{copies: []int{1, 1}, requests: 3, reply: "12\r\n12\r\nEND\r\n", steps: []step{
			{"client", "incr key-1 1\r\nincr key-2 1\r\nget key-3\r\n"}, {"b1", asked + key2(asked)}, {"p1", "END\r\n12\r\n12\r\n"},
			{"p1", result + key2(result)}, {"b1", "HD c6\r\nHD c7\r\n"}, {"p1", seen + key2(seen)}}}.as("mixed=get"),
	}
}

// key2 is s about another key.
func key2(s string) string { return strings.ReplaceAll(s, "key-1", "key-2") }

// repairExchanges are writes in two copies after which the follower is repaired.
func repairExchanges() []exchange {
	race := func(request, reply, lead, follower string) exchange {
		return duo(request, reply, "p1> "+lead, "b1> "+follower, moved, reread, "b1> HD c9\r\n", "p1> HD c8 t-1 kkey-1\r\n").as("repair=overtaken")
	}
	bigRead := fmt.Sprintf("VA %d f0 t-1 c8 h0 kkey-1\r\n", size) + big
	wish := "p1> HD c8 t-1 kkey-1\r\n"
	return []exchange{
		race(set+data, "STORED\r\n", "HD c5\r\n", "HD c6\r\n"),
		race(set+data, "STORED\r\n", "HD c5\r\n", "HD c6\r\n").explicit(),
		duo(set+data, "STORED\r\n", "p1> HD c5\r\n", followed, moved,
			"p1> "+bigRead[:20000], "p1> "+bigRead[20000:], "b1> HD c9\r\n", wish).as(fmt.Sprintf("repair=overtaken/by=%d/pieces=2", size)),
		duo("delete key-1\r\n", "DELETED\r\n", "p1> DELETED\r\n", "b1> HD\r\n", moved, "b1> EN kkey-1\r\n", reread, "b1> HD c9\r\n", wish).as("repair=overtaken"),
		duo("touch key-1 100\r\n", "TOUCHED\r\n", "p1> TOUCHED\r\n", "b1> HD\r\n", "p1> HD c5 t500 kkey-1\r\n", "b1> HD\r\n", "p1> HD c5 t500 kkey-1\r\n").as("repair=overtaken"),
		duo(set+data, "STORED\r\n", "p1> HD c5\r\n", followed, none, "p1> EN kkey-1\r\n", "b1> HD\r\n").as("repair=deleted"),
		duo(set+data, "STORED\r\n", "p1> HD c5\r\n", followed, moved, reread, "b1> EX\r\n", "b1> HD c10 kkey-1\r\n", reread, "b1> EX\r\n", wish).as("repair=refused"),
		duo(set+data, "STORED\r\n", "p1> HD c5\r\n", "b1> SERVER_ERROR out of memory storing object\r\n",
			"b1> EN kkey-1\r\n", "p1> VA 5 f0 t-1 c5 h0 kkey-1\r\nhello\r\n", "b1> HD c6\r\n", looked).as("repair=unable"),
		duo(set+data, "STORED\r\n", "p1> HD c5\r\n", followed, "p1> HD c8 t-1 kkey-1 X W\r\n", "p1> HD\r\n", "b1> HD\r\n").as("repair=stale"),
	}
}

// otherExchanges concern all nodes, or more than two.
func otherExchanges() []exchange {
	stats := "STAT curr_items 1\r\nSTAT bytes 100\r\nEND\r\n"
	return []exchange{
		duo("flush_all\r\n", "OK\r\n", "p1> OK\r\n", "b1> OK\r\n"),
		duo("verbosity 1\r\n", "OK\r\n", "p1> OK\r\n", "b1> OK\r\n"),
		duo("stats\r\n", stats, "p1> "+stats).mayAllocate(),
		{copies: []int{1, 1, 1}, requests: 1, reply: "STORED\r\n", steps: []step{
			{"client", set + data}, {"p1", "HD c5\r\n"}, {"b1", "HD c6\r\n"}, {"c1", "HD c7\r\n"}, {"p1", seen + seen}}},
		{copies: []int{1, 1, 1}, requests: 1, reply: "12\r\n", steps: []step{
			{"client", "incr key-1 1\r\n"}, {"b1", asked}, {"p1", "12\r\n"}, {"c1", asked},
			{"p1", result + result}, {"b1", "HD c6\r\n"}, {"c1", "HD c7\r\n"}, {"p1", seen + seen}}},
	}
}
