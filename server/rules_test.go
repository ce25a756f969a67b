package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"magent/codec"
	proto "magent/codec/binary"
	"magent/codec/text"
	"magent/server/config"
	"magent/upstream/memnode"
)

// ruledExchanges are with a proxy that holds its clients to something.
func ruledExchanges() []exchange {
	capped := func(c *config.Config) { c.Pools[0].MaxTTL = time.Hour }
	denying := func(c *config.Config) { c.Clients.Deny = []string{"flush_all", "append"} }
	rated := func(c *config.Config) { c.Clients.Rate = 1e9 }
	hour := "p1> HD c5 t3600 kkey-1\r\n" // the second look
	hit := value("key-1", 100, "") + "END\r\n"
	watched := func(c *config.Config) { c.Slow = time.Hour }
	return []exchange{
		simple("get key-1\r\n", hit).with("slow=1h", watched),
		stores(set+data, "STORED\r\n").with("slow=1h", watched),
		duo(set+data, "STORED\r\n", "p1> HD c5\r\n", followed, hour).with("max-ttl=1h", capped),
		duo("ms key-1 100\r\n"+data, "HD\r\n", "p1> HD c5\r\n", followed, hour).with("max-ttl=1h", capped),
		simple("get key-1\r\n", hit).with("max-ttl=1h", capped),
		simple("get key-1\r\n", hit).with("deny=flush_all", denying),
		simple("get key-1\r\n", hit).with("client-rate=1e9", rated),
		{copies: []int{1}, requests: 2, reply: "CLIENT_ERROR flush_all not allowed\r\nERROR\r\n",
			steps: []step{{"client", "flush_all\r\nappend key-1 0 0 100\r\n" + data}}, set: denying, what: "/deny=flush_all"},
	}
}

// from is a client at an address.
func from(address string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 40000))
}

// testDoorman is one with a clock that the test moves.
func testDoorman(limits config.Clients) (d *doorman, now *time.Duration) {
	now = new(time.Duration)
	return newDoorman(limits, func() time.Duration { return *now }), now
}

func TestDoormanCountsConnections(t *testing.T) {
	d, _ := testDoorman(config.Clients{Conns: 2})
	one, ok := d.enter(from("192.0.2.1"), false)
	two, again := d.enter(from("::ffff:192.0.2.1"), false)
	if !ok || !again || one == nil || one != two {
		t.Fatalf("two of one address: %p %v, %p %v", one, ok, two, again)
	}
	if _, ok := d.enter(from("192.0.2.1"), false); ok {
		t.Error("a third one is let in")
	}
	if three, ok := d.enter(from("192.0.2.1"), true); !ok || three != one {
		t.Error("one that had been let in before is turned away")
	} else {
		d.leave(three)
	}
	if _, ok := d.enter(from("192.0.2.2"), false); !ok {
		t.Error("another address is turned away")
	}
	if from, ok := d.enter(&net.UnixAddr{Name: "@"}, false); from != nil || !ok {
		t.Error("a client without an address is counted")
	}
	d.leave(one)
	if _, ok := d.enter(from("192.0.2.1"), false); !ok {
		t.Error("there is no room when one has gone")
	}
	if n := d.crowded.Load(); n != 1 {
		t.Errorf("%d were turned away", n)
	}
}

func TestDoormanAllows(t *testing.T) {
	d, _ := testDoorman(config.Clients{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if !d.allows(from("192.0.2.9")) || !d.allows(&net.UnixAddr{}) || d.allows(from("198.51.100.1")) {
		t.Error("others are allowed than those that are")
	}
	if n := d.barred.Load(); n != 1 {
		t.Errorf("%d were turned away", n)
	}
}

// An address that has gone is forgotten, but not before it has paid for what it asked.
func TestDoormanForgets(t *testing.T) {
	d, now := testDoorman(config.Clients{Rate: 10})
	for i := range 3 * leastPurge {
		o, _ := d.enter(from(fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff)), false)
		if until := o.charge(*now, 5); until != *now+400*time.Millisecond {
			t.Fatalf("it may go on at %v", until)
		}
		d.leave(o)
		if again, _ := d.enter(from(fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff)), false); again != o {
			t.Fatal("who connects anew has paid")
		}
		d.leave(o)
		*now += time.Millisecond
	}
	if n := len(d.origins); n > leastPurge {
		t.Errorf("%d addresses are known, of which 500 need be", n)
	}
	*now += time.Second
	o, _ := d.enter(from("10.0.0.1"), false)
	if d.leave(o); d.origins[o.addr] != nil {
		t.Error("one that owes nothing is not forgotten")
	}
}

// Requests of one address are no more than its rate, and not many fewer, however many
// ask for them at a time.
func TestRateIsShared(t *testing.T) {
	const rate, clients, seconds = 1000, 7, 5
	d, now := testDoorman(config.Clients{Rate: rate})
	var until [clients]time.Duration
	var served [clients]int
	for ; *now < seconds*time.Second; *now += tick {
		for c := range until {
			o, _ := d.enter(from("192.0.2.1"), false)
			for until[c] <= *now {
				until[c] = o.charge(*now, 1)
				served[c]++
			}
			d.leave(o)
		}
	}
	total := 0
	for c, n := range served {
		if total += n; n < seconds*rate/clients/4 {
			t.Errorf("client %d was served %d times of %d", c, n, served)
		}
	}
	if most := rate * seconds * 11 / 10; total > most || total < rate*seconds*9/10 {
		t.Errorf("%d requests were served, of %d", total, rate*seconds)
	}
}

func TestSparingSaysWhatItKept(t *testing.T) {
	p := sparing{gap: time.Second}
	said, kept := 0, uint64(0)
	for ms := range 60_000 {
		if ok, withheld := p.may(time.Duration(ms) * time.Millisecond); ok {
			said++
			kept += withheld
		}
	}
	if want := sparingBurst + 60 - 1; said < want-1 || said > want+1 || kept+p.withheld+uint64(said) != 60_000 {
		t.Errorf("%d lines were said, want %d; %d were kept back, and told of; %d are still to be", said, want, kept, p.withheld)
	}
	if ok, _ := p.may(time.Hour); !ok {
		t.Error("after an hour nothing may be said")
	}
}

// What is denied does nothing, not even to nodes that had keys before, and that others are
// settled at before they are carried out.
func TestDeniedWhereKeysMove(t *testing.T) {
	t.Parallel()
	at := newSite(t, 2)
	old := at.magent()
	old.fill(t, 10)
	m := startNode(t, memnode.Config{})
	at.nodes = append(at.nodes, m)
	at.cfg.Pools = slices.Clone(at.cfg.Pools)
	at.cfg.Pools[0].Copies = [][]config.Node{{nodeAt(t, m.Addr())}} // all others leave
	at.cfg.Clients.Deny = []string{"flush_all", "set"}
	at.times.linger = time.Hour
	s := at.replaced(old)
	c := s.caller(t)
	c.says("flush_all\r\nset "+mix(0)+" 0 0 1\r\nx\r\n", "CLIENT_ERROR flush_all not allowed\r\nERROR\r\n")
	b := s.caller(t)
	if _, err := b.conn.Write(packets(t, "flush|setq "+mix(1)+" = x|noop")); err != nil {
		t.Fatal(err)
	}
	b.conn.SetDeadline(time.Now().Add(20 * time.Second))
	for noop := false; !noop; {
		head := make([]byte, proto.HeaderSize)
		if _, err := io.ReadFull(b.in, head); err != nil {
			t.Fatal(err)
		}
		if _, err := b.in.Discard(int(binary.BigEndian.Uint32(head[8:]))); err != nil {
			t.Fatal(err)
		}
		noop = head[1] == byte(proto.Noop)
	}
	for i := range 10 {
		c.says("get "+mix(i)+"\r\n", fmt.Sprintf("VALUE %s 0 1\r\n%d\r\nEND\r\n", mix(i), i))
	}
}

// Each pool has a cap of its own. Keys of several pools that are touched together have the
// least of them.
func TestCapIsThePools(t *testing.T) {
	w := newWorld(t, nil, 1)
	lanes := []*lane{{conf: &config.Pool{Name: "short"}, maxTTL: 60}, {conf: &config.Pool{Name: "long"}, maxTTL: 3600}, {conf: &config.Pool{Name: "free"}}}
	s := &session{loop: w.loop, routes: newRoutes(lanes, []config.Route{{Prefix: "s:", Pool: "short"}, {Prefix: "l:", Pool: "long"}, {Prefix: "f:", Pool: "free"}})}
	for request, want := range map[string]int64{
		"set s:1 0 0 1": 60, "set l:1 0 0 1": 3600, "set f:1 0 0 1": 0, "set other 0 0 1": 0,
		"ms czox 1 b": 60, "gat 0 l:1 s:1 f:1": 60, "gats 0 f:1 l:1 none": 3600, "gat 0 f:1": 0,
	} {
		line := []byte(request + "\r\n")
		var req codec.Request
		text.Parse(line, &req)
		if got := s.maxTTL(line, &req); got != want {
			t.Errorf("%s: %d seconds, want %d", request, got, want)
		}
	}
}
