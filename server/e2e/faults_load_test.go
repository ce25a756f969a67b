package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/server/e2e/harness"
	"magent/server/e2e/model"
)

// A load asks a proxy at a fixed rate, whatever becomes of it: a request that is due
// while others wait is sent behind them, and its latency counts from when it was due.
// One thread sends and receives for all clients, so that it needs little processor time
// and knows in what order things happened. It waits for nobody: a request that is sent
// late shows that the thread was held up itself. These stalls are kept, to be told
// apart from the proxy's.
type load struct {
	clients []*loadClient
	names   []string // of keys; those of each writer lie together
	issued  []int    // by key: the number last written
	acked   []int    // by key: the number last acknowledged
	began   time.Time
	samples []sample
	stalls  []stall
	strange []string // the first answers that were not good
	rng     *rand.Rand
	fds     []unix.PollFd
	scratch []byte
}

// keysPerWriter are written by turns.
const keysPerWriter = 64

// A loadClient is one connection.
type loadClient struct {
	id, fd      int
	due, every  time.Duration
	writeOnce   int // in so many requests; 0: never
	turn        int
	keys, wrote int // its keys begin there; how many writes it has begun
	out, in     []byte
	pending     []request
	lost        bool
}

type request struct {
	due   time.Duration
	key   int
	seq   int // of a write: its number. Of a read: the number acknowledged before
	write bool
}

// A judgment is what became of a request.
type judgment uint8

const (
	good judgment = iota
	missed
	stale
	wrong
	serverError
	cut // no answer, or one that is none
	judgments
)

func (j judgment) String() string {
	return [...]string{"good", "miss", "stale", "wrong", "SERVER_ERROR", "cut off"}[j]
}

type sample struct {
	due, took time.Duration // from due to the answer
	write     bool
	judgment  judgment
}

// A stall is a time in which something was due and the thread did not run.
type stall struct{ from, to time.Duration }

// stallLeast is what is not worth to be called one.
const stallLeast = time.Millisecond

// newLoad connects clients that send rate requests a second each, of which one in ten
// is a write. With apart, there are two clients more, and they do all the writing:
// the answers on a connection leave in order, so that a read behind a slow write
// would be slow whatever is done for reads.
func newLoad(addr string, clients, rate int, apart bool) (*load, error) {
	l := &load{rng: rand.New(rand.NewPCG(*seedFlag, 0))}
	add := func(perSecond float64, writeOnce int) error {
		fd, err := connect(addr)
		if err != nil {
			return err
		}
		c := &loadClient{id: len(l.clients), fd: fd, every: time.Duration(float64(time.Second) / perSecond), writeOnce: writeOnce, keys: len(l.names)}
		c.due = c.every * time.Duration(c.id%4) / 4
		c.turn = c.id
		for i := 0; writeOnce > 0 && i < keysPerWriter; i++ {
			l.names = append(l.names, fmt.Sprintf("load%02d.%02d", c.id, i))
		}
		l.clients = append(l.clients, c)
		return nil
	}
	var err error
	for range clients {
		if apart {
			err = errors.Join(err, add(0.9*float64(rate), 0))
		} else {
			err = errors.Join(err, add(float64(rate), 10))
		}
	}
	const writers = 2
	for i := 0; apart && i < writers; i++ {
		err = errors.Join(err, add(0.1*float64(rate*clients)/writers, 1))
	}
	l.issued, l.acked = make([]int, len(l.names)), make([]int, len(l.names))
	return l, err
}

// connect returns a socket of our own, which the runtime does not poll.
func connect(addr string) (fd int, err error) {
	c, err := net.DialTimeout("tcp", addr, harness.Patience)
	if err != nil {
		return -1, err
	}
	defer c.Close()
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return -1, err
	}
	defer file.Close()
	if fd, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return -1, err
	}
	return fd, unix.SetNonblock(fd, true)
}

func (l *load) close() {
	for _, c := range l.clients {
		_ = unix.Close(c.fd)
	}
}

// fill writes every key once.
func (l *load) fill() error {
	l.began = time.Now()
	for _, c := range l.clients {
		for i := 0; c.writeOnce > 0 && i < keysPerWriter; i++ {
			l.ask(c, request{key: c.keys + i, write: true})
		}
	}
	l.serve(0)
	for _, s := range l.samples {
		if s.judgment != good {
			return fmt.Errorf("before the load: %q", l.strange)
		}
	}
	return nil
}

// prepare has requests be due from now on, for length.
func (l *load) prepare(length time.Duration) {
	expected := 0
	for _, c := range l.clients {
		expected += int(length/c.every) + 1
	}
	l.samples = make([]sample, 0, expected)
	l.strange, l.stalls = nil, nil
	l.began = time.Now()
}

// serve sends what is due before length, and receives, until all is answered or never
// will be. It keeps a thread to itself.
func (l *load) serve(length time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		now := time.Since(l.began)
		next := time.Duration(math.MaxInt64)
		waiting := false
		for _, c := range l.clients {
			if c.due < length && now-c.due > stallLeast {
				l.stalled(c.due, now)
			}
			for ; c.due <= now && c.due < length; c.due += c.every {
				l.issue(c)
			}
			if c.due < length {
				next = min(next, c.due)
			}
			l.flush(c)
			waiting = waiting || len(c.pending) > 0
		}
		if next == math.MaxInt64 && !waiting {
			return
		}
		if now > length+harness.Patience {
			for _, c := range l.clients {
				l.lose(c, errors.New("no answer"))
			}
			return
		}
		l.await(min(next-time.Since(l.began), time.Second))
	}
}

// stalled notes a stall, or that the one at hand is longer.
func (l *load) stalled(from, to time.Duration) {
	if n := len(l.stalls); n > 0 && l.stalls[n-1].to >= from {
		s := &l.stalls[n-1]
		s.from, s.to = min(s.from, from), max(s.to, to)
		return
	}
	l.stalls = append(l.stalls, stall{from, to})
}

// await receives what comes within d.
func (l *load) await(d time.Duration) {
	l.fds = l.fds[:0]
	for _, c := range l.clients {
		p := unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
		if c.lost {
			p.Fd = -1
		}
		if len(c.out) > 0 {
			p.Events |= unix.POLLOUT
		}
		l.fds = append(l.fds, p)
	}
	timeout := unix.NsecToTimespec(int64(max(d, 0)))
	if n, err := unix.Ppoll(l.fds, &timeout, nil); err != nil || n == 0 {
		return // interrupted, or nothing came
	}
	for i, p := range l.fds {
		if p.Revents&^unix.POLLOUT != 0 {
			l.receive(l.clients[i])
		}
	}
}

// issue asks what is due at c.
func (l *load) issue(c *loadClient) {
	r := request{due: c.due, key: l.rng.IntN(len(l.names))}
	if c.turn++; c.writeOnce > 0 && c.turn%c.writeOnce == 0 {
		r.key, r.write = c.keys+c.wrote%keysPerWriter, true
		c.wrote++
	}
	l.ask(c, r)
}

func (l *load) ask(c *loadClient, r request) {
	name := l.names[r.key]
	if r.write {
		l.issued[r.key]++
		r.seq = l.issued[r.key]
		l.scratch = model.AppendValue(l.scratch[:0], name, model.ID{Writer: c.id, Seq: r.seq}, 100)
		c.out = append(append(append(c.out, "set "...), name...), " 0 0 "...)
		c.out = append(strconv.AppendInt(c.out, int64(len(l.scratch)), 10), "\r\n"...)
		c.out = append(append(c.out, l.scratch...), "\r\n"...)
	} else {
		r.seq = l.acked[r.key]
		c.out = append(append(append(c.out, "get "...), name...), "\r\n"...)
	}
	c.pending = append(c.pending, r)
	if c.lost {
		l.lose(c, errors.New("the connection is lost"))
	}
}

func (l *load) flush(c *loadClient) {
	if len(c.out) == 0 || c.lost {
		return
	}
	n, err := unix.Write(c.fd, c.out)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		l.lose(c, err)
		return
	}
	c.out = append(c.out[:0], c.out[max(n, 0):]...)
}

// lose notes that c's requests are not answered. It sends no more.
func (l *load) lose(c *loadClient, err error) {
	for len(c.pending) > 0 {
		l.judge(c, cut, err.Error())
	}
	c.out, c.lost = c.out[:0], true
}

func (l *load) receive(c *loadClient) {
	const piece = 64 << 10
	c.in = slices.Grow(c.in, piece)
	n, err := unix.Read(c.fd, c.in[len(c.in):len(c.in)+piece])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0:
		l.lose(c, cmp.Or(err, errors.New("closed by the proxy")))
		return
	}
	c.in = c.in[:len(c.in)+n]
	used := 0
	for len(c.pending) > 0 {
		n := l.answer(c, c.in[used:])
		if n == 0 {
			break
		}
		used += n
	}
	c.in = append(c.in[:0], c.in[used:]...)
}

// answer judges the answer that b begins with, and says how long it is: 0 if it is
// not there yet.
func (l *load) answer(c *loadClient, b []byte) int {
	line, _, whole := bytes.Cut(b, []byte("\r\n"))
	if !whole {
		return 0
	}
	r, size := &c.pending[0], len(line)+2
	switch {
	case r.write && string(line) == "STORED":
		l.acked[r.key] = max(l.acked[r.key], r.seq)
		l.judge(c, good, "")
	case !r.write && string(line) == "END":
		l.judge(c, missed, string(line))
	case bytes.HasPrefix(line, []byte("SERVER_ERROR ")):
		l.judge(c, serverError, string(line))
	case !r.write && bytes.HasPrefix(line, []byte("VALUE ")):
		n, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
		whole := size + n + len("\r\nEND\r\n")
		switch {
		case err != nil:
			l.lose(c, fmt.Errorf("the line %q", line))
		case len(b) < whole:
			return 0
		default:
			l.value(c, r, b[size:size+n], line)
		}
		return whole
	default:
		l.lose(c, fmt.Errorf("the line %.80q", line))
	}
	return size
}

// value judges a value that was read.
func (l *load) value(c *loadClient, r *request, b, line []byte) {
	id, err := model.ParseValue(b, l.names[r.key])
	switch {
	case err != nil:
		l.judge(c, wrong, err.Error())
	case !bytes.HasPrefix(line[len("VALUE "):], []byte(l.names[r.key])) || id.Seq < 1 || id.Seq > l.issued[r.key]:
		l.judge(c, wrong, fmt.Sprintf("%s with value %v", line, id))
	case id.Seq < r.seq:
		l.judge(c, stale, fmt.Sprintf("%s is %d behind", l.names[r.key], r.seq-id.Seq))
	default:
		l.judge(c, good, "")
	}
}

// judge ends c's oldest request.
func (l *load) judge(c *loadClient, j judgment, why string) {
	r := c.pending[0]
	now := time.Since(l.began)
	l.samples = append(l.samples, sample{due: r.due, took: now - r.due, write: r.write, judgment: j})
	if j != good && len(l.strange) < 8 {
		l.strange = append(l.strange, fmt.Sprintf("%v: %v after %v: %s", now.Round(time.Microsecond), j, (now-r.due).Round(time.Microsecond), why))
	}
	c.pending = append(c.pending[:0], c.pending[1:]...)
}

// count is how many requests ended so.
func (l *load) count(j judgment) (n int) {
	for i := range l.samples {
		if l.samples[i].judgment == j {
			n++
		}
	}
	return n
}

// took is the latencies, in order, of requests that were due from then on and that of
// says are meant. With own, what the generator was stalled meanwhile is taken off.
func (l *load) took(from time.Duration, own bool, of func(*sample) bool) (all []time.Duration) {
	for i := range l.samples {
		s := &l.samples[i]
		if s.due < from || !of(s) {
			continue
		}
		took := s.took
		for _, stall := range l.stalls {
			if own {
				took -= max(0, min(stall.to, s.due+s.took)-max(stall.from, s.due))
			}
		}
		all = append(all, took)
	}
	slices.Sort(all)
	return all
}

// spells says when requests were due that took longer than that, from when on, and how
// long they took at worst: each spell ends where none was due for as long.
func (l *load) spells(longer, origin time.Duration) string {
	var slow []*sample
	for i := range l.samples {
		if l.samples[i].took > longer {
			slow = append(slow, &l.samples[i])
		}
	}
	slices.SortFunc(slow, func(a, b *sample) int { return cmp.Compare(a.due, b.due) })
	var b strings.Builder
	for i := 0; i < len(slow); {
		first, worst := i, time.Duration(0)
		for ; i < len(slow) && (i == first || slow[i].due-slow[i-1].due < longer); i++ {
			worst = max(worst, slow[i].took)
		}
		fmt.Fprintf(&b, " %s..%s: %s", millis(slow[first].due-origin), millis(slow[i-1].due-origin), millis(worst))
	}
	return b.String()
}

func every(*sample) bool { return true }

func reads(s *sample) bool { return !s.write }

func refusals(s *sample) bool { return s.judgment == serverError }

// slowest is the last of durations in order, and 0 of none.
func slowest(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1]
}

// p99 is their 99th percentile.
func p99(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return all[len(all)*99/100]
}

// longestStall is for how long the generator was held up at worst, and the machine
// with it.
func (l *load) longestStall() (worst time.Duration) {
	for _, s := range l.stalls {
		worst = max(worst, s.to-s.from)
	}
	return worst
}
