package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// target is a memcached in a few lines: bufio, a map, and a hook that may look at,
// change or withhold a reply.
type target struct {
	addr string
	hook hook

	mu       sync.Mutex
	items    map[string]item
	versions int
	served   map[string]int // commands, by name
	accepted int
	listener net.Listener
	conns    map[net.Conn]bool
	wg       sync.WaitGroup
}

type item struct {
	data    string // flags, size and value, as a reply has them between key and END
	version int
}

// errHangUp makes the target close the connection instead of answering.
var errHangUp = errors.New("hang up")

// call is the n-th command (from 1) of a connection to the target, and the reply to it.
type call struct {
	to    *target
	n     int
	words []string
	reply string
}

// hook returns what is to be sent. It is called with the target locked.
type hook func(c call) (string, error)

func startTarget(t *testing.T, h hook) *target {
	t.Helper()
	return startTargetAt(t, "tcp", "127.0.0.1:0", h)
}

func startUnixTarget(t *testing.T, h hook) *target {
	t.Helper()
	return startTargetAt(t, "unix", filepath.Join(t.TempDir(), "s"), h)
}

func startTargetAt(t *testing.T, network, addr string, h hook) *target {
	t.Helper()
	tg := &target{hook: h, items: map[string]item{}, served: map[string]int{}, conns: map[net.Conn]bool{}}
	if err := tg.listen(network, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tg.mu.Lock()
		tg.leave()
		tg.mu.Unlock()
		tg.wg.Wait()
	})
	return tg
}

func (tg *target) listen(network, addr string) error {
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	tg.mu.Lock()
	defer tg.mu.Unlock()
	if tg.listener = l; tg.addr == "" {
		tg.addr = l.Addr().String()
	}
	tg.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tg.mu.Lock()
			tg.accepted++
			tg.conns[c] = true
			tg.mu.Unlock()
			tg.wg.Go(func() {
				tg.serve(c)
				tg.mu.Lock()
				defer tg.mu.Unlock()
				delete(tg.conns, c)
				c.Close()
			})
		}
	})
	return nil
}

// leave stops listening and closes every connection. The target must be locked.
func (tg *target) leave() {
	tg.listener.Close()
	for c := range tg.conns {
		c.Close()
	}
}

// serve answers until the client goes. It flushes when it would block.
func (tg *target) serve(c net.Conn) {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for n := 1; ; n++ {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		var data []byte
		if words[0] == "set" || words[0] == "cas" {
			size, _ := strconv.Atoi(words[4])
			data = make([]byte, size+2)
			if _, err := io.ReadFull(r, data); err != nil {
				return
			}
		}
		reply, err := tg.answer(call{to: tg, n: n, words: words}, data)
		if err != nil {
			w.Flush()
			return
		}
		w.WriteString(reply)
	}
}

func (tg *target) answer(c call, data []byte) (string, error) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	tg.served[c.words[0]]++
	c.reply = tg.reply(c.words, data)
	if tg.hook != nil {
		return tg.hook(c)
	}
	return c.reply, nil
}

func (tg *target) reply(words []string, data []byte) string {
	key := words[1]
	it, held := tg.items[key]
	switch words[0] {
	case "get", "gets":
		return tg.get(words)
	case "cas":
		if !held {
			return "NOT_FOUND\r\n"
		}
		if words[5] != strconv.Itoa(it.version) {
			return "EXISTS\r\n"
		}
		fallthrough
	case "set":
		tg.versions++
		tg.items[key] = item{fmt.Sprintf("%s %s\r\n%s", words[2], words[4], data), tg.versions}
		return "STORED\r\n"
	}
	if !held {
		return "NOT_FOUND\r\n"
	}
	switch words[0] {
	case "delete":
		delete(tg.items, key)
		return "DELETED\r\n"
	case "touch":
		return "TOUCHED\r\n"
	}
	head, number, _ := strings.Cut(it.data, "\r\n")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil {
		return "CLIENT_ERROR cannot increment\r\n"
	}
	it.data = fmt.Sprintf("%s\r\n%d\r\n", head, n+1)
	tg.items[key] = it
	return fmt.Sprintf("%d\r\n", n+1)
}

func (tg *target) get(words []string) string {
	var b strings.Builder
	for _, key := range words[1:] {
		it, ok := tg.items[key]
		if !ok {
			continue
		}
		head, value, _ := strings.Cut(it.data, "\r\n")
		if words[0] == "gets" {
			head += " " + strconv.Itoa(it.version)
		}
		fmt.Fprintf(&b, "VALUE %s %s\r\n%s", key, head, value)
	}
	return b.String() + "END\r\n"
}

// count returns how many commands of that name were answered.
func (tg *target) count(name string) int64 {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return int64(tg.served[name])
}

// forget starts the account afresh.
func (tg *target) forget() {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	clear(tg.served)
}

// connections returns how many were accepted.
func (tg *target) connections() int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return tg.accepted
}

// held returns how many keys it holds.
func (tg *target) held() int64 {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return int64(len(tg.items))
}
