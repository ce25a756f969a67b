package e2e

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// A link is the way to a node, on which replies can be delayed. It is what a fault
// script's slow is not: there each answer waits for the one before, and a node that
// takes 50 ms for each of its answers answers 20 in a second.
type link struct {
	node   string
	delay  atomic.Int64 // of replies, in ns
	listen net.Listener
}

// newLink returns the address that leads to node.
func newLink(t *testing.T, node string) (l *link, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	l = &link{node: node, listen: ln}
	go l.accept()
	return l, ln.Addr().String()
}

func (l *link) accept() {
	for {
		near, err := l.listen.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.node)
		if err != nil {
			_ = near.Close()
			continue
		}
		go carry(far, near, nil)
		go carry(near, far, &l.delay)
	}
}

// parcel is bytes and when they may go on.
type parcel struct {
	due   time.Time
	bytes []byte
}

// carry takes bytes from one connection to another, with a delay if there is one.
func carry(to, from net.Conn, delay *atomic.Int64) {
	way := make(chan parcel, 4096)
	go func() {
		defer to.Close()
		for p := range way {
			if wait := time.Until(p.due); wait > 0 {
				<-time.After(wait)
			}
			if _, err := to.Write(p.bytes); err != nil {
				_ = from.Close() // which ends the reading
			}
		}
	}()
	defer close(way)
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p := parcel{bytes: b[:n]}
		if delay != nil {
			p.due = time.Now().Add(time.Duration(delay.Load()))
		}
		way <- p
	}
}
