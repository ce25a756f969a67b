package dial

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"magent/upstream/sealed"
)

// Socket is c as a socket that can be polled. One with TLS becomes one end of a pair, whose
// other end two goroutines keep in step with the node, until either side closes.
func Socket(c net.Conn) (net.Conn, error) {
	s, ok := c.(*sealed.Conn)
	if !ok {
		return c, nil
	}
	near, far, err := Pair()
	if err != nil {
		c.Close()
		return nil, err
	}
	go pump(far, s)
	go pump(s, far)
	return near, nil
}

// Pair is the two ends of a connection that stays in this process, as sockets that can be
// polled. The error is the kernel's.
func Pair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		nc, e := net.FileConn(f)
		ends[i], err = nc, errors.Join(err, e, f.Close())
	}
	if err != nil {
		for _, nc := range ends {
			if nc != nil {
				nc.Close()
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}

// pump brings what from sends to to, and closes both at the end.
func pump(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
	from.Close()
}
