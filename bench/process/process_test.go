package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

// TestMain runs the tests, or, told so by its first argument, a program that they
// need. The second is a port.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || strings.HasPrefix(os.Args[1], "-") {
		// With -race a program would wait a second before it ends.
		if err := os.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE")); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	switch role, port := os.Args[1], os.Args[2]; role {
	case "deaf":
		signal.Ignore(unix.SIGTERM)
		serve(port)
	case "serve":
		serve(port)
	case "mute":
		fmt.Println("thinking")
		select {}
	case "driver":
		drive()
	case "interrupted":
		interrupted()
	default:
		panic(role)
	}
}

// serve says its pid to whoever connects.
func serve(port string) {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		if c, err := l.Accept(); err == nil {
			fmt.Fprintln(c, os.Getpid())
			c.Close()
		}
	}
}

// drive starts a memcached, says its pid, and goes on until it is killed.
func drive() {
	p, err := process.Memcached(context.Background(), process.MemcachedConfig{})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID)
	select {}
}

// interrupted starts a program, is ready, waits for SIGINT as from a terminal, ends the
// program by SIGTERM and says what did end it.
func interrupted() {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)
	cmd := exec.Command("sleep", "1000")
	done, err := process.Launch(cmd, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	<-interrupts
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		panic(err)
	}
	<-done
	fmt.Println(cmd.ProcessState)
}

// self is this binary in a role. It counts its starts, and keeps the last directory.
type self struct {
	role   string
	starts atomic.Int32
	dir    string
}

func (s *self) recipe() process.Recipe {
	return process.Recipe{Name: s.role, Path: os.Args[0], Args: func(port int, dir string) ([]string, error) {
		s.dir = dir
		s.starts.Add(1)
		return []string{s.role, strconv.Itoa(port)}, nil
	}}
}

func (s *self) start(t *testing.T) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), s.recipe())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Kill(), p.Stop()); err != nil {
			t.Error(err)
		}
		s.left(t)
	})
	return p
}

// left demands that nothing is left of it.
func (s *self) left(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its directory is still there: %v", err)
	}
}

// saidPID is what a serve at addr says.
func saidPID(t *testing.T, addr string) int {
	t.Helper()
	c := dial(t, addr)
	line, err := bufio.NewReader(c).ReadString('\n')
	pid, bad := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || bad != nil {
		t.Fatalf("%s says %q: %v", addr, line, err)
	}
	return pid
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a line to a memcached and returns the first of the answer, within limit.
func ask(c net.Conn, request string, limit time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// answers demands that a memcached does.
func answers(t *testing.T, p *process.Process) {
	t.Helper()
	if got, err := ask(dial(t, p.Addr), "mn", proctest.Patience); got != "MN" {
		t.Errorf("%s at %s answers %q, %v", p.Name, p.Addr, got, err)
	}
}

// gone reports whether pid runs nothing any more.
func gone(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err != nil
}

func TestProgramThatIsMissing(t *testing.T) {
	s := &self{role: "serve"}
	r := s.recipe()
	r.Path = "/no/such/program"
	_, err := process.Start(t.Context(), r)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(fmt.Sprint(err), r.Path) {
		t.Errorf("got %v", err)
	}
	if n := s.starts.Load(); n != 1 {
		t.Errorf("it is looked for %d times", n)
	}
	s.left(t)
}

// All the CPUs named have to be there: on some of them it would not be what was asked for.
func TestProgramThatCannotBePinned(t *testing.T) {
	all, err := process.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	s := &self{role: "serve"}
	r := s.recipe()
	for _, r.CPUs = range [][]int{{1000}, append(slices.Clone(all), 1000)} {
		if _, err := process.Start(t.Context(), r); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "1000") {
			t.Errorf("started on %v: %v", r.CPUs, err)
		}
		s.left(t)
		if err := process.Pin(os.Getpid(), r.CPUs); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "1000") {
			t.Errorf("pinned to %v: %v", r.CPUs, err)
		}
	}
	if now, err := process.CPUs(); err != nil || !slices.Equal(now, all) {
		t.Errorf("may use %v after it, %v; before it %v", now, err, all)
	}
}

func TestRecipeThatFails(t *testing.T) {
	bad := errors.New("no flour")
	var dir string
	_, err := process.Start(t.Context(), process.Recipe{Name: "cake", Path: "true",
		Args: func(_ int, d string) ([]string, error) { dir = d; return nil, bad }})
	if !errors.Is(err, bad) || !strings.Contains(err.Error(), "cake") {
		t.Errorf("got %v", err)
	}
	(&self{dir: dir}).left(t)
}

// A program that ends at once may have found its port taken, so it is tried anew;
// its last words are told, and no more than the last 64 KiB of them.
func TestProgramThatEndsAtOnce(t *testing.T) {
	starts := 0
	_, err := process.Start(t.Context(), process.Recipe{Name: "dud", Path: "sh",
		Args: func(int, string) ([]string, error) {
			starts++
			return []string{"-c", "echo early; yes | head -c 300000; echo no such luck >&2; exit 3"}, nil
		}})
	text := fmt.Sprint(err)
	if !strings.Contains(text, "dud ended at its start (exit status 3)") || !strings.HasSuffix(text, "no such luck") {
		t.Errorf("got %.80q ... %q", text, text[max(0, len(text)-80):])
	}
	if strings.Contains(text, "early") || len(text) < 60<<10 || len(text) > 65<<10 {
		t.Errorf("%d bytes are kept", len(text))
	}
	if starts != 3 {
		t.Errorf("it is tried %d times", starts)
	}
}

func TestProgramThatNeverListens(t *testing.T) {
	s := &self{role: "mute"}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := process.Start(ctx, s.recipe())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not listen") || !strings.Contains(err.Error(), "thinking") {
		t.Errorf("got %v", err)
	}
	if n := s.starts.Load(); n != 1 {
		t.Errorf("it is tried %d times", n)
	}
	s.left(t)
}

// Another program's answering at the port is not ours being ready.
func TestPortOfAnother(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &self{role: "serve"}
	r := s.recipe()
	args := r.Args
	r.Args = func(port int, dir string) ([]string, error) {
		if s.starts.Load() == 0 {
			port = l.Addr().(*net.TCPAddr).Port
		}
		return args(port, dir)
	}
	p, err := process.Start(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if pid := saidPID(t, p.Addr); pid != p.PID || p.Addr == l.Addr().String() || s.starts.Load() != 2 {
		t.Errorf("%s is %d, want %d, after %d starts", p.Addr, pid, p.PID, s.starts.Load())
	}
}

func TestStop(t *testing.T) {
	s := &self{role: "serve"}
	p := s.start(t)
	if pid := saidPID(t, p.Addr); pid != p.PID {
		t.Errorf("%d listens, not %d", pid, p.PID)
	}
	if err := process.StopAll([]*process.Process{p, {Name: "nobody's"}}); err != nil {
		t.Error(err)
	}
	<-p.Done()
	s.left(t)
	if err := p.Stop(); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestStopOfOneThatIsDeaf(t *testing.T) {
	t.Parallel()
	s := &self{role: "deaf"}
	p := s.start(t)
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "deaf did not end") {
		t.Errorf("got %v", err)
	}
	<-p.Done()
	s.left(t)
}

// One is killed although something that it started goes on, with its output open.
func TestKillOfAParent(t *testing.T) {
	t.Parallel()
	p, err := process.Start(t.Context(), process.Recipe{Name: "parent", Path: "sh",
		Args: func(port int, _ string) ([]string, error) {
			return []string{"-c", `"$0" mute 0 & exec "$0" serve "$1"`, os.Args[0], strconv.Itoa(port)}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.PID))
	child, bad := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil || bad != nil {
		t.Fatalf("its children are %q: %v", children, err)
	}
	defer unix.Kill(child, unix.SIGKILL)
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if !gone(p.PID) || gone(child) {
		t.Errorf("gone: %v, its child: %v", gone(p.PID), gone(child))
	}
}

func TestKillAndRestart(t *testing.T) {
	for _, host := range []string{"", "::1", process.Unix} {
		t.Run(host, func(t *testing.T) {
			p := proctest.Memcached(t, process.MemcachedConfig{Listen: host}).Process
			addr, pid, done := p.Addr, p.PID, p.Done()
			if got, err := ask(dial(t, addr), "set k 0 0 1\r\nx", proctest.Patience); got != "STORED" {
				t.Fatalf("%q, %v", got, err)
			}
			select {
			case <-done:
				t.Error("done before it is")
			default:
			}
			if err := p.Kill(); err != nil {
				t.Fatal(err)
			}
			<-done
			if err := p.Signal(unix.SIGHUP); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("a signal to the dead: %v", err)
			}
			if err := p.Freeze(); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("freezing the dead: %v", err)
			}
			if err := p.Kill(); err != nil {
				t.Errorf("killing the dead: %v", err)
			}
			if err := p.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if p.Addr != addr || p.PID == pid {
				t.Errorf("restarted at %s as %d, was at %s as %d", p.Addr, p.PID, addr, pid)
			}
			if got, err := ask(dial(t, addr), "get k", proctest.Patience); got != "END" {
				t.Errorf("the restarted has %q, %v", got, err)
			}
		})
	}
}

// A restart ends what still runs, and waits for a port that is somebody else's.
func TestRestart(t *testing.T) {
	s := &self{role: "serve"}
	p := s.start(t)
	pid, done := p.PID, p.Done()
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if got := saidPID(t, p.Addr); got != p.PID || got == pid {
		t.Errorf("%d listens, want %d, which is not %d", got, p.PID, pid)
	}

	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := p.Restart(ctx); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("on a port that stays taken: %v", err)
	}

	before := s.starts.Load()
	restarted := make(chan error)
	go func() { restarted <- p.Restart(t.Context()) }()
	proctest.Eventually(t, "it is tried twice", func() bool { return s.starts.Load() >= before+2 })
	l.Close()
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if got := saidPID(t, p.Addr); got != p.PID {
		t.Errorf("%d listens, want %d", got, p.PID)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	p := proctest.Memcached(t, process.MemcachedConfig{}).Process
	c := dial(t, p.Addr)
	if got, err := ask(c, "mn", proctest.Patience); got != "MN" {
		t.Fatalf("%q, %v", got, err)
	}
	for range 20 {
		if err := p.Freeze(); err != nil {
			t.Fatal(err)
		}
		for tid, state := range states(t, p.PID) {
			if state != "T" {
				t.Errorf("thread %s is in state %s", tid, state)
			}
		}
		if err := p.Thaw(); err != nil {
			t.Fatal(err)
		}
		answers(t, p)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(c, "mn", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it answers %q, %v", got, err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("the frozen are killed, too: %v", err)
	}
}

// One that is frozen is stopped as any other: it must not wait to be killed.
func TestStopOfOneThatIsFrozen(t *testing.T) {
	p := (&self{role: "serve"}).start(t)
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// states is the state of each thread of pid.
func states(t *testing.T, pid int) map[string]string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d threads, %v", len(files), err)
	}
	m := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		_, state, ok := strings.Cut(string(text), "State:\t")
		if err != nil || !ok {
			t.Fatal(file, err)
		}
		m[filepath.Base(filepath.Dir(file))] = state[:1]
	}
	return m
}

func TestAttach(t *testing.T) {
	node := proctest.Memcached(t, process.MemcachedConfig{})
	p, err := process.Attach(node.PID, node.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "memcached" || p.Addr != node.Addr || p.PID != node.PID {
		t.Errorf("attached to %+v", p)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(dial(t, p.Addr), "mn", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it answers %q, %v", got, err)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	answers(t, p)
	if err := p.Restart(t.Context()); err == nil {
		t.Error("it was restarted")
	}
	select {
	case <-p.Done():
		t.Error("done before it is")
	default:
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-node.Done()
	if err := p.Signal(unix.SIGHUP); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal to the dead: %v", err)
	}
	for _, pid := range []int{node.PID, 0, -1} {
		if p, err := process.Attach(pid, ""); err == nil {
			t.Errorf("attached to %d, %s", pid, p.Name)
		}
	}
	if err := (&process.Process{PID: node.PID}).Signal(unix.SIGHUP); err == nil {
		t.Error("a signal to what was never found")
	}
}

// A program that is started on a CPU stays there with all its threads; what is started
// after it is where this process is.
func TestPinning(t *testing.T) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	var last int
	for cpu := range 1024 {
		if before.IsSet(cpu) {
			last = cpu
		}
	}
	var one unix.CPUSet
	one.Set(last)
	pinned := proctest.Memcached(t, process.MemcachedConfig{CPUs: []int{last}})
	free := proctest.Memcached(t, process.MemcachedConfig{})
	demand := func(p *proctest.Process, want unix.CPUSet) {
		t.Helper()
		for tid := range states(t, p.PID) {
			var got unix.CPUSet
			n, err := strconv.Atoi(tid)
			if err == nil {
				err = unix.SchedGetaffinity(n, &got)
			}
			if err != nil || got != want {
				t.Errorf("thread %s: %v, %v", tid, got, err)
			}
		}
	}
	demand(pinned, one)
	demand(free, before)
	if err := process.Pin(free.PID, []int{last}); err != nil {
		t.Error(err)
	}
	demand(free, one)
	free.Kill()
	if err := process.Pin(free.PID, []int{last}); err == nil {
		t.Error("the dead were pinned")
	}
}

// What goroutines start outlives their threads.
func TestThreadsThatEnd(t *testing.T) {
	nodes, tids := make([]*process.Process, 8), make([]int, 8)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() {
			runtime.LockOSThread() // and the thread ends with the goroutine
			tids[i] = unix.Gettid()
			var err error
			if nodes[i], err = process.Memcached(context.Background(), process.MemcachedConfig{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ended := 0
	for i, p := range nodes {
		if p == nil {
			continue
		}
		defer func() {
			if err := errors.Join(p.Kill(), p.Stop()); err != nil {
				t.Error(err)
			}
		}()
		if tids[i] == os.Getpid() { // Go keeps the main thread
			continue
		}
		ended++
		proctest.Eventually(t, "the thread ends", func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tids[i]))
			return errors.Is(err, fs.ErrNotExist)
		})
	}
	if ended < 7 {
		t.Errorf("only %d threads ended", ended)
	}
	for _, p := range nodes {
		if p != nil {
			answers(t, p)
		}
	}
}

// A driver that is killed leaves nothing running behind.
func TestDriverThatIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0], "driver", "0")
	dir := t.TempDir() // nobody is left to remove what the node kept
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := proctest.Launch(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	node, err := process.Attach(pid, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	proctest.Eventually(t, "the node ends with it", func() bool {
		select {
		case <-node.Done():
			return true
		default:
			return false
		}
	})
}

// Ctrl-C goes to the driver's process group, and the driver ends in order what it
// started.
func TestDriverThatIsInterrupted(t *testing.T) {
	out, in, err := os.Pipe() // which nobody closes when it ends
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(os.Args[0], "interrupted", "0")
	cmd.Stdout = in
	ended := proctest.Launch(t, cmd)
	in.Close()
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "signal: terminated\n" {
		t.Errorf("how the program ended: %q, %v", line, err)
	}
	<-ended
}

func TestVersion(t *testing.T) {
	if got := process.Version("sh", "-c", "echo; echo one; echo two"); got != "one" {
		t.Errorf("got %q", got)
	}
	if got := process.Version("/no/such/program"); !strings.Contains(got, "/no/such/program") {
		t.Errorf("got %q", got)
	}
}

func TestParseCPUs(t *testing.T) {
	for in, want := range map[string][]int{"": nil, "0": {0}, "1,3-5": {1, 3, 4, 5}} {
		if got, err := process.ParseCPUs(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"x", "1-", "3-1", "1,,2", "-1", "99999"} {
		if got, err := process.ParseCPUs(bad); err == nil {
			t.Errorf("%q was accepted as %v", bad, got)
		}
	}
}
