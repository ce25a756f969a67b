package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	programs "magent/bench/process"
	"magent/bench/process/proctest"
)

// filed is a placed magent with a file.
type filed struct {
	*placed
	file string
	base string // of the file: listen and pools
}

// placeFile launches one in front of nodes, a copy each, with a file of these further fields.
func placeFile(t *testing.T, nodes []string, fields string, args ...string) *filed {
	t.Helper()
	dir := t.TempDir()
	p := &filed{placed: &placed{asked: &asked{t, freeAddr(t), adminPath(t)}, binary: filepath.Join(dir, "magent"),
		pidFile: filepath.Join(dir, "pid"), logFile: filepath.Join(dir, "log")}, file: filepath.Join(dir, "magent.yml")}
	p.base = fmt.Sprintf("listen: [%s]\npools: {main: {copies: [[%s]], timeout: 10s, connect-timeout: 10s}}\n"+
		"pidfile: pid\nlog-file: log\nadmin: %s\nloops: 2\n", p.addr, strings.Join(nodes, "], ["), p.admin)
	p.write(p.base + fields)
	p.install(binary)
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Command(p.binary, append([]string{"serve", "--config", "magent.yml"}, args...)...)
	cmd.Dir, cmd.Stderr = dir, stderr
	launch(t, cmd)
	p.says("listening", 1)
	p.endsWithTest()
	return p
}

// write puts another file in the place of the one that is there, as editors do.
func (p *filed) write(text string) {
	p.t.Helper()
	err := os.WriteFile(p.file+"~", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(p.file+"~", p.file)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// reloads waits until another process than old has everything.
func (p *filed) reloaded(old int) (pid int) {
	p.t.Helper()
	proctest.Eventually(p.t, "another process has taken over", func() bool { return !alive(old) })
	if pid = readPid(p.t, p.pidFile); pid == old {
		p.t.Fatalf("the process is still %d", old)
	}
	return pid
}

// asks asks at the admin endpoint, with a body unless it is empty.
func (p *filed) asks(method, path, body string) (status int, text string) {
	p.t.Helper()
	c := http.Client{Timeout: proctest.Patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.admin)
		}}}
	r, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, contents(p.t, resp.Body)
}

// Two hundred clients that always have something on its way notice nothing of reloads, asked for
// in every way, that change what a pool does, add a listener, and take it away.
func TestReloadUnderLoad(t *testing.T) {
	nodes, _ := twoMemcacheds(t)
	p := placeFile(t, nodes, "max-conns: 1000\n")
	count := 200
	if testing.Short() {
		count = 40
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	var clients []*counter
	for i := range count {
		c, err := newCounter(p.addr, fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
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
	second := filepath.Join(filepath.Dir(p.admin), "second")
	more := strings.Replace(p.base, "]\n", ", "+second+"]\n", 1)
	for _, c := range []struct {
		text string
		ask  func(old int)
		open bool // the second listener is
	}{
		{p.base + "max-conns: 2000\n", func(old int) { syscall.Kill(old, syscall.SIGHUP) }, false},
		{more + "max-conns: 2000\n", func(int) {
			if code, text := p.asks("POST", "/reload", "{}"); code != http.StatusOK {
				t.Errorf("/reload is answered %d, %s", code, text)
			}
		}, true},
		{p.base + "max-conns: 1000\n", func(int) {
			if text, err := types(t, newReload(), "--admin", p.admin); err != nil || text != "what the file says is in force\n" {
				t.Errorf("%v, %s", err, text)
			}
		}, false},
	} {
		old := readPid(t, p.pidFile)
		p.write(c.text)
		c.ask(old)
		p.reloaded(old)
		if got := reachable("unix", second); got != c.open {
			t.Errorf("the second listener is open: %v, want %v", got, c.open)
		}
		for i, from := range rounds(clients) {
			proctest.Eventually(t, "a client is answered", func() bool { return clients[i].rounds.Load() > from || t.Failed() })
		}
	}
	close(stop)
	all.Wait()
	if _, err := os.Lstat(second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket of the listener that is gone is left behind: %v", err)
	}
	_, text := p.asks("GET", "/metrics", "")
	for _, want := range []string{`magent_reloads_total{result="done"} 3`, `magent_reloads_total{result="refused"} 0`, `magent_reloads_total{result="failed"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
}

// rounds is how far each client is.
func rounds(clients []*counter) (all []int64) {
	for _, c := range clients {
		all = append(all, c.rounds.Load())
	}
	return all
}

// A pool that grows by a reload loses nothing of what it holds.
func TestReloadMovesKeys(t *testing.T) {
	t.Parallel()
	nodes, _ := twoMemcacheds(t)
	third := proctest.Memcached(t, programs.MemcachedConfig{}).Addr
	p := placeFile(t, nodes, "")
	grown := func(nodes ...string) string {
		copies := "copies: [[" + strings.Join(nodes, ", ") + "]], distribution: ketama, "
		return regexp.MustCompile(`copies: .*]], `).ReplaceAllLiteralString(p.base, copies)
	}
	const keys = 300
	pid := readPid(t, p.pidFile)
	reload := func(text string) {
		t.Helper()
		p.write(text)
		if code, text := p.asks("POST", "/reload", "{}"); code != http.StatusOK {
			t.Fatalf("/reload is answered %d, %s", code, text)
		}
		pid = p.reloaded(pid)
	}
	reload(grown(nodes...))
	c, err := newCounter(p.addr, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	for i := range keys {
		if err := c.asks(fmt.Sprintf("set k%d 0 0 1\r\nx\r\n", i), "STORED"); err != nil {
			t.Fatal(err)
		}
	}
	reload(grown(append(nodes, third)...))
	for i := range keys {
		if err := c.asks(fmt.Sprintf("get k%d\r\n", i), fmt.Sprintf("VALUE k%d 0 1", i), "x", "END"); err != nil {
			t.Fatal(err)
		}
	}
}

// A file with faults, one that asks for what only root could do, and one that no process can put
// in force change nothing, and are told; then a good one is taken.
func TestReloadThatIsRefused(t *testing.T) {
	t.Parallel()
	nodes, _ := twoMemcacheds(t)
	p := placeFile(t, nodes, "restart-wait: 5s\n")
	old := readPid(t, p.pidFile)
	c, err := newCounter(p.addr, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	steps := 0
	goesOn := func() {
		t.Helper()
		steps++
		if err := c.asks("incr na 1\r\n", fmt.Sprint(steps)); err != nil || readPid(t, p.pidFile) != old {
			t.Errorf("a client is told %v", err)
		}
		if code, text := p.asks("GET", "/config", ""); code != http.StatusOK || !strings.Contains(text, "restart-wait: 5s\n") || strings.Contains(text, "loops: 3") {
			t.Errorf("/config is answered %d, %s", code, text)
		}
	}
	goesOn()

	p.write(p.base + "loops: 3\nrestart-wiat: 5s\nuser: [a]\n")
	syscall.Kill(old, syscall.SIGHUP)
	p.says("not reloaded: the configuration in force stays", 1)
	p.says("a fault in the configuration", 3)
	code, text := p.asks("POST", "/reload", "{}")
	if code != http.StatusUnprocessableEntity || !strings.Contains(text, `"faults": [`) || !strings.Contains(text, `magent.yml:8:1: a configuration has no \"restart-wiat\": is restart-wait meant?`) {
		t.Errorf("/reload is answered %d, %s", code, text)
	}
	if _, err := types(t, newReload(), "--admin", p.admin); err == nil || !strings.Contains(err.Error(), "\nmagent.yml:8:1: ") {
		t.Errorf("magent reload says %v", err)
	}
	goesOn()

	p.write(p.base + "restart-wait: 5s\nuser: nobody\n")
	if code, text := p.asks("POST", "/reload", "{}"); code != http.StatusUnprocessableEntity || !strings.Contains(text, "that takes a restart") {
		t.Errorf("/reload is answered %d, %s", code, text)
	}
	goesOn()

	busy := occupy(t).Addr().String()
	p.write(strings.Replace(p.base, "]\n", ", "+busy+"]\n", 1) + "restart-wait: 5s\n")
	if code, text := p.asks("POST", "/reload", "{}"); code != http.StatusConflict || !strings.Contains(text, "exit status 1") {
		t.Errorf("/reload is answered %d, %s", code, text)
	}
	goesOn()
	if err := os.Remove(p.file); err != nil {
		t.Fatal(err)
	}
	if code, text := p.asks("POST", "/reload", "{}"); code != http.StatusUnprocessableEntity || !strings.Contains(text, "no such file") {
		t.Errorf("/reload is answered %d, %s", code, text)
	}
	goesOn()
	_, text = p.asks("GET", "/metrics", "")
	for _, want := range []string{`magent_reloads_total{result="done"} 0`, `magent_reloads_total{result="refused"} 5`, `magent_reloads_total{result="failed"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	p.write(p.base + "restart-wait: 6s\n")
	if code, text := p.asks("POST", "/reload", "{}"); code != http.StatusOK {
		t.Errorf("/reload is answered %d, %s", code, text)
	}
	p.reloaded(old)
	if code, text := p.asks("GET", "/config", ""); code != http.StatusOK || !strings.Contains(text, "restart-wait: 6s\n") {
		t.Errorf("/config is answered %d, %s", code, text)
	}
}

// Where there is no file HUP is what it was, and nothing can be reloaded; and --config is told
// of all of it.
func TestReloadWithoutAFile(t *testing.T) {
	t.Parallel()
	nodes, _ := twoMemcacheds(t)
	p := place(t, nodes)
	f := &filed{placed: p}
	if code, text := f.asks("POST", "/reload", "{}"); code != http.StatusConflict || !strings.Contains(text, "without --config") {
		t.Errorf("/reload is answered %d, %s", code, text)
	}
	if code, text := f.asks("GET", "/config", ""); code != http.StatusOK || !strings.Contains(text, "  - tcp: "+p.addr+"\n") {
		t.Errorf("/config is answered %d, %s", code, text)
	}
	syscall.Kill(readPid(t, p.pidFile), syscall.SIGHUP)
	proctest.Eventually(t, "it has ended", func() bool { return !reachable("tcp", p.addr) })
	os.Remove(p.pidFile)
}

// With --watch a change of the file is noticed, however it is made; one to a faulty one is told,
// and one back to what is in force is nothing.
func TestReloadByWatching(t *testing.T) {
	t.Parallel()
	nodes, _ := twoMemcacheds(t)
	p := placeFile(t, nodes, "watch: true\n")
	pid := readPid(t, p.pidFile)
	p.write(p.base + "watch: true\nmax-conns: 77\n")
	pid = p.reloaded(pid)
	p.write(p.base + "watch: true\nmax-conns: x\n")
	p.says("a fault in the configuration", 1)
	p.write(p.base + "watch: true\nmax-conns: 77\n")
	p.says("the configuration file says again what is in force", 1)

	// In place, a part at a time.
	good := p.base + "watch: true\nmax-conns: 78\n"
	f, err := os.OpenFile(p.file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += 16 {
		f.WriteString(good[i:min(i+16, len(good))])
	}
	f.Close()
	p.reloaded(pid)
	if _, text := p.asks("GET", "/config", ""); !strings.Contains(text, "max-conns: 78\n") {
		t.Errorf("in force is %s", text)
	}
	if _, text := p.asks("GET", "/metrics", ""); !strings.Contains(text, `magent_reloads_total{result="done"} 2`) {
		t.Errorf("it was not reloaded twice: %s", text)
	}
}

// The watcher sees what a link stands for, through the directories that it goes through, and
// nothing in what happens beside it.
func TestWatcherFollowsLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Symlink(to, path+".new"), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write("1/f", "one") // as Kubernetes has it
	link("1", "data")
	link("data/f", "f")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	changes := make(chan struct{}, 10)
	if err := watchFile(ctx, filepath.Join(dir, "f"), []byte("one"), func() { changes <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	wants := func() {
		t.Helper()
		select {
		case <-changes:
		case <-time.After(proctest.Patience):
			t.Fatal("no change is told")
		}
	}
	write("2/f", "two")
	link("2", "data")
	wants()
	write("2/f", "three")
	wants()
	os.Remove(filepath.Join(dir, "f"))
	write("beside", "nothing")
	link("data/f", "f")
	write("2/f", "four")
	wants()
	if len(changes) > 0 {
		t.Errorf("%d changes too many", len(changes))
	}
}
