// Package sealed is TLS over a connection that goes to an event loop: crypto/tls shakes
// hands over it like over any other, on a goroutine that waits; from Detach on, whoever has
// the socket brings what came, and takes what is to leave, and nothing here waits any more.
//
// From then on a Conn is for one goroutine at a time, and before for those that a net.Conn is
// for. The package imports std only.
package sealed

import (
	"crypto/tls"
	"net"
	"time"
)

// Conn is one side of a connection. Until Detach it is a net.Conn.
type Conn struct {
	*tls.Conn
	pipe *pipe
}

// Server is the side of c that was connected to. It does no I/O yet.
func Server(c net.Conn, cfg *tls.Config) *Conn {
	p := &pipe{Conn: c}
	return &Conn{tls.Server(p, cfg), p}
}

// Client is the side of c that has connected.
func Client(c net.Conn, cfg *tls.Config) *Conn {
	p := &pipe{Conn: c}
	return &Conn{tls.Client(p, cfg), p}
}

// Detach returns the connection under c, which must have shaken hands, and which does not
// touch it any more. What has come meanwhile may be in c: call Open.
func (c *Conn) Detach() net.Conn {
	under := c.pipe.Conn
	c.pipe.Conn, c.pipe.detached = nil, true
	return under
}

// Feed takes what the socket has brought. It is a view of data that Open uses: it must
// have returned less than a full buffer before data changes.
func (c *Conn) Feed(data []byte) { c.pipe.in = data }

// Open puts into b what was sealed in what Feed has taken, as much of it as fits. It is all
// there is if b is not full. An error ends the connection: io.EOF if the other side has said
// that nothing more will come. It may come with n above 0.
func (c *Conn) Open(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := c.Conn.Read(b[n:])
		n += m
		if err == errDry {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Seal appends to dst what is to be sent for b. What TLS has to say for itself, as Open has
// made it, goes before that.
func (c *Conn) Seal(dst, b []byte) ([]byte, error) {
	dst = c.Answers(dst)
	c.pipe.out = dst
	_, err := c.Conn.Write(b)
	return c.taken(), err
}

// Answers appends to dst what TLS has to say for itself.
func (c *Conn) Answers(dst []byte) []byte { return append(dst, c.taken()...) }

// Silent reports whether TLS has nothing to say for itself.
func (c *Conn) Silent() bool { return len(c.pipe.out) == 0 }

// Finish appends to dst what says that nothing more will come from this side.
func (c *Conn) Finish(dst []byte) []byte {
	dst = c.Answers(dst)
	c.pipe.out = dst
	_ = c.Conn.CloseWrite() // what it cannot say is not said
	return c.taken()
}

// taken is what was to be sent.
func (c *Conn) taken() []byte {
	out := c.pipe.out
	c.pipe.out = nil
	return out
}

// pipe is what crypto/tls takes for the connection: it is one before Detach, and buffers
// of other people's after.
type pipe struct {
	net.Conn
	detached bool
	in, out  []byte
}

// errDry says that what came has been read. crypto/tls takes it for a deadline, after which
// it may be asked again.
var errDry net.Error = dry{}

type dry struct{}

func (dry) Error() string   { return "sealed: there is no more yet" }
func (dry) Timeout() bool   { return true }
func (dry) Temporary() bool { return true }

func (p *pipe) Read(b []byte) (int, error) {
	if !p.detached {
		return p.Conn.Read(b)
	}
	if len(p.in) == 0 {
		return 0, errDry
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *pipe) Write(b []byte) (int, error) {
	if !p.detached {
		return p.Conn.Write(b)
	}
	p.out = append(p.out, b...)
	return len(b), nil
}

// SetWriteDeadline is all that crypto/tls asks of the connection by itself beside reading
// and writing: when it says that nothing more will come.
func (p *pipe) SetWriteDeadline(t time.Time) error {
	if !p.detached {
		return p.Conn.SetWriteDeadline(t)
	}
	return nil
}
