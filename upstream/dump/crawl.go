package dump

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"magent/upstream/dial"
)

// Target is a node and the patience with it.
type Target struct {
	dial.Target
	Silence time.Duration // how long the node may keep silent in the middle of an answer

	// Wait waits for d, or until ctx ends and then returns its error. nil is a timer.
	Wait func(ctx context.Context, d time.Duration) error
}

// Listing is what Crawl found out beside the keys.
type Listing struct {
	Keys  int   // how many entries were handed on
	Began int64 // the node's clock before it began, a Unix time: what is accessed later says so
}

// A busy node is asked again after firstPause, and then after twice as long each time.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Crawl asks a node for its keys and calls each for every one, on a connection of its
// own; the view of the key is good until each returns. each must not wait for anything,
// see the package's comment. A node that is busy is asked again until ctx ends.
//
// The error of a list that broke off says how far it came, and so does Listing.Keys. It
// wraps a Refused, a Malformed, ctx's error or the network's. When ctx ends midway,
// Crawl returns, and the rest of the list is taken and thrown away by a goroutine, for
// the node's sake: for a minute at most, or until the node is silent or closes.
func Crawl(ctx context.Context, t Target, each func(Entry)) (Listing, error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		l, err := t.attempt(ctx, each)
		var r Refused
		if !errors.As(err, &r) || !r.Busy() || l.Keys > 0 {
			return l, err
		}
		if ended := t.wait(ctx, pause); ended != nil {
			return l, fmt.Errorf("%w: %w", ended, err)
		}
	}
}

func (t *Target) wait(ctx context.Context, d time.Duration) error {
	if t.Wait != nil {
		return t.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// bufSize is how much is read at a time.
const bufSize = 64 << 10

// attempt asks once.
func (t *Target) attempt(ctx context.Context, each func(Entry)) (l Listing, err error) {
	conn, err := t.Conn(ctx)
	if err != nil {
		return l, fmt.Errorf("no list of keys: %w", err)
	}
	conn.SetWriteDeadline(time.Now().Add(t.Silence))
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		conn.SetDeadline(time.Unix(1, 0))
	})
	in := bufio.NewReaderSize(&dial.Patient{Conn: conn, Ctx: ctx, Silence: t.Silence}, bufSize)
	asked := false
	if l.Began, err = clock(conn, in); err == nil {
		asked = true
		l.Keys, err = list(conn, in, each)
	}
	if !stop() {
		<-interrupted
	}
	if asked && err != nil && ctx.Err() != nil {
		go takeLeave(conn, t.Silence)
	} else {
		conn.Close()
	}
	if err != nil {
		err = t.explain(ctx, l.Keys, err)
	}
	return l, err
}

// clock asks the node for the time. It is the clock of the list: the last access is
// counted by it, in process_stats and in crawler.c alike.
func clock(conn net.Conn, in *bufio.Reader) (now int64, err error) {
	if _, err := io.WriteString(conn, "stats\r\n"); err != nil {
		return 0, err
	}
	for told := false; ; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		value, ok := bytes.CutPrefix(line, []byte("STAT time "))
		switch {
		case ok:
			if now, told = signed(value); !told {
				return 0, Malformed(line)
			}
		case told && string(line) == "END":
			return now, nil
		case !bytes.HasPrefix(line, []byte("STAT ")):
			return 0, refusal(line)
		}
	}
}

// list asks the node for its keys and returns how many came.
func list(conn net.Conn, in *bufio.Reader, each func(Entry)) (keys int, err error) {
	if _, err := io.WriteString(conn, "lru_crawler metadump hash\r\n"); err != nil {
		return 0, err
	}
	var p Parser
	var e Entry
	for {
		if _, err := in.Peek(in.Buffered() + 1); err != nil {
			return keys, err
		}
		came, _ := in.Peek(in.Buffered())
		for done := 0; ; keys++ {
			n, ok, err := p.Next(came[done:], &e)
			done += n
			if err == io.EOF {
				return keys, nil
			}
			if err != nil {
				return keys, err
			}
			if !ok {
				in.Discard(done)
				break
			}
			each(e)
		}
	}
}

// leave is how long the rest of a list that nobody wants any more is taken at most.
const leave = time.Minute

// takeLeave takes what the node has to say until it is silent or closes.
func takeLeave(conn net.Conn, silence time.Duration) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), leave)
	defer cancel()
	io.Copy(io.Discard, &dial.Patient{Conn: conn, Ctx: ctx, Silence: silence})
}

// explain says in one line what became of a list of which keys entries came before err.
func (t *Target) explain(ctx context.Context, keys int, err error) error {
	var no syscall.Errno
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the node was silent for %v: %w", t.Silence, os.ErrDeadlineExceeded)
	case err == io.EOF:
		err = errors.New("connection closed")
	case errors.As(err, &no):
		err = no // without the addresses, one of which is another each time
	}
	if keys > 0 {
		return fmt.Errorf("the list of keys broke off after %d: %w", keys, err)
	}
	return fmt.Errorf("no list of keys: %w", err)
}
