package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"magent/server/admin"
	"magent/server/succession"
)

// Restart in place, on SIGUSR2, or for a reload:
//
//	predecessor: succeeded    starts the binary that is at our path by now, with our arguments
//	successor:   inherit      finds sockets, pid file and log open, and a link to the predecessor
//	successor:   announce     serves, on the same sockets, and says so on the link
//	predecessor: yield        gives it its clients and debts, and ends
//
// Sockets are passed as systemd passes them, sd_listen_fds(3), so that they may as well come
// from there; but nobody knows the number of a process that is still to be made, so that a
// successor writes LISTEN_PID itself. The variable below tells that it is one. Its value is
// the directory that the first of them was started in, which relative paths go from.
const successorVariable = "MAGENT_SUCCESSOR_IN"

// What files of the predecessor's are called; any other name is a socket's.
const (
	socketName    = "magent.socket" // that magent has made, and removes when it ends
	linkName      = "magent.link"
	eventsName    = "magent.events"
	addressesName = "magent.addresses"
	pidName       = "magent.pid"
	logName       = "magent.log"
)

// inherited is what this process was started with. Its zero value is nothing.
type inherited struct {
	sockets   succession.Sockets
	directory string           // where relative paths of the command line go from
	foreign   map[string]bool  // addresses of sockets that magent has not made, and does not remove
	link      *succession.Link // nil: there is no predecessor
	events    *os.File         // what has changed before; nil: nobody says
	addresses *os.File         // what names stand for; nil: nobody says
	pid       *os.File         // nil: there is no pid file of the predecessor's
	log       *os.File         // nil: nor a log
}

// succeeds reports whether this process is to take the place of another.
func succeeds() bool { return os.Getenv(successorVariable) != "" }

// directory is where relative paths of the command line go from.
func directory() (string, error) {
	if dir := os.Getenv(successorVariable); dir != "" {
		return dir, nil
	}
	return os.Getwd()
}

// inherit takes what this process was started with.
func inherit() (in inherited, err error) {
	if in.directory, err = directory(); err != nil {
		in.directory, err = "/", nil // it is gone, and nothing was relative to it
	}
	if succeeds() {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	in.foreign = map[string]bool{}
	for _, f := range activation.Files(true) {
		switch name := f.Name(); {
		case succeeds() && name == linkName:
			in.link, err = succession.Open(f)
		case succeeds() && name == eventsName:
			in.events = f
		case succeeds() && name == addressesName:
			in.addresses = f
		case succeeds() && name == pidName:
			in.pid = f
		case succeeds() && name == logName:
			in.log = f
		default:
			ln, failed := succession.Listen(f)
			if failed != nil {
				return in, fmt.Errorf("no socket is %s, which this process was started with: %w", name, failed)
			}
			in.sockets = append(in.sockets, ln)
			if name != socketName {
				in.foreign[ln.Addr().String()] = true
			}
		}
		if err != nil {
			return in, err
		}
	}
	if succeeds() && in.link == nil {
		return in, fmt.Errorf("%s is set, and there is no predecessor", successorVariable)
	}
	return in, nil
}

// surplus closes the sockets that nobody has taken, and says which, unless it was a predecessor
// who served there: that is what has changed.
func (in *inherited) surplus() (warnings []string) {
	for _, ln := range in.sockets {
		if in.link == nil {
			warnings = append(warnings, fmt.Sprintf("a socket at %s was handed in, and no flag says to listen there", ln.Addr()))
		}
		ln.Close()
	}
	in.sockets = nil
	return warnings
}

// restart has what is at our path by now take our place. It judges the configuration itself, of
// which it may know more.
func (s *service) restart(ctx context.Context) (link *succession.Link, pid int, err error) {
	if s.orders.flags.File != "" {
		s.next, _ = s.orders.settle()
	}
	if link, pid, err = s.succeeded(ctx); err != nil {
		s.next = nil
	}
	return link, pid, err
}

// succeeded has another process take our place, and returns a link to it when it serves. After
// an error it does not, and nothing has changed. ctx ends the waiting.
func (s *service) succeeded(ctx context.Context) (link *succession.Link, pid int, err error) {
	s.log.Info("restarting in place", "at most", s.flags.RestartWait)
	link, pid, err = s.startSuccessor(ctx)
	if err == nil {
		return link, pid, nil
	}
	s.srv.Stay()
	if s.pid != nil {
		_ = writePid(s.pid) // the other may have been there
	}
	tellManager(sd.SdNotifyReady)
	s.log.Error("not restarted: this process goes on", "cause", err.Error())
	return nil, 0, err
}

// startSuccessor starts a process and waits until it serves. After an error it has ended.
func (s *service) startSuccessor(ctx context.Context) (link *succession.Link, pid int, err error) {
	if os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) && os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, 0, errors.New("systemd would take the service for ended, and end the other process: its unit needs Type=notify")
	}
	tellManager(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, monotonic().Microseconds()))
	link, child, err := s.launch()
	if err != nil {
		return nil, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	serving := make(chan error, 1)
	go func() { serving <- serves(link, time.Now().Add(s.flags.RestartWait)) }()
	select {
	case err = <-serving:
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.srv.Done():
		err = s.srv.Err()
	}
	if err == nil {
		return link, child.Process.Pid, nil
	}
	_ = child.Process.Kill() // it may have ended, which is as well
	if how := <-ended; how != nil && errors.Is(err, errEndedEarly) {
		err = fmt.Errorf("%w: %w", err, how)
	}
	link.Close()
	return nil, 0, err
}

// errEndedEarly is of a successor that is gone.
var errEndedEarly = errors.New("it has ended before it served, and its log may say why")

// serves waits until the successor says that it serves.
func serves(link *succession.Link, deadline time.Time) error {
	m, err := link.Receive(deadline)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it did not serve in time, and was ended")
	case err != nil:
		return errEndedEarly
	case m.Kind != succession.Serving:
		return fmt.Errorf("it sent a message of kind %d, and was ended", m.Kind)
	}
	return nil
}

// launch starts a successor.
func (s *service) launch() (*succession.Link, *exec.Cmd, error) {
	path, err := s.ourPath()
	if err != nil {
		return nil, nil, err
	}
	link, theirs, err := succession.Pair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	sockets, names, err := s.sockets()
	defer func() {
		for _, f := range sockets {
			f.Close()
		}
	}()
	if err == nil {
		err = s.srv.Instruct(link)
	}
	files, names := append(slices.Clone(sockets), theirs), append(names, linkName)
	events, addresses := s.saveEvents(), s.saveAddresses()
	defer events.Close() // which nil takes
	defer addresses.Close()
	for name, f := range map[string]*os.File{pidName: s.pid, logName: s.logFile, eventsName: events, addressesName: addresses} {
		if f != nil {
			files, names = append(files, f), append(names, name)
		}
	}
	child := &exec.Cmd{
		Path: path, Args: os.Args, Env: append(environment(s.in.directory, names), reloadsVariable+"="+s.reloads.String()),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: files,
	}
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		link.Close()
		return nil, nil, err
	}
	return link, child, nil
}

// saveEvents is a file in memory of what has changed up to now; nil if there can be none. The
// successor does without then.
func (s *service) saveEvents() *os.File {
	text, err := s.history.Save()
	if err != nil {
		return nil
	}
	return inMemory(eventsName, text)
}

// inMemory is a file of that text; nil if there can be none.
func inMemory(name string, text []byte) *os.File {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(text, 0); err != nil {
		f.Close()
		return nil
	}
	return f
}

// loadEvents takes what has changed at the predecessor, if that says so.
func (s *service) loadEvents() {
	f := s.in.events
	if f == nil {
		return
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err == nil {
		_ = s.history.Load(text) // one of another version may have other events
	}
}

// sockets is the sockets that a successor gets, and what they are called.
func (s *service) sockets() (files []*os.File, names []string, err error) {
	for _, ln := range append(s.srv.Listeners(), s.operators()...) {
		f, err := succession.File(ln)
		if err != nil {
			return files, names, err
		}
		name := socketName
		if s.in.foreign[ln.Addr().String()] {
			name = "socket" // to stay whoever's it is
		}
		files, names = append(files, f), append(names, name)
	}
	return files, names, nil
}

// environment is ours for a successor that gets files of these names.
func environment(dir string, names []string) []string {
	ours := func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", pipeVariable, successorVariable, reloadsVariable}, name)
	}
	return append(slices.DeleteFunc(os.Environ(), ours), successorVariable+"="+dir,
		"LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
}

// ourPath is what is at the path that we were started from, by now.
func (s *service) ourPath() (string, error) {
	name := os.Args[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(s.in.directory, name)
		}
		return name, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return os.Executable()
}

// monotonic is the time that systemd counts by.
func monotonic() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// tellManager tells the service manager, if there is one.
func tellManager(state string) { _, _ = sd.SdNotify(false, state) }

// announce says that this process serves: in the pid file, and to the predecessor. What
// that gives away is adopted meanwhile; adopted is closed when that was all, or it has ended.
func (s *service) announce() (adopted <-chan struct{}, err error) {
	done, link := make(chan struct{}), s.in.link
	if link == nil {
		close(done)
		return done, nil
	}
	if s.pid != nil {
		if err := writePid(s.pid); err != nil {
			return nil, err
		}
	}
	if err := link.Send(succession.Message{Body: succession.Body{Kind: succession.Serving}}); err != nil {
		return nil, fmt.Errorf("the process that this one is to replace has gone: %w", err)
	}
	os.Unsetenv(successorVariable)
	s.keepFiles(false)
	go func() {
		defer close(done)
		defer link.Close()
		if err := s.srv.Adopt(link); err != nil {
			s.log.Warn("not everything was taken over", "cause", err.Error())
			return
		}
		s.log.Info("everything was taken over")
	}()
	return done, nil
}

// yield hands over to the process pid, which serves already.
func (s *service) yield(link *succession.Link, pid int) {
	defer link.Close()
	tellManager(fmt.Sprintf("MAINPID=%d\n%s", pid, sd.SdNotifyReady))
	s.log.Info("another process serves now", "pid", pid, "handing over for at most", s.cfg.DrainTimeout)
	s.keepFiles(true)
	admin.Retire(adminRest, s.endpoints...)
	end, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	if err := s.srv.Yield(end, link); err != nil {
		s.log.Warn("not everything was handed over", "error", err)
	}
}

// keepFiles says whether the files of our unix sockets, and the pid file, stay when this
// process ends: as long as another serves.
func (s *service) keepFiles(stay bool) {
	s.pidStays = stay && (s.next == nil || s.next.Flags.PidFile == s.flags.PidFile)
	for _, ln := range append(s.srv.Listeners(), s.operators()...) {
		succession.Keep(ln, stay && s.staysOpen(ln) || s.in.foreign[ln.Addr().String()])
	}
}

// adminRest is how long operators' requests may take to be answered by a process that has
// been replaced.
const adminRest = time.Second

// openPid creates the pid file and writes our number to it; or takes the predecessor's,
// which we may not be allowed to open, if it is still at path.
func openPid(path string, before *os.File) (*os.File, error) {
	if before != nil {
		is, err := os.Stat(path)
		was, unknown := before.Stat()
		if errors.Is(err, os.ErrPermission) || err == nil && unknown == nil && os.SameFile(is, was) {
			return before, nil // announce writes it
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return f, writePid(f)
}

// writePid puts our number in place of what is there: whoever reads meanwhile finds one of
// the two on the first line.
func writePid(f *os.File) error {
	text := strconv.Itoa(os.Getpid()) + "\n"
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(text)))
}

// openLogFile opens the log at path anew, so that a rotated one is let go; or goes on with the
// predecessor's where that is not allowed any more.
func openLogFile(path string, before *os.File) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil && before != nil && errors.Is(err, os.ErrPermission) {
		return before, nil
	}
	return file, err
}
