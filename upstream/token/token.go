package token

// A client is told a number as the version of an item (gets, c) and gives it back
// to have a write depend on it (cas, C). Each memcached counts its versions from 1
// on its own, so that a number alone means another item at another node. What a
// client is told is one of three things, whose ranges do not meet before November
// 2041:
//
//	0                   no version; it stays 0, which is no condition to ma
//	2^54 … 2^59-1       made by a Source: the same item wherever it is, told as it is
//	2^59 … 2^62+2^59-1  a token, for a version that a node has counted, 1 … 2^48-1
//
// A token says whose version it is:
//
//	bit 63     0: a client that reads signed numbers reads it too
//	bits 62–59 the copy it came from, plus 1: 1 to 8
//	bits 58–48 the life of the node: 11 bits of what tells a node from the same
//	           node restarted, which counts from 1 again
//	bits 47–0  the node's version
//
// A node that has counted to 2^48, a million per second for 8.9 years, has no
// versions left that fit: its clients are told unfit.
const (
	casBits  = 48
	lifeBits = 11
	casMask  = 1<<casBits - 1
	lifeMask = 1<<lifeBits - 1

	sourcedMin = 1 << 54 // a Source is there in July 2024
	sourcedMax = 1<<(casBits+lifeBits) - 1
	unfit      = 1<<63 - 1 // matches nothing: what depends on it fails, which is safe
)

// MaxCopies is how many copies a token can tell apart.
const MaxCopies = 8

// Foreign is a version that no item has: a write that depends on it is answered
// EXISTS, or NOT_FOUND if there is no item.
const Foreign = 1<<64 - 1

// Sourced reports whether only a Source can have made the version cas: no node
// gets there by counting.
func Sourced(cas uint64) bool { return cas >= sourcedMin && cas <= sourcedMax }

// Encode is what a client is told for the version cas of the node that holds copy,
// in that node's life.
func Encode(copy int, life, cas uint64) uint64 {
	switch {
	case cas == 0 || Sourced(cas):
		return cas
	case cas > casMask:
		return unfit
	}
	return owner(copy, life)<<casBits | cas
}

// Decode is what the node that holds copy now, in its present life, is told for v,
// which a client gave: Foreign, unless v is a version of that node's own, or a
// Source's.
func Decode(v uint64, copy int, life uint64) uint64 {
	switch {
	case v == 0 || Sourced(v):
		return v
	case v>>casBits == owner(copy, life) && v&casMask != 0:
		return v & casMask
	}
	return Foreign
}

// owner is what a token has above the node's version.
func owner(copy int, life uint64) uint64 { return uint64(copy+1)<<lifeBits | life&lifeMask }

// Source makes the versions that nodes are given (the E flag): one is never made
// twice, whichever loop of whichever proxy makes it and however often they are
// restarted, as long as no clock goes back while its proxy is down and no two
// Sources have the same id.
//
//	bits 62–10 microseconds since 2024 began, or one more than last time
//	bits 9–0   the Source
//
// An id drawn at random will do. Two Sources have the same one with odds of 1 in
// 1024, and even then two of their versions are the same only if they are made in
// the same microsecond, and that does harm only if both are for one key.
//
// Its zero value is Source 0. Until November 2041 all that it makes is Sourced.
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
// all before it from this Source, even if now is not. A clock that is years behind
// does not take it to where nodes count.
func (s *Source) Next(now int64) uint64 {
	s.last = max(s.last+1, uint64(max(now-epoch, 0)), sourcedMin>>sourceBits)
	return s.last<<sourceBits | s.id
}
