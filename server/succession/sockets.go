package succession

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets are listeners that a process was started with. Each is taken once.
type Sockets []net.Listener

// Listen makes a listener of a file that was inherited, which it closes.
func Listen(f *os.File) (net.Listener, error) {
	defer f.Close()
	return net.FileListener(f)
}

// Take returns the socket that listens on address, as net.Listen takes it, and forgets
// it; nil if there is none. Port 0 is any.
func (s *Sockets) Take(network, address string) net.Listener {
	if s == nil {
		return nil
	}
	for i, ln := range *s {
		if same(ln.Addr(), network, address) {
			*s = append((*s)[:i:i], (*s)[i+1:]...)
			return ln
		}
	}
	return nil
}

// same reports whether at is what network and address say.
func same(at net.Addr, network, address string) bool {
	switch at := at.(type) {
	case *net.UnixAddr:
		return network == "unix" && at.Name == address
	case *net.TCPAddr:
		if network == "unix" {
			return false
		}
		want, err := net.ResolveTCPAddr(network, address)
		if err != nil || want.Port != 0 && want.Port != at.Port || want.Zone != at.Zone {
			return false
		}
		return want.IP.Equal(at.IP) || want.IP == nil && at.IP.IsUnspecified()
	}
	return false
}

// File is a file of ln's socket, for another process. Unlike what ln.File returns, asking
// it for its descriptor does not make that, and with it ln, wait in system calls: whoever
// closed ln then would wait for the next client.
func File(ln net.Listener) (*os.File, error) {
	of, ok := ln.(syscall.Conn)
	if !ok {
		return nil, errors.New("this listener has no socket")
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := raw.Control(func(its uintptr) { fd, err = unix.FcntlInt(its, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return nil, errors.Join(e, err)
	}
	return os.NewFile(uintptr(fd), ln.Addr().String()), nil
}

// Keep says whether the file of a unix socket stays when ln is closed, as it must
// if another process listens on it.
func Keep(ln net.Listener, stays bool) {
	if ln, ok := ln.(*net.UnixListener); ok {
		ln.SetUnlinkOnClose(!stays)
	}
}
