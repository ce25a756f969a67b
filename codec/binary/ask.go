package binary

import (
	"cmp"
	"encoding/binary"
	"math"

	"magent/codec"
	"magent/codec/text"
)

// Sent is what AppendRequest has made of a command, and what AppendAnswer has yet to say to it.
type Sent struct {
	// Refused is the answer to a command that this protocol cannot say, as text has it; empty
	// of all others.
	Refused string

	opcode Opcode // of the first request
	fault  string // what a read of several keys ends with; "": what it always does
}

// AppendRequest puts a command, whose line as nodes are sent it is line, and which req was
// parsed from, as requests to a node that speaks nothing but this protocol. dst grows by all
// of them but a value: req.Value bytes are to follow, without a CRLF, unless it is refused. The
// last of them, and none before it, is answered in any case; all answers repeat opaque.
//
// A command that is refused becomes a Noop, which brings its answer in turn.
func AppendRequest(dst, line []byte, req *codec.Request, opaque uint32) (out []byte, sent Sent) {
	o := order{opaque: opaque, expiry: never}
	if refused := o.read(line, req); refused != "" {
		o = order{opaque: opaque, opcode: Noop}
		return o.append(dst, nil, 0), Sent{Refused: refused, opcode: Noop}
	}
	if !req.Op.MultiKey() {
		return o.append(dst, o.key(line, req), req.Value), Sent{opcode: o.opcode}
	}
	at := req.Rest.Off
	key, _ := text.NextKey(line, req.Rest, &at)
	for first := true; ; first = false {
		next, more := text.NextKey(line, req.Rest, &at)
		if !more {
			o.opcode = loudKeyed[o.opcode]
		}
		if first {
			sent.opcode = o.opcode
		}
		if dst = o.append(dst, key.In(line), 0); !more {
			return dst, sent
		}
		key = next
	}
}

// loudKeyed is the form of a quiet read that is answered in any case.
var loudKeyed = [opcodeEnd]Opcode{GetKQ: GetK, GATKQ: GATK}

// What a node is not asked.
const (
	refusedUnsaid = "CLIENT_ERROR nodes of this pool speak the binary protocol, which cannot say this\r\n"
	refusedNumber = "CLIENT_ERROR bad token in command line format\r\n"
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
	lengthy        bool              // an opaque is longer than nodes take
	decoded        [text.MaxKey]byte // what a key in base64 stands for
	coded          int               // how much of it; 0: the key is not in base64
}

// read takes what line, which req was parsed from, asks for.
func (o *order) read(line []byte, req *codec.Request) (refused string) {
	switch req.Op {
	case codec.OpNone:
		return cmp.Or(req.Fault.Line(), refusedUnsaid)
	case codec.OpGet, codec.OpGets:
		o.opcode = GetKQ
	case codec.OpGat, codec.OpGats:
		if req.Key.Len == 0 {
			return wordEnd // so nodes answer to that
		}
		o.opcode = GATKQ
		o.expiry, _ = expires(req.Arg.In(line))
	case codec.OpSet, codec.OpAdd, codec.OpReplace, codec.OpAppend, codec.OpPrepend, codec.OpCas:
		o.readStore(line, req)
	case codec.OpDelete:
		o.opcode = Delete
	case codec.OpIncr, codec.OpDecr:
		o.opcode = Increment
		if req.Op == codec.OpDecr {
			o.opcode = Decrement
		}
		o.delta, _ = text.Uint(req.Arg.In(line))
	case codec.OpTouch:
		o.opcode = Touch
		o.expiry, _ = expires(req.Arg.In(line))
	case codec.OpFlushAll:
		o.opcode = Flush
		delay, _ := text.Int(req.Arg.In(line))
		o.expiry = uint32(max(0, int32(delay))) // what is below 0 is at once, in text
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
	return ""
}

// storing is the request of each command that stores. memcached makes a cas of any that
// names a version; of a set that it has no room for, it drops what was there.
var storing = [codec.NumOps]Opcode{
	codec.OpSet: Set, codec.OpAdd: Add, codec.OpReplace: Replace,
	codec.OpAppend: Append, codec.OpPrepend: Prepend, codec.OpCas: Replace,
}

func (o *order) readStore(line []byte, req *codec.Request) {
	o.opcode = storing[req.Op]
	o.expiry, _ = expires(req.Expiry.In(line))
	flags, _ := text.Uint(req.Client.In(line))
	o.flags = uint32(flags)
	if req.Op == codec.OpCas {
		cas, _ := text.Uint(req.Arg.In(line))
		o.setCas(cas)
	}
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
	if refused = o.readFlags(line, req); refused != "" && req.Op != codec.OpMetaGet && req.Op != codec.OpMetaSet {
		return "CLIENT_ERROR invalid or duplicate flag\r\n" // whatever it is, memcached says of these
	}
	switch {
	case refused != "":
		return refused
	case o.opcode == Get && req.Op != codec.OpMetaGet:
		return "CLIENT_ERROR invalid mode for " + req.Op.String() + " M token\r\n"
	case o.lengthy:
		return refusedOpaque
	}
	if o.opcode == Add { // which memcached makes a cas of here, and not in text
		o.cas = 0
	}
	return ""
}

// readFlags takes the flags of a meta command. Of several numbers that are none the last names
// the cause, unless it is that of F, which memcached has no words for.
func (o *order) readFlags(line []byte, req *codec.Request) (refused string) {
	metaFlags(line, req, func(word []byte) (goOn bool) {
		why, goOn := o.readFlag(word)
		if why != "" && (word[0] != 'F' || refused == "") {
			refused = why
		}
		return goOn
	})
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

// readFlag takes a flag. goOn is false if those behind it are not looked at.
func (o *order) readFlag(word []byte) (refused string, goOn bool) {
	if c := word[0] | 0x20; c < 'a' || c > 'z' {
		return refusedFlag, false
	}
	if o.seen.Has(word[0]) {
		return refusedTwice, false
	}
	o.seen |= codec.Letter(word[0])
	ok, arg, why := true, word[1:], refusedNumber
	switch word[0] {
	case 'T', 'N':
		o.expiry, ok = expires(arg)
	case 'F':
		var flags uint64
		flags, ok = text.Uint(arg)
		o.flags, why = uint32(flags), codec.FaultFormat.Line()
	case 'C':
		var cas uint64
		cas, ok = text.Uint(arg)
		o.setCas(cas)
	case 'D':
		o.delta, ok = text.Uint(arg)
	case 'J':
		o.initial, ok = text.Uint(arg)
	case 'O':
		o.lengthy = len(arg) > maxOpaque
	}
	if !ok {
		return why, true
	}
	return "", true
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

// expires reads an exptime in text, of which nodes keep 32 bits.
func expires(b []byte) (exptime uint32, ok bool) {
	n, ok := text.Int(b)
	if n := int32(n); n >= 0 {
		return uint32(n), ok
	}
	return past, ok
}
