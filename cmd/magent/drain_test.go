package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/bench/keys"
	"magent/bench/load"
	programs "magent/bench/process"
	"magent/bench/process/proctest"
	"magent/bench/wire"
	"magent/server/admin"
)

// asked is a magent that operators ask.
type asked struct {
	t           *testing.T
	addr, admin string
}

// startAsked launches one in front of nodes, which are a copy each. One that a busy machine
// leaves waiting has not failed.
func startAsked(t *testing.T, nodes ...*proctest.Process) *asked {
	t.Helper()
	a := &asked{t, freeAddr(t), adminPath(t)}
	args := []string{"--admin", a.admin, "--loops", "2", "--timeout", "10s", "--connect-timeout", "10s", "-s", nodes[0].Addr}
	for _, n := range nodes[1:] {
		args = append(args, "--copy", n.Addr)
	}
	startServe(t, a.addr, args...)
	return a
}

// adminPath is short enough for a socket.
func adminPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "magent")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "admin")
}

// types has an operator type a command, which is to succeed.
func (a *asked) types(args ...string) string {
	a.t.Helper()
	r := magent(a.t, append(args, "--admin", a.admin)...)
	if r.code != 0 || r.stderr != "" {
		a.t.Fatalf("%q: exit status %d, %s", args, r.code, r.stderr)
	}
	return r.out
}

// node is what status says of node i.
func (a *asked) node(i int) admin.Node {
	a.t.Helper()
	var s admin.Status
	if err := json.Unmarshal([]byte(a.types("status", "--json")), &s); err != nil || i >= len(s.Nodes) {
		a.t.Fatalf("%v, %+v", err, s)
	}
	return s.Nodes[i]
}

// awaits waits until node i is in state, drained or not.
func (a *asked) awaits(i int, state string, drained bool) {
	a.t.Helper()
	proctest.Eventually(a.t, fmt.Sprintf("node %d is %s, drained: %v", i, state, drained), func() bool {
		n := a.node(i)
		return n.State == state && n.Drain == drained
	})
}

// stat is one of the numbers of stats proxy.
func (a *asked) stat(name string) int {
	a.t.Helper()
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(proctest.Patience))
	fmt.Fprint(c, "stats proxy\r\n")
	for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "END"; {
		if text, ok := strings.CutPrefix(lines.Text(), "STAT "+name+" "); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				a.t.Fatal(err)
			}
			return n
		}
	}
	a.t.Fatalf("stats proxy does not have %s", name)
	return 0
}

// serves waits until clients have had some more requests answered.
func (a *asked) serves() {
	a.t.Helper()
	from := a.stat("requests")
	proctest.Eventually(a.t, "clients go on", func() bool { return a.stat("requests") >= from+1000 })
}

// underLoad does what do does while clients of all magents get, set, count and cas, and
// wants none of them to have noticed.
func underLoad(t *testing.T, all []*asked, do func()) {
	t.Helper()
	c := load.Config{Conns: 8, Rate: 4000, Mix: load.Mix{wire.Get: 8, wire.Set: 2, wire.Incr: 1, wire.CAS: 1},
		Keys: keys.Config{Prefix: "drain", Max: 999}, Duration: time.Hour, Timeout: proctest.Patience}
	for _, a := range all {
		c.Targets = append(c.Targets, a.addr)
	}
	if err := load.Preload(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	var rep *load.Report
	var err error
	go func() {
		defer close(done)
		rep, err = load.Run(ctx, c)
	}()
	do()
	cancel()
	<-done
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if rep.Errors+rep.Wrong+rep.Stale+rep.Misses+int64(rep.Lost) > 0 || rep.Served < 1000 {
		t.Errorf("%d served: %d errors, %d wrong, %d stale, %d misses, %d lost: %s",
			rep.Served, rep.Errors, rep.Wrong, rep.Stale, rep.Misses, rep.Lost, rep.FirstError)
	}
	for _, a := range all {
		for _, name := range []string{"errors", "failovers", "retries", "retries_refused", "misses"} {
			if n := a.stat(name); n != 0 {
				t.Errorf("the magent at %s counts %d %s", a.addr, n, name)
			}
		}
	}
}

func memcacheds(t *testing.T, n int) (nodes []*proctest.Process) {
	t.Helper()
	for range n {
		nodes = append(nodes, proctest.Memcached(t, programs.MemcachedConfig{}))
	}
	return nodes
}

// TestDrain: the node that leads everything is stopped, in front of one magent and of two,
// and nobody notices. It is drained no longer when it is back.
func TestDrain(t *testing.T) {
	for magents := 1; magents <= 2; magents++ {
		t.Run(fmt.Sprint(magents), func(t *testing.T) {
			nodes := memcacheds(t, 2)
			lead := nodes[0]
			var all []*asked
			for range magents {
				all = append(all, startAsked(t, nodes...))
			}
			every := func(do func(a *asked)) {
				for _, a := range all {
					do(a)
				}
			}
			underLoad(t, all, func() {
				every((*asked).serves)
				every(func(a *asked) { a.types("drain", lead.Addr) })
				every(func(a *asked) { a.awaits(0, "warming", true) })
				every((*asked).serves)
				if err := syscall.Kill(lead.PID, syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				every(func(a *asked) { a.awaits(0, "down", true) })
				every((*asked).serves)
				lead.Restart()
				every(func(a *asked) { a.awaits(0, "up", false) })
				every((*asked).serves)
			})
		})
	}
}

// Undone, a drain has cost nothing: the node has all that was written meanwhile, and leads
// again.
func TestDrainUndone(t *testing.T) {
	nodes := memcacheds(t, 2)
	a := startAsked(t, nodes...)
	underLoad(t, []*asked{a}, func() {
		for range 3 {
			a.types("drain", nodes[0].Addr)
			a.serves()
			if out := a.types("drain", "--undo", nodes[0].Addr); !strings.Contains(out, "no longer drained") {
				t.Error(out)
			}
			a.awaits(0, "up", false)
			a.serves()
		}
	})
}

// A drained node is read when the other one dies.
func TestDrainedNodeIsRead(t *testing.T) {
	nodes := memcacheds(t, 2)
	a := startAsked(t, nodes...)
	talk(t, "tcp", a.addr, setHello, "STORED\r\n")
	a.types("drain", nodes[0].Addr)
	nodes[1].Kill()
	talk(t, "tcp", a.addr, getHello+setHello+getHello, hello+"STORED\r\n"+hello)
	a.awaits(1, "down", false)
	a.awaits(0, "warming", true)
	magent(t, "drain", nodes[1].Addr, "--admin", a.admin).wantFault(t, nodes[1].Addr+" cannot be drained: it is down")
	nodes[1].Restart()
	a.awaits(0, "up", false)
	talk(t, "tcp", a.addr, getHello, hello)
}

func TestDrainIsRefused(t *testing.T) {
	nodes := memcacheds(t, 2)
	a, alone := startAsked(t, nodes...), startAsked(t, nodes[0])
	refused := func(a *asked, node string, words ...string) {
		t.Helper()
		magent(t, "drain", node, "--admin", a.admin).wantFault(t, words...)
	}
	refused(a, "10.0.0.1", "there is no node 10.0.0.1: there are", nodes[0].Addr, nodes[1].Addr)
	refused(alone, nodes[0].Addr, "cannot be drained", "one copy")
	a.types("drain", nodes[1].Addr)
	refused(a, nodes[0].Addr, "no replica that is up: "+nodes[1].Addr+" is warming")
	a.types("drain", nodes[1].Addr, "--undo")
	magent(t, "resync", nodes[0].Addr, "--from", nodes[0].Addr, "--admin", a.admin).wantFault(t, "cannot be refilled", "it holds no key of that")
}

// TestAdminSocket: where it is, whose it is, and that it is gone with the magent.
func TestAdminSocket(t *testing.T) {
	node := newNode(t).Addr()
	gone := func(path string) {
		t.Helper()
		proctest.Eventually(t, path+" is gone", func() bool { _, err := os.Lstat(path); return errors.Is(err, os.ErrNotExist) })
	}
	t.Run("in the background", func(t *testing.T) {
		path, addr := adminPath(t), freeAddr(t)
		pid := daemon(t, "-l", "127.0.0.1", "-p", portOf(t, addr), "-s", node, "--admin", path)
		(&asked{t, addr, path}).types("status")
		syscall.Kill(pid, syscall.SIGTERM)
		gone(path)
	})
	t.Run("of another user", func(t *testing.T) {
		if os.Geteuid() != 0 {
			return // nobody else can be become: TestUserAndGroup says what happens
		}
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		path, addr := adminPath(t), freeAddr(t)
		startServe(t, addr, "-s", node, "-u", "nobody", "--admin", path)
		(&asked{t, addr, path}).types("status")
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if owner := st.Sys().(*syscall.Stat_t); fmt.Sprint(owner.Uid, owner.Gid) != nobody.Uid+" "+nobody.Gid || st.Mode().Perm() != 0o600 {
			t.Errorf("the socket is of user %d and group %d, mode %v", owner.Uid, owner.Gid, st.Mode())
		}
	})
	t.Run("by default", func(t *testing.T) {
		addr := freeAddr(t)
		port := portOf(t, addr)
		p := startServe(t, addr, "-s", node, "--admin", "")
		path := "/run/magent-" + port + ".sock"
		if os.Geteuid() != 0 {
			proctest.Eventually(t, "it says that it has no rights to "+path, func() bool {
				return strings.Contains(p.stderr.String(), "nobody can ask this magent")
			})
			return
		}
		if r := magent(t, "status", "-p", port); r.code != 0 || !strings.HasPrefix(r.out, "magent ") {
			t.Errorf("%+v", r)
		}
		p.Process.Signal(syscall.SIGTERM)
		p.ended()
		gone(path)
	})
	t.Run("of another magent", func(t *testing.T) {
		path := adminPath(t)
		startServe(t, freeAddr(t), "-s", node, "--admin", path)
		magent(t, "-D", "-l", "127.0.0.1", "-p", portOf(t, freeAddr(t)), "-s", node, "--admin", path).wantFault(t, "another process answers there")
	})
}
