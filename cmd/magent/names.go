package main

import (
	"context"
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
	namesRest     = 30 * time.Second // from a change that did not come into force to the next try
)

// resolve has s.cfg name the address of every node.
func (s *service) resolve(ctx context.Context) (err error) {
	if !names.Any(&s.told.Config) {
		return nil
	}
	if s.resolver, err = names.New(s.flags.ResolvConf, names.Hosts); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, namesPatience)
	defer cancel()
	s.cfg, s.hold, err = s.resolver.Expand(ctx, &s.told.Config, nil)
	return err
}

// follow asks for another process whenever names stand for something else than in s.cfg, until
// stop ends.
func (s *service) follow(stop context.Context) {
	if s.resolver == nil {
		return
	}
	f := follower{service: s, now: s.cfg}
	go func() {
		for wait := s.hold; f.sleep(stop, wait); {
			wait = f.look(stop)
		}
	}()
}

// follower looks names up while clients are served.
type follower struct {
	*service
	now    config.Config // what is in force
	found  string        // what has changed since, at the last look; "": nothing
	failed bool          // the last look did
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

// look looks up all names once, and says when to do so again.
func (f *follower) look(stop context.Context) (again time.Duration) {
	ctx, cancel := context.WithTimeout(stop, namesPatience)
	defer cancel()
	next, hold, err := f.resolver.Expand(ctx, &f.told.Config, &f.now)
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
