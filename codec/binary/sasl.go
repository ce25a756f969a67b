package binary

import "bytes"

// The client says who it is by SASL (RFC 4422): it may ask which mechanisms there are,
// sends the name of one as a key and its first message as a value, and, if it has left
// that out, sends it in a step of its own. PLAIN, the one there is, has no more of them.

// SASL reports whether o is of the commands by which a client says who it is.
func (o Opcode) SASL() bool { return o >= SASLList && o <= SASLStep }

// maxMechanism is the longest name of a mechanism that memcached takes, in bytes.
const maxMechanism = 32

// Mechanism reports whether r, which has no fault but that it is not served, names one
// mechanism as memcached takes it, and whether that is PLAIN. A step need not name it.
func (r *Request) Mechanism(buf []byte) (fits, plain bool) {
	return r.Key.Len <= maxMechanism, bytes.EqualFold(r.Key.In(buf), []byte("PLAIN"))
}

// Plain reads the message of PLAIN (RFC 4616): whom to act as, a NUL, the user, a NUL,
// the password. Nobody may act as somebody else. name and password are views of message.
func Plain(message []byte) (name, password []byte, ok bool) {
	as, rest, ok := bytes.Cut(message, []byte{0})
	name, password, more := bytes.Cut(rest, []byte{0})
	ok = ok && more && len(name) > 0 && len(password) > 0 && bytes.IndexByte(password, 0) < 0
	return name, password, ok && (len(as) == 0 || bytes.Equal(as, name))
}

// What is answered to these commands, in lines that AppendReply reads.
const (
	LineMechanisms   = "SASL PLAIN\r\n"
	LineContinue     = "SASL\r\n"
	LineKnown        = "SASL Authenticated\r\n"
	LineNotKnown     = "CLIENT_ERROR authentication failure\r\n"
	lineNotKnownTail = "authentication failure" // of LineNotKnown
)
