// Package dial makes connections to nodes, ready for their first request: a node that
// speaks TLS has shown who it is, one that asks who comes has been told, and one that speaks
// nothing but the binary protocol is interpreted.
//
// A Dialer may be used by any goroutine; Dial blocks its caller. The package imports std,
// x/sys, codec/binary, sealed and interpret.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"magent/codec/binary"
	"magent/upstream/interpret"
	"magent/upstream/sealed"
)

// Dialer says how nodes are reached. Its fields do not change once it is used.
type Dialer struct {
	Connect time.Duration // for a connection to be made
	Answer  time.Duration // for each answer that the node has to give before it is ready

	// TLS is how TLS is spoken with the nodes, for each connection anew, but for whose name
	// a node has to show; nil: it is not.
	TLS func() *tls.Config
	// Name is that name, or an address.
	Name string

	// Login is who a node is told comes, and with which password, for each connection
	// anew; nil: it is told nothing.
	Login func() (user, password string)

	// Binary says that the nodes speak nothing but the binary protocol, as memcacheds with -S
	// do. They are told who comes by SASL, and else by a set, as those with -Y.
	Binary bool
}

// Refused is why a node that was reached is of no use. It says what came instead of a
// welcome.
type Refused string

func (r Refused) Error() string { return string(r) }

// Patience is how long Dial takes at most.
func (d *Dialer) Patience() time.Duration {
	patience := d.Connect
	if d.TLS != nil {
		patience += d.Answer
	}
	if d.Login != nil {
		patience += d.Answer
	}
	return patience
}

// Dial makes a connection: a *sealed.Conn if it has TLS, unless the node is interpreted, whose
// connection stays in this process. The error is a Refused, ctx's, or the network's.
func (d *Dialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to := net.Dialer{Timeout: d.Connect}
	c, err := to.DialContext(ctx, network, address)
	if err != nil || d.Login == nil && d.TLS == nil && !d.Binary {
		return c, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	ready, err := d.prepare(c)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err == nil && d.Binary {
		ready, err = understood(ready)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return ready, nil
}

// understood is a connection on which the node at the other end of c, which speaks binary, is
// asked in text.
func understood(c net.Conn) (net.Conn, error) {
	near, far, err := Pair()
	if err != nil {
		return nil, err
	}
	if err := interpret.Start(far, c); err != nil {
		near.Close()
		return nil, err
	}
	return near, nil
}

// prepare makes a connection ready.
func (d *Dialer) prepare(c net.Conn) (net.Conn, error) {
	if d.TLS != nil {
		cfg := d.TLS().Clone()
		cfg.ServerName = d.Name
		s := sealed.Client(c, cfg)
		c.SetDeadline(time.Now().Add(d.Answer))
		if err := shaken(s.Handshake()); err != nil {
			return nil, err
		}
		c = s
	}
	if d.Login == nil {
		return c, nil
	}
	c.SetDeadline(time.Now().Add(d.Answer))
	user, password := d.Login()
	if d.Binary {
		return c, authenticate(c, user, password)
	}
	return c, introduce(c, user, password)
}

// shaken is the error of shaking hands as Dial has it: what is no error of the network's
// is the node's.
func shaken(err error) error {
	var network *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no end of the handshake: %w", err)
	case errors.Is(err, io.EOF):
		return Refused("it closed the connection in the handshake: does it speak TLS?")
	case errors.As(err, &network) && network.Op != "remote error":
		return fmt.Errorf("in the handshake: %w", err)
	}
	return Refused("TLS: " + strings.TrimPrefix(err.Error(), "tls: "))
}

// loginKey is what a node that asks nobody who he is takes for a key. It stores nothing
// there: the item has expired.
const loginKey = "magent:login"

// introduce tells the node at the other end who comes, as memcached's -Y has it.
func introduce(c net.Conn, user, password string) error {
	_, err := fmt.Fprintf(c, "set %s 0 -1 %d\r\n%s %s\r\n", loginKey, len(user)+1+len(password), user, password)
	if err != nil {
		return toldNobody(err)
	}
	line, err := readLine(c)
	if err != nil {
		return toldNobody(err)
	}
	if line != "STORED" {
		return Refused(fmt.Sprintf("it was told who comes, and answered %.80q", line))
	}
	return nil
}

// authenticate tells it by SASL, as -S has it.
func authenticate(c net.Conn, user, password string) error {
	if _, err := c.Write(binary.AppendPlain(nil, user, password)); err != nil {
		return toldNobody(err)
	}
	head := make([]byte, binary.HeaderSize)
	if _, err := io.ReadFull(c, head); err != nil {
		return toldNobody(err)
	}
	r, err := binary.ParseResponse(head)
	n := uint32(r.Extras) + uint32(r.Key) + r.Value
	if err != nil || r.Opcode != binary.SASLAuth || n > maxLine {
		return Refused(fmt.Sprintf("it was told who comes, and answered %.24q: does it speak the binary protocol?", head))
	}
	words := make([]byte, n)
	if _, err := io.ReadFull(c, words); err != nil {
		return toldNobody(err)
	}
	if r.Status != binary.StatusOK {
		return Refused(fmt.Sprintf("it was told who comes, and answered %.80q, status 0x%02x", words, uint16(r.Status)))
	}
	return nil
}

// toldNobody is what Dial says when the node did not hear who comes, or does not answer.
func toldNobody(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Refused("it closed the connection when it was told who comes")
	}
	return fmt.Errorf("no answer to who comes: %w", err)
}

// maxLine bounds an answer, in bytes.
const maxLine = 1024

// readLine reads a line and nothing behind it, and returns it without its end.
func readLine(c net.Conn) (string, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < maxLine; {
		if _, err := io.ReadFull(c, one); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, one[0])
	}
	return "", Refused("it answers without an end")
}
