// Package wire is the load generator's own idea of memcached's protocol: it renders
// requests and judges replies, in whatever pieces they come.
//
// It does no I/O and has no clock; an Encoder may be shared, a Scanner belongs to one
// connection. The package imports bench/keys and the standard library, and nothing of
// the proxy: a judge must not share the bugs of the judged.
package wire

import (
	"fmt"
	"strconv"

	"magent/bench/keys"
)

// Dialect is one of memcached's protocols: two of lines (its doc/protocol.txt), and the
// binary one.
type Dialect uint8

// The dialects.
const (
	Text   Dialect = iota // the classic commands
	Meta                  // mg, ms, md, ma, mn
	Binary                // packets
)

// ParseDialect reads a dialect by our name or by memtier_benchmark's.
func ParseDialect(name string) (Dialect, error) {
	switch name {
	case "text", "memcache_text":
		return Text, nil
	case "meta", "memcache_meta":
		return Meta, nil
	case "binary", "memcache_binary":
		return Binary, nil
	}
	return 0, fmt.Errorf("wire: %q is no protocol: text, meta or binary", name)
}

var dialectNames = [...]string{Text: "text", Meta: "meta", Binary: "binary"}

func (d Dialect) String() string { return dialectNames[d] }

// Op is what a request asks.
type Op uint8

// The operations, and as text and as meta have them. As binary has them, see packs: there a
// get always tells the version.
const (
	Get        Op     = iota // one key or several: get; mg k f v, of several quietly, and mn
	Gets                     // Get, and the version of each: gets; mg k f v c
	Set                      // set; ms F T
	CAS                      // store if the version is still Version: cas; ms F T C
	Incr                     // add 1 to a counter: incr; ma v
	Delete                   // delete; md
	Touch                    // give a key a new TTL: touch; mg T
	SetCounter               // make a counter 0: set; ms
	Ops        = iota        // how many there are
)

var opNames = [Ops]string{"get", "gets", "set", "cas", "incr", "delete", "touch", "set-counter"}

func (op Op) String() string { return opNames[op] }

// MaxKeys is how many keys one Get or Gets may ask for.
const MaxKeys = 64

// Request is one request.
type Request struct {
	Op Op
	// Keys is how many keys a Get asks for: Key, Key+Step, Key+2*Step … modulo the
	// space, chosen so that they all differ. 1 for every other operation.
	Keys uint8
	// Key is a key of the space; of an Incr and a SetCounter, a counter.
	Key, Step uint32
	// Size, Mark and TTL, in seconds, say what a Set or a CAS stores; TTL also
	// what a Touch leaves.
	Size, TTL uint32
	Mark      keys.Mark
	// Version is what a CAS wants replaced: a Gets told it.
	Version uint64
}

const crlf = "\r\n"

// Encoder renders requests for the keys of a space.
type Encoder struct {
	Space   *keys.Space
	Dialect Dialect
}

// Append appends r.
func (e Encoder) Append(dst []byte, r *Request) []byte {
	switch e.Dialect {
	case Meta:
		return e.meta(dst, r)
	case Binary:
		return e.binary(dst, r)
	}
	return e.text(dst, r)
}

func (e Encoder) text(dst []byte, r *Request) []byte {
	k := int(r.Key)
	switch r.Op {
	case Get:
		dst = e.keys(append(dst, "get"...), r)
	case Gets:
		dst = e.keys(append(dst, "gets"...), r)
	case Set, CAS:
		dst = e.Space.AppendKey(append(dst, verbs[r.Op]...), k)
		dst = appendNumber(append(dst, ' '), e.Space.Flags(k))
		dst = appendNumber(append(dst, ' '), r.TTL)
		dst = appendNumber(append(dst, ' '), r.Size)
		if r.Op == CAS {
			dst = strconv.AppendUint(append(dst, ' '), r.Version, 10)
		}
		dst = e.Space.AppendValue(append(dst, crlf...), k, r.Mark, int(r.Size))
	case Incr:
		dst = append(e.Space.AppendCounter(append(dst, "incr "...), k), " 1"...)
	case Delete:
		dst = e.Space.AppendKey(append(dst, "delete "...), k)
	case Touch:
		dst = e.Space.AppendKey(append(dst, "touch "...), k)
		dst = appendNumber(append(dst, ' '), r.TTL)
	case SetCounter:
		dst = append(e.Space.AppendCounter(append(dst, "set "...), k), " 0 0 1\r\n0"...)
	}
	return append(dst, crlf...)
}

var verbs = [Ops]string{Set: "set ", CAS: "cas "}

func appendNumber(dst []byte, n uint32) []byte { return strconv.AppendUint(dst, uint64(n), 10) }

// keys appends every key r asks for, a blank before each.
func (e Encoder) keys(dst []byte, r *Request) []byte {
	for i := range int(r.Keys) {
		dst = e.Space.AppendKey(append(dst, ' '), r.key(i, e.Space.Len()))
	}
	return dst
}

func (e Encoder) meta(dst []byte, r *Request) []byte {
	k := int(r.Key)
	switch r.Op {
	case Get, Gets:
		return e.metaGet(dst, r)
	case Set, CAS:
		dst = e.Space.AppendKey(append(dst, "ms "...), k)
		dst = appendNumber(append(dst, ' '), r.Size)
		dst = appendNumber(append(dst, " F"...), e.Space.Flags(k))
		dst = appendNumber(append(dst, " T"...), r.TTL)
		if r.Op == CAS {
			dst = strconv.AppendUint(append(dst, " C"...), r.Version, 10)
		}
		dst = e.Space.AppendValue(append(dst, crlf...), k, r.Mark, int(r.Size))
	case Incr:
		dst = append(e.Space.AppendCounter(append(dst, "ma "...), k), " v"...)
	case Delete:
		dst = e.Space.AppendKey(append(dst, "md "...), k)
	case Touch:
		dst = e.Space.AppendKey(append(dst, "mg "...), k)
		dst = appendNumber(append(dst, " T"...), r.TTL)
	case SetCounter:
		dst = append(e.Space.AppendCounter(append(dst, "ms "...), k), " 1\r\n0"...)
	}
	return append(dst, crlf...)
}

// metaGet asks for one key, or for several without a word about those that are not
// there, and then for an end.
func (e Encoder) metaGet(dst []byte, r *Request) []byte {
	flags := " k f v"
	if r.Op == Gets {
		flags = " k f v c"
	}
	for i := range int(r.Keys) {
		dst = append(e.Space.AppendKey(append(dst, "mg "...), r.key(i, e.Space.Len())), flags...)
		if r.Keys > 1 {
			dst = append(dst, " q"...)
		}
		dst = append(dst, crlf...)
	}
	if r.Keys > 1 {
		dst = append(dst, "mn\r\n"...)
	}
	return dst
}

// key is the i-th key r asks for, from 0.
func (r *Request) key(i, space int) int { return (int(r.Key) + i*int(r.Step)) % space }

// asked finds k among the keys r asks for, counted from 0.
func (r *Request) asked(k, space int) (i int, ok bool) {
	d := k - int(r.Key)
	if r.Keys == 1 {
		return 0, d == 0
	}
	if d < 0 {
		d += space
	}
	i = d / int(r.Step)
	return i, d%int(r.Step) == 0 && i < int(r.Keys)
}
