package server

import (
	"bytes"
	"time"

	"magent/codec"
	"magent/codec/text"
	"magent/upstream"
)

// The way of a client's bytes, in the order of the functions below:
//
//	feed → command → serve → (get.go, write.go, broadcast.go) …the nodes…
//	     → Reply → emit → finish → flush
//
// One that speaks the binary protocol goes feed → frame → serve, and emit → render: see
// binary.go.
//
// Views of the read buffer die when feed returns: a line that is not whole, a
// value that is not whole and everything behind a full window is copied.
type session struct {
	loop   *loop
	routes *routes   // those of the listener that the client came to
	count  *Counters // the loop's; or, of our own client, some that nobody reads
	tally  *activity // what the client does, while the loop has a census; else nil
	wire   wire      // nil once the client is gone
	id     uint32    // which Conn of several it uses

	slots slots
	line  []byte          // a command line that has not come whole
	value *upstream.Chunk // a request whose value has not come whole
	into  *lane           // that it is for
	head  []byte          // its line
	want  int             // bytes it still lacks
	keys  manyKeys        // a multi-get that waits for slots to be free
	waste int             // bytes to be read and thrown away

	held    []byte // input that waits for slots to be free
	since   uint32 // when the first of it came, as of upstream.Group.Micros; 0: there is none
	output         // replies not written yet
	holding int    // bytes of replies that wait for their turn
	window  int    // most slots at a time
	waiting bool   // it has input that waits
	listed  bool   // it is on the loop's list of those
	ready   bool   // it is on the loop's list of those that may go on
	asking  int    // relative writes that have not gone to their leads yet
	stalled bool   // its next command waits for one of those
	mute    bool   // the rest of a multi-get is withheld: a key failed
	ending  bool   // close once all is answered
	quit    bool   // takes no more commands
	parting bool   // close at the next boundary
	fed     bool   // something has come since the last tick, while parting
	watched bool   // it is on the loop's list of those that stopped in a command
	silent  int    // looks at that list since something has come
	heard   uint32 // the look at idle clients before which something came last

	from  *origin       // where its client is; nil: that is not bounded
	paid  uint32        // slots that the address has been charged for
	until time.Duration // it must wait until then for that

	relay   *relay // the value that the client has the front of
	framing        // which protocol it speaks
	guard   *guard // who its client is; nil: it is known, or nobody asks
	settler        // the key that its next command waits for
}

// newSession is that of a client of the listener numbered at.
func newSession(l *loop, at int) *session {
	if at == ownDoor {
		return &session{loop: l, routes: l.all, count: &l.ownCount, window: windowLarge}
	}
	s := &session{loop: l, routes: l.ways[at], count: &l.count, window: windowLarge}
	if l.srv.users != nil {
		s.guard = new(guard)
	}
	return s
}

// own reports whether the client is the server's own.
func (s *session) own() bool { return s.count == &s.loop.ownCount }

// wire is what a session needs of its socket.
type wire interface {
	Write(b []byte) (int, error)
	Writev(bs [][]byte) (int, error)
	Close() error
	OutboundBuffered() int
}

const (
	// windowSmall and windowLarge bound the commands a session has in flight.
	// One that fetches big values gets the small window, lest the proxy hold
	// what the client has not read.
	windowSmall = 32
	windowLarge = 1024
	// bigValue is the size in bytes that makes the difference, and from which a
	// reply is written from where it was read instead of being copied.
	bigValue = 8 << 10
	// maxHeld is how much input may wait if reading cannot be paused.
	maxHeld = 64 << 20
)

// feed takes bytes the client sent.
func (s *session) feed(data []byte) {
	if len(s.held) == 0 {
		data = s.consume(data)
	}
	if s.wire != nil && !s.quit && (len(data) > 0 || s.blocked()) {
		s.hold(data)
	}
}

// consume serves what it can of data, and returns the rest.
func (s *session) consume(data []byte) []byte {
	for len(data) > 0 && s.wire != nil && !s.quit && !s.blocked() {
		switch {
		case s.waste > 0:
			n := min(s.waste, len(data))
			s.waste -= n
			data = data[n:]
		case s.value != nil:
			data = s.gather(data)
		default:
			data = s.next(data)
		}
	}
	if s.wire != nil && s.stopped() {
		s.watch()
	}
	return data
}

// blocked reports whether the session must wait before more of it is served.
func (s *session) blocked() bool {
	return s.keys.line != nil || s.stalled || s.full() || s.from != nil && s.paced() || s.loop.away != nil && s.betweenCommands() && !s.secure()
}

func (s *session) full() bool {
	return s.wire == nil || s.slots.len() >= s.window || s.wire.OutboundBuffered() > s.loop.cfg.ClientBuffer/8
}

// hold keeps input until there is room, and stops reading meanwhile.
func (s *session) hold(data []byte) {
	if s.since == 0 {
		s.since = s.loop.arrived()
	}
	s.held = append(s.held, data...)
	if !s.loop.pause(s) && len(s.held) > maxHeld {
		s.close()
		return
	}
	s.loop.wait(s)
}

// resume goes on with what was held if there is room again; false if all of it
// has not been served.
func (s *session) resume() bool {
	if s.wire == nil {
		return true
	}
	if s.slots.len() > s.window/2 || s.stalled || s.full() || s.from != nil && s.paced() {
		return false
	}
	if s.keys.line != nil && !s.moreKeys() {
		return false
	}
	if s.value != nil && s.want == 0 { // it waited at the gate
		if s.gather(nil); s.stalled {
			return false
		}
	}
	if s.held = s.consume(s.held); len(s.held) > 0 && s.wire != nil && !s.quit || s.keys.line != nil {
		return false
	}
	s.held, s.since = nil, 0
	if s.ending && s.slots.len() == 0 {
		s.begin()
	}
	s.loop.unpause(s)
	return true
}

// idleInput reports whether all input has been served, but for a command that has not
// come whole.
func (s *session) idleInput() bool {
	return len(s.held) == 0 && s.keys.line == nil && (s.value == nil || s.want > 0)
}

// lineLen is the length of the line that data begins with, 0 if it has not come whole.
func lineLen(data []byte) int { return bytes.IndexByte(data, '\n') + 1 }

// command reads one command from the front of data and returns what is behind it.
func (s *session) command(data []byte) []byte {
	n := lineLen(data)
	if n == 0 {
		if s.line == nil {
			s.line = s.loop.takeBuffer()
		}
		s.line = append(s.line, data...)
		if len(s.line) > text.MaxLine && (!text.Unbounded(s.line) || len(s.line) > s.loop.cfg.MaxValue) {
			s.close()
		}
		return nil
	}
	line, rest := data[:n], data[n:]
	var req codec.Request
	if s.line == nil {
		text.Parse(line, &req)
		if s.awaits(line, &req) {
			s.stalled = true
			return data
		}
		return s.serve(line, rest, &req)
	}
	line = append(s.line, line...)
	s.line = nil
	text.Parse(line, &req)
	if s.awaits(line, &req) {
		s.stalled = true
		return append(line, rest...)
	}
	rest = s.serve(line, rest, &req)
	s.loop.giveBuffer(line)
	return rest
}

// serve carries out one command; rest is what follows its line.
func (s *session) serve(line, rest []byte, req *codec.Request) []byte {
	s.count.Commands[req.Op]++
	if s.loop.rules.any && !s.own() {
		var denied bool
		if line, denied = s.govern(line, req); denied {
			return s.forbid(rest, req)
		}
	}
	if s.tally != nil {
		s.tallied(line, req)
	}
	s.settledKeys = s.settledKeys[:0]
	switch req.Op.Class() {
	case codec.ClassRead:
		if req.Op.MultiKey() {
			return s.get(line, rest, req)
		}
		s.metaGet(line, req)
	case codec.ClassWrite:
		if req.Op.MultiKey() {
			return s.get(line, rest, req)
		}
		s.write(line, nil, req)
	case codec.ClassStore:
		return s.store(line, rest, req)
	case codec.ClassBroadcast:
		s.broadcast(line, req)
	default:
		s.local(req)
	}
	return rest
}

// local answers what no node needs to be asked.
func (s *session) local(req *codec.Request) {
	switch req.Op {
	case codec.OpVersion:
		s.say(req.Op, s.routes.lanes[0].version())
	case codec.OpMetaNoop:
		s.say(req.Op, lineMN)
	case codec.OpQuit:
		if !s.binary() { // whose client has been answered
			s.count.Answers[req.Op][ResultOK]++
		}
		s.end()
	default:
		switch {
		case req.Fault == codec.FaultClose:
			s.count.Answers[req.Op][ResultError]++
			s.close()
		case req.Quiet():
			s.count.Answers[req.Op][ResultError]++
		default:
			s.refuse(req.Op, req.Fault.Line())
		}
	}
}

var (
	lineMN  = []byte("MN\r\n")
	lineEnd = []byte("END\r\n")
)

// say answers a command that no node is asked for with b, in turn.
func (s *session) say(op codec.Op, b []byte) {
	seq := s.open(slot{op: op})
	s.emit(seq, b)
	s.finish(seq)
}

// refuse answers a command that is not carried out, in turn.
func (s *session) refuse(op codec.Op, line string) {
	s.count.Errors++
	seq := s.open(slot{op: op, result: ResultError})
	if s.binary() {
		s.emit(seq, []byte(line))
	} else if s.slots.first(seq) {
		s.begin()
		s.out = append(s.out, line...)
	} else {
		s.keep(s.slots.at(seq), []byte(line))
	}
	s.finish(seq)
}

// end closes the session once everything before is answered; what comes behind is
// not served.
func (s *session) end() {
	s.ending, s.quit, s.held = true, true, nil
	if s.slots.len() == 0 {
		s.begin()
	}
}

// open takes a slot for a command.
func (s *session) open(sl slot) uint32 {
	rings := &s.loop.rings
	sl.asked = s.asked
	if n := len(s.slots.ring); n == 0 {
		s.slots.ring = rings.get(ringSize)
	} else if s.slots.len() == n {
		rings.put(s.slots.grow(rings.get(2 * n)))
	}
	return s.slots.push(sl)
}

// close ends the connection. What nodes still answer is taken and not sent.
func (s *session) close() {
	if w := s.wire; w != nil {
		s.lost()
		w.Close()
	}
}

// lost takes note that the client is gone.
func (s *session) lost() {
	if s.wire == nil {
		return
	}
	s.wire = nil
	if s.value != nil {
		s.into.group.Release(s.value)
		s.value = nil
	}
	for _, b := range [...][]byte{s.line, s.head} {
		if b != nil {
			s.loop.giveBuffer(b)
		}
	}
	s.line, s.head, s.held, s.keys = nil, nil, nil, manyKeys{}
	s.loop.gone(s)
}
