package clients

import (
	"bufio"
	"bytes"
	"flag"
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
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

var long = flag.Bool("long", false, "ask each library for many rounds of work: a minute")

// rounds is how many rounds of work every library does at least in each phase.
func rounds() int64 {
	switch {
	case *long:
		return 25
	case testing.Short():
		return 1
	}
	return 2
}

// A library is one that is tried, by the name that README.md has for it.
type library struct {
	name      string
	program   []string // which does its work; the server's host and port follow, a prefix for keys, and a protocol
	protocols []string // each by a program of its own
}

// debianPython knows Debian's modules. The first in PATH may be another, which does not.
const debianPython = "/usr/bin/python3"

// libraries are all that are tried. gomemcache is where go build has put its program.
func libraries(gomemcache string) []library {
	return []library{
		{"libmemcached", []string{"bash", "libmemcached_work.sh"}, []string{"text", "binary"}},
		{"pylibmc", []string{debianPython, "pylibmc_work.py"}, []string{"text", "binary"}},
		{"pymemcache", []string{debianPython, "pymemcache_work.py"}, []string{"text"}},
		{"php-memcached", []string{"php", "php_work.php"}, []string{"text", "binary"}},
		{"gomemcache", []string{gomemcache}, []string{"text"}},
		{"memjs", []string{"node", "memjs_work.js"}, []string{"binary"}},
	}
}

// A client is a library at its work.
type client struct {
	name string
	done atomic.Int64 // rounds
}

// work asks a library for rounds until stop is closed, and returns when its program has
// ended. A program that sees what it should not says so on standard error, and ends.
func (c *client) work(t *testing.T, cmd *exec.Cmd, stop <-chan struct{}) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	// Python would leave compiled files beside its sources.
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Error(err)
		return
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	ended := proctest.Launch(t, cmd)
	lines := bufio.NewReader(out)
	version, err := lines.ReadString('\n')
	t.Logf("%s: %s", c.name, strings.TrimSpace(version))
	for err == nil && !closed(stop) {
		if _, err = fmt.Fprintln(in); err == nil {
			_, err = lines.ReadString('\n')
		}
		if err == nil {
			c.done.Add(1)
		}
	}
	_ = in.Close()
	_, _ = io.Copy(io.Discard, lines)
	<-ended
	if err != nil || !cmd.ProcessState.Success() || errs.Len() > 0 {
		t.Errorf("%s, after %d rounds: %v, %s\n%s", c.name, c.done.Load(), err, cmd.ProcessState, errs.String())
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// team is all clients.
type team []*client

// more returns when every client has done some more rounds, or one has failed.
func (all team) more(t *testing.T, n int64) {
	t.Helper()
	var want []int64
	for _, c := range all {
		want = append(want, c.done.Load()+n)
	}
	holds := func() bool {
		for i, c := range all {
			if c.done.Load() < want[i] && !t.Failed() {
				return false
			}
		}
		return true
	}
	if !proctest.Within(time.Duration(n)*proctest.Patience, holds) {
		for i, c := range all {
			t.Errorf("%s has done %d rounds, want %d", c.name, c.done.Load(), want[i])
		}
	}
}

// TestLibraries has all libraries at work over two copies of two nodes while a primary is
// killed, comes back empty, is refilled, and its backup is killed then: so what is read at
// the end is what the refill has brought. No library may see an error, a miss, or a value
// that is not the last one.
//
// None counts what is not there: where a lead dies with such a step, nobody can know.
func TestLibraries(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gomemcache")
	if said, err := exec.Command("go", "build", "-o", program, "./gomemcache").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 2, Loops: 2})
	host, port, err := net.SplitHostPort(p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var all team
	var work sync.WaitGroup
	for _, l := range libraries(program) {
		for _, protocol := range l.protocols {
			c := &client{name: l.name + " " + protocol}
			all = append(all, c)
			args := append(slices.Clone(l.program[1:]), host, port, fmt.Sprintf("%d:", len(all)), protocol)
			work.Go(func() { c.work(t, exec.Command(l.program[0], args...), stop) })
		}
	}
	all.watch(t, p)
	close(stop)
	work.Wait()
}

// watch kills nodes of p while all work, until one of them has failed.
func (all team) watch(t *testing.T, p *harness.Proxied) {
	primary, backup := p.Nodes[0][0], p.Nodes[1][0]
	for _, strike := range []func(){
		func() {},
		primary.Kill,
		func() {
			primary.Restart()
			refilled := func() bool { return t.Failed() || stateOf(p, primary) == "up" }
			proctest.Eventually(t, "the primary is refilled", refilled)
		},
		backup.Kill,
	} {
		strike()
		if all.more(t, rounds()); t.Failed() {
			return
		}
	}
}

// stateOf is how the proxy finds n.
func stateOf(p *harness.Proxied, n *harness.Node) string {
	for _, node := range p.Server.Snapshot().Nodes {
		if node.Name == n.Addr {
			return node.State
		}
	}
	return ""
}

// TestReadmeNamesLibraries holds README.md to the libraries and protocols that are tried.
func TestReadmeNamesLibraries(t *testing.T) {
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n### Client libraries\n")
	section, _, _ = strings.Cut(section, "\n#")
	var told []string
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && len(cells) > 2 {
			told = append(told, strings.TrimPrefix(cells[0], "| ")+": "+cells[2])
		}
	}
	want := []string{"library: protocol"}
	for _, l := range libraries("") {
		want = append(want, l.name+": "+strings.Join(l.protocols, ", "))
	}
	slices.Sort(told)
	if !found || !slices.Equal(told, slices.Sorted(slices.Values(want))) {
		t.Errorf("README.md tells of %q, want %q", told, want)
	}
}
