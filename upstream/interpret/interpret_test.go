package interpret

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
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
	if err != nil && !errors.Is(err, syscall.ECONNRESET) { // not all that was asked was read
		a.t.Fatalf("it is not closed: %v", err)
	}
	return string(rest)
}

// noneRuns waits until nothing is interpreted any more.
func noneRuns(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "no goroutine is left", func() bool {
		all := make([]byte, 1<<20)
		return !strings.Contains(string(all[:runtime.Stack(all, true)]), "interpret.(*interpreter)")
	})
}

// What no node says ends the connection, on both sides; what was said before it is told.
func TestNodesThatLie(t *testing.T) {
	const flags = "\x00\x00\x00\x05"
	const opaque = "\x00\x00\x00\x01"
	for name, c := range map[string]struct{ ask, say, told string }{
		"in text":               {"get key", "STORED\r\nSTORED\r\nSTORED\r\n", ""},
		"the opaque of another": {"get key", packet(0x0c, "oops", flags, "key", 0), ""},
		"less than it counts":   {"get key", packet(0x0c, opaque, "", "", 0), ""},
		"a key of two lines":    {"get key", packet(0x0c, opaque, flags, "k\r\n", 0), ""},
		"too many words":        {"mn", packet(0x0a, opaque, "", "", maxWords+1), ""},
		"an answer twice":       {"get key", packet(0x0c, opaque, flags, "key", 0) + packet(0x0c, opaque, flags, "key", 0), "VALUE key 5 0\r\n\r\nEND\r\n"},
		"half a value":          {"get key", packet(0x0c, opaque, flags, "key", 9) + "half", "VALUE key 5 9\r\nhalf"},
		"that it has stored":    {"get key", packet(0x01, opaque, "", "", 0), ""},
		"that it is there":      {"incr key 1", packet(0x0a, opaque, "", "", 0), ""},
		"the same in meta":      {"ma key v", packet(0x0a, opaque, "", "", 0), ""},
		"what nobody asked":     {"mg key t", packet(0x0c, opaque, flags, "key", 0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, n := scripted(t)
			io.WriteString(a, "mn\r\n"+c.ask+"\r\n")
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
			noneRuns(t)
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
			noneRuns(t)
		})
	}
}

// Whichever side ends, while the node owes as many answers as it may: nothing stays, and nothing
// more comes to the node.
func TestEndsThatNobodyReads(t *testing.T) {
	for name, end := range map[string]func(*asker, *node){
		"the node resets":  func(_ *asker, n *node) { n.Close() },
		"the asker closes": func(a *asker, _ *node) { a.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, n := scripted(t)
			io.WriteString(a, strings.Repeat("mn\r\n", 2*mostCommands))
			for range mostCommands {
				n.asked()
			}
			end(a, n)
			noneRuns(t)
			if rest, _ := io.ReadAll(n.in); len(rest) > 0 {
				t.Errorf("the node is told %q", rest)
			}
		})
	}
}

// What a node that stood still had not taken when the asker went, does not come to it later.
func TestNothingComesLater(t *testing.T) {
	a, n := scripted(t)
	io.WriteString(a, "set key 0 0 5\r\nvalue\r\nset key 0 0 5\r\nagain\r\n")
	if _, err := n.Read(make([]byte, 1)); err != nil { // the rest of this write waits for the node
		t.Fatal(err)
	}
	io.WriteString(a, "set key 0 0 5\r\nthird\r\n")
	a.Close()
	noneRuns(t)
	if rest, err := io.ReadAll(n.in); len(rest) > 0 || err != nil {
		t.Errorf("the node is told %q, %v", rest, err)
	}
}
