package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"magent/bench/process/proctest"
	"magent/upstream/memnode"
)

func TestBadCommandLinesAreOneLine(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "at least one -s"},
		{"-D", "at least one -s"},
		{"-s 127.0.0.1 -x", "'x'"},
		{"-s 127.0.0.1 --nonsense", "--nonsense"},
		{"-s 127.0.0.1 -p http", `"http"`},
		{"-s 127.0.0.1 -p 0", "-f is needed"},
		{"-s 127.0.0.1 surplus", `"surplus"`},
		{"-Dn 51200 surplus -s 127.0.0.1", `"surplus"`},
		{"-s 127.0.0.1:0", "port"},
		{"-s", "needs an argument"},
		{"-s nosuch.invalid -p 0 -f " + socket, "nosuch.invalid"},
		{"-s 127.0.0.1 -u no-such-user -p 0 -f " + socket, "no-such-user"},
		{"-s 127.0.0.1 -g no-such-group -p 0 -f " + socket, "no-such-group"},
		{"-s 127.0.0.1 -p 0 -f /no/such/directory/socket", "/no/such/directory"},
		{"-s 127.0.0.1 -p 0 --pidfile /no/such/directory/pid -f " + socket, "/no/such/directory"},
		{"-s 127.0.0.1 -p 0 --admin /no/such/directory/admin -f " + socket, "/no/such/directory"},
		{"-s 127.0.0.1 -p 0 --admin 10.0.0.1:11311 -f " + socket, "loopback"},
		{"-s 127.0.0.1 -p 0 --log-file /no/such/directory/log -f " + socket, "/no/such/directory"},
		{"-s 127.0.0.1 -p 0 --profile cpu --profile-dir /no/such -f " + socket, "/no/such"},
		{"-s 127.0.0.1 --distribution random", "random"},
		{"-s 127.0.0.1 -b 127.0.0.2 --hedge 1s", "below the timeout"},
		{"-s 127.0.0.1 --probe ping", `"ping"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := strings.Fields(c.args)
			magent(t, args...).wantFault(t, c.want)
			magent(t, append([]string{"serve"}, args...)...).wantFault(t, c.want)
		})
	}
	magent(t, "nonsense", "-s", "127.0.0.1").wantFault(t, `"nonsense"`)
}

func TestEveryFaultHasItsLine(t *testing.T) {
	r := magent(t, "-s", "a:", "-b", "b:", "-p", "99999")
	if lines := strings.Split(strings.TrimSpace(r.stderr), "\n"); r.code != 1 || len(lines) != 3 {
		t.Errorf("exit status %d, want 1 and three lines, got %q", r.code, lines)
	}
}

func TestPortInUse(t *testing.T) {
	busy := portOf(t, occupy(t).Addr().String())
	for _, mode := range [][]string{{}, {"-D"}, {"serve"}} {
		args := append(mode, "-l", "127.0.0.1", "-p", busy, "-s", newNode(t).Addr())
		magent(t, args...).wantFault(t, "address already in use", busy)
	}
}

func TestSecondInstance(t *testing.T) {
	addr, node := freeAddr(t), newNode(t).Addr()
	startServe(t, addr, "-s", node)
	magent(t, "-l", "127.0.0.1", "-p", portOf(t, addr), "-s", node).wantFault(t, "address already in use")
	talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)
}

func TestBackground(t *testing.T) {
	addr := freeAddr(t)
	pid := daemon(t, "-l", "127.0.0.1", "-kp", portOf(t, addr), "-s", newNode(t).Addr(), "-b", newNode(t).Addr())
	// No poll: the parent has said that clients are served.
	talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)

	proc := fmt.Sprintf("/proc/%d/", pid)
	for link, want := range map[string]string{"cwd": "/", "fd/0": "/dev/null", "fd/1": "/dev/null", "fd/2": "/dev/null"} {
		if got, err := os.Readlink(proc + link); got != want {
			t.Errorf("%s is %q, %v, want %q", link, got, err, want)
		}
	}
	if sid := statusField(t, pid, "NSsid"); sid[0] != fmt.Sprint(pid) {
		t.Errorf("the session is %v, want %d", sid, pid)
	}
	env, err := os.ReadFile(proc + "cmdline")
	if want := binary + "\x00-l\x00"; err != nil || !strings.HasPrefix(string(env), want) {
		t.Errorf("the command line is %q, %v, want it as typed", env, err)
	}

	syscall.Kill(pid, syscall.SIGHUP)
	talk(t, "tcp", addr, getHello, hello)
	syscall.Kill(pid, syscall.SIGTERM)
	proctest.Eventually(t, "gone", func() bool { return !alive(pid) })
	if reachable("tcp", addr) {
		t.Error("something still listens")
	}
}

func TestBackgroundKeepsRelativePaths(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(binary, "-p", "0", "-f", "sock", "-s", newNode(t).Addr(), "--pidfile", "pid", "--log-file", "log")
	cmd.Dir = dir
	if r := command(t, cmd); r.code != 0 {
		t.Fatalf("exit status %d: %s", r.code, r.stderr)
	}
	talk(t, "unix", filepath.Join(dir, "sock"), setHello+getHello, "STORED\r\n"+hello)
	endDaemon(t, filepath.Join(dir, "pid"))
	if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
		t.Error("the pid file was left behind")
	}
	if log, err := os.ReadFile(filepath.Join(dir, "log")); err != nil || !strings.Contains(string(log), "stopping") {
		t.Errorf("the log is %q, %v", log, err)
	}
}

func TestVerboseStaysInTheForeground(t *testing.T) {
	addr := freeAddr(t)
	p := launch(t, exec.Command(binary, "-vl127.0.0.1", "--admin", "none", "-p", portOf(t, addr), "-s", newNode(t).Addr()))
	p.waitFor("tcp", addr)
	if ppid := statusField(t, p.Process.Pid, "PPid"); ppid[0] != fmt.Sprint(os.Getpid()) {
		t.Errorf("the parent is %v, want %d", ppid, os.Getpid())
	}
}

func TestWarningsAreSaidBeforeTheBackground(t *testing.T) {
	host, port, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	r := magent(t, "-l", host, "-p", port, "-s", newNode(t).Addr(), "-b", newNode(t).Addr(), "--pidfile", pidFile)
	endDaemon(t, pidFile)
	if r.code != 0 || !strings.HasPrefix(r.stderr, "magent: warning: ") || !strings.Contains(r.stderr, "127.0.0.1") {
		t.Errorf("exit status %d, standard error %q", r.code, r.stderr)
	}
}

func TestHelpAndVersion(t *testing.T) {
	if testing.Short() {
		return // a text has no races, and the binary that looks for them takes a second to start
	}
	for _, args := range []string{"-h", "--help", "help", "serve -h", "-Dh"} {
		r := magent(t, strings.Fields(args)...)
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%s: exit status %d, standard error %q", args, r.code, r.stderr)
		}
		for _, word := range []string{"-s, --server", "-n, --max-conns", "magent demo"} {
			if !strings.Contains(r.out, word) {
				t.Errorf("%s: there is no %q in %q", args, word, r.out)
			}
		}
	}
	if r := magent(t, "demo", "-h"); r.code != 0 || !strings.Contains(r.out, "--kill-every") {
		t.Errorf("demo -h: %+v", r)
	}
	if r := magent(t, "help", "faults"); r.code != 0 || r.out != memnode.Language || r.stderr != "" {
		t.Errorf("help faults: %+v", r)
	}
	if r := magent(t, "version"); r.code != 0 || !strings.HasPrefix(r.out, "magent 1.") || !strings.Contains(r.out, "go1.") {
		t.Errorf("version: %+v", r)
	}
}
