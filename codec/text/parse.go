// Package text is memcached's text protocol: the classic commands and the meta
// commands, as memcached 1.6.18 reads and answers them (its proto_text.c and
// doc/protocol.txt are the source of every rule here).
//
// Parse reads a command line, ParseReply a node's answer, the Append functions
// write what is sent to a node. Everything works on the caller's buffers; nothing
// allocates, blocks or keeps a reference. It imports codec, its invariants and std.
package text

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"magent/codec"
	"magent/codec/invariants"
)

// MaxKey is the longest key in bytes; a longer one is refused.
const MaxKey = 250

// MaxLine is how long a line may grow without a newline before memcached closes
// the connection, unless it is a get or gets, which may have any number of keys.
const MaxLine = 2048

// maxTokens is how many tokens of a line memcached looks at; more are left over.
const maxTokens = 23

// maxMetaTokens is the most tokens, command and key included, of a meta command.
const maxMetaTokens = 19

// Unbounded reports whether a line that begins with buf, has passed MaxLine and
// shows no newline yet may grow further: only a get or gets may.
func Unbounded(buf []byte) bool {
	trimmed := bytes.TrimLeft(buf, " ")
	return len(buf)-len(trimmed) <= 100 &&
		(bytes.HasPrefix(trimmed, []byte("get ")) || bytes.HasPrefix(trimmed, []byte("gets ")))
}

// Parse reads one command line, newline included, into req. A line that
// memcached would refuse gets OpNone and the Fault to answer; every other field
// of req is then meaningless, but for FlagQuiet: the answer is then withheld.
// Whether a value follows, and how long it is, is in req.Value and the Op's class.
func Parse(line []byte, req *codec.Request) {
	invariants.Check(len(line) > 0 && line[len(line)-1] == '\n', "text: Parse is given a whole line")
	*req = codec.Request{Line: uint32(len(line))}
	if parsePlainGet(line, req) {
		return
	}
	p := parser{line: trim(line), req: req}
	p.clean = len(p.line)+2 == len(line) && line[len(line)-2] == '\r'
	p.command()
	if p.clean && p.at > len(p.line) && req.Flags&codec.FlagQuiet == 0 {
		req.Flags |= codec.FlagClean
	}
}

// parsePlainGet is the shortest way for the most frequent line: one get, one key.
func parsePlainGet(line []byte, req *codec.Request) bool {
	n := len(line)
	if n < 7 || n > MaxKey+6 || string(line[:4]) != "get " || line[n-2] != '\r' {
		return false
	}
	key := line[4 : n-2]
	if !Printable(key) {
		return false
	}
	req.Op = codec.OpGet
	req.Flags = codec.FlagClean
	req.Key = codec.Span{Off: 4, Len: uint32(len(key))}
	req.Rest = req.Key
	return true
}

// Printable reports whether no byte of b is a space, a NUL or any other control
// character. It looks at eight bytes at a time: subtracting 0x21 from a byte below
// it borrows, which sets a top bit that the byte itself did not have.
func Printable(b []byte) bool {
	const low, top = 0x2121212121212121, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if v := binary.LittleEndian.Uint64(b); (v-low)&^v&top != 0 {
			return false
		}
	}
	for _, c := range b {
		if c < 0x21 {
			return false
		}
	}
	return true
}

// trim takes the newline, a carriage return before it, and all from the first
// NUL, where memcached's C strings end. A line of nothing but CR LF keeps its CR.
func trim(line []byte) []byte {
	n := len(line) - 1
	if n > 1 && line[n-1] == '\r' {
		n--
	}
	if i := bytes.IndexByte(line[:n], 0); i >= 0 {
		n = i
	}
	return line[:n]
}

type parser struct {
	line  []byte // without its line end
	req   *codec.Request
	clean bool // single spaces, CRLF, no NUL: the line may be sent on as it is
	at    int  // where the token behind those found may begin
	n     int  // tokens found, at most maxTokens
	tok   [maxTokens]codec.Span
}

// word finds the first token, which is the command.
func (p *parser) word() []byte {
	line, i := p.line, 0
	for i < len(line) && line[i] == ' ' {
		p.clean = false
		i++
	}
	start := i
	for i < len(line) && line[i] != ' ' {
		i++
	}
	p.tok[0] = codec.Span{Off: uint32(start), Len: uint32(i - start)}
	p.n, p.at = 1, i+1
	return line[start:i]
}

// split finds the tokens behind the command. Spaces separate them and nothing
// else does.
func (p *parser) split() {
	line, start, n := p.line, p.at, p.n
	for i := start; i < len(line) && n < maxTokens; i += 8 {
		for m := spaces(line[i:]); m != 0 && n < maxTokens; m &= m - 1 {
			end := i + bits.TrailingZeros64(m)/8
			if end == start { // doubled or trailing
				p.clean = false
			} else {
				p.tok[n] = span(start, end)
				n++
			}
			start = end + 1
		}
	}
	if start < len(line) && n < maxTokens {
		p.tok[n] = span(start, len(line))
		n++
		start = len(line) + 1
	}
	p.n, p.at = n, start
}

// spaces marks the spaces among the first eight bytes of b: the top bit of byte i
// of the result is set if b[i] is one. Tokens are short, so that looking at eight
// bytes together is faster than a call of bytes.IndexByte per token.
func spaces(b []byte) uint64 {
	const blanks, low = 0x2020202020202020, 0x7f7f7f7f7f7f7f7f
	var v uint64
	if len(b) >= 8 {
		v = binary.LittleEndian.Uint64(b)
	} else {
		for i, c := range b {
			v |= uint64(c) << (8 * i)
		}
	}
	v ^= blanks // now a byte is zero where a space was, and the sum carries into its top bit elsewhere
	return ^((v&low + low) | v | low)
}

func span(start, end int) codec.Span {
	return codec.Span{Off: uint32(start), Len: uint32(end - start)}
}

func (p *parser) text(i int) []byte { return p.tok[i].In(p.line) }

func (p *parser) fault(f codec.Fault) {
	p.req.Op, p.req.Fault = codec.OpNone, f
}

// quiet sets FlagQuiet if the last token says noreply, wherever it stands.
func (p *parser) quiet() bool {
	if string(p.text(p.n-1)) != "noreply" {
		return false
	}
	p.req.Flags |= codec.FlagQuiet
	return true
}

// key takes token i as the key; it reports whether the key is short enough.
func (p *parser) key(i int) bool {
	p.req.Key = p.tok[i]
	return p.tok[i].Len <= MaxKey
}

// command dispatches on the first token, as memcached's process_command_ascii does.
func (p *parser) command() {
	word := p.word()
	if len(word) < 2 {
		p.fault(codec.FaultError)
		return
	}
	switch string(word) {
	case "get":
		p.retrieve(codec.OpGet)
		return
	case "gets":
		p.retrieve(codec.OpGets)
		return
	case "bget": // an old name of get, which newer nodes have forgotten
		p.retrieve(codec.OpGet)
		p.clean = false
		return
	}
	p.split()
	if len(word) == 2 && word[0] == 'm' {
		p.meta(word[1])
		return
	}
	switch string(word) {
	case "gat":
		p.touchAndRetrieve(codec.OpGat)
	case "gats":
		p.touchAndRetrieve(codec.OpGats)
	case "set":
		p.store(codec.OpSet, 5)
	case "add":
		p.store(codec.OpAdd, 5)
	case "replace":
		p.store(codec.OpReplace, 5)
	case "append":
		p.store(codec.OpAppend, 5)
	case "prepend":
		p.store(codec.OpPrepend, 5)
	case "cas":
		p.store(codec.OpCas, 6)
	case "incr":
		p.number(codec.OpIncr, codec.FaultDelta)
	case "decr":
		p.number(codec.OpDecr, codec.FaultDelta)
	case "touch":
		p.number(codec.OpTouch, codec.FaultExptime)
	case "delete":
		p.remove()
	default:
		p.admin(word)
	}
}

// touchAndRetrieve reads "gat exptime key…".
func (p *parser) touchAndRetrieve(op codec.Op) {
	if p.n < 2 {
		p.fault(codec.FaultError)
		return
	}
	if _, ok := Int(p.text(1)); !ok {
		p.fault(codec.FaultExptime)
		return
	}
	p.req.Op, p.req.Arg = op, p.tok[1]
	p.at = int(p.tok[1].End()) + 1
	p.keys() // memcached answers END to a gat without a key
}

// retrieve reads "get key…".
func (p *parser) retrieve(op codec.Op) {
	p.req.Op = op
	p.keys()
	if p.req.Key.Len == 0 {
		p.fault(codec.FaultError)
	}
}

// keys reads the rest of the line, which is any number of keys. The loop is that
// of split, but for where a token goes.
func (p *parser) keys() {
	line, start := p.line, p.at
	for i := start; i < len(line); i += 8 {
		for m := spaces(line[i:]); m != 0; m &= m - 1 {
			end := i + bits.TrailingZeros64(m)/8
			p.oneKey(start, end)
			start = end + 1
		}
	}
	if start < len(line) {
		p.oneKey(start, len(line))
		start = len(line) + 1
	}
	p.at = start
}

// oneKey takes the key at start, the first of which says where they all begin.
func (p *parser) oneKey(start, end int) {
	switch {
	case end == start:
		p.clean = false
		return
	case end-start > MaxKey:
		p.fault(codec.FaultFormat)
	}
	if p.req.Key.Len == 0 {
		p.req.Key, p.req.Rest = span(start, end), span(start, len(p.line))
	}
}

// NextKey returns the key at or behind *at in the keys that rest names in line,
// and moves *at behind it; false when there is none left.
func NextKey(line []byte, rest codec.Span, at *uint32) (codec.Span, bool) {
	i, end := *at, rest.End()
	for i < end && line[i] == ' ' {
		i++
	}
	if i >= end {
		return codec.Span{}, false
	}
	n := bytes.IndexByte(line[i:end], ' ')
	if n < 0 {
		n = int(end - i)
	}
	*at = i + uint32(n)
	return codec.Span{Off: i, Len: uint32(n)}, true
}

// store reads "set key flags exptime bytes [noreply]"; cas has its unique behind bytes.
func (p *parser) store(op codec.Op, tokens int) {
	p.req.Op = op
	if p.n != tokens && p.n != tokens+1 {
		p.fault(codec.FaultError)
		return
	}
	p.quiet()
	if !p.key(1) {
		p.fault(codec.FaultFormat)
		return
	}
	_, okFlags := Uint(p.text(2))
	_, okTime := Int(p.text(3))
	if !okFlags || !okTime || !p.size(4) {
		p.fault(codec.FaultFormat)
		return
	}
	if op == codec.OpCas {
		if _, ok := Uint(p.text(5)); !ok {
			p.fault(codec.FaultFormat)
			return
		}
		p.req.Arg = p.tok[5]
	}
	p.req.Client, p.req.Expiry = p.tok[2], p.tok[3]
	// A sixth word that is not noreply is ignored by memcached.
	p.clean = p.clean && p.n == tokens
}

// number reads "incr key delta [noreply]" and "touch key exptime [noreply]"; bad is
// the answer to a number that is none.
func (p *parser) number(op codec.Op, bad codec.Fault) {
	p.req.Op = op
	if p.n != 3 && p.n != 4 {
		p.fault(codec.FaultError)
		return
	}
	p.quiet()
	if !p.key(1) {
		p.fault(codec.FaultFormat)
		return
	}
	_, ok := Uint(p.text(2))
	if op == codec.OpTouch {
		_, ok = Int(p.text(2))
	}
	if !ok {
		p.fault(bad)
		return
	}
	p.req.Arg = p.tok[2]
	p.clean = p.clean && p.n == 3
}

// remove reads "delete key [0] [noreply]": the 0 is the lock time of old clients.
func (p *parser) remove() {
	p.req.Op = codec.OpDelete
	if p.n < 2 || p.n > 4 {
		p.fault(codec.FaultError)
		return
	}
	if p.n > 2 {
		zero := string(p.text(2)) == "0"
		noreply := p.quiet()
		if !(p.n == 3 && (zero || noreply)) && !(p.n == 4 && zero && noreply) {
			p.fault(codec.FaultDeleteUsage)
			return
		}
		p.clean = false
	}
	if !p.key(1) {
		p.fault(codec.FaultFormat)
	}
}

// admin reads the commands that concern no key. What memcached has beyond these
// (watch, lru_crawler, slabs, …) speaks of one process and is answered ERROR.
func (p *parser) admin(word []byte) {
	switch string(word) {
	case "version":
		p.req.Op = codec.OpVersion
	case "quit":
		p.req.Op = codec.OpQuit
	case "shutdown":
		p.fault(codec.FaultShutdown)
	case "stats":
		p.req.Op = codec.OpStats
		if p.n > 1 {
			off := p.tok[1].Off
			end := p.tok[p.n-1].End()
			p.req.Arg = codec.Span{Off: off, Len: end - off}
		}
	case "flush_all":
		p.flushAll()
	case "verbosity":
		p.verbosity()
	default:
		p.unknown(word)
	}
}

// unknown answers ERROR, or closes on what looks like a request of HTTP; memcached
// looks for that only behind the words it does not sort by their first letter.
func (p *parser) unknown(word []byte) {
	p.fault(codec.FaultError)
	switch word[0] {
	case 'a', 'c', 'd', 'g', 'i', 's', 't':
		return
	}
	switch string(word) {
	case "lru_crawler", "watch", "lru", "extstore":
		return
	}
	if bytes.HasPrefix(p.text(p.n-1), []byte("HTTP/")) {
		p.fault(codec.FaultClose)
	}
}

func (p *parser) flushAll() {
	p.req.Op = codec.OpFlushAll
	if p.n > 3 {
		p.fault(codec.FaultError)
		return
	}
	words := 1
	if p.quiet() {
		words = 2
	}
	if p.n != words {
		if _, ok := Int(p.text(1)); !ok {
			p.fault(codec.FaultExptime)
			return
		}
		p.req.Arg = p.tok[1]
	}
}

func (p *parser) verbosity() {
	p.req.Op = codec.OpVerbosity
	if p.n != 2 && p.n != 3 {
		p.fault(codec.FaultError)
		return
	}
	p.quiet()
	if _, ok := Uint(p.text(1)); !ok {
		p.fault(codec.FaultFormat)
		return
	}
	p.req.Arg = p.tok[1]
}
