package upstream

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"magent/bench/process"
	"magent/bench/process/proctest"
	"magent/upstream/memnode"
)

// socket is a net.Conn as a Wire.
type socket struct{ net.Conn }

func (s socket) Writev(bs [][]byte) (int, error) {
	n, err := (*net.Buffers)(&bs).WriteTo(s.Conn)
	return int(n), err
}

// meet greets what listens at path, over a connection of its own, and returns its
// life and when it says that it is.
func meet(t *testing.T, path string) (life, now uint64) {
	t.Helper()
	var nc net.Conn
	proctest.Eventually(t, "the node takes a connection", func() (ok bool) {
		var err error
		nc, err = net.Dial("unix", path)
		return err == nil
	})
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(proctest.Patience))
	r := newRig(2)
	r.group.Connect(0)
	c := r.dials[0].conn
	if !c.Opened(socket{nc}, r.dials[0].attempt) {
		t.Fatal("the connection is not wanted")
	}
	buf, all := make([]byte, 512), []byte(nil)
	for r.group.Pending() > 0 {
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, buf[:n]...)
		c.Feed(buf[:n])
	}
	life, ok := c.Life()
	if !ok {
		t.Fatalf("a node of version %q has no life", c.Node().Version())
	}
	_, after, _ := bytes.Cut(all, []byte("STAT time "))
	if _, err := fmt.Sscan(string(after), &now); err != nil {
		t.Fatalf("a node does not tell the time in %q", all)
	}
	return life, now
}

// livesDiffer demands one life of a process while its clock ticks, and another of
// the next.
func livesDiffer(t *testing.T, path string, restart func()) {
	t.Helper()
	born, first := meet(t, path)
	proctest.Eventually(t, "the node's clock ticks twice", func() bool {
		life, now := meet(t, path)
		if life != born {
			t.Fatalf("the life has become %x from %x after %d seconds", life, born, now-first)
		}
		return now >= first+2
	})
	restart()
	if life, _ := meet(t, path); life == born {
		t.Error("a restart does not show")
	}
}

func TestLifeOfMemcached(t *testing.T) {
	t.Parallel()
	m := proctest.Memcached(t, process.MemcachedConfig{Listen: process.Unix})
	livesDiffer(t, m.Addr, func() {
		m.Kill()
		m.Restart()
	})
}

func TestLifeOfMemnode(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "upstream") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	n, err := memnode.Start(memnode.Config{Network: "unix", Addr: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	livesDiffer(t, path, func() {
		n.Kill()
		if err := n.Restart(); err != nil {
			t.Error(err)
		}
	})
}
