package binary

import (
	"encoding/binary"
	"strings"
	"testing"

	"magent/codec"
)

// packet is a request, or a response if magic says so.
func packet(opcode Opcode, cas uint64, extras, key, value string) []byte {
	var b [HeaderSize]byte
	b[0], b[1], b[4] = Magic, byte(opcode), byte(len(extras))
	binary.BigEndian.PutUint16(b[2:], uint16(len(key)))
	binary.BigEndian.PutUint32(b[8:], uint32(len(extras)+len(key)+len(value)))
	binary.BigEndian.PutUint32(b[12:], 0xbeef)
	binary.BigEndian.PutUint64(b[16:], cas)
	return append(b[:], extras+key+value...)
}

// lying is packet with another length of its body.
func lying(body uint32, b []byte) []byte {
	binary.BigEndian.PutUint32(b[8:], body)
	return b
}

// sets is the extras of a store: flags 5, exptime 100; steps those of a count: by 1,
// from 10, exptime 0; and one that makes no item.
const (
	sets   = "\x00\x00\x00\x05\x00\x00\x00\x64"
	steps  = "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00"
	noItem = "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x0a\xff\xff\xff\xff"
	time   = "\x00\x00\x00\x64"
)

// coded is the longest key that is not plain and that a line can say.
var coded = strings.Repeat("\x01", maxCoded)

var requests = []struct {
	name  string
	in    []byte
	line  string // what it is as text
	fault Fault
}{
	{"get", packet(Get, 0, "", "key", ""), "key", 0},
	{"getq", packet(GetQ, 0, "", "key", ""), "key", 0},
	{"getk of a key with a blank", packet(GetK, 0, "", "a b", ""), "mg YSBi b v f c OYSBi\r\n", 0},
	{"getkq", packet(GetKQ, 0, "", "\xff", ""), "\xff", 0},
	{"gat", packet(GAT, 0, time, "key", ""), "gats 100 key\r\n", 0},
	{"gatq of a key with a line end", packet(GATQ, 0, time, "a\r\n", ""), "mg YQ0K b v f c T100 OYQ0K\r\n", 0},
	{"touch", packet(Touch, 0, time, "key", ""), "mg key f c T100 k\r\n", 0},
	{"touch of a key with a NUL", packet(Touch, 0, time, "\x00", ""), "mg AA== b f c T100 OAA==\r\n", 0},
	{"set", packet(Set, 0, sets, "key", "value"), "ms key 5 F5 T100 c\r\n", 0},
	{"set of a key with a blank", packet(Set, 0, sets, "a b", ""), "ms YSBi 0 b F5 T100 c\r\n", 0},
	{"set with a version", packet(Set, 7, sets, "key", "v"), "ms key 1 F5 T100 C7 c\r\n", 0},
	{"set for ever and a day", packet(Set, 0, "\x00\x00\x00\x00\xff\xff\xff\xff", "key", "v"), "ms key 1 T2147483647 c\r\n", 0},
	{"setq", packet(SetQ, 0, sets, "key", "v"), "ms key 1 F5 T100\r\n", 0},
	{"add", packet(Add, 0, sets, "key", "v"), "ms key 1 F5 T100 ME c\r\n", 0},
	{"add with a version", packet(Add, 7, sets, "key", "v"), "ms key 1 F5 T100 C7 c\r\n", 0},
	{"replaceq", packet(ReplaceQ, 0, sets, "key", "v"), "ms key 1 F5 T100 MR\r\n", 0},
	{"append", packet(Append, 7, "", "key", "v"), "ms key 1 MA C7 c\r\n", 0},
	{"prepend", packet(Prepend, 0, "", "key", ""), "ms key 0 MP c\r\n", 0},
	{"delete", packet(Delete, 0, "", "key", ""), "md key\r\n", 0},
	{"delete with a version", packet(Delete, 1<<64-1, "", "a b", ""), "md YSBi b C18446744073709551615\r\n", 0},
	{"increment", packet(Increment, 0, steps, "key", ""), "ma key N0 J10 D1 v c\r\n", 0},
	{"increment of what is there", packet(Increment, 0, noItem, "key", ""), "ma key D1 v c\r\n", 0},
	{"decrement with a version", packet(Decrement, 7, noItem, "a b", ""), "ma YSBi b D1 MD C7 v c\r\n", 0},
	{"incrementq", packet(IncrementQ, 0, steps, "key", ""), "ma key N0 J10 D1\r\n", 0},
	{"flush", packet(Flush, 0, "", "", ""), "flush_all\r\n", 0},
	{"flushq later", packet(FlushQ, 0, time, "", ""), "flush_all 100\r\n", 0},
	{"stat", packet(Stat, 0, "", "", ""), "stats\r\n", 0},
	{"stat items", packet(Stat, 0, "", "items", ""), "stats items\r\n", 0},
	{"stat of two words", packet(Stat, 0, "", "detail on", ""), "stats ?\r\n", 0},
	{"noop", packet(Noop, 0, "", "", ""), "", 0},
	{"version", packet(Version, 0, "", "", ""), "", 0},
	{"quit", packet(Quit, 0, "", "", ""), "", 0},
	{"the longest key", packet(Get, 0, "", strings.Repeat("k", 250), ""), strings.Repeat("k", 250), 0},

	{"verbosity", packet(Verbosity, 0, time, "", ""), "", FaultUnknown},
	{"an opcode of the future", packet(0x70, 0, "", "key", "value"), "", FaultUnknown},
	{"SASL", packet(SASLAuth, 0, "", "PLAIN", "\x00user\x00secret"), "", FaultUnknown},
	{"SASL without a mechanism", packet(SASLAuth, 0, "", "", "x"), "", FaultShape},
	{"a coded key that is too long", packet(Get, 0, "", coded+"\x01", ""), "", FaultKey},
	{"a key that is too long", packet(Get, 0, "", strings.Repeat("k", 251), ""), "", FaultShape},
	{"no key", packet(Get, 0, "", "", ""), "", FaultShape},
	{"extras where none may be", packet(Get, 0, time, "key", ""), "", FaultShape},
	{"no extras where some must be", packet(Set, 0, "", "key", "v"), "", FaultShape},
	{"too few extras", packet(Set, 0, time, "key", "v"), "", FaultShape},
	{"a value where none may be", packet(Touch, 0, time, "key", "v"), "", FaultShape},
	{"a noop with a body", packet(Noop, 0, "", "", "v"), "", FaultShape},
	{"a body shorter than the key", lying(2, packet(Get, 0, "", "key", "")), "", FaultLengths},
	{"a body shorter than extras and key", lying(10, packet(Set, 0, sets, "key", "")), "", FaultLengths},
	{"a value that no number has room for", lying(0xffffffff, packet(Set, 0, sets, "key", "")), "", FaultSize},
}

func TestParse(t *testing.T) {
	for _, c := range requests {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			if err := Parse(c.in, &r); err != nil || r.Fault != c.fault || r.Opaque != 0xbeef {
				t.Fatalf("got %+v, %v, want fault %d", r, err, c.fault)
			}
			if r.Fault != FaultNone {
				return
			}
			var req codec.Request
			if line := AppendLine(nil, c.in, &r, &req); string(line) != c.line {
				t.Errorf("got %q, want %q", line, c.line)
			}
			if req.Op == codec.OpNone || req.Quiet() {
				t.Errorf("as a request it is %+v", req)
			}
		})
	}
}

func TestEveryOpcodeHasALine(t *testing.T) {
	seen := map[Opcode]bool{}
	for _, c := range requests {
		seen[Opcode(c.in[1]).Loud()] = true
	}
	for o := range 256 {
		if loud := Opcode(o).Loud(); Opcode(o).is(known) && !seen[loud] && loud != SASLList && loud != SASLStep {
			t.Errorf("opcode %#x: add it to requests", o)
		}
	}
}

func TestFaults(t *testing.T) {
	for f, closes := range map[Fault]bool{FaultUnknown: false, FaultKey: false, FaultLengths: true, FaultShape: true, FaultSize: true} {
		if f.Closes() != closes {
			t.Errorf("fault %d: closes: %v", f, f.Closes())
		}
		if (f.Line() == "") != (f == FaultSize) {
			t.Errorf("fault %d says %q", f, f.Line())
		}
	}
}

// Every command that is served has a word.
func TestCommandsHaveWords(t *testing.T) {
	for _, c := range requests {
		var r Request
		if Parse(c.in, &r) != nil || r.Fault != FaultNone {
			continue
		}
		word := r.Opcode.Word()
		if word == codec.OpNone || word.Class() != forms[r.Opcode].op.Class() && r.Opcode.Loud() != Touch {
			t.Errorf("%s: opcode %#x is called %q", c.name, r.Opcode, word)
		}
	}
}
