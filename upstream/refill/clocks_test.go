package refill

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machineClock is what a simulated node knows of the time: whole seconds, which it goes on
// to the next of at its own part of each, or late. Times are since the epoch.
type machineClock struct {
	ahead time.Duration
	phase time.Duration
	late  map[int64]time.Duration // of ticks, by what they bring
}

// tick is when the clock goes on to a second.
func (m *machineClock) tick(second int64) time.Duration {
	return time.Duration(second)*time.Second - m.ahead + m.phase + m.late[second]
}

// says is what the clock shows.
func (m *machineClock) says(now time.Duration) int64 {
	second := int64((now+m.ahead)/time.Second) + 2
	for ; m.tick(second) > now; second-- {
	}
	return second
}

// simNode is a memcached in simulated time that has enough for a Copier: it carries out
// what has arrived, unless it stands still.
type simNode struct {
	machineClock
	t       *testing.T
	items   map[string]simItem
	version uint64
	in      []parcel // requests on their way to it, and what it has answered on its way back
	out     []parcel
	part    []byte
	still   time.Duration // it stands still until then
}

type simItem struct {
	expires int64 // second of the node's clock; 0: never
	version uint64
}

type parcel struct {
	at    time.Duration
	bytes []byte
}

// run carries out what has arrived by now. An answer is a while under way.
func (n *simNode) run(now, way time.Duration) {
	for now >= n.still && len(n.in) > 0 && n.in[0].at <= now {
		n.part = append(n.part, n.in[0].bytes...)
		n.in = n.in[1:]
	}
	var answer []byte
	for {
		line, rest, whole := bytes.Cut(n.part, crlf)
		if !whole {
			break
		}
		words := strings.Fields(string(line))
		if words[0] == "ms" {
			rest = rest[len("v\r\n"):] // all values are this
		}
		answer = append(answer, n.do(words, n.says(now))...)
		n.part = rest
	}
	if len(answer) > 0 {
		n.out = append(n.out, parcel{now + way, answer})
	}
}

// do carries out one request at a second of the node's clock.
func (n *simNode) do(words []string, now int64) string {
	switch words[0] {
	case "stats":
		return fmt.Sprintf("STAT pid 7\r\nSTAT time %d\r\nEND\r\n", epoch.Unix()+now)
	case "mn":
		return "MN\r\n"
	}
	key, flags := words[1], words[2:]
	item, there := n.items[key]
	switch words[0] {
	case "mg":
		left := int64(-1)
		if item.expires != 0 {
			left = item.expires - now
		}
		switch {
		case !there:
			return "EN\r\n"
		case flags[0] == "v":
			return fmt.Sprintf("VA 1 f0 t%d c%d h0 k%s\r\nv\r\n", left, item.version, key)
		}
		return fmt.Sprintf("HD c%d t%d k%s\r\n", item.version, left, key)
	case "ms":
		return n.set(key, flags, item, there, now)
	}
	n.t.Fatalf("the node knows no %q", words)
	return ""
}

func (n *simNode) set(key string, flags []string, was simItem, there bool, now int64) string {
	item, quiet, opaque := simItem{}, false, ""
	for _, f := range flags {
		v, _ := strconv.ParseInt(f[1:], 10, 64)
		switch {
		case f == "ME" && there:
			return "NS\r\n"
		case f[0] == 'C' && uint64(v) != was.version:
			return "EX\r\n"
		case f[0] == 'T' && v > month:
			item.expires = v - epoch.Unix()
		case f[0] == 'T' && v > 0:
			item.expires = now + v
		case f[0] == 'O':
			opaque = " " + f
		case f == "q":
			quiet = true
		}
	}
	n.version++
	item.version = n.version
	n.items[key] = item
	if quiet {
		return ""
	}
	return fmt.Sprintf("HD c%d%s\r\n", item.version, opaque)
}

// simulation is a refill between two such nodes.
type simulation struct {
	nodes  [2]*simNode
	copier *Copier
	rng    *rand.Rand
	names  []string
}

// newSimulation makes nodes whose clocks have nothing in common, and keys of which most
// expire in more than a month. Some ticks are late, by up to three seconds.
func newSimulation(t *testing.T, seed uint64, keys int) *simulation {
	s := &simulation{copier: NewCopier(Limits{Keys: 64}), rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range s.nodes {
		n := &simNode{t: t, items: make(map[string]simItem)}
		n.ahead = time.Duration(s.rng.Int64N(int64(20*time.Second))) - 10*time.Second
		n.phase = time.Duration(s.rng.Int64N(int64(time.Second)))
		n.late = make(map[int64]time.Duration)
		for second := range int64(100) {
			if s.rng.IntN(4) == 0 {
				n.late[second-20] = time.Duration(s.rng.Int64N(int64(3 * time.Second)))
			}
		}
		s.nodes[i] = n
	}
	for i := range keys {
		name := fmt.Sprint("k", i)
		item := simItem{version: uint64(i + 1), expires: month + 100 + s.rng.Int64N(1_000_000)}
		if i%8 == 0 {
			item.expires = 0
		}
		s.nodes[Source].items[name] = item
		s.names = append(s.names, name)
	}
	return s
}

// way is for how long something is under way: now and then for long.
func (s *simulation) way() time.Duration {
	if s.rng.IntN(2000) == 0 {
		return time.Duration(s.rng.Int64N(int64(time.Second)))
	}
	return time.Duration(s.rng.Int64N(int64(3 * time.Millisecond)))
}

// run refills the target, by some keys every millisecond.
func (s *simulation) run(t *testing.T) {
	c, left := s.copier, s.names
	for now := time.Duration(0); len(left) > 0 || c.InFlight() > 0; now += time.Millisecond {
		if now > time.Minute {
			t.Fatalf("it does not end: %s", told(c))
		}
		at := epoch.Add(now)
		for len(left) > 0 && c.Room() && s.rng.IntN(3) > 0 {
			c.Add(Key{Name: []byte(left[0])}, at)
			left = left[1:]
		}
		c.Wake(at)
		for side, n := range s.nodes {
			if s.rng.IntN(3000) == 0 {
				n.still = now + time.Duration(s.rng.Int64N(int64(1500*time.Millisecond)))
			}
			if b := c.Requests(Side(side), nil); len(b) > 0 {
				n.in = append(n.in, parcel{now + s.way(), b})
			}
			n.run(now, s.way())
			for len(n.out) > 0 && n.out[0].at <= now {
				if err := c.Answer(Side(side), n.out[0].bytes, at); err != nil {
					t.Fatal(err)
				}
				n.out = n.out[1:]
			}
		}
	}
}

// TestLongTTLs: what expires in more than a month does so within a second of when it does at
// the source, however the clocks of the nodes and ours differ, and though ticks of theirs
// are late, answers are, and nodes stand still.
func TestLongTTLs(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 20
	}
	again := uint64(0)
	for seed := range seeds {
		s := newSimulation(t, seed, 400)
		s.run(t)
		again += s.copier.Counts().Retried
		source, target := s.nodes[Source], s.nodes[Target]
		source.late, target.late = nil, nil // by then
		for _, name := range s.names {
			is, want := target.items[name].expires, source.items[name].expires
			if is == 0 || want == 0 {
				if is != want {
					t.Fatalf("seed %d: %s expires at %d, at the source at %d", seed, name, is, want)
				}
				continue
			}
			if apart := target.tick(is) - source.tick(want); apart.Abs() > time.Second {
				t.Fatalf("seed %d: %s expires %v from when it does at the source", seed, name, apart)
			}
		}
	}
	if again == 0 {
		t.Error("no key was read again: nothing was late")
	}
}
