package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/wire"
)

// The life of a connection:
//
//	             lost, or done with (ReopenEvery)
//	dial ─▶ up ──────────────────────────────────▶ closed ──▶ gone (without Reopen)
//	         ▲                                      │   ▲
//	         │ connected                  after wait│   │ refused, or too slow
//	         └──────────────── opening ◀────────────┘   │
//	                              └─────────────────────┘
type state uint8

const (
	up state = iota
	closed
	opening
	gone
)

const (
	// openTimeout is how long an attempt may take; after a second the kernel would
	// ask again, and so do we.
	openTimeout = time.Second
	// The wait between attempts, from the second on, and its bound.
	retryWait, retryMost = time.Millisecond, 50 * time.Millisecond
)

// conn is one connection; it belongs to one worker.
type conn struct {
	id    int32 // its place in worker.conns
	state state
	fd    int // -1 if there is none
	// It is in worker.dirty, in worker.down; EPOLLOUT is asked for.
	dirty, listed, armed bool

	door unix.Sockaddr
	source
	scan    wire.Scanner
	flights flights
	late    times // when the requests were due that wait, in an open loop
	// out[sent:] is rendered and not yet taken by the kernel; while there is
	// such a rest, EPOLLOUT is armed.
	out  []byte
	sent int
	used int // requests asked since it was opened
	// heard is when the last bytes came, or were first waited for; or since when it
	// is being opened.
	heard int64
	tries int   // to open it, since its last answer
	retry int64 // when the next is due
	count uint64
	// counting says that count is the last answer of its counter.
	counting bool
}

// add takes over the socket fd, which leads to door, as connection no over all workers.
func (w *worker) add(no, fd int, door unix.Sockaddr) {
	depth := w.cfg.Pipeline
	if w.open() {
		depth = 1 // it grows as needed, up to the Pipeline
	}
	w.conns = append(w.conns, conn{
		id: int32(len(w.conns)), fd: fd, door: door, source: newSource(w.shared, no),
		scan: wire.Scanner{Space: w.space, Dialect: w.cfg.Dialect}, flights: newFlights(depth, w.cfg.MultiGet),
	})
	w.live++
}

// spent says whether c is to be opened again before it asks any more.
func (c *conn) spent(every int) bool { return every > 0 && c.used >= every }

// shut closes the socket, and forgets what was under way on it.
func (c *conn) shut() {
	if c.fd >= 0 {
		unix.Close(c.fd)
	}
	c.fd, c.state = -1, closed
	c.out, c.sent, c.armed, c.used = c.out[:0], 0, false, 0
	c.scan = wire.Scanner{Space: c.scan.Space, Dialect: c.scan.Dialect}
	c.counting = false
}

// lose gives c up, and its requests in flight. It returns false, the answer to "does c
// live".
func (w *worker) lose(c *conn, cause error) bool {
	now := w.now()
	w.blame(Lost, now, cause.Error())
	w.lost++
	for c.flights.n > 0 {
		f, _ := c.flights.front()
		w.abandon(f, now)
		c.flights.pop()
		w.flying--
	}
	c.shut()
	w.retire(c, now)
	return false
}

// retire sees to it that c, which is closed, is opened again, or never.
func (w *worker) retire(c *conn, now int64) {
	if !w.cfg.Reopen {
		c.state = gone
		w.live--
		for c.late.len() > 0 {
			w.skip(c.late.pop())
			w.waiting--
		}
		return
	}
	wait := time.Duration(0)
	if c.tries > 0 {
		wait = min(retryWait<<min(c.tries-1, 10), retryMost)
	}
	c.tries++
	c.retry = now + int64(wait)
	w.list(c, now)
}

// list has reopen look after c.
func (w *worker) list(c *conn, now int64) {
	if w.flying == 0 && len(w.down) == 0 {
		w.heard = now
	}
	if !c.listed {
		c.listed = true
		w.down = append(w.down, c.id)
	}
}

// recycle opens c anew after its share of requests.
func (w *worker) recycle(c *conn, now int64) {
	c.shut()
	c.retry = now
	w.list(c, now)
}

// reopen opens what is to be opened by now, gives up what takes too long, and says when
// there is more to do.
func (w *worker) reopen(now int64) (next int64) {
	next = never
	left := w.down[:0]
	for _, id := range w.down {
		c := &w.conns[id]
		switch {
		case c.state == opening && now-c.heard > int64(openTimeout):
			w.refused(c, errors.New("connect: timed out"))
		case c.state == closed && c.retry <= now:
			w.connect(c, now)
		}
		switch c.state {
		case closed:
			next = min(next, c.retry)
		case opening:
			next = min(next, c.heard+int64(openTimeout)+1)
		default:
			c.listed = false
			continue
		}
		left = append(left, id)
	}
	w.down = left
	return next
}

// connect begins an attempt.
func (w *worker) connect(c *conn, now int64) {
	family, tcp := unix.AF_INET, true
	switch c.door.(type) {
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	case *unix.SockaddrUnix:
		family, tcp = unix.AF_UNIX, false
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.refused(c, fmt.Errorf("socket: %w", err))
		return
	}
	c.fd, c.state, c.heard = fd, opening, now
	if tcp {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.Connect(fd, c.door)
	}
	if err == unix.EINPROGRESS || err == nil {
		// One that is connected already is writable at once, and says so.
		err = w.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN|unix.EPOLLOUT, c.id)
	}
	if err != nil {
		w.refused(c, fmt.Errorf("connect: %w", err))
	}
}

// opened ends an attempt.
func (w *worker) opened(c *conn) {
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err == nil {
		err = w.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLIN, c.id)
	}
	if err != nil {
		w.refused(c, fmt.Errorf("connect: %w", err))
		return
	}
	c.state = up
	w.reopened++
	w.refill(c, w.now())
}

// refused ends an attempt that failed: what waited for it is lost.
func (w *worker) refused(c *conn, cause error) {
	now := w.now()
	w.blame(Lost, now, cause.Error())
	for w.cfg.Reopen && c.late.len() > 0 {
		w.forgo(c, c.late.pop(), now)
		w.waiting--
	}
	if !w.cfg.Reopen {
		w.lost++
	}
	c.shut()
	w.retire(c, now)
}

// expire loses the connections that should have said something long ago.
func (w *worker) expire(now int64) {
	for i := range w.conns {
		if c := &w.conns[i]; c.state == up && c.flights.n > 0 && now-c.heard > int64(w.cfg.Timeout) {
			w.lose(c, fmt.Errorf("no answer in %v to %d requests", w.cfg.Timeout, c.flights.n))
		}
	}
}

// dial connects and returns a non-blocking socket of our own, which the runtime's poller
// must not see, and where it leads.
func dial(ctx context.Context, addr string, timeout time.Duration) (fd int, door unix.Sockaddr, err error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	// A unix socket with a full backlog says so at once, where TCP would wait.
	for errors.Is(err, unix.EAGAIN) && pause(ctx, retryWait) {
		c, err = d.DialContext(ctx, network, addr)
	}
	if err != nil {
		return -1, nil, fmt.Errorf("load: %w", err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, nil, fmt.Errorf("load: %w", err)
	}
	var errs [2]error
	err = raw.Control(func(s uintptr) {
		fd, errs[0] = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
		door, errs[1] = unix.Getpeername(int(s))
	})
	if err = errors.Join(err, errs[0], errs[1]); err != nil {
		return -1, nil, fmt.Errorf("load: %w", err)
	}
	return fd, door, nil
}

// pause waits for d, and returns false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
