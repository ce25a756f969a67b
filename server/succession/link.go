package succession

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what a Message says.
type Kind byte

const (
	Wanted  Kind = iota + 1 // what an operator wants: nodes in Names are drained, and GivenUp; Placements, and what is known of Nodes
	Serving                 // the successor serves clients
	Away                    // nodes in Names, which are addresses, may have missed writes
	Input                   // what the next Client has sent and was not served, but for the last of it
	Client                  // a client's connection, in File, and the last of its input
	Owed                    // a Debt
	Over                    // there is no more
	Taken                   // the successor answers for all of it now
)

// Message is one message.
type Message struct {
	Body
	File *os.File // of Client, and nobody else; the receiver is to close it
}

// Body is what a Message has beside its file.
type Body struct {
	Kind  Kind
	Input []byte
	Names []string
	Debt  Debt
	// Known says of a client that it has said who it is, as the predecessor asks for that.
	Known bool
	// GivenUp says that the address was given up by hand, and not to be taken again yet.
	GivenUp bool
	// Placements, of Wanted, says where keys are, in the words of the two processes.
	Placements []byte
	Nodes      []Node // of Wanted
}

// Node is what a process knows of a node, which who takes its place would have to guess.
type Node struct {
	Address string
	Life    uint64 // of its process; 0: not known
	Trusted bool   // it is read
}

// Debt is a part of what a node has missed. There may be several of one node.
type Debt struct {
	Node   string   // its address
	Left   []string // connections that were closed on it with requests unanswered: ip:port at this end, "" if it does not know that
	Untold bool     // it has missed more than can be told
	Keys   []byte   // see Add
}

// Add adds a key as it was written, of 32767 bytes at most; base64 says that it is in
// base64. It reports whether there is room for more in a message.
func (d *Debt) Add(key []byte, base64 bool) (room bool) {
	head := uint16(len(key)) << 1
	if base64 {
		head |= 1
	}
	d.Keys = append(binary.LittleEndian.AppendUint16(d.Keys, head), key...)
	return len(d.Keys) < MaxPart
}

// Each calls f for each key, which is good for as long as d is.
func (d *Debt) Each(f func(key []byte, base64 bool)) {
	for rest := d.Keys; len(rest) > 2; {
		head := binary.LittleEndian.Uint16(rest)
		end := min(2+int(head>>1), len(rest))
		f(rest[2:end], head&1 != 0)
		rest = rest[end:]
	}
}

// MaxPart bounds the bytes of input in one message, and those of keys but for the last, far
// enough below what a socket takes at once.
const MaxPart = 32 << 10

const (
	// maxMessage is what a message has at most: MaxPart, and what gob says of it.
	maxMessage = 128 << 10
	// patience is how long the other side may leave its socket full.
	patience = 10 * time.Second
)

// Link is one side of the connection.
type Link struct {
	conn *net.UnixConn
	buf  []byte
}

// Pair makes a connection: one side, and the file to be inherited by the process that
// gets the other.
func Pair() (*Link, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("no socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "link")
	l, err := Open(os.NewFile(uintptr(fds[0]), "link"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return l, theirs, nil
}

// Open makes a side of a file that was inherited, which it closes.
func Open(f *os.File) (*Link, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("no link to another magent: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("no link to another magent: it is no unix socket")
	}
	return &Link{conn: conn, buf: make([]byte, maxMessage)}, nil
}

// Close closes this side.
func (l *Link) Close() error { return l.conn.Close() }

// Send sends m, whose File stays the caller's. Input may be of any length.
func (l *Link) Send(m Message) error {
	for m.Kind == Client && len(m.Input) > MaxPart {
		if err := l.send(Message{Body: Body{Kind: Input, Input: m.Input[:MaxPart]}}); err != nil {
			return err
		}
		m.Input = m.Input[MaxPart:]
	}
	return l.send(m)
}

func (l *Link) send(m Message) error {
	var rights []byte
	if m.File != nil {
		rights = unix.UnixRights(int(m.File.Fd()))
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&m.Body); err != nil {
		return err
	}
	l.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _, err := l.conn.WriteMsgUnix(b.Bytes(), rights, nil)
	return err
}

// Receive waits until deadline for the next message; a zero one is none. Parts of input
// are put together. The error is io.EOF when the other side has gone.
func (l *Link) Receive(deadline time.Time) (Message, error) {
	var input []byte
	l.conn.SetReadDeadline(deadline)
	for {
		m, err := l.receive()
		if err != nil {
			return Message{}, err
		}
		if m.Kind == Input {
			input = append(input, m.Input...)
			continue
		}
		m.Input = append(input, m.Input...)
		return m, nil
	}
}

func (l *Link) receive() (m Message, err error) {
	rights := make([]byte, unix.CmsgSpace(4))
	n, oob, flags, _, err := l.conn.ReadMsgUnix(l.buf, rights)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET): // it left what we said unread
		return m, io.EOF
	case err != nil:
		return m, err
	}
	file, err := received(rights[:oob])
	if err != nil {
		return m, err
	}
	switch err = gob.NewDecoder(bytes.NewReader(l.buf[:n])).Decode(&m.Body); {
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("it is too long")
	case err == nil && (m.Kind == Client) != (file != nil):
		err = errors.New("a file is missing, or one too many")
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		return Message{}, fmt.Errorf("what came from the other magent is no message: %w", err)
	}
	m.File = file
	return m, nil
}

// received is the file in a control message; nil if there is none. Reading it has had it
// closed on exec. (cmsg(3), unix(7).)
func received(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	all, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%d control messages came with a message", len(all))
	}
	fds, err := unix.ParseUnixRights(&all[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%d files came with a message: %w", len(fds), err)
	}
	return os.NewFile(uintptr(fds[0]), "client"), nil
}
