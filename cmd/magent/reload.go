package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"magent/server/admin"
	"magent/server/config/file"
	"magent/server/metrics"
	"magent/server/succession"
)

// Reload: the file of --config is read anew, and, if nothing is wrong with it, put in force whole by
// another process, which takes this one's place:
//
//	HUP, POST /reload, --watch ──▶ await ──▶ reload: judge ──▶ succeeded, of a restart in place
//	                                              └─▶ faults: nothing happens
//
// So all can change that a process may be started with, clients keep their connections, and there
// is one way for a configuration to come into force. The process that is there judges, as what
// has faults should not even be tried; where the binary has changed, which USR2 is for, only
// the new one can.

// passHUP has the process pid, which has taken over, hear what was meant for it: who sent HUP may
// have found our number yet.
func passHUP(hears <-chan os.Signal, pid int) {
	for which := range hears {
		if which == syscall.SIGHUP {
			_ = syscall.Kill(pid, syscall.SIGHUP) // it may have ended
		}
	}
}

// wish is for a reload.
type wish struct {
	from    string     // who asks, for the log
	changed bool       // only if the text is another than the one in force
	names   bool       // as names stand for something else: there may be no file
	done    chan error // has room for what came of it; nil: nobody waits
}

// answer tells who asked what came of it.
func (w *wish) answer(err error) {
	if w.done != nil {
		w.done <- err
	}
}

// reload has another process put in force what the file says by now. If link is nil, nothing
// has changed, and err says why; nil, if the text has not changed either.
func (s *service) reload(ctx context.Context, w wish) (link *succession.Link, pid int, err error) {
	if w.names && s.orders.flags.File == "" {
		return s.succeeded(ctx)
	}
	told, err := s.judge(w)
	if told == nil {
		return nil, 0, err
	}
	s.log.Info("reloading the configuration", "asked by", w.from)
	s.next, s.reloads.underWay = told, true
	link, pid, err = s.succeeded(ctx)
	if err != nil {
		s.next, s.reloads.underWay = nil, false
		s.reloads.failed.Add(1)
		err = fmt.Errorf("the process that was to put it in force did not come to serve, and all is as it was: %w", err)
	}
	return link, pid, err
}

// judge reads the file, and says all that is wrong with it. Both are nil if there is nothing to do.
func (s *service) judge(w wish) (*file.Settings, error) {
	if s.orders.flags.File == "" {
		return nil, errors.New("this magent was started without --config: there is no file to be read anew")
	}
	told, err := s.orders.settle()
	if err == nil && w.changed && bytes.Equal(s.text, s.orders.text) {
		s.log.Info("the configuration file says again what is in force", "asked by", w.from)
		return nil, nil
	}
	if err == nil {
		err = s.unchangeable(told)
	}
	if err == nil {
		return told, nil
	}
	s.reloads.refused.Add(1)
	faults := faultsOf(err)
	for _, f := range faults {
		s.log.Error("a fault in the configuration", "fault", f)
	}
	s.log.Error("not reloaded: the configuration in force stays", "asked by", w.from, "faults", len(faults))
	return nil, &admin.Unfit{Faults: faults}
}

// faultsOf is the faults in err, a line each.
func faultsOf(err error) (faults []string) {
	if of, ok := errors.AsType[*file.Faults](err); ok {
		for _, one := range of.All {
			faults = append(faults, of.Line(one))
		}
		return faults
	}
	return strings.Split(err.Error(), "\n")
}

// unchangeable says what only a start anew can change: a process that has given up the rights
// of root has none to give to the next.
func (s *service) unchangeable(told *file.Settings) error {
	var errs []error
	for _, c := range []struct {
		what     string
		was, now string
	}{
		{"user", s.flags.User, told.Flags.User},
		{"group", s.flags.Group, told.Flags.Group},
		{"foreground", strconv.FormatBool(!s.flags.Background()), strconv.FormatBool(!told.Flags.Background())},
	} {
		if c.was != c.now {
			errs = append(errs, fmt.Errorf("%s is %q and was %q: that takes a restart, not a reload", c.what, c.now, c.was))
		}
	}
	return errors.Join(errs...)
}

// staysOpen reports whether the process that takes over serves at ln, too: so its file must stay.
func (s *service) staysOpen(ln net.Listener) bool {
	if s.next == nil {
		return true
	}
	one := succession.Sockets{ln}
	for _, l := range s.next.Listen {
		if one.Take(l.Network, l.Address) != nil {
			return true
		}
	}
	where := s.next.Flags.Admin
	if where == "" {
		where = defaultAdmin(&s.next.Config)
	}
	network, address, err := admin.Endpoint(where)
	return err == nil && one.Take(network, address) != nil
}

// reloads counts, over all processes that took one another's place.
type reloads struct {
	done, refused, failed atomic.Uint64
	read                  time.Time // when what is in force was read
	underWay              bool      // one is, of which the process that takes over is to be told as done
}

// reloadsVariable tells a successor what was counted: done, refused and failed.
const reloadsVariable = "MAGENT_RELOADS"

// inherit goes on from what the predecessor has counted.
func (r *reloads) inherit() {
	var done, refused, failed uint64
	if n, _ := fmt.Sscan(os.Getenv(reloadsVariable), &done, &refused, &failed); n == 3 {
		r.done.Store(done)
		r.refused.Store(refused)
		r.failed.Store(failed)
	}
	os.Unsetenv(reloadsVariable)
	r.read = time.Now()
}

// String is what a successor is told.
func (r *reloads) String() string {
	done := r.done.Load()
	if r.underWay {
		done++
	}
	return fmt.Sprint(done, " ", r.refused.Load(), " ", r.failed.Load())
}

// count is for Prometheus.
func (r *reloads) count() metrics.Reloads {
	return metrics.Reloads{Done: r.done.Load(), Refused: r.refused.Load(), Failed: r.failed.Load(), Read: r.read}
}

// Config is the file as it is in force.
func (s *service) Config() []byte { return s.told.Text() }

// Reload asks for a reload on behalf of an operator, and waits for what comes of it.
func (s *service) Reload(ctx context.Context) error {
	w := wish{from: "an operator", done: make(chan error, 1)}
	select {
	case s.wishes <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.srv.Done():
		return errors.New("it is ending")
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.srv.Done():
		return errors.New("it is ending")
	}
}
