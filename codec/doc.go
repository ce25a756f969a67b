// Package codec names what travels between a memcached client and a node: the
// operations, a parsed Request, a framed Reply and the words memcached answers
// to what it does not accept. The parsers and encoders of each wire form live in
// sub-packages (text: the classic and the meta commands).
//
// Nothing here does I/O, blocks, allocates in steady state or keeps a reference
// to its input: a parsed value is offsets into the caller's buffer and is good
// for as long as those bytes are. Any goroutine may call it. It imports std only.
package codec
