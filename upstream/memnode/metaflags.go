package memnode

// metaFlags is what the flags of a meta command ask for.
type metaFlags struct {
	quiet, noBump, locked, vivify, value bool
	invalidate, binary, hasCAS, newTTL   bool
	mode                                 byte   // of M, 0 if absent
	exptime, vivifyTTL, recache          uint32 // of T, N and R, in store time
	flags                                uint32
	cas, newCAS, delta, initial          uint64

	bad bool   // a flag was wrong; parsing went on
	why string // the last complaint
}

const (
	maxMetaWords = 19
	maxOpaque    = 32 // with its O

	badToken  = "CLIENT_ERROR bad token in command line format"
	badFlag   = "CLIENT_ERROR invalid flag"
	badFlags  = "CLIENT_ERROR invalid or duplicate flag"
	badOpaque = "CLIENT_ERROR opaque token too long"
	manyFlags = "CLIENT_ERROR options flags too long"
)

// parseMeta reads the flags in words[from:] and decodes a binary key in place.
// A why that is not empty is the error to answer. Of several wrong flags the
// last one names the cause; an unknown or repeated one ends the search.
func (c *conn) parseMeta(words [][]byte, from int) (f metaFlags, why string) {
	f.delta, f.why = 1, badFormat
	var seen [127]bool
	for _, w := range words[from:] {
		if w[0] >= 127 || seen[w[0]] {
			return f, "CLIENT_ERROR duplicate flag"
		}
		seen[w[0]] = true
		if !c.metaFlag(&f, words, w) {
			return f, badFlag
		}
	}
	if f.bad {
		return f, f.why
	}
	return f, ""
}

func (f *metaFlags) need(ok bool, why string) {
	if !ok {
		f.bad, f.why = true, why
	}
}

// metaFlag notes one flag; false if there is no such flag.
func (c *conn) metaFlag(f *metaFlags, words [][]byte, w []byte) bool {
	switch w[0] {
	case 'k', 's', 't', 'c', 'f', 'O', 'P', 'L':
	case 'l', 'h':
		f.locked = true
	case 'v':
		f.value = true
	case 'u':
		f.noBump = true
	case 'q':
		f.quiet = true
	case 'I':
		f.invalidate = true
	case 'b':
		key, ok := decodeKey(words[1])
		words[1], f.binary = key, true
		f.need(ok, "CLIENT_ERROR error decoding key")
	case 'M':
		f.need(len(w) == 2, "CLIENT_ERROR incorrect length for M token")
		if len(w) == 2 {
			f.mode = w[1]
		}
	case 'N':
		f.locked, f.vivify = true, true
		f.need(c.metaTTL(w, &f.vivifyTTL), badToken)
	case 'T':
		f.locked, f.newTTL = true, true
		f.need(c.metaTTL(w, &f.exptime), badToken)
	case 'R':
		f.locked = true
		f.need(c.metaTTL(w, &f.recache), badToken)
	default:
		return c.metaNumber(f, w)
	}
	return true
}

// metaNumber notes a flag that brings an unsigned number.
func (c *conn) metaNumber(f *metaFlags, w []byte) bool {
	v, ok := parseU64(w[1:])
	switch w[0] {
	case 'F':
		f.flags = uint32(v)
		f.need(ok, f.why) // memcached names no cause here
	case 'C':
		f.cas = v
		f.hasCAS = ok
		f.need(ok, badToken)
	case 'J':
		f.initial = v
		f.need(ok, "CLIENT_ERROR invalid numeric initial value")
	case 'D':
		f.delta = v
		f.need(ok, "CLIENT_ERROR invalid numeric delta value")
	case 'E':
		f.newCAS = v
		f.need(ok, badToken)
		return c.p.node.explicitCAS
	default:
		return false
	}
	return true
}

func (c *conn) metaTTL(w []byte, deadline *uint32) bool {
	n, ok := parseI32(w[1:])
	if ok {
		*deadline = c.store.deadline(n)
	}
	return ok
}
