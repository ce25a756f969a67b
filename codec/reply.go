package codec

// Kind says what one frame of a reply is.
type Kind uint8

const (
	// KindLine is a reply of one line that ends the answer: STORED, HD, 17, OK …
	KindLine Kind = iota
	// KindValue is a VALUE or VA line with a value behind it. After a VALUE
	// more frames follow, until KindEnd; a VA is the whole answer.
	KindValue
	// KindEnd is the END that closes values or statistics.
	KindEnd
	// KindMiss is an EN: a meta get found nothing.
	KindMiss
	// KindStat is one STAT line; more frames follow.
	KindStat
	// KindError is ERROR, CLIENT_ERROR or SERVER_ERROR: it ends the answer.
	KindError
)

// Reply is one frame of a node's answer. Spans are offsets into the frame.
type Reply struct {
	Kind  Kind
	Line  uint32 // bytes of the line, with its CRLF
	Value uint32 // KindValue: bytes of the value, without its CRLF
	Key   Span   // VALUE: the key. Meta: the argument of the k flag, if it is there
	Coded bool   // meta: the key is in base64
	Echo  bool   // meta: the O flag is there
}

// Size is the length of the whole frame.
func (r *Reply) Size() int {
	if r.Kind == KindValue {
		return int(r.Line) + int(r.Value) + 2
	}
	return int(r.Line)
}
