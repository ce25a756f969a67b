package dial

import (
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
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		c.Close()
		return nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "node")
		nc, e := net.FileConn(f)
		f.Close()
		if e != nil {
			err = e
			continue
		}
		ends[i] = nc
	}
	if err != nil {
		for _, nc := range append(ends[:], c) {
			if nc != nil {
				nc.Close()
			}
		}
		return nil, err
	}
	go pump(ends[1], s)
	go pump(s, ends[1])
	return ends[0], nil
}

// pump brings what from sends to to, and closes both at the end.
func pump(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
	from.Close()
}
