package wire

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"magent/bench/keys"
)

// response is a packet as a server sends it.
func response(command byte, status uint16, opaque uint32, version uint64, extras, key, value string) string {
	b := []byte{0x81, command, 0, 0, byte(len(extras)), 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(len(key)))
	binary.BigEndian.PutUint16(b[6:], status)
	binary.BigEndian.PutUint32(b[8:], uint32(len(extras)+len(key)+len(value)))
	b = binary.BigEndian.AppendUint32(b, opaque)
	b = binary.BigEndian.AppendUint64(b, version)
	return string(b) + extras + key + value
}

// commandOf is the command of each packet of r that has a key.
func commandOf(r *Request) byte {
	switch {
	case r.Keys > 1:
		return 0x0d
	case r.Op == Get || r.Op == Gets:
		return 0x00
	}
	return map[Op]byte{Set: 0x01, CAS: 0x01, SetCounter: 0x01, Delete: 0x04, Incr: 0x05, Touch: 0x1c}[r.Op]
}

// hitPacket is the hit of key k, which has these flags, called by its opaque.
func hitPacket(s *keys.Space, r *Request, opaque uint32, k int, flags uint32, size int) string {
	name := ""
	if r.Keys > 1 {
		name = string(s.AppendKey(nil, k))
	}
	return response(commandOf(r), 0, opaque, maxVersion, string(binary.BigEndian.AppendUint32(nil, flags)), name,
		string(s.AppendValue(nil, k, testMark(k), size)))
}

// storedPacket is what one who holds the i-th key of r says of it.
func storedPacket(s *keys.Space, r *Request, i, size int) string {
	k := r.key(i, s.Len())
	return hitPacket(s, r, uint32(k), k, s.Flags(k), size)
}

// lastPacket ends the reply to r of one who holds every key, if it is not over.
func lastPacket(r *Request, multi int) string {
	switch {
	case multi > 1:
		return response(0x0a, 0, r.Key, 0, "", "", "")
	case r.Op == Get || r.Op == Gets:
		return ""
	case r.Op == Incr:
		return response(0x05, 0, r.Key, 9, "", "", string(binary.BigEndian.AppendUint64(nil, 12345)))
	case r.Op == Touch:
		return response(0x1c, 0, r.Key, 9, "\x00\x00\x00\x07", "", "")
	}
	return response(commandOf(r), 0, r.Key, 9, "", "", "")
}

// refusal is an answer to the first key of r that says no.
func refusal(r *Request, status uint16, why string) string {
	return response(commandOf(r), status, r.Key, 0, "", "", why)
}

// Every operation, byte for byte.
func TestBinaryRequests(t *testing.T) {
	s := testSpace()
	m := keys.Mark{Run: 1, Seq: 2}
	value := string(s.AppendValue(nil, 7, m, 40))
	const name, opaque7, version0 = "key:0007", "\x00\x00\x00\x07", "\x00\x00\x00\x00\x00\x00\x00\x00"
	for _, c := range []struct {
		req  Request
		want string
	}{
		{get(7), "\x80\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x08" + opaque7 + version0 + name},
		{gets(7), "\x80\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x08" + opaque7 + version0 + name},
		{get(998, 1001), "\x80\x0d\x00\x08\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x03\xe6" + version0 + "key:0998" +
			"\x80\x0d\x00\x08\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x01" + version0 + "key:0001" +
			"\x80\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\xe6" + version0},
		{Request{Op: Set, Keys: 1, Key: 7, Size: 40, Mark: m, TTL: 60},
			"\x80\x01\x00\x08\x08\x00\x00\x00\x00\x00\x00\x38" + opaque7 + version0 + "\x00\x00\x00\x07\x00\x00\x00\x3c" + name + value},
		{Request{Op: CAS, Keys: 1, Key: 7, Version: 1<<56 | 2},
			"\x80\x01\x00\x08\x08\x00\x00\x00\x00\x00\x00\x10" + opaque7 + "\x01\x00\x00\x00\x00\x00\x00\x02" + "\x00\x00\x00\x07\x00\x00\x00\x00" + name},
		{one(Incr), "\x80\x05\x00\x0d\x14\x00\x00\x00\x00\x00\x00\x21" + opaque7 + version0 +
			"\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\xff\xff\xff\xff" + "key:counter:7"},
		{one(SetCounter), "\x80\x01\x00\x0d\x08\x00\x00\x00\x00\x00\x00\x16" + opaque7 + version0 + version0 + "key:counter:7" + "0"},
		{one(Delete), "\x80\x04\x00\x08\x00\x00\x00\x00\x00\x00\x00\x08" + opaque7 + version0 + name},
		{Request{Op: Touch, Keys: 1, Key: 7, TTL: 60},
			"\x80\x1c\x00\x08\x04\x00\x00\x00\x00\x00\x00\x0c" + opaque7 + version0 + "\x00\x00\x00\x3c" + name},
	} {
		e := Encoder{Space: s, Dialect: Binary}
		if got := string(e.Append([]byte("before "), &c.req)); got != "before "+c.want {
			t.Errorf("%s: %q, want %q", c.req.Op, got, c.want)
		}
	}
}

func TestBinaryReplies(t *testing.T) {
	s := testSpace()
	all := func(r Request, places ...int) string {
		var b strings.Builder
		for _, i := range places {
			b.WriteString(storedPacket(s, &r, i, testSize))
		}
		return b.String() + lastPacket(&r, int(r.Keys))
	}
	seven, three := get(7), get(3, 5, 7)
	spoilt := []byte(all(seven, 0))
	spoilt[len(spoilt)-1] ^= 1
	for _, c := range []answer{
		{"hit", all(seven, 0), seven, Reply{Hits: 1}, []int{0}, false},
		{"a value of no bytes", storedPacket(s, &seven, 0, 0), seven, Reply{Hits: 1}, nil, false},
		{"miss", refusal(&seven, 1, "Not found"), seven, Reply{Misses: 1}, nil, false},
		{"all of a multi-get", all(three, 0, 1, 2), three, Reply{Hits: 3}, []int{0, 1, 2}, false},
		{"multi-get in another order", all(three, 2, 0, 1), three, Reply{Hits: 3}, []int{0, 1, 2}, false},
		{"part of a multi-get", all(three, 2), three, Reply{Hits: 1, Misses: 2}, []int{2}, false},
		{"nothing of a multi-get", all(three), three, Reply{Misses: 3}, nil, false},
		{"a key twice", all(three, 0, 0), three, Reply{Hits: 1, Misses: 1, Wrong: 1}, []int{0}, false},
		{"last byte of the value spoilt", string(spoilt), seven, Reply{Wrong: 1}, nil, false},
		{"another key's value", hitPacket(s, &seven, 7, 8, 7, testSize), seven, Reply{Wrong: 1}, nil, false},
		{"another key under the opaque", hitPacket(s, &three, 5, 7, 5, testSize) + all(three, 0), three, Reply{Hits: 1, Misses: 1, Wrong: 1}, []int{0}, false},
		{"other flags", hitPacket(s, &seven, 7, 7, 8, testSize), seven, Reply{Wrong: 1}, nil, false},
		{"a version", all(gets(7), 0), gets(7), Reply{Hits: 1, Version: maxVersion}, []int{0}, false},
		{"versions", all(gets(3, 5), 0, 1), gets(3, 5), Reply{Hits: 2}, []int{0, 1}, false},
		{"a number", lastPacket(&Request{Op: Incr, Key: 7}, 1), one(Incr), Reply{Number: 12345}, nil, false},
		{"a touch that tells no flags", response(0x1c, 0, 7, 9, "", "", ""), one(Touch), Reply{}, nil, false},
	} {
		if strings.Contains(c.name, "no bytes") { // it is too short to name its write
			in := []byte(c.reply)
			if got := scanAll(t, s, Binary, []Request{c.req}, in[:5], in[5:]); got[0] != account(c.want, 1, new([MaxKeys]keys.Mark)) {
				t.Errorf("%s: %q", c.name, got)
			}
			continue
		}
		c.check(t, s, Binary, "")
	}
	refused := refusal(&three, 0x84, "gone")
	for _, c := range []answer{
		{"an error", refusal(&seven, 0x84, "gone"), seven, Reply{Status: Failed}, nil, false},
		{"an error amid a multi-get", refused + all(three, 2), three, Reply{Hits: 1, Misses: 1, Status: Failed}, []int{2}, false},
		{"more errors than keys", strings.Repeat(refused, 4), three, Reply{}, nil, true},
	} {
		c.check(t, s, Binary, "status 0x84: gone")
	}
}

// Each status is taken for what it means after the operations that it belongs to.
func TestBinaryStatuses(t *testing.T) {
	s := testSpace()
	for op := range Op(Ops) {
		r := one(op)
		for status := range uint16(0x90) {
			want, lost, errLine := Reply{}, false, ""
			reply := refusal(&r, status, "why")
			switch {
			case status == 0:
				continue
			case status == 1 && (op == Get || op == Gets):
				want.Misses = 1
			case status == 1 && op != Set && op != SetCounter:
				want.Status = NotFound
			case status == 2 && op == CAS:
				want.Status = Exists
			case status == 1 || status == 2:
				lost = true
			default:
				want.Status, errLine = Failed, fmt.Sprintf("status 0x%02x: why", status)
			}
			answer{name: fmt.Sprintf("%s answered %#x", op, status), reply: reply, req: r, want: want, lost: lost}.check(t, s, Binary, errLine)
		}
	}
}

func TestBinaryOutOfStep(t *testing.T) {
	s := testSpace()
	seven, three, set := get(7), get(3, 5, 7), one(Set)
	plain, end := storedPacket(s, &seven, 0, testSize), lastPacket(&three, 3)
	byteAt := func(in string, at int, is byte) string { return in[:at] + string(is) + in[at+1:] }
	broken{
		"a request":                          {byteAt(plain, 0, 0x80), seven},
		"text":                               {"VALUE key:0007 7 64\r\n" + strings.Repeat("v", 64) + "\r\nEND\r\n", seven},
		"another command":                    {byteAt(plain, 1, 0x0c), seven},
		"a data type":                        {byteAt(plain, 5, 1), seven},
		"another opaque":                     {byteAt(plain, 15, 8), seven},
		"an opaque beyond all keys":          {byteAt(plain, 12, 0xff), seven},
		"no flags":                           {response(0, 0, 7, 1, "", "", "v"), seven},
		"a key that was not asked for":       {response(0, 0, 7, 1, "flag", "key:0007", "v"), seven},
		"no key in a multi-get":              {response(0x0d, 0, 3, 1, "flag", "", "v"), three},
		"a body shorter than its parts":      {byteAt(plain, 11, 2), seven},
		"a value beyond belief":              {byteAt(plain, 8, 0x7f), seven},
		"a body beyond belief":               {byteAt(lastPacket(&set, 1), 8, 0x7f), set},
		"a miss in a quiet run":              {refusal(&three, 1, "Not found") + end, three},
		"the end of a run to a single get":   {end, get(3)},
		"the end of a run with a body":       {response(0x0a, 0, 3, 0, "", "", "x"), three},
		"the end of another run":             {response(0x0a, 0, 5, 0, "", "", ""), three},
		"a set answered with a value":        {plain, set},
		"a set answered with a body":         {response(1, 0, 7, 9, "", "", "x"), set},
		"a count of 7 bytes":                 {response(5, 0, 7, 9, "", "", "1234567"), one(Incr)},
		"a count with extras":                {response(5, 0, 7, 9, "1234", "", "1234"), one(Incr)},
		"a touch with a key":                 {response(0x1c, 0, 7, 9, "", "k", ""), one(Touch)},
		"a delete answered with a key":       {response(4, 0, 7, 0, "", "k", ""), one(Delete)},
		"a multi-get answered as one of get": {plain, three},
	}.check(t, s, Binary)
}

// anyPackets is what a node might answer to q, for good or bad.
func anyPackets(r *rand.Rand, s *keys.Space, q *Request) string {
	if r.IntN(12) == 0 {
		status := []uint16{1, 2, 3, 5, 0x82, 0x84}[r.IntN(6)]
		if q.Keys == 1 {
			return refusal(q, status, "so it is")
		}
		return refusal(q, status, "so it is") + lastPacket(q, int(q.Keys))
	}
	var b strings.Builder
	if q.Op == Get || q.Op == Gets {
		for i := range int(q.Keys) {
			k := q.key(i, s.Len())
			switch {
			case r.IntN(8) == 0:
				b.WriteString(hitPacket(s, q, uint32(k), r.IntN(s.Len()), uint32(r.IntN(s.Len())), r.IntN(twinValue+1)))
			case r.IntN(3) > 0:
				b.WriteString(storedPacket(s, q, i, r.IntN(twinValue+1)))
			case q.Keys == 1:
				b.WriteString(refusal(q, 1, "Not found"))
			}
		}
	}
	return b.String() + lastPacket(q, int(q.Keys))
}

// take takes n bytes off the stream.
func (w *twin) take(n int) string {
	if len(w.rest) < n {
		panic(stop("end"))
	}
	b := w.rest[:n]
	w.rest = w.rest[n:]
	return b
}

// big reads b as a number.
func big(b string) (n uint64) {
	for _, c := range []byte(b) {
		n = n<<8 | uint64(c)
	}
	return n
}

// packets is reply for a stream of packets.
func (w *twin) packets(r *Request) string {
	var out Reply
	var seen uint64
	var marks [MaxKeys]keys.Mark
	many, isGet := r.Keys > 1, r.Op == Get || r.Op == Gets
	for refused := 0; ; {
		h := w.take(24)
		key, extras, status, body, opaque := int(big(h[2:4])), int(h[4]), big(h[6:8]), int(big(h[8:12])), big(h[12:16])
		hit := status == 0 && (h[1] == 0x00 || h[1] == 0x0d)
		var rest string
		switch {
		case hit:
			rest = w.take(extras + key)
		case body <= maxLine:
			rest = w.take(body)
		default:
			panic(stop(lost))
		}
		place := -1
		for i := range int(r.Keys) {
			if uint64(r.key(i, w.space.Len())) == opaque {
				place = i
			}
		}
		if many && h[0] == 0x81 && h[5] == 0 && h[1] == 0x0a {
			if status != 0 || body != 0 || opaque != uint64(r.Key) {
				panic(stop(lost))
			}
			out.Misses = max(0, int(r.Keys)-out.Hits-out.Wrong-refused)
			return account(out, seen, &marks)
		}
		if h[0] != 0x81 || h[5] != 0 || h[1] != commandOf(r) || place < 0 {
			panic(stop(lost))
		}
		if hit {
			w.packetValue(r, place, key, extras, body-key-extras, rest, big(h[16:24]), &out, &seen, &marks)
			if !many {
				return account(out, seen, &marks)
			}
			continue
		}
		if status == 0 {
			out.Number = w.done(r, key, extras, body, rest)
			return account(out, seen, &marks)
		}
		switch status {
		case 1:
			if isGet && !many {
				out.Misses = 1
				return account(out, seen, &marks)
			}
			out.Status = map[Op]Status{CAS: NotFound, Incr: NotFound, Delete: NotFound, Touch: NotFound}[r.Op]
		case 2:
			out.Status = map[Op]Status{CAS: Exists}[r.Op]
		default:
			out.Status = Failed
			if w.errLine == "" {
				w.errLine = fmt.Sprintf("status 0x%02x: %s", status, rest)
			}
		}
		if refused++; out.Status == OK || status < 3 && many || refused > int(r.Keys) {
			panic(stop(lost))
		}
		if !many {
			return account(out, seen, &marks)
		}
	}
}

// done looks at what a response that says OK, and is no hit, has in it.
func (w *twin) done(r *Request, key, extras, body int, rest string) (number uint64) {
	form := fmt.Sprint(key, extras, body)
	switch {
	case r.Op == Incr && form == "0 0 8":
		return big(rest)
	case r.Op == Touch && (form == "0 0 0" || form == "0 4 4"), r.Op != Incr && form == "0 0 0":
		return 0
	}
	panic(stop(lost))
}

// packetValue takes the value of a hit.
func (w *twin) packetValue(r *Request, place, key, extras, size int, rest string, version uint64, out *Reply, seen *uint64, marks *[MaxKeys]keys.Mark) {
	if extras != 4 || (key > 0) != (r.Keys > 1) || size < 0 || size > keys.MaxValue {
		panic(stop(lost))
	}
	k := r.key(place, w.space.Len())
	value := w.take(size)
	if name := rest[4:]; key > 0 && name != string(w.space.AppendKey(nil, k)) || big(rest[:4]) != uint64(k)&0xffff || *seen&(1<<place) != 0 {
		out.Wrong++
		return
	}
	m, ok := w.mark(k, value)
	if !ok {
		out.Wrong++
		return
	}
	*seen |= 1 << place
	marks[place] = m
	out.Hits++
	if r.Op == Gets && r.Keys == 1 {
		out.Version = version
	}
}
