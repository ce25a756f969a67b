package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	programs "magent/bench/process"
	"magent/bench/process/proctest"
)

// placed is a magent that is restarted in place, whatever its process is at the moment.
type placed struct {
	*asked
	binary, pidFile, logFile string // the path that it is started from; of what it writes
}

// place launches one that listens on addr, in front of nodes, a copy each.
func place(t *testing.T, nodes []string, args ...string) *placed {
	t.Helper()
	dir := t.TempDir()
	p := &placed{asked: &asked{t, freeAddr(t), adminPath(t)}, binary: filepath.Join(dir, "magent"), pidFile: filepath.Join(dir, "pid"), logFile: filepath.Join(dir, "log")}
	p.install(binary)
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Command(p.binary, append([]string{"serve", "-l", "127.0.0.1", "-p", portOf(t, p.addr), "--admin", p.admin,
		"--loops", "2", "--pidfile", "pid", "--log-file", "log", "-s", nodes[0], "-b", nodes[1]}, args...)...)
	cmd.Dir, cmd.Stderr = dir, stderr
	launch(t, cmd)
	p.says("listening", 1)
	p.endsWithTest()
	return p
}

// endsWithTest ends whatever the process is then, and shows the log of one that failed.
func (p *placed) endsWithTest() {
	t := p.t
	t.Cleanup(func() {
		if text, err := os.ReadFile(p.logFile); t.Failed() {
			t.Logf("its log, %v:\n%s", err, text)
		}
		if _, err := os.Stat(p.pidFile); err == nil {
			endDaemon(t, p.pidFile)
		}
	})
}

// install has another program at the path that magent was started from.
func (p *placed) install(program string) {
	p.t.Helper()
	link := p.binary + ".new"
	err := os.Symlink(program, link)
	if err == nil {
		err = os.Rename(link, p.binary)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// restart tells it to restart in place, and waits until it has.
func (p *placed) restart() {
	p.t.Helper()
	old := readPid(p.t, p.pidFile)
	syscall.Kill(old, syscall.SIGUSR2)
	proctest.Eventually(p.t, "another process has taken over", func() bool { return !alive(old) })
	if pid := readPid(p.t, p.pidFile); pid == old {
		p.t.Fatalf("the process is still %d", old)
	}
}

// says waits until the log has words n times.
func (p *placed) says(words string, n int) {
	p.t.Helper()
	proctest.Eventually(p.t, "the log says: "+words, func() bool {
		text, err := os.ReadFile(p.logFile)
		return err == nil && strings.Count(string(text), words) >= n
	})
}

// twoMemcacheds are the addresses of two real ones, and the processes.
func twoMemcacheds(t *testing.T) ([]string, []*proctest.Process) {
	t.Helper()
	a, b := proctest.Memcached(t, programs.MemcachedConfig{}), proctest.Memcached(t, programs.MemcachedConfig{})
	return []string{a.Addr, b.Addr}, []*proctest.Process{a, b}
}

// counter is a client that keeps its connection, and wants every answer.
type counter struct {
	name   string
	conn   net.Conn
	in     *bufio.Reader
	value  string
	rounds atomic.Int64 // that were answered
}

func newCounter(addr, name string) (*counter, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &counter{name: name, conn: conn, in: bufio.NewReader(conn), value: strings.Repeat("v", 200)}
	return c, c.asks("set n"+name+" 0 0 1\r\n0\r\n", "STORED")
}

// asks sends requests in two writes, and wants these lines for an answer.
func (c *counter) asks(requests string, lines ...string) error {
	c.conn.SetDeadline(time.Now().Add(proctest.Patience))
	half := len(requests) / 2
	for _, part := range []string{requests[:half], requests[half:]} {
		if _, err := io.WriteString(c.conn, part); err != nil {
			return err
		}
	}
	for _, want := range lines {
		if got, err := c.in.ReadString('\n'); got != want+"\r\n" {
			return fmt.Errorf("%.40q was answered %.40q, %v, want %.40q", requests, got, err, want)
		}
	}
	return nil
}

// runs counts, stores and reads until stop is closed.
func (c *counter) runs(stop <-chan struct{}) error {
	defer c.conn.Close()
	value := c.value
	for n := 1; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		requests := fmt.Sprintf("incr n%[1]s 1\r\nset v%[1]s 0 0 %[2]d\r\n%[3]s\r\nget n%[1]s v%[1]s\r\n", c.name, len(value), value)
		number := fmt.Sprint(n)
		err := c.asks(requests, number, "STORED", fmt.Sprintf("VALUE n%s 0 %d", c.name, len(number)), number,
			fmt.Sprintf("VALUE v%s 0 %d", c.name, len(value)), value, "END")
		if err != nil {
			return fmt.Errorf("client %s in round %d: %w", c.name, n, err)
		}
		c.rounds.Store(int64(n))
	}
}

// connects makes connections until stop is closed, all of which are to be served.
func connects(addr string, stop <-chan struct{}) (made int, err error) {
	for ; ; made++ {
		select {
		case <-stop:
			return made, nil
		default:
		}
		c, err := newCounter(addr, "new")
		if err != nil {
			return made, fmt.Errorf("connection %d: %w", made, err)
		}
		c.conn.Close()
	}
}

// Two hundred clients that always have something on its way notice nothing of three
// restarts in a row: each keeps its connection, no request is lost or carried out twice,
// and whoever connects meanwhile is served.
func TestRestartInPlaceUnderLoad(t *testing.T) {
	nodes, _ := twoMemcacheds(t)
	p := place(t, nodes, "--timeout", "10s", "--connect-timeout", "10s", "-n", "1000")
	stop := make(chan struct{})
	var clients []*counter
	var all sync.WaitGroup
	count := 200
	if testing.Short() {
		count = 40
	}
	for i := range count {
		c, err := newCounter(p.addr, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			c.value = strings.Repeat("v", 100_000)
		}
		clients = append(clients, c)
		all.Go(func() {
			if err := c.runs(stop); err != nil {
				t.Error(err)
			}
		})
	}
	all.Go(func() {
		if made, err := connects(p.addr, stop); err != nil || made == 0 {
			t.Errorf("%d connections were made, and then: %v", made, err)
		}
	})
	goOn := func() {
		t.Helper()
		from := make([]int64, len(clients))
		for i, c := range clients {
			from[i] = c.rounds.Load()
		}
		for i, c := range clients {
			proctest.Eventually(t, "a client is answered", func() bool { return c.rounds.Load() > from[i] || t.Failed() })
		}
	}
	for range 3 {
		goOn()
		p.restart()
	}
	goOn()
	close(stop)
	all.Wait()
	p.says("everything was taken over", 3)
}

// A new binary that ends, one that hangs, and one that is missing are noticed, and the old
// process goes on; and it may be tried again.
func TestRestartInPlaceThatFails(t *testing.T) {
	t.Parallel()
	nodes, _ := twoMemcacheds(t)
	p := place(t, nodes, "--restart-wait", "2s")
	old := readPid(t, p.pidFile)
	c, err := newCounter(p.addr, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hung := filepath.Join(t.TempDir(), "hung")
	for i, program := range []string{
		script("exit 3\n"),
		script("echo $$ > " + hung + "; exec sleep 1000\n"),
		"/no/such/program",
	} {
		p.install(program)
		syscall.Kill(old, syscall.SIGUSR2)
		p.says("not restarted: this process goes on", i+1)
		if pid := readPid(t, p.pidFile); pid != old {
			t.Fatalf("the pid file has %d, want %d", pid, old)
		}
		if err := c.asks("incr na 1\r\n", fmt.Sprint(i+1)); err != nil {
			t.Error(err)
		}
		p.node(0) // operators are answered
	}
	p.says("exit status 3", 1)
	text, err := os.ReadFile(hung)
	var pid int
	if _, scan := fmt.Sscan(string(text), &pid); err != nil || scan != nil || syscall.Kill(pid, 0) != syscall.ESRCH {
		t.Errorf("the process that hung still runs: %q, %v", text, err)
	}
	p.install(binary)
	p.restart()
	if err := c.asks("incr na 1\r\n", "4"); err != nil {
		t.Error(err)
	}
}

// Unix sockets, and what operators ask, are there all the time, and are removed in the end.
func TestRestartInPlaceKeepsSocketFiles(t *testing.T) {
	t.Parallel()
	nodes, _ := twoMemcacheds(t)
	socket := filepath.Join(filepath.Dir(adminPath(t)), "clients")
	p := place(t, nodes, "-f", socket)
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for ended := false; !ended; {
			p.node(0)
			talk(t, "unix", socket, setHello+getHello, "STORED\r\n"+hello)
			select {
			case <-stop:
				ended = true
			default:
			}
		}
	})
	for range 2 {
		p.restart()
	}
	close(stop)
	all.Wait()
	if t.Failed() {
		return
	}
	endDaemon(t, p.pidFile)
	for _, path := range []string{socket, p.admin, p.pidFile} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// A node that is frozen while magent is restarted is told what it has missed from either
// process, when it is back, and does not have to be flushed for it.
func TestRestartInPlaceWithANodeAway(t *testing.T) {
	nodes, memcacheds := twoMemcacheds(t)
	p := place(t, nodes)
	const keys = 300
	c, err := newCounter(p.addr, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	writes := func(from int, value string) {
		t.Helper()
		for i := from; i < keys; i += 2 {
			if err := c.asks(fmt.Sprintf("set k%d 0 0 %d\r\n%s\r\n", i, len(value), value), "STORED"); err != nil {
				t.Fatal(err)
			}
		}
	}
	reads := func(even, odd string) {
		t.Helper()
		for i := range keys {
			want := []string{even, odd}[i%2]
			if err := c.asks(fmt.Sprintf("get k%d\r\n", i), fmt.Sprintf("VALUE k%d 0 %d", i, len(want)), want, "END"); err != nil {
				t.Fatal(err)
			}
		}
	}
	writes(0, "old")
	writes(1, "old")
	if err := c.asks("set untouched 0 0 1\r\nu\r\n", "STORED"); err != nil {
		t.Fatal(err)
	}
	untouched := direct(t, nodes[0], "gets untouched\r\n")
	memcacheds[0].Freeze()
	writes(0, "new from the first")
	p.restart()
	writes(1, "new from the second")
	if n := p.node(0); n.State != "down" || n.Debt < keys-10 {
		t.Errorf("the node is %s, with a debt of %d keys, want all", n.State, n.Debt)
	}
	memcacheds[0].Thaw()
	for p.node(0).State != "up" {
		reads("new from the first", "new from the second")
	}
	reads("new from the first", "new from the second")
	for i, want := range []string{"new from the first", "new from the second"} {
		if got := direct(t, nodes[0], fmt.Sprintf("get k%d\r\n", i)); !strings.Contains(got, want) {
			t.Errorf("the node has %q, want %q", got, want)
		}
	}
	if got := direct(t, nodes[0], "gets untouched\r\n"); got != untouched {
		t.Errorf("what was not touched was %q, and is %q: it was flushed", untouched, got)
	}
}

// direct asks a node something that is answered with END.
func direct(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(proctest.Patience))
	io.WriteString(c, request)
	var text strings.Builder
	for lines := bufio.NewScanner(c); lines.Scan() && lines.Text() != "END"; {
		text.WriteString(lines.Text() + "\n")
	}
	return text.String()
}

// In the background, and as a user who may not open the files that it was started with:
// they are handed over, open. What is relative goes from where the first one was started.
func TestRestartInPlaceInTheBackground(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), freeAddr(t)
	pidFile, logFile := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	args := []string{"-l", "127.0.0.1", "-p", portOf(t, addr), "-f", "sock", "--admin", "./admin", "--pidfile", "pid", "--log-file", "log", "-s", newNode(t).Addr()}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	if r := command(t, cmd); r.code != 0 {
		t.Fatalf("exit status %d: %s", r.code, r.stderr)
	}
	for i := range 2 {
		old := readPid(t, pidFile)
		syscall.Kill(old, syscall.SIGUSR2)
		proctest.Eventually(t, "another process has taken over", func() bool { return !alive(old) })
		pid := readPid(t, pidFile)
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); got != "/" {
			t.Errorf("it is in %q, %v, want /", got, err)
		}
		talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)
		talk(t, "unix", filepath.Join(dir, "sock"), getHello, hello)
		magent(t, "status", "--admin", filepath.Join(dir, "admin"))
		if text, err := os.ReadFile(logFile); strings.Count(string(text), "everything was taken over") != i+1 {
			t.Errorf("the log is %q, %v", text, err)
		}
	}
	endDaemon(t, pidFile)
}

// The service manager is told which process the service is.
func TestRestartInPlaceTellsTheManager(t *testing.T) {
	path := filepath.Join(filepath.Dir(adminPath(t)), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	hears := func(words ...string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(proctest.Patience))
		buf := make([]byte, 4096)
		for {
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("it is not told %q: %v", words, err)
			}
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(string(buf[:n]), w) }) {
				return
			}
		}
	}
	nodes, _ := twoMemcacheds(t)
	p := place(t, nodes)
	p.restart()
	hears("RELOADING=1\n", "MONOTONIC_USEC=")
	hears(fmt.Sprintf("MAINPID=%d\n", readPid(t, p.pidFile)), "READY=1")
}

// Where systemd would not hear of it, the service would end with the first process.
func TestRestartInPlaceWithoutAnEar(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	addr := freeAddr(t)
	cmd := exec.Command("sh", "-c", `SYSTEMD_EXEC_PID=$$ exec "$0" "$@"`, binary, "serve", "-l", "127.0.0.1", "-p", portOf(t, addr), "--admin", "none", "-s", newNode(t).Addr())
	p := launch(t, cmd)
	p.waitFor("tcp", addr)
	p.Process.Signal(syscall.SIGUSR2)
	proctest.Eventually(t, "it says why", func() bool { return strings.Contains(p.stderr.String(), "Type=notify") })
	talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)
}

// Sockets that systemd has opened are taken, and handed on; their files are its own.
func TestSocketsFromOutside(t *testing.T) {
	t.Parallel()
	path := filepath.Join(filepath.Dir(adminPath(t)), "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command("sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`, binary, "serve", "-p", "0", "-f", path, "--pidfile", pidFile, "-s", newNode(t).Addr())
	cmd.ExtraFiles = []*os.File{f}
	if cmd.Stderr, err = os.Create(filepath.Join(t.TempDir(), "stderr")); err != nil { // a pipe would stay open
		t.Fatal(err)
	}
	p := launch(t, cmd)
	f.Close()
	talk(t, "unix", path, setHello+getHello, "STORED\r\n"+hello)
	p.Process.Signal(syscall.SIGUSR2)
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	talk(t, "unix", path, getHello, hello)
	endDaemon(t, pidFile)
	if !reachable("unix", path) {
		t.Error("the socket of another is closed, or removed")
	}
	ln.Close()
}
