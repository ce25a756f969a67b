package load

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"magent/bench/wire"
)

// The closed loop, one worker, functions in the order of the flow:
//
//	run → phase → epoll_wait → ready → read → replies → refill → flush
//
// The clock is read once per readable event, just after read(2): that stamp
// ends the replies just read and begins the requests they make room for. So a
// latency includes the time a reply waited in the socket for its turn.

// phase is what the workers are to do. It only grows.
type phase int32

const (
	warming   phase = iota // load runs, nothing counts
	measuring              // everything counts
	draining               // no new requests, nothing counts any more
	stopped                // leave at once
)

const (
	readSize = 256 << 10
	// pollMillis is how soon a worker with a silent target sees a new phase.
	pollMillis = 20
	// histMax is the longest latency told apart from longer ones.
	histMax = int64(time.Minute)
)

// newHistogram holds latencies in ns, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, histMax, 3) }

// counts is what a worker saw. Errors, Wrong and Lost count from the first
// request on, warm-up and drain included; the others while measuring.
type counts struct {
	requests, hits, misses int64
	errors, wrong          int64
	lost                   int
}

// flight is a request in flight, sent at a time of the worker's clock, in ns.
type flight struct {
	wire.Request
	sent int64
}

// conn is one connection; it belongs to one worker.
type conn struct {
	id   int32 // its place in worker.conns
	fd   int   // -1 once lost
	scan wire.Scanner
	// The requests in flight: ring[head], and so on round, n of them.
	ring    []flight
	head, n int
	// out[sent:] is rendered and not yet taken by the kernel; while there is
	// such a rest, EPOLLOUT is armed.
	out   []byte
	sent  int
	armed bool
}

type worker struct {
	cfg    Config
	src    *source
	phases *atomic.Int32

	ep     int
	conns  []conn
	live   int // connections not lost
	flying int // requests in flight on them
	quota  int64
	phase  phase
	start  time.Time // the zero of the worker's clock
	heard  int64     // when the last bytes came
	buf    []byte
	hist   *hdrhistogram.Histogram
	counts counts
	first  error // the first lost connection's cause, or error line
}

// newWorker takes over the sockets fds. quota is how many requests it may have
// answered while measuring, or -1.
func newWorker(cfg Config, src *source, phases *atomic.Int32, fds []int, quota int64) *worker {
	w := &worker{cfg: cfg, src: src, phases: phases, quota: quota, ep: -1, live: len(fds), start: time.Now()}
	w.buf = make([]byte, readSize)
	w.hist = newHistogram()
	w.conns = make([]conn, len(fds))
	for i, fd := range fds {
		w.conns[i] = conn{id: int32(i), fd: fd, scan: wire.Scanner{Space: src.enc.Space}, ring: make([]flight, cfg.Pipeline)}
	}
	return w
}

// run drives the load until the quota is met, the phase ends it, or nothing is
// left to drive. It closes the sockets.
func (w *worker) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer w.close()
	if err := w.open(); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, min(len(w.conns), 512))
	for w.enter(); !w.finished(); w.enter() {
		n, err := unix.EpollWait(w.ep, events, pollMillis)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("load: epoll_wait: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			w.ready(&w.conns[ev.Fd], ev.Events)
		}
		if n <= 0 && w.flying > 0 && time.Duration(w.now()-w.heard) > w.cfg.Timeout {
			return fmt.Errorf("load: no answer from %s in %v to %d requests", w.cfg.Targets[0], w.cfg.Timeout, w.flying)
		}
	}
	if w.live == 0 {
		return fmt.Errorf("load: every connection to %s was lost; first: %w", w.cfg.Targets[0], w.first)
	}
	return nil
}

func (w *worker) now() int64 { return int64(time.Since(w.start)) }

// open enrols the sockets. The event carries the connection's number where
// epoll would expect its descriptor: the kernel does not look at it.
func (w *worker) open() (err error) {
	if w.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("load: epoll_create: %w", err)
	}
	for i := range w.conns {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: w.conns[i].id}
		if err = unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, w.conns[i].fd, &ev); err != nil {
			return fmt.Errorf("load: epoll_ctl: %w", err)
		}
	}
	return nil
}

func (w *worker) close() {
	for i := range w.conns {
		if w.conns[i].fd >= 0 {
			unix.Close(w.conns[i].fd)
		}
	}
	if w.ep >= 0 {
		unix.Close(w.ep)
	}
}

// enter follows the phase word, and sends the first requests.
func (w *worker) enter() {
	began := w.heard == 0
	if began {
		w.heard = max(1, w.now())
	}
	if p := phase(w.phases.Load()); p != w.phase {
		w.phase = p
		if p == measuring {
			w.hist.Reset()
			w.counts.requests, w.counts.hits, w.counts.misses = 0, 0, 0
			if w.quota >= 0 { // what the warm-up left in flight will count
				w.quota = max(0, w.quota-int64(w.flying))
			}
		}
	}
	if began {
		for i := range w.conns {
			w.refill(&w.conns[i], w.now())
		}
	}
}

func (w *worker) finished() bool {
	switch w.phase {
	case stopped:
		return true
	case draining:
		return w.flying == 0
	case measuring:
		return w.live == 0 || (w.quota == 0 && w.flying == 0)
	}
	return w.live == 0
}

// ready serves one connection that epoll named.
func (w *worker) ready(c *conn, events uint32) {
	if c.fd < 0 {
		return
	}
	if events&unix.EPOLLOUT != 0 && !w.flush(c) {
		return
	}
	if events&^unix.EPOLLOUT != 0 && w.read(c) {
		w.refill(c, w.heard)
	}
}

// read takes what has come, to the last byte, and reports whether c lives.
func (w *worker) read(c *conn) bool {
	for {
		n, err := unix.Read(c.fd, w.buf)
		switch {
		case err == unix.EAGAIN:
			return true
		case err == unix.EINTR:
			continue
		case err != nil:
			return w.lose(c, fmt.Errorf("load: read: %w", err))
		case n == 0:
			return w.lose(c, errors.New("load: connection closed by the target"))
		}
		w.heard = w.now()
		if err := w.replies(c, w.buf[:n], w.heard); err != nil {
			return w.lose(c, err)
		}
		if n < len(w.buf) {
			return true
		}
	}
}

// replies settles the requests that b answers.
func (w *worker) replies(c *conn, b []byte, now int64) error {
	for len(b) > 0 {
		if c.n == 0 {
			return fmt.Errorf("load: an answer to nothing: %.80q", b)
		}
		r := &c.ring[c.head]
		n, out, done, err := c.scan.Next(b, &r.Request)
		if err != nil {
			return err
		}
		if b = b[n:]; !done {
			continue
		}
		w.settle(out, now-r.sent)
		if out.Status == wire.Failed && w.first == nil {
			w.first = errors.New(c.scan.ErrLine)
		}
		if c.head++; c.head == len(c.ring) {
			c.head = 0
		}
		c.n--
		w.flying--
	}
	return nil
}

// settle books one reply that took ns.
func (w *worker) settle(out wire.Reply, ns int64) {
	w.counts.wrong += int64(out.Wrong)
	if out.Status == wire.Failed {
		w.counts.errors++
	}
	if w.phase >= draining {
		return
	}
	w.counts.requests++
	w.counts.hits += int64(out.Hits)
	w.counts.misses += int64(out.Misses)
	// The value is in range by construction, so this cannot fail.
	_ = w.hist.RecordValue(min(ns, histMax))
}

// refill tops c up to its depth and sends.
func (w *worker) refill(c *conn, now int64) {
	if w.phase >= draining {
		return
	}
	if c.sent > len(c.out)/2 { // a target that lags must not make out grow
		c.out, c.sent = append(c.out[:0], c.out[c.sent:]...), 0
	}
	for c.n < len(c.ring) && (w.phase != measuring || w.quota != 0) {
		if w.phase == measuring && w.quota > 0 {
			w.quota--
		}
		at := c.head + c.n
		if at >= len(c.ring) {
			at -= len(c.ring)
		}
		c.ring[at] = flight{Request: w.src.request(), sent: now}
		c.out = w.src.enc.Append(c.out, &c.ring[at].Request)
		c.n++
		w.flying++
	}
	if !c.armed {
		w.flush(c)
	}
}

// flush writes what it can, asks for EPOLLOUT while something is left, and
// reports whether c lives.
func (w *worker) flush(c *conn) bool {
	for c.sent < len(c.out) {
		n, err := unix.Write(c.fd, c.out[c.sent:])
		if err == unix.EAGAIN {
			break
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return w.lose(c, fmt.Errorf("load: write: %w", err))
		}
		c.sent += n
	}
	if c.sent == len(c.out) {
		c.out, c.sent = c.out[:0], 0
	}
	if left := c.sent < len(c.out); left != c.armed {
		c.armed = left
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.id}
		if left {
			ev.Events |= unix.EPOLLOUT
		}
		if err := unix.EpollCtl(w.ep, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
			return w.lose(c, fmt.Errorf("load: epoll_ctl: %w", err))
		}
	}
	return true
}

// lose gives c up: its requests in flight are errors, and it is not opened
// again. It returns false, the answer to "does c live".
func (w *worker) lose(c *conn, cause error) bool {
	if w.first == nil {
		w.first = cause
	}
	w.counts.lost++
	w.counts.errors += int64(c.n)
	w.live--
	w.flying -= c.n
	c.n = 0
	unix.Close(c.fd)
	c.fd = -1
	return false
}
