package interpret

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// departure is the moment at which the other end of a socket is closed. Who reads the socket
// learns of it when he has read all that was sent before: too late, if he has to wait for
// somebody else to take that.
type departure struct{ epoll *os.File }

// departureOf is that of c, which must be a socket.
func departureOf(c net.Conn) (*departure, error) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.New("interpret: who asks does so over no socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	// The runtime waits for this one like for any socket. It would wait for c as well, but wake
	// for whatever comes there.
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	err = unix.SetNonblock(epoll, true)
	failed := raw.Control(func(fd uintptr) {
		err = errors.Join(err, unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLRDHUP}))
	})
	d := &departure{os.NewFile(uintptr(epoll), "departure")}
	if err = errors.Join(err, failed); err != nil {
		d.forget()
		return nil, err
	}
	return d, nil
}

// wait returns when it has come, or is forgotten.
func (d *departure) wait() error {
	raw, err := d.epoll.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(epoll uintptr) (gone bool) {
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(int(epoll), events[:], 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// forget ends wait.
func (d *departure) forget() { d.epoll.Close() }
