package text

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/codec"
)

// The judge of Parse is memcached itself. Its first line of answer to each line of
// the table stands in a file, made by
//
//	memcached -l 127.0.0.1 -p PORT &
//	go test ./codec/text -run Memcached -memcached 127.0.0.1:PORT
//
// which also asks it about lines made at random.
const answersFile = "testdata/memcached-1.6.18.txt"

var (
	memcachedAt = flag.String("memcached", "", "record "+answersFile+" from the memcached 1.6.18 at this address")
	memcachedN  = flag.Int("memcached.lines", 20_000, "how many random lines it is asked about")
)

const closed = "(closed)"

func TestMemcachedAgrees(t *testing.T) {
	if *memcachedAt != "" {
		record(t)
	}
	answers := readAnswers(t)
	for _, c := range lines {
		answer, ok := answers[c.line]
		if !ok && !oneProcess(c.line) {
			t.Errorf("%q is not in %s: record it again", c.line, answersFile)
		}
		if ok {
			judge(t, c.line, answer)
		}
	}
}

// oneProcess: what memcached answers to these is of no concern, the proxy has not got them.
func oneProcess(line string) bool {
	for _, word := range []string{"watch", "lru", "slabs", "extstore", "cache_memlimit", "refresh_certs"} {
		if strings.HasPrefix(strings.TrimLeft(line, " "), word) {
			return true
		}
	}
	return false
}

// judge compares what Parse makes of line with memcached's answer to it.
func judge(t *testing.T, line, answer string) {
	t.Helper()
	var req codec.Request
	Parse([]byte(line), &req)
	switch {
	case req.Op == codec.OpNone:
		want := strings.TrimSuffix(req.Fault.Line(), "\r\n")
		if req.Fault == codec.FaultClose {
			want = closed
		} else if req.Quiet() {
			want = ""
		}
		if answer != want {
			t.Errorf("%q: memcached answers %q, we %q", line, answer, want)
		}
	case req.Op == codec.OpQuit:
		if answer != closed {
			t.Errorf("%q: memcached answers %q, we close", line, answer)
		}
	case req.Op.Meta(), req.Op == codec.OpStats: // judged by the node
	case req.Quiet() && answer != "", refused(answer):
		t.Errorf("%q: memcached answers %q, we take it, quiet: %v", line, answer, req.Quiet())
	}
}

// refused reports whether answer speaks of the line; one error speaks of the value
// that the key has.
func refused(answer string) bool {
	if strings.HasSuffix(answer, "cannot increment or decrement non-numeric value") {
		return false
	}
	return strings.HasPrefix(answer, "ERROR") || strings.HasPrefix(answer, "CLIENT_ERROR")
}

func readAnswers(t *testing.T) map[string]string {
	data, err := os.ReadFile(answersFile)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{}
	for row := range strings.Lines(string(data)) {
		line, answer, _ := strings.Cut(strings.TrimSpace(row), "\t")
		key, err := strconv.Unquote(line)
		if err != nil {
			t.Fatalf("%s: %v", row, err)
		}
		if answers[key], err = strconv.Unquote(answer); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
	}
	return answers
}

func record(t *testing.T) {
	var file bytes.Buffer
	a := asker{t: t}
	for _, c := range lines {
		if !oneProcess(c.line) {
			fmt.Fprintf(&file, "%q\t%q\n", c.line, a.ask(c.line))
		}
	}
	if err := os.WriteFile(answersFile, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range *memcachedN {
		line := randomLine(rng)
		if oneProcess(line) {
			continue
		}
		answer := a.ask(line)
		judge(t, line, answer)
		a.compareSent(line, answer)
	}
}

// asker puts lines to a memcached, over one connection as long as that lives.
type asker struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

// ask sends a line, and its value if one follows, and a noop. It returns the first
// line of the answer, which is empty if there was none before the noop's.
func (a *asker) ask(line string) string {
	if a.c == nil {
		c, err := net.Dial("tcp", *memcachedAt)
		if err != nil {
			a.t.Fatal(err)
		}
		a.c, a.r = c, bufio.NewReader(c)
	}
	var req codec.Request
	Parse([]byte(line), &req)
	out := []byte(line)
	if req.Op.Class() == codec.ClassStore {
		out = append(out, strings.Repeat("v", int(min(req.Value, 4<<20)))+"\r\n"...)
	}
	out = append(out, "mn\r\n"...)
	if err := a.c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		a.t.Fatal(err)
	}
	go func(c net.Conn) { _, _ = c.Write(out) }(a.c) // the answer may come, or the end, before all is written
	var first string
	for n := 0; ; n++ {
		s, err := a.r.ReadString('\n')
		s = strings.TrimSuffix(s, "\r\n")
		switch {
		case err == nil && s == "MN" && (n > 0 || req.Op != codec.OpMetaNoop):
			return first
		case err == nil && n == 0:
			first = s
		case err == io.EOF && n == 0:
			first = closed
		}
		if err != nil || req.Value > 4<<20 { // the value is not sent: the connection is of no more use
			a.close()
			return first
		}
	}
}

func (a *asker) close() {
	_ = a.c.Close()
	a.c = nil
}

// compareSent demands that memcached refuses what a node is sent if, and as, it
// refused what the client wrote.
func (a *asker) compareSent(line, answer string) {
	var req codec.Request
	Parse([]byte(line), &req)
	if req.Op == codec.OpNone || req.Op.MultiKey() || req.Flags&codec.FlagClean != 0 || req.Quiet() && !req.Op.Meta() {
		return
	}
	sent := string(AppendLine(nil, []byte(line), &req))
	if got := a.ask(sent); refused(got) != refused(answer) || refused(got) && got != answer {
		a.t.Errorf("%q: memcached answers %q, but to %q %q", line, answer, sent, got)
	}
}

var (
	verbs = strings.Fields("get gets bget gat gats set add replace append prepend cas incr decr touch delete flush_all verbosity " +
		"version stats mg ms md ma me mn mx GET POST foo aoo soo shutdown quit x")
	tokens = []string{"k", "0", "1", "5", "-1", "+5", "-0", "007", "noreply", "x", "5\t", "\t5", "5\tx", "4294967297", "-4294967291",
		"2147483646", "9223372036854775808", "18446744073709551615", "18446744073709551616", "-18446744073709551615",
		"b", "q", "v", "k", "c", "T0", "Tx", "ME", "MEx", "M", "C1", "Cx", "O1", "F1", "I", "N0", "J1", "D1", "Zm9v", "!!!", "A===",
		"HTTP/1.1", "\x00", "\r", "\t", "", " ", "1", "\xff", "@", key250, key251, "qq", "items", "reset"}
)

func randomLine(rng *rand.Rand) string {
	var line strings.Builder
	if rng.IntN(20) == 0 {
		line.WriteString(" ")
	}
	line.WriteString(verbs[rng.IntN(len(verbs))])
	n := rng.IntN(8)
	if rng.IntN(20) == 0 {
		n += rng.IntN(22)
	}
	for range n {
		line.WriteString(" " + tokens[rng.IntN(len(tokens))])
	}
	if rng.IntN(4) == 0 {
		line.WriteString(" noreply")
	}
	if rng.IntN(8) == 0 {
		return line.String() + "\n"
	}
	return line.String() + "\r\n"
}
