package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"magent/bench/process/proctest"
)

// fetch gets url, with a token unless it is empty.
func fetch(t *testing.T, url, token string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	c := http.Client{Timeout: proctest.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, contents(t, resp.Body)
}

// contents is all that is in r.
func contents(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Beside the socket file operators are answered at a TCP address: there with a token.
func TestOperatorsByTCP(t *testing.T) {
	const secret = "a-token-of-32-characters-or-so.."
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, remote, local := freeAddr(t), freeAddr(t), adminPath(t)
	p := startServe(t, addr, "-s", newNode(t).Addr(), "--admin", local, "--admin-listen", remote, "--admin-token-file", file)
	proctest.Eventually(t, "answering operators", func() bool { return strings.Contains(p.stderr.String(), remote) })
	talk(t, "tcp", addr, "get nothing\r\n", "END\r\n")
	if code, _ := fetch(t, "http://"+remote+"/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", code)
	}
	code, text := fetch(t, "http://"+remote+"/metrics", secret)
	for _, want := range []string{"\nmagent_answers_total{command=\"get\",result=\"miss\"} 1\n", "\nmagent_build_info{commit=", "\ngo_goroutines ", "\nprocess_resident_memory_bytes "} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%d, without %q", code, want)
		}
	}
	if code, text := fetch(t, "http://"+remote+"/debug/pprof/goroutine?debug=1", secret); code != http.StatusOK || !strings.HasPrefix(text, "goroutine profile: ") {
		t.Errorf("a profile: %d, %.100s", code, text)
	}
	for _, args := range [][]string{{"--admin", local}, {"--admin", remote, "--admin-token-file", file}} {
		if text, err := types(t, newStatus(), args...); err != nil || !strings.HasPrefix(text, "magent ") {
			t.Errorf("status %v: %v, %s", args, err, text)
		}
	}
	if _, err := types(t, newStatus(), "--admin", remote); err == nil || !strings.HasPrefix(err.Error(), "show the token") {
		t.Errorf("status without a token: %v", err)
	}
	p.Process.Signal(os.Interrupt)
	if code := p.ended(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.stderr)
	}
}

func TestOperatorsByTCPThatCannotBe(t *testing.T) {
	open := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(open, []byte("a-token-of-32-characters-or-so.."), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	used := occupy(t).Addr().String()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--admin-listen", "192.0.2.1:11311"}, "--admin-token-file"},
		{[]string{"--admin-listen", "cache"}, "--admin-listen: the address for admin must be a port"},
		{[]string{"--admin-listen", used}, "address already in use"},
		{[]string{"--admin-token-file", open}, "any user may read"},
		{[]string{"--admin-token-file", "/none"}, "--admin-token-file: cannot read the token in /none: no such file"},
	} {
		args := append([]string{"serve", "-l", "127.0.0.1", "-p", portOf(t, freeAddr(t)), "-s", "127.0.0.1:11", "--admin", "none"}, c.args...)
		magent(t, args...).wantFault(t, c.want)
	}
}

// Where operators ask by TCP somebody listens while a magent is restarted in place, and
// answers after that.
func TestOperatorsByTCPStayThroughARestart(t *testing.T) {
	remote := freeAddr(t)
	p := place(t, []string{newNode(t).Addr(), newNode(t).Addr()}, "--admin-listen", remote)
	old := readPid(t, p.pidFile)
	over := make(chan struct{})
	refused := make(chan error, 1)
	go func() {
		for {
			select {
			case <-over:
				refused <- nil
				return
			default:
			}
			c, err := net.Dial("tcp", remote)
			if err != nil {
				refused <- err
				return
			}
			c.Close()
		}
	}()
	p.restart()
	close(over)
	if err := <-refused; err != nil {
		t.Errorf("a connection is refused: %v", err)
	}
	if code, text := fetch(t, "http://"+remote+"/events", ""); code != http.StatusOK || strings.Count(text, `"listening"`) != 2 || !strings.Contains(text, `"restarting in place"`) {
		t.Errorf("what has changed before is not known: %d, %s", code, text)
	}
	if code, text := fetch(t, "http://"+remote+"/debug/pprof/cmdline", ""); code != http.StatusOK || readPid(t, p.pidFile) == old {
		t.Errorf("%d, %s", code, text)
	}
}
