package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/profile"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"magent/server"
	"magent/server/admin"
	"magent/server/config"
	"magent/server/config/file"
	"magent/server/config/names"
	"magent/server/logs"
	"magent/server/metrics"
	"magent/server/succession"
)

func newServe() *cobra.Command {
	var f config.Flags
	cmd := &cobra.Command{
		Use:   "serve -s host:port [-b host:port] [flags]",
		Short: "Serve in the foreground",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := &orders{line: cmd.Flags(), flags: &f, foreground: true}
			if f.Print {
				return o.print()
			}
			s, err := o.settle()
			if err != nil {
				return err
			}
			return serve(o, s, inForeground)
		},
	}
	f.Bind(cmd.Flags())
	return cmd
}

// inForeground is what a process that stays there does once it serves.
func inForeground() error { return nil }

// serve runs a proxy until TERM, INT or its own end, or until another process has taken its
// place. ready is called once, when clients are served.
func serve(o *orders, told *file.Settings, ready func() error) error {
	// A log that nobody reads any more must not end the proxy.
	signal.Ignore(syscall.SIGPIPE)
	signalled, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	stop, leave := context.WithCancel(signalled)
	defer leave()
	replace := make(chan os.Signal, 4)
	signal.Notify(replace, syscall.SIGUSR2)
	if o.flags.File != "" {
		signal.Notify(replace, syscall.SIGHUP)
	}

	s := &service{orders: o, told: told, text: o.text, cfg: told.Config, flags: told.Flags, leave: leave, wishes: make(chan wish)}
	defer s.closeLog()
	s.reloads.inherit()
	var err error
	if s.in, err = inherit(); err != nil {
		return err
	}
	if err := s.resolve(stop); err != nil {
		return err
	}
	close, err := s.open()
	defer close()
	if err != nil {
		return err
	}
	adopted, err := s.begin(ready)
	if err != nil {
		return err
	}
	manager := startNotifier(s.srv, s.srv.Pulse().Turned, s.log)
	quiet := sync.OnceFunc(manager.close)
	defer quiet()
	s.watch(stop)
	s.follow(stop)
	link, pid, err := s.await(stop, replace, adopted)
	if err != nil {
		return err
	}
	release() // a second signal ends us at once
	if link != nil {
		go passHUP(replace, pid)
		quiet()
		s.yield(link, pid)
		return nil
	}
	manager.stopping()
	s.srv.Leave(context.Background())
	s.log.Info("stopping", "at most", s.cfg.DrainTimeout)
	if err := s.shutdown(); err != nil {
		s.log.Warn("some requests were not finished", "error", err)
	}
	return nil
}

// open opens everything, and gives up the rights that need. The order is that of rights: what
// only root may do comes before the user is changed, and clients are served after that.
// close undoes what has to be undone at exit, even after an error.
func (s *service) open() (close func(), err error) {
	f := s.flags
	close = func() {}
	who, err := lookupIdentity(f.User, f.Group)
	if err != nil {
		return close, err
	}
	if err = s.openLog(); err != nil {
		return close, err
	}
	s.loadEvents()
	s.log = slog.New(s.history.Handler(s.log.Handler()))
	if s.cfg.Loops == 0 {
		s.cfg.Loops = max(1, runtime.GOMAXPROCS(0)/2)
	}
	lowered, err := fitFileLimit(&s.cfg)
	if err != nil {
		return close, err
	}
	warn(f, s.log, append(s.cfg.Warnings(), lowered))
	if s.srv, err = server.NewOn(&s.in.sockets, s.cfg, s.log); err != nil {
		return close, err
	}
	if s.lines != nil {
		s.srv.LogLoses(s.lines.Lost)
	}
	warning, err := s.openOperators(who)
	if err != nil {
		return close, errors.Join(err, s.shutdown())
	}
	warn(f, s.log, append(s.in.surplus(), warning))
	close, err = s.prepare(who)
	if err == nil && s.in.link != nil {
		err = s.srv.Succeed(s.in.link, time.Now().Add(f.RestartWait))
	}
	if err != nil {
		return close, errors.Join(err, s.shutdown())
	}
	return close, nil
}

// await returns when a signal says to stop; or when another process has taken our place,
// as replace or a wish says, with a link to that one. It may not before all is adopted that the one
// before us had to give. The error is of an engine that has ended.
func (s *service) await(stop context.Context, replace <-chan os.Signal, adopted <-chan struct{}) (link *succession.Link, pid int, err error) {
	var may <-chan os.Signal
	var wishes <-chan wish
	for {
		select {
		case <-s.srv.Done():
			return nil, 0, s.ended()
		case <-stop.Done():
			return nil, 0, nil
		case <-adopted:
			adopted, may, wishes = nil, replace, s.wishes
		case which := <-may:
			if which == syscall.SIGHUP {
				link, pid, _ = s.reload(stop, wish{from: "HUP"})
			} else {
				link, pid, _ = s.restart(stop)
			}
		case w := <-wishes:
			link, pid, err = s.reload(stop, w)
			w.answer(err)
		}
		if link != nil {
			return link, pid, nil
		}
	}
}

// watch has the configuration be reloaded when its file changes, if that is asked for.
func (s *service) watch(stop context.Context) {
	if !s.flags.Watch || s.orders.flags.File == "" {
		return
	}
	err := watchFile(stop, s.orders.path(), s.text, func() {
		select {
		case s.wishes <- wish{from: "--watch", changed: true}:
		case <-stop.Done():
		}
	})
	if err != nil {
		s.log.Warn("the configuration file is not watched", "cause", err.Error())
	}
}

// service is a proxy as a process.
type service struct {
	srv       *server.Server
	orders    *orders
	told      *file.Settings  // what is in force
	text      []byte          // of the file that says so
	next      *file.Settings  // what the process that takes over puts in force; nil: the same
	resolver  *names.Resolver // nil: there are no names
	hold      time.Duration   // how long the addresses in cfg hold
	reloads   reloads
	wishes    chan wish
	cfg       config.Config
	flags     *config.Flags // of the process
	log       *slog.Logger
	history   admin.History
	leave     context.CancelFunc // has it end as a signal does
	admin     net.Listener       // of --admin; nil: nobody can ask it there
	remote    net.Listener       // of --admin-listen; the same
	token     string             // who asks by TCP must show it; empty: nobody has to
	endpoints []*admin.Server

	in       inherited
	lines    *logs.Handler // behind log; nil: there is none
	logFile  *os.File      // nil: there is none
	pid      *os.File      // nil: there is none
	pidStays bool          // when we end, as it is another's
}

// openOperators opens what operators may ask at.
func (s *service) openOperators(who *identity) (warning string, err error) {
	if s.admin, warning, err = openAdmin(s.flags, &s.cfg, who, &s.in.sockets); err == nil {
		s.remote, s.token, err = openRemote(s.flags, &s.in.sockets)
	}
	return warning, err
}

// operators is where they may ask.
func (s *service) operators() (all []net.Listener) {
	for _, ln := range []net.Listener{s.admin, s.remote} {
		if ln != nil {
			all = append(all, ln)
		}
	}
	return all
}

func (s *service) start() error {
	if err := s.srv.Start(); err != nil {
		return errors.Join(err, s.shutdown())
	}
	if s.in.link != nil {
		s.srv.Ready() // who asks next may have asked the predecessor before
	}
	o := admin.Options{
		Metrics: metrics.NewHandler(s.srv, metrics.Build{Version: version, Commit: builtFrom()}, s.reloads.count),
		Token:   s.token, File: s,
	}
	for _, ln := range s.operators() {
		s.endpoints = append(s.endpoints, admin.Serve(ln, operated{s.srv, s.leave, &s.history}, o))
	}
	return nil
}

// begin serves, and calls ready. adopted is closed when all is adopted that a process before
// us had to give.
func (s *service) begin(ready func() error) (adopted <-chan struct{}, err error) {
	// An idle P costs thousands of futex calls a second beside an event loop.
	runtime.GOMAXPROCS(s.cfg.Loops)
	if err := s.start(); err != nil {
		return nil, err
	}
	for _, a := range s.srv.Addrs() {
		s.log.Info("listening", "address", a.String())
	}
	for _, ln := range s.operators() {
		s.log.Info("answering operators", "at", ln.Addr().String())
	}
	if err = ready(); err == nil {
		adopted, err = s.announce()
	}
	if err != nil {
		return nil, errors.Join(err, s.shutdown())
	}
	return adopted, nil
}

// ended says why an engine that nobody stopped is done.
func (s *service) ended() error {
	s.closeAdmin()
	return fmt.Errorf("the engine ended: %w", s.srv.Err())
}

// closeAdmin ends the endpoints, or what would have become some, and removes the socket
// where the user that we are may.
func (s *service) closeAdmin() {
	for _, e := range s.endpoints {
		e.Close()
	}
	if s.endpoints == nil {
		for _, ln := range s.operators() {
			ln.Close()
		}
	}
}

func (s *service) shutdown() error {
	s.closeAdmin()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	return s.srv.Shutdown(ctx)
}

// prepare does what follows from the flags once the listeners are open: the last
// things done with the rights we came with, and then giving those up. What it
// returns undoes them at exit, even after an error.
func (s *service) prepare(who *identity) (undo func(), err error) {
	f := s.flags
	s.pidStays = s.in.link != nil // until we serve
	stopProfile, err := startProfile(f.Profile, f.ProfileDir)
	undo = stopProfile
	if err != nil {
		return undo, err
	}
	if f.PidFile != "" {
		if s.pid, err = openPid(f.PidFile, s.in.pid); err != nil {
			return undo, fmt.Errorf("--pidfile: %w", err)
		}
		undo = func() {
			stopProfile()
			if s.pidStays {
				return
			}
			os.Remove(f.PidFile) // refused to a user without rights there, which does no harm
		}
	}
	return undo, who.assume()
}

// warn says what is wrong and does not stop us: in the log, and to whoever starts
// us in the background, where standard error is still theirs.
func warn(f *config.Flags, log *slog.Logger, warnings []string) {
	for _, w := range warnings {
		if w == "" {
			continue
		}
		log.Warn(w)
		if f.Background() {
			complain("warning: " + w)
		}
	}
}

// openLog gives the log, whose file stays open for as long as the process lives, and may be
// the predecessor's. There is none in the background unless it was asked for.
func (s *service) openLog() (err error) {
	f, out := s.flags, os.Stderr
	switch {
	case f.LogFile != "":
		if s.logFile, err = openLogFile(f.LogFile, s.in.log); err == nil {
			err = debug.SetCrashOutput(s.logFile, debug.CrashOptions{})
		}
		if err != nil {
			return fmt.Errorf("--log-file: %w", err)
		}
		out = s.logFile
	case f.Background():
		s.log = slog.New(slog.DiscardHandler)
		return nil
	}
	level := slog.LevelInfo
	if f.Verbose() {
		level = slog.LevelDebug
	}
	format := logs.Format(f.LogFormat)
	if f.LogFormat == "auto" {
		if format = logs.JSON; term.IsTerminal(int(out.Fd())) {
			format = logs.Text
		}
	}
	s.lines = logs.New(out, format, level)
	s.log = slog.New(s.lines)
	return nil
}

// lastLines is how long the end of a process waits for its log.
const lastLines = time.Second

// closeLog writes what has been logged. If nobody takes it there is nobody to be told either.
func (s *service) closeLog() {
	if s.lines != nil {
		_ = s.lines.Close(lastLines)
	}
}

// profiles are the kinds of --profile, and the files that they are written to.
var profiles = map[string]struct {
	file string
	kind func(*profile.Profile)
}{
	"cpu":       {"cpu.pprof", profile.CPUProfile},
	"mem":       {"mem.pprof", profile.MemProfile},
	"block":     {"block.pprof", profile.BlockProfile},
	"mutex":     {"mutex.pprof", profile.MutexProfile},
	"trace":     {"trace.out", profile.TraceProfile},
	"goroutine": {"goroutine.pprof", profile.GoroutineProfile},
}

// startProfile begins a profile, if one is asked for. stop writes it.
func startProfile(kind, dir string) (stop func(), err error) {
	p, ok := profiles[kind]
	if !ok {
		return func() {}, nil
	}
	// profile.Start ends the process, in words of its own, if it cannot create this.
	path := filepath.Join(dir, p.file)
	if succeeds() { // the predecessor has it open, and writes to it when it ends
		_ = os.Rename(path, path+".before")
	}
	file, err := os.Create(path)
	if err != nil {
		return func() {}, fmt.Errorf("--profile %s: %w", kind, err)
	}
	file.Close()
	return profile.Start(p.kind, profile.ProfilePath(dir), profile.NoShutdownHook, profile.Quiet).Stop, nil
}
