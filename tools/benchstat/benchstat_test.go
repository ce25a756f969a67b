// Package benchstat holds what make benchstat runs, a script, and its test: that runs
// it in a repository of its own, on the test's goroutine, and imports the standard
// library only. It needs no network: benchstat itself is a double.
package benchstat

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// repository is one with a package whose benchmark writes into a file which side it
// is of, and a go command whose benchstat says what it is given.
type repository struct {
	t         *testing.T
	dir       string
	temporary string // what the script leaves there it has forgotten
	ran       string // the file
	env       []string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir(), temporary: t.TempDir()}
	r.ran = filepath.Join(t.TempDir(), "ran")
	golang, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	double := fmt.Sprintf("#!/bin/sh\n[ \"$1 $2\" = 'tool benchstat' ] || exec %s \"$@\"\nshift 4\necho compared \"$@\"\n", golang)
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(double), 0o755); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+r.temporary, "RAN="+r.ran,
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@localhost",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@localhost", "GOFLAGS=-ldflags=-w", "GOPROXY=off", "GOWORK=off")
	r.git("init", "-q")
	r.write("go.mod", "module tiny\n\ngo 1.26\n")
	r.write(".gitignore", "/bin/\n")
	return r
}

func (r *repository) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// side has the package of folder part say name; body is what else it does.
func (r *repository) side(part, name, body string) {
	r.t.Helper()
	r.write(part+"/side_test.go", fmt.Sprintf(`package side

import (
	"os"
	"testing"
)

func BenchmarkSide(b *testing.B) {
	b.Run("k=v", func(b *testing.B) {
		f, err := os.OpenFile(os.Getenv("RAN"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		f.WriteString("%s ")
		f.Close()
		%s
		for b.Loop() {
		}
	})
}
`, name, body))
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return string(out)
}

// commit is of all that there is, and tagged if tag is not empty.
func (r *repository) commit(tag string) {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "m")
	if tag != "" {
		r.git("tag", tag)
	}
}

// script is the command with these variables beside the usual ones.
func (r *repository) script(vars ...string) *exec.Cmd {
	r.t.Helper()
	path, err := filepath.Abs("benchstat.sh")
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Dir, cmd.Env = r.dir, append(append(r.env, "BASE=", "BENCHES=", "COUNT=1", "BENCHTIME=1x"), vars...)
	return cmd
}

// run is what the script says, and its exit status.
func (r *repository) run(vars ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	cmd := r.script(vars...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	r.clean()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// clean demands that nothing is left of the script.
func (r *repository) clean() {
	r.t.Helper()
	if left, err := os.ReadDir(r.temporary); err != nil || len(left) > 0 {
		r.t.Errorf("%v, %v is left in the temporary directory", left, err)
	}
	if trees := r.git("worktree", "list"); strings.Count(trees, "\n") != 1 {
		r.t.Errorf("these work trees are left:\n%s", trees)
	}
}

// order is which sides have run, and forgets it.
func (r *repository) order() string {
	text, err := os.ReadFile(r.ran)
	if err != nil {
		return err.Error()
	}
	os.Remove(r.ran)
	return strings.TrimSpace(string(text))
}

// The working tree, not what is committed of it, is compared with the newest release,
// and the two take turns.
func TestComparesWithTheLastRelease(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.side("a", "release9", "")
	r.commit("v1.9.0")
	r.side("a", "candidate", "")
	r.commit("v1.10.0-rc1")
	r.side("a", "release10", "")
	r.commit("v1.10.0")
	r.side("a", "committed", "")
	r.commit("")
	r.side("a", "tree", "")
	r.side("b/new", "new", "") // which the release has not

	figures := filepath.Join(r.dir, "bin/benchstat")
	out, stderr, code := r.run("COUNT=3")
	if want := fmt.Sprintf("compared v1.10.0=%s/base.txt head=%[1]s/head.txt\n", figures); out != want || code != 0 {
		t.Errorf("it prints %q, want %q; exit status %d, %s", out, want, code, stderr)
	}
	if got, want := r.order(), "release10 tree new tree release10 new release10 tree new"; got != want {
		t.Errorf("what ran is %s, want %s", got, want)
	}
	for side, want := range map[string]int{"base": 3, "head": 6} {
		text, err := os.ReadFile(filepath.Join(figures, side+".txt"))
		if n := strings.Count(string(text), "BenchmarkSide/k=v"); n != want || err != nil {
			t.Errorf("%s.txt has %d lines, %v, want %d:\n%s", side, n, err, want, text)
		}
	}

	if _, stderr, code := r.run("BASE=v1.9.0", "BENCHES=./b/... ./a/ Nothing Side/k=.*$"); code != 0 {
		t.Errorf("exit status %d: %s", code, stderr)
	}
	if got, want := r.order(), "release9 tree new"; got != want {
		t.Errorf("what ran is %s, want %s", got, want)
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.side("a", "side", `if os.Getenv("FAIL") != "" { b.Fatal("no good") }`)
	r.commit("")
	for _, c := range []struct {
		vars []string
		want string
	}{
		{nil, "there is no release yet, no tag v* before HEAD: name a commit, as in make benchstat BASE="},
		{[]string{"BASE=nonsense"}, "BASE=nonsense is no commit here"},
		{[]string{"BASE=HEAD", "BENCHES=./nonsense"}, "no package has a benchmark: BENCHES=./nonsense"},
		{[]string{"BASE=HEAD", "BENCHES=Nonsense"}, "no benchmark of ./a matches Nonsense"},
		{[]string{"BASE=HEAD", "FAIL=1"}, "no good"},
	} {
		out, stderr, code := r.run(c.vars...)
		if out != "" || code != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: %q, %q, exit status %d, want 1 and %q", c.vars, out, stderr, code, c.want)
		}
	}
}

// Ctrl-C is for all processes in front of the terminal.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.side("a", "side", "os.Stdin.Read(make([]byte, 1))")
	r.commit("")
	cmd := r.script("BASE=HEAD")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe() // nothing comes
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer kill.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for runs := false; !runs; {
		select {
		case err := <-ended:
			t.Fatalf("it ended early: %v: %s", err, &stderr)
		case <-poll.C:
			_, err := os.Stat(r.ran)
			runs = err == nil
		}
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	<-ended
	if cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("it ended with %v, want exit status 130: %s", cmd.ProcessState, &stderr)
	}
	r.clean()
}
