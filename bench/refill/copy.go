package refill

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// names are the keys of a node, one behind the other.
type names struct {
	bytes []byte
	ends  []int
}

func (n *names) len() int { return len(n.ends) }

func (n *names) at(i int) []byte {
	from := 0
	if i > 0 {
		from = n.ends[i-1]
	}
	return n.bytes[from:n.ends[i]]
}

// beginning counts those that begin with prefix.
func (n *names) beginning(prefix string) (count int) {
	for i := range n.len() {
		if bytes.HasPrefix(n.at(i), []byte(prefix)) {
			count++
		}
	}
	return count
}

// node is a connection to a memcached. It ends when its context does.
type node struct {
	c       net.Conn
	r       *bufio.Reader
	release func() bool
}

// bufferSize is how much is read and written at once.
const bufferSize = 64 << 10

func dial(ctx context.Context, addr string) (*node, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &node{c, bufio.NewReaderSize(c, bufferSize), context.AfterFunc(ctx, func() { c.Close() })}, nil
}

func (n *node) close() {
	n.release()
	n.c.Close()
}

// askAgain is when a node that is busy with a list of keys is asked for another.
const askAgain = 20 * time.Millisecond

// list asks the memcached at addr for the names of its keys.
func list(ctx context.Context, addr string) (*names, error) {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		n, busy, err := listOnce(ctx, addr)
		if !busy {
			return n, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("refill: no list of the keys of %s, which is busy: %w", addr, ctx.Err())
		}
	}
}

func listOnce(ctx context.Context, addr string) (all *names, busy bool, err error) {
	n, err := dial(ctx, addr)
	if err != nil {
		return nil, false, fmt.Errorf("refill: %w", err)
	}
	defer n.close()
	if _, err := io.WriteString(n.c, "lru_crawler metadump hash\r\n"); err != nil {
		return nil, false, fmt.Errorf("refill: %w", err)
	}
	all = new(names)
	for {
		line, err := n.r.ReadSlice('\n')
		if err != nil {
			return nil, false, fmt.Errorf("refill: the list of the keys of %s: %w", addr, err)
		}
		name, isKey := bytes.CutPrefix(line, []byte("key="))
		switch {
		case isKey:
		case string(line) == "END\r\n":
			return all, false, nil
		case string(line) == "OK\r\n": // 1.6.43 and later begin with that
			continue
		case bytes.HasPrefix(line, []byte("BUSY")):
			return nil, true, nil
		default:
			return nil, false, fmt.Errorf("refill: %s has for a list of its keys %q", addr, line)
		}
		name, _, _ = bytes.Cut(name, []byte(" "))
		if bytes.IndexByte(name, '%') >= 0 {
			plain, err := url.PathUnescape(string(name))
			if err != nil {
				return nil, false, fmt.Errorf("refill: a key of %s: %w", addr, err)
			}
			name = []byte(plain)
		}
		all.bytes = append(all.bytes, name...)
		all.ends = append(all.ends, len(all.bytes))
	}
}

// Copy copies what the memcached at from holds to that at to, with flags and TTLs, and
// says how many keys that were. It is the yardstick of a refill: the list of the keys,
// and then an mg and an ms for each, over a connection to either, as quickly as they
// take it. Nothing is verified: what changes meanwhile may end up old at to.
func Copy(ctx context.Context, from, to string) (copied int, err error) {
	all, err := list(ctx, from)
	if err != nil {
		return 0, err
	}
	source, err := dial(ctx, from)
	if err != nil {
		return 0, fmt.Errorf("refill: %w", err)
	}
	target, err := dial(ctx, to)
	if err != nil {
		source.close()
		return 0, fmt.Errorf("refill: %w", err)
	}
	asked := make(chan error)
	go func() { asked <- source.ask(all) }()
	copied, err = target.take(source, all)
	if err == nil {
		err = target.settle()
	}
	source.close()
	target.close()
	if askErr := <-asked; err == nil {
		err = askErr
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return copied, fmt.Errorf("refill: the copy of %s broke off after %d of %d keys: %w", from, copied, all.len(), err)
	}
	return copied, nil
}

// ask asks n for every key. Answers come in the order of the keys, so none is named.
func (n *node) ask(all *names) error {
	out := bufio.NewWriterSize(n.c, bufferSize)
	for i := range all.len() {
		out.WriteString("mg ")
		out.Write(all.at(i))
		out.WriteString(" v f t\r\n")
	}
	return out.Flush() // says what any write before it met, too
}

// take stores at n what source answers.
func (n *node) take(source *node, all *names) (copied int, err error) {
	out := make([]byte, 0, 2*bufferSize)
	now := time.Now().Unix()
	for i := range all.len() {
		line, err := source.r.ReadSlice('\n')
		if err != nil {
			return copied, err
		}
		if string(line) == "EN\r\n" { // it has expired since
			continue
		}
		size, flags, ttl, ok := answer(line)
		if !ok {
			return copied, fmt.Errorf("%q is answered with %q", all.at(i), line)
		}
		if ttl > longestTTL {
			ttl += now // a longer one is taken for a point in time
		}
		out = append(append(out, "ms "...), all.at(i)...)
		out = strconv.AppendUint(append(out, ' '), size, 10)
		out = strconv.AppendUint(append(out, " F"...), flags, 10)
		out = strconv.AppendInt(append(out, " T"...), max(ttl, 0), 10) // -1 is none
		out = append(out, " q\r\n"...)
		begin := len(out)
		out = slices.Grow(out, int(size)+2)[:begin+int(size)+2] // with its line end
		if _, err := io.ReadFull(source.r, out[begin:]); err != nil {
			return copied, err
		}
		copied++
		if len(out) >= bufferSize {
			if _, err := n.c.Write(out); err != nil {
				return copied, err
			}
			out = out[:0]
		}
	}
	_, err = n.c.Write(append(out, "mn\r\n"...))
	return copied, err
}

// longestTTL is the longest TTL in seconds that memcached takes for one.
const longestTTL = 30 * 24 * 60 * 60

// answer reads "VA 32 f0 t-1\r\n".
func answer(line []byte) (size, flags uint64, ttl int64, ok bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\r\n")), []byte("VA "))
	sizeText, rest, ok1 := bytes.Cut(rest, []byte(" f"))
	flagsText, ttlText, ok2 := bytes.Cut(rest, []byte(" t"))
	size, ok3 := number(sizeText)
	flags, ok4 := number(flagsText)
	if string(ttlText) == "-1" {
		return size, flags, -1, ok && ok1 && ok2 && ok3 && ok4
	}
	left, ok5 := number(ttlText)
	return size, flags, int64(left), ok && ok1 && ok2 && ok3 && ok4 && ok5
}

// number reads a number of ten digits at most: sizes, flags and times have no more.
func number(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return n, len(b) > 0 && len(b) <= 10
}

// settle waits until n has carried out all it was told. It says nothing of what it has
// stored, and so the first word but MN is of what it has not.
func (n *node) settle() error {
	line, err := n.r.ReadString('\n')
	if err == nil && line != "MN\r\n" {
		err = fmt.Errorf("a key was not stored: %q", line)
	}
	return err
}
