package failover

import (
	"cmp"
	"context"
	"errors"
	"strconv"

	"magent/bench/process"
)

// Topology is a system of the drill's own: two memcacheds and a proxy in front.
type Topology struct {
	// Scenario is what happens to it: see Scenarios. Default "kill".
	Scenario string
	// Memcached is the path of memcached, by default that of PATH.
	Memcached string
	// Magent is the path of magent, and Flags are further ones for it. Without it there
	// is no proxy: the load goes straight to the first node.
	Magent string
	Flags  []string
}

// scenario finds t's.
func (t *Topology) scenario() (Scenario, error) { return Find(cmp.Or(t.Scenario, "kill")) }

// running is a topology that was started.
type running struct {
	lead, follower *process.Process
	link           *link            // the way to the lead; nil: straight
	proxy          *process.Process // nil: none
}

// start starts t's nodes, and then its proxy.
func (t *Topology) start(ctx context.Context) (_ *running, err error) {
	s, err := t.scenario()
	if err != nil {
		return nil, err
	}
	r := new(running)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.stop())
		}
	}()
	for _, n := range []struct {
		name string
		p    **process.Process
	}{{"the lead", &r.lead}, {"the follower", &r.follower}} {
		if *n.p, err = process.Memcached(ctx, process.MemcachedConfig{Path: t.Memcached}); err != nil {
			return nil, err
		}
		(*n.p).Name = n.name
	}
	if s.linked {
		if r.link, err = newLink(r.lead.Addr); err != nil {
			return nil, err
		}
	}
	if t.Magent == "" {
		return r, nil
	}
	r.proxy, err = process.Start(ctx, process.Recipe{Name: "magent", Path: t.Magent,
		Args: func(port int, _ string) ([]string, error) {
			args := []string{"serve", "-D", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-s", r.door(), "-b", r.follower.Addr}
			return append(append(args, s.Flags...), t.Flags...), nil
		}})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// target is what the clients ask.
func (r *running) target() string {
	if r.proxy != nil {
		return r.proxy.Addr
	}
	return r.door()
}

// door is where the lead is reached.
func (r *running) door() string {
	if r.link != nil {
		return r.link.addr()
	}
	return r.lead.Addr
}

// stop stops the proxy, and kills the nodes: what they hold is nobody's, and they would
// take a second to go in good order.
func (r *running) stop() error {
	var errs []error
	if r.link != nil {
		r.link.close()
	}
	for _, p := range []*process.Process{r.proxy, r.lead, r.follower} {
		if p == nil {
			continue
		}
		if p != r.proxy {
			errs = append(errs, p.Kill())
		}
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}
