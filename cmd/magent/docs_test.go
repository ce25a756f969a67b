package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"magent/bench/process/proctest"
	"magent/server/config/file"
	"magent/upstream"
	"magent/upstream/health"
	"magent/upstream/route"
)

const (
	readme     = "../../README.md"
	operations = "../../OPERATIONS.md"
)

func document(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentsSayWhatHappens types the console blocks of the documents into a shell
// and compares what it says. "$ " begins a command and "> " goes on with it; all
// else is its output, standard error aside, where "..." stands for any lines. The
// ports are replaced by free ones.
func TestDocumentsSayWhatHappens(t *testing.T) {
	for _, path := range []string{readme, operations} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			steps := consoleSteps(substitutePorts(t, document(t, path)))
			if len(steps) < 5 {
				t.Fatalf("only %d commands found", len(steps))
			}
			if testing.Short() { // the long run types them, with the binary that people have
				return
			}
			sh := startShell(t)
			for _, s := range steps {
				if got := sh.run(s.command); !matchesOutput(s.want, got) {
					t.Fatalf("%s, line %d: %s\ngives\n%swant\n%sand on standard error:\n%s",
						path, s.line, s.command, got, s.want, sh.stderr)
				}
				sh.waitForServers(s.command)
			}
		})
	}
}

// step is a command of a console block, its line in the document, and what it says.
type step struct {
	line          int
	command, want string
}

func consoleSteps(text string) (steps []step) {
	console := false
	for i, line := range strings.Split(text, "\n") {
		command, begins := strings.CutPrefix(line, "$ ")
		more, goesOn := strings.CutPrefix(line, "> ")
		switch {
		case strings.HasPrefix(line, "```"):
			console = line == "```console"
		case !console:
		case begins:
			steps = append(steps, step{line: i + 1, command: command})
		case goesOn && steps[len(steps)-1].want == "":
			steps[len(steps)-1].command += "\n" + more
		default:
			steps[len(steps)-1].want += line + "\n"
		}
	}
	return steps
}

var documentPort = regexp.MustCompile(`\b(112[12]\d|1200\d|22121|22222)\b`)

func substitutePorts(t *testing.T, text string) string {
	free := make(map[string]string)
	return documentPort.ReplaceAllStringFunc(text, func(port string) string {
		for free[port] == "" {
			p := portOf(t, freeAddr(t))
			taken := false
			for _, other := range free {
				taken = taken || other == p
			}
			if !taken {
				free[port] = p
			}
		}
		return free[port]
	})
}

func matchesOutput(want, got string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`+"\n", `(?:.*\n)*`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(got)
}

// shell is a bash in a directory of its own, with magent in its PATH.
type shell struct {
	t      *testing.T
	in     io.Writer
	out    *bufio.Reader
	file   *os.File // behind out, for its deadline
	stderr *lockedBuffer
}

func startShell(t *testing.T) *shell {
	t.Helper()
	dir := t.TempDir()
	self := filepath.Join(dir, "magent") // of a name by which its processes are known
	if err := os.Link(binary, self); err != nil {
		t.Fatal(err)
	}
	out, outEnd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH")+":/usr/sbin:/usr/local/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout = outEnd
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endAll(t, self) })
	p := launch(t, cmd)
	t.Cleanup(func() {
		syscall.Kill(-p.Process.Pid, syscall.SIGKILL) // it, and what it has in the background
		out.Close()
		outEnd.Close()
	})
	return &shell{t: t, in: in, out: bufio.NewReader(out), file: out, stderr: p.stderr}
}

// endAll ends the processes that run the program at path, those of a shell that left it
// for the background: in good order, so that they leave nothing behind.
func endAll(t *testing.T, path string) {
	signalAll(t, path, syscall.SIGTERM) // once: a second one would end them at once
	proctest.Within(proctest.Patience, func() bool { return signalAll(t, path, 0) == 0 })
	signalAll(t, path, syscall.SIGKILL)
}

// signalAll signals the processes that run the program at path, and counts them.
func signalAll(t *testing.T, path string, s syscall.Signal) (n int) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Error(err)
	}
	for _, link := range links {
		if exe, err := os.Readlink(link); err != nil || exe != path {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
			syscall.Kill(pid, s)
			n++
		}
	}
	return n
}

const endOfOutput = "-- end of output --"

// run types a command and returns what it says, without carriage returns.
func (s *shell) run(command string) string {
	s.t.Helper()
	s.file.SetReadDeadline(time.Now().Add(proctest.Patience))
	fmt.Fprintf(s.in, "%s\necho '%s'\n", command, endOfOutput)
	var said strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%s: %v after %q, %s", command, err, &said, s.stderr)
		}
		if strings.TrimSpace(line) == endOfOutput {
			return said.String()
		}
		said.WriteString(strings.ReplaceAll(line, "\r", ""))
	}
}

var (
	startsServers = regexp.MustCompile(`(?m)^(for .*)?(memcached|magent|nutcracker) .*(-p|-c) `)
	serverPort    = regexp.MustCompile(`\b[1-6]\d{4}\b`)
)

// waitForServers waits, as a person would, until what command starts in the shell's
// background takes connections.
func (s *shell) waitForServers(command string) {
	s.t.Helper()
	if !startsServers.MatchString(command) || !strings.HasSuffix(command, "&") && !strings.HasSuffix(command, "done") {
		return
	}
	where := command
	if _, file, ok := strings.Cut(command, "-c "); ok {
		where = s.run("grep listen: " + strings.Fields(file)[0])
	}
	for _, port := range serverPort.FindAllString(where, -1) {
		proctest.Eventually(s.t, "listening on "+port+": "+command, func() bool { return reachable("tcp", "127.0.0.1:"+port) })
	}
}

// tableRows gives the cells of the rows of every table whose head begins with head.
func tableRows(text, head string) (rows [][]string) {
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case !inside && strings.HasPrefix(line, "| "+head+" |"):
			inside = true
		case inside && !strings.HasPrefix(line, "|---"):
			rows = append(rows, strings.Split(strings.Trim(line, "|"), "|"))
		}
	}
	return rows
}

var quoted = regexp.MustCompile("`([^`\n]+)`")

// words is what stands in backticks in text.
func words(text string) (all []string) {
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestReadmeHasTheFlags(t *testing.T) {
	flags := newServe().Flags()
	flags.BoolP("help", "h", false, "")
	told := make(map[string]string)
	for _, row := range tableRows(document(t, readme), "flag") {
		names := words(row[0])
		told[names[len(names)-1]] = strings.Join(slices.Concat(names, []string{"takes"}, words(row[1]), []string{"default"}, words(row[2])), " ")
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		want := "--" + f.Name + " takes"
		if f.Shorthand != "" {
			want = "-" + f.Shorthand + " " + want
		}
		if what, _ := pflag.UnquoteUsage(f); f.Value.Type() != "bool" {
			want += " " + what
		}
		want += " default"
		if d := f.DefValue; d != "" && d != "[]" && d != "false" {
			want += " " + d
		}
		if got := told["--"+f.Name]; got != want {
			t.Errorf("README.md says %q, the flag says %q", got, want)
		}
		delete(told, "--"+f.Name)
	})
	for name := range told {
		t.Errorf("README.md has %s, which is no flag", name)
	}
}

// Whatever operators may ask for is told; pprof's, and the page's other name, each as one.
func TestOperationsHasTheEndpoints(t *testing.T) {
	var told, known []string
	for _, row := range tableRows(document(t, operations), "endpoint") {
		told = append(told, words(row[0])[0])
	}
	served := regexp.MustCompile(`mux\.Handle(?:Func)?\("((?:GET|POST) [^"]+)"`)
	for _, m := range served.FindAllStringSubmatch(document(t, "../../server/admin/server.go"), -1) {
		switch at := m[1]; {
		case strings.Contains(at, "/debug/pprof/"):
			known = append(known, "GET /debug/pprof/")
		case strings.HasSuffix(at, "{$}"), at == "GET /status.html":
			known = append(known, "GET /")
		default:
			known = append(known, at)
		}
	}
	slices.Sort(told)
	slices.Sort(known)
	if known = slices.Compact(known); !slices.Equal(told, known) || len(known) < 15 {
		t.Errorf("OPERATIONS.md has the endpoints\n%q, there are\n%q", told, known)
	}
}

func TestOperationsHasTheFields(t *testing.T) {
	text := document(t, operations)
	pool, process := file.Fields()
	for head, fields := range map[string][]file.Field{"field of a pool": pool, "field of the process": process} {
		var told, known []string
		for _, row := range tableRows(text, head) {
			told = append(told, strings.Join(slices.Concat(words(row[0]), words(row[1]), words(row[2])), " "))
		}
		for _, f := range fields {
			known = append(known, strings.TrimSpace(f.Name+" "+f.Takes+" "+f.Default))
		}
		slices.Sort(told)
		slices.Sort(known)
		if !slices.Equal(told, known) {
			t.Errorf("OPERATIONS.md has of %s\n%q, there are\n%q", head, told, known)
		}
	}
}

func TestReadmeHasThePlacements(t *testing.T) {
	text := document(t, readme)
	var told []string
	for _, row := range tableRows(text, "distribution") {
		told = append(told, words(row[0])...)
	}
	known := route.Distributions()
	slices.Sort(told)
	slices.Sort(known)
	if !slices.Equal(told, known) {
		t.Errorf("README.md has the distributions %v, there are %v", told, known)
	}
	for _, h := range route.Hashes() {
		if !slices.Contains(words(text), h) {
			t.Errorf("README.md does not have the hash %s", h)
		}
	}
}

func TestReadmeHasWhatIsNotServed(t *testing.T) {
	addr := freeAddr(t)
	startServe(t, addr, "-s", newNode(t).Addr())
	rows := tableRows(document(t, readme), "not served")
	if len(rows) < 5 {
		t.Fatalf("README.md has %d rows", len(rows))
	}
	for _, row := range rows {
		talk(t, "tcp", addr, words(row[0])[0]+"\r\nmn\r\n", words(row[1])[0]+"\r\nMN\r\n")
	}
}

func TestReadmeHasTheStatistics(t *testing.T) {
	addr := freeAddr(t)
	startServe(t, addr, "-s", newNode(t).Addr())
	sh := startShell(t)
	told := words(document(t, readme))
	var explained []string
	for _, row := range tableRows(document(t, operations), "field of `stats nodes`") {
		explained = append(explained, words(row[0])...)
	}
	for _, what := range []string{"proxy", "nodes"} {
		text := sh.run(fmt.Sprintf(`exec 3<>/dev/tcp/%s; printf 'stats %s\r\nquit\r\n' >&3; cat <&3`, strings.ReplaceAll(addr, ":", "/"), what))
		names := 0
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 1 {
				names++
				name := f[1][strings.LastIndex(f[1], ":")+1:]
				if !slices.Contains(told, name) {
					t.Errorf("README.md does not have %s of stats %s", name, what)
				}
				if what == "nodes" && !slices.Contains(explained, name) {
					t.Errorf("OPERATIONS.md does not say what to conclude from %s", name)
				}
			}
		}
		if names == 0 {
			t.Errorf("stats %s says %q", what, text)
		}
	}
}

func TestOperationsHasTheCauses(t *testing.T) {
	var told []string
	for _, row := range tableRows(document(t, operations), "cause") {
		told = append(told, words(row[0])...)
	}
	var known []string
	for c := upstream.CauseRefused; c <= upstream.CauseFate; c++ {
		known = append(known, c.String())
	}
	if !slices.Equal(told, known) {
		t.Errorf("OPERATIONS.md has the causes %q, there are %q", told, known)
	}
}

func TestOperationsHasTheStates(t *testing.T) {
	var told, known []string
	for _, row := range tableRows(document(t, operations), "state") {
		told = append(told, words(row[0])...)
	}
	for s := health.Up; s <= health.Down; s++ {
		known = append(known, s.String())
	}
	if !slices.Equal(told, known) {
		t.Errorf("OPERATIONS.md has the states %q, there are %q", told, known)
	}
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// serverTests is the tests of the server, and what their files say.
func serverTests(t *testing.T) map[string]string {
	tests := make(map[string]string)
	for _, pattern := range []string{"../../server/*_test.go", "../../server/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			text := document(t, file)
			for _, m := range testFunction.FindAllStringSubmatch(text, -1) {
				tests[m[1]] = text
			}
		}
	}
	return tests
}

// TestOperationsNamesTests: what OPERATIONS.md says of a fault is shown by tests that
// are there, and by those of their parts that it names.
func TestOperationsNamesTests(t *testing.T) {
	known := serverTests(t)
	rows := tableRows(document(t, operations), "fault")
	if len(rows) < 5 {
		t.Fatalf("OPERATIONS.md has %d faults", len(rows))
	}
	for _, row := range rows {
		shown := 0
		for _, word := range words(row[len(row)-1]) {
			name, part, _ := strings.Cut(word, "/")
			if !strings.HasPrefix(name, "Test") {
				continue
			}
			shown++
			if text := known[name]; text == "" || !strings.Contains(text, `"`+strings.ReplaceAll(part, "_", " ")) {
				t.Errorf("OPERATIONS.md has %s, which is no test", word)
			}
		}
		if shown == 0 {
			t.Errorf("OPERATIONS.md shows nothing for the fault %s", row[0])
		}
	}
}
