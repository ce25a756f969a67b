package memnode

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// FuzzStream feeds a node any bytes, whole and cut in two: it must survive, end
// the conversation when the client does, and give both the same answers.
func FuzzStream(f *testing.F) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		for _, talk := range merged(read(f, file)) {
			if len(talk[0].send) < 4096 {
				f.Add(talk[0].send, uint16(len(talk[0].send)/2))
			}
		}
	}
	k, socket := newClock(), filepath.Join(f.TempDir(), "s") // TCP would leave a port behind each time
	f.Fuzz(func(t *testing.T, in []byte, at uint16) {
		// How a line over 2048 bytes and metadump fare depends on how reads fall,
		// stats shows what the reads were.
		if len(in) > maxShort || bytes.Contains(in, []byte("lru_crawler")) || bytes.Contains(in, []byte("stats")) {
			return
		}
		whole := converse(t, k, socket, in)
		cut := int(at) % (len(in) + 1)
		split := converse(t, k, socket, in[:cut], in[cut:])
		// When the client goes in the middle of a value, answers of the same read are lost.
		if !bytes.HasPrefix(whole, split) && !bytes.HasPrefix(split, whole) {
			t.Fatalf("%q cut at %d: got %q, want %q", in, cut, split, whole)
		}
	})
}

// converse sends the parts to a fresh node and returns all it answers.
func converse(t *testing.T, k *clock, socket string, parts ...[]byte) []byte {
	n, err := Start(Config{Network: "unix", Addr: socket, Clock: k.now})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	nc, err := net.Dial("unix", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(proctest.Patience))
	for _, p := range parts {
		if _, err := nc.Write(p); err != nil {
			break // the node has hung up: what it answered counts
		}
	}
	nc.(*net.UnixConn).CloseWrite()
	out, err := io.ReadAll(nc)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("%q: no end; %q so far", parts, out)
	}
	return out
}
