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
	"strconv"
	"syscall"

	"github.com/pkg/profile"
	"github.com/spf13/cobra"

	"magent/server"
	"magent/server/admin"
	"magent/server/config"
)

func newServe() *cobra.Command {
	var f config.Flags
	cmd := &cobra.Command{
		Use:   "serve -s host:port [-b host:port] [flags]",
		Short: "Serve in the foreground",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			f.Foreground = true
			cfg, err := settle(&f)
			if err != nil {
				return err
			}
			return serve(&f, cfg, inForeground)
		},
	}
	f.Bind(cmd.Flags())
	return cmd
}

// inForeground is what a process that stays there does once it serves.
func inForeground() error { return nil }

// serve runs a proxy until TERM, INT or its own end. The order is that of rights:
// what only root may do comes before the user is changed, and clients are served
// after that. ready is called once, when they are.
func serve(f *config.Flags, cfg config.Config, ready func() error) error {
	// A log that nobody reads any more must not end the proxy.
	signal.Ignore(syscall.SIGPIPE)
	signalled, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	stop, leave := context.WithCancel(signalled)
	defer leave()

	who, err := lookupIdentity(f.User, f.Group)
	if err != nil {
		return err
	}
	log, err := openLog(f)
	if err != nil {
		return err
	}
	if cfg.Loops == 0 {
		cfg.Loops = max(1, runtime.GOMAXPROCS(0)/2)
	}
	lowered, err := fitFileLimit(&cfg)
	if err != nil {
		return err
	}
	warn(f, log, append(cfg.Warnings(), lowered))
	srv, err := server.New(cfg, log)
	if err != nil {
		return err
	}
	s := &service{srv: srv, cfg: cfg, log: log, leave: leave}
	var warning string
	if s.admin, warning, err = openAdmin(f, &cfg, who); err != nil {
		return errors.Join(err, s.shutdown())
	}
	warn(f, log, []string{warning})
	unprepare, err := prepare(f, who)
	defer unprepare()
	if err != nil {
		return errors.Join(err, s.shutdown())
	}
	// An idle P costs thousands of futex calls a second beside an event loop.
	runtime.GOMAXPROCS(cfg.Loops)
	if err := s.start(); err != nil {
		return err
	}
	for _, a := range srv.Addrs() {
		log.Info("listening", "address", a.String())
	}
	if s.admin != nil {
		log.Info("answering operators", "at", s.admin.Addr().String())
	}
	if err := ready(); err != nil {
		return errors.Join(err, s.shutdown())
	}
	manager := startNotifier(srv, srv.Pulse().Turned, log)
	defer manager.close()
	select {
	case <-srv.Done():
		return s.ended()
	case <-stop.Done():
	}
	release() // a second signal ends us at once
	manager.stopping()
	srv.Leave(context.Background())
	log.Info("stopping", "at most", cfg.DrainTimeout)
	if err := s.shutdown(); err != nil {
		log.Warn("some requests were not finished", "error", err)
	}
	return nil
}

// service is a proxy whose listeners are open.
type service struct {
	srv      *server.Server
	cfg      config.Config
	log      *slog.Logger
	leave    context.CancelFunc // has it end as a signal does
	admin    net.Listener       // nil: nobody can ask it
	endpoint *admin.Server
}

func (s *service) start() error {
	if err := s.srv.Start(); err != nil {
		return errors.Join(err, s.shutdown())
	}
	if s.admin != nil {
		s.endpoint = admin.Serve(s.admin, operated{s.srv, s.leave})
	}
	return nil
}

// ended says why an engine that nobody stopped is done.
func (s *service) ended() error {
	s.closeAdmin()
	return fmt.Errorf("the engine ended: %w", s.srv.Err())
}

// closeAdmin ends the endpoint, or what would have become one, and removes its socket
// where the user that we are may.
func (s *service) closeAdmin() {
	switch {
	case s.endpoint != nil:
		s.endpoint.Close()
	case s.admin != nil:
		s.admin.Close()
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
func prepare(f *config.Flags, who *identity) (undo func(), err error) {
	stopProfile, err := startProfile(f.Profile, f.ProfileDir)
	undo = stopProfile
	if err != nil {
		return undo, err
	}
	if f.PidFile != "" {
		if err := os.WriteFile(f.PidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return undo, fmt.Errorf("--pidfile: %w", err)
		}
		undo = func() {
			stopProfile()
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

// openLog gives the log, whose file stays open for as long as the process lives.
// There is none in the background unless it was asked for.
func openLog(f *config.Flags) (*slog.Logger, error) {
	out := os.Stderr
	switch {
	case f.LogFile != "":
		file, err := os.OpenFile(f.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("--log-file: %w", err)
		}
		if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
			return nil, fmt.Errorf("--log-file: %w", err)
		}
		out = file
	case f.Background():
		return slog.New(slog.DiscardHandler), nil
	}
	level := slog.LevelInfo
	if f.Verbose() {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})), nil
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
	file, err := os.Create(filepath.Join(dir, p.file))
	if err != nil {
		return func() {}, fmt.Errorf("--profile %s: %w", kind, err)
	}
	file.Close()
	return profile.Start(p.kind, profile.ProfilePath(dir), profile.NoShutdownHook, profile.Quiet).Stop, nil
}
