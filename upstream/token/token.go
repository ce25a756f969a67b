package token

// Token is what a client is told as the version of an item (gets, c) and gives
// back to have a write depend on it (cas, C). Each memcached counts its versions
// from 1 on its own, so that a number alone means another item at another node. A
// Token says whose it is:
//
//	bit 63     0: a client that reads signed numbers reads it too
//	bits 62–59 the copy it came from, plus 1: 1 to 8. 0 is no Token
//	bits 58–48 the life of the node: 11 bits of what tells a node from the same
//	           node restarted, which counts from 1 again
//	bits 47–0  the node's version
//
// A node that has made 2^48 versions, a million per second for 8.9 years, has none
// left that fit; see Make. A pool of one copy needs no Tokens, nor do nodes that
// are given their versions by a Source.
type Token uint64

const (
	casBits  = 48
	lifeBits = 11
	casMask  = 1<<casBits - 1
	lifeMask = 1<<lifeBits - 1
)

// MaxCopies is how many copies a Token can tell apart.
const MaxCopies = 8

// Foreign is a version that no item has: a write that depends on it is answered
// EXISTS, or NOT_FOUND if there is no item.
const Foreign = 1<<64 - 1

// Make names the version cas of the node that holds copy, in that node's life. A
// version that does not fit gives a Token that matches nothing: its cas fails,
// which is the safe way to fail.
func Make(copy int, life uint64, cas uint64) Token {
	if cas > casMask {
		return 0
	}
	return Token(uint64(copy+1)<<(casBits+lifeBits) | (life&lifeMask)<<casBits | cas)
}

// Cas is the version that t stands for at the node that holds copy now, in its
// present life. It is Foreign if t came from elsewhere. 0, which no item has, and
// which means no condition to ma, stays 0.
func (t Token) Cas(copy int, life uint64) uint64 {
	switch {
	case t == 0:
		return 0
	case t>>casBits == Make(copy, life, 0)>>casBits:
		return uint64(t & casMask)
	}
	return Foreign
}

// Source makes the versions that nodes are given (the E flag): one is never made
// twice, whichever loop of whichever proxy makes it and however often they are
// restarted, as long as no clock goes back while its proxy is down.
//
//	bit 63     0
//	bits 62–10 microseconds since 2024 began, or one more than last time
//	bits 9–0   the Source
//
// Its zero value is Source 0. A node that counts by itself takes centuries to get
// to where these begin.
type Source struct {
	id   uint64
	last uint64
}

// Sources is how many there may be: proxies times loops.
const Sources = 1 << sourceBits

const (
	sourceBits = 10
	epoch      = 1_704_067_200 * 1_000_000 // 2024-01-01T00:00:00Z in Unix microseconds
)

// NewSource is the Source with the number id, below Sources.
func NewSource(id int) Source { return Source{id: uint64(id) & (Sources - 1)} }

// Next makes a version; now is the Unix time in microseconds. It is larger than
// all before it from this Source, even if now is not.
func (s *Source) Next(now int64) uint64 {
	t := uint64(0)
	if now > epoch {
		t = uint64(now - epoch)
	}
	s.last = max(s.last+1, t)
	return s.last<<sourceBits | s.id
}
