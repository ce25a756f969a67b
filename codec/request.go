package codec

// Span is a part of a buffer: Len bytes from offset Off.
type Span struct{ Off, Len uint32 }

// In returns the bytes s names in buf. They alias buf and cannot grow into it.
func (s Span) In(buf []byte) []byte { return buf[s.Off : s.Off+s.Len : s.Off+s.Len] }

// End is the offset behind the span's last byte.
func (s Span) End() uint32 { return s.Off + s.Len }

// Flag is a property of one request.
type Flag uint8

const (
	// FlagQuiet: the client asked for no answer (noreply), or only for the
	// answers that are news (meta q).
	FlagQuiet Flag = 1 << iota
	// FlagClean: the line may go to a node byte for byte.
	FlagClean
)

// Request is one command. Spans are offsets into the command line it was parsed
// from, whose first byte is offset 0. A Request holds no pointer.
type Request struct {
	Op     Op
	Flags  Flag
	Fault  Fault  // with OpNone: what to answer
	Mode   byte   // ms and ma: the letter of the M flag, 0 if there is none
	Line   uint32 // bytes of the line, with its newline
	Value  uint32 // ClassStore: bytes of the value, without its CRLF
	Key    Span   // the first key as written; base64 if MetaB is set
	Rest   Span   // get, gets, gat, gats: from the first key to the end of the line
	Arg    Span   // gat, touch: exptime. incr, decr: delta. flush_all: delay. stats: the rest of the line
	Expiry Span   // store commands: exptime
	Client Span   // store commands: client flags
	Meta   Letters
}

// Quiet reports whether the client asked for silence.
func (r *Request) Quiet() bool { return r.Flags&FlagQuiet != 0 }

// Letters is the set of meta flags that a request carries, by letter.
type Letters uint64

// Letter is the set that holds only c, which must be an ASCII letter.
func Letter(c byte) Letters { return 1 << ((c - 'A') & 63) }

// Has reports whether the flag c is in the set.
func (l Letters) Has(c byte) bool { return l&Letter(c) != 0 }

// Any reports whether one of the flags in o is in the set.
func (l Letters) Any(o Letters) bool { return l&o != 0 }
