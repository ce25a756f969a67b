package sealed

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"magent/server/secret/secrettest"
)

// move brings what is sealed from one side to the other in pieces, and returns what the other
// has opened.
func move(t testing.TB, to *Conn, sealed []byte, piece func() int, room int) (plain []byte, err error) {
	t.Helper()
	b := make([]byte, room)
	for len(sealed) > 0 {
		n := min(max(1, piece()), len(sealed))
		to.Feed(sealed[:n])
		sealed = sealed[n:]
		for full := true; full; {
			var m int
			m, err = to.Open(b)
			plain = append(plain, b[:m]...)
			full = m == len(b) && err == nil
		}
		if err != nil {
			return plain, err
		}
	}
	return plain, nil
}

// Whatever the pieces are in which it comes, what was sealed is opened, and so is the end.
func TestMovedByHand(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		ours, theirs := detached(t, version)
		rng := rand.New(rand.NewPCG(1, uint64(version)))
		for round := range 50 {
			from, to := ours, theirs
			if round%2 == 1 {
				from, to = theirs, ours
			}
			var want, sealed []byte
			for range 1 + rng.IntN(4) {
				part := bytes.Repeat([]byte{byte(round)}, rng.IntN(50_000))
				want = append(want, part...)
				var err error
				if sealed, err = from.Seal(sealed, part); err != nil {
					t.Fatal(err)
				}
			}
			most := []int{1, 100, 100_000}[rng.IntN(3)]
			if most == 1 {
				most = 1 + len(sealed)/2000
			}
			got, err := move(t, to, sealed, func() int { return 1 + rng.IntN(most) }, 1+rng.IntN(70_000))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("round %d: %d bytes come as %d, %v", round, len(want), len(got), err)
			}
		}
		rest, _ := ours.Seal(nil, []byte("the last"))
		rest = ours.Finish(rest)
		got, err := move(t, theirs, rest, func() int { return 1 << 20 }, 1000)
		if string(got) != "the last" || err != io.EOF {
			t.Errorf("the end is %q, %v", got, err)
		}
		if _, err := ours.Seal(nil, []byte("x")); err == nil {
			t.Error("something is sealed behind the end")
		}
	}
}

// What is not from the other side ends the connection, and that is said.
func TestForgery(t *testing.T) {
	ours, theirs := detached(t, tls.VersionTLS13)
	sealed, _ := ours.Seal(nil, []byte("get k\r\n"))
	sealed[len(sealed)-1] ^= 1
	if got, err := move(t, theirs, sealed, func() int { return 1 << 20 }, 1000); len(got) > 0 || err == nil || err == io.EOF {
		t.Errorf("%q, %v", got, err)
	}
	if theirs.Silent() || len(theirs.Answers(nil)) == 0 {
		t.Error("it says nothing")
	}
	if !theirs.Silent() {
		t.Error("it says so twice")
	}
}

// detached is two sides that have shaken hands and are moved by the test.
func detached(t testing.TB, version uint16) (client, server *Conn) {
	t.Helper()
	ca := secrettest.New(t)
	serving := ca.Client("", ca.Issue("server", "localhost", "localhost")).Certificates
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	server = Server(far, &tls.Config{Certificates: serving, MaxVersion: version})
	client = Client(near, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MaxVersion: version})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	// A ticket may be on its way to the client: it comes first.
	one := []byte{0}
	server.Write(one)
	if _, err := io.ReadFull(client, one); err != nil {
		t.Fatal(err)
	}
	client.Detach()
	server.Detach()
	return client, server
}
