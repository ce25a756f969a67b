package wire

import (
	"encoding/binary"
	"fmt"

	"magent/bench/keys"
)

// In the binary protocol (memcached's protocol_binary.h) everything is a packet: a header,
// in which lengths are told, and extras, key and value. What a request calls its opaque its
// response repeats; here that is the number of its key, so that an answer to another
// request shows. The way of a response:
//
//	packets → head → packet → hit → start → value → account
//	                        ↘ failed

const (
	headerSize   = 24
	magicRequest = 0x80
	magicReply   = 0x81
)

// The commands that are used. A multi-get is a quiet one for each key, which says nothing
// of a key that is not there, and a noop.
const (
	packGet    = 0x00
	packSet    = 0x01
	packDelete = 0x04
	packIncr   = 0x05
	packNoop   = 0x0a
	packGetKQ  = 0x0d
	packTouch  = 0x1c
)

var packs = [Ops]byte{
	Get: packGet, Gets: packGet, Set: packSet, CAS: packSet, Incr: packIncr, Delete: packDelete, Touch: packTouch, SetCounter: packSet,
}

// onlyIfThere is the TTL of a count that makes no counter.
const onlyIfThere = 1<<32 - 1

func (e Encoder) binary(dst []byte, r *Request) []byte {
	if r.Keys > 1 {
		for i := range int(r.Keys) {
			k := r.key(i, e.Space.Len())
			at := len(dst)
			dst = e.Space.AppendKey(appendHeader(dst, packGetKQ, uint32(k), 0), k)
			sized(dst[at:], 0, len(dst)-at-headerSize)
		}
		return appendHeader(dst, packNoop, r.Key, 0)
	}
	at, k, version := len(dst), int(r.Key), uint64(0)
	if r.Op == CAS {
		version = r.Version
	}
	dst = appendHeader(dst, packs[r.Op], r.Key, version)
	switch r.Op {
	case Set, CAS:
		dst = binary.BigEndian.AppendUint32(dst, e.Space.Flags(k))
		dst = binary.BigEndian.AppendUint32(dst, r.TTL)
	case SetCounter:
		dst = binary.BigEndian.AppendUint64(dst, 0)
	case Incr:
		dst = binary.BigEndian.AppendUint64(dst, 1)
		dst = binary.BigEndian.AppendUint64(dst, 0)
		dst = binary.BigEndian.AppendUint32(dst, onlyIfThere)
	case Touch:
		dst = binary.BigEndian.AppendUint32(dst, r.TTL)
	}
	extras := len(dst) - at - headerSize
	if r.Op == Incr || r.Op == SetCounter {
		dst = e.Space.AppendCounter(dst, k)
	} else {
		dst = e.Space.AppendKey(dst, k)
	}
	key := len(dst) - at - headerSize - extras
	switch r.Op {
	case Set, CAS:
		dst = e.Space.AppendValue(dst, k, r.Mark, int(r.Size))
	case SetCounter:
		dst = append(dst, '0')
	}
	sized(dst[at:], extras, key)
	return dst
}

// appendHeader appends the header of a request that is nothing else.
func appendHeader(dst []byte, command byte, opaque uint32, version uint64) []byte {
	dst = append(dst, magicRequest, command, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, opaque)
	return binary.BigEndian.AppendUint64(dst, version)
}

// sized tells the lengths of packet in its header.
func sized(packet []byte, extras, key int) {
	binary.BigEndian.PutUint16(packet[2:], uint16(key))
	packet[4] = byte(extras)
	binary.BigEndian.PutUint32(packet[8:], uint32(len(packet)-headerSize))
}

// packets is Next up to the end of a reply in packets.
func (s *Scanner) packets(b []byte, r *Request) (n int, done bool, err error) {
	for n < len(b) && !done {
		if s.left > 0 {
			m, err := s.value(b[n:], r)
			if err != nil {
				return n, false, err
			}
			n += m
			done = s.left == 0 && r.Keys == 1
			continue
		}
		head, m := s.head(b[n:])
		n += m
		if head == nil {
			return n, false, nil
		}
		var ok bool
		if done, ok = s.packet(head, r); !ok {
			return n, false, outOfStep(head, r)
		}
	}
	return n, done, nil
}

// head is what stands before the value in the packet that comes next, and how much of b that
// took; nil if it is not all there.
func (s *Scanner) head(b []byte) (head []byte, taken int) {
	if n := headLen(b); len(s.carry) == 0 && n <= len(b) {
		return b[:n], n
	}
	for {
		lacks := headLen(s.carry) - len(s.carry)
		if lacks == 0 {
			head, s.carry = s.carry, s.carry[:0]
			return head, taken
		}
		m := min(lacks, len(b)-taken)
		s.carry = append(s.carry, b[taken:taken+m]...)
		if taken += m; m < lacks {
			return nil, taken
		}
	}
}

// headLen is how long the head is of the packet that b begins with, as far as b tells. Of a
// packet that is no hit, and too long to be anything else, it is the header.
func headLen(b []byte) int {
	if len(b) < headerSize {
		return headerSize
	}
	p := readPacket(b)
	switch {
	case p.hit():
		return headerSize + p.extras + p.key
	case p.body > maxLine:
		return headerSize
	}
	return headerSize + p.body
}

// packet is what the header of a response says.
type packet struct {
	command           byte
	extras, key, body int
	status            uint16
	opaque            uint32
	version           uint64
	odd               bool // something is in it that no response has
}

func readPacket(b []byte) packet {
	return packet{
		command: b[1], key: int(binary.BigEndian.Uint16(b[2:])), extras: int(b[4]), status: binary.BigEndian.Uint16(b[6:]),
		body: int(binary.BigEndian.Uint32(b[8:])), opaque: binary.BigEndian.Uint32(b[12:]), version: binary.BigEndian.Uint64(b[16:]),
		odd: b[0] != magicReply || b[5] != 0,
	}
}

// hit reports whether a value follows.
func (p *packet) hit() bool {
	return p.status == statusOK && (p.command == packGet || p.command == packGetKQ)
}

// The statuses that mean more than that a request failed.
const (
	statusOK       = 0
	statusNotFound = 1
	statusExists   = 2
)

// packet takes the head of a response and says whether it ends the reply to r.
func (s *Scanner) packet(head []byte, r *Request) (done, ok bool) {
	p := readPacket(head)
	command := packs[r.Op]
	if r.Keys > 1 {
		command = packGetKQ
	}
	rest := head[headerSize:]
	_, asked := r.asked(int(p.opaque), s.Space.Len())
	switch {
	case p.odd || !p.hit() && len(rest) != p.body:
		return false, false
	case r.Keys > 1 && p.command == packNoop:
		s.out.Misses = max(0, int(r.Keys)-s.out.Hits-s.out.Wrong-s.refused)
		return true, p.status == statusOK && p.body == 0 && p.opaque == r.Key
	case p.command != command || !asked || int64(p.opaque) >= int64(s.Space.Len()):
		return false, false
	case p.status != statusOK:
		return s.failed(&p, rest, r)
	case p.hit():
		return s.hit(&p, rest, r)
	case r.Op == Incr:
		if p.body != 8 || p.extras+p.key != 0 {
			return false, false
		}
		s.out.Number = binary.BigEndian.Uint64(rest)
		return true, true
	case r.Op == Touch: // which tells flags, of some versions
		return true, p.key == 0 && p.extras == p.body && p.body%4 == 0 && p.body <= 4
	}
	return true, p.body == 0 && p.extras+p.key == 0
}

// hit begins on the value of p. One whose key is not that of its opaque is wrong.
func (s *Scanner) hit(p *packet, rest []byte, r *Request) (done, ok bool) {
	size := p.body - p.extras - p.key
	if p.extras != 4 || (p.key > 0) != (r.Keys > 1) || size < 0 || size > keys.MaxValue {
		return false, false
	}
	k, known := int(p.opaque), true
	if p.key > 0 {
		k, known = s.Space.Index(rest[p.extras:])
		known = known && k == int(p.opaque)
	}
	version := p.version
	if r.Op == Get {
		version = 0
	}
	s.start(k, known, uint64(binary.BigEndian.Uint32(rest)), size, version, r)
	if s.left == 0 {
		s.account(r)
	}
	return s.left == 0 && r.Keys == 1, true
}

// failed takes a response that says so, with its reason in rest.
func (s *Scanner) failed(p *packet, rest []byte, r *Request) (done, ok bool) {
	isGet := r.Op == Get || r.Op == Gets
	switch {
	case p.status == statusNotFound && isGet && r.Keys == 1:
		s.out.Misses = 1
		return true, true
	case p.status == statusNotFound && (r.Op == CAS || r.Op == Incr || r.Op == Delete || r.Op == Touch):
		s.out.Status = NotFound
		return true, true
	case p.status == statusExists && r.Op == CAS:
		s.out.Status = Exists
		return true, true
	case p.status == statusNotFound || p.status == statusExists:
		return false, false
	}
	s.out.Status = Failed
	if s.ErrLine == "" {
		s.ErrLine = fmt.Sprintf("status %#02x: %s", p.status, rest)
	}
	if r.Keys == 1 {
		return true, true
	}
	s.refused++
	return false, s.refused <= int(r.Keys)
}
