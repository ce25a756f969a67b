// Package wire is the load generator's own idea of memcached's protocol: it renders
// requests and judges replies, in whatever pieces they come.
//
// It does no I/O and has no clock; an Encoder may be shared, a Scanner belongs to one
// connection. The package imports bench/keys and the standard library, and nothing of
// the proxy: a judge must not share the bugs of the judged.
package wire

import (
	"strconv"

	"magent/bench/keys"
)

// Op is what a request asks.
type Op uint8

// The operations.
const (
	Get  Op = iota // one key or several
	Gets           // Get, and the version of each
	Set
)

// MaxKeys is how many keys one Get or Gets may ask for.
const MaxKeys = 64

// Request is one request.
type Request struct {
	Op Op
	// Keys is how many keys a Get asks for: Key, Key+Step, Key+2*Step … modulo the
	// space, chosen so that they all differ. 1 for every other operation.
	Keys      uint8
	Key, Step uint32
	// Size and Mark say what a Set stores.
	Size uint32
	Mark keys.Mark
}

const crlf = "\r\n"

// Encoder renders requests for the keys of a space.
type Encoder struct{ Space *keys.Space }

// Append appends r as the text protocol has it.
func (e Encoder) Append(dst []byte, r *Request) []byte {
	if r.Op == Set {
		dst = e.Space.AppendKey(append(dst, "set "...), int(r.Key))
		dst = strconv.AppendUint(append(dst, ' '), uint64(e.Space.Flags(int(r.Key))), 10)
		dst = strconv.AppendUint(append(dst, " 0 "...), uint64(r.Size), 10)
		dst = e.Space.AppendValue(append(dst, crlf...), int(r.Key), r.Mark, int(r.Size))
		return append(dst, crlf...)
	}
	verb := "get"
	if r.Op == Gets {
		verb = "gets"
	}
	dst = append(dst, verb...)
	for i := range int(r.Keys) {
		dst = e.Space.AppendKey(append(dst, ' '), (int(r.Key)+i*int(r.Step))%e.Space.Len())
	}
	return append(dst, crlf...)
}

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
