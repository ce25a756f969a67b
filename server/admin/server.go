package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"
)

// maxBody bounds the body of a request, in bytes; maxHeader its header.
const (
	maxBody   = 4 << 10
	maxHeader = 8 << 10
)

// Server is an endpoint that serves.
type Server struct {
	http *http.Server
	ln   net.Listener
	done chan struct{} // closed when nobody is taken in any more
	open sync.WaitGroup
}

// Options say what an endpoint answers beside what its Proxy does, and to whom.
type Options struct {
	Metrics http.Handler // answers GET /metrics; nil: nobody does
	File    File         // answers GET /config and POST /reload; nil: nobody does
	Token   string       // who does not come by a socket file must show it; empty: nobody has to
}

// Serve begins to answer for p what comes to ln, which the Server closes in the end.
func Serve(ln net.Listener, p Proxy, o Options) *Server {
	h := &handler{proxy: p, options: o, local: ln.Addr().Network() == "unix"}
	s := &Server{ln: ln, done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           h.routes(),
		ConnState:         s.count,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    maxHeader,
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(ln) // that ln is closed ends it
	}()
	return s
}

// Close stops listening, which removes a socket file, and closes every connection.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Retire retires all of them at the same time, and returns when the last has ended.
func Retire(patience time.Duration, all ...*Server) {
	var ended sync.WaitGroup
	for _, s := range all {
		ended.Go(func() { s.retire(patience) })
	}
	ended.Wait()
}

// retire stops listening and closes every connection as what was asked there is answered,
// or after patience. http's own Shutdown gives no answer to who has been taken in but has not
// been read from yet.
func (s *Server) retire(patience time.Duration) {
	_ = s.ln.Close() // Serve ends by it, whatever it says
	<-s.done
	s.http.SetKeepAlivesEnabled(false) // closes those of which nothing is asked
	gone := make(chan struct{})
	go func() {
		s.open.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(patience):
	}
	_ = s.http.Close()
}

// count keeps count of who is connected; nobody's connection is hijacked.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed:
		s.open.Done()
	}
}

// handler answers requests.
type handler struct {
	proxy   Proxy
	options Options
	local   bool // by rights of a file
	latest  latest
}

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.page)
	mux.HandleFunc("GET /status.html", h.page)
	mux.HandleFunc("GET /status", h.status)
	mux.HandleFunc("GET /overview", h.overview)
	mux.HandleFunc("GET /events", h.events)
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.HandleFunc("GET /explain", h.explain)
	mux.HandleFunc("POST /resync", h.resync)
	mux.HandleFunc("POST /drain", h.drain)
	mux.HandleFunc("POST /diff", h.diff)
	mux.HandleFunc("POST /top", h.top)
	mux.HandleFunc("POST /failover", h.failover)
	mux.HandleFunc("POST /resume", h.resume)
	if h.options.File != nil {
		mux.HandleFunc("GET /config", h.config)
		mux.HandleFunc("POST /reload", h.reload)
	}
	if h.options.Metrics != nil {
		mux.Handle("GET /metrics", h.options.Metrics)
	}
	profiles(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "there is no %s %.100s: there are GET /, GET /status, GET /overview, GET /events, GET /healthz, GET /readyz, GET /explain, GET /metrics, GET /config, GET /debug/pprof/, "+
			"POST /resync, POST /drain, POST /diff, POST /top, POST /failover, POST /resume and POST /reload", r.Method, r.URL.Path)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.welcome(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

// profiles has mux answer for the profiles of this process, as go tool pprof asks for them.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// welcome reports whether r is to be answered, and refuses it if it is not. A page in a
// browser has no token, so that with one the host need not be looked at. Without one it is,
// since a name that leads here may be anybody's, and so may be a page of that name. To a
// socket file a browser comes only by a tunnel, and what has no dot is nobody's name.
func (h *handler) welcome(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case h.local:
		if !named(r.Host) && strings.Contains(r.Host, ".") {
			refuse(w, http.StatusForbidden, "the host of a request must be a loopback address, or a name without a dot, not %.100q", r.Host)
			return false
		}
	case h.options.Token != "" && isPage(r): // its user is yet to type the token
	case h.options.Token != "":
		if err := shows(r, h.options.Token); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "%v", err)
			return false
		}
	case !named(r.Host):
		refuse(w, http.StatusForbidden, "the host of a request must be a loopback address, not %.100q", r.Host)
		return false
	}
	return true
}

// named reports whether the host of a request is this machine's own.
func named(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return loopback(host)
}

func (h *handler) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, h.proxy.Status())
}

func (h *handler) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := h.proxy.Healthy(); err != nil {
		refuse(w, http.StatusServiceUnavailable, "%v", err)
		return
	}
	done(w)
}

// readyz answers in one form whether it is ready or not: who asks wants the reasons.
func (h *handler) readyz(w http.ResponseWriter, r *http.Request) {
	ready := h.proxy.Ready()
	code := http.StatusOK
	if !ready.Ready || !ready.Warm && r.URL.Query().Get("warm") == "1" {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, ready)
}

// explain takes the key from the query, where any byte can be put as %XX.
func (h *handler) explain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !query.Has("key") {
		refuse(w, http.StatusBadRequest, "say which key: /explain?key=KEY")
		return
	}
	e, err := h.proxy.Explain(r.Context(), Question{Key: []byte(query.Get("key")), Value: query.Get("value") == "1", Pool: query.Get("pool")})
	if err != nil {
		refuse(w, http.StatusConflict, "%v", err)
		return
	}
	answer(w, http.StatusOK, e)
}

// failover may take as long as addresses may take to leave, which the operator says.
func (h *handler) failover(w http.ResponseWriter, r *http.Request) {
	var body failover
	if err := read(w, r, &body); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	unhurry(w)
	conclude(w, h.proxy.Failover(r.Context(), body.Leave))
}

func (h *handler) resume(w http.ResponseWriter, r *http.Request) {
	if err := read(w, r, &struct{}{}); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	conclude(w, h.proxy.Resume())
}

func (h *handler) config(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(h.options.File.Config()) // who has gone does not mind
}

// reload may take as long as another process may take to serve, which the operator says.
func (h *handler) reload(w http.ResponseWriter, r *http.Request) {
	if err := read(w, r, &struct{}{}); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	unhurry(w)
	err := h.options.File.Reload(r.Context())
	var unfit *Unfit
	if errors.As(err, &unfit) {
		answer(w, http.StatusUnprocessableEntity, refusal{unfit.Error(), unfit.Faults})
		return
	}
	conclude(w, err)
}

func (h *handler) resync(w http.ResponseWriter, r *http.Request) {
	var body resync
	switch err := read(w, r, &body); {
	case err != nil:
		refuse(w, http.StatusBadRequest, "%v", err)
	case body.Node == "" || body.From == "":
		refuse(w, http.StatusBadRequest, `say which node to refill, and from which: {"node": "...", "from": "..."}`)
	default:
		conclude(w, h.proxy.Resync(body.Node, body.From))
	}
}

func (h *handler) drain(w http.ResponseWriter, r *http.Request) {
	var body drain
	switch err := read(w, r, &body); {
	case err != nil:
		refuse(w, http.StatusBadRequest, "%v", err)
	case body.Node == "" || body.On == nil:
		refuse(w, http.StatusBadRequest, `say which node to drain, or not to: {"node": "...", "on": true}`)
	default:
		conclude(w, h.proxy.Drain(body.Node, *body.On))
	}
}

// question is what is asked in JSON, and may be wrong.
type question interface {
	fault() string // empty: it is not
}

// asked reads q. It reports false if that is no question, and has answered then.
func asked(w http.ResponseWriter, r *http.Request, q question) bool {
	fault := ""
	if err := read(w, r, q); err != nil {
		fault = err.Error()
	} else {
		fault = q.fault()
	}
	if fault != "" {
		refuse(w, http.StatusBadRequest, "%s", fault)
	}
	return fault == ""
}

// read takes the body of a POST.
func read(w http.ResponseWriter, r *http.Request, body any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return errors.New("the body must be JSON, and say so: Content-Type: application/json")
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(body)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
		if err == nil {
			err = errors.New("something follows it")
		}
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fmt.Errorf("the body must not have more than %d bytes", maxBody)
	}
	return fmt.Errorf("the body is not the JSON that is expected: %w", err)
}

// unhurry takes the deadline off a request that takes long. net/http takes off the one for
// reading by itself, when it has read the request.
func unhurry(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // who cannot has none
}

// conclude answers with what the proxy says.
func conclude(w http.ResponseWriter, err error) {
	if err != nil {
		refuse(w, http.StatusConflict, "%v", err)
		return
	}
	done(w)
}

func done(w http.ResponseWriter) { answer(w, http.StatusOK, map[string]bool{"ok": true}) }

func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	answer(w, code, refusal{Error: fmt.Sprintf(format, args...)})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(body) // who has gone does not mind
}
