package failover

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link is the way to a node, which does what no signal makes a real node do: its
// answers come late, all of them by the same time and not each after the one before, or
// some requests reset the connection.
type link struct {
	node   string
	listen net.Listener
	late   atomic.Int64 // ns
	oneIn  atomic.Int64 // one request of so many resets its connection; 0: none
	seen   atomic.Int64 // lines since

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
	carry  sync.WaitGroup
}

func newLink(node string) (*link, error) {
	l := &link{node: node, conns: make(map[net.Conn]bool)}
	var err error
	if l.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	l.carry.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.listen.Addr().String() }

// slow makes the node's answers late by so much, for so long.
func (l *link) slow(at, length, by time.Duration) []Step {
	set := func(by time.Duration) func() error {
		return func() error { l.late.Store(int64(by)); return nil }
	}
	return []Step{
		{At: at, Name: "answers of the lead " + Millis(by).String() + " late", Fails: true, Do: quietly(set(by))},
		{At: at + length, Name: "answers of the lead in time", Returns: true, Do: quietly(set(0))},
	}
}

// resetting has one in so many requests reset its connection, for so long.
func (l *link) resetting(at, length time.Duration, oneIn int64) []Step {
	set := func(oneIn int64) func() error {
		return func() error { l.oneIn.Store(oneIn); return nil }
	}
	return []Step{
		{At: at, Name: "some requests reset connections to the lead", Fails: true, Do: quietly(set(oneIn))},
		{At: at + length, Name: "no more resets", Returns: true, Do: quietly(set(0))},
	}
}

// close ends all it carries.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.listen.Close()
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	l.carry.Wait()
}

// keep says whether both may be used: they are closed with l.
func (l *link) keep(near, far net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range []net.Conn{near, far} {
		if l.closed {
			c.Close()
			continue
		}
		l.conns[c] = true
	}
	return !l.closed
}

// end closes both; near with a reset.
func (l *link) end(near, far net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	near.(*net.TCPConn).SetLinger(0)
	for _, c := range []net.Conn{near, far} {
		c.Close()
		delete(l.conns, c)
	}
}

func (l *link) accept() {
	for {
		near, err := l.listen.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.node)
		if err != nil {
			near.Close()
			continue
		}
		if l.keep(near, far) {
			l.carry.Go(func() { l.requests(far, near) })
			l.carry.Go(func() { l.answers(near, far) })
		}
	}
}

// requests carries what near sends. Each line counts as one, so that a set, which has
// two, is twice as likely to be hit as a get.
func (l *link) requests(far, near net.Conn) {
	defer l.end(near, far)
	b := make([]byte, 64<<10)
	for {
		n, err := near.Read(b)
		if oneIn := l.oneIn.Load(); oneIn > 0 {
			lines := int64(bytes.Count(b[:n], []byte{'\n'}))
			if now := l.seen.Add(lines); now/oneIn > (now-lines)/oneIn {
				return
			}
		}
		if _, writeErr := far.Write(b[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// parcel is bytes and when they are due.
type parcel struct {
	due  time.Time
	text []byte
}

// answers carries what far sends, late.
func (l *link) answers(near, far net.Conn) {
	defer l.end(near, far)
	under := make(chan parcel, 4096)
	l.carry.Go(func() {
		defer l.end(near, far)
		for p := range under {
			time.Sleep(time.Until(p.due))
			if _, err := near.Write(p.text); err != nil {
				break
			}
		}
		for range under { // far ends, as near has
		}
	})
	defer close(under)
	b := make([]byte, 64<<10)
	for {
		n, err := far.Read(b)
		if n > 0 {
			under <- parcel{time.Now().Add(time.Duration(l.late.Load())), bytes.Clone(b[:n])}
		}
		if err != nil {
			return
		}
	}
}
