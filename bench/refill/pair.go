package refill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"magent/bench/failover"
	"magent/bench/meter"
	"magent/bench/process"
	"magent/bench/stats"
)

// pair is two memcacheds: one that is killed and comes back empty, and its peer, which
// keeps all keys.
type pair struct {
	*Config
	empty, full *process.Process
}

// start starts a pair.
func (c *Config) start(ctx context.Context) (_ *pair, err error) {
	p := &pair{Config: c}
	for _, n := range []**process.Process{&p.empty, &p.full} {
		if *n, err = process.Memcached(ctx, process.MemcachedConfig{Path: c.Memcached, CPUs: c.LoadCPUs, MemoryMB: c.memoryMB()}); err != nil {
			return nil, errors.Join(err, p.stop())
		}
	}
	return p, nil
}

// stop kills the nodes: what they hold is nobody's, and they would take a second to go.
func (p *pair) stop() (err error) {
	for _, n := range []*process.Process{p.empty, p.full} {
		if n != nil {
			err = errors.Join(err, n.Kill(), n.Stop())
		}
	}
	return err
}

// restart has the one node come back empty, and says when it answered.
func (p *pair) restart(ctx context.Context) (time.Time, error) {
	if err := p.empty.Kill(); err != nil {
		return time.Time{}, err
	}
	err := p.empty.Restart(ctx)
	return time.Now(), err
}

// copy fills the empty node by the yardstick, where a proxy would run.
func (p *pair) copy(ctx context.Context) (copied int, err error) {
	err = p.asProxy(func() (err error) {
		copied, err = Copy(ctx, p.full.Addr, p.empty.Addr)
		return err
	})
	return copied, err
}

// proxy starts a magent before the pair, the one to be emptied leading, and waits until it
// calls both up.
func (p *pair) proxy(ctx context.Context, flags ...string) (*process.Process, error) {
	proxy, err := process.Start(ctx, process.Recipe{Name: "magent", Path: p.Magent, CPUs: p.ProxyCPUs,
		Args: func(port int, _ string) ([]string, error) {
			args := []string{"serve", "-D", "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-s", p.empty.Addr, "-b", p.full.Addr}
			return append(append(args, p.Flags...), flags...), nil
		}})
	if err != nil {
		return nil, err
	}
	for _, n := range []*process.Process{p.empty, p.full} {
		if err := p.await(ctx, proxy, n, "does not call a node up at its start", wait{stats.Often, stats.Node.Up}); err != nil {
			return nil, errors.Join(err, proxy.Stop())
		}
	}
	return proxy, nil
}

// wait is for something to hold of a node, which is asked after that often.
type wait struct {
	every time.Duration
	holds func(stats.Node) bool
}

// await waits, for one thing after the other, until the proxy says so of n, for as long as
// patience goes.
func (p *pair) await(ctx context.Context, proxy, n *process.Process, otherwise string, waits ...wait) (err error) {
	patient, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	for _, w := range waits {
		if err = stats.Await(patient, proxy.Addr, n.Addr, w.every, w.holds); err != nil {
			break
		}
	}
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("refill: after %v %s %s: %w", p.Patience, proxy.Name, otherwise, err)
	}
	return err
}

// down has the proxy find out that the node is gone: until then it would call it up.
func (p *pair) down(ctx context.Context, proxy *process.Process) error {
	if err := p.empty.Kill(); err != nil {
		return err
	}
	return p.await(ctx, proxy, p.empty, "has not noticed that a node was killed",
		wait{stats.Often, func(n stats.Node) bool { return n.State == "down" }})
}

// up waits for the end of the refill, and says how long after the return of the node the
// proxy first called it warming. From then on it is asked seldom: the CPUs are the nodes', of
// which nothing asks while the yardstick is at them.
func (p *pair) up(ctx context.Context, proxy *process.Process, back time.Time) (warming failover.Millis, err error) {
	warming = failover.Never
	begun := func(n stats.Node) bool {
		if n.State == "warming" {
			warming = failover.Millis(time.Since(back))
		}
		return warming >= 0 || n.Up()
	}
	err = p.await(ctx, proxy, p.empty, "does not call up the node that came back empty",
		wait{stats.Often, begun}, wait{stats.Seldom, stats.Node.Up})
	return warming, err
}

// account says what a way of filling the node took that ended now, and what the node holds
// then. before was taken when it began.
func (p *pair) account(ctx context.Context, began time.Time, before meter.Sample) (t Trial, err error) {
	t.Took, t.Warming = failover.Millis(time.Since(began)), failover.Never
	t.whole(p.Keys, t.Took)
	after, err := before.Again()
	if err != nil {
		return t, err
	}
	a := after.Since(before, int64(p.Keys))
	t.CPU, t.Cores = a.Procs[proxyProc].CPU, a.Procs[proxyProc].Cores
	if _, ours := a.Procs[proxyProc]; !ours { // the yardstick is this process
		t.CPU, t.Cores = a.Self.CPU, a.Self.Cores
	}
	t.NodesCPU, t.Noise = a.Procs[sourceProc].CPU+a.Procs[targetProc].CPU, a.Host.Noise
	if t.Items, err = stats.Items(ctx, p.empty.Addr); err != nil {
		return t, err
	}
	all, err := list(ctx, p.empty.Addr)
	if err != nil {
		return t, err
	}
	t.Keys = all.beginning(p.Prefix)
	return t, nil
}

// whole has the node hold all keys by then.
func (t *Trial) whole(keys int, then failover.Millis) {
	t.Whole, t.Rate = then, float64(keys)/time.Duration(then).Seconds()
}

// The names of the processes that are charged.
const proxyProc, sourceProc, targetProc = "proxy", "source", "target"

// nodes are those of the pair, to be charged.
func (p *pair) nodes() map[string]int {
	return map[string]int{sourceProc: p.full.PID, targetProc: p.empty.PID}
}

// yardstick times the copy.
func (p *pair) yardstick(ctx context.Context) (t Trial, err error) {
	began, err := p.restart(ctx)
	if err != nil {
		return t, err
	}
	before, err := meter.Take(p.nodes())
	if err != nil {
		return t, err
	}
	if _, err := p.copy(ctx); err != nil {
		return t, err
	}
	return p.account(ctx, began, before)
}

// idle times a refill while nothing else goes on.
func (p *pair) idle(ctx context.Context) (t Trial, err error) {
	proxy, err := p.proxy(ctx, p.IdleFlags...)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()
	if err := p.down(ctx, proxy); err != nil {
		return t, err
	}
	return p.refilled(ctx, proxy, func() {})
}

// refilled has the node come back, calls back when it has, and times its refill.
func (p *pair) refilled(ctx context.Context, proxy *process.Process, back func()) (t Trial, err error) {
	began, err := p.restart(ctx)
	if err != nil {
		return t, err
	}
	back()
	procs := p.nodes()
	procs[proxyProc] = proxy.PID
	before, err := meter.Take(procs)
	if err != nil {
		return t, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	whole := make(chan failover.Millis, 1)
	go func() {
		if stats.AwaitItems(inner, p.empty.Addr, int64(p.Keys)) != nil {
			whole <- failover.Never // before the node was up
			return
		}
		whole <- failover.Millis(time.Since(began))
	}()
	warming, err := p.up(ctx, proxy, began)
	if err != nil {
		return t, err
	}
	t, err = p.account(ctx, began, before)
	cancel()
	if w := <-whole; w >= 0 && w < t.Took {
		t.whole(p.Keys, w)
	}
	t.Warming = warming
	return t, err
}
