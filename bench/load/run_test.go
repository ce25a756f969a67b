package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/bench/keys"
	"magent/bench/wire"
)

func mustRun(t *testing.T, cfg Config) *Report {
	t.Helper()
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestRunCountsEveryRequest(t *testing.T) {
	everything := Mix{wire.Get: 5, wire.Gets: 2, wire.Set: 3, wire.CAS: 2, wire.Incr: 2, wire.Delete: 1, wire.Touch: 1}
	for _, c := range []Config{
		{Conns: 1, Requests: 1},
		{Conns: 5, Requests: 1003, Pipeline: 7},
		{Conns: 7, Requests: 2000, Pipeline: 3, Threads: 3, Mix: Mix{wire.Set: 1, wire.Get: 3}},
		{Conns: 4, Requests: 300, MultiGet: 20},
		{Conns: 3, Requests: 60, Pipeline: 4, Mix: Mix{wire.Set: 1, wire.Get: 1}, Values: keys.Fixed(300 << 10), Keys: keys.Config{Max: 49}},
		{Conns: 8, Requests: 4000, Threads: 2, Pipeline: 2, Mix: everything, TTLs: keys.TTLs{Min: 100, Max: 200}},
		{Conns: 5, Requests: 1000, Rate: 20e3, Threads: 2, Mix: everything, MultiGet: 3, Keys: keys.Config{Max: 20}},
		{Conns: 5, Requests: 1000, Mix: everything, Keys: keys.Config{Max: 2}, WriteKeys: keys.Pattern{Kind: keys.Parallel}},
	} {
		tg := startTarget(t, nil)
		c.Targets = []string{tg.addr}
		if c.Keys.Max == 0 {
			c.Keys.Max = 499
		}
		if c.Mix[wire.Incr] > 0 && c.Keys.Max < c.Conns {
			c.Mix[wire.Incr] = 0 // there are not enough counters
		}
		n := int64(c.Keys.Max + 1)
		if err := Preload(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		counters := int64(0)
		if c.Mix[wire.Incr] > 0 {
			counters = int64(c.Conns)
		}
		if sets, held := tg.count("set"), tg.held(); sets != n+counters || held != n+counters {
			t.Errorf("preload stored %d keys in %d sets, want %d and %d counters", held, sets, n, counters)
		}
		tg.forget()
		rep := mustRun(t, c)
		agree(t, tg, c, rep)
	}
}

// agree holds rep against the target's own account of all it was asked.
func agree(t *testing.T, tg *target, c Config, rep *Report) {
	t.Helper()
	sum := int64(0)
	for op := range wire.Op(wire.Ops) {
		served, got := tg.count(op.String()), rep.Ops[op.String()]
		sum += served
		if got.Requests != served || served > 0 && got.Hist.TotalCount() != served {
			t.Errorf("%+v: %d %vs reported, %d served", c, got.Requests, op, served)
		}
	}
	if sum != c.Requests || rep.Requests != sum || rep.Hist.TotalCount() != sum {
		t.Errorf("%+v: %d requests reported, %d served", c, rep.Requests, sum)
	}
	want := rep.Ops["get"].Requests*int64(max(1, c.MultiGet)) + rep.Ops["gets"].Requests
	if got := rep.Hits + rep.Misses; c.Mix[wire.Gets] == 0 && got != want || got < want {
		t.Errorf("%+v: %d keys hit and missed, want %d", c, got, want)
	}
	if c.Mix[wire.Delete] == 0 && rep.Misses != 0 {
		t.Errorf("%+v: %d misses", c, rep.Misses)
	}
	if c.Mix[wire.CAS] > 0 && c.Rate == 0 && rep.Ops["cas"].Requests == 0 {
		t.Errorf("%+v: no gets was followed by its cas", c)
	}
	if rep.Errors+rep.Wrong+rep.Stale+rep.Unsent != 0 || rep.Lost != 0 || rep.FirstError != "" {
		t.Errorf("%+v: faults in %+v", c, rep)
	}
	if rep.Rate <= 0 || rep.Self.CPU <= 0 || rep.BytesIn == 0 || rep.BytesOut == 0 || rep.Interrupted {
		t.Errorf("%+v: rate %v, own CPU %v, %d bytes in, %d out", c, rep.Rate, rep.Self.CPU, rep.BytesIn, rep.BytesOut)
	}
}

func TestRunCountsMisses(t *testing.T) {
	rep := mustRun(t, Config{Targets: []string{startTarget(t, nil).addr}, Conns: 2, Requests: 50, MultiGet: 3})
	if rep.Misses != 150 || rep.Hits != 0 {
		t.Errorf("%d misses, %d hits, want 150 and 0", rep.Misses, rep.Hits)
	}
}

// spoil changes the last byte of the value in reply.
func spoil(reply string) string {
	b := []byte(reply)
	b[len(b)-len("x\r\nEND\r\n")] ^= 1
	return string(b)
}

func TestRunFindsWrongValuesAndErrors(t *testing.T) {
	tg := startTarget(t, func(c call) (string, error) {
		switch {
		case c.words[0] == "set": // the preload
		case c.n%10 == 0:
			return strings.Replace(c.reply, "key:", "kex:", 1), nil // as if another key's
		case c.n%10 == 5:
			return spoil(c.reply), nil
		case c.n%20 == 7:
			return "SERVER_ERROR out of sorts\r\n", nil
		case c.n%20 == 17:
			return "CLIENT_ERROR say that again\r\n", nil
		}
		return c.reply, nil
	})
	cfg := Config{Targets: []string{tg.addr}, Conns: 1, Keys: keys.Config{Max: 9}, Requests: 1000, Pipeline: 4}
	if err := Preload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	rep := mustRun(t, cfg)
	if rep.Wrong != 200 || rep.Errors != 100 || rep.ServerErrors != 50 || rep.Hits != 700 || rep.Requests != 1000 {
		t.Errorf("wrong %d, errors %d, of them the target's %d, hits %d, requests %d; want 200, 100, 50, 700, 1000",
			rep.Wrong, rep.Errors, rep.ServerErrors, rep.Hits, rep.Requests)
	}
	if !strings.HasPrefix(rep.FirstError, "wrong: get of key:") || !strings.Contains(rep.FirstError, `ends in "VALUE ke`) {
		t.Errorf("first error %q", rep.FirstError)
	}
}

// A target that reads a whole pipeline before it answers would wait for ever if
// the generator sent less than its depth, and sees at once if it sent more.
func TestRunKeepsThePipelineFull(t *testing.T) {
	const depth, batches = 16, 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for range batches {
				for range depth {
					if _, err := r.ReadString('\n'); err != nil {
						return err
					}
				}
				if n := r.Buffered(); n > 0 {
					return fmt.Errorf("%d bytes beyond the depth", n)
				}
				if _, err := c.Write(bytes.Repeat([]byte("END\r\n"), depth)); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	rep := mustRun(t, Config{Targets: []string{l.Addr().String()}, Conns: 1, Pipeline: depth, Requests: depth * batches})
	if err := <-served; err != nil {
		t.Error(err)
	}
	if rep.Requests != depth*batches {
		t.Errorf("%d requests, want %d", rep.Requests, depth*batches)
	}
}

func TestRunSurvivesOneLostConnection(t *testing.T) {
	var once sync.Once
	tg := startTarget(t, func(c call) (string, error) {
		err := error(nil)
		if c.n == 10 {
			once.Do(func() { err = errHangUp })
		}
		return c.reply, err
	})
	rep := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 4, Requests: 1000})
	if rep.Lost != 1 || rep.Errors != 1 || rep.Requests != 999 {
		t.Errorf("lost %d, errors %d, requests %d; want 1, 1, 999", rep.Lost, rep.Errors, rep.Requests)
	}
	if !strings.Contains(rep.FirstError, "closed by the target") && !strings.Contains(rep.FirstError, "reset") {
		t.Errorf("first error %q", rep.FirstError)
	}
}

func TestRunFailsInsteadOfHanging(t *testing.T) {
	hangUp := startTarget(t, func(c call) (string, error) {
		if c.n == 3 {
			return "", errHangUp
		}
		return c.reply, nil
	})
	rep, err := Run(t.Context(), Config{Targets: []string{hangUp.addr}, Conns: 2, Requests: 1000, Pipeline: 2})
	if err == nil || !strings.Contains(err.Error(), "every connection") {
		t.Errorf("connections closed: %v", err)
	} else if rep.Lost != 2 || rep.Requests != 4 || rep.Errors == 0 {
		t.Errorf("connections closed: lost %d, requests %d, errors %d", rep.Lost, rep.Requests, rep.Errors)
	}
	babble := startTarget(t, func(call) (string, error) { return "HELLO\r\n", nil })
	if _, err := Run(t.Context(), Config{Targets: []string{babble.addr}, Conns: 1, Requests: 10}); err == nil || err.Error() != "load: every connection to "+babble.addr+
		` was lost; first: stream out of step: a get was answered "HELLO\r\n"; is it a memcached?` {
		t.Errorf("babble: %v", err)
	}
	surplus := startTarget(t, func(c call) (string, error) { return c.reply + c.reply, nil })
	if _, err := Run(t.Context(), Config{Targets: []string{surplus.addr}, Conns: 1, Requests: 1}); err == nil || !strings.HasSuffix(err.Error(), `first: an answer to nothing: "END\r\n"`) {
		t.Errorf("two replies to one request: %v", err)
	}
	silent := startTarget(t, func(call) (string, error) { return "", nil })
	if _, err := Run(t.Context(), Config{Targets: []string{silent.addr}, Conns: 1, Requests: 10, Timeout: 200 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("silence: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Run(t.Context(), Config{Targets: []string{l.Addr().String()}, Requests: 1}); err == nil {
		t.Error("nobody listens, and no error")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tg := startTarget(t, func(c call) (string, error) {
		if c.n == 100 {
			cancel()
		}
		return c.reply, nil
	})
	rep, err := Run(ctx, Config{Targets: []string{tg.addr}, Conns: 1, Duration: time.Hour})
	if !errors.Is(err, context.Canceled) || rep == nil || rep.Requests < 99 {
		t.Errorf("cancelled run: %v, report %+v", err, rep)
	}
}

func TestRunMeasuresAfterTheWarmup(t *testing.T) {
	tg := startTarget(t, nil)
	const warmup, duration = 100 * time.Millisecond, 50 * time.Millisecond
	rep := mustRun(t, Config{
		Targets: []string{tg.addr}, Conns: 3, Warmup: warmup, Duration: duration,
		Procs: map[string]int{"target": os.Getpid()},
	})
	if rep.Seconds < duration.Seconds() {
		t.Errorf("measured %v s, want at least %v", rep.Seconds, duration)
	}
	if gets := tg.count("get"); rep.Requests >= gets {
		t.Errorf("measured %d of %d requests: the warm-up should not count", rep.Requests, gets)
	}
	if rep.Hist.TotalCount() != rep.Requests {
		t.Errorf("%d latencies of %d requests", rep.Hist.TotalCount(), rep.Requests)
	}
	if u := rep.Procs["target"]; u.CPU <= 0 || u.PID != os.Getpid() {
		t.Errorf("target's usage %+v", u)
	}
	exact := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 3, Pipeline: 5, Warmup: warmup, Requests: 500})
	if exact.Requests != 500 {
		t.Errorf("%d requests after a warm-up, want 500", exact.Requests)
	}
}

// Of the processes charged one ends in mid-run: all else is told as ever.
func TestRunOutlivesAProcess(t *testing.T) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	tg := startTarget(t, func(c call) (string, error) {
		if c.n == 100 {
			child.Process.Kill()
			child.Wait()
		}
		return c.reply, nil
	})
	rep := mustRun(t, Config{
		Targets: []string{tg.addr}, Conns: 1, Requests: 200,
		Procs: map[string]int{"target": os.Getpid(), "child": child.Process.Pid},
	})
	if rep.Requests != 200 || rep.Rate <= 0 || rep.Seconds <= 0 || len(rep.Host.CPU) == 0 || rep.Self.CPU <= 0 {
		t.Errorf("%d requests in %v s at %v, host %+v, self %+v", rep.Requests, rep.Seconds, rep.Rate, rep.Host, rep.Self)
	}
	if !rep.Procs["child"].Ended || rep.Procs["target"].Ended || rep.Procs["target"].CPU <= 0 {
		t.Errorf("processes: %+v", rep.Procs)
	}
}

// Latencies of known length come out as the quantiles they are.
func TestLatencies(t *testing.T) {
	s := newShared(Config{Targets: []string{"x:1"}, Conns: 1, Requests: 1}.withDefaults())
	w := newWorker(s, 0, -1)
	w.add(0, -1, nil)
	w.phase = measuring
	f := flight{Request: wire.Request{Op: wire.Get, Keys: 1}}
	for i := range 10000 {
		w.settle(&w.conns[0], &f, nil, &wire.Reply{}, nil, int64(i+1)*1000) // 1 µs … 10 ms
	}
	w.settle(&w.conns[0], &f, nil, &wire.Reply{}, nil, 3*histMax) // beyond the scale counts as its end
	rep := collect(s, []*worker{w})
	for _, c := range []struct {
		name      string
		got, want float64 // µs
	}{
		{"p50", rep.Latency.P50, 5000}, {"p90", rep.Latency.P90, 9000}, {"p99", rep.Latency.P99, 9900},
		{"p99.9", rep.Latency.P999, 9990}, {"max", rep.Latency.Max, float64(histMax) / 1000},
	} {
		if c.got < c.want*0.998 || c.got > c.want*1.002 {
			t.Errorf("%s is %v µs, want %v", c.name, c.got, c.want)
		}
	}
	if rep.Requests != 10001 {
		t.Errorf("%d requests", rep.Requests)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	bad := Config{Threads: 2, Conns: 1, Pipeline: -1, Keys: keys.Config{Max: 9, Prefix: "k", Size: 1}, MultiGet: 11}
	err := bad.Validate()
	for _, fault := range []string{"address", "conns", "pipeline", "mix", "multi-get", "key size", "requests"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("no word of the %s in: %v", fault, err)
		}
	}
	bad = Config{Targets: []string{"x:1"}, Requests: 1, Conns: 3, Writers: 3}.withDefaults()
	err = bad.Validate()
	for _, fault := range []string{"writers (3)", "a rate", "gets and writes"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("no word of %s in: %v", fault, err)
		}
	}
	for _, rate := range []float64{-1, math.NaN(), math.Inf(1), 1e7 + 1} {
		if err := (Config{Targets: []string{"x:1"}, Requests: 1, Rate: rate}).withDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "rate") {
			t.Errorf("a rate of %v: %v", rate, err)
		}
	}
	if err := (Config{Targets: []string{"x:1"}, Requests: 1}).withDefaults().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
