package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/bench/process/proctest"
)

// fake is a Proxy that notes what it is told.
type fake struct {
	status   Status
	overview Overview
	events   []Event
	err      error
	mu       sync.Mutex
	told     []string
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) Status() Status     { return f.status }
func (f *fake) Overview() Overview { f.note("overview"); return f.overview }
func (f *fake) Events(after uint64) ([]Event, uint64) {
	return f.events[min(int(after), len(f.events)):], uint64(len(f.events))
}
func (f *fake) Resync(node, from string) error   { return f.note("resync %s from %s", node, from) }
func (f *fake) Drain(node string, on bool) error { return f.note("drain %s %v", node, on) }
func (f *fake) Ready() Ready                     { return f.status.Ready }
func (f *fake) Healthy() error                   { return f.err }
func (f *fake) Resume() error                    { return f.note("resume") }
func (f *fake) Explain(_ context.Context, q Question) (Explanation, error) {
	return Explanation{KeyBytes: q.Key}, f.note("explain %q %v in %s", q.Key, q.Value, q.Pool)
}
func (f *fake) Diff(_ context.Context, q DiffQuestion, progress func(DiffProgress)) (Diff, error) {
	for i := range f.status.Nodes {
		progress(DiffProgress{Phase: f.status.Nodes[i].Name, Compared: uint64(i)})
	}
	return Diff{Compared: uint64(q.Sample)}, f.note("diff %+v", q)
}
func (f *fake) Top(_ context.Context, q TopQuestion) (Top, error) {
	return Top{Seconds: q.For().Seconds()}, f.note("top %+v", q)
}
func (f *fake) Failover(_ context.Context, leave bool) error {
	return f.note("failover, leave %v", leave)
}

func (f *fake) wants(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !reflect.DeepEqual(f.told, want) {
		t.Errorf("the proxy was told %q, want %q", f.told, want)
	}
}

// socket is a path that is short enough for a socket.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// serve answers for p at where until the test ends, and returns where that is.
func serve(t *testing.T, where string, p Proxy) string {
	t.Helper()
	ln, err := Listen(where)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, p, Options{})
}

// serveOn answers for p at ln until the test ends, and returns where that is.
func serveOn(t *testing.T, ln net.Listener, p Proxy, o Options) string {
	t.Helper()
	s := Serve(ln, p, o)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

func client(t *testing.T, where string) *Client {
	t.Helper()
	c, err := NewClient(where)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func example() Status {
	eta, began := 4, time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	return Status{Version: "1.2.3", Since: began, Ready: Ready{Ready: true, Cold: []string{"10.0.0.1:11211 is warming"}}, Nodes: []Node{
		{Pool: "default", Name: "10.0.0.1:11211", State: "warming", Cause: "it was restarted", Since: began.Add(3 * time.Hour), Epoch: 7,
			Refill: &Refill{Phase: "copying", Done: 120000, Total: 200000, Keys: 20000, Bytes: 9.1e6, ETA: &eta}},
		{Pool: "default", Name: "cache-b", Copy: 1, State: "up", Cause: "start", Since: began, Debt: 12, Drain: true},
	}}
}

func TestClientAndServer(t *testing.T) {
	t.Parallel()
	for _, where := range []string{socket(t), "127.0.0.1:0", "[::1]:0"} {
		f := &fake{status: example()}
		c := client(t, serve(t, where, f))
		ctx := context.Background()
		if got, err := c.Status(ctx); err != nil || !reflect.DeepEqual(got, f.status) {
			t.Errorf("%s: status %+v, %v", where, got, err)
		}
		for _, err := range []error{c.Resync(ctx, "a", "b"), c.Drain(ctx, "a", true), c.Drain(ctx, "a", false),
			c.Failover(ctx, false), c.Failover(ctx, true), c.Resume(ctx)} {
			if err != nil {
				t.Errorf("%s: %v", where, err)
			}
		}
		for _, key := range []string{"k", "a b&value=1", "\x00\xff%00+"} {
			if e, err := c.Explain(ctx, Question{Key: []byte(key), Value: key == "k", Pool: "p&q"}); err != nil || string(e.KeyBytes) != key {
				t.Errorf("%s: explain %q: %q, %v", where, key, e.KeyBytes, err)
			}
		}
		if top, err := c.Top(ctx, TopQuestion{Millis: 1500, Keys: 5, Clients: 6}); err != nil || top.Seconds != 1.5 {
			t.Errorf("%s: top %+v, %v", where, top, err)
		}
		f.wants(t, "resync a from b", "drain a true", "drain a false", "failover, leave false", "failover, leave true", "resume",
			`explain "k" true in p&q`, `explain "a b&value=1" false in p&q`, `explain "\x00\xff%00+" false in p&q`, "top {Millis:1500 Keys:5 Clients:6}")
		f.err = errors.New("there is no node a: there are x and y")
		if err := c.Resync(ctx, "a", "b"); err == nil || err.Error() != f.err.Error() {
			t.Errorf("%s: a refusal is %v", where, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := &fake{}
	addr := serve(t, "127.0.0.1:0", f)
	for _, c := range []struct {
		method, path, kind, host, body string
		code                           int
		want                           string
	}{
		{method: "GET", path: "/healthz", code: 200, want: `"ok": true`},
		{method: "GET", path: "/readyz", code: 503, want: `"ready": false`},
		{method: "POST", path: "/failover", body: ``, code: 400, want: "not the JSON that is expected"},
		{method: "POST", path: "/failover", body: `{"leave":1}`, code: 400, want: "not the JSON that is expected"},
		{method: "POST", path: "/resume", body: `{"leave":true}`, code: 400, want: "unknown field"},
		{method: "GET", path: "/nothing", code: 404, want: "there is no GET /nothing: there are GET /, GET /status"},
		{method: "POST", path: "/status", code: 404, want: "there is no POST /status"},
		{method: "GET", path: "/explain", code: 400, want: "say which key"},
		{method: "POST", path: "/top", body: `{}`, code: 400, want: "it is counted for 1 to 60000 ms"},
		{method: "POST", path: "/top", body: `{"for_ms":60001}`, code: 400, want: "it is counted for 1 to 60000 ms"},
		{method: "POST", path: "/top", body: `{"for_ms":1,"keys":1001}`, code: 400, want: "at most 1000 keys and clients"},
		{method: "POST", path: "/top", body: `{"keys":"all"}`, code: 400, want: "not the JSON that is expected"},
		{method: "GET", path: "/drain", code: 404, want: "there is no GET /drain"},
		{method: "GET", path: "/status", host: "evil.example:80", code: 403, want: "loopback"},
		{method: "GET", path: "/status", host: "localhost", code: 200, want: `"nodes"`},
		{method: "POST", path: "/drain", kind: "text/plain", body: `{"node":"a","on":true}`, code: 400, want: "Content-Type"},
		{method: "POST", path: "/drain", body: `{"node":"a"}`, code: 400, want: "say which node to drain"},
		{method: "POST", path: "/drain", body: `{"node":"a","on":"off"}`, code: 400, want: "not the JSON that is expected"},
		{method: "POST", path: "/drain", body: `{"node":"a","on":true,"off":1}`, code: 400, want: "unknown field"},
		{method: "POST", path: "/drain", body: `{"node":"a","on":true} {}`, code: 400, want: "something follows"},
		{method: "POST", path: "/resync", body: `{"node":"a"}`, code: 400, want: "say which node to refill"},
		{method: "POST", path: "/resync", body: ``, code: 400, want: "not the JSON that is expected"},
		{method: "POST", path: "/resync", body: `{"node":"` + strings.Repeat("x", maxBody) + `"}`, code: 400, want: "more than 4096 bytes"},
	} {
		r, err := http.NewRequest(c.method, "http://"+addr+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if plain := strings.ReplaceAll(string(text), `\"`, `"`); err != nil || resp.StatusCode != c.code || !strings.Contains(plain, c.want) {
			t.Errorf("%s %s %.40s: %d, %v, %s; want %d and %q", c.method, c.path, c.body, resp.StatusCode, err, text, c.code, c.want)
		}
		if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s %s: answered in %s", c.method, c.path, kind)
		}
	}
	f.wants(t)
}

// An answer says whether clients are served, and the code of it does so for those who
// read no more.
func TestReadiness(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ready      Ready
		code, warm int
	}{
		{Ready{Ready: true, Warm: true}, 200, 200},
		{Ready{Ready: true, Cold: []string{"a is down"}}, 200, 503},
		{Ready{Reasons: []string{"it is stopping", "b is stuck"}, Cold: []string{"a is down"}}, 503, 503},
	} {
		f := &fake{status: Status{Ready: c.ready}}
		addr := serve(t, "127.0.0.1:0", f)
		if got, err := client(t, addr).Ready(context.Background()); err != nil || !reflect.DeepEqual(got, c.ready) {
			t.Errorf("%+v, %v, want %+v", got, err, c.ready)
		}
		for query, want := range map[string]int{"": c.code, "?warm=1": c.warm, "?warm=0": c.code} {
			resp, err := http.Get("http://" + addr + "/readyz" + query)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%+v%s: %d, want %d", c.ready, query, resp.StatusCode, want)
			}
		}
	}
	no := Ready{Reasons: []string{"it is stopping", "b is stuck"}, Cold: []string{"a is down"}}
	if got := no.Why(false); got != "it is stopping; b is stuck" {
		t.Error(got)
	}
	if got := no.Why(true); got != "it is stopping; b is stuck; a is down" {
		t.Error(got)
	}
	f := &fake{err: errors.New("event loop 0 has stood still for 2s")}
	resp, err := http.Get("http://" + serve(t, "127.0.0.1:0", f) + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 503 || !strings.Contains(string(text), f.err.Error()) {
		t.Errorf("%d %s, %v", resp.StatusCode, text, err)
	}
}

func TestSocketFile(t *testing.T) {
	t.Parallel()
	path := socket(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", st.Mode(), err)
	}
	s := Serve(ln, &fake{}, Options{})
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another process answers there") {
		t.Errorf("beside a live one: %v", err)
	}
	if _, err := client(t, path).Status(context.Background()); err != nil {
		t.Errorf("the live one is disturbed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	_, err = client(t, path).Status(context.Background())
	if err == nil || !strings.HasPrefix(err.Error(), "no magent answers at "+path) || !strings.Contains(err.Error(), "--admin") {
		t.Errorf("of one that has ended: %v", err)
	}
}

// Who has been taken in is answered, even if he asks when nobody else is taken in any more.
func TestRetireAnswersWhoIsIn(t *testing.T) {
	t.Parallel()
	path := socket(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(ln, &fake{}, Options{})
	enter := func() (c net.Conn, in *bufio.Reader) {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(proctest.Patience))
		return c, bufio.NewReader(c)
	}
	asks := func(c net.Conn, in *bufio.Reader) {
		t.Helper()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Error(err)
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("answered with %s, %v", r.Status, err)
		}
	}
	late, lateIn := enter()
	idle, idleIn := enter()
	asks(idle, idleIn) // who came before is in, too
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Retire(proctest.Patience, s)
	}()
	<-s.done
	if _, err := idleIn.ReadByte(); err != io.EOF {
		t.Errorf("who asks nothing: %v", err)
	}
	asks(late, lateIn)
	<-ended
}

// Who is not answered in time is closed.
func TestRetireRunsOutOfPatience(t *testing.T) {
	t.Parallel()
	path := socket(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	asked, answer := make(chan struct{}), make(chan struct{})
	s := Serve(ln, &fake{}, Options{Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	})})
	defer close(answer)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	Retire(20*time.Millisecond, s)
	c.SetDeadline(time.Now().Add(proctest.Patience))
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("who is not answered hears %q, %v", b, err)
	}
}

// Who says nothing at one endpoint does not keep another waiting.
func TestRetireAllAtOnce(t *testing.T) {
	t.Parallel()
	var all []*Server
	var silent []net.Conn
	for range 2 {
		path := socket(t)
		ln, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Serve(ln, &fake{}, Options{}))
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	const most = 2 * time.Second
	ended := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(ended)
		Retire(most, all...)
	}()
	for _, s := range all {
		<-s.done
	}
	if took := time.Since(began); took >= most {
		t.Errorf("the last is listened at for %v", took)
	}
	for _, c := range silent {
		c.Close()
	}
	<-ended
}

func TestDeadSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := socket(t)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // as if it had died
	ln.Close()
	serve(t, path, &fake{})
	if _, err := client(t, path).Status(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestWhereNot(t *testing.T) {
	t.Parallel()
	file := socket(t)
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]string{
		"":                   "admin must be a path",
		"socket":             "admin must be a path",
		"0.0.0.0:11311":      "admin must be a path",
		":11311":             "admin must be a path",
		"10.0.0.1:11311":     "admin must be a path",
		"127.0.0.1":          "admin must be a path",
		"127.0.0.1:":         "admin must be a path",
		file:                 "there is a file that is no socket",
		file + "/below":      "not a directory",
		file + "-none/below": "no such file or directory",
	} {
		if ln, err := Listen(where); err == nil {
			ln.Close()
			t.Errorf("listens on %q", where)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", where, err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file has %q, %v", text, err)
	}
	if _, err := NewClient("10.0.0.1:11311"); err == nil {
		t.Error("a client asks another machine")
	}
	if got := DefaultPath(11211); got != "/run/magent-11211.sock" {
		t.Error(got)
	}
}

func TestOthersAreNoMagent(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.NotFoundHandler()}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	if _, err := client(t, ln.Addr().String()).Status(context.Background()); err == nil || !strings.HasSuffix(err.Error(), "it is no magent") {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := example()
	if err := WriteTable(&out, s, s.Since.Add(75*time.Hour+10*time.Second)); err != nil {
		t.Fatal(err)
	}
	const want = `magent 1.2.3, up 3d3h, ready
NODE            COPY  STATE        FOR   DEBT  CAUSE             REFILL
10.0.0.1:11211  0     warming      3d0h  0     it was restarted  copying: 120000 of 200000 keys (60 %), 20000 keys/s, 9.1 MB/s, 4s to go
cache-b         1     up, drained  3d3h  12    start             -
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	for d, want := range map[time.Duration]string{-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 2 * time.Hour: "2h0m"} {
		if got := age(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
	out.Reset()
	s.Nodes[0].Pool = "other"
	if err := WriteTable(&out, s, s.Since); err != nil || !strings.Contains(out.String(), "\nPOOL     NODE ") || !strings.Contains(out.String(), "\nother    10.0.0.1:11211 ") {
		t.Errorf("%v\n%s", err, &out)
	}
	out.Reset()
	s.Ready = Ready{Reasons: []string{"it is stopping"}, Cold: []string{"a is down"}}
	if err := WriteTable(&out, s, s.Since); err != nil || !strings.HasPrefix(out.String(), "magent 1.2.3, up 0s, not ready: it is stopping\n") {
		t.Errorf("%v\n%s", err, &out)
	}
	if got := (&Refill{Phase: "listing", Done: 5}).String(); got != "listing: 5 keys, 0 keys/s, 0.0 MB/s" {
		t.Error(got)
	}
}

// fakeFile is a File that notes what it is told, in its Proxy.
type fakeFile struct{ *fake }

func (f fakeFile) Config() []byte                   { return []byte("listen: 127.0.0.1:1\n") }
func (f fakeFile) Reload(ctx context.Context) error { return f.note("reload") }

func TestConfigAndReload(t *testing.T) {
	t.Parallel()
	f := &fake{}
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := serveOn(t, ln, f, Options{File: fakeFile{f}})
	c := client(t, where)
	if err := c.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	f.wants(t, "reload")
	if code, text := ask(t, where, "GET", "/config", ""); code != http.StatusOK || text != "listen: 127.0.0.1:1\n" {
		t.Errorf("/config is answered %d, %q", code, text)
	}
	f.err = fmt.Errorf("wrapped: %w", &Unfit{Faults: []string{"f:1:2: a", "f:3:4: b"}})
	if code, text := ask(t, where, "POST", "/reload", "{}"); code != http.StatusUnprocessableEntity || !strings.Contains(text, `"f:1:2: a",`) {
		t.Errorf("/reload is answered %d, %q", code, text)
	}
	if err := c.Reload(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "the file has faults:\nf:1:2: a\nf:3:4: b") {
		t.Errorf("a refusal is %v", err)
	}
	f.err = errors.New("no process came")
	if code, text := ask(t, where, "POST", "/reload", "{}"); code != http.StatusConflict || !strings.Contains(text, "no process came") {
		t.Errorf("/reload is answered %d, %q", code, text)
	}
	if code, _ := ask(t, where, "POST", "/reload", `{"x": 1}`); code != http.StatusBadRequest {
		t.Errorf("/reload with something else is answered %d", code)
	}
	if code, _ := ask(t, serve(t, "127.0.0.1:0", f), "GET", "/config", ""); code != http.StatusNotFound {
		t.Errorf("without a file /config is answered %d", code)
	}
}

// ask makes a request of a TCP endpoint, with a body that says what it is.
func ask(t *testing.T, where, method, path, body string) (code int, text string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+where+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}
