package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"magent/server/config"
	"magent/server/config/names"
)

// Names: they are looked up at the start, and again when their time to live is over, or some node
// is down; and if they have come to stand for something else, another process takes this one's
// place, which finds that at its start. So a change of addresses is a change of configuration.
const (
	namesPatience = 10 * time.Second // how long it may take to look up all of them
	namesWorry    = 5 * time.Second  // how soon they are looked up again if a node is down, or that fails
	namesSteady   = time.Second      // another answer must be the same after this time
	namesRest     = 30 * time.Second // from one change to the next, though the first did not come into force
)

// resolve has s.cfg name the address of every node.
func (s *service) resolve(ctx context.Context) (err error) {
	before := s.loadAddresses() // whoever's names these were: their file is to be closed
	if !names.Any(&s.told.Config) {
		return nil
	}
	if s.resolver, err = names.New(s.flags.ResolvConf, names.Hosts); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, namesPatience)
	defer cancel()
	s.cfg, s.hold, err = s.resolver.Expand(ctx, &s.told.Config, before)
	return err
}

// loadAddresses is those in force at the predecessor; nil if nobody says. What is no such file is
// another version's.
func (s *service) loadAddresses() (all names.Addresses) {
	if f := s.in.addresses; f != nil {
		defer f.Close()
		_ = json.NewDecoder(f).Decode(&all)
	}
	return all
}

// saveAddresses is a file in memory of those in force; nil if there are none, or can be none.
func (s *service) saveAddresses() *os.File {
	if s.resolver == nil {
		return nil
	}
	text, err := json.Marshal(names.Of(&s.cfg))
	if err != nil {
		return nil
	}
	return inMemory(addressesName, text)
}

// follow asks for another process whenever names stand for something else than in s.cfg, until
// stop ends.
func (s *service) follow(stop context.Context) {
	if s.resolver == nil {
		return
	}
	f := newFollower(s, time.Now())
	go func() {
		for wait := s.hold; f.sleep(stop, wait); {
			wait = f.look(stop, time.Now())
		}
	}()
}

// follower looks names up while clients are served.
type follower struct {
	*service
	now       config.Config // what is in force
	found     string        // what has changed since, at the last look; "": nothing
	failed    bool          // the last look did
	notBefore time.Time     // when it may ask for another process
}

// newFollower is one of a process that began to serve at start. If that was in place of another, it
// may have been names that asked for it.
func newFollower(s *service, start time.Time) *follower {
	f := &follower{service: s, now: s.cfg}
	if s.in.link != nil {
		f.notBefore = start.Add(namesRest)
	}
	return f
}

// sleep waits for so long; or less, if a node goes down. It reports whether to go on.
func (f *follower) sleep(stop context.Context, wait time.Duration) bool {
	end := time.After(wait)
	worry := time.NewTicker(namesWorry)
	defer worry.Stop()
	for {
		select {
		case <-stop.Done():
			return false
		case <-end:
			return true
		case <-worry.C:
			if up, nodes, _ := f.srv.Summary(); up < nodes {
				return true
			}
		}
	}
}

// look looks up all names once, at now, and says when to do so again.
func (f *follower) look(stop context.Context, now time.Time) (again time.Duration) {
	ctx, cancel := context.WithTimeout(stop, namesPatience)
	defer cancel()
	next, hold, err := f.resolver.Expand(ctx, &f.told.Config, names.Of(&f.now))
	if err != nil {
		if !f.failed && stop.Err() == nil {
			f.log.Warn("names are not known any more: nodes stay where they were", "cause", err.Error())
		}
		f.failed = true
		return namesWorry
	}
	if f.failed {
		f.failed = false
		f.log.Info("names are known again")
	}
	found := names.Changes(&f.now, &next)
	if found == "" || found != f.found {
		f.found = found
		if found != "" {
			return namesSteady
		}
		return hold
	}
	if wait := f.notBefore.Sub(now); wait > 0 {
		f.found = "" // by then it is to be the same twice again
		return wait
	}
	f.notBefore = now.Add(namesRest)
	f.log.Info("names stand for other addresses", "now", found)
	w := wish{from: "names", names: true, done: make(chan error, 1)}
	select {
	case f.wishes <- w:
	case <-stop.Done():
		return namesRest
	}
	select {
	case <-w.done: // if it has failed, the log says why
	case <-stop.Done():
	}
	return namesRest
}
