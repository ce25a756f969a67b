package main

import (
	"bufio"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/admin"
)

// turningProxy is ready until it has been asked so often.
type turningProxy struct {
	toldProxy
	asked, until atomic.Int64
	turned       admin.Ready
}

func (p *turningProxy) Ready() admin.Ready {
	if p.asked.Add(1) <= p.until.Load() {
		return admin.Ready{Ready: true, Warm: true}
	}
	return p.turned
}

// serveTurning has one answer at the path that it returns.
func serveTurning(t *testing.T, p *turningProxy) string {
	where := filepath.Join(t.TempDir(), "s")
	ln, err := admin.Listen(where)
	if err != nil {
		t.Fatal(err)
	}
	s := admin.Serve(ln, p, admin.Options{})
	t.Cleanup(func() { s.Close() })
	return where
}

func TestReadyGoesOnAsking(t *testing.T) {
	p := &turningProxy{turned: admin.Ready{Reasons: []string{"it is stopping"}}}
	where := serveTurning(t, p)

	p.until.Store(1 << 40)
	text, err := types(t, newReady(), "--admin", where, "--for", "1s", "--every", "10ms", "--timeout", "20s")
	if asked := p.asked.Load(); err != nil || text != "ready\n" || asked < 2 || asked > 101 {
		t.Errorf("asked %d times: %v, %q", asked, err, text)
	}

	p.asked.Store(0)
	p.until.Store(3)
	text, err = types(t, newReady(), "--admin", where, "--for", "10m", "--every", "5ms", "--timeout", "20s")
	if asked := p.asked.Load(); err == nil || err.Error() != "not ready: it is stopping" || text != "" || asked != 4 {
		t.Errorf("asked %d times: %v, %q", asked, err, text)
	}

	start := time.Now()
	_, err = types(t, newReady(), "--admin", where, "--for", "10m", "--every", "1ms", "--timeout", "1ns")
	if err == nil || err.Error() != "not ready: no answer in 1ns" || time.Since(start) > time.Minute {
		t.Errorf("of answers that are late: %v", err)
	}
}

// TestReadyAsksThePeer: where the nodes are all that is wrong, the address stays unless
// the other machine is better off.
func TestReadyAsksThePeer(t *testing.T) {
	p := &turningProxy{turned: admin.Ready{Reasons: []string{"no node can be read that has any key: a is down"}, OnlyNodes: true}}
	where := serveTurning(t, p)
	nobody := freeAddr(t)
	mute := occupy(t).Addr().String()
	for _, c := range []struct {
		peer string
		want string
	}{
		{"", "not ready: no node can be read"},
		{nobody, ""},
		{mute, ""},
		{statPeer(t, "ready 0"), ""},
		{statPeer(t, "uptime 1"), ""},
		{statPeer(t, "ready 1"), "not ready: no node can be read"},
	} {
		_, err := types(t, newReady(), "--admin", where, "--peer", c.peer, "--timeout", "200ms")
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("--peer %q: %v", c.peer, err)
		}
	}
	p.turned.OnlyNodes = false
	if _, err := types(t, newReady(), "--admin", where, "--peer", nobody); err == nil {
		t.Error("ready, although more is wrong than the nodes")
	}
}

// statPeer answers every command with one statistic.
func statPeer(t *testing.T, stat string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proctest.Serve(t, ln, func(c net.Conn) {
		for in := bufio.NewScanner(c); in.Scan(); {
			if _, err := c.Write([]byte("STAT " + stat + "\r\nEND\r\n")); err != nil {
				return
			}
		}
	})
	return ln.Addr().String()
}

// TestReadyWithoutNodes: both nodes of a magent die, and no other magent is better off.
func TestReadyWithoutNodes(t *testing.T) {
	primary, backup := newNode(t), newNode(t)
	addr, where := freeAddr(t), filepath.Join(t.TempDir(), "s")
	startServe(t, addr, "-s", primary.Addr(), "-b", backup.Addr(), "--admin", where, "--probe-interval", "20ms", "--fall", "1")
	ask := func(more ...string) error {
		_, err := types(t, newReady(), append(more, "--admin", where, "--timeout", "2s")...)
		return err
	}
	proctest.Eventually(t, "ready", func() bool { return ask() == nil })
	if !peerReady(t.Context(), addr, proctest.Patience) {
		t.Error("it is ready, and stats proxy does not say so")
	}
	primary.Close()
	backup.Close()
	proctest.Eventually(t, "not ready", func() bool { err := ask(); return err != nil && strings.Contains(err.Error(), "no node can be read") })
	proctest.Eventually(t, "the address stays", func() bool { return ask("--peer", freeAddr(t)) == nil })
	if peerReady(t.Context(), addr, proctest.Patience) {
		t.Error("stats proxy says that it is ready")
	}
}
