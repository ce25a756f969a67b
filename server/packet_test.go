package server

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	proto "magent/codec/binary"
	"magent/codec/codectest"
)

// What a client of the binary protocol says and hears is written so, in transcripts and
// exchanges. The name of such a one begins with clientb.
//
//	clientb> set k1 flags=5 exp=100 = x|getkq#7 k2|noop
//	clientb< set cas={p1:1}|noop
//
// A | separates packets, #7 is an opaque, = begins a value, which ends the packet.
// Beside those there are cas=, and of a count delta=, initial= and, if the counter is to
// be made, exp=. In what is heard a status that is not 0 stands behind the command, and a
// count as count=. raw sends what follows it as it is. A space in a key is written \x20.

// isBinary reports whether the client called who speaks the binary protocol.
func isBinary(who string) bool { return strings.HasPrefix(who, "clientb") }

var opcodeNames = strings.Fields("get set add replace delete incr decr quit flush getq noop version getk getkq append prepend " +
	"stat setq addq replaceq deleteq incrq decrq quitq flushq appendq prependq verbosity touch gat gatq . saslmechs saslauth saslstep gatk gatkq")

// packets is what text stands for.
func packets(t testing.TB, text string) (all []byte) {
	for one := range strings.SplitSeq(text, "|") {
		if raw, ok := strings.CutPrefix(one, "raw "); ok {
			all = append(all, parse(t, raw)...)
			continue
		}
		head, value, _ := strings.Cut(one, " = ")
		words := strings.Fields(head)
		name, opaque, _ := strings.Cut(words[0], "#")
		op := proto.Opcode(slices.Index(opcodeNames, name))
		key, given := "", map[string]uint64{"opaque": numeral(opaque)}
		for _, w := range words[1:] {
			if what, n, ok := strings.Cut(w, "="); ok {
				given[what] = numeral(n)
			} else {
				key = w
			}
		}
		all = append(all, packet(op, given, string(parse(t, key)), string(parse(t, value)))...)
	}
	return all
}

func numeral(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// packet is one request.
func packet(op proto.Opcode, given map[string]uint64, key, value string) []byte {
	exp, makes := given["exp"]
	var extras []byte
	switch op.Loud() {
	case proto.Set, proto.Add, proto.Replace:
		extras = binary.BigEndian.AppendUint32(extras, uint32(given["flags"]))
		extras = binary.BigEndian.AppendUint32(extras, uint32(exp))
	case proto.Increment, proto.Decrement:
		if !makes {
			exp = 1<<32 - 1
		}
		extras = binary.BigEndian.AppendUint64(extras, given["delta"])
		extras = binary.BigEndian.AppendUint64(extras, given["initial"])
		extras = binary.BigEndian.AppendUint32(extras, uint32(exp))
	case proto.Touch, proto.GAT:
		extras = binary.BigEndian.AppendUint32(extras, uint32(exp))
	case proto.Flush:
		if makes {
			extras = binary.BigEndian.AppendUint32(extras, uint32(exp))
		}
	}
	b := make([]byte, proto.HeaderSize, proto.HeaderSize+len(extras)+len(key)+len(value))
	b[0], b[1], b[4] = proto.Magic, byte(op), byte(len(extras))
	binary.BigEndian.PutUint16(b[2:], uint16(len(key)))
	binary.BigEndian.PutUint32(b[8:], uint32(len(extras)+len(key)+len(value)))
	binary.BigEndian.PutUint32(b[12:], uint32(given["opaque"]))
	binary.BigEndian.PutUint64(b[16:], given["cas"])
	return append(append(append(b, extras...), key...), value...)
}

// packetText is how b, which a client has been sent, is written. What is no packet, as
// the end of a value that came with an earlier write, is raw.
func packetText(b []byte) string {
	var all []string
	for len(b) > 0 {
		p, ok := codectest.ReadPacket(b)
		if !ok || p.Contradicts || p.Magic != proto.Magic+1 || int(p.Opcode) >= len(opcodeNames) {
			return strings.Join(append(all, "raw "+render(b)), "|")
		}
		b = b[min(len(b), p.All):]
		all = append(all, responseText(p))
	}
	return strings.Join(all, "|")
}

func responseText(p codectest.Packet) string {
	var out strings.Builder
	out.WriteString(opcodeNames[p.Opcode])
	if p.Opaque != 0 {
		fmt.Fprintf(&out, "#%d", p.Opaque)
	}
	if p.Status != 0 {
		fmt.Fprintf(&out, " %#02x", p.Status)
	}
	if p.Key != "" {
		out.WriteString(" " + strings.ReplaceAll(render([]byte(p.Key)), " ", `\x20`))
	}
	if p.Cas != 0 {
		fmt.Fprintf(&out, " cas=%d", p.Cas)
	}
	if p.Extras != "" {
		fmt.Fprintf(&out, " flags=%d", binary.BigEndian.Uint32([]byte(p.Extras)))
	}
	loud := proto.Opcode(p.Opcode).Loud()
	switch counts := loud == proto.Increment || loud == proto.Decrement; {
	case counts && p.Status == 0 && len(p.Value) == 8:
		fmt.Fprintf(&out, " count=%d", binary.BigEndian.Uint64([]byte(p.Value)))
	case p.Value != "" || p.Short > 0:
		out.WriteString(" = " + strings.ReplaceAll(render([]byte(p.Value)), "|", `\r\n`))
	}
	return out.String()
}
