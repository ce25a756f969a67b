package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/config"
)

func TestTermFinishesWhatIsInFlight(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			gate := newGate(t, newNode(t).Addr(), "slow-key")
			addr := freeAddr(t)
			p := startServe(t, addr, "-s", gate.addr, "--timeout", "10s")
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(proctest.Patience))
			io.WriteString(c, "get slow-key\r\n")
			<-gate.shut
			p.Process.Signal(signal)
			proctest.Eventually(t, "closed to new clients", func() bool { return !reachable("tcp", addr) })
			close(gate.open)
			got := make([]byte, 5)
			if _, err := io.ReadFull(c, got); string(got) != "END\r\n" {
				t.Errorf("the request in flight got %q, %v", got, err)
			}
			if code := p.ended(); code != 0 {
				t.Errorf("exit status %d: %s", code, p.stderr)
			}
		})
	}
}

// gate relays to a node, and holds its answers back from the moment a request
// with a given word in it has passed.
type gate struct {
	addr string
	word []byte
	shut chan struct{} // closed when the word has passed
	open chan struct{} // the test closes it
}

func newGate(t *testing.T, node, word string) *gate {
	ln := occupy(t)
	g := &gate{addr: ln.Addr().String(), word: []byte(word), shut: make(chan struct{}), open: make(chan struct{})}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", node)
			if err != nil {
				client.Close()
				continue
			}
			go g.requests(server, client)
			go g.replies(client, server)
		}
	}()
	return g
}

func (g *gate) requests(to, from net.Conn) {
	defer to.Close()
	var seen []byte
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		seen = append(seen, buf[:n]...)
		if bytes.Contains(seen, g.word) {
			close(g.shut)
			seen = nil
		}
		to.Write(buf[:n])
	}
}

func (g *gate) replies(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-g.shut:
			<-g.open
		default:
		}
		to.Write(buf[:n])
	}
}

func TestTermIsBounded(t *testing.T) {
	t.Parallel()
	gate := newGate(t, newNode(t).Addr(), "slow-key")
	addr := freeAddr(t)
	p := startServe(t, addr, "-s", gate.addr, "--timeout", "1h")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "get slow-key\r\n")
	<-gate.shut
	p.Process.Signal(syscall.SIGTERM)
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.stderr)
	}
}

func TestAddressNotYetOnThisMachine(t *testing.T) {
	port := portOf(t, freeAddr(t))
	p := launch(t, exec.Command(binary, "serve", "-l", "192.0.2.77,127.0.0.1", "-p", port, "--admin", "none", "-s", newNode(t).Addr()))
	p.waitFor("tcp", "127.0.0.1:"+port)
	proctest.Eventually(t, "the log names the listener on 192.0.2.77", func() bool {
		return strings.Contains(p.stderr.String(), "192.0.2.77:"+port)
	})
}

func TestIPv6AndNames(t *testing.T) {
	port := portOf(t, freeAddr(t))
	addr := net.JoinHostPort("::1", port)
	_, nodePort, err := net.SplitHostPort(newNode(t).Addr())
	if err != nil {
		t.Fatal(err)
	}
	startServe(t, addr, "-s", "localhost:"+nodePort)
	talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	p := launch(t, exec.Command(binary, "serve", "-p", "0", "-f", path, "-s", newNode(t).Addr()))
	p.waitFor("unix", path)
	talk(t, "unix", path, setHello+getHello, "STORED\r\n"+hello)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the socket has mode %v, %v, want 0644", info.Mode(), err)
	}
}

func TestUserAndGroup(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := user.LookupGroup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	all := func(id string) []string { return []string{id, id, id, id} }
	for _, c := range []struct {
		args     string
		uid, gid string
	}{
		{"-u nobody", nobody.Uid, nobody.Gid},
		{"-u " + nobody.Uid, nobody.Uid, nobody.Gid},
		{"-u nobody -g daemon", nobody.Uid, daemon.Gid},
		{"-g daemon -u nobody", nobody.Uid, daemon.Gid},
		{"-u 4242 -g " + daemon.Gid, "4242", daemon.Gid},
		{"-g daemon", "0", daemon.Gid},
		{"-u root", "0", "0"},
		{"-u 0", "0", "0"},
	} {
		t.Run(c.args, func(t *testing.T) {
			addr := freeAddr(t)
			args := append(strings.Fields(c.args), "-s", newNode(t).Addr())
			if os.Geteuid() != 0 && c.uid+c.gid != "00" {
				magent(t, append(args, "-l", "127.0.0.1", "-p", portOf(t, addr))...).wantFault(t, "need root")
				return
			}
			p := startServe(t, addr, args...)
			if os.Geteuid() != 0 {
				return // -u root is no wish to change: that it serves is all there is to see
			}
			talk(t, "tcp", addr, setHello, "STORED\r\n")
			if got := statusField(t, p.Process.Pid, "Uid"); !slices.Equal(got, all(c.uid)) {
				t.Errorf("user ids are %v, want %s", got, c.uid)
			}
			if got := statusField(t, p.Process.Pid, "Gid"); !slices.Equal(got, all(c.gid)) {
				t.Errorf("group ids are %v, want %s", got, c.gid)
			}
			if got := statusField(t, p.Process.Pid, "Groups"); c.uid != "0" && slices.Contains(got, "0") {
				t.Errorf("supplementary groups are %v, with root's", got)
			}
		})
	}
	if os.Geteuid() == 0 {
		magent(t, "-s", "127.0.0.1", "-p", "0", "-f", filepath.Join(t.TempDir(), "s"), "-u", "4242").wantFault(t, "add -g")
	}
}

func TestFileLimitIsRaised(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	clients := min(51200, int(limit.Max)/2)
	addr := freeAddr(t)
	script := fmt.Sprintf(`ulimit -Sn 64; exec "$0" serve -l 127.0.0.1 --admin none -p %s -n %d -s %s`, portOf(t, addr), clients, newNode(t).Addr())
	p := launch(t, exec.Command("sh", "-c", script, binary))
	p.waitFor("tcp", addr)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "Max open files")
	if soft, err := strconv.Atoi(strings.Fields(rest)[0]); err != nil || soft <= clients {
		t.Errorf("the limit is %d, %v, want more than %d", soft, err, clients)
	}
}

// underLimit is a command under a hard limit of files that only root could raise.
func underLimit(files int, args ...string) *exec.Cmd {
	script := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files)
	cmd := exec.Command("sh", append([]string{"-c", script, binary}, args...)...)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	return cmd
}

func TestFileLimitThatCannotBeRaised(t *testing.T) {
	addr, node := freeAddr(t), newNode(t).Addr()
	args := []string{"serve", "-l", "127.0.0.1", "-p", portOf(t, addr), "-s", node, "-n"}
	command(t, underLimit(64, append(args, "51200")...)).wantFault(t, "-n 51200 needs", "hard limit is 64")

	p := launch(t, underLimit(512, append(args, "51200")...))
	p.waitFor("tcp", addr)
	for _, words := range []string{"-n 51200 needs", "hard limit is 512", "clients are served"} {
		proctest.Eventually(t, "it says "+words, func() bool { return strings.Contains(p.stderr.String(), words) })
	}
	talk(t, "tcp", addr, setHello, "STORED\r\n")
}

func TestFileLimitIsExplainedBeforeTheBackground(t *testing.T) {
	socket, pidFile := filepath.Join(t.TempDir(), "sock"), filepath.Join(t.TempDir(), "pid")
	r := magent(t, "-p", "0", "-f", socket, "-s", newNode(t).Addr(), "-n", "2000000000", "--pidfile", pidFile)
	endDaemon(t, pidFile)
	if r.code != 0 || !strings.HasPrefix(r.stderr, "magent: warning: -n 2000000000") || !strings.Contains(r.stderr, "fs.nr_open") {
		t.Errorf("exit status %d, standard error %q", r.code, r.stderr)
	}
}

// TestResetClientsDoNotEndIt: magent 0.6 died of SIGPIPE.
func TestResetClientsDoNotEndIt(t *testing.T) {
	addr := freeAddr(t)
	startServe(t, addr, "-s", newNode(t).Addr())
	talk(t, "tcp", addr, setHello, "STORED\r\n")
	for range 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, strings.Repeat(getHello, 1000))
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	talk(t, "tcp", addr, getHello, hello)
}

func TestLostLogReaderDoesNotEndIt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	addr, node := freeAddr(t), newNode(t)
	cmd := exec.Command(binary, "serve", "-v", "--admin", "none", "-l", "127.0.0.1", "-p", portOf(t, addr), "-s", node.Addr())
	cmd.Stderr = w
	p := launch(t, cmd)
	w.Close()
	p.waitFor("tcp", addr)
	r.Close()
	node.Kill() // worth a line of log
	talk(t, "tcp", addr, getHello, "SERVER_ERROR ")
	p.Process.Signal(syscall.SIGTERM) // and so is this
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// Each kind of --profile leaves a file that its tool can read, and that is of this kind.
func TestProfile(t *testing.T) {
	for kind, words := range map[string][]string{
		"cpu":       {"samples", "cpu", "nanoseconds"},
		"mem":       {"alloc_space", "inuse_space", "bytes"},
		"block":     {"contentions", "delay", "selectgo"},
		"mutex":     {"contentions", "delay"},
		"goroutine": {"goroutine", "count"},
		"trace":     {"go 1."},
	} {
		t.Run(kind, func(t *testing.T) {
			dir, addr := t.TempDir(), freeAddr(t)
			p := startServe(t, addr, "-s", newNode(t).Addr(), "--profile", kind, "--profile-dir", dir)
			talk(t, "tcp", addr, setHello+getHello, "STORED\r\n"+hello)
			p.Process.Signal(syscall.SIGTERM)
			if code := p.ended(); code != 0 {
				t.Errorf("exit status %d: %s", code, p.stderr)
			}
			got := profileIn(t, filepath.Join(dir, profiles[kind].file))
			for _, w := range words {
				if !bytes.Contains(got, []byte(w)) {
					t.Errorf("%q is not in it", w)
				}
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("there is %v, %v, want one file", files, err)
			}
		})
	}
	for _, kind := range config.Profiles() {
		if profiles[kind].kind == nil {
			t.Errorf("--profile takes %s and does nothing", kind)
		}
	}
}

// profileIn is a profile without its compression, which only a trace comes without.
func profileIn(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(path) != ".pprof" {
		return text
	}
	packed, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%d bytes that are no pprof file: %v", len(text), err)
	}
	if text, err = io.ReadAll(packed); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestProfileThatCannotBeWritten(t *testing.T) {
	dir, socket := t.TempDir(), filepath.Join(t.TempDir(), "sock")
	for kind, p := range profiles {
		if err := os.Mkdir(filepath.Join(dir, p.file), 0o755); err != nil {
			t.Fatal(err)
		}
		magent(t, "serve", "-p", "0", "-f", socket, "-s", newNode(t).Addr(), "--profile", kind, "--profile-dir", dir).wantFault(t, "--profile "+kind, p.file)
	}
}
