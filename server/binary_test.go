package server

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"magent/codec/codectest"
	"magent/server/config"
)

// over is e with what a binary client says, and hears, instead.
func (e exchange) over(request, reply string) exchange {
	e.steps = append([]step{{"clientb", request}}, e.steps[1:]...)
	e.reply = reply
	return e
}

// askOne is an exchange of one binary request to one node.
func askOne(request, reply, answer string) exchange {
	return simple(request, answer).over(request, reply)
}

// plainBinaryExchanges are what most binary clients do most of the time, beside
// plainExchanges.
func plainBinaryExchanges() (all []exchange) {
	many := func(one string, n int) string { return strings.Repeat(one+"|", n-1) + one }
	for _, n := range []int{100, size} {
		for _, depth := range []int{1, 16} {
			v := " = " + strings.Repeat("v", n)
			shown := fmt.Sprintf(" = {v*%d}", n)
			hit := value("key-1", n, " 77")
			gets := func(copies []int, cas string) exchange { // one END answers all
				return exchange{copies: copies, requests: depth, reply: many("get "+cas+" flags=0"+shown, depth),
					steps: []step{{"clientb", many("get key-1", depth)}, {"p1", strings.Repeat(hit, depth) + "END\r\n"}}}.as(fmt.Sprint("size=", n))
			}
			sets := func(e exchange, cas string) exchange {
				return e.over(many("set key-1"+v, depth), many("set"+cas, depth))
			}
			all = append(all,
				gets([]int{1}, "cas=77"), gets([]int{1, 1}, "cas={p1:77}"),
				sets(simple("", "HD c5\r\n").deep(depth), " cas=5"),
				sets(stores("", "").deep(depth), " cas={p1:5}"),
			)
		}
	}
	return all
}

// binaryExchanges is every command of the binary protocol, and what is special about it
// on the way. What becomes of one at the nodes is in the exchanges of text.
func binaryExchanges() []exchange {
	const key64, opaque = "a2V5IDE=", " Oa2V5IDE="
	hit := value("key-1", 5, " 77")
	hit = strings.Replace(hit, "vvvvv", "hello", 1)
	bigHit := value("key-1", size, " 77") + "END\r\n"
	pieces := exchange{copies: []int{1}, requests: 1, reply: fmt.Sprintf("get cas=77 flags=0 = {v*%d}", size), steps: []step{
		{"clientb", "get key-1"}, {"p1", bigHit[:20000]}, {"p1", bigHit[20000:]}}}
	return append(plainBinaryExchanges(),
		pieces.as("pieces=2"),
		askOne("get key-1", "get 0x01 = Not found", "END\r\n").as("reply=miss"),
		askOne("getq key-1", "", "END\r\n").as("reply=miss"),
		askOne("getkq key-1|noop", "getkq key-1 cas=77 flags=0 = hello|noop", hit+"END\r\n"),
		askOne("getk key-1", "getk 0x01 key-1", "END\r\n").as("reply=miss"),
		askOne(`getk key\x201`, `getk key\x201 cas=77 flags=5 = hello`, "VA 5 f5 c77"+opaque+"\r\nhello\r\n").as("key=base64"),
		askOne(`getk key\x201`, `getk 0x01 key\x201`, "EN"+opaque+"\r\n").as("key=base64/reply=miss"),
		askOne("gat key-1 exp=100", "gat cas=77 flags=0 = hello", hit+"END\r\n"),
		askOne("touch key-1 exp=100", "touch cas=77 flags=5", "HD f5 c77 kkey-1\r\n"),
		askOne("setq key-1 = hello", "", "HD\r\n"),
		askOne(`set key\x201 = hello`, "set cas=5", "HD c5\r\n").as("key=base64"),
		askOne("set key-1 cas=77 = hello", "set 0x02 = Data exists for key.", "EX c0\r\n").as("reply=EX"),
		askOne("add key-1 = hello", "add cas=5", "HD c5\r\n"),
		askOne("replace key-1 = hello", "replace cas=5", "HD c5\r\n"),
		askOne("append key-1 = hello", "append cas=5", "HD c5\r\n"),
		askOne("prepend key-1 = hello", "prepend cas=5", "HD c5\r\n"),
		askOne("delete key-1", "delete", "HD\r\n"),
		askOne("incr key-1 delta=1", "incr cas=5 count=12", "VA 2 c5\r\n12\r\n"),
		askOne("decr key-1 delta=1 initial=3 exp=0", "decr cas=5 count=12", "VA 2 c5\r\n12\r\n"),
		askOne("flush", "flush", "OK\r\n"),
		exchange{copies: []int{1}, requests: 2, reply: "noop|version = 1.6.18", steps: []step{{"clientb", "noop|version"}}},
		duo("", "", "p1> "+hit+"END\r\n").over("get key-1", "get cas={p1:77} flags=0 = hello"),
		duo("", "", "p1> VA 5 f5 c77"+opaque+"\r\nhello\r\n").over(`getk key\x201`, `getk key\x201 cas={p1:77} flags=5 = hello`).as("key=base64"),
		duo("", "", "clock> ", "clock> ", "b1> "+hit+"END\r\n", "p1> "+hit+"END\r\n").
			over("get key-1", "get cas={b1:77} flags=0 = hello").explicit().with("hedged=1", hedging),
		duo("", "", "p1> HD f5 c5 kkey-1\r\n", "b1> HD\r\n", "p1> HD c5 t100 kkey-1\r\n").over("touch key-1 exp=100", "touch cas={p1:5} flags=5"),
		duo("", "", "p1> HD c5\r\n", followed, looked).over("setq key-1 = hello", ""),
		duo("", "", "p1> HD\r\n", "b1> HD\r\n").over("setq key-1 = hello", "").with("writes=parallel", parallel),
		duo("", "", has, "p1> HD c5\r\n", followed, looked).over("set key-1 cas={p1:77} = hello", "set cas={p1:5}").as("cas=1"),
		duo("", "", has, "p1> VA 2 c5\r\n12\r\n", read, followed, looked).over("incr key-1 delta=1", "incr cas={p1:5} count=12"),
		duo("", "", "p1> HD\r\n", "b1> HD\r\n", none).over("delete key-1", "delete"),
	)
}

// TestBinaryGarbage feeds a session what may look like requests, in pieces, and demands
// that it answers in whole responses, each to an opaque that was sent, and that all that
// it took on the way is given back: newWorld sees to that.
func TestBinaryGarbage(t *testing.T) {
	streams := uint64(200)
	if testing.Short() {
		streams = 40
	}
	for seed := range streams {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { playGarbage(t, rand.New(rand.NewPCG(seed, 2))) })
	}
}

func playGarbage(t *testing.T, rng *rand.Rand) {
	w := newWorld(t, func(c *config.Config) { c.MaxValue = 2000 }, 1, 1)
	w.start()
	stream := garbage(t, rng)
	var heard []byte
	for len(stream) > 0 {
		c := w.client("clientb")
		n := min(len(stream), 1+rng.IntN(100))
		c.traffic(stream[:n])
		stream = stream[n:]
		for range 3 {
			w.settle()
			for _, n := range w.nodes {
				if writes, _ := n.conn.take(); len(writes) > 0 {
					n.conn.traffic(n.honest(t).answer(bytes.Join(writes, nil)))
				}
			}
		}
		heard = append(heard, c.sent()...)
		if c.closed {
			break
		}
	}
	for len(heard) > 0 {
		p, ok := codectest.ReadPacket(heard)
		if !ok || p.Magic != 0x81 || p.Contradicts || p.Short > 0 || p.Opaque >= garbageOpaques && p.Opaque>>24 != 0xee {
			t.Fatalf("%q is no response: %+v", heard[:min(len(heard), 100)], p)
		}
		heard = heard[p.All:]
	}
}

// garbageOpaques is above the opaques of garbage; one that was spoilt begins with 0xee.
const garbageOpaques = 40

// garbage is requests, in some of which a byte of the header is another one.
func garbage(t *testing.T, rng *rand.Rand) (stream []byte) {
	keys := []string{"k1", `k\x201`, `\x00`, strings.Repeat("k", 251), strings.Repeat(`\x01`, 200)}
	for i := range garbageOpaques - 1 {
		name := opcodeNames[rng.IntN(len(opcodeNames))]
		if name == "." || strings.HasPrefix(name, "quit") {
			continue
		}
		text := fmt.Sprintf("%s#%d", name, i+1)
		if rng.IntN(8) > 0 && !slices.Contains([]string{"noop", "version", "flush", "flushq", "stat", "saslmechs"}, name) {
			text += " " + keys[rng.IntN(len(keys))*rng.IntN(2)]
		}
		if strings.Contains("set add replace append prepend setq addq replaceq appendq prependq", name) {
			text += " = " + strings.Repeat("v", rng.IntN(2500)*rng.IntN(2))
		}
		p := packets(t, text)
		switch at := rng.IntN(12); {
		case rng.IntN(6) > 0:
		case at == 0 && rng.IntN(3) > 0: // the magic: half of the streams would end here
		case at == 9:
			p[12] = 0xee
		default:
			p[at] ^= 1 << rng.IntN(8)
		}
		stream = append(stream, p...)
	}
	return stream
}
