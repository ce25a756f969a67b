package refill

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// link is the connection to a node: a socket that nobody but its run waits for.
type link struct {
	fd    int
	out   []byte    // requests, as the Copier gave them
	sent  int       // how many bytes of them the socket has taken
	full  bool      // it takes no more of them for now
	owes  bool      // the node had something to take or to answer before it was waited for
	heard time.Time // when it last did, or had nothing to
	lost  bool
}

// newLink takes the socket out of what is dialed, and has the runtime forget it: that would
// be woken up by it too.
func newLink(ctx context.Context, dial func(context.Context) (net.Conn, error)) (link, error) {
	conn, err := dial(ctx)
	if err != nil {
		return link{}, err
	}
	defer conn.Close()
	c, ok := conn.(syscall.Conn)
	if !ok {
		return link{}, errors.New("what was dialed is no socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return link{}, err
	}
	l := link{}
	closed := raw.Control(func(fd uintptr) { l.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return l, errors.Join(closed, err)
}

func (l *link) close() {
	if !l.lost {
		l.lost = true
		unix.Close(l.fd)
	}
}

// unsent is how many bytes wait for the socket.
func (l *link) unsent() int { return len(l.out) - l.sent }

// write writes what the socket takes.
func (l *link) write() error {
	n, err := unix.Write(l.fd, l.out[l.sent:])
	if err != nil && !again(err) {
		return os.NewSyscallError("write", err)
	}
	l.sent += max(0, n)
	l.full = l.unsent() > 0
	return nil
}

// read reads what there is.
func (l *link) read(b []byte) (n int, err error) {
	n, err = unix.Read(l.fd, b)
	switch {
	case err == nil && n == 0:
		return 0, errors.New("closed the connection")
	case err == nil || again(err):
		return max(0, n), nil
	}
	return 0, os.NewSyscallError("read", err)
}

func again(err error) bool { return err == unix.EAGAIN || err == unix.EINTR }
