package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"magent/server/config/file"
)

// configFile is a file with this text, in a directory of its own.
func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "magent.yml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file is served in the background and in the foreground, on all its listeners; relative
// paths go from where magent is started, and what the command line says wins.
func TestConfigFile(t *testing.T) {
	first, second, socket := freeAddr(t), freeAddr(t), filepath.Join(t.TempDir(), "s")
	path := configFile(t, fmt.Sprintf("listen: [%s, {tcp: %s}, {unix: %s, mode: 0600}]\npools:\n  main:\n    copies: [[%s name], [%s]]\n    timeout: 10s\n    connect-timeout: 10s\npidfile: pid\nadmin: none\nlog-file: /nowhere/log\n",
		first, second, socket, newNode(t).Addr(), newNode(t).Addr()))
	for _, args := range [][]string{{"--config", path}, {"serve", "--config", path}} {
		dir := t.TempDir()
		cmd := exec.Command(binary, append(args, "--log-file", "log")...)
		cmd.Dir = dir
		if args[0] == "serve" {
			launch(t, cmd).waitFor("tcp", second)
		} else if r := command(t, cmd); r.code != 0 || r.out != "" {
			t.Fatalf("exit status %d: %s", r.code, r.stderr)
		}
		talk(t, "tcp", first, setHello, "STORED\r\n")
		talk(t, "tcp", second, getHello, hello)
		talk(t, "unix", socket, getHello, hello)
		if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the socket is %v, %v, want mode 0600", st, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "log")); !strings.Contains(string(text), "listening") {
			t.Errorf("the log is %q, %v", text, err)
		}
		endDaemon(t, filepath.Join(dir, "pid"))
	}
}

// Keys go to the pool of the longest prefix that the listener has, by the file.
func TestConfigFileRoutes(t *testing.T) {
	addr, main, other := freeAddr(t), newNode(t).Addr(), newNode(t).Addr()
	path := configFile(t, fmt.Sprintf("listen: [{tcp: %s, routes: {\"o:\": other, \"o:m\": main}, default: main}]\npools: {main: {copies: [[%s]], timeout: 10s, connect-timeout: 10s}, other: {copies: [[%s]], timeout: 10s, connect-timeout: 10s}}\nadmin: none\n",
		addr, main, other))
	launch(t, exec.Command(binary, "serve", "--config", path)).waitFor("tcp", addr)
	for key, node := range map[string]string{"o:1": other, "o:m1": main, "o": main} {
		talk(t, "tcp", addr, "set "+key+" 0 0 1\r\nx\r\n", "STORED\r\n")
		talk(t, "tcp", node, "get "+key+"\r\n", "VALUE "+key+" 0 1\r\nx\r\nEND\r\n")
	}
}

func TestConfigFileThatCannotBe(t *testing.T) {
	magent(t, "--config", "/no/such/file").wantFault(t, "--config", "/no/such/file")
	good := configFile(t, "listen: 127.0.0.1:1\npools: {a: {copies: [[b]]}}\n")
	magent(t, "serve", "--config", good, "-p", "7").wantFault(t, "-p (--port) cannot stand beside --config")
	bad := configFile(t, "listen: 127.0.0.1:1\npools: {a: {copies: [[b]], tiemout: 1s}}\nloops: x\n")
	for _, args := range [][]string{{"--config", bad}, {"serve", "--config", bad}, {"check", bad}, {"--config", bad, "--print-config"}} {
		r := magent(t, args...)
		for _, want := range []string{bad + ":2:28: ", "is timeout meant?", bad + ":3:8: ", "| loops: x\n"} {
			if r.code != 1 || r.out != "" || !strings.Contains(r.stderr, want) {
				t.Errorf("%s: exit status %d, %q, %s; want %s", args, r.code, r.out, r.stderr, want)
			}
		}
	}
}

// What --print-config prints is good, and is the same when it is read.
func TestPrintConfig(t *testing.T) {
	r := magent(t, "-Dk", "-n", "51200", "-l", "127.0.0.1", "-s", "a:1", "-s", "b", "-b", "c", "-b", "d", "--hedge", "auto", "--pidfile", "p")
	if r.code != 1 { // there is no host a: without --print-config it is meant
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
	r = magent(t, "-Dk", "-n", "51200", "-l", "127.0.0.1", "-s", "a:1", "-s", "b", "-b", "c", "-b", "d", "--hedge", "auto", "--pidfile", "p", "--print-config")
	const want = `listen:
  - tcp: 127.0.0.1:11211
pools:
  default:
    copies:
      - [a:1, b:11211]
      - [c:11211, d:11211]
    distribution: magent-ketama
    hedge: auto
max-conns: 51200
foreground: true
pidfile: p
`
	if r.code != 0 || r.out != want {
		t.Fatalf("exit status %d, %s, it prints\n%s", r.code, r.stderr, r.out)
	}
	path := configFile(t, r.out)
	if again := magent(t, "serve", "--config", path, "--print-config"); again.out != want {
		t.Errorf("exit status %d, %s, it prints\n%s", again.code, again.stderr, again.out)
	}
	if c := magent(t, "check", path); c.code != 0 || c.out != path+" is good: 1 listener, 1 pool, 4 nodes\n" {
		t.Errorf("exit status %d: %q, %s", c.code, c.out, c.stderr)
	}
}

func TestCheck(t *testing.T) {
	path := configFile(t, "listen: 127.0.0.1:1\npools: {a: {copies: [[nosuch.invalid, b.invalid], [127.0.0.1]]}, c: {copies: [[d]]}}\nuser: no-such-user\n")
	r := magent(t, "check", path)
	if want := "warning: no listener gives the pool c any key\n" + path + " is good: 1 listener, 2 pools, 4 nodes\n"; r.code != 0 || r.out != want {
		t.Errorf("exit status %d: %q, %s", r.code, r.out, r.stderr)
	}
	r = magent(t, "check", "--resolve", path)
	for _, want := range []string{`unknown host "nosuch.invalid": `, `unknown host "b.invalid": `, "no-such-user"} {
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("exit status %d, want %s: %s", r.code, want, r.stderr)
		}
	}
	magent(t, "check").wantFault(t, "which file")
	magent(t, "check", "a", "b").wantFault(t, `"b"`)
	magent(t, "check", "/no/such/file").wantFault(t, "/no/such/file")
}

func TestImport(t *testing.T) {
	if testing.Short() {
		return // a text has no races, and the binary that looks for them takes a second to start
	}
	twemproxy := configFile(t, "a:\n  listen: 127.0.0.1:1\n  timeout: 100\n  auto_eject_hosts: true\n  servers: ['b:1:1']\n")
	r := magent(t, "import", "twemproxy", twemproxy)
	if r.code != 0 || !strings.HasPrefix(r.out, "# auto_eject_hosts has no counterpart") || !strings.Contains(r.out, "\nlisten:\n  - tcp: 127.0.0.1:1\n") {
		t.Errorf("exit status %d: %s, %s", r.code, r.out, r.stderr)
	}
	mcrouter := configFile(t, `{ "pools": { "a": { "servers": [ "b:1" ] } }, "route": "PoolRoute|a" }`)
	r = magent(t, "import", "mcrouter", mcrouter, "--listen", "/run/x")
	if r.code != 0 || !strings.Contains(r.out, "\nlisten:\n  - unix: /run/x\n") {
		t.Errorf("exit status %d: %s, %s", r.code, r.out, r.stderr)
	}
	if r := magent(t, "check", configFile(t, r.out)); r.code != 0 {
		t.Errorf("what is printed is no good: %s", r.stderr)
	}
	if r = magent(t, "import", "mcrouter", mcrouter, "--listen", ":5000"); r.code != 0 || !strings.Contains(r.out, "  - tcp: 0.0.0.0:5000\n") {
		t.Errorf("status %d, %s, %s", r.code, r.stderr, r.out)
	}
	magent(t, "import").wantFault(t, "twemproxy", "mcrouter")
	magent(t, "import", "redis", "x").wantFault(t, `"redis"`)
	magent(t, "import", "mcrouter", mcrouter, "--listen", "a:b").wantFault(t, "--listen", "port")
	if r := magent(t, "import", "twemproxy", mcrouter); r.code != 1 || !strings.Contains(r.stderr, "says where to listen") && !strings.Contains(r.stderr, "servers") {
		t.Errorf("exit status %d: %s", r.code, r.stderr)
	}
}

func TestHelpFile(t *testing.T) {
	if r := magent(t, "help", "file"); r.code != 0 || r.out != file.Help() || r.stderr != "" {
		t.Errorf("%+v", r)
	}
}
