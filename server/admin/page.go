package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The status page: one document without anything from elsewhere, which asks for an Overview
// each second, and for the events that are new. It holds nothing that is secret, so it is
// given to anybody; what it asks for is not. A browser that is asked for a token has its
// user type it, and keeps it for as long as the tab is there.

//go:embed page/page.html page/page.css page/page.js
var pageFiles embed.FS

// page is the document, and policy is what a browser lets it do: run its own script, look
// like its own style, ask where it came from. A text can become no markup, as trusted types
// forbid that. (Content Security Policy Level 3; Trusted Types.)
var page, policy = makePage()

func makePage() (document []byte, policy string) {
	part := func(name string) string {
		text, err := pageFiles.ReadFile("page/" + name)
		if err != nil {
			panic(err) // it is in the binary
		}
		return string(text)
	}
	style, script := part("page.css"), part("page.js")
	text := strings.NewReplacer("/*style*/", style, "/*script*/", script).Replace(part("page.html"))
	return []byte(text), strings.Join([]string{
		"default-src 'none'",
		"script-src " + hashed(script),
		"style-src " + hashed(style),
		"img-src data:",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
}

// hashed is how a policy names an inline text.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// isPage reports whether r asks for the page.
func isPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && (r.URL.Path == "/" || r.URL.Path == "/status.html")
}

func (h *handler) page(w http.ResponseWriter, _ *http.Request) {
	for name, value := range map[string]string{
		"Content-Type":            "text/html; charset=utf-8",
		"Content-Security-Policy": policy,
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
		"Cache-Control":           "no-store",
	} {
		w.Header().Set(name, value)
	}
	_, _ = w.Write(page) // who has gone does not mind
}

// freshFor is how old an overview may be: however many pages are open, the loops are asked
// this often at most.
const freshFor = 500 * time.Millisecond

// latest is the overview that was made last, as JSON.
type latest struct {
	mu   sync.Mutex
	at   time.Time
	text []byte
}

func (h *handler) overview(w http.ResponseWriter, _ *http.Request) {
	l := &h.latest
	l.mu.Lock()
	if l.text == nil || time.Since(l.at) > freshFor {
		text, err := json.Marshal(h.proxy.Overview())
		if err != nil {
			l.mu.Unlock()
			refuse(w, http.StatusInternalServerError, "%v", err)
			return
		}
		l.text, l.at = append(text, '\n'), time.Now()
	}
	text := l.text
	l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text)
}

// told is the answer to who asks for events.
type told struct {
	Events []Event `json:"events"`
	Last   uint64  `json:"last"` // the number of the latest there is; 0: there is none
}

func (h *handler) events(w http.ResponseWriter, r *http.Request) {
	after := uint64(0)
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			refuse(w, http.StatusBadRequest, "after must be the number of an event, not %.40q", text)
			return
		}
	}
	all, last := h.proxy.Events(after)
	if all == nil {
		all = []Event{}
	}
	answer(w, http.StatusOK, told{all, last})
}
