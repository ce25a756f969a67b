package interpret

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

// asker is who asks in text, of a node that speaks it or of one that is interpreted.
type asker struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

// connect connects to addr.
func connect(t testing.TB, addr string) *asker {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newAsker(t, c)
}

func newAsker(t testing.TB, c net.Conn) *asker {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(proctest.Patience))
	return &asker{t, c, bufio.NewReader(c)}
}

// interpreted connects to addr, where binary is spoken.
func interpreted(t testing.TB, addr string) *asker {
	t.Helper()
	node, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return interpretedConn(t, node)
}

func interpretedConn(t testing.TB, node net.Conn) *asker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a := connect(t, ln.Addr().String())
	far, err := ln.Accept()
	if err == nil {
		err = Start(far, node)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// says is the answer to a command and to an mn behind it, which ends it.
func (a *asker) says(command string) string {
	a.t.Helper()
	go io.WriteString(a, command+"mn\r\n")
	var all strings.Builder
	for {
		line, err := a.in.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			a.t.Fatalf("%.80q is answered with %.200q, %v", command, all.String(), err)
		}
		if line == "MN\r\n" {
			return all.String()
		}
	}
}

// A memcached that speaks binary is, as interpreted, one that speaks text.
func TestDifferential(t *testing.T) {
	speaks := proctest.Memcached(t, process.MemcachedConfig{})
	other := proctest.Memcached(t, process.MemcachedConfig{Args: []string{"-B", "binary"}})
	a, b := connect(t, speaks.Addr), interpreted(t, other.Addr)
	g := generator{rand.New(rand.NewPCG(1, 2))}
	var before []string
	for range 6_000 {
		command := g.command()
		before = append(before, fmt.Sprintf("%.120q", command))
		if want, got := a.says(command), b.says(command); got != want {
			t.Fatalf("to %.200q memcached says\n%.300q, interpreted\n%.300q; before that:\n%s", command, want, got, strings.Join(before[max(0, len(before)-20):], "\n"))
		}
	}
}

// generator makes commands that nodes are sent and that binary can say, by far not all of
// which succeed.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) key() string { return fmt.Sprintf("key%d", g.IntN(6)) }

func (g generator) value() string {
	switch g.IntN(8) {
	case 0:
		return strings.Repeat("x", g.IntN(100_000))
	case 1:
		return ""
	case 2, 3, 4:
		return "value"
	case 5:
		return strings.Repeat("y", 1<<20)
	}
	// Of counters none gets shorter: whether memcached then keeps blanks behind it, hangs on
	// whether an answer with it was still being sent.
	return fmt.Sprint(5000 + g.IntN(1000))
}

func (g generator) exptime() string {
	return g.one("0", "0", "0", "100", "2000000000", "-1", "2592001", "+100", "4294967396", "2147483648")
}

// when is an exptime, or none; where a value follows none is taken for a line, as it is by memcached.
func (g generator) when() string { return g.one(g.exptime(), g.exptime(), g.exptime(), "soon") }

func (g generator) cas() string { return g.one("", "", "", "1", "+") + fmt.Sprint(g.IntN(10)) }

func (g generator) command() string {
	switch g.IntN(10) {
	case 0, 1:
		v := g.value()
		return fmt.Sprintf("%s %s %d %s %d\r\n%s\r\n", g.one("set", "set", "add", "replace", "append", "prepend"), g.key(), g.IntN(3), g.exptime(), len(v), v)
	case 2:
		return fmt.Sprintf("%s %s\r\n", g.one("get", "gets"), g.one(g.key(), g.key()+" "+g.key()+" "+g.key()))
	case 3:
		return fmt.Sprintf("%s %s\r\n", g.one("incr", "decr"), g.key()+g.one(" 1", " 20", " +5", " one"))
	case 4:
		v := g.value()
		return fmt.Sprintf("cas %s 5 %s %d %s\r\n%s\r\n", g.key(), g.exptime(), len(v), g.cas(), v)
	case 5:
		return g.one("delete "+g.key()+"\r\n", "touch "+g.key()+" "+g.when()+"\r\n", "gat "+g.when()+" "+g.key()+"\r\n",
			"gats "+g.when()+" "+g.key()+" "+g.key()+"\r\n", "version\r\n", "stats reset\r\n", "stats nonsense\r\n", "flush_all\r\n", "flush_all 0\r\n", "flush_all -1\r\n")
	}
	return g.meta()
}

// meta makes a meta command, whose key is in base64 at times.
func (g generator) meta() string {
	key, flags := g.key(), g.flags("k", "Oopaque")
	if g.IntN(3) == 0 {
		key, flags = base64.StdEncoding.EncodeToString([]byte(" \r\n"+key)), " b"+flags
	}
	if g.IntN(3) == 0 {
		flags += " C" + g.one("", "", "", "-") + g.cas()
	}
	switch g.IntN(4) {
	case 0:
		flags = strings.ReplaceAll(flags, " C", " O")
		if strings.Contains(flags, " b") { // memcached forgets it of some, and breaks the line by such a key
			flags = strings.ReplaceAll(flags, " k", "")
		}
		return fmt.Sprintf("mg %s%s%s%s\r\n", key, flags, g.flags("f", "c", "s", "v"), g.one("", " T"+g.when()))
	case 1:
		v := g.value()
		v = v[:min(len(v), 100_000)] // one that is too large removes what was there, whatever the mode: not in binary
		return fmt.Sprintf("ms %s %d%s%s%s\r\n%s\r\n", key, len(v), flags, g.flags("c", g.one("F77", "F77", "F+4294967373", "F-"), "T"+g.when()), g.one("", " MS", " ME", " Ma", " MP", " MR", " Mx"), v)
	case 2:
		return fmt.Sprintf("md %s%s\r\n", key, flags)
	}
	flags += g.flags("v", "c", g.one("J5000", "J5000", "Jx"), g.one("D7", "D+7", "Dx"))
	if !strings.Contains(flags, " b") { // the same
		flags += g.flags("N" + g.when())
	}
	return fmt.Sprintf("ma %s%s%s\r\n", key, flags, g.one("", " MI", " MD", " M-", " Mx"))
}

// flags is some of all.
func (g generator) flags(all ...string) (some string) {
	for _, f := range all {
		if g.IntN(2) == 0 {
			some += " " + f
		}
	}
	return some
}
