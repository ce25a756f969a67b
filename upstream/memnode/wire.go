package memnode

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	readSize = 16 << 10  // memcached's READ_BUFFER_SIZE
	maxShort = 2048      // bytes without a newline that memcached bears of anything but a get
	maxLine  = 8 << 20   // and of a get: memcached has no bound, we do
	flushAt  = 64 << 10  // replies beyond this are written before the next command
	keepOut  = 256 << 10 // a reply buffer larger than this is given back
)

// wire is the byte level of a connection: lines and values in, replies out.
// Replies gather in out and are written when no whole command is left to
// execute, as memcached does. The connection's goroutine alone uses it; it is
// inside the process's gate except while it reads or sleeps.
type wire struct {
	p      *process
	c      net.Conn
	in     []byte // in[r:w] is read and not yet consumed
	r, w   int
	out    []byte
	due    int  // out[:due] may leave although a value is still awaited
	queued int  // commands answered since a batch of replies ended
	hold   bool // a fault is looking at the reply: nothing may leave
	sends  int  // a fault resets the connection after so many more bytes; 0: none does

	// For stats conns, which any connection's goroutine may answer.
	state  atomic.Uint32 // a connState
	active atomic.Uint32 // when something last came, in store time
}

// connState is what a connection is doing, as memcached calls it.
type connState uint32

const (
	stateNew     connState = iota // waits for its first command
	stateParse                    // executes
	stateRead                     // waits for a command
	stateValue                    // waits for a value
	stateSwallow                  // waits for a value that it will not keep
	stateWrite                    // waits for its client to read
)

var connStateText = [...]string{
	stateNew: "conn_new_cmd", stateParse: "conn_parse_cmd", stateRead: "conn_read",
	stateValue: "conn_nread", stateSwallow: "conn_swallow", stateWrite: "conn_mwrite",
}

// line returns the next line without its end. It stays valid until the next
// read. False means that the connection is to be closed.
func (w *wire) line() ([]byte, bool) {
	for seen := 0; ; {
		buf := w.in[w.r:w.w]
		if i := bytes.IndexByte(buf[seen:], '\n'); i >= 0 {
			end := seen + i
			w.r += end + 1
			if end > 1 && buf[end-1] == '\r' { // a lone CR is a one-byte command to memcached
				end--
			}
			return buf[:end], true
		}
		seen = len(buf)
		if seen > maxShort && (seen > maxLine || !isGet(buf)) {
			return nil, false
		}
		if !w.flush() || !w.fill(stateRead) {
			return nil, false
		}
	}
}

// isGet reports whether a line without an end so far is a get or gets, the only
// commands whose length memcached does not limit.
func isGet(b []byte) bool {
	cmd := bytes.TrimLeft(b, " ")
	return len(b)-len(cmd) <= 100 && (bytes.HasPrefix(cmd, []byte("get ")) || bytes.HasPrefix(cmd, []byte("gets ")))
}

// fill reads once more into in, growing it when it is full.
func (w *wire) fill(waiting connState) bool {
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	if w.w == len(w.in) {
		n := copy(w.in, w.in[w.r:w.w])
		w.r, w.w = 0, n
		if n == len(w.in) {
			w.in = append(w.in, make([]byte, max(readSize, n))...)
		}
	}
	n, ok := w.read(w.in[w.w:], waiting)
	w.w += n
	return ok
}

// read is one read of the socket, outside the gate. One that a freeze calls back is
// done again after the thaw, and gets all that has come meanwhile.
func (w *wire) read(p []byte, waiting connState) (int, bool) {
	w.state.CompareAndSwap(uint32(stateParse), uint32(waiting)) // a new one stays new
	for {
		w.p.leave()
		n, err := w.c.Read(p)
		w.p.wire.read.Add(uint64(n))
		// Entering again even after an error keeps the rule that serve is inside.
		if !w.enter() {
			return 0, false
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		w.active.Store(w.p.store.now())
		w.state.Store(uint32(stateParse))
		return n, n > 0 || err == nil
	}
}

// enter comes back into the gate. When the process has ended there is no gate to
// come back to, but serve leaves it on its way out: hold it all the same.
func (w *wire) enter() bool {
	if w.p.enter() {
		return true
	}
	w.p.gate.RLock()
	return false
}

// value reads len(dst) bytes of a value.
func (w *wire) value(dst []byte) bool {
	for {
		n := copy(dst, w.in[w.r:w.w])
		w.r += n
		if dst = dst[n:]; len(dst) == 0 {
			return true
		}
		if !w.flushDue() {
			return false
		}
		if len(dst) < readSize { // read ahead: commands may follow
			if !w.fill(stateValue) {
				return false
			}
			continue
		}
		n, ok := w.read(dst, stateValue)
		if !ok {
			return false
		}
		dst = dst[n:]
	}
}

// swallow drops the next n bytes.
func (w *wire) swallow(n int) bool {
	for {
		k := min(n, w.w-w.r)
		w.r += k
		if n -= k; n == 0 {
			return true
		}
		if !w.flushDue() || !w.fill(stateSwallow) {
			return false
		}
	}
}

// flush writes every gathered reply.
func (w *wire) flush() bool {
	w.due = len(w.out)
	w.queued = 0
	return w.flushDue()
}

func (w *wire) flushDue() bool {
	if w.hold || w.due == 0 {
		return true
	}
	if !w.write(w.out[:w.due]) {
		return false
	}
	w.out = w.out[:copy(w.out, w.out[w.due:])]
	w.due = 0
	if cap(w.out) > keepOut && len(w.out) == 0 {
		w.out = nil
	}
	return true
}

// write writes b, however slowly the peer reads and however often it is frozen
// in between.
func (w *wire) write(b []byte) bool {
	w.state.Store(uint32(stateWrite))
	defer w.state.Store(uint32(stateParse))
	last := w.sends > 0 && len(b) >= w.sends
	if last {
		b = b[:w.sends]
	} else if w.sends > 0 {
		w.sends -= len(b)
	}
	for {
		n, err := w.c.Write(b)
		w.p.wire.written.Add(uint64(n))
		if err == nil {
			if last {
				reset(w.c)
			}
			return !last
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		b = b[n:]
		w.p.leave() // freeze wants the gate
		if !w.enter() {
			return false
		}
	}
}

// sleep waits outside the gate; false means that the process has ended.
func (w *wire) sleep(d time.Duration) bool {
	w.p.leave()
	ok := w.p.rest(d)
	return w.enter() && ok
}

// await waits outside the gate until done is closed; false means that the process has
// ended.
func (w *wire) await(done <-chan struct{}) bool {
	w.p.leave()
	select {
	case <-done:
	case <-w.p.done:
	}
	return w.enter()
}

var _ io.Writer = (*wire)(nil)

// Write appends to the reply.
func (w *wire) Write(b []byte) (int, error) {
	w.out = append(w.out, b...)
	return len(b), nil
}
