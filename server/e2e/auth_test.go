package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/config"
	"magent/server/e2e/harness"
)

// users writes a file of users in memcached's form.
func users(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// strangersSay is what clients say that have not said who they are, each over a connection
// of its own, a line of answer to each. (To several in one packet memcached gives one
// answer.)
var strangersSay = [][]string{
	{"get a\r\n", "version\r\n", "quit\r\n", "stats\r\n", "flush_all\r\n", "mn\r\n", "\r\n", "set\r\n", "set a 0 0 -1\r\n", "SET a 0 0 7\r\n", "watch\r\n"},
	{"set a 0 0 7\r\nfoo baz\r\n", "set a 0 0 7\r\nfoo bar\r\n", "get a\r\n", "set a 0 0 7\r\nfoo baz\r\n"},
	{"set a x x 7 noreply\r\nfoo bar\r\n", "get a\r\n"},
	{" set  a 0 0 7\r\nfoo bar\r\n"},
	{"set a 0 0 7\nfoo bar\r\n"},
	{"set " + strings.Repeat("k", 300) + " 0 0 7\r\nfoo bar\r\n"},
	{"set a 0 0 8\r\nfoo bar \r\n"},
	{"set a 0 0 7 1 2\r\nfoo bar\r\n"},
	{"set a 0 0 7\r\nfoo:bar\r\n", "set a 0 0 0\r\n\r\n", "set a 0 0 6\r\nfoo ba\r\n", "set a 0 0 7\r\nfoo barXX", "set a 0 0 7\r\nfoo bar\n\n"},
	{"add a 0 0 7\r\n", "ms a 7\r\n", "cas a 0 0 7 1\r\n", "set a 0 0 8\r\nbob p:w:\r\n", "set a 0 0 7\r\nbob p:w\r\n", "get b\r\n"},
	{"set a 0 0 2000\r\nfoo " + strings.Repeat("x", 1996) + "\r\n", "get a\r\n"},
}

// TestStrangers has strangers talk with memcached -Y and with a proxy, which tell them the
// same. (That no node hears of it, server/testdata/transcripts/auth shows.)
func TestStrangers(t *testing.T) {
	file := users(t, "foo:bar", "bob:p:w")
	direct := harness.Memcached(t, "-Y", file)
	p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 1, Set: func(c *config.Config) { c.Access.AuthFile = file }})
	for _, words := range strangersSay {
		want, got := dialogue(t, direct.Addr, words), dialogue(t, p.Addr, words)
		for i, word := range words {
			say := got[i]
			if i > 0 && strings.HasPrefix(word, "get ") && strings.HasPrefix(want[i], "VALUE") {
				continue // memcached has stored what the user wrote after that
			}
			if say != want[i] {
				t.Errorf("to %.40q the proxy says %q, memcached %q", word, say, want[i])
			}
		}
	}
}

// dialogue is the first line of the answer to each of words, said one after the other.
func dialogue(t *testing.T, addr string, words []string) (answers []string) {
	t.Helper()
	c := dial(t, addr)
	for _, word := range words {
		if err := c.Send([]byte(word)); err != nil {
			t.Fatalf("%q: %v", word, err)
		}
		line, err := c.Line()
		if err != nil {
			t.Fatalf("%s does not answer %.40q: %v", addr, word, err)
		}
		answers = append(answers, line)
	}
	return answers
}

// TestBinaryStrangers is the same for the binary protocol and memcached -S. That has no
// users in this test, so it lets nobody in.
func TestBinaryStrangers(t *testing.T) {
	t.Setenv("SASL_CONF_PATH", t.TempDir())
	direct := harness.Memcached(t, "-S")
	p := harness.Proxy(t, harness.Topology{Copies: 1, Nodes: 1, Loops: 1, Set: func(c *config.Config) { c.Access.AuthFile = users(t, "foo:bar") }})
	wrong := packet{opcode: 0x21, key: "PLAIN", value: "\x00foo\x00baz"}
	for _, s := range [][]packet{
		{{opcode: 0x0b}, wrong, {opcode: 0x22, key: "PLAIN", value: "\x00foo\x00baz"}, {opcode: 0x00, key: "k"}},
		{wrong, {opcode: 0x21, key: "X", value: "y"}, {opcode: 0x21, key: strings.Repeat("P", 40), value: "x"}, {opcode: noop}},
		{wrong, wrong, {opcode: 0x01, extras: "\x00\x00\x00\x00\x00\x00\x00\x00", key: "k", value: "v"}},
		{{opcode: 0x09, key: "k"}}, {{opcode: 0x11, extras: "\x00\x00\x00\x00\x00\x00\x00\x00", key: "k", value: "v"}}, {{opcode: 0x17}}, {{opcode: 0x07}},
		{{opcode: 0x10}}, {{opcode: 0x08}}, {{opcode: 0x1b}}, {{opcode: 0x99}}, {{opcode: 0x00}}, {{opcode: 0x01, key: "k"}},
		{{opcode: 0x0b, key: "k"}}, {{opcode: 0x20, key: "k"}}, {{opcode: 0x20, value: "v"}}, {{opcode: 0x21, value: "v"}},
		{{opcode: 0x22, value: "v"}}, {{opcode: 0x21, key: strings.Repeat("P", 251), value: "x"}}, {{opcode: 0x21, extras: "1234", key: "PLAIN", value: "\x00foo\x00baz"}},
	} {
		want, got := toStranger(t, direct.Addr, s), toStranger(t, p.Addr, s)
		if got != want {
			t.Errorf("to %v the proxy says\n%q, memcached\n%q", s, got, want)
		}
	}
}

// toStranger is all that addr answers to packets, sent one after the other, the
// last of which has the connection closed.
func toStranger(t *testing.T, addr string, packets []packet) string {
	t.Helper()
	c := dial(t, addr)
	var all strings.Builder
	for i, p := range packets {
		if err := c.Send(p.append(nil, uint32(i), 0)); err != nil {
			t.Fatal(err)
		}
		head, err := c.Full(headSize)
		if err != nil {
			t.Fatalf("%s does not answer %+v: %q, %v", addr, p, head, err)
		}
		body, err := c.Full(int(binary.BigEndian.Uint32(head[8:])))
		if err != nil {
			t.Fatal(err)
		}
		if head[1] == 0x0b && p.key == "" {
			body = nil // it names a version
			copy(head[8:12], "\x00\x00\x00\x00")
		}
		fmt.Fprintf(&all, "%s%s|", head, body)
	}
	rest, err := c.Rest()
	if err != nil {
		t.Fatalf("%s does not close the connection after %+v: %v", addr, packets, err)
	}
	return all.String() + string(rest)
}

// TestNodesThatAskWhoComes is a pool of memcacheds with -Y: whatever magent asks of them, it
// has said who it is. One that is killed comes back empty, and is refilled.
func TestNodesThatAskWhoComes(t *testing.T) {
	file := users(t, "magent:b:r")
	nodes := [2]*harness.Node{harness.Memcached(t, "-Y", file), harness.Memcached(t, "-Y", file)}
	cfg := config.Default()
	cfg.Pools = []config.Pool{config.DefaultPool()}
	cfg.Loops, cfg.Pools[0].Copies = 1, [][]config.Node{{nodes[0].Config()}, {nodes[1].Config()}}
	cfg.Pools[0].Timeout, cfg.Pools[0].ConnectTimeout = 2*time.Second, 2*time.Second
	cfg.Pools[0].Access.AuthFile = file
	p := harness.Serve(t, cfg)
	c := dial(t, p.Addr)
	converse(t, c, everyVerb)
	const keys = 500
	storeKeys(t, c, keys)
	comesBack(t, p, nodes[0])
	direct := dial(t, nodes[0].Addr)
	if got, err := direct.Do("set login 0 0 10\r\nmagent b:r\r\n", 1); err != nil || got != "STORED" {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range keys {
		if got, err := direct.Do(fmt.Sprintf("get key-%d\r\n", i), 3); err != nil || got != fmt.Sprintf("VALUE key-%d 0 1\n%d\nEND", i, i%10) {
			t.Fatalf("the node has of key-%d %q, %v", i, got, err)
		}
	}
}

// TestNodesThatDoNotLetMagentIn: who asks for a user that magent is not is a node that is
// down, and the client is told why.
func TestNodesThatDoNotLetMagentIn(t *testing.T) {
	node := harness.Memcached(t, "-Y", users(t, "foo:bar"))
	cfg := config.Default()
	cfg.Pools = []config.Pool{config.DefaultPool()}
	cfg.Loops, cfg.Pools[0].Copies = 1, [][]config.Node{{node.Config()}}
	cfg.Pools[0].Access.AuthFile = users(t, "foo:other")
	p := harness.Serve(t, cfg)
	c := dial(t, p.Addr)
	why := regexp.MustCompile(`^SERVER_ERROR node [0-9.:]*: (it does not let magent in|down \(it (does not let magent in|was told who comes, and answered "CLIENT_ERROR authentication failure")\))$`)
	proctest.Eventually(t, "the client is told why", func() bool { // at first it is down and nobody has said why
		got, err := c.Do("get k\r\n", 1)
		if err != nil || !strings.HasPrefix(got, "SERVER_ERROR node ") {
			t.Fatalf("%q, %v", got, err)
		}
		return why.MatchString(got)
	})
}

// storeKeys sets key-0 and so on to a digit each.
func storeKeys(t *testing.T, c *harness.Client, keys int) {
	t.Helper()
	for i := range keys {
		if got, err := c.Do(fmt.Sprintf("set key-%d 0 0 1\r\n%d\r\n", i, i%10), 1); err != nil || got != "STORED" {
			t.Fatalf("set: %q, %v", got, err)
		}
	}
}

// comesBack kills the first node, and waits until it is trusted again.
func comesBack(t *testing.T, p *harness.Proxied, node *harness.Node) {
	t.Helper()
	node.Kill()
	node.Restart()
	if !proctest.Within(2*harness.Patience, func() bool {
		n := p.Server.Snapshot().Nodes[0]
		return n.State == "up" && len(n.Falls) > 0
	}) {
		t.Fatalf("the node does not come back: %+v", p.Server.Snapshot().Nodes[0])
	}
}
