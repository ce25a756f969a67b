// Package text is memcached's text protocol: the classic commands and the meta
// commands, as memcached 1.6.18 reads and answers them (its proto_text.c and
// doc/protocol.txt are the source of every rule here).
//
// Parse reads a command line, ParseReply a node's answer, the Append functions
// write what is sent to a node. Everything works on the caller's buffers; nothing
// allocates, blocks or keeps a reference. It imports codec and std.
package text

import (
	"bytes"

	"magent/codec"
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
	*req = codec.Request{Line: uint32(len(line))}
	if parsePlainGet(line, req) {
		return
	}
	p := parser{line: trim(line), req: req}
	p.clean = len(p.line)+2 == len(line) && line[len(line)-2] == '\r'
	p.split()
	p.command()
	if p.clean && req.Flags&codec.FlagQuiet == 0 {
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
	if bytes.IndexByte(key, ' ') >= 0 || bytes.IndexByte(key, 0) >= 0 {
		return false
	}
	req.Op = codec.OpGet
	req.Flags = codec.FlagClean
	req.Key = codec.Span{Off: 4, Len: uint32(len(key))}
	req.Rest = req.Key
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
	n     int  // tokens found, at most maxTokens
	tok   [maxTokens]codec.Span
}

// split finds the tokens, which are separated by spaces and by nothing else.
func (p *parser) split() {
	i, line := 0, p.line
	for i < len(line) && p.n < maxTokens {
		if line[i] == ' ' { // leading, doubled or trailing
			p.clean = false
			i++
			continue
		}
		n := bytes.IndexByte(line[i:], ' ')
		if n < 0 {
			n = len(line) - i
		}
		p.tok[p.n] = codec.Span{Off: uint32(i), Len: uint32(n)}
		p.n++
		i += n + 1 // the token and the one space behind it
	}
	p.clean = p.clean && i == len(line)+1
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
	if p.n < 1 || p.tok[0].Len < 2 {
		p.fault(codec.FaultError)
		return
	}
	word := p.text(0)
	if len(word) == 2 && word[0] == 'm' {
		p.meta(word[1])
		return
	}
	switch string(word) {
	case "get", "bget":
		p.retrieve(codec.OpGet, 1)
	case "gets":
		p.retrieve(codec.OpGets, 1)
	case "gat":
		p.retrieve(codec.OpGat, 2)
	case "gats":
		p.retrieve(codec.OpGats, 2)
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
		p.arith(codec.OpIncr)
	case "decr":
		p.arith(codec.OpDecr)
	case "touch":
		p.touch()
	case "delete":
		p.remove()
	default:
		p.admin(word)
	}
}

// retrieve reads "get key…" or "gat exptime key…"; the first key is token keyAt.
func (p *parser) retrieve(op codec.Op, keyAt int) {
	p.req.Op = op
	if p.n < 2 {
		p.fault(codec.FaultError)
		return
	}
	if keyAt == 2 {
		if _, ok := parseInt(p.text(1)); !ok {
			p.fault(codec.FaultExptime)
			return
		}
		p.req.Arg = p.tok[1]
		if p.n == 2 {
			return // memcached answers END to a gat without a key
		}
	}
	p.req.Key = p.tok[keyAt]
	off := p.tok[keyAt].Off
	p.req.Rest = codec.Span{Off: off, Len: uint32(len(p.line)) - off}
	for rest, at := p.req.Rest, off; ; {
		key, ok := NextKey(p.line, rest, &at)
		if !ok {
			break
		}
		if key.Len > MaxKey {
			p.fault(codec.FaultFormat)
			return
		}
	}
	p.clean = p.clean && string(p.text(0)) != "bget"
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
	noreply := p.quiet()
	if !p.key(1) {
		p.fault(codec.FaultFormat)
		return
	}
	_, okFlags := parseUint(p.text(2))
	_, okTime := parseInt(p.text(3))
	size, okSize := parseInt(p.text(4))
	size = int64(int32(size)) // memcached keeps the low 32 bits
	if !okFlags || !okTime || !okSize || size < 0 || size > 1<<31-3 {
		p.fault(codec.FaultFormat)
		return
	}
	if op == codec.OpCas {
		if _, ok := parseUint(p.text(5)); !ok {
			p.fault(codec.FaultFormat)
			return
		}
		p.req.Arg = p.tok[5]
	}
	p.req.Client, p.req.Expiry, p.req.Value = p.tok[2], p.tok[3], uint32(size)
	// A sixth word that is not noreply is ignored by memcached, and a size that
	// is not written in plain digits would be a riddle to the node: rewrite both.
	p.clean = p.clean && !noreply && p.n == tokens && plainDigits(p.text(4))
}

func (p *parser) arith(op codec.Op) {
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
	if _, ok := parseUint(p.text(2)); !ok {
		p.fault(codec.FaultDelta)
		return
	}
	p.req.Arg = p.tok[2]
	p.clean = p.clean && p.n == 3
}

func (p *parser) touch() {
	p.req.Op = codec.OpTouch
	if p.n != 3 && p.n != 4 {
		p.fault(codec.FaultError)
		return
	}
	p.quiet()
	if !p.key(1) {
		p.fault(codec.FaultFormat)
		return
	}
	if _, ok := parseInt(p.text(2)); !ok {
		p.fault(codec.FaultExptime)
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
		if bytes.HasPrefix(p.text(p.n-1), []byte("HTTP/")) {
			p.fault(codec.FaultClose)
			return
		}
		p.fault(codec.FaultError)
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
		if _, ok := parseInt(p.text(1)); !ok {
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
	if _, ok := parseUint(p.text(1)); !ok {
		p.fault(codec.FaultFormat)
		return
	}
	p.req.Arg = p.tok[1]
}
