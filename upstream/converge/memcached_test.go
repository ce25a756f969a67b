package converge

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
	"magent/codec"
	"magent/codec/text"
	"magent/upstream/repair"
)

// real is a connection to a memcached of the system.
type real struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

// startReal runs a memcached on a socket of its own until the test ends.
func startReal(t testing.TB) *real {
	t.Helper()
	// No background threads: while one holds an item, incr makes a new one.
	args := []string{"-I", "4m", "-o", "no_lru_maintainer,no_lru_crawler"}
	c, err := net.Dial("unix", proctest.Memcached(t, process.MemcachedConfig{Listen: process.Unix, Args: args}).Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * proctest.Patience))
	return &real{t, c, bufio.NewReader(c)}
}

// do sends a line, and a value if the line announces one, and returns the reply
// line and the value behind a VA.
func (r *real) do(line, value []byte) (reply, got []byte) {
	r.t.Helper()
	msg := append([]byte{}, line...)
	if value != nil {
		msg = append(append(msg, value...), "\r\n"...)
	}
	if _, err := r.c.Write(msg); err != nil {
		r.t.Fatal(err)
	}
	reply, err := r.r.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("%q: %v", line, err)
	}
	if bytes.HasPrefix(reply, []byte("VA ")) {
		a := repair.ParseReply(reply)
		got = make([]byte, a.Size+2)
		if _, err := io.ReadFull(r.r, got); err != nil {
			r.t.Fatal(err)
		}
		got = got[:a.Size]
	}
	return reply, got
}

func (r *real) say(line, value string) string {
	r.t.Helper()
	v := []byte(value)
	if !strings.HasPrefix(line, "ms ") {
		v = nil
	}
	reply, got := r.do([]byte(line+"\r\n"), v)
	return strings.TrimSuffix(string(reply)+string(got), "\r\n")
}

// drive carries a repair out between two memcacheds.
func drive(t *testing.T, lead, follower *real, rep *repair.Repair, begin repair.Begin) repair.Outcome {
	t.Helper()
	now := time.Now().Unix()
	dst, s := rep.Start(nil, begin, now)
	var got []byte
	for n := 0; s.Outcome == repair.Running; n++ {
		if n > 20 {
			t.Fatal("it does not end")
		}
		var value []byte
		if s.Value == repair.LeadValue {
			value = got
		}
		to := lead
		if s.To == repair.Follower {
			to = follower
		}
		var reply []byte
		reply, got = to.do(dst, value)
		if bytes.HasPrefix(reply, []byte("CLIENT_ERROR")) || bytes.HasPrefix(reply, []byte("ERROR")) {
			t.Fatalf("%q is answered %q", dst, reply)
		}
		dst, s = rep.Answer(nil, reply, now)
	}
	return s.Outcome
}

// TestRepairsOnMemcached: K is the key; the value is as long as the ms says.
func TestRepairsOnMemcached(t *testing.T) {
	lead, follower := startReal(t), startReal(t)
	forty := fmt.Sprint(time.Now().Unix() + 40*86400)
	odd := base64.StdEncoding.EncodeToString([]byte("a key\x00with \r\n bytes"))
	long := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0, '\n'}, 75))
	const value = "value"
	for _, c := range []struct {
		name           string
		lead, follower []string
		begin          repair.Begin
		want           repair.Outcome
		held           string // what the follower then answers to mg K f v; its TTL is the lead's
	}{
		{"plain", []string{"ms K 5 F7"}, nil, repair.Ask(), repair.Copied, "VA 5 f7"},
		{"over another", []string{"ms K 5 F7 T100"}, []string{"ms K 5 F1 T5"}, repair.Ask(), repair.Copied, "VA 5 f7"},
		{"big flags, 40 days", []string{"ms K 5 F4294967295 T" + forty}, nil, repair.Ask(), repair.Copied, "VA 5 f4294967295"},
		{"30 days", []string{"ms K 5 T2592000"}, nil, repair.Ask(), repair.Copied, "VA 5 f0"},
		{"empty", []string{"ms K 0 F1"}, []string{"ms K 5"}, repair.Ask(), repair.Copied, "VA 0 f1"},
		{"1 MiB", []string{"ms K 1048576 T50"}, []string{"ms K 5"}, repair.Ask(), repair.Copied, "VA 1048576 f0"},
		{"none at the lead", nil, []string{"ms K 5"}, repair.Ask(), repair.Absent, "EN"},
		{"none at all", nil, nil, repair.Ask(), repair.Absent, "EN"},
		{"stale, not won", []string{"ms K 5", "md K I"}, []string{"ms K 5"}, repair.Ask(), repair.Dropped, "EN"},
		{"stale, won by a client", []string{"ms K 5", "md K I", "mg K"}, []string{"ms K 5"}, repair.Ask(), repair.Dropped, "EN"},
		{"placeholder", []string{"mg K N30"}, []string{"ms K 5"}, repair.Ask(), repair.Dropped, "EN"},
		{"cold", []string{"ms K 5 F7"}, nil, repair.Cold(), repair.Copied, "VA 5 f7"},
		{"cold, but written to", []string{"ms K 5 F7"}, []string{"ms K 5 F1"}, repair.Cold(), repair.Overtaken, "VA 5 f1"},
		{"a version that was", []string{"ms K 5 F7"}, []string{"ms K 5 F1"}, repair.Held(99999), repair.Copied, "VA 5 f7"},
		{"a version that went", []string{"ms K 5 F7"}, nil, repair.Held(99999), repair.Copied, "VA 5 f7"},
		{"TTL alone", []string{"ms K 5 T100"}, []string{"ms K 5 F3 T7"}, repair.TTL(100), repair.Copied, "VA 5 f3"},
		{"a wrong TTL", []string{"ms K 5 T100"}, []string{"ms K 5 F3 T7"}, repair.TTL(500), repair.Copied, "VA 5 f3"},
		{"TTL taken away", []string{"ms K 5"}, []string{"ms K 5 F3 T7"}, repair.TTL(-1), repair.Copied, "VA 5 f3"},
		{"TTL of nothing", nil, []string{"ms K 5 F3 T7"}, repair.TTL(100), repair.Absent, "EN"},
	} {
		for _, key := range []string{"k", odd, long} {
			form := func(line string) string {
				line = strings.Replace(line, "K", key, 1)
				if key != "k" {
					line += " b"
				}
				return line
			}
			for i, lines := range [][]string{c.lead, c.follower} {
				node := []*real{lead, follower}[i]
				node.say(form("md K"), "")
				for _, line := range lines {
					node.say(form(line), strings.Repeat(value, 1<<18)[:sizeOf(line)])
				}
			}
			won := strings.HasPrefix(c.name, "stale, not")
			var rep repair.Repair
			rep.Reset([]byte(key), repair.Options{Base64: key != "k"})
			if got := drive(t, lead, follower, &rep, c.begin); got != c.want {
				t.Errorf("%s, key %s: %v, want %v", c.name, key, got, c.want)
			}
			want, got := lead.say(form("mg K v t"), ""), follower.say(form("mg K v t"), "")
			if strings.HasPrefix(c.held, "VA") && c.want == repair.Copied && !sameReply(want, got) && !sameReply(got, want) {
				t.Errorf("%s, key %s: the lead has %.40q, the follower %.40q", c.name, key, want, got)
			}
			if got := follower.say(form("mg K f v"), ""); !strings.HasPrefix(got, c.held) {
				t.Errorf("%s, key %s: the follower has %.40q, want %s", c.name, key, got, c.held)
			}
			if won && !strings.Contains(want, " W") {
				t.Errorf("%s: the repair kept the W: %q", c.name, want)
			}
		}
	}
}

// sizeOf is the size that an ms announces.
func sizeOf(line string) (n int) {
	fmt.Sscanf(line, "ms K %d", &n)
	return n
}

// TestSimulationIsMemcached asks a memcached and a simulated node the same.
func TestSimulationIsMemcached(t *testing.T) {
	node, sim := startReal(t), &simNode{}
	rng := rand.New(rand.NewPCG(1, 2))
	versions := []string{"1", "1"}
	for i := range 5000 {
		line := simLines[rng.IntN(len(simLines))]
		line = strings.Replace(line, "?", versions[max(0, len(versions)-1-rng.IntN(3))], 1)
		value := []string{"7", "x"}[rng.IntN(2)]
		var want, wantGot []byte
		if w := strings.Fields(line); w[0] == "ms" || w[0] == "append" {
			want, wantGot = node.do([]byte(line+"\r\n"), []byte(value))
		} else {
			want, wantGot = node.do([]byte(line+"\r\n"), nil)
		}
		got, gotGot := sim.exec(line, value)
		w := strings.TrimSpace(string(want))
		if !sameReply(w, got) || string(wantGot) != gotGot && strings.HasPrefix(line, "m") {
			t.Fatalf("step %d, %s: memcached says %q %q, the simulation %q %q", i, line, w, wantGot, got, gotGot)
		}
		// C0 is no condition to an append; nobody sends it.
		if r := repair.ParseReply(want); r.Cas != 0 {
			versions = append(versions, fmt.Sprint(r.Cas))
		}
	}
}

// simLines is what the simulation must know; ? is a version that was.
var simLines = []string{
	"mg k c u k", "mg k c t u k", "mg k v f t c h u k", "mg k T3000", "mg k N3000 v", "mg k v",
	"ms k 1 F1 T0 c", "ms k 1 F2 T5000 c", "ms k 1 F3 T0 ME c", "ms k 1 F3 T0 C? c", "ms k 1 MA C? c", "ms k 1 F0 T0 MR c",
	"md k", "md k C?", "md k I", "md k I C?", "ma k D1 MI C? v", "append k 0 0 1", "incr k 1", "touch k 4000", "delete k",
}

// sameReply compares two replies but for the seconds that may have passed, and for
// h, which the explorer has no use of.
func sameReply(is, want string) bool {
	a, b := strings.Fields(is), strings.Fields(want)
	a = slices.DeleteFunc(a, func(w string) bool { return w[0] == 'h' })
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		var x, y int
		if n, _ := fmt.Sscanf(a[i]+" "+b[i], "t%d t%d", &x, &y); n == 2 && y-x <= 60 && y >= x && x > 0 {
			continue
		}
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestClassicThroughMeta sends each classic write as it is to one memcached and as
// AppendLead has it to another: the client must not see the difference.
func TestClassicThroughMeta(t *testing.T) {
	plain, meta := startReal(t), startReal(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 3000 {
		line := []string{
			"set k 5 0 1", "set k 4294967295 100 1", "add k 1 0 1", "replace k 2 0 1", "append k 0 0 1", "prepend k 9 9 1",
			"cas k 3 0 1 1", "cas k 3 0 1 0", "set k 0 -1 1", "incr k 3", "decr k 70", "delete k", "touch k 50", "set k +7 0 1",
		}[rng.IntN(14)] + "\r\n"
		value := []byte{"7x"[rng.IntN(2)]}
		var req codec.Request
		text.Parse([]byte(line), &req)
		if req.Op.Class() != codec.ClassStore {
			value = nil
		}
		want, _ := plain.do([]byte(line), value)
		reply, _ := meta.do(AppendLead(nil, []byte(line), &req, Lead{Cas: 1 << 60}), value)
		if got := AppendReply(nil, reply, &req, 0); string(got) != string(want) {
			t.Fatalf("step %d, %q is answered %q, through meta %q", i, line, want, got)
		}
		p, m := plain.say("mg k v f t", ""), meta.say("mg k v f t", "")
		if !sameReply(m, p) && !sameReply(p, m) {
			t.Fatalf("step %d, %q leaves %q, through meta %q", i, line, p, m)
		}
	}
}
