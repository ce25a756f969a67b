package succession

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func pair(t *testing.T) (a, b *Link) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = Open(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

func receive(t *testing.T, l *Link) Message {
	t.Helper()
	m, err := l.Receive(time.Now().Add(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMessages(t *testing.T) {
	a, b := pair(t)
	for _, want := range []Body{
		{Kind: Wanted, Names: []string{"a", "b"}, GivenUp: true},
		{Kind: Serving},
		{Kind: Owed, Debt: Debt{Node: "n", Left: []string{"127.0.0.1:1"}, Untold: true, Keys: []byte("\x02\x00k")}},
		{Kind: Over},
	} {
		if err := a.Send(Message{Body: want}); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, b); !reflect.DeepEqual(got.Body, want) || got.File != nil {
			t.Errorf("%+v came as %+v", want, got)
		}
	}
	a.Close()
	if _, err := b.Receive(time.Time{}); err != io.EOF {
		t.Errorf("the other side has gone, and that is %v", err)
	}
}

// A client that was given away is the same connection, with its input, however long.
func TestClients(t *testing.T) {
	a, b := pair(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, size := range []int{0, 1, MaxPart, MaxPart + 1, 5*MaxPart + 7} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f, err := server.(*net.TCPConn).File()
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		input := bytes.Repeat([]byte{'x'}, size)
		sent := make(chan error, 1)
		go func() {
			sent <- a.Send(Message{Body: Body{Kind: Client, Input: input}, File: f})
			f.Close()
		}()
		m := receive(t, b)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Input, input) {
			t.Errorf("%d bytes came as %d", size, len(m.Input))
		}
		m.File.WriteString("hello")
		m.File.Close()
		if text, err := io.ReadAll(client); string(text) != "hello" {
			t.Errorf("the client reads %q, %v", text, err)
		}
		client.Close()
	}
}

func TestKeysOfADebt(t *testing.T) {
	var d Debt
	type key struct {
		text   string
		base64 bool
	}
	var want, got []key
	for i, room := 0, true; room; i++ {
		k := key{strings.Repeat("k", 1+i%250), i%2 == 0}
		want = append(want, k)
		room = d.Add([]byte(k.text), k.base64)
	}
	d.Each(func(text []byte, base64 bool) { got = append(got, key{string(text), base64}) })
	if !reflect.DeepEqual(got, want) || len(d.Keys) < MaxPart {
		t.Errorf("%d keys came of %d, in %d bytes", len(got), len(want), len(d.Keys))
	}
}

func TestGarbageIsRefused(t *testing.T) {
	a, b := pair(t)
	for _, garbage := range []string{"no gob", strings.Repeat("x", maxMessage)} {
		if _, err := a.conn.Write([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
		if m, err := b.Receive(time.Now().Add(20 * time.Second)); err == nil || err == io.EOF {
			t.Errorf("%.10q is %+v, %v", garbage, m, err)
		}
	}
}

func TestSocketsAreTakenByTheirAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	var given Sockets
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"tcp", ":0"}, {"unix", path}} {
		ln, err := net.Listen(at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		f, err := File(ln)
		if err != nil {
			t.Fatal(err)
		}
		Keep(ln, true)
		ln.Close()
		again, err := Listen(f)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		given = append(given, again)
	}
	local, any := given[0], given[1]
	port := func(ln net.Listener) string { _, p, _ := net.SplitHostPort(ln.Addr().String()); return p }
	for _, c := range []struct {
		network, address string
		want             net.Listener
	}{
		{"tcp", "127.0.0.2:" + port(local), nil},
		{"tcp", "127.0.0.1:1", nil},
		{"unix", path + "x", nil},
		{"unix", path, given[2]},
		{"unix", path, nil},
		{"tcp", "[::]:" + port(any), any},
		{"tcp", "localhost:" + port(any), nil},
		{"tcp", "127.0.0.1:" + port(local), local},
		{"tcp", "127.0.0.1:" + port(local), nil},
	} {
		if got := given.Take(c.network, c.address); got != c.want {
			t.Errorf("at %s %s there is %v, want %v", c.network, c.address, got, c.want)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file of a socket that is still open is gone: %v", err)
	}
	if len(given) > 0 {
		t.Errorf("%v are left", given)
	}
}
