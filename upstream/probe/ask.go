package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// take takes a line of an answer, without its end. ok is false of a line that does
// not answer what was asked, last true of the one that ends the answer.
type take func(line []byte) (last, ok bool)

// unfit says what came instead of an answer.
type unfit string

func (u unfit) Error() string { return string(u) }

// ErrLate is in the chain of what is returned for a node that has not answered in time, or
// not been connected.
var ErrLate = errors.New("no answer in time")

// lateError says what has not come in time.
type lateError string

func (e lateError) Error() string { return string(e) }

func (e lateError) Is(target error) bool { return target == ErrLate }

// closedError is what came of a request whose connection ended before the first byte
// of the answer.
type closedError struct{ error }

func (e closedError) Unwrap() error { return e.error }

// first is ask for the first request of a call: it makes up for a connection that
// the node has closed since the call before.
func (p *Prober) first(ctx context.Context, what, request string, t take) (time.Duration, error) {
	kept := p.conn != nil
	rtt, err := p.ask(ctx, what, request, t)
	if _, closed := err.(closedError); kept && closed {
		return p.ask(ctx, what, request, t)
	}
	return rtt, err
}

// ask sends request, connecting before if need be, and hands the answer to t line by
// line. It returns the time between the two ends. what names the request in errors,
// after which the connection is closed.
func (p *Prober) ask(ctx context.Context, what, request string, t take) (time.Duration, error) {
	if p.conn == nil {
		c, err := p.target.Conn(ctx)
		var timed net.Error
		if errors.As(err, &timed) && timed.Timeout() {
			return 0, lateError(err.Error())
		}
		if err != nil {
			return 0, err
		}
		p.conn = c
		p.in.Reset(c)
	}
	if n := p.in.Buffered(); n > 0 {
		p.Forget()
		return 0, fmt.Errorf("sent %d bytes unasked before %s", n, what)
	}
	c, start := p.conn, time.Now()
	c.SetDeadline(start.Add(p.target.Timeout))
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	heard := 0
	_, err := io.WriteString(c, request)
	if err == nil {
		heard, err = answer(p.in, t)
	}
	rtt := time.Since(start)
	if !stop() {
		err = ctx.Err() // the deadline is, or will be, the wrong one for a further request
	}
	if err != nil {
		p.Forget()
		return 0, p.explain(err, heard, what)
	}
	return rtt, nil
}

// answer reads an answer and hands it to t line by line. It returns how many bytes
// of it came.
func answer(in *bufio.Reader, t take) (heard int, err error) {
	for last := false; !last; {
		line, err := readLine(in)
		heard += len(line)
		switch {
		case len(line) > maxLine:
			return heard, unfit(fmt.Sprintf("a line of more than %d bytes", maxLine))
		case err != nil:
			return heard, err
		case heard > maxAnswer:
			return heard, unfit(fmt.Sprintf("more than %d bytes", maxAnswer))
		}
		line = bytes.TrimRight(line, "\r\n")
		ok := false
		if last, ok = t(line); !ok {
			return heard, unfit(fmt.Sprintf("%.80q", line))
		}
	}
	return heard, nil
}

// readLine reads a line, with its end, which holds until the next is read. Of one that
// is longer than maxLine it reads a little more than that.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) && len(long) <= maxLine {
		line, err = in.ReadSlice('\n')
		long = append(long, line...)
	}
	return long, err
}

// explain says in one line what became of the request called what, of whose answer
// heard bytes came before err.
func (p *Prober) explain(err error, heard int, what string) error {
	nothing := "no answer to " + what
	if heard > 0 {
		nothing = "no end of the answer to " + what
	}
	if u, ok := err.(unfit); ok {
		return fmt.Errorf("answered %s to %s", u, what)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return lateError(fmt.Sprintf("%s within %v", nothing, p.target.Timeout))
	}
	var no syscall.Errno
	closed := err == io.EOF
	if closed {
		err = errors.New("connection closed")
	} else if errors.As(err, &no) {
		err = no // without the addresses, one of which is another each time
		closed = no == syscall.ECONNRESET || no == syscall.EPIPE
	}
	if err = fmt.Errorf("%s: %w", nothing, err); closed && heard == 0 {
		err = closedError{err}
	}
	return err
}
