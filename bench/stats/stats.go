// Package stats asks a memcached, or a proxy before several, for its statistics: what it
// holds, and what a proxy thinks of its nodes.
//
// A Conn belongs to one goroutine, which blocks. The package imports the standard library
// only, and knows of the proxy no more than what it says.
package stats

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is for how long one answer is waited for.
const patience = 5 * time.Second

// Conn is a connection that statistics are asked over.
type Conn struct {
	c net.Conn
	r *bufio.Reader
}

// Dial connects to addr, host:port.
func Dial(ctx context.Context, addr string) (*Conn, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("stats: %w", err)
	}
	return &Conn{c, bufio.NewReader(c)}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.c.Close() }

// Ask asks for the statistics of that name, "" for the general ones.
func (c *Conn) Ask(what string) (map[string]string, error) {
	command := strings.TrimSpace("stats " + what)
	if err := c.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("stats: %w", err)
	}
	if _, err := c.c.Write([]byte(command + "\r\n")); err != nil {
		return nil, fmt.Errorf("stats: %w", err)
	}
	all := make(map[string]string)
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("stats: the answer to %s: %w", command, err)
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "END" {
			return all, nil
		}
		rest, ok := strings.CutPrefix(line, "STAT ")
		if !ok {
			return nil, fmt.Errorf("stats: %s is answered with %q", command, line)
		}
		name, value, _ := strings.Cut(rest, " ")
		all[name] = value
	}
}

// Items is how many items a memcached says it holds.
func (c *Conn) Items() (int64, error) {
	all, err := c.Ask("")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(all["curr_items"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stats: a node has %q for curr_items", all["curr_items"])
	}
	return n, nil
}

// Items is how many items the memcached at addr says it holds.
func Items(ctx context.Context, addr string) (int64, error) {
	c, err := Dial(ctx, addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.Items()
}

// AwaitItems asks the memcached at addr, seldom, until it holds so many items.
func AwaitItems(ctx context.Context, addr string, most int64) error {
	last := int64(0)
	err := await(ctx, addr, Seldom, func(c *Conn) (bool, error) {
		n, err := c.Items()
		if err == nil {
			last = n
		}
		return n >= most, err
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("stats: %s holds %d items: %w", addr, last, ctx.Err())
	}
	return err
}

// Node is what a proxy says of one of its nodes. Of a refill it says nothing while there
// is none.
type Node struct {
	State       string // up, warming and so on
	Phase       string // of its refill
	Done, Total int64  // keys of its refill
}

func (n Node) String() string {
	if n.Phase == "" && n.Total == 0 {
		return fmt.Sprintf("%q", n.State)
	}
	return fmt.Sprintf("%q, its refill %q, with %d of %d keys done", n.State, n.Phase, n.Done, n.Total)
}

// Up says whether the proxy trusts the node as ever.
func (n Node) Up() bool { return n.State == "up" }

// Node asks a proxy what it thinks of the node of that name.
func (c *Conn) Node(name string) (n Node, err error) {
	all, err := c.Ask("nodes")
	if err != nil {
		return n, err
	}
	field := func(what string) string { return all[name+":"+what] }
	if n.State = field("state"); n.State == "" {
		return n, fmt.Errorf("stats: the proxy knows no node %s", name)
	}
	n.Phase = field("refill_phase")
	// A proxy that says no number has none to say.
	n.Done, _ = strconv.ParseInt(field("refill_done"), 10, 64)
	n.Total, _ = strconv.ParseInt(field("refill_total"), 10, 64)
	return n, nil
}

// Often and Seldom are how often one may be asked: what is timed by it is right to so much,
// and each answer costs its CPU some 0.1 to 0.2 ms, and ours as much.
const (
	Often  = 5 * time.Millisecond
	Seldom = 25 * time.Millisecond
)

// Await asks the proxy at addr for the node of that name until holds says so of it. When
// ctx ends before, the error says how the node was then.
func Await(ctx context.Context, addr, name string, every time.Duration, holds func(Node) bool) error {
	var last Node
	err := await(ctx, addr, every, func(c *Conn) (bool, error) {
		n, err := c.Node(name)
		if err != nil {
			return false, err
		}
		last = n
		return holds(n), nil
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("stats: to the proxy at %s, the node %s is %v: %w", addr, name, last, ctx.Err())
	}
	return err
}

// await asks addr until it is told that all is well, or why it never will be, or ctx ends.
func await(ctx context.Context, addr string, every time.Duration, well func(*Conn) (bool, error)) error {
	c, err := Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer c.Close()
	poll := time.NewTicker(every)
	defer poll.Stop()
	for {
		if yes, err := well(c); yes || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
