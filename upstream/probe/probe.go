// Package probe is a blocking client of one node, for what is asked of a node
// beside the traffic: whether it stores and answers (RoundTrip), which life of it
// this is (Identity), whose connections it still has (Clients), and that it forgets
// everything (FlushAll).
//
// A Prober belongs to one goroutine, the prober of its node; an Identity to whoever
// reads the stats. The package imports std only.
package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"magent/upstream/dial"
)

// Target is a node and the patience with it.
type Target struct {
	dial.Target
	Timeout time.Duration // for each answer, from the request to its last byte
}

// Prober asks one node. It is not safe for concurrent use. It keeps its connection
// from one call to the next, unless the call ends with an error: then nobody knows
// what the node may yet answer. Errors say in one line what was asked and what came.
type Prober struct {
	target Target
	key    string
	write  bool
	run    uint64 // tells the values of this Prober from those of others before it
	turn   int    // the round trips that have begun
	lost   int    // those whose set had no answer

	conn net.Conn // nil: none
	in   *bufio.Reader
}

// maxLine bounds a line of an answer, in bytes with its end; maxAnswer a whole
// answer, which is read line by line and not kept. The longest line is a value that is
// asked for with Ask, the longest answer comes to stats conns, with some 170 bytes for
// each of the node's connections. buffer is what a Prober keeps to read into.
const (
	buffer    = 4 << 10
	maxLine   = 68 << 10
	maxAnswer = 32 << 20
)

// valueTTL is how long the node holds, in seconds, what a Prober wrote last.
const valueTTL = 60

// New makes a Prober, which connects when it is first asked for something. With
// write, a round trip writes to a key and reads it back: to key with a number behind
// it. key must be good as a key, of at most 230 bytes, and nobody else's, other
// proxies' Probers included.
func New(t Target, key string, write bool) *Prober {
	return &Prober{target: t, key: key, write: write, run: rand.Uint64(), in: bufio.NewReaderSize(nil, buffer)}
}

// RoundTrip finds out whether the node serves, and returns how long the last request
// of it took, from its first byte sent to the last of its answer received: that is
// the get with write, and the version without. The time to connect is in neither.
//
// With write, it sets a key to a value that it never had and gets it back. A miss is
// no fault, the node may evict; another value is. A set that was given up may still be
// executed, when a frozen node thaws: those that follow take another key. A node that
// answers an error to set (out of memory, or it takes no writes) serves if it answers
// version, which it is asked over a new connection: it may have taken the value for a
// command.
//
// That the node has closed the connection kept from the call before is no fault
// either, and RoundTrip connects again.
func (p *Prober) RoundTrip(ctx context.Context) (time.Duration, error) {
	if !p.write {
		return p.first(ctx, "version", "version\r\n", version)
	}
	p.turn++
	key, value := fmt.Sprintf("%s-%d", p.key, p.lost), fmt.Sprintf("%016x-%d", p.run, p.turn)
	refused := false
	set := fmt.Sprintf("set %s 0 %d %d\r\n%s\r\n", key, valueTTL, len(value), value)
	_, err := p.first(ctx, "set", set, func(line []byte) (last, ok bool) {
		refused = isError(line)
		return true, refused || string(line) == "STORED"
	})
	switch {
	case err != nil:
		p.lost++
		return 0, err
	case refused:
		p.Forget()
		return p.ask(ctx, "version", "version\r\n", version)
	}
	want := []string{fmt.Sprintf("VALUE %s 0 %d", key, len(value)), value, "END"}
	return p.ask(ctx, "get", "get "+key+"\r\n", func(line []byte) (last, ok bool) {
		if len(want) == 3 && string(line) == "END" {
			return true, true
		}
		ok = string(line) == want[0]
		want = want[1:]
		return len(want) == 0, ok
	})
}

// version takes the answer to version.
func version(line []byte) (last, ok bool) {
	return true, bytes.HasPrefix(line, []byte("VERSION "))
}

// isError reports whether line is one of the three errors of the protocol.
func isError(line []byte) bool {
	word, _, _ := bytes.Cut(line, []byte(" "))
	return string(word) == "ERROR" || string(word) == "SERVER_ERROR" || string(word) == "CLIENT_ERROR"
}

// Identity asks the node for its stats. What they do not say makes no error: see
// Identity.Life.
func (p *Prober) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	_, err := p.first(ctx, "stats", "stats\r\n", stats(id.Stat))
	return id, err
}

// stats takes an answer of STAT lines.
func stats(each func(line []byte)) take {
	return func(line []byte) (last, ok bool) {
		if string(line) == "END" {
			return true, true
		}
		each(line)
		return false, bytes.HasPrefix(line, []byte("STAT "))
	}
}

// ErrUnnamed is the error of Clients for a node that answers, and cannot be relied on
// to name the connections of this proxy by their addresses here: it does not know
// stats conns (memcached before 1.4.18), it does not list the very connection over
// which it was asked (somebody translates addresses in between), or it is reached over
// a unix socket, whose clients have no addresses.
var ErrUnnamed = errors.New("the node does not name its clients")

// Clients asks the node for the TCP connections that it has from clients. What came
// over a connection that was listed and is no more has been executed, or never will be.
//
// It asks over a new connection. The node accepts in the order in which connections
// were made, so that all those made before are accepted by then. But one is listed only
// when the thread that is to serve it has taken it on, a moment after it was accepted:
// of a node that has just been thawed, believe no less than two answers in a row.
func (p *Prober) Clients(ctx context.Context) (Clients, error) {
	p.Forget()
	l, known := listing{clients: make(Clients)}, true
	lines := stats(l.stat)
	_, err := p.ask(ctx, "stats conns", "stats conns\r\n", func(line []byte) (last, ok bool) {
		if isError(line) {
			known = false
			return true, true
		}
		return lines(line)
	})
	if err != nil {
		return nil, err
	}
	if !known || !l.clients.Has(p.conn.LocalAddr()) {
		return nil, ErrUnnamed
	}
	return l.clients, nil
}

// FlushAll has the node forget all its items.
func (p *Prober) FlushAll(ctx context.Context) error {
	_, err := p.first(ctx, "flush_all", "flush_all\r\n", func(line []byte) (last, ok bool) {
		return true, string(line) == "OK"
	})
	return err
}

// Forget closes the connection; the next call makes a new one.
func (p *Prober) Forget() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}
