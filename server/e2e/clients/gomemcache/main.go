// Gomemcache does the everyday work of github.com/bradfitz/gomemcache, round by round, for
// the test of client libraries: gomemcache HOST PORT PREFIX. The test writes a line for each
// round that it wants and reads one when it is done. What the client sees that it should not
// is a line on standard error and status 1. One goroutine; it imports the library and std.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

const (
	kept = 100
	big  = 1000000
)

// worker is two clients that work on the same keys.
type worker struct {
	a, b   *memcache.Client
	prefix string
	keys   []string          // that are set once
	values map[string]string // theirs
}

func main() {
	addr := net.JoinHostPort(os.Args[1], os.Args[2])
	w := &worker{a: client(addr), b: client(addr), prefix: os.Args[3], values: map[string]string{}}
	for i := range kept {
		key := fmt.Sprintf("%skept%d", w.prefix, i)
		w.keys = append(w.keys, key)
		w.values[key] = strings.Repeat(fmt.Sprintf("value %d ", i), i+1)
		check(w.a.Set(item(key, w.values[key])), nil, "set")
	}
	check(w.a.Set(item(w.prefix+"count", "1000")), nil, "set")
	check(w.a.Set(item(w.prefix+"cas", "0")), nil, "set")
	fmt.Println("gomemcache", version())
	for round, lines := 1, bufio.NewScanner(os.Stdin); lines.Scan(); round++ {
		w.many()
		w.stores(round)
		w.counts(round)
		w.races(round)
		w.big(round)
		check(w.a.Close(), nil, "close") // the next command connects again
		fmt.Println("done", round)
	}
}

func client(addr string) *memcache.Client {
	c := memcache.New(addr)
	c.Timeout = 20 * time.Second
	return c
}

// version is the library's, as go.mod has it.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if strings.HasSuffix(m.Path, "/gomemcache") {
			return m.Version
		}
	}
	return "of no known version"
}

func item(key, value string) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value)}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func check(got, want error, what string) {
	if !errors.Is(got, want) {
		fail("%s: %v, want %v", what, got, want)
	}
}

// value demands that a key has want.
func (w *worker) value(c *memcache.Client, name, want string) *memcache.Item {
	got, err := c.Get(w.prefix + name)
	check(err, nil, "get "+name)
	if string(got.Value) != want {
		fail("get %s: %q, want %q", name, got.Value[:min(len(got.Value), 100)], want[:min(len(want), 100)])
	}
	return got
}

func (w *worker) many() {
	found, err := w.a.GetMulti(w.keys)
	check(err, nil, "get of many keys")
	for _, key := range w.keys {
		if got := found[key]; got == nil || string(got.Value) != w.values[key] {
			fail("get of many keys: %s is %v", key, got)
		}
	}
	if len(found) != kept {
		fail("get of many keys: %d, want %d", len(found), kept)
	}
}

func (w *worker) stores(round int) {
	key, lock := w.prefix+"key", w.prefix+"lock"
	value := fmt.Sprint("round ", round)
	check(w.a.Set(&memcache.Item{Key: key, Value: []byte(value), Flags: uint32(round), Expiration: 1000}), nil, "set")
	if got := w.value(w.b, "key", value); got.Flags != uint32(round) {
		fail("flags %d, want %d", got.Flags, round)
	}
	check(w.a.Append(item(key, "!")), nil, "append")
	check(w.a.Prepend(item(key, "<")), nil, "prepend")
	w.value(w.b, "key", "<"+value+"!")
	check(w.a.Touch(key, 2000), nil, "touch")
	got, err := w.b.GetAndTouch(key, 3000)
	check(err, nil, "gat")
	if string(got.Value) != "<"+value+"!" {
		fail("gat: %q", got.Value)
	}
	check(w.a.Add(item(lock, "mine")), nil, "add")
	check(w.a.Add(item(lock, "yours")), memcache.ErrNotStored, "add of what is there")
	check(w.a.Replace(item(lock, "still mine")), nil, "replace")
	check(w.a.Delete(lock), nil, "delete")
	check(w.a.Delete(lock), memcache.ErrCacheMiss, "delete of what is gone")
	check(w.a.Replace(item(lock, "nobody's")), memcache.ErrNotStored, "replace of what is gone")
	_, err = w.b.Get(lock)
	check(err, memcache.ErrCacheMiss, "get of what was deleted")
	check(w.a.Ping(), nil, "ping")
}

func (w *worker) counts(round int) {
	steps := []struct {
		step func(key string, delta uint64) (uint64, error)
		by   uint64
		want int
	}{{w.a.Increment, 3, 1001 + 2*round}, {w.b.Decrement, 1, 1000 + 2*round}}
	for _, s := range steps {
		got, err := s.step(w.prefix+"count", s.by)
		check(err, nil, "count")
		if got != uint64(s.want) {
			fail("count: %d, want %d", got, s.want)
		}
	}
}

// races has a version that is past refused, and then tries until one is taken.
func (w *worker) races(round int) {
	key := w.prefix + "cas"
	seen := w.value(w.a, "cas", fmt.Sprint(2*(round-1)))
	check(w.b.Set(item(key, fmt.Sprint(2*round-1))), nil, "set")
	seen.Value = []byte("lost")
	check(w.a.CompareAndSwap(seen), memcache.ErrCASConflict, "cas of a version that is past")
	for range 10 {
		seen = w.value(w.a, "cas", fmt.Sprint(2*round-1))
		seen.Value = fmt.Append(nil, 2*round)
		err := w.a.CompareAndSwap(seen)
		if err == nil {
			return
		}
		check(err, memcache.ErrCASConflict, "cas")
	}
	fail("cas never succeeds")
}

func (w *worker) big(round int) {
	var seed [32]byte
	seed[0], seed[1] = byte(round), byte(round>>8)
	value := make([]byte, big)
	_, _ = rand.NewChaCha8(seed).Read(value) // it never fails
	check(w.a.Set(&memcache.Item{Key: w.prefix + "big", Value: value}), nil, "set of a big value")
	got, err := w.b.Get(w.prefix + "big")
	check(err, nil, "get of a big value")
	if !bytes.Equal(got.Value, value) {
		fail("a big value is another")
	}
}
