// Package interpret stands between those who ask in text and a node that speaks nothing but
// the binary protocol, as a memcached with -S does.
//
// A connection that is interpreted has three goroutines until one of its sides closes; nothing
// of it is anybody else's. That costs a copy and two wakes per batch of requests, which nodes
// that speak text do not pay; and memory, see bufferSize and mostCommands. The package imports
// codec and its wire forms, bytebufferpool, x/sys and std.
package interpret

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/valyala/bytebufferpool"

	"magent/codec"
	"magent/codec/binary"
	"magent/codec/text"
)

// Start has what is asked in text on asked, which is a socket, be answered by node, in the order
// in which it was asked. Either side closes both, at once: what was asked and has not left this
// process by then, node is not asked. Who asks must ask for an answer: no noreply, and no q.
// Start closes both if it fails, which is the kernel's doing.
func Start(asked, node net.Conn) error {
	i := &interpreter{text: asked, node: node, commands: make(chan command, mostCommands), done: make(chan struct{})}
	var err error
	if i.departure, err = departureOf(asked); err != nil {
		asked.Close()
		node.Close()
		return err
	}
	go i.run(i.ask)
	go i.run(i.answer)
	go i.run(i.departure.wait)
	return nil
}

// mostCommands is how many commands of one connection a node is asked at most before it has
// answered.
const mostCommands = 256

// bufferSize is of each of the four directions, in bytes. It bounds a line, too.
const bufferSize = 16 << 10

// maxWords bounds what a node says that is no item's value, in bytes.
const maxWords = 64 << 10

// errQuiet says that no answer was asked for.
var errQuiet = errors.New("interpret: no answer is asked for")

// errBlock says that no CRLF stands behind a value.
var errBlock = errors.New("interpret: a value does not end")

type interpreter struct {
	text, node net.Conn
	departure  *departure
	commands   chan command // that node has been asked, or is about to be
	done       chan struct{}
	once       sync.Once
}

// command is one that a node is to answer.
type command struct {
	line   *bytebufferpool.ByteBuffer
	req    codec.Request // offsets into line
	sent   binary.Sent
	opaque uint32
}

// run carries out one part. What ends it, ends all.
func (i *interpreter) run(part func() error) {
	_ = part() // who asks sees the end; no more of it can be told in text
	i.once.Do(func() {
		close(i.done)
		i.departure.forget()
		i.text.Close()
		i.node.Close()
	})
}

// ask puts what comes in text to the node. Nothing that is complete waits for what is not.
func (i *interpreter) ask() error {
	in, out := bufio.NewReaderSize(i.text, bufferSize), bufio.NewWriterSize(i.node, bufferSize)
	var packet []byte
	for opaque := uint32(0); ; opaque++ {
		if err := flushUnless(holdsLine(in), out); err != nil {
			return err
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		c := command{line: bytebufferpool.Get(), opaque: opaque}
		c.line.Set(line)
		packet = c.read(packet[:0])
		if c.req.Quiet() {
			return errQuiet
		}
		if err := flushUnless(len(i.commands) < cap(i.commands), out); err != nil {
			return err
		}
		select {
		case i.commands <- c:
		case <-i.done:
			return net.ErrClosed
		}
		if _, err = out.Write(packet); err == nil && c.req.Op.Class() == codec.ClassStore {
			err = pass(out, in, int(c.req.Value), c.sent.Refused == "")
		}
		if err != nil {
			return err
		}
	}
}

// holdsLine reports whether a whole line is in the buffer of in.
func holdsLine(in *bufio.Reader) bool {
	b, _ := in.Peek(in.Buffered()) // which are there
	return bytes.IndexByte(b, '\n') >= 0
}

// flushUnless is called before what may wait.
func flushUnless(ready bool, out *bufio.Writer) error {
	if ready {
		return nil
	}
	return out.Flush()
}

// read parses the line, and appends what the node is asked to packet.
func (c *command) read(packet []byte) []byte {
	text.Parse(c.line.B, &c.req)
	packet, c.sent = binary.AppendRequest(packet, c.line.B, &c.req, c.opaque)
	return packet
}

// pass takes a value of that size, with its CRLF, from in, and puts it into out if it is
// wanted.
func pass(out *bufio.Writer, in *bufio.Reader, size int, wanted bool) error {
	const end = "\r\n"
	err := flushUnless(in.Buffered() >= size+len(end), out)
	switch {
	case err != nil:
	case wanted:
		_, err = io.CopyN(out, in, int64(size))
	default:
		_, err = in.Discard(size)
	}
	if err != nil {
		return err
	}
	b, err := in.Peek(len(end))
	if err != nil {
		return err
	}
	if string(b) != end {
		return errBlock
	}
	_, err = in.Discard(len(end))
	return err
}

// answer puts what the node answers into text.
func (i *interpreter) answer() error {
	a := answers{in: bufio.NewReaderSize(i.node, bufferSize), out: bufio.NewWriterSize(i.text, bufferSize)}
	defer a.out.Flush() // what was said before the end
	var c command
	for {
		r, err := a.header()
		if err != nil {
			return err
		}
		if c.line == nil {
			select {
			case c = <-i.commands:
			default: // nobody has asked
				return binary.ErrResponse
			}
		}
		if r.Opaque != c.opaque {
			return binary.ErrResponse
		}
		if err := a.put(&c, &r); err != nil {
			return err
		}
		if r.Last() {
			bytebufferpool.Put(c.line)
			c.line = nil
		}
	}
}

// answers is one direction: what comes in, goes out in text.
type answers struct {
	in         *bufio.Reader
	out        *bufio.Writer
	room, line []byte // buffers
}

// await is called before n bytes are read.
func (a *answers) await(n int) error { return flushUnless(a.in.Buffered() >= n, a.out) }

func (a *answers) header() (r binary.Response, err error) {
	if err := a.await(binary.HeaderSize); err != nil {
		return r, err
	}
	b, err := a.in.Peek(binary.HeaderSize)
	if err != nil {
		return r, err
	}
	if r, err = binary.ParseResponse(b); err == nil {
		_, err = a.in.Discard(binary.HeaderSize)
	}
	return r, err
}

// put writes what r, whose header has been read, says to c.
func (a *answers) put(c *command, r *binary.Response) error {
	head := int(r.Extras) + int(r.Key)
	if err := a.read(head, r); err != nil {
		return err
	}
	line, follows, end, err := binary.AppendAnswer(a.line[:0], c.line.B, &c.req, &c.sent, r, a.room[:head], a.room[head:])
	a.line = line
	if err == nil {
		_, err = a.out.Write(line)
	}
	if err != nil || !r.Reads() {
		return err
	}
	if err := a.await(int(r.Value)); err != nil {
		return err
	}
	if !follows {
		_, err = a.in.Discard(int(r.Value))
		return err
	}
	if _, err = io.CopyN(a.out, a.in, int64(r.Value)); err == nil {
		_, err = a.out.WriteString("\r\n" + end)
	}
	return err
}

// read reads into a.room what stands behind the header of r, but for an item's value.
func (a *answers) read(head int, r *binary.Response) error {
	n := head
	if !r.Reads() {
		if r.Value > maxWords {
			return binary.ErrResponse
		}
		n += int(r.Value)
	}
	if n > cap(a.room) {
		a.room = make([]byte, n)
	}
	a.room = a.room[:n]
	if err := a.await(n); err != nil {
		return err
	}
	_, err := io.ReadFull(a.in, a.room)
	return err
}
