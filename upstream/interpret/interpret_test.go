package interpret

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

// More commands than a node is asked at once, in one write, are answered in their order.
func TestPipeline(t *testing.T) {
	m := proctest.Memcached(t, process.MemcachedConfig{Args: []string{"-B", "binary"}})
	a := interpreted(t, m.Addr)
	const n = 3*mostCommands + 7
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "set key%d 0 0 %d\r\n%s\r\nget key%d\r\nmg key%d t\r\n", i, i%100, strings.Repeat("x", i%100), i, i)
	}
	go io.WriteString(a, all.String())
	for i := range n {
		value := fmt.Sprintf("VALUE key%d 0 %d\r\n%s\r\n", i, i%100, strings.Repeat("x", i%100))
		for _, want := range strings.SplitAfter("STORED\r\n"+value+"END\r\nCLIENT_ERROR nodes of this pool speak the binary protocol, which cannot say this\r\n", "\n") {
			if want == "" {
				continue
			}
			if got, err := a.in.ReadString('\n'); got != want {
				t.Fatalf("command %d is answered with %.100q, %v, want %.100q", i, got, err, want)
			}
		}
	}
}

// node is the other side of one that is interpreted: what it says is the test's.
type node struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func scripted(t testing.TB) (*asker, *node) {
	t.Helper()
	near, far := net.Pipe()
	a := interpretedConn(t, far)
	n := &node{t, near, bufio.NewReader(near)}
	t.Cleanup(func() { near.Close() })
	return a, n
}

// asked reads a request, and returns the opaque that its response must have.
func (n *node) asked() (opaque string) {
	n.t.Helper()
	head := make([]byte, 24)
	if _, err := io.ReadFull(n.in, head); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.in.Discard(int(binary.BigEndian.Uint32(head[8:]))); err != nil {
		n.t.Fatal(err)
	}
	return string(head[12:16])
}

// packet is a response that was a success.
func packet(opcode byte, opaque, extras, key string, value int) string {
	b := []byte{0x81, opcode, 0, byte(len(key)), byte(len(extras)), 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(len(extras)+len(key)+value))
	return string(b) + opaque + "\x00\x00\x00\x00\x00\x00\x00\x07" + extras + key
}

// ends reads until the connection is closed, and returns what came before.
func (a *asker) ends() string {
	a.t.Helper()
	rest, err := io.ReadAll(a.in)
	if err != nil {
		a.t.Fatalf("it is not closed: %v", err)
	}
	return string(rest)
}

// What no node says ends the connection, on both sides; what was said before it is told.
func TestNodesThatLie(t *testing.T) {
	const flags = "\x00\x00\x00\x05"
	for name, c := range map[string]struct{ say, told string }{
		"in text":               {"STORED\r\nSTORED\r\nSTORED\r\n", ""},
		"the opaque of another": {packet(0x0c, "oops", flags, "key", 0), ""},
		"less than it counts":   {packet(0x0c, "\x00\x00\x00\x01", "", "", 0), ""},
		"a key of two lines":    {packet(0x0c, "\x00\x00\x00\x01", flags, "k\r\n", 0), ""},
		"too many words":        {packet(0x0a, "\x00\x00\x00\x01", "", "", maxWords+1), ""},
		"an answer twice":       {packet(0x0c, "\x00\x00\x00\x01", flags, "key", 0) + packet(0x0c, "\x00\x00\x00\x01", flags, "key", 0), "VALUE key 5 0\r\n\r\nEND\r\n"},
		"half a value":          {packet(0x0c, "\x00\x00\x00\x01", flags, "key", 9) + "half", "VALUE key 5 9\r\nhalf"},
	} {
		t.Run(name, func(t *testing.T) {
			a, n := scripted(t)
			io.WriteString(a, "mn\r\nget key\r\n")
			first := packet(0x0a, n.asked(), "", "", 0)
			n.asked()
			go func() {
				io.WriteString(n, first+c.say)
				if name == "half a value" {
					n.Close()
				}
			}()
			if got, _ := strings.CutPrefix(a.ends(), "MN\r\n"); got != c.told {
				t.Errorf("told %q, want %q", got, c.told)
			}
			if _, err := n.in.ReadByte(); err == nil {
				t.Error("the node is asked on")
			}
		})
	}
}

// What was asked, or answered, is passed on though what follows is not there yet.
func TestNothingWaitsForWhatIsNotThere(t *testing.T) {
	a, n := scripted(t)
	io.WriteString(a, "mn\r\nset key 0 0 5\r\nva")
	opaque := n.asked()
	io.WriteString(n, packet(0x0a, opaque, "", "", 0)+packet(0x01, "", "", "", 0)[:4])
	if line, err := a.in.ReadString('\n'); line != "MN\r\n" {
		t.Fatalf("told %q, %v", line, err)
	}
	io.WriteString(a, "lue\r\nmn\r\nmn")
	opaque = n.asked()
	n.asked()
	io.WriteString(n, packet(0x01, opaque, "", "", 0)[4:])
	if line, err := a.in.ReadString('\n'); line != "STORED\r\n" {
		t.Fatalf("told %q, %v", line, err)
	}
}

// Who asks for no answer, does not end a value, or closes, is asked for no more.
func TestAskersThatEnd(t *testing.T) {
	for name, words := range map[string]string{
		"noreply":            "delete key noreply\r\n",
		"q":                  "mg key q\r\n",
		"a value goes on":    "set key 0 0 1\r\nvalue\r\n",
		"a line goes on":     strings.Repeat("x", bufferSize+1),
		"it closes in a set": "set key 0 0 10\r\nva",
	} {
		t.Run(name, func(t *testing.T) {
			a, n := scripted(t)
			go func() {
				io.WriteString(a, words)
				if strings.HasPrefix(name, "it closes") {
					a.Close()
				}
			}()
			if rest, err := io.ReadAll(n.in); err != nil || strings.Contains(string(rest), "value") {
				t.Errorf("the node is told %q, %v", rest, err)
			}
		})
	}
}
