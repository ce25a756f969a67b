package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// Scenario is a fault of two nodes: of the lead, which is the primary, and the follower.
type Scenario struct {
	Name, Text string
	steps      func(before, down time.Duration, lead, follower *process.Process) []Step
}

// Scenarios are all there are.
var Scenarios = []Scenario{
	{"none", "nothing fails", func(_, _ time.Duration, _, _ *process.Process) []Step { return nil }},
	{"kill", "kill -9 of the lead, and restart", func(before, down time.Duration, lead, _ *process.Process) []Step {
		return []Step{Kill(before, lead), Restart(before+down, lead)}
	}},
	{"stop", "SIGSTOP of the lead, and SIGCONT", func(before, down time.Duration, lead, _ *process.Process) []Step {
		return Stop(before, down, lead)
	}},
	{"flap", "SIGSTOP and SIGCONT of the lead by turns, every " + FlapEvery.String(), func(before, down time.Duration, lead, _ *process.Process) []Step {
		return Flap(before, down, lead)
	}},
	{"both", "kill -9 of both; the lead is restarted first", func(before, down time.Duration, lead, follower *process.Process) []Step {
		return []Step{Kill(before, lead), Kill(before, follower), Restart(before+down, lead), Restart(before+down+down/2, follower)}
	}},
	{"follower-kill", "kill -9 of the follower, and restart", func(before, down time.Duration, _, follower *process.Process) []Step {
		return []Step{Kill(before, follower), Restart(before+down, follower)}
	}},
	{"follower-stop", "SIGSTOP of the follower, and SIGCONT", func(before, down time.Duration, _, follower *process.Process) []Step {
		return Stop(before, down, follower)
	}},
}

// scenario finds t's.
func (t *Topology) scenario() (Scenario, error) {
	name := cmp.Or(t.Scenario, "kill")
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		names := make([]string, len(Scenarios))
		for i := range Scenarios {
			names[i] = Scenarios[i].Name
		}
		return Scenario{}, fmt.Errorf("failover: no scenario %q; there are %s", name, strings.Join(names, ", "))
	}
	return Scenarios[i], nil
}

// running is a topology that was started.
type running struct {
	lead, follower *process.Process
	proxy          *process.Process // nil: none
}

// start starts t's nodes, and then its proxy.
func (t *Topology) start(ctx context.Context) (_ *running, err error) {
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
	if t.Magent == "" {
		return r, nil
	}
	r.proxy, err = process.Start(ctx, process.Recipe{Name: "magent", Path: t.Magent,
		Args: func(port int, _ string) ([]string, error) {
			args := []string{"serve", "-D", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-s", r.lead.Addr, "-b", r.follower.Addr}
			return append(args, t.Flags...), nil
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
	return r.lead.Addr
}

// stop stops the proxy, and kills the nodes: what they hold is nobody's, and they would
// take a second to go in good order.
func (r *running) stop() error {
	var errs []error
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
