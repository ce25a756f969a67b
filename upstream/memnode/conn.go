package memnode

import (
	"bytes"
	"net"
)

// A request on its way, functions in the order it meets them:
//
//	serve → command → [faulty → suffer] → run → a handler of the table → line again
//
// A line is a view of the read buffer: it dies when a handler reads a value.

// conn is one client connection, served by one goroutine.
type conn struct {
	wire
	id      int // of stats conns, in order of accept
	store   *store
	line    []byte           // the command as it came
	words   [maxWords][]byte // its words; get reads further ones from line
	noreply bool
	mute    bool   // a fault answers: read the request, but do not execute it
	stash   []byte // a meta set's return flags while its value is read
	held    []byte // a reply that a swap holds back
}

// maxWords is how many words memcached takes apart; the rest it ignores.
const maxWords = 23

const maxKey = 250

func newConn(p *process, nc net.Conn) *conn {
	c := &conn{wire: wire{p: p, c: nc}, store: p.store}
	c.active.Store(c.store.now())
	return c
}

// serve executes commands until the connection or the process ends. Before that it
// suffers what f has planned for it.
func (c *conn) serve(f *faults, planned plan) {
	defer c.p.leave()
	if !c.enter() || !c.suffer(f, planned) {
		return
	}
	for first := true; ; first = false {
		line, ok := c.wire.line()
		if !ok || first && len(line) > 0 && line[0] == binaryMagic {
			c.flushDue()
			return
		}
		if !c.command(line) {
			return
		}
		if len(c.out) > flushAt && !c.flush() {
			return
		}
	}
}

// binaryMagic as the first byte of a connection asks for the binary protocol.
const binaryMagic = 0x80

// command answers one command line. False ends the connection.
func (c *conn) command(line []byte) bool {
	c.queued++
	c.line = cstring(line)
	n := c.split()
	words := c.words[:n]
	cmd := lookup(words)
	c.noreply = false
	seen := len(commands)
	if cmd != nil {
		seen = cmd.index
	}
	c.p.seen[seen].Add(1)
	if f := c.p.node.fault.Load(); f != nil {
		return c.faulty(f, cmd, words)
	}
	return c.run(cmd, words)
}

// split cuts line into words at spaces.
func (c *conn) split() int {
	n, rest := 0, c.line
	for n < maxWords {
		var w []byte
		if w, rest = cut(rest); w == nil {
			break
		}
		c.words[n] = w
		n++
	}
	return n
}

// cut returns the first word of b, nil if there is none, and what follows it.
func cut(b []byte) (word, rest []byte) {
	b = bytes.TrimLeft(b, " ")
	if len(b) == 0 {
		return nil, nil
	}
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// command describes a verb. Fewer than min or more than max words, the verb
// included, are answered with ERROR; max 0 is no bound.
type command struct {
	name     string
	min, max int
	value    bool // a value follows the line
	index    int  // in commands
	run      func(*conn, [][]byte) bool
}

var commands = [...]command{
	{name: "get", min: 2, run: func(c *conn, w [][]byte) bool { return c.get(w, false, false) }},
	{name: "gets", min: 2, run: func(c *conn, w [][]byte) bool { return c.get(w, true, false) }},
	{name: "gat", min: 2, run: func(c *conn, w [][]byte) bool { return c.get(w, false, true) }},
	{name: "gats", min: 2, run: func(c *conn, w [][]byte) bool { return c.get(w, true, true) }},
	{name: "bget", min: 2, run: func(c *conn, w [][]byte) bool { return c.get(w, false, false) }},
	{name: "set", min: 5, max: 6, value: true, run: func(c *conn, w [][]byte) bool { return c.update(w, modeSet) }},
	{name: "add", min: 5, max: 6, value: true, run: func(c *conn, w [][]byte) bool { return c.update(w, modeAdd) }},
	{name: "replace", min: 5, max: 6, value: true, run: func(c *conn, w [][]byte) bool { return c.update(w, modeReplace) }},
	{name: "append", min: 5, max: 6, value: true, run: func(c *conn, w [][]byte) bool { return c.update(w, modeAppend) }},
	{name: "prepend", min: 5, max: 6, value: true, run: func(c *conn, w [][]byte) bool { return c.update(w, modePrepend) }},
	{name: "cas", min: 6, max: 7, value: true, run: func(c *conn, w [][]byte) bool { return c.update(w, modeCAS) }},
	{name: "incr", min: 3, max: 4, run: func(c *conn, w [][]byte) bool { return c.arithmetic(w, false) }},
	{name: "decr", min: 3, max: 4, run: func(c *conn, w [][]byte) bool { return c.arithmetic(w, true) }},
	{name: "touch", min: 3, max: 4, run: (*conn).touch},
	{name: "delete", min: 2, max: 4, run: (*conn).delete},
	{name: "flush_all", min: 1, max: 3, run: (*conn).flushAll},
	{name: "version", run: (*conn).version},
	{name: "verbosity", min: 2, max: 3, run: (*conn).verbosity},
	{name: "stats", run: (*conn).stats},
	{name: "cache_memlimit", min: 2, max: 3, run: (*conn).memlimit},
	{name: "lru_crawler", run: (*conn).crawler},
	{name: "shutdown", run: func(c *conn, _ [][]byte) bool { return c.reply("ERROR: shutdown not enabled") }},
	{name: "quit", run: func(c *conn, _ [][]byte) bool { c.wire.flush(); return false }},
	{name: "mg", min: 2, run: (*conn).metaGet},
	{name: "ms", min: 2, value: true, run: (*conn).metaSet},
	{name: "md", min: 2, run: (*conn).metaDelete},
	{name: "ma", min: 2, run: (*conn).metaArithmetic},
	{name: "mn", run: (*conn).metaNoop},
	{name: "me", run: (*conn).metaDebug},
}

var byName = func() map[string]*command {
	m := make(map[string]*command, len(commands))
	for i := range commands {
		commands[i].index = i
		m[commands[i].name] = &commands[i]
	}
	return m
}()

func lookup(words [][]byte) *command {
	if len(words) == 0 {
		return nil
	}
	return byName[string(words[0])]
}

// run executes a command whose words are known.
func (c *conn) run(cmd *command, words [][]byte) bool {
	switch {
	case cmd == nil:
		return c.unknown(words)
	case len(words) < cmd.min, cmd.max > 0 && len(words) > cmd.max:
		return c.reply("ERROR")
	case c.mute && !cmd.value:
		return true
	}
	return cmd.run(c, words)
}

// unknown answers ERROR, but hangs up on a browser: memcached looks for HTTP
// wherever the first letter matches none of its larger groups of verbs.
func (c *conn) unknown(words [][]byte) bool {
	if len(words) > 0 && len(words[0]) > 1 {
		first, last := words[0], words[len(words)-1]
		meta := first[0] == 'm' && len(first) == 2
		if !meta && bytes.IndexByte([]byte("gsacidt"), first[0]) < 0 && bytes.HasPrefix(last, []byte("HTTP/")) {
			return false
		}
	}
	return c.reply("ERROR")
}

// reply answers with one line, unless the client asked for none.
func (c *conn) reply(line string) bool {
	if !c.noreply {
		c.out = append(append(c.out, line...), '\r', '\n')
	}
	return true
}

// fail answers with an error that is sent whatever the client asked for.
func (c *conn) fail(line string) bool {
	c.noreply = false
	return c.reply(line)
}

// wantsNoreply notes a trailing noreply.
func (c *conn) wantsNoreply(words [][]byte) bool {
	c.noreply = string(words[len(words)-1]) == "noreply"
	return c.noreply
}

// batchEnds marks what was answered so far as ready to leave, even if the next
// command is an unfinished store: so it is in memcached after a get and an mn.
func (c *conn) batchEnds() bool {
	c.due = len(c.out)
	c.queued = 0
	return true
}
