package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// workload is a few clients that set and get through the proxy and know what
// each answer must be. A worker has its own goroutine, connection and keys, so it
// knows the last value it had acknowledged. It has its own few lines of memcached's
// protocol: it judges the proxy and must not share its parser.
type workload struct {
	operations, errors, misses, stale, wrong atomic.Uint64
	slowest                                  atomic.Int64 // ns

	done    chan struct{}
	workers sync.WaitGroup
}

const (
	workers     = 4
	keysEach    = 250
	setShare    = 5 // one in so many operations
	pace        = 2 * time.Millisecond
	patience    = 2 * time.Second // for one answer
	redialPause = 50 * time.Millisecond
)

func startWorkload(addr string) *workload {
	l := &workload{done: make(chan struct{})}
	for i := range workers {
		w := &worker{load: l, addr: addr, name: "demo:" + strconv.Itoa(i) + ":"}
		l.workers.Go(w.run)
	}
	return l
}

// stop returns when every worker has.
func (l *workload) stop() {
	close(l.done)
	l.workers.Wait()
}

// lost says whether a client of a perfect cache would have noticed anything worse
// than a miss.
func (l *workload) lost() bool {
	return l.errors.Load()+l.stale.Load()+l.wrong.Load() > 0
}

func (l *workload) report() string {
	return fmt.Sprintf("workload: %d operations, %d errors, %d misses, %d stale, %d wrong, slowest %v",
		l.operations.Load(), l.errors.Load(), l.misses.Load(), l.stale.Load(), l.wrong.Load(),
		time.Duration(l.slowest.Load()).Round(100*time.Microsecond))
}

type worker struct {
	load *workload
	addr string
	name string // the front of its keys
	conn net.Conn
	in   *bufio.Reader
	// What a key's value may be: acked is the last acknowledged, tried the last
	// sent; they differ after a set whose answer was an error.
	acked, tried [keysEach]uint64
}

func (w *worker) run() {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	defer w.hangUp()
	for n := 0; ; n++ {
		select {
		case <-w.load.done:
			return
		default:
		}
		if n < keysEach { // at first all keys, and without a pause
			w.one(func() error { return w.set(n) })
			continue
		}
		<-tick.C
		if i := rand.IntN(keysEach); rand.IntN(setShare) == 0 {
			w.one(func() error { return w.set(i) })
		} else {
			w.one(func() error { return w.get(i) })
		}
	}
}

// one counts and times an operation. An error is followed by a new connection.
func (w *worker) one(op func() error) {
	began := time.Now()
	err := w.dial()
	if err == nil {
		err = op()
	}
	took := int64(time.Since(began))
	for old := w.load.slowest.Load(); took > old && !w.load.slowest.CompareAndSwap(old, took); {
		old = w.load.slowest.Load()
	}
	w.load.operations.Add(1)
	if err == nil {
		return
	}
	w.load.errors.Add(1)
	w.hangUp()
	select {
	case <-w.load.done:
	case <-time.After(redialPause):
	}
}

func (w *worker) dial() error {
	if w.conn == nil {
		conn, err := net.DialTimeout("tcp", w.addr, patience)
		if err != nil {
			return err
		}
		w.conn, w.in = conn, bufio.NewReader(conn)
	}
	return w.conn.SetDeadline(time.Now().Add(patience))
}

func (w *worker) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

func (w *worker) key(i int) string { return w.name + strconv.Itoa(i) }

// set stores the next value, which names its key: "key number".
func (w *worker) set(i int) error {
	w.tried[i]++
	value := w.key(i) + " " + strconv.FormatUint(w.tried[i], 10)
	if _, err := fmt.Fprintf(w.conn, "set %s 0 0 %d\r\n%s\r\n", w.key(i), len(value), value); err != nil {
		return err
	}
	reply, err := w.in.ReadString('\n')
	if err != nil {
		return err
	}
	if reply != "STORED\r\n" {
		return fmt.Errorf("set: %q", reply)
	}
	w.acked[i] = w.tried[i]
	return nil
}

// get checks the value. After a miss it sets the key again, as a client of a
// cache does.
func (w *worker) get(i int) error {
	if _, err := fmt.Fprintf(w.conn, "get %s\r\n", w.key(i)); err != nil {
		return err
	}
	head, err := w.in.ReadString('\n')
	if err != nil {
		return err
	}
	if head == "END\r\n" {
		if w.acked[i] > 0 { // else nobody has promised that it is there
			w.load.misses.Add(1)
		}
		return w.set(i)
	}
	var key string
	var flags, length int
	if n, err := fmt.Sscanf(head, "VALUE %s %d %d\r\n", &key, &flags, &length); n != 3 || err != nil || length > 1<<10 {
		return fmt.Errorf("get: %q", head)
	}
	tail := make([]byte, length+len("\r\nEND\r\n"))
	if _, err := io.ReadFull(w.in, tail); err != nil {
		return err
	}
	w.judge(i, key, string(tail[:length]))
	return nil
}

func (w *worker) judge(i int, key, value string) {
	name, number, _ := strings.Cut(value, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	switch {
	case err != nil || key != w.key(i) || name != key || n > w.tried[i]:
		w.load.wrong.Add(1)
	case n < w.acked[i]:
		w.load.stale.Add(1)
	}
}
