package inspect

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"magent/upstream/dial"
	"magent/upstream/repair"
)

// Target is a node and the patience with it.
type Target struct {
	dial.Target
	Silence time.Duration // how long the node may keep silent, or take nothing
}

// Options say what is looked at.
type Options struct {
	Value bool // ask for the value, too: read whole, and not kept
	Front int  // how many bytes of its beginning are kept all the same
}

// Node is one memcached that is looked at, over a connection of its own which is made
// when it is needed and kept until Close, or until something goes wrong.
type Node struct {
	target  Target
	conn    net.Conn // nil: none
	in      *bufio.Reader
	request []byte
}

// New makes a Node. Nothing is connected to yet.
func New(t Target) *Node { return &Node{target: t, in: bufio.NewReaderSize(nil, readSize)} }

// readSize is how much is read at a time, in bytes; a line of an answer is shorter.
const readSize = 16 << 10

// Close closes the connection; a later Look makes a new one.
func (n *Node) Close() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
}

// Look asks for all of keys at once, and returns an Item for each, in their order. An
// error says that the node does not answer, or not as a memcached does; what it refuses
// for one key is in the Item.
func (n *Node) Look(ctx context.Context, keys []Key, o Options) ([]Item, error) {
	flags := " f t c h l s u"
	if o.Value {
		flags = " v" + flags
	}
	request := n.request[:0]
	for _, k := range keys {
		request = repair.AppendGet(request, k.Written, k.Base64, flags)
	}
	items := make([]Item, len(keys))
	err := n.exchange(ctx, request, func() error {
		for i := range keys {
			if err := n.item(&items[i], &keys[i], o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return items, n.giveBack(ctx, keys, items)
}

// giveBack has the node let another make anew what was stale: the looks were handed that
// right, which is meant for a client.
func (n *Node) giveBack(ctx context.Context, keys []Key, items []Item) error {
	request, won := n.request[:0], 0
	for i, k := range keys {
		if items[i].Has(repair.MarkWon) {
			won++
			request = append(append(request, "md "...), k.Written...)
			if k.Base64 {
				request = append(request, " b"...)
			}
			request = append(strconv.AppendUint(append(request, " I C"...), items[i].CAS, 10), "\r\n"...)
		}
	}
	if won == 0 {
		return nil
	}
	return n.exchange(ctx, request, func() error {
		for range won {
			if _, err := n.in.ReadSlice('\n'); err != nil { // another version is another's to give
				return err
			}
		}
		return nil
	})
}

// exchange sends request and has answers read. A connection that was kept, and that the
// node has closed meanwhile, is made anew.
func (n *Node) exchange(ctx context.Context, request []byte, answers func() error) error {
	n.request = request
	kept := n.conn != nil
	err := n.once(ctx, answers)
	if kept && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		err = n.once(ctx, answers)
	}
	return n.explain(ctx, err)
}

func (n *Node) once(ctx context.Context, answers func() error) error {
	if n.conn == nil {
		conn, err := n.target.Conn(ctx)
		if err != nil {
			return dialError{err}
		}
		n.conn = conn
	}
	p := &dial.Patient{Conn: n.conn, Ctx: ctx, Silence: n.target.Silence}
	n.in.Reset(p)
	stop := context.AfterFunc(ctx, func() { p.SetDeadline(time.Unix(1, 0)) })
	// Beside the reading: a node whose answers nobody takes reads no requests.
	sent := make(chan error, 1)
	go func() {
		_, err := p.Write(n.request)
		sent <- err
	}()
	err := answers()
	if err != nil {
		n.Close() // which ends the writing, too
	}
	err = errors.Join(err, <-sent)
	if !stop() {
		n.Close() // the deadline is the wrong one for what comes next
	}
	return err
}

// item reads the answer for one key.
func (n *Node) item(it *Item, k *Key, o Options) error {
	line, err := n.in.ReadSlice('\n')
	*it = Item{At: time.Now()}
	if err != nil {
		return err
	}
	line = bytes.TrimRight(line, "\r\n")
	r := repair.ParseReply(line)
	switch r.Code {
	case repair.CodeEN:
		return nil
	case repair.CodeHD, repair.CodeVA:
	default:
		if isError(line) {
			it.Refused = string(line)
			return nil
		}
		return strange(line)
	}
	if !echoes(line, k) || o.Value != (r.Code == repair.CodeVA) {
		return strange(line)
	}
	it.Found, it.Flags, it.TTL, it.CAS, it.Marks = true, r.Flags, r.TTL, r.Cas, r.Marks
	if !it.more(line) {
		return strange(line)
	}
	if r.Code == repair.CodeVA {
		return n.value(it, int64(r.Size), o)
	}
	return nil
}

// more takes what ParseReply has no use for: s, h and l.
func (i *Item) more(line []byte) (ok bool) {
	said := 0
	for word := range bytes.SplitSeq(line[2:], []byte(" ")) {
		if len(word) < 2 {
			continue
		}
		v, err := strconv.ParseUint(string(word[1:]), 10, 32)
		switch word[0] {
		case 's':
			i.Size = int(v)
		case 'h':
			i.Fetched = v == 1
		case 'l':
			i.Idle = time.Duration(v) * time.Second
		default:
			continue
		}
		if err != nil {
			return false
		}
		said++
	}
	return said == 3
}

// echoes reports whether line is about k: it names the key, or the end of it.
func echoes(line []byte, k *Key) bool {
	flag := " k"
	if k.Base64 {
		flag = " O"
	}
	_, behind, ok := bytes.Cut(line, []byte(flag))
	if !ok {
		return false
	}
	name, _, _ := bytes.Cut(behind, []byte(" "))
	return len(name) > 0 && bytes.HasSuffix(k.Written, name) && (k.Base64 || len(name) == len(k.Written))
}

// value reads a value and its line end.
func (n *Node) value(it *Item, size int64, o Options) error {
	sum := sha256.New()
	front := &prefix{room: o.Front}
	if _, err := io.CopyN(io.MultiWriter(sum, front), n.in, size); err != nil {
		return err
	}
	sum.Sum(it.Sum[:0])
	it.Front, it.Size = front.b, int(size)
	end, err := n.in.ReadSlice('\n')
	if err == nil && string(end) != "\r\n" {
		return strange(end)
	}
	return err
}

// prefix keeps the first bytes that are written to it.
type prefix struct {
	b    []byte
	room int
}

func (p *prefix) Write(b []byte) (int, error) {
	p.b = append(p.b, b[:min(len(b), p.room-len(p.b))]...)
	return len(b), nil
}

// dialError is that no connection was made.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// strange is the error of what is no answer.
func strange(line []byte) error { return fmt.Errorf("the node answered %.80q", line) }

// isError reports whether line is one of the three errors of the protocol.
func isError(line []byte) bool {
	word, _, _ := bytes.Cut(line, []byte(" "))
	return string(word) == "ERROR" || string(word) == "CLIENT_ERROR" || string(word) == "SERVER_ERROR"
}

// explain says in one line what became of an exchange.
func (n *Node) explain(ctx context.Context, err error) error {
	var no syscall.Errno
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &dialError{}) && errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no connection within %v", n.target.Connect)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the node was silent for %v", n.target.Silence)
	case errors.Is(err, io.EOF):
		return errors.New("the node closed the connection")
	case errors.As(err, &no):
		return no // without the addresses, one of which is another each time
	}
	return err
}
