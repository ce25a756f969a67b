package address

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process/proctest"
)

const (
	loadClients = 200
	// thinkMost is what a client of a load thinks at most between two requests: less than
	// the 50 ms of silence after which a client may be closed, as it may be asking just
	// then. They are not to fill the machine either.
	thinkMost = 25 * time.Millisecond
	// connectLimit is how long a client tries to connect. Its kernel sends the first
	// packet again after 1 s, and again after another.
	connectLimit = 5 * time.Second
	// pauseMost is how long it may take to get a connection: one that is begun while the
	// address moves is begun anew after a second, and 2 s after that.
	pauseMost = 3500 * time.Millisecond
	// loadRound is some requests of every client.
	loadRound = 10 * loadClients
)

// A load is clients that each write a value of their own and read it back, over and over,
// on a connection that they keep.
type load struct {
	site *site
	over atomic.Bool
	all  sync.WaitGroup
	asks atomic.Int64

	mu     sync.Mutex
	closed int            // connections that were closed between two requests
	failed map[string]int // requests that were not answered, or wrongly, by why
	lost   map[string]int // connections that could not be made, by why
	pause  time.Duration  // the longest time that a client waited for a connection
}

// load has clients come, and returns when all are served.
func (s *site) load(t *testing.T) *load {
	t.Helper()
	l := &load{site: s, failed: make(map[string]int), lost: make(map[string]int)}
	var served sync.WaitGroup
	served.Add(loadClients)
	for i := range loadClients {
		l.all.Go(func() {
			c := &loadClient{load: l, key: fmt.Sprint("load", i)}
			c.step()
			served.Done()
			for !l.over.Load() {
				// A client's thought, which nothing is awaited by.
				time.Sleep(rand.N(thinkMost))
				c.step()
			}
			if c.conn != nil {
				c.conn.Close()
			}
		})
	}
	served.Wait()
	t.Cleanup(l.end)
	return l
}

// more waits until n more requests have been answered.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	from := l.asks.Load()
	await(t, fmt.Sprint(n, " requests are answered"), func() bool { return l.asks.Load() >= from+n })
}

// end has the clients leave.
func (l *load) end() {
	l.over.Store(true)
	l.all.Wait()
}

// settle returns what has gone wrong since it was called last, and counts anew.
func (l *load) settle(t *testing.T, stage string) (faults []string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%s: %d connections were closed between requests, and to get one took %v at most", stage, l.closed, l.pause.Round(time.Millisecond))
	if len(l.failed) > 0 {
		faults = append(faults, fmt.Sprintf("%s: requests failed: %v", stage, l.failed))
	}
	if len(l.lost) > 0 {
		faults = append(faults, fmt.Sprintf("%s: connections could not be made: %v", stage, l.lost))
	}
	if l.pause > pauseMost {
		faults = append(faults, fmt.Sprintf("%s: a client waited for a connection for %v", stage, l.pause))
	}
	l.closed, l.pause = 0, 0
	clear(l.failed)
	clear(l.lost)
	return faults
}

type loadClient struct {
	load *load
	key  string
	seq  int
	conn net.Conn
}

// step makes a request: it writes, or reads what it has written.
func (c *loadClient) step() {
	if !c.connected() {
		return
	}
	value := fmt.Sprint(c.key, ".", c.seq/2)
	request, want := fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", c.key, len(value), value), "STORED\r\n"
	if c.seq%2 == 1 {
		request, want = fmt.Sprintf("get %s\r\n", c.key), fmt.Sprintf("VALUE %s 0 %d\r\n%s\r\nEND\r\n", c.key, len(value), value)
	}
	_ = c.conn.SetDeadline(time.Now().Add(proctest.Patience))
	if err := exchange(c.conn, request, want); err != nil {
		c.load.note(c.load.failed, err)
		c.leave()
		return
	}
	c.seq++ // what failed is done once more
	c.load.asks.Add(1)
}

// connected reports whether there is a connection, and makes one if there is none or the
// last was closed.
func (c *loadClient) connected() bool {
	if c.conn != nil {
		if goneAway(c.conn) != nil {
			c.load.mu.Lock()
			c.load.closed++
			c.load.mu.Unlock()
			c.leave()
		}
	}
	if c.conn != nil {
		return true
	}
	began := time.Now()
	conn, err := c.load.site.client.Dial(service, connectLimit)
	if err != nil {
		c.load.note(c.load.lost, err)
		return false
	}
	c.conn = conn
	c.load.mu.Lock()
	c.load.pause = max(c.load.pause, time.Since(began))
	c.load.mu.Unlock()
	return true
}

func (c *loadClient) leave() {
	c.conn.Close()
	c.conn = nil
}

// note counts what went wrong under what is the same in all such errors.
func (l *load) note(in map[string]int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in[reason(err)]++
}

// reason is the part of an error that all of its kind share.
func reason(err error) string {
	var no syscall.Errno
	switch {
	case errors.As(err, &no):
		return no.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}

// goneAway is how the server has ended a connection on which nothing is asked; nil if it
// has not.
func goneAway(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var b [1]byte
	var gone error
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
		case err != nil:
			gone = err
		case n == 0:
			gone = io.EOF
		default:
			gone = errors.New("it says something unasked")
		}
		return true
	})
	return errors.Join(gone, err)
}
