package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// DefaultPath is where a magent that serves clients on port has its endpoint.
func DefaultPath(port int) string { return fmt.Sprintf("/run/magent-%d.sock", port) }

// Endpoint says what where, a path or a loopback address with a port, is to net.Dial.
func Endpoint(where string) (network, address string, err error) {
	if strings.Contains(where, "/") {
		return "unix", where, nil
	}
	host, port, err := net.SplitHostPort(where)
	if err == nil && port != "" && loopback(host) {
		return "tcp", where, nil
	}
	return "", "", fmt.Errorf("admin must be a path with a /, or a loopback address such as 127.0.0.1:11311, not %q: who reaches it may drain nodes", where)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Listen opens the endpoint at where: a path, which is to hold a /, or a loopback address
// with a port. A socket file that a dead process left is replaced; one behind which
// somebody answers, and a file that is no socket, are errors.
func Listen(where string) (net.Listener, error) {
	network, address, err := Endpoint(where)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	if network == "unix" {
		if err := makeRoom(address); err != nil {
			return nil, err
		}
		lc.Control = private
	}
	ln, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for admin: %w", address, cause(err))
	}
	return ln, nil
}

// private gives the socket the mode that its file gets when it is bound: there is no
// moment at which others may open it. (unix(7); unix_bind in Linux's net/unix/af_unix.c.)
func private(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }), err)
}

// makeRoom removes what a dead process left at path.
func makeRoom(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot listen on %s for admin: %w", path, cause(err))
	case st.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("cannot listen on %s for admin: there is a file that is no socket", path)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		c.Close()
		return fmt.Errorf("cannot listen on %s for admin: another process answers there", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot replace %s, which a dead process left: %w", path, cause(err))
		}
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("cannot listen on %s for admin: it may be in use: %w", path, cause(err))
	}
	return nil
}

// cause is the part of err that tells a person something.
func cause(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
