package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
	"magent/upstream/memnode"
)

// A replica is the only node of a copy.
type replica struct {
	addr               string
	kill, freeze, thaw func()
	restart            func() // empty, after kill
}

// memcacheds starts a memcached for each of n copies; program is its path or name.
func memcacheds(t *testing.T, program string, n int) (all []replica) {
	t.Helper()
	for range n {
		m := harness.Program(t, program, "-m", "512") // no race may evict
		all = append(all, replica{m.Addr, m.Kill, m.Freeze, m.Thaw, m.Restart})
	}
	return all
}

// memnodes starts n nodes in this process that take versions from the proxy.
func memnodes(t *testing.T, n int) (all []replica) {
	t.Helper()
	for range n {
		m, err := memnode.Start(memnode.Config{Version: "1.6.45", MaxBytes: 512 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		restart := func() {
			if err := m.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, replica{m.Addr(), m.Kill, m.Freeze, m.Thaw, restart})
	}
	return all
}

// A makeOf is how the nodes of a test are started.
type makeOf struct {
	name  string
	start func(t *testing.T, n int) []replica
}

// debian is Debian's memcached, which counts versions by itself.
var debian = makeOf{"debian", func(t *testing.T, n int) []replica { return memcacheds(t, "memcached", n) }}

// versioning are nodes that take versions from the proxy: always those in this
// process, and memcached itself if the environment names the program of one that
// can (from 1.6.27 on).
func versioning() []makeOf {
	all := []makeOf{{"memnode", memnodes}}
	if program := os.Getenv("MAGENT_MEMCACHED"); program != "" {
		all = append(all, makeOf{"memcached", func(t *testing.T, n int) []replica { return memcacheds(t, program, n) }})
	}
	return all
}

// mixed are nodes of which one takes versions and the others do not.
var mixed = makeOf{"mixed", func(t *testing.T, n int) []replica { return append(memnodes(t, 1), memcacheds(t, "memcached", n-1)...) }}

// A duo is two proxies, each a process with two loops, in front of one pool.
type duo struct {
	proxies []string // addresses
	nodes   []replica
	asks    []*harness.Client // to the proxies
	judges  []*harness.Client // to the nodes
}

// newDuo starts two proxies over nodes, which are a copy each. The flags are added
// to what every race needs: a node that a busy machine leaves waiting has not failed.
func newDuo(t *testing.T, nodes []replica, flags ...string) *duo {
	t.Helper()
	line := []string{"--loops", "2", "--connect-timeout", "5s", "--timeout", "5s", "-s", nodes[0].addr}
	for i, n := range nodes[1:] {
		line = append(line, []string{"-b", "--copy"}[min(i, 1)], n.addr)
	}
	d := &duo{nodes: nodes}
	for _, n := range nodes {
		d.judges = append(d.judges, dial(t, n.addr))
	}
	for range 2 {
		addr, _ := proxyProcess(t, append(line, flags...)...)
		d.proxies = append(d.proxies, addr)
		d.asks = append(d.asks, dial(t, addr))
	}
	return d
}

// proxy is the address of the proxy that client id uses.
func (d *duo) proxy(id int) string { return d.proxies[id%len(d.proxies)] }

// idle reports whether no proxy has a repair to do.
func (d *duo) idle(t *testing.T) bool {
	t.Helper()
	for _, c := range d.asks {
		s := stats(t, c, "stats proxy")
		for _, name := range []string{"repairs_waiting", "repairs_running"} {
			if s[name] != "0" {
				return false
			}
		}
	}
	return true
}

// trust is what a proxy trusts the node of a copy with, and since which change of that.
func (d *duo) trust(t *testing.T, proxy *harness.Client, copy int) string {
	t.Helper()
	s, node := stats(t, proxy, "stats nodes"), d.nodes[copy].addr
	return s[node+":state"] + " " + s[node+":epoch"]
}

// differences waits, for at most limit, until the proxies have nothing left to
// repair and two copies agree in keys, and says in what they differ.
func (d *duo) differences(t *testing.T, lead, follower int, keys []raceKey, limit time.Duration) (all []string) {
	t.Helper()
	proctest.Within(limit, func() bool {
		if !d.idle(t) {
			all = []string{"the proxies have keys left to repair"}
			return false
		}
		all = nil
		at, its := itemsOf(t, d.judges[lead], keys), itemsOf(t, d.judges[follower], keys)
		for i, k := range keys {
			if why := its[i].parts(&at[i], &k); why != "" {
				all = append(all, fmt.Sprintf("%s: %s\n\tlead     %v\n\tfollower %v", k.name, why, &at[i], &its[i]))
			}
		}
		return len(all) == 0
	})
	return all
}

// held is what a node holds under a key.
type held struct {
	found       bool
	value       []byte
	flags, ttl  int  // ttl is -1 for ever
	stale, open bool // X; somebody has been told, or is told now, to make it anew (W or Z)
}

func (h *held) String() string {
	if !h.found {
		return "nothing"
	}
	marks := ""
	if h.stale {
		marks += " stale"
	}
	if h.open {
		marks += " won"
	}
	return fmt.Sprintf("%s flags %d ttl %d%s", brief(string(h.value)), h.flags, h.ttl, marks)
}

// parts says how h, on a follower, is not what it may be beside the lead's item.
func (h *held) parts(lead *held, k *raceKey) string {
	ttls := h.ttl - lead.ttl
	switch {
	case !h.found:
		return ""
	case !lead.found:
		return "is at the follower alone"
	case h.stale != lead.stale:
		return "is stale at one of them"
	case k.vivified && len(lead.value) == 0 && h.open != lead.open:
		return "is being made at one of them"
	case !bytes.Equal(h.value, lead.value):
		return "differs in value"
	case h.flags != lead.flags:
		return "differs in flags"
	case ttls < -slack || ttls > slack || ttls != 0 && (h.ttl < 0 || lead.ttl < 0):
		return "differs in ttl"
	}
	return ""
}

// itemsOf reads keys from a node.
func itemsOf(t *testing.T, c *harness.Client, keys []raceKey) []held {
	t.Helper()
	var b []byte
	for _, k := range keys {
		b = append(append(append(append(b, "mg "...), k.name...), k.b...), " v f t\r\n"...)
	}
	if err := c.Send(b); err != nil {
		t.Fatal(err)
	}
	all := make([]held, len(keys))
	for i := range all {
		line, err := c.Line()
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(line)
		if words[0] == "EN" {
			continue
		}
		h := &all[i]
		n, err := strconv.Atoi(words[1])
		if words[0] != "VA" || err != nil {
			t.Fatalf("a node holds %s of %s", brief(line), keys[i].name)
		}
		if h.value, err = c.Full(n + 2); err != nil {
			t.Fatal(err)
		}
		h.value, h.found = h.value[:n], true
		for _, w := range words[2:] {
			switch w[0] {
			case 'f':
				h.flags, _ = strconv.Atoi(w[1:])
			case 't':
				h.ttl, _ = strconv.Atoi(w[1:])
			case 'X':
				h.stale = true
			case 'W', 'Z':
				h.open = true
			}
		}
	}
	return all
}

// A verdict is what a client is told of a write.
type verdict uint8

const (
	refused verdict = iota // it was not done
	done
	unknown // it may have been: SERVER_ERROR
)

// A contest is clients that each take one step at a time, one request in flight,
// through both proxies.
type contest struct {
	clients       int
	before, after int64  // steps done until midway is called, and from then on
	midway        func() // nil for a contest in which nothing fails
	step          func(c *harness.Client, id, seq int) (verdict, error)
}

// run returns how many steps were done, and how many may have been. No client is
// left in doubt more than once, and none if nothing fails.
func (g *contest) run(t *testing.T, d *duo) (acked, doubtful int64) {
	t.Helper()
	var sure, unsure atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for id := range g.clients {
		c := dial(t, d.proxy(id))
		all.Go(func() {
			doubts := 0
			for seq := 0; sure.Load() < g.before+g.after && !t.Failed(); seq++ {
				v, err := g.step(c, id, seq)
				switch {
				case err != nil:
					t.Errorf("client %d, step %d: %v", id, seq, err)
				case v == done:
					sure.Add(1)
				case v == unknown:
					unsure.Add(1)
					doubts++
				}
				if doubts > 1 || doubts > 0 && g.midway == nil {
					t.Errorf("client %d is left in doubt %d times", id, doubts)
				}
				if time.Since(began) > 3*harness.Patience {
					t.Errorf("only %d steps are done after %v", sure.Load(), time.Since(began))
				}
			}
		})
	}
	if g.midway != nil {
		proctest.Within(3*harness.Patience, func() bool { return sure.Load() >= g.before || t.Failed() })
		g.midway()
	}
	all.Wait()
	proctest.Eventually(t, "nothing is left to repair", func() bool { return d.idle(t) })
	t.Logf("%d steps done, %d in doubt, in %v", sure.Load(), unsure.Load(), time.Since(began).Round(time.Millisecond))
	return sure.Load(), unsure.Load()
}

// killed and frozen are ways in which a node goes away in the middle of a contest.
var (
	killed = loss{"killed", func(r replica) { r.kill() }, "5s"}
	frozen = loss{"frozen", func(r replica) { r.freeze() }, "1s"}
)

type loss struct {
	name    string
	take    func(replica)
	timeout string // of requests to nodes
}

// repeat does what a test does n times, or less often: what matters in it is the moment at
// which a node goes away, and each time has one only. What one has started ends before the
// next begins: a node of that may come to the port of one that was killed, and proxies that
// still wait there would take it for theirs.
func repeat(t *testing.T, n int, once func(t *testing.T)) {
	t.Helper()
	for i := range amount(1, min(n, 2), n) {
		t.Run(strconv.Itoa(i+1), once)
	}
}
