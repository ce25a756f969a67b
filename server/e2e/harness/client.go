package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Client is a raw client connection: bytes out, bytes in, every read and write
// with a deadline. It is for one goroutine. It parses nothing but line ends.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
}

// Dial connects to addr: host:port, or the path of a unix socket.
func Dial(addr string) (*Client, error) {
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, addr, Patience)
	if err != nil {
		return nil, err
	}
	return Over(conn), nil
}

// Over is a client on a connection that was made by other means.
func Over(conn net.Conn) *Client {
	return &Client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
}

// Close closes the connection.
func (c *Client) Close() { _ = c.conn.Close() }

// Reset closes the connection with an RST, as a client that crashes does.
func (c *Client) Reset() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// CloseWrite says that nothing more will be sent; replies can still be read.
func (c *Client) CloseWrite() error {
	return c.conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Send writes b whole.
func (c *Client) Send(b []byte) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(Patience))
	_, err := c.conn.Write(b)
	return err
}

// Arrive returns when the peer has read everything sent so far, so that what is
// sent next comes with another read of the peer's. Unix sockets only: there the
// bytes that the peer has not taken stay accounted to the sender.
func (c *Client) Arrive() error {
	raw, err := c.conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(Patience)
	for tries := 0; ; tries++ {
		unread := 0
		var ioctlErr error
		if err := raw.Control(func(fd uintptr) {
			unread, ioctlErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		}); err != nil {
			return err
		}
		if ioctlErr != nil || unread == 0 {
			return ioctlErr
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the peer leaves %d bytes unread", unread)
		}
		if tries > 200 { // the peer is usually faster than any sleep
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// Lines reads n lines, their ends included.
func (c *Client) Lines(n int) ([]byte, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(Patience))
	var out []byte
	for range n {
		line, err := c.in.ReadSlice('\n')
		for out = append(out, line...); errors.Is(err, bufio.ErrBufferFull); out = append(out, line...) {
			line, err = c.in.ReadSlice('\n')
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// Line reads one line and returns it without its end.
func (c *Client) Line() (string, error) {
	line, err := c.Lines(1)
	return strings.TrimRight(string(line), "\r\n"), err
}

// Full reads exactly n bytes.
func (c *Client) Full(n int) ([]byte, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(Patience))
	out := make([]byte, n)
	got, err := io.ReadFull(c.in, out)
	return out[:got], err
}

// Until reads up to and with the first end.
func (c *Client) Until(end string) ([]byte, error) {
	var out []byte
	for !bytes.HasSuffix(out, []byte(end)) {
		line, err := c.Lines(1)
		if out = append(out, line...); err != nil {
			return out, err
		}
	}
	return out, nil
}

// Rest reads until the peer closes. A reset ends it like an orderly close.
func (c *Client) Rest() ([]byte, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(Patience))
	out, err := io.ReadAll(c.in)
	if errors.Is(err, unix.ECONNRESET) {
		err = nil
	}
	return out, err
}

// Do sends one request and returns its reply of n lines, joined by \n.
func (c *Client) Do(request string, n int) (string, error) {
	if err := c.Send([]byte(request)); err != nil {
		return "", err
	}
	reply, err := c.Lines(n)
	return strings.ReplaceAll(strings.TrimSuffix(string(reply), "\r\n"), "\r\n", "\n"), err
}
