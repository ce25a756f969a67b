package load

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/wire"
)

// One worker, functions in the order of the flow:
//
//	run → enter (phase) → turn (arrive, reopen) → epoll_wait → ready → read → replies → refill → flush
//
// In a closed loop the clock is read once per readable event, just after read(2): that
// stamp ends the replies just read and begins the requests they make room for. So a
// latency includes the time a reply waited in the socket for its turn. In an open loop a
// latency begins when the request was due, so it includes what the worker is late itself:
// a timer, where epoll_wait(2) counts ms, wakes it for the next some tens of µs after its
// time.

const (
	readSize = 256 << 10
	// pollMillis is how soon a worker with a silent target sees a new phase, and
	// looks for connections that are silent for too long.
	pollMillis = 20
	never      = math.MaxInt64
	// timerID is the timer's in an event, where connections have theirs.
	timerID = -1
)

type worker struct {
	*shared
	schedule schedule // nil in a closed loop

	ep, timer int
	armed     int64 // when the timer will fire; 0: it is idle
	conns     []conn
	live      int // connections not gone
	flying    int // requests in flight on them
	waiting   int // requests due that wait for their connection
	dirty     []int32
	down      []int32 // connections to be opened
	quota     int64   // requests still to be sent and measured; -1: no end
	phase     phase   // as last seen
	heard     int64   // when the last bytes came, or were first waited for
	looked    int64   // for silent connections
	refusal   error   // of a preload: it ends it
	buf       []byte

	tally
	fresh atomic.Pointer[lap] // to put into the place of the lap at hand
	laps  chan *lap           // what was at hand then; closed when the worker ends
}

// newWorker is worker i. quota is how many requests it may send and measure, or -1.
func newWorker(s *shared, i int, quota int64) *worker {
	w := &worker{shared: s, quota: quota, ep: -1, timer: -1, laps: make(chan *lap, 1)}
	w.buf = make([]byte, readSize)
	if s.cfg.Progress != nil {
		w.lap = newLap()
	}
	from, to := s.cfg.connsOf(i)
	w.conns = make([]conn, 0, to-from)
	return w
}

// run drives the load until the quota is met, the phase ends it, or nothing is
// left to drive. It closes the sockets.
func (w *worker) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer w.close()
	defer close(w.laps)
	if err := w.enrol(); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	w.heard = w.now()
	w.enter()
	if w.schedule == nil {
		for i := range w.conns {
			w.refill(&w.conns[i], w.now())
		}
	}
	events := make([]unix.EpollEvent, min(len(w.conns)+1, 512))
	for ; !w.finished(); w.enter() {
		wait, err := w.turn()
		if err != nil {
			return err
		}
		n, err := unix.EpollWait(w.ep, events, wait)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("load: epoll_wait: %w", err)
		}
		for _, ev := range events[:max(n, 0)] {
			if ev.Fd == timerID {
				w.armed = 0
				continue
			}
			w.ready(&w.conns[ev.Fd], ev.Events)
		}
		if w.refusal != nil {
			return w.refusal
		}
		if idle := n <= 0 || n == 1 && events[0].Fd == timerID; idle && w.deaf() {
			return fmt.Errorf("load: no answer from %s in %v to %d requests", w.doors(), w.cfg.Timeout, w.flying)
		}
	}
	if w.live == 0 {
		return fmt.Errorf("load: every connection to %s was lost; first: %s", w.doors(), w.fault.text)
	}
	return nil
}

func (w *worker) doors() string { return strings.Join(w.cfg.Targets, ", ") }

// deaf says whether the run waits in vain. Where connections are opened again and the
// end is known, it does not.
func (w *worker) deaf() bool {
	if w.cfg.Reopen && w.cfg.Duration > 0 || w.flying == 0 && len(w.down) == 0 {
		return false
	}
	return w.now()-w.heard > int64(w.cfg.Timeout)
}

// enrol makes the epoll set. An event carries the connection's number where epoll would
// expect its descriptor: the kernel does not look at it.
func (w *worker) enrol() (err error) {
	if w.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create: %w", err)
	}
	if w.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	// Edge-triggered, it says once that it fired, and need not be read.
	if err := w.watch(unix.EPOLL_CTL_ADD, w.timer, unix.EPOLLIN|unix.EPOLLET, timerID); err != nil {
		return err
	}
	for i := range w.conns {
		if err := w.watch(unix.EPOLL_CTL_ADD, w.conns[i].fd, unix.EPOLLIN, w.conns[i].id); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) watch(op, fd int, events uint32, id int32) error {
	if err := unix.EpollCtl(w.ep, op, fd, &unix.EpollEvent{Events: events, Fd: id}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (w *worker) close() {
	for i := range w.conns {
		w.conns[i].shut()
	}
	for _, fd := range []int{w.timer, w.ep} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// enter follows the phase word, and hands over the lap if it is asked to.
func (w *worker) enter() {
	if p := phase(w.word.Load()); p != w.phase {
		switch p {
		case measuring:
			if w.schedule == nil && w.quota >= 0 { // what the warm-up left in flight will count
				w.quota = max(0, w.quota-int64(w.flying))
			}
		case draining:
			if w.schedule != nil { // the last of what was due
				w.arrive(w.now())
			}
		}
		w.phase = p
	}
	if next := w.fresh.Load(); next != nil {
		w.fresh.Store(nil)
		w.lap.counts = w.counts
		w.laps <- w.lap
		w.lap = next
	}
}

func (w *worker) finished() bool {
	switch w.phase {
	case stopped:
		return true
	case draining:
		return w.flying == 0
	case measuring:
		return w.live == 0 || w.quota == 0 && w.flying == 0 && w.waiting == 0
	}
	return w.live == 0
}

// turn does what is due, and says how long epoll_wait may wait, in ms. It sets the timer
// to wake it earlier.
func (w *worker) turn() (wait int, err error) {
	if w.schedule == nil && !w.cfg.Reopen && len(w.down) == 0 {
		return pollMillis, nil
	}
	now := w.now()
	next := int64(never)
	if w.schedule != nil && w.phase < draining {
		w.arrive(now)
		next = w.due()
	}
	if w.cfg.Reopen && now-w.looked > pollMillis*int64(time.Millisecond) {
		w.looked = now
		w.expire(now)
	}
	if len(w.down) > 0 {
		next = min(next, w.reopen(now))
	}
	if next == never || next == w.armed {
		return pollMillis, nil
	}
	left := next - w.now() // sending took a while
	if left <= 0 {
		return 0, nil
	}
	w.armed = next
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(left)}
	if err := unix.TimerfdSettime(w.timer, 0, &spec, nil); err != nil {
		return 0, fmt.Errorf("load: timerfd_settime: %w", err)
	}
	return pollMillis, nil
}

// ready serves one connection that epoll named.
func (w *worker) ready(c *conn, events uint32) {
	switch {
	case c.state == opening:
		w.opened(c)
		return
	case c.state != up:
		return
	case events&unix.EPOLLOUT != 0 && !w.flush(c):
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
			return w.lose(c, fmt.Errorf("read: %w", err))
		case n == 0:
			return w.lose(c, errors.New("connection closed by the target"))
		}
		w.heard = w.now()
		c.heard = w.heard
		if w.phase == measuring {
			w.in += int64(n)
		}
		if err := w.replies(c, w.buf[:n], w.heard); err != nil {
			if c.used == c.flights.n { // it has answered nothing yet
				err = fmt.Errorf("%w; is it a memcached?", err)
			}
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
		if c.flights.n == 0 {
			return fmt.Errorf("an answer to nothing: %.80q", b)
		}
		f, acked := c.flights.front()
		n, out, done, err := c.scan.Next(b, &f.Request)
		if err != nil {
			return err
		}
		text := b[:n]
		if b = b[n:]; !done {
			continue
		}
		w.settle(c, f, acked, &out, text, now)
		c.flights.pop()
		w.flying--
	}
	return nil
}

// refill sends what c has room for: in a closed loop as much as that, in an open loop
// what is due.
func (w *worker) refill(c *conn, now int64) {
	if w.phase >= draining || c.state != up {
		return
	}
	if c.sent > len(c.out)/2 { // a target that lags must not make out grow
		c.out, c.sent = append(c.out[:0], c.out[c.sent:]...), 0
	}
	for c.flights.n < w.cfg.Pipeline && !c.spent(w.cfg.ReopenEvery) {
		due := now
		if w.schedule != nil {
			if c.late.len() == 0 {
				break
			}
			due = c.late.pop()
			w.waiting--
		} else if w.phase == measuring {
			if w.quota == 0 {
				break
			}
			w.quota = max(w.quota-1, -1)
		}
		w.ask(c, due, now)
	}
	if !c.armed && w.flush(c) && c.flights.n == 0 && c.spent(w.cfg.ReopenEvery) {
		w.recycle(c, now)
	}
}

// ask renders c's next request.
func (w *worker) ask(c *conn, due, now int64) {
	if w.flying == 0 {
		w.heard = now
	}
	if c.flights.n == 0 {
		c.heard = now
	}
	f, acked := c.flights.push()
	c.source.next(f)
	f.due = due
	if w.ledger != nil && (f.Op == wire.Get || f.Op == wire.Gets) {
		for i := range int(f.Keys) {
			acked[i] = w.ledger.acked(w.key(f, i))
		}
	}
	c.out = wire.Encoder{Space: w.space, Dialect: w.cfg.Dialect}.Append(c.out, &f.Request)
	c.used++
	w.flying++
}

// key is the i-th that f asks for.
func (w *worker) key(f *flight, i int) uint32 {
	if i == 0 {
		return f.Key
	}
	return uint32((int(f.Key) + i*int(f.Step)) % w.space.Len())
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
			return w.lose(c, fmt.Errorf("write: %w", err))
		}
		c.sent += n
		if w.phase == measuring {
			w.out += int64(n)
		}
	}
	if c.sent == len(c.out) {
		c.out, c.sent = c.out[:0], 0
	}
	if left := c.sent < len(c.out); left != c.armed {
		c.armed = left
		events := uint32(unix.EPOLLIN)
		if left {
			events |= unix.EPOLLOUT
		}
		if err := w.watch(unix.EPOLL_CTL_MOD, c.fd, events, c.id); err != nil {
			return w.lose(c, err)
		}
	}
	return true
}
