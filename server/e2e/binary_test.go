package e2e

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"magent/server/e2e/harness"
)

// A packet is a request of the binary protocol. Its opaque is its place in the script.
type packet struct {
	opcode             byte
	extras, key, value string
	cas                uint64
	lastCas            bool // the version last seen of the key takes the place of cas
}

// A binaryScript is a conversation in the binary protocol: for each stage what is sent in
// one go. A stage is over when the noop at its end is answered, or the connection closed.
type binaryScript [][]packet

const (
	noop     = 0x0a
	headSize = 24
	endMark  = 0xffffffff // the opaque of the noop that ends a stage
)

func (p *packet) append(dst []byte, opaque uint32, cas uint64) []byte {
	dst = append(dst, 0x80, p.opcode)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p.key)))
	dst = append(dst, byte(len(p.extras)), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.extras)+len(p.key)+len(p.value)))
	dst = binary.BigEndian.AppendUint32(dst, opaque)
	dst = binary.BigEndian.AppendUint64(dst, cas)
	return append(dst, p.extras+p.key+p.value...)
}

// binaryTalk is one side of a comparison.
type binaryTalk struct {
	client *harness.Client
	keys   []string // by opaque
	last   map[string]uint64
	ids    map[string]map[uint64]uint64 // key -> version -> number
}

// talkBinary has script with addr, its bytes cut as cuts say, and returns what came back
// as a list of packets for each stage, versions replaced by #1, #2 in order of appearance
// per key. Values of counters have no spaces at their end: see unpadded.
func talkBinary(addr string, script binaryScript, cuts []int) (got [][]string, err error) {
	c, err := harness.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	t := binaryTalk{client: c, last: map[string]uint64{}, ids: map[string]map[uint64]uint64{}}
	sent := 0
	for _, stage := range script {
		var data []byte
		for _, p := range stage {
			cas := p.cas
			if p.lastCas {
				cas = t.last[p.key]
			}
			data = p.append(data, uint32(len(t.keys)), cas)
			t.keys = append(t.keys, p.key)
		}
		data = (&packet{opcode: noop}).append(data, endMark, 0)
		sending := make(chan error, 1)
		go func(at int) { sending <- sendCut(c, data, at, cuts) }(sent)
		sent += len(data)
		answers, over, err := t.read()
		got = append(got, answers)
		if err != nil || over {
			return got, err
		}
		if err := <-sending; err != nil {
			return got, fmt.Errorf("sending: %w", err)
		}
	}
	return got, nil
}

// read reads the answers of one stage; over says that the peer has closed.
func (t *binaryTalk) read() (all []string, over bool, err error) {
	for {
		head, err := t.client.Full(headSize)
		if len(head) == 0 && err != nil && !isTimeout(err) {
			return append(all, "closed"), true, nil
		}
		if err != nil {
			return all, true, fmt.Errorf("%q: %w", head, err)
		}
		body, err := t.client.Full(int(binary.BigEndian.Uint32(head[8:])))
		if err != nil {
			return all, true, err
		}
		if binary.BigEndian.Uint32(head[12:]) == endMark && head[1] == noop {
			return all, false, nil
		}
		all = append(all, t.canonical(head, body))
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// canonical is a response in the form in which two servers can be compared.
func (t *binaryTalk) canonical(head, body []byte) string {
	key := "?"
	if opaque := int(binary.BigEndian.Uint32(head[12:])); opaque < len(t.keys) {
		key = t.keys[opaque]
	}
	if cas := binary.BigEndian.Uint64(head[16:]); cas != 0 {
		t.last[key] = cas
		if t.ids[key] == nil {
			t.ids[key] = map[uint64]uint64{}
		}
		if t.ids[key][cas] == 0 {
			t.ids[key][cas] = uint64(len(t.ids[key]) + 1)
		}
		binary.BigEndian.PutUint64(head[16:], t.ids[key][cas])
	}
	if counter(key) && head[1] != 0x05 && head[1] != 0x06 { // what is read of it
		body = bytes.TrimRight(body, " ")
		binary.BigEndian.PutUint32(head[8:], uint32(len(body)))
	}
	return string(head) + string(body)
}

// binaryGenerator makes scripts that memcached answers the same way however they are cut
// and pipelined. Counters are keys of their own, without flags: while a reply holds an
// item, memcached counts in a new one, and forgets old flags and padding.
type binaryGenerator struct{ *rand.Rand }

func counter(key string) bool { return strings.HasPrefix(key, "n") }

var binaryKeys = []string{"k0", "k1", "k2", "k\x80\xff", "k 1", "\r\n", "\x00", "VALUE k 0 1\r\nx\r\n", strings.Repeat("\x01", 186), strings.Repeat("k", 250)}

func (g binaryGenerator) key() string {
	if g.IntN(2) == 0 {
		return binaryKeys[g.IntN(3)]
	}
	return binaryKeys[g.IntN(len(binaryKeys))]
}

func (g binaryGenerator) pick(of ...byte) byte { return of[g.IntN(len(of))] }

func (g binaryGenerator) exptime() string {
	times := []uint32{0, 0, 0, 100, 100000, 2592001, 1 << 31, 1<<32 - 1}
	return string(binary.BigEndian.AppendUint32(nil, times[g.IntN(len(times))]))
}

func (g binaryGenerator) value() string {
	switch g.IntN(12) {
	case 0:
		return strings.Repeat("a line\r\n", g.IntN(3000))
	case 1:
		return strings.Repeat(string(byte(g.IntN(256))), g.IntN(70000))
	case 2:
		return ""
	}
	return strings.Repeat("v", 1+g.IntN(30))
}

func (g binaryGenerator) script() (s binaryScript) {
	for range 1 + g.IntN(5) {
		var stage []packet
		for range 1 + g.IntN(12) {
			stage = append(stage, g.packet())
		}
		s = append(s, stage)
	}
	if g.IntN(6) == 0 {
		last := &s[len(s)-1]
		*last = append(*last, g.fatal())
	}
	return s
}

func (g binaryGenerator) packet() (p packet) {
	switch n := g.IntN(20); {
	case n < 6:
		p = packet{opcode: g.pick(0x00, 0x00, 0x09, 0x0c, 0x0d), key: g.key()}
		if g.IntN(4) == 0 {
			p.key = "n" + string(rune('0'+g.IntN(3)))
		}
	case n < 10:
		flags := binary.BigEndian.AppendUint32(nil, g.Uint32()>>g.IntN(32))
		p = packet{opcode: g.pick(1, 1, 2, 3, 0x11, 0x12, 0x13), extras: string(flags) + g.exptime(), key: g.key(), value: g.value()}
		p.lastCas = g.IntN(4) == 0
	case n < 12:
		p = packet{opcode: g.pick(0x0e, 0x0f, 0x19, 0x1a), key: g.key(), value: g.value()}
		p.lastCas = g.IntN(6) == 0
	case n < 14:
		p = packet{opcode: g.pick(4, 0x14), key: g.key()}
		p.lastCas = g.IntN(4) == 0
	case n < 16:
		p = packet{opcode: g.pick(0x1c, 0x1d, 0x1e, 0x23, 0x24), extras: g.exptime(), key: g.key()}
	case n < 18:
		p = g.count()
	default:
		others := []packet{{opcode: noop}, {opcode: noop}, {opcode: 8}, {opcode: 0x18, extras: "\x00\x00\x00\x00"}, {opcode: 0x10, key: "nothing"},
			{opcode: 0x1b}, {opcode: 0x40}, {opcode: 0xff}, {opcode: 0x20}, {opcode: 0x21, key: "PLAIN", value: "\x00user\x00secret"},
			{opcode: 1, extras: "\x00\x00\x00\x00\x00\x00\x00\x00", key: "k0", value: strings.Repeat("x", 1<<20)},
			{opcode: 1, extras: "\x00\x00\x00\x07\x00\x00\x00\x00", key: "n0", value: "words"}}
		p = others[g.IntN(len(others))]
	}
	if p.cas == 0 && g.IntN(12) == 0 && len(p.key) > 0 && p.opcode != 0x10 && p.opcode < 0x1b {
		p.cas = 1 << 40 // nobody's
	}
	return p
}

// count is an increment or a decrement.
func (g binaryGenerator) count() packet {
	extras := binary.BigEndian.AppendUint64(nil, g.Uint64()>>g.IntN(64))
	extras = binary.BigEndian.AppendUint64(extras, g.Uint64()>>g.IntN(64))
	time := g.exptime()
	if time == "\x00\x27\x8d\x01" { // it would be gone when it is counted again, or not yet
		time = "\xff\xff\xff\xff"
	}
	key := "n" + string(rune('0'+g.IntN(3)))
	if g.IntN(4) == 0 {
		key = "n \r\n" + key
	}
	return packet{opcode: g.pick(5, 6, 0x15, 0x16), extras: string(extras) + time, key: key}
}

// fatal is a request that ends the connection.
func (g binaryGenerator) fatal() packet {
	all := []packet{{opcode: 7}, {opcode: 0x17}, {opcode: 7, key: "k"}, {opcode: 0}, {opcode: 0, key: "k", extras: "x"}, {opcode: 0, key: strings.Repeat("k", 251)},
		{opcode: 1, key: "k", value: "v"}, {opcode: 4, key: "k", value: "v"}, {opcode: noop, value: "v"}, {opcode: 8, extras: "12345678"}, {opcode: 5, key: "k"},
		{opcode: 0x21}, {opcode: 0x0e, key: "k", extras: "1234", value: "v"}}
	return all[g.IntN(len(all))]
}

// bytes is how many bytes s is.
func (s binaryScript) bytes() (n int) {
	for _, stage := range s {
		for _, p := range stage {
			n += headSize + len(p.extras) + len(p.key) + len(p.value)
		}
		n += headSize
	}
	return n
}

func (s binaryScript) String() string {
	var out strings.Builder
	for _, stage := range s {
		for _, p := range stage {
			fmt.Fprintf(&out, "%#02x extras %q key %s value %s cas %d %v\n", p.opcode, p.extras, brief(p.key), brief(p.value), p.cas, p.lastCas)
		}
		out.WriteString("--\n")
	}
	return out.String()
}

// differBinary has s with memcached and with the proxy, whole and cut, and says where the
// answers part, or "".
func (p *pair) differBinary(s binaryScript, cuts []int) string {
	return p.proxy.Steadily(func() string {
		if err := errors.Join(p.flushDirect(), p.flushTCP()); err != nil {
			return err.Error()
		}
		want, err := talkBinary(p.direct, s, nil)
		if err != nil {
			return fmt.Sprintf("memcached itself: %v", err)
		}
		if diff := binaryReplyOf(p.proxy.Addr, s, nil, want); diff != "" {
			return diff
		}
		if err := p.flushUnix(); err != nil {
			return err.Error()
		}
		if diff := binaryReplyOf(p.proxy.Unix, s, cuts, want); diff != "" {
			return fmt.Sprintf("cut at %v: %s", cuts[:min(len(cuts), 20)], diff)
		}
		return ""
	})
}

func binaryReplyOf(addr string, s binaryScript, cuts []int, want [][]string) string {
	got, err := talkBinary(addr, s, cuts)
	for i := range max(len(got), len(want)) {
		var g, w []string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if slices.Equal(g, w) {
			continue
		}
		for j := range max(len(g), len(w)) {
			a, b := cmp.Or(at(g, j), "(nothing)"), cmp.Or(at(w, j), "(nothing)")
			if a != b {
				return fmt.Sprintf("stage %d, packet %d of the answer is\n%s, want\n%s", i+1, j+1, brief(a), brief(b))
			}
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// TestRandomBinary gives memcached and the proxy the same generated conversations.
func TestRandomBinary(t *testing.T) {
	for _, top := range topologies {
		t.Run(nameOf(top), func(t *testing.T) {
			p := newPair(t, top)
			scripts := cmp.Or(*scriptsFlag, amount(20, 50, 300))
			for seed := *seedFlag; seed < *seedFlag+uint64(scripts); seed++ {
				g := binaryGenerator{rand.New(rand.NewPCG(seed, 0))}
				s := g.script()
				cuts := someCuts(g.Rand, s.bytes())
				if diff := p.differBinary(s, cuts); diff != "" {
					t.Fatalf("seed %d:\n%s\n%s", seed, s, diff)
				}
			}
		})
	}
}

// TestBinaryFailover kills the primary under a binary client that stores, reads and counts
// over one connection: it hears of nothing but its values and counts.
func TestBinaryFailover(t *testing.T) {
	p := harness.Proxy(t, topologies[1])
	b := binaryTalk{client: dial(t, p.Addr), last: map[string]uint64{}, ids: map[string]map[uint64]uint64{}}
	rounds := amount(30, 60, 300)
	killed := make(chan struct{})
	for round := range rounds {
		if round == rounds/2 {
			go func() { // beside the rounds, so that it may come at any time in one
				p.Nodes[0][0].Kill()
				close(killed)
			}()
		}
		value := fmt.Sprint("value of round ", round)
		var data []byte
		var want []string
		for i, key := range binaryKeys {
			data = (&packet{opcode: 0x11, extras: "\x00\x00\x00\x05\x00\x00\x00\x00", key: key, value: value}).append(data, uint32(i), 0)
			data = (&packet{opcode: 0x0d, key: key}).append(data, uint32(i), 0)
			want = append(want, "\x00\x00\x00\x05"+key+value)
		}
		step := binary.BigEndian.AppendUint64(nil, 1)
		data = (&packet{opcode: 5, extras: string(step) + string(step) + "\x00\x00\x00\x00", key: "n"}).append(data, 0, 0)
		want = append(want, string(binary.BigEndian.AppendUint64(nil, uint64(round+1))))
		if err := b.client.Send((&packet{opcode: noop}).append(data, endMark, 0)); err != nil {
			t.Fatal(err)
		}
		got, over, err := b.read()
		if err != nil || over {
			t.Fatalf("round %d: %v", round, err)
		}
		for i := range max(len(got), len(want)) {
			if body := at(got, i); len(body) < headSize || body[headSize:] != at(want, i) {
				t.Fatalf("round %d: answer %d is %s, want %s", round, i, brief(body), brief(at(want, i)))
			}
		}
	}
	<-killed
}
