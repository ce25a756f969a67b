package server

import (
	"bytes"
	"cmp"
	"net"
	"testing"
	"time"

	"magent/upstream/memnode"
)

// honest is what stands behind a fake node that is to answer as memcached would: a
// memnode, asked over a connection of its own when the test says so.
type honest struct {
	t       testing.TB
	version string
	node    *memnode.Node
	conn    net.Conn
}

// honest is the memcached behind n, made when it is first wanted.
func (n *fakeNode) honest(t testing.TB) *honest {
	if n.behind == nil {
		version := cmp.Or(n.version, oldVersion)
		m, err := memnode.Start(memnode.Config{Version: version, Clock: func() time.Time { return standing }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		n.behind = &honest{t: t, version: version, node: m}
		n.behind.dial()
	}
	return n.behind
}

// standing is the time at the nodes behind, where none passes.
var standing = time.Now()

// oldVersion is what a fake node says it is if the test does not care: one that has
// no E flag, as newVersion has.
const (
	oldVersion = "1.6.18"
	newVersion = "1.6.45"
)

func (h *honest) dial() {
	nc, err := net.Dial("tcp", h.node.Addr())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { nc.Close() })
	h.conn = nc
}

// restart leaves it without an item.
func (h *honest) restart() {
	h.node.Kill()
	if err := h.node.Restart(); err != nil {
		h.t.Fatal(err)
	}
	h.dial()
}

// answer is what memcached says to in, which is any number of whole commands, none of
// them version: its answer tells when all has come.
func (h *honest) answer(in []byte) []byte {
	if len(in) == 0 {
		return nil
	}
	in = append(bytes.Clone(in), "version\r\n"...)
	go h.conn.Write(in) // what it answers may have to be read before it takes all
	var out []byte
	last := []byte("VERSION " + h.version + "\r\n")
	buf := make([]byte, 64<<10)
	for !bytes.HasSuffix(out, last) {
		n, err := h.conn.Read(buf)
		if err != nil {
			h.t.Fatalf("%.200q ends the connection after %.200q", in, out)
		}
		out = append(out, buf[:n]...)
	}
	return out[:len(out)-len(last)]
}
