package refill

import (
	"context"
	"errors"
	"time"

	"magent/bench/failover"
	"magent/bench/load"
	"magent/bench/meter"
	"magent/bench/process"
)

// steps are when what happened under load did.
type steps struct {
	killed, back, up time.Time
}

// loaded has the node die and come back under load, and says what clients saw.
func (p *pair) loaded(ctx context.Context, round int) (r Loaded, err error) {
	proxy, err := p.proxy(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var s steps
	var stepErr error
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		defer cancel() // the load has no end of its own before patience has
		stepErr = p.strike(inner, proxy, &r, &s)
	}()
	report, loadErr := load.Run(inner, p.load(proxy.Addr, round))
	cancel()
	<-taken
	if errors.Is(loadErr, context.Canceled) && ctx.Err() == nil {
		loadErr = nil // which the end of the steps has ended
	}
	if err := errors.Join(stepErr, loadErr); err != nil || report == nil {
		return r, errors.Join(err, ctx.Err())
	}
	r.Seen = observe(report, &s)
	r.Seen.Name = "kill -9 of the lead, and its refill"
	return r, nil
}

// strike takes the steps, and fills in what was spent.
func (p *pair) strike(ctx context.Context, proxy *process.Process, r *Loaded, s *steps) error {
	charged := map[string]int{proxyProc: proxy.PID}
	if !pause(ctx, settling) {
		return ctx.Err()
	}
	calm, err := meter.Take(charged)
	if err != nil {
		return err
	}
	if !pause(ctx, p.Before) {
		return ctx.Err()
	}
	struck, err := calm.Again()
	if err != nil {
		return err
	}
	r.CoresBefore = struck.Since(calm, 1).Procs[proxyProc].Cores
	s.killed = time.Now()
	if err := p.empty.Kill(); err != nil {
		return err
	}
	if !pause(ctx, p.Down) {
		return ctx.Err()
	}
	if r.Trial, err = p.refilled(ctx, proxy, func() { s.back = time.Now() }); err != nil {
		return err
	}
	s.up = s.back.Add(time.Duration(r.Trial.Took))
	pause(ctx, p.After)
	return nil
}

// observe says what report comes to: before, down, back until the node was up, and warm.
func observe(report *load.Report, s *steps) *failover.Result {
	since := func(t time.Time) failover.Millis { return failover.Millis(t.Sub(report.Began)) }
	length := time.Duration(report.Seconds * float64(time.Second))
	r := failover.Analyse(failover.Observation{
		Samples: report.Samples, Stalls: report.Stalls, Length: length,
		Marks: []failover.Mark{
			{Name: "kill -9 of the lead", From: since(s.killed), To: since(s.killed), Fails: true},
			{Name: "restart of the lead", From: since(s.back), To: since(s.back), Returns: true},
		},
		Watched: true, Up: s.up.Sub(report.Began),
	})
	r.Rate, r.Unsent = report.Target, report.Unsent
	return r
}

// pause waits for d, and says whether ctx has let it.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
