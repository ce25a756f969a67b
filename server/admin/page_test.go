package admin

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// asks makes one request, as host if that is not empty, with a token if that is not.
func asks(t *testing.T, c *http.Client, url, host, token string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// The page is given to whoever asks, and what it would show to who shows the token.
func TestPageAsksForTheToken(t *testing.T) {
	t.Parallel()
	f := &fake{overview: Overview{Version: "1.2.3"}}
	ln, err := ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := "http://" + serveOn(t, ln, f, Options{Token: secret})
	for path, codes := range map[string][2]int{"/": {200, 200}, "/status.html": {200, 200}, "/overview": {401, 200}, "/events": {401, 200}, "/index.html": {401, 404}} {
		for i, token := range []string{"", secret} {
			resp, text := asks(t, http.DefaultClient, where+path, "cache.example", token)
			if resp.StatusCode != codes[i] || strings.Contains(text, "1.2.3") != (path == "/overview" && i == 1) {
				t.Errorf("%s with %q: %d, %s", path, token, resp.StatusCode, text)
			}
		}
	}
}

// What the policy lets run is what is on the page, and nothing else.
func TestPagePolicy(t *testing.T) {
	t.Parallel()
	resp, text := asks(t, http.DefaultClient, "http://"+serve(t, "127.0.0.1:0", &fake{})+"/", "", "")
	said := resp.Header.Get("Content-Security-Policy")
	for tag, directive := range map[string]string{"script": "script-src ", "style": "style-src "} {
		inside := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(text, -1)
		if len(inside) != 1 || len(inside[0][1]) < 1000 || !strings.Contains(said, directive+hashed(inside[0][1])+";") {
			t.Errorf("%d of %s, and the policy is %s", len(inside), tag, said)
		}
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(said, want) {
			t.Errorf("the policy lacks %s: %s", want, said)
		}
	}
	if strings.Contains(said, "unsafe") {
		t.Error(said)
	}
	// Nothing is fetched from elsewhere, and nothing becomes markup.
	for _, never := range []string{"://", "//cdn", "@import", "url(", "innerHTML", "insertAdjacentHTML", "document.write", "eval("} {
		if plain := strings.ReplaceAll(text, `"http://www.w3.org/2000/svg"`, ""); strings.Contains(plain, never) {
			t.Errorf("the page has %s", never)
		}
	}
	for name, want := range map[string]string{"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A page of another name that leads here is answered nothing; neither at a loopback
// address, nor where a tunnel leads to a socket file.
func TestPageOfAnotherName(t *testing.T) {
	t.Parallel()
	path := socket(t)
	f := &fake{}
	serve(t, path, f)
	tunnel := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	addr := serve(t, "127.0.0.1:0", f)
	for host, codes := range map[string][2]int{"localhost": {200, 200}, "127.0.0.1:8080": {200, 200}, "magent": {200, 403}, "evil.example": {403, 403}, "evil.example:80": {403, 403}, "10.0.0.1": {403, 403}} {
		for _, at := range []string{"/", "/status.html", "/overview", "/events", "/status"} {
			if resp, text := asks(t, tunnel, "http://x"+at, host, ""); resp.StatusCode != codes[0] {
				t.Errorf("%s%s by a socket file: %d, %s", host, at, resp.StatusCode, text)
			}
			if resp, text := asks(t, http.DefaultClient, "http://"+addr+at, host, ""); resp.StatusCode != codes[1] {
				t.Errorf("%s%s: %d, %s", host, at, resp.StatusCode, text)
			}
		}
	}
}

// However many ask, the proxy is asked as often as one page would ask it.
func TestOverviewIsShared(t *testing.T) {
	t.Parallel()
	eta := 4
	f := &fake{overview: Overview{Version: "1.2.3", Now: time.Unix(1700000000, 0).UTC(), Pools: []Pool{{Name: "default", Hits: 7,
		Took:   Latency{Count: 3, Sum: 0.5, Buckets: []Bucket{{-80, 1}, {-8, 2}}},
		Copies: []Copy{{Nodes: []Member{{Node: Node{Name: "a", State: "warming", Refill: &Refill{Done: 1, ETA: &eta}}, Connections: 2}}}}}}}}
	where := serve(t, "127.0.0.1:0", f)
	began := time.Now()
	for range 20 {
		code, text := ask(t, where, "GET", "/overview", "")
		var got Overview
		if err := json.Unmarshal([]byte(text), &got); err != nil || code != http.StatusOK || !reflect.DeepEqual(got, f.overview) {
			t.Fatalf("%d, %s, %v", code, text, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if most := 1 + int(time.Since(began)/freshFor); len(f.told) > most {
		t.Errorf("the proxy was asked %d times, at most %d are due", len(f.told), most)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	f := &fake{events: []Event{{Number: 1, What: "ready"}, {Number: 2, What: "not ready", Cause: "a is down"}}}
	addr := serve(t, "127.0.0.1:0", f)
	c := client(t, addr)
	for after, want := range map[uint64][]Event{0: f.events, 1: f.events[1:], 2: {}, 9: f.events} { // of 9 another process has told
		if got, err := c.Events(context.Background(), after); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("after %d: %+v, %v", after, got, err)
		}
	}
	resp, text := asks(t, http.DefaultClient, "http://"+addr+"/events?after=x", "", "")
	var no refusal
	if err := json.Unmarshal([]byte(text), &no); err != nil || resp.StatusCode != 400 || !strings.HasPrefix(no.Error, "after must be the number of an event") {
		t.Errorf("%d, %s", resp.StatusCode, text)
	}
}
