package binary

import (
	"encoding/binary"
	"math"

	"magent/codec"
	"magent/codec/text"
)

// AppendRequest puts a command, whose line as nodes are sent it is line, and which req was
// parsed from, as requests to a node that speaks nothing but this protocol. dst grows by all
// of them but a value: req.Value bytes are to follow, without a CRLF. The last of them, and
// none before it, is answered in any case; all answers repeat opaque.
//
// A command that this protocol cannot say becomes a Noop, which brings its answer in turn:
// what follows is refused then, and why is that answer; it is empty of all others.
func AppendRequest(dst, line []byte, req *codec.Request, opaque uint32) (out []byte, refused string) {
	o := order{opaque: opaque, expiry: never}
	if refused = o.read(line, req); refused != "" {
		o = order{opaque: opaque, opcode: Noop}
		return o.append(dst, nil, 0), refused
	}
	if !req.Op.MultiKey() {
		return o.append(dst, o.key(line, req), req.Value), ""
	}
	at := req.Rest.Off
	key, ok := text.NextKey(line, req.Rest, &at)
	for last := !ok; !last; {
		next, more := text.NextKey(line, req.Rest, &at)
		last = !more
		if last {
			o.opcode = loudKeyed[o.opcode]
		}
		dst = o.append(dst, key.In(line), 0)
		key = next
	}
	return dst, ""
}

// loudKeyed is the form of a quiet read that is answered in any case.
var loudKeyed = [opcodeEnd]Opcode{GetKQ: GetK, GATKQ: GATK}

// What a node is not asked.
const (
	refusedUnsaid = "CLIENT_ERROR nodes of this pool speak the binary protocol, which cannot say this\r\n"
	refusedNumber = "CLIENT_ERROR bad command line format\r\n"
	refusedKey    = "CLIENT_ERROR error decoding key\r\n"
	refusedFlag   = "CLIENT_ERROR invalid flag\r\n"
	refusedTwice  = "CLIENT_ERROR duplicate flag\r\n"
	refusedOpaque = "CLIENT_ERROR opaque token too long\r\n"
)

// order is a command in the terms of this protocol.
type order struct {
	opcode         Opcode
	opaque         uint32
	flags, expiry  uint32 // never: no item is made where there is none
	delta, initial uint64
	cas            uint64
	seen           codec.Letters     // of flags
	decoded        [text.MaxKey]byte // what a key in base64 stands for
	coded          int               // how much of it; 0: the key is not in base64
}

// read takes what line, which req was parsed from, asks for.
func (o *order) read(line []byte, req *codec.Request) (refused string) {
	ok := true
	switch req.Op {
	case codec.OpGet, codec.OpGets:
		o.opcode = GetKQ
	case codec.OpGat, codec.OpGats:
		o.opcode = GATKQ
		o.expiry, ok = expires(req.Arg.In(line))
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpAppend, codec.OpPrepend, codec.OpCas:
		return o.readStore(line, req)
	case codec.OpDelete:
		o.opcode = Delete
	case codec.OpIncr, codec.OpDecr:
		o.opcode = Increment
		if req.Op == codec.OpDecr {
			o.opcode = Decrement
		}
		o.delta, ok = whole(req.Arg.In(line), math.MaxUint64)
	case codec.OpTouch:
		o.opcode = Touch
		o.expiry, ok = expires(req.Arg.In(line))
	case codec.OpFlushAll:
		o.opcode, o.expiry = Flush, 0
		if delay, _ := cut(req.Arg.In(line)); len(delay) > 0 {
			o.expiry, ok = expires(delay)
		}
	case codec.OpStats:
		o.opcode = Stat
	case codec.OpVersion:
		o.opcode = Version
	case codec.OpMetaNoop:
		o.opcode = Noop
	case codec.OpMetaGet, codec.OpMetaSet, codec.OpMetaDelete, codec.OpMetaArith:
		return o.readMeta(line, req)
	default:
		return refusedUnsaid
	}
	if !ok {
		return refusedNumber
	}
	return ""
}

// storing is the request of each command that stores. memcached makes a cas of any that
// names a version; of a set that it has no room for, it drops what was there.
var storing = [codec.NumOps]Opcode{
	codec.OpSet: Set, codec.OpAdd: Add, codec.OpReplace: Replace,
	codec.OpAppend: Append, codec.OpPrepend: Prepend, codec.OpCas: Replace,
}

func (o *order) readStore(line []byte, req *codec.Request) (refused string) {
	o.opcode = storing[req.Op]
	flags, ok := whole(req.Client.In(line), math.MaxUint32)
	expiry, fits := expires(req.Expiry.In(line))
	if req.Op == codec.OpCas {
		cas, number := whole(req.Arg.In(line), math.MaxUint64)
		o.setCas(cas)
		ok = ok && number
	}
	if !ok || !fits {
		return refusedNumber
	}
	o.flags, o.expiry = uint32(flags), expiry
	return ""
}

// setCas has the item be of version cas. 0 stands for any here; in text only what counts or
// appends takes it so: others compare it, and no item has it, nor the last that there is.
func (o *order) setCas(cas uint64) {
	if o.cas = cas; cas == 0 && (o.opcode == Set || o.opcode == Replace || o.opcode == Delete) {
		o.cas = math.MaxUint64
	}
}

// metaFlags goes over the flags of the meta command that line is.
func metaFlags(line []byte, req *codec.Request, each func(word []byte) bool) {
	at := req.Key.End()
	all := codec.Span{Off: at, Len: uint32(len(line)) - at - lineEnd(line)}
	for i := 0; ; i++ {
		word, ok := text.NextKey(line, all, &at)
		if !ok || (i > 0 || req.Op != codec.OpMetaSet) && !each(word.In(line)) {
			return
		}
	}
}

// lineEnd is the length of the end of line.
func lineEnd(line []byte) uint32 {
	n := len(line)
	switch {
	case n > 1 && line[n-2] == '\r':
		return 2
	case n > 0 && line[n-1] == '\n':
		return 1
	}
	return 0
}

// sayable is the flags of each meta command that this protocol, or whoever puts its answers
// in text, has something for.
var sayable = [codec.NumOps]codec.Letters{
	codec.OpMetaGet:    letters("bcfkOPLsTv"),
	codec.OpMetaSet:    letters("bcCFkMOPLT"),
	codec.OpMetaDelete: letters("bCkOPL"),
	codec.OpMetaArith:  letters("bcCDJkMNOPLv"),
}

func letters(s string) (all codec.Letters) {
	for i := range s {
		all |= codec.Letter(s[i])
	}
	return all
}

func (o *order) readMeta(line []byte, req *codec.Request) (refused string) {
	if req.Meta&^sayable[req.Op] != 0 {
		return refusedUnsaid
	}
	o.delta = 1
	switch req.Op {
	case codec.OpMetaGet:
		o.opcode = Get
		switch {
		case req.Meta.Has('T') && req.Meta.Any(letters("sv")):
			o.opcode = GAT
		case req.Meta.Has('T'):
			o.opcode = Touch
		}
	case codec.OpMetaSet:
		o.expiry = 0
		o.opcode = setModes[req.Mode]
	case codec.OpMetaDelete:
		o.opcode = Delete
	case codec.OpMetaArith:
		o.opcode = stepModes[req.Mode]
	}
	if o.opcode == Get && req.Op != codec.OpMetaGet {
		return "CLIENT_ERROR invalid mode for " + req.Op.String() + " M token\r\n"
	}
	metaFlags(line, req, func(word []byte) bool {
		refused = o.readFlag(word)
		return refused == ""
	})
	if o.opcode == Add { // which memcached makes a cas of here, and not in text
		o.cas = 0
	}
	if refused == "" && req.Meta.Has('b') {
		if o.coded = len(text.RouteKey(req.Key.In(line), req.Meta, o.decoded[:])); o.coded == 0 {
			return refusedKey
		}
	}
	return refused
}

// setModes and stepModes are the requests that the modes of ms and of ma are. No mode has a
// Get, which stands for what there is not.
var (
	setModes  = [256]Opcode{0: Set, 'S': Set, 'E': Add, 'R': Replace, 'A': Append, 'P': Prepend}
	stepModes = [256]Opcode{0: Increment, 'I': Increment, '+': Increment, 'D': Decrement, '-': Decrement}
)

func (o *order) readFlag(word []byte) (refused string) {
	if c := word[0] | 0x20; c < 'a' || c > 'z' {
		return refusedFlag
	}
	if o.seen.Has(word[0]) {
		return refusedTwice
	}
	o.seen |= codec.Letter(word[0])
	ok, arg := true, word[1:]
	switch word[0] {
	case 'T', 'N':
		o.expiry, ok = expires(arg)
	case 'F':
		var flags uint64
		flags, ok = whole(arg, math.MaxUint32)
		o.flags = uint32(flags)
	case 'C':
		var cas uint64
		cas, ok = whole(arg, math.MaxUint64)
		o.setCas(cas)
	case 'D':
		o.delta, ok = whole(arg, math.MaxUint64)
	case 'J':
		o.initial, ok = whole(arg, math.MaxUint64)
	case 'O':
		if len(arg) > maxOpaque {
			return refusedOpaque
		}
	}
	if !ok {
		return refusedNumber
	}
	return ""
}

// key is the key of a command that has one, or the name of statistics.
func (o *order) key(line []byte, req *codec.Request) []byte {
	switch {
	case o.coded > 0:
		return o.decoded[:o.coded]
	case o.opcode == Stat:
		return req.Arg.In(line)
	case o.opcode == Flush:
		return nil
	}
	return req.Key.In(line)
}

// append appends the request, of an item with that key, but for its value.
func (o *order) append(dst, key []byte, value uint32) []byte {
	extras := forms[o.opcode].extras[1]
	body := uint32(extras) + uint32(len(key)) + value
	dst = binary.BigEndian.AppendUint64(dst, Magic<<56|uint64(o.opcode)<<48|uint64(uint16(len(key)))<<32|uint64(extras)<<24)
	dst = binary.BigEndian.AppendUint64(dst, uint64(body)<<32|uint64(o.opaque))
	dst = binary.BigEndian.AppendUint64(dst, o.cas)
	switch extras {
	case 4:
		dst = binary.BigEndian.AppendUint32(dst, o.expiry)
	case 8:
		dst = binary.BigEndian.AppendUint32(dst, o.flags)
		dst = binary.BigEndian.AppendUint32(dst, o.expiry)
	case 20:
		dst = binary.BigEndian.AppendUint64(dst, o.delta)
		dst = binary.BigEndian.AppendUint64(dst, o.initial)
		dst = binary.BigEndian.AppendUint32(dst, o.expiry)
	}
	return append(dst, key...)
}

// AppendPlain appends the request by which a client says who it is by PLAIN.
func AppendPlain(dst []byte, user, password string) []byte {
	o := order{opcode: SASLAuth}
	dst = o.append(dst, []byte("PLAIN"), uint32(len(user)+len(password)+2))
	return append(append(append(append(dst, 0), user...), 0), password...)
}

// past is an exptime that is over: a time of day in 1970. This protocol has none below 0.
const past = 30*24*60*60 + 1

// expires reads an exptime in text.
func expires(b []byte) (exptime uint32, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		_, ok = whole(b[1:], -math.MinInt32)
		return past, ok
	}
	n, ok := whole(b, math.MaxInt32)
	return uint32(n), ok
}

// whole reads a number of digits alone that is not above most.
func whole(b []byte, most uint64) (n uint64, ok bool) {
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(b) > 0
}
