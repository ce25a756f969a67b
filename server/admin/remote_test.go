package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "0123456789abcdef"

// tokenFile is a file that holds text.
func tokenFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTokens(t *testing.T) {
	t.Parallel()
	if got, err := ReadToken(tokenFile(t, " "+secret+"\n", 0o640)); err != nil || got != secret {
		t.Errorf("%q, %v", got, err)
	}
	for path, want := range map[string]string{
		tokenFile(t, secret, 0o644):            "any user may read",
		tokenFile(t, "0123456789abcde", 0600):  "has 15 characters, and needs 16",
		tokenFile(t, "", 0o600):                "has 0 characters",
		tokenFile(t, secret+"\n"+secret, 0600): "must be one line",
		tokenFile(t, secret+"é", 0o600):        "must be one line",
		"/nowhere/at/all":                      "cannot read the token in /nowhere/at/all: no such file",
	} {
		if got, err := ReadToken(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestListenTCP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ where, token, want string }{
		{"11311", "", "127.0.0.1:11311"},
		{":11311", "", "127.0.0.1:11311"},
		{"[::1]:11311", "", "[::1]:11311"},
		{"localhost:11311", "", "localhost:11311"},
		{"10.0.0.1:11311", secret, "10.0.0.1:11311"},
		{"0.0.0.0:11311", secret, "0.0.0.0:11311"},
	} {
		if got, err := TCPAddress(c.where, c.token); err != nil || got != c.want {
			t.Errorf("%s is %s, %v; want %s", c.where, got, err, c.want)
		}
	}
	for where, want := range map[string]string{
		"0":              "must be a port",
		"70000":          "must be a port",
		"/run/a.sock":    "must be a port",
		"host:11311":     "must be a port",
		"127.0.0.1":      "must be a port",
		"127.0.0.1:":     "must be a port",
		"10.0.0.1:11311": "10.0.0.1:11311 can be reached from elsewhere",
		"[::]:11311":     "it needs --admin-token-file",
	} {
		if got, err := TCPAddress(where, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %s, %v; want %q", where, got, err, want)
		}
	}
	ln, err := ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := ListenTCP(ln.Addr().String()); err == nil || !strings.HasSuffix(err.Error(), "for admin: address already in use") {
		t.Errorf("beside another: %v", err)
	}
}

// With a token nothing is answered to who does not show it, and everything to who does,
// whatever name he has for the machine.
func TestTokenIsAskedFor(t *testing.T) {
	t.Parallel()
	f := &fake{status: example()}
	ln, err := ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shown := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "shown 1\n") })
	addr := serveOn(t, ln, f, Options{Metrics: shown, Token: secret})
	for _, path := range []string{"/status", "/healthz", "/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine"} {
		for _, c := range []struct {
			authorization string
			code          int
		}{
			{"", 401}, {secret, 401}, {"Bearer", 401}, {"Bearer " + secret[1:], 401}, {"Bearer x" + secret, 401},
			{"Basic " + secret, 401}, {"Bearer " + secret, 200}, {"bearer " + secret, 200},
		} {
			r, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "cache.example:11311"
			r.Header.Set("Authorization", c.authorization)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != c.code || c.code == 401 && (resp.Header.Get("WWW-Authenticate") != "Bearer" || !strings.Contains(string(text), `"error"`)) {
				t.Errorf("GET %s as %q: %d, %v, %s", path, c.authorization, resp.StatusCode, err, text)
			}
		}
	}
	ctx := context.Background()
	c, err := NewRemoteClient(addr, secret)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(ctx); err != nil || s.Version != "1.2.3" {
		t.Errorf("%+v, %v", s, err)
	}
	if c, err = NewRemoteClient(addr, secret+"x"); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain(ctx, "a", true); err == nil || err.Error() != "that is not the token of this magent" {
		t.Errorf("with another token: %v", err)
	}
	if err := client(t, addr).Drain(ctx, "a", true); err == nil || !strings.HasPrefix(err.Error(), "show the token") {
		t.Errorf("with none: %v", err)
	}
	f.wants(t)
	for _, where := range []string{"", "/run/a.sock", "10.0.0.1"} {
		if _, err := NewRemoteClient(where, secret); err == nil || !strings.Contains(err.Error(), "must be an address") {
			t.Errorf("%q: %v", where, err)
		}
	}
}

// A socket file has rights of its own.
func TestNoTokenAtASocketFile(t *testing.T) {
	t.Parallel()
	path := socket(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, &fake{status: example()}, Options{Token: secret})
	if _, err := client(t, path).Status(context.Background()); err != nil {
		t.Error(err)
	}
}
