package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells the service manager how this process is: sd_notify(3). Where there is
// none, which $NOTIFY_SOCKET says, it tells nobody.
type notifier struct {
	srv    watched
	turned func() bool // whether every event loop has turned since the last call
	log    *slog.Logger
	status string    // told last
	failed sync.Once // the log is told that the manager cannot be
	over   chan struct{}
	ended  chan struct{}
}

// watched is what the manager is told of: a server.Server.
type watched interface {
	Summary() (up, nodes, clients int)
}

// statusBeat is how often it is looked whether the status has changed.
const statusBeat = time.Second

// watchdogShare is what part of the time that the manager gives us goes by between two
// looks at the event loops: so two may be missed.
const watchdogShare = 4

// startNotifier says that clients are served, and goes on to say how many, and, while
// every event loop turns, that all is well.
func startNotifier(srv watched, turned func() bool, log *slog.Logger) *notifier {
	n := &notifier{srv: srv, turned: turned, log: log, over: make(chan struct{}), ended: make(chan struct{})}
	period, err := systemd.SdWatchdogEnabled(false)
	n.note(err)
	n.tell(systemd.SdNotifyReady + "\n" + n.newStatus())
	go n.run(period)
	return n
}

// stopping says that the process is about to end.
func (n *notifier) stopping() { n.tell(systemd.SdNotifyStopping + "\nSTATUS=stopping") }

// close ends what startNotifier began.
func (n *notifier) close() {
	close(n.over)
	<-n.ended
}

func (n *notifier) run(period time.Duration) {
	defer close(n.ended)
	status := time.NewTicker(statusBeat)
	defer status.Stop()
	var watchdog <-chan time.Time
	if period > 0 {
		t := time.NewTicker(period / watchdogShare)
		defer t.Stop()
		watchdog = t.C
	}
	stands := false
	for {
		select {
		case <-n.over:
			return
		case <-status.C:
			if s := n.newStatus(); s != "" {
				n.tell(s)
			}
		case <-watchdog:
			turned := n.turned()
			if turned {
				n.tell(systemd.SdNotifyWatchdog)
			} else if !stands {
				n.log.Error("an event loop stands still, and the service manager will notice", "within", period)
			}
			stands = !turned
		}
	}
}

// newStatus is a line for the manager; "" if it is the last one.
func (n *notifier) newStatus() string {
	up, nodes, clients := n.srv.Summary()
	s := fmt.Sprintf("STATUS=%d of %d nodes up, %d clients", up, nodes, clients)
	if s == n.status {
		return ""
	}
	n.status = s
	return s
}

func (n *notifier) tell(state string) {
	_, err := systemd.SdNotify(false, state)
	n.note(err)
}

// note logs the first error.
func (n *notifier) note(err error) {
	if err != nil {
		n.failed.Do(func() { n.log.Warn("the service manager cannot be told how magent is", "cause", err.Error()) })
	}
}
