package address

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is planned costs no client a request: not a new process in the place of the old
// one, nor that the address is given up, by hand or because magent is told to stop.
// A client that the host holds up is silent for longer than it means to be, and may be
// closed while it asks: where the host did so all is done anew.
func TestPlannedUnderLoad(t *testing.T) {
	if testing.Short() {
		return
	}
	for i := 1; ; i++ {
		beat := newMetronome(watchEvery, func() {})
		faults := planned(t)
		late := beat.end()
		if len(faults) > 0 && late >= stallMost && i < trials {
			t.Logf("we were late by %v: %q", late, faults)
			continue
		}
		for _, f := range faults {
			t.Error(f)
		}
		return
	}
}

// planned does it once, and returns what clients have noticed.
func planned(t *testing.T) (faults []string) {
	t.Helper()
	s := newSite(t)
	first, second := s.members[0], s.members[1]
	l := s.load(t)
	for _, stage := range []struct {
		name string
		do   func()
		to   *member // who has the address then
	}{
		{"restart in place", func() { first.replace(t) }, first},
		{"magent ha failover", func() {
			first.Run(installed, "ha", "failover")
			if first.Has(vip) {
				t.Error("it has returned, and the address is still here")
			}
		}, second},
		{"magent ha resume", func() {
			first.Run(installed, "ha", "resume")
			first.standsBy(t)
		}, second},
		{"TERM", func() {
			old := second.magent()
			if err := old.Signal(unix.SIGTERM); err != nil {
				t.Error(err)
			}
			<-old.Done()
		}, first},
	} {
		l.more(t, loadRound)
		began := time.Now()
		stage.do()
		t.Logf("%s: over after %v", stage.name, time.Since(began).Round(time.Millisecond))
		await(t, stage.to.Name+" has the address alone", func() bool { return s.at() == stage.to.Name })
		l.more(t, loadRound)
		faults = append(faults, l.settle(t, stage.name)...)
	}
	l.end()
	return append(faults, l.settle(t, "the end")...)
}

// replace has a new process take the place of the magent, and waits until it has.
func (m *member) replace(t *testing.T) {
	t.Helper()
	old := m.magent()
	if err := old.Signal(unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	await(t, "the old process is gone, and a new one serves", func() bool {
		select {
		case <-old.Done():
		default:
			return false
		}
		p := m.ByPIDFile(pidFile)
		return p != nil && p.PID != old.PID
	})
}
